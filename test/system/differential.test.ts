// The memory store answers as the scripts do: so many random calls of each script on both, also on a Redis that loses streams,
// commits and time; and scans that find the same. COLLOQUY_SEED repeats a run, COLLOQUY_CALLS sets the calls of each script.

import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { conversationKey } from "../../src/domain/ids.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { type Commit, SCAN_START, type Store } from "../../src/store/shard-store.ts";
import { memoryBackDoors, redisBackDoors } from "../store/back-doors.ts";
import { type Call, compare, EVERY_SCRIPT, program, Side } from "../store/differential.ts";
import { RedisServer } from "../support/redis-server.ts";

const CALLS_OF_EACH = Number(process.env.COLLOQUY_CALLS ?? 100_000);
const SEED = Number(process.env.COLLOQUY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CALLS_PER_SHARD = 400;
const SHARDS_AT_ONCE = 50;
const SCANNED_STORES = 200;
const NS = "diff";
const SCRIPT_OF: Readonly<Partial<Record<Call["op"], string>>> = {
  acquire: "acquire",
  renew: "renew",
  release: "release",
  append: "append",
  commit: "commit",
  again: "commit",
  moveTimers: "move-timers",
  moveDue: "move-timers",
};

let server: RedisServer;
let raw: Redis;

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "off" });
  raw = new Redis({ path: server.path });
});
afterAll(async () => {
  raw.disconnect();
  await server.remove();
});

function newStore(namespace: string): RedisStore {
  const address = { path: server.path };
  return new RedisStore({ environment: systemEnvironment, address, namespace, commandTimeoutMs: 20_000 });
}

/** Each reply that must have occurred somewhere, or the run proved little. */
const KINDS = [
  "acquire acquired",
  "acquire held",
  "acquire changed",
  "acquire rewound",
  "renew renewed",
  "renew fenced",
  "release released",
  "release fenced",
  "append appended",
  "append over",
  "append full",
  "append taken",
  "moveTimers moved",
  "moveTimers fenced",
  "moveDue moved",
  "commit applied",
  "commit fenced",
  "commit rewound",
  "commit ERR_STORE_CORRUPT",
  "again applied",
  "again fenced",
  "again rewound",
];

test(`${CALLS_OF_EACH} calls of each script give equal replies on memory and on Redis (seed ${SEED})`, async () => {
  const redis = newStore(NS);
  const memory = new MemoryStore(systemEnvironment);
  const calls = new Map(Object.values(SCRIPT_OF).map((script) => [script, 0]));
  const kinds = new Map<string, number>();
  const told = (op: Call["op"], kind: unknown): void => {
    const script = SCRIPT_OF[op] ?? op;
    calls.set(script, (calls.get(script) ?? 0) + 1);
    const name = `${op} ${String(kind)}`;
    kinds.set(name, (kinds.get(name) ?? 0) + 1);
  };
  const areEnough = (): boolean => Object.values(SCRIPT_OF).every((script) => calls.get(script)! >= CALLS_OF_EACH);
  for (let first = 0; !areEnough(); first += SHARDS_AT_ONCE) {
    const shards = Array.from({ length: SHARDS_AT_ONCE }, async (_, i) => {
      const shard = redis.shard(first + i);
      const sides = [
        new Side(memory.shard(first + i), memoryBackDoors(memory.data)),
        new Side(shard, redisBackDoors(raw, NS)),
      ] as const;
      await compare(sides, program(SEED + first + i, EVERY_SCRIPT, CALLS_PER_SHARD), told);
      await shard.close(); // its connections
    });
    await Promise.all(shards);
  }
  await redis.close();
  process.stdout.write(`${[...calls].map(([script, count]) => `${script} ${count}`).join(", ")}\n`);
  for (const kind of KINDS) expect(kinds.get(kind) ?? 0, kind).toBeGreaterThanOrEqual(10);
});

test(`${CALLS_OF_EACH} calls of open-namespace give equal replies on memory and on Redis (seed ${SEED})`, async () => {
  const wanted = fc.record({
    shards: fc.integer({ min: 1, max: 256 }),
    hashKey: fc.uint8Array({ minLength: 8, maxLength: 8 }),
  });
  const each = fc.array(wanted, { minLength: 500, maxLength: 500, size: "max" });
  let calls = 0;
  for (let i = 0; calls < CALLS_OF_EACH; i += 1) {
    const redis = newStore(`ns${i}`);
    const memory = new MemoryStore(systemEnvironment);
    for (const asked of fc.sample(each, { seed: SEED + i, numRuns: 1 })[0]!) {
      calls += 1;
      const [inMemory, inRedis] = [await memory.openNamespace(asked), await redis.openNamespace(asked)];
      if (JSON.stringify(inMemory) !== JSON.stringify(inRedis)) expect(inRedis, `call ${calls}`).toEqual(inMemory);
    }
    await redis.close();
  }
});

test(`scans of ${SCANNED_STORES} stores find the same conversations in memory and in Redis (seed ${SEED})`, async () => {
  const places = fc.array(
    fc.record({ shard: fc.nat(120), conversation: fc.string({ unit: "grapheme", minLength: 1, maxLength: 30 }) }),
    { maxLength: 60 },
  );
  const stores = fc.sample(fc.record({ places, count: fc.integer({ min: 1, max: 100 }) }), {
    seed: SEED,
    numRuns: SCANNED_STORES,
  });
  let found = 0;
  for (const [i, { places: wanted, count }] of stores.entries()) {
    await raw.flushall();
    const redis = newStore(`scan${i}`);
    const other = newStore(`scan${i}0`); // its keys begin with the same characters
    const memory = new MemoryStore(systemEnvironment);
    await put(other, 1, ["not ours"]);
    for (const shard of new Set(wanted.map((place) => place.shard))) {
      const ids = [...new Set(wanted.filter((place) => place.shard === shard).map(({ conversation }) => conversation))];
      for (const store of [memory, redis]) await put(store, shard, ids);
    }
    const inMemory = await scan(memory, count);
    expect(await scan(redis, count)).toEqual(inMemory);
    expect(inMemory).toHaveLength(new Set(wanted.map((place) => JSON.stringify(place))).size);
    found += inMemory.length;
    await redis.close();
    await other.close();
  }
  expect(found).toBeGreaterThan(SCANNED_STORES);
});

async function put(store: Store, shard: number, ids: readonly string[]): Promise<void> {
  const owned = store.shard(shard);
  await owned.acquire({ node: "n", observedEpoch: 0, leaseMs: 60_000 });
  const bytes = Buffer.from("r");
  const commit: Commit = {
    epoch: 1,
    n: 1,
    leaseMs: 60_000,
    conversations: ids.map((conversation) => ({
      key: conversationKey({ bot: "b", channel: "c", conversation }),
      record: bytes,
      ids: { kind: "append", bytes },
      idsTtlMs: null,
      transcript: [bytes],
    })),
    outbox: bytes,
    inboxDone: [],
    inboxDoneBytes: 0,
    outboxDone: [],
    acks: [],
    lanes: [],
    dead: [],
    transcript: { linesMax: 5, bytesMax: 100, ttlMs: 60_000 },
  };
  expect((await owned.commit(commit)).kind).toBe("applied");
}

/** All that a scan finds, each once. */
async function scan(store: Store, count: number): Promise<string[]> {
  const found = new Set<string>();
  let cursor = SCAN_START;
  do {
    const page = await store.scanConversations({ cursor, count });
    for (const { shard, key } of page.found) found.add(`${shard} ${key}`);
    cursor = page.cursor;
  } while (cursor !== SCAN_START);
  return [...found].sort();
}
