// Lanes: the lanes of one shard, by conversation. Hands replies to them, brings them back from the store, rings those overdue.

import type { Channel } from "../src/channels/channel.ts";
import { decodeLaneState, type LaneState } from "../src/codec/lane-codec.ts";
import { decodeOutboxEntry, hasBit, type OutboxReply } from "../src/codec/outbox-codec.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import { type ConversationKey, parseConversationKey } from "../src/domain/ids.ts";
import { ENTRY_ZERO, type EntryId, formatEntryId } from "../src/domain/position.ts";
import type { PartEnvironment, Timer } from "../src/environment.ts";
import { CodecError } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { ShardStore } from "../src/store/shard-store.ts";
import type { ActorFamily } from "./actor-system.ts";
import { type Committer, OutboxEntry } from "./committer.ts";
import type { CrashCounts, CrashPolicy } from "./conversations.ts";
import { LaneActor, type LanePorts } from "./lane-actor.ts";

export interface LanesOptions {
  readonly environment: PartEnvironment;
  readonly crashPolicy: CrashPolicy;
  readonly log: Log;
  readonly counters: Counters;
  readonly store: Pick<ShardStore, "readOutbox" | "readAcks" | "readLanes">;
  readonly family: ActorFamily;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly committer: Pick<Committer, "ack" | "setLane" | "addDeadLetter" | "committed">;
  /** Whether the conversation is in memory. */
  readonly isResident: (key: ConversationKey) => boolean;
  readonly wakeUpAfter: (key: ConversationKey, delayMs: number) => void;
  readonly laneBacklogMax: number;
  readonly laneBacklogBytesMax: number;
  /** Undelivered bytes fell. */
  readonly onRoom: () => void;
}

/** A lane's nact mailbox holds wake-ups only. */
const WAKE_UPS_MAX = 4;
const OUTBOX_PAGE = 16;
/** The sweep finds what a lost wake-up left behind; this late at the most. */
const SWEEP_MS = 1_000;

export class Lanes {
  readonly #options: LanesOptions;
  readonly #ports: LanePorts;
  readonly #lanes = new Map<ConversationKey, LaneActor>();
  #sweep: Timer | null = null;
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
      setLane: (key, state) => committer.setLane(key, state),
      addDeadLetter: (letter) => committer.addDeadLetter(letter),
      committed: () => committer.committed(),
      wakeUpAfter: options.wakeUpAfter,
      onLeft: (bytes) => {
        this.bytes -= bytes;
        options.onRoom();
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
    this.#sweep = this.#options.environment.after(SWEEP_MS, () => this.#ringOverdue());
    return { replies, retrying };
  }

  /** After `stop` nothing comes of it: the replies are in the outbox, for the lanes that come next. */
  enqueue(entry: OutboxEntry, replies: readonly OutboxReply[]): void {
    if (this.#stopped) return;
    for (let index = 0; index < replies.length; index += 1) this.#enqueue(entry, index, replies[index]!);
  }

  ring(key: ConversationKey): void {
    this.#lanes.get(key)?.ring();
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
    for (const lane of this.#lanes.values()) if (!lane.isIdle && !lane.isStopped && lane.state === null) return false;
    return true;
  }

  stop(): void {
    this.#stopped = true;
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
      this.#start(crashed.successor()).resume();
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
    if (lane === null) return;
    this.bytes += reply.body.length;
    lane.enqueue({ entry, index, born: reply.born, outSeq: reply.outSeq, body: reply.body });
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
    const ordering = this.#options.bot(id.bot)?.ordering ?? "strict";
    return this.#start(new LaneActor(id, key, ordering, channel, this.#ports, state));
  }

  /** Rings what is overdue, and forgets lanes that were busy when their conversation left memory. */
  #ringOverdue(): void {
    for (const [key, lane] of this.#lanes) {
      if (lane.isIdle && !this.#options.isResident(key)) this.release(key);
      else lane.ring();
    }
    this.#sweep = this.#options.environment.after(SWEEP_MS, () => this.#ringOverdue());
  }
}
