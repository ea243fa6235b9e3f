// Environment: the only door to time and chance. The core never reads a clock, sets a timer or rolls a die by itself, so
// that a simulator can run the same code under a seed.

/** A scheduled call that can be taken back; taking back one that ran is harmless. */
export interface Timer {
  cancel(): void;
}

export interface Environment {
  /** Wall clock, ms since the Unix epoch. May jump; never used for a decision about ownership. */
  nowMs(): number;
  /** Monotonic clock in ms with an arbitrary zero; what durations and deadlines are measured with. */
  monotonicMs(): number;
  /** Uniform in [0, 1). */
  random(): number;
  /** Calls `run` once after at least `delayMs`; does not keep the process alive. */
  after(delayMs: number, run: () => void): Timer;
  /** Calls `run` once, after the work that is ready now: what comes meanwhile can be done together with it. */
  soon(run: () => void): void;
}

export const systemEnvironment: Environment = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  random: () => Math.random(),
  after(delayMs, run) {
    const handle = setTimeout(run, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  soon: (run) => {
    setImmediate(run);
  },
};

/**
 * The environment as one supervised part sees it. What a timer, a call or a loop of the part throws goes to `failed`, once, instead
 * of ending the process; after that, and after `close`, nothing of it runs any more and no timer is left.
 */
export class PartEnvironment implements Environment {
  readonly #inner: Environment;
  readonly #failed: (error: unknown) => void;
  readonly #timers = new Set<Timer>();
  #onClose: (() => void) | null = null;
  #closed = false;

  constructor(inner: Environment, failed: (error: unknown) => void) {
    this.#inner = inner;
    this.#failed = failed;
  }

  nowMs(): number {
    return this.#inner.nowMs();
  }

  monotonicMs(): number {
    return this.#inner.monotonicMs();
  }

  random(): number {
    return this.#inner.random();
  }

  after(delayMs: number, run: () => void): Timer {
    if (this.#closed) return inert;
    const inner = this.#inner.after(delayMs, () => {
      this.#timers.delete(timer);
      this.guard(run);
    });
    const timer: Timer = {
      cancel: () => {
        this.#timers.delete(timer);
        inner.cancel();
      },
    };
    this.#timers.add(timer);
    return timer;
  }

  soon(run: () => void): void {
    this.#inner.soon(() => this.guard(run));
  }

  guard(run: () => void): void {
    if (this.#closed) return;
    try {
      run();
    } catch (error) {
      this.fail(error);
    }
  }

  /** A loop of the part. Resolves when it has ended, in whatever way. */
  async run(loop: () => Promise<void>): Promise<void> {
    try {
      await loop();
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error: unknown): void {
    if (this.#closed) return;
    this.close();
    this.#failed(error);
  }

  /** What else ends with the part, in whatever way it ends; at once if it has. */
  onClose(run: () => void): void {
    if (this.#closed) run();
    else this.#onClose = run;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) timer.cancel();
    this.#onClose?.();
  }
}

const inert: Timer = { cancel: () => undefined };

/** Resolves after `delayMs`, or at once when `signal` aborts. Never rejects. */
export function pause(environment: Environment, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      timer.cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const timer = environment.after(delayMs, finish);
    signal?.addEventListener("abort", finish, { once: true });
  });
}
