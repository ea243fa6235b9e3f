// Handler watch: what a bot's own code does in a simulation, seen from around it. The runtime sees the same bot.

import type { BotDefinition, Handled, TurnContext } from "../domain/bot.ts";
import type { Plain } from "../domain/plain-data.ts";
import { TerminalError } from "../errors.ts";
import type { Log, LogFields } from "../log.ts";
import { silentLog } from "../log.ts";

/** One run of a handler over one message or notice; what fails, or whose process dies, runs more than once. */
export interface HandlerRun {
  readonly conversation: string;
  /** Of a notice "!" and its kind. */
  readonly messageId: string;
  readonly text: string;
  readonly seq: number;
  outcome: "running" | "returned" | "failed" | "abandoned";
  /** Steps that failed and are tried again after a while of virtual time. */
  retrying: number;
}

/** A turn that failed: the handler threw, took too long, or gave back what cannot be stored. Its message runs again. */
export interface TurnFailure {
  readonly conversation: string;
  readonly messageId: string;
  /** How often in a row, from 1; counts anew in each life of the process. */
  readonly attempt: number;
  /** What the bot threw, as it is; or an error of the runtime with its `code`. */
  readonly error: unknown;
  /** When it runs again; null if it does not: it was the last time. */
  readonly retryInMs: number | null;
}

/** What the functions of one step did, over all runs of its turn. */
export interface StepRuns {
  readonly conversation: string;
  readonly messageId: string;
  readonly name: string;
  /** How many steps of this name came before it in its turn. */
  readonly occurrence: number;
  /** How often its function was run: once, unless it failed or the process died before its result was on disk. */
  runs: number;
  /** What it gave last; absent while it has given nothing. */
  result?: unknown;
  /** What its last run failed with, if it did. */
  error?: unknown;
}

/** How runs of a step's function are made to fail. */
export interface StepFailure {
  /** How many runs; default 1. */
  readonly times?: number;
  /** What they fail with; default an Error that says so. */
  readonly error?: unknown;
  /** The function runs before, and its result is lost: what it did in the world is done. Default: it does not run. */
  readonly afterEffect?: boolean;
}

export class HandlerWatch {
  readonly runs: HandlerRun[] = [];
  readonly steps: StepRuns[] = [];
  readonly failures: TurnFailure[] = [];
  readonly #running = new Set<HandlerRun>();
  /** What the bot threw last, by conversation; "" where that is not known. */
  readonly #thrown = new Map<string, unknown>();
  /** By the name of the step. */
  readonly #stepFailures = new Map<string, { left: number; readonly error: unknown; readonly afterEffect: boolean }>();
  /** Of the process; what a dead one does is nothing that was ever seen. */
  #life = 0;

