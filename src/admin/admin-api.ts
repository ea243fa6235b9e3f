// Admin API: what an operator reads of a node, as JSON. The guard stands before it (ingress/admin-route.ts); a route more is one
// line in the table below.
//
// Invariants
//   J1. Payload (states, messages, replies) is given only to whom asks for it: `?state=1`, `?payload=1`.
//   J2. Every list is a page with `next`, which is null after the last; a token of another list, or of none, is 400.

import type { TreeNode } from "../../supervisors/tree.ts";
import { checkedState, type DecodedRecord } from "../codec/record-codec.ts";
import { NAME_PATTERN } from "../domain/ids.ts";
import { formatBorn, formatEntryId, parseEntryId } from "../domain/position.ts";
import { CodecError } from "../errors.ts";
import type { AdminAnswer, AdminRequest, AdminRoute } from "../ingress/admin-route.ts";
import type { Problem } from "../ingress/problem.ts";
import type { Readiness } from "../ingress/server.ts";
import type { Counters } from "../metrics.ts";
import { shardTag } from "../store/keys.ts";
import type { StoreFacts } from "../store/shard-store.ts";
import {
  ACTIVITIES,
  type ConversationDetail,
  type ConversationFilter,
  type ConversationView,
  type DeadLetterPlace,
  type DeadLetterView,
  type Inspector,
  type ShardView,
} from "./inspector.ts";

export interface AdminSources {
  readonly version: string;
  readonly pid: number;
  /** null before the data folder is open. */
  readonly node: () => string | null;
  readonly uptimeMs: () => number;
  readonly readiness: () => Readiness;
  readonly durability: string;
  readonly counters: Counters;
  readonly redis: () => {
    readonly embedded: boolean;
    /** Without password; null before it is known. */
    readonly address: string | null;
    readonly isReady: boolean;
    readonly facts: StoreFacts | null;
  };
  readonly tree: () => TreeNode;
  /** @throws StoreNotReadyError while there is nothing to look at */
  readonly inspector: () => Inspector;
}

export function adminRoutes(sources: AdminSources): readonly AdminRoute[] {
  const { inspector } = sources;
  return [
    { method: "GET", path: "/admin/stats", answer: () => stats(sources) },
    { method: "GET", path: "/admin/tree", answer: async () => ({ json: sources.tree() }) },
    { method: "GET", path: "/admin/conversations", answer: (request) => conversations(inspector(), request) },
    { method: "GET", path: CONVERSATION_PATH, answer: (request) => conversation(inspector(), request) },
    { method: "GET", path: "/admin/dead-letters", answer: (request) => deadLetters(inspector(), request) },
  ];
}

const CONVERSATION_PATH = "/admin/conversations/:bot/:channel/:conversation";
const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 200;
const LANE_STATES = ["lane-retrying", "lane-halted", "lane-closed"] as const;
const LISTED_STATES = [...ACTIVITIES, ...LANE_STATES];

async function stats(sources: AdminSources): Promise<AdminAnswer> {
  const { ready, reason } = sources.readiness();
  const shards = await viewsOf(sources);
  const inMemory = shards.flatMap(({ memory }) => memory ?? []);
  const { isReady, facts, ...redis } = sources.redis();
  return {
    json: {
      version: sources.version,
      node: sources.node(),
      pid: sources.pid,
      uptimeMs: Math.round(sources.uptimeMs()),
      ready,
      reason: reason ?? null,
      durability: sources.durability,
      residents: total(inMemory.flatMap(({ conversations }) => Object.values(conversations))),
      conversations: summed(inMemory.map((memory) => memory.conversations)),
      uncommitted: total(inMemory.map(({ uncommitted }) => uncommitted)),
      lanes: summed(inMemory.map(({ lanes }) => lanes)),
      readAheadBytes: total(inMemory.map(({ readAheadBytes }) => readAheadBytes)),
      outboxBytes: total(inMemory.map(({ outboxBytes }) => outboxBytes)),
      counters: countsOf(sources.counters),
      redis: { ...redis, away: !isReady, ...(facts && factsJson(facts)) },
      shards: shards.map(shardJson),
    },
  };
}

