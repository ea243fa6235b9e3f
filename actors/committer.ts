// Committer: the one writer of a shard. It gathers what was decided, one commit in flight; the next grows while it flies.
//
// Invariants
//   G1. At most one commit of a shard is in flight, and numbers leave no gap: n follows n - 1 within the epoch.
//   G2. An unknown outcome is resolved by sending the very same commit again until Redis answers (R2). Nothing is forgotten
//       meanwhile, and nothing else is written.
//   G3. A conversation's record, ids, replies and finished entries go into one commit, never into two; so do the replies that go to
//       the list of their lane, and all that changed of one lane.
//   G4. `applied` is told to those whose work it was only after Redis answered; replies reach their lane then, not before (P4).
//   G5. Fenced, rewound or corrupt ends the committer: `onLost` is called once and nothing is sent any more.

import { encodeLaneState } from "../src/codec/lane-codec.ts";
import { emptyBitmap, encodeOutboxEntry, hasBit, type OutboxReply, setBit } from "../src/codec/outbox-codec.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import type { InboxEntry, InboxMessage } from "../src/domain/message.ts";
import type { EntryId } from "../src/domain/position.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause, type Timer } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import { describeError, type Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { Commit, CommitReply, ConversationWrite, LaneListWrite, ShardStore } from "../src/store/shard-store.ts";
import type { LaneWrite } from "./lane-backlog.ts";
import { sendBytesOf } from "./sends.ts";
import type { Send } from "./turn.ts";

/** Something with decided, uncommitted work: a conversation. */
export interface Committable {
  readonly key: ConversationKey;
  /** All that was decided since the last call (C3). */
  takeWrite(): PendingWrite;
  /** What the last `takeWrite` gave out is durable. */
  committed(): void;
}

/** A lane of which more is to be said than that replies are delivered. */
export interface CommittableLane {
  readonly key: ConversationKey;
  /** All that changed since the last call. */
  takeWrite(): LaneWrite;
}

export interface PendingWrite {
  readonly write: ConversationWrite;
  readonly replies: readonly OutboxReply[];
  /** The messages of the inbox that were decided or moved. */
  readonly consumed: readonly Pick<InboxMessage, "source">[];
  /** Dead letters, for which room was reserved. */
  readonly dead: readonly Uint8Array[];
  /** Dead letters that were redriven. */
  readonly deadDone: readonly EntryId[];
  readonly sends: readonly Send[];
}

/** An outbox entry in memory: which of its replies are done. */
export class OutboxEntry {
  readonly id: EntryId;
  readonly done: Uint8Array;
  #left: number;

  /** @param done what is stored of an earlier owner's acknowledgements */
  constructor(id: EntryId, count: number, done: Uint8Array = emptyBitmap(count)) {
    this.id = id;
    this.done = done.slice();
    this.#left = 0;
    for (let i = 0; i < count; i += 1) if (!hasBit(done, i)) this.#left += 1;
  }

  get isDone(): boolean {
    return this.#left === 0;
  }

  /** Doing it again changes nothing. */
  markDone(index: number): void {
    if (hasBit(this.done, index)) return;
    setBit(this.done, index);
    this.#left -= 1;
  }
}

export type LostReason = "fenced" | "rewound" | "corrupt";

export interface DeadLetterCount {
  readonly count: number;
  readonly bytes: number;
}

export interface CommitterOptions {
  readonly environment: PartEnvironment;
  readonly log: Log;
  readonly counters: Counters;
  readonly store: Pick<ShardStore, "commit">;
  readonly epoch: number;
  readonly leaseMs: number;
  readonly ackDelayMs: number;
  readonly commitKeysMax: number;
  readonly commitBytesMax: number;
  readonly transcript: Commit["transcript"];
  /** How many there are when the shard is opened, and how many there may be. */
  readonly deadLetters: DeadLetterCount;
  readonly deadLettersMax: number;
  readonly deadLetterBytesMax: number;
  /** How many are stored, asked after a commit that took some away; without it those count until the shard is opened again. */
  readonly countDeadLetters?: () => Promise<DeadLetterCount>;
  /** Replies of an applied commit, in order. */
  readonly onReplies: (entry: OutboxEntry, replies: readonly OutboxReply[]) => void;
  /** Transcript lines of this conversation are durable. Must return at once and not throw. */
  readonly onTranscript: (key: ConversationKey) => void;
  /** Inbox entries that a commit removed. */
  readonly onInboxDone: (entries: readonly InboxEntry[], bytes: number) => void;
  /** A timer is durable. */
  readonly onTimer: (atMs: number) => void;
  /** What the index of the unfinished says of a conversation changed; null: it left the index. */
  readonly onOpen: (key: ConversationKey, entry: Uint8Array | null) => void;
  /** The lane of this reply if it goes straight to its list, and took it; null for the outbox. */
  readonly toList: (reply: OutboxReply) => CommittableLane | null;
  /** Messages to other conversations, sorted by the inbox that they go to, and markers for this shard's own. */
  readonly sortSends: (sends: readonly Send[], markers: readonly LaneMarkers[], n: number) => SortedSends;
  readonly onLost: (reason: LostReason) => void;
}

