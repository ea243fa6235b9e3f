import { fc, test as law } from "@fast-check/vitest";
import { expect, test } from "vitest";
import type { ChatLine } from "../../../src/cli/chat/chat-server.ts";
import type { ChatEvent } from "../../../src/cli/chat/chat-session.ts";
import { jsonLine, printed } from "../../../src/cli/chat/chat-text.ts";

const line = (more: Partial<ChatLine>, isMine = false): ChatEvent => ({
  event: "line",
  line: { id: "1-0", role: "bot", sequence: 7, inReplyTo: "m1", text: "hello", ...more },
  isMine,
});

test.each<[string, ChatEvent, boolean, string | null]>([
  ["a reply with its number", line({}), true, "stdout #7 echo: hello"],
  ["what another user said", line({ role: "user" }), true, "stdout #7 user: hello"],
  ["not what was typed here", line({ role: "user" }, true), true, null],
  ["further lines indented", line({ text: "a\r\nb\rc\n" }), false, "stdout #7 echo: a\n    b\n    c\n    "],
  ["no escapes of a terminal", line({ text: "\u001b[2Ja\u0007\u009b" }), false, "stdout #7 echo: ?[2Ja??"],
  [
    "why it waits",
    { event: "waiting", id: "m", why: "503: x" },
    true,
    "stderr   not on disk yet, sending it again: 503: x",
  ],
  [
    "what was refused",
    { event: "refused", id: "m", status: 422, detail: "422: x" },
    true,
    "stderr   refused, and not sent again: 422: x",
  ],
  [
    "what a wrong secret needs",
    { event: "refused", id: "m", status: 401, detail: "401: x" },
    true,
    "stderr   refused, and not sent again: 401: x (COLLOQUY_HTTP_SECRET must hold the server's secret)",
  ],
  ["that it connected, to people", { event: "connected", bot: "b", conversation: "c" }, true, "stderr   connected"],
  ["not that it connected, to scripts", { event: "connected", bot: "b", conversation: "c" }, false, null],
  ["not each step", { event: "durable", id: "m" }, true, null],
  ["not what was typed", { event: "sent", id: "m", text: "x" }, true, null],
])("tells %s", (_, event, isInteractive, expected) => {
  const result = printed(event, "echo", isInteractive);
  expect(result && `${result.to} ${result.text}`).toBe(expected);
});

test("tells whether an unanswered message is safe", () => {
  const told = (isDurable: boolean) => printed({ event: "unanswered", id: "m", isDurable }, "b", true)?.text;
  expect(told(true)).toContain("it is on disk");
  expect(told(false)).toContain("send it again");
});

law.prop([fc.string({ unit: "binary" })])(
  "T1: no text of a bot has control characters but line breaks and tabs, nor forges a line",
  (text) => {
    const result = printed(line({ text }), "echo", false)!;
    expect(result.text).not.toMatch(/[^\P{Cc}\n\t]/u);
    for (const further of result.text.split("\n").slice(1)) expect(further).toMatch(/^ {4}/);
  },
);

law.prop([fc.string({ unit: "binary" })])("an event is one line of JSON, whatever is in it", (text) => {
  const event = line({ text });
  expect(jsonLine(event)).not.toMatch(/[\r\n]/);
  expect(JSON.parse(jsonLine(event))).toEqual(event);
});
