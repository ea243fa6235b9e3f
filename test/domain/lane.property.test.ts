// N1 to N5 of src/domain/lane.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { beforeAttempt, isExhausted, outOfTime, replyName, troubleOf } from "../../src/domain/lane.ts";
import { judgeLane, LANE_RULES, type LaneEvent, type LaneSchedule, laneSchedules, runLane } from "./model/lane.ts";

const RUNS = 3_000;
/** Of the runs, each has to be met in so many. */
const SHARE_MIN = 0.05;

function metIn({ policy }: LaneSchedule, events: readonly LaneEvent[]): Set<string> {
  const met = new Set<string>();
  for (const event of events) {
    if (event.kind === "cut" || event.kind === "asked" || event.kind === "operator retries") met.add(event.kind);
    if (event.kind !== "judged") continue;
    const { verdict } = event;
    if (verdict.kind === "bury") met.add(`bury ${verdict.reason}`);
    else if (verdict.kind === "halt") met.add(`halt ${verdict.trouble.halt}`);
    else met.add(verdict.kind);
  }
  met.add(policy.ordering);
  return met;
}

const KINDS = [
  ...["delivered", "retry", "asked", "cut", "operator retries", "strict", "available"],
  ...["bury terminal", "bury exhausted", "bury expired", "bury gone"],
  ...["halt terminal", "halt exhausted", "halt unclear"],
];

test("N1 to N5 hold for every course of attempts, and each kind of decision is met in many of them", () => {
  const met = new Map(KINDS.map((kind) => [kind, 0]));
  fc.assert(
    fc.property(laneSchedules, (schedule) => {
      const events = runLane(LANE_RULES, schedule);
      for (const kind of metIn(schedule, events)) met.set(kind, (met.get(kind) ?? 0) + 1);
      expect(judgeLane(schedule, events)).toEqual([]);
    }),
    { numRuns: RUNS, seed: 7 },
  );
  for (const [kind, runs] of met) expect(runs / RUNS, `runs with ${kind}`).toBeGreaterThanOrEqual(SHARE_MIN);
  expect([...met.keys()]).toEqual(KINDS);
});

const POLICY = { ordering: "available", onAmbiguous: "retry", budgetMs: 1_000, attemptsMax: 5 } as const;
const HEAD = { born: "b0", outSeq: 1 };

describe("what is known of a reply", () => {
  test("says nothing of another one, nor of another part of the same", () => {
    const known = { ...troubleOf({ ...HEAD, part: 1 }, null, 5), attempts: 3, reason: "HTTP 503" };
    expect(troubleOf({ ...HEAD, part: 1 }, known, 9)).toBe(known);
    for (const other of [HEAD, { ...HEAD, part: 2 }, { ...HEAD, outSeq: 2, part: 1 }, { ...HEAD, born: "b1", part: 1 }])
      expect(troubleOf(other, known, 9)).toMatchObject({ ...other, attempts: 0, firstFailedAtMs: 9, reason: "" });
  });

  test("is named by its life, its number and its part", () => {
    expect([replyName(HEAD), replyName({ ...HEAD, part: 2 })]).toEqual(["b0.1", "b0.1.2"]);
  });
});

test("N4: an unknown outcome that is simply tried again keeps nothing from expiring", () => {
  const unclear = { ...troubleOf(HEAD, null, 0), isUnclear: true as const };
  expect(beforeAttempt(unclear, 10, POLICY, 10)).toMatchObject({ kind: "bury", reason: "expired" });
  expect(beforeAttempt(unclear, 10, { ...POLICY, onAmbiguous: "probe" }, 10)).toEqual({ kind: "probe" });
});

describe("a reply that only waits for its account", () => {
  test("is not out of time, however long that takes: its attempt is still owed", () => {
    expect(isExhausted(troubleOf(HEAD, null, 0), POLICY, 1_000_000)).toBe(false);
  });

  test("is, once it was tried, as soon as its budget ends; if it may have arrived it halts instead of dying (N3)", () => {
    const tried = { ...troubleOf(HEAD, null, 0), attempts: 1 };
    expect([isExhausted(tried, POLICY, 999), isExhausted(tried, POLICY, 1_000)]).toEqual([false, true]);
    expect(outOfTime(tried, POLICY)).toMatchObject({ kind: "bury", reason: "exhausted" });
    expect(outOfTime(tried, { ...POLICY, ordering: "strict" })).toMatchObject({ kind: "halt" });
    expect(outOfTime({ ...tried, isUnclear: true }, POLICY)).toMatchObject({ trouble: { halt: "unclear" } });
  });
});
