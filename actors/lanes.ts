// Lanes: the lanes of one shard, by conversation. Hands replies to them, brings them back from the store, rings those overdue, and
// takes what operators ask of them.
//
// Invariants
//   F1. A verb of an operator is done with when what it changed is committed; done twice it changes nothing. Those of one lane are
//       done in the order of the inbox.
//   F2. What has stood in the outbox for `spillMs` goes to its lane's list (R1). Transfers do not: their place in the outbox is what
//       their target knows them by.

import type { Channel } from "../src/channels/channel.ts";
import { decodeDeadReply } from "../src/codec/dead-reply.ts";
import { decodeLaneState, type LaneState } from "../src/codec/lane-codec.ts";
import { decodeOutboxEntry, hasBit, type OutboxReply } from "../src/codec/outbox-codec.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import { type ConversationKey, parseConversationKey } from "../src/domain/ids.ts";
import type { LanePolicy } from "../src/domain/lane.ts";
import type { LaneControlMessage } from "../src/domain/message.ts";
import {
  compareEntryIds,
  ENTRY_ZERO,
  type EntryId,
  formatEntryId,
  idBefore,
  parseEntryId,
} from "../src/domain/position.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause, type Timer } from "../src/environment.ts";
import { CodecError, severityOf } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { ShardStore } from "../src/store/shard-store.ts";
import type { ActorFamily } from "./actor-system.ts";
import type { ChannelAccounts } from "./channel-accounts.ts";
import { type CommittableLane, type Committer, OutboxEntry } from "./committer.ts";
import type { CrashCounts, CrashPolicy } from "./conversations.ts";
import { LaneActor, type LaneParties, type LanePorts } from "./lane-actor.ts";
import { LaneBacklog } from "./lane-backlog.ts";
import { type Alarm, accountAlarm, accountOf } from "./retry-worker.ts";
import { isTransferKey } from "./transfers.ts";

export interface LanesOptions {
  readonly environment: PartEnvironment;
  readonly crashPolicy: CrashPolicy;
  readonly log: Log;
  readonly counters: Counters;
  readonly store: Pick<ShardStore, "readOutbox" | "readAcks" | "readLanes" | "readLaneList" | "readDeadLetters">;
  readonly family: ActorFamily;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly accounts: Pick<ChannelAccounts, "of" | "find" | "ring" | "ringAll">;
  readonly committer: Pick<
    Committer,
    "ack" | "laneChanged" | "laneChangedLater" | "replaceLane" | "reserveDeadLetter" | "committed" | "finish"
  >;
  /** Whether the conversation is in memory. */
  readonly isResident: (key: ConversationKey) => boolean;
  /** Of a lane, or of all that wait for an account. */
  readonly wakeUpAfter: (alarm: Alarm, delayMs: number) => void;
  readonly laneBacklogMax: number;
  readonly laneBacklogBytesMax: number;
  readonly spillMs: number;
  /** How often overdue lanes are rung, ms; 0: never, wake-ups alone do. */
  readonly sweepMs: number;
  readonly deliveryBudgetMs: number;
  /** Undelivered bytes fell. */
  readonly onRoom: () => void;
}

/** A lane's nact mailbox holds wake-ups only. */
const WAKE_UPS_MAX = 4;
const OUTBOX_PAGE = 16;
/** Lanes are looked through so often: for what stands still, and for those that their conversations left behind. */
const LOOK_MS = 1_000;

export class Lanes {
  readonly #options: LanesOptions;
  readonly #ports: LanePorts;
  readonly #lanes = new Map<ConversationKey, LaneActor>();
  #look: Timer | null = null;
  #sweep: Timer | null = null;
  /** By lane, while a verb waits: when the last one is done. */
  readonly #verbs = new Map<ConversationKey, Promise<void>>();
  /** Dead letters that are on their way back. */
  readonly #redriving = new Set<string>();
  #stopped = false;
  readonly crashes: CrashCounts = { restarting: 0, crashing: 0, restarts: 0 };
  /** Undelivered bytes in memory. */
  bytes = 0;

  constructor(options: LanesOptions) {
    this.#options = options;
    const { committer } = options;
    this.#ports = {
      environment: options.environment,
      log: options.log,
      counters: options.counters,
      ack: (entry, index) => committer.ack(entry, index),
      changed: (lane, soon) => (soon ? committer.laneChanged(lane) : committer.laneChangedLater(lane)),
      reserveDeadLetter: (bytes, count) => committer.reserveDeadLetter(bytes, count),
      committed: () => committer.committed(),
      readList: (key, after, count) => options.store.readLaneList(key, { after, count }),
      wakeUpAfter: options.wakeUpAfter,
      wakeUpAccountAfter: ({ name }, delayMs) => options.wakeUpAfter(accountAlarm(name), delayMs),
      resized: (bytes) => {
        this.bytes += bytes;
        if (bytes < 0) options.onRoom();
      },
      crashed: (lane, error) => options.environment.guard(() => this.#crashed(lane, error)),
    };
  }

