// Shard: the parts of one owned shard, wired to each other. Who starts and stops them in which order is the tree's business
// (supervisors/shard-supervisor.ts): a part is made when it starts, and what depends on it starts after it.
//
// Invariants
//   H1. An epoch has one committer (R2): one that is started again takes another epoch, and everything behind it is made anew.
//   H2. `abandon` ends all of it at once, in memory only: the next owner has the shard, or nobody until an operator looks.
//   H3. Replies of earlier owners are in their lanes before the reader starts, so nothing new overtakes them (P4).
//   H4. Lanes and conversations are made anew only when nothing is uncommitted (R4). What they had in memory is read again from
//       the outbox and the inbox, so nothing of it is carried over.

import type { OpenCounts } from "../src/admin/open-counts.ts";
import type { Channel } from "../src/channels/channel.ts";
import { decodeOpenEntry, type OpenEntry } from "../src/codec/open-codec.ts";
import type { Config } from "../src/config.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import type { Hash64 } from "../src/domain/hash.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import type { InboxEntry } from "../src/domain/message.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type Environment, PartEnvironment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { ShardStore } from "../src/store/shard-store.ts";
import type { ActorFamily } from "./actor-system.ts";
import type { ChannelAccounts } from "./channel-accounts.ts";
import { Committer, type LostReason } from "./committer.ts";
import { Conversations, type CrashPolicy, type ResidentBudget } from "./conversations.ts";
import { Lanes } from "./lanes.ts";
import type { Acquisition } from "./lease-keeper.ts";
import { PendingHeads } from "./pending-heads.ts";
import type { Ring, WakeUps } from "./retry-worker.ts";
import type { RunningTurns } from "./running-turns.ts";
import { sortSends } from "./sends.ts";
import { ReadProgress, ShardReader } from "./shard-reader.ts";
import { TimerMover } from "./timer-mover.ts";
import { TRANSFER_CHANNEL, transferChannel } from "./transfers.ts";

/** A part that runs, as its supervisor holds it. */
export interface RunningPart {
  /** Finishes what it accepted. */
  stop(): unknown;
  /** Ends it at once. What it had in memory is in the store. */
  kill(): void;
  /** Ends it as an error of its own code would, which its supervisor is told. */
  fail?(error: unknown): void;
}

/** Told once by a part that cannot go on: an error of its own code, never one of a bot or of a store that is away. */
export type PartFailed = (error: unknown) => void;

/** Which of a part's many children come back after a crash of their own code, and when. */
export interface CrashPolicies {
  readonly conversations: CrashPolicy;
  readonly lanes: CrashPolicy;
}

/** One of each for the node: a shard that is opened again leaves nothing behind. */
export interface ShardFamilies {
  readonly lanes: ActorFamily;
  readonly conversations: ActorFamily;
}

export interface ShardOptions {
  /** An epoch of this shard that no committer had. Rejects if the shard is lost. */
  readonly newEpoch: () => Promise<Acquisition>;
  /** Its number, of so many. */
  readonly index: number;
  readonly shards: number;
  /** Of every shard: what is sent to another one's conversations is appended there. */
  readonly stores: (shard: number) => Pick<ShardStore, "append">;
  readonly environment: Environment;
  readonly log: Log;
  readonly config: Config;
  readonly store: ShardStore;
  readonly hashKey: Hash64;
  readonly families: ShardFamilies;
  readonly running: RunningTurns;
  readonly counters: Counters;
  readonly budget: ResidentBudget;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly accounts: ChannelAccounts;
  readonly wakeUps: (log: Log, ring: Ring, failed: PartFailed) => WakeUps;
  readonly crashPolicies: CrashPolicies;
  readonly onTranscript: (key: ConversationKey) => void;
  readonly onLost: (reason: LostReason) => void;
}

/** Null before its first start. */
export interface ShardParts {
  readonly committer: Committer | null;
  readonly lanes: Lanes | null;
  readonly conversations: Conversations | null;
  /** Of the index of the unfinished. */
  readonly open: OpenCounts | null;
}

const DRAIN_CHECK_MS = 5;

