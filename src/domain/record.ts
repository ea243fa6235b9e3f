// Record: what is stored of a conversation. An envelope that the runtime understands, and the bot's state as opaque bytes.
//
// Invariants
//   E1. `seq` and `outSeq` count committed turns and replies; they only rise within one life (`born`).
//   E2. `cursor` is the last position consumed in any way; what stands at or below it never runs again. It says nothing about the
//       waiting list: what is on that is unfinished exactly as long as it is there.
//   E3. State bytes are copied untouched unless a turn makes new ones; decoding them is part of a turn (R5).

import type { ExternalPlace, OrderState } from "./external-order.ts";
import type { Hash64 } from "./hash.ts";
import { halfSipHash64 } from "./hash.ts";
import type { Plain } from "./plain-data.ts";
import { formatBorn, type Position } from "./position.ts";

export interface ConversationRecord {
  readonly seq: number;
  readonly cursor: Position;
  readonly outSeq: number;
  /** The position that began this life of the conversation; part of every derived id. */
  readonly born: Position;
  /** Links every turn to all before it, so that a checker can see each one in the log. */
  readonly chain: Hash64;
  /** What only some conversations have at some times; null for the others. */
  readonly extra: RecordExtra | null;
}

/** Members that are absent say that there is nothing of the kind. */
export interface RecordExtra {
  readonly waiting?: WaitingList;
  readonly halt?: Halt;
  readonly openTurn?: OpenTurn;
  readonly order?: OrderState;
  /** Notices to the bot that no turn has consumed, oldest first. They come before any message. */
  readonly notices?: readonly Notice[];
  /** It runs in a group of so many because one of them may be what ends the process; 1 is alone. */
  readonly suspect?: number;
}

/**
 * The extent of a conversation's waiting list. One that is empty stays until a commit has said so: what leaves and what joins in one
 * commit must not share an id.
 */
export interface WaitingList {
  /** The id that the next message on it will have; never used before. */
  readonly nextId: number;
  readonly count: number;
  readonly bytes: number;
  /** Its conversation is told to be at its bound. */
  readonly isFull: boolean;
}

export const HALT_REASONS = ["poison", "gap", "crashing", "full"] as const;
/**
 * `poison`: the message at the head failed for good. `gap`: a number of the outside is missing. `crashing`: the runtime's own code
 * failed on it too often. `full`: what should become a dead letter finds no room.
 */
export type HaltReason = (typeof HALT_REASONS)[number];

export interface Halt {
  readonly reason: HaltReason;
  /** Of a gap: the place that is missing. Whatever comes for it lifts the halt. */
  readonly missing?: ExternalPlace;
  /** ms since the Unix epoch. */
  readonly sinceMs: number;
  /** Never a user's words. */
  readonly why: string;
}

/** A turn that was begun and has not ended: what of it must outlive this process. */
export interface OpenTurn {
  readonly position: Position;
  /** Runs of the handler that failed. */
  readonly attempts: number;
  /** Ends of the process while nothing but this turn ran. */
  readonly deaths: number;
  readonly firstFailedAtMs: number | null;
  /** When the next attempt is due; also the generation of its clock. */
  readonly nextAtMs: number | null;
  /** Of the last attempt; never a user's words. */
  readonly error: string | null;
  /** Replies of this turn that were committed by `replyNow`. */
  readonly repliesOut: number;
  readonly steps: readonly JournaledStep[];
}

/** The result of a side effect. `index` counts the steps that the turn began, from 0. */
export interface JournaledStep {
  readonly index: number;
  readonly name: string;
  /** How many steps of this name came before it in the turn. */
  readonly occurrence: number;
  /** Absent for undefined. */
  readonly result?: Plain;
}

/** What a bot with ordering `available` is told when something was set aside. */
export type Notice =
  | { readonly kind: "gap"; readonly position: Position; readonly from: number; readonly to: number }
  | { readonly kind: "poisoned"; readonly position: Position; readonly id: string; readonly error: string };

/** It is told, too, and stands in no record: it comes through the inbox as a message of its own, a marker. */
export interface DeliveryFailed {
  readonly kind: "delivery-failed";
  readonly position: Position;
  readonly outSeq: number;
  readonly reason: string;
}

/** A bot's state as stored: JSON in UTF-8, and the bot version that wrote it. */
export interface StoredState {
  readonly botVersion: number;
  readonly bytes: Uint8Array;
}

/** `untold`: a marker that had no turn, as the bot has no handler for it or failed on it for good. */
export type TurnOutcome = "turn" | "dead" | "late" | "skipped" | "untold";

const OUTCOME_CODE: Readonly<Record<TurnOutcome, number>> = { turn: 1, dead: 2, late: 3, skipped: 4, untold: 5 };

export const NO_OPEN_TURN: Omit<OpenTurn, "position"> = Object.freeze({
  attempts: 0,
  deaths: 0,
  firstFailedAtMs: null,
  nextAtMs: null,
  error: null,
  repliesOut: 0,
  steps: [],
});

