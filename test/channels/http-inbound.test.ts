import { describe, expect, test } from "vitest";
import { parseHttpBody, REQUEST_BOUNDS } from "../../src/channels/http-inbound.ts";

const good = { conversation: "c1", id: "m1", text: "hi" };
const parse = (body: unknown) =>
  parseHttpBody(
    body instanceof Uint8Array
      ? body
      : new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body)),
    "demo",
    "http",
  );
const nested = (levels: number): unknown => {
  let value: unknown = 0;
  for (let i = 0; i < levels; i += 1) value = i % 2 ? [value] : { a: value };
  return value;
};

describe("bodies that cannot be read are 400", () => {
  test.each([
    ["nothing", ""],
    ["half of an object", '{"conversation":"c1"'],
    ["words", "hello"],
    ["two values", "[] []"],
    ["a number that JSON has not", "[NaN]"],
    ["a Latin-1 text", new Uint8Array([0x22, 0xe9, 0x22])],
    ["an overlong encoding", new Uint8Array([0x22, 0xc0, 0x80, 0x22])],
    ["a surrogate as UTF-8", new Uint8Array([0x22, 0xed, 0xa0, 0x80, 0x22])],
    ["__proto__", '{"conversation":"c","id":"i","text":"t","data":{"__proto__":{"admin":true}}}'],
    ["an escaped __proto__", '[{"\\u005f_proto__":1}]'],
    ["constructor.prototype", '{"data":{"constructor":{"prototype":{"x":1}}}}'],
    ["a mebibyte of open brackets", "[".repeat(1_048_576)],
    ["a mebibyte of open objects", '{"a":'.repeat(200_000)],
  ])("%s", (_name, body) => {
    expect(parse(body)).toMatchObject({ kind: "problem", status: 400 });
  });
});

describe("what is wrong is 422 and named", () => {
  const cases: readonly [string, unknown, string, RegExp][] = [
    ["a number instead of a message", 5, "", /object/],
    ["null", null, "", /object/],
    ["an array in an array", [[]], "[0]", /object/],
    ["a missing conversation", { id: "m", text: "" }, "conversation", /missing/],
    ["a missing id", { conversation: "c", text: "" }, "id", /missing/],
    ["a missing text", { conversation: "c", id: "m" }, "text", /missing/],
    ["a number as id", { ...good, id: 5 }, "id", /string/],
    ["an empty id", { ...good, id: "" }, "id", /1 to 512/],
    ["an id of 513 bytes", { ...good, id: `${"é".repeat(256)}x` }, "id", /513/],
    ["an empty conversation", { ...good, conversation: "" }, "conversation", /1 to 512/],
    ["a lone surrogate", { ...good, conversation: "a\ud800" }, "conversation", /surrogate/],
    ["a lone surrogate in the text", { ...good, text: "\udc00" }, "text", /surrogate/],
    ["null as text", { ...good, text: null }, "text", /string/],
    ["a negative sequence", { ...good, sequence: -1 }, "sequence", /integer/],
    ["a broken sequence", { ...good, sequence: 1.5 }, "sequence", /integer/],
    [
      "a sequence beyond 2^53",
      '{"conversation":"c","id":"m","text":"","sequence":9007199254740993}',
      "sequence",
      /integer/,
    ],
    ["a sequence as string", { ...good, sequence: "1" }, "sequence", /integer/],
    ["null as sequence", { ...good, sequence: null }, "sequence", /integer/],
    ["a negative epoch", { ...good, sequence: 1, epoch: -1 }, "epoch", /integer/],
    ["an epoch as string", { ...good, sequence: 1, epoch: "1" }, "epoch", /integer/],
    ["a kind that is none", { ...good, kind: "delete", about: "m0" }, "kind", /"edit" or "reaction"/],
    ["null as kind", { ...good, kind: null, about: "m0" }, "kind", /"edit" or "reaction"/],
    ["an edit of nothing", { ...good, kind: "edit" }, "about", /is missing/],
    ["an id in about without a kind", { ...good, about: "m0" }, "kind", /is missing/],
    ["an empty about", { ...good, kind: "edit", about: "" }, "about", /1 to 512/],
    ["a lone surrogate in about", { ...good, kind: "edit", about: "\ud800" }, "about", /surrogate/],
    ["a date that is none", { ...good, sentAt: "2024-02-30T00:00:00Z" }, "sentAt", /ISO 8601/],
    ["a month that is none", { ...good, sentAt: "2024-13-01T00:00:00Z" }, "sentAt", /ISO 8601/],
    ["a time without offset", { ...good, sentAt: "2024-05-17T09:30:00" }, "sentAt", /ISO 8601/],
    ["a time as number", { ...good, sentAt: 1_715_938_200_000 }, "sentAt", /ISO 8601/],
    ["words as time", { ...good, sentAt: "yesterday" }, "sentAt", /ISO 8601/],
    ["an unknown member", { ...good, extra: 1 }, "extra", /unknown/],
    ["an inherited name", { ...good, toString: 1 }, "toString", /unknown/],
    ["an unknown member with a hard name", { ...good, "a.b c": 1 }, '["a.b c"]', /unknown/],
    ["data 65 levels deep", { ...good, data: nested(65) }, "data", /64 levels/],
    ["a number too large", '{"conversation":"c","id":"m","text":"","data":{"a":[1,1e999]}}', "data.a[1]", /too large/],
    ["the first bad message of a batch", [good, good, { ...good, id: 1 }, { id: 1 }], "[2].id", /string/],
    ["a bad message in a batch", [good, { ...good, data: [[{ "x-y": 1 }], nested(64)] }], "[1].data[1]", /64 levels/],
    ["1,001 messages", Array(1_001).fill(good), "[1000]", /1000 messages, this one has 1001/],
  ];
  test.each(cases)("%s", (_name, body, field, reason) => {
    const result = parse(body);
    expect(result).toMatchObject({ kind: "problem", status: 422, detail: expect.stringMatching(reason) });
    expect((result as { field: string }).field.startsWith(field)).toBe(true);
    if (!field.startsWith("data") && !field.includes("data[1]")) expect(result).toMatchObject({ field });
  });

  test("a path stays short, however long the names in it are", () => {
    const result = parse({ ...good, ["\ud83d\ude00".repeat(100_000)]: 1 });
    expect(result).toMatchObject({ kind: "problem", status: 422 });
    expect(JSON.stringify(result).length).toBeLessThan(1_000);
  });

  test("a closed nest of 524,288 arrays is a 422, not a crash", () => {
    expect(parse("[".repeat(524_288) + "]".repeat(524_288))).toMatchObject({ status: 422, field: "[0]" });
    const deep = `{"conversation":"c","id":"m","text":"","data":${"[".repeat(500_000)}${"]".repeat(500_000)}}`;
    expect(parse(deep)).toMatchObject({ status: 422, detail: expect.stringMatching(/64 levels/) });
  });
});

