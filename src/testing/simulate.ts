// Simulate: a bot on the real runtime, in virtual time, without Redis, ports or waiting. The test kit for authors of bots.
//
// Invariants
//   T1. What runs is the production core: admission, reader, conversation actors, committer and lanes, on the memory store
//       that keeps the same contract as Redis. A bot that passes here meets nothing else there.
//   T2. No wall clock and no real timer: minutes take milliseconds, and the same seed gives the same run. The one thing that is
//       waited for in real time is a handler that awaits something outside of the simulation, for `patienceMs`.
//   T3. Time passes only by `advance`, by a sender that has to repeat its request, and by `restart`, whose drain takes some.

import type { Operations } from "../../actors/operations.ts";
import { externalOrder, type OrderOptions } from "../channels/order-options.ts";
import { checkBot } from "../check-bot.ts";
import { type DeadLetter, decodeDeadLetter } from "../codec/dead-letter-codec.ts";
import { checkedState, decodeRecord } from "../codec/record-codec.ts";
import { type ConfigOptions, resolveConfig } from "../config.ts";
import type { BotDefinition, Duration } from "../domain/bot.ts";
import { durationMs } from "../domain/duration.ts";
import type { ExternalOrder } from "../domain/external-order.ts";
import { type ConversationId, conversationKey, ID_BYTES_MAX, NAME_PATTERN, shardOf } from "../domain/ids.ts";
import type { Inbound } from "../domain/message.ts";
import { freezePlain, type Plain } from "../domain/plain-data.ts";
import type { EntryId } from "../domain/position.ts";
import { stateOf } from "../domain/situation.ts";
import { MemoryData, MemoryStore } from "../store/memory-store.ts";
import { HandlerWatch, type StepFailure, type TurnFailure } from "./handler-watch.ts";
import { type Answer, type Arrival, Recipient, type Split } from "./recipient.ts";
import { Scheduler, SimulatedLife } from "./scheduler.ts";
import { SimulatedProcess } from "./simulated-process.ts";
import { SimulatedStore, smoothWays } from "./simulated-store.ts";
import { SimulationError } from "./simulation-error.ts";

/** The order of messages is said as `httpChannel` takes it. */
export interface SimulateOptions extends OrderOptions {
  /** Decides the order of what can happen in any order; default 1. */
  readonly seed?: number;
  /** What messages say they came by; default "test". */
  readonly channel?: string;
  /** How the recipient answers each attempt at a delivery; undefined means delivered. Default: delivers everything. */
  readonly recipient?: Answer;
  /** How the channel cuts a text that its outside would not take at once. Default: not at all. */
  readonly split?: Split;
  /** Bounds and times of the runtime, as `createApp` takes them. */
  readonly config?: ConfigOptions;
  /**
   * How long a handler that awaits something outside of the simulation (a file, a local server) is waited for, in real ms;
   * default 2,000. 0: not at all, for handlers that are meant to hang.
   */
  readonly patienceMs?: number;
}

export interface UserMessage {
  readonly text: string;
  readonly data?: Plain;
  /** Default: a new one for each message. The same id again is a duplicate. */
  readonly id?: string;
  /** The outside's own number of it, where the channel has an order that goes by numbers. */
  readonly sequence?: number;
}

export interface SendsOptions {
  /**
   * Each message goes as a request of its own, at a moment within this time that the seed decides: they arrive in any order.
   * Without it all go in one request, in their order.
   */
  readonly within?: Duration;
}

export interface User {
  /** Sends one message, repeats the request until it is admitted, and lets all happen that follows. @returns the replies that came */
  says(text: string, options?: Omit<UserMessage, "text">): Promise<SimulatedReply[]>;
  /** The same for several messages. */
  sends(messages: readonly (string | UserMessage)[], options?: SendsOptions): Promise<SimulatedReply[]>;
}

/**
 * As `ctx.reply` took it: a text, or text with more. When it expires is said as a moment, ISO 8601 in UTC. Of a reply that the channel
 * cut each part is one, and says which.
 */
