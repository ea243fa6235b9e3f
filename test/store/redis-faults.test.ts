// What the Redis store does when Redis, or the way to it, fails. Outcomes must be honest: see the classes in errors.ts.

import { createServer } from "node:net";
import { join } from "node:path";
import { inspect } from "node:util";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ENTRY_ZERO } from "../../src/domain/position.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { ConfigError, StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { shardKeys } from "../../src/store/keys.ts";
import { connectionOptions, type RedisAddress } from "../../src/store/redis-connection.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { RedisProxy } from "../support/redis-proxy.ts";
import { RedisServer } from "../support/redis-server.ts";
import { bytes, emptyCommit, key, write } from "./conformance.ts";
import { aside } from "./conformance-aside.ts";

const NS = "faults";
const TIMEOUT_MS = 600;
const PROMPT_MS = 400;

let server: RedisServer;
let raw: Redis;
const closers: (() => Promise<void>)[] = [];

beforeEach(async () => {
  server = await RedisServer.start();
  raw = new Redis({ path: server.path });
  raw.on("error", () => undefined);
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  raw.disconnect();
  await server.remove();
});

async function openStore(address: RedisAddress = { path: server.path }): Promise<RedisStore> {
  const store = new RedisStore({
    environment: systemEnvironment,
    address,
    namespace: NS,
    commandTimeoutMs: TIMEOUT_MS,
    appendConnections: 1,
  });
  closers.push(() => store.close());
  return store;
}

async function acquired(store: RedisStore): Promise<number> {
  const { epoch } = await store.shard(1).owner();
  const reply = await store.shard(1).acquire({ node: "a", observedEpoch: epoch, leaseMs: 60_000 });
  if (reply.kind !== "acquired") throw new Error(reply.kind);
  return reply.epoch;
}

async function openProxy(): Promise<RedisProxy> {
  const proxy = await RedisProxy.start(join(server.dir, "proxy.sock"), server.path);
  closers.push(() => proxy.close());
  return proxy;
}

const isReady = (store: RedisStore, ready = true): Promise<void> =>
  vi.waitFor(() => expect(store.isReady()).toBe(ready), { timeout: 5_000, interval: 10 });

async function timed<Result>(call: () => Promise<Result>): Promise<number> {
  const startedMs = performance.now();
  await call();
  return performance.now() - startedMs;
}

describe("a lost answer", () => {
  test("L1: a connection cut in mid-command rejects promptly as unknown, and the command ran once", async () => {
    const proxy = await openProxy();
    const store = await openStore({ path: proxy.path });
    await acquired(store);
    expect(await store.shard(1).append(bytes("first"), 1_000)).toMatchObject({ kind: "appended" });
    proxy.mode = "cut";
    const took = await timed(() =>
      expect(store.shard(1).append(bytes("second"), 1_000)).rejects.toBeInstanceOf(StoreUnavailableError),
    );
    expect(took).toBeLessThan(PROMPT_MS);
    const before = proxy.accepted;
    proxy.mode = "pass";
    await isReady(store);
    expect(proxy.accepted).toBeGreaterThan(before); // it did connect again
    expect(await store.shard(1).append(bytes("third"), 1_000)).toMatchObject({ kind: "appended" });
    expect(await raw.xlen(shardKeys(NS, 1).inbox)).toBe(3);
  });

  test("R2: a commit whose answer was lost is applied once, however often its bytes are sent", async () => {
    const proxy = await openProxy();
    const store = await openStore({ path: proxy.path });
    const epoch = await acquired(store);
    await store.shard(1).commit(emptyCommit(epoch, 1));
    const ids = { kind: "append", bytes: bytes("once") } as const;
    const commit = { ...emptyCommit(epoch, 2), conversations: [write("c", "r", { ids })], outbox: bytes("replies") };
    proxy.mode = "cut";
    await expect(store.shard(1).commit(commit)).rejects.toMatchObject({
      code: "ERR_STORE_UNAVAILABLE",
      retryable: true,
    });
    proxy.mode = "pass";
    await isReady(store);
    const reply = await vi.waitFor(() => store.shard(1).commit(commit), { timeout: 5_000, interval: 10 });
    const entries = await store.shard(1).readOutbox({ after: ENTRY_ZERO, count: 10 });
    expect(reply).toEqual({ kind: "applied", n: 2, outboxId: entries[0]?.id });
    expect(entries).toHaveLength(1);
    expect(await raw.get(shardKeys(NS, 1).ids(commit.conversations[0]!.key))).toBe("once");
  });

  test("L2, L3: silence ends at the deadline, takes readiness down, and the command is not sent again", async () => {
    const proxy = await openProxy();
    const store = await openStore({ path: proxy.path });
    await store.shard(1).append(bytes("first"), 1_000);
    await isReady(store);
    proxy.mode = "swallow";
    const took = await timed(() =>
      expect(store.shard(1).append(bytes("second"), 1_000)).rejects.toBeInstanceOf(StoreUnavailableError),
    );
    expect(took).toBeGreaterThan(TIMEOUT_MS - 50);
    expect(took).toBeLessThan(TIMEOUT_MS + PROMPT_MS);
    expect(store.isReady()).toBe(false);
    proxy.mode = "pass";
    await isReady(store);
    expect(await raw.xlen(shardKeys(NS, 1).inbox)).toBe(2);
  });

  test("a handshake whose answers were lost is begun anew, also on the connection that blocks", async () => {
    const proxy = await openProxy();
    const store = await openStore({ path: proxy.path });
    await store.shard(1).append(bytes("a"), 1_000);
    proxy.mode = "swallow";
    const read = (): Promise<unknown[]> => store.shard(1).readInbox({ after: ENTRY_ZERO, count: 1, blockMs: 50 });
    await expect(read()).rejects.toThrow(/nothing was sent/);
    proxy.mode = "pass";
    expect(await vi.waitFor(read, { timeout: 10_000, interval: 50 })).toHaveLength(1);
  });
});

