// Store log: what the transactions of an append-only file did, as events of a history. A fold: transactions in, events out; of
// conversations it keeps the cursor, the number of replies and what is on their waiting lists, of shards the owner, the timers, what
// was taken from other shards, and what is in inbox and outbox.
//
// Rules, by the invariant of verdict.ts that they attack; those of a single conversation are in log-judge.ts, those of where its
// replies stand in lane-log.ts
//   I1  send-lost      a batch of sends left the outbox and the shard that it was for had not taken it
//   I2  send-again     a shard took what stands at or below what it had taken of that shard before
//       send-unmarked  a send from another shard came in without a mark of what was taken
//   I10 epoch-back     a shard was acquired under an epoch that is not one more than the former
//       number-gap     a commit's number is not one more than the one before it in its epoch
//       unowned        a record, ids, a list or replies were written by a transaction that is no commit of an owned shard
//   I13 timer-lost     a timer was taken away, and not by a commit, and is not in the inbox
//       timer-again    timers came into the inbox, and none of them was set, or they had come before

import { decodeDeadLetter } from "../codec/dead-letter-codec.ts";
import { decodeInboxEntry, decodeWaiting, hashKeyOf } from "../codec/inbox-codec.ts";
import { decodeLaneState } from "../codec/lane-codec.ts";
import { decodeOutboxEntry, type OutboxReply } from "../codec/outbox-codec.ts";
import { decodeRecord } from "../codec/record-codec.ts";
import type { ExternalPlace } from "../domain/external-order.ts";
import type { Hash64 } from "../domain/hash.ts";
import {
  type ConversationId,
  type ConversationKey,
  conversationKey,
  parseConversationKey,
  shardOf,
} from "../domain/ids.ts";
import type { LaneState } from "../domain/lane.ts";
import type { InboxMessage, MailboxMessage } from "../domain/message.ts";
import {
  compareEntryIds,
  comparePositions,
  type EntryId,
  formatEntryId,
  type Position,
  parseEntryId,
} from "../domain/position.ts";
import { SLOT_BYTES } from "../domain/recent-ids.ts";
import { type ConversationRecord, type Halt, haltName } from "../domain/record.ts";
import { CodecError } from "../errors.ts";
import type {
  Admitted,
  Aside,
  CommittedAside,
  CommittedReply,
  CommittedTurns,
  DecidedId,
  Letter,
  ListedMessage,
  OwnerWrite,
  ShardWrite,
  Signal,
  StandingAside,
  StoreEvent,
} from "./history.ts";
import type { Violation } from "./judge.ts";
import { LaneLog, type LaneReply, type LaneRule } from "./lane-log.ts";
import type { Command } from "./resp.ts";

export type ShardRule =
  | LaneRule
  | "epoch-back"
  | "number-gap"
  | "unowned"
  | "send-lost"
  | "send-again"
  | "send-unmarked"
  | "timer-lost"
  | "timer-again";

/** Commands that took effect together. */
export interface Transaction {
  /** Numbers them in the order of the log. */
  readonly at: number;
  readonly commands: readonly Command[];
}

export interface StoreLogOptions {
  /** Whether the log begins with an empty store. */
  readonly isWhole: boolean;
  readonly hashOf: (bytes: Uint8Array) => string;
  readonly onEvent: (event: StoreEvent) => void;
  readonly onViolation: (violation: Violation<ShardRule>) => void;
}

interface Shard {
  readonly name: string;
  /** Null before the log shows it. */
  owner: OwnerWrite | null;
  readonly inbox: Map<string, readonly InboxPlace[]>;
  /** By entry: the shards, by number, that it hands sends over to. */
  readonly outbox: Map<string, readonly string[]>;
  readonly lanes: Map<string, Buffer>;
  readonly replies: LaneLog;
  /** By conversation, then by id. */
  readonly lists: Map<string, Map<number, ListedMessage>>;
  readonly open: Set<string>;
  readonly full: Set<string>;
  /** Members: `<generation>|<name>|<conversation key>`. */
  readonly timers: Set<string>;
  /** The last place in the outbox of each other shard, by its number, that was taken. */
  readonly taken: Map<string, EntryId>;
}

interface InboxPlace {
  readonly id: ConversationId;
  readonly key: string;
  readonly position: Position;
  /** Of a timer or an operator's verb nothing but its position counts. */
  readonly isMessage: boolean;
}

