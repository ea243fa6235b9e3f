// Lane rig: the lanes of a shard with the production committer and reader on a memory store, a recipient that answers as told, and
// lives of the shard's owner that begin, are killed and are taken over. After each commit it looks whether every reply stands in one
// place.

import { ActorSystem } from "../../../actors/actor-system.ts";
import { ChannelAccounts } from "../../../actors/channel-accounts.ts";
import { Committer, type DeadLetterCount } from "../../../actors/committer.ts";
import { Lanes, type LanesOptions } from "../../../actors/lanes.ts";
import { type Alarm, accountOf } from "../../../actors/retry-worker.ts";
import { sortSends } from "../../../actors/sends.ts";
import { ReadProgress, ShardReader } from "../../../actors/shard-reader.ts";
import type { Channel, ProbeOutcome, SendOutcome } from "../../../src/channels/channel.ts";
import { decodeDeadReply } from "../../../src/codec/dead-reply.ts";
import { InboxBatch } from "../../../src/codec/inbox-codec.ts";
import { decodeLaneState, type LaneState } from "../../../src/codec/lane-codec.ts";
import { decodeOutboxEntry, hasBit, type OutboxReply, type ReplyExtra } from "../../../src/codec/outbox-codec.ts";
import { encodeRecord } from "../../../src/codec/record-codec.ts";
import type { BotDefinition } from "../../../src/domain/bot.ts";
import { type ConversationKey, conversationKey } from "../../../src/domain/ids.ts";
import { replyName } from "../../../src/domain/lane.ts";
import type { Delivery, LaneControl, MailboxMessage } from "../../../src/domain/message.ts";
import { formatEntryId } from "../../../src/domain/position.ts";
import { newRecord } from "../../../src/domain/record.ts";
import { type Environment, PartEnvironment } from "../../../src/environment.ts";
import { StoreUnavailableError } from "../../../src/errors.ts";
import { type Counters, newCounters } from "../../../src/metrics.ts";
import { MemoryData, type MemoryShard, MemoryStore } from "../../../src/store/memory-store.ts";
import type { Commit, CommitReply, ShardStore } from "../../../src/store/shard-store.ts";
import { type Gate, gate, quiet } from "../../support/quiet.ts";
import { RecordingLog } from "../../support/recording-log.ts";
import { Sabotage } from "../../support/saboteur.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";

/** Bots are named by their ordering. */
export const keyOf = (conversation: string, bot = "strict"): ConversationKey =>
  conversationKey({ bot, channel: "test", conversation });

export interface Attempt {
  readonly key: string;
  readonly body: string;
  readonly atMs: number;
  readonly to: string;
  readonly redriven: boolean;
}

/** The recipient: answers as told, at once or when the test opens the gate. */
export class Recipient {
  readonly attempts: Attempt[] = [];
  readonly probes: string[] = [];
  readonly #environment: VirtualEnvironment;
  answers: SendOutcome[] = [];
  probed: ProbeOutcome[] = [];
  held: Gate<SendOutcome>[] | null = null;
  inFlight = 0;
  inFlightMax = 0;

  constructor(environment: VirtualEnvironment) {
    this.#environment = environment;
  }

