// Ownership: the shards of this node. Checks the store, opens the namespace, keeps a lease per shard, and says whether
// messages can be admitted here.
//
// Invariants
//   O1. Nothing is read or written below a shard before the store was found safe and the namespace's meta was read.
//   O2. Messages are admitted only while Redis answers and this node owns shards. Those of other owners are appended all the
//       same: an append needs no ownership, and the owner reads what is in its inbox. A halted shard refuses for itself alone.

import type { AdmitOutcome, Channel } from "../src/channels/channel.ts";
import { hashKeyOf } from "../src/codec/inbox-codec.ts";
import type { Config } from "../src/config.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import { type ConversationId, type ConversationKey, conversationKey, shardOf } from "../src/domain/ids.ts";
import type { Inbound } from "../src/domain/message.ts";
import type { EntryId } from "../src/domain/position.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type Environment, pause } from "../src/environment.ts";
import { ColloquyError, StoreNotReadyError, StoreUnsafeError } from "../src/errors.ts";
import { Admission } from "../src/intake/admission.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import { shardTag } from "../src/store/keys.ts";
import { checkSafety } from "../src/store/safety.ts";
import {
  type NamespaceMeta,
  SCHEMA_VERSION,
  type ShardStore,
  type Store,
  type StoredEntry,
  type StoreFacts,
} from "../src/store/shard-store.ts";
import type { ActorSystem } from "./actor-system.ts";
import type { ResidentBudget } from "./conversations.ts";
import { Inspection } from "./inspection.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import type { Ring, WakeUps } from "./retry-worker.ts";
import { RunningTurns } from "./running-turns.ts";
import { Shard } from "./shard.ts";

export interface OwnershipOptions {
  readonly environment: Environment;
  readonly log: Log;
  readonly counters: Counters;
  readonly config: Config;
  readonly store: Store;
  readonly node: string;
  /** For a namespace that does not exist yet: 8 random bytes. */
  readonly newHashKey: Uint8Array;
  readonly actors: ActorSystem;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly wakeUps: (shard: number, log: Log, ring: Ring) => WakeUps;
  /** Starts and stops the parts of a shard as a tree. */
  readonly superviseShard: (name: string, shard: Shard) => ShardTree;
  /** Transcript lines of this conversation were committed here. Must return at once and not throw. */
  readonly onTranscript: (key: ConversationKey) => void;
  /** The store cannot be used at all. */
  readonly onUnusable: (error: Error) => void;
}

export interface ShardTree {
  start(): Promise<void>;
  /** True if all of it stopped within its time. */
  stop(): Promise<boolean>;
}

interface OpenShard {
  readonly shard: Shard;
  readonly tree: ShardTree;
}

/** What exists once the namespace is known. */
interface Namespace {
  readonly meta: NamespaceMeta;
  readonly admission: Admission;
  readonly keepers: readonly LeaseKeeper[];
}

const FACTS_EVERY_MS = 1_000;