/** What one transaction writes of one conversation, while it is read. */
interface Pending {
  record: CommittedTurns["record"];
  decided: DecidedId[];
  isRewrite: boolean;
  readonly replies: CommittedReply[];
  transcribed: number;
  /** All of the record. */
  stored: ConversationRecord | null;
  listed: ListedMessage[];
  unlisted: number[];
  letters: Letter[];
  droppedNotices: number;
  /** Whether anything of it concerns what waits or is set aside. */
  hasAside: boolean;
}

/** What one transaction does to a shard besides. */
interface Sweep {
  readonly shard: Shard;
  /** Timers that left, and timers that came into the inbox. */
  readonly unset: string[];
  readonly fired: string[];
  /** Shards, by number, whose sends came in, and those of which it says so. */
  readonly sentBy: Set<string>;
  readonly marked: Set<string>;
}

export interface StoreLogFigures {
  transactions: number;
  messages: number;
  commits: number;
  /** Records as they were written; one may hold several turns. */
  records: number;
  replies: number;
  /** Messages that were moved to waiting lists. */
  listed: number;
  /** Replies that went to the lists of their lanes. */
  listedReplies: number;
  /** Payloads that fail their checksum. */
  rotten: number;
}

export class StoreLog {
  readonly figures: StoreLogFigures = {
    transactions: 0,
    messages: 0,
    commits: 0,
    records: 0,
    replies: 0,
    listed: 0,
    listedReplies: 0,
    rotten: 0,
  };
  readonly #options: StoreLogOptions;
  readonly #shards = new Map<string, Shard>();
  readonly #hashKeys = new Map<string, Hash64>();
  readonly #shardCounts = new Map<string, number>();
  readonly #ids = new Map<string, ConversationId>();
  readonly #cursors = new Map<string, Position>();
  /** Replies of a conversation so far. */
  readonly #outSeqs = new Map<string, number>();

  constructor(options: StoreLogOptions) {
    this.#options = options;
  }

