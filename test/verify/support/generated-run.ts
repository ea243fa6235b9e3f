// Generated run: the logs and the append-only file of a run that kept its promise, made step by step, so that a test can change
// one step and write the folder of a run that did not. The bytes are those of the runtime's own codecs.

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { encodeWaiting, InboxBatch } from "../../../src/codec/inbox-codec.ts";
import { encodeLaneState } from "../../../src/codec/lane-codec.ts";
import { encodeOutboxEntry, type OutboxReply } from "../../../src/codec/outbox-codec.ts";
import { encodeRecord } from "../../../src/codec/record-codec.ts";
import { type Hash64, halfSipHash64 } from "../../../src/domain/hash.ts";
import { conversationKey, idempotencyKey } from "../../../src/domain/ids.ts";
import type { LaneState } from "../../../src/domain/lane.ts";
import type { Control, InboxMessage, MessageExtra } from "../../../src/domain/message.ts";
import { formatBorn, type Position } from "../../../src/domain/position.ts";
import { type ConversationRecord, newRecord, nextChain, type TurnOutcome } from "../../../src/domain/record.ts";
import { FOLD_START, type Fold, fold } from "../../../src/verify/fold.ts";
import type { ClientLine, Fault } from "../../../src/verify/history.ts";

export const HASH_KEY: Hash64 = { lo: 0x01020304, hi: 0x05060708 };
const prefixOf = (shard = 0): string => `colloquy:{${String(shard).padStart(2, "0")}}`;
const STEP_US = 1_000;

export interface WrittenTurns {
  conversation: string;
  record: ConversationRecord;
  /** Ids that the commit decided, in order; null for a commit that only moves the cursor. */
  decided: string[];
  isRewrite?: boolean;
  /** Bytes instead of the record's. */
  damaged?: boolean;
  /** What goes to its waiting list and leaves it. */
  listed?: { id: number; message: WrittenMessage; ms: number; index: number }[];
  unlisted?: number[];
  /** It joins or leaves the index of the unfinished, those at their bound. */
  open?: boolean;
  full?: boolean;
  /** Messages that become dead letters. */
  letters?: { message: WrittenMessage; ms: number; index: number; reason: string }[];
  /** `<generation>|<name>` each. */
  timersSet?: string[];
  timersUnset?: string[];
}

export interface WrittenMessage {
  conversation: string;
  id: string;
  text: string;
  sequence?: number;
  extra?: MessageExtra;
  /** Instead of a message: an operator's verb, or a timer `<generation>|<name>`. */
  control?: Control;
  timer?: string;
}

export interface WrittenReply {
  conversation: string;
  born: string;
  outSeq: number;
  body: string;
  /** The shard that it hands sends over to, instead of being a reply. */
  target?: number;
}

/** What a commit writes of a lane beside replies into the outbox. */
export interface WrittenLane {
  conversation: string;
  /** null removes it; undefined leaves it as it is. */
  state?: LaneState | null;
  joins?: { id: number; reply: WrittenReply }[];
  leaves?: number[];
  /** The list is empty then. */
  isLast?: boolean;
}

export type Step =
  | { kind: "acquire"; epoch: number; node: string; shard?: number }
  | {
      kind: "append";
      ms: number;
      messages: WrittenMessage[];
      shard?: number;
      /** Of sends: the shard and its outbox entry. */
      from?: { shard: number; ms: number };
      /** Timers that leave in the same transaction, `<generation>|<name>|<conversation>`. */
      unset?: string[];
    }
  | {
      kind: "commit";
      shard?: number;
      n: number;
      ms: number;
      turns: WrittenTurns[];
      replies: WrittenReply[];
      inboxDone: number[];
      outboxDone: number[];
      dead: { conversation: string; outSeq: number }[];
      lanes?: WrittenLane[];
      /** Outbox entries by their time, with the bitmap of what is done. */
      acks?: { ms: number; done: number }[];
      /** Dead letters that leave, by the time of their commit and their place in it. */
      deadDone?: string[];
      /** What it sends to conversations of its own shard, as an inbox entry at this time. */
      sent?: { ms: number; messages: WrittenMessage[] };
      isForeign?: boolean;
    };

export type Append = Extract<Step, { kind: "append" }>;
export type Commit = Extract<Step, { kind: "commit" }>;

export interface Run {
  steps: Step[];
  lines: (ClientLine | Fault)[];
}

