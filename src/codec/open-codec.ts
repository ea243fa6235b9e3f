// Open codec: what the index of the unfinished says of one conversation. JSON, since it is small, rare, and read by people.

import type { HaltReason } from "../domain/record.ts";
import { CodecError } from "../errors.ts";

/** The words for what a conversation does, everywhere. One that is idle is not in the index. */
export const CONVERSATION_STATES = ["idle", "active", "held", "halted", "quarantined"] as const;
export type ConversationState = (typeof CONVERSATION_STATES)[number];

export interface OpenEntry {
  readonly state: Exclude<ConversationState, "idle">;
  /** ms since the Unix epoch. */
  readonly sinceMs: number;
  /** One line for people; never a user's words. */
  readonly why: string;
  /** Of a halt: why, and its name, which a verb that means this halt and no later one repeats. */
  readonly reason?: HaltReason;
  readonly halt?: string;
  /** On the waiting list. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** Failed runs of the message at the head. */
  readonly attempts?: number;
  /** A new owner goes on with it by itself: nothing but time, or nothing at all, stands in its way. */
  readonly runs: boolean;
  /** It runs in a group of so many because one of them may be what ends the process. */
  readonly suspect?: number;
}

export const encodeOpenEntry = (entry: OpenEntry): Buffer => Buffer.from(JSON.stringify(entry));

/** @throws CodecError if it is no entry of the index */
export function decodeOpenEntry(bytes: Uint8Array): OpenEntry {
  try {
    const entry = JSON.parse(Buffer.from(bytes).toString()) as OpenEntry;
    if (CONVERSATION_STATES.includes(entry.state) && Number.isSafeInteger(entry.waiting)) return entry;
  } catch {
    // falls through to the one error that both ways of being wrong share
  }
  throw new CodecError("an entry of the index of the unfinished is not readable");
}
