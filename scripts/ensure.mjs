// Ensure: makes a fresh clone ready, so that `npm start` and `npm test` each work alone. Runs before them (prestart, pretest,
// ...), without dependencies, never as a postinstall script.
//
// Usage: node scripts/ensure.mjs [--page]      --page: also what the page tests need
//
// Invariants
//   E1. When all is there it prints nothing, changes nothing and costs less than 300 ms.
//   E2. One run at a time does the work; another waits for it and then looks again.
//   E3. A step is done when its result is there, not when its command was run: a run cut short is simply repeated.
//   E4. A dependency tree that matches the lock is never reinstalled, because others may be running from it.
// Exit codes: 0 ready; 1 a step failed; 2 this machine lacks something. 1 and 2 end with one line naming what to type.

import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { findRedis, planRedis, redisCacheDir } from "../src/redis-binary.mjs";
import { build, isBuilt } from "./build.mjs";
import { findChromium } from "./chromium.mjs";

const NODE_MIN = [20, 19];
const PROGRESS_MS = 10_000;
const LOCK_BEAT_MS = 2_000;
const LOCK_STALE_MS = 20_000;

const root = fileURLToPath(new URL("..", import.meta.url));

/** Ends the run: what happened, and the one command to type. */
class Stop extends Error {
  constructor(exitCode, what, command) {
    super(`${what}; type: ${command}`);
    this.exitCode = exitCode;
  }
}

/** In this order, since each needs those before it. `isDone` is cheap and changes nothing. */
const steps = [
  { name: "dependencies", isDone: dependenciesMatch, run: installDependencies },
  { name: "build", isDone: () => isBuilt(root), run: compile },
  { name: "redis", isDone: () => redisIsElsewhere() || findRedis().binary !== null, run: getRedis },
  { name: "browser", isDone: () => !process.argv.includes("--page") || findChromium() !== null, run: getChromium },
];

async function main() {
  checkNode();
  if (steps.every((step) => step.isDone())) return; // E1
  await locked(async () => {
    for (const step of steps) if (!step.isDone()) await step.run();
  });
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  throw new Stop(
    2,
    `Node ${process.versions.node} is too old, colloquy needs ${NODE_MIN.join(".")} or newer`,
    "nvm install --lts",
  );
}

// --- dependencies ---------------------------------------------------------------------------------------------------

function dependencyStamp() {
  const lock = readFileSync(join(root, "package-lock.json"));
  return { lock: createHash("sha256").update(lock).digest("hex"), platform: `${process.platform}-${process.arch}` };
}

const stampFile = join(root, "node_modules/.colloquy-ensure.json");

function dependenciesMatch() {
  const stamp = JSON.stringify(dependencyStamp());
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return true;
  if (!treeMatchesLock()) return false;
  writeFileSync(stampFile, stamp); // E4: npm was run by hand
  return true;
}

/** Compares the lock with npm's own list of what it installed. An entry for another platform may be missing. */
function treeMatchesLock() {
  try {
    const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
    const installed = JSON.parse(readFileSync(join(root, "node_modules/.package-lock.json"), "utf8")).packages;
    return Object.entries(wanted).every(([path, entry]) => {
      if (path === "" || installed[path]?.version === entry.version) return true;
      return entry.optional === true && !installed[path] && !isForThisPlatform(entry);
    });
  } catch {
    return false;
  }
}

/** Only what names this system and no libc must be there; the rest (other systems, parts of theirs) is npm's to judge. */
function isForThisPlatform({ os, cpu, libc }) {
  return !libc && Boolean(os?.includes(process.platform)) && (cpu ?? [process.arch]).includes(process.arch);
}

async function installDependencies() {
  // The build needs the compiler, so development dependencies come along under NODE_ENV=production too.
  const args = ["ci", "--include=dev", "--include=optional", "--ignore-scripts", "--no-audit", "--no-fund"];
  const ownNpm = process.env.npm_execpath;
  const [command, ...first] = ownNpm && basename(ownNpm) === "npm-cli.js" ? [process.execPath, ownNpm] : ["npm"];
  await run("installing dependencies", command, [...first, ...args], { typed: "npm ci --include=dev" });
  writeFileSync(stampFile, JSON.stringify(dependencyStamp()));
}

// --- build ----------------------------------------------------------------------------------------------------------

async function compile() {
  const say = progress("building");
  let output = "";
  const ok = await build(root, (text) => {
    output += text;
  });
  say.end();
  if (ok) return;
  process.stderr.write(output);
  throw new Stop(1, "the sources do not compile", "npx tsc -p tsconfig.build.json --noEmit");
}

// --- redis ----------------------------------------------------------------------------------------------------------

