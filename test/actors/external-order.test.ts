// The order of the outside, in a conversation that runs: holds that are durable, gaps, what lifts them, late ones (attacks B3, B8, B12).

import { describe, expect, test } from "vitest";
import { ORDER_CLOCK } from "../../actors/conversation/order-keeper.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { haltName } from "../../src/domain/record.ts";
import { gate, quiet } from "../support/quiet.ts";
import { collector, placed } from "./support/bots.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

const CONTIGUOUS = { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 400, maxHeld: 64, firstSequence: 1 } as const;
const MONOTONIC = { mode: "monotonic", settleMs: 400, maxHeld: 64 } as const;

function ordered(
  order: ExternalOrder,
  options: RigOptions & { available?: boolean; bot?: ReturnType<typeof collector> },
) {
  const bot = options.bot ?? collector(undefined, { ordering: options.available ? "available" : "strict" });
  const rig = new ConversationRig(bot, { channel: testChannel({ order }), ...options });
  return { rig, c: rig.conversation() };
}

function reloaded(rig: ConversationRig, c: ConversationActor): ConversationActor {
  c.stop();
  const next = rig.conversation(c.id.conversation);
  next.wake();
  return next;
}

async function passes(rig: ConversationRig, ms: number): Promise<void> {
  await rig.environment.pass(ms);
  for (let i = 0; i < 4; i += 1) await quiet();
}

const halt = (rig: ConversationRig, c: ConversationActor): string => haltName(rig.record(c).record)!;
const waitingIds = (rig: ConversationRig, c: ConversationActor): string[] => rig.waiting(c).map(({ id }) => id);
const withEpoch = (epoch: number, ...numbers: number[]): Partial<Inbound>[] =>
  placed(...numbers).map((message) => ({ ...message, id: `e${epoch}-${message.id}`, epoch }));