/** The record of a conversation whose first message stands at `born`. Its cursor is below every position. */
export function newRecord(born: Position): ConversationRecord {
  return {
    seq: 0,
    cursor: { entry: { ms: 0, seq: 0 }, index: -1 },
    outSeq: 0,
    born,
    chain: { lo: 0, hi: 0 },
    extra: null,
  };
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

/**
 * The record after a turn made `replies` replies.
 * @param position of the message that it consumed; null for one on the waiting list, which the cursor has passed, and for a notice
 */
export function afterTurn(
  record: ConversationRecord,
  position: Position | null,
  idHash: Hash64,
  replies: number,
): ConversationRecord {
  return {
    seq: record.seq + 1,
    cursor: position ?? record.cursor,
    outSeq: record.outSeq + replies,
    born: record.born,
    chain: nextChain(record.chain, idHash, "turn"),
    extra: record.extra,
  };
}

/** The record after a message was set aside for good: as a dead letter, by whatever rule. No turn of it counts. */
export function afterSetAside(
  record: ConversationRecord,
  position: Position | null,
  idHash: Hash64,
  outcome: Exclude<TurnOutcome, "turn">,
): ConversationRecord {
  return { ...record, cursor: position ?? record.cursor, chain: nextChain(record.chain, idHash, outcome) };
}

/** The record after a message was consumed and left no trace in it, e.g. dropped as a duplicate. */
export function afterDrop(record: ConversationRecord, position: Position | null): ConversationRecord {
  return position === null ? record : { ...record, cursor: position };
}

export interface WaitingBounds {
  readonly waitingMax: number;
  readonly waitingBytesMax: number;
}

/** The record after the commit that moves the message at `position` to the waiting list, `bytes` long there (R1). */
export function afterMove(
  record: ConversationRecord,
  position: Position,
  bytes: number,
  bounds: WaitingBounds,
): ConversationRecord {
  const before = record.extra?.waiting ?? EMPTY_LIST;
  const count = before.count + 1;
  const total = before.bytes + bytes;
  const isFull = before.isFull || count >= bounds.waitingMax || total >= bounds.waitingBytesMax;
  const waiting = { nextId: before.nextId + 1, count, bytes: total, isFull };
  return { ...withExtra(record, { waiting }), cursor: position };
}

/**
 * The record after one on the waiting list, `bytes` long there, was decided. It is at its bound until it is below half of it. An empty
 * list keeps its next id as long as the record is in memory: a commit may empty it and add to it.
 */
export function afterLeaving(record: ConversationRecord, bytes: number, bounds: WaitingBounds): ConversationRecord {
  const before = record.extra?.waiting ?? EMPTY_LIST;
  const count = Math.max(0, before.count - 1);
  if (count === 0) return withExtra(record, { waiting: { ...EMPTY_LIST, nextId: before.nextId } });
  const total = Math.max(0, before.bytes - bytes);
  const isBelowHalf = count * 2 < bounds.waitingMax && total * 2 < bounds.waitingBytesMax;
  const isFull = before.isFull && !isBelowHalf;
  return withExtra(record, { waiting: { nextId: before.nextId, count, bytes: total, isFull } });
}

/** The record after a commit that took nothing from its list and put nothing there: one that is empty is gone, and its ids with it. */
export function withoutEmptyList(record: ConversationRecord): ConversationRecord {
  return record.extra?.waiting?.count === 0 ? withExtra(record, { waiting: undefined }) : record;
}

export const EMPTY_LIST: WaitingList = Object.freeze({ nextId: 1, count: 0, bytes: 0, isFull: false });

/** As it is stored: of an empty list nothing. */
export function storedExtra(extra: RecordExtra | null): RecordExtra | null {
  if (extra?.waiting?.count !== 0) return extra;
  const { waiting: _empty, ...rest } = extra;
  return Object.keys(rest).length === 0 ? null : rest;
}

/** The name of a halt: a verb that means this one and no later one repeats it. */
export function haltName(record: ConversationRecord): string | null {
  const { halt, openTurn } = record.extra ?? {};
  if (halt === undefined) return null;
  if (halt.missing !== undefined) return `gap-${halt.missing.epoch}-${halt.missing.sequence}`;
  return openTurn === undefined ? halt.reason : formatBorn(openTurn.position);
}

/** What may change in the extra beside a decision; undefined takes a part away. */
export type ExtraParts = { readonly [Key in keyof RecordExtra]?: RecordExtra[Key] | undefined };

/** The record with these parts of its extra set. */
export function withExtra(record: ConversationRecord, parts: ExtraParts): ConversationRecord {
  const entries = Object.entries({ ...record.extra, ...parts }).filter(([, value]) => value !== undefined);
  return { ...record, extra: entries.length === 0 ? null : (Object.fromEntries(entries) as RecordExtra) };
}
