// Store log: what the transactions of an append-only file did, as events of a history. A fold: transactions in, events out; of
// conversations it keeps the cursor, of shards the owner and what is in inbox and outbox.
//
// Rules, by the invariant of verdict.ts that they attack; those of a single conversation are in log-judge.ts
//   I10 epoch-back     a shard was acquired under an epoch that is not one more than the former
//       number-gap     a commit's number is not one more than the one before it in its epoch
//       unowned        a record, ids or replies were written by a transaction that is no commit of an owned shard

import { decodeDeadLetter } from "../codec/dead-letter-codec.ts";
import { decodeInboxEntry, hashKeyOf } from "../codec/inbox-codec.ts";
import { decodeLaneState } from "../codec/lane-codec.ts";
import { decodeOutboxEntry, hasBit } from "../codec/outbox-codec.ts";
import { decodeRecord } from "../codec/record-codec.ts";
import type { Hash64 } from "../domain/hash.ts";
import { type ConversationId, type ConversationKey, parseConversationKey } from "../domain/ids.ts";
import { comparePositions, type EntryId, type Position, parseEntryId } from "../domain/position.ts";
import { SLOT_BYTES } from "../domain/recent-ids.ts";
import { CodecError } from "../errors.ts";
import type { CommittedReply, CommittedTurns, DecidedId, OwnerWrite, StoreEvent } from "./history.ts";
import type { Violation } from "./judge.ts";
import type { Command } from "./resp.ts";

export type FenceRule = "epoch-back" | "number-gap" | "unowned";

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
  readonly onViolation: (violation: Violation<FenceRule>) => void;
}

interface Shard {
  readonly name: string;
  /** Null before the log shows it. */
  owner: OwnerWrite | null;
  readonly inbox: Map<string, readonly InboxPlace[]>;
  readonly outbox: Map<string, readonly (OutboxPlace | null)[]>;
  readonly acks: Map<string, Uint8Array>;
  readonly lanes: Map<string, Buffer>;
}

interface InboxPlace {
  readonly id: ConversationId;
  readonly key: string;
  readonly position: Position;
}

interface OutboxPlace {
  readonly id: ConversationId;
  readonly outSeq: number;
}

/** What one transaction writes of one conversation, while it is read. */
interface Pending {
  record: CommittedTurns["record"];
  decided: DecidedId[];
  isRewrite: boolean;
  readonly replies: CommittedReply[];
  transcribed: number;
}

export interface StoreLogFigures {
  transactions: number;
  messages: number;
  commits: number;
  /** Records as they were written; one may hold several turns. */
  records: number;
  replies: number;
  /** Payloads that fail their checksum. */
  rotten: number;
}

export class StoreLog {
  readonly figures: StoreLogFigures = { transactions: 0, messages: 0, commits: 0, records: 0, replies: 0, rotten: 0 };
  readonly #options: StoreLogOptions;
  readonly #shards = new Map<string, Shard>();
  readonly #hashKeys = new Map<string, Hash64>();
  readonly #ids = new Map<string, ConversationId>();
  readonly #cursors = new Map<string, Position>();

  constructor(options: StoreLogOptions) {
    this.#options = options;
  }

