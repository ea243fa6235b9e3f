// The bot of the tests of lanes whose replies fail for good: it answers each message with its id and with what it was told of
// replies that were not delivered.

import { defineBot } from "colloquy";

export interface LanesState {
  /** Of the messages consumed, in order. */
  readonly ids: readonly string[];
  /** `<outSeq> <reason>` of each notice, in order. */
  readonly failed: readonly string[];
}

export default defineBot<LanesState>({
  name: "lanes",
  version: 1,
  ordering: "available",
  initialState: () => ({ ids: [], failed: [] }),
  onMessage(state, message, ctx) {
    ctx.reply([message.id, ...state.failed].join(", "));
    return { ...state, ids: [...state.ids, message.id] };
  },
  onNotice: {
    deliveryFailed: (state, { outSeq, reason }) => ({ ...state, failed: [...state.failed, `${outSeq} ${reason}`] }),
  },
});