describe("Redis away", () => {
  test("it is a state: calls fail at once, a waiting read ends, and all goes on when Redis is back", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await store.shard(1).append(bytes("a"), 1_000);
    await store.shard(1).commit(emptyCommit(epoch, 1));
    await isReady(store);
    const changes: boolean[] = [];
    store.onReadyChange((ready) => changes.push(ready));
    const entry = (await store.shard(1).readInbox({ after: ENTRY_ZERO, count: 1, blockMs: 0 }))[0]!;
    const waiting = store.shard(1).readInbox({ after: entry.id, count: 1, blockMs: 20_000 });
    const ended = expect(waiting).rejects.toBeInstanceOf(StoreUnavailableError);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server.kill();
    await ended;
    await isReady(store, false);
    const took = await timed(async () => {
      await expect(store.shard(1).commit(emptyCommit(epoch, 2))).rejects.toBeInstanceOf(StoreUnavailableError);
      await expect(store.shard(1).append(bytes("b"), 1_000)).rejects.toThrow(/nothing was sent/);
      await expect(store.shard(1).load([])).resolves.toEqual([]);
    });
    expect(took).toBeLessThan(PROMPT_MS);
    await server.start();
    await isReady(store);
    expect(changes).toEqual([false, true]);
    expect(await store.shard(1).commit(emptyCommit(epoch, 2))).toMatchObject({ kind: "applied", n: 2 }); // NOSCRIPT: loaded again
    const read = (): Promise<unknown> => store.shard(1).readInbox({ after: entry.id, count: 1, blockMs: 10 });
    expect(await vi.waitFor(read, { timeout: 5_000, interval: 10 })).toEqual([]);
  });

  test("a server that hangs is noticed without any call, and answers again when it goes on", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await isReady(store);
    server.pause();
    await isReady(store, false);
    await expect(store.shard(1).owner()).rejects.toBeInstanceOf(StoreUnavailableError);
    server.resume();
    await isReady(store);
    expect((await store.shard(1).owner()).epoch).toBe(epoch);
  });

  test("a store may be made before its server is there", async () => {
    await server.kill();
    const store = await openStore();
    expect(store.isReady()).toBe(false);
    await expect(store.openNamespace({ shards: 1, hashKey: new Uint8Array(8) })).rejects.toBeInstanceOf(
      StoreUnavailableError,
    );
    await server.start();
    await isReady(store);
    expect(await store.openNamespace({ shards: 3, hashKey: new Uint8Array(8) })).toMatchObject({ shards: 3 });
  });

  test("a connection that a shard opens later does not look like an outage", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await isReady(store);
    const changes: boolean[] = [];
    store.onReadyChange((ready) => changes.push(ready));
    await store.shard(1).commit(emptyCommit(epoch, 1));
    await store.shard(1).readInbox({ after: ENTRY_ZERO, count: 1, blockMs: 1 });
    await store.shard(1).close();
    expect(store.isReady()).toBe(true);
    expect(changes).toEqual([]);
  });

  test("after close nothing is sent, and waiting calls have ended", async () => {
    const store = await openStore();
    await acquired(store);
    const waiting = store.shard(1).readInbox({ after: ENTRY_ZERO, count: 1, blockMs: 20_000 });
    await new Promise((resolve) => setTimeout(resolve, 30));
    await store.close();
    expect(await waiting).toEqual([]);
    expect(store.isReady()).toBe(false);
    await expect(store.shard(1).append(bytes("x"), 10)).rejects.toBeInstanceOf(StoreUnavailableError);
    await expect(store.shard(1).commit(emptyCommit(1, 1))).rejects.toBeInstanceOf(StoreUnavailableError);
    expect(await raw.exists(shardKeys(NS, 1).inbox)).toBe(0);
  });
});