/** Markers for the conversation of a lane. */
export type LaneMarkers = Pick<LaneWrite, "key" | "markers">;

/** What one commit sends from conversation to conversation. */
export interface SortedSends {
  /** An inbox entry for the shard itself. */
  readonly here: Uint8Array | null;
  /** For each other shard one reply of its transfer lane. */
  readonly away: readonly OutboxReply[];
}

/** Keys that one conversation may need: record, ids, transcript, waiting list. */
const KEYS_PER_CONVERSATION = 4;
/** Items of each other list of a commit; what is over waits for the next one. */
const LIST_MAX = 2_000;

export class Committer {
  readonly #options: CommitterOptions;
  #n = 0;
  #dirty = new Set<Committable>();
  #inboxDone: InboxEntry[] = [];
  #acked = new Set<OutboxEntry>();
  #lanes = new Set<CommittableLane>();
  #dead: Uint8Array[] = [];
  #headsThrough = false;
  #deadCount: number;
  #deadBytes: number;
  /** Room that is reserved for what no commit has brought yet; part of the two above. */
  #reserved: DeadLetterCount = { count: 0, bytes: 0 };
  #waiters: (() => void)[] = [];
  #scheduled = false;
  #ackTimer: Timer | null = null;
  #flying = false;
  /** Conversations in the commit that flies. */
  #inFlight = 0;
  #ended = false;
  #idle: (() => void)[] = [];
  lastAppliedAtMs: number;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#deadCount = options.deadLetters.count;
    this.#deadBytes = options.deadLetters.bytes;
    this.lastAppliedAtMs = options.environment.monotonicMs();
  }

  add(conversation: Committable): void {
    this.#dirty.add(conversation);
    this.#soon();
  }

  /** Takes back what it decided since its last `takeWrite`: it crashed, and nobody knows what of that is whole. */
  remove(conversation: Committable): void {
    this.#dirty.delete(conversation);
  }

  /** One message of the entry is decided by an earlier commit. */
  finish(entry: InboxEntry): void {
    entry.undecided -= 1;
    if (entry.undecided > 0) return;
    this.#inboxDone.push(entry);
    this.#later();
  }

  /** A reply is delivered: rides in the next commit, or starts one after `ackDelayMs`. */
  ack(entry: OutboxEntry, index: number): void {
    entry.markDone(index);
    this.#acked.add(entry);
    this.#later();
  }

  /** Something of the lane is to be written. */
  laneChanged(lane: CommittableLane): void {
    this.#lanes.add(lane);
    this.#soon();
  }

  /** What was delivered of its list rides in the next commit, like other acknowledgements. */
  laneChangedLater(lane: CommittableLane): void {
    this.#lanes.add(lane);
    this.#later();
  }

  /** Another lane goes on in its place, with what it has not written. */
  replaceLane(lane: CommittableLane, successor: CommittableLane): void {
    if (this.#lanes.delete(lane)) this.#lanes.add(successor);
  }

  /** False if there are as many as there may be (R6): then nothing happened, and what it was about must wait. */
  addDeadLetter(letter: Uint8Array): boolean {
    if (!this.reserveDeadLetter(letter.length)) return false;
    this.#dead.push(letter);
    this.#soon();
    return true;
  }

  /** Room for those that will come with what was decided of a conversation or a lane; false if there is not enough for all (R6). */
  reserveDeadLetter(bytes: number, count = 1): boolean {
    const { deadLettersMax, deadLetterBytesMax } = this.#options;
    if (this.#deadCount + count > deadLettersMax || this.#deadBytes + bytes > deadLetterBytesMax) return false;
    this.#deadCount += count;
    this.#deadBytes += bytes;
    this.#reserved = { count: this.#reserved.count + count, bytes: this.#reserved.bytes + bytes };
    return true;
  }

  /** What was pending when the shard was acquired is through: unclean ends count from 0 again. */
  headsAreThrough(): void {
    this.#headsThrough = true;
    this.#later();
  }

  /** Resolves when the lane states, acknowledgements and dead letters handed over before are durable; never if the shard is lost first. */
  committed(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.#soon();
    });
  }

  /** Resolves when nothing waits and nothing flies, or the committer ended. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#ended) resolve();
      else this.#idle.push(resolve);
      this.#soon();
    });
  }

  /** Nothing that is handed over is committed any more. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Number of the last commit that was applied. */
  get applied(): number {
    return this.#n;
  }

  /** Conversations with decided work that no commit has confirmed. */
  get uncommitted(): number {
    return this.#dirty.size + this.#inFlight;
  }

  /** A commit renews the lease as well: while one is under way, or was confirmed just now, no other renewal is needed. */
  get renewsLease(): boolean {
    const { environment, leaseMs } = this.#options;
    if (this.#ended) return false; // what was under way is nobody's any more
    return this.#flying || environment.monotonicMs() - this.lastAppliedAtMs < leaseMs / 3;
  }

  /** Nothing is sent after this. */
  stop(): void {
    this.#ended = true;
    this.#ackTimer?.cancel();
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #soon(): void {
    if (this.#scheduled || this.#flying || this.#ended) return;
    this.#scheduled = true;
    this.#options.environment.soon(() => {
      this.#scheduled = false;
      this.#ackTimer?.cancel();
      this.#ackTimer = null;
      void this.#options.environment.run(() => this.#fly());
    });
  }

  #later(): void {
    if (this.#ackTimer !== null || this.#scheduled || this.#flying || this.#ended) return;
    this.#ackTimer = this.#options.environment.after(this.#options.ackDelayMs, () => {
      this.#ackTimer = null;
      this.#soon();
    });
  }

  /** G1: the loop is the one place that sends. */
  async #fly(): Promise<void> {
    this.#flying = true;
    while (!this.#ended) {
      const flight = this.#build();
      if (flight === null) break;
      this.#inFlight = flight.conversations.length;
      const startMs = this.#options.environment.monotonicMs();
      const reply = await this.#send(flight.commit);
      if (this.#ended) return;
      if (reply?.kind !== "applied") {
        this.#lose(reply?.kind ?? "corrupt");
        return;
      }
      this.#land(flight, reply.outboxId);
      this.#time(flight.commit, startMs);
      if (flight.commit.deadDone !== undefined) await this.#countDeadLetters();
    }
    this.#flying = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** G2. Null if the script failed inside: then nobody knows what is written, and nothing is sent again. */
  async #send(commit: Commit): Promise<CommitReply | null> {
    const { environment, log, store } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await store.commit(commit);
      } catch (error) {
        if (this.#ended) return null;
        const severity = severityOf(error);
        if (severity === "crash") throw error;
        if (severity === "halt") {
          log.fatal(
            { commit: commit.n, error: describeError(error) },
            "commit failed inside Redis: the shard halts; what is stored was not touched again",
          );
          return null;
        }
        if (attempt === 1)
          log.warn(
            { commit: commit.n, error: describeError(error) },
            "commit unanswered; the same bytes go again until Redis answers",
          );
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()));
        if (this.#ended) return null;
      }
    }
  }

  #build(): Flight | null {
    const { epoch, leaseMs, transcript } = this.#options;
    const conversations = this.#takeConversations();
    const { outbox, listing } = this.#route(conversations.replies);
    const lanes = this.#takeLanes(listing);
    const { outboxDone, acks } = this.#takeAcks(lanes.flatMap(({ done }) => done));
    const inboxDone = this.#inboxDone.splice(0, LIST_MAX);
    const dead = [...conversations.dead, ...lanes.flatMap((lane) => lane.dead), ...this.#takeDead()];
    const headsThrough = this.#headsThrough;
    this.#headsThrough = false;
    const waiters = this.#acked.size + this.#lanes.size + this.#dead.length === 0 ? this.#waiters.splice(0) : [];
    const work =
      conversations.taken.length + outboxDone.length + acks.length + inboxDone.length + lanes.length + dead.length;
    if (work === 0 && !headsThrough) {
      for (const resolve of waiters) resolve();
      return null;
    }
    const { sends } = conversations;
    const deadDone = [...conversations.deadDone, ...lanes.flatMap((lane) => lane.deadDone)];
    const marking = lanes.filter(({ markers }) => markers.length > 0);
    const hasSends = sends.length + marking.length > 0;
    const sorted = hasSends ? this.#options.sortSends(sends, marking, this.#n + 1) : NO_SENDS;
    const replies = outbox.concat(sorted.away);
    const laneLists = lanes.filter(({ joining, leaving }) => joining.length + leaving.length > 0);
    const inboxDoneBytes = inboxDone.reduce((sum, entry) => sum + entry.bytes, 0);
    const commit: Commit = {
      epoch,
      n: this.#n + 1,
      leaseMs,
      conversations: conversations.writes,
      outbox: replies.length === 0 ? null : encodeOutboxEntry(replies),
      inboxDone: inboxDone.map((entry) => entry.id),
      inboxDoneBytes,
      outboxDone,
      acks,
      lanes: lanes.map(({ key, state }) => ({ key, state: state === null ? null : encodeLaneState(state) })),
      ...(laneLists.length > 0 && { laneLists: laneLists.map(listWrite) }),
      dead,
      transcript,
      ...(deadDone.length > 0 && { deadDone }),
      ...(sorted.here !== null && { inboxAdd: sorted.here }),
      ...(headsThrough && { headsThrough }),
    };
    return { commit, conversations: conversations.taken, replies, inboxDone, inboxDoneBytes, waiters };
  }

  /** Which replies go to the outbox, and the lanes that took others to their lists: those must be in the same commit (G3). */
  #route(replies: readonly OutboxReply[]): {
    readonly outbox: readonly OutboxReply[];
    readonly listing: ReadonlySet<CommittableLane>;
  } {
    const listing = new Set<CommittableLane>();
    const outbox: OutboxReply[] = [];
    for (const reply of replies) {
      const lane = this.#options.toList(reply);
      if (lane === null) outbox.push(reply);
      else listing.add(lane);
    }
    return { outbox, listing };
  }

  /** @param must of the outbox: what these replies moved to is in this very commit */
  #takeAcks(must: LaneWrite["done"]): { outboxDone: EntryId[]; acks: { entry: EntryId; done: Uint8Array }[] } {
    const outboxDone: EntryId[] = [];
    const acks: { entry: EntryId; done: Uint8Array }[] = [];
    for (const { entry, index } of must) entry.markDone(index);
    const moved = new Set(must.map(({ entry }) => entry));
    for (const entry of must.length === 0 ? this.#acked : new Set([...moved, ...this.#acked])) {
      if (outboxDone.length + acks.length >= LIST_MAX && !moved.has(entry)) break;
      this.#acked.delete(entry);
      if (entry.isDone) outboxDone.push(entry.id);
      else acks.push({ entry: entry.id, done: entry.done.slice() });
    }
    return { outboxDone, acks };
  }

  /** Those that must be, then others up to the bounds of a commit. */
  #takeLanes(must: ReadonlySet<CommittableLane>): LaneWrite[] {
    const lanes: LaneWrite[] = [];
    let size = 0;
    const take = (lane: CommittableLane): void => {
      this.#lanes.delete(lane);
      const write = lane.takeWrite();
      lanes.push(write);
      size += sizeOf(write);
    };
    for (const lane of must) take(lane);
    for (const lane of this.#lanes) {
      if (lanes.length >= LIST_MAX || size >= this.#options.commitBytesMax) break;
      take(lane);
    }
    return lanes;
  }

  #takeDead(): Uint8Array[] {
    let count = 0;
    for (let bytes = 0; count < this.#dead.length && bytes < this.#options.commitBytesMax; count += 1) {
      bytes += this.#dead[count]!.length;
    }
    return this.#dead.splice(0, count);
  }

  /** Whole conversations, oldest first, up to the bounds of a commit (G3). */
  #takeConversations(): TakenConversations {
    const { commitKeysMax, commitBytesMax } = this.#options;
    const taken: Committable[] = [];
    const writes: ConversationWrite[] = [];
    const replies: OutboxReply[] = [];
    const dead: Uint8Array[] = [];
    const deadDone: EntryId[] = [];
    const sends: Send[] = [];
    let bytes = 0;
    for (const conversation of this.#dirty) {
      if (taken.length * KEYS_PER_CONVERSATION + KEYS_PER_CONVERSATION > commitKeysMax || bytes >= commitBytesMax)
        break;
      this.#dirty.delete(conversation);
      const pending = conversation.takeWrite();
      taken.push(conversation);
      writes.push(pending.write);
      bytes += pending.write.record.length + (pending.write.ids?.bytes.length ?? 0);
      for (const line of pending.write.transcript) bytes += line.length;
      for (const reply of pending.replies) {
        replies.push(reply);
        bytes += reply.body.length;
      }
      for (const { source } of pending.consumed) {
        source.undecided -= 1;
        if (source.undecided === 0) this.#inboxDone.push(source);
      }
      for (const { bytes: moved } of pending.write.aside?.waiting ?? NONE) bytes += moved.length;
      for (const letter of pending.dead) {
        dead.push(letter);
        bytes += letter.length;
      }
      for (const letter of pending.deadDone) deadDone.push(letter);
      for (const send of pending.sends) {
        sends.push(send);
        bytes += sendBytesOf(send);
      }
    }
    return { taken, writes, replies, dead, deadDone, sends };
  }

  /** Nothing flies meanwhile, so what is stored and what is reserved is all there is. */
  async #countDeadLetters(): Promise<void> {
    try {
      const stored = await this.#options.countDeadLetters?.();
      if (stored === undefined) return;
      this.#deadCount = stored.count + this.#reserved.count;
      this.#deadBytes = stored.bytes + this.#reserved.bytes;
    } catch (error) {
      if (severityOf(error) === "crash") throw error; // else the next one that is redriven asks again
    }
  }

  /** G4 */
  #land(flight: Flight, outboxId: EntryId | null): void {
    this.#n += 1;
    this.#inFlight = 0;
    const { dead } = flight.commit;
    this.#reserved = {
      count: this.#reserved.count - dead.length,
      bytes: this.#reserved.bytes - dead.reduce((sum, letter) => sum + letter.length, 0),
    };
    this.#options.counters.commits += 1;
    this.lastAppliedAtMs = this.#options.environment.monotonicMs();
    if (outboxId !== null) this.#options.onReplies(new OutboxEntry(outboxId, flight.replies.length), flight.replies);
    for (const conversation of flight.conversations) conversation.committed();
    for (const { key, transcript } of flight.commit.conversations)
      if (transcript.length > 0) this.#options.onTranscript(key);
    if (flight.inboxDone.length > 0) this.#options.onInboxDone(flight.inboxDone, flight.inboxDoneBytes);
    for (const { key, aside } of flight.commit.conversations) {
      if (aside === undefined) continue;
      for (const { atMs } of aside.timers) if (atMs !== null) this.#options.onTimer(atMs);
      if (aside.open !== undefined) this.#options.onOpen(key, aside.open);
    }
    for (const resolve of flight.waiters) resolve();
  }

  #time(commit: Commit, startMs: number): void {
    const { counters, environment } = this.#options;
    counters.timings.commit.observe(this.lastAppliedAtMs - startMs);
    const nowMs = environment.nowMs();
    for (const id of commit.inboxDone) counters.timings.admissionToCommit.observe(nowMs - id.ms);
  }

  /** G5 */
  #lose(reason: LostReason): void {
    this.stop();
    this.#options.log.error(
      { reason, epoch: this.#options.epoch, commit: this.#n + 1 },
      "shard lost: nothing uncommitted of it is kept in memory; what is stored is safe",
    );
    this.#options.onLost(reason);
  }
}

const NONE: readonly never[] = Object.freeze([]);

/** About what it takes of a commit, bytes; each reply that moves costs as much as one of 256 at the least. */
function sizeOf({ joining, dead, done }: LaneWrite): number {
  let bytes = done.length * 256;
  for (const item of joining) bytes += item.bytes.length;
  for (const letter of dead) bytes += letter.length;
  return bytes;
}

const listWrite = ({ key, joining, leaving }: LaneWrite): LaneListWrite => ({ key, joining, leaving });
const NO_SENDS: SortedSends = Object.freeze({ here: null, away: [] });

interface TakenConversations {
  readonly taken: Committable[];
  readonly writes: ConversationWrite[];
  readonly replies: OutboxReply[];
  readonly dead: Uint8Array[];
  readonly deadDone: EntryId[];
  readonly sends: Send[];
}

interface Flight {
  readonly commit: Commit;
  readonly conversations: readonly Committable[];
  readonly replies: readonly OutboxReply[];
  readonly inboxDone: readonly InboxEntry[];
  readonly inboxDoneBytes: number;
  readonly waiters: (() => void)[];
}
