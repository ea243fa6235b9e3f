// J1 to J3 of src/domain/journal.ts.

import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { type StepPlace, StepWalk, stepBytes, stepIdentity, withStep } from "../../src/domain/journal.ts";
import type { JournaledStep } from "../../src/domain/record.ts";

/** Names that could be taken for parts of an identity. */
const name = fc.constantFrom("a", "b", "0 a", "1 a", " a", "a 0", "é");
const names = fc.array(name, { maxLength: 12 });

const walkOf = (run: readonly string[]): { walk: StepWalk; places: StepPlace[] } => {
  const walk = new StepWalk();
  return { walk, places: run.map((each) => walk.next(each)) };
};

describe("a run's places", () => {
  test.prop([names])(
    "count from 0, and the steps of one name among themselves; no two share an identity (J1)",
    (run) => {
      const { places } = walkOf(run);
      for (const [index, place] of places.entries()) {
        const before = run.slice(0, index).filter((each) => each === run[index]).length;
        expect(place).toEqual({ index, name: run[index], occurrence: before });
      }
      expect(new Set(places.map(stepIdentity)).size).toBe(run.length);
    },
  );

  test.prop([names])("are the same in a run that asks for the same", (run) => {
    expect(walkOf(run).places).toEqual(walkOf(run).places);
  });
});

describe("a re-run against what earlier ones left", () => {
  test.prop([names, fc.nat(12)])(
    "that asks for the same meets nothing in its way and leaves nothing behind",
    (run, count) => {
      const known = walkOf(run).places.slice(0, count);
      const walk = new StepWalk();
      for (const each of run) {
        const place = walk.next(each);
        const isKnown = known.some((step) => stepIdentity(step) === stepIdentity(place));
        if (!isKnown) expect(walk.inPlaceOf(place, known)).toBeUndefined();
      }
      expect(walk.neverAsked(known)).toBeUndefined();
    },
  );

  test.prop([names, name, fc.nat(11)])(
    "that puts a new step where a known one was not asked for is stopped there (J2)",
    (run, other, at) => {
      const known = walkOf(run).places;
      const walk = new StepWalk();
      for (const each of run.slice(0, at)) walk.next(each);
      const place = walk.next(other);
      const isKnown = known.some((step) => stepIdentity(step) === stepIdentity(place));
      fc.pre(!isKnown && at < run.length);
      expect(walk.inPlaceOf(place, known)).toBe(known[at]);
    },
  );

  test.prop([names, names])(
    "that ends has asked for every known step, or is told the first that it has not (J3)",
    (run, rerun) => {
      const known = walkOf(run).places;
      const { walk, places } = walkOf(rerun);
      const asked = new Set(places.map(stepIdentity));
      expect(walk.neverAsked(known)).toBe(known.find((step) => !asked.has(stepIdentity(step))));
    },
  );

  test.prop([names, fc.infiniteStream(fc.nat())])(
    "in any order of its branches is given back what it asks for",
    (run, draws) => {
      // Names that are used once: only those may change their order.
      const distinct = [...new Set(run)];
      const known = walkOf(distinct).places;
      const order = distinct
        .map((each) => ({ each, by: draws.next().value as number }))
        .sort((a, b) => a.by - b.by)
        .map(({ each }) => each);
      const { walk, places } = walkOf(order);
      for (const place of places) expect(known.map(stepIdentity)).toContain(stepIdentity(place));
      expect(walk.neverAsked(known)).toBeUndefined();
    },
  );
});

test("a known step that the run has asked for elsewhere keeps no new one from its place", () => {
  const known = walkOf(["a", "b"]).places;
  const { walk } = walkOf(["b"]);
  expect(walk.inPlaceOf(walk.next("c"), known)).toBeUndefined(); // the second place is b's, which was asked for as the first
  expect(walk.neverAsked(known)).toBe(known[0]);
});

describe("the journal", () => {
  const step = fc.record({ index: fc.nat(5), name, occurrence: fc.nat(3), result: fc.jsonValue() });

  test.prop([fc.array(step, { maxLength: 10 })])(
    "keeps each step, in the order in which they finished, no two at one place",
    (steps) => {
      const journal = (steps as JournaledStep[]).reduce<readonly JournaledStep[]>(withStep, []);
      const withoutPlace = (each: JournaledStep) => ({ ...each, index: null });
      expect(journal.map(withoutPlace)).toEqual((steps as JournaledStep[]).map(withoutPlace));
      expect(new Set(journal.map(({ index }) => index)).size).toBe(steps.length);
      for (const [i, each] of journal.entries()) expect(each.index).toBeGreaterThanOrEqual(steps[i]!.index);
    },
  );

  test("leaves a step at its own place where that is free", () => {
    const journal = [4, 0, 2].map((index) => ({ index, name: "s", occurrence: index }));
    expect(journal.reduce<readonly JournaledStep[]>(withStep, []).map(({ index }) => index)).toEqual([4, 0, 2]);
  });

  test.prop([step])("measures a step by its JSON in UTF-8", (each) => {
    expect(stepBytes(each as JournaledStep)).toBe(Buffer.byteLength(JSON.stringify(each)));
  });
});
