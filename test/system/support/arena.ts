// Arena: what a system test starts and leaves behind. Everything that is started here ends with the test, however it ends.
//
// Invariants
//   A1. Each process leads a group of its own, so that its end can take its children along.
//   A2. After cleanUp() no process started here, and no Redis that a runtime left in one of the data folders, lives.
//   A3. The folder goes too, unless COLLOQUY_TEST_KEEP is set. If the test process itself ends, the processes still go.
//   A4. Children see nothing of the caller's own COLLOQUY_ settings, nor of the test runner's.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const PROJECT_ROOT: string = fileURLToPath(new URL("../../..", import.meta.url));

export interface SpawnOptions {
  /** Base of the names of the files that take stdout and stderr, `<name>.out` and `<name>.err`. */
  readonly name: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly argv0?: string;
  /** Default: the project's folder. */
  readonly cwd?: string;
  /** Opens a channel for `process.send`. */
  readonly ipc?: boolean;
}

export class Arena {
  readonly folder: string;
  readonly #processes = new Set<ChildProcess>();
  readonly #dataFolders = new Set<string>();
  readonly #closers: (() => unknown)[] = [];
  readonly #onExit = (): void => this.#killAll();

  constructor(name: string) {
    this.folder = realpathSync(mkdtempSync(join(tmpdir(), `colloquy-${name}-`)));
    process.once("exit", this.#onExit); // A3
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A data folder whose embedded Redis is ended by cleanUp. It is not created. */
  dataFolder(name: string): string {
    const folder = this.path(name);
    this.#dataFolders.add(folder);
    return folder;
  }

  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    const out = openSync(this.path(`${options.name}.out`), "a");
    const err = openSync(this.path(`${options.name}.err`), "a");
    const child = spawn(command, args, {
      cwd: options.cwd ?? PROJECT_ROOT,
      env: { ...cleanEnvironment(), ...options.env },
      detached: true, // A1
      stdio: ["ignore", out, err, ...(options.ipc ? (["ipc"] as const) : [])],
      ...(options.argv0 === undefined ? {} : { argv0: options.argv0 }),
    });
    closeSync(out);
    closeSync(err);
    this.#processes.add(child);
    child.once("exit", () => killGroup(child.pid));
    return child;
  }

  /** Runs `close` at the end, last registered first, before processes are killed. */
  onCleanUp(close: () => unknown): void {
    this.#closers.push(close);
  }

  async cleanUp(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
    this.#killAll();
    const ended = (): boolean => [...this.#processes].every((child) => isOver(child)) && this.#redisPids().length === 0;
    await until(ended, { what: "the end of all processes", withinMs: 10_000 });
    process.off("exit", this.#onExit);
    if (process.env.COLLOQUY_TEST_KEEP) process.stdout.write(`kept ${this.folder}\n`);
    else rmSync(this.folder, { recursive: true, force: true });
  }

  #killAll(): void {
    for (const child of this.#processes) if (!isOver(child)) killGroup(child.pid);
    for (const pid of this.#redisPids()) signal(pid, "SIGKILL"); // A2
  }

  #redisPids(): number[] {
    return [...this.#dataFolders].map(embeddedRedisPid).filter((pid) => pid !== undefined);
  }
}

/** The pid in the folder's `redis.pid`, if a Redis with that pid lives. */
export function embeddedRedisPid(dataFolder: string): number | undefined {
  const file = join(dataFolder, "redis.pid");
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, "utf8").trim());
  return Number.isSafeInteger(pid) && pid > 1 && isRedis(pid) ? pid : undefined;
}

function isRedis(pid: number): boolean {
  if (process.platform !== "linux") return isAlive(pid);
  try {
    return /redis|valkey/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")); // empty for one that only waits to be reaped
  } catch {
    return false;
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** @returns whether there was a process to take it */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid !== undefined) signal(-pid, "SIGKILL");
}

export const isOver = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

function cleanEnvironment(): NodeJS.ProcessEnv {
  const dropped = /^(?:COLLOQUY_|VITEST|REDIS_URL$|NODE_OPTIONS$|NODE_ENV$|TEST$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !dropped.test(name)));
}

/** A port of 127.0.0.1 that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

export interface Deadline {
  /** For the error, after "waited for". */
  readonly what: string;
  readonly withinMs: number;
  readonly everyMs?: number;
  /** Called when time is up; what it says goes into the error. */
  readonly explain?: () => string | Promise<string>;
}

/** Asks again and again until the answer is truthy, and gives it back. A question that throws is asked again. */
export async function until<Answer>(
  ask: () => Answer | Promise<Answer>,
  { what, withinMs, everyMs = 10, explain }: Deadline,
): Promise<NonNullable<Answer>> {
  const endMs = performance.now() + withinMs;
  for (let lastError: unknown; ; ) {
    try {
      const answer = await ask();
      if (answer) return answer as NonNullable<Answer>;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > endMs) {
      const said = explain ? `\n${await explain()}` : "";
      throw new Error(`waited ${withinMs} ms for ${what}${said}`, { cause: lastError });
    }
    await sleep(everyMs);
  }
}

/** The last lines of a file, for the text of an error. */
export function tailOf(file: string, lines = 15): string {
  if (!existsSync(file)) return "(no such file)";
  return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
}
