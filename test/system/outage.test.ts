// Redis away for a minute, with real processes: nothing is restarted, webhooks answer 503 all the while, then all goes on.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { TreeNode } from "../../supervisors/tree.ts";
import { Arena, freePort } from "./support/arena.ts";
import { seedOfThisRun } from "./support/random.ts";
import { redisOnPort } from "./support/redis-on-port.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { allAnswered, expectPromiseKept, senderReaches, Traffic } from "./support/traffic.ts";

const OUTAGE_MS = 60_000;

let arena: Arena;
beforeEach(() => {
  arena = new Arena("outage");
});
afterEach(() => arena.cleanUp());

const exits = ({ id, lastExit, children }: TreeNode): string[] => [
  ...(lastExit === null ? [] : [`${id}: ${lastExit.reason}`]),
  ...children.flatMap(exits),
];

test("Redis away for a minute restarts nothing: 503 throughout, and then every message is answered, in order", async () => {
  const seed = seedOfThisRun();
  process.stdout.write(`outage seed ${seed}\n`);
  const traffic = await Traffic.start(arena, seed);
  const redisPort = await freePort();
  const redis = await redisOnPort(arena, redisPort);
  const runtime = new RuntimeProcess(arena, {
    port: await freePort(),
    data: arena.dataFolder("data"),
    deliverTo: traffic.deliverTo,
    redis: `redis://127.0.0.1:${redisPort}`,
  });
  await runtime.ready();
  const sender = await traffic.send("m", { urls: [runtime.url], conversations: 50, messages: 2_000 });
  await senderReaches(sender, "its middle", ({ answered }) => answered > 500);

  await redis.kill();
  await runtime.reaches("/readyz", 503, 10_000);
  const untilMs = performance.now() + OUTAGE_MS;
  const answers: string[] = [];
  for (let i = 0; performance.now() < untilMs; i += 1) {
    const { status, headers } = await runtime.post({ conversation: "during", id: `d${i}`, text: "" });
    answers.push(`${status} ${headers.has("retry-after")}`);
    await sleep(500);
  }
  expect(new Set(answers)).toEqual(new Set(["503 true"]));
  const { sent, answered } = await sender.ask("status", undefined);
  expect(answered).toBeLessThan(sent);

  await redis.start();
  await runtime.ready();
  await senderReaches(sender, "the last answer", allAnswered, () => runtime.lastWords());
  expectPromiseKept(traffic.history());
  const tree = JSON.parse((await runtime.get("/admin/tree")).text) as TreeNode;
  expect(exits(tree)).toEqual([]);
  expect(readFileSync(runtime.stdoutFile, "utf8")).not.toContain("restarted");
});