  send = async (delivery: Delivery): Promise<SendOutcome> => {
    const { idempotencyKey: key, to } = delivery;
    const body = Buffer.from(delivery.body).toString();
    const redriven = delivery.redriven === true;
    this.attempts.push({ key, body, to: to.conversation, atMs: this.#environment.nowMs(), redriven });
    this.inFlight += 1;
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight);
    const held = this.held;
    const answer = gate<SendOutcome>();
    if (held === null) answer.open(this.answers.shift() ?? { kind: "delivered" });
    else held.push(answer);
    const outcome = await answer.promise;
    this.inFlight -= 1;
    return outcome;
  };

  probe = async ({ body }: Delivery): Promise<ProbeOutcome> => {
    this.probes.push(Buffer.from(body).toString());
    return this.probed.shift() ?? { kind: "absent" };
  };

  get bodies(): string[] {
    return this.attempts.map(({ body }) => body);
  }
}

/** What a test may have otherwise; read when a life begins, unless said otherwise. */
export interface Settings {
  spillMs: number;
  sweepMs: number;
  deliveryBudgetMs: number;
  deadLettersMax: number;
  laneBacklogMax: number;
  commitBytesMax: number;
  /** What the channel says of itself beside `send`, which goes to the recipient. */
  channel: Partial<Channel>;
  accounts: ((environment: Environment) => LanesOptions["accounts"]) | null;
  /** Ms until a lane that crashed is replaced; null: never. */
  restartAfterMs: () => number | null;
  /** The environment and counters of the lanes, for a saboteur. */
  sabotage: ((environment: Environment, counters: Counters) => { environment: Environment; counters: Counters }) | null;
  /** When each wake-up comes, ms: not at all, or several times. */
  wakeUps: (delayMs: number) => readonly number[];
}

const settings = (): Settings => ({
  spillMs: 2_000,
  sweepMs: 1_000,
  deliveryBudgetMs: 259_200_000,
  deadLettersMax: 100_000,
  laneBacklogMax: 5,
  commitBytesMax: 4_194_304,
  channel: {},
  accounts: null,
  restartAfterMs: () => 0,
  sabotage: null,
  wakeUps: (delayMs) => [delayMs],
});

const HASH_KEY = { lo: 0, hi: 0 };

/** One life of a shard's owner: committer, lanes and reader on shared data. */
export class Life {
  readonly log: RecordingLog;
  readonly wakeUps: { key: ConversationKey; delayMs: number; atMs: number; durable: boolean }[] = [];
  readonly accountWakeUps: string[] = [];
  readonly lost: string[] = [];
  readonly failures: unknown[] = [];
  readonly committer: Committer;
  readonly counters: Counters = newCounters();
  readonly commits: Commit[] = [];
  readonly accounts: LanesOptions["accounts"];
  lanes!: Lanes;
  /** While true, commits reach Redis and their answers do not come back. */
  answersAreLost = false;
  redisIsAway = false;
  /** Ends with the answer to this commit, counted over all lives. */
  diesAtCommit = Number.POSITIVE_INFINITY;
  isDead = false;
  recovered = { replies: 0, retrying: 0 };
  readonly #world: World;
  readonly #store: ShardStore;
  readonly #actors: ActorSystem;
  #reader: ShardReader | null = null;
  #lanesPart: PartEnvironment | null = null;
  #starts = 0;

