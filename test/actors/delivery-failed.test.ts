// Markers of replies that became dead letters: `onNotice.deliveryFailed` (DESIGN 5; attack B17).

import { describe, expect, test } from "vitest";
import { RETRY_CLOCK } from "../../actors/conversation/head-turn.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import type { BotDefinition } from "../../src/domain/bot.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { TerminalError } from "../../src/errors.ts";
import { quiet } from "../support/quiet.ts";
import { collector, ids, placed, type Seen } from "./support/bots.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

type Told = NonNullable<NonNullable<BotDefinition<Seen>["onNotice"]>["deliveryFailed"]>;

const remember: Told = (state, { outSeq, reason }) => [...state, `failed:${outSeq} ${reason}`];

/** A bot that is told, and what fails of its messages. */
function told(
  handler: Told | undefined = remember,
  rest: Partial<BotDefinition<Seen>> = {},
  options: RigOptions = {},
  fails: ReadonlyMap<string, Error> = new Map(),
) {
  const onNotice = {
    poisoned: (state: Seen, { id }: { readonly id: string }): Seen => [...state, `poisoned:${id}`],
    ...(handler && { deliveryFailed: handler }),
  };
  const bot = collector(
    ({ id }) => {
      const error = fails.get(id);
      if (error !== undefined) throw error;
    },
    { ordering: "available", onNotice, ...rest },
  );
  const rig = new ConversationRig(bot, options);
  return { rig, c: rig.conversation() };
}

const marker = (rig: ConversationRig, c: ConversationActor, outSeq: number, reason = "terminal"): InboxMessage =>
  rig.messages(c, [{ id: `delivery-failed:k1-0-0.${outSeq}` }], { deliveryFailed: { outSeq, reason } })[0]!;

const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i += 1) await quiet();
};

const reloaded = (rig: ConversationRig, c: ConversationActor): ConversationActor => {
  c.stop();
  return rig.conversation(c.id.conversation);
};

const never = (): never => {
  throw new TerminalError("never");
};

describe("a bot with a handler for it", () => {
  test("is told in one turn, in the marker's place among the messages, of what is frozen", async () => {
    const given: unknown[] = [];
    const { rig, c } = told((state, notice, ctx) => {
      given.push(notice, Object.isFrozen(notice), Object.isFrozen(state), ctx.now().getTime());
      return remember(state, notice, ctx) as Seen;
    });
    rig.deliver(c, { id: "m1" });
    const failed = marker(rig, c, 7, "gone");
    c.deliver(failed);
    rig.deliver(c, { id: "m2" });
    await settle();
    expect(rig.state(c)).toEqual(["m1", "failed:7 gone", "m2"]);
    expect(given).toEqual([{ outSeq: 7, reason: "gone" }, true, true, failed.position.entry.ms]);
    expect(rig.record(c).record).toMatchObject({ seq: 3, extra: null });
  });

  test("also where it begins the record of its conversation", async () => {
    const { rig, c } = told();
    const failed = marker(rig, c, 1);
    c.deliver(failed);
    await settle();
    expect([rig.state(c), rig.record(c).record.born]).toEqual([["failed:1 terminal"], failed.position]);
  });

  test("replies that it makes then answer nobody and say that they are of a notice: no marker for a marker", async () => {
    const { rig, c } = told((state, _notice, ctx) => {
      ctx.reply("I could not tell you something");
      return state;
    });
    c.deliver(marker(rig, c, 3));
    await settle();
    expect(rig.replies).toEqual([{ outSeq: 1, inReplyTo: null, text: "I could not tell you something" }]);
    expect(rig.writes.flatMap(({ replies }) => replies).map(({ extra }) => extra)).toEqual([{ isOfNotice: true }]);
  });

  test("also those that leave in the middle of its turn", async () => {
    const { rig, c } = told(async (state, _notice, ctx) => {
      ctx.reply("first");
      await ctx.replyNow();
      ctx.reply("second");
      return state;
    });
    c.deliver(marker(rig, c, 3));
    await settle();
    const replies = rig.writes.flatMap(({ replies }) => replies);
    expect(replies.map(({ extra, outSeq }) => [outSeq, extra?.isOfNotice])).toEqual([
      [1, true],
      [2, true],
    ]);
  });

  test("sends of its turn are of this conversation and of the first hop", async () => {
    const { rig, c } = told((state, { outSeq }, ctx) => {
      ctx.send({ conversation: "operators" }, { text: `lost ${outSeq}` });
      return state;
    });
    c.deliver(marker(rig, c, 3));
    await settle();
    const sends = rig.writes.flatMap(({ sends }) => sends);
    expect(sends).toMatchObject([{ text: "lost 3", hops: 1, from: c.id, to: { conversation: "operators" } }]);
  });

  test("is told nothing of a transcript's user by it", async () => {
    const { rig, c } = told(remember, {}, { channel: testChannel({ delivery: "transcript" }) });
    c.deliver(marker(rig, c, 3));
    await settle();
    expect(rig.state(c)).toEqual(["failed:3 terminal"]);
    expect(rig.writes.flatMap(({ write }) => write.transcript ?? [])).toEqual([]);
  });

  test("once: another of the same id is a duplicate, as of any message", async () => {
    const { rig, c } = told();
    c.deliver(marker(rig, c, 2));
    c.deliver(marker(rig, c, 2));
    await settle();
    const next = reloaded(rig, c);
    next.deliver(marker(rig, next, 2));
    await settle();
    expect(rig.state(next)).toEqual(["failed:2 terminal"]);
    expect([rig.counters.duplicates, rig.counters.conflicts]).toEqual([2, 0]);
  });

  test("a step of its turn is done once, over a failure and a reload", async () => {
    let effects = 0;
    let fails = true;
    const { rig, c } = told(async (state, notice, ctx) => {
      await ctx.step("page somebody", () => {
        effects += 1;
      });
      if (fails) throw new Error("not yet");
      return (await remember(state, notice, ctx)) as Seen;
    });
    const failed = marker(rig, c, 2);
    c.deliver(failed);
    await settle();
    expect(rig.record(c).record.extra!.openTurn).toMatchObject({ position: failed.position, attempts: 1 });
    fails = false;
    const next = reloaded(rig, c);
    next.deliver(failed); // read again
    await rig.environment.pass(2_000);
    await settle();
    expect([rig.state(next), effects, rig.record(next).record.extra]).toEqual([["failed:2 terminal"], 1, null]);
  });
});

