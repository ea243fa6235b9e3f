// Ownership: which shards are this node's. Checks the store, opens the namespace, keeps a lease per shard, and says whether
// messages can be admitted here. The shards themselves run under a supervisor of their own, which it asks to open and close them.
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
import { type Environment, type PartEnvironment, pause } from "../src/environment.ts";
import { StoreNotReadyError, StoreUnsafeError, severityOf } from "../src/errors.ts";
import { Admission } from "../src/intake/admission.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import { boundedStore } from "../src/store/bounded-store.ts";
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
import { ChannelAccounts } from "./channel-accounts.ts";
import type { ResidentBudget } from "./conversations.ts";
import { Inspection } from "./inspection.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { Operations } from "./operations.ts";
import type { Ring, WakeUps } from "./retry-worker.ts";
import { RunningTurns } from "./running-turns.ts";
import { type CrashPolicies, type PartFailed, Shard, type ShardFamilies } from "./shard.ts";

export interface OwnershipOptions {
  readonly environment: PartEnvironment;
  /** For what it opens, which lives and fails by itself. */
  readonly nodeEnvironment: Environment;
  readonly log: Log;
  readonly counters: Counters;
  readonly config: Config;
  readonly store: Store;
  readonly node: string;
  /** Of this process. */
  readonly incarnation: string;
  /** For a namespace that does not exist yet: 8 random bytes. */
  readonly newHashKey: Uint8Array;
  readonly families: ShardFamilies;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly wakeUps: (shard: number, log: Log, ring: Ring, failed: PartFailed) => WakeUps;
  readonly crashPolicies: (shard: string) => CrashPolicies;
  /** Transcript lines of this conversation were committed here. Must return at once and not throw. */
  readonly onTranscript: (key: ConversationKey) => void;
  /** The store cannot be used at all. */
  readonly onUnusable: (error: Error) => void;
}

/** Where owned shards run: their supervisor. */
export interface ShardHome {
  /** Resolves when the shard works; rejects if it cannot be opened; does neither in a home that ends. */
  open(name: string, shard: Shard): Promise<void>;
  /** Stops it in good order as far as it is not abandoned, and forgets it. */
  close(name: string): Promise<void>;
}

/** What exists once the namespace is known. */
interface Namespace {
  readonly meta: NamespaceMeta;
  readonly admission: Admission;
  readonly keepers: readonly LeaseKeeper[];
}

/** Commands have 2 s, reads that wait a little more: a call that takes this long will never end. */
const STORE_HANG_MS = 60_000;

