// Door code: gives out a code that opens a door for one minute. A code that arrives late is of no use, so it is better not sent; that
// somebody asked is worth knowing at any time. docs/replies.md walks through it.

import { defineBot } from "colloquy";

export default defineBot<{ asked: number }>({
  name: "door-code",
  version: 1,
  initialState: () => ({ asked: 0 }),
  onMessage(state, message, ctx) {
    if (message.text !== "code") {
      ctx.reply("Say: code");
      return state;
    }
    const asked = state.asked + 1;
    const code = String(Math.floor(ctx.random() * 10_000)).padStart(4, "0");
    ctx.reply({ text: `Your code is ${code}, good for one minute.`, expiresIn: "60s" });
    ctx.reply(`You have asked ${asked} ${asked === 1 ? "time" : "times"}.`);
    return { asked };
  },
});
