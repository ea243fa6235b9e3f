// Demo: a shopping list that counts. Each reply begins with the number of the message it answers, so that a doubled, lost
// or re-ordered message would show, and the list shows that nothing was forgotten across a kill -9.

import { defineBot } from "colloquy";

interface State {
  /** Messages handled in this conversation. */
  readonly count: number;
  readonly items: readonly string[];
}

const ITEMS_MAX = 50;
const ITEM_LENGTH_MAX = 80;
const HELP = "I keep a shopping list: add milk, eggs | remove milk | show | clear";

export default defineBot<State>({
  name: "demo",
  version: 1,
  initialState: () => ({ count: 0, items: [] }),
  onMessage(state, message, ctx) {
    const count = state.count + 1;
    const [items, answer] = shop(state.items, message.text.trim());
    ctx.reply({ text: `#${count} ${answer}`, data: { count, items } });
    return { count, items };
  },
});

/** The new list, and what to say about it. */
function shop(items: readonly string[], text: string): [items: readonly string[], answer: string] {
  const [, verb = "", rest = ""] = /^(\S*)\s*(.*)$/s.exec(text) ?? [];
  switch (verb.toLowerCase()) {
    case "add":
      return add(items, wordsOf(rest));
    case "remove":
      return remove(items, wordsOf(rest));
    case "show":
    case "list":
      return [items, listed(items)];
    case "clear":
      return [[], "The list is empty now."];
    case "hi":
    case "hello":
      return [items, `Hello! ${HELP}`];
    default:
      return [items, HELP];
  }
}

function add(items: readonly string[], wanted: readonly string[]): [readonly string[], string] {
  if (wanted.length === 0) return [items, "Add what? For example: add milk, eggs"];
  const all = [...new Set([...items, ...wanted])];
  if (all.length > ITEMS_MAX) return [items, `A list holds ${ITEMS_MAX} things; remove some first.`];
  return [all, listed(all)];
}

function remove(items: readonly string[], unwanted: readonly string[]): [readonly string[], string] {
  const left = items.filter((item) => !unwanted.includes(item));
  return [left, left.length === items.length ? `That is not on the list. ${listed(items)}` : listed(left)];
}

const wordsOf = (text: string): string[] =>
  text
    .split(/,|\n/)
    .map((word) => word.trim().toLowerCase().slice(0, ITEM_LENGTH_MAX).toWellFormed())
    .filter((word) => word !== "");

const listed = (items: readonly string[]): string =>
  items.length === 0 ? "The list is empty." : `On the list: ${items.join(", ")}.`;
