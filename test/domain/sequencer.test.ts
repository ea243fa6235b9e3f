// The sequencer, rule by rule; sequencer.property.test.ts and conversation-model.property.test.ts state the laws.

import { describe, expect, test } from "vitest";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import { HeldMessages } from "../../src/domain/held-messages.ts";
import type { ConversationRecord } from "../../src/domain/record.ts";
import {
  NOTHING_HELD,
  nextHeld,
  orderAfter,
  orderPastGap,
  sequence,
  waitOnceMore,
} from "../../src/domain/sequencer.ts";
import { at, emptyIds, goingOnWith, type Numbered, numbered, withOrder } from "./support/numbered.ts";

const fromOne: ExternalOrder = { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 500, maxHeld: 3, firstSequence: 1 };
const fromLowest: ExternalOrder = { ...fromOne, firstSequence: null };
const rising: ExternalOrder = { mode: "monotonic", settleMs: 500, maxHeld: 3 };
const NEW = withOrder(undefined);

function holding(...messages: Numbered[]): HeldMessages<Numbered> {
  const held = new HeldMessages<Numbered>();
  for (const message of messages) held.add(message);
  return held;
}

const decide = (record: ConversationRecord, rules: ExternalOrder, message: Numbered, held = holding()) =>
  sequence(record, emptyIds(), rules, message, "inbox", held);

describe("arrival", () => {
  test("releases whatever its number is and keeps none, so that another mode later begins afresh", () => {
    for (const number of [7, 1, undefined]) {
      expect(decide(goingOnWith(5), { mode: "arrival" }, numbered(number, 1_000))).toEqual({
        kind: "release",
        order: undefined,
      });
    }
  });
});

describe("contiguous", () => {
  test("releases the next number, holds higher ones, and calls lower ones late, never duplicates (attack B8)", () => {
    expect(decide(goingOnWith(5), fromOne, numbered(5, 1_000))).toEqual({
      kind: "release",
      order: { epoch: 0, next: 6 },
    });
    expect(decide(goingOnWith(5), fromOne, numbered(6, 1_000))).toEqual({ kind: "hold" });
    expect(decide(goingOnWith(5), fromOne, numbered(4, 1_000))).toEqual({
      kind: "late",
      order: { epoch: 0, next: 5 },
    });
  });

  test("begins with firstSequence where there is one, in a conversation and in an epoch", () => {
    expect(decide(NEW, fromOne, numbered(1, 1_000))).toMatchObject({ kind: "release", order: { epoch: 0, next: 2 } });
    expect(decide(NEW, fromOne, numbered(2, 1_000))).toEqual({ kind: "hold" });
    expect(decide(NEW, fromOne, numbered(0, 1_000))).toEqual({ kind: "late", order: undefined });
    expect(decide(goingOnWith(9), fromOne, numbered(1, 1_000, { epoch: 1 }))).toMatchObject({
      kind: "release",
      order: { epoch: 1, next: 2 },
    });
  });

  test("without firstSequence begins with the lowest that came within settleMs of the oldest", () => {
    expect(decide(NEW, fromLowest, numbered(8, 1_000))).toEqual({ kind: "hold" });
    const held = holding(numbered(8, 1_000), numbered(7, 1_400));
    expect(nextHeld(NEW, fromLowest, held, 1_499)).toEqual({ kind: "wait", untilMs: 1_500 });
    expect(nextHeld(NEW, fromLowest, held, 1_500)).toEqual({ kind: "release", order: { epoch: 0, next: 8 } });
  });

  test("begins with the lowest at once when more than maxHeld wait, and with the first one where settleMs is 0", () => {
    const held = holding(numbered(8, 1_000), numbered(7, 1_000, { id: 2 }), numbered(6, 1_001), numbered(9, 1_002));
    expect(nextHeld(NEW, fromLowest, held, 1_002)).toEqual({ kind: "release", order: { epoch: 0, next: 7 } });
    expect(decide(NEW, { ...fromLowest, settleMs: 0 }, numbered(8, 1_000)).kind).toBe("release");
  });

  test("names what is missing once the oldest that is held has waited gapTimeoutMs from its admission", () => {
    const held = holding(numbered(9, 1_000), numbered(8, 2_000));
    expect(nextHeld(goingOnWith(5), fromOne, held, 3_999)).toEqual({ kind: "wait", untilMs: 4_000 });
    expect(nextHeld(goingOnWith(5), fromOne, held, 4_000)).toEqual({
      kind: "gap",
      from: 5,
      to: 7,
      order: { epoch: 0, next: 8 },
    });
  });

  test("names it at once when more than maxHeld wait, not when exactly so many do", () => {
    const held = holding(numbered(6, 1_000), numbered(7, 1_001), numbered(8, 1_002));
    expect(nextHeld(goingOnWith(5), fromOne, held, 1_002).kind).toBe("wait");
    held.add(numbered(9, 1_003));
    expect(nextHeld(goingOnWith(5), fromOne, held, 1_003)).toMatchObject({ kind: "gap", from: 5, to: 5 });
  });

  test("releases what is held as soon as nothing is missing before it, then waits for the next gap (attack B12)", () => {
    const held = holding(numbered(6, 1_000), numbered(8, 1_100));
    expect(decide(goingOnWith(5), fromOne, numbered(5, 9_000), held)).toMatchObject({ kind: "release" });
    expect(nextHeld(goingOnWith(6), fromOne, held, 1_200)).toEqual({ kind: "release", order: { epoch: 0, next: 7 } });
    held.shift();
    expect(nextHeld(goingOnWith(7), fromOne, held, 1_200)).toEqual({ kind: "wait", untilMs: 4_100 });
  });

  test("waits once more for what is missing when an operator asks, however many wait, and only for this gap", () => {
    const held = holding(numbered(6, 1_000), numbered(7, 1_001), numbered(8, 1_002), numbered(9, 1_003));
    const record = withOrder(waitOnceMore({ epoch: 0, next: 5 }, 50_000));
    expect(nextHeld(record, fromOne, held, 50_000)).toEqual({ kind: "wait", untilMs: 53_000 });
    expect(nextHeld(record, fromOne, held, 53_000)).toMatchObject({ kind: "gap", from: 5, to: 5 });
    expect(decide(record, fromOne, numbered(5, 51_000))).toEqual({ kind: "release", order: { epoch: 0, next: 6 } });
    expect(nextHeld(withOrder(waitOnceMore(undefined, 50_000)), fromOne, held, 53_000)).toMatchObject({
      kind: "gap",
      from: 1,
      to: 5,
    });
  });
});