  add(transaction: Transaction): void {
    this.figures.transactions += 1;
    const { at } = transaction;
    const pending = new Map<Shard, Map<string, Pending>>();
    const gone: { readonly shard: Shard; readonly stream: "inbox" | "outbox"; readonly entry: string }[] = [];
    const committed = new Set<Shard>();
    const pendingOf = (shard: Shard, key: string): Pending => {
      const ofShard = within(pending, shard, () => new Map<string, Pending>());
      const make = (): Pending => ({ record: null, decided: [], isRewrite: false, replies: [], transcribed: 0 });
      return within(ofShard, key, make);
    };
    for (const command of transaction.commands) {
      const { name, args } = command;
      if (name === "MSET") {
        for (let i = 0; i + 1 < args.length; i += 2) this.#set(args[i]!, args[i + 1]!, pendingOf);
        continue;
      }
      if (name === "DEL" || name === "UNLINK") {
        for (const removed of args) this.#delete(removed, at, pendingOf);
        continue;
      }
      const place = args[0] && this.#placeOf(args[0]);
      if (!place) {
        if (name === "HSET") this.#meta(args);
        continue;
      }
      const { shard, what, key } = place;
      if (name === "SET") this.#set(args[0]!, args[1]!, pendingOf);
      else if (name === "APPEND" && what === "ids") {
        pendingOf(shard, key).decided.push(...slotsOf(args[1]!));
      } else if (name === "HSET" && what === "owner") {
        if (this.#owner(shard, fieldsOf(args), at)) committed.add(shard);
      } else if (name === "XADD") {
        const entry = streamEntryOf(args);
        if (!entry) continue;
        if (what === "inbox") this.#admit(shard, entry, at);
        else if (what === "outbox") this.#reply(shard, entry, pendingOf);
        else if (what === "dead") this.#dead(entry.bytes, at);
        else if (what === "transcript" && isFromBot(entry.bytes)) pendingOf(shard, key).transcribed += 1;
      } else if (name === "XDEL" && (what === "inbox" || what === "outbox")) {
        for (const entry of args.slice(1)) gone.push({ shard, stream: what, entry: entry.toString("latin1") });
      } else if (name === "HSET" && what === "acks") {
        for (const [entry, bitmap] of fieldsOf(args)) shard.acks.set(entry, Uint8Array.from(bitmap));
      } else if (name === "HSET" && what === "lanes") {
        for (const [lane, state] of fieldsOf(args)) shard.lanes.set(lane, Buffer.from(state));
      } else if (name === "HDEL" && what === "lanes") {
        for (const lane of args.slice(1)) shard.lanes.delete(lane.toString());
      }
    }
    for (const [shard, conversations] of pending) {
      for (const [key, written] of conversations) this.#commit(shard, key, written, at, committed.has(shard));
    }
    for (const { shard, stream, entry } of gone) this.#remove(shard, stream, entry, at);
  }

  /** To be called once, after the last transaction. */
  end(): void {
    const at = this.figures.transactions;
    for (const shard of this.#shards.values()) {
      for (const places of shard.inbox.values()) {
        for (const { id, key, position } of places) {
          if (this.#isDecided(shard, key, position)) continue;
          this.#options.onEvent({ kind: "waiting", ...id, at, position });
        }
      }
      for (const [entry, places] of shard.outbox) {
        const done = shard.acks.get(entry);
        for (const [i, place] of places.entries()) {
          if (place === null || (done && hasBit(done, i))) continue;
          this.#options.onEvent({ kind: "open", ...place.id, at, outSeq: place.outSeq });
        }
      }
      for (const [lane, bytes] of shard.lanes) {
        const { state, outSeq } = decodeLaneState(bytes);
        if (state !== "retrying") this.#options.onEvent({ kind: "halted", ...this.#idOf(lane), at, outSeq });
      }
    }
  }

  #meta(args: readonly Buffer[]): void {
    const name = args[0]?.toString() ?? "";
    if (!name.endsWith(":meta") || name.includes("{")) return;
    const hashKey = fieldsOf(args).get("hash_key");
    if (hashKey?.length === 8) this.#hashKeys.set(name.slice(0, -"meta".length), hashKeyOf(hashKey));
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
      acks: new Map(),
      lanes: new Map(),
    });
    return { shard: within(this.#shards, prefix, make), what, key: colon < 0 ? "" : name.slice(colon + 1) };
  }

  #set(name: Buffer, value: Buffer, pendingOf: (shard: Shard, key: string) => Pending): void {
    const place = this.#placeOf(name);
    if (place?.what === "c") {
      pendingOf(place.shard, place.key).record = readRecord(value);
    } else if (place?.what === "ids") {
      const pending = pendingOf(place.shard, place.key);
      pending.decided = slotsOf(value);
      pending.isRewrite = true;
    }
  }

