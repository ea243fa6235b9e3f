// Parts of the runtime that fail in the middle of their work, with real processes under load: the tree mends each by itself,
// nothing is lost, and at the end it has its shape again. COLLOQUY_SEED repeats the choices of a run.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena } from "../system/support/arena.ts";
import { partsRun } from "../system/support/parts-run.ts";
import { seedOfThisRun } from "../system/support/random.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("parts");
});
afterEach(() => arena.cleanUp());

test("a part that fails at a random place is mended by the tree alone, and a stop leaves nothing behind", async () => {
  const seed = seedOfThisRun();
  process.stdout.write(`parts seed ${seed}\n`);
  const report = await partsRun(arena, {
    seed,
    strikes: 1,
    parts: [["shards", "shard-00", "committer"]],
    closesPort: false,
    cutsConnections: false,
    messagesEach: 400,
  });
  process.stdout.write(`parts seed ${seed} struck at ${report.struck.join(", ")}\n`);
  expect(report.struck).toHaveLength(1);
  expect(report.treeAfter).toEqual(report.treeBefore);
  expect(report.leftAfterStop).toEqual([]);
});
