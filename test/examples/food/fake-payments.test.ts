// F1 to F3 of fake-payments.ts, on real files.

import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fc } from "@fast-check/vitest";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  type Charge,
  decide,
  FakePayments,
  LEDGER_FILE,
  LedgerError,
  readLedger,
} from "../../../examples/food/fake-payments.ts";
import {
  type ChargeRequest,
  PaymentConflictError,
  PaymentUnavailableError,
  TEST_CARDS,
} from "../../../examples/food/payments.ts";

const { signal } = new AbortController();

function provider() {
  const folder = join(mkdtempSync(join(tmpdir(), "colloquy-payments-")), "made/when/needed");
  onTestFinished(() => rmSync(join(folder, "../../.."), { recursive: true, force: true }));
  const file = join(folder, LEDGER_FILE);
  const restarted = (): FakePayments => new FakePayments({ folder, delayMs: 0 });
  const ledger = (): readonly Charge[] => readLedger(readFileSync(file), file).charges;
  return { folder, file, ledger, restarted, payments: restarted() };
}

const request = (key: string, amountCents = 1_950): ChargeRequest => ({ key, amountCents, card: "visa" });

test("F1: a key is charged once, also by a provider that was started again", async () => {
  const { payments, restarted, ledger, file } = provider();
  const first = await payments.charge(request("a"), signal);
  expect(first).toEqual({ kind: "paid", receipt: expect.stringMatching(/^R[0-9A-F]{8}$/) });
  expect(await payments.charge(request("a"), signal)).toEqual(first);
  expect(await restarted().charge(request("a"), signal)).toEqual(first);
  expect(await payments.charge(request("b"), signal)).not.toEqual(first);
  expect(ledger().map(({ key, amountCents, card }) => [key, amountCents, card])).toEqual([
    ["a", 1_950, "4242"],
    ["b", 1_950, "4242"],
  ]);
  expect(readFileSync(file, "utf8").split("\n")).toHaveLength(3);
});

test("F1: the same key with another amount is a conflict, and what was charged stands", async () => {
  const { payments, ledger } = provider();
  await payments.charge(request("a"), signal);
  await expect(payments.charge(request("a", 1_951), signal)).rejects.toThrow(PaymentConflictError);
  expect(ledger()).toHaveLength(1);
});

test("F1: many at once under one key are one charge", async () => {
  const { payments, ledger } = provider();
  const charge = () => payments.charge(request("a"), new AbortController().signal);
  const outcomes = await Promise.all(Array.from({ length: 20 }, charge));
  expect(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size).toBe(1);
  expect(ledger()).toHaveLength(1);
});

test("a card that ends in 0000 is declined, every time, and nothing is charged", async () => {
  const { payments, ledger } = provider();
  for (let n = 0; n < 2; n += 1)
    expect(await payments.charge({ ...request("a"), card: "declined" }, signal)).toEqual({ kind: "declined" });
  expect(ledger()).toEqual([]);
});

test("the answer to the first charge of the flaky card is lost; the second gives the receipt", async () => {
  const { payments, ledger } = provider();
  const flaky: ChargeRequest = { ...request("a"), card: "flaky" };
  await expect(payments.charge(flaky, signal)).rejects.toThrow(PaymentUnavailableError);
  expect(await payments.charge(flaky, signal)).toEqual({ kind: "paid", receipt: ledger()[0]!.receipt });
  expect(ledger()).toHaveLength(1);
});

test.each([-1, 20_001, Number.NaN])("a delay of %d ms is refused", (delayMs) => {
  expect(() => new FakePayments({ folder: "never-made", delayMs })).toThrow(RangeError);
});

test("a charge whose turn has ended is not begun", async () => {
  const { payments, file } = provider();
  const ended = AbortSignal.abort(new Error("over"));
  await expect(payments.charge(request("a"), ended)).rejects.toThrow();
  expect(existsSync(file)).toBe(false);
});

test("F2: cut at any byte, the ledger keeps its whole lines, and the next charge stands behind them", async () => {
  const { payments, restarted, file, ledger } = provider();
  await payments.charge(request("a"), signal);
  const firstBytes = readFileSync(file).length;
  await payments.charge(request("ö"), signal);
  const whole = readFileSync(file);
  for (let bytes = firstBytes; bytes < whole.length; bytes += 1) {
    writeFileSync(file, whole.subarray(0, bytes));
    expect(ledger().map(({ key }) => key)).toEqual(["a"]);
    await restarted().charge(request("ö"), signal);
    expect(readFileSync(file).equals(whole)).toBe(true);
  }
});

test("F2: a torn tail is left alone by what charges nothing", async () => {
  const { payments, file } = provider();
  await payments.charge(request("a"), signal);
  appendFileSync(file, '{"key":"b","amou');
  const torn = readFileSync(file);
  await payments.charge(request("a"), signal);
  await payments.charge({ ...request("b"), card: "declined" }, signal);
  expect(readFileSync(file).equals(torn)).toBe(true);
});

describe("F3: a ledger that is not ours", () => {
  test.each([
    ["no JSON", "hello\n"],
    ["an empty line", "\n"],
    ["null", "null\n"],
    ["a charge without a receipt", '{"key":"a","amountCents":1,"card":"4242"}\n'],
    ["an amount that is no whole number", '{"key":"a","amountCents":1.5,"card":"4242","receipt":"R"}\n'],
    ["a key twice", '{"key":"a","amountCents":1,"card":"4242","receipt":"R"}\n'.repeat(2)],
  ])("with %s is refused and not written to", async (_what, text) => {
    const { payments, file } = provider();
    await payments.charge(request("a"), signal);
    writeFileSync(file, text);
    await expect(payments.charge(request("b"), signal)).rejects.toThrow(LedgerError);
    expect(readFileSync(file, "utf8")).toBe(text);
    truncateSync(file);
    await payments.charge(request("b"), signal); // an error does not stop later charges
  });
});

test("laws: each key is charged once with its first amount; repeats give its receipt; all else is a conflict or declined", () => {
  const anyRequest = fc.record({
    key: fc.constantFrom("a", "b", "c", "d"),
    amountCents: fc.constantFrom(100, 200),
    card: fc.constantFrom(...(Object.keys(TEST_CARDS) as (keyof typeof TEST_CARDS)[])),
  });
  fc.assert(
    fc.property(fc.array(anyRequest, { maxLength: 30 }), (requests) => {
      const charges: Charge[] = [];
      for (const each of requests) {
        const earlier = charges.find(({ key }) => key === each.key);
        const decision = decide(charges, each);
        if (decision.kind === "new") {
          expect(earlier).toBeUndefined();
          expect(each.card).not.toBe("declined");
          expect(decision.charge).toMatchObject({ key: each.key, amountCents: each.amountCents });
          charges.push(decision.charge);
        } else if (decision.kind === "repeat") {
          expect(decision.charge).toBe(earlier);
          expect(each.amountCents).toBe(earlier?.amountCents);
        } else if (decision.kind === "conflict") {
          expect(each.amountCents).not.toBe(earlier!.amountCents);
        } else {
          expect([earlier, each.card]).toEqual([undefined, "declined"]);
        }
      }
      const text = charges.map((charge) => `${JSON.stringify(charge)}\n`).join("");
      expect(readLedger(Buffer.from(text), "ledger")).toEqual({ charges, wholeBytes: Buffer.byteLength(text) });
    }),
  );
});