describe("passing a gap", () => {
  const five = { epoch: 0, sequence: 5 };

  test("goes on with the lowest that waits, and never back to what is late, redriven or without a number", () => {
    const late = numbered(2, 1_000);
    const redriven = numbered(3, 1_001, { extra: { redrives: "9-0" } });
    const waiting = [late, redriven, numbered(undefined, 1_002), numbered(9, 1_003), numbered(8, 1_004)];
    expect(orderPastGap(goingOnWith(5), fromOne, five, waiting)).toEqual({ epoch: 0, next: 8 });
    expect(orderPastGap(goingOnWith(5), fromOne, five, [late])).toEqual({ epoch: 0, next: 5 });
  });

  test("goes on with a higher epoch only where nothing of the present one waits", () => {
    const higher = numbered(4, 1_000, { epoch: 1 });
    expect(orderPastGap(goingOnWith(5), fromOne, five, [higher, numbered(8, 1_001)])).toEqual({ epoch: 0, next: 8 });
    expect(orderPastGap(goingOnWith(5), fromOne, five, [higher])).toEqual({ epoch: 1, next: 4 });
  });

  test("passes no number that the gap did not name: a lower epoch may have one of its own by now (Q4)", () => {
    const missing = { epoch: 1, sequence: 1 };
    const higher = numbered(21, 1_000, { epoch: 1 });
    const behindTwo = numbered(3, 1_001);
    expect(orderPastGap(goingOnWith(2), fromOne, missing, [higher, behindTwo])).toEqual({ epoch: 0, next: 2 });
    expect(orderPastGap(NEW, fromOne, missing, [higher, behindTwo])).toBeUndefined();
    const held = holding(higher, behindTwo);
    expect(nextHeld(goingOnWith(2), fromOne, held, 9_000)).toMatchObject({ kind: "gap", from: 2, to: 2 });
    held.shift();
    expect(nextHeld(goingOnWith(4), fromOne, held, 9_000)).toMatchObject({ kind: "gap", from: 1, to: 20 });
    expect(orderPastGap(goingOnWith(4), fromOne, missing, [higher])).toEqual({ epoch: 1, next: 21 });
  });

  test("passes nothing where what is missing waits by now", () => {
    expect(orderPastGap(goingOnWith(5), fromOne, five, [numbered(8, 1_000), numbered(5, 1_001)])).toEqual({
      epoch: 0,
      next: 5,
    });
  });
});

