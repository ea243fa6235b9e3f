// The bot of the system tests: a pure fold over its messages that replies with where it is. One turn in eight waits a few
// milliseconds, so that kills hit running turns too.

import { setTimeout as sleep } from "node:timers/promises";
import { defineBot } from "colloquy";
import { FOLD_START, type Fold, fold } from "./fold.ts";

export default defineBot<Fold>({
  name: "fold",
  version: 1,
  initialState: () => FOLD_START,
  async onMessage(state, message, ctx) {
    const after = fold(state, message);
    if (after.h.startsWith("0") || after.h.startsWith("1")) await sleep(Number.parseInt(after.h.slice(1, 2), 16) / 2);
    ctx.reply(JSON.stringify({ n: after.n, mid: message.id, h: after.h }));
    return after;
  },
});
