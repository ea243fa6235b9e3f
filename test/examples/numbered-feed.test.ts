// What docs/order.md shows of the numbered feed is what it does.

import { simulate } from "colloquy/testing";
import { expect, test } from "vitest";
import feed, { type Score } from "../../examples/numbered-feed.ts";
import { Walk, walksOf } from "./support/walk.ts";

const ORDER = { order: "contiguous", firstSequence: 1 } as const;
const walks = walksOf("docs/order.md");

test("the walk of docs/order.md is what the feed does", async () => {
  expect([...walks.keys()]).toEqual(["An example"]);
  const code = walks.get("An example")!;
  const walk = new Walk<Score>({ bot: feed, ...ORDER });
  expect(await walk.through(code, (t) => expect(t.state("match")).toEqual({ home: 4, away: 2, missing: 1 }))).toBe(
    code,
  );
});

test.each([1, 2, 3, 4, 5])(
  "goals that come in any order and twice, through a crash, make one score (seed %i)",
  async (seed) => {
    await using t = await simulate(feed, { ...ORDER, seed });
    const goals = Array.from({ length: 20 }, (_, i) => {
      return { id: `g${i + 1}`, sequence: i + 1, text: i % 3 === 0 ? "away" : "home" };
    });
    await t.user("match").sends([...goals, ...goals], { within: "2s" });
    await t.crash();
    await t.user("match").sends(goals, { within: "1s" });
    await t.advance("1m");
    expect(t.state("match")).toEqual({ home: 13, away: 7, missing: 0 });
    expect(t.texts("match").at(-1)).toBe("13:7");
    expect(t.texts("match")).toHaveLength(20);
  },
);
