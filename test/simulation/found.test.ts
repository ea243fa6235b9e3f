// What the simulator found, each reduced to the few events that matter.

import { expect, test } from "vitest";
import { resolveConfig } from "../../src/config.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import { SimulatedProcess } from "../../src/testing/simulated-process.ts";
import { SimulatedStore, smoothWays } from "../../src/testing/simulated-store.ts";
import { Saboteur } from "../support/saboteur.ts";

test("own code that crashes when Redis comes back ends its part, not the process", async () => {
  let hasStruck = false;
  for (let seed = 1; seed <= 20; seed += 1) {
    const scheduler = new Scheduler({ seed });
    let saboteur!: Saboteur;
    const process = new SimulatedProcess({
      scheduler,
      node: "a",
      name: "a",
      config: resolveConfig({ logLevel: "silent" }),
      bots: () => [],
      channels: () => [],
      wakeUps: () => ({ start: () => undefined, schedule: () => undefined, stop: () => Promise.resolve() }),
      store: (life) => {
        const redis = new SimulatedLife(scheduler, "redis");
        return new SimulatedStore(scheduler, life, new MemoryStore(redis, new MemoryData()), smoothWays);
      },
      seen: (life, counters) => {
        saboteur = new Saboteur(life, counters);
        return saboteur;
      },
    });
    const isReady = (): boolean => process.notReady === undefined;
    expect(await scheduler.until(isReady, 60_000)).toBe(true);
    process.store.disconnect();
    await scheduler.settle();
    saboteur.arm(0);
    process.store.reconnect();
    await scheduler.settle(); // an error that nobody catches ends the step, as it would end the process
    hasStruck ||= saboteur.struck.length > 0;
    saboteur.disarm();
    await scheduler.pass(10_000);
    expect([process.notReady, process.crashes]).toEqual([undefined, []]);
    process.kill();
  }
  expect(hasStruck).toBe(true);
});
