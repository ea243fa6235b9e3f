// Conversations: the conversations of one shard that are in memory. Activates on demand, loads in batches, drops what is
// settled and was not used lately when the node holds too much, and replaces those whose own code crashed.
//
// Invariants
//   M1. A conversation that crashed is replaced only when nothing of it flies (R4); what it had not committed is decided again,
//       in order, by its successor. No other conversation learns of it.
//   M2. What stands in its way for longer than `spillMs` moves the messages of a conversation to its waiting list: a few that cannot
//       move hold up nobody else (attack B1).
//   M3. What is unfinished and goes on by itself is activated at start, whether or not anything comes for it.

import { OpenCounts } from "../src/admin/open-counts.ts";
import type { Channel } from "../src/channels/channel.ts";
import { decodeOpenEntry } from "../src/codec/open-codec.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import { type ConversationId, type ConversationKey, parseConversationKey } from "../src/domain/ids.ts";
import type { MailboxMessage } from "../src/domain/message.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type PartEnvironment, pause, type Timer } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import { describeError } from "../src/log.ts";
import { SCAN_START, type ShardStore } from "../src/store/shard-store.ts";
import type { ActorFamily } from "./actor-system.ts";
import type { ConversationPorts } from "./conversation/core.ts";
import { ConversationActor } from "./conversation-actor.ts";
import type { PendingHeads } from "./pending-heads.ts";

/** What is in memory of all shards of a node, and how much may be. */
export interface ResidentBudget {
  readonly residentsMax: number;
  readonly residentBytesMax: number;
  residents: number;
  bytes: number;
}

/** Says what becomes of a conversation that crashed. */
export interface CrashPolicy {
  /** Null: it was too often, and nothing of it runs until somebody looks. */
  restartAfterMs(conversation: ConversationId, error: unknown): number | null;
}

/** Of children that are replaced one by one, since their family started. */
export interface CrashCounts {
  /** Wait for their restart. */
  restarting: number;
  /** Crashed too often and are halted. */
  crashing: number;
  restarts: number;
}

export interface ConversationsOptions {
  readonly ports: Omit<
    ConversationPorts,
    | "environment"
    | "load"
    | "canReach"
    | "readList"
    | "resized"
    | "crashed"
    | "blocked"
    | "mayRunHead"
    | "headIsThrough"
    | "hasCaughtUp"
    | "diedAlone"
  >;
  readonly heads: PendingHeads;
  /** How long something may stand in a conversation's way before its messages leave the inbox. */
  readonly spillMs: number;
  readonly environment: PartEnvironment;
  readonly crashPolicy: CrashPolicy;
  /** What a conversation that crashed had decided is taken back from the committer. */
  readonly takeBack: (conversation: ConversationActor) => void;
  readonly store: Pick<ShardStore, "load" | "readWaiting" | "readOpen">;
  readonly family: ActorFamily;
  readonly budget: ResidentBudget;
  readonly bot: (name: string) => BotDefinition | undefined;
  readonly channel: (name: string) => Channel | undefined;
  readonly onEvicted: (key: ConversationKey) => void;
  /** The store gave something nobody can read: the shard cannot go on. */
  readonly onCorrupt: () => void;
}

/** A conversation's nact mailbox holds wake-ups only. */
const WAKE_UPS_MAX = 4;
/** Conversations loaded at once. All the answers together must come within one command's time, at 1 MiB of state each. */
const LOAD_PAGE = 128;
/** Entries of a waiting list read at once: its conversation works them off meanwhile. */
const LIST_PAGE = 128;
const OPEN_PAGE = 500;
/** How late a conversation may be found that cannot move. */
const SPILL_CHECK_MS = 250;
/** How many are looked at for each newcomer, or growth, over the budget. */
const EVICTION_TRIES = 16;

interface Resident {
  readonly actor: ConversationActor;
  /** Since the eviction last looked at it. */
  isUsed: boolean;
}

export class Conversations {
  readonly #options: ConversationsOptions;
  readonly #ports: ConversationPorts;
  /** In the order of eviction's hand. */
  readonly #residents = new Map<ConversationKey, Resident>();
  /** Bots and channels that this node does not run and that were told; their messages stay in the inbox. */
  readonly #unknown = new Set<string>();
  /** Conversations whose messages wait in the inbox, and since when on the monotonic clock. */
  readonly #blocked = new Map<ConversationActor, number>();
  #spill: Timer | null = null;
  /** As of the last commit; no commit of theirs lands before `recover` has read the index. */
  readonly open: OpenCounts = new OpenCounts();
  readonly crashes: CrashCounts = { restarting: 0, crashing: 0, restarts: 0 };
  #loading = new Set<ConversationActor>();
  #loadScheduled = false;
  #draining = false;
  #stopped = false;

