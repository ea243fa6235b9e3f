import type { Message, Plain, TurnContext } from "colloquy";
import { expect, test } from "vitest";
import demo from "../../examples/demo.ts";
import echo from "../../examples/echo.ts";
import { checkBot } from "../../src/check-bot.ts";

/** Runs a bot's turns by hand: the state goes from one to the next, as through the store. */
function talk(definition: unknown, texts: readonly string[]): { state: Plain; replies: string[] } {
  const bot = checkBot(definition, "bot");
  const replies: string[] = [];
  const reply: TurnContext["reply"] = (each) => void replies.push(typeof each === "string" ? each : each.text);
  const ctx = Object.freeze({ reply }) as TurnContext;
  let state = bot.initialState();
  texts.forEach((text, i) => {
    const message: Message = { id: `m${i}`, conversation: "c", channel: "http", seq: i + 1, text };
    state = JSON.parse(JSON.stringify(bot.onMessage(state, Object.freeze(message), ctx))) as Plain;
  });
  return { state, replies };
}

test("the demo numbers its replies and remembers what was added and removed", () => {
  const { state, replies } = talk(demo, ["hello", "add Milk, eggs", "add milk", "remove milk", "show", "remove tea"]);
  expect(replies).toEqual([
    "#1 Hello! I keep a shopping list: add milk, eggs | remove milk | show | clear",
    "#2 On the list: milk, eggs.",
    "#3 On the list: milk, eggs.",
    "#4 On the list: eggs.",
    "#5 On the list: eggs.",
    "#6 That is not on the list. On the list: eggs.",
  ]);
  expect(state).toEqual({ count: 6, items: ["eggs"] });
});

test("the demo answers everything, also nothing, and its list stays small", () => {
  const many = Array.from({ length: 60 }, (_, i) => `thing ${i}`).join(",");
  const { state, replies } = talk(demo, [
    "",
    "   ",
    "add",
    "add ,",
    "what?",
    `add ${many}`,
    `add ${"x".repeat(500)}`,
    "clear",
  ]);
  expect(replies).toHaveLength(8);
  expect(replies.every((reply, i) => reply.startsWith(`#${i + 1} `))).toBe(true);
  expect(replies[5]).toBe("#6 A list holds 50 things; remove some first.");
  expect(replies[6]).toBe(`#7 On the list: ${"x".repeat(80)}.`);
  expect(state).toEqual({ count: 8, items: [] });
});

test("the demo never makes half a character, which no store could keep", () => {
  const { state } = talk(demo, [`add ${"x".repeat(79)}😀`]);
  expect(JSON.stringify(state).isWellFormed()).toBe(true);
  expect((state as { items: string[] }).items[0]!.isWellFormed()).toBe(true);
});

test("the demo is pure: the same messages give the same state and replies", () => {
  const texts = ["add a, b", "remove a", "show", "clear", "add c"];
  expect(talk(demo, texts)).toEqual(talk(demo, texts));
});

test("echo answers with the message, and says something where there is none", () => {
  expect(talk(echo, ["hi", ""]).replies).toEqual(["hi", "(a message without text)"]);
});
