// Ten thousand lanes blocked on a provider that is dead, with real processes: they cost next to nothing, stand in nobody's way, and
// when it is back they drain in order, never more at once than their account allows.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena, freePort, until } from "./support/arena.ts";
import { formatLanes } from "./support/check-lanes.ts";
import { lanesRuntime } from "./support/lanes-runtime.ts";
import { LanesWorld } from "./support/lanes-world.ts";
import { usageOf } from "./support/process-usage.ts";
import { type Behaviour, WELL_BEHAVED } from "./support/provider-behaviour.ts";
import { seedOfThisRun } from "./support/random.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { StoreView } from "./support/store-view.ts";

const BLOCKED = 10_000;
const REPLIES_EACH = 2;
const HEALTHY = 200;
const HEALTHY_EACH = 10;
const REQUEST_MESSAGES = 1_000;
const CONCURRENCY = 32;
const OUTBOX_ENTRIES_MAX = 100;
const WINDOW_MS = 8_000;
const LOOK_EVERY_MS = 250;
const WITHIN_MS = 120_000;

/** It takes its time, so that there is something in flight. */
const ANSWERING: Behaviour = { ...WELL_BEHAVED, answerMsMax: 10 };

let arena: Arena;
beforeEach(() => {
  arena = new Arena("pressure");
});
afterEach(() => arena.cleanUp());

/** `each` messages to each of so many conversations, in requests of up to 1,000. */
async function post(runtime: RuntimeProcess, channel: string, count: number, each: number): Promise<void> {
  const messages = Array.from({ length: each }, (_, n) =>
    Array.from({ length: count }, (_, i) => ({ conversation: `${channel}-${i}`, id: `m${n + 1}`, text: "hi" })),
  ).flat();
  for (let from = 0; from < messages.length; from += REQUEST_MESSAGES) {
    const page = messages.slice(from, from + REQUEST_MESSAGES);
    await until(async () => (await runtime.post(page, "fold", channel)).status === 202, {
      what: `a request to ${channel} to be accepted`,
      withinMs: WITHIN_MS,
      explain: () => runtime.lastWords(),
    });
  }
}

test("10,000 lanes blocked on a dead provider: a short outbox, others served, no herd, and all of it in order", async () => {
  const seed = seedOfThisRun();
  const say = (line: string): boolean => process.stdout.write(`pressure seed ${seed} ${line}\n`);
  const world = await LanesWorld.start(arena, seed, { dead: ANSWERING, well: ANSWERING });
  const data = arena.dataFolder("data");
  const channels = [
    world.channel("dead", { account: { concurrency: CONCURRENCY } }),
    world.channel("well", { account: { concurrency: CONCURRENCY } }),
  ];
  const runtime = new RuntimeProcess(arena, lanesRuntime({ port: await freePort(), dataDir: data, channels }));
  await runtime.ready();
  const store = StoreView.ofDataFolder(arena, data);
  const explain = (): string => runtime.lastWords();
  await post(runtime, "well", HEALTHY, 1);
  await world.delivers("well", HEALTHY, WITHIN_MS, explain);
  const before = usageOf(runtime.pid);

  await world.provider.ask("become", { account: "dead", mode: 503 });
  await post(runtime, "dead", BLOCKED, REPLIES_EACH);
  const isSettled = async (): Promise<boolean> => {
    const { inbox, outbox, lanes } = await store.unfinished();
    return inbox === 0 && outbox < OUTBOX_ENTRIES_MAX && lanes === BLOCKED;
  };
  await until(isSettled, {
    what: `${BLOCKED} lanes to wait, and the outbox to be short`,
    withinMs: WITHIN_MS,
    everyMs: LOOK_EVERY_MS,
    explain: async () => `${JSON.stringify(await store.unfinished())}\n${explain()}`,
  });

  const atRest = usageOf(runtime.pid);
  const startMs = performance.now();
  const seen: number[] = [];
  while (performance.now() < startMs + WINDOW_MS) {
    seen.push(await store.outboxEntries());
    await sleep(LOOK_EVERY_MS);
  }
  const blockedMs = performance.now() - startMs;
  const after = usageOf(runtime.pid);
  const cpu = ((100 * (after.cpuMs - atRest.cpuMs)) / blockedMs).toFixed(1);
  const grownMiB = ((after.rssBytes - before.rssBytes) / 1_048_576).toFixed(0);
  say(`blocked for ${(blockedMs / 1_000).toFixed(0)} s: ${cpu} % of a core, ${grownMiB} MiB more than before`);
  expect(Math.max(...seen)).toBeLessThan(OUTBOX_ENTRIES_MAX);

  // Others are served meanwhile.
  await post(runtime, "well", HEALTHY, 1 + HEALTHY_EACH); // the first of each is a repeat
  await world.delivers("well", HEALTHY * (1 + HEALTHY_EACH), WITHIN_MS, explain);
  const dead = await world.provider.ask("status", "dead");
  expect(dead).toMatchObject({ delivered: 0 });
  expect(dead.inFlightPeak).toBeLessThanOrEqual(CONCURRENCY);

  // It is back.
  await world.provider.ask("resetPeak", "dead");
  const backMs = performance.now();
  await world.provider.ask("become", { account: "dead", mode: "alive" });
  await world.delivers("dead", 1, WITHIN_MS, explain);
  const probedMs = performance.now() - backMs;
  await world.delivers("dead", BLOCKED * REPLIES_EACH, WITHIN_MS, explain);
  const { inFlightPeak } = await world.provider.ask("status", "dead");
  const tookMs = performance.now() - backMs - probedMs;
  say(
    `back: first reply after ${(probedMs / 1_000).toFixed(1)} s, the last ${(tookMs / 1_000).toFixed(1)} s later, at most ${inFlightPeak} in flight`,
  );
  expect(inFlightPeak).toBeLessThanOrEqual(CONCURRENCY);
  expect(inFlightPeak).toBeGreaterThan(CONCURRENCY / 4); // it was used, so that the bound means something

  const report = world.expectLanesKept();
  say(formatLanes(report));
  expect(report.replies).toBe(BLOCKED * REPLIES_EACH + HEALTHY * (1 + HEALTHY_EACH));
  expect(report.duplicates).toEqual([]);
  await until(async () => Object.values(await store.unfinished()).every((count) => count === 0), {
    what: "nothing unfinished in the store",
    withinMs: WITHIN_MS,
    explain,
  });
});