/** None before the namespace is known. */
async function viewsOf(sources: AdminSources): Promise<readonly ShardView[]> {
  let inspector: Inspector;
  try {
    inspector = sources.inspector();
  } catch {
    return [];
  }
  return await inspector.shards();
}

function factsJson({ version, role, config, usedMemoryBytes, maxMemoryBytes }: StoreFacts) {
  return { version, role, usedMemoryBytes, maxMemoryBytes, config };
}

function shardJson({ shard, lease, stored, memory }: ShardView) {
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
    lanes: memory?.lanes ?? null,
    readAheadBytes: memory?.readAheadBytes ?? null,
    outboxBytes: memory?.outboxBytes ?? null,
  };
}

async function conversations(inspector: Inspector, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = readLimit(query.limit);
  if (limit === null) return { problem: BAD_LIMIT };
  const filter = readFilter(query);
  if ("status" in filter) return { problem: filter };
  const isStored = filter.state === undefined;
  const after = readToken(query.after, isStored ? "s" : "m");
  if (after === null) return { problem: BAD_AFTER };
  const { items, next } = isStored
    ? await inspector.stored(filter, limit, after)
    : inspector.inMemory(filter, limit, after);
  return {
    json: { conversations: items.map(viewJson), next: next === null ? null : tokenOf(isStored ? "s" : "m", next) },
  };
}

async function conversation(inspector: Inspector, { params, query }: AdminRequest): Promise<AdminAnswer> {
  const { bot = "", channel = "", conversation: name = "" } = params;
  const withState = readSwitch(query.state);
  if (withState === null) return { problem: badSwitch("state") };
  const detail = await inspector.conversation({ bot, channel, conversation: name });
  if (detail === null) return { problem: { status: 404, detail: "nothing is known of this conversation" } };
  return { json: { ...viewJson(detail), ...recordJson(detail, withState) } };
}

async function deadLetters(inspector: Inspector, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = readLimit(query.limit);
  if (limit === null) return { problem: BAD_LIMIT };
  const withPayload = readSwitch(query.payload);
  if (withPayload === null) return { problem: badSwitch("payload") };
  const after = readPlace(query.after);
  if (after === null) return { problem: BAD_PLACE };
  const { items, next } = await inspector.deadLetters(limit, after);
  return {
    json: {
      deadLetters: items.map((letter) => letterJson(letter, withPayload)),
      next: next === null ? null : placeText(next),
    },
  };
}

function viewJson({ id, shard, state, mailboxDepth, failures, undelivered, lane }: ConversationView) {
  const { bot, channel, conversation: name } = id;
  return {
    bot,
    channel,
    conversation: name,
    shard: shardName(shard),
    state,
    mailboxDepth,
    attempts: failures,
    undelivered,
    lane: lane && {
      state: lane.state,
      outSeq: lane.outSeq,
      attempts: lane.attempts,
      firstFailedAt: isoOf(lane.firstFailedAtMs),
      nextAt: lane.state === "retrying" ? isoOf(lane.nextAtMs) : null,
      reason: lane.reason,
    },
  };
}

function recordJson({ record, recordBytes, idsBytes }: ConversationDetail, withState: boolean) {
  if (record === null) return { record: null };
  if (typeof record === "string") return { record: { problem: record, bytes: recordBytes, idsBytes } };
  const { seq, cursor, outSeq, born, chain } = record.record;
  return {
    record: {
      seq,
      cursor: { entry: formatEntryId(cursor.entry), index: cursor.index },
      outSeq,
      born: formatBorn(born),
      chain: hex32(chain.hi) + hex32(chain.lo),
      botVersion: record.botVersion,
      bytes: recordBytes,
      stateBytes: record.stateBytes.length,
      idsBytes,
      ...(withState && stateJson(record)), // J1
    },
  };
}

