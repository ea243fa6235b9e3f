import { describe, expect, test } from "vitest";
import { afterCharge, newOrder, type OrderState, take } from "../../../examples/food/order.ts";
import type { ChargeOutcome } from "../../../examples/food/payments.ts";

const PAID: ChargeOutcome = { kind: "paid", receipt: "R-1" };
const DECLINED: ChargeOutcome = { kind: "declined" };
const ADDRESS = "12 Harbour Street, Dublin";

/** Takes the texts one after the other; each charge gets the next of `outcomes`. */
function talk(texts: readonly string[], outcomes: readonly ChargeOutcome[] = []) {
  let state: OrderState = newOrder();
  const charges: unknown[] = [];
  const replies: string[][] = [];
  for (const text of texts) {
    const taken = take(state, text);
    const done = "charge" in taken ? afterCharge(taken, outcomes[charges.push(taken.charge) - 1]!) : taken;
    state = done.state;
    replies.push(done.replies.map((reply) => reply.text));
  }
  return { state, charges, replies, last: replies.at(-1)! };
}

const ORDER = ["2 margherita, 1 cola", "checkout", ADDRESS, "yes"];

test("an order goes from the menu to its confirmation, and a new one begins", () => {
  const { state, charges, replies } = talk(["hello", ...ORDER, "visa"], [PAID]);
  expect(replies).toEqual([
    [
      "Hello! I take orders for pizza, and never lose one.\nMenu\nMargherita €8.50\nFunghi €9.50\nDiavola €10.50\n" +
        "Tiramisu €4.50\nCola €2.50\nWater €2.00\nWhat would you like to eat?",
    ],
    ["In your cart:\n2 x Margherita €17.00\n1 x Cola €2.50\nTotal €19.50\nAnything else, or checkout?"],
    [
      "In your cart:\n2 x Margherita €17.00\n1 x Cola €2.50\nTotal €19.50\n" +
        "Where shall it go? Street, number and town.",
    ],
    ["Let me make sure.\nDeliver to 12 Harbour Street, Dublin? yes or no"],
    ["It goes to 12 Harbour Street, Dublin.\n" + "Which test card shall pay €19.50? visa, mastercard, flaky, declined"],
    [
      "Order 1 is paid and on its way: 2 x Margherita, 1 x Cola, to 12 Harbour Street, Dublin.\n" +
        "Total €19.50, charged once to visa (ends in 4242), receipt R-1.",
      "Enjoy your meal! Another order can begin at once.\nWhat would you like to eat?",
    ],
  ]);
  expect(charges).toEqual([{ card: "visa", amountCents: 1_950 }]);
  expect(state).toEqual({ step: "choosing", cart: [], ordersPaid: 1 });
});

test("the second order of a conversation is number 2", () => {
  const { last } = talk([...ORDER, "visa", "water", "checkout", ADDRESS, "yes", "mastercard"], [PAID, PAID]);
  expect(last[0]).toContain("Order 2 is paid and on its way: 1 x Water, to");
});

test("a declined card is explained, nothing is lost, and another card can pay", () => {
  const declined = talk([...ORDER, "declined"], [DECLINED]);
  expect(declined.last[0]).toMatch(
    /^The card that ends in 0000 was declined\. Nothing was charged; please choose another one\.\nWhich test card/,
  );
  expect(declined.state).toMatchObject({ step: "paying", address: ADDRESS, ordersPaid: 0 });
  expect(talk([...ORDER, "declined", "visa"], [DECLINED, PAID]).last[0]).toContain("Order 1 is paid");
});

describe("what is data of a reply", () => {
  test("lines, total and suggestions", () => {
    const taken = take(newOrder(), "2 cola");
    expect("replies" in taken && taken.replies[0]!.data).toEqual({
      step: "choosing",
      cart: [{ dish: "cola", name: "Cola", quantity: 2, priceCents: 250 }],
      totalCents: 500,
      suggestions: ["checkout", "1 tiramisu", "1 water", "cancel"],
    });
  });

  test("with a confirmation the number and the receipt, beside what was paid", () => {
    const paying = talk(ORDER).state;
    const taken = take(paying, "visa");
    if (!("charge" in taken)) throw new Error("no charge");
    expect(afterCharge(taken, PAID).replies[0]!.data).toMatchObject({
      totalCents: 1_950,
      order: { number: 1, receipt: "R-1" },
      suggestions: [],
    });
  });
});