describe("Redis refuses", () => {
  test("B15: at maxmemory appends are refused whole, commits go on", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await store.shard(1).append(bytes("a"), 1_000);
    await raw.config("SET", "maxmemory", "1mb");
    await expect(store.shard(1).append(bytes("b"), 1_000)).rejects.toBeInstanceOf(StoreNotReadyError);
    const commit = { ...emptyCommit(epoch, 1), conversations: [write("c", "r")], outbox: bytes("x".repeat(100_000)) };
    expect(await store.shard(1).commit(commit)).toMatchObject({ kind: "applied" });
    expect(await raw.xlen(shardKeys(NS, 1).inbox)).toBe(1);
  });

  test("B15: at maxmemory what has to wait is moved aside, due timers move, and sends of others stay where they are", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await raw.config("SET", "maxmemory", "1mb");
    const shard = store.shard(1);
    const large = bytes("x".repeat(100_000));
    const parts = {
      waiting: [{ id: 1, bytes: large }],
      open: bytes("o"),
      timers: [{ name: "t", generation: 1, atMs: 5 }],
      full: true,
    };
    const laneLists = [{ key: key("c"), joining: [{ id: 1, bytes: large }], leaving: [] }];
    const commit = { ...emptyCommit(epoch, 1), conversations: [aside("c", parts)], laneLists, inboxAdd: large };
    expect(await shard.commit(commit)).toMatchObject({ kind: "applied" });
    expect(await shard.readLaneList(key("c"), { after: 0, count: 2 })).toHaveLength(1);
    const { due } = await shard.readTimers({ count: 10 });
    expect(await shard.moveTimers({ epoch, timers: due, entry: large })).toMatchObject({ kind: "moved", id: {} });
    const from = { shard: 2, place: { ms: 1, seq: 1 } };
    await expect(shard.append(bytes("a"), 1_000_000, { from })).rejects.toBeInstanceOf(StoreNotReadyError);
    await raw.config("SET", "maxmemory", 0);
    expect(await shard.append(bytes("a"), 1_000_000, { from })).toMatchObject({ kind: "appended", full: 1 });
  });

  test("B15: at maxmemory a shard can be taken over, so that commits can free what is full", async () => {
    const store = await openStore();
    await store.openNamespace({ shards: 1, hashKey: new Uint8Array(8) });
    await acquired(store);
    await store.shard(1).append(bytes("a"), 1_000);
    await raw.config("SET", "maxmemory", "1mb");
    await raw.script("FLUSH"); // as after a restart of Redis
    const next = await openStore();
    expect(await next.openNamespace({ shards: 1, hashKey: new Uint8Array(8) })).toMatchObject({ shards: 1 });
    const epoch = await acquired(next);
    expect(await next.shard(1).renew({ epoch, leaseMs: 60_000 })).toEqual({ kind: "renewed" });
    expect(await next.shard(1).commit(emptyCommit(epoch, 1))).toMatchObject({ kind: "applied" });
    expect(await next.shard(1).release({ epoch, clean: true })).toEqual({ kind: "released" });
  });

  test("a replica refuses, nothing was written, and it is not taken for corrupt", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await raw.replicaof("127.0.0.1", 1);
    await expect(store.shard(1).commit(emptyCommit(epoch, 1))).rejects.toBeInstanceOf(StoreNotReadyError);
    expect((await store.facts()).role).toBe("replica");
    await raw.replicaof("NO", "ONE");
    expect(await store.shard(1).commit(emptyCommit(epoch, 1))).toMatchObject({ kind: "applied" });
    expect((await store.facts()).role).toBe("master");
  });

  test("a server that is busy with somebody's script is not ready, and the commit goes through later", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await store.shard(1).commit(emptyCommit(epoch, 1));
    await raw.config("SET", "busy-reply-threshold", "50");
    raw.eval("while true do end", 0).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 150));
    await expect(store.shard(1).commit(emptyCommit(epoch, 2))).rejects.toBeInstanceOf(StoreNotReadyError);
    const killer = new Redis({ path: server.path, enableReadyCheck: false });
    await killer.script("KILL");
    killer.disconnect();
    const reply = await vi.waitFor(() => store.shard(1).commit(emptyCommit(epoch, 2)), {
      timeout: 5_000,
      interval: 20,
    });
    expect(reply).toMatchObject({ kind: "applied", n: 2 });
  });

  test("a clock that went back is no loss: new entries get ids above the last one", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    const keys = shardKeys(NS, 1);
    const future = `${Date.now() + 60_000}-0`;
    for (const stream of ["inbox", "outbox"] as const) {
      await raw.xadd(keys[stream], future, "b", "x");
      await raw.hset(keys.owner, `${stream}_last`, future);
    }
    const id = { ms: Number(future.slice(0, -2)), seq: 1 };
    expect(await store.shard(1).append(bytes("b"), 1_000)).toMatchObject({ kind: "appended", id });
    const commit = { ...emptyCommit(epoch, 1), outbox: bytes("r") };
    expect(await store.shard(1).commit(commit)).toEqual({ kind: "applied", n: 1, outboxId: id });
  });

  test.each([
    "append",
    "pexpire",
    "xinfo",
    "del",
    "sadd",
    "scard",
    "smismember",
    "srem",
    "xlen",
    "zadd",
    "zmscore",
    "zrem",
  ])("an ACL without %s is refused at the start, before a commit could fail half-way", async (command) => {
    const store = await openStore();
    await raw.acl("SETUSER", "default", `-${command}`);
    await expect(store.openNamespace({ shards: 1, hashKey: new Uint8Array(8) })).rejects.toMatchObject({
      code: "ERR_STORE_UNSAFE",
      message: expect.stringContaining(command.toUpperCase()),
    });
    expect(await raw.keys("*")).toEqual([]);
  });

  test("an ACL user with just what is needed will do", async () => {
    const rights =
      "~* resetchannels -@all +@read +@write +@scripting -@dangerous +info +config|get +ping +hello +client|setname +time";
    await raw.acl("SETUSER", "default", ...rights.split(" "));
    const store = await openStore();
    expect(await store.openNamespace({ shards: 1, hashKey: new Uint8Array(8) })).toMatchObject({ shards: 1 });
    const epoch = await acquired(store);
    const conversations = [
      write("c", "r", { ids: { kind: "append", bytes: bytes("x") }, idsTtlMs: 5, transcript: [bytes("l")] }),
      aside("d", {
        waiting: [{ id: 1, bytes: bytes("m") }],
        waitingDone: [1],
        open: bytes("o"),
        timers: [{ name: "t", generation: 1, atMs: 5 }],
        full: true,
      }),
    ];
    const laneLists = [{ key: key("d"), joining: [{ id: 1, bytes: bytes("r") }], leaving: [1] }];
    const lanes = [{ key: key("d"), state: bytes("s") }];
    const commit = {
      ...emptyCommit(epoch, 1),
      conversations,
      laneLists,
      lanes,
      outbox: bytes("r"),
      dead: [bytes("d")],
    };
    expect(await store.shard(1).commit(commit)).toMatchObject({ kind: "applied" });
    const removed = aside("d", { open: null, timers: [{ name: "u", generation: 1, atMs: null }], full: false });
    const { due } = await store.shard(1).readTimers({ count: 1 });
    const dead = await store.shard(1).readDeadLetters({ after: ENTRY_ZERO, count: 1 });
    const second = { conversations: [removed], deadDone: dead.map(({ id }) => id), inboxAdd: bytes("s") };
    expect(await store.shard(1).commit({ ...emptyCommit(epoch, 2), ...second })).toMatchObject({ kind: "applied" });
    expect(await store.shard(1).moveTimers({ epoch, timers: due, entry: bytes("t") })).toMatchObject({ id: {} });
    const from = { shard: 2, place: { ms: 1, seq: 1 } };
    expect(await store.shard(1).append(bytes("a"), 10, { conversations: [key("d")], from })).toMatchObject({ full: 0 });
    expect(await store.shard(1).readWaiting(key("d"), { after: 0, count: 1 })).toEqual([]);
    expect(await store.shard(1).readLaneList(key("d"), { after: 0, count: 1 })).toEqual([]);
    expect((await store.shard(1).readOpen({ cursor: "0", count: 1 })).found).toEqual([]);
    expect((await store.shard(1).scanLanes({ cursor: "0", count: 1 })).found).toHaveLength(1);
    expect((await store.facts()).config).not.toBeNull();
  });

  test("scripts that Redis forgot are loaded again", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await store.shard(1).commit(emptyCommit(epoch, 1));
    await raw.script("FLUSH");
    expect(await store.shard(1).commit(emptyCommit(epoch, 2))).toMatchObject({ kind: "applied", n: 2 });
  });
});

