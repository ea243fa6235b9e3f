// Suspects under heads that end the process, and kills from outside: every life of the process asks, marks and runs by
// chance.

import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import { DEATHS_MAX } from "../../src/domain/attempts.ts";
import { SUSPECT_GROUP, SuspectGroups, UNCLEAN_ENDS_MIN } from "../../src/domain/suspects.ts";

/** Ends of the process until a single killer is narrowed down to: 2, then groups of 64, 32, ... 2. */
const ENDS_UNTIL_ALONE = UNCLEAN_ENDS_MIN + Math.log2(SUSPECT_GROUP);

interface Setup {
  readonly heads: number;
  readonly killers: ReadonlySet<number>;
  /** In how many lives a kill from outside comes, and after how many steps. */
  readonly outsideKills: readonly number[];
  readonly seed: number;
}

interface Outcome {
  readonly ends: number;
  /** Deaths alone, by key. */
  readonly charges: ReadonlyMap<number, number>;
  readonly endsUntilAlone: ReadonlyMap<number, number>;
  readonly through: number;
}

/** xorshift; a generator of fast-check cannot be asked while a property runs. */
function chance(seed: number): (below: number) => number {
  let x = seed | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

function outlive({ heads, killers, outsideKills, seed }: Setup, endsMax: number): Outcome {
  const random = chance(seed);
  const marks = new Map<number, number>();
  const charges = new Map<number, number>();
  const endsUntilAlone = new Map<number, number>();
  const pending = new Set(Array.from({ length: heads }, (_, key) => key));
  let ends = 0;
  while (pending.size > 0) {
    expect(ends).toBeLessThanOrEqual(endsMax);
    for (const [key, size] of marks) {
      if (size !== 1) continue;
      charges.set(key, (charges.get(key) ?? 0) + 1);
      if (charges.get(key)! < DEATHS_MAX) continue;
      pending.delete(key); // poison: set aside or halted
      marks.delete(key);
    }
    const marked = [...marks].map(([key, size]) => ({ key, size }));
    live(new SuspectGroups<number>({ uncleanEnds: ends, marked }), outsideKills[ends] ?? Number.POSITIVE_INFINITY);
  }
  return { ends, charges, endsUntilAlone, through: heads - pending.size };

  /** One life of the process: until it ends or everything is through. */
  function live(groups: SuspectGroups<number>, killAfter: number): void {
    const toAsk = [...pending];
    const group = new Set<number>();
    const runnable: number[] = [];
    for (let steps = 0; pending.size > 0; steps += 1) {
      if (steps >= killAfter) {
        ends += 1;
        return;
      }
      const what = random(3);
      if (what === 0 && toAsk.length > 0) {
        const [key] = toAsk.splice(random(toAsk.length), 1);
        if (groups.ask(key!) === "free") runnable.push(key!);
      } else if (what === 1) {
        const next = groups.nextGroup();
        if (next === null) continue;
        expect(group.size, "S2: the former group is through").toBe(0);
        for (const key of next.keys) {
          const before = marks.get(key);
          expect(next.size, "S3").toBeLessThanOrEqual(before === undefined ? SUSPECT_GROUP : Math.max(1, before / 2));
          marks.set(key, next.size);
          group.add(key);
          expect(groups.ask(key), "S1: its mark is not durable").toBe("wait");
          if (next.size === 1) endsUntilAlone.set(key, endsUntilAlone.get(key) ?? ends);
        }
        groups.marked(next.keys);
        for (const key of next.keys) {
          expect(groups.ask(key)).toBe("free");
          runnable.push(key);
        }
      } else if (runnable.length > 0) {
        const index = groups.alone === null ? random(runnable.length) : runnable.indexOf(groups.alone);
        const [key] = runnable.splice(index, 1);
        if (marks.get(key!) === 1) expect(groups.alone).toBe(key);
        if (killers.has(key!)) {
          ends += 1;
          return;
        }
        pending.delete(key!);
        marks.delete(key!);
        group.delete(key!);
        groups.through(key!);
      }
    }
  }
}

describe("suspects", () => {
  test.prop([fc.integer({ min: 1, max: 1_000 }), fc.nat(), fc.integer()], { numRuns: 60 })(
    `a killer among up to 1,000 is alone after at most ${ENDS_UNTIL_ALONE} ends; nobody else is charged, everybody else runs`,
    (heads, place, seed) => {
      const killer = place % heads;
      const setup: Setup = { heads, killers: new Set([killer]), outsideKills: [], seed };
      const { ends, charges, endsUntilAlone, through } = outlive(setup, ENDS_UNTIL_ALONE + DEATHS_MAX);
      expect(endsUntilAlone.get(killer)).toBeLessThanOrEqual(ENDS_UNTIL_ALONE);
      expect(ends).toBe(endsUntilAlone.get(killer)! + DEATHS_MAX);
      expect([...charges]).toEqual([[killer, DEATHS_MAX]]);
      expect(through).toBe(heads);
    },
  );

  test.prop(
    [
      fc.integer({ min: 1, max: 200 }),
      fc.array(fc.nat(199), { maxLength: 4 }),
      fc.array(fc.nat(300), { maxLength: 10 }),
      fc.integer(),
    ],
    { numRuns: 300 },
  )(
    "several, and kills from outside: all that asked is through in the end, and only who was alone is charged",
    (heads, at, outsideKills, seed) => {
      const killers = new Set(at.map((key) => key % heads));
      const endsMax = UNCLEAN_ENDS_MIN + killers.size * (Math.log2(SUSPECT_GROUP) + DEATHS_MAX) + outsideKills.length;
      const { charges, endsUntilAlone, through } = outlive({ heads, killers, outsideKills, seed }, endsMax);
      for (const key of charges.keys()) expect(endsUntilAlone.has(key)).toBe(true);
      for (const key of killers) expect(charges.get(key)).toBe(DEATHS_MAX);
      expect(through).toBe(heads);
    },
  );

  test.prop([fc.integer({ min: 1, max: 300 }), fc.array(fc.nat(2_000), { maxLength: 1 }), fc.integer()], {
    numRuns: 50,
  })("one kill from outside changes nothing: all that is pending is free at once", (heads, outsideKills, seed) => {
    const { charges, endsUntilAlone, ends } = outlive({ heads, killers: new Set(), outsideKills, seed }, 1);
    expect([charges.size, endsUntilAlone.size]).toEqual([0, 0]);
    expect(ends).toBeLessThanOrEqual(1);
  });
});
