// Group desk: customers ask, each in a conversation of their own; the people at the desk read all questions in one
// conversation, named "desk", and answer by number. What one conversation sends to another arrives once and in order.
// docs/sends.md walks through it.

import { defineBot, type Message, type TurnContext } from "colloquy";

const DESK = "desk";

/** Of the desk; customers keep nothing. */
export interface State {
  /** Who asked question n + 1. */
  readonly askedBy: readonly string[];
}

export default defineBot<State>({
  name: "group-desk",
  version: 1,
  initialState: () => ({ askedBy: [] }),
  onMessage(state, message, ctx) {
    if (message.conversation === DESK) return atDesk(state, message, ctx);
    if (message.from?.conversation === DESK) {
      ctx.reply(`Desk: ${message.text}`);
    } else {
      ctx.send({ conversation: DESK }, { text: message.text });
      ctx.reply("The desk has your question.");
    }
    return state;
  },
});

/** A question comes from the turn of a customer; what the staff types comes from nobody's turn. */
function atDesk(state: State, { text, from }: Message, ctx: TurnContext): State {
  if (from !== undefined) {
    const askedBy = [...state.askedBy, from.conversation];
    ctx.reply(`#${askedBy.length} ${from.conversation}: ${text}`);
    return { askedBy };
  }
  const [, to, answer] = /^(\d+|all): (.+)$/s.exec(text) ?? [];
  const customers = to === "all" ? [...new Set(state.askedBy)] : state.askedBy.slice(Number(to) - 1, Number(to));
  if (answer === undefined || customers.length === 0) {
    ctx.reply("Answer by number, as: 1: at nine. Or everybody who asked, as: all: we close at five");
    return state;
  }
  for (const conversation of customers) ctx.send({ conversation }, { text: answer });
  ctx.reply(`Sent to ${customers.join(", ")}.`);
  return state;
}
