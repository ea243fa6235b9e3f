import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { init } from "../../../src/cli/init/init-command.ts";
import { loadBots } from "../../../src/cli/load-bot.ts";
import { run } from "../support/fake-terminal.ts";

const home = mkdtempSync(join(tmpdir(), "colloquy-init-"));
afterEach(() => {
  for (const name of readdirSync(home)) rmSync(join(home, name), { recursive: true, force: true });
});
const target = join(home, "order-desk");
const FILES = [".gitignore", "README.md", "bot.test.ts", "bot.ts", "package.json", "tsconfig.json"];
const manifest = () =>
  JSON.parse(readFileSync(join(target, "package.json"), "utf8")) as { name: string; scripts: { start: string } };

async function ended(argv: readonly string[]) {
  const { code, stdout, stderr } = run(["init", ...argv]);
  return { code: await code, stdout: stdout(), stderr: stderr() };
}

describe("without a terminal", () => {
  test("a folder is made, named after itself, with what to do next", async () => {
    const { code, stdout, stderr } = await ended([target]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`Next:\n  cd ${target}\n  npm install\n  npm test\n  npm start\n`);
    expect(readdirSync(target).sort()).toEqual([...FILES].sort());
    expect(manifest().name).toBe("order-desk");
    for (const file of FILES) expect(readFileSync(join(target, file), "utf8")).not.toContain("my-bot");
    expect((await loadBots(join(target, "bot.ts")))[0]?.name).toBe("order-desk");
  });

  test("flags say what would be asked", async () => {
    expect((await ended([target, "-y", "--name", "shop", "--deliver-to", "http://h/in"])).code).toBe(0);
    expect(manifest()).toMatchObject({
      name: "shop",
      scripts: { start: "colloquy start bot.ts --deliver-to http://h/in" },
    });
  });

  test("an empty folder, or one with git's only, is filled; folders above are made", async () => {
    mkdirSync(join(target, ".git"), { recursive: true });
    expect((await ended([target])).code).toBe(0);
    expect((await ended([join(home, "a/b/c")])).code).toBe(0);
    expect(existsSync(join(home, "a/b/c/bot.ts"))).toBe(true);
  });
});

describe("I1, I2: refused with one line, exit 2, and nothing written", () => {
  test.each<[string, () => readonly string[], string]>([
    ["a folder that is not empty", () => [target], "is not empty (bot.ts); nothing was written"],
    ["a file", () => [join(target, "bot.ts")], "is not a folder; nothing was written"],
    ["what is below a file", () => [join(target, "bot.ts", "x")], "cannot be used (ENOTDIR)"],
    ["a folder after which no bot can be named", () => [join(home, "2 Böts")], "no bot can be named after it"],
    ["a name that no bot can have", () => [join(home, "x"), "--name", "Shop"], '"Shop" can be no bot\'s name'],
    ["a URL that is none", () => [join(home, "x"), "--deliver-to", "h:1"], 'deliverTo: --deliver-to is "h:1", not'],
    ["no name at all", () => [""], "is no folder"],
  ])("%s", async (_, argv, words) => {
    mkdirSync(target);
    writeFileSync(join(target, "bot.ts"), "mine");
    const { code, stdout, stderr } = await ended(argv());
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(words);
    expect(stderr.split("\n")).toHaveLength(2);
    expect(readdirSync(home)).toEqual(["order-desk"]);
    expect(readdirSync(target)).toEqual(["bot.ts"]);
    expect(readFileSync(join(target, "bot.ts"), "utf8")).toBe("mine");
  });

  test("a folder that cannot be written", async () => {
    const isRoot = process.getuid?.() === 0; // whom no mode stops, but a file system that takes no files does
    const shut = isRoot ? "/sys" : join(home, "shut");
    if (!isRoot) mkdirSync(shut);
    if (!isRoot) chmodSync(shut, 0o500);
    const { code, stderr } = await ended([join(shut, "my-bot")]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/cannot be (?:written|used) \(E[A-Z]+\); (?:nothing is left in it|nothing was written)/);
  });
});

describe("at a terminal", () => {
  /** Types an answer after each question. */
  async function asked(flags: Parameters<typeof init>[1], ...answers: readonly (string | null)[]) {
    const stdin = Object.assign(new PassThrough(), { isTTY: true as const });
    const stdout = Object.assign(new PassThrough(), { isTTY: true as const });
    const left = [...answers];
    let said = "";
    stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (!chunk.toString().endsWith(": ")) return;
      const answer = left.shift();
      if (answer === null) stdin.end();
      else if (answer !== undefined) stdin.write(`${answer}\n`);
    });
    const stderr = { write: (text: string) => (said += text) };
    const code = await init(target, flags, { argv: [], environment: {}, stdin, stdout, stderr });
    return { code, said, left };
  }

  test("what was not given is asked, again until it can be used", async () => {
    const { code, said, left } = await asked({}, "No Name", "shop", "nowhere", "http://h/in");
    expect(left).toEqual([]);
    expect(said).toContain("Name of the bot (order-desk): ");
    expect(said).toContain('"No Name" can be no bot\'s name');
    expect(said).toContain('is "nowhere", not an http or https URL');
    expect(code).toBe(0);
    expect(manifest()).toMatchObject({
      name: "shop",
      scripts: { start: "colloquy start bot.ts --deliver-to http://h/in" },
    });
  });

  test("empty answers take what is suggested", async () => {
    expect((await asked({}, "", "")).code).toBe(0);
    expect(manifest()).toMatchObject({ name: "order-desk", scripts: { start: "colloquy start bot.ts" } });
  });

  test("-y asks nothing", async () => {
    expect((await asked({ yes: true })).said).not.toContain("?");
    expect(manifest().name).toBe("order-desk");
  });

  test("ctrl-d calls it off, and nothing is written", async () => {
    const { code, said } = await asked({}, "shop", null);
    expect(code).toBe(1);
    expect(said).toContain("called off; nothing was written");
    expect(existsSync(target)).toBe(false);
  });
});
