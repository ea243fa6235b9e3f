// Which seeds run where, and what is told of one that failed.

import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { type SeedReport, TWICE_EVERY } from "./seed-run.ts";
import { chosenSeeds, FIRST_SEEDS, isCovering, OTHER_SEEDS, type Seeds, slicesOf, toldOf, twiceIn } from "./seeds.ts";

const all = ({ first, last }: Seeds): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const anySeeds = fc
  .record({ first: fc.integer({ min: 1, max: 10_000 }), count: fc.integer({ min: 1, max: 3_000 }) })
  .map(({ first, count }) => ({ first, last: first + count - 1 }));

test("both tiers together run the seeds 1 to 3,000, each once", () => {
  expect([...all(FIRST_SEEDS), ...all(OTHER_SEEDS)]).toEqual(all({ first: 1, last: 3_000 }));
});

test("the system tier counts what its seeds meet, a replay does not", () => {
  expect(isCovering(OTHER_SEEDS)).toBe(true);
  expect(isCovering(FIRST_SEEDS)).toBe(false);
});

law.prop([anySeeds])("slices are all of the seeds, in order, each once, and few enough for a test", (seeds) => {
  const slices = slicesOf(seeds);
  expect(slices.flatMap(all)).toEqual(all(seeds));
  for (const slice of slices) expect(all(slice).length).toBeLessThanOrEqual(250);
});

law.prop([anySeeds])("so many are run twice as have the number for it", (seeds) => {
  expect(twiceIn(seeds)).toBe(all(seeds).filter((seed) => seed % TWICE_EVERY === 0).length);
});

describe("the environment", () => {
  test.each([
    [{}, OTHER_SEEDS],
    [{ COLLOQUY_TEST_SEED: "77" }, { first: 77, last: 77 }],
    [{ COLLOQUY_TEST_RUNS: "5" }, { first: 301, last: 305 }],
    [
      { COLLOQUY_TEST_SEED: "77", COLLOQUY_TEST_RUNS: "5" },
      { first: 77, last: 81 },
    ],
  ])("%o chooses %o", (env, chosen) => {
    expect(chosenSeeds(OTHER_SEEDS, env)).toEqual(chosen);
  });
});

describe("of a seed", () => {
  const report: SeedReport = {
    seed: 7,
    events: 1_000,
    steps: 1,
    isTwice: false,
    cellHits: new Map(),
    faultHits: new Map(),
    wrong: null,
  };
  const command = "COLLOQUY_TEST_SEED=7 npx vitest run --project unit test/simulation/simulation.test.ts";

  test("that kept the promise nothing is told", () => {
    expect(toldOf({ kind: "report", report })).toBeNull();
  });

  test("that broke it, or never ended, its number, what is wrong and the command that replays it are", () => {
    const broken = toldOf({ kind: "report", report: { ...report, wrong: "lost: m1" } });
    expect(broken).toBe(`seed 7 breaks the promise; replay it: ${command}\nlost: m1`);
    const endless = toldOf({ kind: "none", seed: 7, why: "it did not end within 60 s" });
    expect(endless).toBe(`seed 7 breaks the promise; replay it: ${command}\nit did not end within 60 s`);
  });
});
