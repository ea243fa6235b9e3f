// Order: the whole conversation as a pure function from a state and a text to the next state, what to say, and perhaps
// a charge to make. Nothing here reads a clock, draws a number or touches the world, so the same messages always make
// the same order, however often a turn runs.
//
// Invariants
//   O1. Every text is answered in every step, by one or two replies, and the last ends with what can be typed next.
//   O2. help, menu, cart and cancel work in every step; dishes can be added and removed until the order is paid.
//   O3. Beyond `choosing` the cart is never empty.
//   O4. An order number is given once, when its order is paid, and counts without holes.

import { type Cart, cartText, dishesOf, type Item, QUANTITY_MAX, totalCents, withItems, withoutItems } from "./cart.ts";
import { euros, menuText } from "./menu.ts";
import { type ChargeOutcome, TEST_CARDS, type TestCard } from "./payments.ts";
import { type Words, wishOf } from "./wish.ts";

type Common = {
  readonly cart: Cart;
  /** Orders that were paid in this conversation. */
  readonly ordersPaid: number;
};
type Choosing = Common & { readonly step: "choosing" };
type Addressing = Common & { readonly step: "address" };
type Confirming = Common & { readonly step: "confirming"; readonly address: string };
type Paying = Common & { readonly step: "paying"; readonly address: string };

export type OrderState = Choosing | Addressing | Confirming | Paying;

export type OrderReply = {
  readonly text: string;
  readonly data: {
    readonly step: OrderState["step"];
    readonly cart: Cart;
    readonly totalCents: number;
    /** What to answer, for buttons. */
    readonly suggestions: readonly string[];
    /** With the confirmation of a paid order, whose cart and total stand beside it. */
    readonly order?: { readonly number: number; readonly receipt: string };
  };
};

export interface ChargeWish {
  readonly amountCents: number;
  readonly card: TestCard;
}

export interface Turn {
  readonly state: OrderState;
  readonly replies: readonly OrderReply[];
}

/** A turn that ends only when the provider has answered: hand that to `afterCharge`. */
export interface ChargeTurn {
  readonly state: Paying;
  readonly charge: ChargeWish;
}

export const newOrder = (ordersPaid = 0): OrderState => ({ step: "choosing", cart: [], ordersPaid });

/** Takes one message of the guest. */
export function take(state: OrderState, typed: string): Turn | ChargeTurn {
  const wish = wishOf(typed);
  switch (wish.kind) {
    case "greeting":
      return answer(state, `Hello! I take orders for pizza, and never lose one.\n${menuText()}`);
    case "help":
      return answer(state, HELP);
    case "menu":
      return answer(state, menuText());
    case "cart":
      return answer(state, cartText(state.cart));
    case "cancel":
      return state.cart.length === 0
        ? answer(state, "There is nothing to cancel.")
        : answer(newOrder(state.ordersPaid), "The order is cancelled, nothing was charged.");
    case "add":
    case "remove":
      return changeCart(state, wish.kind, wish.items);
    case "remove-unknown":
      return answer(state, `${notKnown(wish.name)} Nothing changed.`);
    case "card-number":
      return answer(state, "Please type no card numbers: this is a demo, and what you type stays in the transcript.");
    case "checkout":
      return checkOut(state);
    case "yes":
    case "no":
      return confirm(state, wish.kind === "yes");
    case "words":
      return takeWords(state, wish);
  }
}

/** Ends a turn whose charge was answered. */
export function afterCharge({ state, charge: { card, amountCents } }: ChargeTurn, outcome: ChargeOutcome): Turn {
  const { lastFour } = TEST_CARDS[card];
  if (outcome.kind === "declined")
    return answer(
      state,
      `The card that ends in ${lastFour} was declined. Nothing was charged; please choose another one.`,
    );
  const number = state.ordersPaid + 1; // O4
  const next = newOrder(number);
  const confirmation: OrderReply = {
    text:
      `Order ${number} is paid and on its way: ${dishesOf(state.cart)}, to ${state.address}.\n` +
      `Total ${euros(amountCents)}, charged once to ${card} (ends in ${lastFour}), receipt ${outcome.receipt}.`,
    data: { ...dataOf(state), suggestions: [], order: { number, receipt: outcome.receipt } },
  };
  return { state: next, replies: [confirmation, replyIn(next, "Enjoy your meal! Another order can begin at once.")] };
}

// --- the steps ------------------------------------------------------------------------------------------------------

function changeCart(state: OrderState, kind: "add" | "remove", items: readonly Item[]): Turn {
  const change = kind === "add" ? withItems(state.cart, items) : withoutItems(state.cart, items);
  switch (change.kind) {
    case "quantity-out-of-bounds":
      return answer(
        state,
        `Of each dish I can take 1 to ${QUANTITY_MAX}; ${change.dish.name} would be outside. Nothing changed.`,
      );
    case "not-in-cart":
      return answer(state, `There is no ${change.dish.name} in your cart. Nothing changed.`);
    case "changed": {
      const { cart } = change;
      const next: OrderState = cart.length === 0 ? newOrder(state.ordersPaid) : { ...state, cart }; // O3
      return answer(next, cartText(cart));
    }
  }
}

