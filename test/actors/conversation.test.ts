// C1 to C6 of actors/conversation-actor.ts, rules R4 and R5, and the attacks on a conversation.

import { describe, expect, test } from "vitest";
import { ActorSystem } from "../../actors/actor-system.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import { Conversations, type CrashPolicy } from "../../actors/conversations.ts";
import { PendingHeads } from "../../actors/pending-heads.ts";
import type { AnyBot } from "../../src/app-types.ts";
import { checkBots } from "../../src/check-bot.ts";
import { type DecodedRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import { type BotDefinition, defineBot, type TurnContext } from "../../src/domain/bot.ts";
import type { Plain } from "../../src/domain/plain-data.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { TerminalError } from "../../src/errors.ts";
import { newCounters } from "../../src/metrics.ts";
import { gate, quiet } from "../support/quiet.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { ConversationRig, testChannel } from "./support/conversation-rig.ts";

const bot = <State>(onMessage: BotDefinition<State>["onMessage"], rest: Partial<BotDefinition<State>> = {}): AnyBot =>
  defineBot<State>({ name: "b", version: 1, initialState: () => [] as State, onMessage, ...rest });

type Seen = readonly string[];
/** Remembers the ids in order; what each test is about is wrapped around it. */
const collector = (before: (id: string, ctx: TurnContext) => void | Promise<void> = () => undefined): AnyBot =>
  bot<Seen>((state, message, ctx) => {
    const done = before(message.id, ctx);
    const next = [...state, message.id];
    return done === undefined ? next : done.then(() => next);
  });

const ids = (...names: string[]): { id: string }[] => names.map((id) => ({ id }));
const numbered = (count: number, from = 1): { id: string }[] =>
  Array.from({ length: count }, (_, i) => ({ id: `m${from + i}` }));

test("what a conversation does can be seen: idle, active, halted, quarantined, with why", async () => {
  let release: () => void = () => undefined;
  const rig = new ConversationRig(
    defineBot<number>({
      name: "shown",
      version: 1,
      initialState: () => 0,
      onMessage: (state, { text }) => {
        if (text === "throw") throw new Error("no");
        if (text !== "slow") return state + 1;
        return new Promise((resolve) => {
          release = () => resolve(state + 1);
        });
      },
    }),
  );
  const c = rig.conversation();
  expect(c.situation.state).toBe("idle");
  rig.deliver(c, { id: "m1", text: "slow" });
  expect(c.situation.state).toBe("active");
  await quiet();
  expect([c.situation.state, c.situation.why, c.mailboxDepth]).toEqual(["active", "a turn runs", 1]);
  release();
  await quiet();
  expect([c.situation.state, c.mailboxDepth, c.situation.attempts]).toEqual(["idle", 0, 0]);
  rig.deliver(c, { id: "m2", text: "throw" });
  await quiet();
  expect([c.situation.state, c.situation.attempts]).toEqual(["active", 1]);
  expect(c.situation.why).toMatch(/^attempt 1 failed: Error at /);
  c.crashed(new Error("of the runtime"));
  expect([c.situation.state, c.situation.why.split(":")[0]]).toEqual(["halted", "crashing"]);
  const rotten = rig.conversation("rotten");
  rig.stored.set(rotten.key, { record: Uint8Array.of(1, 2, 3), ids: null });
  rig.deliver(rotten, { id: "m1" });
  await quiet();
  expect(rotten.situation.state).toBe("quarantined");
  rig.dispose();
});

describe("messages are decided in order, once each (C1)", () => {
  test("messages of several requests become turns in order, and one commit takes them as one value (C3)", async () => {
    const rig = new ConversationRig(collector(), { commits: "by hand" });
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    rig.deliver(c, ...ids("m3"));
    await quiet();
    rig.commit();
    expect(rig.writes).toHaveLength(1);
    expect(rig.state(c)).toEqual(["m1", "m2", "m3"]);
    expect(rig.record(c).record).toMatchObject({ seq: 3, outSeq: 0 });
    expect(rig.writes[0]!.consumed).toHaveLength(3);
  });

  test("a message admitted twice under one id changes state once, whatever its second body says (P2)", async () => {
    const rig = new ConversationRig(collector());
    const c = rig.conversation();
    rig.deliver(c, { id: "m1", text: "hi" }, { id: "m1", text: "hi" }, { id: "m2" });
    rig.deliver(c, { id: "m1", text: "another body" });
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    expect(rig.record(c).record.seq).toBe(2);
    expect(rig.writes.flatMap(({ consumed }) => consumed)).toHaveLength(4); // each entry can go
  });

  test("what is read again after a crash finishes its entry without a turn and without a write (P2)", async () => {
    const rig = new ConversationRig(collector());
    const first = rig.conversation();
    const messages = rig.messages(first, ids("m1", "m2"));
    for (const message of messages) first.deliver(message);
    await quiet();
    const writes = rig.writes.length;
    const second = rig.conversation(); // the next process, the same record
    for (const message of messages) second.deliver(message);
    rig.deliver(second, { id: "m3" });
    await quiet();
    expect(rig.finished).toHaveLength(2);
    expect(rig.writes).toHaveLength(writes + 1);
    expect(rig.state(second)).toEqual(["m1", "m2", "m3"]);
  });

  test("of an entry whose first half was committed before a crash, the other half runs", async () => {
    const rig = new ConversationRig(collector());
    const first = rig.conversation();
    const messages = rig.messages(first, ids("m1", "m2", "m3", "m4"));
    for (const message of messages.slice(0, 2)) first.deliver(message);
    await quiet();
    const second = rig.conversation();
    for (const message of messages) second.deliver(message);
    await quiet();
    expect(rig.state(second)).toEqual(["m1", "m2", "m3", "m4"]);
    expect(rig.record(second).record.seq).toBe(4);
  });
});

describe("attack B4: what a turn returned cannot change before it is stored (R4)", () => {
  interface Cart {
    items: string[];
  }
  test("mutating the state in a later turn is a TypeError, and what is stored is what the first turn returned", async () => {
    const errors: unknown[] = [];
    const mutating = bot<Cart>(
      (state, message) => {
        if (message.id === "m1") return { items: ["one"] };
        try {
          state.items.push("sneaked in");
        } catch (error) {
          errors.push(error);
        }
        return state;
      },
      { initialState: () => ({ items: [] }) },
    );
    const rig = new ConversationRig(mutating, { commits: "by hand" });
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    rig.deliver(c, { id: "m2" });
    await quiet();
    rig.commit();
    expect(errors).toEqual([expect.any(TypeError)]);
    expect(rig.state(c)).toEqual({ items: ["one"] });
  });

  test("an object that the handler keeps and changes while the commit waits is frozen, too", async () => {
    const kept: Cart = { items: ["one"] };
    const failures: unknown[] = [];
    const rig = new ConversationRig(
      bot<Cart>(() => kept, { initialState: () => ({ items: [] }) }),
      { commits: "by hand" },
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    const changes = [
      () => kept.items.push("two"),
      () => Object.assign(kept, { items: [] }),
      () => kept.items.splice(0, 1),
    ];
    for (const change of changes)
      try {
        change();
      } catch (error) {
        failures.push(error);
      }
    rig.commit();
    expect(failures).toEqual([expect.any(TypeError), expect.any(TypeError), expect.any(TypeError)]);
    expect(rig.state(c)).toEqual({ items: ["one"] });
  });

  test("the message and its data are frozen: a retry sees what the first attempt was given", async () => {
    const seen: string[] = [];
    let attempts = 0;
    const rig = new ConversationRig(
      bot<Seen>((state, message) => {
        attempts += 1;
        seen.push(JSON.stringify(message));
        if (attempts > 3) return state;
        (message.data as { list: string[] }).list.push("changed"); // throws: the turn fails and runs again
        return state;
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1", text: "t", data: { list: ["a"] } });
    await rig.environment.until(() => attempts === 4, 10_000, "retried");
    expect(new Set(seen).size).toBe(1);
  });

  test("data of a reply is taken as it was when ctx.reply was called", async () => {
    const data = { n: 1, inner: { list: [1] } };
    const failed: unknown[] = [];
    const rig = new ConversationRig(
      bot<Seen>((state, _message, ctx) => {
        ctx.reply({ text: "r", data });
        try {
          data.inner.list.push(2);
        } catch (error) {
          failed.push(error);
        }
        return state;
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(failed).toEqual([expect.any(TypeError)]);
    expect(rig.replies).toEqual([{ outSeq: 1, inReplyTo: "m1", text: "r", data: { n: 1, inner: { list: [1] } } }]);
  });
});

describe("attack B5: nothing is loaded or dropped over an uncommitted turn (C4)", () => {
  test("a conversation is settled only when nothing waits, runs or flies", async () => {
    const held = gate();
    const rig = new ConversationRig(
      collector(() => held.promise),
      { commits: "by hand" },
    );
    const c = rig.conversation();
    expect(c.settled).toBe(true);
    rig.deliver(c, { id: "m1" });
    expect(c.settled).toBe(false); // a message waits
    await quiet();
    expect([c.settled, c.isInTurn]).toEqual([false, true]); // its turn runs
    held.open();
    await quiet();
    expect([c.settled, c.isInTurn]).toEqual([false, false]); // decided, uncommitted
    const flying = rig.take();
    expect(c.settled).toBe(false); // in flight
    for (const each of flying) each.committed();
    expect(c.settled).toBe(true);
  });

  test("a failed turn that waits for its next attempt keeps its conversation in memory", async () => {
    const rig = new ConversationRig(
      collector(() => {
        throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(c.settled).toBe(false);
  });

  test("a turn that throws after an uncommitted one runs again on the state of that one, and its replies come once", async () => {
    let failures = 0;
    const rig = new ConversationRig(
      bot<Seen>((state, message, ctx) => {
        ctx.reply(message.id);
        if (message.id === "m2") failures += 1;
        if (message.id === "m2" && failures === 1) throw new Error("once");
        return [...state, message.id];
      }),
      { commits: "by hand" },
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    await rig.environment.until(() => failures === 2, 10_000, "second attempt");
    rig.commit();
    expect(rig.loads).toHaveLength(1);
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    expect(rig.replies).toEqual([
      { outSeq: 1, inReplyTo: "m1", text: "m1" },
      { outSeq: 2, inReplyTo: "m2", text: "m2" },
    ]);
  });
});

describe("a failing handler", () => {
  test("runs the same message again, later and later up to 30 s; what waits behind keeps its order", async () => {
    const attempts: number[] = [];
    let works = false;
    const rig = new ConversationRig(
      bot<Seen>(
        (state, { id }) => {
          if (id === "m2" && !works) {
            attempts.push(rig.environment.nowMs());
            throw new Error("the outage");
          }
          return [...state, id];
        },
        { poisonMinMs: 24 * 3_600_000 },
      ),
    );
    const c = rig.conversation();
    rig.deliver(c, ...numbered(4));
    await rig.environment.until(() => attempts.length === 40, 24 * 3_600_000, "40 attempts");
    await quiet();
    expect(rig.state(c)).toEqual(["m1"]);
    expect(rig.record(c).record.extra!.openTurn).toMatchObject({ attempts: 40, firstFailedAtMs: attempts[0] });
    const waits = attempts.slice(1).map((at, i) => at - attempts[i]!);
    for (const [i, wait] of waits.entries()) {
      const whole = Math.min(30_000, 100 * 2 ** i);
      expect(wait).toBeGreaterThanOrEqual(whole / 2);
      expect(wait).toBeLessThanOrEqual(whole);
    }
    works = true;
    rig.deliver(c, { id: "m5" });
    await rig.environment.until(() => c.settled, 30_001, "recovered");
    expect(rig.state(c)).toEqual(["m1", "m2", "m3", "m4", "m5"]);
    expect(rig.record(c).record.extra).toBe(null);
  });

  test("delays nobody else, and a new message does not bring its next attempt forward", async () => {
    let attempts = 0;
    const rig = new ConversationRig(
      collector((id) => {
        if (id !== "bad") return;
        attempts += 1;
        throw new Error("no");
      }),
    );
    const [bad, good] = [rig.conversation("bad"), rig.conversation("good")];
    rig.deliver(bad, { id: "bad" });
    await quiet();
    for (let i = 0; i < 20; i += 1) rig.deliver(bad, { id: `later${i}` });
    rig.deliver(good, { id: "m1" });
    await quiet();
    expect(attempts).toBe(1);
    expect(rig.state(good)).toEqual(["m1"]);
  });

  test("whose delays grew starts small again after a success", async () => {
    const attempts: number[] = [];
    const fails = new Set(["m1", "m2"]);
    const rig = new ConversationRig(
      collector((id) => {
        attempts.push(rig.environment.nowMs());
        if (fails.has(id)) throw new Error("no");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1"));
    await rig.environment.until(() => attempts.length === 10, 600_000, "ten attempts");
    fails.delete("m1");
    rig.deliver(c, ...ids("m2"));
    await rig.environment.until(() => attempts.length === 13, 600_000, "the next one's second attempt");
    expect(attempts[12]! - attempts[11]!).toBeLessThanOrEqual(100);
  });

  for (const [what, output] of [
    ["a Date in the state", () => ({ at: new Date() })],
    ["undefined as state", () => undefined],
    ["NaN in the state", () => ({ n: Number.NaN })],
    ["a class instance", () => new Map()],
    [
      "a cycle",
      () => {
        const cycle: { self?: unknown } = {};
        cycle.self = cycle;
        return cycle;
      },
    ],
    ["a getter", () => Object.defineProperty({}, "x", { get: () => 1, enumerable: true })],
    ["a state over `stateBytesMax`", () => "x".repeat(2_000)],
  ] as const) {
    test(`that returns ${what} fails its turn with a typed error; nothing is committed`, async () => {
      const rig = new ConversationRig(
        bot<unknown>((_state, message, ctx) => {
          ctx.reply("goes nowhere");
          return message.id === "m1" ? "fine" : output();
        }),
        { bounds: { stateBytesMax: 1_024 } },
      );
      const c = rig.conversation();
      rig.deliver(c, ...ids("m1", "m2"));
      await quiet();
      await rig.environment.pass(60_000);
      expect(rig.state(c)).toBe("fine");
      expect(rig.replies).toHaveLength(1);
      expect(rig.log.at("warn", "turn failed").length).toBeGreaterThan(5);
      expect(rig.log.at("warn", "turn failed").every((line) => /TurnOutputError|PlainDataError/.test(line))).toBe(true);
      expect(rig.crashes).toEqual([]);
    });
  }

  test("that throws away a channel's render keeps its message, too", async () => {
    let works = false;
    const channel = testChannel({
      render: ({ reply }) => {
        if (!works) throw new Error("cannot render");
        return Buffer.from(JSON.stringify({ text: reply.text }));
      },
    });
    const rig = new ConversationRig(
      bot<Seen>((state, message, ctx) => {
        ctx.reply("r");
        return [...state, message.id];
      }),
      { channel },
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await rig.environment.pass(1_000);
    expect(rig.replies).toEqual([]);
    expect(rig.record(c).record).toMatchObject({ seq: 0, outSeq: 0 });
    expect(rig.record(c).record.extra!.openTurn!.attempts).toBeGreaterThan(1); // durable from the first failure
    works = true;
    await rig.environment.until(() => c.settled, 60_000, "rendered");
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    expect(rig.replies).toHaveLength(2);
  });
});

describe("a state of its own (P5)", () => {
  test.each<[string, Plain]>([
    ["null", null],
    ["false", false],
    ["0", 0],
    ["an empty text", ""],
    ["an empty list", []],
  ])("that is %s is stored as what it is", async (_what, state) => {
    const rig = new ConversationRig(bot<Plain>(() => state, { initialState: () => ({ never: "stored" }) }));
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(rig.state(c)).toEqual(state);
  });
});

describe("a handler that takes too long", () => {
  test("fails after `handlerTimeoutMs`: its signal aborts, its late result and replies are ignored, the message runs again", async () => {
    const held = gate<Seen>();
    const runs: { readonly ctx: TurnContext; readonly signal: AbortSignal }[] = [];
    const rig = new ConversationRig(
      bot<Seen>(
        (state, message, ctx) => {
          runs.push({ ctx, signal: ctx.signal });
          if (runs.length === 1) return held.promise;
          ctx.reply("second");
          return [...state, message.id];
        },
        { handlerTimeoutMs: 2_000 },
      ),
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await rig.environment.pass(1_999);
    expect([runs.length, runs[0]!.signal.aborted]).toEqual([1, false]);
    await rig.environment.until(() => runs.length === 3, 1_000, "ran again");
    expect(runs[0]!.signal.aborted).toBe(true);
    expect(String(runs[0]!.signal.reason)).toContain("2000 ms");
    expect(() => runs[0]!.ctx.reply("too late")).toThrow("after its turn had ended");
    held.open(["late", "result"]);
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    expect(rig.replies).toHaveLength(2);
    expect(rig.log.at("warn", "HandlerTimeoutError")).toHaveLength(1);
  });

  test("frees its place among the running turns", async () => {
    const rig = new ConversationRig(
      bot<Seen>((state, message) => (message.id === "hangs" ? new Promise<Seen>(() => undefined) : [...state, "ok"]), {
        handlerTimeoutMs: 1_000,
      }),
      { runningTurnsMax: 1 },
    );
    const [hanging, other] = [rig.conversation("hanging"), rig.conversation("other")];
    rig.deliver(hanging, { id: "hangs" });
    await quiet();
    rig.deliver(other, { id: "m1" });
    await rig.environment.until(() => other.settled, 2_000, "the other has its turn");
    expect(rig.state(other)).toEqual(["ok"]);
  });

  test("a thenable that answers at once is an answer", async () => {
    const thenable = (value: unknown) => ({
      // biome-ignore lint/suspicious/noThenProperty: a promise that is not the platform's
      then: (resolve: (value: unknown) => void) => resolve(value),
    });
    const rig = new ConversationRig(bot<unknown>((_state, message) => thenable(["done", message.id])));
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    rig.deliver(c, { id: "m3" });
    await quiet();
    expect(rig.state(c)).toEqual(["done", "m3"]);
    expect(rig.record(c).record.seq).toBe(3);
    expect([c.settled, c.isInTurn]).toEqual([true, false]);
  });

  test("a thenable that throws fails its turn and crashes nothing", async () => {
    const rig = new ConversationRig(
      bot<unknown>(() => ({
        // biome-ignore lint/suspicious/noThenProperty: a promise that is not the platform's
        then: () => {
          throw new Error("hostile");
        },
      })),
    );
    rig.deliver(rig.conversation(), { id: "m1" });
    await quiet();
    expect(rig.crashes).toEqual([]);
    expect(rig.log.at("warn", "turn failed")).toHaveLength(1);
  });
});

describe("a stopped conversation decides nothing more (C5)", () => {
  test("whatever its handler does later", async () => {
    const held = gate();
    const rig = new ConversationRig(collector(() => held.promise));
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    c.stop();
    held.open();
    await rig.environment.pass(60_000);
    expect([rig.writes, rig.crashes]).toEqual([[], []]);
  });

  test("one that fails as its turn ends is taken back before a commit can take it (C6)", async () => {
    const environment = new VirtualEnvironment(11);
    let known: number | null = null;
    const rig = new ConversationRig(
      collector(async () => {
        await Promise.resolve();
        environment.monotonicMs = () => {
          queueMicrotask(() => {
            known = rig.crashes.length; // what a commit that lands just now would find
          });
          throw new Error("a mistake");
        };
      }),
      { environment },
    );
    rig.deliver(rig.conversation(), { id: "m1" });
    await quiet();
    expect([known, rig.crashes.length]).toEqual([1, 1]);
  });

  test("its next attempt is not made", async () => {
    let attempts = 0;
    const rig = new ConversationRig(
      collector(() => {
        attempts += 1;
        throw new Error("no");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.stop();
    await rig.environment.pass(60_000);
    expect(attempts).toBe(1);
  });

  test("and what is loaded for it afterwards wakes nobody", async () => {
    const rig = new ConversationRig(collector());
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    c.stop();
    c.loaded({ record: null, ids: null });
    await quiet();
    expect(rig.writes).toEqual([]);
  });

  test("the signal of its running turn aborts, and its place among the running turns is free", async () => {
    let signal: AbortSignal | undefined;
    const rig = new ConversationRig(
      collector((id, ctx) => {
        if (id !== "hangs") return undefined;
        signal = ctx.signal;
        return new Promise<void>(() => undefined);
      }),
      { runningTurnsMax: 1 },
    );
    const [c, other] = [rig.conversation(), rig.conversation("other")];
    rig.deliver(c, { id: "hangs" });
    await quiet();
    rig.deliver(other, { id: "m1" });
    await quiet();
    expect(other.settled).toBe(false);
    c.stop();
    expect(signal!.aborted).toBe(true);
    await quiet();
    expect(rig.state(other)).toEqual(["m1"]);
    expect(rig.log.at("warn")).toEqual([]); // nobody failed
  });

  test("a draining one ends the turn under way and begins no other", async () => {
    const held = gate();
    const rig = new ConversationRig(collector(() => held.promise));
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    c.drain();
    held.open();
    await quiet();
    rig.deliver(c, { id: "m3" });
    await quiet();
    expect(rig.state(c)).toEqual(["m1"]);
    expect(c.isInTurn).toBe(false);
  });
});

describe("state and its version (R5, attack B13)", () => {
  interface V3 {
    readonly version: 3;
    readonly path: readonly number[];
  }
  const versionThree = (migrate: AnyBot["migrate"]): AnyBot =>
    defineBot<V3>({
      name: "b",
      version: 3,
      initialState: () => ({ version: 3, path: [] }),
      ...(migrate !== undefined && { migrate }),
      onMessage: (state) => state,
    });
  const old = async (rig: ConversationRig): Promise<ConversationActor> => {
    rig.deploy(bot(() => ({ version: 1, path: [1] })));
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    return c;
  };
  /** Attempts are durable from the first failure, so the record is written; what the bot made stands in it as it was. */
  const expectUntouched = (after: DecodedRecord, before: DecodedRecord): void => {
    const { extra, ...envelope } = after.record;
    expect(Buffer.from(after.stateBytes)).toEqual(Buffer.from(before.stateBytes));
    expect(after.botVersion).toBe(before.botVersion);
    expect({ ...envelope, extra: null }).toEqual(before.record);
    expect(extra!.openTurn!.attempts).toBeGreaterThan(2);
  };
  const step = (to: number) => (state: unknown) => {
    const { path } = state as V3;
    return { version: to, path: [...path, to] };
  };

  test("an old state is brought up step by step, as part of the first turn", async () => {
    const rig = new ConversationRig(collector());
    await old(rig);
    rig.deploy(versionThree({ 1: step(2), 2: step(3) }));
    const c = rig.conversation();
    rig.deliver(c, { id: "m2" });
    await quiet();
    expect(rig.state(c)).toEqual({ version: 3, path: [1, 2, 3] });
    expect(rig.record(c).botVersion).toBe(3);
  });

  test("a migration that throws fails the turn like a handler; the state bytes stay as they were until one works", async () => {
    const rig = new ConversationRig(collector());
    const before = rig.record(await old(rig));
    let works = false;
    rig.deploy(
      versionThree({
        1: (state) => {
          if (!works) throw new Error("the migration is broken");
          return step(2)(state);
        },
        2: step(3),
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m2", "m3"));
    await rig.environment.pass(5_000);
    expectUntouched(rig.record(c), before);
    expect(rig.crashes).toEqual([]);
    works = true;
    await rig.environment.until(() => c.settled, 60_000, "migrated");
    expect(rig.state(c)).toEqual({ version: 3, path: [1, 2, 3] });
    expect(rig.record(c).record.seq).toBe(3);
  });

  test("a state of a newer version waits untouched, its messages too", async () => {
    const rig = new ConversationRig(versionThree(undefined));
    const newer = rig.conversation();
    rig.deliver(newer, { id: "m1" });
    await quiet();
    const before = rig.record(newer);
    let ran = false;
    rig.deploy(
      bot((state) => {
        ran = true;
        return state;
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m2" });
    await rig.environment.pass(60_000);
    expect(ran).toBe(false);
    expectUntouched(rig.record(c), before);
    expect(c.settled).toBe(false);
    expect(rig.log.at("warn", "written by version 3")).not.toEqual([]);
    expect(rig.finished).toEqual([]);
  });

  test("a duplicate at the head moves the cursor and copies a state untouched that this version cannot read (E3)", async () => {
    const rig = new ConversationRig(versionThree(undefined));
    const newer = rig.conversation();
    rig.deliver(newer, { id: "m1" });
    await quiet();
    const before = rig.record(newer);
    rig.deploy(collector());
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    const after = rig.record(c);
    expect(after.botVersion).toBe(3);
    expect(Buffer.from(after.stateBytes)).toEqual(Buffer.from(before.stateBytes));
    expect(after.record.cursor.entry.ms).toBeGreaterThan(before.record.cursor.entry.ms);
    expect(after.record.seq).toBe(before.record.seq);
  });

  test("state bytes that fail their checksum are the turn's failure, and stay as they are", async () => {
    const rig = new ConversationRig(collector());
    const first = rig.conversation();
    rig.deliver(first, { id: "m1" });
    await quiet();
    const damaged = Buffer.from(rig.stored.get(first.key)!.record!);
    damaged[damaged.length - 2]! ^= 1;
    rig.stored.set(first.key, { record: damaged, ids: null });
    const before = rig.record(first);
    const c = rig.conversation();
    rig.deliver(c, { id: "m2" });
    await rig.environment.pass(10_000);
    expect(Buffer.from(rig.record(c).stateBytes)).toEqual(Buffer.from(before.stateBytes));
    expect(rig.record(c).record).toMatchObject({ seq: 1, cursor: before.record.cursor });
    expect(rig.log.at("warn", "stored state does not match its checksum")).not.toEqual([]);
  });

  test("attack B13: a bad envelope quarantines its conversation and no other; nothing of it is written", async () => {
    for (const [byte, flip] of [
      [0, 0x60], // the version
      [10, 1], // what the checksum is of
    ] as const) {
      const rig = new ConversationRig(collector());
      const first = rig.conversation();
      rig.deliver(first, { id: "m1" });
      await quiet();
      const bad = Buffer.from(rig.stored.get(first.key)!.record!);
      bad[byte]! ^= flip;
      rig.stored.set(first.key, { record: bad, ids: null });
      const [c, other] = [rig.conversation(), rig.conversation("other")];
      rig.deliver(c, ...ids("m2", "m3"));
      rig.deliver(other, { id: "m1" });
      await quiet();
      await rig.environment.pass(60_000);
      expect(rig.stored.get(first.key)!.record).toEqual(bad);
      expect(rig.state(other)).toEqual(["m1"]);
      expect(c.settled).toBe(false); // it may not be dropped from memory: its messages wait
      expect(rig.finished).toEqual([]);
      expect(rig.log.at("error", "quarantined")).toHaveLength(1);
      expect(rig.crashes).toEqual([]);
    }
  });

  test("a record made elsewhere with these bytes is read as this module writes them", async () => {
    const rig = new ConversationRig(collector());
    const c = rig.conversation();
    const born = { entry: { ms: 5, seq: 1 }, index: 2 };
    const record = {
      seq: 41,
      outSeq: 7,
      cursor: { entry: { ms: 9, seq: 0 }, index: 3 },
      born,
      chain: { lo: 1, hi: 2 },
      extra: null,
    };
    rig.stored.set(c.key, { record: encodeRecord(record, 1, '["m0"]'), ids: null });
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(rig.state(c)).toEqual(["m0", "m1"]);
    expect(rig.record(c).record).toMatchObject({ seq: 42, outSeq: 7, born });
  });
});

describe("others have their turn (attack A14)", () => {
  test("after `drainTurnsMax` turns of one conversation", async () => {
    const order: string[] = [];
    const rig = new ConversationRig(
      collector((id) => void order.push(id.slice(0, 1))),
      { bounds: { drainTurnsMax: 64, drainSliceMs: 1_000 } },
    );
    const [busy, other] = [rig.conversation("busy"), rig.conversation("other")];
    rig.deliver(busy, { id: "warm" });
    rig.deliver(other, { id: "warm" });
    await quiet();
    order.length = 0;
    rig.deliver(busy, ...Array.from({ length: 300 }, (_, i) => ({ id: `b${i}` })));
    rig.deliver(other, { id: "o1" });
    await quiet();
    expect(order.indexOf("o")).toBe(64);
    expect(order).toHaveLength(301);
  });

  test("after `drainSliceMs`, looked at every few turns", async () => {
    const order: string[] = [];
    const rig = new ConversationRig(
      bot<Seen>((state, message) => {
        order.push(message.id.slice(0, 1));
        clockMs += 2; // the turn computes for 2 ms
        return [...state, message.id];
      }),
      { bounds: { drainTurnsMax: 64, drainSliceMs: 5 } },
    );
    let clockMs = 0;
    const { monotonicMs } = rig.environment;
    rig.environment.monotonicMs = () => monotonicMs() + clockMs;
    const [busy, other] = [rig.conversation("busy"), rig.conversation("other")];
    rig.deliver(busy, { id: "warm" });
    rig.deliver(other, { id: "warm" });
    await quiet();
    order.length = 0;
    rig.deliver(busy, ...Array.from({ length: 60 }, (_, i) => ({ id: `b${i}` })));
    rig.deliver(other, { id: "o1" });
    await quiet();
    expect(order.indexOf("o")).toBeGreaterThanOrEqual(3);
    expect(order.indexOf("o")).toBeLessThanOrEqual(8);
  });

  test("a turn that waits for something stops no other conversation", async () => {
    const held = gate();
    const rig = new ConversationRig(collector((id) => (id === "slow" ? held.promise : undefined)));
    const [slow, quick] = [rig.conversation("slow"), rig.conversation("quick")];
    rig.deliver(slow, { id: "slow" });
    await quiet();
    rig.deliver(quick, ...numbered(200));
    await quiet();
    expect(rig.state(quick)).toHaveLength(200);
    held.open();
    await quiet();
    expect(rig.state(slow)).toEqual(["slow"]);
  });
});

describe("turns run ahead of commits only so far (C2, P7)", () => {
  test("at `uncommittedTurnsMax` a conversation waits for its commit and then goes on", async () => {
    let turns = 0;
    const rig = new ConversationRig(
      collector(() => {
        turns += 1;
      }),
      { commits: "by hand", bounds: { uncommittedTurnsMax: 10 } },
    );
    const c = rig.conversation();
    rig.deliver(c, ...numbered(35));
    const other = rig.conversation("other");
    await quiet();
    expect(turns).toBe(10);
    const flying = rig.take();
    await quiet();
    expect(turns).toBe(10); // in flight counts
    for (const each of flying) each.committed();
    await quiet();
    expect(turns).toBe(20);
    rig.deliver(other, { id: "m1" });
    await quiet();
    expect(turns).toBe(21); // the bound is each conversation's own
    for (let i = 0; i < 4; i += 1) {
      rig.commit();
      await quiet();
    }
    expect(rig.state(c)).toEqual(numbered(35).map(({ id }) => id));
  });

  test("at `uncommittedBytesMax` as well, replies included", async () => {
    let turns = 0;
    const rig = new ConversationRig(
      collector((_id, ctx) => {
        turns += 1;
        ctx.reply("x".repeat(600));
      }),
      { commits: "by hand", bounds: { uncommittedBytesMax: 2_000 } },
    );
    rig.deliver(rig.conversation(), ...numbered(30));
    await quiet();
    expect(turns).toBe(3);
    for (let i = 0; i < 12; i += 1) {
      rig.commit();
      await quiet();
    }
    expect(turns).toBe(30);
  });

  test("while its lane is full a conversation begins no turn, and the lane's room wakes it", async () => {
    const rig = new ConversationRig(collector());
    const c = rig.conversation();
    rig.laneHasRoom = false;
    rig.deliver(c, ...numbered(3));
    await rig.environment.pass(60_000);
    expect(rig.writes).toEqual([]);
    rig.laneHasRoom = true;
    for (const wake of rig.laneWaiters.splice(0)) wake();
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2", "m3"]);
  });

  test("at most `runningTurnsMax` handlers wait for something at once; the others follow, all of them", async () => {
    let running = 0;
    let runningMax = 0;
    const rig = new ConversationRig(
      collector(async () => {
        running += 1;
        runningMax = Math.max(runningMax, running);
        await new Promise<void>((resolve) => rig.environment.after(100, resolve));
        running -= 1;
      }),
      { runningTurnsMax: 4 },
    );
    const all = Array.from({ length: 40 }, (_, i) => rig.conversation(`c${i}`));
    for (const c of all) rig.deliver(c, ...numbered(3));
    await rig.environment.until(() => all.every((c) => c.settled), 60_000, "all done");
    expect(runningMax).toBe(4);
  });

  test("a place that a waiting conversation does not need goes to the next: duplicates and quick turns take none", async () => {
    const held = gate();
    const rig = new ConversationRig(
      collector((id) => (id === "slow" ? held.promise : undefined)),
      { runningTurnsMax: 1 },
    );
    const [slow, duplicate, quick, last] = ["slow", "duplicate", "quick", "last"].map((name) => rig.conversation(name));
    rig.deliver(duplicate!, { id: "m1" });
    await quiet();
    rig.deliver(slow!, { id: "slow" });
    await quiet();
    rig.deliver(duplicate!, { id: "m1" });
    await quiet();
    rig.deliver(quick!, { id: "m1" });
    await quiet();
    rig.deliver(last!, { id: "m1" });
    await quiet();
    expect(last!.settled).toBe(false);
    held.open();
    await rig.environment.until(
      () => [slow, duplicate, quick, last].every((c) => c!.settled),
      60_000,
      "nobody is forgotten",
    );
  });

  test("a place whose next in line was stopped goes to the one behind it", async () => {
    const held = gate();
    const rig = new ConversationRig(
      collector((id) => (id === "slow" ? held.promise : undefined)),
      { runningTurnsMax: 1 },
    );
    const [slow, stopped, last] = ["slow", "stopped", "last"].map((name) => rig.conversation(name));
    for (const c of [slow, stopped, last]) {
      rig.deliver(c!, { id: c === slow ? "slow" : "m1" });
      await quiet();
    }
    stopped!.stop();
    held.open();
    await rig.environment.until(() => last!.settled, 60_000, "the last has its turn");
  });
});

describe("no message text reaches the log", () => {
  const CANARY = "canary-7f3a";
  const failures: [string, (text: string) => unknown][] = [
    ["an Error that quotes it", (text) => new Error(`cannot parse ${text}`)],
    ["an Error with a cause that quotes it", (text) => new Error("no", { cause: new Error(text) })],
    [
      "an Error whose lines look like a stack",
      (text) => new Error(`bad:\n    at ${text} (${text}.ts:1:1)\nat ${text}`),
    ],
    ["a text", (text) => text],
    ["an object", (text) => ({ message: text, [text]: 1 })],
    ["a TerminalError that quotes it", (text) => new TerminalError(`never: ${text}`)],
    ["a SyntaxError of JSON.parse", (text) => parseError(text)],
  ];
  for (const [what, fail] of failures) {
    test(`of a handler that fails with ${what}`, async () => {
      for (const later of [false, true]) {
        const rig = new ConversationRig(
          bot<Seen>((_state, message) => {
            if (later) return Promise.reject(fail(message.text));
            throw fail(message.text);
          }),
        );
        const c = rig.conversation();
        rig.deliver(c, { id: "m1", text: CANARY, data: { secret: CANARY } });
        await rig.environment.pass(10_000);
        await quiet();
        const isFinal = what.startsWith("a TerminalError"); // poison at once: it halts
        expect(rig.log.at("warn", "turn failed").length > 3).toBe(!isFinal);
        expect(rig.log.at("error", "failed for good")).toHaveLength(isFinal ? 1 : 0);
        expect(rig.log.text).not.toContain(CANARY);
        expect(JSON.stringify([...rig.open.values()])).not.toContain(CANARY); // what `ls` shows
        expect(JSON.stringify(rig.record(c).record)).not.toContain(CANARY);
      }
    });
  }

  test("of a handler whose state is keyed by it and is not plain", async () => {
    const rig = new ConversationRig(bot<unknown>((_state, message) => ({ words: { [message.text]: undefined } })));
    rig.deliver(rig.conversation(), { id: "m1", text: CANARY });
    await rig.environment.pass(1_000);
    expect(rig.log.at("warn", "turn failed").length).toBeGreaterThan(1);
    expect(rig.log.text).not.toContain(CANARY);
  });

  test("the line of a failure names the place in the bot's code", async () => {
    const rig = new ConversationRig(
      collector(() => {
        throw new RangeError("own words");
      }),
    );
    rig.deliver(rig.conversation(), { id: "m1" });
    await quiet();
    expect(rig.log.at("warn", "RangeError")[0]).toContain("conversation.test.ts");
  });
});

function parseError(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return error;
  }
}

describe("residents over the budget", () => {
  const rigged = (options: {
    residentsMax: number;
    residentBytesMax?: number;
    onMessage?: AnyBot["onMessage"];
    isBotGone?: boolean;
    restartAfterMs?: CrashPolicy["restartAfterMs"];
  }) => {
    const rig = new ConversationRig(bot<Seen>((state, message) => [...state, message.id]));
    const [theBot] = checkBots([bot(options.onMessage ?? ((state) => state))]);
    const evicted: string[] = [];
    const loaded: string[] = [];
    const pages: number[] = [];
    const system = new ActorSystem({
      after: rig.environment.after,
      onCrash: (_name, error) => rig.crashes.push(error),
    });
    const budget = {
      residentsMax: options.residentsMax,
      residentBytesMax: options.residentBytesMax ?? 512 * 1024 * 1024,
      residents: 0,
      bytes: 0,
    };
    const conversations = new Conversations({
      environment: new PartEnvironment(rig.environment, (error) => rig.crashes.push(error)),
      crashPolicy: { restartAfterMs: options.restartAfterMs ?? (() => null) },
      takeBack: () => undefined,
      ports: {
        log: rig.log.log,
        counters: newCounters(),
        bounds: rig.bounds,
        running: rig.running,
        hashKey: { lo: 1, hi: 2 },
        reserveDeadLetter: () => true,
        commit: (conversation) => {
          rig.dirty.add(conversation);
          rig.environment.soon(() => rig.commit());
        },
        finish: () => undefined,
        laneHasRoom: () => true,
      },
      heads: new PendingHeads({
        environment: rig.environment,
        log: rig.log.log,
        uncleanEnds: 0,
        followsAnEnd: false,
        horizon: { ms: 0, seq: 0 },
        groupMax: 64,
        leaveAlone: () => undefined,
        onThrough: () => undefined,
      }),
      spillMs: 2_000,
      store: {
        readOpen: async () => ({ cursor: "0", found: [] }),
        readWaiting: async () => [],
        load: async (keys) => {
          loaded.push(...keys);
          pages.push(keys.length);
          return keys.map((key) => rig.stored.get(key) ?? { record: null, ids: null });
        },
      },
      family: system.family("resident"),
      budget,
      bot: () => (options.isBotGone ? undefined : theBot),
      channel: () => testChannel(),
      onEvicted: (key) => evicted.push(key),
      onCorrupt: () => undefined,
    });
    const send = (name: string, ...inbounds: { id: string }[]): void => {
      for (const message of rig.messages(rig.conversation(name), inbounds)) conversations.deliver(message);
    };
    return { rig, budget, conversations, evicted, loaded, pages, send };
  };
  const remember: AnyBot["onMessage"] = (state, message) => [...(state as Seen), message.id];

  test("settled ones go, and come back from the store with their state", async () => {
    const { rig, budget, conversations, evicted, loaded, send } = rigged({ residentsMax: 2, onMessage: remember });
    for (const name of ["a", "b", "c"]) {
      send(name, { id: "m1" });
      await quiet();
    }
    expect([conversations.count, budget.residents, evicted.length]).toEqual([2, 2, 1]);
    send("a", { id: "m2" });
    await quiet();
    expect(rig.state(rig.conversation("a"))).toEqual(["m1", "m2"]);
    expect(loaded).toHaveLength(4);
  });

  test("none is left in the budget when the conversations stop, also of those whose commit is still to come", async () => {
    const { budget, conversations, send, rig } = rigged({
      residentsMax: 10,
      onMessage: () => {
        queueMicrotask(() => conversations.stop());
        return "x".repeat(100_000);
      },
    });
    send("a", { id: "m1" });
    await quiet();
    expect(rig.writes).toHaveLength(1);
    expect([budget.residents, budget.bytes]).toEqual([0, 0]);
  });

  test("an error on the way to the replacement of one that crashed is an error of them all", async () => {
    const { conversations, send, rig } = rigged({
      residentsMax: 10,
      restartAfterMs: () => {
        throw new Error("a mistake");
      },
    });
    send("a", { id: "m1" });
    [...conversations.all()][0]!.crashed(new Error("another mistake"));
    expect(rig.crashes).toEqual([new Error("a mistake")]);
  });

  test("attack B5: one with an uncommitted or running turn never goes", async () => {
    const held = gate();
    const { rig, conversations, send } = rigged({
      residentsMax: 1,
      onMessage: (state, message) => {
        const next = [...(state as Seen), message.id];
        return message.id === "slow" ? held.promise.then(() => next) : next;
      },
    });
    send("slow", { id: "slow" });
    await quiet();
    for (let i = 0; i < 20; i += 1) {
      send(`c${i}`, { id: "m1" });
      await quiet();
    }
    held.open();
    await quiet();
    expect(rig.state(rig.conversation("slow"))).toEqual(["slow"]);
    for (let i = 0; i < 20; i += 1) expect(rig.state(rig.conversation(`c${i}`))).toEqual(["m1"]);
    expect(conversations.count).toBeLessThanOrEqual(3);
  });

  test("a newcomer never goes before its first message: nothing of it is lost or passed over (P1, P3)", async () => {
    const { rig, budget, send } = rigged({ residentsMax: 1, onMessage: remember });
    budget.residents = 5; // another shard of the node holds more than the budget
    send("first", { id: "m1" });
    send("first", { id: "m2" });
    await quiet();
    budget.residents -= 5;
    send("first", { id: "m3" });
    await quiet();
    expect(rig.state(rig.conversation("first"))).toEqual(["m1", "m2", "m3"]);
  });

  test("the byte budget counts the states that are resident, not only the empty actors", async () => {
    const { budget, conversations, send } = rigged({
      residentsMax: 1_000,
      residentBytesMax: 1_000_000,
      onMessage: () => "x".repeat(100_000),
    });
    for (let i = 0; i < 40; i += 1) {
      send(`c${i}`, { id: "m1" });
      await quiet();
    }
    expect(conversations.count).toBeLessThanOrEqual(12);
    expect(budget.bytes).toBeLessThan(1_300_000);
  });

  test("attack H9: many that are cold at once are asked for in pages whose largest answer comes within its time", async () => {
    const { rig, conversations, loaded, pages, send } = rigged({ residentsMax: 1_000, onMessage: remember });
    for (let i = 0; i < 500; i += 1) send(`c${i}`, { id: "m1" });
    for (let i = 0; i < 10; i += 1) await quiet();
    expect(rig.stored.size).toBe(500);
    expect(Math.max(...pages)).toBeLessThanOrEqual(128);
    expect([loaded.length, conversations.count]).toEqual([500, 500]);
  });

  test("messages of a bot that is no longer configured stay, and are told of in one line", async () => {
    const { rig, budget, send } = rigged({ residentsMax: 10, isBotGone: true });
    for (let i = 0; i < 100; i += 1) send(`c${i}`, { id: "m1" }, { id: "m2" });
    await quiet();
    expect(rig.log.at("error", "not configured")).toHaveLength(1);
    expect(budget.residents).toBe(0);
  });

  test("a message that a reader brings after the end activates nobody", async () => {
    const { budget, conversations, loaded, send } = rigged({ residentsMax: 10, onMessage: remember });
    send("a", { id: "m1" });
    await quiet();
    conversations.stop();
    send("a", { id: "m2" });
    send("b", { id: "m1" });
    await quiet();
    expect([budget.residents, budget.bytes, conversations.count]).toEqual([0, 0, 0]);
    expect(loaded).toHaveLength(1);
  });
});
