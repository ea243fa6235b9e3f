// Embedded Redis: the runtime's own server on the data folder. It is a process group of its own, so that neither a kill -9
// of the runtime nor Ctrl-C takes it along: the next start finds it alive and adopts it, with all its data in memory.
//
// Invariants
//   E1. At most one server works on a folder: only the holder of the folder's lock starts one, and only after neither its
//       socket answers nor any process of this machine is a server on that folder.
//   E2. A server is adopted only when it says itself that it works on this folder and keeps a log; what the promise rests
//       on is corrected before anybody else may use it.
//   E3. It is ready when it answers PING: a server that still loads its log is waited for, however long.
//   E4. One that ends while the runtime lives is started again, with backoff, until stop(). Nothing on disk is repaired.
//   E5. stop() returns when no server works on the folder any more.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { open, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { type Environment, pause } from "../environment.ts";
import { EmbeddedRedisError } from "../errors.ts";
import { findRedis, type RedisBinary, redisInstallCommand } from "../redis-binary.mjs";
import { type DataFolder, prepareSocketPath, socketPath } from "./data-folder.ts";
import { isRunning, redisProcessesOf } from "./redis-process.ts";
import { type Durability, explainExit, promisedSettings, redisArguments, redisSettings } from "./redis-settings.ts";

/** For the log and the banner; none of them needs an answer. */
export type EmbeddedRedisEvent =
  | { readonly kind: "loading"; readonly pid: number; readonly percent: number | undefined; readonly elapsedMs: number }
  | { readonly kind: "started"; readonly pid: number; readonly adopted: boolean }
  | { readonly kind: "corrected"; readonly setting: string; readonly from: string; readonly to: string }
  | { readonly kind: "exited"; readonly pid: number; readonly why: string; readonly restartInMs: number }
  | { readonly kind: "start-failed"; readonly error: Error; readonly restartInMs: number }
  | { readonly kind: "killed"; readonly pid: number };

export interface EmbeddedRedisOptions {
  readonly folder: DataFolder;
  readonly durability: Durability;
  readonly environment: Environment;
  /** Default: what `findRedis` finds. */
  readonly binary?: RedisBinary;
  readonly onEvent?: (event: EmbeddedRedisEvent) => void;
  /** Ends a start that still waits. */
  readonly signal?: AbortSignal;
  /** How long a server may be silent at its socket before the start gives up. */
  readonly answerTimeoutMs?: number;
  /** How long SIGTERM may take before SIGKILL; answered writes are safe either way. */
  readonly stopTimeoutMs?: number;
}

export interface EmbeddedRedis {
  readonly socketPath: string;
  /** The process that served last; it changes with every restart. */
  readonly pid: number;
  /** Whether that process was found alive instead of started. */
  readonly adopted: boolean;
  /** Shuts the server down and waits for its end. Further calls wait for the same end. */
  stop(): Promise<void>;
}

const ANSWER_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 10_000;
const COMMAND_TIMEOUT_MS = 2_000;
const POLL_MS = 20;
const LIFE_POLL_MS = 200;
const PROGRESS_MS = 1_000;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 5_000;
const BACKOFF_RESET_MS = 10_000;
const FREE_DISK_BYTES_MIN = 1024 * 1024;
const LOG_BYTES_MAX = 16 * 1024 * 1024;
const LOG_TAIL_LINES = 6;

/** Where the embedded server of a folder listens, whoever runs it. */
export function embeddedSocketPath(dir: string): string {
  return socketPath(dir, "redis.sock");
}

/**
 * Starts the server of a data folder, or adopts the one that is alive.
 * @throws EmbeddedRedisError  `not-owner` the folder's lock is not held | `no-binary` | `foreign` another server is at the
 *   socket | `busy` a server works on the folder but does not answer | `disk-full` | `forbidden` | `damaged` | `exited` |
 *   `stopped` by the signal. No server that it started is left behind.
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const server = new EmbeddedServer(options);
  await keepingAlive(server.start());
  return server;
}

/** After this many restarts in a row without `BACKOFF_RESET_MS` of life, how long to wait for the next. Pure. */
export function restartDelayMs(failures: number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(failures, 16));
}

