import { fc, test } from "@fast-check/vitest";
import { expect } from "vitest";
import { MENU } from "../../../examples/food/menu.ts";
import { type Wish, wishOf } from "../../../examples/food/wish.ts";

/** "2 cola, - funghi": what was understood, without the dishes' details. */
function shown(wish: Wish): string {
  if (!("items" in wish)) return wish.kind;
  return `${wish.kind} ${wish.items.map(({ dish, quantity = "-" }) => `${quantity} ${dish.id}`).join(", ")}`;
}

test.each([
  ["2 margherita, 1 cola", "add 2 margherita, 1 cola"],
  ["Two Margheritas and a cola, please!", "add 2 margherita, 1 cola"],
  ["add 3x pizza funghi & water", "add 3 funghi, - water"],
  ["tiramisù x 2; diavola pizza", "add 2 tiramisu, - diavola"],
  ["2marg\n12 × cola", "add 2 margherita, 12 cola"],
  ["I'd like one glass of water.", "add 1 water"],
  ["0 cola", "add 0 cola"],
  ["remove cola", "remove - cola"],
  ["Remove 2 margherita and all the colas", "remove 2 margherita, - cola"],
  ["remove hawaii", "remove-unknown"],
  ["remove ,", "remove-unknown"],
  ["2 margherita, 1 hawaii", "words"],
  ["12 Cola Street, Dublin", "words"],
  ["co", "words"],
  ["", "words"],
  [",", "words"],
  ["2", "words"],
  [" HELP! ", "help"],
  ["?", "help"],
  ["Hello", "greeting"],
  ["menu please", "menu"],
  ["check  out", "checkout"],
  ["Start over.", "cancel"],
  ["__proto__", "words"],
  ["constructor", "words"],
])("%j is understood as: %s", (text, wish) => {
  expect(shown(wishOf(text))).toBe(wish);
});

test.each([
  "4242424242424242",
  "my card is 4242 4242 4242 4242",
  "4242-4242-4242-4242.",
  "４２４２.4242.4242.4242",
  "1234567890123",
])("%j is a card number, and nothing of it is handed on", (text) =>
  expect(wishOf(text)).toEqual({ kind: "card-number" }),
);

test.each(["call 0049 170 123", "123456789012", "12 Harbour Street, 10115 Berlin"])("%j is no card number", (text) =>
  expect(wishOf(text).kind).toBe("words"),
);

const quantity = fc.integer({ min: 0, max: 999_999 });
const wanted = fc.array(fc.tuple(quantity, fc.constantFrom(...MENU)), { minLength: 1, maxLength: 10 });

test.prop([wanted, fc.constantFrom(", ", " and ", "\n", "; ", "+")])(
  "each dish of the menu is found under its name, with its quantity, in the order of the text",
  (items, separator) => {
    const text = items.map(([count, { name }]) => `${count} ${name}`).join(separator);
    expect(wishOf(text)).toEqual({ kind: "add", items: items.map(([count, dish]) => ({ dish, quantity: count })) });
  },
);

test.prop([fc.string({ unit: "grapheme", maxLength: 2_000 })])("any text is a wish, found without an error", (text) => {
  expect(wishOf(text).kind).toMatch(/^[a-z-]+$/);
});

test("a long text costs no more than its length", () => {
  const startMs = performance.now();
  for (const piece of ["1", " ", "x", "1 ", "a,", "4 4-"]) wishOf(piece.repeat(100_000));
  expect(performance.now() - startMs).toBeLessThan(2_000);
});
