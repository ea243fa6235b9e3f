// Findings: from what doctor saw to what it says: one line for each thing, with the command that mends it. Pure.
//
// Invariants
//   F1. What `colloquy start` refuses about Redis is a failure here, and nothing that it refuses is less (store/safety.ts).
//   F2. A check that is not ok has a fix; one that is ok has none.
//   F3. Nothing is judged that was not seen: what could not be looked at is left out, or said to be unknown.

import type { Config } from "../../config.ts";
import { REDIS_MAJOR_MIN } from "../../redis-binary.mjs";

export type CheckStatus = "ok" | "warn" | "fail";

export interface Check {
  /** Stable, for scripts. */
  readonly id: string;
  readonly status: CheckStatus;
  /** What is so. */
  readonly message: string;
  /** What to do about it, as a command where there is one. */
  readonly fix?: string;
}

export interface RedisSeen {
  readonly kind: "answers";
  readonly version: string;
  readonly role: string;
  readonly isLoading: boolean;
  /** null where CONFIG is forbidden. */
  readonly config: {
    readonly appendonly: boolean;
    readonly appendfsync: string;
    readonly noAppendfsyncOnRewrite: boolean;
    readonly maxmemoryPolicy: string;
  } | null;
  readonly isAofWriteOk: boolean;
  readonly isAofRewriteOk: boolean;
  readonly usedMemoryBytes: number;
  /** 0: no limit. */
  readonly maxMemoryBytes: number;
  /** Redis' clock minus this machine's, give or take half of `clockErrorMs`. */
  readonly clockSkewMs: number;
  readonly clockErrorMs: number;
}

export type RedisLook =
  | RedisSeen
  /** It is there, and does not let us in or does not know what we ask. */
  | { readonly kind: "refuses"; readonly why: string }
  | { readonly kind: "silent"; readonly why: string }
  /** The embedded one, which `colloquy start` would start. */
  | { readonly kind: "not-started" };

export interface DoctorFacts {
  readonly nodeVersion: string;
  readonly settings: Pick<Config, "host" | "port" | "dataDir" | "durability" | "redisMemoryRatioMax">;
  /** Whether the runtime would run a Redis of its own. */
  readonly isEmbedded: boolean;
  /** Only when it is embedded. */
  readonly binary?: {
    readonly version: string | undefined;
    readonly path: string | undefined;
    readonly rejected: readonly { readonly path: string; readonly reason: string }[];
    readonly installCommand: string;
  };
  /** Without password. */
  readonly redisLabel: string;
  /** `redis-cli` with what it needs to reach this server. */
  readonly redisCli: string;
  readonly redis: RedisLook;
  readonly folder: {
    /** `missing`: it would be created. */
    readonly kind: "folder" | "missing" | "not-a-folder";
    /** Why nothing can be written there; undefined if it can. */
    readonly notWritable?: string;
    readonly isInUse: boolean;
  };
  readonly disk?: { readonly freeBytes: number; readonly totalBytes: number };
  /** What writing 4 KiB and syncing it took, in the data folder or where it would be. */
  readonly fsync?: { readonly medianMs: number; readonly maxMs: number };
  readonly port:
    | { readonly kind: "free" }
    | { readonly kind: "ours"; readonly notReady?: string }
    | { readonly kind: "taken" }
    | { readonly kind: "unusable"; readonly code: string };
  /** Files and sockets that this process may have open. */
  readonly openFilesMax?: number;
}

const NODE_MIN = [20, 19] as const;
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** Below it the embedded server can hardly write, let alone rewrite its log. */
const FREE_DISK_BYTES_MIN = 64 * MIB;
/** The log is rewritten at 256 MiB or later, and both copies must fit. */
const FREE_DISK_BYTES_FEW = 2 * GIB;
const FSYNC_SLOW_MS = 20;
const CLOCK_SKEW_MS_MAX = 1_000;
const OPEN_FILES_FEW = 4_096;
const MEMORY_RATIO_WARN = 0.8;

export function findings(facts: DoctorFacts): readonly Check[] {
  return [
    node(facts),
    ...binary(facts),
    ...redis(facts),
    folder(facts),
    ...disk(facts),
    ...fsync(facts),
    port(facts),
    ...openFiles(facts),
  ];
}

const ok = (id: string, message: string): Check => ({ id, status: "ok", message });
const warn = (id: string, message: string, fix: string): Check => ({ id, status: "warn", message, fix });
const fail = (id: string, message: string, fix: string): Check => ({ id, status: "fail", message, fix });

