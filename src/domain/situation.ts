// Situation: what a conversation does, in the words that are used everywhere, as its record says it and what is in memory. Pure.

import type { ConversationState, OpenEntry } from "../codec/open-codec.ts";
import { type ConversationRecord, haltName, storedExtra } from "./record.ts";

/**
 * Its entry in the index of the unfinished; null if it needs none.
 * @param sinceMs when the present state began; kept of the entry before if the state is the same
 */
export function openEntryOf(record: ConversationRecord, before: OpenEntry | null, nowMs: number): OpenEntry | null {
  const extra = storedExtra(record.extra);
  if (extra === null) return null;
  const { waiting, halt, openTurn, suspect } = extra;
  const { state, why } = stateOf(record);
  if (state === "idle") return null;
  const sinceMs = halt?.sinceMs ?? openTurn?.firstFailedAtMs ?? (before?.state === state ? before.sinceMs : nowMs);
  const name = haltName(record);
  return {
    state,
    sinceMs,
    why,
    waiting: waiting?.count ?? 0,
    waitingBytes: waiting?.bytes ?? 0,
    runs: halt === undefined,
    ...(halt && { reason: halt.reason }),
    ...(name !== null && { halt: name }),
    ...(openTurn && openTurn.attempts > 0 && { attempts: openTurn.attempts }),
    ...(suspect !== undefined && { suspect }),
  };
}

/** Of one whose record cannot be read: of `record` only the extent of the list is true. */
export function quarantinedEntryOf(record: ConversationRecord, before: OpenEntry | null, nowMs: number): OpenEntry {
  const { count = 0, bytes = 0 } = record.extra?.waiting ?? {};
  return {
    state: "quarantined",
    sinceMs: before?.sinceMs ?? nowMs,
    why: "its record cannot be read",
    waiting: count,
    waitingBytes: bytes,
    runs: false,
  };
}

export interface Situation {
  readonly state: ConversationState;
  /** ms since the Unix epoch; null where nothing durable says it. */
  readonly sinceMs: number | null;
  readonly why: string;
  /** On its waiting list. */
  readonly waiting: number;
  /** Failed runs of the message at the head. */
  readonly attempts: number;
}

/** What only its process knows of it. */
export interface InMemory {
  /** The runtime's own code failed on it. */
  readonly isCrashing: boolean;
  /** Its record cannot be read. */
  readonly isQuarantined: boolean;
  readonly isInTurn: boolean;
  readonly isBackingOff: boolean;
  /** Messages in memory that are not decided. */
  readonly undecided: number;
}

const IDLE = Object.freeze({ state: "idle", why: "" } as const);

/** Of one that is in memory. @param record null before its first message was decided */
export function situationOf(record: ConversationRecord | null, inMemory: InMemory): Situation {
  const { waiting, openTurn, halt } = record?.extra ?? {};
  const { state, why } = stateInMemory(inMemory, halt !== undefined) ?? (record === null ? IDLE : stateOf(record));
  const sinceMs = halt?.sinceMs ?? openTurn?.firstFailedAtMs ?? null;
  return { state, why, sinceMs, waiting: waiting?.count ?? 0, attempts: openTurn?.attempts ?? 0 };
}

/** Null where the record says it. */
function stateInMemory(
  { isCrashing, isQuarantined, isInTurn, isBackingOff, undecided }: InMemory,
  isHalted: boolean,
): Pick<Situation, "state" | "why"> | null {
  if (isCrashing) return { state: "halted", why: "crashing: the runtime's own code failed on it" };
  if (isQuarantined) return { state: "quarantined", why: "its record cannot be read" };
  if (isInTurn) return { state: "active", why: "a turn runs" };
  if (isBackingOff || isHalted || undecided === 0) return null;
  return { state: "active", why: "messages wait for their record, a commit, or room" };
}

/** Of what is stored alone; what is in memory may make an idle one active. */
export function stateOf(record: ConversationRecord): {
  readonly state: OpenEntry["state"] | "idle";
  readonly why: string;
} {
  const { waiting, halt, openTurn, notices, suspect, order } = storedExtra(record.extra) ?? {};
  if (halt !== undefined) return { state: "halted", why: halt.why };
  if (openTurn !== undefined && openTurn.attempts + openTurn.deaths > 0) {
    const deaths = openTurn.deaths > 0 ? `, ${openTurn.deaths} ends of the process` : "";
    return { state: "active", why: `attempt ${openTurn.attempts} failed${deaths}: ${openTurn.error ?? "no error"}` };
  }
  if (openTurn !== undefined)
    return { state: "active", why: `a turn with ${openTurn.steps.length} finished steps is open` };
  if (notices !== undefined) return { state: "active", why: "a notice to the bot is due" };
  if (suspect !== undefined) return { state: "active", why: `runs in a group of ${suspect} after unclean ends` };
  if (waiting === undefined || waiting.count === 0) return { state: "idle", why: "" };
  if (order !== undefined)
    return {
      state: "held",
      why: order.next === null ? "waits for its first number" : `waits for number ${order.next}`,
    };
  return { state: "active", why: `${waiting.count} messages wait for their turn` };
}