  /** Brings back what is undelivered: at start, before anything new can reply. Returns how many lanes wait for a retry. */
  async recover(): Promise<{ readonly replies: number; readonly retrying: number }> {
    const { store } = this.#options;
    let retrying = 0;
    for (const { key, state } of await store.readLanes()) {
      const lane = this.#lane(key, decodeLaneState(state));
      if (lane?.state?.state === "retrying") retrying += 1;
    }
    const acks = new Map((await store.readAcks()).map(({ entry, done }) => [formatEntryId(entry), done]));
    let replies = 0;
    for (let after = ENTRY_ZERO; ; ) {
      const page = await store.readOutbox({ after, count: OUTBOX_PAGE });
      for (const { id, bytes } of page)
        replies += this.#recoverEntry(id, Buffer.from(bytes), acks.get(formatEntryId(id)));
      if (page.length < OUTBOX_PAGE) break;
      after = page.at(-1)!.id;
    }
    for (const lane of this.#lanes.values()) {
      replies += lane.listed;
      lane.resume();
    }
    this.#lookAround();
    this.#ringOverdue();
    return { replies, retrying };
  }

  /** After `stop` nothing comes of it: the replies are in the outbox, for the lanes that come next. */
  enqueue(entry: OutboxEntry, replies: readonly OutboxReply[]): void {
    if (this.#stopped) return;
    for (let index = 0; index < replies.length; index += 1) this.#enqueue(entry, index, replies[index]!);
  }

  /** The lane of a reply that goes straight to its list, and took it; null for the outbox. */
  toList(reply: OutboxReply): CommittableLane | null {
    const lane = this.#lanes.get(reply.key);
    return lane?.takesToList(reply) === true ? lane : null;
  }

  /** F1 */
  control(message: LaneControlMessage): void {
    const { committer, environment } = this.#options;
    const { key } = message;
    const before = this.#verbs.get(key);
    const done = before === undefined ? this.#obey(message) : before.then(() => this.#obey(message));
    this.#verbs.set(key, done);
    void environment.run(async () => {
      await done;
      if (this.#verbs.get(key) === done) this.#verbs.delete(key);
      await committer.committed();
      committer.finish(message.source);
    });
  }

  /** A wake-up came. One that comes before its time leaves another, or nobody would come back. */
  ring(alarm: Alarm): void {
    const account = accountOf(alarm);
    if (account !== null) this.#ringAccount(account, alarm);
    const lane = this.#lanes.get(alarm as ConversationKey);
    lane?.ring();
    lane?.leaveWakeUp();
  }

  #ringAccount(name: string, alarm: Alarm): void {
    const { accounts, wakeUpAfter } = this.#options;
    accounts.ring(name);
    const earlyMs = accounts.find(name)?.view.reopensInMs ?? 0;
    if (earlyMs > 0) wakeUpAfter(alarm, Math.ceil(earlyMs));
  }

  /** For every lane that waits for its time: of those that were left before, some may be lost. */
  leaveWakeUps(): void {
    for (const lane of this.#lanes.values()) lane.leaveWakeUp();
  }

  /** Whether one more turn may reply (C2); if not, `onRoom` is called once a reply has left. */
  hasRoom(key: ConversationKey, uncommittedReplies: number, uncommittedBytes: number, onRoom: () => void): boolean {
    const lane = this.#lanes.get(key);
    if (lane === undefined || lane.replies === 0) return true; // what is uncommitted has its own bound
    const { laneBacklogMax, laneBacklogBytesMax } = this.#options;
    const hasRoom =
      lane.replies + uncommittedReplies < laneBacklogMax && lane.bytes + uncommittedBytes < laneBacklogBytesMax;
    if (!hasRoom) lane.onRoom(onRoom);
    return hasRoom;
  }

  /** Forgets the lane of a conversation that leaves memory. */
  release(key: ConversationKey): void {
    const lane = this.#lanes.get(key);
    if (lane === undefined || !lane.isIdle) return;
    lane.stop();
    this.#lanes.delete(key);
  }

  get count(): number {
    return this.#lanes.size;
  }

  /** Those in memory, to be looked at: all that do not flow, and those that flow and were used lately. */
  all(): IterableIterator<LaneActor> {
    return this.#lanes.values();
  }

  find(key: ConversationKey): LaneActor | undefined {
    return this.#lanes.get(key);
  }

  /** Nothing is being sent or could be now. Lanes that wait for a retry, or crashed, do not count: the outbox has their replies. */
  get isQuiet(): boolean {
    for (const lane of this.#lanes.values()) if (!lane.isQuiet) return false;
    return true;
  }

  stop(): void {
    this.#stopped = true;
    this.#look?.cancel();
    this.#sweep?.cancel();
    for (const lane of this.#lanes.values()) lane.stop();
    this.#lanes.clear();
  }

  #crashed(crashed: LaneActor, error: unknown): void {
    const delayMs = this.#options.crashPolicy.restartAfterMs(crashed.id, error);
    if (delayMs === null) {
      this.crashes.crashing += 1;
      return;
    }
    this.crashes.restarting += 1;
    this.#options.environment.after(delayMs, () => {
      this.crashes.restarting -= 1;
      this.crashes.restarts += 1;
      if (this.#lanes.get(crashed.key) !== crashed) return;
      const successor = crashed.successor();
      this.#options.committer.replaceLane(crashed, successor);
      this.#start(successor).resume();
      successor.leaveWakeUp();
    });
  }

  #start(lane: LaneActor): LaneActor {
    lane.ref = this.#options.family.spawn(lane, WAKE_UPS_MAX);
    this.#lanes.set(lane.key, lane);
    return lane;
  }

  #recoverEntry(id: EntryId, bytes: Buffer, done: Uint8Array | undefined): number {
    const decoded = decodeOutboxEntry(bytes);
    if (decoded.rotten.length > 0) {
      throw new CodecError(
        `outbox entry ${formatEntryId(id)} does not match its checksums; it is untouched, its shard stays closed until an operator looks at it`,
      );
    }
    const entry = new OutboxEntry(id, decoded.replies.length, done);
    let count = 0;
    decoded.replies.forEach((reply, index) => {
      if (reply === null || hasBit(entry.done, index)) return;
      this.#enqueue(entry, index, reply);
      count += 1;
    });
    return count;
  }