describe("a bot that is not told", () => {
  for (const [what, rest] of [
    ["it has no handler for it", { onNotice: {} }],
    ["it has no handlers of notices", { onNotice: undefined }],
    ["its ordering is strict", { ordering: "strict" }],
    ["its ordering is that by default", { ordering: undefined }],
  ] as const) {
    test(`as ${what}: the marker is consumed without a turn, and only once`, async () => {
      const { rig, c } = told(remember, rest as Partial<BotDefinition<Seen>>);
      c.deliver(marker(rig, c, 1));
      rig.deliver(c, { id: "m1" });
      const failed = marker(rig, c, 2);
      c.deliver(failed);
      await settle();
      expect([rig.state(c), rig.counters.turns, rig.counters.failedTurns]).toEqual([["m1"], 1, 0]);
      expect(rig.record(c).record).toMatchObject({ seq: 1, cursor: failed.position, extra: null });
      expect(rig.writes.flatMap(({ consumed }) => consumed)).toHaveLength(3);
      expect([rig.dead.length, rig.counters.deadLetters, c.settled]).toEqual([0, 0, true]);
      c.deliver(marker(rig, c, 2));
      await settle();
      expect(rig.counters.duplicates).toBe(1);
    });
  }

  test("any more, as it was deployed without the handler while its turn had failed: nothing of that is left", async () => {
    const { rig, c } = told(() => {
      throw new Error("not yet");
    });
    const failed = marker(rig, c, 2);
    c.deliver(failed);
    await settle();
    c.moveToList();
    await settle();
    expect([...rig.timers.keys()][0]).toContain(RETRY_CLOCK);
    rig.deploy(collector(undefined, { ordering: "available", onNotice: {} }));
    const next = reloaded(rig, c);
    next.wake();
    await rig.environment.pass(2_000);
    await settle();
    expect([rig.record(next).record.seq, rig.record(next).record.extra]).toEqual([0, null]);
    expect([rig.timers.size, rig.lists.size, rig.open.size]).toEqual([0, 0, 0]);
  });
});