const id = (conversation: string) => ({ bot: "fold", channel: "http", conversation });
export const keyOf = (conversation: string) => conversationKey(id(conversation));
export const hashOf = (messageId: string): Hash64 => halfSipHash64(HASH_KEY, Buffer.from(messageId));
/** @param outcomes of ids that had no turn */
export const chainOf = (
  chain: Hash64,
  ids: readonly string[],
  outcomes: Readonly<Record<string, TurnOutcome>> = {},
): Hash64 => ids.reduce((before, id) => nextChain(before, hashOf(id), outcomes[id] ?? "turn"), chain);
/** The chain after a turn over a notice. */
export const noticed = (chain: Hash64): Hash64 => nextChain(chain, { lo: 0, hi: 0 }, "turn");
export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

interface Conversation {
  record: ConversationRecord | null;
  fold: Fold;
  count: number;
}

/**
 * Makes a run batch by batch: a request of some messages, the commit of their turns, the delivery of their replies, and the
 * commit that acknowledges these, together with the next turns.
 */
export class RunGenerator {
  readonly #conversations = new Map<string, Conversation>();
  readonly #names: readonly string[];
  #ms = 1_700_000_000_000;
  #us = 1_000;
  #n = 0;
  #request = 0;
  #outboxDone: number[] = [];
  #deliveries: ClientLine[] = [];

  constructor(conversations: number) {
    this.#names = Array.from({ length: conversations }, (_, i) => `c${i}`);
  }

  begin(): Run {
    return { steps: [{ kind: "acquire", epoch: 1, node: "n1" }], lines: [] };
  }

