// Virtual environment: time that runs only when nothing else does. A test of minutes takes milliseconds, and a seed decides
// what `random` says.

import type { Environment, Timer } from "../../src/environment.ts";
import { seededRandom } from "../../src/testing/seeded-random.ts";

interface Scheduled {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** How many rounds of the event loop without news count as "nothing else to do". */
const QUIET_ROUNDS = 3;

export class VirtualEnvironment implements Environment {
  #nowMs = 1_700_000_000_000;
  #order = 0;
  #random: () => number;
  readonly #timers = new Set<Scheduled>();

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  nowMs = (): number => this.#nowMs;
  monotonicMs = (): number => this.#nowMs;
  random = (): number => this.#random();
  soon = (run: () => void): void => void setImmediate(run);

  after = (delayMs: number, run: () => void): Timer => {
    this.#order += 1;
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, run };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  };

  /** Lets things run, and time pass from timer to timer, until `isSo` holds. @throws Error after `limitMs` of virtual time */
  async until(isSo: () => boolean, limitMs: number, what: string): Promise<void> {
    const endMs = this.#nowMs + limitMs;
    while (!isSo()) {
      for (let round = 0; round < QUIET_ROUNDS; round += 1) await new Promise((resolve) => setImmediate(resolve));
      if (isSo()) return;
      const next = this.#next();
      if (next === undefined || next.atMs > endMs) throw new Error(`${what}: not within ${limitMs} ms of virtual time`);
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
    }
  }

  async pass(ms: number): Promise<void> {
    let isOver = false;
    this.after(ms, () => {
      isOver = true;
    });
    await this.until(() => isOver, ms + 1, "pass");
  }

  #next(): Scheduled | undefined {
    let first: Scheduled | undefined;
    for (const timer of this.#timers) {
      if (first === undefined || timer.atMs < first.atMs || (timer.atMs === first.atMs && timer.order < first.order))
        first = timer;
    }
    return first;
  }
}
