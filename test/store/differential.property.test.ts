// The memory store answers as Redis does: the same random calls on both, reply by reply, and the same data at the end.
// COLLOQUY_SEED repeats a run, COLLOQUY_CALLS makes a longer one. test/system/differential.test.ts makes as many of each script.

import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemEnvironment } from "../../src/environment.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { RedisServer } from "../support/redis-server.ts";
import { memoryBackDoors, redisBackDoors } from "./back-doors.ts";
import { compare, EVERYDAY, program, Side } from "./differential.ts";

const CALLS = Number(process.env.COLLOQUY_CALLS ?? 100_000);
const SEED = Number(process.env.COLLOQUY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CALLS_PER_SHARD = 250;
const SHARDS_AT_ONCE = 50;
const NS = "diff";

let server: RedisServer;
let raw: Redis;
let redis: RedisStore;

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "off" });
  raw = new Redis({ path: server.path });
  redis = new RedisStore({
    environment: systemEnvironment,
    address: { path: server.path },
    namespace: NS,
    commandTimeoutMs: 20_000,
  });
});
afterAll(async () => {
  await redis.close();
  raw.disconnect();
  await server.remove();
});

/** Each reply that must have occurred somewhere, or the run proved little. */
const KINDS = [
  "acquire acquired",
  "acquire held",
  "acquire changed",
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
];

test(`${CALLS} random calls give equal replies on memory and on Redis (seed ${SEED})`, async () => {
  const memory = new MemoryStore(systemEnvironment);
  let calls = 0;
  const kinds = new Set<string>();
  for (let first = 0; calls < CALLS; first += SHARDS_AT_ONCE) {
    const shards = Array.from({ length: SHARDS_AT_ONCE }, async (_, i) => {
      const shard = redis.shard(first + i);
      const sides = [
        new Side(memory.shard(first + i), memoryBackDoors(memory.data)),
        new Side(shard, redisBackDoors(raw, NS)),
      ] as const;
      await compare(sides, program(SEED + first + i, EVERYDAY, CALLS_PER_SHARD), (op, kind) => {
        calls += 1;
        kinds.add(`${op} ${String(kind)}`);
      });
      await shard.close(); // its connections
    });
    await Promise.all(shards);
  }
  expect(calls).toBeGreaterThanOrEqual(CALLS);
  expect([...kinds]).toEqual(expect.arrayContaining(KINDS));
});
