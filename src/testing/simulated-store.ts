// Simulated store: one process' way to the store. A call is a request on its way, then the store's work, then an answer on its
// way back; each is an event of its own, so that between any two of them anything else can happen.
//
// Invariants
//   W1. A request that has left its process is carried out whatever becomes of the process; nothing leaves a dead one.
//   W2. What the store does is what the given one does, all or nothing; only the ways are made unreliable here.
//   W3. An answer that is lost rejects as a real client would: unknown outcome for what was sent, not run for what was refused.

import type { Timer } from "../environment.ts";
import { StoreNotReadyError, StoreUnavailableError } from "../errors.ts";
import type { Commit, ShardStore, Store } from "../store/shard-store.ts";
import type { Scheduler, SimulatedLife } from "./scheduler.ts";

/** A call of this process under way. `commit` is there if it is one. */
export interface StoreCall {
  readonly name: keyof ShardStore | "openNamespace" | "facts" | "scanConversations";
  /** -1 for calls that concern no shard. */
  readonly shard: number;
  readonly commit: Commit | null;
  /** As it was made. */
  readonly args: readonly unknown[];
}

/**
 * What becomes of a call. `refused`: answered that it did not run. `lost`: never arrives, outcome unknown. `unanswered`: done, and the
 * answer is lost. `ghost`: given up as unknown at once, and carried out later all the same.
 */
export type CallFate = "pass" | "refused" | "lost" | "unanswered" | "ghost";

/** `before` it leaves the process, `done` when the store did it, `after` its answer had all its effects. */
export type CallStage = "before" | "done" | "after";

export interface StoreWays {
  fate(call: StoreCall): CallFate;
  /** ms; how long request and answer take. 0: whenever the scheduler picks them. */
  delayMs(call: StoreCall): number;
  reached(call: StoreCall, stage: CallStage): void;
  /** The store carried it out, whoever hears of it. */
  executed(call: StoreCall, result: unknown): void;
}

/** Nothing is lost, nothing takes time. */
export const smoothWays: StoreWays = {
  fate: () => "pass",
  delayMs: () => 0,
  reached: () => undefined,
  executed: () => undefined,
};

interface Waiting {
  readonly call: StoreCall;
  readonly reject: (error: Error) => void;
  /** Until the store has it. */
  request: Timer | null;
}

export class SimulatedStore implements Store {
  readonly #inner: Store;
  readonly #life: SimulatedLife;
  readonly #scheduler: Scheduler;
  readonly #ways: StoreWays;
  readonly #shards = new Map<number, ShardStore>();
  readonly #waiting = new Set<Waiting>();
  readonly #listeners = new Set<(ready: boolean) => void>();
  #isReady = true;

  constructor(scheduler: Scheduler, life: SimulatedLife, inner: Store, ways: StoreWays) {
    this.#scheduler = scheduler;
    this.#life = life;
    this.#inner = inner;
    this.#ways = ways;
  }

  openNamespace: Store["openNamespace"] = (wanted) =>
    this.#call({ name: "openNamespace", shard: -1, commit: null, args: [] }, () => this.#inner.openNamespace(wanted));

  facts: Store["facts"] = () =>
    this.#call({ name: "facts", shard: -1, commit: null, args: [] }, () => this.#inner.facts());

