// Build: dist/ mirrors the sources of src, actors, supervisors and bench: what tsc makes of them and the files it leaves.
//
// Invariants
//   D1. A build that fails changes nothing in dist: tsc writes only when all types are right.
//   D2. After a build dist holds exactly what the sources of now give: leftovers of deleted sources are removed.
//   D3. The stamp is written last and removed first, so a build that was cut short is never taken for a fresh one.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOMS = ["src", "actors", "supervisors", "bench"];
const COPIED = /\.(?:lua|mjs|d\.mts)$|\/page\/[^/]+\.(?:html|css|js)$/;
const COMPILED = /(?<!\.d)\.ts$/;
const INPUTS = ["tsconfig.json", "tsconfig.build.json", "package-lock.json", "scripts/build.mjs"];
const INFO = "dist/.tsbuildinfo";
const STAMP = "dist/.colloquy-build.json";

/** @param {string} root the project's folder @returns {boolean} true when dist was made from exactly these sources */
export function isBuilt(root) {
  try {
    return JSON.parse(readFileSync(join(root, STAMP), "utf8")).sources === hashOf(root, sourcesOf(root));
  } catch {
    return false;
  }
}

/**
 * @param {string} root the project's folder
 * @param {(text: string) => void} print gets the compiler's words
 * @returns {Promise<boolean>} false when the compiler found errors; dist is then as it was, only no longer fresh
 */
export async function build(root, print) {
  const sources = sourcesOf(root);
  const hash = hashOf(root, sources);
  const outputs = outputsOf(sources);
  rmSync(join(root, STAMP), { force: true }); // D3
  if (!outputs.every((file) => existsSync(join(root, file)))) rmSync(join(root, INFO), { force: true }); // else tsc skips what it believes is there
  if (!(await compile(root, print))) return false; // D1
  for (const source of sources.filter((file) => COPIED.test(file)))
    copyTo(join(root, source), join(root, "dist", source));
  prune(join(root, "dist"), new Set([...outputs, INFO].map((file) => join(root, file)))); // D2
  const entry = join(root, "dist/src/main.js");
  if (existsSync(entry)) chmodSync(entry, 0o755);
  writeFileSync(join(root, STAMP), `${JSON.stringify({ sources: hash })}\n`);
  return true;
}

/** The sources' paths below root, sorted. A room that does not exist is empty. */
function sourcesOf(root) {
  const files = [];
  for (const room of ROOMS.filter((name) => existsSync(join(root, name)))) {
    for (const file of readdirSync(join(root, room), { recursive: true })) files.push(`${room}/${file}`);
  }
  return files.filter((file) => COMPILED.test(file) || COPIED.test(file)).sort();
}

function outputsOf(sources) {
  return sources.flatMap((file) => {
    if (!COMPILED.test(file)) return [`dist/${file}`];
    const stem = `dist/${file.slice(0, -".ts".length)}`;
    return [`${stem}.js`, `${stem}.js.map`, `${stem}.d.ts`];
  });
}

function hashOf(root, sources) {
  const hash = createHash("sha256");
  for (const file of [...INPUTS, ...sources]) {
    hash.update(`\0${file}\0`);
    hash.update(readFileSync(join(root, file)));
  }
  return hash.digest("hex");
}

function compile(root, print) {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const child = spawn(process.execPath, [tsc, "-p", "tsconfig.build.json", "--noEmitOnError"], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stdout.setEncoding("utf8").on("data", print);
  child.stderr.setEncoding("utf8").on("data", print);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code === 0));
  });
}

function copyTo(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** Removes every file below `folder` that is not in `kept`, and the folders that this empties. */
function prune(folder, kept) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) prune(path, kept);
    else if (!kept.has(path)) rmSync(path);
  }
  if (readdirSync(folder).length === 0) rmdirSync(folder);
}

async function main() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  if (!(await build(root, (text) => process.stdout.write(text)))) {
    console.error(
      "colloquy: the build failed, dist was left as it was; see the errors with: npx tsc -p tsconfig.build.json --noEmit",
    );
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
