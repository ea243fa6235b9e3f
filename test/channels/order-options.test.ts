import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { httpChannel } from "../../src/channels/http-channel.ts";
import { externalOrder, type OrderOptions, problemsOfOrder } from "../../src/channels/order-options.ts";
import { problemsOf } from "../../src/config-problems.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import { ConfigError } from "../../src/errors.ts";

/** The lines of the refusal; fails if there is none. */
function refusal(options: unknown): string[] {
  try {
    externalOrder(options as OrderOptions, "channels.http");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return problemsOf(error as ConfigError).map(({ message }) => message);
  }
  throw new Error("it was accepted");
}

describe("the order that options make", () => {
  test.each<[OrderOptions, ExternalOrder]>([
    [{}, { mode: "arrival" }],
    [{ order: undefined, settleMs: undefined }, { mode: "arrival" }],
    [{ order: "arrival" }, { mode: "arrival" }],
    [
      { order: "contiguous" },
      { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 500, maxHeld: 64, firstSequence: null },
    ],
    [
      { order: "contiguous", gapTimeoutMs: 1, settleMs: 0, maxHeld: 1, firstSequence: 0 },
      { mode: "contiguous", gapTimeoutMs: 1, settleMs: 0, maxHeld: 1, firstSequence: 0 },
    ],
    [{ order: "monotonic" }, { mode: "monotonic", settleMs: 0, maxHeld: 64 }],
    [
      { order: "monotonic", settleMs: 250, maxHeld: 10 },
      { mode: "monotonic", settleMs: 250, maxHeld: 10 },
    ],
    [{ order: { mode: "monotonic", settleMs: 1, maxHeld: 2 } }, { mode: "monotonic", settleMs: 1, maxHeld: 2 }],
  ])("%j", (options, order) => {
    expect(externalOrder(options, "channels.http")).toEqual(order);
    expect(httpChannel(options).order).toEqual(order);
  });

  test("passes its own check, whatever the options were", () => {
    const some = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: undefined });
    const options = fc.record({
      order: fc.constantFrom("contiguous", "monotonic" as const),
      settleMs: some(fc.nat(604_800_000)),
      maxHeld: some(fc.integer({ min: 1, max: 100_000 })),
    });
    fc.assert(
      fc.property(options, (given) => {
        expect(problemsOfOrder(externalOrder(given as OrderOptions, "c"), "c")).toEqual([]);
      }),
    );
  });
});

describe("refusals", () => {
  test.each<[string, unknown, string]>([
    [
      "an order that is none",
      { order: "sorted" },
      'channels.http.order: is "sorted", not one of arrival, contiguous, monotonic (',
    ],
    ["null", { order: null }, "channels.http.order: is null, not one of"],
    [
      "a wait for gaps where none can be seen",
      { order: "monotonic", gapTimeoutMs: 100 },
      "channels.http.gapTimeoutMs: means nothing with the order monotonic (remove it, or set order to contiguous)",
    ],
    [
      "a bound without an order",
      { maxHeld: 3 },
      "channels.http.maxHeld: means nothing with the order arrival (remove it, or set order to contiguous or monotonic)",
    ],
    [
      "no time at all for what is missing",
      { order: "contiguous", gapTimeoutMs: 0 },
      "channels.http.gapTimeoutMs: is 0, not a whole number of ms from 1 to 604800000 (",
    ],
    [
      "a fraction",
      { order: "contiguous", maxHeld: 1.5 },
      "channels.http.maxHeld: is 1.5, not a whole number from 1 to 100000 (",
    ],
    [
      "a text",
      { order: "contiguous", firstSequence: "1" },
      'channels.http.firstSequence: is "1", not a whole number from 0 to 9007199254740991 (',
    ],
    [
      "an order without its members",
      { order: { mode: "monotonic", settleMs: 5 } },
      "channels.http.order.maxHeld: is missing; it must be a whole number from 1 to 100000 (",
    ],
    [
      "an order with another's",
      { order: { mode: "arrival", settleMs: 5 } },
      "channels.http.order.settleMs: means nothing with the order arrival (",
    ],
    [
      "an order with a slip",
      { order: { mode: "arrival", settle: 5 } },
      "channels.http.order.settle: means nothing with the order arrival (remove it)",
    ],
    ["an order without a mode", { order: {} }, "channels.http.order.mode: is undefined, not one of"],
    [
      "a member beside a whole order",
      { order: { mode: "arrival" }, settleMs: 5 },
      "channels.http.settleMs: stands beside an order that is an object (put it into that)",
    ],
  ])("%s", (_name, options, line) => {
    const [first, ...rest] = refusal(options);
    expect(first).toContain(line);
    expect(rest).toEqual([]);
    expect(() => httpChannel(options as OrderOptions)).toThrow(ConfigError);
  });

  test("several problems are told together", () => {
    expect(refusal({ order: "contiguous", gapTimeoutMs: -1, settleMs: Number.NaN, maxHeld: 0 })).toHaveLength(3);
  });

  test("any options make an order or a refusal, never anything else", () => {
    const options = fc.dictionary(
      fc.constantFrom("order", "gapTimeoutMs", "settleMs", "maxHeld", "firstSequence"),
      fc.oneof(fc.constantFrom("arrival", "contiguous", "monotonic"), fc.anything()),
    );
    fc.assert(
      fc.property(options, (given) => {
        try {
          expect(problemsOfOrder(externalOrder(given as OrderOptions, "c"), "c")).toEqual([]);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
    );
  });
});
