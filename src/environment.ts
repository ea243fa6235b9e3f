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
