// Wish: what a guest's words mean, whatever step the order is in. Pure, and it never fails: what it does not understand
// is a wish of its own kind.

import type { Item } from "./cart.ts";
import { dishNamed } from "./menu.ts";

type Command = "help" | "greeting" | "menu" | "cart" | "cancel" | "checkout" | "yes" | "no";

export type Wish =
  | { readonly kind: Command }
  | { readonly kind: "add" | "remove"; readonly items: readonly Item[] }
  /** Something is to be removed, and this is no dish. */
  | { readonly kind: "remove-unknown"; readonly name: string }
  /** Not even its digits are handed on: no card number is stored or repeated, wherever it is typed. */
  | { readonly kind: "card-number" }
  | Words;

/** An address, a card's name, a dish that is not on the menu: the step has to know. */
export interface Words {
  readonly kind: "words";
  readonly text: string;
  /** In lower case, without "please" and a full stop; empty for a text that is too long for a command. */
  readonly plain: string;
}

const COMMANDS: Readonly<Record<Command, readonly string[]>> = {
  help: ["help", "?"],
  greeting: ["hi", "hello", "hey", "start"],
  menu: ["menu", "the menu", "show menu"],
  cart: ["cart", "my cart", "show cart", "basket"],
  cancel: ["cancel", "stop", "clear", "start over"],
  checkout: ["checkout", "check out", "order", "pay", "done"],
  yes: ["yes", "y", "ok", "okay", "correct"],
  no: ["no", "n", "back", "address", "change address"],
};
const COMMAND_OF = new Map(
  Object.entries(COMMANDS).flatMap(([kind, words]) => words.map((word) => [word, kind as Command])),
);

const NUMBERS: Readonly<Record<string, number>> = { a: 1, an: 1, one: 1, two: 2, three: 3, four: 4, five: 5, six: 6 };

/** 13 to 19 digits, as cards have, however they are grouped. */
const CARD_NUMBER = /(?<!\d)\d(?:[\s.–-]?\d){12,18}(?!\d)/;

/** Longer texts are not taken apart. */
const TEXT_LENGTH_MAX = 500;

export function wishOf(typed: string): Wish {
  const text = typed.normalize("NFKC").trim();
  if (CARD_NUMBER.test(text)) return { kind: "card-number" };
  if (text.length > TEXT_LENGTH_MAX) return { kind: "words", text, plain: "" };
  const plain = text
    .toLowerCase()
    .replace(/[ \t]+/g, " ")
    .replace(/(?<=.)[ .!?]+$/, "")
    .replace(/,? please$/, "");
  const command = COMMAND_OF.get(plain);
  if (command !== undefined) return { kind: command };

  const removed = /^(?:remove|delete|drop|without) (.+)$/s.exec(plain)?.[1];
  if (removed !== undefined) {
    const { items, unknown } = itemsOf(removed.replace(/\ball (?:the )?/g, ""));
    return unknown === undefined ? { kind: "remove", items } : { kind: "remove-unknown", name: unknown };
  }
  const { items, unknown } = itemsOf(
    plain.replace(/^(?:please )?(?:add|order|i want|i would like|i'd like|give me) /, ""),
  );
  return unknown === undefined ? { kind: "add", items } : { kind: "words", text, plain };
}

/** The items, or the first part that names no dish; a list without parts names none. */
function itemsOf(list: string): { readonly items: readonly Item[]; readonly unknown: string | undefined } {
  const parts = list
    .split(/[,;&+\n]|\band\b/)
    .map((part) => part.trim().replace(/\s+/g, " "))
    .filter((part) => part !== "");
  const items: Item[] = [];
  for (const part of parts) {
    const item = itemOf(part);
    if (item === undefined) return { items, unknown: part };
    items.push(item);
  }
  return { items, unknown: parts.length === 0 ? "" : undefined };
}

/** "2 margherita", "2x margherita", "margherita x 2", "two margheritas", "a cola", "cola" */
function itemOf(part: string): Item | undefined {
  const [, before, word, name = "", after] =
    /^(?:(\d{1,6}) ?[x×]? ?|(an?|one|two|three|four|five|six) )?(.*?)(?: ?[x×] ?(\d{1,6}))?$/.exec(part) ?? [];
  const dish = dishNamed(name);
  if (dish === undefined) return undefined;
  const digits = before ?? after;
  return { dish, quantity: digits === undefined ? NUMBERS[word ?? ""] : Number(digits) };
}