describe("bounds are inclusive", () => {
  test("ids of 512 bytes, data of 64 levels, 1,000 messages and none", () => {
    const id = "é".repeat(256);
    expect(parse({ ...good, id, conversation: id, data: nested(64) })).toMatchObject({
      kind: "ok",
      messages: [{ id }],
    });
    expect(parse(Array(REQUEST_BOUNDS.messagesMax).fill(good))).toMatchObject({ kind: "ok" });
    expect(parse([])).toEqual({ kind: "ok", messages: [] });
  });

  test("a message has at most 256 KiB, counted in UTF-8 and with its data as it is kept", () => {
    const ids = "c1m1".length;
    const fits = "é".repeat((REQUEST_BOUNDS.messageBytesMax - ids) / 2);
    expect(parse({ ...good, text: fits })).toMatchObject({ kind: "ok" });
    expect(parse([good, { ...good, text: `${fits}x` }])).toMatchObject({ status: 422, field: "[1]" });
    expect(parse({ ...good, text: fits, kind: "edit", about: "m0" })).toMatchObject({ status: 422, field: "" });
    expect(parse({ ...good, data: "x".repeat(REQUEST_BOUNDS.messageBytesMax) })).toMatchObject({
      status: 422,
      field: "",
    });
    // 63 KB that grow to 270 KB by being parsed and encoded again.
    const growing = `{"conversation":"c","id":"m","text":"","data":[${Array(12_500).fill("1e20").join(",")}]}`;
    expect(parse(growing)).toMatchObject({ status: 422, detail: expect.stringMatching(/262144/) });
  });
});

describe("what is accepted as it is", () => {
  test.each([
    ["2024-05-17T09:30:00Z", Date.UTC(2024, 4, 17, 9, 30)],
    ["2024-05-17T09:30:00.123456Z", Date.UTC(2024, 4, 17, 9, 30, 0, 123)],
    ["2024-05-17T09:30+02:00", Date.UTC(2024, 4, 17, 7, 30)],
    ["2024-02-29T23:59:59-05:30", Date.UTC(2024, 2, 1, 5, 29, 59)],
  ])("the time %s", (sentAt, sentAtMs) => {
    expect(parse({ ...good, sentAt })).toMatchObject({ kind: "ok", messages: [{ sentAtMs }] });
  });

  test("an edit and a reaction, with an id of their own; an epoch, with and without a sequence", () => {
    const to = { bot: "demo", channel: "http", conversation: "c1" };
    const extras = [
      { kind: "edit", about: "m0" },
      { kind: "reaction", about: "m1" },
      { epoch: 0 },
      { sequence: 3, epoch: 9_007_199_254_740_991, kind: "edit", about: "\u00e9".repeat(256) },
    ];
    for (const extra of extras)
      expect(parse({ ...good, ...extra })).toEqual({ kind: "ok", messages: [{ to, id: "m1", text: "hi", ...extra }] });
  });

  test("null, false and empty data; a byte order mark; the member names of objects", () => {
    for (const data of [null, false, 0, "", [], {}, { constructor: 1, toString: 2, "": 3 }, "\ud800"])
      expect(parse({ ...good, data })).toEqual({
        kind: "ok",
        messages: [{ to: { bot: "demo", channel: "http", conversation: "c1" }, id: "m1", text: "hi", data }],
      });
    expect(parse(`\ufeff${JSON.stringify(good)}`)).toMatchObject({ kind: "ok" });
  });
});

test("a batch of 1,000 small messages is parsed in well under 10 ms", () => {
  const batch = Array.from({ length: 1_000 }, (_, i) => ({
    conversation: `conversation-${i % 50}`,
    id: `message-${i}`,
    sequence: i,
    text: `hello number ${i}`,
    data: { step: i },
  }));
  const raw = new TextEncoder().encode(JSON.stringify(batch));
  const timesMs: number[] = [];
  for (let run = 0; run < 50; run += 1) {
    const startedAt = performance.now();
    expect(parseHttpBody(raw, "demo", "http").kind).toBe("ok");
    timesMs.push(performance.now() - startedAt);
  }
  timesMs.sort((a, b) => a - b);
  expect(timesMs[25]).toBeLessThan(10);
});
