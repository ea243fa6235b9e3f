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
import { addOpen, HALTED, idOf } from "../support/unfinished.ts";
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
  operator: () => node.ownership.operations,
};

// biome-ignore lint/suspicious/noExplicitAny: JSON that the tests pick apart
type Json = Record<string, any>;

interface Asked {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: unknown;
}

const get = (path: string, from: AdminSources = sources) => ask({ method: "GET", path, body: undefined }, from);
const post = (path: string, body: unknown, from: AdminSources = sources) => ask({ method: "POST", path, body }, from);

async function ask({ method, path, body }: Asked, from: AdminSources): Promise<{ status: number; json: Json }> {
  const url = new URL(path, "http://x");
  const segments = url.pathname.split("/");
  for (const route of adminRoutes(from)) {
    if (route.method !== method) continue;
    const wanted = route.path.split("/");
    const isIt = wanted.length === segments.length && wanted.every((w, i) => w.startsWith(":") || w === segments[i]);
    if (!isIt) continue;
    const named = wanted.map((w, i) => [w.slice(1), decodeURIComponent(segments[i]!)] as const);
    const params = Object.fromEntries(named.filter((_, i) => wanted[i]!.startsWith(":")));
    const names = new Set(url.searchParams.keys());
    const query = Object.fromEntries(
      Array.from(names, (name) => {
        const values = url.searchParams.getAll(name);
        return [name, values.length === 1 ? values[0] : values];
      }),
    );
    const answer: AdminAnswer = await route.answer({ params, query, body, by: "127.0.0.1" });
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

/** Takes what a test wrote out of the index. */
function forget(names: RegExp): void {
  for (const shard of [0, 1]) {
    const { open } = data.shard(shard);
    for (const key of [...open.keys()]) if (names.test(key)) open.delete(key);
  }
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
      conversations: { idle: 34, active: 2, held: 0, halted: 0, quarantined: 1 },
      open: { active: 1, held: 0, halted: 0, quarantined: 0 }, // "fails"; that "slow" runs is not stored
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
    expect([...new Set(names(listed))]).toEqual(
      [...NAMES, "a/b ö", "gone", "refused", "later", "fails", "rotten"].sort(),
    );
    expect(listed.find(({ conversation }) => conversation === "c1")).toEqual({
      bot: "demo",
      channel: "test",
      conversation: "c1",
      shard: expect.stringMatching(/^shard-0[01]$/),
      state: "idle",
      since: null,
      why: "",
      halt: null,
      attempts: 0,
      waiting: 0,
      waitingBytes: 0,
      suspect: null,
      resident: true,
      mailboxDepth: 0,
      undelivered: { replies: 0, bytes: 0 },
      lane: null,
    });
    expect((await get("/admin/conversations?limit=4")).json.conversations).toHaveLength(4);
  });

  test.each([
    ["from=memory&state=active", ["fails", "slow"]],
    ["from=memory&state=active&where=attempts>0", ["fails"]],
    ["from=memory&state=quarantined", ["rotten"]],
    ["from=memory&state=held", []],
    ["from=memory&where=state!=idle,conversation~t", ["rotten"]],
    ["state=lane-retrying", ["later"]],
    ["state=lane-halted", ["refused"]],
    ["state=lane-closed", ["gone"]],
  ])("%s lists those in memory", async (query, expected) => {
    const listed = await all(`/admin/conversations?limit=50&${query}`, "conversations");
    expect(names(listed)).toEqual(expected);
  });

  test("what is unfinished comes from the index of all shards, by state and filter, page by page", async () => {
    for (let i = 0; i < 20; i += 1)
      addOpen(data, 2, idOf(`open${i}`), {
        ...HALTED,
        halt: `h${i}`,
        attempts: i,
        ...(i % 2 === 0 && { waiting: 200 }),
      });
    const { halt: _, reason: __, ...held } = HALTED;
    addOpen(data, 2, idOf("held"), { ...held, state: "held" });
    try {
      const halted = await all("/admin/conversations?limit=3&state=halted", "conversations");
      expect(names(halted)).toEqual(Array.from({ length: 20 }, (_, i) => `open${i}`).sort());
      expect(halted.find(({ conversation }) => conversation === "open4")).toMatchObject({
        state: "halted",
        since: new Date(HALTED.sinceMs).toISOString(),
        why: HALTED.why,
        halt: { reason: "poison", name: "h4" },
        attempts: 4,
        waiting: 200,
        resident: false,
        mailboxDepth: 0,
      });
      expect(names(await all("/admin/conversations?limit=9&from=index", "conversations"))).toHaveLength(22); // and "fails"
      const filtered = "/admin/conversations?limit=9&bot=demo&where=attempts>=15&where=waiting>100,reason=poison";
      expect(names(await all(filtered, "conversations"))).toEqual(["open16", "open18"]);
      expect((await get("/admin/conversations/demo/test/open3")).json).toMatchObject({
        state: "halted",
        halt: { name: "h3" },
        record: null,
        turn: null,
      });
      const unreadable = conversationKey(idOf("unreadable"));
      data.shard(shardOf(unreadable, 2)).open.set(unreadable, Uint8Array.of(5));
      const found = await all("/admin/conversations?limit=9&from=index&where=conversation=unreadable", "conversations");
      expect(found).toMatchObject([{ state: null, why: expect.stringContaining("cannot be read") }]);
    } finally {
      forget(/open|held|unreadable/);
    }
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
    ["state=halted&after=sMTI", "after"],
    ["state=halted&after=mYQ", "after"],
    ["state=halted&after=iMTI", "after"],
    ["where=stat=halted", "where"],
    ["where=", "where"],
    ["from=disk", "from"],
    ["from=index&state=idle", "from"],
    ["from=index&state=lane-halted", "from"],
    ["from=stored&state=halted", "from"],
    ["from=stored&where=attempts>1", "from"],
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
      lane: {
        state: "retrying",
        outSeq: 1,
        attempts: 1,
        reason: "503",
        why: "503, 1 attempt",
        head: { name: expect.stringMatching(/^[\da-z]+-[\da-z]+-0\.1$/), part: null },
        waiting: 1,
      },
    });
    expect(Date.parse(later.lane.nextAt) - Date.parse(later.lane.firstFailedAt)).toBeGreaterThanOrEqual(3_600_000);
    const refused = (await get("/admin/conversations/demo/test/refused")).json;
    expect(refused).toMatchObject({ undelivered: { replies: 2 }, lane: { state: "halted", outSeq: 1, nextAt: null } });
  });

  test("one whose turn fails, or whose record cannot be read, is shown all the same", async () => {
    const fails = (await get("/admin/conversations/demo/test/fails")).json;
    expect(fails).toMatchObject({
      state: "active",
      since: expect.any(String),
      why: expect.stringContaining("failed"),
      resident: true,
      turn: { error: expect.stringContaining("Error"), deaths: 0, steps: [] },
      record: { seq: 0 },
    });
    expect(fails.turn.attempts).toBe(fails.attempts);
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
      state: "idle",
      resident: false,
      record: { seq: 1 },
      lane: { state: "retrying" },
    });
    const { json } = await get("/admin/stats", from);
    expect(json.shards[0]).toMatchObject({ state: "standby", owner: "n1", lanes: null, epoch: 1 });
    other.dispose();
  });
});

