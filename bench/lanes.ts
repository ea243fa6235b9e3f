// Lanes at rest: what many lanes cost that wait on a dead provider, with nothing else to do, and how they drain when it is back.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type AppOptions, createApp } from "../src/index.ts";
import { embeddedSocketPath } from "../src/store/embedded-redis.ts";
import { shardKeys } from "../src/store/keys.ts";
import { CONCURRENCY, DeadProvider } from "./dead-provider.ts";
import { echoBot } from "./fold-bot.ts";

export interface RestOptions extends Pick<AppOptions, "durability"> {
  readonly blocked: number;
  readonly shards: number;
  readonly seconds: number;
}

export interface RestResult {
  /** Of a core, while all of them wait. */
  readonly cpuPercent: number;
  readonly redisCpuPercent: number;
  /** Resident set, against before they were blocked: as many lanes that rest, and have said as much. */
  readonly rssGrownBytes: number;
  readonly outboxEntriesMax: number;
  readonly refused: number;
  readonly inFlightMax: number;
  /** When it is back: until the first reply, and from that to the last. */
  readonly probedMs: number;
  readonly drainMs: number;
}

/** Replies that wait in each lane. */
export const REPLIES_EACH = 2;
/** What waits of lanes may not stand in the outbox. */
export const OUTBOX_ENTRIES_MAX = 100;

const SETTLED_WITHIN_MS = 120_000;
const LOOK_EVERY_MS = 250;

/** @throws Error if a reply came out of order, too many were in flight, or the outbox was long */
export async function atRest({ blocked, shards, seconds, durability }: RestOptions): Promise<RestResult> {
  const dataDir = mkdtempSync(join(tmpdir(), "colloquy-bench-"));
  const provider = new DeadProvider();
  const app = createApp({
    bots: [echoBot],
    channels: [provider],
    port: 0,
    dataDir,
    shards,
    durability,
    logLevel: "fatal",
  });
  try {
    await app.start();
    const redis = new Redis({ path: embeddedSocketPath(dataDir), maxRetriesPerRequest: 1 });
    provider.isDead = false;
    await provider.block(blocked, REPLIES_EACH);
    await provider.drain(blocked * REPLIES_EACH);
    const rssBefore = process.memoryUsage.rss();
    provider.isDead = true;
    await provider.block(blocked, REPLIES_EACH);
    await untilBlocked(redis, { blocked, shards });
    const startMs = performance.now();
    const [cpuBefore, redisBefore] = [process.cpuUsage(), await redisCpuMs(redis)];
    let outboxEntriesMax = 0;
    while (performance.now() < startMs + seconds * 1_000) {
      outboxEntriesMax = Math.max(outboxEntriesMax, await outboxEntries(redis, shards));
      await sleep(LOOK_EVERY_MS);
    }
    const cpu = process.cpuUsage(cpuBefore);
    const tookMs = performance.now() - startMs;
    const redisMs = (await redisCpuMs(redis)) - redisBefore;
    const rssGrownBytes = process.memoryUsage.rss() - rssBefore;
    const { probedMs, drainMs } = await provider.drain(2 * blocked * REPLIES_EACH);
    redis.disconnect();
    const { inFlightMax, refused } = provider;
    if (inFlightMax > CONCURRENCY) throw new Error(`${inFlightMax} attempts were in flight, more than ${CONCURRENCY}`);
    if (outboxEntriesMax >= OUTBOX_ENTRIES_MAX) throw new Error(`${outboxEntriesMax} entries stood in the outbox`);
    const percent = (ms: number): number => Math.round((1_000 * ms) / tookMs) / 10;
    return {
      cpuPercent: percent((cpu.user + cpu.system) / 1_000),
      redisCpuPercent: percent(redisMs),
      rssGrownBytes,
      outboxEntriesMax,
      refused,
      inFlightMax,
      probedMs: Math.round(probedMs),
      drainMs: Math.round(drainMs),
    };
  } finally {
    await app.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** Each of them waits, what it has to say stands on its own list, and nothing waits in an inbox. */
export async function untilBlocked(
  redis: Redis,
  { blocked, shards }: Pick<RestOptions, "blocked" | "shards">,
): Promise<void> {
  const endMs = performance.now() + SETTLED_WITHIN_MS;
  const sum = async (of: (keys: ReturnType<typeof shardKeys>) => Promise<number>): Promise<number> => {
    const each = Array.from({ length: shards }, (_, shard) => of(shardKeys("colloquy", shard)));
    return (await Promise.all(each)).reduce((total, count) => total + count, 0);
  };
  for (;;) {
    const [lanes, inbox, outbox] = await Promise.all([
      sum(({ lanes }) => redis.hlen(lanes)),
      sum(({ inbox }) => redis.xlen(inbox)),
      outboxEntries(redis, shards),
    ]);
    if (lanes === blocked && inbox === 0 && outbox < OUTBOX_ENTRIES_MAX) return;
    if (performance.now() > endMs)
      throw new Error(`${lanes} of ${blocked} lanes wait, ${inbox} entries in the inbox, ${outbox} in the outbox`);
    await sleep(LOOK_EVERY_MS);
  }
}

async function outboxEntries(redis: Redis, shards: number): Promise<number> {
  const each = Array.from({ length: shards }, (_, shard) => redis.xlen(shardKeys("colloquy", shard).outbox));
  return (await Promise.all(each)).reduce((sum, count) => sum + count, 0);
}

async function redisCpuMs(redis: Redis): Promise<number> {
  const info = await redis.info("cpu");
  const figure = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1] ?? 0);
  return (figure("used_cpu_user") + figure("used_cpu_sys")) * 1_000;
}
