// What the pages show has to work: their TypeScript compiles, their commands and flags exist, their links lead somewhere.

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { EVIDENCE_FLAGS } from "../../scripts/evidence.mjs";
import { allCommands, commandName, describeProgram } from "../../src/cli/program.ts";
import { anchors, type CodeBlock, codeBlocks, localLinks, type Page, pages, prose, ROOT } from "./support/markdown.ts";

const never = async (): Promise<never> => {
  throw new Error("only its flags are looked at");
};

const all = pages();
const blocks = all.flatMap(codeBlocks);
const inLanguage = (...languages: readonly string[]): readonly CodeBlock[] =>
  blocks.filter(({ language }) => languages.includes(language));
const evidenceFlags = Object.keys(EVIDENCE_FLAGS).map((name) => `--${name}`);

test("README is there, with code to check", () => {
  expect(all.map(({ path }) => path)).toContain("README.md");
  expect(inLanguage("ts").filter(({ page }) => page === "README.md").length).toBeGreaterThanOrEqual(2);
});

test("every TypeScript block compiles as it stands, strictly, against the public API", async () => {
  const folder = mkdtempSync(join(tmpdir(), "colloquy-docs-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const typescript = inLanguage("ts", "typescript");
  typescript.forEach(({ code }, i) => {
    writeFileSync(join(folder, `block-${i}.ts`), code);
  });
  const config = {
    extends: join(ROOT, "tsconfig.json"),
    compilerOptions: {
      rootDir: "/",
      declaration: false,
      types: ["node"],
      typeRoots: [join(ROOT, "node_modules/@types")],
      paths: {
        colloquy: [join(ROOT, "src/index.ts")],
        "colloquy/testing": [join(ROOT, "src/testing/index.ts")],
      },
    },
    include: ["*.ts"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const said = await outputOf(join(ROOT, "node_modules/typescript/bin/tsc"), "-p", folder, "--pretty", "false");
  const problems = said.replace(
    /block-(\d+)\.ts/g,
    (_, i: string) => `${typescript[Number(i)]!.page}:${typescript[Number(i)]!.line}`,
  );
  expect(problems).toBe("");
});

function outputOf(script: string, ...args: readonly string[]): Promise<string> {
  return new Promise((done) => {
    execFile(process.execPath, [script, ...args], (_error, stdout, stderr) => done(stdout + stderr));
  });
}

describe("commands that the pages name", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    scripts: Readonly<Record<string, string>>;
  };
  const commands = inLanguage("sh").flatMap(({ code }) => code.replaceAll("\\\n", " ").split("\n"));
  const inline = all.flatMap((page) => [...prose(page).matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!));
  const everything = [...commands, ...inline];

  test("are scripts of package.json", () => {
    const named = everything.flatMap((text) => [...text.matchAll(/\bnpm (?:run )?([a-z][\w:-]*)/g)]);
    const own = named.map(([, name]) => name!).filter((name) => !["ci", "install", "pack"].includes(name));
    expect(own).toContain("start");
    expect(own).toContain("test");
    expect(own.filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  test("have flags that the commands of colloquy have", () => {
    const program = describeProgram(
      {
        start: never,
        init: never,
        doctor: never,
        chat: never,
        tree: never,
        ls: never,
        show: never,
        retry: never,
        skip: never,
        redrive: never,
        lanes: never,
        retryLanes: never,
        skipLanes: never,
        verify: never,
      },
      async () => {},
    );
    const flagsOf = (name: string): readonly string[] =>
      allCommands(program)
        .find((command) => commandName(command) === name)
        ?.options.map(({ long }) => long ?? "") ?? [];
    const uses = commands.flatMap((line) => {
      const code = line.split("#")[0]!;
      const [, name] =
        /\b(?:colloquy|main\.js) (lanes (?:retry|skip)|[a-z]+)\b/.exec(code) ??
        (/\bnpm start --/.test(code) ? ["", "start"] : []);
      return name === undefined ? [] : [{ name, flags: code.match(/(?<=\s)--[a-z-]+/g) ?? [] }];
    });
    expect(uses.map(({ name }) => name)).toContain("start");
    expect(uses.filter(({ name }) => flagsOf(name).length === 0)).toEqual([]);
    const unknown = uses.flatMap(({ name, flags }) => flags.filter((flag) => !flagsOf(name).includes(flag)));
    expect(unknown).toEqual([]);

    const known = new Set(allCommands(program).flatMap((command) => flagsOf(commandName(command))));
    const bare = inline.map((text) => /^--[a-z-]+(?= |$)/.exec(text)?.[0]).filter((flag) => flag !== undefined);
    const ofOthers = new Set([
      "--ignore-scripts",
      "--version",
      "--help",
      ...benchFlags("bench"),
      ...benchFlags("children"),
      ...evidenceFlags,
    ]);
    expect(bare.filter((flag) => !known.has(flag) && !ofOthers.has(flag))).toEqual([]);
  });

  test.each([
    ["npm run bench --", benchFlags("bench")],
    ["npm run bench:children --", benchFlags("children")],
    ["npm run evidence --", evidenceFlags],
  ])("have flags that %s has", (command, known) => {
    const runs = everything.filter((text) => text.includes(command));
    const flags = runs.flatMap((text) => text.match(/(?<=\s)--[a-z-]+/g) ?? []);
    expect(flags).not.toEqual([]);
    expect(flags.filter((flag) => !known.includes(flag))).toEqual([]);
  });

  test("run files that are there", () => {
    const files = everything.flatMap((text) => [...text.matchAll(/\bnode ((?:scripts|dist)\/\S+)/g)]);
    const sources = files.map(([, file]) => file!.replace(/^dist\/(.*)\.js$/, "$1.ts"));
    expect(sources.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  test("have variables that are settings", async () => {
    const { CONFIG_KEYS, variableOf } = await import("../../src/config.ts");
    const known = new Set<string>(CONFIG_KEYS.map(variableOf));
    const named = all.flatMap(({ text }) => text.match(/\bCOLLOQUY_[A-Z_]*[A-Z]\b/g) ?? []);
    const ofTests = /^COLLOQUY_(?:SEED|TEST_[A-Z]+)$/;
    expect(named.filter((name) => !known.has(name) && !ofTests.test(name))).toEqual([]);
  });
});

function benchFlags(name: string): readonly string[] {
  const source = readFileSync(join(ROOT, `bench/${name}.ts`), "utf8");
  return [...source.matchAll(/^\s+([a-z]+): \{ type: "/gm)].map(([, name]) => `--${name}`);
}

test.each(all)("every link of $path leads to what is there", (page) => {
  const broken = localLinks(page).filter((link) => !leads(page, link));
  expect(broken).toEqual([]);
});

function leads(from: Page, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? from.path : relative(ROOT, resolve(ROOT, dirname(from.path), path));
  if (target.startsWith("..") || !existsSync(join(ROOT, target))) return false;
  if (anchor === undefined) return true;
  const page = all.find((other) => other.path === target);
  return page !== undefined && anchors(page).has(anchor);
}
