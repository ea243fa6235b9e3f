// What a test file can leave behind in its process is seen.

import { fc, test as law } from "@fast-check/vitest";
import { expect, onTestFinished, test, vi } from "vitest";
import { tracesLeft, tracesNow } from "./no-traces.ts";

test.each<[string, () => () => unknown]>([
  [
    "listeners for unhandledRejection",
    () => {
      const listener = (): void => undefined;
      process.on("unhandledRejection", listener);
      return () => process.off("unhandledRejection", listener);
    },
  ],
  [
    "environment variable COLLOQUY_TRACE",
    () => {
      process.env.COLLOQUY_TRACE = "1";
      return () => delete process.env.COLLOQUY_TRACE;
    },
  ],
  [
    "Math.random",
    () => {
      const spy = vi.spyOn(Math, "random").mockReturnValue(0);
      return () => spy.mockRestore();
    },
  ],
])("%s", (name, leave) => {
  const before = tracesNow();
  const takeBack = leave();
  onTestFinished(() => void takeBack());
  expect(tracesLeft(before, tracesNow())).toEqual([name]);
  takeBack();
  expect(tracesLeft(before, tracesNow())).toEqual([]);
});

test("clocks that were replaced", () => {
  const before = tracesNow();
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  expect(tracesLeft(before, tracesNow())).toEqual(expect.arrayContaining(["Date", "setImmediate", "setTimeout"]));
  vi.useRealTimers();
  expect(tracesLeft(before, tracesNow())).toEqual([]);
});

law.prop([fc.dictionary(fc.string(), fc.nat(3)), fc.dictionary(fc.string(), fc.nat(3))])(
  "what is the same is no trace, what came, went or changed is one",
  (before, after) => {
    expect(tracesLeft(before, before)).toEqual([]);
    const left = new Set(tracesLeft(before, after));
    for (const name of [...Object.keys(before), ...Object.keys(after)])
      expect(left.has(name)).toBe(before[name] !== after[name]);
  },
);
