// What docs/replies.md shows of the door is what it does.

import { expect, test } from "vitest";
import door from "../../examples/door-code.ts";
import { codeOf, Walk, walksOf } from "./support/walk.ts";

const PAGE = "docs/replies.md";
const walks = walksOf(PAGE);

test("the walk in which a code comes too late: it is not sent, and what stands behind it is", async () => {
  expect([...walks.keys()]).toEqual(["A reply that is of no use later"]);
  const code = walks.get("A reply that is of no use later")!;
  let isDown = false;
  const walk = new Walk<{ asked: number }>({
    bot: door,
    answer: () => (isDown ? { kind: "retryable", reason: "HTTP 503" } : undefined),
    commands: {
      "the phone network is down": () => {
        isDown = true;
      },
      "the phone network is back": () => {
        isDown = false;
      },
    },
  });
  const walked = await walk.through(code, (t) => {
    expect(t.state("alice")).toEqual({ asked: 3 });
    expect(t.deadLetters("alice")).toMatchObject([{ direction: "out", reason: "expired" }]);
    expect(t.texts("alice")).toHaveLength(5);
  });
  expect(walked).toBe(code);
});

test("the code that the page shows stands in the example", () => {
  expect(codeOf("examples/door-code.ts")).toContain(codeOf(PAGE, "ctx.reply"));
});