export class Shard {
  readonly #options: ShardOptions;
  #log: Log;
  #acquisition: Acquisition | null = null;
  #timers: TimerMover | null = null;
  #heads: PendingHeads | null = null;
  #committer: Committer | null = null;
  #lanes: Lanes | null = null;
  #conversations: Conversations | null = null;
  #progress = new ReadProgress();
  #reader: ShardReader | null = null;
  #wakeUps: WakeUps | null = null;
  #retryingLanes = 0;
  /** What `abandon` ends. */
  readonly #running = new Set<PartEnvironment>();
  /** Parts by name that ended without having finished what they accepted. */
  readonly #unfinished = new Set<string>();
  #abandoned = false;

  constructor(options: ShardOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  /** Every part that ended had finished what it accepted, or was made anew since. */
  get isClean(): boolean {
    return this.#unfinished.size === 0;
  }

  /** Those that run, or ran last, to be looked at. */
  get parts(): ShardParts {
    const conversations = this.#conversations;
    return { committer: this.#committer, lanes: this.#lanes, conversations, open: conversations?.open ?? null };
  }

  /** Read and not yet decided and committed. */
  get undecidedBytes(): number {
    return this.#progress.undecidedBytes;
  }

  get undeliveredBytes(): number {
    return this.#lanes?.bytes ?? 0;
  }

  /** A commit is under way, or was confirmed just now. */
  get renewsLease(): boolean {
    return this.#committer?.renewsLease ?? false;
  }

  /** On the monotonic clock. */
  get lastCommitAtMs(): number {
    return this.#committer?.lastAppliedAtMs ?? Number.NEGATIVE_INFINITY;
  }

  /** H2 */
  abandon(): void {
    this.#abandoned = true;
    for (const part of this.#running) part.close();
  }

  /** H1 */
  async startCommitter(failed: PartFailed): Promise<RunningPart> {
    const { config, counters, store } = this.#options;
    this.#acquisition = await this.#options.newEpoch();
    const { epoch } = this.#acquisition;
    this.#log = this.#options.log.child({ epoch });
    const { deadLetters } = await this.#whenThere(() => store.owner());
    const environment = this.#environment(failed);
    const committer = new Committer({
      environment,
      log: this.#log,
      counters,
      store,
      epoch,
      leaseMs: config.leaseTtlMs,
      ackDelayMs: config.ackDelayMs,
      commitKeysMax: config.commitKeysMax,
      commitBytesMax: config.commitBytesMax,
      deadLetters,
      countDeadLetters: async () => (await store.owner()).deadLetters,
      deadLettersMax: config.deadLettersMax,
      deadLetterBytesMax: config.deadLetterBytesMax,
      transcript: {
        linesMax: config.transcriptLinesMax,
        bytesMax: config.transcriptBytesMax,
        ttlMs: config.transcriptMs,
      },
      onReplies: (entry, replies) => this.#lanes?.enqueue(entry, replies),
      onTranscript: this.#options.onTranscript,
      onInboxDone: (entries, bytes) => this.#inboxDone(entries, bytes),
      onTimer: (atMs) => this.#timers?.wake(atMs),
      onOpen: (key, entry) => this.#indexChanged(key, entry === null ? null : decodeOpenEntry(entry)),
      toList: (reply) => this.#lanes?.toList(reply) ?? null,
      sortSends: (sends, markers, n) =>
        sortSends(sends, markers, n, { shard: this.#options.index, shards: this.#options.shards, epoch }),
      onLost: (reason) => this.#lose(reason),
    });
    this.#committer = committer;
    return this.#runs(
      "committer",
      environment,
      () => committer.drained(),
      () => committer.stop(),
    );
  }

  /** H3 */
  async startLanes(failed: PartFailed): Promise<RunningPart> {
    const committer = this.#committer!;
    const environment = this.#environment(failed);
    const policy = this.#options.crashPolicies.lanes;
    const lanes = await this.#readBack(() => this.#recoveredLanes(environment, policy, committer));
    return this.#runs(
      "lanes",
      environment,
      () => this.#stopLanes(lanes, committer),
      () => lanes.stop(),
    );
  }

  /** One that met a Redis that is away has half of what there is, and sent some of it: the next try is another one. */
  async #recoveredLanes(environment: PartEnvironment, policy: CrashPolicy, committer: Committer): Promise<Lanes> {
    const { accounts, bot, channel, config, counters, families, index, store, stores } = this.#options;
    const transfers = transferChannel(stores, index);
    this.#lanes?.stop();
    await committer.drained(); // H4
    const lanes = new Lanes({
      environment,
      log: this.#log,
      counters,
      store,
      family: families.lanes,
      crashPolicy: policy,
      bot,
      channel: (name) => (name === TRANSFER_CHANNEL ? transfers : channel(name)),
      accounts,
      committer,
      isResident: (key) => this.#conversations?.isResident(key) ?? false,
      wakeUpAfter: (alarm, delayMs) => this.#wakeUps?.schedule(alarm, delayMs),
      laneBacklogMax: config.laneBacklogMax,
      laneBacklogBytesMax: config.laneBacklogBytesMax,
      spillMs: config.spillMs,
      sweepMs: config.laneSweepMs,
      deliveryBudgetMs: config.deliveryBudgetMs,
      onRoom: () => this.#reader?.checkRoom(),
    });
    this.#lanes = lanes;
    this.#retryingLanes = (await lanes.recover()).retrying;
    return lanes;
  }

  startTimers(failed: PartFailed): RunningPart {
    const { config, store } = this.#options;
    const environment = this.#environment(failed);
    const timers = new TimerMover({
      environment,
      log: this.#log,
      store,
      epoch: this.#acquisition!.epoch,
      entryBytesMax: config.entryBytesMax,
      onLost: (reason) => this.#lose(reason),
    });
    this.#timers = timers;
    timers.start();
    return this.#runs(
      "timers",
      environment,
      () => timers.stop(),
      () => void timers.stop(),
    );
  }

  async startConversations(failed: PartFailed): Promise<RunningPart> {
    const { bot, channel, config, counters, families, hashKey, running, store, budget } = this.#options;
    const [committer, lanes] = [this.#committer!, this.#lanes!];
    await committer.drained(); // H4
    const environment = this.#environment(failed);
    const heads = this.#pendingHeads(environment, committer);
    const conversations = new Conversations({
      environment,
      heads,
      spillMs: config.spillMs,
      ports: {
        log: this.#log,
        counters,
        bounds: config,
        hashKey,
        running,
        reserveDeadLetter: (bytes) => committer.reserveDeadLetter(bytes),
        commit: (conversation) => committer.add(conversation),
        finish: (entry) => committer.finish(entry),
        laneHasRoom: (key, replies, bytes, onRoom) => lanes.hasRoom(key, replies, bytes, onRoom),
      },
      crashPolicy: this.#options.crashPolicies.conversations,
      takeBack: (conversation) => committer.remove(conversation),
      store,
      family: families.conversations,
      budget,
      bot,
      channel,
      onEvicted: (key) => lanes.release(key),
      onCorrupt: () => this.#lose("corrupt"),
    });
    this.#conversations = conversations;
    this.#heads = heads;
    this.#progress = new ReadProgress();
    await this.#readBack(() => conversations.recover());
    return this.#runs(
      "conversations",
      environment,
      () => this.#stopConversations(conversations, committer),
      () => {
        conversations.stop();
        heads.stop();
      },
    );
  }

  #pendingHeads(environment: PartEnvironment, committer: Committer): PendingHeads {
    const { uncleanEnds, followsAnEnd, inboxLast } = this.#acquisition!;
    return new PendingHeads({
      environment,
      log: this.#log,
      uncleanEnds,
      followsAnEnd,
      horizon: inboxLast,
      groupMax: this.#options.config.suspectGroupMax,
      leaveAlone: (key, onAlone) => this.#options.running.leaveAlone(key, onAlone, environment),
      onThrough: () => committer.headsAreThrough(),
    });
  }

