// Dead letter codec, the reading half: what became a dead letter, as the lane and the reader wrote it: JSON, payload in base64.

/** What can be said of a dead letter without its payload. */
export interface DeadLetter {
  readonly direction: "in" | "out" | null;
  /** null for a message whose bytes could not be read. */
  readonly bot: string | null;
  readonly channel: string | null;
  readonly conversation: string | null;
  /** Of a message: its id, and where it stood, as in derived ids. */
  readonly id: string | null;
  readonly messagePosition: string | null;
  /** Version of the bot that could not handle it. */
  readonly botVersion: number | null;
  /** Of a reply. */
  readonly born: string | null;
  readonly outSeq: number | null;
  /** Of a reply that its channel sends in several: which one, from 1, of how many. */
  readonly part: number | null;
  readonly parts: number | null;
  /** From when on it was not to be sent any more, ms since the Unix epoch. */
  readonly expiresAtMs: number | null;
  /** One word: of a reply a `DeadReplyReason`. */
  readonly reason: string;
  /** null where none were counted. */
  readonly attempts: number | null;
  /** Of a reply how its last attempt ended, a status or the code of an error; never a user's words. */
  readonly error: string | null;
  /** ms since the Unix epoch; null if it does not say. */
  readonly atMs: number | null;
  readonly payload: Uint8Array;
}

/** Never throws: one that cannot be read is a letter with its bytes as payload. */
export function decodeDeadLetter(bytes: Uint8Array): DeadLetter {
  const fields = fieldsOf(bytes);
  if (fields === null) return { ...NOTHING, reason: "unreadable", payload: bytes };
  const { direction, body, reason, atMs } = fields;
  return {
    direction: direction === "in" || direction === "out" ? direction : null,
    bot: textOf(fields.bot),
    channel: textOf(fields.channel),
    conversation: textOf(fields.conversation),
    id: textOf(fields.id),
    messagePosition: textOf(fields.position),
    botVersion: numberOf(fields.botVersion),
    born: textOf(fields.born),
    outSeq: numberOf(fields.outSeq),
    part: numberOf(fields.part),
    parts: numberOf(fields.parts),
    expiresAtMs: numberOf(fields.expiresAtMs),
    reason: textOf(reason) ?? "unknown",
    attempts: numberOf(fields.attempts),
    error: textOf(fields.error),
    atMs: numberOf(atMs),
    payload: typeof body === "string" ? Buffer.from(body, "base64") : new Uint8Array(0),
  };
}

const NOTHING = {
  direction: null,
  bot: null,
  channel: null,
  conversation: null,
  id: null,
  messagePosition: null,
  botVersion: null,
  born: null,
  outSeq: null,
  part: null,
  parts: null,
  expiresAtMs: null,
  attempts: null,
  error: null,
  atMs: null,
};

function fieldsOf(bytes: Uint8Array): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const textOf = (value: unknown): string | null => (typeof value === "string" ? value : null);
const numberOf = (value: unknown): number | null =>
  typeof value === "number" && Number.isFinite(value) ? value : null;
