// Parts of the runtime that fail in the middle of their work, with real processes under load: the tree mends each by itself,
// nothing is lost, and at the end it has its shape again.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { embeddedSocketPath } from "../../src/store/embedded-redis.ts";
import type { TreeNode } from "../../supervisors/tree.ts";
import { Arena, freePort, tailOf, until } from "./support/arena.ts";
import { HelperProcess } from "./support/helper-process.ts";
import { seededRandom, seedOfThisRun } from "./support/random.ts";
import type { SabotagedConfig, SabotagedVerbs } from "./support/sabotaged-runtime.ts";
import { isNothing, StoreView } from "./support/store-view.ts";
import { allAnswered, expectPromiseKept, senderReaches, Traffic } from "./support/traffic.ts";

/** Two failures within the period of an intensity are too many on purpose: more than that apart, each is mended. */
const PERIOD_MS = 5_000;

let arena: Arena;
beforeEach(() => {
  arena = new Arena("parts");
});
afterEach(() => arena.cleanUp());

const shapeOf = ({ id, state, children }: TreeNode): unknown => ({ id, state, children: children.map(shapeOf) });

test("parts that fail at random places, connections that are cut and a port that closes are mended by the tree alone", async () => {
  const seed = seedOfThisRun();
  const random = seededRandom(seed, "parts");
  const say = (line: string): boolean => process.stdout.write(`parts seed ${seed} ${line}\n`);
  say("begins");
  const explain = (): string => tailOf(arena.path("runtime.out"));
  const traffic = await Traffic.start(arena, seed);
  const config: SabotagedConfig = {
    port: await freePort(),
    data: arena.dataFolder("data"),
    deliverTo: traffic.deliverTo,
  };
  const runtime = new HelperProcess<SabotagedVerbs>(arena, "sabotaged-runtime.mjs", "runtime", config);
  await runtime.ask("start", undefined);
  const url = `http://127.0.0.1:${config.port}`;
  const ready = () =>
    until(async () => ((await fetch(`${url}/readyz`).catch(() => null))?.ok ? true : undefined), {
      what: "the node to be ready",
      withinMs: 30_000,
    });
  await ready();
  const shape = shapeOf(await runtime.ask("tree", undefined));

  const redis = new Redis(embeddedSocketPath(config.data));
  redis.on("error", () => undefined);
  arena.onCleanUp(() => redis.disconnect());
  const failures: readonly (() => Promise<unknown>)[] = [
    ...Array.from({ length: 8 }, () => () => runtime.ask("arm", random.below(400))),
    () => runtime.ask("closePort", undefined),
    () => redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
  ];
  for (const [i, fail] of random.shuffled([...failures]).entries()) {
    const sender = await traffic.send(`m${i}-`, { urls: [url], conversations: 100, messages: 1_000 });
    await senderReaches(sender, "its middle", ({ answered }) => answered > 200 + random.below(300), explain);
    const struckAtMs = performance.now();
    await fail();
    await senderReaches(sender, "the last answer", allAnswered, explain);
    await sleep(Math.max(0, PERIOD_MS + 100 - (performance.now() - struckAtMs)));
    expect(await runtime.ask("crashed", undefined)).toBeNull();
  }
  await ready();
  const struck = await runtime.ask("struck", undefined);
  say(`struck at ${struck.join(", ")}`);
  expect(struck).toHaveLength(8);
  const store = StoreView.ofDataFolder(arena, config.data);
  await until(async () => isNothing(await store.unfinished()), { what: "nothing unfinished", withinMs: 30_000 });
  expectPromiseKept(traffic.history());
  expect(shapeOf(await runtime.ask("tree", undefined))).toEqual(shape);
  expect(await runtime.ask("stop", undefined)).toEqual([]);
});
