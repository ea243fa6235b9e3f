// Record: what is stored of a conversation. An envelope that the runtime understands, and the bot's state as opaque bytes.
//
// Invariants
//   E1. `seq` and `outSeq` count committed turns and replies; they only rise within one life (`born`).
//   E2. `cursor` is the last position consumed in any way; what stands at or below it never runs again.
//   E3. State bytes are copied untouched unless a turn makes new ones; decoding them is part of a turn (R5).

import type { Hash64 } from "./hash.ts";
import { halfSipHash64 } from "./hash.ts";
import type { Position } from "./position.ts";

export interface ConversationRecord {
  readonly seq: number;
  readonly cursor: Position;
  readonly outSeq: number;
  /** The position that began this life of the conversation; part of every derived id. */
  readonly born: Position;
  /** Links every turn to all before it, so that a checker can see each one in the log. */
  readonly chain: Hash64;
}

/** A bot's state as stored: JSON in UTF-8, and the bot version that wrote it. */
export interface StoredState {
  readonly botVersion: number;
  readonly bytes: Uint8Array;
}

export type TurnOutcome = "turn" | "dead" | "late" | "skipped";

const OUTCOME_CODE: Readonly<Record<TurnOutcome, number>> = { turn: 1, dead: 2, late: 3, skipped: 4 };

/** The record of a conversation whose first message stands at `born`. Its cursor is below every position. */
export function newRecord(born: Position): ConversationRecord {
  return { seq: 0, cursor: { entry: { ms: 0, seq: 0 }, index: -1 }, outSeq: 0, born, chain: { lo: 0, hi: 0 } };
}

/** HalfSipHash of (id hash, outcome) under the chain so far. */
export function nextChain(chain: Hash64, idHash: Hash64, outcome: TurnOutcome): Hash64 {
  scratchView.setUint32(0, idHash.lo, true);
  scratchView.setUint32(4, idHash.hi, true);
  scratch[8] = OUTCOME_CODE[outcome];
  return halfSipHash64(chain, scratch);
}

const scratch = new Uint8Array(9);
const scratchView = new DataView(scratch.buffer);

/** The record after a turn consumed the message at `position` and made `replies` replies. */
export function afterTurn(
  record: ConversationRecord,
  position: Position,
  idHash: Hash64,
  replies: number,
): ConversationRecord {
  return {
    seq: record.seq + 1,
    cursor: position,
    outSeq: record.outSeq + replies,
    born: record.born,
    chain: nextChain(record.chain, idHash, "turn"),
  };
}

/** The record after a message was consumed without a turn of its own, e.g. dropped as a duplicate. */
export function afterDrop(record: ConversationRecord, position: Position): ConversationRecord {
  return { ...record, cursor: position };
}
