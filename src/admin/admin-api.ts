// Admin API: what an operator reads of a node and asks of it, as JSON. The guard stands before it (ingress/admin-route.ts), and a verb
// takes a body of type application/json, which no page of another site can send unasked; a route more is one line in the table below.
//
// Invariants
//   J1. Payload (states, messages, replies) is given only to whom asks for it: `?state=1`, `?payload=1`.
//   J2. Every list is a page with `next`, which is null after the last; a token of another list, or of none, is 400.
//   J3. A verb selects by names, by a filter, or by the word "all"; what it does is in the log, with who asked.

import type { TreeNode } from "../../supervisors/tree.ts";
import { CONVERSATION_STATES } from "../codec/open-codec.ts";
import { NAME_PATTERN } from "../domain/ids.ts";
import { LANE_STATES } from "../domain/lane.ts";
import type { AdminAnswer, AdminRequest, AdminRoute } from "../ingress/admin-route.ts";
import type { Problem } from "../ingress/problem.ts";
import type { Readiness } from "../ingress/server.ts";
import type { Counters } from "../metrics.ts";
import type { StoreFacts } from "../store/shard-store.ts";
import { detailJson, haltedJson, laneJson, letterJson, shardJson, viewJson } from "./admin-json.ts";
import type { ConversationView, Inspector, MemoryState, ShardView } from "./inspector.ts";
import { isProblem, parseExpressions, parseRedrive, parseResolve, parseResolveLanes } from "./operation-request.ts";
import type { HaltVerb, LaneVerb, Operator } from "./operator.ts";
import {
  deadLetterName,
  laneToken,
  memoryToken,
  openToken,
  readDeadLetterPlace,
  readLaneToken,
  readMemoryToken,
  readOpenToken,
  readStoredToken,
  storedToken,
} from "./places.ts";
import type { Condition, Where, WhereSubject } from "./where.ts";

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
  /** @throws StoreNotReadyError as `inspector` */
  readonly operator: () => Operator;
}

export function adminRoutes(sources: AdminSources): readonly AdminRoute[] {
  const { inspector, operator } = sources;
  return [
    { method: "GET", path: "/admin/stats", answer: () => stats(sources) },
    { method: "GET", path: "/admin/tree", answer: async () => ({ json: sources.tree() }) },
    { method: "GET", path: "/admin/conversations", answer: (request) => conversations(inspector(), request) },
    { method: "GET", path: CONVERSATION_PATH, answer: (request) => conversation(inspector(), request) },
    { method: "GET", path: "/admin/lanes", answer: (request) => lanes(inspector(), request) },
    { method: "GET", path: "/admin/dead-letters", answer: (request) => deadLetters(inspector(), request) },
    { method: "POST", path: "/admin/conversations/retry", answer: (request) => resolve("retry", operator(), request) },
    { method: "POST", path: "/admin/conversations/skip", answer: (request) => resolve("skip", operator(), request) },
    { method: "POST", path: "/admin/lanes/retry", answer: (request) => resolveLanes("retry", operator(), request) },
    { method: "POST", path: "/admin/lanes/skip", answer: (request) => resolveLanes("skip", operator(), request) },
    { method: "POST", path: "/admin/dead-letters/redrive", answer: (request) => redrive(operator(), request) },
  ];
}

const CONVERSATION_PATH = "/admin/conversations/:bot/:channel/:conversation";
const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 200;
const LANE_MEMORY_STATES = ["lane-retrying", "lane-halted", "lane-closed"] as const;
const LISTED_STATES: readonly MemoryState[] = [...CONVERSATION_STATES, ...LANE_MEMORY_STATES];
/** Where conversations are looked for. */
const PLACES = ["index", "memory", "stored"] as const;
type Place = (typeof PLACES)[number];

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
      open: summed(inMemory.flatMap(({ open }) => open ?? [])),
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

async function conversations(inspector: Inspector, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = readLimit(query.limit);
  if (limit === null) return { problem: BAD_LIMIT };
  const asked = readList(query);
  if (isProblem(asked)) return { problem: asked };
  const page = await readPage(inspector, asked, limit, query.after);
  if (page === null) return { problem: BAD_AFTER };
  return { json: { conversations: page.items.map(viewJson), next: page.next } };
}

