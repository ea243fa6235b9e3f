import { fc, test } from "@fast-check/vitest";
import { test as example, expect } from "vitest";
import { timestampMs } from "../../src/domain/timestamp.ts";

const year = { min: new Date("0000-01-01T00:00:00Z"), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true };

test.prop([fc.date(year)])("what a Date writes is read as the moment that it was", (date) => {
  expect(timestampMs(date.toISOString())).toBe(date.getTime());
});

test.prop([fc.date(year), fc.integer({ min: -14 * 60, max: 14 * 60 })])("an offset is taken off", (date, minutes) => {
  const sign = minutes < 0 ? "-" : "+";
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  const offset = `${sign}${String(hours).padStart(2, "0")}:${String(rest).padStart(2, "0")}`;
  const text = date.toISOString().replace("Z", offset);
  expect(timestampMs(text)).toBe(date.getTime() - minutes * 60_000);
});

test.prop([fc.oneof(fc.string(), fc.anything())])("anything else is none, and nothing throws", (value) => {
  const ms = timestampMs(value);
  if (ms !== null) expect(value).toMatch(/^\d{4}-\d\d-\d\dT/);
});

example.each([
  "2023-02-29T00:00:00Z",
  "2024-04-31T00:00:00Z",
  "2024-13-01T00:00:00Z",
  "2024-01-00T00:00:00Z",
  "2024-01-01T25:00:00Z",
  "2024-01-01T00:00:00",
  "2024-01-01",
  "Mon, 01 Jan 2024 00:00:00 GMT",
  " 2024-01-01T00:00:00Z",
])("%s is none", (text) => expect(timestampMs(text)).toBeNull());

example("a leap day is a day", () => {
  expect(timestampMs("2024-02-29T00:00:00Z")).toBe(Date.UTC(2024, 1, 29));
});
