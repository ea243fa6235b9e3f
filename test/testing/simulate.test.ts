// The test kit: what the author of a bot may rely on.

import { defineBot, TerminalError } from "colloquy";
import { type Simulation, SimulationError, simulate } from "colloquy/testing";
import { afterEach, describe, expect, test } from "vitest";

interface Tally {
  readonly count: number;
  readonly texts: readonly string[];
}

const tally = defineBot<Tally>({
  name: "tally",
  version: 1,
  initialState: () => ({ count: 0, texts: [] }),
  onMessage(state, message, ctx) {
    const count = state.count + 1;
    ctx.reply(`#${count} ${message.text}`);
    return { count, texts: [...state.texts, message.text] };
  },
});

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each[Symbol.asyncDispose]();
});

async function start<State>(...args: Parameters<typeof simulate<State>>): Promise<Simulation<State>> {
  const t = await simulate<State>(...args);
  open.push(t);
  return t;
}

const LATER = { kind: "retryable", reason: "HTTP 503" } as const;

describe("a message", () => {
  test("runs a turn: replies, state and turn are there when `says` returns", async () => {
    const t = await start(tally);
    expect(await t.user("c1").says("hi")).toEqual(["#1 hi"]);
    expect(t.replies("c1")).toEqual(["#1 hi"]);
    expect(t.state("c1")).toEqual({ count: 1, texts: ["hi"] });
    expect(t.turns("c1")).toEqual([{ seq: 1, messageId: "m1", text: "hi", runs: 1 }]);
    expect(t.errors).toEqual([]);
  });

  test("waits for the one before it where the channel has an order", async () => {
    const t = await start(tally, { order: "contiguous", firstSequence: 1, gapTimeoutMs: 5_000 });
    expect(await t.user("c1").says("b", { sequence: 2 })).toEqual([]);
    await t.advance("4s");
    expect(await t.user("c1").says("a", { sequence: 1 })).toEqual(["#1 a", "#2 b"]);
  });

  test("of another conversation changes nothing of this one", async () => {
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.user("c2").says("b");
    expect(t.texts("c2")).toEqual(["#1 b"]);
    expect(t.state("c1")).toEqual({ count: 1, texts: ["a"] });
    expect(t.state("nobody")).toBeUndefined();
    expect(t.turns("nobody")).toEqual([]);
  });

  test("twice under one id changes the state once", async () => {
    const t = await start(tally);
    await t.user("c1").says("hi", { id: "same" });
    expect(await t.user("c1").says("hi", { id: "same" })).toEqual([]);
    expect(t.state("c1")?.count).toBe(1);
    expect(t.turns("c1")).toHaveLength(1);
  });

  test("reaches the handler with its data, and replies keep theirs", async () => {
    const mirror = defineBot<null>({
      name: "mirror",
      version: 1,
      initialState: () => null,
      onMessage(state, { text, data = null, channel, seq }, ctx) {
        ctx.reply({ text, data: { data, channel, seq } });
        return state;
      },
    });
    const t = await start(mirror, { channel: "web" });
    await t.user("c1").says("hi", { data: { n: [1] } });
    expect(t.replies("c1")).toEqual([{ text: "hi", data: { data: { n: [1] }, channel: "web", seq: 1 } }]);
    expect(t.texts("c1")).toEqual(["hi"]);
  });
});

