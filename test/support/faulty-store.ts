// Faulty store: a memory store whose answers get lost. What it does to a call is one of: nothing; refuse it before anything
// happened; do it and lose the answer. A dead one does nothing any more, like the connection of a killed process.

import type { Environment } from "../../src/environment.ts";
import { StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import type { MemoryStore } from "../../src/store/memory-store.ts";
import type { ShardStore, Store } from "../../src/store/shard-store.ts";

export interface Faults {
  /** Share of calls that meet a fault. */
  rate: number;
  /** Redis does not answer at all, or not this call. */
  away: boolean | string;
  /** The next call of this name never ends. */
  hang: string | null;
  /** Made so far. */
  calls: number;
  /** Hits per kind, for the report. */
  readonly hits: Record<"refused" | "unanswered-before" | "unanswered-after" | "late", number>;
}

export const noFaults = (): Faults => ({
  rate: 0,
  away: false,
  hang: null,
  calls: 0,
  hits: { refused: 0, "unanswered-before": 0, "unanswered-after": 0, late: 0 },
});

export class FaultyStore {
  readonly store: Store;
  #dead = false;

  constructor(inner: MemoryStore, environment: Environment, faults: Faults) {
    const guard =
      <Args extends unknown[], Result>(name: string, call: (...args: Args) => Promise<Result>) =>
      async (...args: Args): Promise<Result> => {
        if (this.#dead) return new Promise(() => undefined);
        faults.calls += 1;
        if (faults.away === true || faults.away === name) throw new StoreUnavailableError("Redis is away");
        if (faults.hang === name) {
          faults.hang = null;
          return new Promise(() => undefined);
        }
        const fault = environment.random() < faults.rate ? Math.floor(environment.random() * 4) : -1;
        if (fault === 0) {
          faults.hits.refused += 1;
          throw new StoreNotReadyError("LOADING");
        }
        if (fault === 1) {
          faults.hits["unanswered-before"] += 1;
          throw new StoreUnavailableError("connection lost");
        }
        if (fault === 2) {
          faults.hits.late += 1;
          await new Promise<void>((resolve) => environment.after(environment.random() * 300, resolve));
          if (this.#dead) return new Promise(() => undefined);
        }
        const result = await call(...args);
        if (this.#dead) return new Promise(() => undefined);
        if (fault === 3) {
          faults.hits["unanswered-after"] += 1;
          throw new StoreUnavailableError("answer lost");
        }
        return result;
      };
    const shards = new Map<number, ShardStore>();
    this.store = {
      openNamespace: guard("openNamespace", (wanted) => inner.openNamespace(wanted)),
      facts: guard("facts", () => inner.facts()),
      scanConversations: guard("scanConversations", (request) => inner.scanConversations(request)),
      isReady: () => inner.isReady(),
      onReadyChange: (listener) => inner.onReadyChange(listener),
      close: () => inner.close(),
      shard: (index) => {
        const known = shards.get(index);
        if (known !== undefined) return known;
        const shard = inner.shard(index);
        const wrapped: ShardStore = {
          shard: index,
          owner: guard("owner", () => shard.owner()),
          acquire: guard("acquire", (request) => shard.acquire(request)),
          renew: guard("renew", (request) => shard.renew(request)),
          release: guard("release", (request) => shard.release(request)),
          append: guard("append", (entry, max, options) => shard.append(entry, max, options)),
          readInbox: guard("readInbox", (request) => shard.readInbox(request)),
          readOutbox: guard("readOutbox", (request) => shard.readOutbox(request)),
          load: guard("load", (keys) => shard.load(keys)),
          readAcks: guard("readAcks", () => shard.readAcks()),
          readLane: guard("readLane", (key) => shard.readLane(key)),
          readLanes: guard("readLanes", () => shard.readLanes()),
          scanLanes: guard("scanLanes", (request) => shard.scanLanes(request)),
          commit: guard("commit", (commit) => shard.commit(commit)),
          readTranscript: guard("readTranscript", (key, request) => shard.readTranscript(key, request)),
          readDeadLetters: guard("readDeadLetters", (request) => shard.readDeadLetters(request)),
          readLaneList: guard("readLaneList", (key, request) => shard.readLaneList(key, request)),
          readWaiting: guard("readWaiting", (key, request) => shard.readWaiting(key, request)),
          readOpen: guard("readOpen", (request) => shard.readOpen(request)),
          readTimers: guard("readTimers", (request) => shard.readTimers(request)),
          moveTimers: guard("moveTimers", (request) => shard.moveTimers(request)),
          close: () => shard.close(),
        };
        shards.set(index, wrapped);
        return wrapped;
      },
    };
  }

  /** kill -9 of its process: nothing more goes out and nothing comes back. */
  kill(): void {
    this.#dead = true;
  }
}