  /** No script does this to what it names: only ids and transcripts expire. */
  #delete(name: Buffer, at: number, pendingOf: (shard: Shard, key: string) => Pending): void {
    const place = this.#placeOf(name);
    if (place?.what === "c") pendingOf(place.shard, place.key).record = "the record was removed";
    if (place?.what === "inbox" || place?.what === "outbox") {
      for (const entry of [...place.shard[place.what].keys()]) this.#remove(place.shard, place.what, entry, at);
    }
  }

  /** @returns whether it is a commit of the owner that the log shows */
  #owner(shard: Shard, fields: ReadonlyMap<string, Buffer>, at: number): boolean {
    const { owner } = shard;
    const n = Number(fields.get("n") ?? Number.NaN);
    const say = (rule: FenceRule, detail: string, line: OwnerWrite): void =>
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

  #admit(shard: Shard, { id, bytes }: StreamEntry, at: number): void {
    const hashKey = this.#hashKeys.get(shard.name.slice(0, shard.name.indexOf("{"))) ?? NO_HASH_KEY;
    const entryId = parseEntryId(id);
    const places: InboxPlace[] = [];
    const { messages, rotten } = this.#readable(
      () => decodeInboxEntry(bytes, { id: entryId, bytes: bytes.length, undecided: 0 }, hashKey),
      { messages: [], rotten: [bytes] },
    );
    this.figures.rotten += rotten.length;
    for (const { key, id: messageId, idHash, position } of messages) {
      const conversation = this.#idOf(key);
      const where = copyOf(position);
      places.push({ id: conversation, key, position: where });
      this.figures.messages += 1;
      this.#options.onEvent({
        kind: "admitted",
        ...conversation,
        id: messageId,
        at,
        shard: shard.name,
        position: where,
        idHash,
      });
    }
    shard.inbox.set(id, places);
  }

  #reply(shard: Shard, { id, bytes }: StreamEntry, pendingOf: (shard: Shard, key: string) => Pending): void {
    const { replies, rotten } = this.#readable(() => decodeOutboxEntry(bytes), { replies: [], rotten: [bytes] });
    this.figures.rotten += rotten.length;
    const places = replies.map((reply) => {
      if (reply === null) return null;
      const { key, born, outSeq, body } = reply;
      pendingOf(shard, key).replies.push({ outSeq, born, bodyHash: this.#options.hashOf(body) });
      return { id: this.#idOf(key), outSeq };
    });
    this.figures.replies += places.length;
    shard.outbox.set(id, places);
  }

  #readable<Value>(read: () => Value, otherwise: Value): Value {
    try {
      return read();
    } catch (error) {
      if (error instanceof CodecError) return otherwise;
      throw error;
    }
  }

  #dead(bytes: Buffer, at: number): void {
    const { direction, bot, channel, conversation, outSeq } = decodeDeadLetter(bytes);
    if (direction !== "out" || bot === null || channel === null || conversation === null || outSeq === null) return;
    this.#options.onEvent({ kind: "dead", bot, channel, conversation, at, outSeq });
  }

  #commit(shard: Shard, key: string, written: Pending, at: number, isCommit: boolean): void {
    const { record } = written;
    const { epoch = 0, n = 0 } = shard.owner ?? {};
    const id = this.#idOf(key);
    const event: CommittedTurns = { kind: "committed", ...id, at, shard: shard.name, epoch, n, ...written };
    if (!isCommit) {
      const detail = `transaction ${at} wrote ${JSON.stringify(id.conversation)} and is no commit of the owner`;
      this.#options.onViolation({ rule: "unowned", conversation: shard.name, detail, slice: [event] });
    }
    if (record !== null) this.figures.records += 1;
    if (record !== null && typeof record !== "string") this.#cursors.set(`${shard.name}${key}`, record.cursor);
    this.#options.onEvent(event);
  }

  #remove(shard: Shard, stream: "inbox" | "outbox", entry: string, at: number): void {
    if (stream === "outbox") {
      shard.outbox.delete(entry);
      shard.acks.delete(entry);
      return;
    }
    for (const { id, key, position } of shard.inbox.get(entry) ?? []) {
      if (this.#isDecided(shard, key, position)) continue;
      this.#options.onEvent({ kind: "let-go", ...id, at, position });
    }
    shard.inbox.delete(entry);
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

const NO_HASH_KEY: Hash64 = { lo: 0, hi: 0 };

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

function readRecord(bytes: Buffer): CommittedTurns["record"] {
  try {
    const { seq, outSeq, cursor, born, chain } = decodeRecord(bytes).record;
    return { seq, outSeq, cursor, born, chain };
  } catch (error) {
    if (error instanceof CodecError) return error.message;
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
