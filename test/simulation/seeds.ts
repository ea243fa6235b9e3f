// The promise, simulated: seeded worlds, each with processes that contend, faults at every named step, and a judgement of P1 to P6
// from what the outside and the store saw. simulation.test.ts runs the first of them in `npm test`, test/system/simulation.test.ts
// the rest.

import { availableParallelism } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemEnvironment } from "../../src/environment.ts";
import { type SeedAnswer, SeedProcesses } from "./seed-processes.ts";
import { type SeedReport, TWICE_EVERY } from "./seed-run.ts";
import { CELLS, cellName, matrixTable } from "./steps.ts";
import { EVENTS_MIN } from "./world.ts";

export interface Seeds {
  readonly first: number;
  readonly last: number;
}

export const FIRST_SEEDS: Seeds = { first: 1, last: 300 };
/** So many meet every cell of the step matrix at least `HITS_MIN` times. */
export const OTHER_SEEDS: Seeds = { first: 301, last: 3_000 };

const SLICE = 250;
const HITS_MIN = 10;
/** It takes some tens of ms. */
const SEED_MS_MAX = 60_000;
/** More of them say nothing new. */
const WRONG_MAX = 10;

const countOf = ({ first, last }: Seeds): number => last - first + 1;

/** `COLLOQUY_TEST_SEED` asks for one, `COLLOQUY_TEST_RUNS` for so many from it, or from the first, on. */
export function chosenSeeds(seeds: Seeds, env: Readonly<Record<string, string | undefined>>): Seeds {
  const { COLLOQUY_TEST_SEED: seed, COLLOQUY_TEST_RUNS: runs } = env;
  if (seed === undefined && runs === undefined) return seeds;
  const first = Number(seed ?? seeds.first);
  return { first, last: first + Number(runs ?? 1) - 1 };
}

/** Parts of at most `SLICE` seeds. */
export function slicesOf({ first, last }: Seeds): Seeds[] {
  const count = Math.ceil(countOf({ first, last }) / SLICE);
  return Array.from({ length: count }, (_, i) => ({
    first: first + i * SLICE,
    last: Math.min(first + (i + 1) * SLICE - 1, last),
  }));
}

export const isCovering = (seeds: Seeds): boolean => countOf(seeds) >= countOf(OTHER_SEEDS);

export const twiceIn = ({ first, last }: Seeds): number =>
  Math.floor(last / TWICE_EVERY) - Math.floor((first - 1) / TWICE_EVERY);

/** What is wrong with a seed, and how to see it again; null if nothing is. */
export function toldOf(answer: SeedAnswer): string | null {
  const [seed, wrong] = answer.kind === "none" ? [answer.seed, answer.why] : [answer.report.seed, answer.report.wrong];
  if (wrong === null) return null;
  return `seed ${seed} breaks the promise; replay it: COLLOQUY_TEST_SEED=${seed} npx vitest run --project unit test/simulation/simulation.test.ts\n${wrong}`;
}

class Totals {
  seeds = 0;
  events = 0;
  steps = 0;
  fewestEvents = Number.POSITIVE_INFINITY;
  twice = 0;
  readonly cellHits = new Map<string, number>();
  readonly faultHits = new Map<string, number>();

  add(report: SeedReport): void {
    this.seeds += 1;
    this.events += report.events;
    this.steps += report.steps;
    this.fewestEvents = Math.min(this.fewestEvents, report.events);
    if (report.isTwice) this.twice += 1;
    for (const [into, from] of [
      [this.cellHits, report.cellHits],
      [this.faultHits, report.faultHits],
    ] as const) {
      for (const [name, count] of from) into.set(name, (into.get(name) ?? 0) + count);
    }
  }

  toString(): string {
    const { cellHits, faultHits, seeds, events, fewestEvents, steps, twice } = this;
    const faults = [...faultHits].sort(([a], [b]) => a.localeCompare(b)).map(([name, count]) => `${name} ${count}`);
    const sum = `${seeds} seeds, ${events} events (fewest ${fewestEvents}), ${steps} steps, ${twice} run twice`;
    return `${matrixTable(cellHits)}\n${faults.join(", ")}\n${sum}\n`;
  }
}

/** Defines the tests of these seeds, or of those that the environment asks for instead. */
export function testSeeds(wanted: Seeds, processCount: number = availableParallelism()): void {
  const seeds = chosenSeeds(wanted, process.env);
  const totals = new Totals();
  let processes: SeedProcesses;

  describe("the promise holds (P1 to P6)", () => {
    beforeAll(() => {
      const options = { environment: systemEnvironment, processes: processCount, seedMsMax: SEED_MS_MAX };
      processes = new SeedProcesses(options);
    });
    afterAll(async () => {
      await processes.close();
      process.stdout.write(totals.toString());
    });

    test.each(slicesOf(seeds))("in $first to $last", { timeout: 600_000 }, async ({ first, last }) => {
      const wrongs: string[] = [];
      const slice = Array.from({ length: last - first + 1 }, (_, i) => first + i);
      await processes.run(slice, (answer) => {
        if (answer.kind === "report") totals.add(answer.report);
        const told = toldOf(answer);
        if (told !== null) wrongs.push(told);
        return wrongs.length < WRONG_MAX;
      });
      if (wrongs.length > 0) throw new Error(wrongs.join("\n\n"));
    });

    test("in runs that are long, each seed, and one in fifty twice", () => {
      expect(totals.seeds).toBe(countOf(seeds));
      expect(totals.fewestEvents).toBeGreaterThanOrEqual(EVENTS_MIN);
      expect(totals.twice).toBe(twiceIn(seeds));
    });

    if (isCovering(seeds)) {
      test("in runs that meet every fault at every named step", () => {
        const rare = CELLS.map(cellName).filter((name) => (totals.cellHits.get(name) ?? 0) < HITS_MIN);
        expect(rare, `hit less than ${HITS_MIN} times`).toEqual([]);
      });
    }
  });
}
