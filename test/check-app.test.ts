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
  expect(refusal(() => createApp({ bots: [bot], channels: [httpChannel({ retryHorizonMs: 120_000 })] }))[0]).toContain(
    "retryHorizonMs (120000) of the channel http",
  );
});
