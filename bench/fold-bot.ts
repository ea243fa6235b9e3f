// Fold bot: its state is a hash over all messages so far, and each reply carries it. A reply that is right proves that every
// message before it was handled once and in order.

import { type BotDefinition, defineBot, TerminalError } from "../src/index.ts";

export interface FoldState {
  readonly n: number;
  readonly h: number;
}

/** FNV-1a over the text, continued from `h`. */
export function nextFold(h: number, text: string): number {
  let next = h ^ 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) next = Math.imul(next ^ text.charCodeAt(i), 0x01000193);
  return next >>> 0;
}

export const foldReply = (n: number, h: number): string => `${n} ${h}`;

export const foldBot: BotDefinition<FoldState> = defineBot<FoldState>({
  name: "fold",
  version: 1,
  initialState: () => ({ n: 0, h: 0 }),
  async onMessage(state, message, ctx) {
    const next = { n: state.n + 1, h: nextFold(state.h, message.text) };
    ctx.reply(foldReply(next.n, next.h));
    return next;
  },
});

/** Throws at each message, so that its conversations never get on. */
export const crashingBot = defineBot<null>({
  name: "crashing",
  version: 1,
  initialState: () => null,
  onMessage() {
    throw new Error("on purpose");
  },
});

/** Halts where it is told to; what comes after that waits. */
export const haltingBot = defineBot<null>({
  name: "halting",
  version: 1,
  initialState: () => null,
  onMessage(state, message) {
    if (message.text === "halt") throw new TerminalError("on purpose");
    return state;
  },
});

/** Answers each message. */
export const echoBot = defineBot<null>({
  name: "echo",
  version: 1,
  initialState: () => null,
  onMessage(state, message, ctx) {
    ctx.reply(message.text);
    return state;
  },
});
