// Conversations on real actors and running turns, with a committer that commits when the test says so.

import { ActorSystem } from "../../../actors/actor-system.ts";
import type { Committable, PendingWrite } from "../../../actors/committer.ts";
import type { ConversationBounds, ConversationPorts } from "../../../actors/conversation/core.ts";
import { ConversationActor } from "../../../actors/conversation-actor.ts";
import { RunningTurns } from "../../../actors/running-turns.ts";
import type { AnyBot } from "../../../src/app-types.ts";
import type { Channel } from "../../../src/channels/channel.ts";
import { checkBots } from "../../../src/check-bot.ts";
import { type DeadLetter, decodeDeadLetter } from "../../../src/codec/dead-letter-codec.ts";
import { decodeInboxEntry, decodeWaiting, InboxBatch } from "../../../src/codec/inbox-codec.ts";
import { decodeOpenEntry, type OpenEntry } from "../../../src/codec/open-codec.ts";
import { type DecodedRecord, decodeRecord } from "../../../src/codec/record-codec.ts";
import { resolveConfig } from "../../../src/config.ts";
import { conversationKey } from "../../../src/domain/ids.ts";
import type {
  Control,
  Inbound,
  InboxEntry,
  InboxMessage,
  MailboxMessage,
  MessageExtra,
} from "../../../src/domain/message.ts";
import { formatEntryId } from "../../../src/domain/position.ts";
import { type Counters, newCounters } from "../../../src/metrics.ts";
import type { AsideWrite, StoredConversation } from "../../../src/store/shard-store.ts";
import { quiet } from "../../support/quiet.ts";
import { RecordingLog } from "../../support/recording-log.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";

export const testChannel = (options: Partial<Channel> = {}): Channel => ({
  name: "test",
  delivery: "lane",
  render: ({ outSeq, inReplyTo, reply }) => Buffer.from(JSON.stringify({ outSeq, inReplyTo, ...reply })),
  send: () => Promise.resolve({ kind: "delivered" }),
  ...options,
});

export interface RigOptions {
  readonly bounds?: Partial<ConversationBounds>;
  readonly runningTurnsMax?: number;
  readonly channel?: Channel;
  /** Commits by itself as soon as something is decided. */
  readonly commits?: "itself" | "by hand";
  readonly environment?: VirtualEnvironment;
  readonly ports?: Partial<ConversationPorts>;
}

/** The environment of a shard: what conversations are given. */
export class ConversationRig {
  readonly environment: VirtualEnvironment;
  readonly log: RecordingLog = new RecordingLog();
  readonly crashes: unknown[] = [];
  readonly finished: InboxEntry[] = [];
  readonly writes: PendingWrite[] = [];
  readonly stored: Map<string, StoredConversation> = new Map();
  readonly running: RunningTurns;
  readonly bounds: ConversationBounds;
  readonly dirty: Set<Committable> = new Set();
  /** Conversations that asked for what is stored of them. */
  readonly loads: ConversationActor[] = [];
  /** By conversation: what stands on the waiting list, by id. */
  readonly lists: Map<string, Map<number, Uint8Array>> = new Map();
  /** The index of the unfinished, by conversation. */
  readonly open: Map<string, OpenEntry> = new Map();
  /** Due times by `<generation> <name> <conversation>`. */
  readonly timers: Map<string, number> = new Map();
  readonly full: Set<string> = new Set();
  readonly dead: DeadLetter[] = [];
  /** Dead letters that commits took away, `<entry id>`. */
  readonly deadDone: string[] = [];
  readonly blocked: Set<ConversationActor> = new Set();
  readonly counters: Counters = newCounters();
  deadLettersHaveRoom = true;
  laneHasRoom = true;
  readonly laneWaiters: (() => void)[] = [];
  #bot: AnyBot;
  readonly #lastListed = new Map<string, number>();
  readonly #options: RigOptions;
  readonly #actors: ActorSystem;
  readonly #family: ReturnType<ActorSystem["family"]>;
  #entryMs = 1_700_000_000_000;