  startReader(failed: PartFailed): RunningPart {
    const { config, counters, hashKey, store } = this.#options;
    const [committer, conversations, lanes] = [this.#committer!, this.#conversations!, this.#lanes!];
    const environment = this.#environment(failed);
    const reader = new ShardReader({
      environment,
      progress: this.#progress,
      log: this.#log,
      counters,
      store,
      hashKey,
      committer,
      deliver: (message) => conversations.deliver(message),
      control: (message) => lanes.control(message),
      readAheadBytesMax: config.readAheadBytesMax,
      outboxBytes: () => lanes.bytes,
      outboxBytesMax: config.outboxBytesMax,
      onProgress: (entry) => this.#heads?.read(entry),
      onCorrupt: () => this.#lose("corrupt"),
    });
    this.#reader = reader;
    reader.start();
    return this.#runs(
      "reader",
      environment,
      () => reader.stop(),
      () => void reader.stop(),
    );
  }

  /** An earlier process may have left wake-ups; otherwise the worker starts with the first lane that needs one. */
  startWakeUps(failed: PartFailed): RunningPart {
    const environment = this.#environment(failed);
    const lanes = this.#lanes!;
    const wakeUps = this.#options.wakeUps(
      this.#log,
      (alarm) => environment.guard(() => lanes.ring(alarm)),
      (error) => environment.fail(error),
    );
    this.#wakeUps = wakeUps;
    if (this.#retryingLanes > 0) wakeUps.start();
    lanes.leaveWakeUps();
    return this.#runs(
      "retry-worker",
      environment,
      () => wakeUps.stop(),
      () => void wakeUps.stop(),
    );
  }

  /** What is stored and cannot be read stops the shard at once: no restart would mend it. */
  async #readBack<Result>(read: () => Promise<Result>): Promise<Result> {
    try {
      return await this.#whenThere(read);
    } catch (error) {
      if (severityOf(error) === "halt") this.#lose("corrupt");
      throw error;
    }
  }

  /** A start waits for a Redis that is away: that is no failure of what starts. */
  async #whenThere<Result>(read: () => Promise<Result>): Promise<Result> {
    const { environment } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await read();
      } catch (error) {
        if (severityOf(error) !== "retry") throw error;
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()));
        if (this.#abandoned) throw error;
      }
    }
  }

  #environment(failed: PartFailed): PartEnvironment {
    return new PartEnvironment(this.#options.environment, failed);
  }

  #runs(name: string, environment: PartEnvironment, stop: () => Promise<void>, end: () => void): RunningPart {
    let isFinished = false;
    this.#running.add(environment);
    environment.onClose(() => {
      this.#running.delete(environment);
      if (isFinished) this.#unfinished.delete(name);
      else this.#unfinished.add(name);
      end();
    });
    if (this.#abandoned) environment.close();
    return {
      stop: async () => {
        if (!this.#running.has(environment)) return;
        await stop();
        isFinished = true;
        environment.close();
      },
      kill: () => environment.close(),
      fail: (error) => environment.fail(error),
    };
  }

  /** Begins no turn, waits for those under way and for the commit of what they made. */
  async #stopConversations(conversations: Conversations, committer: Committer): Promise<void> {
    conversations.drain();
    await this.#until(() => !conversations.isInTurn, committer);
    await committer.drained();
  }

  /** Waits for the sends under way and for what can go out now, then for the commit of their acknowledgements. */
  async #stopLanes(lanes: Lanes, committer: Committer): Promise<void> {
    await this.#until(() => lanes.isQuiet, committer);
    await committer.drained();
  }

  /** Without a committer there is nothing to wait for: what is done meanwhile is done again by those that come next. */
  async #until(isSo: () => boolean, committer: Committer): Promise<void> {
    while (!committer.hasEnded && !isSo()) await pause(this.#options.environment, DRAIN_CHECK_MS);
  }

  #indexChanged(key: ConversationKey, entry: OpenEntry | null): void {
    this.#conversations?.open.set(key, entry);
    if (entry === null) this.#heads?.closed(key);
  }

  #inboxDone(entries: readonly InboxEntry[], bytes: number): void {
    this.#progress.undecidedBytes -= bytes;
    this.#heads?.done(entries);
    this.#reader?.checkRoom();
  }

  #lose(reason: LostReason): void {
    if (this.#abandoned) return;
    this.abandon();
    this.#options.onLost(reason);
  }
}
