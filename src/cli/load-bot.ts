// Load bot: from a file's path to bots, in TypeScript or JavaScript, from any folder, with or without package.json.
//
// Invariants
//   B1. The file's `import "colloquy"` is this very runtime, whatever the file's folder has installed: it is handed over as
//       loaded modules, so there is never a second copy of a class or a registry.
//   B2. Whatever is wrong with the file is one ConfigError that names the file and what to do.

import { accessSync, constants, type Stats, statSync } from "node:fs";
import { basename, extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";
import { checkBot, checkBots } from "../check-bot.ts";
import { problem, shown } from "../config-problems.ts";
import type { BotDefinition } from "../domain/bot.ts";
import { ConfigError } from "../errors.ts";
import * as colloquy from "../index.ts";

const ENDINGS = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"];
const EXAMPLE = "export default defineBot({ name, version, initialState, onMessage })";

/**
 * @param file path of a file whose default export is a bot or a list of bots; relative to the working folder
 * @throws ConfigError with the file's name, or e.g. `bots[0].version`, as key; ConfigProblemsError for several
 */
export async function loadBots(file: string): Promise<readonly BotDefinition[]> {
  const path = resolve(file);
  checkFile(file, path);
  // Without a cache on disk: the default one is shared by all users of the machine, and a bot is small.
  const jiti = createJiti(import.meta.url, { fsCache: false, virtualModules: { colloquy } }); // B1
  let exported: unknown;
  try {
    exported = defaultOf(await jiti.import(path));
  } catch (error) {
    throw unloadable(file, path, error);
  }
  if (exported === undefined) throw problem(file, "has no default export", EXAMPLE);
  if (typeof exported !== "object" || exported === null) {
    throw problem(file, `has ${shown(exported)} as its default export, not a bot or a list of bots`, EXAMPLE);
  }
  return Array.isArray(exported) ? checkBots(exported) : [checkBot(exported, "bots[0]")];
}

function checkFile(file: string, path: string): void {
  const found = file === "" ? undefined : lookAt(file, path);
  if (!found) throw problem(file || '""', "there is no such file", "give the path of a bot, e.g. examples/echo.ts");
  if (!found.isFile()) throw problem(file, "is not a file", "give the path of a bot's file");
  if (ENDINGS.includes(extname(path))) return;
  throw problem(file, "is not a kind of file that a bot can be in", `its name must end in ${ENDINGS.join(", ")}`);
}

/** @returns undefined if nothing is there */
function lookAt(file: string, path: string): Stats | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found) accessSync(path, constants.R_OK);
    return found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw problem(file, `cannot be read: ${code}`, "let this user read it, e.g. by chmod, or give another path");
  }
}

/** jiti gives a module without a default itself as that: for CommonJS this is what it exports, for an ES module nothing. */
function defaultOf(loaded: unknown): unknown {
  if (typeof loaded !== "object" || loaded === null) return loaded;
  const found = (loaded as { readonly default?: unknown }).default;
  if (typeof found !== "object" || found === null) return found;
  const isNothing = Object.hasOwn(found, "__esModule") || Reflect.ownKeys(found).length === 0;
  return isNothing ? undefined : found;
}

function unloadable(file: string, path: string, thrown: unknown): ConfigError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const message = error.message.split("\n")[0]!.trim();
  const options = { cause: thrown };
  const missing = /^Cannot find (?:module|package) '([^']+)'/.exec(message)?.[1];
  if (missing !== undefined) {
    const name = /^(?:@[\w.-]+\/)?[\w-][\w.-]*(?=\/|$)/.exec(missing)?.[0];
    const hint = name ? `install it where the bot is: npm install ${name}` : "check the path of the import";
    return new ConfigError(file, `imports ${shown(missing)}, which cannot be found (${hint})`, options);
  }
  const place = thrown === error ? placeIn(error, path) : "";
  if (message.startsWith("ParseError: ")) {
    const what = message.slice("ParseError: ".length);
    return new ConfigError(file, `cannot be read${place}: ${what} (correct the syntax)`, options);
  }
  const what = `throws while it is loaded${place}: ${error.name}: ${message}`;
  return new ConfigError(file, `${what} (a bot file should only define; do work in its handlers)`, options);
}

/** Where in the bot's own files it happened, as ` at bot.ts:3`; empty if the error does not say. */
function placeIn(error: Error, path: string): string {
  for (const [, from, line] of `${error.message}\n${error.stack}`.matchAll(/((?:file:\/\/)?\/[^\n():]+):(\d+):\d+/g)) {
    const source = from!.startsWith("file://") ? fileURLToPath(from!) : from!;
    if (source === path || (ENDINGS.includes(extname(source)) && !/node_modules|[\\/]jiti[\\/]/.test(source))) {
      return ` at ${basename(source)}:${line}`;
    }
  }
  return "";
}
