import { expectTypeOf, test } from "vitest";
import type { AnyBot, AppOptions } from "../src/app-types.ts";
import { checkBot } from "../src/check-bot.ts";
import { resolveConfig } from "../src/config.ts";
import { type BotDefinition, defineBot } from "../src/domain/bot.ts";

const counter = defineBot<{ n: number }>({
  name: "counter",
  version: 1,
  initialState: () => ({ n: 0 }),
  onMessage: async (state) => ({ n: state.n + 1 }),
  onTimer: { tick: (state) => ({ n: state.n - 1 }) },
  onNotice: { gap: (state, { from, to }) => ({ n: state.n + to - from }) },
});
const talker = defineBot({
  name: "talker",
  version: 1,
  initialState: () => "a" as "a" | "b",
  onMessage: () => "b" as const,
});
const silent = defineBot<null>({ name: "silent", version: 1, initialState: () => null, onMessage: () => null });

test("an app takes bots of different states in one list", () => {
  expectTypeOf([counter, talker, silent]).toExtend<readonly AnyBot[]>();
  expectTypeOf({ bots: [counter, talker, silent], port: 0, redis: undefined }).toExtend<AppOptions>();
});

test("what is no bot is no AnyBot", () => {
  expectTypeOf<{ name: string; version: number }>().not.toExtend<AnyBot>();
  expectTypeOf<Omit<typeof counter, "onMessage">>().not.toExtend<AnyBot>();
  expectTypeOf<Omit<typeof counter, "version"> & { version: string }>().not.toExtend<AnyBot>();
});

test("nobody can call a handler of an AnyBot with a state of their own making", () => {
  expectTypeOf<Parameters<AnyBot["onMessage"]>[0]>().toBeNever();
});

test("checkBot is the way from any bot to one that the runtime can run", () => {
  expectTypeOf(checkBot(counter, "bots[0]")).toEqualTypeOf<BotDefinition>();
});

test("what resolveConfig returns can be options again, without those of the http channel", () => {
  const { deliverTo: _1, order: _2, httpSecret: _3, ...rest } = resolveConfig({});
  expectTypeOf({ ...rest, bots: [counter] }).toExtend<AppOptions>();
});
