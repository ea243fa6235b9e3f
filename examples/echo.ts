// Echo: the smallest bot. It answers every message with the message.

import { defineBot } from "colloquy";

export default defineBot<null>({
  name: "echo",
  version: 1,
  initialState: () => null,
  onMessage(state, message, ctx) {
    ctx.reply(message.text || "(a message without text)");
    return state;
  },
});
