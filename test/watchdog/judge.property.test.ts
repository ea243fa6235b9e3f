// Laws of the judge: it counts CPU time between beats and nothing else.

import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { type JudgeRules, judge, type Sample, type Verdict, watchFrom } from "../../src/watchdog/judge.ts";

const LIMIT_MS = 1_000;
const EVERY_MS = 50;

interface Tick {
  readonly passedMs: number;
  /** Share of it that was used as CPU time. */
  readonly cpuShare: number;
  readonly beats: boolean;
  readonly isAsleep: boolean;
}

const tick: fc.Arbitrary<Tick> = fc.record({
  passedMs: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 120 }) }, fc.integer({ min: 0, max: 100_000 })),
  cpuShare: fc.constantFrom(0, 0, 0.1, 0.5, 1),
  beats: fc.boolean().chain((first) => fc.boolean().map((second) => first && second)),
  isAsleep: fc.boolean(),
});
const ticks = fc.array(tick, { maxLength: 120 });

interface Step {
  readonly sample: Sample;
  readonly verdict: Verdict;
  /** CPU ms since the sample that showed the last beat. */
  readonly cpuMs: number;
  /** Time by the clock since then. */
  readonly clockMs: number;
}

function run(given: readonly Tick[], rules: Partial<JudgeRules> = {}): Step[] {
  const all: JudgeRules = { limitMs: LIMIT_MS, sampleEveryMs: EVERY_MS, isCpuOfProcess: false, ...rules };
  let sample: Sample = { beats: 0, cpuMs: 0, atMs: 0, isAsleep: false };
  let watch = watchFrom(sample);
  let last = sample;
  return given.map(({ passedMs, cpuShare, beats, isAsleep }) => {
    sample = {
      beats: sample.beats + (beats ? 1 : 0),
      cpuMs: sample.cpuMs + passedMs * cpuShare,
      atMs: sample.atMs + passedMs,
      isAsleep,
    };
    if (beats) last = sample;
    const judged = judge(watch, sample, all);
    watch = judged.watch;
    return { sample, verdict: judged.verdict, cpuMs: sample.cpuMs - last.cpuMs, clockMs: sample.atMs - last.atMs };
  });
}

describe("blocked", () => {
  test.prop([ticks])("means limitMs of CPU time without a beat, exactly", (given) => {
    for (const { verdict, cpuMs } of run(given)) expect(verdict === "blocked").toBe(cpuMs >= LIMIT_MS);
  });

  test.prop([ticks])("never is a thread that uses no CPU time, however long it is silent", (given) => {
    const verdicts = run(given.map((one) => ({ ...one, cpuShare: 0 }))).map(({ verdict }) => verdict);
    expect(verdicts).not.toContain("blocked");
  });

  test.prop([ticks])(
    "is, by the CPU time of a process, only what was silent for as long while it was looked at",
    (given) => {
      for (const { verdict, cpuMs, clockMs } of run(given, { isCpuOfProcess: true }))
        if (verdict === "blocked") expect(Math.min(cpuMs, clockMs)).toBeGreaterThanOrEqual(LIMIT_MS);
    },
  );

  test("is found by the CPU time of a process, too", () => {
    const busy: Tick = { passedMs: EVERY_MS, cpuShare: 1, beats: false, isAsleep: false };
    const steps = run(
      Array.from({ length: 30 }, () => busy),
      { isCpuOfProcess: true },
    );
    expect(steps.findIndex(({ verdict }) => verdict === "blocked")).toBe(LIMIT_MS / EVERY_MS - 1);
  });

  test("is not, by the CPU time of a process, what other threads used before the process was stopped for long", () => {
    const threads: Tick = { passedMs: EVERY_MS, cpuShare: 4, beats: false, isAsleep: false };
    const steps = run([threads, threads, { ...threads, passedMs: 100_000, cpuShare: 0 }, threads, threads, threads], {
      isCpuOfProcess: true,
    });
    expect(steps.map(({ verdict }) => verdict)).not.toContain("blocked");
    expect(steps.at(-1)!.cpuMs).toBeGreaterThanOrEqual(LIMIT_MS);
  });
});

describe("asleep", () => {
  test.prop([ticks])("means silent and asleep for limitMs, time between distant samples not counted", (given) => {
    let asleepMs = 0;
    for (const [i, { verdict, cpuMs }] of run(given).entries()) {
      const { beats, isAsleep, passedMs } = given[i]!;
      if (beats) asleepMs = 0;
      else if (isAsleep) asleepMs += Math.min(passedMs, 2 * EVERY_MS);
      expect(verdict === "asleep").toBe(asleepMs >= LIMIT_MS && cpuMs < LIMIT_MS);
    }
  });
});
