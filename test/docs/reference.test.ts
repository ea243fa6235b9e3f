// The reference pages say what the code says: every setting, every error code, every Redis key and script.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { configReference } from "../../scripts/config-reference.mjs";
import { metricsReference, otelName } from "../../scripts/metrics-reference.mjs";
import * as config from "../../src/config.ts";
import * as metrics from "../../src/metrics.ts";
import { shardGauges } from "../../src/node-gauges.ts";
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

/** All TypeScript of the runtime. */
function sources(): string {
  const folders = ["src", "actors", "supervisors"];
  return folders
    .flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)),
    )
    .filter((file) => file.endsWith(".ts"))
    .map(read)
    .join("\n");
}

/** First cells of the rows below a heading. */
function rowsBelow(page: string, heading: string): string[] {
  const section = page.split(`\n## ${heading}\n`)[1]!.split("\n## ")[0]!;
  return [...section.matchAll(/^\| `?([\w-]+)`? \|/gm)].map(([, cell]) => cell!).slice(1);
}

test("docs/errors.md has each code that stands anywhere in the runtime, Node's own aside", () => {
  const ofNode = /ERR_(HTTP_|SOCKET_|STREAM_|INVALID_)/;
  const inCode = new Set(
    [...sources().matchAll(/"(ERR_\w+)"/g)].map(([, code]) => code!).filter((code) => !ofNode.test(code)),
  );
  expect(inCode.size).toBeGreaterThan(10);
  for (const code of inCode) expect(read("docs/errors.md")).toContain(`| \`${code}\``);
});

test("docs/errors.md has each status that the port answers, and no other", () => {
  const inCode = new Set([...sources().matchAll(/\bstatus: ([45]\d\d)\b/g)].map(([, status]) => status!));
  expect(inCode.size).toBeGreaterThan(8);
  expect(rowsBelow(read("docs/errors.md"), "Answers of the port")).toEqual([...inCode].sort());
});

test("docs/errors.md has each reason why the embedded Redis does not run, and no other", () => {
  const union = /export type EmbeddedRedisReason =([^;]+);/.exec(read("src/errors.ts"))![1]!;
  const reasons = [...union.matchAll(/"([a-z-]+)"/g)].map(([, reason]) => reason!);
  expect(rowsBelow(read("docs/errors.md"), "Why the embedded Redis does not run")).toEqual(reasons);
});

test("each row of docs/errors.md says what happened, whether data is safe where that is asked, and what to do", () => {
  const rows = read("docs/errors.md")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("|---"));
  expect(rows.length).toBeGreaterThan(30);
  for (const row of rows) {
    const cells = row.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "").trim());
    expect(
      cells.filter((cell) => cell === ""),
      row,
    ).toEqual([]);
  }
});

test("docs/metrics.md is what scripts/metrics-reference.mjs makes of the table", () => {
  expect(read("docs/metrics.md"), "type: node scripts/metrics-reference.mjs").toBe(metricsReference(metrics));
});

test("docs/metrics.md has each metric with its Prometheus and its OpenTelemetry name, and a collector that renames", () => {
  const page = read("docs/metrics.md");
  for (const spec of metrics.METRICS) {
    expect(page).toContain(`| \`${spec.name}\` | ${spec.type} |`);
    expect(page).toContain(`| \`${spec.name}\` | \`${otelName(spec)}\` |`);
  }
  const collector = parse(page.split("```yaml\n").at(-1)!.split("```")[0]!);
  const renamed = collector.processors.metricstransform.transforms.slice(0, -1);
  expect(
    renamed.map((transform: { include: string; new_name: string }) => [transform.include, transform.new_name]),
  ).toEqual(metrics.METRICS.filter(({ otel }) => otel !== undefined).map((spec) => [spec.name, otelName(spec)]));
});

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly data: string; readonly action: string };
}

const rules: readonly Rule[] = parse(read("docs/alerts.yml")).groups.flatMap((group: { rules: Rule[] }) => group.rules);

test("docs/alerts.yml names metrics that there are, with labels that they have", () => {
  expect(rules.length).toBeGreaterThan(10);
  const known = new Map(metrics.METRICS.map((spec) => [spec.name, spec]));
  for (const { alert, expr } of rules) {
    const named = [...expr.matchAll(/\b((?:colloquy|process)_\w+)(?:\{([^}]*)\})?/g)];
    expect(named, alert).not.toEqual([]);
    for (const [, name, matchers = ""] of named) {
      const base = name!.replace(/_bucket$/, "");
      const spec = known.get(base);
      expect(spec, `${alert}: ${name}`).toBeDefined();
      if (base !== name) expect(spec!.type).toBe("histogram");
      const labels = [...matchers.matchAll(/(\w+)!?=~?"/g)].map(([, label]) => label!);
      expect(
        labels.filter((label) => !spec!.labels?.includes(label)),
        alert,
      ).toEqual([]);
      if (spec!.type === "counter") expect(expr, alert).toMatch(/\b(rate|increase)\(/);
    }
  }
});

test("each alert says what happened, whether data is safe and what to do, and how urgent it is", () => {
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  for (const rule of rules) {
    expect(rule.alert).toMatch(/^Colloquy[A-Z]\w+$/);
    expect(rule.for, rule.alert).toMatch(/^\d+m$/);
    expect(["page", "ticket"]).toContain(rule.labels.severity);
    for (const text of [rule.annotations.summary, rule.annotations.data, rule.annotations.action])
      expect(text.length, rule.alert).toBeGreaterThan(10);
  }
});

test("states that alerts and gauges speak of are those that there are", () => {
  const shard = { shard: 0, lease: { kind: "owned" }, stored: null, memory: null };
  const gauges = shardGauges([shard], { durability: "always", inboxBytesMax: 1, deadLettersMax: 1 });
  const of = {
    colloquy_shards: gauges.shards,
    colloquy_lanes: gauges.lanes,
    colloquy_conversations_resident: gauges.residents,
    colloquy_conversations_open: gauges.open,
  };
  for (const { expr } of rules)
    for (const [, name, state] of expr.matchAll(/(colloquy_\w+)\{state="(\w+)"\}/g))
      expect(Object.keys(of[name as keyof typeof of] as object), expr).toContain(state);
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