/** `npm start` on a Redis of the user's own needs no server here; the tests always do. */
function redisIsElsewhere() {
  return process.env.npm_lifecycle_event === "prestart" && Boolean(process.env.REDIS_URL);
}

const ways = { apt: runSteps, brew: runSteps, deb: unpackDebs, docker: wrapDocker };

async function getRedis() {
  for (const failed = []; ; ) {
    const plan = planRedis({ ...redisFacts(), failed });
    if (plan.kind === "use") return;
    if (plan.kind === "stop") throw new Stop(2, plan.why, plan.command);
    try {
      await ways[plan.kind](plan);
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      console.log(`colloquy: ${error.message.split(";")[0]}, trying another way`);
    }
    failed.push(plan.kind); // once is enough: if it worked, the next look finds the server
  }
}

const has = (name) =>
  (process.env.PATH ?? "").split(delimiter).some((folder) => folder && existsSync(join(folder, name)));

function redisFacts() {
  return {
    ...findRedis(),
    serverBin: process.env.REDIS_SERVER_BIN,
    platform: process.platform,
    isRoot: process.getuid?.() === 0,
    hasApt: has("apt-get"),
    hasDpkg: has("dpkg"),
    hasBrew: has("brew"),
    hasDnf: has("dnf"),
    hasApk: has("apk"),
    dockerAnswers: has("docker") && spawnSync("docker", ["info"], { stdio: "ignore", timeout: 5_000 }).status === 0,
  };
}

async function runSteps({ steps: commands, what = "a Redis server" }) {
  for (const [command, ...args] of commands) {
    await run(`getting ${what} (${[command, ...args].join(" ")})`, command, args, {
      env: { DEBIAN_FRONTEND: "noninteractive" },
    });
  }
}

/** Without root: the packages are unpacked into the cache; nothing of the system changes, no service is installed. */
async function unpackDebs({ packages }) {
  const cache = redisCacheDir();
  const work = join(cache, `work-${process.pid}`);
  try {
    mkdirSync(join(work, "root"), { recursive: true });
    const own = await packageLists(work);
    const simulated = spawnSync("apt-get", [...own, "-s", "install", "--no-install-recommends", "redis-tools"], {
      encoding: "utf8",
    });
    const needed = [...(simulated.stdout ?? "").matchAll(/^Inst (\S+)/gm)].map(([, name]) => name);
    for (const name of new Set([...packages, ...needed])) {
      const args = [...own, "download", name];
      if (name === "redis-tools") await run("downloading redis-tools", "apt-get", args, { cwd: work });
      else spawnSync("apt-get", args, { cwd: work, stdio: "ignore" }); // a name this release lacks is not needed either
    }
    for (const file of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
      await run(`unpacking ${file}`, "dpkg", ["-x", file, "root"], { cwd: work, quiet: true });
    }
    rmSync(join(cache, "deb"), { recursive: true, force: true });
    try {
      renameSync(join(work, "root"), join(cache, "deb"));
    } catch (error) {
      if (error.code !== "ENOTEMPTY") throw error; // another clone's run has just put the same there
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** apt options: none where the machine's package lists are there, else lists of our own below `work`, which need no root. */
async function packageLists(work) {
  const known = spawnSync("apt-get", ["download", "--print-uris", "redis-tools"], { stdio: "ignore" });
  if (known.status === 0) return [];
  const state = [
    `Dir::State=${work}/state`,
    `Dir::State::lists=${work}/state/lists`,
    "Dir::State::status=/var/lib/dpkg/status",
  ];
  const own = [...state, `Dir::Cache=${work}/cache`, "Debug::NoLocking=true"].flatMap((option) => ["-o", option]);
  for (const folder of ["state/lists/partial", "cache/archives/partial"])
    mkdirSync(join(work, folder), { recursive: true });
  await run("reading the package lists", "apt-get", [...own, "update"]);
  return own;
}

/** A stand-in for redis-server: it mounts the data folder at its own path into a container and runs the server there. */
async function wrapDocker({ image }) {
  await run(`pulling ${image}`, "docker", ["pull", image]);
  const folder = join(redisCacheDir(), "docker");
  const version = image.slice(image.lastIndexOf(":") + 1);
  const script = `#!/bin/sh
# Written by colloquy's scripts/ensure.mjs: redis-server in a container, seen from outside like a process of this machine.
if [ "$1" = --version ]; then echo "Valkey server v=${version}.0 (${image})"; exit 0; fi
dir= socket= previous=
for arg in "$@"; do
  case "$previous" in --dir) dir=$arg ;; --unixsocket) socket=\${arg%/*} ;; esac
  previous=$arg
done
if [ "$socket" = "$dir" ]; then socket=; fi
exec docker run --rm --name "colloquy-redis-$(printf %s "$dir" | cksum | tr -dc 0-9)" --network none \\
  --user "$(id -u):$(id -g)" -v "$dir:$dir" \${socket:+-v "$socket:$socket"} ${image} valkey-server "$@"
`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "redis-server.next"), script);
  chmodSync(join(folder, "redis-server.next"), 0o755);
  renameSync(join(folder, "redis-server.next"), join(folder, "redis-server"));
}

// --- browser --------------------------------------------------------------------------------------------------------

/** Only root can install one without asking; everybody else gets the command. */
async function getChromium() {
  if (!has("apt-get"))
    throw new Stop(
      2,
      "no Chromium is on PATH, the page tests need one",
      "CHROMIUM_BIN=/path/to/chrome npm run test:page",
    );
  const install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"];
  if (process.getuid?.() !== 0)
    throw new Stop(2, "no Chromium is on PATH, the page tests need one", `sudo ${install.join(" ")}`);
  await runSteps({ what: "Chromium", steps: [["apt-get", "update"], install] });
  if (findChromium() === null) throw new Stop(2, "apt gave no Chromium", install.join(" "));
}

// --- running things -------------------------------------------------------------------------------------------------

/** Prints a line at the start, one every 10 s, and one at the end with the seconds it took. */
function progress(what) {
  const startMs = performance.now();
  const seconds = () => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
  console.log(`colloquy: ${what} ...`);
  const timer = setInterval(() => console.log(`colloquy: ${what} ... ${seconds()}`), PROGRESS_MS);
  return {
    end(word = "done") {
      clearInterval(timer);
      console.log(`colloquy: ${what}: ${word} in ${seconds()}`);
    },
  };
}

/** Runs a command in silence; if it fails, its last lines are shown and the run ends with the command to type. */
async function run(
  what,
  command,
  args,
  { cwd = root, env = {}, quiet = false, typed = [command, ...args].join(" ") } = {},
) {
  const say = quiet ? undefined : progress(what);
  let output = "";
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-16_384);
    });
  }
  const code = await new Promise((resolve) => {
    child.once("error", (error) => resolve(error.code));
    child.once("close", resolve);
  });
  say?.end(code === 0 ? "done" : "failed");
  if (code === 0) return;
  process.stderr.write(`${output.trimEnd().split("\n").slice(-15).join("\n")}\n`);
  throw new Stop(1, `${command} failed (${code})`, typed);
}

