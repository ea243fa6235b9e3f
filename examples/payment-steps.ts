// Payment steps: an order is three side effects, and each of them is done once, whatever becomes of the process between
// them. docs/turns.md walks through it.
//
// PAYMENT_STEPS_DELAY_MS  how long each of them takes; default 2,000. More leaves more time for a kill

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type BotDefinition, defineBot, TerminalError } from "colloquy";

export type Charge = { readonly kind: "paid"; readonly receipt: string } | { readonly kind: "declined" };

/** The world outside. It does what it is asked once for each key, and gives the first answer to who asks again. */
export interface Shop {
  /** null: it has no price, and nothing is set aside. */
  reserve(order: { key: string; count: number; item: string }, signal: AbortSignal): Promise<{ cents: number } | null>;
  charge(payment: { key: string; cents: number }, signal: AbortSignal): Promise<Charge>;
  ship(parcel: { key: string }, signal: AbortSignal): Promise<{ parcel: string }>;
  release(order: { key: string }, signal: AbortSignal): Promise<void>;
}

export interface State {
  readonly ordersPaid: number;
}

export function paymentSteps(shop: Shop): BotDefinition<State> {
  return defineBot<State>({
    name: "payment-steps",
    version: 1,
    initialState: () => ({ ordersPaid: 0 }),
    async onMessage(state, message, ctx) {
      const [, digits, item] = /^([1-9]\d?) (\w+)$/.exec(message.text) ?? [];
      if (item === undefined) {
        ctx.reply("How many of what? For example: 2 mugs");
        return state;
      }
      const count = Number(digits);

      const { cents } = await ctx.step(
        "reserve",
        async (signal) => {
          const reserved = await shop.reserve({ key: ctx.idempotencyKey("reserve"), count, item }, signal);
          // Thrown inside the step, so that it is not kept: the next run asks the shop anew.
          if (reserved === null) throw new TerminalError("the shop has no price for it");
          return reserved;
        },
        { retry: 2, timeout: "5s" },
      );
      ctx.reply(`${count} ${item} are set aside. I charge ${euros(cents)}, one moment.`);
      await ctx.replyNow();

      const charge = await ctx.step(
        "charge",
        (signal) => shop.charge({ key: ctx.idempotencyKey("charge"), cents }, signal),
        { retry: 2, timeout: "5s" },
      );
      if (charge.kind === "declined") {
        await ctx.step("release", (signal) => shop.release({ key: ctx.idempotencyKey("release") }, signal));
        ctx.reply("The card was declined. Nothing is set aside any more.");
        return state;
      }

      const { parcel } = await ctx.step("ship", (signal) => shop.ship({ key: ctx.idempotencyKey("ship") }, signal), {
        retry: 2,
        timeout: "5s",
      });
      ctx.reply(`Paid, receipt ${charge.receipt}. Parcel ${parcel} is on its way.`);
      return { ordersPaid: state.ordersPaid + 1 };
    },
  });
}

const euros = (cents: number): string => `${(cents / 100).toFixed(2)} EUR`;

const CENTS_EACH = 1_200;

/** Its answers follow from the key alone, so it needs no memory to give the first one again. */
export function pretendShop(delayMs: number): Shop {
  const number = (key: string): string => createHash("sha256").update(key).digest("hex").slice(0, 6);
  const pause = (signal: AbortSignal): Promise<void> => sleep(delayMs, undefined, { signal });
  return {
    async reserve({ count }, signal) {
      await pause(signal);
      return { cents: count * CENTS_EACH };
    },
    async charge({ key }, signal) {
      await pause(signal);
      return { kind: "paid", receipt: number(key) };
    },
    async ship({ key }, signal) {
      await pause(signal);
      return { parcel: number(key) };
    },
    release: (_order, signal) => pause(signal),
  };
}

export default paymentSteps(pretendShop(Number(process.env.PAYMENT_STEPS_DELAY_MS ?? 2_000)));
