// Each mutant of the pure rules is found as what it must be found; its twin, the rules as they are, passes the same
// schedules.

import fc from "fast-check";
import { expect, test } from "vitest";
import { judge, type Law } from "../domain/model/laws.ts";
import { RULES } from "../domain/model/rules.ts";
import { run, schedules } from "../domain/model/schedule.ts";
import { type DomainMutant, domainMutants } from "./domain-mutants.ts";

/** A mutant that needs more is hardly looked for at all. */
const RUNS_MAX = 1_000;

interface Finding {
  readonly runs: number | null;
  readonly found: readonly Law[];
}

function hunt({ rules, mode, ordering, seed }: DomainMutant): Finding {
  let found: Law[] = [];
  let runs = 0;
  const passes = fc.property(schedules, (schedule) => {
    runs += 1;
    expect(judge(run(RULES, mode, ordering, schedule)), "without the mutant").toEqual([]);
    found = [...new Set(judge(run({ ...RULES, ...rules }, mode, ordering, schedule)).map(({ law }) => law))];
    return found.length === 0;
  });
  const { failed } = fc.check(passes, { seed, numRuns: RUNS_MAX, endOnFailure: true });
  return { runs: failed ? runs : null, found };
}

test.each(domainMutants.map((mutant) => [mutant.name, mutant] as const))("%s: it is found out", (_name, mutant) => {
  const { runs, found } = hunt(mutant);
  expect(runs, `schedules of seed ${mutant.seed}, of ${RUNS_MAX}, until it is found`).not.toBeNull();
  expect(found).toContain(mutant.law);
});

test("there are mutants of each of the four, and no two share a name", () => {
  expect(new Set(domainMutants.map((mutant) => mutant.of)).size).toBe(4);
  expect(new Set(domainMutants.map(({ name }) => name)).size).toBe(domainMutants.length);
});