describe("a reply that expires", () => {
  const teller = defineBot<null>({
    name: "teller",
    version: 1,
    initialState: () => null,
    onMessage(state, { text }, ctx) {
      ctx.reply({ text, expiresIn: "90s" });
      ctx.reply({ text, data: [1], expiresAt: new Date(ctx.now().getTime() + 75_500) });
      ctx.reply(text);
      return state;
    },
  });

  test("says until when, the same in every attempt and after a crash", async () => {
    const t = await start(teller, { recipient: ({ attempt }) => (attempt === 1 ? LATER : undefined) });
    const sentAtMs = t.nowMs;
    const at = (ms: number) => new Date(sentAtMs + ms).toISOString();
    await t.user("c1").says("a");
    await t.crash();
    await t.advance("10s");
    expect(t.replies("c1")).toEqual([
      { text: "a", expiresAt: at(90_000) },
      { text: "a", data: [1], expiresAt: at(75_500) },
      "a",
    ]);
    const ofFirst = t.arrivals.filter(({ sequence }) => sequence === 1).map(({ expiresAt }) => expiresAt);
    expect(ofFirst.length).toBeGreaterThan(1);
    expect(new Set(ofFirst)).toEqual(new Set([at(90_000)]));
    expect(t.arrivals.find(({ sequence }) => sequence === 3)).not.toHaveProperty("expiresAt");
  });

  test("is not sent any more when its time is over: it is a dead letter, and the next one goes out", async () => {
    let isAway = true;
    const t = await start(teller, { recipient: () => (isAway ? LATER : undefined) });
    await t.user("c1").says("a");
    await t.advance("80s");
    isAway = false;
    await t.advance("5m");
    const left = t.replies("c1");
    expect(left.at(-1)).toBe("a");
    expect(t.deadLetters("c1").map(({ direction, reason }) => [direction, reason])).toEqual(
      Array.from({ length: 3 - left.length }, () => ["out", "expired"]),
    );
    expect(left.length).toBeLessThan(3);
  });

  test("or says so in a way that is none, and its turn fails with what to write", async () => {
    const t = await start(
      defineBot<null>({
        ...teller,
        onMessage: (state, { text }, ctx) => {
          ctx.reply({ text, expiresAt: "tomorrow" });
          return state;
        },
      }),
    );
    expect(await t.user("c1").says("a")).toEqual([]);
    expect(String(t.errors[0]?.error)).toContain(
      "expiresAt of a reply is neither a valid Date, nor ISO 8601 with an offset",
    );
  });
});

describe("a reply that the channel cuts", () => {
  const split = (text: string): string[] => text.split(" / ");
  const part = (text: string, of: number, parts: number) => ({ text, part: of, parts });

  test("arrives part by part, in order, each under a key of its own, also through a crash", async () => {
    const t = await start(tally, {
      split,
      recipient: ({ attempt, part: of }) => (of === 2 && attempt < 3 ? LATER : undefined),
    });
    await t.user("c1").sends(["a / b / c", "d"]);
    await t.crash();
    await t.advance("1m");
    expect(t.replies("c1")).toEqual([part("#1 a", 1, 3), part("b", 2, 3), part("c", 3, 3), "#2 d"]);
    const keys = [...new Set(t.arrivals.map(({ idempotencyKey }) => idempotencyKey))];
    expect(keys.map((key) => key.slice(key.indexOf(".") + 1))).toEqual(["1.1", "1.2", "1.3", "2"]);
    const places = t.arrivals.map(({ sequence, part: of = 0 }) => sequence * 10 + of);
    const firsts = [...new Set(places)];
    expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
  });

  test("and of which a part is refused for good takes its later parts along, and the next reply goes out", async () => {
    const refused = { kind: "terminal", reason: "HTTP 400" } as const;
    const t = await start(defineBot({ ...tally, ordering: "available" }), {
      split,
      recipient: ({ part: of }) => (of === 2 ? refused : undefined),
    });
    await t.user("c1").sends(["a / b / c", "d"]);
    await t.advance("1m");
    expect(t.replies("c1").slice(0, 2)).toEqual([part("#1 a", 1, 3), "#2 d"]);
    expect(t.deadLetters("c1").map(({ direction }) => direction)).toEqual(["out", "out"]);
  });

  test("into nothing fails its turn before anything of it is committed", async () => {
    const t = await start(tally, { split: () => [] });
    expect(await t.user("c1").says("a")).toEqual([]);
    expect(String(t.errors[0]?.error)).toContain("into 0 bodies, and a reply has 1 to 16");
    expect(t.state("c1")?.count ?? 0).toBe(0);
  });
});

