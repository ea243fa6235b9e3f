// The first day of a user: from `npm pack` to a bot of one's own, in folders that know nothing of this repository. The tests
// follow each other as a user would, in one home.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Arena, freePort, isOver, PROJECT_ROOT, until } from "./support/arena.ts";

const SOON_MS = 30_000;
const INSTALL = ["install", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"];
const TSC = join(PROJECT_ROOT, "node_modules/typescript/bin/tsc");
const BOT = `import { defineBot } from "colloquy";
export default defineBot<{ readonly n: number }>({ name: "b", version: 1, initialState: () => ({ n: 0 }), onMessage: ({ n }) => ({ n: n + 1 }) });`;

const arena = new Arena("first-day");
/** An empty folder in which the tarball is installed. */
const home = arena.path("home");
const bot = join(home, "my-bot");
const data = arena.dataFolder("home/my-bot/.data");
let port = 0;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs to its end, with nothing on stdin. */
async function run(cwd: string, command: string, ...args: readonly string[]): Promise<Ended> {
  const options = { cwd, env: environment(), maxBuffer: 64 << 20 };
  try {
    return { code: 0, ...(await promisify(execFile)(command, args, options)) };
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { code: number; stdout?: string; stderr?: string };
    return { code, stdout, stderr };
  }
}

/** Without what npm and vitest told this process. */
function environment(): NodeJS.ProcessEnv {
  const foreign =
    /^(?:npm_(?!config_(?:registry|cache|userconfig)$)|COLLOQUY_|VITEST|NODE_ENV$|NODE_OPTIONS$|REDIS_URL$|INIT_CWD$)/i;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
}

/** What npx would run, without the seconds that npx takes for finding it. */
const command = (cwd: string): string => join(cwd, "node_modules/.bin/colloquy");
const colloquy = (cwd: string, ...args: readonly string[]) => run(cwd, command(cwd), ...args);

beforeAll(async () => {
  port = await freePort();
  mkdirSync(home);
  const { stdout } = await run(
    PROJECT_ROOT,
    "npm",
    "pack",
    "--silent",
    "--ignore-scripts",
    "--pack-destination",
    arena.folder,
  );
  const installed = await run(home, "npm", ...INSTALL, join(arena.folder, basename(stdout.trim())));
  expect(installed.code, installed.stderr).toBe(0);
}, 120_000);
afterAll(() => arena.cleanUp());

describe("in any kind of project", () => {
  test("CommonJS gets the package by require, an ES module by import, and both are one", async () => {
    const print = `console.log([typeof c.defineBot, typeof c.createApp, c.defineBot === d.defineBot, typeof t.simulate].join())`;
    const required = `const c = require("colloquy"), t = require("colloquy/testing"); import("colloquy").then((d) => ${print})`;
    const imported = `import * as c from "colloquy"; import * as t from "colloquy/testing"; const d = await import("colloquy"); ${print}`;
    const answers = [
      await run(home, process.execPath, "--input-type=commonjs", "-e", required),
      await run(home, process.execPath, "--input-type=module", "-e", imported),
    ];
    for (const { code, stdout, stderr } of answers) {
      expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "function,function,true,function\n", stderr: "" });
    }
  });

  test("a bot in TypeScript is type-checked and loaded: ES modules, CommonJS, no package.json", async () => {
    const manifests = { module: '{ "type": "module" }', commonjs: '{ "type": "commonjs" }', none: undefined };
    for (const [kind, manifest] of Object.entries(manifests)) {
      mkdirSync(join(home, kind));
      writeFileSync(join(home, kind, "bot.ts"), BOT);
      if (manifest) writeFileSync(join(home, kind, "package.json"), manifest);
    }
    const files = Object.keys(manifests).map((kind) => `${kind}/bot.ts`);
    const options = ["--noEmit", "--strict", "--module", "nodenext", "--types", ""];
    expect(await run(home, process.execPath, TSC, ...options, ...files)).toEqual({ code: 0, stdout: "", stderr: "" });

    const loader = join(home, "node_modules/colloquy/dist/src/cli/load-bot.js");
    const load = `const { loadBots } = await import(${JSON.stringify(loader)});
      for (const file of ${JSON.stringify(files)}) console.log((await loadBots(file))[0].name)`;
    const loaded = await run(home, process.execPath, "--input-type=module", "-e", load);
    expect(loaded).toEqual({ code: 0, stdout: "b\nb\nb\n", stderr: "" });
  });
});