describe("GET /admin/lanes", () => {
  test("lists those that do not flow, with what each waits for, and counts those in memory", async () => {
    const { status, json } = await get("/admin/lanes?limit=200");
    expect(status).toBe(200);
    expect(json.next).toBeNull();
    expect(json.counts).toMatchObject({ retrying: 1, halted: 1, closed: 1, flowing: expect.any(Number) });
    const lanes = new Map<string, Json>(json.lanes.map((lane: Json) => [lane.conversation, lane]));
    expect([...lanes.keys()].sort()).toEqual(["gone", "later", "refused"]);
    const later = lanes.get("later")!;
    expect(later).toEqual({
      bot: "demo",
      channel: "test",
      conversation: "later",
      shard: expect.stringMatching(/^shard-0[01]$/),
      state: "retrying",
      reason: null,
      why: "503, 1 attempt",
      since: expect.any(String),
      nextAt: expect.any(String),
      attempts: 1,
      error: "503",
      head: { name: `${later.head.born}.1`, born: expect.any(String), outSeq: 1, part: null },
      waiting: 1,
      waitingBytes: `${SECRET_TEXT} hello`.length,
      account: null,
    });
    expect(Date.parse(later.nextAt) - Date.parse(later.since)).toBeGreaterThanOrEqual(3_600_000);
    expect(lanes.get("refused")).toMatchObject({ state: "halted", waiting: 2, nextAt: null, error: "400" });
    expect(lanes.get("gone")).toMatchObject({ state: "closed", reason: "gone", waiting: 0 });
  });

  test.each([
    ["state=halted", ["refused"]],
    ["state=flowing", []],
    ["where=state!=closed,waiting>1", ["refused"]],
    ["where=reason=gone", ["gone"]],
    ["where=error~503&where=since<1h", ["later"]],
    ["bot=demo&channel=test&state=retrying", ["later"]],
    ["bot=other", []],
  ])("%s narrows the list", async (query, expected) => {
    const listed = await all(`/admin/lanes?limit=1&${query}`, "lanes");
    expect(listed.map(({ conversation }) => conversation)).toEqual(expected);
  });

  test("a node that stands by lists the same, but for what only memory knows", async () => {
    const other = new TestNode({ environment, data, node: "n2", bot, channel, config: { shards: 2 } });
    await environment.until(() => other.notReady?.startsWith("standing by") ?? false, 5_000, "standby");
    const { json } = await get("/admin/lanes", { ...sources, inspector: () => other.ownership.inspection });
    expect(json.counts).toBeNull();
    const states = json.lanes.map(({ conversation, state, waiting }: Json) => [conversation, state, waiting]);
    expect(states.sort()).toEqual([
      ["gone", "closed", 0],
      ["later", "retrying", 0],
      ["refused", "halted", 0],
    ]);
    other.dispose();
  });

  test.each([
    ["limit=0", "limit"],
    ["state=lane-halted", "state"],
    ["state=held", "state"],
    ["bot=A*", "bot"],
    ["channel=", "channel"],
    ["after=x", "after"],
    ["after=iMDow", "after"],
    ["where=reason=poison", "where"],
    ["where=halt=gone", "where"],
    ["where=", "where"],
  ])("%s is 400 and names the field", async (query, field) => {
    expect(await get(`/admin/lanes?${query}`)).toMatchObject({ status: 400, json: { field } });
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
      id: null,
      messagePosition: null,
      botVersion: null,
      born: expect.any(String),
      outSeq: 1,
      part: null,
      parts: null,
      expiresAt: null,
      reason: "gone",
      attempts: 1,
      error: "410",
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

describe("verbs", () => {
  const RETRY = "/admin/conversations/retry";

  test("J3: ask all that are meant, page by page, and answer with counts and where to go on", async () => {
    for (let i = 0; i < 12; i += 1) addOpen(data, 2, idOf(`open${i}`), { ...HALTED, halt: `h${i}` });
    try {
      const found: Json[] = [];
      for (let after: string | undefined; ; ) {
        const { status, json } = await post(RETRY, { where: "reason=poison", limit: 5, dryRun: true, after });
        expect(status).toBe(200);
        expect(json).toMatchObject({ verb: "retry", dryRun: true, count: json.conversations.length, refused: [] });
        found.push(...json.conversations);
        if (json.next === null) break;
        after = json.next;
      }
      expect(found).toHaveLength(12);
      expect(found[0]).toMatchObject({
        bot: "demo",
        channel: "test",
        halt: expect.stringMatching(/^h\d+$/),
        waiting: 3,
      });
      const named = await post("/admin/conversations/skip", {
        targets: [idOf("open1"), idOf("nobody")],
        dryRun: true,
      });
      expect(named.json).toMatchObject({
        count: 1,
        refused: [{ conversation: "nobody", why: expect.stringContaining("not halted") }],
      });
      expect((await post(RETRY, { all: true, dryRun: true })).json.count).toBe(12);
    } finally {
      forget(/open|held|unreadable/);
    }
  });

  test("redrive says of each dead letter what becomes of it, and shows no payload", async () => {
    const all = (await post("/admin/dead-letters/redrive", { all: true, dryRun: true })).json;
    expect(all).toMatchObject({ verb: "redrive", count: 5, refused: [], next: null });
    expect(all.deadLetters[0]).toMatchObject({ direction: "out", conversation: "gone", outSeq: 1 });
    const named = (
      await post("/admin/dead-letters/redrive", { targets: [all.deadLetters[0].position, "00:5-0"], dryRun: true })
    ).json;
    expect(named).toMatchObject({
      count: 1,
      refused: [{ position: "00:5-0", why: expect.stringContaining("no such dead letter") }],
    });
  });

  test.each<[string, unknown, string]>([
    ["no body", undefined, ""],
    ["a list", [], ""],
    ["a text", "all", ""],
    ["nothing named", {}, ""],
    ["two ways", { all: true, where: "bot=demo" }, ""],
    ["an unknown member", { all: true, wher: "bot=demo" }, ""],
    ["a filter with a slip", { where: "stat=halted" }, "where"],
    ["an empty filter", { where: "" }, "where"],
    ["no filters", { where: [] }, "where"],
    ["a filter that is none", { where: 5 }, "where"],
    ["all that is not meant", { all: false }, "all"],
    ["no targets", { targets: [] }, "targets"],
    ["too many targets", { targets: Array.from({ length: 201 }, () => idOf("c")) }, "targets"],
    ["a target without a channel", { targets: [{ bot: "demo", conversation: "c" }] }, "targets[0].channel"],
    ["a target of a lone surrogate", { targets: [idOf("\ud800")] }, "targets[0].conversation"],
    ["a limit that is none", { all: true, limit: 501 }, "limit"],
    ["a place that is none", { all: true, after: "s1" }, "after"],
    ["a place with targets", { targets: [idOf("c")], after: "iMDow" }, "after"],
    ["a dry run that is neither", { all: true, dryRun: "yes" }, "dryRun"],
  ])("%s is 422, names the field and says that nothing was done", async (_, body, field) => {
    const { status, json } = await post(RETRY, body);
    expect({ status, field: json.field }).toEqual({ status: 422, field });
    expect(json.detail).toContain("nothing was done");
  });

  test("a dead letter that is none is 422", async () => {
    const { status, json } = await post("/admin/dead-letters/redrive", { targets: ["00:5-0", "5"] });
    expect({ status, field: json.field }).toEqual({ status: 422, field: "targets[1]" });
  });
});

test("J1: nothing but what is asked for by name shows a word of a message, reply or state", async () => {
  const paths = [
    "/admin/stats",
    "/admin/conversations?limit=200",
    "/admin/conversations?limit=200&state=idle",
    "/admin/conversations?limit=200&from=index",
    "/admin/conversations/demo/test/c1",
    "/admin/lanes?limit=200",
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
