// Q1 and Q2 of src/page/quick-replies.js, which the page loads as it is.

import { fc, test } from "@fast-check/vitest";
import { expect } from "vitest";

const file = new URL("../../src/page/quick-replies.js", import.meta.url).href;
const { quickReplies } = (await import(file)) as { quickReplies: (data: unknown) => string[] };

test.each([
  ["strings, in their order", { suggestions: ["checkout", "cancel"], total: 5 }, ["checkout", "cancel"]],
  ["each once, without spaces around it", { suggestions: [" yes", "yes", "no "] }, ["yes", "no"]],
  ["markup as the text that it is", { suggestions: ["<b>1</b>"] }, ["<b>1</b>"]],
  ["nothing that is no string", { suggestions: [1, null, {}, ["x"], "ok", { text: "x" }] }, ["ok"]],
  ["nothing empty, too long or of two lines", { suggestions: ["", " ", "x".repeat(61), "a\nb", "a\u2028b"] }, []],
  ["what is just long enough", { suggestions: ["x".repeat(60)] }, ["x".repeat(60)]],
  ["eight at most", { suggestions: [..."abcdefghij"] }, [..."abcdefgh"]],
  ["nothing of a string", { suggestions: "checkout" }, []],
  ["nothing of a list", ["checkout"], []],
  ["nothing of other data", { items: ["checkout"] }, []],
  ["nothing without data", undefined, []],
  ["nothing of null", null, []],
])("%s", (_what, data, offered) => expect(quickReplies(data)).toEqual(offered));

test.prop([
  fc.oneof(fc.anything(), fc.record({ suggestions: fc.oneof(fc.anything(), fc.array(fc.string({ unit: "binary" }))) })),
])("whatever a bot sends: few, different, of one line, and each of them as it was sent", (data) => {
  const offered = quickReplies(data);
  const sent = (data as { suggestions?: unknown } | null | undefined)?.suggestions;
  expect(offered.length).toBeLessThanOrEqual(8);
  expect(new Set(offered).size).toBe(offered.length);
  for (const text of offered) {
    expect(text).toMatch(/^[^\n\r\u2028\u2029]{1,60}$/);
    expect((sent as unknown[]).some((each) => typeof each === "string" && each.trim() === text)).toBe(true);
  }
});
