// The figures of docs/turns.md, docs/sends.md and docs/replies.md are the defaults that there are. Their walks are gone through in
// test/examples.

import { describe, expect, test } from "vitest";
import { type ConfigKey, resolveConfig } from "../../src/config.ts";
import { STEP_BACKOFF } from "../../src/domain/journal.ts";
import { METRICS } from "../../src/metrics.ts";
import { pages } from "./support/markdown.ts";

const page = (path: string): string => pages().find((each) => each.path === path)!.text;
const words = (path: string): string => page(path).replace(/\s+/g, " ");
const UNITS: Readonly<Record<string, number>> = { "": 1, KiB: 1_024, MiB: 1_048_576 };

describe.each([
  ["docs/turns.md", 7],
  ["docs/sends.md", 3],
  ["docs/replies.md", 5],
])("the limits of %s", (path, count) => {
  test("have the defaults of their settings", () => {
    const rows = [...page(path).matchAll(/^\| [^|]+ \| (\d+)(?: (KiB|MiB))? \| `(\w+)` \|$/gm)];
    expect(rows).toHaveLength(count);
    const config = resolveConfig({});
    for (const [, figure, unit = "", setting] of rows)
      expect(config[setting as ConfigKey], setting).toBe(Number(figure) * UNITS[unit]!);
  });
});

test("the tries of a step are as far apart as docs/turns.md says", () => {
  const { baseMs, capMs } = STEP_BACKOFF;
  expect(words("docs/turns.md")).toContain(`after ${baseMs} ms doubling to ${capMs / 1_000} s`);
});

test("the metrics that they name are there", () => {
  const named = ["docs/turns.md", "docs/sends.md"].flatMap((path) => page(path).match(/colloquy_\w+/g) ?? []);
  expect(named).not.toEqual([]);
  expect(METRICS.map(({ name }) => name)).toEqual(expect.arrayContaining(named));
});
