// Retry worker, with BullMQ on a Redis server of the test's own: the one part here that needs a real clock.

import { randomBytes } from "node:crypto";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Alarm, RetryWorker } from "../../actors/retry-worker.ts";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import { shardKeys } from "../../src/store/keys.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { RedisServer } from "../support/redis-server.ts";

/** A worker that is about to stop does not see it ring, however long the machine takes. */
const NOT_SOON_MS = 600_000;

let server: RedisServer;
let probe: Redis;

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "no" });
  probe = new Redis({ path: server.path });
});

afterAll(async () => {
  probe.disconnect();
  await server.remove();
});

/** One life of a shard's owner. */
class Life {
  readonly log: RecordingLog = new RecordingLog();
  readonly worker: RetryWorker;
  readonly failures: unknown[] = [];
  readonly rings: { readonly key: Alarm; readonly atMs: number }[] = [];
  #waiting: (() => void)[] = [];

  constructor(prefix: string) {
    this.worker = new RetryWorker({
      connection: { path: server.path, maxRetriesPerRequest: null },
      prefix,
      log: this.log.log,
      failed: (error) => this.failures.push(error),
      ring: (key) => {
        this.rings.push({ key, atMs: performance.now() });
        for (const look of this.#waiting.splice(0)) look();
      },
    });
    lives.push(this);
  }

  /** Resolves when this many rings were heard. */
  async rung(count: number): Promise<Alarm[]> {
    while (this.rings.length < count) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.rings.map(({ key }) => key);
  }
}

let lives: Life[] = [];
let prefix: string;
let queue: Queue;

beforeEach(async () => {
  lives = [];
  await probe.flushall();
  prefix = shardKeys(`test-${randomBytes(4).toString("hex")}`, 7).prefix;
  queue = new Queue("wake-ups", { connection: { path: server.path }, prefix });
  await queue.waitUntilReady();
});

afterEach(async () => {
  await Promise.all(lives.map(({ worker }) => worker.stop()));
  await queue.close();
});

const key = (conversation: string): ConversationKey =>
  conversationKey({ bot: "orders", channel: "http", conversation });

/** Asks until it holds; what it asks is Redis, so each question waits for an answer. */
async function eventually(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAtMs = performance.now() + 10_000;
  while (!(await isSo())) if (performance.now() > giveUpAtMs) throw new Error(`${what}: not within 10 s`);
}

const jobs = async (): Promise<number> => {
  const counts = await queue.getJobCounts("delayed", "waiting", "prioritized", "active", "completed", "failed");
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
};

describe("a wake-up", () => {
  test("rings exactly the lane that it was scheduled for, after the delay and not before, and leaves no job", async () => {
    const life = new Life(prefix);
    const names = ["plain", "🙂 👩‍👩‍👧", "a:b:c::", "two\nlines\r\n", "ü~%7E/{x}", "x".repeat(512), "0", " "];
    const startedAtMs = performance.now();
    for (const name of names) life.worker.schedule(key(name), 120);
    const rung = await life.rung(names.length);
    expect([...rung].sort()).toEqual(names.map(key).sort());
    for (const { atMs } of life.rings) expect(atMs - startedAtMs).toBeGreaterThanOrEqual(119);
    await eventually(async () => (await jobs()) === 0, "jobs are gone");
  });

  test("scheduled twice while it waits rings once", async () => {
    const life = new Life(prefix);
    for (let i = 0; i < 5; i += 1) life.worker.schedule(key("c"), 150);
    life.worker.schedule(key("last"), 400);
    await life.rung(2);
    expect(life.rings.map(({ key }) => key)).toEqual([key("c"), key("last")]);
  });

  test("scheduled again by its own ring rings again", async () => {
    const life = new Life(prefix);
    life.worker.schedule(key("c"), 10);
    for (let n = 1; n <= 4; n += 1) {
      await life.rung(n);
      life.worker.schedule(key("c"), 10);
    }
    expect(await life.rung(5)).toEqual(Array.from({ length: 5 }, () => key("c")));
  });

  test("rings although the process that scheduled it is gone", async () => {
    const first = new Life(prefix);
    first.worker.schedule(key("c"), NOT_SOON_MS);
    first.worker.schedule(key("d"), NOT_SOON_MS);
    await eventually(async () => (await queue.getDelayedCount()) === 2, "scheduled");
    await first.worker.stop();
    for (const job of await queue.getDelayed()) await job.changeDelay(100);
    const second = new Life(prefix);
    second.worker.start();
    expect((await second.rung(2)).sort()).toEqual([key("c"), key("d")].sort());
    expect(first.rings).toEqual([]);
  });

  test("that fell due while nobody was there rings as soon as somebody is", async () => {
    const first = new Life(prefix);
    first.worker.schedule(key("c"), NOT_SOON_MS);
    await eventually(async () => (await queue.getDelayedCount()) === 1, "scheduled");
    await first.worker.stop();
    for (const job of await queue.getDelayed()) await job.changeDelay(1);
    const nowMs = async (): Promise<number> => {
      const [seconds, micros] = await probe.time();
      return Number(seconds) * 1_000 + Number(micros) / 1_000;
    };
    const changedAtMs = await nowMs();
    await eventually(async () => (await nowMs()) > changedAtMs + 100, "overdue");
    const second = new Life(prefix);
    second.worker.start();
    expect(await second.rung(1)).toEqual([key("c")]);
  });

  test("of another shard rings nobody here", async () => {
    const mine = new Life(prefix);
    const other = new Life(shardKeys("test-other", 8).prefix);
    mine.worker.schedule(key("mine"), 20);
    other.worker.schedule(key("other"), 20);
    expect([await mine.rung(1), await other.rung(1)]).toEqual([[key("mine")], [key("other")]]);
  });

  test("carries no payload, and its queue keeps a short events stream", async () => {
    const life = new Life(prefix);
    life.worker.schedule(key("c"), 60_000);
    await eventually(async () => (await queue.getDelayedCount()) === 1, "scheduled");
    const [job] = await queue.getDelayed();
    expect(job!.data).toEqual({});
    expect(job!.opts).toMatchObject({ attempts: 1, removeOnComplete: true, removeOnFail: true });
    expect(await probe.hget(`${prefix}:wake-ups:meta`, "opts.maxLenEvents")).toBe("100");
  });
});

describe("what it leaves in Redis", () => {
  test("stands below the shard's prefix, in its hash slot, and beside no key of ours", async () => {
    const life = new Life(prefix);
    life.worker.schedule(key("a"), 60_000);
    life.worker.schedule(key("b:c\n🙂"), 10);
    await life.rung(1);
    const found = await probe.keys("*");
    expect(found.length).toBeGreaterThan(3);
    const { owner, inbox, outbox, acks, lanes, dead } = shardKeys(prefix.slice(0, prefix.indexOf(":")), 7);
    for (const each of found) {
      expect(each.startsWith(`${prefix}:wake-ups:`)).toBe(true);
      expect([owner, inbox, outbox, acks, lanes, dead]).not.toContain(each);
    }
  });
});

describe("connections", () => {
  const connections = async (): Promise<number> =>
    String(await probe.client("LIST"))
      .trim()
      .split("\n").length;

  test("there is none before a lane needs one, and none after stop", async () => {
    const before = await connections();
    const life = new Life(prefix);
    expect(await connections()).toBe(before);
    life.worker.schedule(key("c"), 10);
    await life.rung(1);
    expect(await connections()).toBeGreaterThan(before);
    await life.worker.stop();
    await eventually(async () => (await connections()) === before, "all closed");
  });

  test("a stop right after the start, before anything is connected, leaves none either", async () => {
    const before = await connections();
    for (let i = 0; i < 3; i += 1) {
      const life = new Life(prefix);
      life.worker.start();
      if (i > 0) life.worker.schedule(key("c"), 10);
      if (i > 1) await Promise.resolve();
      await life.worker.stop();
    }
    await eventually(async () => (await connections()) === before, "all closed");
  });

  test("a stopped one neither schedules, connects nor starts again", async () => {
    const before = await connections();
    const life = new Life(prefix);
    life.worker.schedule(key("c"), 10);
    await life.rung(1);
    await life.worker.stop();
    life.worker.start();
    life.worker.schedule(key("d"), 10);
    await eventually(async () => (await connections()) === before, "all closed");
    expect(life.rings).toHaveLength(1);
    const never = new Life(prefix);
    await never.worker.stop();
    never.worker.start();
    never.worker.schedule(key("e"), 10);
    await eventually(async () => (await jobs()) === 0, "nothing is scheduled");
    expect(await connections()).toBe(before);
  });

  test("Redis that goes and comes back rings what was scheduled before", async () => {
    const other = await RedisServer.start();
    const failures: unknown[] = [];
    const rings: Alarm[] = [];
    let heard: () => void = () => undefined;
    const rung = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const log = new RecordingLog();
    const worker = new RetryWorker({
      connection: { path: other.path, maxRetriesPerRequest: null },
      prefix,
      log: log.log,
      failed: (error) => failures.push(error),
      ring: (key) => {
        rings.push(key);
        heard();
      },
    });
    const view = new Queue("wake-ups", { connection: { path: other.path }, prefix });
    view.on("error", () => undefined);
    try {
      worker.schedule(key("c"), 400);
      await eventually(async () => (await view.getDelayedCount()) === 1, "scheduled");
      await other.kill();
      await other.start();
      await rung;
      expect(failures).toEqual([]);
      expect(rings).toEqual([key("c")]);
      expect(log.lines.every((line) => line.includes('"level":"debug"'))).toBe(true);
    } finally {
      await worker.stop();
      await view.close();
      await other.remove();
    }
  });
});
