// Admin JSON: how what an operator looks at is written down. Pure.
//
// Invariants
//   J1. Payload (states, messages, replies, results of steps) is given only to whom asks for it.

import { checkedState, type DecodedRecord } from "../codec/record-codec.ts";
import type { LaneState } from "../domain/lane.ts";
import { formatBorn, formatEntryId } from "../domain/position.ts";
import type { OpenTurn, RecordExtra } from "../domain/record.ts";
import { CodecError } from "../errors.ts";
import { shardTag } from "../store/keys.ts";
import type { ConversationDetail, ConversationView, DeadLetterView, LaneView, ShardView } from "./inspector.ts";
import type { LaneAccount } from "./lane-view.ts";
import type { HaltedTarget } from "./operator.ts";
import { deadLetterName } from "./places.ts";

/** What is asked for by name (J1). */
export interface Payloads {
  readonly state: boolean;
  readonly payload: boolean;
}

export const shardName = (shard: number): string => `shard-${shardTag(shard)}`;

export function shardJson({ shard, lease, stored, memory }: ShardView) {
  return {
    id: shardName(shard),
    state: lease.kind,
    reason: lease.reason ?? null,
    owner: stored?.node ?? lease.owner ?? null,
    epoch: stored?.epoch ?? null,
    commit: memory?.commit ?? stored?.n ?? null,
    leaseRemainingMs: stored?.leaseRemainingMs ?? null,
    inboxBytes: stored?.inboxBytes ?? null,
    deadLetters: stored?.deadLetters ?? null,
    uncommitted: memory?.uncommitted ?? null,
    conversations: memory?.conversations ?? null,
    open: memory?.open ?? null,
    lanes: memory?.lanes ?? null,
    readAheadBytes: memory?.readAheadBytes ?? null,
    outboxBytes: memory?.outboxBytes ?? null,
  };
}

export function viewJson(view: ConversationView) {
  const { bot, channel, conversation } = view.id;
  return {
    bot,
    channel,
    conversation,
    shard: shardName(view.shard),
    state: view.state,
    since: isoOf(view.sinceMs),
    why: view.why,
    halt: view.halt,
    attempts: view.attempts,
    waiting: view.waiting,
    waitingBytes: view.waitingBytes,
    suspect: view.suspect,
    resident: view.isResident,
    mailboxDepth: view.mailboxDepth,
    undelivered: view.undelivered,
    lane: view.lane && laneStateJson(view.lane),
  };
}

const laneStateJson = ({ state, outSeq, attempts, firstFailedAtMs, nextAtMs, reason }: LaneState) => ({
  state,
  outSeq,
  attempts,
  firstFailedAt: state === "flowing" ? null : isoOf(firstFailedAtMs),
  nextAt: state === "retrying" ? isoOf(nextAtMs) : null,
  reason,
});

export function laneJson(lane: LaneView) {
  const { bot, channel, conversation } = lane.id;
  return {
    bot,
    channel,
    conversation,
    shard: shardName(lane.shard),
    state: lane.state,
    reason: lane.reason,
    why: lane.why,
    since: isoOf(lane.sinceMs),
    nextAt: isoOf(lane.nextAtMs),
    attempts: lane.attempts,
    error: lane.lastError,
    head: lane.head,
    waiting: lane.waiting,
    waitingBytes: lane.waitingBytes,
    account: lane.account && accountJson(lane.account),
  };
}

/** The same members as in a list, and what the list of lanes has besides. */
const laneDetailJson = (lane: LaneView) => ({
  state: lane.state,
  outSeq: lane.head?.outSeq ?? null,
  attempts: lane.attempts,
  firstFailedAt: isoOf(lane.sinceMs),
  nextAt: isoOf(lane.nextAtMs),
  reason: lane.lastError,
  halt: lane.reason,
  why: lane.why,
  head: lane.head,
  waiting: lane.waiting,
  waitingBytes: lane.waitingBytes,
  account: lane.account && accountJson(lane.account),
});

