// What rings a lane that waits for its next attempt, with real processes: BullMQ's wake-ups alone, the sweep alone, and both over a
// runtime that stands still or dies and a Redis that is away. Whatever is missing costs a delay, never a reply and never the order.
// Delays are measured and told; they decide nothing.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { AccountOptions } from "../../src/channels/channel.ts";
import { embeddedSocketPath } from "../../src/store/embedded-redis.ts";
import { Arena, freePort, until } from "./support/arena.ts";
import type { LaneHistory } from "./support/check-lanes.ts";
import { nowUs } from "./support/history.ts";
import { type LanesConfig, lanesRuntime } from "./support/lanes-runtime.ts";
import { LanesWorld } from "./support/lanes-world.ts";
import { type Behaviour, WELL_BEHAVED } from "./support/provider-behaviour.ts";
import type { ProviderAttempt } from "./support/provider-log.ts";
import { seedOfThisRun } from "./support/random.ts";
import { redisOnPort, urlOfRedis } from "./support/redis-on-port.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { unacknowledgedIn } from "./support/unacknowledged.ts";
import { WakeUps } from "./support/wake-ups.ts";

const LANES = 100;
const MESSAGES_EACH = 2;
const REPLIES = LANES * MESSAGES_EACH;
const ACCOUNT = "http";
const WITHIN_MS = 60_000;
const seed = seedOfThisRun();

/** Each reply is refused four times, and so waits for about 3 s in all. */
const REFUSING: Behaviour = { ...WELL_BEHAVED, refusesFirst: 4, faultsMax: 4 };
/** Each reply is put off twice by 2 s: longer than a wake-up lives whose key is taken away each second. */
const PUTTING_OFF: Behaviour = { ...WELL_BEHAVED, shares: { "429": 1 }, faultsMax: 2, retryAfterS: 2 };

/** As good as no breaker: each lane has failures of its own, and waits for nobody else's. */
const UNBROKEN = { breakerFailures: 1_000_000 };

class Scene {
  readonly arena: Arena;
  readonly world: LanesWorld;
  readonly #name: string;
  readonly #config: LanesConfig;
  runtime: RuntimeProcess;

  private constructor(name: string, arena: Arena, world: LanesWorld, config: LanesConfig) {
    this.#name = name;
    this.arena = arena;
    this.world = world;
    this.#config = config;
    this.runtime = this.spawn();
  }

  /** A runtime that is ready, and nothing sent yet. */
  static async start(
    name: string,
    behaviour: Behaviour,
    more: Partial<LanesConfig> = {},
    account: AccountOptions = UNBROKEN,
  ): Promise<Scene> {
    const arena = new Arena(`wake-ups-${name.replaceAll(" ", "-")}`);
    onTestFinished(() => arena.cleanUp());
    const world = await LanesWorld.start(arena, seed, { [ACCOUNT]: behaviour });
    const place = { port: await freePort(), dataDir: arena.dataFolder("data") };
    const channels = [world.channel(ACCOUNT, { account })];
    const scene = new Scene(name, arena, world, { ...place, channels, ...more });
    await scene.runtime.ready();
    return scene;
  }

  get data(): string {
    return this.#config.dataDir;
  }

