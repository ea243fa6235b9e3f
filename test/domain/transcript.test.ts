import { expect, test } from "vitest";
import { transcriptBotLine, transcriptLineJson, transcriptUserLine } from "../../src/domain/transcript.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test("a line has its members in a fixed order, whatever the order they are given in", () => {
  expect(text(transcriptUserLine({ data: [1], text: "hi", messageId: "m1", born: "b", seq: 2 }))).toBe(
    '{"role":"user","sequence":2,"messageId":"m1","inReplyTo":null,"born":"b","text":"hi","data":[1]}',
  );
  expect(text(transcriptBotLine({ text: "hé", born: "b", inReplyTo: null, outSeq: 9 }))).toBe(
    '{"role":"bot","sequence":9,"inReplyTo":null,"born":"b","text":"hé"}',
  );
});

test("a line is read with its entry id as first member", () => {
  const line = transcriptBotLine({ outSeq: 1, inReplyTo: "m\n1", born: "b", text: "😀", data: { id: "x" } });
  expect(Object.entries(JSON.parse(transcriptLineJson({ ms: 12, seq: 3 }, line)))).toEqual([
    ["id", "12-3"],
    ["role", "bot"],
    ["sequence", 1],
    ["inReplyTo", "m\n1"],
    ["born", "b"],
    ["text", "😀"],
    ["data", { id: "x" }],
  ]);
});