export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #running: RunningTurns;
  readonly #budget: ResidentBudget;
  /** What lanes share at the outsides of channels. */
  readonly accounts: ChannelAccounts;
  readonly #open = new Map<number, Shard>();
  readonly #stores = new Map<number, ShardStore>();
  readonly #stop = new AbortController();
  readonly #families: ShardFamilies;
  #namespace: Namespace | null = null;
  #memoryIsFull = false;
  #facts: StoreFacts | null = null;
  /** Why the settings that Redis has now do not keep the promise; empty while they do. */
  #unsafe: readonly string[] = [];
  #draining = false;
  #bringingUp: Promise<void> | null = null;
  #home: ShardHome | null = null;
  #withdrawing: Promise<void> | null = null;
  #lastReason: string | undefined;
  readonly #unlisten: () => void;

  constructor(options: OwnershipOptions) {
    const { environment, config } = options;
    this.#options = options;
    this.#families = options.families;
    this.accounts = new ChannelAccounts(environment);
    this.#running = new RunningTurns(environment, config.runningTurnsMax);
    this.#budget = {
      residentsMax: config.residentsMax,
      residentBytesMax: config.residentBytesMax,
      residents: 0,
      bytes: 0,
    };
    this.#unlisten = options.store.onReadyChange(() => environment.guard(() => this.#refresh()));
  }

  /** Begins in the background: Redis may be away. */
  start(): void {
    this.#bringingUp = this.#options.environment.run(() => this.#bringUp());
  }

  /** The supervisor of the shards runs: those that are this node's are opened there, once nothing is under way in an earlier one. */
  async serve(home: ShardHome): Promise<void> {
    await this.#withdrawing;
    if (this.#stop.signal.aborted) return;
    this.#home = home;
    this.#draining = false;
    for (const keeper of this.#namespace?.keepers ?? []) keeper.start();
    this.#refresh();
  }

  /**
   * Before that supervisor stops: no turn runs, nothing is uncommitted, what can be delivered now is; the leases stay. Once for each
   * `serve`.
   */
  withdraw(): Promise<void> {
    this.#withdrawing = this.#withdraw();
    return this.#withdrawing;
  }

  async #withdraw(): Promise<void> {
    this.#draining = true;
    this.#refresh();
    await this.#namespace?.admission.drained();
    await Promise.all((this.#namespace?.keepers ?? []).map((keeper) => keeper.close()));
    this.#home = null;
  }

  /** Gives the leases back, so that the next owner need not wait for their end. */
  async stop(): Promise<void> {
    this.kill();
    await this.#bringingUp;
    await Promise.all((this.#namespace?.keepers ?? []).map((keeper) => keeper.release()));
  }

  /** Nothing of it goes on, and nothing that it had opened commits any more. */
  kill(): void {
    this.#stop.abort();
    this.#unlisten();
    this.#draining = true;
    this.#namespace?.admission.close("starting again");
    for (const shard of this.#open.values()) shard.abandon();
  }

  /** What Redis says of itself now. */
  observed(facts: StoreFacts): void {
    const { config, log } = this.#options;
    this.#facts = facts;
    this.#memoryIsFull =
      facts.maxMemoryBytes > 0 && facts.usedMemoryBytes > facts.maxMemoryBytes * config.redisMemoryRatioMax;
    const unsafe = checkSafety(facts, config.durability);
    if (unsafe.length > 0 && this.#unsafe.length === 0)
      log.error({ problems: unsafe }, "Redis' settings no longer keep the promise: nothing is admitted until they do");
    this.#unsafe = unsafe;
    this.#refresh();
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
      owned: new Map(this.#open),
      account: (channel) => this.accounts.find(channel)?.view,
      nowMs: () => this.#options.nodeEnvironment.nowMs(),
    });
  }

  /** What an operator may ask for. @throws StoreNotReadyError before the namespace is known */
  get operations(): Operations {
    const { config, log } = this.#options;
    const inspector = this.inspection;
    return new Operations({
      shards: this.#namespace!.meta.shards,
      store: (shard) => this.#shardStore(shard),
      inspector,
      log,
      entryBytesMax: config.entryBytesMax,
      inboxBytesMax: config.inboxBytesMax,
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

  /** One try after the other until Redis answers (O1). */
  async #bringUp(): Promise<void> {
    const { environment, log } = this.#options;
    for (let attempt = 1; !this.#stop.signal.aborted && this.#namespace === null; attempt += 1) {
      try {
        await this.#openNamespace();
      } catch (error) {
        const severity = severityOf(error);
        if (severity === "crash") throw error;
        if (severity === "halt") {
          this.#options.onUnusable(error as Error);
          return;
        }
        if (attempt === 1) log.warn({ error }, "Redis is away; webhooks answer 503 until it is back");
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()), this.#stop.signal);
      }
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
    if (this.#home !== null) for (const keeper of this.#namespace.keepers) keeper.start();
  }

  #admission(meta: NamespaceMeta): Admission {
    const { environment, nodeEnvironment, log, counters, config } = this.#options;
    return new Admission({
      environment: nodeEnvironment, // what was let in is appended, in whatever way the leases end
      log,
      counters,
      shards: meta.shards,
      store: (shard) => this.#shardStore(shard),
      entryBytesMax: config.entryBytesMax,
      inboxBytesMax: config.inboxBytesMax,
      admissionBytesMax: config.admissionBytesMax,
      memoryIsFull: () => this.#memoryIsFull,
      shardClosedBecause: (shard) => this.#haltedBecause(shard),
      failed: (error) => environment.fail(error),
    });
  }

  #shardStore(shard: number): ShardStore {
    const known = this.#stores.get(shard);
    if (known !== undefined) return known;
    const store = boundedStore(this.#options.store.shard(shard), this.#options.nodeEnvironment, STORE_HANG_MS);
    this.#stores.set(shard, store);
    return store;
  }

  #placeOf(id: ConversationId): { store: ShardStore; key: ConversationKey } {
    if (this.#namespace === null)
      throw new StoreNotReadyError("the store is not open yet; nothing was read, ask again");
    const key = conversationKey(id);
    return { store: this.#shardStore(shardOf(key, this.#namespace.meta.shards)), key };
  }

  #haltedBecause(shard: number): string | undefined {
    const state = this.#namespace?.keepers[shard]?.state;
    return state?.kind === "halted" ? `${shardName(shard)} is halted: ${state.reason}` : undefined;
  }

  #keeper(shard: number, meta: NamespaceMeta): LeaseKeeper {
    const { environment, log, node, incarnation, config } = this.#options;
    const keeper: LeaseKeeper = new LeaseKeeper({
      environment,
      log,
      node,
      incarnation,
      leaseTtlMs: config.leaseTtlMs,
      store: this.#shardStore(shard),
      name: shardName(shard),
      open: () => this.#openShard(shard, meta, keeper),
      close: (how) => this.#closeShard(shard, how),
      commitsRenew: () => this.#open.get(shard)?.renewsLease ?? false,
      lastCommitAtMs: () => this.#open.get(shard)?.lastCommitAtMs ?? Number.NEGATIVE_INFINITY,
      onStateChange: () => this.#refresh(),
    });
    return keeper;
  }

  async #openShard(index: number, meta: NamespaceMeta, keeper: LeaseKeeper): Promise<void> {
    const { config, bot, channel, wakeUps, crashPolicies } = this.#options;
    const name = shardName(index);
    const shard = new Shard({
      newEpoch: () => keeper.newEpoch(),
      environment: this.#options.nodeEnvironment,
      log: this.#options.log.child({ shard: name }),
      config,
      store: this.#shardStore(index),
      hashKey: hashKeyOf(meta.hashKey),
      index,
      shards: meta.shards,
      stores: (other) => this.#shardStore(other),
      families: this.#families,
      running: this.#running,
      counters: this.#options.counters,
      budget: this.#budget,
      bot,
      channel,
      accounts: this.accounts,
      wakeUps: (log, ring, failed) => wakeUps(index, log, ring, failed),
      crashPolicies: crashPolicies(name),
      onTranscript: this.#options.onTranscript,
      onLost: (reason) => keeper.lost(reason),
    });
    this.#open.set(index, shard);
    await this.#home!.open(name, shard);
  }

  /** True if all of it stopped in good order. */
  async #closeShard(index: number, how: "drain" | "abandon"): Promise<boolean> {
    const shard = this.#open.get(index);
    if (shard === undefined) return true;
    if (how === "abandon") shard.abandon();
    await this.#home!.close(shardName(index));
    shard.abandon(); // a part whose start was left behind must not come up any more
    this.#open.delete(index);
    return shard.isClean;
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
