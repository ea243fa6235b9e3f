import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { crc32 } from "../../src/codec/checksum.ts";
import { decodeDeadLetter } from "../../src/codec/dead-letter-codec.ts";
import { DEAD_MESSAGE_REASONS, encodeDeadMessage, encodeUnreadable } from "../../src/codec/dead-message.ts";
import {
  decodeInboxEntry,
  decodeWaiting,
  encodeWaiting,
  InboxBatch,
  inboxBytesMax,
  timerBytesMax,
  waitingBytesOf,
} from "../../src/codec/inbox-codec.ts";
import { decodeLaneState, encodeLaneState } from "../../src/codec/lane-codec.ts";
import { CONVERSATION_STATES, decodeOpenEntry, encodeOpenEntry, type OpenEntry } from "../../src/codec/open-codec.ts";
import {
  decodeOutboxEntry,
  encodeOutboxEntry,
  type OutboxReply,
  type ReplyExtra,
} from "../../src/codec/outbox-codec.ts";
import { checkedState, decodeRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import type { Inbound, InboxMessage, MailboxMessage, MessageExtra } from "../../src/domain/message.ts";
import { formatBorn } from "../../src/domain/position.ts";
import { HALT_REASONS, type RecordExtra } from "../../src/domain/record.ts";
import { CodecError } from "../../src/errors.ts";

const text = fc.string({ unit: "grapheme", maxLength: 60 });
const id = fc.string({ unit: "grapheme", minLength: 1, maxLength: 30 });
const optional = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: undefined });
const inbound: fc.Arbitrary<Inbound> = fc
  .record({
    to: fc.record({ bot: id, channel: id, conversation: id }),
    id,
    text,
    data: optional(fc.jsonValue({ maxDepth: 3 })),
    sequence: optional(fc.maxSafeNat()),
    epoch: optional(fc.nat()),
    kind: optional(fc.constantFrom("edit", "reaction")),
    about: optional(id),
    sentAtMs: optional(fc.nat()),
  })
  .map((message) => present(message) as unknown as Inbound);
/** What an append adds to a message: where a send came from, what a redrive brings back. */
const added: fc.Arbitrary<MessageExtra | null> = fc.option(
  fc
    .record({
      from: optional(fc.record({ bot: id, channel: id, conversation: id })),
      hops: optional(fc.nat({ max: 100 })),
      redrives: optional(fc.constantFrom("5-0", "1700000000000-17")),
    })
    .map((extra) => present(extra) as MessageExtra),
  { nil: null },
);
const position = fc.record({
  entry: fc.record({ ms: fc.maxSafeNat(), seq: fc.maxSafeNat() }),
  index: fc.integer({ min: -1, max: 100_000 }),
});
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const nat = fc.maxSafeNat();
const json = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value)) as never); // no -0
const openTurn = fc.record({
  position,
  attempts: fc.nat(),
  deaths: fc.nat({ max: 3 }),
  firstFailedAtMs: fc.option(nat),
  nextAtMs: fc.option(nat),
  error: fc.option(text),
  repliesOut: fc.nat(),
  steps: fc.array(
    fc.record({ index: fc.nat(), name: id, occurrence: fc.nat(), result: optional(json) }).map((step) => present(step)),
    { maxLength: 4 },
  ),
});
const notice = fc.oneof(
  fc.record({ kind: fc.constant("gap"), position, from: nat, to: nat }),
  fc.record({ kind: fc.constant("poisoned"), position, id, error: text }),
);
const extra: fc.Arbitrary<RecordExtra | null> = fc.option(
  fc
    .record({
      waiting: optional(fc.record({ nextId: nat, count: fc.nat(), bytes: nat, isFull: fc.boolean() })),
      halt: optional(fc.record({ reason: fc.constantFrom(...HALT_REASONS), sinceMs: nat, why: text })),
      openTurn: optional(openTurn),
      order: optional(fc.record({ epoch: fc.nat(), next: fc.option(nat) })),
      notices: optional(fc.array(notice, { minLength: 1, maxLength: 3 })),
      suspect: optional(fc.integer({ min: 1, max: 64 })),
    })
    .map((parts) => present(parts) as RecordExtra),
  { nil: null },
);
const record = fc.record({
  seq: nat,
  outSeq: nat,
  cursor: position,
  born: position,
  chain: fc.record({ lo: u32, hi: u32 }),
  extra,
});

const HASH_KEY = { lo: 1, hi: 2 };
const entryOf = (bytes: Buffer) => ({ id: { ms: 5, seq: 0 }, bytes: bytes.length, undecided: 0 });