function checkOut(state: OrderState): Turn {
  if (state.cart.length === 0) return answer(state, "Your cart is empty; an order needs a dish at least.");
  if (state.step !== "choosing") return answer(state, "We are nearly there.");
  return answer({ ...state, step: "address" }, cartText(state.cart));
}

function confirm(state: OrderState, isYes: boolean): Turn {
  switch (state.step) {
    case "confirming":
      return isYes
        ? answer({ ...state, step: "paying" }, `It goes to ${state.address}.`)
        : answer(backToAddress(state), "Then another address.");
    case "paying":
      return isYes ? answer(state, "A card is still needed.") : answer(backToAddress(state), "Then another address.");
    case "address":
      return isYes
        ? answer(state, "An address is still needed.")
        : answer({ step: "choosing", cart: state.cart, ordersPaid: state.ordersPaid }, "Back to the dishes.");
    case "choosing":
      return isYes && state.cart.length > 0 ? checkOut(state) : answer(state, isYes ? "Good!" : "As you like.");
  }
}

const backToAddress = ({ cart, ordersPaid }: OrderState): OrderState => ({ step: "address", cart, ordersPaid });

function takeWords(state: OrderState, { text, plain }: Words): Turn | ChargeTurn {
  switch (state.step) {
    case "choosing":
      return answer(state, `${notKnown(text)} Nothing changed.`);
    case "address":
    case "confirming": {
      const address = addressOf(text);
      if (address === undefined) return answer(state, NO_ADDRESS);
      return answer({ ...state, step: "confirming", address }, "Let me make sure.");
    }
    case "paying": {
      if (!isTestCard(plain)) return answer(state, `${notKnown(text)} Nothing was charged.`);
      return { state, charge: { card: plain, amountCents: totalCents(state.cart) } };
    }
  }
}

const isTestCard = (name: string): name is TestCard => Object.hasOwn(TEST_CARDS, name);

const ADDRESS_LENGTH = { min: 8, max: 160 };
const NO_ADDRESS =
  "That is no address that I can find: it takes a street with a number and a town, " +
  `${ADDRESS_LENGTH.min} to ${ADDRESS_LENGTH.max} characters.`;

/** In one line. Undefined if it can be none: it takes a word, a digit, a space, and nothing unprintable. */
function addressOf(text: string): string | undefined {
  const { min, max } = ADDRESS_LENGTH;
  if (text.length > max) return undefined; // before any pattern, whose time may grow faster than the text
  const address = text.replace(/,?\s*\n\s*/g, ", ").replace(/\s+/g, " ");
  if (address.length < min || address.length > max || /\p{C}/u.test(address)) return undefined;
  return /\p{L}{2}/u.test(address) && /\p{N}/u.test(address) && address.includes(" ") ? address : undefined;
}

// --- what is said ---------------------------------------------------------------------------------------------------

const HELP = [
  "Name dishes and how many: 2 margherita, 1 cola",
  "remove cola | menu | cart | checkout | cancel",
  "Then I ask for the address and a test card. Kill the server at any moment: the order goes on, and is paid once.",
].join("\n");

function answer(state: OrderState, text: string): Turn {
  return { state, replies: [replyIn(state, text)] };
}

/** O1 */
function replyIn(state: OrderState, text: string): OrderReply {
  const { question, suggestions } = promptOf(state);
  return { text: `${text}\n${question}`, data: { ...dataOf(state), suggestions } };
}

const dataOf = ({ step, cart }: OrderState): Omit<OrderReply["data"], "suggestions"> => ({
  step,
  cart,
  totalCents: totalCents(cart),
});

/** The question that a step is waiting with, and answers to it. */
function promptOf(state: OrderState): { readonly question: string; readonly suggestions: readonly string[] } {
  switch (state.step) {
    case "choosing":
      return state.cart.length === 0
        ? { question: "What would you like to eat?", suggestions: ["2 margherita, 1 cola", "1 funghi", "menu", "help"] }
        : { question: "Anything else, or checkout?", suggestions: ["checkout", "1 tiramisu", "1 water", "cancel"] };
    case "address":
      return {
        question: "Where shall it go? Street, number and town.",
        suggestions: ["12 Harbour Street, Dublin", "cancel"],
      };
    case "confirming":
      return { question: `Deliver to ${state.address}? yes or no`, suggestions: ["yes", "no", "cancel"] };
    case "paying":
      return {
        question: `Which test card shall pay ${euros(totalCents(state.cart))}? ${CARDS.join(", ")}`,
        suggestions: [...CARDS, "cancel"],
      };
  }
}

const CARDS = Object.keys(TEST_CARDS);

/** Repeats the guest's words, shortened. */
function notKnown(text: string): string {
  const SHOWN_MAX = 40;
  const characters = [...text.replace(/\s+/g, " ")];
  const shown = characters.length > SHOWN_MAX ? `${characters.slice(0, SHOWN_MAX).join("")}...` : characters.join("");
  return shown === "" ? "That was an empty message." : `I do not know "${shown}".`;
}
