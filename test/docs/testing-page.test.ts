// What docs/testing.md shows runs, as it stands there.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { codeBlocks, pages, ROOT } from "./support/markdown.ts";

/** What was said to c1 when an example has ended, in the order of the page. */
const ENDS: readonly (readonly string[])[] = [["1: hi", "2: hi again", "3: still there?"], ["receipt for tea"]];

test("the examples of docs/testing.md run to their ends", async () => {
  const page = pages().find(({ path }) => path === "docs/testing.md")!;
  const examples = codeBlocks(page).filter(({ language }) => language === "ts");
  const folder = join(ROOT, "node_modules/.cache/colloquy-docs");
  mkdirSync(folder, { recursive: true });
  const ends: unknown[] = [];
  for (const [i, { code }] of examples.entries()) {
    const file = join(folder, `testing-${process.pid}-${i}.ts`);
    onTestFinished(() => rmSync(file, { force: true }));
    writeFileSync(file, `${code}\nexport const end = t.replies("c1");\n`);
    ends.push(((await import(file)) as { end: unknown }).end);
  }
  expect(ends).toEqual(ENDS);
});
