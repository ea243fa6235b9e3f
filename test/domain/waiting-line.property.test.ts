import { test as propertyTest } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { WaitingLine } from "../../src/domain/waiting-line.ts";

const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("join" as const), item: fc.nat(8) }),
    fc.record({ kind: fc.constant("leave" as const), item: fc.nat(8) }),
    fc.record({ kind: fc.constant("shift" as const) }),
  ),
  { maxLength: 100, size: "max" },
);

describe("a waiting line", () => {
  propertyTest.prop([steps], { numRuns: 1_000 })("is an array that each is in once at most", (all) => {
    const line = new WaitingLine<number>();
    let model: number[] = [];
    for (const step of all) {
      switch (step.kind) {
        case "join":
          line.join(step.item);
          if (!model.includes(step.item)) model.push(step.item);
          break;
        case "leave":
          line.leave(step.item);
          model = model.filter((item) => item !== step.item);
          break;
        case "shift":
          expect(line.shift()).toBe(model.shift());
      }
      expect(line.length).toBe(model.length);
    }
    expect(Array.from(model, () => line.shift())).toEqual(model);
    expect(line.shift()).toBeUndefined();
  });

  test("holds 0 and undefined as it holds anything", () => {
    const line = new WaitingLine<number | undefined>();
    for (const item of [0, undefined, 1]) line.join(item);
    expect([line.shift(), line.shift(), line.length, line.shift(), line.length]).toEqual([0, undefined, 1, 1, 0]);
  });
});