function present(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function batchOf(messages: readonly Inbound[]): Buffer {
  const batch = new InboxBatch();
  for (const message of messages) batch.add(conversationKey(message.to), message);
  return batch.finish();
}

/** What was decoded, which are messages and neither timers nor controls. */
function asMessages(messages: readonly MailboxMessage[]): readonly InboxMessage[] {
  expect(messages.map(({ kind }) => kind).filter((kind) => kind !== "message")).toEqual([]);
  return messages as readonly InboxMessage[];
}

function decoded(inbound: Inbound, given: MessageExtra | null = null): InboxMessage {
  const batch = new InboxBatch();
  batch.add(conversationKey(inbound.to), inbound, given);
  const bytes = batch.finish();
  return asMessages(decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY).messages)[0]!;
}

describe("inbox entries", () => {
  test.prop([fc.array(inbound, { maxLength: 20 })])(
    "give every message back exactly, in order, within the size that was foretold",
    (messages) => {
      const bytes = batchOf(messages);
      const decoded = decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY);
      expect(decoded.rotten).toEqual([]);
      expect(bytes.length).toBeLessThanOrEqual(
        1 + messages.reduce((sum, message) => sum + inboxBytesMax(conversationKey(message.to), message), 0),
      );
      asMessages(decoded.messages).forEach((message, index) => {
        const sent = messages[index]!;
        const { epoch, kind, about } = sent;
        expect(message.extra).toEqual(epoch === undefined && !kind && !about ? null : present({ epoch, kind, about }));
        expect(message).toMatchObject({
          key: conversationKey(sent.to),
          id: sent.id,
          text: sent.text,
          sequence: sent.sequence,
          sentAtMs: sent.sentAtMs,
          position: { index },
        });
        expect(message.dataJson).toBe(sent.data === undefined ? "" : JSON.stringify(sent.data));
      });
      expect(decoded.messages.length).toBe(messages.length);
    },
  );

  test.prop([fc.array(inbound, { minLength: 2, maxLength: 8 }), fc.nat(), fc.integer({ min: 0, max: 7 })])(
    "with one flipped bit give no wrong message: each is right, rotten, or the entry is refused (attack B18)",
    (messages, at, bit) => {
      const bytes = batchOf(messages);
      bytes[at % bytes.length]! ^= 1 << bit;
      try {
        const decoded = decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY);
        for (const message of asMessages(decoded.messages)) {
          const sent = messages[message.position.index]!;
          expect([message.key, message.id, message.text]).toEqual([conversationKey(sent.to), sent.id, sent.text]);
        }
        expect(decoded.messages.length).toBeLessThan(messages.length);
        expect(decoded.rotten.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    },
  );

  example("a flipped bit in one message costs its neighbours nothing", () => {
    const message = (n: number): Inbound => ({
      to: { bot: "b", channel: "c", conversation: "x" },
      id: `m${n}`,
      text: `text ${n}`,
    });
    const bytes = batchOf([message(1), message(2), message(3)]);
    bytes[bytes.indexOf("text 2")]! ^= 4;
    const decoded = decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY);
    expect(asMessages(decoded.messages).map(({ id }) => id)).toEqual(["m1", "m3"]);
    expect(decoded.messages.map(({ position }) => position.index)).toEqual([0, 2]);
    expect(decoded.rotten.length).toBe(1);
  });
});

describe("records", () => {
  test.prop([record, fc.integer({ min: 1, max: 0xffffffff }), text])(
    "give envelope and state back exactly",
    (envelope, botVersion, state) => {
      const decoded = decodeRecord(encodeRecord(envelope, botVersion, state));
      expect(decoded.record).toEqual(envelope);
      expect(checkedState(decoded)).toEqual({ botVersion, bytes: Buffer.from(state) });
    },
  );

  test.prop([record, text, fc.nat(), fc.integer({ min: 0, max: 7 })])(
    "with one flipped bit are refused, by the envelope's checksum or by the state's (R5)",
    (envelope, state, at, bit) => {
      const bytes = encodeRecord(envelope, 1, state);
      bytes[at % bytes.length]! ^= 1 << bit;
      expect(() => checkedState(decodeRecord(bytes))).toThrow(CodecError);
    },
  );

  test.prop([record, text])("copy state bytes untouched when only the envelope moves (E3)", (envelope, state) => {
    const first = decodeRecord(encodeRecord(envelope, 3, state));
    const moved = decodeRecord(encodeRecord({ ...envelope, seq: 1 }, first.botVersion, first.stateBytes));
    expect(checkedState(moved)).toEqual({ botVersion: 3, bytes: Buffer.from(state) });
  });
});

