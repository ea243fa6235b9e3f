// Unfinished: what halted conversations, lanes that stand and dead letters leave in a memory store, written there by hand.

import { decodeInboxEntry, encodeWaiting, InboxBatch } from "../../src/codec/inbox-codec.ts";
import { encodeLaneState } from "../../src/codec/lane-codec.ts";
import { encodeOpenEntry, type OpenEntry } from "../../src/codec/open-codec.ts";
import { type ConversationId, conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { LaneState } from "../../src/domain/lane.ts";
import type {
  ControlMessage,
  InboxEntry,
  InboxMessage,
  LaneControlMessage,
  MailboxMessage,
} from "../../src/domain/message.ts";
import type { EntryId } from "../../src/domain/position.ts";
import { formatBorn, formatEntryId } from "../../src/domain/position.ts";
import type { MemoryData, MemoryShard } from "../../src/store/memory-store.ts";

const NO_KEY = { lo: 0, hi: 0 };
const NEVER: EntryId = { ms: 1, seq: 0 };
const entryOf = (bytes: Uint8Array): InboxEntry => ({ id: NEVER, bytes: bytes.length, undecided: 1 });

export const idOf = (conversation: string, bot = "demo", channel = "test"): ConversationId => ({
  bot,
  channel,
  conversation,
});

export function shardIn(data: MemoryData, id: ConversationId, shards: number): { shard: number; data: MemoryShard } {
  const shard = shardOf(conversationKey(id), shards);
  return { shard, data: data.shard(shard) };
}

export const HALTED: OpenEntry = {
  state: "halted",
  sinceMs: 1_600_000_000_000,
  why: "poison: TypeError after 5 attempts",
  reason: "poison",
  halt: "k0-0-0",
  waiting: 3,
  waitingBytes: 300,
  attempts: 5,
  runs: false,
};

export function addOpen(data: MemoryData, shards: number, id: ConversationId, entry: OpenEntry): void {
  shardIn(data, id, shards).data.open.set(conversationKey(id), encodeOpenEntry(entry));
}

/** A message as an inbox hands it on. */
export function messageTo(id: ConversationId, over: Partial<InboxMessage> = {}): InboxMessage {
  const batch = new InboxBatch();
  batch.add(conversationKey(id), { to: id, id: "m1", text: "hello", data: { n: 1 }, sequence: 7, sentAtMs: 5 });
  const bytes = batch.finish();
  const [message] = decodeInboxEntry(bytes, entryOf(bytes), NO_KEY).messages;
  if (message?.kind !== "message") throw new Error("not a message");
  return { ...message, ...over };
}

/** A dead letter in, as a conversation writes it. @returns its entry id */
export function addDeadLetter(
  data: MemoryData,
  shards: number,
  message: InboxMessage,
  id: ConversationId,
  fields: Readonly<Record<string, unknown>> = {},
  nowMs: number = 1_600_000_000_000,
): { readonly shard: number; readonly entry: EntryId; readonly name: string } {
  const { shard, data: of } = shardIn(data, id, shards);
  const letter = {
    direction: "in",
    ...id,
    id: message.id,
    reason: "poison",
    attempts: 5,
    error: "TypeError",
    botVersion: 3,
    position: formatBorn(message.position),
    atMs: nowMs,
    body: encodeWaiting(message).toString("base64"),
    ...fields,
  };
  const entry = of.dead.add(Buffer.from(JSON.stringify(letter)), nowMs);
  return { shard, entry, name: `${String(shard).padStart(2, "0")}:${formatEntryId(entry)}` };
}

/** Everything in the inboxes, entry by entry. */
export function inboxOf(data: MemoryData, shard: number): readonly (readonly MailboxMessage[])[] {
  return data.shard(shard).inbox.entries.map(({ bytes }) => {
    const copy = Buffer.from(bytes);
    return decodeInboxEntry(copy, entryOf(copy), NO_KEY).messages;
  });
}

/** What is stored of a lane. */
export function addLane(data: MemoryData, shards: number, id: ConversationId, state: LaneState): void {
  shardIn(data, id, shards).data.lanes.set(conversationKey(id), encodeLaneState(state));
}

export const LANE_HALTED: LaneState = {
  state: "halted",
  born: "k0-0-0",
  outSeq: 4,
  attempts: 2,
  firstFailedAtMs: 1_600_000_000_000,
  nextAtMs: 1_600_000_000_000,
  reason: "HTTP 400",
  halt: "terminal",
  list: { nextId: 8, count: 7, bytes: 700 },
};

/** A dead letter out, as a lane writes it. @returns its entry id */
export function addDeadReply(
  data: MemoryData,
  shards: number,
  id: ConversationId,
  fields: Readonly<Record<string, unknown>> = {},
  nowMs: number = 1_600_000_000_000,
): { readonly shard: number; readonly entry: EntryId; readonly name: string } {
  const { shard, data: of } = shardIn(data, id, shards);
  const letter = {
    direction: "out",
    ...id,
    born: "k0-0-0",
    outSeq: 4,
    reason: "terminal",
    error: "HTTP 400",
    attempts: 1,
    atMs: nowMs,
    body: Buffer.from("wire bytes").toString("base64"),
    ...fields,
  };
  const entry = of.dead.add(Buffer.from(JSON.stringify(letter)), nowMs);
  return { shard, entry, name: `${String(shard).padStart(2, "0")}:${formatEntryId(entry)}` };
}

/** What lanes were asked for, entry by entry of one inbox. */
export function laneControlsOf(data: MemoryData, shard: number): readonly (readonly LaneControlMessage[])[] {
  return data.shard(shard).inbox.entries.map(({ bytes }) => {
    const copy = Buffer.from(bytes);
    return decodeInboxEntry(copy, entryOf(copy), NO_KEY).laneControls;
  });
}

export function controlsOf(data: MemoryData, shards: number): readonly ControlMessage[] {
  return Array.from({ length: shards }, (_, shard) => inboxOf(data, shard).flat())
    .flat()
    .filter((message) => message.kind === "control");
}
