// Handler watch: what a bot's own code does in a simulation, seen from around it. The runtime sees the same bot.

import type { BotDefinition, Message } from "../domain/bot.ts";
import type { Log, LogFields } from "../log.ts";
import { silentLog } from "../log.ts";

/** One run of a handler over one message; a message that fails, or whose process dies, runs more than once. */
export interface HandlerRun {
  readonly conversation: string;
  readonly messageId: string;
  readonly text: string;
  readonly seq: number;
  outcome: "running" | "returned" | "failed" | "abandoned";
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

export class HandlerWatch {
  readonly runs: HandlerRun[] = [];
  readonly failures: TurnFailure[] = [];
  readonly #running = new Set<HandlerRun>();
  /** What the bot threw last, by conversation; "" where that is not known. */
  readonly #thrown = new Map<string, unknown>();
  /** Of the process; what a dead one does is nothing that was ever seen. */
  #life = 0;

  /** Runs that wait for something of their own. */
  get running(): ReadonlySet<HandlerRun> {
    return this.#running;
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
      onMessage: (state, message, ctx) => {
        if (life !== this.#life) return never();
        const run = this.#begin(message);
        try {
          const handled = bot.onMessage(state, message, ctx);
          if (!isPromiseLike(handled)) return this.#ended(run, life, "returned") ? handled : never();
          return Promise.resolve(handled).then(
            (value) => (this.#ended(run, life, "returned") ? value : never()),
            (error: unknown) => this.#failed(run, life, error),
          );
        } catch (error) {
          return this.#failed(run, life, error);
        }
      },
    };
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

  #begin(message: Message): HandlerRun {
    const { conversation, id: messageId, text, seq } = message;
    const run: HandlerRun = { conversation, messageId, text, seq, outcome: "running" };
    this.runs.push(run);
    this.#running.add(run);
    return run;
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

/** One for each that waits: what waits for a promise is kept as long as the promise. */
const never = (): Promise<never> => new Promise(() => undefined);

const isPromiseLike = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";

/** From what the log says of an error of the runtime. */
function asError(described: unknown): Error {
  const { name, code, message } = (described ?? {}) as { name?: string; code?: string; message?: string };
  return Object.assign(new Error(message ?? "the turn failed"), { name: name ?? "Error", ...(code && { code }) });
}