describe("several messages", () => {
  test("of one request keep their order", async () => {
    const t = await start(tally);
    await t.user("c1").sends(["a", "b", { text: "c" }]);
    expect(t.texts("c1")).toEqual(["#1 a", "#2 b", "#3 c"]);
  });

  test("sent at the same time arrive in an order that the seed decides, the same one for the same seed", async () => {
    const orderOf = async (seed: number): Promise<readonly string[]> => {
      const t = await start(tally, { seed });
      await t.user("c1").sends(["a", "b", "c", "d"], { within: "1s" });
      const { texts } = t.state("c1")!;
      expect([...texts].sort()).toEqual(["a", "b", "c", "d"]);
      return texts;
    };
    const orders = await Promise.all([1, 2, 3, 4, 5, 1].map(orderOf));
    expect(orders[5]).toEqual(orders[0]);
    expect(new Set(orders.map(String)).size).toBeGreaterThan(1);
  });

  test("of users who do not wait for each other are all handled", async () => {
    const t = await start(tally, { config: { shards: 4 } });
    const names = Array.from({ length: 20 }, (_, i) => `c${i}`);
    await Promise.all(names.flatMap((name) => [t.user(name).says("a"), t.user(name).says("b")]));
    for (const name of names) expect(t.state(name)?.count).toBe(2);
  });
});

describe("a crash", () => {
  test("loses nothing: state and replies go on where they were", async () => {
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.crash();
    await t.user("c1").says("b");
    expect(t.texts("c1")).toEqual(["#1 a", "#2 b"]);
    expect(t.state("c1")).toEqual({ count: 2, texts: ["a", "b"] });
  });

  test("before an acknowledgement is stored repeats the delivery under the same key, and the reply is there once", async () => {
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.crash();
    expect(t.replies("c1")).toEqual(["#1 a"]);
    expect(t.arrivals.map(({ attempt, text }) => [attempt, text])).toEqual([
      [1, "#1 a"],
      [2, "#1 a"],
    ]);
    expect(new Set(t.arrivals.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
  });

  test("after a while repeats nothing", async () => {
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.advance("1s");
    await t.crash();
    expect(t.arrivals).toHaveLength(1);
  });

  test("while a handler runs runs its message again, and what the dead one still does is not seen", async () => {
    let isHanging = true;
    let release = (): void => undefined;
    const slow = defineBot<number>({
      name: "slow",
      version: 1,
      initialState: () => 0,
      async onMessage(state, message, ctx) {
        if (isHanging)
          await new Promise<void>((resolve) => {
            release = resolve;
          });
        ctx.reply(`done ${message.text}`);
        return state + 1;
      },
    });
    const t = await start(slow, { patienceMs: 0 });
    await t.user("c1").sends(["a", "b"]);
    expect(t.state("c1")).toBeUndefined();
    isHanging = false;
    await t.crash();
    release();
    await t.advance("1s");
    expect(t.texts("c1")).toEqual(["done a", "done b"]);
    expect(t.state("c1")).toBe(2);
    expect(t.turns("c1").map(({ runs }) => runs)).toEqual([2, 1]);
  });

  test("during a request makes its sender repeat it, and it counts once", async () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const t = await simulate(tally, { seed });
      const said = t.user("c1").says("a");
      const crashed = t.crash();
      await Promise.all([said, crashed]);
      await t.advance("10s");
      expect(t.state("c1")).toEqual({ count: 1, texts: ["a"] });
      await t.close();
    }
  });
});

