// Price feed: a bot and an actor of its own in one tree. The actor keeps prices fresh, the bot asks it. If a refresh fails, its
// supervisor starts the actor again, and no conversation notices.
//
// This one is a program, not a bot file: it builds the app itself (`createApp`), as you would inside a service of yours.

import { createApp, defineActor, defineBot } from "colloquy";

type PriceMessage = "refresh" | { readonly priceOf: string; answer(cents: number | undefined): void };

/** @param load fetches the prices in cents, by name; its failure is the actor's */
export function priceFeed(load: (signal: AbortSignal) => Promise<Readonly<Record<string, number>>>) {
  return defineActor<PriceMessage>({
    id: "prices",
    receiveTimeoutMs: 5_000,
    async start() {
      let prices = await load(AbortSignal.timeout(5_000));
      return {
        async receive(message, signal) {
          if (message === "refresh") prices = await load(signal);
          else message.answer(prices[message.priceOf]);
        },
      };
    },
  });
}

export function priceApp(feed: ReturnType<typeof priceFeed>, options: { readonly port?: number; dataDir?: string }) {
  const quotes = defineBot<null>({
    name: "quotes",
    version: 1,
    initialState: () => null,
    async onMessage(state, message, ctx) {
      const name = message.text.trim().toLowerCase();
      const cents = await feed.ask<number | undefined>((answer) => ({ priceOf: name, answer }), 1_000);
      ctx.reply(cents === undefined ? `No price for ${name}.` : `${name}: ${(cents / 100).toFixed(2)} EUR`);
      return state;
    },
  });
  return createApp({ bots: [quotes], children: [feed], ...options });
}
