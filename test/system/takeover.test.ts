// Two processes, one Redis: the second stands by and takes over, and the first, when it wakes up, commits nothing more (P6).

import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemEnvironment } from "../../src/environment.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { Arena, freePort, isAlive, until } from "./support/arena.ts";
import { seedOfThisRun } from "./support/random.ts";
import { redisOnPort, urlOfRedis } from "./support/redis-on-port.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { isNothing, StoreView } from "./support/store-view.ts";
import { allAnswered, expectPromiseKept, type Sender, senderReaches, Traffic } from "./support/traffic.ts";

/** DESIGN 6: leaseTtlMs + 1 s. What a slow machine adds is the margin. */
const TAKEOVER_MS = 6_000;
const MARGIN_MS = 2_000;
const SOON_MS = 30_000;
const MESSAGES = 3_000;
const CONVERSATIONS = 100;
/** Slow enough that the traffic outlives two takeovers. */
const PACE = { conversations: CONVERSATIONS, messages: MESSAGES, thinkMsMax: 150, answerWithinMs: 2_000 };

const seed = seedOfThisRun();
let arena: Arena;
let traffic: Traffic;

beforeEach(async () => {
  arena = new Arena("takeover");
  traffic = await Traffic.start(arena, seed);
});
afterEach(() => arena.cleanUp());

async function expectStandsBy(runtime: RuntimeProcess): Promise<void> {
  expect((await runtime.reaches("/livez", 200, SOON_MS)).status).toBe(200);
  await runtime.reaches("/readyz", 503, SOON_MS);
  const refused = await runtime.post({ conversation: "c0", id: "refused", text: "refused" });
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
}

const answeredShare =
  (share: number) =>
  ({ answered }: { readonly answered: number }): boolean =>
    answered >= MESSAGES * share;

async function settle(sender: Sender, store: StoreView, ...runtimes: RuntimeProcess[]): Promise<void> {
  const explain = (): string => runtimes.map((runtime) => runtime.lastWords()).join("\n\n");
  await senderReaches(sender, "the last answer", allAnswered, explain);
  const isEmpty = async (): Promise<boolean> => isNothing(await store.unfinished());
  await until(isEmpty, { what: "an empty inbox and outbox", withinMs: SOON_MS, explain });
  expectPromiseKept(traffic.history());
}

/** The replies that got their 2xx; the sink also fails some attempts. */
const delivered = (): number[] =>
  traffic
    .history()
    .deliveries.filter(({ status }) => status >= 200 && status < 300)
    .map(({ sequence }) => sequence);

function say(line: string): void {
  process.stdout.write(`takeover seed ${seed}: ${line}\n`);
}

describe("two data folders on one external Redis", () => {
  let redisUrl: string;
  let store: StoreView;

  beforeEach(async () => {
    const port = await freePort();
    await redisOnPort(arena, port);
    redisUrl = urlOfRedis(port);
    store = new StoreView(arena, redisUrl);
  });

  async function runtimeNamed(name: string): Promise<RuntimeProcess> {
    const port = await freePort();
    const data = arena.dataFolder(name);
    return new RuntimeProcess(arena, { name, port, data, redis: redisUrl, deliverTo: traffic.deliverTo });
  }

  test("the second takes over from a stopped first, which is fenced when it wakes up, and nothing is lost or doubled", async () => {
    const first = await runtimeNamed("first");
    await first.ready();
    const second = await runtimeNamed("second");
    await expectStandsBy(second);

    const sender = await traffic.send("m", { urls: [first.url, second.url], ...PACE });
    await senderReaches(sender, "the stop", answeredShare(0.2), () => first.lastWords());
    const before = await sender.ask("status", undefined);
    first.stop();
    const stoppedMs = performance.now();
    await second.ready(TAKEOVER_MS + MARGIN_MS);
    say(`the second was ready ${(performance.now() - stoppedMs).toFixed(0)} ms after the first was stopped`);
    expect(before.unanswered).toBeGreaterThan(0);

    await senderReaches(sender, "the first to wake up", answeredShare(0.4), () => second.lastWords());
    first.resume();
    await first.reaches("/readyz", 503, SOON_MS);
    await until(() => /fenced/i.test(first.stdout()), {
      what: "the first to log that it was fenced",
      withinMs: SOON_MS,
      explain: () => first.lastWords(),
    });
    await expectStandsBy(first);
    expect((await second.get("/readyz")).status).toBe(200);

    await senderReaches(sender, "the second's end", answeredShare(0.6), () => second.lastWords());
    await second.kill();
    const killedMs = performance.now();
    await first.ready(TAKEOVER_MS + MARGIN_MS);
    say(`the first was ready again ${(performance.now() - killedMs).toFixed(0)} ms after the second was killed`);
    await settle(sender, store, first, second);
  });

  test("a commit under an epoch that is over is refused and changes nothing; its message runs once, under the next", async () => {
    const env = { COLLOQUY_LEASE_TTL_MS: "60000" }; // no lone renewal comes before the commit
    const port = await freePort();
    const data = arena.dataFolder("late");
    const late = new RuntimeProcess(arena, {
      name: "late",
      port,
      data,
      redis: redisUrl,
      deliverTo: traffic.deliverTo,
      env,
    });
    await late.ready();
    const to = { conversation: "c1", text: "hello" };
    expect((await late.post({ ...to, id: "m1" })).status).toBe(202);
    await until(async () => isNothing(await store.unfinished()) && delivered().length === 1, {
      what: "the first reply",
      withinMs: SOON_MS,
      explain: () => late.lastWords(),
    });

    const redis = new Redis(redisUrl);
    arena.onCleanUp(() => redis.disconnect());
    await redis.hset("colloquy:{00}:owner", "lease_end", 0);
    const usurper = new RedisStore({
      environment: systemEnvironment,
      address: { url: redisUrl },
      namespace: "colloquy",
    });
    expect(await usurper.shard(0).acquire({ node: "usurper", observedEpoch: 1, leaseMs: 60_000 })).toMatchObject({
      kind: "acquired",
      epoch: 2,
    });
    const before = await redis.dump("colloquy:{00}:c:4:fold4:httpc1");
    expect((await late.post({ ...to, id: "m2" })).status).toBe(202); // an append needs no ownership
    await until(() => /"reason":"fenced".*"commit":\d+/.test(late.stdout()), {
      what: "the refusal of its commit",
      withinMs: SOON_MS,
      explain: () => late.lastWords(),
    });
    await expectStandsBy(late);
    expect(await redis.hmget("colloquy:{00}:owner", "node", "epoch", "n")).toEqual(["usurper", "2", "0"]);
    expect(await redis.dump("colloquy:{00}:c:4:fold4:httpc1")).toBe(before);
    expect(delivered()).toEqual([1]);

    await usurper.shard(0).release({ epoch: 2, clean: true });
    await usurper.close();
    await until(() => delivered().length === 2, {
      what: "the second reply",
      withinMs: SOON_MS,
      explain: () => late.lastWords(),
    });
    expect(delivered()).toEqual([1, 2]);
  });

  test("a first that is told to stop hands over at once, without waiting for the lease to run out", async () => {
    const first = await runtimeNamed("first");
    await first.ready();
    const second = await runtimeNamed("second");
    await expectStandsBy(second);
    const sender = await traffic.send("m", { urls: [first.url, second.url], ...PACE, messages: 1_000 });
    await senderReaches(
      sender,
      "the stop",
      ({ answered }) => answered >= 300,
      () => first.lastWords(),
    );
    expect(await first.terminate()).toMatchObject({ code: 0 });
    const endedMs = performance.now();
    await second.ready(TAKEOVER_MS + MARGIN_MS);
    say(`the second was ready ${(performance.now() - endedMs).toFixed(0)} ms after the first had ended in order`);
    await settle(sender, store, second);
  });
});