describe("while messages are not sequenced yet", () => {
  test("no time is up at 0, and what needs no time goes all the same", () => {
    const held = holding(numbered(50, 1_000));
    expect(nextHeld(goingOnWith(41), rising, held, 0)).toEqual({ kind: "wait", untilMs: 1_500 });
    expect(nextHeld(goingOnWith(41), fromOne, held, 0)).toEqual({ kind: "wait", untilMs: 4_000 });
    expect(nextHeld(goingOnWith(50), fromOne, held, 0).kind).toBe("release");
    expect(nextHeld(goingOnWith(51), rising, held, 0).kind).toBe("late");
  });
});

describe("monotonic", () => {
  test("releases at once where settleMs is 0, and calls what is lower late", () => {
    const rules: ExternalOrder = { ...rising, settleMs: 0 };
    expect(decide(NEW, rules, numbered(40, 1_000))).toEqual({ kind: "release", order: { epoch: 0, next: 41 } });
    expect(decide(goingOnWith(41), rules, numbered(90, 1_000)).kind).toBe("release");
    expect(decide(goingOnWith(41), rules, numbered(40, 1_000)).kind).toBe("late");
  });

  test("holds every message for settleMs, then lets it go behind everything lower, settled or not", () => {
    expect(decide(goingOnWith(41), rising, numbered(50, 1_000))).toEqual({ kind: "hold" });
    const held = holding(numbered(50, 1_000), numbered(45, 1_400), numbered(60, 1_300));
    expect(nextHeld(goingOnWith(41), rising, held, 1_499)).toEqual({ kind: "wait", untilMs: 1_500 });
    expect(nextHeld(goingOnWith(41), rising, held, 1_500)).toEqual({ kind: "release", order: { epoch: 0, next: 46 } });
    held.shift();
    expect(nextHeld(goingOnWith(46), rising, held, 1_500)).toEqual({ kind: "release", order: { epoch: 0, next: 51 } });
    held.shift();
    expect(nextHeld(goingOnWith(51), rising, held, 1_500)).toEqual({ kind: "wait", untilMs: 1_800 });
  });

  test("holds for settleMs also what follows the last one without a hole", () => {
    expect(nextHeld(goingOnWith(41), rising, holding(numbered(41, 1_000)), 1_499).kind).toBe("wait");
  });

  test("lets the lowest go at once when more than maxHeld wait; a hole is never a gap", () => {
    const held = holding(numbered(50, 1_000), numbered(45, 1_001), numbered(60, 1_002), numbered(70, 1_003));
    expect(nextHeld(goingOnWith(2), rising, held, 1_003)).toEqual({ kind: "release", order: { epoch: 0, next: 46 } });
  });
});

describe("epochs", () => {
  test("a higher one waits behind what is held of a lower one, and only what is missing within one is a gap", () => {
    const held = holding(numbered(1, 1_000, { epoch: 1 }), numbered(8, 2_000));
    expect(decide(goingOnWith(6), fromOne, numbered(1, 3_000, { epoch: 2 }), held)).toEqual({ kind: "hold" });
    expect(nextHeld(goingOnWith(6), fromOne, held, 4_000)).toMatchObject({ kind: "gap", from: 6, to: 7 });
    held.shift();
    expect(nextHeld(goingOnWith(9), fromOne, held, 4_000)).toEqual({ kind: "release", order: { epoch: 1, next: 2 } });
  });

  test("a gap at the beginning of one lies in it", () => {
    const held = holding(numbered(4, 1_000, { epoch: 1 }));
    expect(nextHeld(goingOnWith(6), fromOne, held, 4_000)).toEqual({
      kind: "gap",
      from: 1,
      to: 3,
      order: { epoch: 1, next: 4 },
    });
  });

  test("a lower one than the present is late, in both modes with numbers", () => {
    for (const rules of [fromOne, fromLowest, rising]) {
      expect(decide(goingOnWith(2, 3), rules, numbered(99, 1_000, { epoch: 2 })).kind).toBe("late");
    }
  });

  test("a new one settles again where there is no firstSequence, while the old one may still go on", () => {
    const held = holding(numbered(3, 1_000, { epoch: 1 }));
    expect(nextHeld(goingOnWith(6), fromLowest, held, 1_499)).toEqual({ kind: "wait", untilMs: 1_500 });
    expect(decide(goingOnWith(6), fromLowest, numbered(6, 1_200), held).kind).toBe("release");
    expect(nextHeld(goingOnWith(6), fromLowest, held, 1_500)).toMatchObject({ kind: "release", order: { epoch: 1 } });
  });
});