export type SimulatedReply = string | Pick<Arrival, "text" | "data" | "expiresAt" | "part" | "parts">;

/** A committed turn over a message. */
export interface SimulatedTurn {
  readonly seq: number;
  readonly messageId: string;
  readonly text: string;
  /** How often its handler was run in all lives, failures and runs that a crash forgot included. */
  readonly runs: number;
}

/** A step of a turn that ran, whether its turn is committed or not. */
export interface SimulatedStep {
  readonly messageId: string;
  readonly name: string;
  /** What its function gave; undefined if it gave nothing, or failed. */
  readonly result: unknown;
  /** What its last run failed with; undefined if it did not. */
  readonly error: unknown;
  /** How often its function was run: what it did in the world was done so often. */
  readonly runs: number;
}

/** What a conversation does, as it is stored; the words are those of `colloquy ls`. */
export interface SimulatedSituation {
  /** `active`: a turn was begun or messages wait for theirs. `held`: for numbers that are missing. `halted`: for `retry` or `skip`. */
  readonly state: "idle" | "active" | "held" | "halted";
  readonly why: string;
  /** Messages on its waiting list. */
  readonly waiting: number;
  /** Failed runs of the message at its head. */
  readonly attempts: number;
}

/** A message, a notice or a reply that was set aside for good. */
export interface SimulatedDeadLetter {
  readonly conversation: string;
  /** `in`: a message, or a notice to the bot. `out`: a reply. */
  readonly direction: "in" | "out";
  /** Of a message. */
  readonly messageId: string | null;
  readonly reason: string;
  readonly attempts: number | null;
  readonly error: string | null;
}

export interface Simulation<State> extends AsyncDisposable {
  /** The user of a conversation. */
  user(conversation: string): User;
  /** Replies delivered to the conversation, each once, in order of first delivery. */
  replies(conversation: string): SimulatedReply[];
  /** The same without their data. */
  texts(conversation: string): string[];
  /** Every attempt at a delivery that reached the recipient, repeats and refused ones included, of all conversations. */
  readonly arrivals: readonly Arrival[];
  /** The committed state, as it is stored; undefined before the first turn of the conversation. A copy. */
  state(conversation: string): State | undefined;
  /** The committed turns of the conversation, in order. */
  turns(conversation: string): SimulatedTurn[];
  /** The steps of the conversation that ran, in the order in which they first did. */
  steps(conversation: string): SimulatedStep[];
  /** Lets the next runs of steps of this name fail, in whatever conversation. */
  failStep(name: string, failure?: StepFailure): void;
  situation(conversation: string): SimulatedSituation;
  /** Of one conversation, or of all. */
  deadLetters(conversation?: string): SimulatedDeadLetter[];
  /** What an operator does about a halt: its message runs once more, its missing number is waited for. @returns whether it was halted */
  retry(conversation: string): Promise<boolean>;
  /** The same: its message becomes a dead letter, its missing number is passed. */
  skip(conversation: string): Promise<boolean>;
  /** Lets the messages among the conversation's dead letters run again, each as a new message. @returns how many */
  redrive(conversation: string): Promise<number>;
  /** Every turn that failed, in order of failing. */
  readonly errors: readonly TurnFailure[];
  /** Virtual time, ms since the Unix epoch. */
  readonly nowMs: number;
  /** Lets time pass, and all that is due in it happen. */
  advance(duration: Duration): Promise<void>;
  /** The process dies like by SIGKILL, and a new one starts from the store; with another version of the bot, if one is given. */
  crash(bot?: BotDefinition<State>): Promise<void>;
  /** The process drains and stops, and a new one starts: a deploy. */
  restart(bot?: BotDefinition<State>): Promise<void>;
  /** Ends the simulation. Harmless if called again. @throws SimulationError if something of the runtime itself failed */
  close(): Promise<void>;
}

/**
 * Starts a simulated runtime with one bot.
 * @throws ConfigError the bot or an option cannot be used
 */
export async function simulate<State>(
  bot: BotDefinition<State>,
  options: SimulateOptions = {},
): Promise<Simulation<State>> {
  const simulation = new BotSimulation(bot, options);
  await simulation.start();
  return simulation;
}

