import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import {
  conversationKey,
  idempotencyKey,
  idempotencyPrefix,
  parseConversationKey,
  replyKey,
  shardOf,
} from "../../src/domain/ids.ts";
import { replyName } from "../../src/domain/lane.ts";
import { formatBorn } from "../../src/domain/position.ts";

const anyId = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" });
const conversation = fc.record({ bot: anyId, channel: anyId, conversation: anyId });

describe("conversation keys", () => {
  test.prop([conversation])("give the three ids back exactly (N1, N2)", (id) => {
    expect(parseConversationKey(conversationKey(id))).toEqual(id);
  });

  test.prop([conversation, conversation])(
    "differ where the ids differ: bot:a + b is not bot + a:b (attack B16)",
    (a, b) => {
      const same = a.bot === b.bot && a.channel === b.channel && a.conversation === b.conversation;
      expect(conversationKey(a) === conversationKey(b)).toBe(same);
    },
  );

  test.prop([fc.string()])("of another making are refused, or are the key of what they parse to", (text) => {
    try {
      expect(conversationKey(parseConversationKey(text))).toBe(text);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
    }
  });

  test.prop([conversation, fc.integer({ min: 1, max: 256 })])(
    "always have a shard within the namespace",
    (id, shards) => {
      const shard = shardOf(conversationKey(id), shards);
      expect(shard).toBeGreaterThanOrEqual(0);
      expect(shard).toBeLessThan(shards);
    },
  );
});

describe("idempotency keys", () => {
  test.prop([conversation, conversation, fc.nat(), fc.nat()])(
    "are legal header values and name one reply each",
    (a, b, m, n) => {
      const key = idempotencyKey(a, "k1-0-0", m);
      expect(key).toMatch(/^[\x21-\x7e]+$/);
      const same = conversationKey(a) === conversationKey(b) && m === n;
      expect(key === idempotencyKey(b, "k1-0-0", n)).toBe(same);
    },
  );

  const part = fc.option(fc.integer({ min: 1, max: 16 }), { nil: undefined });

  test.prop([conversation, fc.nat(), fc.nat(), part, part])(
    "of parts name one part each, and end with the name of the reply",
    (id, m, n, one, other) => {
      const key = idempotencyKey(id, "k1-0-0", m, one);
      const isSame = m === n && one === other;
      expect(key === idempotencyKey(id, "k1-0-0", n, other)).toBe(isSame);
      expect(key).toBe(replyKey(idempotencyPrefix(id, "k1-0-0"), m, one));
      expect(key.slice(key.lastIndexOf("~") + 1)).toBe(replyName({ born: "k1-0-0", outSeq: m, part: one }));
    },
  );

  test("of a reply of one body are as they were before there were parts", () => {
    const id = { bot: "b", channel: "http", conversation: "a~b" };
    expect(idempotencyKey(id, "k1-0-0", 7)).toBe("b~http~a%7Eb~k1-0-0.7");
    expect(idempotencyKey(id, "k1-0-0", 7, 2)).toBe("b~http~a%7Eb~k1-0-0.7.2");
  });

  const born = fc
    .record({ entry: fc.record({ ms: fc.nat(), seq: fc.nat() }), index: fc.nat(999) })
    .map((position) => formatBorn(position));

  test.prop([conversation, born, born, fc.nat(), fc.nat()])(
    "of two lives of a conversation are never the same (attack B7)",
    (id, first, second, m, n) => {
      expect(idempotencyKey(id, first, m) === idempotencyKey(id, second, n)).toBe(first === second && m === n);
    },
  );
});
