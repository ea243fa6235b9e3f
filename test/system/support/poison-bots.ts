// The bots of the poison tests: one for each ordering, alike in all else. What a message's text says is what its handler does.
// Settings come by COLLOQUY_TEST_POISON, as JSON, since the file is loaded by the runtime as any bot is.

import { setTimeout as sleep } from "node:timers/promises";
import { type BotDefinition, defineBot, TerminalError } from "colloquy";

export interface PoisonSettings {
  /** Version of both bots. From 2 on, a state that says so cannot be migrated. */
  readonly version: number;
  readonly handlerTimeoutMs: number;
  readonly maxAttempts: number;
}

interface State {
  readonly n: number;
  readonly cannotBeMigrated: boolean;
}

const settings = JSON.parse(process.env.COLLOQUY_TEST_POISON ?? "null") as PoisonSettings;
const { version, handlerTimeoutMs, maxAttempts } = settings;

type Deed = () => unknown;

const deeds: Readonly<Record<string, Deed>> = {
  throws() {
    throw new Error("this message always throws");
  },
  rejects: () => Promise.reject(new Error("this message always rejects")),
  terminal() {
    throw new TerminalError("this message can never succeed");
  },
  hangs: () => new Promise(() => undefined),
  /** A moment for the turns beside it to begin. */
  async exits() {
    await sleep(50);
    process.exit(1);
  },
  async "exits-late"() {
    await sleep(1_000);
    process.exit(1);
  },
  async "fills-memory"() {
    await sleep(50);
    for (const kept: number[][] = []; ; ) kept.push(new Array<number>(100_000).fill(kept.length));
  },
  async "loops-for-ever"() {
    await sleep(50);
    for (let rounds = 0; ; rounds += 1) if (rounds < 0) return;
  },
};

function botNamed(ordering: "strict" | "available"): BotDefinition<State> {
  return defineBot<State>({
    name: ordering,
    version,
    ordering,
    maxAttempts,
    poisonMinMs: 0,
    handlerTimeoutMs,
    initialState: () => ({ n: 0, cannotBeMigrated: false }),
    ...(version > 1 && { migrate: { 1: migrated } }),
    async onMessage(state, message, ctx) {
      const [verb = "", argument] = message.text.split(" ");
      if (verb === "sleeps") await sleep(Number(argument));
      else await deeds[verb]?.();
      const n = state.n + 1;
      ctx.reply(`${n}: ${message.id}`);
      if (verb === "returns-a-date") return { n, cannotBeMigrated: false, at: new Date() };
      return { n, cannotBeMigrated: verb === "cannot-be-migrated" };
    },
    onNotice: {
      poisoned(state, notice, ctx) {
        ctx.reply(`poisoned: ${notice.id}`);
        return state;
      },
    },
  });
}

function migrated(old: unknown): State {
  const state = old as State;
  if (state.cannotBeMigrated) throw new Error("this state cannot be migrated");
  return state;
}

export default [botNamed("strict"), botNamed("available")];
