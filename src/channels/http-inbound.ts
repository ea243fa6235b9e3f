// HTTP inbound: from the raw body of the http channel to messages. Pure; whatever the bytes are, it answers and never throws.
//
// Invariants
//   H1. All or nothing: one bad message refuses the request, so that its sender never has to find out which half is in.
//   H2. Ids and texts come out exactly as they went in; what UTF-8 cannot carry (a lone surrogate) is refused (attack B16).
//   H3. Nothing here recurses deeper than `PLAIN_DEPTH_MAX`, however deep the body is nested.
//   H4. A problem names members, and quotes no value.

import secureJsonParse from "secure-json-parse";
import { ID_BYTES_MAX } from "../domain/ids.ts";
import type { Inbound } from "../domain/message.ts";
import type { Plain } from "../domain/plain-data.ts";
import { PLAIN_DEPTH_MAX } from "../domain/plain-data.ts";
import { timestampMs } from "../domain/timestamp.ts";
import type { ParseResult, RequestBounds } from "./channel.ts";

export const REQUEST_BOUNDS: RequestBounds = { messagesMax: 1_000, messageBytesMax: 256 * 1_024 };

/** A path in a problem is cut here: names of members are the sender's, and may be as long as the body. */
const PATH_LENGTH_MAX = 200;
/** How much longer JSON may get by parsing and encoding it again: `1e20,` becomes 22 characters. */
const REENCODING_GROWTH_MAX = 5;

type Problem = Extract<ParseResult, { kind: "problem" }>;

/** A message as it may stand in the body, after `messageFault` found nothing. */
interface WireMessage {
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
  readonly sequence?: number;
  readonly epoch?: number;
  readonly kind?: "edit" | "reaction";
  readonly about?: string;
  readonly data?: Plain;
  readonly sentAt?: string;
}

interface Fault {
  /** Relative to what was checked: `id`, `data.a[0]`. */
  readonly path: string;
  readonly reason: string;
}

/**
 * The messages of one request: the body is one message, or an array of at most `messagesMax`.
 * @param isSequenceRequired whether the order of the channel goes by `sequence`: a message without one would have no place in it
 */
export function parseHttpBody(
  raw: Uint8Array,
  bot: string,
  channel: string,
  bounds = REQUEST_BOUNDS,
  isSequenceRequired = false,
): ParseResult {
  const text = decodeUtf8(raw);
  if (text === null) return unreadable("the body is not UTF-8");
  let body: unknown;
  try {
    body = secureJsonParse(text, { protoAction: "error", constructorAction: "error" });
  } catch {
    return unreadable(
      isJson(text)
        ? "an object in the body has a member __proto__ or constructor.prototype, which is never accepted"
        : "the body is not JSON",
    );
  }
  const read = { rawBytes: raw.length, bot, channel, bounds, isSequenceRequired };
  return Array.isArray(body) ? parseBatch(body, read) : parseSingle(body, read);
}

/** What is known of a request besides its body. */
interface Read {
  readonly rawBytes: number;
  readonly bot: string;
  readonly channel: string;
  readonly bounds: RequestBounds;
  readonly isSequenceRequired: boolean;
}

function parseSingle(body: unknown, read: Read): ParseResult {
  const fault = wireFault(body, read);
  if (fault) return invalid(fault.path, fault.reason);
  return { kind: "ok", messages: [toInbound(body as WireMessage, read)] };
}

function parseBatch(body: readonly unknown[], read: Read): ParseResult {
  const { messagesMax } = read.bounds;
  if (body.length > messagesMax) {
    return invalid(`[${messagesMax}]`, `a request holds at most ${messagesMax} messages, this one has ${body.length}`);
  }
  const messages: Inbound[] = [];
  for (let i = 0; i < body.length; i += 1) {
    const fault = wireFault(body[i], read);
    if (fault) return invalid(joinPath(`[${i}]`, fault.path), fault.reason); // H1
    messages.push(toInbound(body[i] as WireMessage, read));
  }
  return { kind: "ok", messages };
}

function toInbound(wire: WireMessage, { bot, channel }: Read): Inbound {
  return {
    to: { bot, channel, conversation: wire.conversation },
    id: wire.id,
    text: wire.text,
    ...(wire.sequence !== undefined && { sequence: wire.sequence }),
    ...(wire.epoch !== undefined && { epoch: wire.epoch }),
    ...(wire.kind !== undefined && { kind: wire.kind }),
    ...(wire.about !== undefined && { about: wire.about }),
    ...(wire.data !== undefined && { data: wire.data }),
    ...(wire.sentAt !== undefined && { sentAtMs: Date.parse(wire.sentAt) }),
  };
}

// Members

const MEMBERS: ReadonlyMap<string, (value: unknown) => Fault | null> = new Map([
  ["conversation", idFault],
  ["id", idFault],
  ["sequence", countFault],
  ["epoch", countFault],
  ["kind", kindFault],
  ["about", idFault],
  ["text", textFault],
  ["data", (value: unknown) => dataFault(value, 0)],
  ["sentAt", sentAtFault],
]);
const REQUIRED = ["conversation", "id", "text"] as const;

