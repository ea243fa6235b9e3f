import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadBots } from "../../src/cli/load-bot.ts";
import { problemsOf } from "../../src/config-problems.ts";
import { ConfigError, TerminalError } from "../../src/errors.ts";

/** Not below the project: nothing here can find its node_modules. */
const folder = mkdtempSync(join(tmpdir(), "colloquy-load-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** A file that nobody can read, not even the super user. */
function linkToItself(name: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(path, path);
  return path;
}

const MEMBERS = `name: "b", version: 1, initialState: () => 0, onMessage() { throw new TerminalError("stop"); }`;
const ESM = `import { defineBot, TerminalError } from "colloquy"; export default defineBot({ ${MEMBERS} });`;
const CJS = `const { defineBot, TerminalError } = require("colloquy"); module.exports = defineBot({ ${MEMBERS} });`;
file("commonjs/package.json", '{ "type": "commonjs" }');
file("plain/inner.ts", ESM);
file("own/node_modules/colloquy/index.js", "throw new Error('the wrong one')");
file("module/package.json", '{ "type": "module" }');

async function refusal(path: string): Promise<string> {
  const error = await loadBots(path).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ConfigError);
  expect(problemsOf(error as ConfigError)).toHaveLength(1);
  return (error as ConfigError).message.replaceAll(`${folder}/`, "");
}

describe("B1: a bot", () => {
  test.each([
    ["in TypeScript without package.json", file("plain/bot.ts", `type N = number;\nenum E { A }\n${ESM}`)],
    ["in TypeScript of a CommonJS project", file("commonjs/bot.ts", ESM)],
    ["in TypeScript of an ES module project", file("module/bot.ts", ESM)],
    ["in JavaScript without package.json, as an ES module", file("plain/esm.js", ESM)],
    ["in JavaScript without package.json, as CommonJS", file("plain/cjs.js", CJS)],
    ["in JavaScript of a CommonJS project", file("commonjs/bot.js", CJS)],
    ["with an import in JavaScript of a CommonJS project", file("commonjs/esm.js", ESM)],
    ["in JavaScript of an ES module project", file("module/bot.js", ESM)],
    ["in .mjs", file("commonjs/bot.mjs", ESM)],
    ["in .cjs", file("module/bot.cjs", CJS)],
    ["in .mts", file("commonjs/bot.mts", ESM)],
    ["in .cts", file("module/bot.cts", CJS)],
    ["as exports.default", file("plain/default.cjs", CJS.replace("module.exports =", "exports.default ="))],
    ["as export =", file("plain/assigned.ts", ESM.replace("export default", "export ="))],
    [
      "after top-level await",
      file(
        "plain/await.ts",
        `const { defineBot, TerminalError } = await import("colloquy"); export default await Promise.resolve(defineBot({ ${MEMBERS} }));`,
      ),
    ],
    ["in another file", file("plain/outer.ts", 'export { default } from "./inner.ts";')],
    [
      "in another file, named without ending",
      file("plain/outer2.ts", 'import bot from "./inner"; export default bot;'),
    ],
    ["beside a colloquy of the folder's own", file("own/bot.ts", ESM)],
    ["in a folder with an odd name", file("a b#c%20ü/bot.ts", ESM)],
  ])("%s is loaded, and its colloquy is this one", async (_, path) => {
    const [bot, ...others] = await loadBots(path);
    expect(others).toEqual([]);
    expect(bot).toMatchObject({ name: "b", version: 1 });
    expect(() => bot?.onMessage(0, undefined as never, undefined as never)).toThrow(TerminalError);
  });

  test("may come in a list", async () => {
    const path = file(
      "plain/list.ts",
      `${ESM.replace("export default", "const one =")} export default [one, { ...one, name: "c" }];`,
    );
    expect((await loadBots(path)).map(({ name }) => name)).toEqual(["b", "c"]);
  });

  test("may be named relative to the working folder", async () => {
    expect(await loadBots(relative(process.cwd(), file("plain/relative.ts", ESM)))).toHaveLength(1);
  });

  test("may use what is installed where it is", async () => {
    file("lib/node_modules/lib/package.json", '{ "name": "lib", "main": "index.js" }');
    file("lib/node_modules/lib/index.js", "module.exports = { start: () => 7 };");
    const path = file("lib/bot.ts", `import lib from "lib"; ${ESM.replace("() => 0", "() => lib.start()")}`);
    expect((await loadBots(path))[0]?.initialState()).toBe(7);
  });
});

describe("B2: one line says what is wrong, and what to do, when", () => {
  test.each<[string, string, string]>([
    [
      "there is no file",
      join(folder, "none.ts"),
      "none.ts: there is no such file (give the path of a bot, e.g. examples/echo.ts)",
    ],
    ["nothing is given", "", '"": there is no such file ('],
    ["it is a folder", join(folder, "plain"), "plain: is not a file ("],
    [
      "it cannot be read",
      linkToItself("plain/loop.ts"),
      "plain/loop.ts: cannot be read: ELOOP (let this user read it, e.g. by chmod, or give another path)",
    ],
    [
      "it is something else",
      file("plain/bot.json", "{}"),
      "plain/bot.json: is not a kind of file that a bot can be in (its name must end in .ts, ",
    ],
    [
      "the syntax is wrong",
      file("bad/syntax.ts", "const a = 1;\nconst b = { c: 1;\n"),
      'bad/syntax.ts: cannot be read at syntax.ts:2: Unexpected token, expected "," (correct the syntax)',
    ],
    [
      "an imported file's syntax is wrong",
      file("bad/outer.ts", 'import "./syntax.ts"; export default 1;'),
      "bad/outer.ts: cannot be read at syntax.ts:2: ",
    ],
    [
      "a package is missing",
      file("bad/package.ts", 'import x from "nowhere/sub"; export default x;'),
      'bad/package.ts: imports "nowhere/sub", which cannot be found (install it where the bot is: npm install nowhere)',
    ],
    [
      "a scoped package is missing",
      file("bad/scoped.ts", 'import x from "@no/where"; export default x;'),
      "npm install @no/where)",
    ],
    [
      "a file is missing",
      file("bad/file.ts", 'import x from "./nope.ts"; export default x;'),
      'bad/file.ts: imports "./nope.ts", which cannot be found (check the path of the import)',
    ],
    [
      "it throws",
      file("bad/throws.ts", '\n\nthrow new TypeError("boom\\nmore");'),
      "bad/throws.ts: throws while it is loaded at throws.ts:3: TypeError: boom (",
    ],
    [
      "it throws no error",
      file("bad/text.ts", 'throw "boom";'),
      "bad/text.ts: throws while it is loaded: Error: boom (",
    ],
    [
      "it has no default export",
      file("bad/named.ts", "export const bot = { a: 1 };"),
      "bad/named.ts: has no default export (export default defineBot({",
    ],
    ["it exports nothing", file("bad/empty.ts", ""), "bad/empty.ts: has no default export ("],
    [
      "it imports a name that is not there",
      file("bad/name.ts", 'import { nothing } from "colloquy"; export default nothing;'),
      "bad/name.ts: has no default export (",
    ],
    [
      "it exports a function",
      file("bad/function.ts", "export default () => 1;"),
      "bad/function.ts: has a function as its default export, not a bot or a list of bots (",
    ],
    [
      "it exports null",
      file("bad/null.cjs", "module.exports = null;"),
      "bad/null.cjs: has null as its default export, not a bot",
    ],
    ["the list is empty", file("bad/list.ts", "export default [];"), "bots: is empty (give at least one bot)"],
    [
      "a member is wrong",
      file("bad/member.ts", `${ESM.replace("version: 1", "version: 0")}`),
      "bots[0].version: is 0, not a whole number",
    ],
  ])("%s", async (_, path, line) => {
    const message = await refusal(path);
    expect(message).toContain(line);
    expect(message).not.toContain("\n");
  });
});
