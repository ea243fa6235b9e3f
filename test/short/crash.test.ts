// The crash test of test/system/crash.test.ts, small enough for every `npm test`.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena } from "../system/support/arena.ts";
import { crashRun } from "../system/support/crash-run.ts";
import { seedOfThisRun } from "../system/support/random.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("crash-short");
});
afterEach(() => arena.cleanUp());

test("600 messages of 20 conversations survive kill -9 of the runtime twice and of Redis once", async () => {
  const seed = seedOfThisRun();
  const say = (line: string): boolean => process.stdout.write(`crash seed ${seed} ${line}\n`);
  const report = await crashRun(arena, {
    seed,
    conversations: 20,
    messages: 600,
    kills: { runtime: 2, redis: 1, both: 0 },
    startupKills: 0,
    say,
  });
  expect(report.kills).toHaveLength(3);
  expect(report.messages).toBe(620);
});
