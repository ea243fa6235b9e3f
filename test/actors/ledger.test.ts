// K1 to K3 of actors/ledger.ts.

import { describe, expect, test } from "vitest";
import { Ledger } from "../../actors/ledger.ts";
import { checkBots } from "../../src/check-bot.ts";
import { decodeInboxEntry, encodeWaiting, InboxBatch } from "../../src/codec/inbox-codec.ts";
import { decodeOpenEntry } from "../../src/codec/open-codec.ts";
import { checkedState, decodeRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { type ConversationRecord, NO_OPEN_TURN, newRecord, withExtra } from "../../src/domain/record.ts";
import { newCounters } from "../../src/metrics.ts";
import { collector } from "./support/bots.ts";

const ID = { bot: "b", channel: "test", conversation: "c1" };
const KEY = conversationKey(ID);
const NOTHING = { outbox: [], transcript: [], bytes: 0 };
const reply = (text: string) => ({ ...NOTHING, outbox: [{ key: KEY, born: "b", outSeq: 1, body: Buffer.from(text) }] });

function ledgerOf(stored: { record: Uint8Array | null; ids: Uint8Array | null } = { record: null, ids: null }) {
  const told = { changes: 0, bytes: 0 };
  const [bot] = checkBots([collector()]);
  const bounds = { dedupeMs: 60_000, dedupeMax: 100, waitingMax: 4, waitingBytesMax: 10_000 };
  const ledger = new Ledger(KEY, bot!, bounds, {
    counters: newCounters(),
    nowMs: () => 5_000,
    monotonicMs: () => 5_000,
    changed: () => {
      told.changes += 1;
    },
    resized: (bytes) => {
      told.bytes += bytes;
    },
  });
  ledger.load(stored);
  return { ledger, told };
}

function message(n: number, extra: object = {}): InboxMessage {
  const batch = new InboxBatch();
  batch.add(KEY, { to: ID, id: `m${n}`, text: `text ${n}` });
  const bytes = batch.finish();
  const entry = { id: { ms: 1_000 + n, seq: 0 }, bytes: bytes.length, undecided: 1 };
  return { ...(decodeInboxEntry(bytes, entry, { lo: 1, hi: 2 }).messages[0] as InboxMessage), ...extra };
}

const taken = (ledger: Ledger) => {
  const pending = ledger.takeWrite();
  return { ...pending, record: decodeRecord(pending.write.record).record, aside: pending.write.aside };
};

describe("every change stands in what the committer takes next, whole (K1)", () => {
  const m1 = message(1);
  const changes: readonly [string, (ledger: Ledger) => unknown, object][] = [
    [
      "a turn",
      (ledger) => ledger.turn(m1, m1.position, { state: ["m1"], rendered: reply("r"), replies: 1 }, null, []),
      { seq: 1, outSeq: 1, cursor: m1.position },
    ],
    [
      "replies of a turn that goes on",
      (ledger) => ledger.flush(m1.position, { rendered: reply("r"), replies: 1 }),
      { outSeq: 1, seq: 0 },
    ],
    ["a duplicate", (ledger) => ledger.drop(m1), { seq: 0, cursor: m1.position }],
    ["a dead letter", (ledger) => ledger.setAside(m1, "dead", Buffer.from("l"), null), { seq: 0, cursor: m1.position }],
    [
      "a move to the list",
      (ledger) => ledger.move(m1, encodeWaiting(m1)),
      { extra: { waiting: { count: 1 } }, cursor: m1.position },
    ],
    [
      "a change of the extra",
      (ledger) => ledger.change(m1.position, { openTurn: { ...NO_OPEN_TURN, position: m1.position } }),
      { extra: { openTurn: { attempts: 0 } } },
    ],
  ];
  for (const [what, change, expected] of changes) {
    test(what, () => {
      const { ledger, told } = ledgerOf();
      expect([ledger.isSettled, told.changes]).toEqual([true, 0]);
      change(ledger);
      expect([ledger.isSettled, told.changes]).toEqual([false, 1]);
      const { record } = taken(ledger);
      expect(record).toMatchObject(expected);
      expect(record).toEqual(ledger.record);
      expect([ledger.isSettled, ledger.isInFlight]).toEqual([false, true]);
      ledger.committed();
      expect([ledger.isSettled, ledger.isInFlight]).toEqual([true, false]);
    });
  }

  test("several together are one value; what comes while it flies is the next one", () => {
    const { ledger } = ledgerOf();
    const [a, b, c] = [message(1), message(2), message(3)];
    ledger.turn(a, a.position, { state: ["m1"], rendered: reply("r1"), replies: 1 }, null, []);
    ledger.setAside(b, "late", Buffer.from("letter"), null);
    const first = taken(ledger);
    ledger.move(c, encodeWaiting(c));
    expect(first.consumed.map((each) => each.source.id.ms)).toEqual([1_001, 1_002]);
    expect([first.dead.length, first.replies.length, first.write.ids!.bytes.length]).toEqual([1, 1, 32]); // both ids
    expect([ledger.uncommittedTurns, ledger.uncommittedReplies, ledger.isListUncommitted]).toEqual([1, 1, true]);
    ledger.committed();
    expect([ledger.uncommittedTurns, ledger.uncommittedReplies]).toEqual([0, 0]);
    const second = taken(ledger);
    expect(second.aside!.waiting).toMatchObject([{ id: 1 }]);
    expect([second.write.ids, second.consumed.length]).toEqual([null, 1]);
  });

  test("what is taken back counts no more, and is given back in order", () => {
    const { ledger } = ledgerOf();
    const [a, b] = [message(1), message(2)];
    ledger.drop(a);
    ledger.move(b, encodeWaiting(b));
    expect(ledger.takeBack()).toEqual([a, b]);
    expect([ledger.isSettled, ledger.movedBytes]).toEqual([true, 0]);
  });

  test("a message of the list leaves it instead of moving the cursor; a redriven one takes its letter along", () => {
    const { ledger } = ledgerOf();
    const [a, b] = [message(1), message(2)];
    const [first, second] = [ledger.move(a, encodeWaiting(a)), ledger.move(b, encodeWaiting(b))];
    taken(ledger);
    ledger.committed();
    ledger.drop(first);
    const redriven = { ...second, extra: { redrives: "77-1" } };
    ledger.turn(redriven, b.position, { state: ["m2"], rendered: NOTHING, replies: 0 }, null, []);
    const { aside, record, deadDone, consumed } = taken(ledger);
    expect([aside!.waitingDone, consumed, record.cursor]).toEqual([[1, 2], [], b.position]);
    expect(deadDone).toEqual([{ ms: 77, seq: 1 }]);
    expect(ledger.record!.extra!.waiting).toMatchObject({ count: 0, nextId: 3, bytes: 0 });
  });

  test("the last word on a timer counts", () => {
    const { ledger } = ledgerOf();
    ledger.change(message(1).position, {});
    ledger.setTimer("!retry", 5, 5);
    ledger.setTimer("!retry", 6, 6);
    ledger.setTimer("!retry", 5, null);
    expect(taken(ledger).aside!.timers).toEqual([
      { name: "!retry", generation: 6, atMs: 6 },
      { name: "!retry", generation: 5, atMs: null },
    ]);
  });
});

describe("state that no turn made in this life is copied as it is stored (K2)", () => {
  const stored = (state: string, record: ConversationRecord = newRecord(message(1).position)) => ({
    record: encodeRecord(record, 1, state),
    ids: null,
  });

  test("byte for byte, also when it is no JSON at all", () => {
    const { ledger } = ledgerOf(stored('[ "m0" , }'));
    ledger.drop(message(2));
    const { write } = ledger.takeWrite();
    expect(Buffer.from(checkedState(decodeRecord(write.record)).bytes).toString()).toBe('[ "m0" , }');
    expect(() => ledger.currentState()).toThrow(SyntaxError); // a turn's failure, not the ledger's
  });

  test("what a turn made is stored from then on", () => {
    const { ledger } = ledgerOf(stored('["m0"]'));
    expect(ledger.currentState()).toEqual(["m0"]);
    const m1 = message(1);
    ledger.turn(m1, m1.position, { state: ["m0", "m1"], rendered: NOTHING, replies: 0 }, null, []);
    ledger.takeWrite();
    ledger.drop(message(2));
    const { write } = ledger.takeWrite();
    expect(Buffer.from(decodeRecord(write.record).stateBytes).toString()).toBe('["m0","m1"]');
  });

  test("a new conversation has the bot's initial state, also where nothing but its list was written", () => {
    const { ledger } = ledgerOf();
    const m1 = message(1);
    ledger.move(m1, encodeWaiting(m1));
    const { write } = ledger.takeWrite();
    expect(Buffer.from(decodeRecord(write.record).stateBytes).toString()).toBe("[]");
  });
});

describe("the index follows the record (K3)", () => {
  const openOf = (aside: { open: Uint8Array | null | undefined } | undefined) =>
    aside?.open === undefined || aside.open === null ? aside?.open : decodeOpenEntry(aside.open);

  test("it is told when the entry changes, and no more often", () => {
    const { ledger } = ledgerOf();
    const [a, b] = [message(1), message(2)];
    ledger.drop(a);
    expect(taken(ledger).aside).toBeUndefined();
    const listed = ledger.move(b, encodeWaiting(b));
    expect(openOf(taken(ledger).aside)).toMatchObject({ state: "active", waiting: 1, sinceMs: 5_000 });
    ledger.drop(message(3));
    expect(taken(ledger).aside).toBeUndefined();
    ledger.drop(listed);
    expect(openOf(taken(ledger).aside)).toBe(null);
    ledger.drop(message(4));
    expect(taken(ledger).aside).toBeUndefined();
  });

  test("after a load the first change is told in any case: what stood there is not known", () => {
    const waiting = { nextId: 2, count: 1, bytes: 50, isFull: false };
    const record = withExtra(newRecord(message(1).position), { waiting });
    const { ledger } = ledgerOf({ record: encodeRecord(record, 1, "[]"), ids: null });
    ledger.drop(message(2));
    expect(openOf(taken(ledger).aside)).toMatchObject({ state: "active", waiting: 1 });
    ledger.drop(message(3));
    expect(taken(ledger).aside).toBeUndefined();
  });

  test("that it is full is told when it begins and when it ends, also across a load", () => {
    const { ledger } = ledgerOf();
    const fulls: (boolean | undefined)[] = [];
    const listed = [1, 2, 3, 4].map((n) => {
      const moved = ledger.move(message(n), encodeWaiting(message(n)));
      fulls.push(taken(ledger).aside!.full);
      return moved;
    });
    expect(fulls).toEqual([undefined, undefined, undefined, true]);
    const { ledger: next } = ledgerOf({ record: encodeRecord(ledger.record!, 1, "[]"), ids: null });
    const after = listed.map((each) => {
      next.drop(each);
      return taken(next).aside!.full;
    });
    expect(after).toEqual([undefined, undefined, false, undefined]);
  });
});