  spawn(): RuntimeProcess {
    return new RuntimeProcess(this.arena, lanesRuntime(this.#config));
  }

  async sendAll(): Promise<void> {
    const all = Array.from({ length: MESSAGES_EACH }, (_, n) =>
      Array.from({ length: LANES }, (_, lane) => ({ conversation: `c${lane}`, id: `m${n + 1}`, text: "hi" })),
    ).flat();
    const answer = await this.runtime.post(all);
    expect(answer.status, answer.text).toBe(202);
  }

  /** Every lane has been refused at least once, so each of them waits. */
  async allWait(): Promise<void> {
    const lanes = (): number => new Set(this.world.attempts().map(({ conversation }) => conversation)).size;
    await until(() => lanes() === LANES, { what: "an attempt of each lane", withinMs: WITHIN_MS, everyMs: 50 });
  }

  async allDelivered(): Promise<void> {
    await this.world.delivers(ACCOUNT, REPLIES, WITHIN_MS, () => this.runtime.lastWords());
  }

  /** @throws Error if a reply is missing, doubled without a cause or out of order */
  judge(done?: Pick<LaneHistory, "kills" | "stops">): ProviderAttempt[] {
    const report = this.world.expectLanesKept(done);
    expect(report.replies).toBe(REPLIES);
    const attempts = this.world.attempts();
    process.stdout.write(`wake-ups, ${this.#name}, seed ${seed}: ${report.attempts} attempts, ${delaysOf(attempts)}\n`);
    return attempts;
  }
}

/** From each failed attempt to the next one at the same reply. */
function delaysOf(attempts: readonly ProviderAttempt[]): string {
  const last = new Map<string, ProviderAttempt>();
  const delays: number[] = [];
  for (const attempt of attempts) {
    const before = last.get(attempt.key);
    if (before) delays.push((attempt.receivedUs - before.answeredUs) / 1_000);
    last.set(attempt.key, attempt);
  }
  delays.sort((a, b) => a - b);
  const at = (share: number): string => (delays[Math.floor(share * (delays.length - 1))] ?? 0).toFixed(0);
  return `tried again after ${at(0.5)} ms (median), ${at(0.99)} ms (p99), ${at(1)} ms (longest)`;
}

test.concurrent("with the sweep off, wake-ups alone retry everything", async () => {
  const scene = await Scene.start("wake-ups alone", REFUSING, { options: { laneSweepMs: 0 } });
  await scene.sendAll();
  await scene.allDelivered();
  expect(scene.judge()).toHaveLength(REPLIES * 5);
});

test.concurrent("with the sweep off, wake-ups alone bring all lanes back after the breaker of their account opened", async () => {
  const scene = await Scene.start("breaker", WELL_BEHAVED, { options: { laneSweepMs: 0 } }, { breakerFailures: 20 });
  await scene.world.provider.ask("become", { account: ACCOUNT, mode: 503 });
  await scene.sendAll();
  await sleep(4_000); // more than one probe is refused
  await scene.world.provider.ask("become", { account: ACCOUNT, mode: "alive" });
  await scene.allDelivered();
  scene.judge();
});

test.concurrent("with all keys of BullMQ taken away each second, the sweep alone retries everything", async () => {
  const scene = await Scene.start("sweep alone", PUTTING_OFF);
  const wakeUps = new WakeUps(scene.arena, embeddedSocketPath(scene.data));
  const taking = setInterval(() => void wakeUps.removeAll().catch(() => undefined), 1_000);
  scene.arena.onCleanUp(() => clearInterval(taking));
  await scene.sendAll();
  await scene.allDelivered();
  clearInterval(taking);
  expect(wakeUps.removed).toBeGreaterThan(REPLIES);
  expect(scene.judge()).toHaveLength(REPLIES * 3);
});

test.concurrent("a runtime that stands still past its lock and its lease, and one that is killed, are a delay", async () => {
  const scene = await Scene.start("still and killed", REFUSING);
  await scene.sendAll();
  await scene.allWait();
  const fromUs = nowUs();
  scene.runtime.stop();
  await sleep(12_000); // a wake-up is locked for 10 s, the lease lasts 5 s
  scene.runtime.resume();
  const stops = [{ fromUs, toUs: nowUs() }];
  await scene.runtime.ready();
  const before = scene.world.attempts().length;
  await until(() => scene.world.attempts().length > before, { what: "another attempt", withinMs: WITHIN_MS });

  const atUs = nowUs();
  await scene.runtime.kill();
  const unacknowledged = unacknowledgedIn(scene.data);
  expect(unacknowledged.size).toBeGreaterThan(0);
  const kills = [{ atUs, restartedUs: nowUs(), unacknowledged }];
  scene.runtime = scene.spawn();
  await scene.allDelivered();
  scene.judge({ kills, stops });
});

test.concurrent("Redis away for 20 s while lanes retry: they go on by themselves", async () => {
  const arena = new Arena("wake-ups-redis");
  onTestFinished(() => arena.cleanUp());
  const port = await freePort();
  const redis = await redisOnPort(arena, port);
  const scene = await Scene.start("Redis away", REFUSING, { redis: urlOfRedis(port) });
  await scene.sendAll();
  await scene.allWait();
  await redis.kill();
  await scene.runtime.reaches("/readyz", 503, 10_000);
  await sleep(20_000);
  const { delivered } = await scene.world.provider.ask("status", ACCOUNT);
  expect(delivered).toBeLessThan(REPLIES);
  await redis.start();
  await scene.allDelivered();
  scene.judge();
  await scene.runtime.ready();
  expect(scene.runtime.stdout()).not.toContain("restarted");
});
