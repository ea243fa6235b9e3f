// What docs/sends.md shows of the group desk, and of bots that answer each other, is what they do.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BotDefinition } from "colloquy";
import { simulate } from "colloquy/testing";
import { expect, onTestFinished, test } from "vitest";
import desk, { type State } from "../../examples/group-desk.ts";
import { codeBlocks, pages, ROOT } from "../docs/support/markdown.ts";
import { codeOf, Walk, walksOf } from "./support/walk.ts";

const PAGE = "docs/sends.md";
const walks = walksOf(PAGE);

test.each([1, 4])("the walk of docs/sends.md is what the desk does, with %i shards", async (shards) => {
  expect([...walks.keys()]).toEqual(["Sends"]);
  const code = walks.get("Sends")!;
  const walk = new Walk<State>({ bot: desk, config: { shards } });
  const walked = await walk.through(code, (t) => {
    expect(t.state("desk")).toEqual({ askedBy: ["alice", "bob"] });
    expect(t.turns("desk")).toHaveLength(5);
    expect(t.turns("alice")).toHaveLength(3);
    expect(t.turns("bob")).toHaveLength(3);
  });
  if (shards === 1) expect(walked).toBe(code);
  else expect(byReader(walked)).toEqual(byReader(code)); // between two conversations there is no order
});

/** What each of them read, without what arrived again after the crash. */
function byReader(walk: string): Record<string, string[]> {
  const read: Record<string, string[]> = { alice: [], bob: [], desk: [] };
  for (const [, reader, text] of walk.matchAll(/^to (\w+): (.*)$/gm)) {
    if (!text!.endsWith(" (again)")) read[reader!]!.push(text!);
  }
  return read;
}

test("whoever types at the desk what cannot be meant is told how, and a customer cannot answer for it", async () => {
  await using t = await simulate(desk);
  await t.user("alice").says("Hello?");
  for (const text of ["2: yes", "0: yes", "yes", "all:"])
    expect(await t.user("desk").says(text)).toEqual([expect.stringMatching(/^Answer by number/)]);
  await t.user("alice").says("1: I answer myself", { data: { from: { conversation: "desk" } } });
  expect(t.texts("desk").at(-1)).toBe("#2 alice: 1: I answer myself");
  expect(t.texts("alice")).toEqual(["The desk has your question.", "The desk has your question."]);
});

test("sends that follow from one another end where docs/sends.md says", async () => {
  const page = pages().find(({ path }) => path === PAGE)!;
  const [ring, ...others] = codeBlocks(page).filter(({ language }) => language === "ts");
  expect(others).toEqual([]);
  const folder = join(ROOT, "node_modules/.cache/colloquy-docs");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `sends-${process.pid}.ts`);
  onTestFinished(() => rmSync(file, { force: true }));
  writeFileSync(file, ring!.code);
  const { default: bot } = (await import(file)) as { default: BotDefinition<{ turns: number }> };
  await using t = await simulate(bot);
  await t.user("ping").says("hi");
  const [, ping, pong, sends] = /makes (\d+) turns of `ping` and (\d+) of `pong`: [^.]*?(\d+) that/.exec(
    page.text.replace(/\s+/g, " "),
  )!;
  expect(Number(ping) + Number(pong)).toBe(1 + Number(sends));
  expect([t.turns("ping").length, t.turns("pong").length]).toEqual([Number(ping), Number(pong)]);
});

test("the code that the page shows stands in the example", () => {
  expect(codeOf("examples/group-desk.ts")).toContain(codeOf(PAGE, "for (const"));
});