describe("facts", () => {
  test("say version, role, settings and memory", async () => {
    await raw.config("SET", "maxmemory", "100mb");
    const facts = await (await openStore()).facts();
    expect(facts).toMatchObject({
      role: "master",
      config: {
        appendonly: true,
        appendfsync: "always",
        noAppendfsyncOnRewrite: false,
        maxmemoryPolicy: "noeviction",
      },
      maxMemoryBytes: 104_857_600,
    });
    expect(facts.version).toMatch(/^\d+\.\d+/);
    expect(facts.usedMemoryBytes).toBeGreaterThan(100_000);
  });

  test("have no settings where CONFIG is forbidden", async () => {
    await raw.acl("SETUSER", "default", "-config");
    expect((await (await openStore()).facts()).config).toBeNull();
  });
});

describe("TLS", () => {
  test("is asked for by a host's name, and by none where the host is an address, which TLS does not know as one", () => {
    const tls = (host: string): unknown => connectionOptions({ url: `rediss://${host}:6380/3` })?.target;
    expect(tls("redis.example.org")).toMatchObject({ port: 6380, db: 3, tls: { servername: "redis.example.org" } });
    for (const host of ["10.0.0.7", "[fd00::7]"]) expect(tls(host)).toMatchObject({ tls: {}, db: 3 });
    for (const host of ["10.0.0.7", "[fd00::7]"]) expect(tls(host)).not.toHaveProperty("tls.servername");
  });
});

