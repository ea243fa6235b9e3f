// Observer: looks at Redis once a second and hands on what it says of itself, so that a server whose settings were changed, or
// whose memory fills, is noticed before it costs anything.

import { type PartEnvironment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import type { Store, StoreFacts } from "../src/store/shard-store.ts";

export interface ObserverOptions {
  readonly environment: PartEnvironment;
  readonly store: Pick<Store, "facts">;
  readonly onFacts: (facts: StoreFacts) => void;
}

const FACTS_EVERY_MS = 1_000;

export class Observer {
  readonly #options: ObserverOptions;
  readonly #stop = new AbortController();

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  start(): void {
    void this.#options.environment.run(() => this.#watch());
  }

  stop(): void {
    this.#stop.abort();
  }

  async #watch(): Promise<void> {
    const { environment, store, onFacts } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await pause(environment, FACTS_EVERY_MS, signal);
      if (signal.aborted) return;
      try {
        onFacts(await store.facts());
      } catch (error) {
        if (severityOf(error) === "crash") throw error;
        // Away: the store's readiness says so, and the next look comes by itself.
      }
    }
  }
}