function node({ nodeVersion }: DoctorFacts): Check {
  const [major = 0, minor = 0] = nodeVersion.split(".").map(Number);
  const isNew = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  if (isNew) return ok("node", `Node ${nodeVersion}`);
  return fail("node", `Node ${nodeVersion} is older than ${NODE_MIN.join(".")}`, "nvm install --lts");
}

function binary({ binary: found, redis: seen }: DoctorFacts): Check[] {
  if (!found) return [];
  const { version, path, rejected, installCommand } = found;
  if (version !== undefined) return [ok("redis-binary", `${path} serves as Redis ${version}`)];
  const why = rejected.map((each) => `${each.path} ${each.reason}`).join("; ");
  const what = why === "" ? "there is no Redis server on PATH" : `no Redis server can be used: ${why}`;
  // A running one goes on, but cannot be started again.
  return [(seen.kind === "answers" ? warn : fail)("redis-binary", what, installCommand)];
}

function redis(facts: DoctorFacts): Check[] {
  const { redis: seen, redisLabel, isEmbedded } = facts;
  switch (seen.kind) {
    case "not-started":
      return [ok("redis", "not running; colloquy start starts it with settings that are safe")];
    case "silent":
      return [fail("redis", `${redisLabel} does not answer: ${seen.why}`, silentFix(facts))];
    case "refuses":
      return [fail("redis", `${redisLabel} refuses: ${seen.why}`, refusedFix(seen.why, isEmbedded))];
    case "answers":
      return [
        seen.isLoading
          ? warn("redis", `${redisLabel} answers and is still loading its data`, "wait; nothing is lost meanwhile")
          : ok("redis", `${redisLabel} answers`),
        redisVersion(seen),
        redisRole(facts, seen),
        ...redisSettings(facts, seen),
        redisMemory(facts, seen),
        clock(seen),
      ];
  }
}

function silentFix({ isEmbedded, settings }: DoctorFacts): string {
  if (isEmbedded) return `see what it says: tail ${settings.dataDir}/redis.log`;
  return "start it, or give the right address with --redis or REDIS_URL (rediss:// if it wants TLS)";
}

function refusedFix(why: string, isEmbedded: boolean): string {
  if (isEmbedded) return "another server is at this socket: choose another folder with --data";
  if (/^(?:NOAUTH|WRONGPASS)/.test(why)) return "put user and password into REDIS_URL=redis://user:password@host:port";
  if (/^NOPERM/.test(why)) return "let this user run INFO, TIME and CONFIG GET: ACL SETUSER <user> +@all ~*";
  return "give the address of a Redis or Valkey server with --redis or REDIS_URL";
}

function redisVersion({ version }: RedisSeen): Check {
  if (Number.parseInt(version, 10) >= REDIS_MAJOR_MIN) return ok("redis-version", `Redis ${version}`);
  const what = `Redis ${version} is older than ${REDIS_MAJOR_MIN}.0, which the scripts need`;
  return fail("redis-version", what, "upgrade the server to Redis 7.0 or later, or Valkey");
}

function redisRole({ redisLabel }: DoctorFacts, { role }: RedisSeen): Check {
  if (role === "master") return ok("redis-role", "a master, which accepts writes");
  return fail(
    "redis-role",
    `${redisLabel} is a replica, which accepts no writes`,
    "give its master's address: --redis",
  );
}

function redisSettings(facts: DoctorFacts, seen: RedisSeen): Check[] {
  const { durability } = facts.settings;
  const { config } = seen;
  if (config === null) {
    const what = "CONFIG GET is forbidden, so its settings cannot be seen";
    const check =
      durability === "assumed"
        ? warn(
            "redis-config",
            `${what}; --durability assumed vouches for them`,
            "allow CONFIG GET to have them checked",
          )
        : fail("redis-config", what, "allow CONFIG GET, or vouch for them with --durability assumed");
    return [check, ...aofState(seen)];
  }
  const set = (name: string, value: string) =>
    `${facts.redisCli} config set ${name} ${value} (and in redis.conf, so that it stays)`;
  const isAny = durability === "none";
  const checks: Check[] = [];
  if (config.appendonly) checks.push(ok("redis-aof", "keeps an append-only file"));
  else {
    const what = "keeps no append-only file: what it has is gone when it ends";
    checks.push((isAny ? warn : fail)("redis-aof", what, set("appendonly", "yes")));
  }
  checks.push(fsyncSetting(facts, config, set));
  const policy = config.maxmemoryPolicy;
  checks.push(
    policy === "noeviction"
      ? ok("redis-eviction", "evicts nothing (noeviction)")
      : fail(
          "redis-eviction",
          `may throw away what was accepted (maxmemory-policy ${policy})`,
          set("maxmemory-policy", "noeviction"),
        ),
  );
  return config.appendonly ? [...checks, ...aofState(seen)] : checks;
}

