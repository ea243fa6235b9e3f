// A thousand lanes against a provider that misbehaves in every way, with real processes: runtime and Redis die with kill -9
// under load. Every reply is delivered in the end, in order, under its key and with its bytes; each that the provider accepted
// more than once is listed with its cause. COLLOQUY_SEED repeats the choices of a run.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena } from "./support/arena.ts";
import { lanesRun } from "./support/lanes-run.ts";
import type { Behaviour } from "./support/provider-behaviour.ts";
import { seedOfThisRun } from "./support/random.ts";

const MISBEHAVED: Behaviour = {
  shares: { slow: 0.05, "429": 0.02, "500": 0.03, "503": 0.03, "reset-unread": 0.02, "reset-taken": 0.02, hang: 0.005 },
  refusesFirst: 0,
  faultsMax: 4,
  answerMsMax: 30,
  slowMsMin: 100,
  slowMsMax: 300,
  retryAfterS: 1,
};

let arena: Arena;
beforeEach(() => {
  arena = new Arena("lanes");
});
afterEach(() => arena.cleanUp());

test("1,000 lanes deliver everything in order through a misbehaving provider and 8 kills of runtime and Redis", async () => {
  const seed = seedOfThisRun();
  const say = (line: string): boolean => process.stdout.write(`lanes seed ${seed} ${line}\n`);
  say("begins");
  const kills = { runtime: 4, redis: 2, both: 2 };
  const report = await lanesRun(arena, { seed, lanes: 1_000, messages: 6_000, behaviour: MISBEHAVED, kills, say });
  say(`ends after ${(report.tookMs / 1_000).toFixed(1)} s`);

  expect(report.replies).toBe(6_000);
  expect(report.killed).toHaveLength(8);
  expect(report.ambiguous).toBeGreaterThan(100);
  expect(report.attempts).toBeGreaterThan(6_500);
  expect(report.duplicates.length).toBeGreaterThan(0);
  expect(report.duplicates.length).toBeLessThanOrEqual(report.ambiguous + report.unacknowledged);
});