  constructor(options: ConversationsOptions) {
    this.#options = options;
    this.#ports = {
      ...options.ports,
      environment: options.environment,
      load: (conversation) => this.#loadSoon(conversation),
      canReach: ({ bot, channel }) => options.bot(bot) !== undefined && options.channel(channel) !== undefined,
      readList: (conversation, after) => void options.environment.run(() => this.#readList(conversation, after)),
      blocked: (conversation, isBlocked) => this.#setBlocked(conversation, isBlocked),
      mayRunHead: (conversation, position) => options.heads.mayRun(conversation, position),
      headIsThrough: (key) => options.heads.through(key),
      hasCaughtUp: () => options.heads.hasCaughtUp,
      diedAlone: (key) => options.heads.diedAlone(key),
      resized: (bytes) => this.#resized(bytes),
      crashed: (conversation, error) => options.environment.guard(() => this.#crashed(conversation, error)),
    };
  }

  /** Before anything is read from the inbox (M3). */
  async recover(): Promise<void> {
    const { heads, store } = this.#options;
    const goOn: { key: ConversationKey; suspect: number | undefined }[] = [];
    let cursor = SCAN_START;
    do {
      const page = await store.readOpen({ cursor, count: OPEN_PAGE });
      for (const { key, value } of page.found) {
        const entry = decodeOpenEntry(value);
        const { runs, state, suspect } = entry;
        this.open.set(key, entry);
        if (runs || state === "quarantined") goOn.push({ key, suspect }); // its record may be readable to this version
      }
      cursor = page.cursor;
    } while (cursor !== SCAN_START);
    heads.recovered(goOn);
    for (const { key } of goOn) {
      if (this.#residents.has(key)) continue; // a scan may give one twice
      const resident = this.#activate(key);
      if (resident === null) heads.through(key);
      else resident.actor.wake();
    }
  }

  get count(): number {
    return this.#residents.size;
  }

  /** Those in memory, to be looked at. */
  *all(): Generator<ConversationActor> {
    for (const { actor } of this.#residents.values()) yield actor;
  }

  find(key: ConversationKey): ConversationActor | undefined {
    return this.#residents.get(key)?.actor;
  }

  /** Never throws: whoever is handed messages and fails over one has failed with all of them, and they are read again. */
  deliver(message: MailboxMessage): void {
    this.#options.environment.guard(() => this.#deliver(message));
  }

  #deliver(message: MailboxMessage): void {
    if (this.#stopped) return; // from a reader that was left behind: it is in the inbox, for the next owner
    const known = this.#residents.get(message.key);
    const resident = known ?? this.#activate(message.key);
    if (resident === null) return;
    resident.isUsed = true;
    resident.actor.deliver(message);
    if (known === undefined) this.#evict(); // after its first message, which keeps the newcomer (C4)
  }

  /** No further turn begins. */
  drain(): void {
    this.#draining = true;
    for (const { actor } of this.#residents.values()) actor.drain();
  }

  get isInTurn(): boolean {
    for (const { actor } of this.#residents.values()) if (actor.isInTurn) return true;
    return false;
  }

  isResident(key: ConversationKey): boolean {
    return this.#residents.has(key);
  }

  stop(): void {
    this.#stopped = true;
    this.#spill?.cancel();
    for (const resident of this.#residents.values()) this.#forget(resident);
    this.#residents.clear();
  }

  #activate(key: ConversationKey): Resident | null {
    const id = parseConversationKey(key);
    const bot = this.#options.bot(id.bot);
    const channel = this.#options.channel(id.channel);
    if (bot === undefined || channel === undefined) {
      this.#tellUnknown(id);
      return null;
    }
    const actor = new ConversationActor(id, key, bot, channel, this.#ports, this.open.stateOf(key) === "quarantined");
    if (this.#draining) actor.drain();
    actor.ref = this.#options.family.spawn(actor, WAKE_UPS_MAX);
    const resident = { actor, isUsed: true };
    this.#residents.set(key, resident);
    this.#options.budget.residents += 1;
    this.#options.budget.bytes += actor.residentBytes;
    return resident;
  }

  /** M1. Until it is replaced the crashed one goes on collecting messages; it decides nothing. */
  #crashed(crashed: ConversationActor, error: unknown): void {
    if (this.#residents.get(crashed.key)?.actor !== crashed) return;
    this.#options.takeBack(crashed);
    const delayMs = this.#options.crashPolicy.restartAfterMs(crashed.id, error);
    if (delayMs === null) {
      this.crashes.crashing += 1;
      this.#options.heads.through(crashed.key); // nobody waits for it
      return;
    }
    this.crashes.restarting += 1;
    const { environment } = this.#options;
    const replace = (): void => environment.guard(() => this.#replace(crashed)); // what lands is told by the committer
    environment.after(delayMs, () => crashed.onLanded(replace));
  }

  #replace(crashed: ConversationActor): void {
    this.crashes.restarting -= 1;
    this.crashes.restarts += 1;
    const resident = this.#residents.get(crashed.key);
    if (resident?.actor !== crashed || this.#stopped) return;
    this.#residents.delete(crashed.key);
    const { messages, journal } = crashed.salvage(); // before it is forgotten, which would give up the steps that run
    this.#forget(resident);
    const successor = this.#activate(crashed.key);
    successor?.actor.inherit(journal);
    for (const message of messages) successor?.actor.deliver(message);
    successor?.actor.wake(); // what it waits for may stand on its list
  }

  /** Once: an inbox may hold 100,000 of them. */
  #tellUnknown({ bot, channel }: ConversationId): void {
    const name = `${bot} ${channel}`;
    if (this.#unknown.has(name)) return;
    this.#unknown.add(name);
    this.#ports.log.error(
      { bot, channel },
      "messages for a bot or channel that is not configured: they stay in the inbox, configure it again to go on",
    );
  }

  #resized(bytes: number): void {
    if (this.#stopped) return; // by a commit that takes what was decided before: it is no resident any more
    this.#options.budget.bytes += bytes;
    if (bytes > 0) this.#evict();
  }

  /** The clock algorithm: what was used since the hand last passed gets another round, the rest goes if it is settled (C4). */
  #evict(): void {
    const { budget } = this.#options;
    let tries = EVICTION_TRIES;
    for (const [key, resident] of this.#residents) {
      const isOver = budget.residents > budget.residentsMax || budget.bytes > budget.residentBytesMax;
      if (!isOver || tries === 0) return;
      tries -= 1;
      this.#residents.delete(key);
      if (resident.actor.settled && !resident.isUsed) {
        this.#forget(resident);
        this.#options.onEvicted(key);
      } else {
        resident.isUsed = false;
        this.#residents.set(key, resident);
      }
    }
  }

  #forget({ actor }: Resident): void {
    actor.stop();
    this.#options.budget.residents -= 1;
    this.#options.budget.bytes -= actor.residentBytes;
  }

  #setBlocked(conversation: ConversationActor, isBlocked: boolean): void {
    if (!isBlocked) {
      this.#blocked.delete(conversation);
      return;
    }
    if (this.#stopped || this.#blocked.has(conversation)) return;
    const { environment } = this.#options;
    this.#blocked.set(conversation, environment.monotonicMs());
    this.#spill ??= environment.after(SPILL_CHECK_MS, () => this.#spillBlocked());
  }

  /** M2. In the order in which they were blocked. */
  #spillBlocked(): void {
    const { environment, spillMs } = this.#options;
    const latestMs = environment.monotonicMs() - spillMs;
    for (const [conversation, sinceMs] of this.#blocked) {
      if (sinceMs > latestMs) break;
      conversation.moveToList();
    }
    this.#spill = this.#blocked.size > 0 ? environment.after(SPILL_CHECK_MS, () => this.#spillBlocked()) : null;
  }

  async #readList(conversation: ConversationActor, after: number): Promise<void> {
    const entries = await this.#untilRead(() =>
      this.#options.store.readWaiting(conversation.key, { after, count: LIST_PAGE }),
    );
    if (entries === null) return;
    try {
      conversation.listRead(entries);
    } catch (error) {
      conversation.crashed(error);
    }
  }

  #loadSoon(conversation: ConversationActor): void {
    this.#loading.add(conversation);
    if (this.#loadScheduled) return;
    this.#loadScheduled = true;
    const { environment } = this.#options;
    environment.soon(() => void environment.run(() => this.#loadAll()));
  }

  async #loadAll(): Promise<void> {
    while (this.#loading.size > 0 && !this.#stopped) {
      const page = firstOf(this.#loading, LOAD_PAGE);
      const stored = await this.#untilRead(() =>
        this.#options.store.load(page.map((conversation) => conversation.key)),
      );
      if (stored === null) return;
      page.forEach((conversation, i) => {
        this.#loading.delete(conversation);
        try {
          conversation.loaded(stored[i]!);
        } catch (error) {
          conversation.crashed(error);
        }
      });
    }
    this.#loadScheduled = false;
  }

  /** Reads again until Redis answers; null if the shard stopped or what is stored cannot be read at all. */
  async #untilRead<Result>(read: () => Promise<Result>): Promise<Result | null> {
    const { environment } = this.#options;
    const { log } = this.#ports;
    for (let attempt = 1; !this.#stopped; attempt += 1) {
      try {
        return await read();
      } catch (error) {
        const severity = severityOf(error);
        if (severity === "crash") throw error;
        if (severity === "halt") {
          log.fatal({ error: describeError(error) }, "records cannot be read: the shard halts; nothing was written");
          this.#options.onCorrupt();
          return null;
        }
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()));
      }
    }
    return null;
  }
}

function firstOf<Item>(items: Iterable<Item>, count: number): Item[] {
  const first: Item[] = [];
  for (const item of items) if (first.push(item) === count) break;
  return first;
}
