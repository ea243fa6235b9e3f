// examples/price-feed.ts as a program would run it: a user's own actor in the tree, with a real Redis and a real port.

import { afterEach, beforeEach, expect, test } from "vitest";
import { priceApp, priceFeed } from "../../examples/price-feed.ts";
import { Arena, freePort, until } from "./support/arena.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("price-feed");
});
afterEach(() => arena.cleanUp());

test("the bot asks the actor; a refresh that fails restarts the actor alone", async () => {
  let isDown = false;
  let loads = 0;
  const feed = priceFeed(async () => {
    if (isDown) {
      isDown = false;
      throw new Error("the source is down");
    }
    loads += 1;
    return { apple: 100 + loads };
  });
  const app = priceApp(feed, { port: await freePort(), dataDir: arena.dataFolder("data") });
  const { url } = await app.start();
  const ask = async (id: string, text: string): Promise<string> => {
    const sent = await fetch(`${url}/channels/http/quotes`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ conversation: "c1", id, text }),
    });
    expect(sent.status).toBe(202);
    return await until(
      async () => {
        const lines = (await (await fetch(`${url}/channels/http/quotes/c1/replies?after=0`)).json()) as {
          inReplyTo: string | null;
          text: string;
        }[];
        return lines.find(({ inReplyTo }) => inReplyTo === id)?.text;
      },
      { what: `the answer to ${id}`, withinMs: 10_000 },
    );
  };
  try {
    expect(await ask("m1", "Apple")).toBe("apple: 1.01 EUR");
    feed.tell("refresh");
    expect(await ask("m2", "apple")).toBe("apple: 1.02 EUR");
    isDown = true;
    feed.tell("refresh");
    expect(await ask("m3", "apple")).toBe("apple: 1.03 EUR"); // a new incarnation, which loaded anew
    expect(await ask("m4", "pear")).toBe("No price for pear.");
    const tree = (await (await fetch(`${url}/admin/tree`)).json()) as {
      children: { id: string; children: unknown[] }[];
    };
    expect(tree.children.find(({ id }) => id === "children")?.children).toMatchObject([
      { id: "prices", state: "running", restartsLeft: null, lastExit: { reason: "error" } },
    ]);
  } finally {
    await app.stop();
  }
});