// --- one at a time --------------------------------------------------------------------------------------------------

/**
 * Runs `work` while holding the folder .cache/ensure.lock (E2). The folder appears with its owner in it by one rename, which
 * fails while another's is there. Its holder touches it; one that was not touched for 20 s, or whose process is gone, is
 * stale and is removed by its owner's name, so that a lock taken in between is not.
 */
async function locked(work) {
  const lock = join(root, ".cache/ensure.lock");
  const token = `${process.pid}-${randomBytes(4).toString("hex")}`;
  const own = `${lock}.${token}`;
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, token), "");
  for (let waited = false; !take(own, lock); waited = true) {
    if (!waited) console.log("colloquy: waiting for another run of ensure.mjs");
    await sleep(200);
  }
  clearAway(dirname(lock), `${basename(lock)}.`);
  const beat = setInterval(() => touch(join(lock, token)), LOCK_BEAT_MS);
  try {
    await work();
  } finally {
    clearInterval(beat);
    rmSync(join(lock, token), { force: true });
  }
}

function take(own, lock) {
  for (const holder of existsSync(lock) ? readdirSync(lock) : []) {
    if (isStale(join(lock, holder), Number.parseInt(holder, 10))) rmSync(join(lock, holder), { force: true });
  }
  try {
    renameSync(own, lock); // onto an empty folder this succeeds, onto one with a holder it does not
    return true;
  } catch (error) {
    if (["ENOTEMPTY", "EEXIST", "EPERM"].includes(error.code)) return false;
    throw error;
  }
}

/** What runs that were killed while they waited have left. */
function clearAway(folder, prefix) {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(prefix) || !isGone(Number.parseInt(name.slice(prefix.length), 10))) continue;
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function touch(file) {
  try {
    utimesSync(file, new Date(), new Date());
  } catch {
    // taken as stale after a long stop of this process: the other run repeats what this one does
  }
}

function isGone(pid) {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

function isStale(file, pid) {
  if (isGone(pid)) return true;
  try {
    return Date.now() - statSync(file).mtimeMs > LOCK_STALE_MS;
  } catch {
    return true; // gone meanwhile
  }
}

main().catch((error) => {
  if (!(error instanceof Stop)) throw error;
  console.error(`colloquy: ${error.message}`);
  process.exit(error.exitCode);
});
