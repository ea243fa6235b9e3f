// The order's laws under any conversation: O1 to O4 of order.ts and C1 of cart.ts.

import { fc, test } from "@fast-check/vitest";
import { expect } from "vitest";
import { QUANTITY_MAX } from "../../../examples/food/cart.ts";
import { type Charge, decide } from "../../../examples/food/fake-payments.ts";
import { MENU } from "../../../examples/food/menu.ts";
import { afterCharge, newOrder, type OrderState, take } from "../../../examples/food/order.ts";
import { type ChargeOutcome, TEST_CARDS } from "../../../examples/food/payments.ts";

const dish = fc.constantFrom(...MENU.map(({ id }) => id), "hawaii");
const items = fc
  .array(fc.tuple(fc.oneof(fc.integer({ min: 0, max: 25 }), fc.constant(1)), dish), { minLength: 1, maxLength: 4 })
  .map((list) => list.map(([quantity, id]) => `${quantity} ${id}`).join(", "));
const likely = fc.constantFrom(
  ...[
    "menu",
    "help",
    "cart",
    "cancel",
    "checkout",
    "yes",
    "no",
    "12 Harbour Street, Dublin",
    ...Object.keys(TEST_CARDS),
  ],
);
const text = fc.oneof(
  { weight: 6, arbitrary: likely },
  { weight: 4, arbitrary: items },
  { weight: 2, arbitrary: items.map((list) => `remove ${list}`) },
  { weight: 1, arbitrary: fc.string({ unit: "grapheme", maxLength: 60 }) },
);
/** So that many conversations come to a payment. */
const card = fc.constantFrom(...Object.keys(TEST_CARDS));
const order = fc
  .array(fc.oneof({ weight: 3, arbitrary: card }, { weight: 1, arbitrary: likely }), { maxLength: 3 })
  .map((said) => ["1 cola", "checkout", "12 Harbour Street, Dublin", "yes", ...said]);
const texts = fc
  .array(fc.oneof({ weight: 6, arbitrary: text.map((said) => [said]) }, { weight: 2, arbitrary: order }), {
    maxLength: 30,
  })
  .map((parts) => parts.flat());

interface Step {
  readonly before: OrderState;
  readonly state: OrderState;
  readonly replies: readonly { readonly text: string; readonly data: Readonly<Record<string, unknown>> }[];
  readonly charge: { readonly amountCents: number; readonly outcome: ChargeOutcome } | undefined;
}

function answered(before: OrderState, said: string): Step {
  const taken = take(before, said);
  if (!("charge" in taken)) return { before, ...taken, charge: undefined };
  const outcome: ChargeOutcome =
    taken.charge.card === "declined" ? { kind: "declined" } : { kind: "paid", receipt: "R" };
  return { before, ...afterCharge(taken, outcome), charge: { amountCents: taken.charge.amountCents, outcome } };
}

function conversation(said: readonly string[]): readonly Step[] {
  const steps: Step[] = [];
  for (const each of said) steps.push(answered(steps.at(-1)?.state ?? newOrder(), each));
  return steps;
}

const endOf = (said: readonly string[]): OrderState => conversation(said).at(-1)?.state ?? newOrder();

test.prop([texts])(
  "a cart has each dish once, 1 to 20 of it, at its price, and is empty only where dishes are chosen",
  (said) => {
    for (const { state } of conversation(said)) {
      const dishes = state.cart.map((line) => line.dish);
      expect(new Set(dishes).size).toBe(dishes.length);
      for (const { dish: id, quantity, priceCents } of state.cart) {
        expect(priceCents).toBe(MENU.find((each) => each.id === id)!.priceCents);
        expect(Number.isSafeInteger(quantity) && quantity >= 1 && quantity <= QUANTITY_MAX).toBe(true);
      }
      if (state.step !== "choosing") expect(state.cart).not.toEqual([]);
    }
  },
);

test.prop([texts])(
  "each message gets one or two replies, with the cart's total and answers that are understood",
  (said) => {
    for (const { state, replies } of conversation(said)) {
      expect(replies.length).toBeGreaterThanOrEqual(1);
      expect(replies.length).toBeLessThanOrEqual(2);
      const { data } = replies.at(-1)!;
      const sum = state.cart.reduce((cents, line) => cents + line.quantity * line.priceCents, 0);
      expect(data).toMatchObject({ step: state.step, cart: state.cart, totalCents: sum });
      const suggestions = data.suggestions as readonly string[];
      expect(suggestions.length).toBeGreaterThan(0);
      for (const suggestion of suggestions) {
        const { replies: further } = answered(state, suggestion);
        expect(further[0]!.text).not.toMatch(/^I do not know|^That is no address|^There is nothing to cancel/);
      }
    }
  },
);

