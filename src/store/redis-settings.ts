// Redis settings: what the embedded server is told, and what the last words of one that ended mean. Pure.
//
// Invariants
//   S1. With durability `always` Redis answers a write only after its fsync, also while it rewrites its log.
//   S2. Nothing is ever evicted, and nothing is kept but the log: one truth on disk.
//   S3. Clients come in by the socket in the folder only, and as this user only.

import type { EmbeddedRedisReason } from "../errors.ts";

export type Durability = "always" | "everysec" | "none";
export type RedisSetting = readonly [name: string, value: string];

export interface RedisSettingsFor {
  /** The data folder's real path. */
  readonly dir: string;
  readonly socketPath: string;
  readonly durability: Durability;
  /** Memory that this machine, or this container, has. */
  readonly memoryBytes: number;
  readonly freeDiskBytes: number;
}

const MIB = 1024 * 1024;
const REWRITE_MIN_FLOOR_BYTES = 256 * MIB;
const REWRITE_MIN_CEILING_BYTES = 4096 * MIB;
const REWRITE_DISK_SHARE = 0.1;
const MEMORY_SHARE = 0.4;
const LUA_BUSY_MS = 500;

export function appendfsyncOf(durability: Durability): "always" | "everysec" | "no" {
  return durability === "none" ? "no" : durability;
}

/**
 * How large the log gets before its first rewrite. A rewrite costs a core and a copy of the data, and a busy node writes
 * 100 MB/s, so it should be rare; but the log and its rewrite must both fit on the disk.
 */
export function rewriteMinBytes(freeDiskBytes: number): number {
  const share = Math.floor(freeDiskBytes * REWRITE_DISK_SHARE);
  return Math.max(REWRITE_MIN_FLOOR_BYTES, Math.min(REWRITE_MIN_CEILING_BYTES, share));
}

/** What an adopted server is corrected to, if it runs with anything else: the settings that the promise rests on. */
export function promisedSettings(durability: Durability): readonly RedisSetting[] {
  return [
    ["appendfsync", appendfsyncOf(durability)], // S1
    ["no-appendfsync-on-rewrite", "no"], // S1
    ["maxmemory-policy", "noeviction"], // S2
  ];
}

export function redisSettings(input: RedisSettingsFor): readonly RedisSetting[] {
  return [
    ["port", "0"], // S3
    ["unixsocket", input.socketPath],
    ["unixsocketperm", "700"], // S3
    ["dir", input.dir],
    ["daemonize", "no"],
    ["set-proc-title", "no"], // the command line stays as given: it names the folder for `redisProcessesOf`
    ["appendonly", "yes"],
    ["aof-load-truncated", "yes"], // only a write that was never answered can be torn
    ["auto-aof-rewrite-min-size", String(rewriteMinBytes(input.freeDiskBytes))],
    ["save", ""], // S2
    ["maxmemory", String(Math.floor(input.memoryBytes * MEMORY_SHARE))],
    ["busy-reply-threshold", String(LUA_BUSY_MS)],
    ...promisedSettings(input.durability),
  ];
}

export function redisArguments(settings: readonly RedisSetting[]): string[] {
  return settings.flatMap(([name, value]) => [`--${name}`, value]);
}

const LAST_WORDS: readonly (readonly [pattern: RegExp, reason: EmbeddedRedisReason, sentence: string])[] = [
  [
    /no space left on device|disk quota exceeded/i,
    "disk-full",
    "the disk is full; what is on disk was left as it is; free some space and start again",
  ],
  [
    /permission denied|read-only file system|operation not permitted/i,
    "forbidden",
    "it may not write its files; nothing was changed; give this user the folder's files (chown -R) or choose another with --data",
  ],
  [
    /bad file format reading|unexpected end of file|truncated file is not the last|wrong signature|rdb crc|internal error in rdb|error reading|fatal error loading|manifest/i,
    "damaged",
    "its log on disk is damaged and was left as it is; copy the folder before anything else, then look with: redis-check-aof appendonlydir/*.manifest",
  ],
];

/** What the last lines of a server's log say about why it ended. */
export function explainExit(logTail: string): { readonly reason: EmbeddedRedisReason; readonly sentence: string } {
  const [, reason, sentence] = LAST_WORDS.find(([pattern]) => pattern.test(logTail)) ?? [];
  return {
    reason: reason ?? "exited",
    sentence: sentence ?? "what is on disk was left as it is; look into its log and start again",
  };
}
