import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { closureOf, dependencyReport, FURTHER_MAX, type LockPackages } from "../../scripts/dependencies.mjs";
import { ROOT } from "../docs/support/markdown.ts";

const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), "utf8"));

describe("the project's dependencies", () => {
  const report = dependencyReport(read("package.json"), read("package-lock.json"));

  test("beyond the foundation's trees are at most 25 packages, direct and indirect", () => {
    expect(report.further.length).toBeGreaterThan(0);
    expect(report.further.length, report.further.join(", ")).toBeLessThanOrEqual(FURTHER_MAX);
  });

  test("each have a reason, and no other has", () => {
    expect(report.missingReasons).toEqual([]);
    expect(report.staleReasons).toEqual([]);
  });

  test("are what docs/dependencies.md lists", () => {
    expect(readFileSync(join(ROOT, "docs/dependencies.md"), "utf8"), "type: node scripts/dependencies.mjs").toBe(
      report.page,
    );
  });
});

describe("the closure of a lock", () => {
  const lock: LockPackages = {
    "": {},
    "node_modules/a": { dependencies: { b: "1", c: "1" } },
    "node_modules/b": { dependencies: { c: "2" }, optionalDependencies: { absent: "1" } },
    "node_modules/b/node_modules/c": {
      peerDependencies: { d: "1", e: "1" },
      peerDependenciesMeta: { e: { optional: true } },
    },
    "node_modules/c": { dependencies: { a: "1" } },
    "node_modules/d": {},
    "node_modules/e": {},
    "node_modules/@s/f": { dependencies: { g: "1" } },
    "node_modules/@s/f/node_modules/g": { dependencies: { h: "1" } },
    "node_modules/@s/f/node_modules/h": {},
  };

  test("takes the nearest of each name, peers that are needed, and survives a circle", () => {
    expect([...closureOf(lock, ["a"])].sort()).toEqual([
      "node_modules/a",
      "node_modules/b",
      "node_modules/b/node_modules/c",
      "node_modules/c",
      "node_modules/d",
    ]);
  });

  test("looks in every folder above, scopes included", () => {
    expect([...closureOf(lock, ["@s/f"])]).toEqual([
      "node_modules/@s/f",
      "node_modules/@s/f/node_modules/g",
      "node_modules/@s/f/node_modules/h",
    ]);
  });

  test("refuses a lock that lacks what is needed", () => {
    expect(() => closureOf({ "node_modules/a": { dependencies: { b: "1" } } }, ["a"])).toThrow(
      /b, which node_modules\/a needs/,
    );
  });
});
