// Redis binary: finds a program on this machine that runs as a Redis server, and says how to get one where there is none.
// Plain JavaScript without dependencies, because scripts/ensure.mjs needs it before anything is installed or built.
//
// Invariants
//   B1. What is returned has answered `--version` as a Redis or Valkey server of at least version 7.0 (our scripts start
//       with `#!lua`); a program that is too old or does not run is rejected with its reason, never used.
//   B2. The order is: REDIS_SERVER_BIN, PATH, the project's own cache. REDIS_SERVER_BIN is never silently passed over.
//   B3. Nothing here changes the machine: `planRedis` only decides, scripts/ensure.mjs acts.
//
// On Debian and Ubuntu `redis-check-rdb` of redis-tools is the server itself under another name: started with argv0
// "redis-server" it serves. Unlike the package redis-server, redis-tools starts no service on port 6379.

import { spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, isAbsolute, join, resolve } from "node:path";

export const REDIS_MAJOR_MIN = 7;
/** Packages of the rootless way; the libraries are those a small container lacks, and one that a release lacks is left out. */
export const DEB_PACKAGES = ["redis-tools", "libjemalloc2", "liblzf1", "libatomic1"];
export const DOCKER_IMAGE = "valkey/valkey:8";

const NAMES = ["valkey-server", "redis-server", "valkey-check-rdb", "redis-check-rdb"];
const PROBE_TIMEOUT_MS = 10_000;

/** @param {NodeJS.ProcessEnv} env @returns {string} the folder that holds what ensure.mjs fetched, whether it exists or not */
export function redisCacheDir(env = process.env) {
  const base = env.XDG_CACHE_HOME && isAbsolute(env.XDG_CACHE_HOME) ? env.XDG_CACHE_HOME : join(homedir(), ".cache");
  return join(base, "colloquy", "redis");
}

/**
 * Looks for a server binary and asks each candidate for its version until one fits (B1, B2). Costs one short process per
 * candidate, about 10 ms.
 * @param {NodeJS.ProcessEnv} env
 * @returns {{ binary: import("./redis-binary.mjs").RedisBinary | null, rejected: { path: string, reason: string }[] }}
 */
export function findRedis(env = process.env) {
  const rejected = [];
  for (const candidate of candidates(env)) {
    const answer = probe(candidate);
    if (answer.version) return { binary: { ...candidate, version: answer.version }, rejected };
    rejected.push({ path: candidate.path, reason: answer.reason });
  }
  return { binary: null, rejected };
}

/**
 * Decides how this machine gets a Redis server. Pure.
 * @param {import("./redis-binary.mjs").RedisFacts} facts
 * @returns {import("./redis-binary.mjs").RedisPlan}
 */
export function planRedis(facts) {
  if (facts.binary) return { kind: "use", binary: facts.binary };
  if (facts.serverBin) {
    const reason = facts.rejected[0]?.reason ?? "cannot be used";
    return { kind: "stop", why: `REDIS_SERVER_BIN=${facts.serverBin} ${reason}`, command: "unset REDIS_SERVER_BIN" }; // B2
  }
  const open = (way) => !facts.failed.includes(way);
  const linux = facts.platform === "linux";
  if (linux && facts.hasApt && facts.isRoot && open("apt")) {
    return {
      kind: "apt",
      steps: [
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", "redis-tools"],
      ],
    };
  }
  if (linux && facts.hasApt && facts.hasDpkg && open("deb")) return { kind: "deb", packages: DEB_PACKAGES };
  if (facts.hasBrew && open("brew")) return { kind: "brew", steps: [["brew", "install", "valkey"]] };
  // A container's socket can be reached from outside only where both share a kernel, so not from macOS.
  if (linux && facts.dockerAnswers && open("docker")) return { kind: "docker", image: DOCKER_IMAGE };
  const why = facts.rejected.length
    ? `no usable Redis server: ${facts.rejected.map(({ path, reason }) => `${path} ${reason}`).join("; ")}`
    : "no Redis server on PATH";
  return { kind: "stop", why, command: commandToType(facts) };
}

