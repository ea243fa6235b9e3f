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

test("docs/config.md is what scripts/config-reference.mjs makes of the schema", () => {
  expect(read("docs/config.md"), "type: node scripts/config-reference.mjs").toBe(configReference(config));
});

test("docs/config.md has a row for each setting, with its flag, variable, option, default and bounds", () => {
  const rows = [
    ...read("docs/config.md").matchAll(/^\| (`--\S+`|none) \| `([A-Z_]+)` \| `([^`]+)` \| (.+) \| (.+) \| .+ \|$/gm),
  ];
  const defaults = config.resolveConfig({});
  expect(rows.map(([, , variable]) => variable)).toEqual(config.CONFIG_KEYS.map(config.variableOf));
  config.CONFIG_KEYS.forEach((key, i) => {
    const [, flag, , option, fallback, takes] = rows[i]!;
    expect(flag).toBe(config.flagOf(key) === undefined ? "none" : `\`${config.flagOf(key)}\``);
    expect(option).toBe(config.optionOf(key));
    expect(fallback === "none" ? "" : fallback!.replaceAll("`", "")).toBe(String(defaults[key] ?? ""));
    if (typeof defaults[key] === "number") expect(takes, key).toMatch(/^a (whole )?number.* from [\d.]+ to [\d.]+$/);
  });
});

test("flag = environment = option: what one of the three refuses as empty, the others do, for each setting", async () => {
  for (const key of config.CONFIG_KEYS) {
    const flag = config.flagOf(key);
    const variable = config.variableOf(key);
    const byVariable = run(["start", "bot.ts"], { environment: { [variable]: "" } });
    expect(await byVariable.code).toBe(2);
    expect(byVariable.stderr()).toContain(`colloquy: ${key}: ${variable} is empty, not `);
    if (flag === undefined) continue;
    const byFlag = run(["start", "bot.ts", `${flag}=`]);
    expect(await byFlag.code, flag).toBe(2);
    expect(byFlag.stderr()).toBe(byVariable.stderr().replace(variable, flag));
  }
});

test("no secret has a flag", async () => {
  for (const flag of ["--http-secret", "--admin-token"]) {
    const refused = run(["start", "bot.ts", flag, "x".repeat(40)]);
    expect(await refused.code).toBe(2);
    expect(refused.stderr()).toContain(`unknown option '${flag}'`);
    expect(refused.stderr()).not.toContain("xxxx");
  }
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