  /** Another owner takes the shard. */
  take(epoch: number): Run {
    this.#n = 0;
    this.#us += STEP_US;
    const lines: Fault[] = [{ kind: "fault", fault: "kill", target: "runtime", atUs: this.#us }];
    return { steps: [{ kind: "acquire", epoch, node: `n${epoch}` }], lines };
  }

  /** @param count messages, of conversations `from`, `from + 1`, ...; `repeats` of the first of them are sent once more */
  batch(count: number, from: number, repeats = 0): Run {
    const lines: ClientLine[] = this.#deliveries;
    this.#us += STEP_US;
    this.#request += 1;
    const messages = Array.from({ length: count }, (_, i) => {
      const conversation = this.#names[(from + i) % this.#names.length]!;
      const state = this.#state(conversation);
      state.count += 1;
      return { conversation, id: `m${state.count}`, text: `text ${this.#request}-${i}` };
    });
    for (const message of messages) lines.push({ kind: "message", bot: "fold", ...message });
    const items = messages.map(({ conversation, id: messageId }) => ({ conversation, id: messageId }));
    const sent = { kind: "attempt", bot: "fold", request: `r${this.#request}`, items } as const;
    const sentUs = this.#us;
    lines.push({ ...sent, attempt: 1, purpose: "first", sentUs, endedUs: sentUs + 400, outcome: "ack", status: 202 });
    if (repeats > 0) {
      const again = { ...sent, items: items.slice(0, repeats), attempt: 2, purpose: "repeat" } as const;
      lines.push({ ...again, sentUs: sentUs + 410, endedUs: sentUs + 420, outcome: "ack", status: 202 });
    }
    this.#ms += 3;
    this.#us += STEP_US;
    const append: Append = { kind: "append", ms: this.#ms, messages: [...messages, ...messages.slice(0, repeats)] };
    return { steps: [append, this.#consume(append, count)], lines };
  }

  /** Acknowledges what is left. */
  end(): Run {
    const step: Commit = { ...this.#emptyCommit(), outboxDone: this.#outboxDone };
    return { steps: [step], lines: this.#deliveries };
  }

  #consume(append: Append, fresh: number): Commit {
    const commit = this.#emptyCommit();
    commit.outboxDone = this.#outboxDone;
    this.#outboxDone = [commit.ms];
    this.#deliveries = [];
    commit.inboxDone.push(append.ms);
    const written = new Map<string, WrittenTurns>();
    for (const [index, message] of append.messages.entries()) {
      const { conversation } = message;
      const state = this.#state(conversation);
      const cursor: Position = { entry: { ms: append.ms, seq: 0 }, index };
      const before = state.record ?? newRecord(cursor);
      const turns: WrittenTurns = written.get(conversation) ?? { conversation, record: before, decided: [] };
      written.set(conversation, turns);
      if (index >= fresh) turns.record = { ...turns.record, cursor };
      else {
        turns.decided.push(message.id);
        const chain = nextChain(before.chain, hashOf(message.id), "turn");
        turns.record = { ...before, cursor, chain, seq: before.seq + 1, outSeq: before.outSeq + 1 };
        commit.replies.push(this.#reply(message, turns.record, state));
      }
      state.record = turns.record;
    }
    commit.turns.push(...written.values());
    return commit;
  }

  #reply(message: Append["messages"][number], record: ConversationRecord, state: Conversation): WrittenReply {
    const { conversation } = message;
    state.fold = fold(state.fold, message);
    const text = JSON.stringify({ n: state.fold.n, mid: message.id, h: state.fold.h });
    const { outSeq } = record;
    const born = formatBorn(record.born);
    const body = JSON.stringify({ ...id(conversation), sequence: outSeq, inReplyTo: message.id, text });
    this.#deliveries.push({
      kind: "delivery",
      bot: "fold",
      channel: "http",
      key: idempotencyKey(id(conversation), born, outSeq),
      conversation,
      sequence: outSeq,
      inReplyTo: message.id,
      text,
      bodyHash: sha256(body),
      receivedUs: this.#us,
      answeredUs: this.#us + 100,
      status: 200,
    });
    this.#us += 200;
    return { conversation, born, outSeq, body };
  }

  #emptyCommit(): Commit {
    this.#n += 1;
    this.#ms += 1;
    return {
      kind: "commit",
      n: this.#n,
      ms: this.#ms,
      turns: [],
      replies: [],
      inboxDone: [],
      outboxDone: [],
      dead: [],
    };
  }

  #state(conversation: string): Conversation {
    const known = this.#conversations.get(conversation);
    if (known) return known;
    const fresh: Conversation = { record: null, fold: FOLD_START, count: 0 };
    this.#conversations.set(conversation, fresh);
    return fresh;
  }
}

/** Three conversations, 24 messages, one take-over in the middle, some messages sent twice. */
export function smallRun(): Run {
  const generator = new RunGenerator(3);
  const parts = [
    generator.begin(),
    generator.batch(4, 0),
    generator.batch(6, 1, 2),
    generator.take(2),
    generator.batch(6, 0),
    generator.batch(5, 2, 1),
    generator.batch(3, 0),
    generator.end(),
  ];
  return { steps: parts.flatMap(({ steps }) => steps), lines: parts.flatMap(({ lines }) => lines) };
}

// --- bytes ------------------------------------------------------------------------------------------------------------

type Word = string | Uint8Array;

function resp(words: readonly Word[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(`*${words.length}\r\n`)];
  for (const word of words) {
    const bytes = typeof word === "string" ? Buffer.from(word) : word;
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

function slot(messageId: string): Buffer {
  const { lo, hi } = hashOf(messageId);
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(lo, 0);
  bytes.writeUInt32LE(hi, 4);
  bytes.writeUInt32LE(1_700_000_000, 8);
  return bytes;
}

/** The step as Redis logs it: what the script did, with the ids that it gave out. */
export function bytesOf(step: Step): Buffer {
  const commands = commandsOf(step);
  return Buffer.concat(commands.length === 1 ? commands : [resp(["MULTI"]), ...commands, resp(["EXEC"])]);
}

function commandsOf(step: Step): Buffer[] {
  const prefix = prefixOf(step.shard);
  switch (step.kind) {
    case "acquire": {
      const fields = ["node", step.node, "epoch", String(step.epoch), "n", "0", "lease_end", "1", "clean", "0"];
      return [resp(["HSET", `${prefix}:owner`, ...fields])];
    }
    case "append": {
      const entry = `${step.ms}-0`;
      const unset = step.unset?.map(memberOf) ?? [];
      return [
        ...(unset.length > 0 ? [resp(["ZREM", `${prefix}:timers`, ...unset])] : []),
        resp(["XADD", `${prefix}:inbox`, entry, "b", batchOf(step.messages)]),
        resp(["HSET", `${prefix}:owner`, "inbox_bytes", "1", "inbox_last", entry]),
        ...(step.from ? [resp(["HSET", `${prefix}:from`, String(step.from.shard), `${step.from.ms}-0`])] : []),
      ];
    }
    case "commit":
      return commitCommands(step, prefix);
  }
}

/** `<generation>|<name>|<conversation>`, the conversation as its key. */
function memberOf(timer: string): string {
  const [generation, name, conversation] = timer.split("|");
  return `${generation}|${name}|${keyOf(conversation!)}`;
}

function batchOf(messages: readonly WrittenMessage[]): Buffer {
  const batch = new InboxBatch();
  for (const { conversation, control, timer, extra, ...message } of messages) {
    const key = keyOf(conversation);
    if (control) batch.addControl(key, control);
    else if (timer !== undefined) {
      const [generation, name] = timer.split("|");
      batch.addTimer({ key, name: name!, generation: Number(generation) });
    } else batch.add(key, { ...message, to: id(conversation) }, extra ?? null);
  }
  return batch.finish();
}

/** As it stands on a waiting list and in a dead letter. */
function waitingBytes(
  { conversation, id: messageId, text, sequence, extra }: WrittenMessage,
  ms: number,
  index: number,
): Buffer {
  const entry = { ms, seq: 0 };
  const message: InboxMessage = {
    kind: "message",
    position: { entry, index },
    source: { id: entry, bytes: 0, undecided: 0 },
    key: keyOf(conversation),
    id: messageId,
    idHash: hashOf(messageId),
    bodyHash: 0,
    sequence,
    sentAtMs: undefined,
    text,
    dataJson: "",
    bytes: 64,
    extra: extra ?? null,
    waitingId: null,
  };
  return encodeWaiting(message);
}

function commitCommands(commit: Commit, prefix: string): Buffer[] {
  const { n, ms, turns, replies, inboxDone, outboxDone, dead, isForeign, sent, lanes = [], acks = [] } = commit;
  const records = turns.flatMap(({ conversation, record, damaged }) => {
    const bytes = encodeRecord(record, 1, "{}");
    if (damaged) bytes[6]! ^= 1;
    return [`${prefix}:c:${keyOf(conversation)}`, bytes];
  });
  const ids = turns.flatMap(({ conversation, decided, isRewrite }) => {
    const key = `${prefix}:ids:${keyOf(conversation)}`;
    const bytes = Buffer.concat(decided.map(slot));
    if (isRewrite) return [resp(["SET", key, bytes, "KEEPTTL"])];
    return decided.length > 0 ? [resp(["APPEND", key, bytes]), resp(["PEXPIREAT", key, "1800000000000"])] : [];
  });
  const entry = encodeOutboxEntry(replies.map(outboxReply));
  const letters = dead.map(({ conversation, outSeq }) =>
    JSON.stringify({ direction: "out", ...id(conversation), born: "b", outSeq, reason: "terminal" }),
  );
  for (const { conversation, letters: ofTurns = [] } of turns) {
    for (const { message, ms: at, index, reason } of ofTurns) {
      const body = waitingBytes(message, at, index).toString("base64");
      letters.push(JSON.stringify({ direction: "in", ...id(conversation), id: message.id, reason, body }));
    }
  }
  return [
    ...(records.length > 0 ? [resp(["MSET", ...records])] : []),
    ...ids,
    ...turns.flatMap((written) => asideCommands(written, prefix)),
    ...(sent ? [resp(["XADD", `${prefix}:inbox`, `${sent.ms}-0`, "b", batchOf(sent.messages)])] : []),
    ...(replies.length > 0 ? [resp(["XADD", `${prefix}:outbox`, `${ms}-0`, "b", entry])] : []),
    ...acks.map(({ ms: entryMs, done }) => resp(["HSET", `${prefix}:acks`, `${entryMs}-0`, Uint8Array.of(done)])),
    ...(inboxDone.length > 0 ? [resp(["XDEL", `${prefix}:inbox`, ...inboxDone.map((at) => `${at}-0`)])] : []),
    ...(outboxDone.length > 0 ? [resp(["XDEL", `${prefix}:outbox`, ...outboxDone.map((at) => `${at}-0`)])] : []),
    ...letters.map((letter, i) => resp(["XADD", `${prefix}:dead`, `${ms}-${i}`, "b", letter])),
    ...(commit.deadDone ?? []).map((letter) => resp(["XDEL", `${prefix}:dead`, letter])),
    ...lanes.flatMap((lane) => laneCommands(lane, prefix)),
    ...(isForeign ? [] : [resp(["HSET", `${prefix}:owner`, "n", String(n), "clean", "0", "lease_end", "1"])]),
  ];
}

const transferKeyOf = (target: number) =>
  conversationKey({ bot: "!transfer", channel: "!transfer", conversation: String(target) });

const outboxReply = ({ conversation, body, target, ...rest }: WrittenReply): OutboxReply => ({
  ...rest,
  key: target === undefined ? keyOf(conversation) : transferKeyOf(target),
  body: Buffer.from(body),
});

function laneCommands({ conversation, state, joins = [], leaves = [], isLast }: WrittenLane, prefix: string): Buffer[] {
  const key = keyOf(conversation);
  const list = `${prefix}:out:${key}`;
  return [
    ...(state ? [resp(["HSET", `${prefix}:lanes`, key, encodeLaneState(state)])] : []),
    ...(state === null ? [resp(["HDEL", `${prefix}:lanes`, key])] : []),
    ...joins.map(({ id: at, reply }) => resp(["XADD", list, `${at}-0`, "b", encodeOutboxEntry([outboxReply(reply)])])),
    ...(leaves.length > 0 ? [resp(["XDEL", list, ...leaves.map((at) => `${at}-0`)])] : []),
    ...(isLast ? [resp(["DEL", list])] : []),
  ];
}

function asideCommands(written: WrittenTurns, prefix: string): Buffer[] {
  const { conversation, listed = [], unlisted = [], open, full, timersSet = [], timersUnset = [], record } = written;
  const key = keyOf(conversation);
  const list = `${prefix}:in:${key}`;
  const isEmpty = unlisted.length > 0 && record.extra?.waiting === undefined;
  return [
    ...listed.map(({ id: at, message, ms, index }) =>
      resp(["XADD", list, `${at}-0`, "b", waitingBytes(message, ms, index)]),
    ),
    ...(unlisted.length > 0 ? [resp(["XDEL", list, ...unlisted.map((at) => `${at}-0`)])] : []),
    ...(isEmpty ? [resp(["DEL", list])] : []),
    ...(open === true ? [resp(["HSET", `${prefix}:open`, key, "{}"])] : []),
    ...(open === false ? [resp(["HDEL", `${prefix}:open`, key])] : []),
    ...(full === true ? [resp(["SADD", `${prefix}:full`, key])] : []),
    ...(full === false ? [resp(["SREM", `${prefix}:full`, key])] : []),
    ...timersSet.map((timer) => resp(["ZADD", `${prefix}:timers`, "1", `${timer}|${key}`])),
    ...timersUnset.map((timer) => resp(["ZREM", `${prefix}:timers`, `${timer}|${key}`])),
  ];
}

/** An RDB file without keys, as Redis 7.0 writes it for a new append-only file. */
export const EMPTY_RDB: Buffer = Buffer.from(
  "524544495330303130fa0972656469732d76657206372e302e3135fa0a72656469732d62697473c040fa056374696d65c26866046bfa08757365642d6d656dc2a0bf1000fa08616f662d62617365c001ff4095893c5fdac1c4",
  "hex",
);

/** Takes parts of a run as they are made, and writes the folder that `colloquy verify` reads. */
export class RunWriter {
  readonly #aof: number;
  readonly #logs: Readonly<Record<"clients" | "sink" | "faults", number>>;

  constructor(folder: string, base: Buffer = EMPTY_RDB, shards = 1) {
    const dir = join(folder, "data", "appendonlydir");
    mkdirSync(dir, { recursive: true });
    const manifest = ["file appendonly.aof.1.base.rdb seq 1 type b", "file appendonly.aof.1.incr.aof seq 1 type i", ""];
    writeFileSync(join(dir, "appendonly.aof.manifest"), manifest.join("\n"));
    writeFileSync(join(dir, "appendonly.aof.1.base.rdb"), base);
    this.#aof = openSync(join(dir, "appendonly.aof.1.incr.aof"), "w");
    const log = (name: string): number => openSync(join(folder, `${name}.ndjson`), "w");
    this.#logs = { clients: log("clients"), sink: log("sink"), faults: log("faults") };
    const hashKey = Buffer.alloc(8);
    hashKey.writeUInt32LE(HASH_KEY.lo, 0);
    hashKey.writeUInt32LE(HASH_KEY.hi, 4);
    const meta = resp(["HSET", "colloquy:meta", "shards", String(shards), "schema_version", "1", "hash_key", hashKey]);
    writeSync(this.#aof, Buffer.concat([resp(["SELECT", "0"]), meta]));
  }

  write({ steps, lines }: Run): void {
    for (const step of steps) writeSync(this.#aof, bytesOf(step));
    const texts = { clients: "", sink: "", faults: "" };
    for (const line of lines) {
      const log = line.kind === "delivery" ? "sink" : line.kind === "fault" ? "faults" : "clients";
      texts[log] += `${JSON.stringify(line)}\n`;
    }
    for (const [log, text] of Object.entries(texts)) writeSync(this.#logs[log as keyof typeof texts], text);
  }

  close(): void {
    for (const file of [this.#aof, ...Object.values(this.#logs)]) closeSync(file);
  }
}
