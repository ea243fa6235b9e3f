// Seed run: the world of one seed, run and judged, as plain values that can leave the process.

import { formatViolations, judge } from "./judge.ts";
import { runWorld } from "./world.ts";

export interface SeedReport {
  readonly seed: number;
  readonly events: number;
  readonly steps: number;
  readonly isTwice: boolean;
  readonly cellHits: ReadonlyMap<string, number>;
  readonly faultHits: ReadonlyMap<string, number>;
  /** What was wrong, for people; null if the promise was kept. */
  readonly wrong: string | null;
}

/** One seed in so many is run twice, and must go the same way. */
export const TWICE_EVERY = 50;

/** Never rejects: a world that cannot be run to its end is wrong as well. */
export async function runSeed(seed: number): Promise<SeedReport> {
  const isTwice = seed % TWICE_EVERY === 0;
  try {
    const { events, steps, cellHits, faultHits, history, tail, traceHash } = await runWorld(seed);
    const violations = judge(history);
    const wrongs = violations.length === 0 ? [] : [formatViolations(violations), "last events:", ...tail];
    if (isTwice && (await runWorld(seed)).traceHash !== traceHash) wrongs.push("run twice, it went two ways");
    return { seed, events, steps, isTwice, cellHits, faultHits, wrong: wrongs.length === 0 ? null : wrongs.join("\n") };
  } catch (error) {
    const wrong = `the world ended with ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
    return { seed, events: 0, steps: 0, isTwice, cellHits: new Map(), faultHits: new Map(), wrong };
  }
}
