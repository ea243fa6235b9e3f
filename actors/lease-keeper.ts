// Lease keeper: decides when this node owns a shard. The lease gives liveness, the epoch safety: a node that believes to own
// a shard and does not is refused by every script (P6), so nothing here has to be exact about time.
//
// Invariants
//   K1. A shard is opened only under an epoch that `acquire` gave, and closed when that epoch is over.
//   K2. While another node's lease lives, nothing is acquired: a fenced node stands by and never duels (attack H4).
//       A Redis that forgot an epoch is no free shard: it lost writes, and the shard halts (R2).
//   K3. An epoch is given out once: a committer that is started again gets another one.
//   K4. Redis away closes nothing: leases are looked at again when it is back.

import type { EntryId } from "../src/domain/position.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { AcquireReply, Owner, ShardStore } from "../src/store/shard-store.ts";
import type { LostReason } from "./committer.ts";

export interface LeaseKeeperOptions {
  readonly environment: PartEnvironment;
  readonly log: Log;
  readonly node: string;
  /** Of this process: what it acquires again it had not ended with. */
  readonly incarnation: string;
  readonly leaseTtlMs: number;
  readonly store: Pick<ShardStore, "owner" | "acquire" | "renew" | "release">;
  readonly name: string;
  /** Opens the shard, under the epoch that `newEpoch` gives; resolves when it works. Rejecting gives the shard up for good. */
  readonly open: () => Promise<void>;
  /** Closes what `open` opened, true if all of it within its time: in good order, or at once if the epoch is over and nothing more can be committed. */
  readonly close: (how: "drain" | "abandon") => Promise<boolean>;
  /** When a commit, which renews the lease as well, was last confirmed, on the monotonic clock. */
  readonly lastCommitAtMs: () => number;
  /** Whether commits keep the lease now, so that a lone renewal would only queue beside them (attack H11). */
  readonly commitsRenew: () => boolean;
  readonly onStateChange: () => void;
}

export interface Acquisition {
  readonly epoch: number;
  /** Processes that ended uncleanly since what was pending was last through. */
  readonly uncleanEnds: number;
  /** One of them just before this acquisition. */
  readonly followsAnEnd: boolean;
  /** The highest id in the inbox then. */
  readonly inboxLast: EntryId;
}

export type LeaseState =
  | { readonly kind: "starting" }
  | { readonly kind: "standby"; readonly owner: string | null }
  | { readonly kind: "opening" | "owned" | "closing" }
  /** Needs an operator: what is stored is behind what was confirmed, or not readable. */
  | { readonly kind: "halted"; readonly reason: string };

/** How owning a shard ended; `away`: Redis left while it was being opened, it is acquired again. */
type Ended = LostReason | "stopped" | "away";