  add(transaction: Transaction): void {
    this.figures.transactions += 1;
    const { at } = transaction;
    const pending = new Map<Shard, Map<string, Pending>>();
    const sweeps = new Map<Shard, Sweep>();
    const gone: { readonly shard: Shard; readonly stream: "inbox" | "outbox"; readonly entry: string }[] = [];
    const committed = new Set<Shard>();
    const touched = new Set<Shard>();
    const pendingOf: PendingOf = (shard, key) =>
      within(
        within(pending, shard, () => new Map<string, Pending>()),
        key,
        emptyPending,
      );
    const sweepOf = (shard: Shard): Sweep =>
      within(sweeps, shard, () => ({ shard, unset: [], fired: [], sentBy: new Set(), marked: new Set() }));
    for (const command of transaction.commands) {
      const { name, args } = command;
      if (name === "MSET") {
        for (let i = 0; i + 1 < args.length; i += 2) this.#set(args[i]!, args[i + 1]!, pendingOf);
        continue;
      }
      if (name === "DEL" || name === "UNLINK") {
        for (const removed of args) this.#delete(removed, at, pendingOf, touched);
        continue;
      }
      const place = args[0] && this.#placeOf(args[0]);
      if (!place) {
        if (name === "HSET") this.#meta(args);
        continue;
      }
      const { shard, what, key } = place;
      touched.add(shard);
      if (name === "SET") this.#set(args[0]!, args[1]!, pendingOf);
      else if (name === "APPEND" && what === "ids") {
        pendingOf(shard, key).decided.push(...slotsOf(args[1]!));
      } else if (name === "HSET" && what === "owner") {
        if (this.#owner(shard, fieldsOf(args), at)) committed.add(shard);
      } else if (name === "XADD") {
        const entry = streamEntryOf(args);
        if (!entry) continue;
        if (what === "inbox") this.#admit(shard, entry, at, () => sweepOf(shard));
        else if (what === "outbox") this.#reply(shard, entry, pendingOf);
        else if (what === "dead") this.#dead(shard, entry, at, pendingOf);
        else if (what === "in") this.#list(shard, key, entry, pendingOf);
        else if (what === "out") this.#listReply(shard, key, entry, at, pendingOf);
        else if (what === "transcript" && isFromBot(entry.bytes)) pendingOf(shard, key).transcribed += 1;
      } else if (name === "XDEL" && (what === "inbox" || what === "outbox")) {
        for (const entry of args.slice(1)) gone.push({ shard, stream: what, entry: entry.toString("latin1") });
      } else if (name === "XDEL" && what === "out") {
        for (const entry of args.slice(1)) shard.replies.left(key, listIdOf(entry.toString("latin1")));
      } else if (name === "XDEL" && what === "dead") {
        for (const entry of args.slice(1)) this.#exhume(shard, entry.toString("latin1"), at);
      } else if (name === "XDEL" && what === "in") {
        for (const entry of args.slice(1)) this.#unlist(shard, key, listIdOf(entry.toString("latin1")), pendingOf);
      } else if (name === "HSET" && what === "acks") {
        for (const [entry, bitmap] of fieldsOf(args)) shard.replies.acked(entry, Uint8Array.from(bitmap));
      } else if (name === "HSET" && what === "lanes") {
        for (const [lane, state] of fieldsOf(args)) this.#lane(shard, lane, Buffer.from(state));
      } else if (name === "HDEL" && what === "lanes") {
        for (const lane of args.slice(1)) this.#lane(shard, lane.toString(), null);
      } else if (what === "open" && (name === "HSET" || name === "HDEL")) {
        const keys = name === "HSET" ? [...fieldsOf(args).keys()] : args.slice(1).map(String);
        this.#index(shard, "open", keys, name === "HSET", pendingOf);
      } else if (what === "full" && (name === "SADD" || name === "SREM")) {
        this.#index(shard, "full", args.slice(1).map(String), name === "SADD", pendingOf);
      } else if (what === "timers" && name === "ZADD") {
        for (let i = args.length - 1; i >= 2; i -= 2) shard.timers.add(args[i]!.toString());
      } else if (what === "timers" && name === "ZREM") {
        for (const member of args.slice(1).map(String)) {
          if (shard.timers.delete(member)) sweepOf(shard).unset.push(member);
        }
      } else if (what === "from" && name === "HSET") {
        for (const [source, taken] of fieldsOf(args)) this.#take(sweepOf(shard), source, taken.toString(), at);
      }
    }
    for (const [shard, conversations] of pending) {
      for (const [key, written] of conversations) this.#commit(shard, key, written, at, committed.has(shard));
    }
    for (const sweep of sweeps.values()) this.#swept(sweep, at, committed.has(sweep.shard));
    for (const { shard, stream, entry } of gone) this.#remove(shard, stream, entry, at);
    for (const shard of touched) this.#settle(shard, at, committed.has(shard));
  }

  /** To be called once, after the last transaction. */
  end(): void {
    const at = this.figures.transactions;
    for (const shard of this.#shards.values()) {
      for (const places of shard.inbox.values()) {
        for (const { id, key, position, isMessage } of places) {
          if (!isMessage || this.#isDecided(shard, key, position)) continue;
          this.#options.onEvent({ kind: "waiting", ...id, at, position });
        }
      }
      for (const reply of shard.replies.undelivered()) this.#options.onEvent(this.#aboutReply("open", reply, at));
      for (const lane of shard.lanes.keys()) {
        const stored = this.#stateOf(shard, lane);
        if (stored === null || (stored.state !== "halted" && stored.state !== "closed")) continue;
        this.#options.onEvent({ kind: "halted", ...this.#idOf(lane), at, outSeq: stored.outSeq });
      }
      for (const key of shard.open) this.#options.onEvent({ kind: "unfinished", ...this.#idOf(key), at });
    }
  }

  #meta(args: readonly Buffer[]): void {
    const name = args[0]?.toString() ?? "";
    if (!name.endsWith(":meta") || name.includes("{")) return;
    const fields = fieldsOf(args);
    const hashKey = fields.get("hash_key");
    const namespace = name.slice(0, -"meta".length);
    if (hashKey?.length === 8) this.#hashKeys.set(namespace, hashKeyOf(hashKey));
    const shards = Number(fields.get("shards"));
    if (shards > 0) this.#shardCounts.set(namespace, shards);
  }

  #placeOf(key: Buffer): { shard: Shard; what: string; key: string } | undefined {
    const name = key.toString();
    const open = name.indexOf("{");
    const close = name.indexOf("}:", open);
    if (open < 1 || close < 0) return undefined;
    const prefix = name.slice(0, close + 1);
    const colon = name.indexOf(":", close + 2);
    const what = name.slice(close + 2, colon < 0 ? undefined : colon);
    const make = (): Shard => ({
      name: prefix,
      owner: null,
      inbox: new Map(),
      outbox: new Map(),
      lanes: new Map(),
      replies: new LaneLog(this.#options.isWhole),
      lists: new Map(),
      open: new Set(),
      full: new Set(),
      timers: new Set(),
      taken: new Map(),
    });
    return { shard: within(this.#shards, prefix, make), what, key: colon < 0 ? "" : name.slice(colon + 1) };
  }

  #set(name: Buffer, value: Buffer, pendingOf: PendingOf): void {
    const place = this.#placeOf(name);
    if (place?.what === "c") {
      const pending = pendingOf(place.shard, place.key);
      const read = readRecord(value);
      pending.record = read.record;
      pending.stored = read.stored;
    } else if (place?.what === "ids") {
      const pending = pendingOf(place.shard, place.key);
      pending.decided = slotsOf(value);
      pending.isRewrite = true;
    }
  }

  /** Only ids and transcripts expire, and a list goes with its last entry; no script does this to what else it names. */
  #delete(name: Buffer, at: number, pendingOf: PendingOf, touched: Set<Shard>): void {
    const place = this.#placeOf(name);
    if (place) touched.add(place.shard);
    if (place?.what === "out") place.shard.replies.leftAll(place.key);
    if (place?.what === "in") {
      const { shard, key } = place;
      for (const id of [...(shard.lists.get(key)?.keys() ?? [])]) this.#unlist(shard, key, id, pendingOf);
    }
    if (place?.what === "c") pendingOf(place.shard, place.key).record = "the record was removed";
    if (place?.what === "inbox" || place?.what === "outbox") {
      const entries = place.what === "inbox" ? place.shard.inbox.keys() : place.shard.replies.entries();
      for (const entry of [...entries]) this.#remove(place.shard, place.what, entry, at);
    }
  }

  /** @returns whether it is a commit of the owner that the log shows */
  #owner(shard: Shard, fields: ReadonlyMap<string, Buffer>, at: number): boolean {
    const { owner } = shard;
    const n = Number(fields.get("n") ?? Number.NaN);
    const say = (rule: ShardRule, detail: string, line: OwnerWrite): void =>
      this.#options.onViolation({ rule, conversation: shard.name, detail, slice: owner ? [owner, line] : [line] });
    if (fields.has("epoch")) {
      const epoch = Number(fields.get("epoch"));
      const node = fields.get("node")?.toString() ?? owner?.node ?? "";
      const line: OwnerWrite = { kind: "owner", at, shard: shard.name, epoch, n: 0, node };
      const expected = owner ? owner.epoch + 1 : 1;
      if (epoch !== expected && (owner || this.#options.isWhole)) {
        say("epoch-back", `epoch ${epoch} was taken after ${expected - 1}`, line);
      }
      shard.owner = line;
      return false;
    }
    if (Number.isNaN(n)) return false;
    this.figures.commits += 1;
    const line = { ...(owner ?? { kind: "owner", shard: shard.name, epoch: 0, node: "" }), at, n };
    if (owner && n !== owner.n + 1)
      say("number-gap", `commit ${n} of epoch ${owner.epoch} came after ${owner.n}`, line);
    if (!owner && this.#options.isWhole) say("unowned", `commit ${n} came before anybody owned the shard`, line);
    shard.owner = line;
    return true;
  }

  #admit(shard: Shard, { id, bytes }: StreamEntry, at: number, sweepOf: () => Sweep): void {
    const hashKey = this.#hashKeyOf(shard);
    const entryId = parseEntryId(id);
    const places: InboxPlace[] = [];
    const { messages, rotten } = this.#readable(
      () => decodeInboxEntry(bytes, { id: entryId, bytes: bytes.length, undecided: 0 }, hashKey),
      { messages: [], laneControls: [], rotten: [bytes] },
    );
    this.figures.rotten += rotten.length;
    for (const message of messages) {
      const conversation = this.#idOf(message.key);
      const where = copyOf(message.position);
      const isMessage = message.kind === "message";
      places.push({ id: conversation, key: message.key, position: where, isMessage });
      if (message.kind === "message") {
        this.figures.messages += 1;
        this.#options.onEvent(admitted(message, conversation, where, at, shard.name));
        if (message.extra?.from && message.extra.redrives === undefined) this.#sent(shard, message.extra.from, sweepOf);
      } else {
        this.#options.onEvent(signal(message, conversation, where, at, shard.name));
        if (message.kind === "timer") sweepOf().fired.push(`${message.generation}|${message.name}|${message.key}`);
      }
    }
    shard.inbox.set(id, places);
  }

