// Food bot: runs the order's pure steps as a bot, and pays. All that it does to the world is the charge, under a key
// that is the same each time the turn runs: if the process dies between the charge and the commit, the next one asks
// again and is given the same receipt.

import { type BotDefinition, defineBot } from "colloquy";
import { afterCharge, newOrder, type OrderState, take } from "./order.ts";
import type { Payments } from "./payments.ts";

export function foodBot(payments: Payments): BotDefinition<OrderState> {
  return defineBot<OrderState>({
    name: "demo",
    version: 2,
    initialState: () => newOrder(),
    // Version 1 kept a shopping list. Nothing of it makes an order.
    migrate: { 1: () => newOrder() },
    async onMessage(state, message, ctx) {
      const taken = take(state, message.text);
      // An outage makes `charge` throw: nothing of this turn is committed, and the message runs again, with the same
      // key.
      const done =
        "charge" in taken
          ? afterCharge(
              taken,
              await payments.charge({ ...taken.charge, key: ctx.idempotencyKey("charge") }, ctx.signal),
            )
          : taken;
      for (const reply of done.replies) ctx.reply(reply);
      return done.state;
    },
  });
}