  #enqueue(entry: OutboxEntry, index: number, reply: OutboxReply): void {
    const lane = this.#lane(reply.key, null);
    lane?.enqueue(reply, entry, index);
  }

  /** Null for a bot or channel that this node does not run: the replies stay in the outbox. */
  #lane(key: ConversationKey, state: LaneState | null): LaneActor | null {
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const id = parseConversationKey(key);
    const channel = this.#options.channel(id.channel);
    if (channel === undefined) {
      this.#options.log.error(
        { ...id },
        "replies of an unknown channel stay in the outbox: configure the channel again to deliver them",
      );
      return null;
    }
    const policy = this.#policy(id.bot, channel);
    const account = isTransferKey(key) ? null : this.#options.accounts.of(channel);
    const parties: LaneParties = { id, channel, account, policy };
    return this.#start(new LaneActor(parties, this.#ports, new LaneBacklog(key, state)));
  }

  #policy(bot: string, { onAmbiguous = "retry", retry }: Channel): LanePolicy {
    return {
      ordering: this.#options.bot(bot)?.ordering ?? "strict",
      onAmbiguous,
      budgetMs: retry?.budgetMs ?? this.#options.deliveryBudgetMs,
      attemptsMax: retry?.attemptsMax ?? Number.POSITIVE_INFINITY,
    };
  }

  async #obey({ key, control }: LaneControlMessage): Promise<void> {
    switch (control.verb) {
      case "lane-retry":
        return await this.#lanes.get(key)?.retry(control.at);
      case "lane-skip":
        return await this.#lanes.get(key)?.skip(control.at);
      case "lane-redrive":
        return await this.#redrive(key, control.letter);
    }
  }

  /** One that is gone was redriven before; a transfer has no list that it could join (F2). */
  async #redrive(key: ConversationKey, letter: string): Promise<void> {
    if (this.#redriving.has(letter) || isTransferKey(key)) return;
    const entry = parseEntryId(letter);
    const reply = await this.#deadReply(key, entry);
    const lane = reply === null ? null : this.#lane(key, null);
    if (reply === null || lane === null) return;
    this.#redriving.add(letter);
    await lane.redrive(reply, entry);
    void this.#options.committer.committed().then(() => this.#redriving.delete(letter)); // until then it can be read
    this.#lanes.get(key)?.resume(); // it may be another one by now
  }

  /** Null if there is no such dead letter, or it is none of this lane. */
  async #deadReply(key: ConversationKey, entry: EntryId): Promise<OutboxReply | null> {
    const { environment, store } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const [found] = await store.readDeadLetters({ after: idBefore(entry), count: 1 });
        if (found === undefined || compareEntryIds(found.id, entry) !== 0) return null;
        const reply = decodeDeadReply(found.bytes);
        return reply?.key === key ? reply : null;
      } catch (error) {
        if (severityOf(error) !== "retry") throw error;
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()));
      }
    }
  }

  /** Moves aside what stands still, and forgets lanes that were busy when their conversation left memory. */
  #lookAround(): void {
    for (const [key, lane] of this.#lanes) {
      if (lane.isIdle && !this.#options.isResident(key)) this.release(key);
      else if (!isTransferKey(key)) lane.spillIfStill(this.#options.spillMs); // F2
    }
    this.#look = this.#options.environment.after(LOOK_MS, () => this.#lookAround());
  }

  /** What a lost wake-up left behind. */
  #ringOverdue(): void {
    const { accounts, environment, sweepMs } = this.#options;
    if (sweepMs === 0) return;
    accounts.ringAll();
    for (const lane of this.#lanes.values()) lane.ring();
    this.#sweep = environment.after(sweepMs, () => this.#ringOverdue());
  }
}
