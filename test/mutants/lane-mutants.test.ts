// Each mutant of the rules of a lane is found as what it must be found; the rules as they are pass the same schedules.

import fc from "fast-check";
import { expect, test } from "vitest";
import { judgeLane, LANE_LAWS, LANE_RULES, type LaneLaw, laneSchedules, runLane } from "../domain/model/lane.ts";
import { type LaneMutant, laneMutants } from "./lane-mutants.ts";

/** A mutant that needs more is hardly looked for at all. */
const RUNS_MAX = 500;
const SEED = 1;

function lawsThatFind({ rules }: LaneMutant): ReadonlySet<LaneLaw> {
  const found = new Set<LaneLaw>();
  const passes = fc.property(laneSchedules, (schedule) => {
    expect(judgeLane(schedule, runLane(LANE_RULES, schedule)), "without the mutant").toEqual([]);
    for (const law of judgeLane(schedule, runLane({ ...LANE_RULES, ...rules }, schedule))) found.add(law);
  });
  fc.assert(passes, { seed: SEED, numRuns: RUNS_MAX });
  return found;
}

test.each(laneMutants.map((mutant) => [mutant.name, mutant] as const))("%s: it is found out", (_name, mutant) => {
  expect(lawsThatFind(mutant)).toContain(mutant.law);
});

test("each law finds one, and no two share a name", () => {
  expect(new Set(laneMutants.map(({ law }) => law)).size).toBe(LANE_LAWS.length);
  expect(new Set(laneMutants.map(({ name }) => name)).size).toBe(laneMutants.length);
});
