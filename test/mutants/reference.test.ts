// docs/mutants.md names the mutants that there are, and test/mutants/README.md an answer to each attack.

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { mutantsReference } from "../../scripts/mutants-reference.mjs";
import { toldRule } from "./mutant.ts";
import { borne, outsideMutants } from "./outside-mutants.ts";
import { scriptMutants } from "./script-mutants.ts";
import { storeMutants } from "./store-mutants.ts";

const ROOT = new URL("../../", import.meta.url);
const world = [...storeMutants, ...outsideMutants];
const names = [...world, ...scriptMutants].map(({ name }) => name);

const read = (path: string): string => readFileSync(new URL(path, ROOT), "utf8");
/** The last column of its rows is a measurement. */
const withoutSeeds = (page: string): string => page.replaceAll(/\| \d+ \|$/gm, "| # |");

test("docs/mutants.md is what scripts/mutants-reference.mjs makes of the mutants, each with a seed", () => {
  const all = { world, scripts: scriptMutants, borne: borne.map(([name]) => name), toldRule };
  const page = withoutSeeds(read("docs/mutants.md"));
  expect(page, "type: npm run mutants").toBe(mutantsReference(all, () => "#"));
});

test("no two mutants share a name within their kind", () => {
  for (const kind of [world.map(({ name }) => name), scriptMutants.map(({ name, patch }) => `${patch.script} ${name}`)])
    expect(new Set(kind).size).toBe(kind.length);
});

test("test/mutants/README.md has a row for each of the 18 attacks, and what it names is there", () => {
  const rows = [...read("test/mutants/README.md").matchAll(/^\| B(\d+) \| .+ \| (.+) \|$/gm)];
  expect(rows.map(([, number]) => Number(number))).toEqual(Array.from({ length: 18 }, (_, i) => i + 1));
  for (const [row, , answers] of rows) {
    const cited = [...answers!.matchAll(/"([^"]+)"(?: \(\[[^\]]+\]\(([^)]+)\)\))?/g)];
    if (cited.length === 0) expect(answers, row).toMatch(/^not yet: /);
    for (const [, quoted, file] of cited) {
      if (file === undefined) expect(names, row).toContain(quoted);
      else expect(read(`test/mutants/${file}`), row).toContain(quoted);
    }
  }
});
