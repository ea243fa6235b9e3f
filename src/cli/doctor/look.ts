// Look: gathers what doctor judges: this process, the data folder and its disk, the port, Redis. It decides nothing.
//
// Invariants
//   K1. Nothing is left behind: the one file that is written to time the disk is removed, and no folder is made.
//   K2. No server is started, and none is written to: INFO, TIME and CONFIG GET are all that Redis is asked.
//   K3. Every look has a deadline, so the whole takes seconds at most.

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, open, readFile, realpath, rm, stat, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { Redis } from "ioredis";
import type { Config } from "../../config.ts";
import { type Environment, pause } from "../../environment.ts";
import { findRedis, redisInstallCommand } from "../../redis-binary.mjs";
import { isDataFolderInUse } from "../../store/data-folder.ts";
import { embeddedSocketPath } from "../../store/embedded-redis.ts";
import { connectionOptions, type RedisAddress } from "../../store/redis-connection.ts";
import type { DoctorFacts, RedisLook } from "./findings.ts";

const ANSWER_WITHIN_MS = 3_000;
const FSYNC_SAMPLES = 20;
const FSYNC_BYTES = 4_096;
const FSYNC_WITHIN_MS = 3_000;
/** What connecting to the socket of a server that has ended says. */
const NOBODY = /\b(?:ECONNREFUSED|ENOENT)\b/;

export async function lookAround(config: Config, environment: Environment): Promise<DoctorFacts> {
  const [place, port, openFilesMax] = await Promise.all([
    lookAtFolder(config.dataDir, environment),
    lookAtPort(config),
    readOpenFilesMax(),
  ]);
  const isEmbedded = config.redis === undefined;
  const { address, cli, label } = await redisPlace(config);
  let redis: RedisLook = address ? await lookAtRedis(address, environment) : { kind: "not-started" };
  if (isEmbedded && redis.kind === "silent" && NOBODY.test(redis.why)) redis = { kind: "not-started" };
  return {
    nodeVersion: process.versions.node,
    settings: config,
    isEmbedded,
    ...(isEmbedded ? { binary: lookForBinary() } : {}),
    redisLabel: label,
    redisCli: cli,
    redis,
    ...place,
    port,
    ...(openFilesMax === undefined ? {} : { openFilesMax }),
  };
}

function lookForBinary(): NonNullable<DoctorFacts["binary"]> {
  const { binary, rejected } = findRedis();
  const installCommand = redisInstallCommand(rejected);
  return { version: binary?.version, path: binary?.path, rejected, installCommand };
}

// --- the folder and its disk ----------------------------------------------------------------------------------------

type Place = Pick<DoctorFacts, "folder" | "disk" | "fsync">;

async function lookAtFolder(dataDir: string, environment: Environment): Promise<Place> {
  const path = resolve(dataDir);
  const found = await stat(path).catch(() => undefined);
  if (found && !found.isDirectory()) return { folder: { kind: "not-a-folder", isInUse: false } };
  const kind = found ? "folder" : "missing";
  const isInUse = found ? await isDataFolderInUse(await realpath(path)).catch(() => false) : false;
  const there = found ? path : await nearestFolder(path);
  const disk = await statfs(there).then(
    ({ bavail, blocks, bsize }) => ({ freeBytes: bavail * bsize, totalBytes: blocks * bsize }),
    () => undefined,
  );
  try {
    await access(there, constants.W_OK | constants.X_OK);
    const fsync = await timeFsync(there, environment);
    return { folder: { kind, isInUse }, ...(disk ? { disk } : {}), fsync };
  } catch (error) {
    const notWritable = (error as NodeJS.ErrnoException).code ?? String(error);
    return { folder: { kind, notWritable, isInUse }, ...(disk ? { disk } : {}) };
  }
}

/** The folder that a folder which is not there would be made in. */
async function nearestFolder(path: string): Promise<string> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (await stat(folder).catch(() => undefined)) return folder;
    if (folder === dirname(folder)) return folder;
  }
}

async function timeFsync(folder: string, environment: Environment): Promise<{ medianMs: number; maxMs: number }> {
  const file = join(folder, `.colloquy-doctor-${randomBytes(6).toString("hex")}`);
  const bytes = randomBytes(FSYNC_BYTES);
  const samples: number[] = [];
  const endMs = environment.monotonicMs() + FSYNC_WITHIN_MS;
  const handle = await open(file, "wx", 0o600);
  try {
    while (samples.length < FSYNC_SAMPLES && environment.monotonicMs() < endMs) {
      const startMs = environment.monotonicMs();
      await handle.write(bytes);
      await handle.datasync();
      samples.push(environment.monotonicMs() - startMs);
    }
  } finally {
    await handle.close();
    await rm(file, { force: true }); // K1
  }
  samples.sort((a, b) => a - b);
  return { medianMs: samples[samples.length >> 1]!, maxMs: samples.at(-1)! };
}

// --- the port -------------------------------------------------------------------------------------------------------

async function lookAtPort({ host, port }: Config): Promise<DoctorFacts["port"]> {
  const code = await listenOnce(host, port);
  if (code === undefined) return { kind: "free" };
  if (code !== "EADDRINUSE") return { kind: "unusable", code };
  return (await colloquyAt(host, port)) ?? { kind: "taken" };
}

/** @returns the error's code; undefined if listening worked */
function listenOnce(host: string, port: number): Promise<string | undefined> {
  return new Promise((settle) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => settle(error.code ?? "unknown"));
    server.listen({ host, port, exclusive: true }, () => server.close(() => settle(undefined)));
  });
}

