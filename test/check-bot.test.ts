import { describe, expect, test } from "vitest";
import { checkBot, checkBots } from "../src/check-bot.ts";
import { problemsOf } from "../src/config-problems.ts";
import { ConfigError } from "../src/errors.ts";

const good = { name: "orders", version: 1, initialState: () => ({}), onMessage: (state: unknown) => state };

function refusal(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return problemsOf(error as ConfigError).map(({ message }) => message);
  }
  throw new Error("it was accepted");
}
const refused = (change: object) => refusal(() => checkBot({ ...good, ...change }, "bots[0]"));

describe("a bot", () => {
  test("that is right is returned as it is, with this and everything", () => {
    const full = {
      ...good,
      version: 3,
      migrate: { 1: (old: unknown) => old, 2: (old: unknown) => old },
      onTimer: { "nudge me": () => ({}) },
      onNotice: { gap: () => ({}), poisoned: () => ({}), deliveryFailed: () => ({}) },
      ordering: "available",
      maxAttempts: 1,
      poisonMinMs: 0,
      handlerTimeoutMs: 86_400_000,
      idleTimeoutMs: 1,
      retentionMs: 1,
      dedupeMs: 1_000,
    };
    expect(checkBot(full, "bots[0]")).toBe(full);
  });

  test("may be an instance of a class, whose methods keep their this", () => {
    class Counter {
      readonly name = "counter";
      readonly version = 1;
      initialState() {
        return 0;
      }
      onMessage(state: number) {
        return state + this.version;
      }
    }
    const bot = checkBot(new Counter(), "bots[0]");
    expect(bot.onMessage(1, undefined as never, undefined as never)).toBe(2);
  });

  test("may leave members undefined", () => {
    expect(
      checkBot({ ...good, migrate: undefined, maxAttempts: undefined, onNotice: { gap: undefined } }, "bots[0]"),
    ).toBeDefined();
  });

  test("may start at a high version, or have dropped its oldest steps", () => {
    expect(checkBot({ ...good, version: 7 }, "b")).toBeDefined();
    expect(checkBot({ ...good, version: 7, migrate: { 5: () => 1, 6: () => 1 } }, "b")).toBeDefined();
  });

  test.each<[string, object, string]>([
    ["no name", { name: undefined }, "bots[0].name: is missing; it must be a text of lower case letters"],
    ["a name with capitals", { name: "Orders" }, 'bots[0].name: is "Orders", not a text of lower case letters'],
    ["a name that is too long", { name: "a".repeat(65) }, "bots[0].name: is "],
    ["version 0", { version: 0 }, "bots[0].version: is 0, not a whole number from 1 to 9007199254740991"],
    ["a version as text", { version: "1" }, 'bots[0].version: is "1", not a whole number'],
    ["an unsafe version", { version: 2 ** 53 }, "bots[0].version: is 9007199254740992, not a whole number"],
    [
      "an initial state that is no function",
      { initialState: {} },
      "bots[0].initialState: is an object, not a function",
    ],
    ["no onMessage", { onMessage: undefined }, "bots[0].onMessage: is missing; it must be a function"],
    ["a timer that is no function", { onTimer: { nudge: 1 } }, "bots[0].onTimer.nudge: is 1, not a function"],
    ["a timer with an odd name", { onTimer: { "a b": 1 } }, "bots[0].onTimer[a b]: is 1, not a function"],
    ["timers as a list", { onTimer: [] }, "bots[0].onTimer: is a list of 0, not an object of functions"],
    [
      "an unknown notice",
      { onNotice: { gab: () => 1 } },
      "bots[0].onNotice.gab: is not a member of a bot (did you mean gap?)",
    ],
    [
      "an unknown member",
      { onMesage: () => 1 },
      "bots[0].onMesage: is not a member of a bot (did you mean onMessage?)",
    ],
    ["an unknown ordering", { ordering: "loose" }, 'bots[0].ordering: is "loose", not "strict" or "available"'],
    [
      "a handler over 24 h",
      { handlerTimeoutMs: 86_400_001 },
      "bots[0].handlerTimeoutMs: is 86400001, not a whole number of ms from 1 to 86400000",
    ],
    ["no attempts", { maxAttempts: 0 }, "bots[0].maxAttempts: is 0, not"],
    ["endless dedupe", { dedupeMs: Number.POSITIVE_INFINITY }, "bots[0].dedupeMs: is Infinity, not"],
    [
      "a hole in migrate",
      { version: 4, migrate: { 1: () => 1, 3: () => 1 } },
      "bots[0].migrate[2]: is missing between version 1 and 4",
    ],
    [
      "a version raised without its step",
      { version: 3, migrate: { 1: () => 1 } },
      "bots[0].migrate[2]: is missing between version 1 and 3",
    ],
    [
      "a step from this version",
      { version: 2, migrate: { 1: () => 1, 2: () => 1 } },
      "bots[0].migrate[2]: starts from version 2, but the bot is version 2",
    ],
    [
      "a step that is no function",
      { version: 2, migrate: { 1: {} } },
      "bots[0].migrate[1]: is an object, not a function",
    ],
    [
      "a step by name",
      { version: 2, migrate: { one: () => 1 } },
      "bots[0].migrate.one: is a function, not an object of functions, by the version",
    ],
  ])("with %s is refused", (_, change, line) => {
    const lines = refused(change);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(line);
    expect(lines[0]).toMatch(/\(.+\)$/);
  });

  test("with several problems has them all told", () => {
    const lines = refused({ name: "X", version: -1, onMesage: 1 });
    expect(lines.map((line) => line.split(":")[0])).toEqual(["bots[0].name", "bots[0].version", "bots[0].onMesage"]);
  });

  test.each([null, undefined, 1, "bot", () => good, []])("is not %s", (value) => {
    const lines = refusal(() => checkBot(value, "bots[0]"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^bots\[0\]: is .+; it must be a bot|^bots\[0\]: is .+, not a bot/);
    expect(lines[0]).toContain("defineBot");
  });
});

describe("a list of bots", () => {
  test("that is right is returned as it is", () => {
    const list = [good, { ...good, name: "other" }];
    expect(checkBots(list)).toBe(list);
  });

  test("is refused if it is empty, no list, or has two of a name", () => {
    expect(refusal(() => checkBots([]))).toEqual(["bots: is empty (give at least one bot)"]);
    expect(refusal(() => checkBots(undefined))).toEqual(["bots: is undefined, not a list of bots (bots: [bot])"]);
    expect(refusal(() => checkBots([good, { ...good }]))).toEqual([
      'bots[1].name: is "orders", as that of bots[0] (give each bot its own name)',
    ]);
  });

  test("has the problems of all of them told, each with its place", () => {
    const lines = refusal(() => checkBots([{ ...good, version: 0 }, good, null]));
    expect(lines.map((line) => line.slice(0, line.indexOf(": ")))).toEqual(["bots[0].version", "bots[2]"]);
  });
});
