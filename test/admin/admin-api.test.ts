// The admin API on a real node over the memory store: what it says is what was done to the node before.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AdminSources, adminRoutes } from "../../src/admin/admin-api.ts";
import type { Channel } from "../../src/channels/channel.ts";
import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import { StoreNotReadyError } from "../../src/errors.ts";
import { defineBot } from "../../src/index.ts";
import type { AdminAnswer } from "../../src/ingress/admin-route.ts";
import { MemoryData } from "../../src/store/memory-store.ts";
import type { TreeNode } from "../../supervisors/tree.ts";
import { TestNode } from "../support/test-node.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const SECRET_TEXT = "canary-77aa";

const bot = defineBot<{ seen: string[] }>({
  name: "demo",
  version: 3,
  initialState: () => ({ seen: [] }),
  onMessage(state, message, ctx) {
    if (message.text === "throw") throw new Error("not today");
    if (message.text === "slow") return new Promise(() => undefined);
    ctx.reply(`${SECRET_TEXT} ${message.text}`);
    return { seen: [...state.seen, message.text] };
  },
});

const encoder = new TextEncoder();
const channel: Channel = {
  name: "test",
  delivery: "lane",
  render: ({ reply }) => encoder.encode(reply.text),
  async send({ to }) {
    if (to.conversation.startsWith("gone")) return { kind: "gone", reason: "410" };
    if (to.conversation.startsWith("refused")) return { kind: "terminal", reason: "400" };
    if (to.conversation.startsWith("later")) return { kind: "retryable", reason: "503", retryAfterMs: 3_600_000 };
    return { kind: "delivered" };
  },
};

const environment = new VirtualEnvironment(11);
const data = new MemoryData();
const node = new TestNode({ environment, data, node: "n1", bot, channel, config: { shards: 2 } });
const ROOT_NODE: TreeNode = {
  id: "root",
  kind: "supervisor",
  strategy: "rest_for_one",
  state: "running",
  restartsLeft: 1,
  lastExit: null,
  mailboxDepth: null,
  children: [],
};

const sources: AdminSources = {
  version: "9.9.9",
  pid: 4711,
  node: () => "n1",
  uptimeMs: () => 1_234.5,
  readiness: () => ({ ready: true }),
  tree: () => ROOT_NODE,
  durability: "always",
  counters: node.counters,
  redis: () => ({ embedded: true, address: "/d/redis.sock", isReady: true, facts: node.ownership.facts }),
  inspector: () => node.ownership.inspection,
};

// biome-ignore lint/suspicious/noExplicitAny: JSON that the tests pick apart
type Json = Record<string, any>;

async function get(path: string, from: AdminSources = sources): Promise<{ status: number; json: Json }> {
  const url = new URL(path, "http://x");
  const segments = url.pathname.split("/");
  for (const route of adminRoutes(from)) {
    const wanted = route.path.split("/");
    const isIt = wanted.length === segments.length && wanted.every((w, i) => w.startsWith(":") || w === segments[i]);
    if (!isIt) continue;
    const named = wanted.map((w, i) => [w.slice(1), decodeURIComponent(segments[i]!)] as const);
    const params = Object.fromEntries(named.filter((_, i) => wanted[i]!.startsWith(":")));
    const answer: AdminAnswer = await route.answer({ params, query: Object.fromEntries(url.searchParams), body: null });
    return "json" in answer
      ? { status: 200, json: JSON.parse(JSON.stringify(answer.json)) }
      : { status: answer.problem.status, json: { ...answer.problem } };
  }
  throw new Error(`no route for ${path}`);
}

/** All pages of a list. */
async function all(path: string, member: string): Promise<Json[]> {
  const items: Json[] = [];
  for (let after = ""; ; ) {
    const { status, json } = await get(`${path}${after === "" ? "" : `&after=${encodeURIComponent(after)}`}`);
    expect(status).toBe(200);
    items.push(...json[member]);
    if (json.next === null) return items;
    after = json.next;
  }
}

let messages = 0;
async function send(conversation: string, text: string): Promise<void> {
  messages += 1;
  const to = { bot: "demo", channel: "test", conversation };
  let outcome = "";
  void node.ownership.admit([{ to, id: `m${messages}`, text }]).then(({ kind }) => {
    outcome = kind;
  });
  await environment.until(() => outcome !== "", 10_000, "admission");
  expect(outcome).toBe("admitted");
}