  constructor(world: World, epoch: number) {
    this.#world = world;
    this.log = world.log;
    const { environment, settings } = world;
    this.#store = new MemoryStore(environment, world.data).shard(0);
    this.#actors = new ActorSystem({
      after: environment.after,
      onCrash: (_actor, error) => {
        throw error;
      },
    });
    const part = this.#part((error) => {
      this.failures.push(error);
      world.onCommitterFailed(this);
    });
    this.accounts = settings.accounts?.(part) ?? new ChannelAccounts(part);
    this.committer = new Committer({
      environment: part,
      log: this.log.log,
      counters: newCounters(),
      store: { commit: (commit) => this.#commit(commit) },
      epoch,
      leaseMs: 5_000,
      ackDelayMs: 20,
      commitKeysMax: 4_000,
      commitBytesMax: settings.commitBytesMax,
      deadLetters: world.deadLetterCount,
      deadLettersMax: settings.deadLettersMax,
      deadLetterBytesMax: 268_435_456,
      countDeadLetters: async () => world.deadLetterCount,
      transcript: { linesMax: 200, bytesMax: 262_144, ttlMs: 60_000 },
      onReplies: (entry, replies) => this.lanes.enqueue(entry, replies),
      onTranscript: () => undefined,
      onInboxDone: () => this.#reader?.checkRoom(),
      onTimer: () => undefined,
      onOpen: () => undefined,
      toList: (reply) => this.lanes.toList(reply),
      sortSends: (sends, markers, n) => sortSends(sends, markers, n, { shard: 0, shards: 1, epoch }),
      onLost: (reason) => this.lost.push(reason),
    });
  }

  /** As the shard does it, also after its lanes or its reader failed. */
  async start(): Promise<void> {
    this.#starts += 1;
    const start = this.#starts;
    const isOver = (): boolean => this.isDead || this.#starts !== start;
    const failed = (error: unknown): void => {
      this.failures.push(error);
      if (!isOver()) void this.start();
    };
    void this.#reader?.stop();
    if ((this.lanes as Lanes | undefined) !== undefined) {
      this.lanes.stop();
      await this.committer.drained();
    }
    while (!isOver()) {
      this.lanes = this.#lanes(failed);
      try {
        this.recovered = await this.lanes.recover();
        break;
      } catch (error) {
        this.lanes.stop();
        if (isOver()) return;
        if (error instanceof StoreUnavailableError) await this.#world.pause(100);
        else if (error instanceof Sabotage) return failed(error);
        else throw error;
      }
    }
    if (isOver()) return;
    this.#reader = this.#newReader(failed);
    this.#reader.start();
  }

  /** A wake-up came. */
  ring(alarm: Alarm): void {
    this.#lanesPart?.guard(() => this.lanes.ring(alarm));
  }

  #part(failed: (error: unknown) => void): PartEnvironment {
    const { environment } = this.#world;
    const own: Environment = {
      nowMs: environment.nowMs,
      monotonicMs: environment.monotonicMs,
      random: environment.random,
      after: (delayMs, run) => environment.after(delayMs, () => this.isDead || run()),
      soon: (run) => environment.soon(() => this.isDead || run()),
    };
    return new PartEnvironment(own, failed);
  }

  #lanes(failed: (error: unknown) => void): Lanes {
    const { settings, recipient, environment } = this.#world;
    const part = this.#part(failed);
    const looked = settings.sabotage?.(part, this.counters) ?? { environment: part, counters: this.counters };
    this.#lanesPart = looked.environment === part ? part : new PartEnvironment(looked.environment, failed);
    return new Lanes({
      environment: this.#lanesPart,
      crashPolicy: { restartAfterMs: settings.restartAfterMs },
      log: this.log.log,
      counters: looked.counters,
      store: this.#reading(),
      family: this.#actors.family("lane"),
      bot: botNamed,
      channel: (name) => (name === "test" ? this.#channel(recipient) : undefined),
      accounts: this.accounts,
      spillMs: settings.spillMs,
      sweepMs: settings.sweepMs,
      deliveryBudgetMs: settings.deliveryBudgetMs,
      committer: this.committer,
      isResident: () => true,
      wakeUpAfter: (alarm, delayMs) => {
        const account = accountOf(alarm);
        if (account !== null) this.accountWakeUps.push(account);
        else {
          const key = alarm as ConversationKey;
          const durable = this.#world.shard.lanes.has(key);
          this.wakeUps.push({ key, delayMs, atMs: environment.nowMs(), durable });
        }
        this.#world.wakeUp(alarm, delayMs);
      },
      laneBacklogMax: settings.laneBacklogMax,
      laneBacklogBytesMax: 1_000,
      onRoom: () => undefined,
    });
  }

  #channel(recipient: Recipient): Channel {
    const { channel } = this.#world.settings;
    const send: Channel["send"] = async (delivery) => {
      if (this.isDead) return await new Promise(() => undefined);
      const outcome = await recipient.send(delivery);
      return this.isDead ? await new Promise(() => undefined) : outcome;
    };
    const probe: Channel["probe"] = async (delivery) => {
      if (this.isDead) return await new Promise(() => undefined);
      return await recipient.probe(delivery);
    };
    return { name: "test", delivery: "lane", render: () => new Uint8Array(), send, probe, ...channel };
  }

  #newReader(failed: (error: unknown) => void): ShardReader {
    const { committer } = this;
    return new ShardReader({
      environment: this.#part(failed),
      progress: new ReadProgress(),
      log: this.log.log,
      counters: newCounters(),
      store: this.#reading(),
      hashKey: HASH_KEY,
      committer,
      deliver: (message) => {
        this.#world.consumed.push(message);
        committer.finish(message.source);
      },
      control: (message) => this.lanes.control(message),
      readAheadBytesMax: 1_048_576,
      outboxBytes: () => 0,
      outboxBytesMax: 1_048_576,
      onProgress: () => undefined,
      onCorrupt: () => this.lost.push("corrupt"),
    });
  }

  async #commit(commit: Commit): Promise<CommitReply> {
    if (this.isDead) return await new Promise(() => undefined);
    if (this.redisIsAway) throw new StoreUnavailableError("away");
    this.commits.push(commit);
    const reply = await this.#store.commit(commit);
    if (reply.kind === "applied") this.#world.committed();
    if (this.#world.commits >= this.diesAtCommit) this.kill();
    if (this.isDead) return await new Promise(() => undefined);
    if (this.answersAreLost) throw new StoreUnavailableError("answer lost");
    return reply;
  }

  #reading(): ShardStore {
    const guard = (target: ShardStore, name: string | symbol): unknown => {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== "function") return method;
      return async (...args: unknown[]): Promise<unknown> => {
        if (this.redisIsAway) throw new StoreUnavailableError("away");
        const found: unknown = await Reflect.apply(method, target, args);
        return this.isDead ? await new Promise(() => undefined) : found;
      };
    };
    return new Proxy(this.#store, { get: guard });
  }

  /** Commits replies of a conversation, as its turn would. The number at the end of the body is the reply's. */
  reply(key: ConversationKey, ...bodies: string[]): void {
    this.replies(
      key,
      bodies.map((body) => ({ body })),
    );
  }

  replies(key: ConversationKey, given: readonly { readonly body: string; readonly extra?: ReplyExtra }[]): void {
    const record = encodeRecord(newRecord({ entry: { ms: 1, seq: 0 }, index: 0 }), 1, "null");
    const replies = given.map(({ body, extra }): OutboxReply => {
      const outSeq = Number(/\d+(?=[a-z]?$)/.exec(body)?.[0]);
      return { key, born: "b0", outSeq, body: Buffer.from(body), ...(extra !== undefined && { extra }) };
    });
    this.committer.add({
      key,
      takeWrite: () => {
        for (const reply of replies) this.#world.replied(reply);
        return {
          write: { key, record, ids: null, idsTtlMs: null, transcript: [] },
          replies,
          consumed: [],
          dead: [],
          deadDone: [],
          sends: [],
        };
      },
      committed: () => undefined,
    });
  }

  /** kill -9 */
  kill(): void {
    if (this.isDead) return;
    this.isDead = true;
    this.committer.stop();
    (this.lanes as Lanes | undefined)?.stop();
    void this.#reader?.stop();
    void this.#store.close();
    this.#actors.stop();
  }
}