/** A server that answers, and the promise of its end. */
interface Life {
  readonly pid: number;
  readonly adopted: boolean;
  readonly ended: Promise<string>;
}

/** Folders that this process serves; a second start on one is a mistake of ours that E1 must not pay for. */
const served = new Set<string>();

class EmbeddedServer implements EmbeddedRedis {
  readonly socketPath: string;
  readonly #options: EmbeddedRedisOptions;
  readonly #dir: string;
  readonly #environment: Environment;
  readonly #stopping = new AbortController();
  #life: Life | undefined;
  #watching: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;

  constructor(options: EmbeddedRedisOptions) {
    this.#options = options;
    this.#dir = options.folder.dir;
    this.#environment = options.environment;
    this.socketPath = embeddedSocketPath(this.#dir);
  }

  get pid(): number {
    return this.#life?.pid ?? 0;
  }

  get adopted(): boolean {
    return this.#life?.adopted ?? false;
  }

  async start(): Promise<void> {
    if (!this.#options.folder.holdsLock) {
      throw new EmbeddedRedisError(
        "not-owner",
        `another process is using ${this.#dir} and runs its Redis; nothing was changed; stop that process or choose another folder with --data`,
      );
    }
    if (served.has(this.#dir)) throw new Error(`the embedded Redis of ${this.#dir} was started twice in one process`);
    served.add(this.#dir);
    const abort = () => this.#stopping.abort();
    this.#options.signal?.addEventListener("abort", abort, { once: true });
    try {
      if (this.#options.signal?.aborted) abort();
      await prepareSocketPath(this.#dir, this.socketPath);
      this.#life = await this.#bring();
      this.#emit({ kind: "started", pid: this.#life.pid, adopted: this.#life.adopted });
      this.#watching = this.#watch(this.#life);
    } catch (error) {
      served.delete(this.#dir);
      throw error;
    } finally {
      this.#options.signal?.removeEventListener("abort", abort);
    }
  }

  stop(): Promise<void> {
    this.#stopped ??= keepingAlive(this.#stop());
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#terminate(await redisProcessesOf(this.#dir)); // E5
    await rm(this.#pidFile, { force: true });
    served.delete(this.#dir);
  }

  /** E4: one life after the other, until stop(). */
  async #watch(first: Life): Promise<void> {
    const signal = this.#stopping.signal;
    let failures = 0;
    for (let life: Life | undefined = first; !signal.aborted; ) {
      let restartInMs: number;
      if (life) {
        const bornMs = this.#environment.monotonicMs();
        const why = await Promise.race([life.ended, aborted(signal)]);
        if (why === undefined || signal.aborted) return;
        if (this.#environment.monotonicMs() - bornMs >= BACKOFF_RESET_MS) failures = 0;
        restartInMs = restartDelayMs(failures);
        this.#emit({ kind: "exited", pid: life.pid, why, restartInMs });
      } else {
        restartInMs = restartDelayMs(failures);
      }
      failures += 1;
      await pause(this.#environment, restartInMs, signal);
      if (signal.aborted) return;
      life = await this.#bring().catch((error: Error) => {
        if (!signal.aborted) this.#emit({ kind: "start-failed", error, restartInMs: restartDelayMs(failures) });
        return undefined;
      });
      if (!life) continue;
      this.#life = life;
      this.#emit({ kind: "started", pid: life.pid, adopted: life.adopted });
    }
  }

  /** Adopts the server that is there, waits for one that is about to be, or starts one (E1). */
  async #bring(): Promise<Life> {
    const startMs = this.#environment.monotonicMs();
    const waitMs = this.#options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
    for (;;) {
      const control = await connectTo(this.socketPath);
      const life = control && (await this.#adopt(control).finally(() => control.disconnect()));
      if (life) return life;
      const pids = await redisProcessesOf(this.#dir);
      if (!control && pids.length === 0) return this.#spawn();
      if (this.#environment.monotonicMs() - startMs > waitMs) {
        throw new EmbeddedRedisError(
          "busy",
          `a Redis server${pids.length ? ` (pid ${pids.join(", ")})` : ""} works on ${this.#dir} but does not answer at ${this.socketPath}; ` +
            `its data is safe and nothing was changed; stop it with: kill ${pids.join(" ")}`,
        );
      }
      await this.#rest(POLL_MS);
    }
  }

  /**
   * E2. @returns undefined when the server went away or stayed silent meanwhile
   * @throws EmbeddedRedisError  `foreign`
   */
  async #adopt(control: Redis): Promise<Life | undefined> {
    const identity = await this.#configOf(control, ["dir", "appendonly"]);
    if (!identity) return undefined;
    const { dir, appendonly } = identity;
    if (dir !== this.#dir || appendonly !== "yes") {
      const what =
        dir === this.#dir
          ? "keeps no log (appendonly no)"
          : `works on ${dir ?? "an unknown folder"}, not on ${this.#dir}`;
      throw new EmbeddedRedisError(
        "foreign",
        `the Redis server at ${this.socketPath} ${what}; it was left alone; stop it or choose another folder with --data`,
      );
    }
    const pid = await this.#pidOf(control);
    if (pid === undefined || !(await this.#isReady(control, pid))) return undefined;
    if (!(await this.#correct(control))) return undefined;
    await writeFile(this.#pidFile, `${pid}\n`);
    return { pid, adopted: true, ended: this.#endOf(pid) };
  }

  /** @returns undefined when there was no answer @throws EmbeddedRedisError `foreign` when it refuses to answer */
  async #configOf(control: Redis, names: readonly string[]): Promise<Record<string, string> | undefined> {
    const flat = await answerOf(control.config("GET", ...(names as [string, ...string[]])) as Promise<string[]>);
    if (flat.kind === "lost") return undefined;
    if (flat.kind === "refused") {
      throw new EmbeddedRedisError(
        "foreign",
        `the Redis server at ${this.socketPath} is not ours (${flat.word}); it was left alone; stop it or choose another folder with --data`,
      );
    }
    const pairs = Array.from({ length: flat.value.length / 2 }, (_, index) =>
      flat.value.slice(2 * index, 2 * index + 2),
    );
    return Object.fromEntries(pairs);
  }

  async #correct(control: Redis): Promise<boolean> {
    const wanted = promisedSettings(this.#options.durability);
    const actual = await this.#configOf(
      control,
      wanted.map(([name]) => name),
    );
    if (!actual) return false;
    for (const [setting, to] of wanted) {
      const from = actual[setting] ?? "";
      if (from === to) continue;
      if ((await answerOf(control.config("SET", setting, to))).kind !== "value") return false;
      this.#emit({ kind: "corrected", setting, from, to });
    }
    return true;
  }

  /** In a container the server's own idea of its pid is not ours, so the process list is asked first. */
  async #pidOf(control: Redis): Promise<number | undefined> {
    const [pid, ...more] = await redisProcessesOf(this.#dir);
    if (pid !== undefined && more.length === 0) return pid;
    const info = await answerOf(control.info("server"));
    return info.kind === "value" ? Number(/process_id:(\d+)/.exec(info.value)?.[1]) : undefined;
  }

  async #spawn(): Promise<Life> {
    const binary = this.#options.binary ?? this.#foundBinary();
    const freeDiskBytes = await freeBytes(this.#dir);
    if (freeDiskBytes < FREE_DISK_BYTES_MIN) throw this.#failed("no space left on device");
    const settings = redisSettings({
      dir: this.#dir,
      socketPath: this.socketPath,
      durability: this.#options.durability,
      memoryBytes: memoryBytes(),
      freeDiskBytes,
    });
    let child: ChildProcess | undefined;
    let isOver = false;
    try {
      const logFrom = await this.#rotateLog();
      this.#assertWanted();
      child = this.#launch(binary, [...redisArguments(settings), "--logfile", this.#logFile]);
      const ended = endOf(child).then(async (how) => {
        isOver = true;
        return `${how}\n${await this.#logTail(logFrom)}`.trimEnd();
      });
      if (child.pid !== undefined) await writeFile(this.#pidFile, `${child.pid}\n`);
      const failure = await Promise.race([this.#answers(child, () => isOver), ended]);
      if (failure !== undefined) {
        const isFull = (await freeBytes(this.#dir)) < FREE_DISK_BYTES_MIN; // then its log may say nothing
        throw this.#failed(isFull ? "no space left on device" : failure);
      }
      child.unref();
      return { pid: child.pid!, adopted: false, ended };
    } catch (error) {
      if (child?.pid !== undefined && !isOver) await this.#terminate([child.pid]);
      throw error instanceof EmbeddedRedisError ? error : this.#failed((error as Error).message, error);
    }
  }

  #failed(words: string, cause?: unknown): EmbeddedRedisError {
    const { reason, sentence } = explainExit(words);
    const details = reason === "disk-full" || reason === "forbidden" ? "" : `\n${words}`;
    return new EmbeddedRedisError(reason, `the Redis server on ${this.#dir} cannot start: ${sentence}${details}`, {
      cause,
    });
  }

  /** Its own group, so that signals to the runtime's do not reach it; and none of the runtime's secrets in its environment. */
  #launch(binary: RedisBinary, args: readonly string[]): ChildProcess {
    const { PATH = "", HOME = "", LANG = "C.UTF-8", TZ } = process.env;
    const log = openSync(this.#logFile, "a", 0o600);
    try {
      return spawn(binary.path, args, {
        argv0: binary.argv0,
        cwd: this.#dir,
        detached: true,
        stdio: ["ignore", log, log], // what it says before it has read its settings
        env: { PATH, HOME, LANG, ...(TZ && { TZ }), ...binary.env },
      });
    } finally {
      closeSync(log);
    }
  }

  /** Resolves when the started server answers PING (E3); its end is the caller's other horse. */
  async #answers(child: ChildProcess, isOver: () => boolean): Promise<undefined> {
    while (!isOver()) {
      const control = await connectTo(this.socketPath);
      if (control && (await this.#isReady(control, child.pid!).finally(() => control.disconnect()))) return undefined;
      await this.#rest(POLL_MS);
    }
    return new Promise(() => undefined); // it ended, and that promise knows how
  }

  /** E3. @returns false when the connection was lost or the server stayed silent */
  async #isReady(control: Redis, pid: number): Promise<boolean> {
    const startMs = this.#environment.monotonicMs();
    for (let nextMs = startMs + PROGRESS_MS; ; await this.#rest(POLL_MS)) {
      const answer = await answerOf(control.ping());
      if (answer.kind !== "refused") return answer.kind === "value";
      if (answer.word !== "LOADING" && answer.word !== "BUSY" && answer.word !== "MISCONF") return false;
      const nowMs = this.#environment.monotonicMs();
      if (nowMs < nextMs) continue;
      nextMs = nowMs + PROGRESS_MS;
      const info = await answerOf(control.info("persistence"));
      const percent = info.kind === "value" ? /loading_loaded_perc:([\d.]+)/.exec(info.value)?.[1] : undefined;
      this.#emit({
        kind: "loading",
        pid,
        percent: percent === undefined ? undefined : Number(percent),
        elapsedMs: nowMs - startMs,
      });
    }
  }

  /** The end of a process that is not our child can only be looked for. */
  async #endOf(pid: number): Promise<string> {
    while (!this.#stopping.signal.aborted && (await isRunning(pid))) {
      await pause(this.#environment, LIFE_POLL_MS, this.#stopping.signal);
    }
    return "the adopted server ended";
  }

  async #terminate(pids: readonly number[]): Promise<void> {
    for (const pid of pids) signalTo(pid, "SIGTERM");
    const startMs = this.#environment.monotonicMs();
    let isKilled = false;
    for (let left = pids; ; await pause(this.#environment, POLL_MS)) {
      const running = await Promise.all(left.map(isRunning));
      left = left.filter((_, index) => running[index]);
      if (left.length === 0) return;
      if (isKilled || this.#environment.monotonicMs() - startMs < (this.#options.stopTimeoutMs ?? STOP_TIMEOUT_MS))
        continue;
      isKilled = true;
      for (const pid of left) {
        signalTo(pid, "SIGKILL");
        this.#emit({ kind: "killed", pid });
      }
    }
  }

  #foundBinary(): RedisBinary {
    const { binary, rejected } = findRedis();
    if (binary) return binary;
    const seen = rejected.map(({ path, reason }) => ` (${path} ${reason})`).join("");
    throw new EmbeddedRedisError(
      "no-binary",
      `there is no Redis server on this machine${seen}; nothing was changed; type: ${redisInstallCommand(rejected)} (or use another machine's, with --redis redis://host:6379)`,
    );
  }

  /** @throws EmbeddedRedisError `stopped` */
  async #rest(delayMs: number): Promise<void> {
    await pause(this.#environment, delayMs, this.#stopping.signal);
    this.#assertWanted();
  }

  #assertWanted(): void {
    if (this.#stopping.signal.aborted) {
      throw new EmbeddedRedisError("stopped", `the start of Redis on ${this.#dir} was called off; its data is safe`);
    }
  }

  get #pidFile(): string {
    return join(this.#dir, "redis.pid");
  }

  get #logFile(): string {
    return join(this.#dir, "redis.log");
  }

  /** Keeps the log and one older one. @returns where in the log the next server's words begin */
  async #rotateLog(): Promise<number> {
    const size = await stat(this.#logFile).then(
      (stats) => stats.size,
      () => 0,
    );
    if (size <= LOG_BYTES_MAX) return size;
    await rename(this.#logFile, `${this.#logFile}.1`);
    return 0;
  }

  async #logTail(fromByte: number): Promise<string> {
    const log = await open(this.#logFile, "r").catch(() => undefined);
    if (!log) return "";
    try {
      const { size } = await log.stat();
      const start = Math.max(fromByte, size - 8_192);
      const { buffer, bytesRead } = await log.read(
        Buffer.alloc(Math.max(0, size - start)),
        0,
        Math.max(0, size - start),
        start,
      );
      return buffer.toString("utf8", 0, bytesRead).trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
    } finally {
      await log.close();
    }
  }

  #emit(event: EmbeddedRedisEvent): void {
    this.#options.onEvent?.(event);
  }
}

type Answer<T> =
  | { readonly kind: "value"; readonly value: T }
  /** Redis said no; `word` is the first of its error, e.g. LOADING. */
  | { readonly kind: "refused"; readonly word: string }
  /** Nobody said anything. */
  | { readonly kind: "lost" };

async function answerOf<T>(reply: Promise<T>): Promise<Answer<T>> {
  try {
    return { kind: "value", value: await reply };
  } catch (error) {
    const { name, message } = error as Error;
    return name === "ReplyError" ? { kind: "refused", word: message.split(" ")[0]! } : { kind: "lost" };
  }
}

/** One connection for a few questions: nothing is queued, resent or tried again. */
async function connectTo(path: string): Promise<Redis | undefined> {
  const control = new Redis({
    path,
    protocol: 2,
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
    connectTimeout: COMMAND_TIMEOUT_MS,
    commandTimeout: COMMAND_TIMEOUT_MS,
  });
  control.on("error", () => undefined); // connect() and the commands report it
  try {
    await control.connect();
    return control;
  } catch {
    control.disconnect();
    return undefined;
  }
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(`it could not be run: ${error.message}`));
    child.once("exit", (code, signal) => resolve(signal ? `it ended by ${signal}` : `it ended with code ${code}`));
  });
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}

function signalTo(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

function memoryBytes(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** The environment's timers do not keep a process alive; one that waits for its Redis must not just end meanwhile. */
async function keepingAlive<T>(work: Promise<T>): Promise<T> {
  const handle = setInterval(() => undefined, 2 ** 30);
  try {
    return await work;
  } finally {
    clearInterval(handle);
  }
}