const NODE = "simulated";
const READY_WITHIN_MS = 60_000;
/** A sender without an answer repeats its request after this, as a platform would. */
const ANSWER_WITHIN_MS = 5_000;
const ADMITTED_WITHIN_MS = 10 * 60_000;
const PATIENCE_MS_DEFAULT = 2_000;
/** Taken when the module is loaded: fake timers are for the test's own code. */
const realTimeout = setTimeout;
const realNowMs = performance.now.bind(performance);

class BotSimulation<State> implements Simulation<State> {
  readonly #scheduler: Scheduler;
  readonly #data = new MemoryData();
  readonly #redis: SimulatedLife;
  readonly #watch = new HandlerWatch();
  readonly #recipient: Recipient;
  readonly #channel: string;
  readonly #order: ExternalOrder;
  readonly #config: ReturnType<typeof resolveConfig>;
  readonly #patienceMs: number;
  readonly #name: string;
  /** Runs that were waited for in vain. */
  readonly #hanging = new Set<unknown>();
  #bot: BotDefinition;
  #process: SimulatedProcess | null = null;
  #lives = 0;
  #ids = 0;
  #verbs: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(bot: BotDefinition<State>, options: SimulateOptions) {
    const { seed = 1, channel = "test", recipient = () => undefined, config = {} } = options;
    this.#bot = checkBot(bot, "bot");
    this.#name = this.#bot.name;
    this.#config = resolveConfig({ logLevel: "silent", ...config });
    this.#scheduler = new Scheduler({ seed });
    this.#redis = new SimulatedLife(this.#scheduler, "redis");
    this.#recipient = new Recipient(recipient, options.split);
    this.#channel = checkedChannel(channel);
    this.#order = externalOrder(options, `channels.${channel}`);
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS_DEFAULT;
  }

  start(): Promise<void> {
    return this.#verb(() => this.#begin());
  }

  user(conversation: string): User {
    const to = this.#idOf(conversation);
    const send = (messages: readonly UserMessage[], options: SendsOptions): Promise<SimulatedReply[]> => {
      const before = this.#recipient.delivered(conversation).length;
      const inbound = messages.map((message) => this.#inbound(to, message));
      const posts = this.#post(inbound, options);
      return this.#verb(async () => {
        const isAdmitted = (): boolean => posts.every((post) => post.isAdmitted);
        if (!(await this.#drive(this.#scheduler.nowMs + ADMITTED_WITHIN_MS, isAdmitted))) {
          const refusal = posts.find((post) => !post.isAdmitted)?.refusal ?? "no answer";
          throw new SimulationError(
            `the messages were not admitted within 10 minutes of virtual time: ${refusal}; nothing is lost`,
          );
        }
        await this.#settle();
        return this.#recipient.delivered(conversation).slice(before).map(asReply);
      });
    };
    return {
      says: (text, options = {}) => send([{ ...options, text }], {}),
      sends: (messages, options = {}) =>
        send(
          messages.map((message) => (typeof message === "string" ? { text: message } : message)),
          options,
        ),
    };
  }

  replies(conversation: string): SimulatedReply[] {
    return this.#recipient.delivered(conversation).map(asReply);
  }

  texts(conversation: string): string[] {
    return this.#recipient.delivered(conversation).map(({ text }) => text);
  }

  get arrivals(): readonly Arrival[] {
    return this.#recipient.arrivals;
  }

  state(conversation: string): State | undefined {
    const stored = this.#record(conversation);
    if (stored === undefined) return undefined;
    return JSON.parse(Buffer.from(checkedState(decodeRecord(stored)).bytes).toString()) as State;
  }

  turns(conversation: string): SimulatedTurn[] {
    const stored = this.#record(conversation);
    const committed = stored === undefined ? 0 : decodeRecord(stored).record.seq;
    const turns = new Map<number, SimulatedTurn>();
    const runsOf = (seq: number): number =>
      this.#watch.runs.filter((run) => run.conversation === conversation && run.seq === seq).length;
    for (const { seq, outcome, messageId, text, ...run } of this.#watch.runs) {
      if (run.conversation !== conversation || outcome !== "returned" || seq === 0 || seq > committed) continue;
      turns.set(seq, { seq, messageId, text, runs: runsOf(seq) }); // the last run of a number is the one that was committed
    }
    return [...turns.values()].sort((a, b) => a.seq - b.seq);
  }

  steps(conversation: string): SimulatedStep[] {
    const steps = this.#watch.steps.filter((step) => step.conversation === conversation);
    return steps.map(({ messageId, name, result, error, runs }) => ({ messageId, name, result, error, runs }));
  }

  failStep(name: string, failure: StepFailure = {}): void {
    this.#watch.failStep(name, failure);
  }

  situation(conversation: string): SimulatedSituation {
    const stored = this.#record(conversation);
    if (stored === undefined) return { state: "idle", why: "", waiting: 0, attempts: 0 };
    const { record } = decodeRecord(stored);
    const { state, why } = stateOf(record);
    const { waiting, openTurn } = record.extra ?? {};
    return {
      state: state === "quarantined" ? "halted" : state,
      why,
      waiting: waiting?.count ?? 0,
      attempts: openTurn?.attempts ?? 0,
    };
  }

  deadLetters(conversation?: string): SimulatedDeadLetter[] {
    const letters = this.#letters().map(({ letter }) => letter);
    return letters.flatMap(({ conversation: of, direction, id, reason, attempts, error }) =>
      of === null || direction === null || (conversation !== undefined && of !== conversation)
        ? []
        : [{ conversation: of, direction, messageId: id, reason, attempts, error }],
    );
  }

  retry(conversation: string): Promise<boolean> {
    return this.#resolve("retry", conversation);
  }

  skip(conversation: string): Promise<boolean> {
    return this.#resolve("skip", conversation);
  }

  redrive(conversation: string): Promise<number> {
    return this.#verb(async () => {
      const places = this.#letters().filter(({ letter }) => letter.conversation === conversation && letter.id !== null);
      const targets = places.map(({ shard, entry }) => ({ shard, entry }));
      if (targets.length === 0) return 0;
      const asked = {
        selection: { kind: "targets", targets },
        limit: targets.length,
        dryRun: false,
        by: "test",
      } as const;
      const { done } = await this.#ask(this.#operations.redrive(asked));
      await this.#settle();
      return done.length;
    });
  }

  get errors(): readonly TurnFailure[] {
    return this.#watch.failures;
  }

  get nowMs(): number {
    return this.#scheduler.nowMs;
  }

  advance(duration: Duration): Promise<void> {
    const ms = durationMs(duration);
    return this.#verb(async () => {
      const endMs = this.#scheduler.nowMs + ms;
      await this.#drive(endMs);
      await this.#scheduler.pass(endMs - this.#scheduler.nowMs);
      await this.#settle();
    });
  }

  crash(bot?: BotDefinition<State>): Promise<void> {
    const next = this.#checked(bot);
    return this.#verb(async () => {
      this.#process!.kill();
      await this.#begin(next);
    });
  }

  restart(bot?: BotDefinition<State>): Promise<void> {
    const next = this.#checked(bot);
    return this.#verb(async () => {
      let isStopped = false;
      void this.#process!.stop().then(() => {
        isStopped = true;
      });
      const isInTime = await this.#drive(this.#scheduler.nowMs + this.#config.drainMs * 2, () => isStopped);
      if (!isInTime) throw new SimulationError("the process did not stop within twice its drainMs");
      await this.#begin(next);
    });
  }

  #resolve(verb: "retry" | "skip", conversation: string): Promise<boolean> {
    const targets = [this.#idOf(conversation)];
    return this.#verb(async () => {
      const asked = { selection: { kind: "targets", targets }, limit: 1, dryRun: false, by: "test", verb } as const;
      const { done } = await this.#ask(this.#operations.resolve(asked));
      await this.#settle();
      return done.length > 0;
    });
  }

  get #operations(): Operations {
    const operations = this.#process?.operations ?? null;
    if (operations === null) throw new SimulationError("the process is not ready; nothing was asked of it");
    return operations;
  }

  /** What asks the store gets its answer in virtual time. */
  async #ask<Result>(asked: Promise<Result>): Promise<Result> {
    let isAnswered = false;
    const answered = asked.finally(() => {
      isAnswered = true;
    });
    answered.catch(() => undefined); // told below
    await this.#drive(this.#scheduler.nowMs + ANSWER_WITHIN_MS, () => isAnswered);
    if (!isAnswered) throw new SimulationError("the store did not answer within 5 s of virtual time");
    return answered;
  }

  #letters(): { readonly shard: number; readonly entry: EntryId; readonly letter: DeadLetter }[] {
    return [...this.#data.shards].flatMap(([shard, { dead }]) =>
      dead.entries.map(({ id, bytes }) => ({ shard, entry: id, letter: decodeDeadLetter(bytes) })),
    );
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    return this.#verb(async () => {
      this.#isClosed = true;
      this.#process?.kill();
      this.#watch.abandon();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** One after the other; whatever a verb sets off before it waits is under way already. */
  #verb<Result>(run: () => Promise<Result>): Promise<Result> {
    const done = this.#verbs.then(async () => {
      if (this.#isClosed) throw new SimulationError("the simulation is closed; start another one");
      const result = await run();
      const crash = this.#process?.crashes[0];
      if (crash !== undefined) throw new SimulationError("the runtime itself failed: this is a bug", { cause: crash });
      return result;
    });
    this.#verbs = done.catch(() => undefined);
    return done;
  }

  async #begin(bot: BotDefinition = this.#bot): Promise<void> {
    this.#bot = bot;
    this.#watch.abandon();
    this.#lives += 1;
    this.#process = new SimulatedProcess({
      scheduler: this.#scheduler,
      node: NODE,
      name: `life ${this.#lives}`,
      bots: () => [this.#watch.watch(bot)],
      config: this.#config,
      log: this.#watch.log(),
      store: (life) => {
        const store = new MemoryStore(this.#redis, this.#data);
        return new SimulatedStore(this.#scheduler, life, store, smoothWays);
      },
      channels: (life) => [{ ...this.#recipient.channel(this.#channel, this.#scheduler, life), order: this.#order }],
      wakeUps: (life, _shard, ring) => ({
        start: () => undefined,
        schedule: (key, delayMs) => void life.schedule("wake-up", delayMs, () => ring(key)),
        stop: () => Promise.resolve(),
      }),
    });
    const process = this.#process;
    const isSettled = (): boolean => process.notReady === undefined || process.crashes.length > 0;
    if (!(await this.#drive(this.#scheduler.nowMs + READY_WITHIN_MS, isSettled)))
      throw new SimulationError(`the process did not get ready: ${process.notReady}`);
    await this.#settle();
  }

  /** All that can happen without time passing. @throws SimulationError if a handler waits for something that does not come */
  async #settle(): Promise<void> {
    const hung = this.#hanging.size;
    await this.#drive(this.#scheduler.nowMs);
    if (this.#hanging.size === hung || this.#patienceMs === 0) return;
    const [run] = this.#watch.running.filter((each) => this.#hanging.has(each));
    throw new SimulationError(
      `the handler has waited ${this.#patienceMs} ms for something outside of the simulation (conversation ${run?.conversation}, message ${run?.messageId}): give the bot a stand-in for what it calls, or set patienceMs; nothing of the turn is committed`,
    );
  }

  /** Lets things happen, and time pass up to `endMs`, until `isSo` holds. @returns whether it does */
  async #drive(endMs: number, isSo: () => boolean = () => false): Promise<boolean> {
    await this.#scheduler.settle();
    while (!isSo()) {
      if (await this.#scheduler.step(this.#scheduler.nowMs)) continue;
      if (await this.#awaitHandlers()) continue;
      if (!(await this.#scheduler.step(endMs))) return isSo();
    }
    return true;
  }

  /** T2. @returns whether something can happen now that could not before */
  async #awaitHandlers(): Promise<boolean> {
    const runs = this.#watch.running.filter((run) => !this.#hanging.has(run));
    if (runs.length === 0) return false;
    const endMs = realNowMs() + this.#patienceMs;
    while (realNowMs() < endMs) {
      await new Promise((resolve) => realTimeout(resolve, 1));
      if (this.#scheduler.canMove) return true;
    }
    for (const run of runs) if (run.outcome === "running") this.#hanging.add(run);
    return this.#scheduler.canMove;
  }

  #checked(bot: BotDefinition<State> | undefined): BotDefinition | undefined {
    if (bot === undefined) return undefined;
    const checked = checkBot(bot, "bot");
    if (checked.name === this.#name) return checked;
    throw new SimulationError(`the bot is named ${checked.name}, but ${this.#name} is what is simulated`);
  }

  #idOf(conversation: string): ConversationId {
    return { bot: this.#name, channel: this.#channel, conversation: checkedId("a conversation", conversation) };
  }

  #record(conversation: string): Uint8Array | undefined {
    const key = conversationKey(this.#idOf(conversation));
    return this.#data.shard(shardOf(key, this.#config.shards)).records.get(key);
  }

  #inbound(to: ConversationId, { text, data, id, sequence }: UserMessage): Inbound {
    this.#ids += 1;
    if (typeof text !== "string" || !text.isWellFormed())
      throw new SimulationError("the text of a message is a well-formed string; nothing was sent");
    return {
      to,
      id: checkedId("a message's id", id ?? `m${this.#ids}`),
      text,
      ...(sequence !== undefined && { sequence: this.#checkedSequence(sequence) }),
      ...(data !== undefined && { data: freezePlain(structuredClone(data), "data") }),
    };
  }

  #checkedSequence(sequence: number): number {
    if (Number.isSafeInteger(sequence) && sequence >= 0) return sequence;
    throw new SimulationError("the sequence of a message is a whole number from 0; nothing was sent");
  }

  /** Requests of a sender that goes on until each is admitted. */
  #post(messages: readonly Inbound[], { within }: SendsOptions): Post[] {
    if (messages.length === 0) return [];
    if (within === undefined) return [this.#request(messages, 0)];
    const withinMs = durationMs(within);
    return messages.map((message) => this.#request([message], Math.round(this.#scheduler.random() * withinMs)));
  }

  #request(messages: readonly Inbound[], delayMs: number): Post {
    const post: Post = { isAdmitted: false, refusal: null };
    const attempt = (): void => {
      const again = this.#scheduler.schedule("request again", ANSWER_WITHIN_MS, attempt);
      void this.#process!.admit(messages).then((outcome) => {
        again.cancel();
        post.isAdmitted ||= outcome.kind === "admitted";
        if (outcome.kind === "admitted") return;
        post.refusal = outcome.kind === "full" ? `conversation ${outcome.conversation} is full` : outcome.reason;
        this.#scheduler.schedule("request again", Math.max(1, outcome.retryAfterMs), attempt);
      });
    };
    this.#scheduler.schedule("request", delayMs, attempt);
    return post;
  }
}

interface Post {
  isAdmitted: boolean;
  refusal: string | null;
}

function asReply({ text, data, expiresAt, part, parts }: Arrival): SimulatedReply {
  if (data === undefined && expiresAt === undefined && part === undefined) return text;
  return {
    text,
    ...(data !== undefined && { data }),
    ...(expiresAt !== undefined && { expiresAt }),
    ...(part !== undefined && parts !== undefined && { part, parts }),
  };
}

function checkedId(what: string, id: string): string {
  const bytes = typeof id === "string" && id.isWellFormed() ? Buffer.byteLength(id) : 0;
  if (bytes >= 1 && bytes <= ID_BYTES_MAX) return id;
  throw new SimulationError(`${what} is a well-formed string of 1 to ${ID_BYTES_MAX} bytes; nothing was sent`);
}

function checkedChannel(name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new SimulationError('a channel is named by lower case letters, digits and "-", beginning with a letter');
}
