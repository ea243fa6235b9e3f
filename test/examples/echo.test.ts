import { simulate } from "colloquy/testing";
import { expect, test } from "vitest";
import echo from "../../examples/echo.ts";

test("echo answers every message with the message, once, through crashes and repeats", async () => {
  await using t = await simulate(echo, { seed: 7 });
  expect(await t.user("c1").says("hi", { id: "1" })).toEqual(["hi"]);
  await t.crash();
  await t.user("c1").says("hi", { id: "1" });
  await t.user("c1").says("");
  await t.user("c2").sends(["a", "b", "c"]);
  await t.advance("1m");
  expect(t.replies("c1")).toEqual(["hi", "(a message without text)"]);
  expect(t.replies("c2")).toEqual(["a", "b", "c"]);
  expect(t.errors).toEqual([]);
});