export class World {
  readonly environment: VirtualEnvironment;
  readonly data: MemoryData = new MemoryData();
  readonly recipient: Recipient;
  readonly settings: Settings = settings();
  readonly log: RecordingLog = new RecordingLog();
  readonly lives: Life[] = [];
  /** Markers and other messages that came out of the inbox. */
  readonly consumed: MailboxMessage[] = [];
  /** What broke a rule that holds at each commit. */
  readonly wrong: string[] = [];
  wakeUpsArrive = true;
  /** Its shard takes another epoch. */
  onCommitterFailed: (life: Life) => void = () => undefined;
  /** Applied, over all lives. */
  commits = 0;
  /** Became dead letters, also such as were redriven since: `<lane> <name>`. */
  readonly everDead = new Set<string>();
  /** Each reply of each lane that a commit was asked to write, in order, by name. */
  readonly #replied = new Map<ConversationKey, string[]>();
  /** Stood in the store before. */
  readonly #stored = new Map<ConversationKey, Set<string>>();
  #epoch = 0;

  constructor(seed = 5) {
    this.environment = new VirtualEnvironment(seed);
    this.recipient = new Recipient(this.environment);
  }

  get shard(): MemoryShard {
    return this.data.shard(0);
  }

  get deadLetterCount(): DeadLetterCount {
    return { count: this.shard.deadCount, bytes: this.shard.deadBytes };
  }

