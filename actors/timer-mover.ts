// Timer mover: brings the timers of an owned shard that are due into its inbox, where each gets a position and is a message like any
// other (R3). What a timer means is decided at the head of its conversation's mailbox, never here.
//
// Invariants
//   T1. A timer leaves the timers and enters the inbox in one fenced step: it is never lost between the two, and a mover that lost the
//       shard moves nothing (P6).
//   T2. Every due timer is moved, whatever state its conversation is in, in pages of the earliest: those of conversations that
//       cannot run never stand in the way of those that can (attack B10).
//   T3. A page is at most `PAGE_TIMERS` timers, and an entry at most `entryBytesMax`; however much is due at once, no more is in memory.
//   T4. After an unknown outcome it reads again: what was moved is not there any more. Should the lost step land later still, a
//       timer may come twice; its conversation drops it by its generation.
//   T5. It looks at least once in `LOOK_MS`, so that neither a `wake` that never came nor a clock of this node that differs from
//       Redis' makes a timer late by more than that.

import { InboxBatch, timerBytesMax } from "../src/codec/inbox-codec.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import { describeError, type Log } from "../src/log.ts";
import type { MoveTimersReply, ShardStore, StoredTimer } from "../src/store/shard-store.ts";
import type { LostReason } from "./committer.ts";

export interface TimerMoverOptions {
  readonly environment: PartEnvironment;
  readonly log: Log;
  readonly store: Pick<ShardStore, "readTimers" | "moveTimers">;
  readonly epoch: number;
  readonly entryBytesMax: number;
  /** Called once at most; nothing is moved after it. */
  readonly onLost: (reason: LostReason) => void;
}

const PAGE_TIMERS = 500;
const LOOK_MS = 1_000;
/** Timers that a commit took away between the look and the move: a short pause, so that two that disagree do not spin. */
const GONE_MS = 25;

export class TimerMover {
  readonly #options: TimerMoverOptions;
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;
  /** Earliest time told by `wake` since the last look began; a look that is under way may not have seen it. */
  #wakeAtMs = Number.POSITIVE_INFINITY;
  #nap = new AbortController();

  constructor(options: TimerMoverOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop = this.#options.environment.run(() => this.#run());
  }

  /** Moves nothing more; resolves when no call of the store is under way. What is due stays with the timers, for the next mover. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#nap.abort();
    await this.#loop;
  }

  /**
   * Told when a commit that sets a timer was applied.
   * @param atMs when it is due, ms since the Unix epoch on Redis' clock
   */
  wake(atMs: number): void {
    if (atMs >= this.#wakeAtMs) return;
    this.#wakeAtMs = atMs;
    this.#nap.abort();
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      try {
        const idleMs = await this.#moveDue();
        failures = 0;
        await this.#sleep(idleMs);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        failures += 1;
        await this.#afterError(error, failures);
      }
    }
  }

  /** Moves page after page (T2). Resolves with how long there is nothing to do, ms. */
  async #moveDue(): Promise<number> {
    while (!this.#stop.signal.aborted) {
      this.#wakeAtMs = Number.POSITIVE_INFINITY;
      const { due, nextInMs } = await this.#options.store.readTimers({ count: PAGE_TIMERS });
      if (due.length === 0) return nextInMs ?? LOOK_MS;
      if (!(await this.#movePage(due))) return GONE_MS;
    }
    return 0;
  }

  /** False if nothing of it was there any more, or the shard is lost. */
  async #movePage(due: readonly StoredTimer[]): Promise<boolean> {
    let isMoved = false;
    for (const timers of this.#entriesOf(due)) {
      if (this.#stop.signal.aborted) break;
      const reply = await this.#move(timers);
      if (reply.kind === "moved") isMoved ||= reply.id !== null;
      else this.#lose(reply.epoch < this.#options.epoch ? "rewound" : "fenced");
    }
    return isMoved;
  }

  #move(timers: readonly StoredTimer[]): Promise<MoveTimersReply> {
    const batch = new InboxBatch();
    for (const timer of timers) batch.addTimer(timer);
    return this.#options.store.moveTimers({ epoch: this.#options.epoch, timers, entry: batch.finish() }); // T1
  }

  /** T3: a page, cut where an entry would get too large. One timer alone always fits by itself. */
  #entriesOf(due: readonly StoredTimer[]): StoredTimer[][] {
    const entries: StoredTimer[][] = [];
    let bytes = 0;
    for (const timer of due) {
      const size = timerBytesMax(timer);
      const last = entries.at(-1);
      if (last === undefined || bytes + size > this.#options.entryBytesMax) {
        entries.push([timer]);
        bytes = size;
      } else {
        last.push(timer);
        bytes += size;
      }
    }
    return entries;
  }

  /** Until something is due as far as is known (T5). */
  async #sleep(idleMs: number): Promise<void> {
    const { environment } = this.#options;
    const untilMs = environment.monotonicMs() + Math.min(idleMs, LOOK_MS);
    while (!this.#stop.signal.aborted) {
      const leftMs = Math.min(untilMs - environment.monotonicMs(), this.#wakeAtMs - environment.nowMs());
      if (leftMs <= 0) return;
      this.#nap = new AbortController();
      await pause(environment, leftMs, this.#nap.signal);
    }
  }

  async #afterError(error: unknown, failures: number): Promise<void> {
    const { environment, log } = this.#options;
    const severity = severityOf(error);
    if (severity === "crash") throw error;
    if (severity === "halt") {
      log.fatal(
        { error: describeError(error) },
        "timers cannot be moved: the shard halts; what is stored is untouched",
      );
      this.#lose("corrupt");
      return;
    }
    await pause(environment, retryDelayMs(RECONNECT_BACKOFF, failures, environment.random()), this.#stop.signal); // T4
  }

  #lose(reason: LostReason): void {
    this.#stop.abort();
    this.#options.onLost(reason);
  }
}