/** The first thing wrong with a message: its members, then what they are together. */
function wireFault(value: unknown, read: Read): Fault | null {
  return messageFault(value) ?? togetherFault(value as WireMessage, read) ?? sizeFault(value as WireMessage, read);
}

/** The first thing wrong with a message, in the order of its members; then what is missing. */
function messageFault(value: unknown): Fault | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return here("a message is an object");
  for (const [name, member] of Object.entries(value)) {
    const check = MEMBERS.get(name);
    if (!check)
      return { path: memberPath(name), reason: `unknown member; a message has ${[...MEMBERS.keys()].join(", ")}` };
    const fault = check(member);
    if (fault) return { path: joinPath(name, fault.path), reason: fault.reason };
  }
  for (const name of REQUIRED) {
    if (!Object.hasOwn(value, name)) return { path: name, reason: "is missing" };
  }
  return null;
}

function togetherFault({ sequence, kind, about }: WireMessage, { isSequenceRequired }: Read): Fault | null {
  if (isSequenceRequired && sequence === undefined) {
    const reason = "is missing; this channel orders messages by it, so each one must have its number";
    return { path: "sequence", reason };
  }
  if (kind !== undefined && about === undefined)
    return { path: "about", reason: "is missing; an edit or a reaction names the id of the message that it is about" };
  if (about !== undefined && kind === undefined)
    return { path: "kind", reason: 'is missing; a message that is about another one is an "edit" or a "reaction"' };
  return null;
}

function idFault(value: unknown): Fault | null {
  if (typeof value !== "string") return here("must be a string");
  if (!value.isWellFormed()) return here("has a lone surrogate, which UTF-8 cannot carry"); // H2
  const bytes = Buffer.byteLength(value);
  if (bytes >= 1 && bytes <= ID_BYTES_MAX) return null;
  return here(`must have 1 to ${ID_BYTES_MAX} bytes in UTF-8, this has ${bytes}`);
}

function textFault(value: unknown): Fault | null {
  if (typeof value !== "string") return here("must be a string");
  return value.isWellFormed() ? null : here("has a lone surrogate, which UTF-8 cannot carry"); // H2
}

function countFault(value: unknown): Fault | null {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return null;
  return here(`must be an integer from 0 to ${Number.MAX_SAFE_INTEGER}`);
}

function kindFault(value: unknown): Fault | null {
  return value === "edit" || value === "reaction" ? null : here('must be "edit" or "reaction"');
}

function sentAtFault(value: unknown): Fault | null {
  if (timestampMs(value) !== null) return null;
  return here("must be an ISO 8601 timestamp with an offset, as 2024-05-17T09:30:00Z");
}

/** JSON has one value that does not come back as it went in: a number too large becomes Infinity, and that null. */
function dataFault(value: unknown, depth: number): Fault | null {
  if (typeof value === "number") return Number.isFinite(value) ? null : here("is a number too large to keep");
  if (typeof value !== "object" || value === null) return null;
  if (depth >= PLAIN_DEPTH_MAX) return here(`is nested deeper than ${PLAIN_DEPTH_MAX} levels`); // H3
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) {
      const fault = dataFault(value[i], depth + 1);
      if (fault) return { path: joinPath(`[${i}]`, fault.path), reason: fault.reason };
    }
    return null;
  }
  for (const [name, member] of Object.entries(value)) {
    const fault = dataFault(member, depth + 1);
    if (fault) return { path: joinPath(memberPath(name), fault.path), reason: fault.reason };
  }
  return null;
}

/** Most requests are too small to hold a message that is too large, so their data is not encoded just to measure it. */
function sizeFault(wire: WireMessage, { rawBytes, bounds }: Read): Fault | null {
  const { messageBytesMax } = bounds;
  if (rawBytes * REENCODING_GROWTH_MAX <= messageBytesMax) return null;
  const bytes =
    Buffer.byteLength(wire.conversation) +
    Buffer.byteLength(wire.id) +
    Buffer.byteLength(wire.about ?? "") +
    Buffer.byteLength(wire.text) +
    (wire.data === undefined ? 0 : Buffer.byteLength(JSON.stringify(wire.data)));
  if (bytes <= messageBytesMax) return null;
  return here(`a message has at most ${messageBytesMax} bytes, this one has ${bytes}`);
}

// Problems

const here = (reason: string): Fault => ({ path: "", reason });

const unreadable = (detail: string): Problem => ({ kind: "problem", status: 400, detail });

function invalid(path: string, reason: string): Problem {
  const field = path.length > PATH_LENGTH_MAX ? `${path.slice(0, PATH_LENGTH_MAX).toWellFormed()}...` : path;
  return { kind: "problem", status: 422, field, detail: field === "" ? reason : `${field}: ${reason}` };
}

function joinPath(parent: string, child: string): string {
  return child === "" || child.startsWith("[") ? parent + child : `${parent}.${child}`;
}

function memberPath(name: string): string {
  if (/^[A-Za-z_$][\w$]{0,63}$/.test(name)) return name;
  return `[${JSON.stringify(name.slice(0, PATH_LENGTH_MAX).toWellFormed())}]`;
}

// Text

const utf8 = new TextDecoder("utf-8", { fatal: true });

function decodeUtf8(raw: Uint8Array): string | null {
  try {
    return utf8.decode(raw);
  } catch {
    return null;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
