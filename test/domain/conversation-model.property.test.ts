// What DESIGN 3 and 5 promise of one conversation, for its pure functions alone: whatever the outside, time, crashes,
// handlers and operators do, what becomes durable is the in-order run or a visible halt, and every message is accounted
// for once.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Setting } from "./model/conversation.ts";
import { inOrderRun, judge } from "./model/laws.ts";
import { RULES } from "./model/rules.ts";
import { ACTIONS, type Action, type Event, type Mode, run, schedules } from "./model/schedule.ts";

/** In each ordering; most where most can happen. */
const RUNS_OF: readonly (readonly [Mode, number])[] = [
  ["arrival", 1_000],
  ["contiguous", 2_700],
  ["monotonic", 1_400],
];
const ORDERINGS: readonly Setting["ordering"][] = ["strict", "available"];
const RUNS = RUNS_OF.reduce((sum, [, runs]) => sum + runs, 0) * ORDERINGS.length;

test(`any of ${RUNS} schedules comes to the in-order run or a visible halt, each message accounted for once`, () => {
  const happened = new Map<Event, number>();
  const count = (event: Event): void => void happened.set(event, (happened.get(event) ?? 0) + 1);
  let runs = 0;
  for (const [mode, numRuns] of RUNS_OF) {
    for (const ordering of ORDERINGS) {
      const law = fc.property(schedules, (schedule) => {
        const history = run(RULES, mode, ordering, schedule);
        runs += 1;
        for (const event of history.happened) count(event);
        if (inOrderRun(history) !== null) count("comes to the in-order run");
        expect(judge(history), `${mode}, ${ordering}`).toEqual([]);
      });
      fc.assert(law, { numRuns });
    }
  }
  expect(runs).toBe(RUNS);
  const rare = (events: readonly Event[], shareMin: number): Event[] =>
    events.filter((event) => (happened.get(event) ?? 0) < runs * shareMin);
  expect(rare(Object.keys(ACTIONS) as Action[], 0.05)).toEqual([]);
  expect(rare(OUTCOMES, 0.02)).toEqual([]);
});

const OUTCOMES: readonly Event[] = [
  "holds",
  "meets a gap",
  "is late",
  "is poison",
  "halts",
  "consumed again",
  "comes to the in-order run",
  "a gap halt lifted by arrival",
];
