// Shard reader: reads the inbox of an owned shard, from its first entry on, and hands each message to its conversation.
//
// Invariants
//   D1. Whatever lies in the inbox is unfinished, so start-up is nothing but reading; entries are read in order, once.
//   D2. What is read and undecided is bounded by `readAheadBytesMax` plus one page; the rest stays in Redis (P7).
//   D3. A rotten message becomes a dead letter as raw bytes and costs its neighbours nothing (attack B18).
//   D4. An entry may hold 20,000 messages of as many conversations: the thread is given to others in between.
//   D5. How far it has come belongs to the shard, not to the reader: one that is started again goes on there, in the middle of
//       an entry if need be, and hands nothing on twice.

import { type DecodedBatch, decodeInboxEntry } from "../src/codec/inbox-codec.ts";
import type { Hash64 } from "../src/domain/hash.ts";
import type { InboxEntry, LaneControlMessage, MailboxMessage } from "../src/domain/message.ts";
import { ENTRY_ZERO, type EntryId, formatEntryId } from "../src/domain/position.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import { describeError, type Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { ShardStore, StoredEntry } from "../src/store/shard-store.ts";
import type { Committer } from "./committer.ts";

/** How far reading has come (D5), as long as the conversations live that were handed the messages. */
export class ReadProgress {
  /** The last entry that was handed on whole. */
  after: EntryId = ENTRY_ZERO;
  /** The entry that is being handed on, and how many of its messages were. */
  partly: { readonly entry: InboxEntry; readonly isSaved: boolean; handedOn: number } | null = null;
  /** Of entries in memory that no commit removed yet. */
  undecidedBytes = 0;
}

export interface ShardReaderOptions {
  readonly environment: PartEnvironment;
  readonly progress: ReadProgress;
  readonly log: Log;
  readonly counters: Counters;
  readonly store: Pick<ShardStore, "readInbox">;
  readonly hashKey: Hash64;
  readonly committer: Pick<Committer, "addDeadLetter" | "finish">;
  /** Must not throw: nobody could say whether the message arrived. */
  readonly deliver: (message: MailboxMessage) => void;
  /** What an operator asks of a lane, which finishes its entry itself. Must not throw. */
  readonly control: (message: LaneControlMessage) => void;
  readonly readAheadBytesMax: number;
  /** Undelivered replies in memory; over the bound nothing more is read. */
  readonly outboxBytes: () => number;
  readonly outboxBytesMax: number;
  /** An entry was handed on whole, or there was none. */
  readonly onProgress: (after: EntryId | null) => void;
  readonly onCorrupt: () => void;
}

const PAGE_ENTRIES = 16;
/** How long reading may stand still before the log says so. */
const STALL_MS = 10_000;
/** A reader that stops waits for the read under way. */
const BLOCK_MS = 250;
/** How long messages are handed on before others have their turn. */
const SLICE_MS = 5;
/** A look at the clock costs as much as to hand on a message. */
const CLOCK_EVERY_MESSAGES = 32;

export class ShardReader {
  readonly #options: ShardReaderOptions;
  readonly #stop = new AbortController();
  readonly #progress: ReadProgress;
  #roomWaiter: (() => void) | null = null;
  #loop: Promise<void> | null = null;

  constructor(options: ShardReaderOptions) {
    this.#options = options;
    this.#progress = options.progress;
  }

  start(): void {
    this.#loop = this.#options.environment.run(() => this.#run());
  }

  /** Stops reading; resolves when no read is under way. The store's `close` ends one that waits. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.checkRoom();
    await this.#loop;
  }

  /** Told when a commit removed entries, or replies were delivered. */
  checkRoom(): void {
    if (!this.#stop.signal.aborted && !this.#hasRoom()) return;
    this.#roomWaiter?.();
    this.#roomWaiter = null;
  }

  #hasRoom(): boolean {
    const { readAheadBytesMax, outboxBytes, outboxBytesMax } = this.#options;
    return this.#progress.undecidedBytes < readAheadBytesMax && outboxBytes() < outboxBytesMax;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (!this.#hasRoom()) {
        await this.#room();
        continue;
      }
      const page = await this.#read();
      for (const stored of page) if (!this.#stop.signal.aborted) await this.#deliver(stored);
      if (page.length === 0 && !this.#stop.signal.aborted) this.#options.onProgress(null);
    }
  }

