// Suspects, rule by rule; suspects.property.test.ts kills processes by chance.

import { describe, expect, test } from "vitest";
import { SuspectGroups } from "../../src/domain/suspects.ts";

const numbers = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
const marks = (keys: readonly number[], size: number) => keys.map((key) => ({ key, size }));

describe("suspects", () => {
  test("the first unclean end changes nothing", () => {
    const groups = new SuspectGroups<number>({ uncleanEnds: 1, marked: [] });
    expect(groups.ask(1)).toBe("free");
    groups.through(1);
    expect(groups.nextGroup()).toBeNull();
    expect(groups.alone).toBeNull();
  });

  test("after the second, heads run in groups of 64, each once it is marked and the former is through (S1, S2)", () => {
    const groups = new SuspectGroups<number>({ uncleanEnds: 2, marked: [] });
    for (const key of numbers(100)) expect(groups.ask(key)).toBe("wait");
    const first = groups.nextGroup()!;
    expect(first).toEqual({ keys: numbers(64), size: 64 });
    expect(groups.ask(0)).toBe("wait");
    groups.marked(first.keys);
    expect(groups.ask(0)).toBe("free");
    for (const key of first.keys.slice(1)) groups.through(key);
    expect(groups.nextGroup()).toBeNull();
    groups.through(0);
    expect(groups.nextGroup()).toEqual({ keys: numbers(36, 64), size: 36 });
  });

  test("marked ones run first, those of the smallest group before others, in groups of half its size (S3)", () => {
    const groups = new SuspectGroups<number>({
      uncleanEnds: 4,
      marked: [...marks(numbers(32), 64), ...marks(numbers(32, 32), 32)],
    });
    for (const key of numbers(200)) groups.ask(key);
    const group = groups.nextGroup()!;
    expect(group).toEqual({ keys: numbers(16, 32), size: 16 });
    for (const key of group.keys) groups.through(key);
    expect(groups.nextGroup()).toEqual({ keys: numbers(16, 48), size: 16 });
  });

  test("of three or two, each runs alone, and nobody else meanwhile", () => {
    const groups = new SuspectGroups<string>({
      uncleanEnds: 9,
      marked: [
        { key: "a", size: 3 },
        { key: "b", size: 3 },
      ],
    });
    groups.ask("a");
    groups.ask("b");
    expect(groups.nextGroup()).toEqual({ keys: ["a"], size: 1 });
    expect(groups.alone).toBeNull(); // not marked yet
    groups.marked(["a"]);
    expect(groups.alone).toBe("a");
    expect(groups.nextGroup()).toBeNull();
    groups.through("a");
    expect(groups.alone).toBeNull();
    expect(groups.nextGroup()).toEqual({ keys: ["b"], size: 1 });
  });

  test("who was alone when the process ended is alone again", () => {
    const groups = new SuspectGroups<string>({ uncleanEnds: 9, marked: [{ key: "a", size: 1 }] });
    groups.ask("a");
    expect(groups.nextGroup()).toEqual({ keys: ["a"], size: 1 });
  });

  test("the only one that asks is not alone before it was narrowed down to (S4)", () => {
    for (const marked of [[], marks([1], 64), marks([1], 4)]) {
      const groups = new SuspectGroups<number>({ uncleanEnds: 2, marked });
      groups.ask(1);
      expect(groups.nextGroup()).toEqual({ keys: [1], size: 2 });
      groups.marked([1]);
      expect(groups.alone).toBeNull();
    }
  });

  test("one that turns out to have nothing to run holds nobody up, whether it waits or is in the group", () => {
    const groups = new SuspectGroups<number>({ uncleanEnds: 2, marked: [], groupMax: 2 });
    for (const key of numbers(4)) groups.ask(key);
    groups.through(1);
    expect(groups.nextGroup()!.keys).toEqual([0, 2]);
    groups.through(0);
    groups.through(2);
    expect(groups.nextGroup()!.keys).toEqual([3]);
    expect(groups.ask(1)).toBe("free");
  });

  test("asking twice changes nothing, also in a group that is not marked yet", () => {
    const groups = new SuspectGroups<number>({ uncleanEnds: 2, marked: [] });
    groups.ask(1);
    groups.ask(1);
    expect(groups.nextGroup()!.keys).toEqual([1]);
    expect(groups.ask(1)).toBe("wait");
    groups.marked([1]);
    groups.through(1);
    expect(groups.nextGroup()).toBeNull();
  });
});