interface TextPage {
  readonly items: readonly ConversationView[];
  readonly next: string | null;
}

/** Null for a token that is not of this list (J2). */
async function readPage(
  inspector: Inspector,
  { from, state, where }: AskedList,
  limit: number,
  after: unknown,
): Promise<TextPage | null> {
  const read = <At>(readToken: (token: string) => At | null): At | undefined | null => {
    if (after === undefined) return undefined;
    return typeof after === "string" ? readToken(after) : null;
  };
  const paged = <At>(
    { items, next }: { readonly items: readonly ConversationView[]; readonly next: At | null },
    token: (at: At) => string,
  ): TextPage => ({ items, next: next === null ? null : token(next) });
  switch (from) {
    case "index": {
      const at = read(readOpenToken);
      return at === null ? null : paged(await inspector.open(withState(where, state), limit, at), openToken);
    }
    case "memory": {
      const at = read(readMemoryToken);
      return at === null ? null : paged(inspector.inMemory(state, where, limit, at), memoryToken);
    }
    case "stored": {
      const at = read(readStoredToken);
      return at === null ? null : paged(await inspector.stored(where, limit, at), storedToken);
    }
  }
}

async function conversation(inspector: Inspector, { params, query }: AdminRequest): Promise<AdminAnswer> {
  const { bot = "", channel = "", conversation: name = "" } = params;
  const state = readSwitch(query.state);
  if (state === null) return { problem: badSwitch("state") };
  const payload = readSwitch(query.payload);
  if (payload === null) return { problem: badSwitch("payload") };
  const detail = await inspector.conversation({ bot, channel, conversation: name });
  if (detail === null) return { problem: { status: 404, detail: "nothing is known of this conversation" } };
  return { json: detailJson(detail, { state, payload }) };
}

async function lanes(inspector: Inspector, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = readLimit(query.limit);
  if (limit === null) return { problem: BAD_LIMIT };
  const state = LANE_STATES.find((each) => each === query.state);
  if (query.state !== undefined && state === undefined) return { problem: BAD_LANE_STATE };
  const where = readNamed(query, "lanes");
  if (isProblem(where)) return { problem: where };
  const after = query.after === undefined ? undefined : readLaneToken(String(query.after));
  if (after === null) return { problem: BAD_AFTER };
  const page = await inspector.lanes(where, limit, after, state);
  return {
    json: {
      lanes: page.items.map(laneJson),
      counts: inspector.laneCounts(),
      next: page.next === null ? null : laneToken(page.next),
    },
  };
}

async function deadLetters(inspector: Inspector, { query }: AdminRequest): Promise<AdminAnswer> {
  const limit = readLimit(query.limit);
  if (limit === null) return { problem: BAD_LIMIT };
  const payload = readSwitch(query.payload);
  if (payload === null) return { problem: badSwitch("payload") };
  const after = query.after === undefined ? undefined : readDeadLetterPlace(String(query.after));
  if (after === null) return { problem: BAD_PLACE };
  const where = readWhere(query.where, "dead letters");
  if (isProblem(where)) return { problem: where };
  const { items, next } = await inspector.deadLetters(where, limit, after);
  return {
    json: {
      deadLetters: items.map((letter) => letterJson(letter, { payload })),
      next: next === null ? null : deadLetterName(next),
    },
  };
}

/** J3 */
async function resolve(verb: HaltVerb, operator: Operator, { body, by }: AdminRequest): Promise<AdminAnswer> {
  const parsed = parseResolve(body);
  if (parsed.kind === "problem") return { problem: parsed.problem };
  const { operation } = parsed;
  const { done, refused, next } = await operator.resolve({ ...operation, verb, by });
  return {
    json: {
      verb,
      dryRun: operation.dryRun,
      count: done.length,
      conversations: done.map(haltedJson),
      refused: refused.map(({ target, why }) => ({ ...target, why })),
      next: next === null ? null : openToken(next),
    },
  };
}

/** J3 */
async function resolveLanes(verb: LaneVerb, operator: Operator, { body, by }: AdminRequest): Promise<AdminAnswer> {
  const parsed = parseResolveLanes(body);
  if (parsed.kind === "problem") return { problem: parsed.problem };
  const { operation } = parsed;
  const { done, refused, next } = await operator.resolveLanes({ ...operation, verb, by });
  return {
    json: {
      verb,
      dryRun: operation.dryRun,
      count: done.length,
      lanes: done.map(laneJson),
      refused: refused.map(({ target, why }) => ({ ...target, why })),
      next: next === null ? null : laneToken(next),
    },
  };
}

