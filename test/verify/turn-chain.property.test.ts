// The chain is accepted for what was decided, whatever became of each message and wherever notices stood; and for nothing else.

import fc from "fast-check";
import { expect, test } from "vitest";
import { nextChain, type TurnOutcome } from "../../src/domain/record.ts";
import { type Decision, decisionsOf, isChainOf, textOf, withMarkersTold } from "../../src/verify/turn-chain.ts";

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

const always = () => true;
const never = () => false;
const markersOf = (all: readonly Decision[]) => new Set(all.map((each) => textOf(each.hash)));
const asTurns = (all: readonly Decision[]) => all.filter((each) => each.outcome === "turn").length;

test("of markers the chain says which had a turn, also where notices may stand between", () => {
  const marker = fc.record({ hash, outcome: fc.constantFrom<TurnOutcome>("turn", "untold") });
  const mixed = fc.uniqueArray(fc.oneof(decision, marker), { maxLength: 24, ...different });
  fc.assert(
    fc.property(mixed, fc.array(fc.nat(24), { maxLength: 2 }), (all, places) => {
      const markers = markersOf(all.filter((each) => each.outcome === "turn" || each.outcome === "untold"));
      const letters = all.flatMap(({ hash: idHash, outcome: each }) =>
        each === "turn" || each === "untold" ? [] : [{ idHash, outcome: each }],
      );
      const known = decisionsOf(
        all.map((each) => ({ hash: each.hash, second: 1 })),
        letters,
        markers,
      );
      const sorted = places.map((place) => Math.min(place, all.length)).sort((a, b) => b - a);
      const after = chainOf(sorted.reduce((done, place) => done.toSpliced(place, 0, NOTICE), [...all]));
      const notices = asTurns(all) + sorted.length - asTurns(known);
      const mayComeAt = (i: number) => sorted.includes(i);
      const settled = withMarkersTold(START, after, known, notices, mayComeAt);
      expect(settled).toEqual(all);
      expect(isChainOf(START, after, settled, sorted.length, mayComeAt)).toBe(true);
      expect(isChainOf(START, after, known, notices + 1, never)).toBe(false);
    }),
  );
});

test("what is no marker had its turn, whatever the count says; a marker is no excuse for another's", () => {
  const [one, two] = [1, 2].map((lo): Decision => ({ hash: { lo, hi: 1 }, outcome: "turn" }));
  const untold: Decision = { ...two!, outcome: "untold" };
  const after = chainOf([one!, untold]);
  const shownAs = (...markers: Decision[]) =>
    decisionsOf(
      [one!, two!].map((each) => ({ hash: each.hash, second: 1 })),
      [],
      markersOf(markers),
    );
  expect(isChainOf(START, after, shownAs(two!), -1, always)).toBe(true);
  expect(isChainOf(START, after, shownAs(two!), 0, always)).toBe(false);
  expect(isChainOf(START, after, shownAs(one!), -1, always)).toBe(false);
  expect(isChainOf(START, after, shownAs(), -1, always)).toBe(false);
});

test("256 markers are judged at once, all told or none", () => {
  for (const outcome of ["turn", "untold"] as const) {
    const all = Array.from({ length: 256 }, (_, i): Decision => ({ hash: { lo: i + 1, hi: 1 }, outcome }));
    const known = decisionsOf(
      all.map((each) => ({ hash: each.hash, second: 1 })),
      [],
      markersOf(all),
    );
    const notices = asTurns(all) - 256;
    expect(withMarkersTold(START, chainOf(all), known, notices, never)).toEqual(all);
    expect(isChainOf(START, { lo: 1, hi: 1 }, known, notices, never)).toBe(false);
  }
});

test("a commit of 256 turns is judged at once, also where a notice may stand anywhere", () => {
  const all = Array.from({ length: 256 }, (_, i): Decision => ({ hash: { lo: i + 1, hi: 1 }, outcome: "turn" }));
  const told = all.toSpliced(200, 0, NOTICE);
  expect(isChainOf(START, chainOf(told), all, 1)).toBe(true);
  expect(isChainOf(START, { lo: 1, hi: 1 }, all, 1)).toBe(false);
});