describe("a handler that fails", () => {
  const failing = (times: number, error: unknown = new Error("crm is down")) => {
    let left = times;
    return defineBot<number>({
      name: "failing",
      version: 1,
      initialState: () => 0,
      onMessage(state, message, ctx) {
        left -= 1;
        if (left >= 0) throw error;
        ctx.reply(message.text);
        return state + 1;
      },
    });
  };

  test("is told with its error, runs again when its time has come, and nothing passes it", async () => {
    const error = new Error("not yet");
    const t = await start(failing(2, error));
    await t.user("c1").says("a");
    await t.user("c1").says("b");
    expect(t.replies("c1")).toEqual([]);
    expect(t.errors).toMatchObject([{ conversation: "c1", messageId: "m1", attempt: 1 }]);
    expect(t.errors[0]!.error).toBe(error);
    await t.advance(t.errors[0]!.retryInMs!);
    expect(t.errors.map(({ attempt }) => attempt)).toEqual([1, 2]);
    await t.advance("1m");
    expect(t.texts("c1")).toEqual(["a", "b"]);
    expect(t.turns("c1").map(({ runs }) => runs)).toEqual([3, 1]);
  });

  test("for good is told as well: it does not run again", async () => {
    const error = new TerminalError("no");
    const t = await start(failing(1, error));
    await t.user("c1").says("a");
    await t.user("c1").says("b");
    await t.advance("1h");
    expect(t.errors).toMatchObject([{ conversation: "c1", messageId: "m1", attempt: 1, retryInMs: null }]);
    expect([t.errors[0]!.error, t.texts("c1")]).toEqual([error, []]);
  });

  test("by what it gives back is told with the runtime's error", async () => {
    const wrong = defineBot<unknown>({
      name: "wrong",
      version: 1,
      initialState: () => null,
      onMessage: async () => new Map(),
    });
    const t = await start(wrong);
    await t.user("c1").says("a");
    expect(t.errors).toMatchObject([{ messageId: "m1", attempt: 1, error: { name: "PlainDataError" } }]);
    expect(t.turns("c1")).toEqual([]);
  });

  test("by taking too long is told, and its message runs again", async () => {
    let isHanging = true;
    const hanging = defineBot<number>({
      name: "hanging",
      version: 1,
      handlerTimeoutMs: 60_000,
      initialState: () => 0,
      onMessage: (state) => (isHanging ? new Promise<number>(() => undefined) : state + 1),
    });
    const t = await start(hanging, { patienceMs: 0 });
    await t.user("c1").says("a");
    await t.advance("59s");
    expect(t.errors).toEqual([]);
    await t.advance("2s");
    expect(t.errors).toMatchObject([
      { attempt: 1, error: { name: "HandlerTimeoutError", code: "ERR_HANDLER_TIMEOUT" } },
    ]);
    isHanging = false;
    await t.advance("1m");
    expect(t.state("c1")).toBe(1);
  });

  const real = (answer: Promise<unknown> | null) =>
    defineBot<number>({
      name: "real",
      version: 1,
      initialState: () => 0,
      async onMessage(state) {
        await (answer ?? new Promise((resolve) => setTimeout(resolve, 20)));
        return state + 1;
      },
    });

  test("or not, is waited for if it awaits something real", async () => {
    const t = await start(real(null), { patienceMs: 30_000 });
    await t.user("c1").sends(["a", "b"]);
    expect(t.state("c1")).toBe(2);
  });

  test("to come to its end is named", async () => {
    const t = await start(real(new Promise(() => undefined)), { patienceMs: 50 });
    await expect(t.user("c1").says("a", { id: "m7" })).rejects.toThrow(/conversation c1, message m7/);
    expect(t.state("c1")).toBeUndefined();
    await t.advance("31s");
    expect(t.errors).toMatchObject([{ messageId: "m7", error: { name: "HandlerTimeoutError" } }]);
  });
});

describe("time", () => {
  test("passes only when it is told to, and then in no time", async () => {
    const t = await start(tally);
    const before = t.nowMs;
    await t.user("c1").says("a");
    expect(t.nowMs).toBe(before);
    await t.advance("2h");
    expect(t.nowMs).toBe(before + 7_200_000);
  });

  test("makes a repeat a new message once its id is forgotten", async () => {
    const t = await start(tally, { config: { dedupeMs: 60_000 } });
    await t.user("c1").says("a", { id: "x" });
    await t.advance("50s");
    await t.user("c1").says("a", { id: "x" });
    expect(t.state("c1")?.count).toBe(1);
    await t.advance("30s");
    await t.user("c1").says("a", { id: "x" });
    expect(t.state("c1")?.count).toBe(2);
  });
});

