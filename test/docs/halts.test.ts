// docs/halts.md says what the code says: every state, every reason, and filters that are understood and find what they mean.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { meets, parseWhere, type WhereSubject, whereFields } from "../../src/admin/where.ts";
import { CONVERSATION_STATES } from "../../src/codec/open-codec.ts";
import { HALT_REASONS } from "../../src/domain/record.ts";
import { ROOT } from "./support/markdown.ts";

const page = readFileSync(join(ROOT, "docs/halts.md"), "utf8");

/** First cells of the rows of the table whose first title is that. */
function cells(title: string): readonly string[] {
  const table = page.split(`\n| ${title} |`)[1]!.split("\n\n")[0]!;
  return [...table.matchAll(/^\| (.+?) \|/gm)].map(([, cell]) => cell!).filter((cell) => !/^-+$/.test(cell));
}

const codes = (text: string): readonly string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);

test("it has each state and each reason of a halt, and no other", () => {
  expect(cells("state").flatMap(codes)).toEqual([...CONVERSATION_STATES]);
  expect(cells("reason").flatMap(codes)).toEqual([...HALT_REASONS]);
});

test("its conditions are understood, of the kinds that it says, and all fields have one", () => {
  const rows = [
    ...page
      .split("\n| condition |")[1]!
      .split("\n\n")[0]!
      .matchAll(/^\| (`.+?) \| (.+?) \| (.+?) \|$/gm),
  ];
  const named: Record<Exclude<WhereSubject, "lanes">, Set<string>> = {
    conversations: new Set(),
    "dead letters": new Set(),
  };
  for (const [, conditions, ofConversations, ofLetters] of rows) {
    for (const condition of codes(conditions!)) {
      for (const [subject, about] of [
        ["conversations", ofConversations],
        ["dead letters", ofLetters],
      ] as const) {
        const parsed = parseWhere(condition, subject);
        expect(parsed.kind, `${condition} of ${subject}`).toBe(about === "none" ? "problem" : "where");
        if (parsed.kind === "where") named[subject].add(parsed.where[0]!.field);
      }
    }
  }
  for (const subject of ["conversations", "dead letters"] as const)
    expect([...named[subject]].sort()).toEqual([...whereFields(subject)].sort());
});

test("the filters of its commands are understood", () => {
  const commands = page.split("\n").filter((line) => /^colloquy \w+ .*--where/.test(line));
  expect(commands.length).toBeGreaterThan(4);
  for (const command of commands) {
    const subject = /^colloquy redrive|--dead-letters/.test(command) ? "dead letters" : "conversations";
    const [, filter] = /--where '([^']+)'/.exec(command)!;
    expect(parseWhere(filter!, subject), command).toMatchObject({ kind: "where" });
  }
});

test("quotes are as it says", () => {
  expect(page).toContain('`conversation="a,b"`');
  const parsed = parseWhere('conversation="a,b"', "conversations");
  expect(parsed.kind === "where" && meets({ conversation: "a,b" }, parsed.where)).toBe(true);
});