  scanConversations: Store["scanConversations"] = (request) =>
    this.#call({ name: "scanConversations", shard: -1, commit: null, args: [] }, () =>
      this.#inner.scanConversations(request),
    );

  shard(index: number): ShardStore {
    let shard = this.#shards.get(index);
    if (shard === undefined) {
      shard = this.#wrap(index, this.#inner.shard(index));
      this.#shards.set(index, shard);
    }
    return shard;
  }

  isReady(): boolean {
    return this.#isReady;
  }

  onReadyChange(listener: (ready: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** All connections break: what is under way may or may not be carried out, and no answer of it comes. */
  disconnect(): void {
    this.#setReady(false);
    for (const { call, request, reject } of this.#waiting) {
      if (request !== null && this.#scheduler.random() < 0.5) request.cancel();
      this.#answer(call, "failure", () => reject(new StoreUnavailableError(UNKNOWN)));
    }
    this.#waiting.clear();
  }

  reconnect(): void {
    this.#setReady(true);
  }

  #setReady(isReady: boolean): void {
    if (this.#isReady === isReady) return;
    this.#isReady = isReady;
    this.#life.schedule(isReady ? "store ready" : "store away", 0, () => {
      for (const listener of this.#listeners) listener(this.#isReady);
    });
  }

  #wrap(shard: number, inner: ShardStore): ShardStore {
    const wrap =
      <Name extends keyof ShardStore, Args extends unknown[], Result>(
        name: Name,
        run: (...args: Args) => Promise<Result>,
      ) =>
      (...args: Args): Promise<Result> =>
        this.#call({ name, shard, commit: name === "commit" ? (args[0] as Commit) : null, args }, () => run(...args));
    return {
      shard,
      owner: wrap("owner", () => inner.owner()),
      acquire: wrap("acquire", (request: Parameters<ShardStore["acquire"]>[0]) => inner.acquire(request)),
      renew: wrap("renew", (request: Parameters<ShardStore["renew"]>[0]) => inner.renew(request)),
      release: wrap("release", (request: Parameters<ShardStore["release"]>[0]) => inner.release(request)),
      append: wrap("append", (...args: Parameters<ShardStore["append"]>) => inner.append(...args)),
      readInbox: wrap("readInbox", (request: Parameters<ShardStore["readInbox"]>[0]) => inner.readInbox(request)),
      readOutbox: wrap("readOutbox", (request: Parameters<ShardStore["readOutbox"]>[0]) => inner.readOutbox(request)),
      load: wrap("load", (keys: Parameters<ShardStore["load"]>[0]) => inner.load(keys)),
      readAcks: wrap("readAcks", () => inner.readAcks()),
      readLane: wrap("readLane", (key: Parameters<ShardStore["readLane"]>[0]) => inner.readLane(key)),
      readLanes: wrap("readLanes", () => inner.readLanes()),
      scanLanes: wrap("scanLanes", (request: Parameters<ShardStore["scanLanes"]>[0]) => inner.scanLanes(request)),
      commit: wrap("commit", (commit: Commit) => inner.commit(commit)),
      readTranscript: wrap("readTranscript", (...args: Parameters<ShardStore["readTranscript"]>) =>
        inner.readTranscript(...args),
      ),
      readDeadLetters: wrap("readDeadLetters", (request: Parameters<ShardStore["readDeadLetters"]>[0]) =>
        inner.readDeadLetters(request),
      ),
      readWaiting: wrap("readWaiting", (...args: Parameters<ShardStore["readWaiting"]>) => inner.readWaiting(...args)),
      readLaneList: wrap("readLaneList", (...args: Parameters<ShardStore["readLaneList"]>) =>
        inner.readLaneList(...args),
      ),
      readOpen: wrap("readOpen", (request: Parameters<ShardStore["readOpen"]>[0]) => inner.readOpen(request)),
      readTimers: wrap("readTimers", (request: Parameters<ShardStore["readTimers"]>[0]) => inner.readTimers(request)),
      moveTimers: wrap("moveTimers", (request: Parameters<ShardStore["moveTimers"]>[0]) => inner.moveTimers(request)),
      close: () => Promise.resolve(),
    };
  }

  #call<Result>(call: StoreCall, run: () => Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#life.isDead) return;
      this.#ways.reached(call, "before");
      const go = (): void => {
        if (this.#isReady) this.#send({ call, reject, request: null }, run, resolve);
        else this.#answer(call, "refusal", () => reject(new StoreUnavailableError("Redis is away; nothing was sent")));
      };
      if (this.#life.isDead) return; // W1
      if (this.#life.isPaused) this.#life.schedule(`late ${call.name}`, 0, go);
      else go();
    });
  }

  #send<Result>(waiting: Waiting, run: () => Promise<Result>, resolve: (result: Result) => void): void {
    const { call } = waiting;
    const ways = this.#ways;
    this.#waiting.add(waiting);
    /** Unless the connection broke meanwhile: then it was told already. */
    const settle = (end: () => void): void => {
      if (this.#waiting.delete(waiting)) end();
    };
    const fail = (error: Error): void => this.#answer(call, "failure", () => settle(() => waiting.reject(error)));
    const fate = ways.fate(call);
    if (fate === "refused") fail(new StoreNotReadyError("LOADING; nothing was written")); // W3
    if (fate === "lost" || fate === "ghost") fail(new StoreUnavailableError(UNKNOWN));
    if (fate === "refused" || fate === "lost") return;
    waiting.request = this.#scheduler.schedule(`${call.name} ${call.shard}`, ways.delayMs(call), () => {
      waiting.request = null;
      run().then(
        (result) => {
          ways.executed(call, result);
          if (fate === "ghost") return;
          ways.reached(call, "done");
          if (fate === "pass") this.#answer(call, "answer", () => settle(() => this.#arrive(call, result, resolve)));
          else fail(new StoreUnavailableError(UNKNOWN));
        },
        (error: Error) => {
          if (fate !== "ghost") fail(error); // of a ghost nobody hears
        },
      );
    });
  }

  #arrive<Result>(call: StoreCall, result: Result, resolve: (result: Result) => void): void {
    resolve(result);
    this.#scheduler.afterwards(() => this.#ways.reached(call, "after"));
  }

  #answer(call: StoreCall, what: string, run: () => void): void {
    this.#life.schedule(`${what} to ${call.name} ${call.shard}`, this.#ways.delayMs(call), run);
  }
}

const UNKNOWN = "connection lost; the call may or may not have run";
