import { expect, test } from "vitest";
import type { Duration } from "../../src/domain/bot.ts";
import { durationMs } from "../../src/domain/duration.ts";

test.each<[Duration, number]>([
  [0, 0],
  [1_500, 1_500],
  ["500ms", 500],
  ["2s", 2_000],
  ["1.5s", 1_500],
  ["5m", 300_000],
  ["1h", 3_600_000],
  ["7d", 604_800_000],
  ["0.0004s", 0],
])("%s is %i ms", (duration, ms) => {
  expect(durationMs(duration)).toBe(ms);
});

test.each([
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  2 ** 60,
  "-5m",
  "1e3s",
  "5 m",
  "5",
  "m",
  "",
  "5M",
  "999999999999999d",
  null,
  undefined,
  {},
])("%s is refused", (duration) => {
  expect(() => durationMs(duration as Duration)).toThrow(RangeError);
});
