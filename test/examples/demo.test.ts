import type { BotDefinition, Message, Plain, ReplyInput, TurnContext } from "colloquy";
import { expect, test } from "vitest";
import demo from "../../examples/demo.ts";
import echo from "../../examples/echo.ts";
import { foodBot } from "../../examples/food/bot.ts";
import {
  type ChargeOutcome,
  type ChargeRequest,
  type Payments,
  PaymentUnavailableError,
} from "../../examples/food/payments.ts";
import { checkBot } from "../../src/check-bot.ts";

/** Runs a bot's turns by hand: the state goes from one to the next, as through the store; a turn that fails runs again. */
async function talk(definition: unknown, texts: readonly string[]) {
  const bot: BotDefinition = checkBot(definition, "bot");
  const replies: string[] = [];
  const failures: string[] = [];
  let state = bot.initialState();
  for (const [i, text] of texts.entries()) {
    const message: Message = Object.freeze({ id: `m${i}`, conversation: "c", channel: "http", seq: i + 1, text });
    for (let next: Plain | undefined; next === undefined; ) {
      const said: ReplyInput[] = [];
      try {
        next = JSON.parse(JSON.stringify(await bot.onMessage(state, message, context(i + 1, said)))) as Plain;
        replies.push(...said.map((reply) => (typeof reply === "string" ? reply : reply.text)));
      } catch (error) {
        failures.push((error as Error).name);
        if (failures.length > 10) throw error;
      }
      state = next ?? state;
    }
  }
  return { state, replies, failures };
}

/** Has what a turn needs and no more: any other member would be an error. */
function context(seq: number, said: ReplyInput[]): TurnContext {
  const members = {
    reply: (reply: ReplyInput) => void said.push(reply),
    idempotencyKey: (name = "turn") => `key-${seq}~${name}`,
    signal: new AbortController().signal,
  };
  return Object.freeze(members) as unknown as TurnContext;
}

/** Charges once for each key, and fails before or after that as often as it is told to. */
class UnreliablePayments implements Payments {
  readonly asked: ChargeRequest[] = [];
  readonly charged = new Map<string, number>();
  readonly #failures: ("before" | "after")[];

  constructor(failures: readonly ("before" | "after")[]) {
    this.#failures = [...failures];
  }

  async charge(request: ChargeRequest): Promise<ChargeOutcome> {
    this.asked.push(request);
    const failure = this.#failures.shift();
    if (failure === "before") throw new PaymentUnavailableError("no connection");
    if (request.card === "declined") return { kind: "declined" };
    this.charged.set(request.key, request.amountCents);
    if (failure === "after") throw new PaymentUnavailableError("the answer was lost");
    return { kind: "paid", receipt: `R-${request.key}` };
  }
}

const ORDER = ["2 margherita, 1 cola", "checkout", "12 Harbour Street, Dublin", "yes"];

test("the demo is the food bot, and takes an order without touching the provider before the card", async () => {
  expect(demo.name).toBe("demo");
  const { state, replies } = await talk(demo, ORDER);
  expect(state).toMatchObject({ step: "paying", address: "12 Harbour Street, Dublin" });
  expect(replies).toHaveLength(4);
});

test("a payment whose provider fails, before or after it charged, runs again under the same key: charged once", async () => {
  const payments = new UnreliablePayments(["before", "after", "after"]);
  const { state, replies, failures } = await talk(foodBot(payments), [...ORDER, "visa"]);
  expect(failures).toEqual(Array(3).fill("PaymentUnavailableError"));
  expect(new Set(payments.asked.map(({ key }) => key))).toEqual(new Set(["key-5~charge"]));
  expect([...payments.charged]).toEqual([["key-5~charge", 1_950]]);
  expect(replies).toHaveLength(6); // nothing of the failed turns
  expect(replies[4]).toContain("receipt R-key-5~charge");
  expect(state).toEqual({ step: "choosing", cart: [], ordersPaid: 1 });
});

test("after a declined card the next try has a key of its own", async () => {
  const payments = new UnreliablePayments([]);
  const { replies } = await talk(foodBot(payments), [...ORDER, "declined", "visa"]);
  expect(payments.asked.map(({ key, card }) => [key, card])).toEqual([
    ["key-5~charge", "declined"],
    ["key-6~charge", "visa"],
  ]);
  expect(replies[4]).toContain("was declined");
  expect(replies[5]).toContain("Order 1 is paid");
});

test("a conversation that the shopping list of version 1 had begun goes on as an order", async () => {
  const bot = checkBot(demo, "bot");
  expect(bot.migrate?.[1]?.({ count: 3, items: ["milk"] })).toEqual({ step: "choosing", cart: [], ordersPaid: 0 });
});

test("echo answers with the message, and says something where there is none", async () => {
  expect((await talk(echo, ["hi", ""])).replies).toEqual(["hi", "(a message without text)"]);
});