  constructor(bot: AnyBot, options: RigOptions = {}) {
    this.environment = options.environment ?? new VirtualEnvironment(11);
    this.#bot = bot;
    this.#options = options;
    this.bounds = { ...resolveConfig({}), ...options.bounds };
    this.running = new RunningTurns(this.environment, options.runningTurnsMax ?? 1_024);
    this.#actors = new ActorSystem({
      after: this.environment.after,
      onCrash: (_actor, error) => this.crashes.push(error),
    });
    this.#family = this.#actors.family("conversation");
  }

  /** From the next conversation on. */
  deploy(bot: AnyBot): void {
    this.#bot = bot;
  }

  conversation(name = "c1"): ConversationActor {
    const [bot] = checkBots([this.#bot]);
    const id = { bot: this.#bot.name, channel: "test", conversation: name };
    const channel = this.#options.channel ?? testChannel();
    const actor = new ConversationActor(id, conversationKey(id), bot!, channel, {
      environment: this.environment,
      log: this.log.log,
      counters: this.counters,
      hashKey: HASH_KEY,
      resized: () => undefined,
      crashed: (_conversation, error) => this.crashes.push(error),
      bounds: this.bounds,
      running: this.running,
      commit: (conversation) => {
        this.dirty.add(conversation);
        if (this.#options.commits !== "by hand") this.environment.soon(() => this.commit());
      },
      finish: (entry) => void this.finished.push(entry),
      load: (conversation) => {
        this.loads.push(conversation);
        this.environment.soon(() => conversation.loaded(this.stored.get(conversation.key) ?? NOTHING_STORED));
      },
      readList: (conversation, after) => {
        const list = [...(this.lists.get(conversation.key) ?? [])].filter(([id]) => id > after);
        const page = list.slice(0, LIST_PAGE).map(([id, bytes]) => ({ id, bytes }));
        this.environment.soon(() => conversation.listRead(page));
      },
      blocked: (conversation, isBlocked) => {
        if (isBlocked) this.blocked.add(conversation);
        else this.blocked.delete(conversation);
      },
      reserveDeadLetter: () => this.deadLettersHaveRoom,
      mayRunHead: () => true,
      headIsThrough: () => undefined,
      canReach: () => true,
      hasCaughtUp: () => true,
      diedAlone: () => false,
      ...this.#options.ports,
      laneHasRoom: (_key, _replies, _bytes, onRoom) => {
        if (!this.laneHasRoom) this.laneWaiters.push(onRoom);
        return this.laneHasRoom;
      },
    });
    actor.ref = this.#family.spawn(actor, 4);
    return actor;
  }

  /** Messages of one request, as the reader would hand them on. */
  messages(
    conversation: ConversationActor,
    inbounds: readonly Partial<Inbound>[],
    extra: MessageExtra | null = null,
  ): readonly InboxMessage[] {
    const batch = new InboxBatch();
    for (const inbound of inbounds)
      batch.add(conversation.key, { to: conversation.id, id: "m", text: "", ...inbound }, extra);
    return this.#decoded(batch, inbounds.length) as readonly InboxMessage[];
  }

  #decoded(batch: InboxBatch, undecided: number): readonly MailboxMessage[] {
    const bytes = batch.finish();
    this.#entryMs = Math.max(this.#entryMs + 1, this.environment.nowMs());
    const entry: InboxEntry = { id: { ms: this.#entryMs, seq: 0 }, bytes: bytes.length, undecided };
    return decodeInboxEntry(bytes, entry, HASH_KEY).messages;
  }

  /** A due clock or timer of the conversation, as the mover would bring it: it leaves the timers. */
  fire(conversation: ConversationActor, name: string, generation: number): void {
    const batch = new InboxBatch();
    batch.addTimer({ key: conversation.key, name, generation });
    this.timers.delete(`${generation} ${name} ${conversation.key}`);
    for (const message of this.#decoded(batch, 1)) conversation.deliver(message);
  }

  /** A dead letter that an operator sends again, `times` over. */
  redrive(conversation: ConversationActor, letter: DeadLetter, redrives: string, times = 1): void {
    const message = decodeWaiting(letter.payload, null, HASH_KEY);
    for (let i = 0; i < times; i += 1) {
      const batch = new InboxBatch();
      batch.addAgain({ ...message, extra: { ...message.extra, redrives } });
      for (const again of this.#decoded(batch, 1)) conversation.deliver(again);
    }
  }

  /** What an operator asks of the conversation. */
  control(conversation: ConversationActor, verb: Control["verb"], halt: string): void {
    const batch = new InboxBatch();
    batch.addControl(conversation.key, { verb, halt, by: "operator" });
    for (const message of this.#decoded(batch, 1)) conversation.deliver(message);
  }

  /** A clock that Redis found due, at that time of its own. */
  clock(conversation: ConversationActor, name: string, generation: number, atMs: number): void {
    const batch = new InboxBatch();
    batch.addTimer({ key: conversation.key, name, generation });
    const bytes = batch.finish();
    const entry: InboxEntry = { id: { ms: atMs, seq: 0 }, bytes: bytes.length, undecided: 1 };
    for (const message of decodeInboxEntry(bytes, entry, HASH_KEY).messages) conversation.deliver(message);
  }

  /** The messages of a conversation's waiting list, in order. */
  waiting(conversation: ConversationActor): InboxMessage[] {
    return Array.from(this.lists.get(conversation.key) ?? [], ([id, bytes]) => decodeWaiting(bytes, id, HASH_KEY));
  }

  deliver(conversation: ConversationActor, ...inbounds: Partial<Inbound>[]): void {
    for (const message of this.messages(conversation, inbounds)) conversation.deliver(message);
  }

  /** One commit of all that is decided now. */
  commit(): void {
    const taken = this.take();
    for (const conversation of taken) conversation.committed();
  }

  /** The first half of a commit: it flies until `committed` is told. */
  take(): Committable[] {
    const taken = [...this.dirty];
    this.dirty.clear();
    for (const conversation of taken) {
      const pending = conversation.takeWrite();
      this.writes.push(pending);
      const { key, record, ids } = pending.write;
      const before = this.stored.get(key)?.ids ?? new Uint8Array();
      const after = ids === null ? before : ids.kind === "rewrite" ? ids.bytes : Buffer.concat([before, ids.bytes]);
      this.stored.set(key, { record, ids: after });
      for (const letter of pending.dead) this.dead.push(decodeDeadLetter(letter));
      this.deadDone.push(...pending.deadDone.map(formatEntryId));
      if (pending.write.aside !== undefined) this.#writeAside(key, pending.write.aside);
    }
    return taken;
  }

  #writeAside(key: string, { waiting, waitingDone, open, timers, full }: AsideWrite): void {
    const list = this.lists.get(key) ?? new Map<number, Uint8Array>();
    for (const { id, bytes } of waiting) {
      if (id <= (this.#lastListed.get(key) ?? 0)) throw new Error(`${id} was given out before on the list`); // as Redis does
      list.set(id, bytes);
      this.#lastListed.set(key, id);
    }
    for (const id of waitingDone) if (!list.delete(id)) throw new Error(`${id} is not on the list`);
    if (list.size > 0) this.lists.set(key, list);
    else {
      this.lists.delete(key);
      this.#lastListed.delete(key);
    }
    if (open === null) this.open.delete(key);
    else if (open !== undefined) this.open.set(key, decodeOpenEntry(open));
    for (const { name, generation, atMs } of timers) {
      if (atMs === null) this.timers.delete(`${generation} ${name} ${key}`);
      else this.timers.set(`${generation} ${name} ${key}`, atMs);
    }
    if (full === true) this.full.add(key);
    else if (full === false) this.full.delete(key);
  }

  record(conversation: ConversationActor): DecodedRecord {
    return decodeRecord(this.stored.get(conversation.key)!.record!);
  }

  state(conversation: ConversationActor): unknown {
    return JSON.parse(Buffer.from(this.record(conversation).stateBytes).toString());
  }

  /** What of all commits left as replies, in order. */
  get replies(): unknown[] {
    return this.writes.flatMap(({ replies }) =>
      replies.map(({ body }) => JSON.parse(Buffer.from(body).toString()) as unknown),
    );
  }

  /** Lets what is ready run, without time. */
  quiet(): Promise<void> {
    return quiet();
  }

  dispose(): void {
    this.#actors.stop();
  }
}

const HASH_KEY = { lo: 1, hi: 2 };
const LIST_PAGE = 3;
const NOTHING_STORED: StoredConversation = { record: null, ids: null };