describe("a handler that fails", () => {
  test("runs again with backoff, before what came later", async () => {
    let fails = true;
    const { rig, c } = told((state, notice, ctx) => {
      if (fails) throw new Error("not yet");
      return remember(state, notice, ctx);
    });
    c.deliver(marker(rig, c, 4));
    rig.deliver(c, { id: "m1" });
    await settle();
    expect([rig.counters.failedTurns, rig.record(c).record.seq, c.situation.attempts]).toEqual([1, 0, 1]);
    fails = false;
    await rig.environment.pass(2_000);
    await settle();
    expect([rig.state(c), rig.counters.halts]).toEqual([["failed:4 terminal", "m1"], 0]);
  });

  test("ends after `maxAttempts` over `poisonMinMs` as for any message", async () => {
    const { rig, c } = told(
      () => {
        throw new Error("no");
      },
      { maxAttempts: 3, poisonMinMs: 60_000 },
    );
    c.deliver(marker(rig, c, 4));
    rig.deliver(c, { id: "m1" });
    await rig.environment.pass(50_000);
    await settle();
    expect([rig.dead.length, rig.record(c).record.seq]).toEqual([0, 0]);
    await rig.environment.pass(60_000);
    await settle();
    expect([rig.dead.length, rig.state(c)]).toEqual([1, ["m1"]]);
    expect(rig.dead[0]!.attempts).toBeGreaterThanOrEqual(3);
  });

  test("for good: a dead letter as of other notices, no notice of it, and the conversation goes on (attack B17)", async () => {
    const { rig, c } = told(never);
    const failed = marker(rig, c, 4, "exhausted");
    c.deliver(failed);
    rig.deliver(c, { id: "m1" });
    await settle();
    expect([rig.state(c), rig.counters.poisoned, rig.counters.deadLetters, rig.counters.halts]).toEqual([
      ["m1"],
      1,
      1,
      0,
    ]);
    expect(rig.dead).toMatchObject([{ direction: "in", reason: "notice", attempts: 1, id: null, ...c.id }]);
    expect(JSON.parse(Buffer.from(rig.dead[0]!.payload).toString())).toEqual({
      kind: "delivery-failed",
      position: failed.position,
      outSeq: 4,
      reason: "exhausted",
    });
    expect(rig.record(c).record).toMatchObject({ seq: 1, extra: null });
    c.deliver(marker(rig, c, 4, "exhausted"));
    await settle();
    expect([rig.counters.duplicates, rig.dead.length]).toEqual([1, 1]);
  });

  test("for good where no dead letter has room: a line of the log, and no halt", async () => {
    const { rig, c } = told(never);
    rig.deadLettersHaveRoom = false;
    c.deliver(marker(rig, c, 4));
    rig.deliver(c, { id: "m1" });
    await settle();
    expect([rig.state(c), rig.dead.length, rig.counters.deadLetters]).toEqual([["m1"], 0, 0]);
    expect(rig.log.at("error", "it is dropped, as there is no room for a dead letter")).toHaveLength(1);
  });

  test("that ends the process while alone three times is given up as well", async () => {
    let runs = 0;
    const { rig, c } = told(
      (state) => {
        runs += 1;
        return new Promise<Seen>(() => state);
      },
      {},
      { ports: { diedAlone: () => true } },
    );
    const failed = marker(rig, c, 4);
    let actor = c;
    for (let death = 0; death < 3; death += 1) {
      actor.deliver(failed);
      await settle();
      void actor.markSuspect(1, failed.position);
      await settle();
      actor = reloaded(rig, actor); // the process ended
    }
    actor.deliver(failed);
    rig.deliver(actor, { id: "m1" });
    await settle();
    expect([rig.state(actor), rig.dead.map(({ reason }) => reason), runs]).toEqual([["m1"], ["notice"], 3]);
  });
});

describe("what stands in its way", () => {
  test("a halt: it waits on the list as what it is, and is told in its place", async () => {
    const fails = new Map([["m1", new TerminalError("never")]]);
    const { rig, c } = told(remember, {}, {}, fails);
    rig.deadLettersHaveRoom = false; // `full` halts a bot with ordering available, too
    rig.deliver(c, { id: "m1" });
    await settle();
    c.deliver(marker(rig, c, 9));
    rig.deliver(c, { id: "m2" });
    await settle();
    expect(c.situation).toMatchObject({ state: "halted", waiting: 3 });
    expect(rig.waiting(c).map(({ extra }) => extra?.deliveryFailed?.outSeq)).toEqual([undefined, 9, undefined]);
    rig.deadLettersHaveRoom = true;
    const next = reloaded(rig, c);
    rig.control(next, "retry", rig.open.get(c.key)!.halt!);
    await rig.environment.pass(2_000);
    await settle();
    expect(rig.state(next)).toEqual(["poisoned:m1", "failed:9 terminal", "m2"]);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
  });

  test("no number of the outside: it has none, moves none, and is not held for one", async () => {
    const order = { mode: "contiguous", gapTimeoutMs: 60_000, settleMs: 0, maxHeld: 64, firstSequence: 1 } as const;
    const { rig, c } = told(remember, {}, { channel: testChannel({ order }) });
    rig.deliver(c, ...placed(1, 3));
    c.deliver(marker(rig, c, 5));
    await settle();
    expect(rig.state(c)).toEqual(["m1", "failed:5 terminal"]);
    expect(rig.record(c).record.extra!.order).toMatchObject({ next: 2 });
    rig.deliver(c, ...placed(2));
    await settle();
    expect(rig.state(c)).toEqual(["m1", "failed:5 terminal", "m2", "m3"]);
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 0, next: 4 } });
  });

  test("no number either where it fails and is found again on the list, behind one that is held", async () => {
    const order = { mode: "contiguous", gapTimeoutMs: 60_000, settleMs: 0, maxHeld: 64, firstSequence: 1 } as const;
    let fails = true;
    const { rig, c } = told(
      (state, notice, ctx) => {
        if (fails) throw new Error("not yet");
        return remember(state, notice, ctx);
      },
      {},
      { channel: testChannel({ order }) },
    );
    rig.deliver(c, ...placed(1, 3));
    c.deliver(marker(rig, c, 5));
    await settle();
    c.moveToList();
    await settle();
    fails = false;
    const next = reloaded(rig, c);
    next.wake();
    await rig.environment.pass(2_000);
    await settle();
    expect(rig.state(next)).toEqual(["m1", "failed:5 terminal"]);
    rig.deliver(next, ...ids("x"), ...placed(2));
    await settle();
    expect(rig.state(next)).toEqual(["m1", "failed:5 terminal", "x", "m2", "m3"]);
  });
});