const accountJson = ({ name, breaker, reopensAtMs }: LaneAccount) => ({ name, breaker, reopensAt: isoOf(reopensAtMs) });

export function detailJson(detail: ConversationDetail, asked: Payloads) {
  const { record, recordBytes, idsBytes, waitingHead } = detail;
  const isRead = record !== null && typeof record !== "string";
  return {
    ...viewJson(detail),
    lane: detail.laneView && laneDetailJson(detail.laneView),
    ...extraJson(isRead ? record.record.extra : null, asked),
    waitingHead: waitingHead.map((each) => waitingJson(each, asked)),
    record: isRead
      ? recordJson(record, recordBytes, idsBytes, asked)
      : record && { problem: record, bytes: recordBytes, idsBytes },
  };
}

function recordJson(decoded: DecodedRecord, bytes: number, idsBytes: number, asked: Payloads) {
  const { seq, cursor, outSeq, born, chain } = decoded.record;
  return {
    seq,
    cursor: { entry: formatEntryId(cursor.entry), index: cursor.index },
    outSeq,
    born: formatBorn(born),
    chain: hex32(chain.hi) + hex32(chain.lo),
    botVersion: decoded.botVersion,
    bytes,
    stateBytes: decoded.stateBytes.length,
    idsBytes,
    ...(asked.state && stateJson(decoded)), // J1
  };
}

/** A state that cannot be read is no reason to hide the rest. */
function stateJson(decoded: DecodedRecord) {
  try {
    return { state: JSON.parse(Buffer.from(checkedState(decoded).bytes).toString("utf8")) as unknown };
  } catch (error) {
    return { stateProblem: error instanceof CodecError ? error.message : "the stored state is not JSON" };
  }
}

/** What stands in the way of a conversation, as its record has it. */
function extraJson(extra: RecordExtra | null, asked: Payloads) {
  return {
    turn: extra?.openTurn === undefined ? null : turnJson(extra.openTurn, asked),
    order: extra?.order ?? null,
    notices: (extra?.notices ?? []).map(({ kind, position }) => ({ kind, position: formatBorn(position) })),
  };
}

function turnJson(turn: OpenTurn, asked: Payloads) {
  return {
    position: formatBorn(turn.position),
    attempts: turn.attempts,
    deaths: turn.deaths,
    firstFailedAt: isoOf(turn.firstFailedAtMs),
    nextAt: isoOf(turn.nextAtMs),
    error: turn.error,
    repliesOut: turn.repliesOut,
    steps: turn.steps.map(({ result, ...step }) => ({ ...step, ...(asked.payload && { result: result ?? null }) })), // J1
  };
}

function waitingJson({ id, message }: ConversationDetail["waitingHead"][number], asked: Payloads) {
  if (message === null) return { id, problem: "it does not match its checksum" };
  return {
    id,
    position: formatBorn(message.position),
    admittedAt: isoOf(message.position.entry.ms),
    sequence: message.sequence ?? null,
    bytes: message.bytes,
    ...(asked.payload && { messageId: message.id, text: message.text, data: dataOf(message.dataJson) }), // J1
  };
}

function dataOf(json: string): unknown {
  return json === "" ? null : (JSON.parse(json) as unknown);
}

export function letterJson(
  { place, payload, atMs, expiresAtMs, ...letter }: DeadLetterView,
  asked: Pick<Payloads, "payload">,
) {
  return {
    position: deadLetterName(place),
    shard: shardName(place.shard),
    ...letter,
    expiresAt: isoOf(expiresAtMs),
    at: isoOf(atMs ?? place.entry.ms),
    bytes: payload.length,
    ...(asked.payload && { payload: Buffer.from(payload).toString("base64") }), // J1
  };
}

export function haltedJson({ id, halt, reason, sinceMs, why, waiting }: HaltedTarget) {
  const { bot, channel, conversation } = id;
  return { bot, channel, conversation, halt, reason, since: isoOf(sinceMs), why, waiting };
}

/** null for a time that no Date can hold. */
function isoOf(ms: number | null): string | null {
  return ms !== null && Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : null;
}

const hex32 = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