async function colloquyAt(host: string, port: number): Promise<DoctorFacts["port"] | undefined> {
  const everywhere = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const base = `http://${everywhere.includes(":") ? `[${everywhere}]` : everywhere}:${port}`;
  const ask = async (path: string): Promise<Record<string, unknown>> => {
    const answer = await fetch(base + path, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    return (await answer.json()) as Record<string, unknown>;
  };
  try {
    if ((await ask("/livez")).live !== true) return undefined;
    const { ready, reason } = await ask("/readyz");
    return ready === true ? { kind: "ours" } : { kind: "ours", notReady: String(reason ?? "it does not say why") };
  } catch {
    return undefined;
  }
}

// --- the process ----------------------------------------------------------------------------------------------------

async function readOpenFilesMax(): Promise<number | undefined> {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => ""); // Linux only
  const word = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
  if (word === undefined) return undefined;
  return word === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(word);
}

// --- redis ----------------------------------------------------------------------------------------------------------

interface RedisPlace {
  /** undefined: no embedded server runs on the folder. */
  readonly address: RedisAddress | undefined;
  readonly label: string;
  readonly cli: string;
}

async function redisPlace({ redis, dataDir }: Config): Promise<RedisPlace> {
  if (redis === undefined) {
    const dir = await realpath(resolve(dataDir)).catch(() => undefined);
    const path = dir && embeddedSocketPath(dir);
    const isThere = path !== undefined && (await stat(path).catch(() => undefined)) !== undefined;
    const label = path === undefined ? "the embedded Redis" : `the embedded Redis at ${path}`;
    return { address: isThere ? { path } : undefined, label, cli: `redis-cli -s ${path}` };
  }
  const address: RedisAddress = redis.startsWith("/") ? { path: redis } : { url: redis };
  const { target, label } = connectionOptions(address)!; // Config has refused what is no address
  const secret = target.password === undefined ? "" : " --askpass";
  return { address, label, cli: redis.startsWith("/") ? `redis-cli -s ${redis}` : `redis-cli -u ${label}${secret}` };
}

/** K2 */
export async function lookAtRedis(address: RedisAddress, environment: Environment): Promise<RedisLook> {
  const options = connectionOptions(address);
  if (!options) return { kind: "silent", why: "this is no address of a Redis" };
  const redis = new Redis({
    ...options.target,
    protocol: 2,
    replyMapping: "legacy",
    lazyConnect: true,
    connectTimeout: ANSWER_WITHIN_MS,
    commandTimeout: ANSWER_WITHIN_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: null,
    enableReadyCheck: false, // a server that loads its data answers what is asked here
    disableClientInfo: true,
  });
  let lastError = "";
  redis.on("error", (error: Error) => {
    lastError = error.message.split("\n", 1)[0]!.slice(0, 200);
  });
  const late = new AbortController();
  try {
    return await Promise.race([
      ask(redis, environment),
      pause(environment, 2 * ANSWER_WITHIN_MS, late.signal).then((): RedisLook => {
        return { kind: "silent", why: lastError || `no answer within ${2 * ANSWER_WITHIN_MS} ms` };
      }),
    ]);
  } catch (error) {
    const said = (error as Error).message.split("\n", 1)[0]!.slice(0, 200);
    const isRefused = (error as Error).name === "ReplyError" || /^(?:NOAUTH|WRONGPASS|NOPERM)/.test(lastError);
    if (isRefused) return { kind: "refuses", why: /^(?:NOAUTH|WRONGPASS)/.test(lastError) ? lastError : said };
    return { kind: "silent", why: lastError || said };
  } finally {
    late.abort();
    redis.disconnect();
  }
}

async function ask(redis: Redis, environment: Environment): Promise<RedisLook> {
  await redis.connect();
  const info = infoOf(await redis.info());
  const sentMs = environment.monotonicMs();
  const [seconds, micros] = await redis.time();
  const clockErrorMs = environment.monotonicMs() - sentMs;
  const redisMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
  return {
    kind: "answers",
    version: info.get("redis_version") ?? "unknown",
    role: info.get("role") ?? "unknown",
    isLoading: info.get("loading") === "1",
    config: await configOf(redis),
    isAofWriteOk: (info.get("aof_last_write_status") ?? "ok") === "ok",
    isAofRewriteOk: (info.get("aof_last_bgrewrite_status") ?? "ok") === "ok",
    usedMemoryBytes: Number(info.get("used_memory") ?? 0),
    maxMemoryBytes: Number(info.get("maxmemory") ?? 0),
    clockSkewMs: redisMs - (environment.nowMs() - clockErrorMs / 2),
    clockErrorMs,
  };
}

async function configOf(redis: Redis): Promise<Extract<RedisLook, { kind: "answers" }>["config"]> {
  const get = async (name: string): Promise<string | undefined> => {
    const answer: unknown = await redis.config("GET", name);
    return Array.isArray(answer) ? String(answer[1] ?? "") : undefined;
  };
  try {
    return {
      appendonly: (await get("appendonly")) === "yes",
      appendfsync: (await get("appendfsync")) ?? "no",
      noAppendfsyncOnRewrite: (await get("no-appendfsync-on-rewrite")) === "yes",
      maxmemoryPolicy: (await get("maxmemory-policy")) ?? "unknown",
    };
  } catch (error) {
    if ((error as Error).name === "ReplyError") return null; // forbidden, or renamed away
    throw error;
  }
}

function infoOf(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split("\r\n").flatMap((line) => {
      const colon = line.indexOf(":");
      return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)] as const] : [];
    }),
  );
}