describe("a second start in the same data folder", () => {
  let data: string;
  let store: StoreView;
  const ports: number[] = [];

  beforeEach(async () => {
    data = arena.dataFolder("data");
    store = StoreView.ofDataFolder(arena, data);
    ports.splice(0, 2, await freePort(), await freePort());
  });

  function runtimeNamed(name: string, port: number): RuntimeProcess {
    return new RuntimeProcess(arena, { name, port, data, deliverTo: traffic.deliverTo });
  }

  test("stands by next to the one Redis, and takes over both when the first dies", async () => {
    const first = runtimeNamed("first", ports[0]!);
    await first.ready();
    const redisPid = first.redisPid()!;
    const runId = await store.runId();
    const sender = await traffic.send("m", { urls: [first.url, `http://127.0.0.1:${ports[1]}`], ...PACE });
    await senderReaches(sender, "the second start", answeredShare(0.1), () => first.lastWords());

    const second = runtimeNamed("second", ports[1]!);
    await expectStandsBy(second);
    await senderReaches(sender, "the kill", answeredShare(0.4), () => first.lastWords());
    expect((await first.get("/readyz")).status).toBe(200); // no duel
    expect(first.stdout()).not.toMatch(/fenced/i);
    expect({ pid: first.redisPid(), runId: await store.runId() }).toEqual({ pid: redisPid, runId });

    await first.kill();
    const killedMs = performance.now();
    await second.ready(TAKEOVER_MS + MARGIN_MS);
    say(`same folder: the second was ready ${(performance.now() - killedMs).toFixed(0)} ms after the first was killed`);
    expect({ pid: second.redisPid(), runId: await store.runId() }).toEqual({ pid: redisPid, runId }); // adopted
    await senderReaches(sender, "the kill of Redis", answeredShare(0.7), () => second.lastWords());
    process.kill(redisPid, "SIGKILL");
    await until(() => (second.redisPid() ?? redisPid) !== redisPid, {
      what: "the second to start another Redis",
      withinMs: SOON_MS,
      explain: () => second.lastWords(),
    });
    await settle(sender, store, second);
    expect(await second.terminate()).toMatchObject({ code: 0 });
    expect(second.redisPid()).toBeUndefined();
  });

  test("leaves the first's Redis running when it is stopped itself", async () => {
    const first = runtimeNamed("first", ports[0]!);
    await first.ready();
    const redisPid = first.redisPid()!;
    const second = runtimeNamed("second", ports[1]!);
    await expectStandsBy(second);
    expect(await second.terminate()).toMatchObject({ code: 0 });
    expect(isAlive(redisPid)).toBe(true);
    expect((await first.get("/readyz")).status).toBe(200);
  });

  test("starts the Redis that died together with the first", async () => {
    const first = runtimeNamed("first", ports[0]!);
    await first.ready();
    const second = runtimeNamed("second", ports[1]!);
    await expectStandsBy(second);
    const sender = await traffic.send("m", { urls: [first.url, second.url], ...PACE, messages: 1_000 });
    await senderReaches(
      sender,
      "the kill of both",
      ({ answered }) => answered >= 300,
      () => first.lastWords(),
    );
    const redisPid = first.redisPid()!;
    first.killNow();
    process.kill(redisPid, "SIGKILL");
    const killedMs = performance.now();
    await second.ready(TAKEOVER_MS + 2 * MARGIN_MS);
    say(`same folder: the second was ready ${(performance.now() - killedMs).toFixed(0)} ms after first and Redis died`);
    await settle(sender, store, second);
  });
});