describe("a recipient", () => {
  test("that fails is tried again in order", async () => {
    const t = await start(tally, {
      recipient: ({ attempt }) => (attempt < 3 ? { kind: "retryable", reason: "HTTP 500" } : undefined),
    });
    await t.user("c1").sends(["a", "b"]);
    expect(t.replies("c1")).toEqual([]);
    await t.advance("1m");
    expect(t.texts("c1")).toEqual(["#1 a", "#2 b"]);
    expect(t.arrivals.map(({ text, attempt }) => `${text}/${attempt}`)).toEqual([
      "#1 a/1",
      "#1 a/2",
      "#1 a/3",
      "#2 b/1",
      "#2 b/2",
      "#2 b/3",
    ]);
  });
});

describe("a deploy", () => {
  test("of a new version migrates the state in the next turn", async () => {
    const next = defineBot<Tally>({
      ...tally,
      version: 2,
      migrate: { 1: (old) => ({ ...(old as Tally), count: 100 }) },
    });
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.restart(next);
    await t.user("c1").says("b");
    expect(t.texts("c1")).toEqual(["#1 a", "#101 b"]);
    expect(t.arrivals).toHaveLength(2);
  });

  test("whose migration fails tells so and keeps what is stored", async () => {
    const error = new Error("cannot");
    const next = defineBot<Tally>({
      ...tally,
      version: 2,
      migrate: {
        1: () => {
          throw error;
        },
      },
    });
    const t = await start(tally);
    await t.user("c1").says("a");
    await t.crash(next);
    await t.user("c1").says("b");
    expect(t.errors[0]!.error).toBe(error);
    expect(t.state("c1")).toEqual({ count: 1, texts: ["a"] });
  });
});