  /** What comes from another shard must come with the mark of what was taken of it. */
  #sent(shard: Shard, from: ConversationId, sweepOf: () => Sweep): void {
    const shards = this.#shardCounts.get(namespaceOf(shard)) ?? 1;
    const source = shardOf(conversationKey(from), shards);
    if (source !== numberOf(shard)) sweepOf().sentBy.add(String(source));
  }

  #take(sweep: Sweep, source: string, taken: string, at: number): void {
    const { shard } = sweep;
    const before = shard.taken.get(source);
    const now = parseEntryId(taken);
    sweep.marked.add(source);
    shard.taken.set(source, now);
    if (!before || compareEntryIds(now, before) > 0) return;
    const detail = `what shard ${source} sent at ${taken} was taken after ${formatEntryId(before)} had been`;
    this.#tell("send-again", shard, detail, at);
  }

  #swept({ shard, unset, fired, sentBy, marked }: Sweep, at: number, isCommit: boolean): void {
    // What was taken back since it was found due comes along, and its generation says that it counts no more.
    if (fired.length > 0 && unset.length === 0 && this.#options.isWhole) {
      const detail = `${fired[0]} came into the inbox and was not among the timers, or had come before`;
      this.#tell("timer-again", shard, detail, at);
    }
    if (!isCommit) {
      for (const member of unset) {
        if (!fired.includes(member)) this.#tell("timer-lost", shard, `${member} left the timers and came nowhere`, at);
      }
    }
    for (const source of sentBy) {
      if (marked.has(source)) continue;
      const detail = `a send of shard ${source} came in, and nothing says that it was taken`;
      this.#tell("send-unmarked", shard, detail, at);
    }
  }

  #tell(rule: ShardRule, shard: Shard, what: string, at: number): void {
    const line: ShardWrite = { kind: "shard", at, shard: shard.name, what };
    this.#options.onViolation({ rule, conversation: shard.name, detail: what, slice: [line] });
  }

  #list(shard: Shard, key: string, { id, bytes }: StreamEntry, pendingOf: PendingOf): void {
    const hashKey = this.#hashKeyOf(shard);
    const listed: ListedMessage = { id: listIdOf(id), message: this.#readable(() => listedOf(bytes, hashKey), null) };
    if (listed.message === null) this.figures.rotten += 1;
    within(shard.lists, key, () => new Map<number, ListedMessage>()).set(listed.id, listed);
    this.figures.listed += 1;
    const pending = pendingOf(shard, key);
    pending.hasAside = true;
    pending.listed.push(listed);
  }

  #unlist(shard: Shard, key: string, id: number, pendingOf: PendingOf): void {
    const list = shard.lists.get(key);
    if (!list?.delete(id)) return;
    if (list.size === 0) shard.lists.delete(key);
    const pending = pendingOf(shard, key);
    pending.hasAside = true;
    pending.unlisted.push(id);
  }

  #index(shard: Shard, which: "open" | "full", keys: readonly string[], isIn: boolean, pendingOf: PendingOf): void {
    for (const key of keys) {
      if (isIn) shard[which].add(key);
      else shard[which].delete(key);
      pendingOf(shard, key).hasAside = true;
    }
  }

  #reply(shard: Shard, { id, bytes }: StreamEntry, pendingOf: PendingOf): void {
    const targets: string[] = [];
    const places = this.#repliesIn(bytes).map((reply): LaneReply | null => {
      if (reply === null) return null;
      const { channel, conversation } = this.#idOf(reply.key);
      if (channel === TRANSFER_CHANNEL) {
        targets.push(conversation);
        return null;
      }
      pendingOf(shard, reply.key).replies.push(this.#committed(reply));
      return { key: reply.key, outSeq: reply.outSeq, part: reply.extra?.part };
    });
    this.figures.replies += places.length;
    if (targets.length > 0) shard.outbox.set(id, targets);
    shard.replies.sent(id, places);
  }

  /** One that moved there, one that came back from the dead letters, or one that this transaction made. */
  #listReply(shard: Shard, key: string, { id, bytes }: StreamEntry, at: number, pendingOf: PendingOf): void {
    for (const reply of this.#repliesIn(bytes)) {
      if (reply === null) continue;
      const { outSeq } = reply;
      if (reply.key !== key) {
        const whose = [reply.key, key].map((each) => JSON.stringify(this.#idOf(each).conversation));
        this.#tell(
          "lane-astray",
          shard,
          `reply ${outSeq} of ${whose[0]} came onto the list of the lane of ${whose[1]}`,
          at,
        );
        continue;
      }
      const before = this.#outSeqs.get(`${shard.name}${key}`) ?? (this.#options.isWhole ? 0 : undefined);
      const isNew = before === undefined ? undefined : outSeq > before;
      if (isNew) {
        this.figures.replies += 1;
        pendingOf(shard, key).replies.push(this.#committed(reply));
      }
      this.figures.listedReplies += 1;
      shard.replies.joined(listIdOf(id), { key, outSeq, part: reply.extra?.part }, isNew);
    }
  }

  #repliesIn(bytes: Buffer): readonly (OutboxReply | null)[] {
    const { replies, rotten } = this.#readable(() => decodeOutboxEntry(bytes), { replies: [], rotten: [bytes] });
    this.figures.rotten += rotten.length;
    return replies;
  }

  #committed({ outSeq, born, body, extra }: OutboxReply): CommittedReply {
    const reply: CommittedReply = { outSeq, born, bodyHash: this.#options.hashOf(body) };
    return extra?.part === undefined ? reply : { ...reply, part: extra.part };
  }

  #lane(shard: Shard, key: string, state: Buffer | null): void {
    if (state === null) shard.lanes.delete(key);
    else shard.lanes.set(key, state);
    shard.replies.stateChanged(key);
  }

  /** Null as well for what cannot be read: nobody can go on with that. */
  #stateOf(shard: Shard, key: string): LaneState | null {
    const bytes = shard.lanes.get(key);
    return bytes === undefined ? null : this.#readable(() => decodeLaneState(bytes), null);
  }

  /** What became of replies in a transaction, all of it read. */
  #settle(shard: Shard, at: number, isCommit: boolean): void {
    const told = (key: string): string => JSON.stringify(this.#idOf(key).conversation);
    const changed = shard.replies.settle(
      (key) => this.#stateOf(shard, key),
      (rule, key, detail) => this.#tell(rule, shard, `${detail}, in the lane of ${told(key)}`, at),
    );
    if (isCommit) return;
    for (const key of changed) {
      this.#tell(
        "unowned",
        shard,
        `transaction ${at} changed the list of the lane of ${told(key)} and is no commit`,
        at,
      );
    }
  }

  #exhume(shard: Shard, letter: string, at: number): void {
    const reply = shard.replies.exhumed(letter);
    if (reply !== undefined) this.#options.onEvent(this.#aboutReply("redriven", reply, at));
  }

  #aboutReply(kind: "dead" | "redriven" | "open", { key, outSeq, part }: LaneReply, at: number): Aside {
    return { kind, ...this.#idOf(key), at, outSeq, ...(part !== undefined && { part }) };
  }

  #readable<Value>(read: () => Value, otherwise: Value): Value {
    try {
      return read();
    } catch (error) {
      if (error instanceof CodecError) return otherwise;
      throw error;
    }
  }

  #dead(shard: Shard, { id, bytes }: StreamEntry, at: number, pendingOf: PendingOf): void {
    const letter = decodeDeadLetter(bytes);
    const { direction, bot, channel, conversation, outSeq, part } = letter;
    if (bot === null || channel === null || conversation === null) return;
    if (direction === "out" && outSeq !== null) {
      const key = conversationKey({ bot, channel, conversation });
      const reply: LaneReply = { key, outSeq, part: part ?? undefined };
      shard.replies.buried(id, reply);
      this.#options.onEvent(this.#aboutReply("dead", reply, at));
    }
    if (direction === "in" && letter.reason === "notice") {
      const pending = pendingOf(shard, conversationKey({ bot, channel, conversation }));
      pending.hasAside = true;
      pending.droppedNotices += 1;
    }
    const outcome = LETTER_OUTCOMES[letter.reason];
    if (direction !== "in" || outcome === undefined) return;
    const hashKey = this.#hashKeyOf(shard);
    const message = this.#readable(() => listedOf(letter.payload, hashKey), null);
    if (message === null) return;
    const pending = pendingOf(shard, conversationKey({ bot, channel, conversation }));
    pending.hasAside = true;
    pending.letters.push({ idHash: message.idHash, outcome });
  }

  #commit(shard: Shard, key: string, written: Pending, at: number, isCommit: boolean): void {
    const { record, decided, isRewrite, replies, transcribed } = written;
    const { epoch = 0, n = 0 } = shard.owner ?? {};
    const id = this.#idOf(key);
    const aside = asideOf(shard, key, written);
    const event: CommittedTurns = {
      kind: "committed",
      ...id,
      at,
      shard: shard.name,
      epoch,
      n,
      record,
      decided,
      isRewrite,
      replies,
      transcribed,
      ...(aside && { aside }),
    };
    if (!isCommit) {
      const detail = `transaction ${at} wrote ${JSON.stringify(id.conversation)} and is no commit of the owner`;
      this.#options.onViolation({ rule: "unowned", conversation: shard.name, detail, slice: [event] });
    }
    if (record !== null) this.figures.records += 1;
    if (record !== null && typeof record !== "string") {
      this.#cursors.set(`${shard.name}${key}`, record.cursor);
      this.#outSeqs.set(`${shard.name}${key}`, record.outSeq);
    }
    this.#options.onEvent(event);
  }

  #remove(shard: Shard, stream: "inbox" | "outbox", entry: string, at: number): void {
    if (stream === "outbox") {
      for (const target of shard.outbox.get(entry) ?? []) this.#handedOver(shard, target, entry, at);
      shard.outbox.delete(entry);
      shard.replies.removed(entry);
      return;
    }
    for (const { id, key, position, isMessage } of shard.inbox.get(entry) ?? []) {
      if (!isMessage || this.#isDecided(shard, key, position)) continue;
      this.#options.onEvent({ kind: "let-go", ...id, at, position });
    }
    shard.inbox.delete(entry);
  }

  #handedOver(shard: Shard, target: string, entry: string, at: number): void {
    const name = `${namespaceOf(shard)}{${target.padStart(2, "0")}}`;
    const taken = this.#shards.get(name)?.taken.get(String(numberOf(shard)));
    if (taken && compareEntryIds(taken, parseEntryId(entry)) >= 0) return;
    this.#tell("send-lost", shard, `outbox entry ${entry} went, and shard ${target} had not taken its sends`, at);
  }

  #hashKeyOf(shard: Shard): Hash64 {
    return this.#hashKeys.get(namespaceOf(shard)) ?? NO_HASH_KEY;
  }

  #isDecided(shard: Shard, key: string, position: Position): boolean {
    const cursor = this.#cursors.get(`${shard.name}${key}`);
    return cursor !== undefined && comparePositions(position, cursor) <= 0;
  }

  /** One object for each conversation, however often it is named. */
  #idOf(key: string): ConversationId {
    return within(this.#ids, key, () => parseConversationKey(key as ConversationKey));
  }
}