const NAMES = Array.from({ length: 30 }, (_, i) => `c${i}`);

beforeAll(async () => {
  await node.ready();
  for (const name of NAMES) await send(name, "hello");
  await send("a/b ö", "hello");
  for (let i = 0; i < 5; i += 1) await send("gone", `farewell ${i}`);
  await send("refused", "hello");
  await send("refused", "again");
  await send("later", "hello");
  await send("fails", "throw");
  await send("slow", "slow");
  await environment.pass(500);
  const rotten = conversationKey({ bot: "demo", channel: "test", conversation: "rotten" });
  data.shard(shardOf(rotten, 2)).records.set(rotten, Uint8Array.of(1, 2, 3));
  await send("rotten", "hello");
  await environment.pass(200);
});
afterAll(() => node.dispose());

describe("GET /admin/stats", () => {
  test("says who and how the node is, and sums its shards", async () => {
    const { json } = await get("/admin/stats");
    expect(json).toMatchObject({
      version: "9.9.9",
      node: "n1",
      pid: 4711,
      uptimeMs: 1_235,
      ready: true,
      reason: null,
      durability: "always",
      residents: 37,
      conversations: { idle: 34, waiting: 0, running: 1, failing: 1, crashed: 0, quarantined: 1 },
      uncommitted: 0,
      lanes: { retrying: 1, halted: 1, closed: 1 },
      counters: { admitted: messages, turns: 39, deadLetters: 5 },
      redis: { embedded: true, address: "/d/redis.sock", away: false, version: "7.0.0", role: "master" },
    });
    expect(json.shards.map((shard: Json) => [shard.id, shard.state, shard.owner, shard.epoch])).toEqual([
      ["shard-00", "owned", "n1", 1],
      ["shard-01", "owned", "n1", 1],
    ]);
    const sum = (pick: (shard: Json) => number): number =>
      json.shards.reduce((total: number, shard: Json) => total + pick(shard), 0);
    expect(sum((shard) => shard.deadLetters.count)).toBe(5);
    expect(sum((shard) => shard.commit)).toBe(json.counters.commits);
    expect(sum((shard) => shard.inboxBytes)).toBeGreaterThan(0); // of fails, slow and rotten
    expect(sum((shard) => shard.outboxBytes)).toBe(json.outboxBytes);
  });

  test("answers also before the store is open, and with a reason", async () => {
    const { status, json } = await get("/admin/stats", {
      ...sources,
      node: () => null,
      readiness: () => ({ ready: false, reason: "starting" }),
      redis: () => ({ embedded: true, address: null, isReady: false, facts: null }),
      inspector: () => {
        throw new StoreNotReadyError("not open");
      },
    });
    expect(status).toBe(200);
    expect(json).toMatchObject({ ready: false, reason: "starting", node: null, shards: [], residents: 0 });
    expect(json.redis).toEqual({ embedded: true, address: null, away: true });
  });
});