/** J3 */
async function redrive(operator: Operator, { body, by }: AdminRequest): Promise<AdminAnswer> {
  const parsed = parseRedrive(body);
  if (parsed.kind === "problem") return { problem: parsed.problem };
  const { operation } = parsed;
  const { done, refused, next } = await operator.redrive({ ...operation, by });
  return {
    json: {
      verb: "redrive",
      dryRun: operation.dryRun,
      count: done.length,
      deadLetters: done.map((letter) => letterJson(letter, { payload: false })),
      refused: refused.map(({ target, why }) => ({ position: deadLetterName(target), why })),
      next: next === null ? null : deadLetterName(next),
    },
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

const BAD_LANE_STATE: Problem = {
  status: 400,
  field: "state",
  detail: `state must be one of ${LANE_STATES.join(", ")}`,
};

const badFrom = (detail: string): Problem => ({ status: 400, field: "from", detail });

interface AskedList {
  readonly from: Place;
  readonly state: MemoryState | undefined;
  readonly where: Where;
}

function readList(query: AdminRequest["query"]): AskedList | Problem {
  const { state, from } = query;
  const known = LISTED_STATES.find((each) => each === state);
  if (state !== undefined && known === undefined) return BAD_STATE;
  const where = readNamed(query, "conversations");
  if (isProblem(where)) return where;
  const place = PLACES.find((each) => each === (from ?? usualPlace(known, query.where !== undefined)));
  if (place === undefined) return badFrom(`from must be one of ${PLACES.join(", ")}`);
  const asked: AskedList = { from: place, state: known, where };
  return problemOfPlace(asked) ?? asked;
}

/** Of `bot`, `channel` and `where`: all must hold. */
function readNamed(
  { bot, channel, where }: AdminRequest["query"],
  subject: "conversations" | "lanes",
): Where | Problem {
  const named: Condition[] = [];
  for (const [field, value] of Object.entries({ bot, channel })) {
    if (value === undefined) continue;
    if (typeof value !== "string" || !NAME_PATTERN.test(value))
      return { status: 400, field, detail: `${field} must be a name of lower case letters, digits and "-"` };
    named.push({ kind: "text", field, operator: "=", value });
  }
  const filter = readWhere(where, subject);
  return isProblem(filter) ? filter : [...named, ...filter];
}

function usualPlace(state: MemoryState | undefined, isFiltered: boolean): Place {
  if (state === "idle" || state?.startsWith("lane-")) return "memory";
  return state === undefined && !isFiltered ? "stored" : "index";
}

/** What a place does not know cannot be asked of it: it would answer that there is none. */
function problemOfPlace({ from, state, where }: AskedList): Problem | undefined {
  if (from === "index" && (state === "idle" || state?.startsWith("lane-")))
    return badFrom("the index of the unfinished has no idle conversations and no lanes: ask with from=memory");
  if (from !== "stored") return undefined;
  const isName = ({ field }: Condition): boolean => ["bot", "channel", "conversation"].includes(field);
  if (state === undefined && where.every(isName)) return undefined;
  return badFrom("of what is stored only bot, channel and conversation are known here: ask with from=index");
}

function withState(where: Where, state: MemoryState | undefined): Where {
  return state === undefined ? where : [...where, { kind: "text", field: "state", operator: "=", value: state }];
}

/** A parameter that came twice is a list, and all of them must hold. */
function readWhere(value: unknown, subject: WhereSubject): Where | Problem {
  if (value === undefined) return [];
  const expressions = Array.isArray(value) ? value.map(String) : [String(value)];
  const parsed = parseExpressions(expressions, subject);
  return isProblem(parsed) ? { ...parsed, status: 400 } : parsed;
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

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

function summed(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const each of counts) for (const [name, count] of Object.entries(each)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
}

const countsOf = (counters: Counters): Record<string, number> =>
  Object.fromEntries(
    Object.entries(counters).filter((entry): entry is [string, number] => typeof entry[1] === "number"),
  );