const STRENGTH: Readonly<Record<string, number>> = { no: 0, everysec: 1, always: 2 };

function fsyncSetting(
  { settings: { durability } }: DoctorFacts,
  { appendonly, appendfsync, noAppendfsyncOnRewrite }: NonNullable<RedisSeen["config"]>,
  set: (name: string, value: string) => string,
): Check {
  const id = "redis-fsync";
  const asked = durability === "everysec" ? "everysec" : "always";
  const isAsked = durability !== "none" && appendonly; // without a file redis-aof says what is wrong
  const weak = isAsked ? fail : warn;
  if ((STRENGTH[appendfsync] ?? 0) < STRENGTH[asked]!) {
    const loss = appendfsync === "everysec" ? "the last seconds" : "the last half minute";
    return weak(
      id,
      `appendfsync ${appendfsync}: a crash loses ${loss} of what was accepted`,
      set("appendfsync", asked),
    );
  }
  if (noAppendfsyncOnRewrite) {
    const what = "stops syncing while it rewrites its file: a crash then loses up to 30 s of what was accepted";
    return weak(id, what, set("no-appendfsync-on-rewrite", "no"));
  }
  if (appendfsync === "always") return ok(id, "appendfsync always: each write is on disk before it is answered");
  return warn(
    id,
    `appendfsync ${appendfsync}: a crash loses the last seconds of what was accepted`,
    set("appendfsync", "always"),
  );
}

function aofState({ isAofWriteOk, isAofRewriteOk }: RedisSeen): Check[] {
  const id = "redis-aof-write";
  if (!isAofWriteOk) {
    return [fail(id, "its last write to the append-only file failed", "free space on its disk, then see its log")];
  }
  if (!isAofRewriteOk) {
    const what = "its last rewrite of the append-only file failed, so the file grows";
    return [warn(id, what, "see its log; free memory and disk, then: redis-cli bgrewriteaof")];
  }
  return [ok(id, "its last write to the append-only file succeeded")];
}

function redisMemory(facts: DoctorFacts, { usedMemoryBytes, maxMemoryBytes }: RedisSeen): Check {
  const id = "redis-memory";
  const used = sizeText(usedMemoryBytes);
  if (maxMemoryBytes === 0) {
    const what = `${used} used, without a limit: full memory ends the server instead of answering 503`;
    return warn(id, what, `${facts.redisCli} config set maxmemory 4gb (what fits this machine, and in redis.conf)`);
  }
  const ratio = usedMemoryBytes / maxMemoryBytes;
  const what = `${used} of ${sizeText(maxMemoryBytes)} used (${Math.round(ratio * 100)} %)`;
  const bound = facts.settings.redisMemoryRatioMax;
  const more = `${facts.redisCli} config set maxmemory <more>`;
  if (ratio >= bound) return fail(id, `${what}: above ${Math.round(bound * 100)} % messages are answered 503`, more);
  if (ratio >= bound * MEMORY_RATIO_WARN)
    return warn(id, `${what}: above ${Math.round(bound * 100)} % messages are answered 503`, more);
  return ok(id, what);
}

function clock({ clockSkewMs, clockErrorMs }: RedisSeen): Check {
  const skewMs = Math.max(0, Math.abs(clockSkewMs) - clockErrorMs / 2);
  if (skewMs <= CLOCK_SKEW_MS_MAX) return ok("clock", "agrees with Redis' clock");
  const what = `this machine's clock is ${Math.round(Math.abs(clockSkewMs))} ms ${clockSkewMs > 0 ? "behind" : "ahead of"} Redis'`;
  return warn("clock", `${what}: nothing depends on it but the times in logs`, "timedatectl set-ntp true");
}

