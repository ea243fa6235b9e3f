// Init command: a new folder with a bot, its test, and what is needed to run both.
//
// Invariants
//   I1. All is decided and read before the first write; a write that fails takes back those before it.
//   I2. Nothing that was there is changed: the folder is new or empty, and each file is created, never opened.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, realpath, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { fileURLToPath } from "node:url";
import { resolveConfig } from "../../config.ts";
import { problem } from "../../config-problems.ts";
import { ConfigError } from "../../errors.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { shellWord } from "../shell-word.ts";
import type { Terminal } from "../terminal.ts";
import {
  botNameOf,
  checkEmpty,
  checkedBotName,
  colloquySpecifier,
  type FolderPlan,
  filled,
  newManifest,
  type PlacedManifest,
} from "./plan.ts";

export interface InitFlags {
  readonly name?: string;
  readonly deliverTo?: string;
  readonly yes?: boolean;
}

interface Answers {
  readonly botName: string;
  readonly deliverTo: string | undefined;
}

/** @throws ConfigError the folder or a name cannot be used, or the folder cannot be written; then nothing is left in it */
export async function init(folder: string, flags: InitFlags, terminal: Terminal): Promise<ExitCode> {
  if (folder.trim() === "" || folder.includes("\0")) throw problem('""', "is no folder", "colloquy init my-bot");
  const target = resolve(folder);
  await checkTarget(folder, target);
  if (flags.name !== undefined) checkedBotName(flags.name, "--name");
  if (flags.deliverTo !== undefined) checkDeliverTo(flags.deliverTo);

  const isAsking = flags.yes !== true && terminal.stdin.isTTY === true && terminal.stdout.isTTY === true;
  const answers = isAsking ? await ask(target, flags, terminal) : answersOf(target, flags);
  if (!answers) {
    terminal.stderr.write("colloquy: called off; nothing was written\n");
    return EXIT.failed;
  }
  const files = filesOf(await planOf(target, answers));
  await writeAll(folder, target, files);
  terminal.stdout.write(doneText(folder, target, files));
  return EXIT.ok;
}

async function checkTarget(folder: string, target: string): Promise<void> {
  const found = await stat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw problem(folder, `cannot be used (${error.code}); nothing was written`, "give the name of a new folder");
  });
  if (!found) return;
  if (!found.isDirectory()) throw problem(folder, "is not a folder; nothing was written", "give the name of a new one");
  checkEmpty(folder, await readdir(target));
}

function answersOf(target: string, { name, deliverTo }: InitFlags): Answers {
  return { botName: name ?? botNameOf(target), deliverTo };
}

/** Asks for what was not given, again until it can be used. @returns undefined if called off */
async function ask(target: string, flags: InitFlags, { stdin, stdout }: Terminal): Promise<Answers | undefined> {
  const output = stdout as unknown as NodeJS.WritableStream;
  const reader = createInterface({ input: stdin, output });
  const off = new AbortController();
  reader.once("close", () => off.abort());
  reader.once("SIGINT", () => reader.close());
  const until = async <T>(question: string, understand: (answer: string) => T): Promise<T> => {
    for (;;) {
      const answer = (await reader.question(question, { signal: off.signal })).trim();
      try {
        return understand(answer);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        stdout.write(`  ${error.message}\n`);
      }
    }
  };
  try {
    const suggested = suggestedName(target);
    const hint = suggested === undefined ? "" : ` (${suggested})`;
    const botName =
      flags.name ??
      (await until(`Name of the bot${hint}: `, (text) => checkedBotName(text || (suggested ?? ""), "name")));
    const deliverTo =
      flags.deliverTo ??
      (await until("Post replies to which URL (none: they are read back): ", (text) =>
        text === "" ? undefined : checkDeliverTo(text),
      ));
    return { botName, deliverTo };
  } catch (error) {
    if (off.signal.aborted) return undefined;
    throw error;
  } finally {
    reader.close();
  }
}

function suggestedName(target: string): string | undefined {
  try {
    return botNameOf(target);
  } catch {
    return undefined;
  }
}

/** @throws ConfigError as the start would */
function checkDeliverTo(url: string): string {
  return resolveConfig({}, {}, { deliverTo: url }).deliverTo!;
}

// --- what is written ------------------------------------------------------------------------------------------------

/** This package's own folder: three up from the sources, four from dist. */
const PACKAGE_FOLDER = ["../../..", "../../../.."]
  .map((up) => fileURLToPath(new URL(up, import.meta.url)).replace(/[\\/]$/, ""))
  .find((place) => existsSync(join(place, "templates/bot/bot.ts")))!;

async function planOf(target: string, { botName, deliverTo }: Answers): Promise<FolderPlan> {
  const own = JSON.parse(readFileSync(join(PACKAGE_FOLDER, "package.json"), "utf8")) as FolderPlan["own"];
  const packageFolder = await realpath(PACKAGE_FOLDER);
  const realTarget = await realOf(target);
  const places = [dirname(dirname(packageFolder)), ...foldersAbove(realTarget)];
  const projects = (await Promise.all(places.map(manifestIn))).filter((each) => each !== undefined);
  const facts = { packageFolder, version: own.version ?? "0.0.0", projects, target: realTarget, exists: existsSync };
  return { botName, deliverTo, specifier: colloquySpecifier(facts), own };
}

/** The real path that a path will have once its folders are made. */
async function realOf(path: string): Promise<string> {
  for (let there = path; ; there = dirname(there)) {
    const real = await realpath(there).catch(() => undefined);
    if (real !== undefined) return join(real, relative(there, path));
  }
}

function foldersAbove(path: string): string[] {
  const folder = dirname(path);
  return folder === path ? [] : [folder, ...foldersAbove(folder)];
}

async function manifestIn(folder: string): Promise<PlacedManifest | undefined> {
  try {
    return { folder, manifest: JSON.parse(await readFile(join(folder, "package.json"), "utf8")) };
  } catch {
    return undefined; // not there, or not for us to judge
  }
}

interface NewFile {
  readonly name: string;
  readonly text: string;
}

function filesOf(plan: FolderPlan): readonly NewFile[] {
  const folder = join(PACKAGE_FOLDER, "templates/bot");
  const texts = readdirSync(folder).map((name) => filled(name, readFileSync(join(folder, name), "utf8"), plan.botName));
  return [...texts, { name: "package.json", text: newManifest(plan) }].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** I1, I2. @throws ConfigError */
async function writeAll(folder: string, target: string, files: readonly NewFile[]): Promise<void> {
  const written: string[] = [];
  let firstMade: string | undefined;
  try {
    firstMade = await mkdir(target, { recursive: true });
    for (const { name, text } of files) {
      const path = join(target, name);
      await writeFile(path, text, { flag: "wx" });
      written.push(path);
    }
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    if (firstMade !== undefined) await rmdir(target).catch(() => undefined);
    const { code, message } = error as NodeJS.ErrnoException;
    throw problem(folder, `cannot be written (${code ?? message}); nothing is left in it`, "choose another folder");
  }
}

function doneText(folder: string, target: string, files: readonly NewFile[]): string {
  const steps = ["npm install", "npm test", "npm start"];
  if (target !== process.cwd()) steps.unshift(`cd ${shellWord(folder)}`);
  return `Made ${target}: ${files.map(({ name }) => name).join(", ")}\n\nNext:\n${steps.map((step) => `  ${step}\n`).join("")}`;
}
