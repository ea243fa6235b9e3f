// The bot of the steps tests: an order is three steps, each of which asks the outside world for something and takes its time.

import { setTimeout as sleep } from "node:timers/promises";
import { defineBot } from "colloquy";

const effectsUrl = process.env.COLLOQUY_TEST_EFFECTS_URL!;
const stepMs = Number(process.env.COLLOQUY_TEST_STEP_MS);
/** Whether a step has its effect as the last thing it does, or as the first. */
const isEffectLast = process.env.COLLOQUY_TEST_EFFECT === "last";

export const STEPS = ["reserve", "charge", "ship"] as const;

export default defineBot<{ readonly orders: number }>({
  name: "steps",
  version: 1,
  handlerTimeoutMs: 600_000,
  initialState: () => ({ orders: 0 }),
  async onMessage(state, message, ctx) {
    if (message.text !== "order") {
      ctx.reply(`at once: ${message.id}`);
      return state;
    }
    const done: string[] = [];
    for (const name of STEPS) {
      const result = await ctx.step(name, async (signal) => {
        const headers = { "idempotency-key": ctx.idempotencyKey(name) };
        if (isEffectLast) await sleep(stepMs, undefined, { signal });
        const { status } = await fetch(effectsUrl, { method: "POST", headers, signal });
        if (!isEffectLast) await sleep(stepMs, undefined, { signal });
        return `${name} ${status}`;
      });
      done.push(result);
    }
    ctx.reply(done.join(", "));
    return { orders: state.orders + 1 };
  },
});
