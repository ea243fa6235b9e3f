import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { crc32 } from "../../src/codec/checksum.ts";
import { decodeInboxEntry, InboxBatch, inboxBytesMax } from "../../src/codec/inbox-codec.ts";
import { decodeLaneState, encodeLaneState } from "../../src/codec/lane-codec.ts";
import { decodeOutboxEntry, encodeOutboxEntry } from "../../src/codec/outbox-codec.ts";
import { checkedState, decodeRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
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
    sentAtMs: optional(fc.nat()),
  })
  .map(
    (message) =>
      Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined)) as unknown as Inbound,
  );
const position = fc.record({
  entry: fc.record({ ms: fc.maxSafeNat(), seq: fc.maxSafeNat() }),
  index: fc.integer({ min: -1, max: 100_000 }),
});
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const record = fc.record({
  seq: fc.maxSafeNat(),
  outSeq: fc.maxSafeNat(),
  cursor: position,
  born: position,
  chain: fc.record({ lo: u32, hi: u32 }),
});

const HASH_KEY = { lo: 1, hi: 2 };
const entryOf = (bytes: Buffer) => ({ id: { ms: 5, seq: 0 }, bytes: bytes.length, undecided: 0 });

function batchOf(messages: readonly Inbound[]): Buffer {
  const batch = new InboxBatch();
  for (const message of messages) batch.add(conversationKey(message.to), message);
  return batch.finish();
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
      decoded.messages.forEach((message, index) => {
        const sent = messages[index]!;
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
        for (const message of decoded.messages) {
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
    expect(decoded.messages.map(({ id }) => id)).toEqual(["m1", "m3"]);
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

describe("outbox entries", () => {
  const reply = fc.record({
    key: id.map((conversation) => conversationKey({ bot: "b", channel: "c", conversation })),
    born: fc.stringMatching(/^[0-9a-z]{1,8}-[0-9a-z]{1,4}-[0-9a-z]{1,3}$/),
    outSeq: fc.maxSafeNat(),
    body: fc.uint8Array({ maxLength: 50 }),
  });

  test.prop([fc.array(reply, { maxLength: 20 })])("give every reply back exactly, in order", (replies) => {
    const decoded = decodeOutboxEntry(encodeOutboxEntry(replies));
    expect(decoded.rotten).toEqual([]);
    expect(decoded.replies.map((each) => ({ ...each, body: [...each!.body] }))).toEqual(
      replies.map((each) => ({ ...each, body: [...each.body] })),
    );
  });
});

describe("lane states", () => {
  example("are read back, and anything else is refused", () => {
    const state = {
      state: "retrying",
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