describe("GET /admin/conversations", () => {
  const names = (items: Json[]): string[] => items.map(({ conversation }) => conversation).sort();

  test("lists what is stored, page by page, each once at least", async () => {
    const listed = await all("/admin/conversations?limit=4", "conversations");
    expect([...new Set(names(listed))]).toEqual([...NAMES, "a/b ö", "gone", "refused", "later", "rotten"].sort());
    expect(listed.find(({ conversation }) => conversation === "c1")).toEqual({
      bot: "demo",
      channel: "test",
      conversation: "c1",
      shard: expect.stringMatching(/^shard-0[01]$/),
      state: "idle",
      mailboxDepth: 0,
      attempts: 0,
      undelivered: { replies: 0, bytes: 0 },
      lane: null,
    });
    expect((await get("/admin/conversations?limit=4")).json.conversations).toHaveLength(4);
  });

  test.each([
    ["running", ["slow"]],
    ["failing", ["fails"]],
    ["quarantined", ["rotten"]],
    ["waiting", []],
    ["lane-retrying", ["later"]],
    ["lane-halted", ["refused"]],
    ["lane-closed", ["gone"]],
  ])("state=%s lists those in it", async (state, expected) => {
    const listed = await all(`/admin/conversations?limit=50&state=${state}`, "conversations");
    expect(names(listed)).toEqual(expected);
  });

  test("a list by state comes in order and page by page, each once", async () => {
    const listed = await all("/admin/conversations?limit=7&state=idle", "conversations");
    const keys = listed.map(({ bot: b, channel: c, conversation }) =>
      conversationKey({ bot: b, channel: c, conversation }),
    );
    expect(keys).toEqual([...keys].sort());
    expect(names(listed)).toEqual(
      [...NAMES, "a/b ö", "gone", "refused"]
        .concat("later")
        .sort()
        .filter((n) => n !== ""),
    );
  });

  test("bot and channel narrow both kinds of list", async () => {
    for (const state of ["", "&state=idle"]) {
      expect(await all(`/admin/conversations?limit=50&bot=other${state}`, "conversations")).toEqual([]);
      expect(await all(`/admin/conversations?limit=50&channel=other${state}`, "conversations")).toEqual([]);
      const own = await all(`/admin/conversations?limit=50&bot=demo&channel=test${state}`, "conversations");
      expect(own.length).toBeGreaterThan(30);
    }
  });

  test.each([
    ["limit=0", "limit"],
    ["limit=201", "limit"],
    ["limit=x", "limit"],
    ["state=busy", "state"],
    ["bot=A*", "bot"],
    ["channel=", "channel"],
    ["after=x", "after"],
    ["after=s", "after"],
    ["after=mYQ", "after"],
    ["after=sYQ", "after"],
    ["state=idle&after=sMTI", "after"],
  ])("%s is 400 and names the field", async (query, field) => {
    expect(await get(`/admin/conversations?${query}`)).toMatchObject({ status: 400, json: { field } });
  });
});

describe("GET /admin/conversations/<bot>/<channel>/<conversation>", () => {
  test("shows the envelope, sizes and lane, and the state only when asked", async () => {
    const path = `/admin/conversations/demo/test/${encodeURIComponent("a/b ö")}`;
    const { json } = await get(path);
    expect(json).toMatchObject({ bot: "demo", channel: "test", conversation: "a/b ö", state: "idle", lane: null });
    expect(json.record).toEqual({
      seq: 1,
      cursor: { entry: expect.stringMatching(/^\d+-\d+$/), index: 0 },
      outSeq: 1,
      born: expect.stringMatching(/^[\da-z]+-[\da-z]+-0$/),
      chain: expect.stringMatching(/^[\da-f]{16}$/),
      botVersion: 3,
      bytes: expect.any(Number),
      stateBytes: JSON.stringify({ seen: ["hello"] }).length,
      idsBytes: 16,
    });
    expect((await get(`${path}?state=1`)).json.record.state).toEqual({ seen: ["hello"] });
    expect((await get(`${path}?state=0`)).json.record).toEqual(json.record);
  });

  test("a lane that does not flow says why, since when and until when", async () => {
    const later = (await get("/admin/conversations/demo/test/later")).json;
    expect(later).toMatchObject({
      undelivered: { replies: 1 },
      lane: { state: "retrying", attempts: 1, reason: "503" },
    });
    expect(Date.parse(later.lane.nextAt) - Date.parse(later.lane.firstFailedAt)).toBeGreaterThanOrEqual(3_600_000);
    const refused = (await get("/admin/conversations/demo/test/refused")).json;
    expect(refused).toMatchObject({ undelivered: { replies: 2 }, lane: { state: "halted", outSeq: 1, nextAt: null } });
  });

  test("one whose turn fails, or whose record cannot be read, is shown all the same", async () => {
    const fails = (await get("/admin/conversations/demo/test/fails")).json;
    expect(fails).toMatchObject({ state: "failing", mailboxDepth: 1, record: null });
    expect(fails.attempts).toBeGreaterThan(1);
    const rotten = (await get("/admin/conversations/demo/test/rotten?state=1")).json;
    expect(rotten).toMatchObject({ state: "quarantined", mailboxDepth: 1, record: { bytes: 3 } });
    expect(rotten.record.problem).toContain("checksum");
  });

  test("what nobody knows is 404, a switch that is none 400", async () => {
    expect((await get("/admin/conversations/demo/test/nobody")).status).toBe(404);
    expect((await get("/admin/conversations/nobot/test/c1")).status).toBe(404);
    expect(await get("/admin/conversations/demo/test/c1?state=yes")).toMatchObject({ status: 400 });
  });

  test("another node that stands by sees what is stored, lane included", async () => {
    const other = new TestNode({ environment, data, node: "n2", bot, channel, config: { shards: 2 } });
    await environment.until(() => other.notReady?.startsWith("standing by") ?? false, 5_000, "standby");
    const from = { ...sources, inspector: () => other.ownership.inspection };
    expect((await get("/admin/conversations/demo/test/later", from)).json).toMatchObject({
      state: "stored",
      record: { seq: 1 },
      lane: { state: "retrying" },
    });
    const { json } = await get("/admin/stats", from);
    expect(json.shards[0]).toMatchObject({ state: "standby", owner: "n1", lanes: null, epoch: 1 });
    other.dispose();
  });
});