type PendingOf = (shard: Shard, key: string) => Pending;

const emptyPending = (): Pending => ({
  record: null,
  decided: [],
  isRewrite: false,
  replies: [],
  transcribed: 0,
  stored: null,
  listed: [],
  unlisted: [],
  letters: [],
  droppedNotices: 0,
  hasAside: false,
});

const NO_HASH_KEY: Hash64 = { lo: 0, hi: 0 };
/** What lanes to other shards are named, among those of conversations. */
const TRANSFER_CHANNEL = "!transfer";
/** A dead letter of another reason is none of a message that a conversation decided. */
const LETTER_OUTCOMES: Readonly<Record<string, Letter["outcome"] | undefined>> = {
  poison: "dead",
  hops: "dead",
  rejected: "dead",
  late: "late",
  skipped: "skipped",
};

const namespaceOf = ({ name }: Shard): string => name.slice(0, name.indexOf("{"));
const numberOf = ({ name }: Shard): number => Number(name.slice(name.indexOf("{") + 1, -1));
const listIdOf = (id: string): number => parseEntryId(id).ms;

function admitted(
  message: InboxMessage,
  conversation: ConversationId,
  position: Position,
  at: number,
  shard: string,
): Admitted {
  const { id, idHash, sequence, extra } = message;
  const event: Admitted = { kind: "admitted", ...conversation, id, at, shard, position, idHash };
  if (sequence === undefined && extra === null) return event;
  return {
    ...event,
    ...(sequence !== undefined && { place: { epoch: extra?.epoch ?? 0, sequence } }),
    ...(extra?.from !== undefined && { by: "turn" }),
    ...(extra?.deliveryFailed !== undefined && { by: "lane" }),
    ...(extra?.redrives !== undefined && { by: "redrive" }),
  };
}

