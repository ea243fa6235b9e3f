// Retry worker: BullMQ as the durable alarm clock of a shard's lanes. A job is a wake-up and carries nothing: which lane it
// rings is its deduplication id. The outbox is the truth; a wake-up that is lost or comes twice costs a delay or nothing.
//
// Started when a lane of the shard first needs it, since it costs connections.

import { type ConnectionOptions, Queue, Worker } from "bullmq";
import type { ConversationKey } from "../src/domain/ids.ts";
import { describeError, type Log } from "../src/log.ts";

/** What is rung: a lane, or all that wait for an account while its breaker is open, by one of them. */
export type Alarm = ConversationKey | `account:${string}`;
export type Ring = (alarm: Alarm) => void;

/** A conversation's key begins with a digit. */
const ACCOUNT = "account:";

export const accountAlarm = (channel: string): Alarm => `${ACCOUNT}${channel}`;

/** The channel whose account is meant; null for a lane. */
export const accountOf = (alarm: Alarm): string | null =>
  alarm.startsWith(ACCOUNT) ? alarm.slice(ACCOUNT.length) : null;

export interface RetryWorkerOptions {
  readonly connection: ConnectionOptions;
  /** Hash tag and prefix of the shard, so that the queue's keys share its slot. */
  readonly prefix: string;
  readonly log: Log;
  readonly ring: Ring;
  /** The worker ended by itself. */
  readonly failed: (error: unknown) => void;
}

export interface WakeUps {
  /** Makes ready to ring for wake-ups that an earlier process left. */
  start(): void;
  /** Rings after `delayMs`, even if this process dies meanwhile. At most one wake-up of a lane, or an account, waits. */
  schedule(alarm: Alarm, delayMs: number): void;
  stop(): Promise<void>;
}

const QUEUE_NAME = "wake-ups";
const CONCURRENCY = 32;
const LOCK_MS = 10_000;
const STALLED_CHECK_MS = 5_000;
/** BullMQ fails a job for good at its second stall unless told otherwise; a wake-up is never a failure. */
const STALLS_MAX = 1_000_000;

export class RetryWorker implements WakeUps {
  readonly #options: RetryWorkerOptions;
  #queue: Queue | null = null;
  #worker: Worker | null = null;
  #stopped = false;

  constructor(options: RetryWorkerOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#queue !== null || this.#stopped) return;
    const { connection, prefix, log, ring } = this.#options;
    this.#queue = new Queue(QUEUE_NAME, {
      connection,
      prefix,
      streams: { events: { maxLen: 100 } },
      defaultJobOptions: { attempts: 1, removeOnComplete: true, removeOnFail: true },
    });
    this.#worker = new Worker(
      QUEUE_NAME,
      (job) => {
        const lane = job.deduplicationId ?? job.opts.deduplication?.id;
        if (lane !== undefined) ring(lane as Alarm);
        return Promise.resolve();
      },
      {
        connection,
        prefix,
        concurrency: CONCURRENCY,
        lockDuration: LOCK_MS,
        stalledInterval: STALLED_CHECK_MS,
        maxStalledCount: STALLS_MAX,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
      },
    );
    const onError = (error: unknown): void =>
      log.debug({ error: describeError(error) }, "wake-ups are delayed; the sweep rings overdue lanes");
    this.#queue.on("error", onError);
    this.#worker.on("error", onError);
    this.#worker.on("closed", () => {
      if (!this.#stopped) this.#options.failed(new Error("BullMQ's worker ended by itself"));
    });
  }

  schedule(alarm: Alarm, delayMs: number): void {
    this.start();
    const deduplication = { id: alarm, keepLastIfActive: true };
    this.#queue?.add("ring", {}, { delay: delayMs, deduplication }).catch((error: unknown) => {
      if (!this.#stopped)
        this.#options.log.debug({ error: describeError(error) }, "wake-up not scheduled; the sweep rings the lane");
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.allSettled([this.#worker?.close(true), this.#queue?.close()]);
  }
}
