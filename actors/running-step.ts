// Running step: one side effect on its way, with its tries. It belongs to the journal and not to the turn that began it: the next
// run of the turn waits for it, too (attack A6).
//
// Invariants
//   S1. The first try that succeeds is the result, also one that succeeds after its time was up while another was due: what was done
//       is not done again.
//   S2. Once it has ended or was given up, no further try begins and no timer of it is left.

import { STEP_BACKOFF } from "../src/domain/journal.ts";
import { retryDelayMs } from "../src/domain/retry-policy.ts";
import type { Environment, Timer } from "../src/environment.ts";
import { StepTimeoutError, TerminalError } from "../src/errors.ts";

export interface StepPlan {
  readonly name: string;
  readonly run: (signal: AbortSignal) => unknown;
  /** Runs the bot's code: as code of its turn. */
  readonly within: <Value>(run: () => Value) => Value;
  /** How many more tries after a failed one. */
  readonly retries: number;
  /** Longest try, ms; null for no limit. */
  readonly timeoutMs: number | null;
}

export class RunningStep {
  /** What the bot's code gave back, unchecked; rejects with what the last try failed with, or what it was given up with. */
  readonly outcome: Promise<unknown>;
  readonly #plan: StepPlan;
  readonly #environment: Environment;
  #resolve: (value: unknown) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  #tries = 0;
  #abort: AbortController | null = null;
  #timer: Timer | null = null;
  #isOver = false;

  constructor(plan: StepPlan, environment: Environment) {
    this.#plan = plan;
    this.#environment = environment;
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#try();
  }

  /** Nobody can use the result any more. */
  giveUp(error: unknown): void {
    if (!this.#end()) return;
    this.#reject(error);
    this.#tell(this.#abort, error);
  }

  #try(): void {
    const { run, within, timeoutMs } = this.#plan;
    const abort = new AbortController();
    let failed = false;
    const fail = (error: unknown) => {
      if (failed || this.#isOver) return;
      failed = true;
      this.#timer?.cancel();
      try {
        this.#failed(error);
      } catch (own) {
        if (this.#end()) this.#reject(own); // nobody else would hear of it: it is the turn's failure
      }
    };
    this.#tries += 1;
    this.#abort = abort;
    this.#timer = null;
    if (timeoutMs !== null) {
      this.#timer = this.#environment.after(timeoutMs, () => {
        const error = this.#timeoutError(timeoutMs);
        fail(error);
        this.#tell(abort, error);
      });
    }
    new Promise((resolve) => resolve(within(() => run(abort.signal)))).then(
      (value) => this.#succeeded(value, abort),
      fail,
    );
  }

  #succeeded(value: unknown, by: AbortController): void {
    if (!this.#end()) return;
    this.#resolve(value); // S1
    if (this.#abort !== by) this.#tell(this.#abort, undefined);
  }

  /** Whoever listens is the bot's code, too. */
  #tell(abort: AbortController | null, reason: unknown): void {
    this.#plan.within(() => abort?.abort(reason));
  }

  #failed(error: unknown): void {
    const { retries } = this.#plan;
    if (this.#tries > retries || error instanceof TerminalError) {
      this.#end();
      this.#reject(error);
      return;
    }
    const delayMs = retryDelayMs(STEP_BACKOFF, this.#tries, this.#environment.random());
    this.#timer = this.#environment.after(delayMs, () => this.#try());
  }

  #end(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true; // S2
    this.#timer?.cancel();
    return true;
  }

  #timeoutError(timeoutMs: number): StepTimeoutError {
    const { name, retries } = this.#plan;
    const next = this.#tries > retries ? "it is not tried again" : "it is tried again";
    return new StepTimeoutError(
      `try ${this.#tries} of step ${name} ran longer than ${timeoutMs} ms; its effect may have happened all the same, ${next}`,
    );
  }
}
