// Channels, wake-ups, time and chance that break their contracts are found out; what the runtime has to bear from them, it bears.

import { describe, expect, test } from "vitest";
import { rulesOf } from "./mutant.ts";
import { borne, outsideMutants } from "./outside-mutants.ts";
import { testMutants } from "./test-mutants.ts";

const SEEDS = 20;

testMutants(outsideMutants);

describe(`the promise holds for ${SEEDS} seeds although`, () => {
  test.each(borne)("%s", { timeout: 120_000 }, async (_name, options) => {
    for (let seed = 1; seed <= SEEDS; seed += 1) expect(await rulesOf(seed, options), `seed ${seed}`).toEqual([]);
  });
});
