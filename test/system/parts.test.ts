// Parts of the runtime that fail in the middle of their work, with real processes under load: the tree mends each by itself,
// nothing is lost, and at the end it has its shape again. COLLOQUY_SEED repeats the choices of a run.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena } from "./support/arena.ts";
import { partsRun } from "./support/parts-run.ts";
import { seedOfThisRun } from "./support/random.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("parts");
});
afterEach(() => arena.cleanUp());

test("parts of each kind that fail, code that fails at random places, connections that are cut and a port that closes are mended by the tree alone", async () => {
  const seed = seedOfThisRun();
  process.stdout.write(`parts seed ${seed}\n`);
  const report = await partsRun(arena, {
    seed,
    strikes: 4,
    parts: [
      ["health"],
      ["store"],
      ["leases"],
      ["observer"],
      ["ingress"],
      ...["committer", "lanes", "conversations", "reader", "retry-worker"].map((id) => ["shards", "shard-00", id]),
    ],
    closesPort: true,
    cutsConnections: true,
    messagesEach: 1_000,
  });
  process.stdout.write(`parts seed ${seed} struck at ${report.struck.join(", ")}\n`);
  expect(report.struck).toHaveLength(4);
  expect(report.treeAfter).toEqual(report.treeBefore);
  expect(report.leftAfterStop).toEqual([]);
});
