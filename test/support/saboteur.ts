// Saboteur: makes the runtime's own code crash in the middle of its work, at a place nobody chose. What it hands out looks like
// the environment and the counters of a node; once armed, one of the next looks at them throws.

import type { Environment, Timer } from "../../src/environment.ts";
import type { Counters } from "../../src/metrics.ts";

export class Sabotage extends Error {
  override readonly name = "Sabotage";
}

export class Saboteur {
  readonly environment: Environment;
  readonly counters: Counters;
  /** Where it struck: what was looked at. */
  readonly struck: string[] = [];
  readonly #timers = new Set<Timer>();
  #looksLeft: number | null = null;

  constructor(environment: Environment, counters: Counters) {
    const looked = (at: string): void => this.#looked(at);
    this.environment = {
      nowMs: () => {
        looked("nowMs");
        return environment.nowMs();
      },
      monotonicMs: () => {
        looked("monotonicMs");
        return environment.monotonicMs();
      },
      random: () => {
        looked("random");
        return environment.random();
      },
      after: (delayMs, run) => {
        const inner = environment.after(delayMs, () => {
          this.#timers.delete(timer);
          run();
        });
        const timer = {
          cancel: () => {
            this.#timers.delete(timer);
            inner.cancel();
          },
        };
        this.#timers.add(timer);
        return timer;
      },
      soon: (run) => environment.soon(run),
    };
    this.counters = new Proxy(counters, {
      set: (target, name, value: number) => {
        looked(String(name));
        return Reflect.set(target, name, value);
      },
    });
  }

  /** Timers that neither ran nor were taken back. */
  get timers(): number {
    return this.#timers.size;
  }

  /** @param looks how many more looks go well */
  arm(looks: number): void {
    this.#looksLeft = looks;
  }

  disarm(): void {
    this.#looksLeft = null;
  }

  #looked(at: string): void {
    if (this.#looksLeft === null) return;
    this.#looksLeft -= 1;
    if (this.#looksLeft >= 0) return;
    this.#looksLeft = null;
    this.struck.push(at);
    throw new Sabotage(at);
  }
}