describe("secrets", () => {
  const SECRET = "s3cr%20t/pa:ss";

  test("a wrong password fails as unavailable, and stands in no error", async () => {
    const port = await freePort();
    await raw.config("SET", "port", String(port));
    await raw.config("SET", "requirepass", "another");
    const user = `redis://someone:${encodeURIComponent(SECRET)}@127.0.0.1:${port}/0`;
    const store = await openStore({ url: user });
    const error: unknown = await store
      .shard(1)
      .owner()
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StoreUnavailableError);
    expect(inspect(error, { depth: 9 })).not.toContain("s3cr");
    expect(String(error)).toContain("WRONGPASS");
    expect(store.label).toBe(`redis://127.0.0.1:${port}/0`);
  });

  test("the right password works over a URL", async () => {
    const port = await freePort();
    await raw.config("SET", "port", String(port));
    await raw.config("SET", "requirepass", SECRET);
    const store = await openStore({ url: `redis://:${encodeURIComponent(SECRET)}@127.0.0.1:${port}` });
    expect(await acquired(store)).toBe(1);
  });

  test.each([
    "http://u:s3cret@h",
    "redis:/\\u:s3cret@",
    "s3cret",
    "redis://u:s3cret@h/zero",
    "redis://u:s3cret@h:99999",
  ])("a URL that cannot be used is a configuration error without the URL (%#)", async (url) => {
    const error: unknown = await openStore({ url }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigError);
    expect(inspect(error)).not.toContain("s3cret");
  });

  test("X2: no error holds what was sent", async () => {
    const store = await openStore();
    const epoch = await acquired(store);
    await raw.set(shardKeys(NS, 1).outbox, "foreign");
    const commit = { ...emptyCommit(epoch, 1), outbox: bytes("s3cret payload") };
    const error: unknown = await store
      .shard(1)
      .commit(commit)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "ERR_STORE_CORRUPT", retryable: false });
    expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/s3cret|115, 51, 99|73 33 63/);
  });
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
