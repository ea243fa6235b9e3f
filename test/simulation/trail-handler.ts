// Trail handler: the trail bot as the runtime runs it in a simulated world, where handlers throw, hang and end their process, and steps
// have effects outside.
//
// Invariants
//   N1. What a run of a turn replies, sends and asks of the outside depends on state and message alone; whether it comes through is the
//       world's.

import { checkBot } from "../../src/check-bot.ts";
import { type BotDefinition, defineBot, type Message, type TurnContext } from "../../src/domain/bot.ts";
import { TerminalError } from "../../src/errors.ts";
import type { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import type { Effect } from "./history.ts";
import type { Injector, Weather } from "./injector.ts";
import {
  type Consumed,
  claimOf,
  isLong,
  type Plan,
  planOf,
  sendOf,
  stateAfter,
  TRAIL_START,
  type Trail,
} from "./trail-bot.ts";

export interface HandlerWorld {
  readonly scheduler: Scheduler;
  readonly injector: Injector;
  readonly weather: Weather;
  readonly effects: Effect[];
  /** Where replies of this channel go. */
  readonly sendsTo: string;
  /** A handler was run, or an effect happened. */
  happened(): void;
  /** The handler ends its process. */
  kill(life: SimulatedLife): void;
}

type Trouble = "throws" | "terminal" | "kills";

/** What single messages do to whoever handles them, until they have done it so often. */
class Troubles {
  readonly #left = new Map<string, { kind: Trouble; times: number } | null>();

  next(conversation: string, consumed: string, { injector, scheduler, weather }: HandlerWorld): Trouble | null {
    const name = `${conversation} ${consumed}`;
    if (!injector.isOn) return null;
    if (!this.#left.has(name)) this.#left.set(name, drawn(scheduler.random, weather));
    const trouble = this.#left.get(name)!;
    if (trouble === null || trouble.times === 0) return null;
    trouble.times -= 1;
    injector.count(`handler ${trouble.kind}`);
    return trouble.kind;
  }
}

function drawn(random: () => number, { poison, killer }: Weather): { kind: Trouble; times: number } | null {
  const dice = random();
  if (dice < killer) return { kind: "kills", times: 1 + Math.floor(random() * 4) };
  if (dice > 1 - poison / 2) return { kind: "terminal", times: 1 + Math.floor(random() * 2) };
  return dice > 1 - poison ? { kind: "throws", times: 1 + Math.floor(random() * 4) } : null;
}

export class TrailHandlers {
  readonly #world: HandlerWorld;
  readonly #troubles = new Troubles();
  readonly #handlerTimeoutMs: number;
  readonly #poison: { readonly maxAttempts: number; readonly poisonMinMs: number };

  constructor(
    world: HandlerWorld,
    handlerTimeoutMs: number,
    poison: { readonly maxAttempts: number; readonly poisonMinMs: number },
  ) {
    this.#world = world;
    this.#handlerTimeoutMs = handlerTimeoutMs;
    this.#poison = poison;
  }

  bot(ordering: "strict" | "available", life: SimulatedLife): BotDefinition {
    const run = (state: Trail, consumed: Consumed, ctx: TurnContext) =>
      this.#handle(conversationOf(ctx), life, state, consumed, ctx);
    const bot = defineBot<Trail>({
      name: ordering,
      version: 1,
      ordering,
      handlerTimeoutMs: this.#handlerTimeoutMs,
      ...this.#poison,
      initialState: () => TRAIL_START,
      onMessage: (state, message, ctx) => run(state, consumedOf(message), ctx),
      onNotice: {
        gap: (state, { from, to }, ctx) => run(state, { name: `!gap ${from}-${to}`, text: "" }, ctx),
        poisoned: (state, { id }, ctx) => run(state, { name: `!poisoned ${id}`, text: "" }, ctx),
        deliveryFailed: (state, { outSeq, reason }, ctx) =>
          run(state, { name: `!failed ${outSeq} ${reason}`, text: "" }, ctx),
      },
    });
    return checkBot(bot, "bot");
  }

  #handle(
    conversation: string,
    life: SimulatedLife,
    state: Trail,
    consumed: Consumed,
    ctx: TurnContext,
  ): Trail | Promise<Trail> {
    const world = this.#world;
    const { injector, scheduler } = world;
    injector.reached("S7 handler start", "before", life);
    if (life.isDead) return never();
    world.happened();
    scheduler.afterwards(() => injector.reached("S7 handler start", "after", life));
    const hangs = injector.strikes("handler hung", world.weather.hang);
    if (hangs && scheduler.random() < 0.3) return never();
    const trouble = this.#troubles.next(conversation, consumed.name, world);
    if (trouble === "kills") world.kill(life);
    if (life.isDead) return never();
    const plan = planOf(state, consumed);
    const turn = (): Trail | Promise<Trail> => {
      if (trouble === "terminal") throw new TerminalError("a message for which there is no help");
      if (trouble === "throws") throw new Error("the trouble of one message");
      if (injector.strikes("handler threw", world.weather.handler)) throw new Error("the handler's own failure");
      const acts = new Acts({ world, life, conversation, consumed, plan, ctx });
      return isLong(plan) ? acts.runLong(state) : acts.run(state);
    };
    if (!hangs && scheduler.random() < 0.6) return turn();
    /** A late one comes when nobody waits for it any more. */
    const takesMs = hangs ? this.#handlerTimeoutMs * (1 + scheduler.random()) : scheduler.random() * 200;
    return new Promise<Trail>((resolve, reject) => {
      life.schedule("handler goes on", takesMs, () => {
        try {
          resolve(turn());
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }
}

/** One run of a plan. */
class Acts {
  readonly #results: number[] = [];
  #replies = 0;
  #sends = 0;

  readonly world: HandlerWorld;
  readonly life: SimulatedLife;
  readonly conversation: string;
  readonly consumed: Consumed;
  readonly plan: Plan;
  readonly ctx: TurnContext;

  constructor(run: Pick<Acts, "world" | "life" | "conversation" | "consumed" | "plan" | "ctx">) {
    this.world = run.world;
    this.life = run.life;
    this.conversation = run.conversation;
    this.consumed = run.consumed;
    this.plan = run.plan;
    this.ctx = run.ctx;
  }

  run(state: Trail): Trail | Promise<Trail> {
    const { life, world } = this;
    world.injector.reached("S8 handler end", "before", life);
    if (life.isDead) return never();
    for (const act of this.plan.acts) this.#act(act);
    world.scheduler.afterwards(() => world.injector.reached("S8 handler end", "after", life));
    return stateAfter(state, this.plan, this.consumed, this.#results);
  }

  async runLong(state: Trail): Promise<Trail> {
    const { life, world, ctx } = this;
    for (const act of this.plan.acts) {
      if (act === "step") this.#results.push(await this.#step());
      else if (act === "flush") await ctx.replyNow();
      else this.#act(act);
      if (life.isDead) return never();
    }
    world.injector.reached("S8 handler end", "before", life);
    if (life.isDead) return never();
    world.scheduler.afterwards(() => world.injector.reached("S8 handler end", "after", life));
    return stateAfter(state, this.plan, this.consumed, this.#results);
  }

  #act(act: Plan["acts"][number]): void {
    const { ctx, plan, consumed } = this;
    if (act === "reply") {
      this.#replies += 1;
      ctx.reply(JSON.stringify(claimOf(plan, consumed, this.#replies, this.#results)));
    } else if (act === "send") {
      const { bot, conversation, text } = sendOf(plan, consumed, `${this.conversation} ${consumed.name}`, this.#sends);
      this.#sends += 1;
      ctx.send({ bot, channel: this.world.sendsTo, conversation }, { text });
    }
  }

  #step(): Promise<number> {
    const step = this.#results.length;
    const turn = this.ctx.uuid();
    const key = this.ctx.idempotencyKey(`step ${step}`);
    const retry = this.world.scheduler.random() < 0.5 ? 1 : 0;
    return this.ctx.step("charge", () => this.#effect({ turn, step, key }), { retry });
  }

  /** A request to the outside, which does it whatever becomes of who asked. */
  #effect(of: Pick<Effect, "turn" | "step" | "key">): Promise<number> {
    const { world, life, conversation, consumed } = this;
    const { injector, scheduler } = world;
    injector.reached("S8 step effect", "before", life);
    if (life.isDead) return never();
    if (injector.strikes("step failed", world.weather.handler)) return Promise.reject(new Error("no effect"));
    const begunAt = scheduler.count;
    const slowness = scheduler.random();
    const takesMs = slowness < 0.5 ? 0 : slowness < 0.95 ? scheduler.random() * 200 : scheduler.random() * 5_000;
    return new Promise((resolve) => {
      scheduler.schedule("effect", takesMs, () => {
        const number = world.effects.length + 1;
        const at = scheduler.count;
        world.effects.push({ ...of, number, begunAt, at, by: life.name, conversation, consumed: consumed.name });
        life.schedule("effect answered", 0, () => {
          injector.reached("S8 step effect", "after", life);
          if (!life.isDead) resolve(number);
        });
      });
    });
  }
}

function consumedOf({ id, text, late, redriven }: Message): Consumed {
  return { name: `${id}${late ? "~late" : ""}${redriven ? "~again" : ""}`, text };
}

/** A notice does not say whose it is; the keys of its turn do. */
function conversationOf(ctx: TurnContext): string {
  return ctx.idempotencyKey().split("~", 3).map(decodeURIComponent).join(" ");
}

/** One for each that waits: what waits for a promise is kept as long as the promise. */
const never = (): Promise<never> => new Promise(() => undefined);