describe("contiguous", () => {
  test("what comes early is held durably, pins no inbox entry, and goes in order when the missing one comes", async () => {
    const { rig, c } = ordered(CONTIGUOUS, {});
    rig.deliver(c, ...placed(3, 2));
    rig.deliver(c, ...placed(4));
    await quiet();
    expect([waitingIds(rig, c), rig.blocked.size]).toEqual([["m3", "m2", "m4"], 0]);
    expect(rig.open.get(c.key)).toMatchObject({ state: "held", waiting: 3, runs: true });
    expect(rig.open.get(c.key)!.why).toBe("waits for its first number");
    rig.deliver(c, ...placed(1));
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2", "m3", "m4"]);
    expect([rig.lists.size, rig.open.size, rig.timers.size]).toEqual([0, 0, 0]);
  });

  test("attack B3: a repeat of a held message is a duplicate of it, before and after a reload", async () => {
    const { rig, c } = ordered(CONTIGUOUS, {});
    rig.deliver(c, ...placed(2, 3));
    rig.deliver(c, ...placed(2));
    await quiet();
    expect([waitingIds(rig, c), rig.counters.duplicates]).toEqual([["m2", "m3"], 1]);
    const next = reloaded(rig, c);
    rig.deliver(next, { id: "m3", sequence: 3, text: "another body" });
    await quiet();
    expect([waitingIds(rig, next), rig.counters.duplicates, rig.counters.conflicts]).toEqual([["m2", "m3"], 2, 1]);
    rig.deliver(next, ...placed(1));
    await quiet();
    expect(rig.state(next)).toEqual(["m1", "m2", "m3"]);
  });

  test("the gap clock starts with the first that is held, is durable, survives a reload and is not reset (Q5)", async () => {
    const { rig, c } = ordered(CONTIGUOUS, {});
    rig.deliver(c, ...placed(3));
    await quiet();
    const dueMs = rig.waiting(c)[0]!.position.entry.ms + 3_000;
    expect([...rig.timers]).toEqual([[`${dueMs} ${ORDER_CLOCK} ${c.key}`, dueMs]]);
    await passes(rig, 2_000);
    const next = reloaded(rig, c);
    rig.deliver(next, ...placed(4, 5));
    await passes(rig, 900);
    expect(next.situation.state).toBe("held");
    await passes(rig, 200);
    expect([next.situation.state, halt(rig, next)]).toEqual(["halted", "gap-0-1"]);
    expect(rig.open.get(c.key)).toMatchObject({ state: "halted", reason: "gap", waiting: 3, runs: false });
    expect(rig.timers.size).toBe(0);
    expect([rig.counters.gaps, rig.counters.halts]).toEqual([1, 1]);
  });

  test("the durable clock wakes one that is not in memory: what is due is decided by the time, not by it (C9)", async () => {
    const { rig, c } = ordered(CONTIGUOUS, {});
    rig.deliver(c, ...placed(2));
    await quiet();
    const dueMs = rig.waiting(c)[0]!.position.entry.ms + 3_000;
    c.stop();
    const early = rig.conversation();
    rig.fire(early, ORDER_CLOCK, dueMs - 5);
    await quiet();
    expect(early.situation.state).toBe("held");
    early.stop();
    await rig.environment.pass(3_001);
    const due = rig.conversation();
    rig.fire(due, ORDER_CLOCK, dueMs);
    for (let i = 0; i < 4; i += 1) await quiet();
    expect(due.situation.state).toBe("halted");
    expect(rig.finished).toHaveLength(2);
  });

  test("attack B12: the missing one lifts the halt by coming, before or after a reload", async () => {
    for (const isReloaded of [false, true]) {
      const { rig, c } = ordered(CONTIGUOUS, {});
      rig.deliver(c, ...placed(2, 4));
      await passes(rig, 3_100);
      expect(c.situation.state).toBe("halted");
      const next = isReloaded ? reloaded(rig, c) : c;
      rig.deliver(next, ...placed(5, 3)); // not what is missing
      await quiet();
      expect([next.situation.state, waitingIds(rig, next)]).toEqual(["halted", ["m2", "m4", "m5", "m3"]]);
      rig.deliver(next, ...placed(1));
      await passes(rig, 1);
      expect([rig.state(next), next.situation.state]).toEqual([["m1", "m2", "m3", "m4", "m5"], "idle"]);
      expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
    }
  });

  test("attack B12: also when it is moved unread, because something else stands in the way", async () => {
    for (const how of ["over its bound", "too long"] as const) {
      const { rig, c } = ordered(CONTIGUOUS, { bounds: { mailboxMax: how === "over its bound" ? 1 : 100 } });
      rig.deliver(c, ...placed(2));
      await passes(rig, 3_100);
      expect(c.situation.state).toBe("halted");
      rig.laneHasRoom = false;
      rig.deliver(c, ...placed(3, 1));
      await quiet();
      c.moveToList();
      await quiet();
      expect(waitingIds(rig, c)).toEqual(["m2", "m3", "m1"]);
      rig.laneHasRoom = true;
      for (const wake of rig.laneWaiters.splice(0)) wake();
      await passes(rig, 1);
      expect([rig.state(c), c.situation.state]).toEqual([["m1", "m2", "m3"], "idle"]);
    }
  });

  test("more than `maxHeld` are not waited for", async () => {
    const { rig, c } = ordered({ ...CONTIGUOUS, maxHeld: 2 }, {});
    rig.deliver(c, ...placed(2, 3));
    await quiet();
    expect(c.situation.state).toBe("held");
    rig.deliver(c, ...placed(4));
    await quiet();
    expect(c.situation.state).toBe("halted");
  });

  test("available: a gap is passed after its time, with one notice before what follows it", async () => {
    const { rig, c } = ordered(CONTIGUOUS, { available: true });
    rig.deliver(c, ...placed(1, 4, 7));
    await passes(rig, 3_100);
    expect(rig.state(c)).toEqual(["m1", "gap:2-3", "m4", "gap:5-6", "m7"]);
    expect(rig.record(c).record).toMatchObject({ seq: 5, extra: { order: { epoch: 0, next: 8 } } });
    expect([rig.open.size, rig.timers.size]).toEqual([0, 0]);
  });

  test("available without a notice handler passes it all the same", async () => {
    const bot = collector(undefined, { ordering: "available", onNotice: {} });
    const { rig, c } = ordered(CONTIGUOUS, { bot });
    rig.deliver(c, ...placed(2));
    await passes(rig, 3_100);
    expect(rig.state(c)).toEqual(["m2"]);
  });

  test("attack B8: what comes after its gap was passed is late and visible, never taken for a duplicate", async () => {
    const { rig, c } = ordered(CONTIGUOUS, { available: true });
    rig.deliver(c, ...placed(2));
    await passes(rig, 3_100);
    rig.deliver(c, ...placed(1));
    rig.deliver(c, ...placed(1));
    await quiet();
    expect(rig.state(c)).toEqual(["gap:1-1", "m2", "late:m1"]);
    expect(rig.counters.duplicates).toBe(1);
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 0, next: 3 } });
  });

  test("without `firstSequence` the lowest within `settleMs` begins, and what is below it comes late", async () => {
    const { rig, c } = ordered({ ...CONTIGUOUS, firstSequence: null }, {});
    rig.deliver(c, ...placed(6, 5));
    await passes(rig, 300);
    expect(c.situation.state).toBe("held");
    await passes(rig, 200);
    rig.deliver(c, ...placed(7, 4));
    await quiet();
    expect(rig.state(c)).toEqual(["m5", "m6", "m7"]);
    expect(rig.dead).toMatchObject([{ id: "m4", reason: "late" }]);
  });

  test("strict: a late one is a dead letter, in the commit that passes it; its repeat is a duplicate", async () => {
    const { rig, c } = ordered({ ...CONTIGUOUS, firstSequence: 5 }, {});
    rig.deliver(c, ...placed(5));
    rig.deliver(c, { id: "m4", sequence: 4, text: "too late" });
    rig.deliver(c, ...placed(6));
    await quiet();
    rig.deliver(c, { id: "m4", sequence: 4, text: "too late" });
    await quiet();
    expect(rig.state(c)).toEqual(["m5", "m6"]);
    expect(rig.dead).toMatchObject([{ direction: "in", id: "m4", reason: "late", attempts: 0 }]);
    expect([rig.counters.duplicates, rig.record(c).record.seq]).toEqual([1, 2]);
  });

  test("one that the outside gave no number is taken as it comes and moves no order", async () => {
    const { rig, c } = ordered(CONTIGUOUS, {});
    rig.deliver(c, ...placed(1), { id: "plain" }, ...placed(2));
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "plain", "m2"]);
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 0, next: 3 } });
  });

  test("a higher epoch begins when nothing of a lower one is held; what comes of the lower one then is late", async () => {
    const { rig, c } = ordered(CONTIGUOUS, { available: true });
    rig.deliver(c, ...withEpoch(0, 1, 2), ...withEpoch(1, 2), ...withEpoch(1, 1));
    await quiet();
    rig.deliver(c, ...withEpoch(0, 3), ...withEpoch(1, 3));
    await quiet();
    expect(rig.state(c)).toEqual(["e0-m1", "e0-m2", "e1-m1", "e1-m2", "late:e0-m3", "e1-m3"]);
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 1, next: 4 } });
  });

  test("a failing turn of a held one keeps its place although lower ones come meanwhile (C8)", async () => {
    let fails = true;
    const bot = collector(
      ({ id }) => {
        if (id === "m2" && fails) throw new Error("not yet");
      },
      { ordering: "available" },
    );
    const { rig, c } = ordered(MONOTONIC, { bot });
    rig.deliver(c, ...placed(2));
    await passes(rig, 450);
    rig.deliver(c, ...placed(1, 3));
    await quiet();
    fails = false;
    await passes(rig, 2_000);
    expect(rig.state(c)).toEqual(["m2", "late:m1", "m3"]);
  });
});

