// Plan: what `colloquy init` makes, decided before anything is written. Pure.
//
// Invariants
//   P1. What the new folder gets by `npm install` is the package that runs now: from where its project got it, as seen from
//       the new folder, else the published version.
//   P2. Versions of development packages are those that this package is itself checked with.

import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";
import { problem, shown } from "../../config-problems.ts";
import { NAME_PATTERN } from "../../domain/ids.ts";
import { shellWord } from "../shell-word.ts";

/** The members of a package.json that matter here. */
export interface Manifest {
  readonly version?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface PlacedManifest {
  /** Of the package.json, absolute. */
  readonly folder: string;
  readonly manifest: Manifest;
}

export const PACKAGE = "colloquy";
const NAME_RULE = 'lower case letters, digits and "-", beginning with a letter, at most 64';
/** Kinds of specifiers that mean something to their own project only. */
const OWN_TO_ITS_PROJECT = /^(?:workspace|catalog|portal|patch):/;

/** @throws ConfigError if `name` can be no bot's */
export function checkedBotName(name: string, key: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw problem(key, `${shown(name)} can be no bot's name`, NAME_RULE);
}

/** The name of a bot in a folder of that path. @throws ConfigError if the folder's name makes none */
export function botNameOf(folder: string): string {
  const name = basename(folder)
    .toLowerCase()
    .replace(/[\s_.]+/g, "-");
  if (NAME_PATTERN.test(name)) return name;
  throw problem(folder, "no bot can be named after it", `give it a name with --name: ${NAME_RULE}`);
}

/** Whether a folder that holds these may be filled. @throws ConfigError if not */
export function checkEmpty(folder: string, names: readonly string[]): void {
  const others = names.filter((name) => name !== ".git");
  if (others.length === 0) return;
  const some = `${others.slice(0, 3).sort().join(", ")}${others.length > 3 ? ", ..." : ""}`;
  throw problem(folder, `is not empty (${some}); nothing was written`, "give the name of a new folder");
}

export interface SpecifierFacts {
  /** Of the package that runs, absolute and real. */
  readonly packageFolder: string;
  readonly version: string;
  /** The package.json of whoever installed it, and those above the new folder, nearest first. */
  readonly projects: readonly PlacedManifest[];
  /** The new folder, absolute and real. */
  readonly target: string;
  readonly exists: (path: string) => boolean;
}

/** P1: what stands behind "colloquy" in the dependencies of the new folder. */
export function colloquySpecifier({ packageFolder, version, projects, target, exists }: SpecifierFacts): string {
  const published = `^${version}`;
  const isInstalled = packageFolder.endsWith(join(sep, "node_modules", PACKAGE));
  if (!isInstalled) return `file:${pathFrom(target, packageFolder)}`; // a clone, or a link to one
  for (const { folder, manifest } of projects) {
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    const given = { ...optionalDependencies, ...devDependencies, ...dependencies }[PACKAGE];
    if (given === undefined) continue;
    const path = pathOf(given);
    if (path === undefined) return OWN_TO_ITS_PROJECT.test(given) ? published : given;
    const place = resolve(folder, path);
    return exists(place) ? `file:${pathFrom(target, place)}` : published;
  }
  return published;
}

/** The path in a specifier that is one. */
function pathOf(specifier: string): string | undefined {
  const after = /^(?:file|link):(?:\/\/(?=\/))?(.*)$/s.exec(specifier)?.[1];
  if (after !== undefined) return after;
  return isAbsolute(specifier) || /^\.{1,2}(?:\/|$)/.test(specifier) ? specifier : undefined;
}

function pathFrom(target: string, place: string): string {
  const path = relative(target, place).split(sep).join("/");
  return path.startsWith(".") ? path : `./${path}`;
}

export interface FolderPlan {
  readonly botName: string;
  readonly deliverTo: string | undefined;
  readonly specifier: string;
  /** The package.json of the package that runs. */
  readonly own: Manifest & { readonly overrides?: Readonly<Record<string, string>> };
}

/** The text of the new package.json. */
export function newManifest({ botName, deliverTo, specifier, own }: FolderPlan): string {
  const delivery = deliverTo === undefined ? "" : ` --deliver-to ${shellWord(deliverTo)}`;
  const versionOf = (name: string): string => ({ ...own.devDependencies, ...own.dependencies })[name] ?? "*"; // P2
  const manifest = {
    name: botName,
    version: "0.1.0",
    private: true,
    type: "module",
    engines: { node: ">=20.19" },
    scripts: {
      start: `colloquy start bot.ts${delivery}`,
      test: "jiti bot.test.ts",
      check: "tsc",
    },
    dependencies: { [PACKAGE]: specifier },
    devDependencies: Object.fromEntries(["@types/node", "jiti", "typescript"].map((name) => [name, versionOf(name)])),
    ...(own.overrides ? { overrides: own.overrides } : {}),
    allowScripts: { "msgpackr-extract": false },
  };
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** The name that the files of templates/bot/ bear. */
const TEMPLATE_NAME = /\bmy-bot\b/g;

/** A file of templates/bot/ as it stands in the new folder: npm publishes no file named .gitignore. */
export function filled(name: string, text: string, botName: string): { readonly name: string; readonly text: string } {
  return { name: name === "gitignore" ? ".gitignore" : name, text: text.replace(TEMPLATE_NAME, botName) };
}