describe("messages on a waiting list", () => {
  test.prop([inbound, added, position, fc.nat()])(
    "come back as they were admitted, whatever their place on it (R1)",
    (message, given, position, waitingId) => {
      const admitted = { ...decoded(message, given), position };
      const bytes = encodeWaiting(admitted);
      expect(bytes.length).toBe(waitingBytesOf(admitted));
      const { source, ...back } = decodeWaiting(bytes, waitingId, HASH_KEY);
      const { source: _inboxEntry, ...before } = admitted;
      expect(back).toEqual({ ...before, waitingId });
      expect(encodeWaiting({ ...back, source })).toEqual(bytes); // its size there is counted by it when it leaves
    },
  );

  test.prop([inbound, fc.nat(), fc.integer({ min: 0, max: 7 })])(
    "with one flipped bit behind the position are refused",
    (message, at, bit) => {
      const bytes = encodeWaiting(decoded(message));
      bytes[20 + (at % (bytes.length - 20))]! ^= 1 << bit;
      expect(() => decodeWaiting(bytes, 1, HASH_KEY)).toThrow(CodecError);
    },
  );

  example("what is too short, or a timer, is none", () => {
    const timers = new InboxBatch();
    timers.addTimer({ key: conversationKey({ bot: "b", channel: "c", conversation: "x" }), name: "t", generation: 1 });
    for (const bytes of [new Uint8Array(0), new Uint8Array(20), Buffer.concat([Buffer.alloc(20), timers.finish()])])
      expect(() => decodeWaiting(bytes, 1, HASH_KEY)).toThrow(CodecError);
  });

  example("one that is redriven has an identity of its own, whatever id it bears", () => {
    const message: Inbound = { to: { bot: "b", channel: "c", conversation: "x" }, id: "m1", text: "hi" };
    const first = decoded(message);
    const [again, later] = [decoded(message, { redrives: "5-0" }), decoded(message, { redrives: "6-0" })];
    expect([again.id, again.text]).toEqual(["m1", "hi"]);
    expect(new Set([first, again, later].map(({ idHash }) => `${idHash.lo} ${idHash.hi}`)).size).toBe(3);
    expect(decoded({ ...message, id: "other" }, { redrives: "5-0" }).idHash).toEqual(again.idHash);
  });
});

describe("timers and controls in an inbox entry", () => {
  const key = id.map((conversation) => conversationKey({ bot: "b", channel: "c", conversation }));
  const name = fc.stringMatching(/^!?[A-Za-z0-9_.-]{1,64}$/);

  test.prop([fc.array(fc.record({ key, name, generation: nat }), { minLength: 1, maxLength: 10 })])(
    "timers come back with name and generation, within the size that was foretold",
    (timers) => {
      const batch = new InboxBatch();
      for (const timer of timers) batch.addTimer(timer);
      const bytes = batch.finish();
      expect(bytes.length).toBeLessThanOrEqual(timers.reduce((sum, timer) => sum + timerBytesMax(timer), 0));
      const { messages, rotten } = decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY);
      expect(rotten).toEqual([]);
      expect(messages).toMatchObject(timers.map((timer, index) => ({ kind: "timer", ...timer, position: { index } })));
    },
  );

  test.prop([key, fc.constantFrom("retry" as const, "skip" as const), text, text])(
    "a control comes back as the operator's tool wrote it",
    (key, verb, halt, by) => {
      const batch = new InboxBatch();
      batch.addControl(key, { verb, halt, by });
      const bytes = batch.finish();
      const { messages } = decodeInboxEntry(bytes, entryOf(bytes), HASH_KEY);
      expect(messages).toMatchObject([{ kind: "control", key, control: { verb, halt, by } }]);
    },
  );
});

describe("entries of the index of the unfinished", () => {
  const open: fc.Arbitrary<OpenEntry> = fc
    .record({
      state: fc.constantFrom(...CONVERSATION_STATES.slice(1)),
      sinceMs: nat,
      why: text,
      reason: optional(fc.constantFrom(...HALT_REASONS)),
      halt: optional(id),
      waiting: fc.nat(),
      waitingBytes: nat,
      attempts: optional(fc.nat()),
      runs: fc.boolean(),
      suspect: optional(fc.integer({ min: 1, max: 64 })),
    })
    .map((entry) => present(entry) as OpenEntry);

  test.prop([open])("are read back", (entry) => {
    expect(decodeOpenEntry(encodeOpenEntry(entry))).toEqual(entry);
  });

  example("anything else is refused", () => {
    for (const bad of ["", "{}", "null", '{"state":"waiting","waiting":1}', '{"state":"held"}', '{"state":"held","wa'])
      expect(() => decodeOpenEntry(Buffer.from(bad))).toThrow(CodecError);
  });
});

