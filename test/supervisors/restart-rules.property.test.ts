// The small pure rules of supervision as laws: intensity (N1 to N3), backoff, storm breaker (B1, B2), what an exit means.

import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { failedWith, isOrderly, KILLED, NORMAL, SHUTDOWN } from "../../supervisors/exit-reason.ts";
import { restartDelayMs } from "../../supervisors/restart-backoff.ts";
import { addRestart, NO_RESTARTS, restartsLeft } from "../../supervisors/restart-intensity.ts";
import { afterExit, endsSupervisor } from "../../supervisors/restart-rules.ts";
import { admitRestart, CALM } from "../../supervisors/storm-breaker.ts";

const gaps = fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 60 });

describe("intensity", () => {
  test.prop([gaps, fc.integer({ min: 0, max: 8 }), fc.integer({ min: 1, max: 10_000 })])(
    "a restart is one too many exactly if more than `intensity` happened within the period that ends with it (N1, N2)",
    (between, intensity, periodMs) => {
      let nowMs = 0;
      let times = NO_RESTARTS;
      const all: number[] = [];
      for (const gapMs of between) {
        nowMs += gapMs;
        all.push(nowMs);
        const answer = addRestart(times, nowMs, { intensity, periodMs });
        times = answer.times;
        const inPeriod = all.filter((atMs) => atMs >= nowMs - periodMs).length;
        expect(answer.isTooMany).toBe(inPeriod > intensity);
        expect(restartsLeft(times, nowMs, { intensity, periodMs })).toBe(Math.max(0, intensity - inPeriod));
        expect(times.length).toBeLessThanOrEqual(intensity + 1); // N3
      }
    },
  );

  test("one exactly `periodMs` ago still counts, one a millisecond older does not", () => {
    const limits = { intensity: 1, periodMs: 5_000 };
    const { times } = addRestart(NO_RESTARTS, 1_000, limits);
    expect(addRestart(times, 6_000, limits).isTooMany).toBe(true);
    expect(addRestart(times, 6_001, limits).isTooMany).toBe(false);
  });
});

describe("what an exit means", () => {
  const reasons = [NORMAL, SHUTDOWN, { kind: "shutdown", term: 1 } as const, KILLED, failedWith("x")];
  const table = {
    permanent: ["restart", "restart", "restart", "restart", "restart"],
    transient: ["keep", "keep", "keep", "restart", "restart"],
    temporary: ["forget", "forget", "forget", "forget", "forget"],
  } as const;
  for (const restart of ["permanent", "transient", "temporary"] as const) {
    test(`to a ${restart} child`, () => {
      expect(reasons.map((reason) => afterExit(restart, reason))).toEqual(table[restart]);
    });
  }
  test("killed and failed are not orderly", () => {
    expect(reasons.map(isOrderly)).toEqual([true, true, true, false, false]);
  });
  test("to the supervisor", () => {
    const ends = (auto: Parameters<typeof endsSupervisor>[0]) =>
      [true, false].flatMap((isSignificant) => [0, 2].map((left) => endsSupervisor(auto, isSignificant, left)));
    expect(ends("never")).toEqual([false, false, false, false]);
    expect(ends("any_significant")).toEqual([true, true, false, false]);
    expect(ends("all_significant")).toEqual([true, false, false, false]);
  });
});

describe("backoff", () => {
  test.prop([fc.integer({ min: 1, max: 40 }), fc.float({ min: 0, max: 1, maxExcluded: true, noNaN: true })])(
    "is between half and whole of the doubled base, never over the cap, and nothing without one",
    (restarts, random) => {
      const whole = Math.min(10_000, 100 * 2 ** (restarts - 1));
      const delayMs = restartDelayMs({ baseMs: 100, capMs: 10_000 }, restarts, random);
      expect(delayMs).toBeGreaterThanOrEqual(Math.floor(whole / 2));
      expect(delayMs).toBeLessThanOrEqual(whole);
      expect(restartDelayMs(undefined, restarts, random)).toBe(0);
    },
  );
});

describe("storm breaker", () => {
  test.prop([
    fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5_000 })), { minLength: 1, maxLength: 400 }),
    fc.integer({ min: 2, max: 40 }),
    fc.integer({ min: 100, max: 20_000 }),
  ])(
    "no window has more than `restartsMax` restarts, and they keep their order (B1)",
    (between, restartsMax, windowMs) => {
      let state = CALM;
      let nowMs = 0;
      const made: number[] = [];
      for (const gapMs of between) {
        nowMs += gapMs;
        const answer = admitRestart(state, nowMs, { restartsMax, windowMs });
        state = answer.state;
        expect(answer.delayMs).toBeGreaterThanOrEqual(0);
        expect(answer.opened ? answer.delayMs : 1).toBeGreaterThan(0);
        const atMs = nowMs + answer.delayMs;
        if (made.length > 0) expect(atMs).toBeGreaterThanOrEqual(made.at(-1)! - 1e-6);
        made.push(atMs);
        const inWindow = made.filter((at) => at > atMs - windowMs + 1e-6).length;
        expect(inWindow).toBeLessThanOrEqual(restartsMax);
      }
    },
  );

  test("opens once, stays open while restarts wait, and closes with the first that need not (B2)", () => {
    const limits = { restartsMax: 4, windowMs: 1_000 };
    let state = CALM;
    const at = (nowMs: number) => {
      const answer = admitRestart(state, nowMs, limits);
      state = answer.state;
      return answer;
    };
    expect([at(0), at(0)].map(({ delayMs }) => delayMs)).toEqual([0, 0]);
    expect(at(0)).toMatchObject({ delayMs: 500, opened: true });
    expect(at(0)).toMatchObject({ delayMs: 1_000, opened: false });
    expect(at(60_000)).toMatchObject({ delayMs: 0, opened: false });
    expect(state.openSinceMs).toBeNull();
    at(60_000);
    expect(at(60_000).opened).toBe(true);
  });

  test("gaps double with each window that it stays open, up to 64 times (B2)", () => {
    const limits = { restartsMax: 2, windowMs: 1_000 };
    let state = CALM;
    const dueMs: number[] = [];
    for (let nowMs = 0; nowMs <= 12_000; nowMs += 1_000) {
      for (let i = 0; i < 3; i += 1) state = admitRestart(state, nowMs, limits).state;
      dueMs.push(state.dueMs);
    }
    const grown = dueMs.slice(1).map((due, i) => due - dueMs[i]!);
    expect(grown.slice(0, 6)).toEqual([6_000, 12_000, 24_000, 48_000, 96_000, 192_000]);
    expect(grown.slice(6)).toEqual(grown.slice(6).map(() => 192_000));
  });
});
