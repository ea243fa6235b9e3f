/** A program that serves Redis: spawn `path` with `argv0` and with `env` added to the environment. */
export interface RedisBinary {
  readonly path: string;
  readonly argv0: string;
  readonly env: Readonly<Record<string, string>>;
  readonly version: string;
}

export interface RejectedBinary {
  readonly path: string;
  readonly reason: string;
}

export type RedisWay = "apt" | "deb" | "brew" | "docker";

/** What `planRedis` decides from; all of it can be read without changing the machine. */
export interface RedisFacts {
  readonly binary: RedisBinary | null;
  readonly rejected: readonly RejectedBinary[];
  /** The value of REDIS_SERVER_BIN, if set. */
  readonly serverBin: string | undefined;
  readonly platform: NodeJS.Platform;
  readonly isRoot: boolean;
  readonly hasApt: boolean;
  readonly hasDpkg: boolean;
  readonly hasBrew: boolean;
  readonly hasDnf: boolean;
  readonly hasApk: boolean;
  readonly dockerAnswers: boolean;
  /** Ways that were tried in this run and gave no usable server. */
  readonly failed: readonly RedisWay[];
}

export type RedisPlan =
  | { readonly kind: "use"; readonly binary: RedisBinary }
  | { readonly kind: "apt" | "brew"; readonly steps: readonly (readonly [string, ...string[]])[] }
  | { readonly kind: "deb"; readonly packages: readonly string[] }
  | { readonly kind: "docker"; readonly image: string }
  | { readonly kind: "stop"; readonly why: string; readonly command: string };

export const REDIS_MAJOR_MIN: number;
export const DEB_PACKAGES: readonly string[];
export const DOCKER_IMAGE: string;
export function redisCacheDir(env?: NodeJS.ProcessEnv): string;
export function findRedis(env?: NodeJS.ProcessEnv): { binary: RedisBinary | null; rejected: RejectedBinary[] };
export function planRedis(facts: RedisFacts): RedisPlan;
export function redisInstallCommand(rejected: readonly RejectedBinary[], env?: NodeJS.ProcessEnv): string;