  /** Waits for room. Conversations that cannot move may keep it for long, which has to be seen. */
  async #room(): Promise<void> {
    const { environment, log, outboxBytes } = this.#options;
    const alarm = environment.after(STALL_MS, () =>
      log.error(
        { undecidedBytes: this.#progress.undecidedBytes, undeliveredBytes: outboxBytes() },
        "nothing is read from the inbox: conversations or lanes that cannot move hold all the room; nothing is lost, mend what they wait for",
      ),
    );
    await new Promise<void>((resolve) => {
      this.#roomWaiter = resolve;
    });
    alarm.cancel();
  }

  async #read(): Promise<StoredEntry[]> {
    const { environment, log, store } = this.#options;
    for (let attempt = 1; !this.#stop.signal.aborted; attempt += 1) {
      try {
        return await store.readInbox({ after: this.#progress.after, count: PAGE_ENTRIES, blockMs: BLOCK_MS });
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        const severity = severityOf(error);
        if (severity === "crash") throw error;
        if (severity === "halt") {
          log.fatal({ error: describeError(error) }, "the inbox cannot be read: the shard halts; nothing was written");
          this.#stop.abort();
          this.#options.onCorrupt();
          break;
        }
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()), this.#stop.signal);
      }
    }
    return [];
  }

  async #deliver(stored: StoredEntry): Promise<void> {
    const { committer, deliver, environment } = this.#options;
    const progress = this.#progress;
    const { messages, laneControls, partly } = this.#begun(stored);
    let sliceEndMs = environment.monotonicMs() + SLICE_MS;
    while (partly.handedOn < messages.length) {
      deliver(messages[partly.handedOn]!);
      partly.handedOn += 1;
      if (partly.handedOn % CLOCK_EVERY_MESSAGES !== 0 || environment.monotonicMs() < sliceEndMs) continue;
      await new Promise<void>((resolve) => environment.soon(resolve)); // D4
      if (this.#stop.signal.aborted) return; // what is left of it is for the next reader, or the next owner
      sliceEndMs = environment.monotonicMs() + SLICE_MS;
    }
    for (const message of laneControls) this.#options.control(message);
    progress.after = stored.id; // D1
    progress.partly = null;
    this.#options.onProgress(stored.id);
    if (partly.isSaved) committer.finish(partly.entry); // the reader's own share: an entry without readable messages goes, too
  }

  /** The messages of an entry. One that an earlier reader began with is the same entry in memory (D5). */
  #begun(stored: StoredEntry): Omit<DecodedBatch, "rotten"> & {
    readonly partly: NonNullable<ReadProgress["partly"]>;
  } {
    const progress = this.#progress;
    const known = progress.partly;
    const entry: InboxEntry = known?.entry ?? { id: stored.id, bytes: stored.bytes.length, undecided: 1 };
    const { messages, laneControls, rotten } = this.#decode(stored, entry);
    if (known !== null) return { messages, laneControls, partly: known };
    const isSaved = this.#saveRotten(stored.id, rotten); // D3
    progress.undecidedBytes += entry.bytes; // D2
    entry.undecided = messages.length + laneControls.length + 1;
    progress.partly = { entry, isSaved, handedOn: 0 };
    return { messages, laneControls, partly: progress.partly };
  }

  #decode(stored: StoredEntry, entry: InboxEntry): DecodedBatch {
    try {
      return decodeInboxEntry(
        Buffer.from(stored.bytes.buffer, stored.bytes.byteOffset, stored.bytes.length),
        entry,
        this.#options.hashKey,
      );
    } catch (error) {
      this.#options.log.error(
        { entry: formatEntryId(stored.id), error: describeError(error) },
        "an inbox entry cannot be read and becomes a dead letter as it is",
      );
      return { messages: [], laneControls: [], rotten: [Buffer.from(stored.bytes)] };
    }
  }

  /** False if not all of it found room among the dead letters: then the entry stays in the inbox. */
  #saveRotten(id: EntryId, rotten: readonly Uint8Array[]): boolean {
    const { committer, counters, log } = this.#options;
    for (const bytes of rotten) {
      if (!committer.addDeadLetter(this.#deadMessage(id, bytes))) {
        log.error({ entry: formatEntryId(id) }, "no room for another dead letter: the entry stays in the inbox");
        return false;
      }
      counters.deadLetters += 1;
    }
    return true;
  }

  #deadMessage(id: EntryId, bytes: Uint8Array): Uint8Array {
    this.#options.log.error(
      { entry: formatEntryId(id), bytes: bytes.length },
      "a message fails its checksum and becomes a dead letter as raw bytes",
    );
    const body = Buffer.from(bytes).toString("base64");
    return Buffer.from(
      JSON.stringify({
        direction: "in",
        reason: "checksum",
        entry: formatEntryId(id),
        atMs: this.#options.environment.nowMs(),
        body,
      }),
    );
  }
}
