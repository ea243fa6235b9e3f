import { describe, expect, test } from "vitest";
import { createApp } from "../src/app.ts";
import type { Channel } from "../src/channels/channel.ts";
import { httpChannel } from "../src/channels/http-channel.ts";
import { type AppParts, checkApp } from "../src/check-app.ts";
import { problemsOf } from "../src/config-problems.ts";
import { defineBot } from "../src/domain/bot.ts";
import { ConfigError } from "../src/errors.ts";

const config = { dedupeMs: 600_000, waitingMax: 1_000 };

function refusal(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return problemsOf(error as ConfigError).map(({ message }) => message);
  }
  throw new Error("it was accepted");
}
const refused = (parts: Partial<AppParts>) =>
  refusal(() => checkApp({ bots: [{ name: "a" }], channels: [{ name: "http" }], config, ...parts }));

describe("no bot forgets an id while it may still be repeated (A1)", () => {
  const hour = { name: "sms", retryHorizonMs: 3_600_000 };

  test("the app's dedupe time below a channel's retry horizon is refused, both named, with what to set", () => {
    expect(refused({ channels: [{ name: "http" }, hour] })).toEqual([
      "dedupeMs: is 600000, less than retryHorizonMs (3600000) of the channel sms: a message that its outside repeats after that would be handled twice (set it to at least 3600000)",
    ]);
  });

  test("a bot's own time counts for that bot, and the app's for the others", () => {
    const bots = [{ name: "a" }, { name: "b", dedupeMs: 60_000 }, { name: "c", dedupeMs: 3_600_000 }, { name: "d" }];
    expect(refused({ bots, channels: [hour] }).map((line) => line.slice(0, line.indexOf(":")))).toEqual([
      "dedupeMs",
      "bots[1].dedupeMs",
    ]);
    const long = { ...config, dedupeMs: 3_600_000 };
    expect(refused({ bots, channels: [hour], config: long }).map((line) => line.slice(0, line.indexOf(":")))).toEqual([
      "bots[1].dedupeMs",
    ]);
    expect(() => checkApp({ bots: [bots[2]!], channels: [hour], config })).not.toThrow();
  });

  test("just as long is long enough, and a channel that declares nothing asks for nothing", () => {
    const channels = [{ name: "http" }, { name: "sms", retryHorizonMs: 600_000 }];
    expect(() => checkApp({ bots: [{ name: "a" }], channels, config })).not.toThrow();
    expect(refused({ channels: [{ name: "sms", retryHorizonMs: 600_001 }] })).toHaveLength(1);
  });

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2_592_000_001])("a horizon of %d ms is refused", (ms) => {
    expect(refused({ channels: [{ name: "sms", retryHorizonMs: ms }] })[0]).toContain(
      `channels[0].retryHorizonMs: is ${ms}, not a whole number of ms from 0 to 2592000000`,
    );
  });
});

describe("the order that a channel declares", () => {
  test("is checked, wherever the channel comes from", () => {
    const order = { mode: "contiguous", gapTimeoutMs: 0, settleMs: 0, maxHeld: 1, firstSequence: null } as const;
    expect(refused({ channels: [{ name: "http" }, { name: "own", order }] })[0]).toContain(
      "channels[1].order.gapTimeoutMs: is 0, not a whole number of ms from 1",
    );
    expect(refused({ channels: [{ name: "own", order: "contiguous" as never }] })[0]).toContain(
      "channels[0].order.mode: is undefined, not one of arrival, contiguous, monotonic",
    );
  });

  test("holds no more than the waiting list takes, so that a gap is given up before the list is full (A2)", () => {
    const order = (maxHeld: number) => ({ mode: "monotonic", settleMs: 0, maxHeld }) as const;
    expect(() =>
      checkApp({ bots: [{ name: "a" }], channels: [{ name: "http", order: order(999) }], config }),
    ).not.toThrow();
    expect(refused({ channels: [{ name: "http", order: order(1_000) }] })).toEqual([
      "channels[0].order.maxHeld: is 1000, not less than waitingMax (1000), the list that held messages wait on (lower it or raise waitingMax)",
    ]);
  });
});

