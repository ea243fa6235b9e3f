// H6: a key that holds a foreign type makes a script fail before its first write. Lua does not roll back, so a failure in the
// middle would leave half a commit.

import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ConversationKey } from "../../src/domain/ids.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { metaKey, type ShardKeys, shardKeys } from "../../src/store/keys.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import type { Commit } from "../../src/store/shard-store.ts";
import { RedisServer } from "../support/redis-server.ts";
import { bytes, emptyCommit, key, LEASE_MS, write } from "./conformance.ts";
import { aside as asideOf } from "./conformance-aside.ts";

const NS = "foreign";
const CORRUPT = { code: "ERR_STORE_CORRUPT", retryable: false };

let server: RedisServer;
let raw: Redis;
let store: RedisStore;
let shard = 0;

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "no" });
  raw = new Redis({ path: server.path });
  store = new RedisStore({ environment: systemEnvironment, address: { path: server.path }, namespace: NS });
});
afterAll(async () => {
  await store.close();
  raw.disconnect();
  await server.remove();
});
beforeEach(() => {
  shard += 1;
});

/** A value of each type but `not`, to stand where it does not belong. */
async function plant(at: string, not: string): Promise<string[]> {
  const types = ["string", "hash", "list", "set", "zset", "stream"].filter((type) => type !== not);
  const type = types[shard % types.length]!;
  await raw.del(at);
  if (type === "string") await raw.set(at, "foreign");
  if (type === "hash") await raw.hset(at, "f", "v");
  if (type === "list") await raw.rpush(at, "v");
  if (type === "set") await raw.sadd(at, "v");
  if (type === "zset") await raw.zadd(at, 1, "v");
  if (type === "stream") await raw.xadd(at, "*", "f", "v");
  return types;
}

async function dump(): Promise<string> {
  const keys = (await raw.keys("*")).sort();
  return (await Promise.all(keys.map(async (name) => `${name} ${(await raw.dumpBuffer(name))?.toString("hex")}`))).join(
    "\n",
  );
}

async function failsWithoutAWrite(call: () => Promise<unknown>): Promise<void> {
  const before = await dump();
  await expect(call()).rejects.toMatchObject(CORRUPT);
  expect(await dump()).toBe(before);
}

const aside = (parts: Parameters<typeof asideOf>[1]) => asideOf("c", parts);

/** Touches every key that a commit can touch. */
async function fullCommit(): Promise<Commit> {
  const s = store.shard(shard);
  await s.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS });
  const appended = await s.append(bytes("batch"), 1_000);
  const first = await s.commit({ ...emptyCommit(1, 1), outbox: bytes("replies") });
  if (appended.kind !== "appended" || first.kind !== "applied") throw new Error("unexpected");
  const ids = { kind: "append", bytes: bytes("ids") } as const;
  const names = Array.from({ length: 50 }, (_, i) => `c${i}`);
  return {
    ...emptyCommit(1, 2),
    conversations: names.map((name) =>
      write(name, `record of ${name}`, {
        ids,
        idsTtlMs: 1_000,
        transcript: [bytes("l")],
        aside: {
          waiting: [{ id: 1, bytes: bytes("m") }],
          waitingDone: [2],
          open: bytes("open"),
          timers: [{ name: "t", generation: 1, atMs: 5 }],
          full: true,
        },
      }),
    ),
    outbox: bytes("more replies"),
    inboxDone: [appended.id],
    inboxDoneBytes: 5,
    outboxDone: [first.outboxId!],
    acks: [{ entry: { ms: 1, seq: 1 }, done: Uint8Array.of(1) }],
    lanes: [
      { key: key("c1"), state: bytes("state") },
      { key: key("c2"), state: null },
    ],
    laneLists: names.map((name) => ({ key: key(name), joining: [{ id: 1, bytes: bytes("r") }], leaving: [2] })),
    dead: [bytes("letter")],
    deadDone: [{ ms: 1, seq: 1 }],
    inboxAdd: bytes("sent"),
    headsThrough: true,
  };
}

const places: readonly (readonly [name: string, type: string, at: (keys: ShardKeys) => string])[] = [
  ["owner", "hash", (k) => k.owner],
  ["inbox", "stream", (k) => k.inbox],
  ["outbox", "stream", (k) => k.outbox],
  ["acks", "hash", (k) => k.acks],
  ["lanes", "hash", (k) => k.lanes],
  ["dead letters", "stream", (k) => k.dead],
  ["first ids", "string", (k) => k.ids(key("c0"))],
  ["last ids", "string", (k) => k.ids(key("c49"))],
  ["first transcript", "stream", (k) => k.transcript(key("c0"))],
  ["last transcript", "stream", (k) => k.transcript(key("c49"))],
  ["open", "hash", (k) => k.open],
  ["full", "set", (k) => k.full],
  ["timers", "zset", (k) => k.timers],
  ["first waiting list", "stream", (k) => k.waiting(key("c0"))],
  ["last waiting list", "stream", (k) => k.waiting(key("c49"))],
  ["first list of a lane", "stream", (k) => k.laneList(key("c0"))],
  ["last list of a lane", "stream", (k) => k.laneList(key("c49"))],
];

describe.each(places)("a foreign type in place of the %s", (_, type, at) => {
  test.each([1, 2, 3, 4, 5])("fails the commit before any write (%d)", async () => {
    const commit = await fullCommit();
    await plant(at(shardKeys(NS, shard)), type);
    await failsWithoutAWrite(() => store.shard(shard).commit(commit));
  });
});