const STANDBY_CHECK_MS = 500;

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  #stop = new AbortController();
  #state: LeaseState = { kind: "starting" };
  #epoch = 0;
  #acquisition: Acquisition | null = null;
  /** K3 */
  #epochIsUsed = false;
  /** Epochs only rise; one below this says that Redis lost writes. */
  #highestEpochSeen = 0;
  /** How the shard was closed if it is still ours. */
  #closed: "clean" | "unclean" | null = null;
  /** On the monotonic clock, before the renewal was sent. */
  #renewedAtMs = Number.NEGATIVE_INFINITY;
  #lost: ((reason: LostReason) => void) | null = null;
  #loop: Promise<void> | null = null;

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  get state(): LeaseState {
    return this.#state;
  }

  /** False for a process that slept through its lease: somebody else may own the shard by now. */
  get isLeaseFresh(): boolean {
    const { environment, leaseTtlMs, lastCommitAtMs } = this.#options;
    return environment.monotonicMs() - Math.max(this.#renewedAtMs, lastCommitAtMs()) < leaseTtlMs;
  }

  /** May be called again after `close`. */
  start(): void {
    this.#stop = new AbortController();
    this.#loop = this.#options.environment.run(() => this.#run());
  }

  /** The shard was found lost by somebody who wrote to it. */
  lost(reason: LostReason): void {
    this.#lost?.(reason);
  }

  /**
   * K3. Waits while Redis is away.
   * @throws Error if the shard is lost, which its keeper is told as well
   */
  async newEpoch(): Promise<Acquisition> {
    if (this.#epochIsUsed) await this.#acquireAgain();
    this.#epochIsUsed = true;
    return this.#acquisition!;
  }

  /** Closes the shard in good order; the lease stays until `release`. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** Gives the lease back, so that the next owner need not wait for its end. Harmless without one. */
  async release(): Promise<void> {
    const { store, name, log } = this.#options;
    if (this.#closed === null) return;
    try {
      const reply = await store.release({ epoch: this.#epoch, clean: this.#closed === "clean" });
      log.info(
        { shard: name, epoch: this.#epoch, reply: reply.kind, drained: this.#closed === "clean" },
        "lease given back",
      );
    } catch (error) {
      log.warn({ shard: name, error }, "lease not given back; it runs out by itself");
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted && this.#state.kind !== "halted") {
      const acquired = await this.#acquire();
      if (!acquired) continue;
      const ended = await this.#own();
      if (ended === "rewound" || ended === "corrupt") this.#halt(`its store is ${ended}`);
      if (ended === "away") await this.#pauseAway();
    }
  }

  async #acquireAgain(): Promise<void> {
    const { environment, node, incarnation, leaseTtlMs, store, name } = this.#options;
    const { signal } = this.#stop; // of this life: it may be started again meanwhile
    for (let attempt = 1; ; attempt += 1) {
      try {
        const observedEpoch = this.#epoch;
        const atMs = environment.monotonicMs();
        const reply = await store.acquire({ node, incarnation, observedEpoch, leaseMs: leaseTtlMs });
        if (reply.kind === "acquired") {
          this.#acquired(reply, reply.uncleanEnds, atMs); // this process did not end
          return;
        }
        this.lost(reply.kind === "rewound" ? "rewound" : "fenced");
        throw new Error(`${name} is lost: asked for a new epoch after ${observedEpoch}, the answer was ${reply.kind}`);
      } catch (error) {
        if (severityOf(error) !== "retry") throw error;
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()), signal);
        if (signal.aborted) throw error;
      }
    }
  }

  #acquired(reply: Extract<AcquireReply, { kind: "acquired" }>, uncleanEndsBefore: number, atMs: number): void {
    const { name, log } = this.#options;
    this.#epoch = reply.epoch;
    const { epoch, uncleanEnds, inboxLast } = reply;
    this.#acquisition = { epoch, uncleanEnds, inboxLast, followsAnEnd: uncleanEnds > uncleanEndsBefore };
    this.#epochIsUsed = false;
    this.#highestEpochSeen = reply.epoch;
    this.#renewedAtMs = atMs;
    log.info(
      {
        shard: name,
        epoch: reply.epoch,
        wasClean: reply.wasClean,
        uncleanEnds: reply.uncleanEnds,
        inboxBytes: reply.inboxBytes,
      },
      "shard acquired",
    );
  }

  /** One look at the shard: true if it is ours now (K2). */
  async #acquire(): Promise<boolean> {
    const { environment, node, incarnation, leaseTtlMs, store } = this.#options;
    try {
      const owner = await store.owner();
      if (this.#stop.signal.aborted) return false;
      if (owner.epoch < this.#highestEpochSeen) {
        this.#halt(`its epoch is ${owner.epoch}, below ${this.#highestEpochSeen} which was seen: Redis lost writes`);
        return false;
      }
      this.#highestEpochSeen = owner.epoch;
      if (this.#isOursByAnother(owner)) {
        await this.#standBy(node, owner.leaseRemainingMs);
        return false;
      }
      const atMs = environment.monotonicMs();
      const reply = await store.acquire({ node, incarnation, observedEpoch: owner.epoch, leaseMs: leaseTtlMs });
      switch (reply.kind) {
        case "acquired":
          this.#acquired(reply, owner.uncleanEnds, atMs);
          return true;
        case "held":
          await this.#standBy(reply.node, reply.leaseRemainingMs);
          return false;
        case "changed":
          return false;
        case "rewound":
          this.#halt(
            `the ${reply.stream} ends at ${reply.lastId}, below ${reply.highestSeen} which was confirmed: Redis lost writes`,
          );
          return false;
      }
    } catch (error) {
      await this.#afterError(error);
      return false;
    }
  }

  /** Owns the shard until the epoch is over or the node stops. */
  async #own(): Promise<Ended> {
    const { open, close, log, name } = this.#options;
    const lost = new Promise<LostReason>((resolve) => {
      this.#lost = resolve;
    });
    this.#setState({ kind: "opening" });
    const renewing = new AbortController();
    const renewed = this.#renewUntil(renewing.signal);
    const over = Promise.race([lost, renewed, this.#stopped(renewing.signal)]);
    let ended: Ended;
    let isOpen = false;
    try {
      isOpen = await Promise.race([open().then(() => true), over.then(() => false)]);
      if (isOpen) this.#setState({ kind: "owned" });
      ended = await over;
    } catch (error) {
      const severity = severityOf(error);
      if (severity === "crash") throw error; // what was opened is closed by those who start the keeper again
      const isAway = severity === "retry";
      if (!isAway) log.fatal({ shard: name, error }, "shard cannot be opened; what is stored is untouched");
      ended = isAway ? "away" : "corrupt";
    }
    this.#setState({ kind: "closing" });
    const inTime = await close(ended === "stopped" && isOpen ? "drain" : "abandon");
    renewing.abort();
    this.#lost = null;
    this.#closed = ended === "stopped" ? (inTime ? "clean" : "unclean") : null;
    return ended;
  }

  /** A lone renewal each third of the lease in which no commit renews it. */
  async #renewUntil(signal: AbortSignal): Promise<LostReason> {
    const { environment, leaseTtlMs, store } = this.#options;
    for (let attempt = 0; !signal.aborted; ) {
      const waitMs = attempt === 0 ? leaseTtlMs / 3 : retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random());
      await pause(environment, waitMs, signal);
      if (signal.aborted) break;
      if (this.#options.commitsRenew()) {
        attempt = 0;
        continue;
      }
      try {
        const atMs = environment.monotonicMs();
        const epoch = this.#epoch;
        const reply = await store.renew({ epoch, leaseMs: leaseTtlMs });
        if (epoch !== this.#epoch) continue; // it was acquired again meanwhile
        if (reply.kind === "fenced") return reply.epoch < epoch ? "rewound" : this.#fencedBy(reply.epoch);
        this.#renewedAtMs = atMs;
        attempt = 0;
      } catch (error) {
        const severity = severityOf(error);
        if (severity === "crash") throw error;
        if (severity === "halt") return "corrupt";
        attempt += 1; // K4
      }
    }
    return new Promise(() => undefined);
  }

  #fencedBy(epoch: number): "fenced" {
    const { log, name } = this.#options;
    log.error(
      { shard: name, reason: "fenced", epoch: this.#epoch, newEpoch: epoch },
      "shard lost: another node took it over; nothing uncommitted of it is kept in memory, what is stored is safe",
    );
    return "fenced";
  }

  /**
   * Nobody listens any more once `over` aborts: a shard may be lost and acquired many times. The listeners are taken off by hand, since
   * those that Node takes off for a `signal` are never collected if what they hold leads to that signal.
   */
  #stopped(over: AbortSignal): Promise<"stopped"> {
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      const onStop = (): void => resolve("stopped");
      if (signal.aborted) onStop();
      signal.addEventListener("abort", onStop);
      over.addEventListener("abort", () => signal.removeEventListener("abort", onStop));
    });
  }

  /** K2 holds also against a process that runs under a copy of this node's id: it took the shard, so it keeps it. */
  #isOursByAnother(owner: Owner): boolean {
    const { node } = this.#options;
    return this.#epoch > 0 && owner.node === node && owner.epoch > this.#epoch && owner.leaseRemainingMs > 0;
  }

  async #standBy(owner: string, leaseRemainingMs: number): Promise<void> {
    const { environment, log, name } = this.#options;
    if (this.#state.kind !== "standby" || this.#state.owner !== owner) {
      log.info({ shard: name, owner }, "standing by: another node owns the shard");
      this.#setState({ kind: "standby", owner });
    }
    await pause(environment, Math.min(STANDBY_CHECK_MS, leaseRemainingMs + 1), this.#stop.signal);
  }

  #setState(state: LeaseState): void {
    this.#state = state;
    this.#options.onStateChange();
  }

  #halt(reason: string): void {
    this.#setState({ kind: "halted", reason });
    this.#options.log.fatal(
      { shard: this.#options.name, reason },
      "shard halted until an operator looks at it; nothing more is written to it",
    );
  }

  async #afterError(error: unknown): Promise<void> {
    const severity = severityOf(error);
    if (severity === "crash") throw error;
    if (severity === "halt") {
      this.#options.log.error({ shard: this.#options.name, error }, "ownership cannot be read");
      this.#halt("its owner record is not readable");
      return;
    }
    await this.#pauseAway();
  }

  #pauseAway(): Promise<void> {
    const { environment } = this.#options;
    return pause(environment, retryDelayMs(RECONNECT_BACKOFF, 4, environment.random()), this.#stop.signal);
  }
}
