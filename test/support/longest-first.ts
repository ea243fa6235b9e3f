// Longest first: the order of test files in which several workers end at about the same time. A file that takes a minute and begins
// last keeps one worker busy while the others have nothing left to do.
//
// The order is the same on each machine and in each run: what the runner remembers of earlier runs is not there in a fresh clone.

import { BaseSequencer, type TestSpecification } from "vitest/node";

/** What takes longer than some seconds, the longest first. */
export const LONG_FILES: readonly string[] = [
  "test/mutants/store-mutants.test.ts",
  "test/mutants/outside-mutants.test.ts",
  "test/simulation/simulation.test.ts",
  "test/store/differential.property.test.ts",
  "test/mutants/script-mutants.test.ts",
  "test/store/embedded-redis.test.ts",
  "test/watchdog/watchdog.test.ts",
  "test/actors/promise.property.test.ts",
  "test/actors/semantics.property.test.ts",
  "test/cli/lifecycle.test.ts",
  "test/store/data-folder.test.ts",
  "test/store/redis-faults.test.ts",
  "test/turn-attribution.test.ts",
  "test/verify/corrupted-runs.test.ts",
];

/** The long ones in their order, then the rest by path. */
export function longestFirst(paths: readonly string[], long: readonly string[] = LONG_FILES): string[] {
  const rank = (path: string): number => (long.includes(path) ? long.indexOf(path) : long.length);
  return [...paths].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0));
}

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const { root } = this.ctx.config;
    const pathOf = ({ moduleId }: TestSpecification): string => moduleId.slice(root.length + 1);
    const places = new Map(longestFirst(files.map(pathOf)).map((path, i) => [path, i]));
    return [...files].sort((a, b) => places.get(pathOf(a))! - places.get(pathOf(b))!);
  }
}
