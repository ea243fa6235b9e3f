// Closing line: the last line of a test run in plain words, `N passed, N failed`, for people, scripts and CI.
//
// Invariants
//   C1. A file that did not load and an error outside of tests each count as one failure: a run never looks greener than
//       it was.
//   C2. In CI a skipped test fails the run, since nobody is there to notice it.
//   C3. With COLLOQUY_COUNTS_FILE set, the same counts go there as one JSON line: a tier may print what it likes.

import { appendFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts = count(modules, unhandledErrors.length);
    if (counts.failed > 0 || (process.env.CI && counts.skipped > 0)) process.exitCode = 1; // C2
    const file = process.env.COLLOQUY_COUNTS_FILE;
    if (file) appendFileSync(file, `${JSON.stringify(counts)}\n`); // C3
    process.stdout.write(`\n${closingLine(counts)}\n`);
  }
}

export function closingLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

function count(modules: readonly TestModule[], unhandledCount: number): Counts {
  const counts: Counts = { passed: 0, failed: unhandledCount, skipped: 0 };
  for (const module of modules) {
    counts.failed += module.errors().length; // C1
    for (const suite of module.children.allSuites()) counts.failed += suite.errors().length;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === "passed") counts.passed += 1;
      else if (state === "failed") counts.failed += 1;
      else counts.skipped += 1; // skipped, todo, or still pending when the run was cut short
    }
  }
  return counts;
}
