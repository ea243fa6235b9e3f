// Steps, replies in the middle and sends of a conversation that runs: R4's gate, the journal across runs and incarnations, and what
// goes into which commit (attacks B4 to B6, A5, A6, B9).

import { describe, expect, test } from "vitest";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import { sortSends } from "../../actors/sends.ts";
import { transferKey } from "../../actors/transfers.ts";
import type { AnyBot } from "../../src/app-types.ts";
import { decodeInboxEntry } from "../../src/codec/inbox-codec.ts";
import { defineBot, type Message, type TurnContext } from "../../src/domain/bot.ts";
import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import { TerminalError } from "../../src/errors.ts";
import { gate, quiet } from "../support/quiet.ts";
import { collector, ids, type Seen } from "./support/bots.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

const transcript = testChannel({ delivery: "transcript" });

const bot = (onMessage: (state: Seen, message: Message, ctx: TurnContext) => Promise<Seen>): AnyBot =>
  defineBot<Seen>({ name: "b", version: 1, initialState: () => [], onMessage });

const reloaded = (rig: ConversationRig, c: ConversationActor): ConversationActor => {
  c.stop();
  return rig.conversation(c.id.conversation);
};
const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i += 1) await quiet();
};

/** What the transcript has, as `role text`. */
const lines = (rig: ConversationRig): string[] =>
  rig.writes.flatMap(({ write }) =>
    write.transcript.map((line) => {
      const { role = "bot", text } = JSON.parse(Buffer.from(line).toString()) as { role?: string; text: string };
      return `${role} ${text}`;
    }),
  );

describe("attacks B4 to B6: a step begins only when all before it is durable (R4)", () => {
  test("earlier turns of the conversation", async () => {
    const charged: string[] = [];
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        if (id === "m2") await ctx.step("charge", () => void charged.push(id));
        return [...state, id];
      }),
      { commits: "by hand" },
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    expect(charged).toEqual([]);
    const flying = rig.take();
    await settle();
    expect(charged).toEqual([]); // on its way is not durable
    for (const each of flying) each.committed();
    await settle();
    expect(charged).toEqual(["m2"]);
  });

  test("this turn's earlier steps and replies; the last step rides with the turn", async () => {
    const done: string[] = [];
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        await ctx.step("one", () => void done.push("one"));
        ctx.reply("between");
        await ctx.replyNow();
        await ctx.step("two", () => void done.push("two"));
        return [...state, id];
      }),
      { commits: "by hand" },
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1"));
    await settle();
    expect([done, rig.dirty.size]).toEqual([["one"], 1]);
    rig.commit();
    expect(rig.record(c).record.extra!.openTurn!.steps).toMatchObject([{ index: 0, name: "one" }]);
    await settle();
    expect([done, rig.replies]).toEqual([["one"], []]); // replyNow is decided, and nothing of it durable
    rig.commit();
    expect(rig.replies).toHaveLength(1);
    expect(rig.record(c).record.extra!.openTurn!.repliesOut).toBe(1);
    await settle();
    expect(done).toEqual(["one", "two"]);
    rig.commit();
    expect(rig.writes).toHaveLength(3); // the second step and the turn together
    expect([rig.state(c), rig.record(c).record.extra]).toEqual([["m1"], null]);
  });

  test("a turn without steps waits for nothing", async () => {
    const rig = new ConversationRig(collector(), { commits: "by hand" });
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    await settle();
    rig.commit();
    expect([rig.writes.length, rig.state(c)]).toEqual([1, ["m1", "m2", "m3"]]);
  });
});