test.prop([texts])("what is charged is the cart's total; an order counts exactly when its charge was paid", (said) => {
  for (const { before, state, charge } of conversation(said)) {
    const isPaid = charge?.outcome.kind === "paid";
    expect(state.ordersPaid).toBe(before.ordersPaid + (isPaid ? 1 : 0));
    if (!charge) continue;
    expect(before.step).toBe("paying");
    expect(charge.amountCents).toBe(before.cart.reduce((cents, line) => cents + line.quantity * line.priceCents, 0));
    expect(charge.amountCents).toBeGreaterThan(0);
    expect(state).toEqual(isPaid ? newOrder(before.ordersPaid + 1) : before);
  }
});

test.prop([texts])("no step is a dead end: from everywhere an order can be completed", (said) => {
  const state = endOf(said);
  const needed: Readonly<Record<OrderState["step"], readonly string[]>> = {
    choosing: [...(state.cart.length === 0 ? ["1 cola"] : []), "checkout", "12 Harbour Street, Dublin", "yes", "visa"],
    address: ["12 Harbour Street, Dublin", "yes", "visa"],
    confirming: ["yes", "visa"],
    paying: ["visa"],
  };
  expect(endOf([...said, ...needed[state.step]])).toEqual(newOrder(state.ordersPaid + 1));
});

test.prop([texts])("and from everywhere it can be cancelled", (said) => {
  expect(endOf([...said, "cancel"])).toEqual(newOrder(endOf(said).ordersPaid));
});

test.prop([texts, fc.constantFrom("help", "menu", "cart", "hello", "4242 4242 4242 4242", "")])(
  "asking for help, the menu or the cart changes nothing, in any step",
  (said, question) => {
    expect(endOf([...said, question])).toEqual(endOf(said));
  },
);

test.prop([texts])("the same conversation gives the same states and replies, all of it plain data", (said) => {
  const once = conversation(said);
  expect(conversation(said)).toEqual(once);
  expect(JSON.parse(JSON.stringify(once.map(({ state, replies }) => ({ state, replies }))))).toEqual(
    once.map(({ state, replies }) => ({ state, replies })),
  );
});

/** Runs each turn up to three times before it counts, as crashes do, against a ledger that outlives them. */
function withReruns(said: readonly string[], runsOf: (turn: number) => number) {
  const ledger: Charge[] = [];
  const confirmedCents: unknown[] = [];
  let state = newOrder();
  said.forEach((each, i) => {
    let done: ReturnType<typeof afterCharge> | undefined;
    for (let run = 0; run < runsOf(i); run += 1) {
      const taken = take(state, each);
      done = "charge" in taken ? afterCharge(taken, charged(ledger, { ...taken.charge, key: `turn-${i}` })) : taken;
    }
    state = done!.state;
    for (const { data } of done!.replies) if (data.order) confirmedCents.push(data.totalCents);
  });
  return { state, ledger, confirmedCents };
}

function charged(ledger: Charge[], request: Parameters<typeof decide>[1]): ChargeOutcome {
  const decision = decide(ledger, request);
  if (decision.kind === "conflict") throw new Error("the same turn asked for another amount");
  if (decision.kind === "declined") return decision;
  if (decision.kind === "new") ledger.push(decision.charge);
  return { kind: "paid", receipt: decision.charge.receipt };
}

test.prop([texts, fc.infiniteStream(fc.integer({ min: 1, max: 3 }))])(
  "however often its turns run again, each order is charged once, for what its confirmation says",
  (said, stream) => {
    const runs = [...stream.take(said.length)];
    const { state, ledger, confirmedCents } = withReruns(said, (turn) => runs[turn]!);
    expect(ledger).toHaveLength(state.ordersPaid);
    expect(ledger.map(({ amountCents }) => amountCents)).toEqual(confirmedCents);
    expect(state).toEqual(withReruns(said, () => 1).state);
  },
);

test("the conversations of these laws come to payments, and to declined ones", () => {
  const seen = fc.sample(texts, { numRuns: 200, seed: 1 }).flatMap(conversation);
  expect(seen.filter(({ charge }) => charge?.outcome.kind === "paid").length).toBeGreaterThan(20);
  expect(seen.filter(({ charge }) => charge?.outcome.kind === "declined").length).toBeGreaterThan(5);
});
