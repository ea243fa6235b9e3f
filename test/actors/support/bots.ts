// Bots of the tests of conversations: what each remembers is what it was given, in order.

import type { AnyBot } from "../../../src/app-types.ts";
import { type BotDefinition, defineBot, type Message, type TurnContext } from "../../../src/domain/bot.ts";

export type Seen = readonly string[];

/** Remembers ids, notices as `gap:2-3` and `poisoned:m1`, late ones as `late:m1`; `before` runs first and may fail or wait. */
export function collector(
  before: (message: Message, ctx: TurnContext) => unknown = () => undefined,
  rest: Partial<BotDefinition<Seen>> = {},
): AnyBot {
  return defineBot<Seen>({
    name: "b",
    version: 1,
    initialState: () => [],
    onMessage: (state, message, ctx) => {
      const next = [...state, `${message.late ? "late:" : ""}${message.redriven ? "redriven:" : ""}${message.id}`];
      const done = before(message, ctx);
      return done instanceof Promise ? done.then(() => next) : next;
    },
    onNotice: {
      gap: (state, { from, to }) => [...state, `gap:${from}-${to}`],
      poisoned: (state, { id }) => [...state, `poisoned:${id}`],
    },
    ...rest,
  });
}

export const ids = (...names: string[]): { id: string }[] => names.map((id) => ({ id }));

/** Messages whose number in the outside's order is the one in their name. */
export const placed = (...numbers: number[]): { id: string; sequence: number }[] =>
  numbers.map((sequence) => ({ id: `m${sequence}`, sequence }));
