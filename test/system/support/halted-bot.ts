// The bot of the test of many halted conversations: a payment fails for good while the provider is closed, and a
// message that waits does so for as long as it is held up. Both are files, so that they outlive a process that is
// killed.

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { defineBot, TerminalError } from "colloquy";

const closedFile = process.env.COLLOQUY_TEST_CLOSED_FILE!;
const holdUpFile = process.env.COLLOQUY_TEST_HOLD_UP_FILE!;
const LOOK_EVERY_MS = 20;

export interface State {
  /** Ids of the messages that were handled, in order. */
  readonly ids: readonly string[];
}

export default defineBot<State>({
  name: "till",
  version: 1,
  handlerTimeoutMs: 600_000,
  initialState: () => ({ ids: [] }),
  async onMessage(state, message, ctx) {
    if (message.text === "pay" && existsSync(closedFile)) throw new TerminalError("the provider is closed");
    if (message.text === "wait") while (existsSync(holdUpFile)) await sleep(LOOK_EVERY_MS);
    const ids = [...state.ids, message.id];
    ctx.reply(ids.join(" "));
    return { ids };
  },
});