  async life(diesAtCommit = Number.POSITIVE_INFINITY): Promise<Life> {
    const store = new MemoryStore(this.environment, this.data).shard(0);
    await store.acquire({ node: "n", observedEpoch: this.#epoch, leaseMs: 5_000 });
    this.#epoch += 1;
    const life = new Life(this, this.#epoch);
    life.diesAtCommit = diesAtCommit;
    this.lives.push(life);
    await life.start();
    return life;
  }

  kill(): void {
    for (const life of this.lives) life.kill();
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.environment.after(ms, resolve));
  }

  /** A wake-up outlives who left it: it rings whoever lives then. */
  wakeUp(alarm: Alarm, delayMs: number): void {
    if (!this.wakeUpsArrive) return;
    for (const afterMs of this.settings.wakeUps(delayMs))
      this.environment.after(afterMs, () => {
        for (const life of this.lives) if (!life.isDead) life.ring(alarm);
      });
  }

  /** What an operator asks goes through the inbox. */
  async control(key: ConversationKey, ...controls: LaneControl[]): Promise<void> {
    const batch = new InboxBatch();
    for (const control of controls) batch.addLaneControl(key, control);
    await new MemoryStore(this.environment, this.data).shard(0).append(batch.finish(), 1_048_576);
  }

  laneState(key: ConversationKey): LaneState | null {
    const stored = this.shard.lanes.get(key);
    return stored === undefined ? null : decodeLaneState(stored);
  }

  deadLetters(): { reason: string; outSeq: number; part?: number; body: string; letter: string }[] {
    return this.shard.dead.entries.map(({ id, bytes }) => {
      const letter = JSON.parse(Buffer.from(bytes).toString()) as { reason: string; outSeq: number; body: string };
      return { ...letter, body: Buffer.from(letter.body, "base64").toString(), letter: formatEntryId(id) };
    });
  }

  markers(): { to: string; id: string; outSeq: number; reason: string }[] {
    return this.consumed.flatMap((message) => {
      if (message.kind !== "message" || message.extra?.deliveryFailed === undefined) return [];
      return [{ to: message.key, id: message.id, ...message.extra.deliveryFailed }];
    });
  }

  /** Everything that was replied is delivered and acknowledged, or buried. */
  async through(limitMs: number): Promise<void> {
    await quiet();
    await this.environment.until(() => this.isEmpty, limitMs, "the outbox is worked off");
  }

  get isEmpty(): boolean {
    return this.shard.outbox.entries.length + this.shard.laneLists.size === 0;
  }

  replied({ key, born, outSeq, extra }: OutboxReply): void {
    const names = this.#replied.get(key) ?? [];
    this.#replied.set(key, names);
    const name = replyName({ born, outSeq, part: extra?.part });
    if (names.includes(name)) names.splice(names.indexOf(name), 1); // a life ended before it was stored
    names.push(name);
  }

  /** By lane, undelivered as the store says. */
  places(key: ConversationKey): Places {
    const { shard } = this;
    const outbox = shard.outbox.entries.flatMap(({ id, bytes }) => {
      const done = shard.acks.get(formatEntryId(id)) ?? NOTHING;
      return once(bytes, repliesIn).filter((reply, i) => reply.key === key && !hasBit(done, i));
    });
    const list = (shard.laneLists.get(key)?.entries ?? []).flatMap(({ bytes }) => once(bytes, repliesIn));
    const dead = shard.dead.entries
      .flatMap(({ bytes }) => once(bytes, deadReplyIn))
      .filter((reply) => reply.key === key);
    return { outbox, list, dead };
  }

  /** B1 and B2, as the store says after each commit. */
  committed(): void {
    this.commits += 1;
    for (const [key, names] of this.#replied) this.#check(key, names);
  }

  #check(key: ConversationKey, names: readonly string[]): void {
    const { outbox, list, dead } = this.places(key);
    const wrong = (what: string): void => void this.wrong.push(`commit ${this.commits}, ${key}: ${what}`);
    const all = [...outbox, ...list, ...dead].map(({ name }) => name);
    if (new Set(all).size < all.length) wrong(`in two places: ${all.join(" ")}`);
    const waiting = [...list, ...outbox].filter(({ isRedriven }) => !isRedriven).map(({ name }) => names.indexOf(name));
    if (waiting.some((place, i) => i > 0 && place <= waiting[i - 1]!)) wrong(`out of order: ${waiting.join(" ")}`);
    const stored = this.#stored.get(key) ?? new Set();
    this.#stored.set(key, stored);
    for (const name of all) stored.add(name);
    for (const { name } of dead) this.everDead.add(`${key} ${name}`);
    this.#checkState(key, list, wrong);
  }

  #checkState(key: ConversationKey, list: Places["list"], wrong: (what: string) => void): void {
    const entries = this.shard.laneLists.get(key)?.entries ?? [];
    const said = this.laneState(key)?.list ?? { nextId: 1, count: 0, bytes: 0 };
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes.length, 0);
    if (said.count !== list.length || said.bytes !== bytes)
      wrong(`the list has ${list.length} in ${bytes} bytes, its state says ${said.count} in ${said.bytes}`);
    if (entries.length > 0 && said.nextId <= entries.at(-1)!.id.ms) wrong("an id of the list comes twice");
  }