function signal(
  message: Exclude<MailboxMessage, InboxMessage>,
  conversation: ConversationId,
  position: Position,
  at: number,
  shard: string,
): Signal {
  const event: Signal = { kind: "signal", ...conversation, at, shard, position };
  return message.kind === "control" ? { ...event, halt: message.control.halt } : event;
}

function listedOf(bytes: Uint8Array, hashKey: Hash64): ListedMessage["message"] {
  const { position, idHash } = decodeWaiting(bytes, null, hashKey);
  return { position: copyOf(position), idHash };
}

function asideOf(shard: Shard, key: string, written: Pending): CommittedAside | undefined {
  const { stored, listed, unlisted, letters, hasAside } = written;
  const standing = stored && standingOf(stored);
  if (!hasAside && standing === null && !shard.open.has(key) && !shard.full.has(key)) return undefined;
  return {
    ...(standing && { standing }),
    listed,
    unlisted,
    letters,
    droppedNotices: written.droppedNotices,
    isOpen: shard.open.has(key),
    isFull: shard.full.has(key),
  };
}

function standingOf(stored: ConversationRecord): StandingAside | null {
  if (stored.extra === null) return null;
  const { waiting, halt, openTurn, order, notices, suspect } = stored.extra;
  return {
    waiting: waiting?.count ?? 0,
    isFull: waiting?.isFull ?? false,
    ...(halt && { halt: { reason: halt.reason, name: haltName(stored) ?? "", ...missingIn(halt) } }),
    ...(openTurn && {
      openTurn: {
        position: openTurn.position,
        repliesOut: openTurn.repliesOut,
        steps: openTurn.steps.map((step) => JSON.stringify(step)),
      },
    }),
    ...(order && { order }),
    notices: notices?.length ?? 0,
    ...(suspect !== undefined && { isSuspect: true }),
  };
}