describe("GET /admin/dead-letters", () => {
  test("lists them by position, page by page, and payload only when asked", async () => {
    const listed = await all("/admin/dead-letters?limit=2", "deadLetters");
    expect(listed.map(({ outSeq }) => outSeq)).toEqual([1, 2, 3, 4, 5]);
    expect(listed[0]).toEqual({
      position: expect.stringMatching(/^0[01]:\d+-\d+$/),
      shard: expect.stringMatching(/^shard-0[01]$/),
      direction: "out",
      bot: "demo",
      channel: "test",
      conversation: "gone",
      born: expect.any(String),
      outSeq: 1,
      reason: "410",
      attempts: null,
      error: null,
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      bytes: `${SECRET_TEXT} farewell 0`.length,
    });
    const [first] = (await get("/admin/dead-letters?limit=1&payload=1")).json.deadLetters;
    expect(Buffer.from(first.payload, "base64").toString()).toBe(`${SECRET_TEXT} farewell 0`);
    expect(first.bytes).toBe(listed[0]!.bytes);
  });

  test("goes on after a position, over the end of a shard", async () => {
    const [first] = await all("/admin/dead-letters?limit=200", "deadLetters");
    const rest = (await get(`/admin/dead-letters?after=${first!.position}`)).json;
    expect(rest.deadLetters).toHaveLength(4);
    expect(rest.next).toBeNull();
    expect((await get("/admin/dead-letters?after=01:9999999999999-0")).json).toEqual({ deadLetters: [], next: null });
    expect((await get("/admin/dead-letters?after=77:0-0")).json).toEqual({ deadLetters: [], next: null });
  });

  test.each(["after=5", "after=0:1-0", "after=00:x-1", "payload=2", "limit=999"])("%s is 400", async (query) => {
    expect((await get(`/admin/dead-letters?${query}`)).status).toBe(400);
  });
});

test("J1: nothing but what is asked for by name shows a word of a message, reply or state", async () => {
  const paths = [
    "/admin/stats",
    "/admin/conversations?limit=200",
    "/admin/conversations?limit=200&state=idle",
    "/admin/conversations/demo/test/c1",
    "/admin/dead-letters?limit=200",
  ];
  for (const path of paths) {
    const text = JSON.stringify((await get(path)).json);
    expect(text).not.toContain(SECRET_TEXT);
    expect(text).not.toContain(Buffer.from(SECRET_TEXT).toString("base64").slice(0, 10));
    expect(text).not.toContain("hello");
  }
});

test("every duration is measured where it happens", () => {
  const { timings, commits, admitted } = node.counters;
  expect(timings.admission.count).toBe(admitted); // one message a request
  expect(timings.commit.count).toBe(commits);
  expect(timings.admissionToCommit.count).toBe(messages - 3); // all entries but those of fails, slow and rotten
  expect(timings.turn.count).toBeGreaterThan(30);
  expect(timings.delivery.count).toBeGreaterThan(30);
});

test("GET /admin/tree gives the tree as it stands", async () => {
  expect(await get("/admin/tree")).toEqual({ status: 200, json: ROOT_NODE });
});
