// A bot is a function: from what it remembers of a conversation and one message, to replies and what it remembers next.
// Each conversation runs on its own, its messages one after the other, in order.

import { defineBot } from "colloquy";

/** What the bot remembers of one conversation. Plain JSON data, since it is stored after each message. */
interface State {
  readonly count: number;
  readonly name: string | null;
}

export default defineBot<State>({
  // Stands in addresses and in Redis: with another name all conversations begin anew.
  name: "my-bot",
  // When State changes its shape: raise this, and add to `migrate` how a state of the version before becomes one of now.
  version: 1,
  // What a conversation begins with.
  initialState: () => ({ count: 0, name: null }),

  // One turn. What it replied and what it returned are stored together, or not at all: after a crash it runs again from the
  // same state, as if it had never run. So it may be async and call other services, which then may see a call twice; give
  // them `ctx.idempotencyKey()`, which is the same each time.
  onMessage(state, message, ctx) {
    const count = state.count + 1;
    const introduced = /^my name is (.+)$/i.exec(message.text.trim())?.[1];
    const name = introduced ?? state.name;

    // A reply leaves once it is on disk. There may be several; they arrive in this order.
    if (introduced !== undefined) ctx.reply(`Hello ${introduced}!`);
    else if (name === null) ctx.reply(`${count}: ${message.text} (say: my name is ...)`);
    else ctx.reply(`${count}: ${name} says ${message.text}`);

    return { count, name }; // `state` and `message` are frozen: what changes is returned
  },
});