test.each([
  [
    "a dish and one that is none: nothing is added",
    ["1 cola, 1 hawaii"],
    'I do not know "1 cola, 1 hawaii". Nothing changed.',
  ],
  [
    "too many of a dish",
    ["20 cola", "cola"],
    "Of each dish I can take 1 to 20; Cola would be outside. Nothing changed.",
  ],
  ["none of a dish", ["0 cola"], "Of each dish I can take 1 to 20; Cola would be outside. Nothing changed."],
  ["a dish to remove that is not there", ["1 water", "remove cola"], "There is no Cola in your cart. Nothing changed."],
  ["a word to remove", ["remove it"], 'I do not know "it". Nothing changed.'],
  ["one of two removed", ["2 cola", "remove 1 cola"], "In your cart:\n1 x Cola €2.50\nTotal €2.50"],
  ["more removed than there are", ["2 cola", "remove 9 cola"], "Your cart is empty.\nWhat would you like to eat?"],
  ["checkout of nothing", ["checkout"], "Your cart is empty; an order needs a dish at least."],
  ["cancel of nothing", ["cancel"], "There is nothing to cancel."],
  ["an empty message", ["  "], "That was an empty message. Nothing changed.\nWhat would you like to eat?"],
  ["a long word", ["x".repeat(300)], `I do not know "${"x".repeat(40)}...". Nothing changed.`],
  [
    "dishes while an address is asked for",
    ["cola", "checkout", "2 water"],
    "In your cart:\n1 x Cola €2.50\n2 x Water €4.00",
  ],
  [
    "the last dish removed at the payment",
    [...ORDER, "remove margherita, cola"],
    "Your cart is empty.\nWhat would you",
  ],
  ["back from the address to the dishes", ["cola", "checkout", "back"], "Back to the dishes.\nAnything else"],
  ["another address", [...ORDER, "no"], "Then another address.\nWhere shall it go?"],
  [
    "another address at once",
    ["cola", "checkout", ADDRESS, "Sea Road 5,\n Cork"],
    "Let me make sure.\nDeliver to Sea Road 5, Cork?",
  ],
  [
    "no address",
    ["cola", "checkout", "somewhere"],
    "That is no address that I can find: it takes a street with a number",
  ],
  ["an address with what cannot be printed", ["cola", "checkout", "12 Harbour \u0007 Street"], "That is no address"],
  ["a card of another name", [...ORDER, "amex"], 'I do not know "amex". Nothing was charged.'],
  ["a name that every object has", [...ORDER, "constructor"], 'I do not know "constructor". Nothing was charged.'],
  ["a card's number", [...ORDER, "4242 4242 4242 4242"], "Please type no card numbers: this is a demo"],
])("%s", (_what, texts, reply) => {
  const { last, charges } = talk(texts);
  expect(last).toHaveLength(1);
  expect(last[0]!.slice(0, reply.length)).toBe(reply);
  expect(charges).toEqual([]);
});

test.each(["Visa.", "VISA please", " visa! "])("a card is named in any case: %j", (text) => {
  expect(talk([...ORDER, text], [PAID]).charges).toEqual([{ card: "visa", amountCents: 1_950 }]);
});

test("a long text costs no more than its length, in whatever step it is typed", () => {
  const startMs = performance.now();
  for (let steps = 0; steps <= ORDER.length; steps += 1) {
    for (const piece of [" ", "\n", "1", "x", "1 ", "a,", "4 4-", ",\t"]) {
      const { last } = talk([...ORDER.slice(0, steps), `a${piece.repeat(60_000)}b`]);
      expect(last[0]!.length).toBeLessThan(500);
    }
  }
  expect(performance.now() - startMs).toBeLessThan(5_000);
});

test("a card's number is nowhere in state or replies, in whatever step it is typed", () => {
  for (let steps = 0; steps <= ORDER.length; steps += 1) {
    const before = talk(ORDER.slice(0, steps));
    const after = talk([...ORDER.slice(0, steps), "pay with 4000 0566 5566 5556"]);
    expect(after.state).toEqual(before.state);
    expect(JSON.stringify(after.last)).not.toMatch(/4000|0566|5556/);
  }
});
