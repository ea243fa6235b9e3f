// What docs/turns.md shows of the payment steps is what they do.

import type { BotDefinition } from "colloquy";
import type { Simulation } from "colloquy/testing";
import { describe, expect, test } from "vitest";
import { paymentSteps, pretendShop, type State } from "../../examples/payment-steps.ts";
import { type Deed, PaperShop } from "./support/paper-shop.ts";
import { codeOf, Walk, walksOf } from "./support/walk.ts";

const PAGE = "docs/turns.md";
const walks = walksOf(PAGE);

/** The same bot, but for a step between reserving and charging. */
function weighing(bot: BotDefinition<State>): BotDefinition<State> {
  return {
    ...bot,
    version: 2,
    onMessage: (state, message, ctx) =>
      bot.onMessage(state, message, {
        ...contextOf(ctx),
        step: async (name, run, options) => {
          if (name === "charge") await ctx.step("weigh", () => 300);
          return await ctx.step(name, run, options);
        },
      }),
  };
}

/** Its methods do not know each other's `this`. */
function contextOf(ctx: Parameters<BotDefinition["onMessage"]>[2]): typeof ctx {
  return {
    reply: (reply) => ctx.reply(reply),
    replyNow: () => ctx.replyNow(),
    step: (name, run, options) => ctx.step(name, run, options),
    timer: (name, delay) => ctx.timer(name, delay),
    cancel: (name) => ctx.cancel(name),
    send: (to, message) => ctx.send(to, message),
    end: () => ctx.end(),
    now: () => ctx.now(),
    random: () => ctx.random(),
    uuid: () => ctx.uuid(),
    idempotencyKey: (name) => ctx.idempotencyKey(name),
    signal: ctx.signal,
    log: ctx.log,
  };
}

async function walkThrough(code: string, inspect: (t: Simulation<State>, shop: PaperShop) => void): Promise<string> {
  const shop: PaperShop = new PaperShop((line) => walk.say(line));
  const bot = paymentSteps(shop);
  const walk: Walk<State> = new Walk({
    bot,
    patienceMs: 0, // an answer that is lost never comes
    commands: {
      "the next answer to a charge gets lost": () => shop.loseAnswer("charge"),
      "the next answer to a shipment gets lost": () => shop.loseAnswer("ship"),
      "the courier refuses 4 times": () => shop.refuse("ship", 4),
      "cards are declined": () => {
        shop.acceptsCards = false;
      },
      "the shop has no prices": () => {
        shop.hasPrices = false;
      },
      "kill -9, and version 2 is started, which weighs the parcel before it charges": (t) =>
        t.crash(walk.told(weighing(bot))),
      "kill -9, and version 1 is started again": (t) => t.crash(walk.told(bot)),
    },
  });
  return await walk.through(code, (t) => inspect(t, shop));
}

const once = (...deeds: readonly Deed[]): [Deed, number][] => deeds.map((deed) => [deed, 1]);

describe("the walk of docs/turns.md", () => {
  test("in which the process dies while an answer is on its way: each effect once, the turn once", async () => {
    const code = walks.get("An order in three steps")!;
    const walked = await walkThrough(code, (t, shop) => {
      expect([...shop.done]).toEqual(once("reserve", "charge", "ship"));
      expect(t.state("alice")).toEqual({ ordersPaid: 1 });
      expect(t.turns("alice")).toMatchObject([{ seq: 1, runs: 2 }]);
      expect(t.texts("alice")).toHaveLength(2);
    });
    expect(walked).toBe(code);
  });

  test("in which the card is declined: what was set aside is put back", async () => {
    const code = walks.get("What a step is")!;
    const walked = await walkThrough(code, (t, shop) => {
      expect(shop.done.has("ship")).toBe(false);
      expect(t.state("alice")).toEqual({ ordersPaid: 0 });
    });
    expect(walked).toBe(code);
  });

  test("in which the courier does not take it at first: nothing before that is done again", async () => {
    const code = walks.get("Tries and time-outs")!;
    const walked = await walkThrough(code, (t, shop) => {
      expect([...shop.done]).toEqual(once("reserve", "charge", "ship"));
      expect(t.errors).toHaveLength(1);
      expect(t.turns("alice")).toMatchObject([{ seq: 1, runs: 2 }]);
    });
    expect(walked).toBe(code);
  });

  test("in which another version asks for other steps: nothing is done, and the first version goes on", async () => {
    const code = walks.get("A step has a name")!;
    const walked = await walkThrough(code, (t, shop) => {
      expect([...shop.done]).toEqual(once("reserve", "charge", "ship"));
      expect(t.state("alice")).toEqual({ ordersPaid: 1 });
    });
    expect(walked).toBe(code);
  });

  test("in which a message can never succeed: it is not tried again, and nothing passes it", async () => {
    const code = walks.get("A message that can never succeed")!;
    const walked = await walkThrough(code, (t) => {
      expect(t.turns("alice")).toHaveLength(1);
    });
    expect(walked).toBe(code);
  });

  test("there is no other", () => {
    expect([...walks.keys()]).toHaveLength(5);
  });
});

test("the code that the page shows stands in the example", () => {
  expect(codeOf("examples/payment-steps.ts")).toContain(codeOf(PAGE, "const charge"));
});

test("the shop of the example gives the same answers to the same keys, and others to others", async () => {
  const [shop, later] = [pretendShop(0), pretendShop(0)];
  const { signal } = new AbortController();
  const answersTo = async (of: typeof shop, key: string) => [
    await of.reserve({ key, count: 2, item: "mugs" }, signal),
    await of.charge({ key, cents: 2_400 }, signal),
    await of.ship({ key }, signal),
  ];
  expect(await answersTo(later, "a")).toEqual(await answersTo(shop, "a"));
  expect(await answersTo(shop, "b")).not.toEqual(await answersTo(shop, "a"));
});