describe("dead letters of messages", () => {
  test.prop([inbound, position, fc.constantFrom(...DEAD_MESSAGE_REASONS), fc.nat(), fc.option(text), nat])(
    "name what failed and hold the message itself, so that it can be redriven",
    (message, position, reason, attempts, error, atMs) => {
      const dead = { ...decoded(message), position };
      const id = { bot: "b", channel: "c", conversation: "x" };
      const letter = decodeDeadLetter(
        encodeDeadMessage({ id, message: dead, reason, attempts, error, botVersion: 3, repliesOut: 0, atMs }),
      );
      expect(letter).toMatchObject({
        direction: "in",
        ...id,
        id: dead.id,
        messagePosition: formatBorn(position),
        reason,
        attempts,
        error,
        botVersion: 3,
        atMs,
      });
      const { source: _source, ...body } = decodeWaiting(letter.payload, null, HASH_KEY);
      const { source: _inboxEntry, ...before } = dead;
      expect(body).toEqual(before);
    },
  );

  test("a reply says which one it is, which part, until when it was good, and how its last attempt ended", () => {
    const fields = { direction: "out", bot: "b", channel: "c", conversation: "x", born: "k0-0-0", outSeq: 3 };
    const more = { part: 2, parts: 3, expiresAtMs: 9, reason: "expired", error: "HTTP 503", attempts: 4, atMs: 7 };
    const letter = decodeDeadLetter(Buffer.from(JSON.stringify({ ...fields, ...more, body: "aGk=" })));
    expect(letter).toMatchObject({ ...fields, ...more });
    expect(Buffer.from(letter.payload).toString()).toBe("hi");
    const whole = decodeDeadLetter(Buffer.from(JSON.stringify({ ...fields, reason: "410", atMs: 7, body: "" })));
    expect(whole).toMatchObject({ part: null, parts: null, expiresAtMs: null, error: null, attempts: null });
  });

  test.prop([fc.uint8Array({ maxLength: 100 })])("what cannot be read is kept as it is", (bytes) => {
    const id = { bot: "b", channel: "c", conversation: "x" };
    const letter = decodeDeadLetter(encodeUnreadable(id, bytes, 7));
    expect(letter).toMatchObject({ direction: "in", ...id, id: null, reason: "checksum", atMs: 7 });
    expect([...letter.payload]).toEqual([...bytes]);
  });
});