function folder({ folder: { kind, notWritable, isInUse }, settings: { dataDir } }: DoctorFacts): Check {
  const id = "data-folder";
  const other = "choose another folder with --data";
  if (kind === "not-a-folder") return fail(id, `${dataDir} is not a folder`, other);
  if (notWritable !== undefined) {
    const where = kind === "missing" ? `${dataDir} cannot be made` : `${dataDir} cannot be written`;
    return fail(id, `${where}: ${notWritable}`, `chown -R $(id -un) ${dataDir}, or ${other}`);
  }
  if (kind === "missing") return ok(id, `${dataDir} will be made`);
  const use = isInUse ? "in use by a running colloquy; a second one would stand by" : "not in use";
  return ok(id, `${dataDir} is writable, ${use}`);
}

function disk({ disk: seen, isEmbedded, settings: { dataDir } }: DoctorFacts): Check[] {
  if (!seen) return [];
  const id = "disk-space";
  const what = `${sizeText(seen.freeBytes)} of ${sizeText(seen.totalBytes)} free`;
  const fix = `see what is large: du -xh --max-depth=1 ${dataDir}; or choose another disk with --data`;
  if (!isEmbedded) return [seen.freeBytes < MIB ? fail(id, what, fix) : ok(id, what)]; // only the node's id is there
  if (seen.freeBytes < FREE_DISK_BYTES_MIN) return [fail(id, `${what}: Redis ends when it cannot write its log`, fix)];
  if (seen.freeBytes < FREE_DISK_BYTES_FEW) {
    return [warn(id, `${what}: Redis' log and its rewrite must both fit (about 250 bytes a message)`, fix)];
  }
  return [ok(id, what)];
}

function fsync({ fsync: seen, isEmbedded }: DoctorFacts): Check[] {
  if (!seen || !isEmbedded) return [];
  const what = `writing and syncing 4 KiB takes ${msText(seen.medianMs)} (at most ${msText(seen.maxMs)})`;
  if (seen.medianMs <= FSYNC_SLOW_MS) return [ok("disk-fsync", what)];
  const slow = `${what}: each answer waits for one`;
  return [warn("disk-fsync", slow, "put the data folder on a local SSD with --data")];
}

function port({ port: seen, settings: { host, port: number } }: DoctorFacts): Check {
  const id = "port";
  const at = `${host}:${number}`;
  switch (seen.kind) {
    case "free":
      return ok(id, number === 0 ? "a free port will be taken" : `${at} is free`);
    case "ours":
      return seen.notReady === undefined
        ? ok(id, `a colloquy that is ready answers at ${at}`)
        : warn(id, `a colloquy answers at ${at} that is not ready: ${seen.notReady}`, `curl http://${at}/readyz`);
    case "taken":
      return fail(
        id,
        `${at} is taken by another program`,
        `--port 0 takes a free one; who it is: ss -ltnp 'sport = :${number}'`,
      );
    case "unusable":
      return fail(id, `nothing can listen at ${at} (${seen.code})`, unusableFix(seen.code));
  }
}

function unusableFix(code: string): string {
  if (code === "EACCES") return "choose a port above 1023 with --port";
  return "give an address of this machine with --host, e.g. 127.0.0.1 or 0.0.0.0";
}

function openFiles({ openFilesMax }: DoctorFacts): Check[] {
  if (openFilesMax === undefined) return [];
  const id = "open-files";
  if (openFilesMax >= OPEN_FILES_FEW) return [ok(id, `${openFilesMax} files and sockets may be open`)];
  const what = `only ${openFilesMax} files and sockets may be open`;
  return [warn(id, what, "ulimit -n 65536 (LimitNOFILE=65536 in a systemd unit)")];
}

function sizeText(bytes: number): string {
  if (bytes >= GIB) return `${(bytes / GIB).toFixed(1)} GiB`;
  return `${(bytes / MIB).toFixed(1)} MiB`;
}

const msText = (ms: number): string => `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;

/** The lines for a terminal, each ended. */
export function doctorText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  const lines = checks.flatMap(({ id, status, message, fix }) => {
    const line = `${status.padEnd(5)} ${id.padEnd(width)}  ${message}`;
    return fix === undefined ? [line] : [line, `${" ".repeat(6 + width + 2)}fix: ${fix}`];
  });
  return `${[...lines, "", summary(checks)].join("\n")}\n`;
}

function summary(checks: readonly Check[]): string {
  const failed = checks.filter(({ status }) => status === "fail").length;
  const warned = checks.filter(({ status }) => status === "warn").length;
  const warnings = warned === 0 ? "" : `, ${warned} ${warned === 1 ? "warning" : "warnings"}`;
  return failed === 0 ? `all well${warnings}` : `${failed} of ${checks.length} failed${warnings}`;
}