describe("steps", () => {
  const shop = defineBot<{ readonly receipts: readonly string[] }>({
    name: "shop",
    version: 1,
    maxAttempts: 3,
    poisonMinMs: 0,
    initialState: () => ({ receipts: [] }),
    async onMessage(state, message, ctx) {
      const receipt = await ctx.step("charge", () => `receipt for ${message.text}`);
      if (message.text === "broken") throw new Error("the printer is broken");
      ctx.reply(receipt);
      return { receipts: [...state.receipts, receipt] };
    },
  });

  test("run their function for real, once, whatever becomes of the turn", async () => {
    const t = await start(shop);
    await t.user("c1").says("tea");
    expect(t.steps("c1")).toEqual([
      { messageId: "m1", name: "charge", result: "receipt for tea", error: undefined, runs: 1 },
    ]);
    await t.user("c1").says("broken");
    await t.advance("10s");
    expect(t.errors.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(t.steps("c1").map(({ runs }) => runs)).toEqual([1, 1]);
    expect(t.steps("c2")).toEqual([]);
  });

  test("are not run again after a crash", async () => {
    const slow = defineBot<number>({
      name: "slow",
      version: 1,
      initialState: () => 0,
      async onMessage(state, _message, ctx) {
        await ctx.step("charge", () => "paid");
        if (!isBack) await new Promise(() => undefined);
        ctx.reply("done");
        return state + 1;
      },
    });
    let isBack = false;
    const t = await start(slow, { patienceMs: 0 });
    await t.user("c1").says("pay");
    expect(t.situation("c1")).toMatchObject({ state: "active", why: "a turn with 1 finished steps is open" });
    isBack = true;
    await t.crash();
    expect(t.texts("c1")).toEqual(["done"]);
    expect(t.steps("c1")).toMatchObject([{ name: "charge", runs: 1, result: "paid" }]);
    expect(t.situation("c1")).toEqual({ state: "idle", why: "", waiting: 0, attempts: 0 });
  });

  test("fail as often as the test says, before they run or when what they did is done", async () => {
    const t = await start(shop);
    t.failStep("charge");
    await t.user("c1").says("tea");
    expect(t.steps("c1")).toMatchObject([{ name: "charge", runs: 0, result: undefined }]);
    expect(String(t.steps("c1")[0]!.error)).toContain("the test let step charge fail");
    await t.advance("1s");
    expect(t.texts("c1")).toEqual(["receipt for tea"]);
    t.failStep("charge", { times: 2, error: new Error("no answer"), afterEffect: true });
    await t.user("c2").says("jam");
    await t.advance("5s");
    expect(t.texts("c2")).toEqual(["receipt for jam"]);
    expect(t.steps("c2")).toMatchObject([{ runs: 3, result: "receipt for jam", error: undefined }]);
  });
});

describe("a message that fails for good", () => {
  const picky = (ordering: "strict" | "available") =>
    defineBot<readonly string[]>({
      name: "picky",
      version: 1,
      ordering,
      initialState: () => [],
      onMessage(state, message, ctx) {
        if (message.text === "bad" && !isMended) throw new TerminalError("no help for it");
        ctx.reply(`${message.text}${message.redriven ? " again" : ""}`);
        return [...state, message.text];
      },
      onNotice: {
        poisoned(state, { id }, ctx) {
          ctx.reply(`sorry for ${id}`);
          return [...state, "!"];
        },
      },
    });
  let isMended = false;
  afterEach(() => {
    isMended = false;
  });

  test("halts its conversation in strict order until somebody retries or skips it", async () => {
    const t = await start(picky("strict"));
    await t.user("c1").sends(["a", "bad", "c"]);
    expect(t.texts("c1")).toEqual(["a"]);
    expect(t.situation("c1")).toMatchObject({ state: "halted", attempts: 1 });
    expect(await t.retry("c1")).toBe(true);
    expect(t.situation("c1").state).toBe("halted");
    isMended = true;
    expect(await t.retry("c1")).toBe(true);
    expect(t.texts("c1")).toEqual(["a", "bad", "c"]);
    expect([await t.retry("c1"), await t.skip("c1"), await t.skip("nobody")]).toEqual([false, false, false]);
    expect(t.deadLetters()).toEqual([]);
  });

  test("becomes a dead letter when it is skipped, and comes back when it is redriven", async () => {
    const t = await start(picky("strict"));
    await t.user("c1").sends(["a", "bad", "c"]);
    await t.crash();
    expect(t.situation("c1").state).toBe("halted");
    expect(await t.skip("c1")).toBe(true);
    expect(t.texts("c1")).toEqual(["a", "c"]);
    expect(t.deadLetters("c1")).toMatchObject([{ direction: "in", messageId: "m2", reason: "skipped", attempts: 1 }]);
    isMended = true;
    expect(await t.redrive("c1")).toBe(1);
    expect(t.texts("c1")).toEqual(["a", "c", "bad again"]);
    expect([t.deadLetters(), await t.redrive("c1")]).toEqual([[], 0]);
  });

  test("is set aside where order gives way, the bot is told, and the rest goes on", async () => {
    const t = await start(picky("available"));
    await t.user("c1").sends(["a", "bad", "c"]);
    expect(t.texts("c1")).toEqual(["a", "sorry for m2", "c"]);
    expect(t.state("c1")).toEqual(["a", "!", "c"]);
    expect(t.turns("c1").map(({ messageId, seq }) => [messageId, seq])).toEqual([
      ["m1", 1],
      ["m3", 3],
    ]);
    expect(t.deadLetters("c1")).toMatchObject([{ messageId: "m2", reason: "poison" }]);
    expect(t.deadLetters("c2")).toEqual([]);
  });
});

test("a notice that the bot fails on for good becomes a dead letter, and the rest goes on", async () => {
  const deaf = defineBot<readonly string[]>({
    name: "deaf",
    version: 1,
    ordering: "available",
    initialState: () => [],
    onMessage(state, message) {
      if (message.text === "bad") throw new TerminalError("no help for it");
      return [...state, message.text];
    },
    onNotice: {
      poisoned() {
        throw new TerminalError("nor for this");
      },
    },
  });
  const t = await start(deaf);
  await t.user("c1").sends(["a", "bad", "c"]);
  expect(t.state("c1")).toEqual(["a", "c"]);
  expect(t.deadLetters("c1").map(({ reason, messageId }) => [reason, messageId])).toEqual([
    ["poison", "m2"],
    ["notice", null],
  ]);
  expect([t.situation("c1").state, await t.redrive("c1")]).toEqual(["idle", 1]);
});

describe("sends between conversations", () => {
  const relay = defineBot<readonly string[]>({
    name: "relay",
    version: 1,
    initialState: () => [],
    onMessage(state, message, ctx) {
      const from = message.from?.conversation;
      if (from === undefined) ctx.send({ conversation: "board" }, { text: message.text });
      else ctx.reply(`${from}: ${message.text}`);
      return [...state, message.text];
    },
  });

  test.each([1, 4])("come once and in order, through a crash, in %i shards", async (shards) => {
    const t = await start(relay, { config: { shards } });
    await t.user("alice").sends(["one", "two"]);
    void t.user("bob").says("three");
    await t.crash();
    await t.user("alice").says("four");
    expect(t.texts("board").filter((text) => text.startsWith("alice"))).toEqual([
      "alice: one",
      "alice: two",
      "alice: four",
    ]);
    expect(t.texts("board").filter((text) => text.startsWith("bob"))).toEqual(["bob: three"]);
  });
});

describe("a number that is missing", () => {
  test("holds its conversation, then halts it until somebody passes it", async () => {
    const t = await start(tally, { order: "contiguous", firstSequence: 1, gapTimeoutMs: 5_000 });
    await t.user("c1").says("a", { sequence: 1 });
    await t.user("c1").says("c", { sequence: 3 });
    expect(t.situation("c1")).toMatchObject({ state: "held", waiting: 1, why: "waits for number 2" });
    await t.advance("6s");
    expect(t.situation("c1")).toMatchObject({ state: "halted", waiting: 1 });
    expect(await t.skip("c1")).toBe(true);
    expect(t.texts("c1")).toEqual(["#1 a", "#2 c"]);
    expect(t.situation("c1").state).toBe("idle");
  });
});

describe("misuse", () => {
  test("is named", async () => {
    await expect(simulate({ ...tally, version: 0 })).rejects.toThrow(/bot\.version/);
    await expect(simulate(tally, { channel: "No Name" })).rejects.toThrow(SimulationError);
    const t = await start(tally);
    expect(() => t.user("")).toThrow(SimulationError);
    expect(() => t.user("c1").says("a", { id: "\ud800" })).toThrow(SimulationError);
    expect(() => t.user("c1").says("a", { sequence: -1 })).toThrow(SimulationError);
    await expect(simulate(tally, { firstSequence: 1 })).rejects.toThrow("channels.test.firstSequence");
    await expect((async () => t.advance("soon" as never))()).rejects.toThrow(/duration/);
    expect(() => t.crash(defineBot({ ...tally, name: "other" }))).toThrow(/is what is simulated/);
    await t.close();
    await t.close();
    await expect(t.user("c1").says("a")).rejects.toThrow(/closed/);
  });
});

test("a first message takes well below 50 ms of the processor, its runtime included", async () => {
  const tookMs: number[] = [];
  for (let seed = 1; seed <= 10; seed += 1) {
    const before = process.cpuUsage();
    const t = await simulate(tally, { seed });
    await t.user("c1").says("hi");
    const { user, system } = process.cpuUsage(before);
    tookMs.push((user + system) / 1_000);
    await t.close();
  }
  expect(Math.min(...tookMs)).toBeLessThan(50);
});

test("`await using` closes it", async () => {
  let t: Simulation<Tally>;
  {
    await using inner = await simulate(tally);
    t = inner;
    await t.user("c1").says("hi");
  }
  await expect(t.user("c1").says("a")).rejects.toThrow(/closed/);
});