export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #running: RunningTurns;
  readonly #budget: ResidentBudget;
  readonly #open = new Map<number, OpenShard>();
  readonly #stop = new AbortController();
  /** One family of each kind for the node: a shard that is opened again leaves nothing behind. */
  readonly #families: ConstructorParameters<typeof Shard>[0]["families"];
  #namespace: Namespace | null = null;
  #memoryIsFull = false;
  #facts: StoreFacts | null = null;
  /** Why the settings that Redis has now do not keep the promise; empty while they do. */
  #unsafe: readonly string[] = [];
  #draining = false;
  #watching: Promise<void> | null = null;
  #lastReason: string | undefined;

  constructor(options: OwnershipOptions) {
    const { environment, config } = options;
    this.#options = options;
    this.#families = { lanes: options.actors.family("lane"), conversations: options.actors.family("conversation") };
    this.#running = new RunningTurns(environment, config.runningTurnsMax);
    this.#budget = {
      residentsMax: config.residentsMax,
      residentBytesMax: config.residentBytesMax,
      residents: 0,
      bytes: 0,
    };
    options.store.onReadyChange(() => this.#refresh());
  }

  /** Begins in the background: Redis may be away. */
  start(): void {
    this.#watching = this.#bringUp();
  }

  /** O2: undefined when messages are admitted, else why not. */
  get notReady(): string | undefined {
    if (this.#draining) return "draining";
    if (!this.#options.store.isReady()) return "Redis does not answer";
    if (this.#unsafe.length > 0) return `Redis is not safe: ${this.#unsafe[0]}`;
    if (this.#namespace === null) return "starting";
    let owned = 0;
    let standby: string | undefined;
    let halted: string | undefined;
    for (const [shard, keeper] of this.#namespace.keepers.entries()) {
      const { state } = keeper;
      const name = shardName(shard);
      if (state.kind === "owned" && !keeper.isLeaseFresh) return `${name} has an old lease, which is being renewed`;
      if (state.kind === "owned") owned += 1;
      else if (state.kind === "standby") standby ??= `standing by: ${name} belongs to node ${state.owner}`;
      else if (state.kind === "halted") halted ??= this.#haltedBecause(shard);
      else return `${name} is ${state.kind}`;
    }
    if (owned === 0) return standby ?? halted;
    return undefined;
  }

  /** Whether the namespace is known, and with it what its shards are. */
  get isOpen(): boolean {
    return this.#namespace !== null;
  }

  /** What an operator may see. @throws StoreNotReadyError before the namespace is known */
  get inspection(): Inspection {
    if (this.#namespace === null)
      throw new StoreNotReadyError("the store is not open yet; nothing was read, ask again");
    return new Inspection({
      store: this.#options.store,
      leases: this.#namespace.keepers.map(({ state }) => state),
      owned: new Map(Array.from(this.#open, ([index, { shard }]) => [index, shard])),
    });
  }

  /** What Redis last said of itself; null before it did. */
  get facts(): StoreFacts | null {
    return this.#facts;
  }

  admit = (messages: readonly Inbound[]): Promise<AdmitOutcome> => {
    if (this.#namespace !== null) return this.#namespace.admission.admit(messages);
    return Promise.resolve({ kind: "unavailable", reason: this.notReady ?? "starting", retryAfterMs: 1_000 });
  };

  async readTranscript(id: ConversationId, range: { after: EntryId; count: number }): Promise<readonly StoredEntry[]> {
    const { store, key } = this.#placeOf(id);
    return store.readTranscript(key, range);
  }

  /** The stored record, null if there is none. Not only of the shards that this node owns. */
  async readRecord(id: ConversationId): Promise<Uint8Array | null> {
    const { store, key } = this.#placeOf(id);
    const [stored] = await store.load([key]);
    return stored?.record ?? null;
  }

  /** No turn runs, nothing is uncommitted, what can be delivered now is; then the shards are closed. */
  async closeShards(): Promise<void> {
    this.#draining = true;
    this.#refresh();
    this.#stop.abort();
    await this.#watching;
    await this.#namespace?.admission.drained();
    await Promise.all((this.#namespace?.keepers ?? []).map((keeper) => keeper.close()));
  }

  async releaseLeases(): Promise<void> {
    await Promise.all((this.#namespace?.keepers ?? []).map((keeper) => keeper.release()));
  }

  /** One try after the other until Redis answers; then watches what it says of itself (O1). */
  async #bringUp(): Promise<void> {
    const { environment, log } = this.#options;
    for (let attempt = 1; !this.#stop.signal.aborted && this.#namespace === null; attempt += 1) {
      try {
        await this.#openNamespace();
      } catch (error) {
        if (!(error instanceof ColloquyError && error.retryable)) {
          this.#options.onUnusable(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        if (attempt === 1) log.warn({ error }, "Redis is away; webhooks answer 503 until it is back");
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()), this.#stop.signal);
      }
    }
    while (!this.#stop.signal.aborted) {
      await pause(environment, FACTS_EVERY_MS, this.#stop.signal);
      if (!this.#stop.signal.aborted) await this.#watch();
    }
  }

  async #openNamespace(): Promise<void> {
    const { store, config, log, newHashKey } = this.#options;
    this.#facts = await store.facts();
    const problems = checkSafety(this.#facts, config.durability);
    if (problems.length > 0) throw new StoreUnsafeError(problems.join("; "));
    const meta = await store.openNamespace({ shards: config.shards, hashKey: newHashKey });
    if (meta.schemaVersion !== SCHEMA_VERSION) {
      throw new StoreUnsafeError(
        `the namespace ${config.namespace} has schema ${meta.schemaVersion}, this version of colloquy writes ${SCHEMA_VERSION}; nothing was touched, use the version that wrote it or another namespace`,
      );
    }
    if (meta.shards !== config.shards) {
      log.warn(
        { shards: meta.shards, asked: config.shards },
        "the namespace was created with another number of shards, which is fixed; that number is used",
      );
    }
    this.#namespace = {
      meta,
      admission: this.#admission(meta),
      keepers: Array.from({ length: meta.shards }, (_, shard) => this.#keeper(shard, meta)),
    };
    for (const keeper of this.#namespace.keepers) keeper.start();
  }

  async #watch(): Promise<void> {
    const { store, config, log } = this.#options;
    try {
      const facts = await store.facts();
      this.#facts = facts;
      this.#memoryIsFull =
        facts.maxMemoryBytes > 0 && facts.usedMemoryBytes > facts.maxMemoryBytes * config.redisMemoryRatioMax;
      const unsafe = checkSafety(facts, config.durability);
      if (unsafe.length > 0 && this.#unsafe.length === 0)
        log.error(
          { problems: unsafe },
          "Redis' settings no longer keep the promise: nothing is admitted until they do",
        );
      this.#unsafe = unsafe;
      this.#refresh();
    } catch {
      // Away: `isReady` says so, and the next look comes by itself.
    }
  }

  #admission(meta: NamespaceMeta): Admission {
    const { environment, log, counters, config, store } = this.#options;
    return new Admission({
      environment,
      log,
      counters,
      shards: meta.shards,
      store: (shard) => store.shard(shard),
      entryBytesMax: config.entryBytesMax,
      inboxBytesMax: config.inboxBytesMax,
      admissionBytesMax: config.admissionBytesMax,
      memoryIsFull: () => this.#memoryIsFull,
      shardClosedBecause: (shard) => this.#haltedBecause(shard),
    });
  }

  #placeOf(id: ConversationId): { store: ShardStore; key: ConversationKey } {
    if (this.#namespace === null)
      throw new StoreNotReadyError("the store is not open yet; nothing was read, ask again");
    const key = conversationKey(id);
    return { store: this.#options.store.shard(shardOf(key, this.#namespace.meta.shards)), key };
  }

  #haltedBecause(shard: number): string | undefined {
    const state = this.#namespace?.keepers[shard]?.state;
    return state?.kind === "halted" ? `${shardName(shard)} is halted: ${state.reason}` : undefined;
  }

  #keeper(shard: number, meta: NamespaceMeta): LeaseKeeper {
    const { environment, log, node, config, store } = this.#options;
    const keeper: LeaseKeeper = new LeaseKeeper({
      environment,
      log,
      node,
      leaseTtlMs: config.leaseTtlMs,
      store: store.shard(shard),
      name: shardName(shard),
      open: (epoch) => this.#openShard(shard, epoch, meta, keeper),
      close: (how) => this.#closeShard(shard, how),
      commitsRenew: () => this.#open.get(shard)?.shard.committer.renewsLease ?? false,
      lastCommitAtMs: () => this.#open.get(shard)?.shard.committer.lastAppliedAtMs ?? Number.NEGATIVE_INFINITY,
      onStateChange: () => this.#refresh(),
    });
    return keeper;
  }

  async #openShard(index: number, epoch: number, meta: NamespaceMeta, keeper: LeaseKeeper): Promise<void> {
    const { environment, config, store, bot, channel, wakeUps, superviseShard } = this.#options;
    const name = shardName(index);
    const log = this.#options.log.child({ shard: name, epoch });
    const shard = new Shard({
      name,
      epoch,
      deadLetters: (await store.shard(index).owner()).deadLetters,
      environment,
      log,
      config,
      store: store.shard(index),
      hashKey: hashKeyOf(meta.hashKey),
      families: this.#families,
      running: this.#running,
      counters: this.#options.counters,
      budget: this.#budget,
      bot,
      channel,
      wakeUps: (ring) => wakeUps(index, log, ring),
      onTranscript: this.#options.onTranscript,
      onLost: (reason) => keeper.lost(reason),
    });
    const tree = superviseShard(name, shard);
    this.#open.set(index, { shard, tree });
    await tree.start();
  }

  async #closeShard(index: number, how: "drain" | "abandon"): Promise<boolean> {
    const open = this.#open.get(index);
    this.#open.delete(index);
    if (how === "abandon") open?.shard.abandon();
    return (await open?.tree.stop()) ?? true;
  }

  /** O2, in one place: admission follows `notReady`, and each change is one line. */
  #refresh(): void {
    const reason = this.notReady;
    if (reason === undefined) this.#namespace?.admission.open();
    else this.#namespace?.admission.close(reason);
    if (reason === this.#lastReason) return;
    this.#lastReason = reason;
    if (reason === undefined) this.#options.log.info({}, "ready: messages are admitted");
  }
}

const shardName = (shard: number): string => `shard-${shardTag(shard)}`;
