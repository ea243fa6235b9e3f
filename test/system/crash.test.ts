// The crash test of the promise, with real processes: runtime and Redis die with kill -9 under load, and nothing is lost,
// doubled or out of order. COLLOQUY_SEED repeats the choices of a run.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena } from "./support/arena.ts";
import { crashRun } from "./support/crash-run.ts";
import { seedOfThisRun } from "./support/random.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("crash");
});
afterEach(() => arena.cleanUp());

test("10,000 messages of 200 conversations survive 13 kills of runtime and Redis, each once and in order", async () => {
  const seed = seedOfThisRun();
  const say = (line: string): boolean => process.stdout.write(`crash seed ${seed} ${line}\n`);
  say("begins");
  const report = await crashRun(arena, {
    seed,
    conversations: 200,
    messages: 10_000,
    kills: { runtime: 8, redis: 3, both: 2 },
    startupKills: 2,
    say,
  });
  const { kills, ...figures } = report;
  say(`ends: ${JSON.stringify(figures)}`);

  const count = (kind: string): number => kills.filter((kill) => kill.kind === kind).length;
  expect({ runtime: count("runtime"), redis: count("redis"), both: count("both") }).toEqual({
    runtime: 8,
    redis: 3,
    both: 2,
  });
  for (const kill of kills) {
    expect(kill.requestsInFlight, JSON.stringify(kill)).toBeGreaterThan(0);
    expect(kill.unanswered, JSON.stringify(kill)).toBeGreaterThan(0);
    expect(kill.outboxEntries + kill.heldBySink, JSON.stringify(kill)).toBeGreaterThan(0);
  }
  expect(report.messages).toBe(10_000 + 200); // and one more for each conversation after the last cold start
});