describe("outbox entries", () => {
  const extra: fc.Arbitrary<ReplyExtra> = fc
    .record({
      expiresAtMs: optional(nat),
      part: optional(fc.integer({ min: 1, max: 16 })),
      parts: optional(fc.integer({ min: 1, max: 16 })),
      isOfNotice: optional(fc.constant(true)),
      isRedriven: optional(fc.constant(true)),
    })
    .map(present);
  const plain = fc.record({
    key: fc
      .constantFrom("a", "\u{1f600}", "c")
      .map((name) => conversationKey({ bot: "b", channel: "c", conversation: name })),
    born: fc.stringMatching(/^[0-9a-z]{1,8}-[0-9a-z]{1,4}-[0-9a-z]{1,3}$/),
    outSeq: fc.maxSafeNat(),
    body: fc.uint8Array({ maxLength: 50 }),
  });
  const reply: fc.Arbitrary<OutboxReply> = fc.oneof(
    plain,
    fc.record({ reply: plain, extra }).map(({ reply, extra }) => ({ ...reply, extra })),
  );
  const flat = (each: OutboxReply | null) => each && { ...each, body: [...each.body] };

  test.prop([fc.array(reply, { maxLength: 20 })])("give every reply back exactly, in order", (replies) => {
    const decoded = decodeOutboxEntry(encodeOutboxEntry(replies));
    expect(decoded.rotten).toEqual([]);
    expect(decoded.replies.map(flat)).toEqual(replies.map(flat));
  });

  test.prop([fc.array(plain, { minLength: 1, maxLength: 5 })])(
    "of replies without an extra are the bytes that they were before there was one",
    (replies) => {
      const frames = replies.map(({ key, born, outSeq, body }) => {
        const head = Buffer.alloc(11);
        head.writeUInt16LE(Buffer.byteLength(key), 0);
        head[2] = born.length;
        head.writeDoubleLE(outSeq, 3);
        const payload = Buffer.concat([head, Buffer.from(key), Buffer.from(born), body]);
        const frame = Buffer.alloc(8);
        frame.writeUInt32LE(payload.length, 0);
        frame.writeUInt32LE(crc32(payload), 4);
        return Buffer.concat([frame, payload]);
      });
      expect(encodeOutboxEntry(replies)).toEqual(Buffer.concat([Buffer.of(1), ...frames]));
    },
  );

  test.prop([fc.array(reply, { minLength: 1, maxLength: 6 }), fc.nat(), fc.integer({ min: 0, max: 7 })])(
    "with one flipped bit give no wrong reply: each is right, rotten, or the entry is refused (attack B18)",
    (replies, at, bit) => {
      const bytes = encodeOutboxEntry(replies);
      bytes[at % bytes.length]! ^= 1 << bit;
      try {
        const decoded = decodeOutboxEntry(bytes);
        expect(decoded.rotten.length).toBeGreaterThan(0);
        decoded.replies.forEach((each, i) => {
          if (each !== null) expect(flat(each)).toEqual(flat(replies[i]!));
        });
      } catch (error) {
        expect(error).toBeInstanceOf(CodecError);
      }
    },
  );

  const spoil = (change: (payload: Buffer) => Buffer) => {
    const key = conversationKey({ bot: "b", channel: "c", conversation: "x" });
    const [whole, last] = [1, 2].map((outSeq) =>
      encodeOutboxEntry([
        { key, born: "k-0-0", outSeq, body: Buffer.from("body"), extra: { part: 1, parts: 2 } },
      ]).subarray(1),
    );
    const payload = change(Buffer.from(whole!.subarray(8)));
    const head = Buffer.alloc(8);
    head.writeUInt32LE(payload.length, 0);
    head.writeUInt32LE(crc32(payload), 4);
    return decodeOutboxEntry(Buffer.concat([Buffer.of(1), head, payload, last!]));
  };

  example.each<[string, (payload: Buffer) => Buffer]>([
    ["is shorter than what each reply has", (payload) => payload.subarray(0, 10)],
    ["ends before its names do", (payload) => payload.subarray(0, 14)],
    ["ends before its extra does", (payload) => payload.subarray(0, payload.indexOf("{") + 3)],
    ["ends where its extra should begin", (payload) => payload.subarray(0, payload.indexOf("{") - 1)],
    ["has an extra that is no JSON", (payload) => Buffer.from(payload.toString("latin1").replace("{", "["), "latin1")],
    [
      "has a list for an extra",
      (payload) =>
        Buffer.from(
          payload.toString("latin1").replace(/\{.*\}/, (is) => `[${"1".repeat(is.length - 2)}]`),
          "latin1",
        ),
    ],
  ])("of which a payload %s, whatever its checksum says, cost that reply alone", (_what, change) => {
    const { replies, rotten } = spoil(change);
    expect(replies.map((each) => each?.outSeq ?? null)).toEqual([null, 2]);
    expect(rotten).toHaveLength(1);
  });

  example("never take a name for an extra: what cannot be told from one is refused", () => {
    const key = conversationKey({ bot: "b", channel: "c", conversation: "x" });
    const of = (born: string): OutboxReply => ({ key, born, outSeq: 1, body: Buffer.from("{}") });
    const longest = "k".repeat(127);
    expect(decodeOutboxEntry(encodeOutboxEntry([of(longest)])).replies.map(flat)).toEqual([flat(of(longest))]);
    expect(() => encodeOutboxEntry([of("k".repeat(128))])).toThrow(RangeError);
    const largest = {
      entry: { ms: Number.MAX_SAFE_INTEGER, seq: Number.MAX_SAFE_INTEGER },
      index: Number.MAX_SAFE_INTEGER,
    };
    expect(formatBorn(largest).length).toBeLessThan(127);
  });
});

describe("lane states", () => {
  example("are read back, and anything else is refused", () => {
    const state = {
      state: "retrying",
      born: "b.0",
      outSeq: 3,
      attempts: 2,
      firstFailedAtMs: 10,
      nextAtMs: 20,
      reason: "HTTP 500",
    } as const;
    expect(decodeLaneState(encodeLaneState(state))).toEqual(state);
    for (const bad of ["", "{}", "[]", '{"state":"flowing","attempts":1}', '{"state":"halted"}'])
      expect(() => decodeLaneState(Buffer.from(bad))).toThrow(CodecError);
  });
});

describe("checksums", () => {
  test.prop([fc.uint8Array({ maxLength: 2_000 })])("are CRC-32 whichever way they are computed", (bytes) => {
    let c = 0xffffffff;
    for (const byte of bytes) {
      c ^= byte;
      for (let k = 0; k < 8; k += 1) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    }
    expect(crc32(bytes)).toBe((c ^ 0xffffffff) >>> 0);
  });
});