  /** Those that stood in the store once, in the order of their commits. */
  storedNames(key: ConversationKey): readonly string[] {
    return (this.#replied.get(key) ?? []).filter((name) => this.#stored.get(key)?.has(name));
  }
}

interface Placed {
  readonly key: ConversationKey;
  readonly name: string;
  readonly isRedriven: boolean;
}

export interface Places {
  readonly outbox: readonly Placed[];
  readonly list: readonly Placed[];
  readonly dead: readonly Placed[];
}

const NOTHING = new Uint8Array(0);
const known = new WeakMap<Uint8Array, readonly Placed[]>();

/** What is stored is never changed: it is read once. */
function once(bytes: Uint8Array, read: (bytes: Uint8Array) => readonly Placed[]): readonly Placed[] {
  const replies = known.get(bytes) ?? read(bytes);
  known.set(bytes, replies);
  return replies;
}

const repliesIn = (bytes: Uint8Array): readonly Placed[] => decodeOutboxEntry(Buffer.from(bytes)).replies.map(placed);
const deadReplyIn = (bytes: Uint8Array): readonly Placed[] => [placed(decodeDeadReply(bytes))];

function placed(reply: OutboxReply | null): Placed {
  if (reply === null) throw new TypeError("a stored reply cannot be read");
  const { key, born, outSeq, extra } = reply;
  return { key, name: replyName({ born, outSeq, part: extra?.part }), isRedriven: extra?.isRedriven === true };
}

export function botNamed(name: string): BotDefinition {
  return {
    name,
    version: 1,
    initialState: () => null,
    onMessage: (state) => state,
    ordering: name === "available" ? "available" : "strict",
  };
}
