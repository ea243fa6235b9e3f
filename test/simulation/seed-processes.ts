// Seed processes: worlds of many seeds side by side, each process with one at a time. A world computes and waits for nothing, so
// nothing within its own process could end one that never ends.
//
// Invariants
//   S1. Each seed gets one answer: its report, or why there is none.
//   S2. A world that takes longer than `seedMsMax`, or ends its process, costs this process; a new one goes on with the next seed.
//   S3. After close() no process is left, and none outlives the process that asked, unless its world never ends.

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Environment } from "../../src/environment.ts";
import type { SeedReport } from "./seed-run.ts";

export type SeedAnswer =
  | { readonly kind: "report"; readonly report: SeedReport }
  | { readonly kind: "none"; readonly seed: number; readonly why: string };

export interface SeedProcessesOptions {
  readonly environment: Environment;
  /** At a time; 1 or more. */
  readonly processes: number;
  /** What a world may take. */
  readonly seedMsMax: number;
  /** The module that the processes run; it calls `answerSeeds`. */
  readonly script?: string;
}

/** What a process may take until it asks for its first seed. */
const START_MS_MAX = 120_000;
const STDERR_MAX = 4_000;
const SEED_SCRIPT = fileURLToPath(new URL("seed-process.ts", import.meta.url));
const READY = "ready";

/** In the process: runs each seed that it is told. It ends with the process that asked. */
export function answerSeeds(run: (seed: number) => Promise<SeedReport>): void {
  process.on("disconnect", () => process.exit(0));
  process.on("message", async (seed: number) => {
    process.send!(await run(seed));
  });
  process.send!(READY);
}

export class SeedProcesses {
  readonly #options: Required<SeedProcessesOptions>;
  readonly #idle: SeedProcess[] = [];
  readonly #busy = new Set<SeedProcess>();

  constructor(options: SeedProcessesOptions) {
    this.#options = { script: SEED_SCRIPT, ...options };
    process.once("exit", this.#killAll);
  }

  /** Seeds that run now. */
  get running(): readonly number[] {
    return [...this.#busy].flatMap(({ seed }) => seed ?? []);
  }

  /**
   * Runs the seeds, in any order.
   * @param answered called for each (S1); `false` means that no further seed shall begin
   * @throws Error if a process cannot be started
   */
  async run(seeds: Iterable<number>, answered: (answer: SeedAnswer) => boolean): Promise<void> {
    const left = seeds[Symbol.iterator]();
    let isOver = false;
    const work = async (): Promise<void> => {
      while (!isOver) {
        const { value: seed, done } = left.next();
        if (done) return;
        if (!answered(await this.#answer(seed))) isOver = true;
      }
    };
    await Promise.all(Array.from({ length: this.#options.processes }, work));
  }

  async close(): Promise<void> {
    const ends = [...this.#idle, ...this.#busy].map(({ ended }) => ended);
    this.#killAll();
    await Promise.all(ends);
    process.off("exit", this.#killAll);
  }

  async #answer(seed: number): Promise<SeedAnswer> {
    const one = this.#idle.pop() ?? new SeedProcess(this.#options);
    this.#busy.add(one);
    const answer = await one.run(seed);
    this.#busy.delete(one);
    if (answer.kind === "report") this.#idle.push(one); // S2
    return answer;
  }

  readonly #killAll = (): void => {
    for (const one of [...this.#idle, ...this.#busy]) one.kill();
  };
}

type Told = { readonly kind: "told"; readonly words: unknown } | { readonly kind: "nothing"; readonly why: string };

class SeedProcess {
  /** That it runs now. */
  seed: number | null = null;
  readonly ended: Promise<string>;
  readonly #options: Required<SeedProcessesOptions>;
  readonly #child: ChildProcess;
  readonly #ready: Promise<unknown>;
  #stderr = "";

  constructor(options: Required<SeedProcessesOptions>) {
    this.#options = options;
    const { NODE_OPTIONS: _, ...env } = process.env;
    this.#child = fork(options.script, {
      env,
      execArgv: ["--import", "jiti/register"],
      serialization: "advanced", // reports hold maps
      stdio: ["ignore", "inherit", "pipe", "ipc"],
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_MAX);
    });
    this.ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(`cannot be run: ${error.message}`));
      this.#child.once("close", (code, signal) => resolve(`ended with ${signal ?? `code ${code}`}\n${this.#stderr}`));
    });
    this.#ready = this.#message();
  }

  async run(seed: number): Promise<SeedAnswer> {
    const { seedMsMax } = this.#options;
    const begun = await this.#within(START_MS_MAX, this.#ready);
    if (begun.kind !== "told") throw new Error(`no process for seed ${seed}: ${begun.why}`);
    this.seed = seed;
    this.#child.send(seed, () => undefined); // one that cannot be sent to has ended
    const answer = await this.#within(seedMsMax, this.#message());
    this.seed = null;
    if (answer.kind === "told") return { kind: "report", report: answer.words as SeedReport };
    return { kind: "none", seed, why: answer.why };
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #message(): Promise<unknown> {
    return new Promise((resolve) => this.#child.once("message", resolve));
  }

  /** What it tells, or why it tells nothing: it ended, or took longer than this and is ended. */
  async #within(ms: number, told: Promise<unknown>): Promise<Told> {
    let isLate = false;
    const timer = this.#options.environment.after(ms, () => {
      isLate = true;
      this.kill();
    });
    const words = told.then((said): Told => ({ kind: "told", words: said }));
    const end = this.ended.then(
      (how): Told => ({
        kind: "nothing",
        why: isLate ? `it did not end within ${ms / 1_000} s` : `its process ${how}`,
      }),
    );
    const first = await Promise.race([words, end]);
    timer.cancel();
    return first;
  }
}