test("a machine without Redis is told the command that gets one", async () => {
  const nothing = arena.path("no-redis");
  mkdirSync(nothing);
  const options = { cwd: nothing, env: { PATH: nothing, HOME: nothing, XDG_CACHE_HOME: nothing } };
  writeFileSync(join(nothing, "bot.ts"), BOT);
  const main = join(home, "node_modules/colloquy/dist/src/main.js");
  const child = spawn(process.execPath, [main, "start", "bot.ts", "--port", "0"], {
    ...options,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  expect(code, stderr).toBe(3);
  expect(stderr).toMatch(/^colloquy: redis: there is no Redis server on this machine.*; type: \S.*\n$/);
});

describe("a bot of one's own", () => {
  test("init makes it, npm test passes, and it is type-checked", async () => {
    const made = await run(home, "npx", "--no-install", "colloquy", "init", "my-bot", "-y");
    expect(made.code, made.stderr).toBe(0);
    const installed = await run(bot, "npm", ...INSTALL);
    expect(installed.code, installed.stderr).toBe(0);
    const tested = await run(bot, "npm", "test");
    expect(tested.stdout).toMatch(/^# pass 3$/m);
    expect(tested.code).toBe(0);
    const checked = await run(bot, "npm", "run", "check");
    expect(checked.code, checked.stdout).toBe(0);
    expect(readdirSync(bot)).toContain("package-lock.json");
  });

  test("its test fails when the bot is wrong", async () => {
    const broken = join(home, "broken");
    mkdirSync(broken);
    for (const file of ["bot.ts", "bot.test.ts", "package.json"]) cpSync(join(bot, file), join(broken, file));
    symlinkSync(join(bot, "node_modules"), join(broken, "node_modules"));
    const source = readFileSync(join(bot, "bot.ts"), "utf8");
    expect(source).toContain("state.count + 1");
    writeFileSync(join(broken, "bot.ts"), source.replace("state.count + 1", "state.count + 2"));
    const tested = await run(broken, "npm", "test");
    expect(tested.code).not.toBe(0);
    expect(tested.stdout).toMatch(/^# fail [1-3]$/m);
  });

  test("init refuses the folder a second time", async () => {
    expect(await colloquy(home, "init", "my-bot", "-y")).toMatchObject({ code: 2, stdout: "" });
  });

  let server: ChildProcess;

  test("npm start, chat from a pipe, and doctor work by the README's words", async () => {
    expect(await colloquy(bot, "doctor", "--json", "--port", String(port))).toMatchObject({ code: 0 });
    expect(existsSync(data)).toBe(false);
    server = await start();
    const chat = talk();
    chat.say("hi");
    chat.say("my name is Ada");
    chat.hangUp();
    expect(await chat.ended).toBe(0);
    expect(chat.replies()).toEqual(["1: hi (say: my name is ...)", "Hello Ada!"]);

    const { code, stdout } = await colloquy(bot, "doctor", "--json", "--port", String(port));
    const report = JSON.parse(stdout) as { ok: boolean; checks: { id: string; status: string; message: string }[] };
    const failed = report.checks.filter(({ status }) => status === "fail");
    expect({ code, ok: report.ok, failed }).toEqual({ code: 0, ok: true, failed: [] });
    const messages = new Map(report.checks.map(({ id, message }) => [id, message]));
    expect(messages.get("port")).toContain("a colloquy that is ready answers");
    expect(messages.get("data-folder")).toContain("in use by a running colloquy");
    expect(messages.get("redis-fsync")).toContain("appendfsync always");
  });

  test("chat goes on through a kill -9 of the server, and shows each line once", async () => {
    const chat = talk("--timeout", "60");
    chat.say("one");
    await chat.replied(1);
    process.kill(-server.pid!, "SIGKILL");
    await until(() => isOver(server), { what: "the end of the server", withinMs: SOON_MS });
    chat.say("two");
    await chat.saw("disconnected");
    server = await start();
    await chat.replied(2);
    chat.say("three");
    chat.hangUp();
    expect(await chat.ended).toBe(0);
    const hint = "(say: my name is ...)";
    expect(chat.replies()).toEqual([`1: one ${hint}`, `2: two ${hint}`, `3: three ${hint}`]);
    const lines = chat.events().flatMap(({ line }) => (line ? [line.id] : []));
    expect(new Set(lines).size).toBe(lines.length);
    expect(lines).toHaveLength(6);
  });

  /** As `npm start` would, on the free port. */
  async function start(): Promise<ChildProcess> {
    const child = arena.spawn(command(bot), ["start", "bot.ts", "--port", String(port)], {
      name: "server",
      cwd: bot,
    });
    const isReady = async () => (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined))?.ok;
    await until(isReady, {
      what: "the server",
      withinMs: SOON_MS,
      explain: () => readFileSync(arena.path("server.err"), "utf8"),
    });
    return child;
  }

  interface Told {
    readonly event: string;
    readonly line?: { readonly id: string; readonly role: string; readonly text: string };
  }

  /** `colloquy chat --json`, one line at a time. */
  function talk(...flags: readonly string[]) {
    const args = ["chat", "--json", "--url", `http://127.0.0.1:${port}`, ...flags];
    const child = spawn(command(bot), args, {
      cwd: bot,
      env: environment(),
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    });
    arena.onCleanUp(() => isOver(child) || process.kill(-child.pid!, "SIGKILL"));
    const events: Told[] = [];
    createInterface({ input: child.stdout }).on("line", (line) => events.push(JSON.parse(line) as Told));
    const ended = once(child, "close").then(([code]) => code as number | null);
    const replies = () => events.flatMap(({ line }) => (line?.role === "bot" ? [line.text] : []));
    const has = (what: string, isSo: () => boolean) =>
      until(isSo, { what, withinMs: SOON_MS, explain: () => JSON.stringify(events) });
    return {
      say: (text: string) => child.stdin.write(`${text}\n`),
      hangUp: () => child.stdin.end(),
      replied: (count: number) => has(`reply ${count}`, () => replies().length >= count),
      saw: (name: string) => has(name, () => events.some(({ event }) => event === name)),
      events: () => events,
      replies,
      ended,
    };
  }
});