describe("in every mode", () => {
  const modes: ExternalOrder[] = [{ mode: "arrival" }, fromOne, fromLowest, rising];

  test.each(modes)("a message without a number goes in its turn and changes no order ($mode)", (rules) => {
    const decision = decide(goingOnWith(5), rules, numbered(undefined, 1_000), holding(numbered(9, 500)));
    expect(decision).toEqual({
      kind: "release",
      order: rules.mode === "arrival" ? undefined : { epoch: 0, next: 5 },
    });
  });

  test.each(modes)("a redriven message goes in its turn, though its number is long past ($mode)", (rules) => {
    const redriven = numbered(2, 1_000, { extra: { redrives: "9-0" } });
    expect(decide(goingOnWith(5), rules, redriven).kind).toBe("release");
  });

  test.each(modes)("a repeat of what is held is a duplicate, with another body a conflict ($mode)", (rules) => {
    const held = holding(numbered(9, 500, { id: 7, body: 1 }));
    const again = (body: number) => decide(goingOnWith(5), rules, numbered(9, 1_000, { id: 7, body }), held);
    expect(again(1)).toEqual({ kind: "duplicate", conflict: false });
    expect(again(2)).toEqual({ kind: "duplicate", conflict: true });
  });

  test.each(modes)("the cursor counts for the inbox and not for the waiting list ($mode)", (rules) => {
    const record = { ...goingOnWith(5), cursor: at(2_000) };
    const message = numbered(5, 1_000);
    expect(sequence(record, emptyIds(), rules, message, "inbox", NOTHING_HELD).kind).toBe("consumed");
    expect(sequence(record, emptyIds(), rules, message, "waiting", NOTHING_HELD).kind).not.toBe("consumed");
  });

  test("of two held with the same place the one admitted first goes, the other is late", () => {
    const held = holding(numbered(5, 1_001), numbered(5, 1_000));
    expect(held.peek()!.position).toEqual(at(1_000));
    expect(nextHeld(goingOnWith(5), fromOne, held, 1_001)).toMatchObject({ kind: "release" });
    held.shift();
    expect(nextHeld(goingOnWith(6), fromOne, held, 1_001)).toEqual({ kind: "late", order: { epoch: 0, next: 6 } });
    expect(decide(goingOnWith(5), fromOne, numbered(5, 1_002), holding(numbered(5, 1_000)))).toEqual({ kind: "hold" });
  });

  test("a turn that is open is decided where it stands, though lower ones came meanwhile", () => {
    expect(orderAfter(goingOnWith(5), fromOne, numbered(7, 1_000))).toEqual({ epoch: 0, next: 8 });
    expect(orderAfter(goingOnWith(9), fromOne, numbered(7, 1_000))).toEqual({ epoch: 0, next: 9 });
    expect(orderAfter(goingOnWith(9), fromOne, numbered(undefined, 1_000))).toEqual({ epoch: 0, next: 9 });
    expect(orderAfter(goingOnWith(9), { mode: "arrival" }, numbered(7, 1_000))).toBeUndefined();
  });

  test("nothing held allows nothing", () => {
    for (const rules of modes) {
      expect(nextHeld(goingOnWith(5), rules, NOTHING_HELD, 9_000)).toEqual({ kind: "nothing" });
    }
  });
});