/**
 * The command that gives this machine a usable server, for a person to type. Looks at PATH, starts nothing.
 * @param {readonly import("./redis-binary.mjs").RejectedBinary[]} rejected what `findRedis` found and could not use
 * @param {NodeJS.ProcessEnv} env
 * @returns {string}
 */
export function redisInstallCommand(rejected, env = process.env) {
  if (env.REDIS_SERVER_BIN) return "unset REDIS_SERVER_BIN"; // B2
  const folders = (env.PATH ?? "").split(delimiter).filter(Boolean);
  const has = (name) => folders.some((folder) => isExecutable(join(folder, name)));
  return commandToType({
    platform: process.platform,
    isRoot: process.getuid?.() === 0,
    hasApt: has("apt-get"),
    hasApk: has("apk"),
    hasDnf: has("dnf"),
    rejected,
    failed: rejected.some(({ reason }) => reason.includes("older than")) ? ["apt"] : [], // that is where it came from
  });
}

/** The one command for a person to type; apt having been tried without a usable server, it would not help to repeat it. */
function commandToType({ platform, isRoot, hasApt, hasApk, hasDnf, rejected, failed }) {
  const sudo = isRoot ? "" : "sudo ";
  const aptIsTooOld = rejected.length > 0 && (failed.includes("apt") || failed.includes("deb"));
  if (platform === "darwin") return "brew install valkey";
  if (hasApt && !aptIsTooOld)
    return `${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends redis-tools`;
  if (hasApk) return `${sudo}apk add valkey`;
  if (hasDnf) return `${sudo}dnf install -y valkey`;
  return `export REDIS_SERVER_BIN=/path/to/redis-server # version ${REDIS_MAJOR_MIN}.0 or newer`;
}

/** Everything on this machine that could be a server, best first. */
function* candidates(env) {
  if (env.REDIS_SERVER_BIN) {
    yield { path: resolve(env.REDIS_SERVER_BIN), argv0: "redis-server", env: {} };
    return; // B2
  }
  const folders = (env.PATH ?? "").split(delimiter).filter(Boolean);
  for (const name of NAMES) {
    for (const folder of folders) {
      const path = join(folder, name);
      if (isExecutable(path)) yield { path, argv0: serverName(name), env: {} };
    }
  }
  const unpacked = join(redisCacheDir(env), "deb");
  for (const name of NAMES) {
    const path = join(unpacked, "usr", "bin", name);
    if (isExecutable(path)) yield { path, argv0: serverName(name), env: { LD_LIBRARY_PATH: librariesIn(unpacked) } };
  }
  const wrapper = join(redisCacheDir(env), "docker", "redis-server");
  if (isExecutable(wrapper)) yield { path: wrapper, argv0: "redis-server", env: {} };
}

function serverName(name) {
  return name.startsWith("valkey") ? "valkey-server" : "redis-server";
}

function librariesIn(unpacked) {
  const folders = [];
  for (const base of [join(unpacked, "usr", "lib"), join(unpacked, "lib")]) {
    try {
      folders.push(base, ...readdirSync(base).map((name) => join(base, name)));
    } catch {
      // a package without libraries has no such folder
    }
  }
  return folders.join(":");
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Asks a candidate who it is. The wrapper of a container answers from its own text, without starting a container. */
function probe({ path, argv0, env }) {
  const { status, stdout, error } = spawnSync(path, ["--version"], {
    argv0,
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: PROBE_TIMEOUT_MS,
  });
  if (error) return { reason: `does not run (${error.code ?? error.message})` };
  const [, major, rest] = /(?:redis|valkey) server v=(\d+)\.([\d.]+)/i.exec(stdout) ?? [];
  if (status !== 0 || !major) return { reason: "is not a Redis server" };
  if (Number(major) < REDIS_MAJOR_MIN)
    return { reason: `is version ${major}.${rest}, older than ${REDIS_MAJOR_MIN}.0` };
  return { version: `${major}.${rest}` };
}
