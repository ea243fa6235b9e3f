// The reference pages say what the code says: every setting, every error code, every Redis key and script.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { configReference } from "../../scripts/config-reference.mjs";
import * as config from "../../src/config.ts";
import { metaKey, shardKeys } from "../../src/store/keys.ts";
import { run } from "../cli/support/fake-terminal.ts";
import { ROOT } from "./support/markdown.ts";

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

test("docs/config.md is what scripts/config-reference.mjs makes of the schema", async () => {
  const help = run(["start", "--help"]);
  await help.code;
  expect(read("docs/config.md"), "type: node scripts/config-reference.mjs").toBe(
    configReference(config, help.stdout()),
  );
});

test("docs/config.md has each flag of colloquy start", async () => {
  const help = run(["start", "--help"]);
  await help.code;
  const flags = [...help.stdout().matchAll(/^ {2}(--[a-z-]+) </gm)].map(([, flag]) => flag!);
  expect(flags.length).toBeGreaterThan(5);
  for (const flag of flags) expect(read("docs/config.md")).toContain(`\`${flag}\``);
});

test("docs/errors.md has a row for each error class and code, and no other", () => {
  const source = read("src/errors.ts");
  const classes = [...source.matchAll(/export class (\w+) extends ColloquyError \{\n\s+readonly code = "(ERR_\w+)"/g)];
  const rows = [...read("docs/errors.md").matchAll(/^\| `(ERR_\w+)` `(\w+)`/gm)];
  const inCode = classes.map(([, name, code]) => `${code} ${name}`).sort();
  expect(inCode.length).toBeGreaterThan(10);
  expect(rows.map(([, code, name]) => `${code} ${name}`).sort()).toEqual(inCode);
});

test("docs/errors.md marks as retryable what is", () => {
  const source = read("src/errors.ts");
  for (const [, code, name, rest] of read("docs/errors.md").matchAll(/^\| `(ERR_\w+)` `(\w+)`([^|]*)\|/gm)) {
    const body = source.slice(source.indexOf(`class ${name} `)).split("\n}")[0]!;
    expect(rest!.includes("retryable"), code).toBe(body.includes("retryable = true"));
  }
});

test("docs/redis-keys.md has each key and each script", () => {
  const page = read("docs/redis-keys.md");
  const keys = shardKeys("ns", 0);
  const built = Object.entries(keys)
    .filter(([name]) => name !== "prefix")
    .map(([, key]) => (typeof key === "function" ? key("<c>") : key));
  for (const key of [metaKey("ns"), ...built]) expect(page).toContain(`| \`${key.replace("{00}", "{s}")}\` |`);
  for (const file of readdirSync(join(ROOT, "src/store/lua")))
    expect(page).toContain(`| \`${file.replace(".lua", "")}\` |`);
});
