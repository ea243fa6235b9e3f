// docs/cli.md says what the command line says: every command, argument and flag, every check of doctor, every event of chat.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { allCommands, commandName, describeProgram } from "../../src/cli/program.ts";
import { ROOT } from "./support/markdown.ts";

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const page = read("docs/cli.md");
const nothing = async () => 0 as const;
const program = describeProgram(
  {
    start: nothing,
    init: nothing,
    doctor: nothing,
    chat: nothing,
    tree: nothing,
    ls: nothing,
    show: nothing,
    retry: nothing,
    skip: nothing,
    redrive: nothing,
    lanes: nothing,
    retryLanes: nothing,
    skipLanes: nothing,
    verify: nothing,
  },
  async () => {},
);

const typed = (command: Command): string =>
  ["colloquy", commandName(command), ...command.registeredArguments.map((each) => `<${each.name()}>`)].join(" ");

const sectionOf = (name: string): string => page.split(`\n## colloquy ${name}\n`)[1]?.split("\n## ")[0] ?? "";

/** First cells of the rows of the table whose first title is that. */
function rows(text: string, title: string): readonly string[] {
  const table = text.split(`\n| ${title} |`)[1]?.split("\n\n")[0] ?? "";
  return [...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, cell]) => cell!);
}

test("docs/cli.md lists each command with its arguments and its description", () => {
  const listed = [...page.matchAll(/^\| \[`([^`]+)`\]\(#colloquy-[a-z-]+\) \| (.+) \|$/gm)];
  expect(listed.map(([, command, about]) => `${command}: ${about}`)).toEqual(
    allCommands(program).map((command) => `${typed(command)}: ${command.description()}`),
  );
});

describe.each(allCommands(program).map((command) => [commandName(command), command] as const))(
  "its part on %s",
  (name, command) => {
    const section = sectionOf(name);

    test("begins with how it is typed", () => {
      expect(section.trimStart()).toMatch(new RegExp(`^\`${typed(command)}\` `));
    });

    test("has a row for each flag, in their order or that of the help, and no other", () => {
      const flags = command.options.filter(({ hidden }) => !hidden).map((option) => option.flags);
      expect(flags.length).toBeGreaterThan(2);
      expect([...rows(section, "flag")].sort()).toEqual([...flags].sort());
    });

    test("names each default that the command line has", () => {
      for (const { defaultValue, flags } of command.options) {
        if (defaultValue === undefined) continue;
        const row = section.split("\n").find((line) => line.startsWith(`| \`${flags}\``));
        expect(row).toContain(String(defaultValue));
      }
    });
  },
);

test("it has a row for each check of doctor, and no other", () => {
  const source = read("src/cli/doctor/findings.ts");
  const ids = [...source.matchAll(/(?:\b(?:ok|warn|fail)\)?\(\s*|const id = )"([a-z-]+)"/g)].map(([, id]) => id!);
  expect(ids.length).toBeGreaterThan(20);
  expect([...rows(sectionOf("doctor"), "check")].sort()).toEqual([...new Set(ids)].sort());
});

test("it has a row for each event of chat with its members, and no other", () => {
  const source = read("src/cli/chat/chat-session.ts").split("export type ChatEvent =")[1]!.split(";\n\nexport")[0]!;
  const events = [...source.matchAll(/readonly event: "(\w+)"((?:; readonly \w+: [\w ]+)*)/g)].map(
    ([, name, rest]) =>
      `${name}: ${[...rest!.matchAll(/readonly (\w+)/g)].map(([, member]) => `\`${member}\``).join(", ")}`,
  );
  const listed = [...sectionOf("chat").matchAll(/^\| `(\w+)` \| (`[^|]+`) \| /gm)].map(
    ([, name, rest]) => `${name}: ${rest}`,
  );
  expect(events.length).toBe(8);
  expect([...listed].sort()).toEqual([...events].sort());
});