const missingIn = ({ missing }: Halt): { missing?: ExternalPlace } => (missing === undefined ? {} : { missing });

interface StreamEntry {
  readonly id: string;
  readonly bytes: Buffer;
}

/** `XADD key [MAXLEN = n] id b bytes`, as scripts are logged: with the id that was given out. */
function streamEntryOf(args: readonly Buffer[]): StreamEntry | undefined {
  const bytes = args.at(-1);
  const id = args.at(-3)?.toString("latin1");
  return bytes && id && args.at(-2)?.toString("latin1") === "b" ? { id, bytes } : undefined;
}

function fieldsOf(args: readonly Buffer[]): Map<string, Buffer> {
  const fields = new Map<string, Buffer>();
  for (let i = 1; i + 1 < args.length; i += 2) fields.set(args[i]!.toString(), args[i + 1]!);
  return fields;
}

function slotsOf(bytes: Buffer): DecidedId[] {
  const slots: DecidedId[] = [];
  for (let at = 0; at + SLOT_BYTES <= bytes.length; at += SLOT_BYTES) {
    const hash = { lo: bytes.readUInt32LE(at), hi: bytes.readUInt32LE(at + 4) };
    slots.push({ hash, second: bytes.readUInt32LE(at + 8) });
  }
  return slots;
}

function readRecord(bytes: Buffer): Pick<Pending, "record" | "stored"> {
  try {
    const { record: stored } = decodeRecord(bytes);
    const { seq, outSeq, cursor, born, chain } = stored;
    return { record: { seq, outSeq, cursor, born, chain }, stored };
  } catch (error) {
    if (error instanceof CodecError) return { record: error.message, stored: null };
    throw error;
  }
}

function isFromBot(line: Buffer): boolean {
  try {
    return (JSON.parse(line.toString()) as { role?: unknown }).role === "bot";
  } catch {
    return false;
  }
}

const copyOf = ({ entry, index }: { readonly entry: EntryId; readonly index: number }): Position => ({
  entry: { ms: entry.ms, seq: entry.seq },
  index,
});

function within<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