describe("what a turn did already is not done again", () => {
  test("a step across failures and a reload: its result is given back, and the state has it once", async () => {
    let charges = 0;
    let fails = true;
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        const receipt = await ctx.step("charge", () => {
          charges += 1;
          return `receipt ${charges}`;
        });
        if (fails) throw new Error("after the charge");
        return [...state, `${id}: ${receipt}`];
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await rig.environment.pass(1_000);
    await settle();
    expect([charges, rig.record(c).record.extra!.openTurn!.attempts > 1]).toEqual([1, true]);
    c.moveToList();
    await settle();
    const next = reloaded(rig, c);
    next.wake();
    fails = false;
    await rig.environment.pass(5_000);
    await settle();
    expect([charges, rig.state(next)]).toEqual([1, ["m1: receipt 1"]]);
    expect(rig.record(next).record.extra?.openTurn).toBeUndefined();
  });

  test("attack A6: a step that finishes after its turn failed is journaled, and the next run joins a running one", async () => {
    const slow = gate<string>();
    let charges = 0;
    const rig = new ConversationRig(
      defineBot<Seen>({
        name: "b",
        version: 1,
        handlerTimeoutMs: 1_000,
        initialState: () => [],
        onMessage: async (state, { id }, ctx) => {
          const receipt = await ctx.step("charge", () => {
            charges += 1;
            return slow.promise;
          });
          return [...state, `${id}: ${receipt}`];
        },
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await rig.environment.pass(3_000); // time is up more than once
    await settle();
    expect(charges).toBe(1);
    expect(rig.record(c).record.extra!.openTurn!.attempts).toBeGreaterThan(0);
    slow.open("receipt");
    await settle();
    expect(rig.log.at("warn", "HandlerTimeoutError").length).toBeGreaterThan(0);
    await rig.environment.pass(1_000);
    await settle();
    expect([charges, rig.state(c)]).toEqual([1, ["m1: receipt"]]);
  });

  test("a step that finishes while nobody runs is durable before the next run", async () => {
    const slow = gate<string>();
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        void ctx.step("charge", () => slow.promise).catch(() => undefined);
        await ctx.step("fails", () => {
          throw new Error("no");
        });
        return [...state, id];
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await rig.environment.until(() => rig.counters.failedTurns === 6, 60_000, "a long backoff");
    await settle();
    slow.open("receipt");
    await settle();
    expect(rig.record(c).record.extra!.openTurn!.steps).toMatchObject([{ name: "charge", result: "receipt" }]);
  });

  test("steps of a message that was set aside are given up: nothing of them is remembered", async () => {
    const slow = gate<string>();
    const signals: AbortSignal[] = [];
    const rig = new ConversationRig(
      defineBot<Seen>({
        name: "b",
        version: 1,
        ordering: "available",
        initialState: () => [],
        onMessage: async (state, { id }, ctx) => {
          if (id !== "m1") return [...state, id];
          void ctx
            .step("charge", (signal) => {
              signals.push(signal);
              return slow.promise;
            })
            .catch(() => undefined);
          await ctx.step("other", () => undefined);
          throw new TerminalError("never");
        },
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    expect(signals[0]!.aborted).toBe(true);
    slow.open("late");
    await settle();
    expect([rig.state(c), rig.record(c).record.extra]).toEqual([["m2"], null]);
  });
});

describe("attack A5: replies in the middle of a turn", () => {
  for (const [delivery, channel] of [
    ["a lane", testChannel()],
    ["a transcript", transcript],
  ] as const) {
    test(`leave once, in order, through ${delivery}, though the process dies and the turn runs again; the user's line comes once`, async () => {
      let runs = 0;
      let dies = true;
      const rig = new ConversationRig(
        bot(async (state, { id }, ctx) => {
          runs += 1;
          ctx.reply(`${id} one`);
          await ctx.replyNow();
          ctx.reply(`${id} two`);
          ctx.reply(`${id} three`);
          await ctx.replyNow();
          if (dies && id === "m2") await new Promise(() => undefined);
          ctx.reply(`${id} four`);
          return [...state, id];
        }),
        { channel },
      );
      const c = rig.conversation();
      const messages = rig.messages(c, [
        { id: "m1", text: "m1" },
        { id: "m2", text: "m2" },
      ]);
      for (const message of messages) c.deliver(message);
      await settle();
      expect(rig.record(c).record).toMatchObject({ seq: 1, outSeq: 7, extra: { openTurn: { repliesOut: 3 } } });
      dies = false;
      const next = reloaded(rig, c); // the next process
      for (const message of messages) next.deliver(message);
      await settle();
      const texts = ["m1", "m2"].flatMap((id) => ["one", "two", "three", "four"].map((n) => `${id} ${n}`));
      expect([runs, rig.state(next)]).toEqual([3, ["m1", "m2"]]);
      if (channel === transcript) {
        const expected = texts.map((text) => `bot ${text}`);
        expect(lines(rig)).toEqual(["user m1", ...expected.slice(0, 4), "user m2", ...expected.slice(4)]);
      } else {
        expect(rig.replies).toMatchObject(texts.map((text, i) => ({ text, outSeq: i + 1 })));
        expect(rig.replies).toHaveLength(8);
      }
      expect(rig.record(next).record).toMatchObject({ seq: 2, outSeq: 8, extra: null });
    });
  }

  test("a turn that ends as poison has spoken: its dead letter says so, and an operator's retry does not repeat it", async () => {
    let fails = true;
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        ctx.reply("one");
        await ctx.replyNow();
        if (fails) throw new TerminalError("never");
        ctx.reply("two");
        return [...state, id];
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await settle();
    expect(c.situation.state).toBe("halted");
    fails = false;
    rig.control(c, "retry", rig.open.get(c.key)!.halt!);
    await settle();
    expect(rig.replies).toMatchObject([
      { text: "one", outSeq: 1 },
      { text: "two", outSeq: 2 },
    ]);
    fails = true;
    rig.deliver(c, { id: "m2" });
    await settle();
    rig.control(c, "skip", rig.open.get(c.key)!.halt!);
    await settle();
    const letter = rig.writes.flatMap(({ dead }) => dead).at(-1)!;
    expect(JSON.parse(Buffer.from(letter).toString())).toMatchObject({ id: "m2", reason: "skipped", repliesOut: 1 });
    expect([rig.replies.length, rig.record(c).record.outSeq]).toEqual([3, 3]);
  });

  test("a failed turn's other replies and sends go nowhere", async () => {
    let fails = true;
    const rig = new ConversationRig(
      bot(async (state, { id }, ctx) => {
        ctx.reply("one");
        ctx.send({ conversation: "other" }, { text: "hi" });
        if (fails) throw new Error("not yet");
        return [...state, id];
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await settle();
    expect([rig.replies, rig.writes.flatMap(({ sends }) => sends)]).toEqual([[], []]);
    fails = false;
    await rig.environment.pass(1_000);
    await settle();
    expect([rig.replies.length, rig.writes.flatMap(({ sends }) => sends).length]).toEqual([1, 1]);
  });
});

describe("attack B9: sends go with the commit of their turn", () => {
  test("in the order of the calls, with ids that a re-run makes again, and a hop more than what led here", async () => {
    const sentBy = async (failures: number): Promise<string[]> => {
      let left = failures;
      const rig = new ConversationRig(
        bot(async (state, { id }, ctx) => {
          ctx.send({ conversation: "x" }, { text: "first" });
          ctx.send({ conversation: "y" }, { text: "second", data: { n: 1 } });
          await ctx.step("s", () => undefined);
          left -= 1;
          if (left >= 0) throw new Error("not yet");
          return [...state, id];
        }),
      );
      const c = rig.conversation();
      const from = { bot: "b", channel: "test", conversation: "before" };
      for (const message of rig.messages(c, ids("m1"), { from, hops: 4 })) c.deliver(message);
      await rig.environment.pass(5_000);
      await settle();
      expect(rig.state(c)).toEqual(["m1"]);
      return rig.writes.flatMap(({ sends }) => sends.map(({ id, text, hops }) => `${id} ${text} ${hops}`));
    };
    const sent = await sentBy(0);
    expect(sent.map((send) => send.split(" ").slice(1))).toEqual([
      ["first", "5"],
      ["second", "5"],
    ]);
    expect(new Set(sent.map((send) => send.split(" ")[0])).size).toBe(2);
    expect(await sentBy(3)).toEqual(sent);
  });

  test("those of the shard itself are one inbox entry, those of each other shard one reply of its transfer lane", () => {
    const shards = 4;
    const from = { bot: "b", channel: "test", conversation: "from" };
    const to = Array.from({ length: 40 }, (_, i) => ({ bot: "b", channel: "test", conversation: `c${i}` }));
    const sends = to.map((conversation, i) => ({ to: conversation, id: `s${i}`, text: `text ${i}`, from, hops: 1 }));
    const { here, away } = sortSends(sends, [], 7, { shard: 2, shards, epoch: 3 });
    const decoded = (bytes: Uint8Array) => {
      const entry = { id: { ms: 5, seq: 0 }, bytes: bytes.length, undecided: 0 };
      return decodeInboxEntry(Buffer.from(bytes), entry, { lo: 1, hi: 2 }).messages.map((message) => {
        if (message.kind !== "message") throw new Error("only messages are sent");
        expect(message.extra).toEqual({ from, hops: 1 });
        return message.id;
      });
    };
    const expectedOf = (shard: number) =>
      sends.filter((send) => shardOf(conversationKey(send.to), shards) === shard).map(({ id }) => id);
    expect(decoded(here!)).toEqual(expectedOf(2));
    expect(away.map(({ key }) => key).toSorted()).toEqual([0, 1, 3].map(transferKey).toSorted());
    for (const shard of [0, 1, 3]) {
      const reply = away.find(({ key }) => key === transferKey(shard))!;
      expect(decoded(reply.body)).toEqual(expectedOf(shard));
      expect([reply.born, reply.outSeq]).toEqual(["e3", 7]);
    }
    expect(sortSends(sends.slice(0, 0), [], 7, { shard: 0, shards, epoch: 1 })).toEqual({ here: null, away: [] });
  });
});

test("a context that is used after its conversation was stopped fails, and its waits do not hang", async () => {
  const errors: string[] = [];
  const rig = new ConversationRig(
    bot(async (state, _message, ctx) => {
      await ctx
        .step("s", () => new Promise<undefined>(() => undefined))
        .catch((error: Error) => errors.push(error.name));
      await ctx.replyNow().catch((error: Error) => errors.push(error.name));
      return state;
    }),
    { commits: "by hand" } satisfies RigOptions,
  );
  const c = rig.conversation();
  rig.deliver(c, { id: "m1" });
  await settle();
  c.stop();
  await settle();
  expect([errors, rig.writes]).toEqual([["TurnEndedError", "TurnEndedError"], []]);
});