/** A state that cannot be read is no reason to hide the rest. */
function stateJson(record: DecodedRecord) {
  try {
    return { state: JSON.parse(Buffer.from(checkedState(record).bytes).toString("utf8")) as unknown };
  } catch (error) {
    return { stateProblem: error instanceof CodecError ? error.message : "the stored state is not JSON" };
  }
}

function letterJson({ place, payload, atMs, ...letter }: DeadLetterView, withPayload: boolean) {
  return {
    position: placeText(place),
    shard: shardName(place.shard),
    ...letter,
    at: isoOf(atMs ?? place.entry.ms),
    bytes: payload.length,
    ...(withPayload && { payload: Buffer.from(payload).toString("base64") }), // J1
  };
}

const BAD_LIMIT: Problem = { status: 400, field: "limit", detail: `limit must be an integer from 1 to ${LIMIT_MAX}` };
const BAD_AFTER: Problem = {
  status: 400,
  field: "after",
  detail: "after must be what the page before gave as next, asked with the same state",
};
const BAD_PLACE: Problem = {
  status: 400,
  field: "after",
  detail: "after must be the position of a dead letter, as 00:1715938200000-0",
};
const BAD_STATE: Problem = { status: 400, field: "state", detail: `state must be one of ${LISTED_STATES.join(", ")}` };

function readFilter({ bot, channel, state }: AdminRequest["query"]): ConversationFilter | Problem {
  for (const [field, value] of Object.entries({ bot, channel }))
    if (value !== undefined && (typeof value !== "string" || !NAME_PATTERN.test(value)))
      return { status: 400, field, detail: `${field} must be a name of lower case letters, digits and "-"` };
  const known = LISTED_STATES.find((each) => each === state);
  if (state !== undefined && known === undefined) return BAD_STATE;
  return { bot: bot as string | undefined, channel: channel as string | undefined, state: known };
}

function readLimit(value: unknown): number | null {
  if (value === undefined) return LIMIT_DEFAULT;
  if (typeof value !== "string" || !/^\d{1,3}$/.test(value)) return null;
  const limit = Number(value);
  return limit >= 1 && limit <= LIMIT_MAX ? limit : null;
}

function readSwitch(value: unknown): boolean | null {
  if (value === undefined || value === "0") return false;
  return value === "1" ? true : null;
}

const badSwitch = (field: string): Problem => ({ status: 400, field, detail: `${field} must be 0 or 1` });

/** Opaque to whoever passes it back, and good for one kind of list (J2). */
const tokenOf = (kind: "s" | "m", place: string): string => kind + Buffer.from(place).toString("base64url");

function readToken(value: unknown, kind: "s" | "m"): string | undefined | null {
  if (value === undefined) return undefined;
  if (typeof value !== "string" || value[0] !== kind || !/^[\w-]+$/.test(value)) return null;
  const place = Buffer.from(value.slice(1), "base64url").toString("utf8");
  return kind === "m" || /^\d{1,20}$/.test(place) ? place : null;
}

const placeText = ({ shard, entry }: DeadLetterPlace): string => `${shardTag(shard)}:${formatEntryId(entry)}`;

function readPlace(value: unknown): DeadLetterPlace | undefined | null {
  if (value === undefined) return undefined;
  const [, shard, entry] = (typeof value === "string" && /^(\d{2,3}):(\d{1,15}-\d{1,15})$/.exec(value)) || [];
  return shard === undefined ? null : { shard: Number(shard), entry: parseEntryId(entry!) };
}

const shardName = (shard: number): string => `shard-${shardTag(shard)}`;
const hex32 = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** null for a time that no Date can hold. */
function isoOf(ms: number): string | null {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : null;
}

function summed(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const each of counts) for (const [name, count] of Object.entries(each)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

const countsOf = (counters: Counters): Record<string, number> =>
  Object.fromEntries(
    Object.entries(counters).filter((entry): entry is [string, number] => typeof entry[1] === "number"),
  );
