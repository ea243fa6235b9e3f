// Saboteur: makes the runtime's own code crash in the middle of its work, at a place nobody chose. What it hands out looks like
// the environment and the counters of a node; once armed, one of the next looks at them throws.

import type { Environment } from "../../src/environment.ts";
import type { Counters } from "../../src/metrics.ts";

export class Sabotage extends Error {
  override readonly name = "Sabotage";
}

export class Saboteur {
  readonly environment: Environment;
  readonly counters: Counters;
  /** Where it struck: what was looked at. */
  readonly struck: string[] = [];
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
      after: (delayMs, run) => environment.after(delayMs, run),
      soon: (run) => environment.soon(run),
    };
    this.counters = new Proxy(counters, {
      set: (target, name, value: number) => {
        looked(String(name));
        return Reflect.set(target, name, value);
      },
    });
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