describe("what a channel says of its lanes (A3)", () => {
  const probe = async () => ({ kind: "absent" }) as const;
  const of = (traits: object) => ({ name: "own", ...traits }) as AppParts["channels"][number];
  const accepted = (traits: object) =>
    expect(() => checkApp({ bots: [{ name: "a" }], channels: [of(traits)], config })).not.toThrow();
  const refusedFor = (traits: object) => refused({ channels: [{ name: "http" }, of(traits)] });

  test("may be nothing, or anything that can be kept", () => {
    accepted({});
    accepted({ account: {}, retry: {} });
    const account = { concurrency: 1, ratePerSecond: 0.5, burst: 10, breakerFailures: Number.POSITIVE_INFINITY };
    accepted({ account: { ...account, breakerOpenMs: 1, breakerOpenMsMax: 86_400_000 } });
    accepted({ account: { concurrency: undefined }, retry: { budgetMs: 1, attemptsMax: 1 } });
    accepted({ onAmbiguous: "probe", probe, ackFirst: true });
    accepted({ onAmbiguous: "halt", ackFirst: false });
    accepted({ onAmbiguous: "retry", probe });
  });

  test.each<[string, object, string]>([
    ["account", { account: 5 }, "channels[1].account: is 5, not an object (it has concurrency, ratePerSecond, burst, "],
    ["retry", { retry: null }, "channels[1].retry: is null, not an object (it has budgetMs, attemptsMax, "],
    [
      "no place at all",
      { account: { concurrency: 0 } },
      "account.concurrency: is 0, not a whole number from 1 to 100000",
    ],
    ["half a place", { account: { concurrency: 1.5 } }, "account.concurrency: is 1.5, not a whole number from 1 to"],
    [
      "a rate of 0",
      { account: { ratePerSecond: 0 } },
      "account.ratePerSecond: is 0, not a number from 0.001 to 1000000",
    ],
    [
      "a rate without end",
      { account: { ratePerSecond: Number.POSITIVE_INFINITY } },
      "ratePerSecond: is Infinity, not a",
    ],
    ["a text", { account: { ratePerSecond: "10" } }, 'account.ratePerSecond: is "10", not a number from'],
    ["NaN", { account: { breakerFailures: Number.NaN } }, "is NaN, not a whole number from 1 to 1000000, or Infinity"],
    [
      "time without end",
      { account: { breakerOpenMs: Number.POSITIVE_INFINITY } },
      "not a whole number of ms from 1 to",
    ],
    ["a slip", { account: { concurency: 3 } }, "account.concurency: is unknown (did you mean concurrency?)"],
    ["another's member", { retry: { toString: 1 } }, "retry.toString: is unknown (known are budgetMs, attemptsMax)"],
    ["no time", { retry: { budgetMs: 0 } }, "retry.budgetMs: is 0, not a whole number of ms from 1 to 31536000000"],
    ["no attempt", { retry: { attemptsMax: 0 } }, "retry.attemptsMax: is 0, not a whole number from 1 to 1000000 "],
    ["a burst alone", { account: { burst: 5 } }, "account.burst: means nothing without ratePerSecond (set that too"],
    [
      "a maximum below what it begins with",
      { account: { breakerOpenMs: 60_000 } },
      "account.breakerOpenMsMax: is 30000, less than breakerOpenMs (60000)",
    ],
    ["another word", { onAmbiguous: "ask" }, 'onAmbiguous: is "ask", not one of retry, probe, halt (retry if its'],
    [
      "nobody to ask",
      { onAmbiguous: "probe" },
      "channels[1].probe: is missing, and onAmbiguous is probe (write it; where",
    ],
    ["a probe that is none", { onAmbiguous: "probe", probe: true }, "channels[1].probe: is true, not a function"],
    ["a yes", { ackFirst: "yes" }, 'channels[1].ackFirst: is "yes" (true for an outside that knows no keys'],
  ])("%s is refused, with what to do", (_what, traits, line) => {
    const lines = refusedFor(traits);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(line);
  });

  test("is told in full, each slip on a line of its own", () => {
    const lines = refusedFor({ account: { concurrency: 0, burst: -1 }, retry: { attempts: 3 }, onAmbiguous: "probe" });
    expect(lines.map((line) => line.slice(0, line.indexOf(":")))).toEqual([
      "channels[1].account.concurrency",
      "channels[1].account.burst",
      "channels[1].retry.attempts",
      "channels[1].probe",
    ]);
  });
});

test("an app is not made where the start would have to be refused", () => {
  const bot = defineBot({
    name: "a",
    version: 1,
    initialState: () => 0,
    onMessage: (state) => state,
    dedupeMs: 60_000,
  });
  const own: Channel = { ...httpChannel(), name: "own", retryHorizonMs: 120_000 };
  expect(refusal(() => createApp({ bots: [bot], channels: [own] }))[0]).toContain("bots[0].dedupeMs: is 60000, less");
  const asking: Channel = { ...httpChannel(), name: "own", onAmbiguous: "probe" };
  expect(refusal(() => createApp({ bots: [bot], channels: [asking] }))[0]).toContain("channels[0].probe: is missing");
  expect(refusal(() => createApp({ bots: [bot], channels: [httpChannel({ retryHorizonMs: 120_000 })] }))[0]).toContain(
    "retryHorizonMs (120000) of the channel http",
  );
});