test("a commit that touches everything goes through without one", async () => {
  expect(await store.shard(shard).commit(await fullCommit())).toMatchObject({ kind: "applied", n: 2 });
});

test("a record of a foreign type is written over, whole", async () => {
  const commit = await fullCommit();
  const at = shardKeys(NS, shard).record(key("c3"));
  await plant(at, "string");
  expect(await store.shard(shard).commit(commit)).toMatchObject({ kind: "applied" });
  expect(await raw.get(at)).toBe("record of c3");
});

const typeOf = { inbox: "stream", outbox: "stream", owner: "hash", full: "set", from: "hash", timers: "zset" } as const;

/** That a commit removes from only, or adds to only, is looked at before its first write as well. */
const halves: readonly (readonly [
  name: string,
  at: (keys: ShardKeys) => string,
  type: string,
  parts: Partial<Commit>,
])[] = [
  [
    "waiting",
    (k) => k.waiting(key("c")),
    "stream",
    { conversations: [aside({ waiting: [{ id: 1, bytes: bytes("m") }] })] },
  ],
  ["waitingDone", (k) => k.waiting(key("c")), "stream", { conversations: [aside({ waitingDone: [1] })] }],
  [
    "joining a lane's list",
    (k) => k.laneList(key("c")),
    "stream",
    { laneLists: [{ key: key("c"), joining: [{ id: 1, bytes: bytes("r") }], leaving: [] }] },
  ],
  [
    "leaving a lane's list",
    (k) => k.laneList(key("c")),
    "stream",
    { laneLists: [{ key: key("c"), joining: [], leaving: [1] }] },
  ],
  ["open", (k) => k.open, "hash", { conversations: [aside({ open: null })] }],
  ["full", (k) => k.full, "set", { conversations: [aside({ full: false })] }],
  [
    "timers",
    (k) => k.timers,
    "zset",
    { conversations: [aside({ timers: [{ name: "t", generation: 1, atMs: null }] })] },
  ],
  ["deadDone", (k) => k.dead, "stream", { deadDone: [{ ms: 1, seq: 1 }] }],
  ["inboxAdd", (k) => k.inbox, "stream", { inboxAdd: bytes("sent") }],
];

test.each(halves)("a commit with nothing but %s fails before any write", async (_, at, type, parts) => {
  await store.shard(shard).acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS });
  await plant(at(shardKeys(NS, shard)), type);
  await failsWithoutAWrite(() => store.shard(shard).commit({ ...emptyCommit(1, 1), ...parts }));
});

test("ids that lists gave out fail a commit before any write, whichever of its lists it is", async () => {
  const s = store.shard(shard);
  const commit = await fullCommit();
  expect(await s.commit(commit)).toMatchObject({ kind: "applied", n: 2 });
  const names = commit.conversations.map(({ key: each }) => each);
  const joinOf = (each: ConversationKey, id: number) => ({
    key: each,
    joining: [{ id, bytes: bytes("again") }],
    leaving: [],
  });
  for (const bad of [names[0]!, names[25]!, names[49]!]) {
    const laneLists = names.map((each) => joinOf(each, each === bad ? 1 : 2));
    await failsWithoutAWrite(() => s.commit({ ...commit, n: 3, conversations: [], laneLists }));
  }
  const laneLists = names.map((each) => joinOf(each, 2));
  expect(await s.commit({ ...commit, n: 3, conversations: [], laneLists })).toMatchObject({ kind: "applied" });
});

test.each(["inbox", "owner", "full", "from"] as const)("append fails before any write: %s", async (name) => {
  await plant(shardKeys(NS, shard)[name], typeOf[name]);
  const options = { conversations: [key("c")], from: { shard: 3, place: { ms: 1, seq: 1 } } };
  await failsWithoutAWrite(() => store.shard(shard).append(bytes("x"), 100, options));
});

test.each(["inbox", "owner", "timers"] as const)("move-timers fails before any write: %s", async (name) => {
  const s = store.shard(shard);
  const timer = { name: "t", generation: 1 };
  await s.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS });
  await s.commit({ ...emptyCommit(1, 1), conversations: [aside({ timers: [{ ...timer, atMs: 5 }] })] });
  await plant(shardKeys(NS, shard)[name], typeOf[name]);
  await failsWithoutAWrite(() =>
    s.moveTimers({ epoch: 1, timers: [{ ...timer, key: key("c") }], entry: bytes("due") }),
  );
});

test.each(["inbox", "outbox", "owner"] as const)("acquire fails before any write: %s", async (name) => {
  await plant(shardKeys(NS, shard)[name], typeOf[name]);
  await failsWithoutAWrite(() => store.shard(shard).acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS }));
});

test("renew and release fail before any write", async () => {
  await plant(shardKeys(NS, shard).owner, "hash");
  await failsWithoutAWrite(() => store.shard(shard).renew({ epoch: 1, leaseMs: LEASE_MS }));
  await failsWithoutAWrite(() => store.shard(shard).release({ epoch: 1, clean: true }));
});

test("a meta hash that lacks its hash key is not given a new one", async () => {
  await raw.hset(metaKey(NS), "shards", 4);
  await failsWithoutAWrite(() => store.openNamespace({ shards: 4, hashKey: new Uint8Array(8) }));
  await raw.del(metaKey(NS));
});
