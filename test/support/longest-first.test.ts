// The order of test files.

import { existsSync } from "node:fs";
import { fc, test as law } from "@fast-check/vitest";
import { expect, test } from "vitest";
import { LONG_FILES, longestFirst } from "./longest-first.ts";

const ROOT = new URL("../../", import.meta.url);

test("each file that is named as long is there, once", () => {
  expect(LONG_FILES.filter((path) => !existsSync(new URL(path, ROOT)))).toEqual([]);
  expect(new Set(LONG_FILES).size).toBe(LONG_FILES.length);
});

test("the long ones come first, in their order, the rest by path", () => {
  expect(longestFirst(["b", "long", "a", "longest"], ["longest", "longer", "long"])).toEqual([
    "longest",
    "long",
    "a",
    "b",
  ]);
});

law.prop([fc.uniqueArray(fc.string()), fc.uniqueArray(fc.string())])(
  "no file is left out or added, and the order does not depend on how they were found",
  (paths, long) => {
    const sorted = longestFirst(paths, long);
    expect([...sorted].sort()).toEqual([...paths].sort());
    expect(longestFirst([...paths].reverse(), long)).toEqual(sorted);
  },
);