  /** Runs that wait for something of their own, and not for virtual time. */
  get running(): readonly HandlerRun[] {
    return [...this.#running].filter(({ retrying }) => retrying === 0);
  }

  /** The same bot, watched, for the life that begins now. */
  watch(bot: BotDefinition): BotDefinition {
    const life = this.#life;
    const migrate = Object.entries(bot.migrate ?? {}).map(([from, step]) => [
      from,
      (old: unknown) => this.#keep(() => step(old)),
    ]);
    return {
      ...bot,
      initialState: () => this.#keep(() => bot.initialState()),
      ...(bot.migrate && { migrate: Object.fromEntries(migrate) }),
      ...(bot.onNotice && { onNotice: this.#watchedNotices(bot.onNotice, life) }),
      onMessage: (state, message, ctx) => {
        const { conversation, id: messageId, text, seq } = message;
        const run: HandlerRun = { conversation, messageId, text, seq, outcome: "running", retrying: 0 };
        return this.#handle(run, life, () => bot.onMessage(state, message, this.#watched(ctx, run, life)));
      },
    };
  }

  #watchedNotices(onNotice: NonNullable<BotDefinition["onNotice"]>, life: number): typeof onNotice {
    const watched =
      <Notice>(
        kind: string,
        handler: ((state: Plain, notice: Notice, ctx: TurnContext) => Handled<Plain>) | undefined,
      ) =>
      (state: Plain, notice: Notice, ctx: TurnContext): Handled<Plain> => {
        const run = noticeRun(kind, ctx);
        return this.#handle(run, life, () => handler!(state, notice, this.#watched(ctx, run, life)));
      };
    return {
      ...(onNotice.gap && { gap: watched("!gap", onNotice.gap) }),
      ...(onNotice.poisoned && { poisoned: watched("!poisoned", onNotice.poisoned) }),
      ...(onNotice.deliveryFailed && { deliveryFailed: watched("!delivery-failed", onNotice.deliveryFailed) }),
    };
  }

  #handle<Result>(run: HandlerRun, life: number, handle: () => Result | Promise<Result>): Result | Promise<Result> {
    if (life !== this.#life) return never();
    this.runs.push(run);
    this.#running.add(run);
    try {
      const handled = handle();
      if (!isPromiseLike(handled)) return this.#ended(run, life, "returned") ? handled : never();
      return Promise.resolve(handled as Promise<Result>).then(
        (value) => (this.#ended(run, life, "returned") ? value : never()),
        (error: unknown) => this.#failed(run, life, error),
      );
    } catch (error) {
      return this.#failed(run, life, error);
    }
  }

  /** The next runs of steps of this name fail. */
  failStep(name: string, { times = 1, error, afterEffect = false }: StepFailure): void {
    const given = error ?? new Error(`the test let step ${name} fail`);
    this.#stepFailures.set(name, { left: times, error: given, afterEffect });
  }

  /** The same context, whose steps are seen when they run; what it gives back is the runtime's own. */
  #watched(ctx: TurnContext, run: HandlerRun, life: number): TurnContext {
    const occurrences = new Map<string, number>();
    const step: TurnContext["step"] = (name, work, options) => {
      const occurrence = occurrences.get(name) ?? 0;
      occurrences.set(name, occurrence + 1);
      let triesLeft = options?.retry ?? 0;
      const watched = async (signal: AbortSignal) => {
        if (triesLeft < (options?.retry ?? 0)) run.retrying -= 1;
        try {
          return await this.#runStep(run, life, name, occurrence, () => work(signal));
        } catch (error) {
          if (triesLeft > 0 && !(error instanceof TerminalError)) run.retrying += 1;
          triesLeft -= 1;
          throw error;
        }
      };
      return ctx.step(name, watched, options);
    };
    return {
      reply: (reply) => ctx.reply(reply),
      replyNow: () => ctx.replyNow(),
      step,
      timer: (name, delay) => ctx.timer(name, delay),
      cancel: (name) => ctx.cancel(name),
      send: (to, message) => ctx.send(to, message),
      end: () => ctx.end(),
      now: () => ctx.now(),
      random: () => ctx.random(),
      uuid: () => ctx.uuid(),
      idempotencyKey: (name) => ctx.idempotencyKey(name),
      get signal() {
        return ctx.signal;
      },
      get log() {
        return ctx.log;
      },
    };
  }

  async #runStep<Result>(
    { conversation, messageId }: HandlerRun,
    life: number,
    name: string,
    occurrence: number,
    work: () => Promise<Result> | Result,
  ): Promise<Result> {
    if (life !== this.#life) return never();
    const isSame = (step: StepRuns): boolean =>
      step.conversation === conversation &&
      step.messageId === messageId &&
      step.name === name &&
      step.occurrence === occurrence;
    let step = this.steps.find(isSame);
    if (step === undefined) {
      step = { conversation, messageId, name, occurrence, runs: 0 };
      this.steps.push(step);
    }
    const failure = this.#takeFailure(name);
    try {
      if (failure !== undefined && !failure.afterEffect) throw failure.error;
      step.runs += 1;
      const result = await work();
      if (failure !== undefined) throw failure.error;
      if (life !== this.#life) return never(); // its process died meanwhile: what it did is done, and nobody heard of it
      step.result = result;
      delete step.error;
      return result;
    } catch (error) {
      step.error = error;
      throw error;
    }
  }

  #takeFailure(name: string): { readonly error: unknown; readonly afterEffect: boolean } | undefined {
    const failure = this.#stepFailures.get(name);
    if (failure === undefined) return undefined;
    failure.left -= 1;
    if (failure.left <= 0) this.#stepFailures.delete(name);
    return failure;
  }

  /** The process died: what it was running will never be heard of. */
  abandon(): void {
    this.#life += 1;
    for (const run of this.#running) run.outcome = "abandoned";
    this.#running.clear();
    this.#thrown.clear();
  }

  /** Learns of failed turns where the runtime tells of them. */
  log(): Log {
    const life = this.#life;
    const warn: Log["warn"] = (fields) => {
      if (life === this.#life) this.#heard(fields);
    };
    const heard: Log = { ...silentLog, warn, error: warn, child: () => heard }; // the last failure of a message is an error
    return heard;
  }

  /** @returns whether anybody hears of it */
  #ended(run: HandlerRun, life: number, outcome: "returned" | "failed"): boolean {
    this.#running.delete(run);
    if (run.outcome === "running") run.outcome = outcome;
    return life === this.#life;
  }

  #failed(run: HandlerRun, life: number, error: unknown): Promise<never> {
    if (!this.#ended(run, life, "failed")) return never();
    this.#thrown.set(run.conversation, error);
    throw error;
  }

  #keep<Value>(run: () => Value): Value {
    try {
      return run();
    } catch (error) {
      this.#thrown.set("", error);
      throw error;
    }
  }

  /** A turn's failure is the one line with an attempt at a position of the inbox. */
  #heard(fields: LogFields): void {
    const { conversation, inboxPosition, attempt, retryInMs, error } = fields;
    if (typeof conversation !== "string" || inboxPosition === undefined || attempt === undefined) return;
    const last = this.runs.findLast((run) => run.conversation === conversation);
    if (last !== undefined) {
      last.outcome = "failed";
      this.#running.delete(last);
    }
    this.failures.push({
      conversation,
      messageId: last?.messageId ?? "",
      attempt: Number(attempt),
      error: this.#takeThrown(conversation) ?? asError(error),
      retryInMs: typeof retryInMs === "number" ? retryInMs : null,
    });
  }

  #takeThrown(conversation: string): unknown {
    for (const place of [conversation, ""]) {
      const thrown = this.#thrown.get(place);
      if (!this.#thrown.delete(place)) continue;
      return thrown ?? new Error("the bot threw nothing");
    }
    return undefined;
  }
}

/** A notice does not say whose it is, and which turn; the key of its turn and what is stored do. */
function noticeRun(messageId: string, ctx: TurnContext): HandlerRun {
  const conversation = decodeURIComponent(ctx.idempotencyKey().split("~")[2]!);
  return { conversation, messageId, text: "", seq: 0, outcome: "running", retrying: 0 };
}

/** One for each that waits: what waits for a promise is kept as long as the promise. */
const never = (): Promise<never> => new Promise(() => undefined);

const isPromiseLike = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";

/** From what the log says of an error of the runtime. */
function asError(described: unknown): Error {
  const { name, code, message } = (described ?? {}) as { name?: string; code?: string; message?: string };
  return Object.assign(new Error(message ?? "the turn failed"), { name: name ?? "Error", ...(code && { code }) });
}
