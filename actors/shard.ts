// Shard: the parts of one owned shard, wired to each other. Who starts and stops them in which order is the tree's business
// (supervisors/shard-supervisor.ts).
//
// Invariants
//   H1. The parts belong to one epoch. Another epoch has other parts; nothing is carried over but what is stored.
//   H2. `abandon` ends all of it at once, in memory only: the next owner has the shard, or nobody until an operator looks.
//   H3. Replies of earlier owners are in their lanes before the reader starts, so nothing new overtakes them (P4).

import type { Channel } from "../src/channels/channel.ts";
import type { Config } from "../src/config.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import type { Hash64 } from "../src/domain/hash.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import { type Environment, pause } from "../src/environment.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { Owner, ShardStore } from "../src/store/shard-store.ts";
import type { ActorFamily } from "./actor-system.ts";
import { Committer, type LostReason } from "./committer.ts";
import { Conversations, type ResidentBudget } from "./conversations.ts";
import { Lanes } from "./lanes.ts";
import type { Ring, WakeUps } from "./retry-worker.ts";
import type { RunningTurns } from "./running-turns.ts";
import { ShardReader } from "./shard-reader.ts";

export interface ShardOptions {
  readonly name: string;
  readonly epoch: number;
  readonly deadLetters: Owner["deadLetters"];
  readonly environment: Environment;
  readonly log: Log;
  readonly config: Config;
  readonly store: ShardStore;
  readonly hashKey: Hash64;
  readonly families: { readonly lanes: ActorFamily; readonly conversations: ActorFamily };
  readonly running: RunningTurns;
  readonly counters: Counters;
  readonly budget: ResidentBudget;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly wakeUps: (ring: Ring) => WakeUps;
  readonly onTranscript: (key: ConversationKey) => void;
  readonly onLost: (reason: LostReason) => void;
}

const DRAIN_CHECK_MS = 5;

export class Shard {
  readonly committer: Committer;
  readonly lanes: Lanes;
  readonly conversations: Conversations;
  readonly reader: ShardReader;
  readonly wakeUps: WakeUps;
  readonly #environment: Environment;
  readonly #onLost: (reason: LostReason) => void;
  #abandoned = false;
  #retryingLanes = 0;

  constructor(options: ShardOptions) {
    const { config, environment, log, counters, store, bot, channel } = options;
    this.#environment = environment;
    this.#onLost = options.onLost;
    this.committer = new Committer({
      environment,
      log,
      counters,
      store,
      epoch: options.epoch,
      leaseMs: config.leaseTtlMs,
      ackDelayMs: config.ackDelayMs,
      commitKeysMax: config.commitKeysMax,
      commitBytesMax: config.commitBytesMax,
      deadLetters: options.deadLetters,
      deadLettersMax: config.deadLettersMax,
      deadLetterBytesMax: config.deadLetterBytesMax,
      transcript: {
        linesMax: config.transcriptLinesMax,
        bytesMax: config.transcriptBytesMax,
        ttlMs: config.transcriptMs,
      },
      onReplies: (entry, replies) => this.lanes.enqueue(entry, replies),
      onTranscript: options.onTranscript,
      onInboxDone: (bytes) => this.reader.decided(bytes),
      onLost: (reason) => this.#lose(reason),
    });
    this.wakeUps = options.wakeUps((key) => this.lanes.ring(key));
    this.lanes = new Lanes({
      environment,
      log,
      counters,
      store,
      family: options.families.lanes,
      bot,
      channel,
      committer: this.committer,
      isResident: (key) => this.conversations.isResident(key),
      wakeUpAfter: (key, delayMs) => this.wakeUps.schedule(key, delayMs),
      laneBacklogMax: config.laneBacklogMax,
      laneBacklogBytesMax: config.laneBacklogBytesMax,
      onRoom: () => this.reader.checkRoom(),
    });
    this.conversations = new Conversations({
      ports: {
        environment,
        log,
        counters,
        bounds: config,
        running: options.running,
        commit: (conversation) => this.committer.add(conversation),
        finish: (entry) => this.committer.finish(entry),
        laneHasRoom: (key, replies, bytes, onRoom) => this.lanes.hasRoom(key, replies, bytes, onRoom),
      },
      store,
      family: options.families.conversations,
      budget: options.budget,
      bot,
      channel,
      onEvicted: (key) => this.lanes.release(key),
      onCorrupt: () => this.#lose("corrupt"),
    });
    this.reader = new ShardReader({
      environment,
      log,
      counters,
      store,
      hashKey: options.hashKey,
      committer: this.committer,
      deliver: (message) => this.conversations.deliver(message),
      readAheadBytesMax: config.readAheadBytesMax,
      outboxBytes: () => this.lanes.bytes,
      outboxBytesMax: config.outboxBytesMax,
      onCorrupt: () => this.#lose("corrupt"),
    });
  }

  get isAbandoned(): boolean {
    return this.#abandoned;
  }

  /** H2 */
  abandon(): void {
    this.#abandoned = true;
    this.committer.stop();
    this.conversations.stop();
    this.lanes.stop();
  }

  /** H3 */
  async recoverLanes(): Promise<void> {
    this.#retryingLanes = (await this.lanes.recover()).retrying;
  }

  /** An earlier process may have left wake-ups; otherwise the worker starts with the first lane that needs one. */
  startWakeUps(): void {
    if (this.#retryingLanes > 0) this.wakeUps.start();
  }

  async stopCommitter(): Promise<void> {
    await this.committer.drained();
    this.committer.stop();
  }

  /** Begins no turn, waits for those under way and for the commit of what they made; then the conversations are gone. */
  async stopConversations(): Promise<void> {
    this.conversations.drain();
    await this.#until(() => !this.conversations.isInTurn);
    await this.committer.drained();
    this.conversations.stop();
  }

  /** Waits for the sends under way and for what can go out now, then for the commit of their acknowledgements. */
  async stopLanes(): Promise<void> {
    await this.#until(() => this.lanes.isQuiet);
    await this.committer.drained();
    this.lanes.stop();
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!this.#abandoned && !isSo()) await pause(this.#environment, DRAIN_CHECK_MS);
  }

  #lose(reason: LostReason): void {
    if (this.#abandoned) return;
    this.abandon();
    this.#onLost(reason);
  }
}
