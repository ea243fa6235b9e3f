import { test } from "@fast-check/vitest";
import fc from "fast-check";
import { expect } from "vitest";
import { parseHttpBody } from "../../src/channels/http-inbound.ts";

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Well-formed by construction: whole code points, the lone surrogates left out. */
const text = fc.string({ unit: "binary", maxLength: 100 });
const legalId = fc.string({ unit: "binary", minLength: 1, maxLength: 128 });
/** Without the two names that are refused wherever they stand. */
const data = fc
  .jsonValue({ maxDepth: 4, noUnicodeString: false })
  .filter((value) => !/"__proto__"|"constructor"/.test(JSON.stringify(value)));

const plain = fc.record(
  { conversation: legalId, id: legalId, text, sequence: fc.maxSafeNat(), epoch: fc.maxSafeNat(), data },
  { requiredKeys: ["conversation", "id", "text"] },
);
const about = fc.record({ kind: fc.constantFrom("edit", "reaction"), about: legalId });
const message = fc.oneof(
  plain,
  fc.tuple(plain, about).map(([one, other]) => ({ ...one, ...other })),
);

test.prop([fc.array(message, { maxLength: 5 })])("any legal batch comes out exactly, in its order", (batch) => {
  const clean = JSON.parse(JSON.stringify(batch)) as typeof batch;
  const result = parseHttpBody(encode(batch), "demo", "http");
  expect(result).toEqual({
    kind: "ok",
    messages: clean.map(({ conversation, ...rest }) => ({
      to: { bot: "demo", channel: "http", conversation },
      ...rest,
    })),
  });
});

test.prop([fc.uint8Array({ maxLength: 200 })])("any bytes give messages or a problem", (raw) => {
  expectOkOrProblem(parseHttpBody(raw, "demo", "http"));
});

const anyJson = fc.jsonValue({ maxDepth: 6, noUnicodeString: false });

test.prop([anyJson])("any JSON gives messages or a problem that says where", (value) => {
  expectOkOrProblem(parseHttpBody(encode(value), "demo", "http"));
});

const nearly = fc.dictionary(
  fc.constantFrom(
    "conversation",
    "id",
    "text",
    "sequence",
    "epoch",
    "kind",
    "about",
    "data",
    "sentAt",
    "toString",
    "constructor",
    "x y",
  ),
  fc.oneof(legalId, anyJson, fc.constantFrom("2024-05-17T09:30:00Z", "\ud800", "edit", "reaction")),
);

test.prop([fc.array(nearly, { maxLength: 4 })])("any nearly right batch gives messages or a problem", (value) => {
  expectOkOrProblem(parseHttpBody(encode(value), "demo", "http"));
});

test.prop([message, fc.constantFrom("conversation", "id", "text"), fc.constantFrom("\ud800", "\udfff", "a\udc00b")])(
  "a lone surrogate never becomes an id or a text",
  (good, member, bad) => {
    const result = parseHttpBody(encode({ ...good, [member]: bad }), "demo", "http");
    expect(result).toMatchObject({ kind: "problem", status: 422, field: member });
  },
);

test.prop([fc.array(message, { minLength: 1, maxLength: 5 })])(
  "where the order goes by it, the first message without a sequence refuses the batch, and nothing else does",
  (batch) => {
    const result = parseHttpBody(encode(batch), "demo", "http", undefined, true);
    const first = batch.findIndex(({ sequence }) => sequence === undefined);
    if (first === -1) expect(result.kind).toBe("ok");
    else expect(result).toMatchObject({ kind: "problem", status: 422, field: `[${first}].sequence` });
  },
);

function expectOkOrProblem(result: ReturnType<typeof parseHttpBody>): void {
  if (result.kind === "ok") {
    for (const { to, id } of result.messages) {
      expect(Buffer.byteLength(to.conversation)).toBeGreaterThan(0);
      expect(id.isWellFormed()).toBe(true);
    }
    return;
  }
  expect(result.detail.length).toBeGreaterThan(0);
  expect(result.detail.length).toBeLessThan(500);
  if (result.status === 422) expect(result.field).toBeTypeOf("string");
  else expect(result.status).toBe(400);
}
