// The chain is accepted for what was decided, whatever became of each message and wherever notices stood; and for nothing else.

import fc from "fast-check";
import { expect, test } from "vitest";
import { nextChain, type TurnOutcome } from "../../src/domain/record.ts";
import { type Decision, decisionsOf, isChainOf } from "../../src/verify/turn-chain.ts";

const START = { lo: 7, hi: 9 };
const NOTICE: Decision = { hash: { lo: 0, hi: 0 }, outcome: "turn" };

const outcome = fc.constantFrom<TurnOutcome>("turn", "dead", "late", "skipped");
const hash = fc.record({ lo: fc.integer({ min: 1, max: 0xffffffff }), hi: fc.nat(0xffffffff) });
const decision: fc.Arbitrary<Decision> = fc.record({ hash, outcome });
const different = { selector: ({ hash: { lo } }: Decision) => lo };
const decisions = fc.uniqueArray(decision, { maxLength: 256, ...different });

const chainOf = (all: readonly Decision[]) =>
  all.reduce((chain, each) => nextChain(chain, each.hash, each.outcome), START);

/** As a commit shows them: ids in order, and a dead letter for each that had no turn. */
function shown(all: readonly Decision[]) {
  const decided = all.map((each) => ({ hash: each.hash, second: 1 }));
  const letters = all.flatMap((each) =>
    each.outcome === "turn" ? [] : [{ idHash: each.hash, outcome: each.outcome }],
  );
  return decisionsOf(decided, letters);
}

test("any mix of outcomes is the fold over what ids and dead letters show", () => {
  fc.assert(
    fc.property(decisions, (all) => {
      expect(shown(all)).toEqual(all);
      expect(isChainOf(START, chainOf(all), shown(all))).toBe(true);
    }),
  );
});

test("one id more, less, exchanged, or with another outcome is not", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(decision, { minLength: 2, maxLength: 64, ...different }),
      fc.nat(),
      outcome,
      (all, at, other) => {
        const i = at % all.length;
        const after = chainOf(all);
        expect(isChainOf(START, after, all.toSpliced(i, 1))).toBe(false);
        expect(isChainOf(START, after, all.toSpliced(i, 0, { hash: { lo: 0, hi: 1 }, outcome: "turn" }))).toBe(false);
        expect(isChainOf(START, after, all.toSpliced(i, 1, { ...all[i]!, outcome: other }))).toBe(
          other === all[i]!.outcome,
        );
        expect(isChainOf(START, after, all.toReversed())).toBe(false);
      },
    ),
  );
});

test("notices may stand wherever one can have come, and nowhere else", () => {
  const few = fc.uniqueArray(decision, { maxLength: 12, ...different });
  fc.assert(
    fc.property(few, fc.array(fc.nat(12), { maxLength: 3 }), (all, places) => {
      const sorted = places.map((place) => Math.min(place, all.length)).sort((a, b) => b - a);
      const told = sorted.reduce((done, place) => done.toSpliced(place, 0, NOTICE), all);
      const after = chainOf(told);
      expect(isChainOf(START, after, all, sorted.length)).toBe(true);
      expect(isChainOf(START, after, all, sorted.length, (i) => sorted.includes(i))).toBe(true);
      expect(isChainOf(START, after, all, sorted.length + 1)).toBe(false);
      if (sorted.length === 0) return;
      expect(isChainOf(START, after, all, sorted.length - 1)).toBe(false);
      const [last] = sorted;
      expect(isChainOf(START, after, all, sorted.length, (i) => i !== last)).toBe(false);
    }),
  );
});

test("a commit of 256 turns is judged at once, also where a notice may stand anywhere", () => {
  const all = Array.from({ length: 256 }, (_, i): Decision => ({ hash: { lo: i + 1, hi: 1 }, outcome: "turn" }));
  const told = all.toSpliced(200, 0, NOTICE);
  expect(isChainOf(START, chainOf(told), all, 1)).toBe(true);
  expect(isChainOf(START, { lo: 1, hi: 1 }, all, 1)).toBe(false);
});
