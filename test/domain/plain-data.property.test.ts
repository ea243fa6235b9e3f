import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { freezeAndMeasure, freezePlain, PLAIN_DEPTH_MAX, PlainDataError } from "../../src/domain/plain-data.ts";

const plain = fc.jsonValue({ maxDepth: 6, stringUnit: "grapheme" });

function isDeepFrozen(value: unknown): boolean {
  return (
    typeof value !== "object" || value === null || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen))
  );
}

describe("freezePlain", () => {
  test.prop([plain])("takes every JSON value, freezes all of it and changes nothing (D1, D2)", (value) => {
    const json = JSON.stringify(value);
    const frozen = freezePlain(value, "state");
    expect(isDeepFrozen(frozen)).toBe(true);
    expect(JSON.stringify(frozen)).toBe(json);
  });

  test.prop([plain])("knows a size between a sixth and all of the JSON's length", (value) => {
    const length = JSON.stringify(value).length;
    const size = freezeAndMeasure(value, "state");
    expect(size * 6).toBeGreaterThanOrEqual(length);
  });

  example.each([
    ["a function", { f: () => 1 }, "state.f is a function"],
    ["undefined", { a: [1, undefined] }, "state.a[1] is an undefined"],
    ["a bigint", { n: 1n }, "state.n is a bigint"],
    ["NaN", { n: Number.NaN }, "state.n is NaN"],
    ["a Date", { at: new Date(0) }, "state.at is a Date"],
    ["a Map", new Map(), "state is a Map"],
    ["a getter", Object.defineProperty({}, "x", { get: () => 1, enumerable: true }), "state.x is a getter"],
    ["a symbol key", { [Symbol("s")]: 1 }, "state has a symbol"],
  ])("refuses %s and names the path", (_name, value, message) => {
    expect(() => freezePlain(value, "state")).toThrow(PlainDataError);
    expect(() => freezePlain(value, "state")).toThrow(message);
  });

  example("refuses a cycle instead of running for ever", () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    expect(() => freezePlain(cycle, "state")).toThrow(/deeper than 64 levels, or a cycle/);
    expect(PLAIN_DEPTH_MAX).toBe(64);
  });

  example("looks into an object that the bot froze itself (attack B4)", () => {
    const inner = { list: [1] };
    const frozen = Object.freeze({ inner });
    freezePlain(frozen, "state");
    expect(() => inner.list.push(2)).toThrow(TypeError);
  });
});