describe("monotonic", () => {
  test("each waits `settleMs` for lower ones, then goes in order; holes are no gaps", async () => {
    const { rig, c } = ordered(MONOTONIC, {});
    rig.deliver(c, ...placed(30));
    await passes(rig, 300);
    rig.deliver(c, ...placed(10, 20));
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["m30", "m10", "m20"]);
    await passes(rig, 150);
    expect(rig.state(c)).toEqual(["m10", "m20", "m30"]);
    expect([rig.counters.gaps, rig.dead.length]).toEqual([0, 0]);
  });

  test("with `settleMs` 0 nothing waits, and what comes lower is late", async () => {
    const { rig, c } = ordered({ ...MONOTONIC, settleMs: 0 }, {});
    rig.deliver(c, ...placed(10, 12, 11));
    await quiet();
    expect(rig.state(c)).toEqual(["m10", "m12"]);
    expect(rig.dead).toMatchObject([{ id: "m11", reason: "late" }]);
    expect(rig.lists.size).toBe(0);
  });

  test("of those held, all of the list is looked at before time releases one, however many pages it has (Q3)", async () => {
    const { rig, c } = ordered(MONOTONIC, {});
    rig.deliver(c, ...placed(90, 80, 70, 60, 50, 40, 30, 20, 10)); // three pages
    await quiet();
    expect(waitingIds(rig, c)).toHaveLength(9);
    c.stop();
    await rig.environment.pass(1_000);
    const next = reloaded(rig, c);
    await passes(rig, 1);
    expect(rig.state(next)).toEqual(["m10", "m20", "m30", "m40", "m50", "m60", "m70", "m80", "m90"]);
    expect(rig.dead).toEqual([]);
  });

  test("what came within `settleMs` while a turn took its time is before what it waited for", async () => {
    const held = gate();
    const { rig, c } = ordered(MONOTONIC, { bot: collector(({ id }) => (id === "plain" ? held.promise : undefined)) });
    rig.deliver(c, ...placed(30), { id: "plain" });
    await quiet();
    rig.deliver(c, ...placed(20));
    await rig.environment.pass(5_000);
    held.open();
    await passes(rig, 1);
    expect(rig.state(c)).toEqual(["plain", "m20", "m30"]);
  });
});
