// What docs/testing.md shows runs, as it stands there.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { codeBlocks, pages, ROOT } from "./support/markdown.ts";

test("the example of docs/testing.md runs to its end", async () => {
  const page = pages().find(({ path }) => path === "docs/testing.md")!;
  const [example, ...others] = codeBlocks(page).filter(({ language }) => language === "ts");
  expect(others).toEqual([]);
  const folder = join(ROOT, "node_modules/.cache/colloquy-docs");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `testing-${process.pid}.ts`);
  onTestFinished(() => rmSync(file, { force: true }));
  writeFileSync(file, `${example!.code}\nexport const end = t.replies("c1");\n`);
  const { end } = (await import(file)) as { end: unknown };
  expect(end).toEqual(["1: hi", "2: hi again", "3: still there?"]);
});
