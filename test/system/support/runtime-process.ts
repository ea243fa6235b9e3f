// Runtime process: `colloquy start` as a user runs it, from dist, to be watched and killed.

import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Arena, embeddedRedisPid, isOver, PROJECT_ROOT, tailOf, until } from "./arena.ts";

export const MAIN: string = join(PROJECT_ROOT, "dist/src/main.js");
export const FOLD_BOT: string = join(PROJECT_ROOT, "test/system/support/fold-bot.ts");
const READY_WITHIN_MS = 60_000;
const ANSWER_WITHIN_MS = 5_000;

export interface RuntimeOptions {
  /** Names its log files; those of one name are written on by each start. */
  readonly name?: string;
  readonly bot?: string;
  readonly port: number;
  readonly data: string;
  readonly deliverTo?: string;
  /** URL of an external server; without it the runtime runs its own. */
  readonly redis?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What node runs instead of `colloquy start`, a program that serves the port and the folder; bot and flags are its own. */
  readonly program?: readonly string[];
}

/** How a process ended. */
export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

function startArguments(options: RuntimeOptions): string[] {
  const args = [MAIN, "start", options.bot ?? FOLD_BOT, "--port", String(options.port), "--data", options.data];
  if (options.deliverTo !== undefined) args.push("--deliver-to", options.deliverTo);
  if (options.redis !== undefined) args.push("--redis", options.redis);
  return [...args, ...(options.args ?? [])];
}

export class RuntimeProcess {
  readonly pid: number;
  readonly url: string;
  readonly stdoutFile: string;
  readonly stderrFile: string;
  readonly ended: Promise<End>;
  readonly #options: RuntimeOptions;
  readonly #child: ChildProcess;

  /** Spawns it and returns at once. */
  constructor(arena: Arena, options: RuntimeOptions) {
    if (!existsSync(MAIN)) throw new Error(`${MAIN} is not there; type: npm run build`);
    const name = options.name ?? "runtime";
    const args = options.program ?? startArguments(options);
    const env = options.env ?? {};
    this.#options = options;
    this.#child = arena.spawn(process.execPath, args, { name, env });
    this.pid = this.#child.pid ?? 0;
    this.url = `http://127.0.0.1:${options.port}`;
    this.stdoutFile = arena.path(`${name}.out`);
    this.stderrFile = arena.path(`${name}.err`);
    this.ended = new Promise((resolve) => this.#child.once("exit", (code, signal) => resolve({ code, signal })));
  }

  get isOver(): boolean {
    return isOver(this.#child);
  }

  /** Waits for /readyz 200. @throws Error with the last lines of its logs if it ends or takes too long */
  async ready(withinMs: number = READY_WITHIN_MS): Promise<void> {
    await this.reaches("/readyz", 200, withinMs);
  }

  /** Waits until `path` answers `status`. */
  async reaches(path: string, status: number, withinMs: number): Promise<Answer> {
    const answer = await until(
      async () => {
        if (this.isOver) return "ended";
        const got = await this.get(path);
        return got.status === status ? got : undefined;
      },
      { what: `${path} of ${this.url} to answer ${status}`, withinMs, everyMs: 20, explain: () => this.lastWords() },
    );
    if (answer === "ended") throw new Error(`the runtime ended instead of answering\n${this.lastWords()}`);
    return answer;
  }

  get(path: string): Promise<Answer> {
    return this.#fetch(path, {});
  }

  /** Posts to the http channel of the fold bot, or of `bot`, or to another channel. */
  post(body: unknown, bot = "fold", channel = "http"): Promise<Answer> {
    return this.#fetch(`/channels/${channel}/${bot}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  }

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /** SIGKILL without waiting, for two kills at once. */
  killNow(): void {
    this.#child.kill("SIGKILL");
  }

  stop(): void {
    this.#child.kill("SIGSTOP");
  }

  resume(): void {
    this.#child.kill("SIGCONT");
  }

  /** SIGTERM, and waits for the end. */
  async terminate(withinMs = 60_000): Promise<End & { tookMs: number }> {
    const startMs = performance.now();
    this.#child.kill("SIGTERM");
    const end = await this.end(withinMs);
    return { ...end, tookMs: performance.now() - startMs };
  }

  /** Waits for it to end by itself. */
  async end(withinMs = 60_000): Promise<End> {
    const what = `the end of the runtime with pid ${this.pid}`;
    await until(() => this.isOver, { what, withinMs, explain: () => this.lastWords() });
    return this.ended;
  }

  /** Pid of the Redis that serves the data folder, if one lives. */
  redisPid(): number | undefined {
    return embeddedRedisPid(this.#options.data);
  }

  stdout(): string {
    return readFileSync(this.stdoutFile, "utf8");
  }

  stderr(): string {
    return readFileSync(this.stderrFile, "utf8");
  }

  lastWords(): string {
    return `--- stdout\n${tailOf(this.stdoutFile)}\n--- stderr\n${tailOf(this.stderrFile)}`;
  }

  async #fetch(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(this.url + path, { ...init, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }
}
