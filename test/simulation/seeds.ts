// The promise, simulated: seeded worlds, each with processes that contend, faults at every named step, and a judgement of P1 to P6
// from what the outside and the store saw. simulation.test.ts runs some of them in `npm test`, test/system/simulation.test.ts all.

import { afterAll, describe, expect, test } from "vitest";
import { formatViolations, judge } from "./judge.ts";
import { CELLS, cellName, matrixTable } from "./steps.ts";
import { EVENTS_MIN, type RunReport, runWorld } from "./world.ts";

const FIRST_SEED = Number(process.env.COLLOQUY_TEST_SEED ?? 1);
/** So many meet every cell of the step matrix at least `HITS_MIN` times. */
export const SEEDS_FULL = 3_000;
const SLICE = 250;
/** One seed in so many is run twice. */
const TWICE_EVERY = 50;
const HITS_MIN = 10;

const totals = { seeds: 0, events: 0, steps: 0, fewestEvents: Number.POSITIVE_INFINITY, twice: 0 };
const cellHits = new Map<string, number>();
const faultHits = new Map<string, number>();

function replay(seed: number): string {
  return `replay it: COLLOQUY_TEST_SEED=${seed} npx vitest run --project unit test/simulation/simulation.test.ts`;
}

async function checkSeed(seed: number): Promise<RunReport> {
  const report = await runWorld(seed);
  const violations = judge(report.history);
  if (violations.length > 0) {
    const told = formatViolations(violations);
    throw new Error(
      `seed ${seed} breaks the promise; ${replay(seed)}\n${told}\nlast events:\n${report.tail.join("\n")}`,
    );
  }
  return report;
}

function add(report: RunReport): void {
  totals.seeds += 1;
  totals.events += report.events;
  totals.steps += report.steps;
  totals.fewestEvents = Math.min(totals.fewestEvents, report.events);
  for (const [into, from] of [
    [cellHits, report.cellHits],
    [faultHits, report.faultHits],
  ] as const) {
    for (const [name, count] of from) into.set(name, (into.get(name) ?? 0) + count);
  }
}

/** Defines the tests of so many seeds; `COLLOQUY_TEST_SEED` and `COLLOQUY_TEST_RUNS` choose others. */
export function testSeeds(wanted: number): void {
  const seeds = Number(process.env.COLLOQUY_TEST_RUNS ?? (process.env.COLLOQUY_TEST_SEED === undefined ? wanted : 1));
  describe("the promise holds (P1 to P6)", () => {
    const slices = Array.from({ length: Math.ceil(seeds / SLICE) }, (_, i) => FIRST_SEED + i * SLICE);
    test.each(slices)("in %i and the seeds behind it", { timeout: 600_000 }, async (first) => {
      for (let seed = first; seed < Math.min(first + SLICE, FIRST_SEED + seeds); seed += 1) {
        const report = await checkSeed(seed);
        add(report);
        if (seed % TWICE_EVERY !== 0) continue;
        totals.twice += 1;
        expect((await runWorld(seed)).traceHash, `seed ${seed} runs twice in the same way`).toBe(report.traceHash);
      }
    });

    /** A replay of one seed has nothing to count. */
    if (seeds >= SEEDS_FULL) {
      test("in runs that are long and meet every fault at every named step", () => {
        const rare = CELLS.map(cellName).filter((name) => (cellHits.get(name) ?? 0) < HITS_MIN);
        expect(rare, `hit less than ${HITS_MIN} times`).toEqual([]);
        expect(totals.fewestEvents).toBeGreaterThanOrEqual(EVENTS_MIN);
        expect(totals.twice).toBe(
          Math.floor((FIRST_SEED + seeds - 1) / TWICE_EVERY) - Math.floor((FIRST_SEED - 1) / TWICE_EVERY),
        );
      });
    }

    afterAll(() => {
      const faults = [...faultHits].sort(([a], [b]) => a.localeCompare(b)).map(([name, count]) => `${name} ${count}`);
      const { events, fewestEvents, steps, twice } = totals;
      process.stdout.write(
        `${matrixTable(cellHits)}\n${faults.join(", ")}\n${totals.seeds} seeds, ${events} events (fewest ${fewestEvents}), ${steps} steps, ${twice} run twice\n`,
      );
    });
  });
}
