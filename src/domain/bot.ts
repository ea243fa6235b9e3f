// Bot: the contract with the engineer who writes one. A bot is a function from state and message to state and replies.

import type { Plain } from "./plain-data.ts";

/** A length of time in ms, or e.g. "500ms", "2s", "5m", "1h", "7d". */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

/** What a turn is given. Frozen. */
export interface Message {
  readonly id: string;
  readonly conversation: string;
  readonly channel: string;
  /** Local number of the turn in its conversation, from 1, without gaps. */
  readonly seq: number;
  /** The outside's own sequence, where the channel has one. */
  readonly sequence?: number;
  readonly text: string;
  readonly data?: Plain;
  readonly sentAt?: string;
  /** It came after what follows it had been processed (ordering `available` only). */
  readonly late?: boolean;
  /** An edit or a reaction, and the id of the message that it is about. */
  readonly kind?: "edit" | "reaction";
  readonly about?: string;
  /** The conversation whose turn sent it. */
  readonly from?: { readonly bot: string; readonly channel: string; readonly conversation: string };
  /** It had been set aside as a dead letter, and an operator sent it again. */
  readonly redriven?: boolean;
}

/** A reply: text, or text with more. */
export type ReplyInput = string | ReplyFields;

/**
 * A reply that is of no use later says when: it is not sent any more from then on, and becomes a dead letter. What was sent is sent, so
 * a reply whose last attempt had an unknown outcome may have arrived. In a transcript, which has it with the commit, nothing expires.
 */
export interface ReplyFields {
  readonly text: string;
  readonly data?: Plain;
  /** A moment: a Date, or ISO 8601 with an offset, as "2024-05-17T09:30:00Z". */
  readonly expiresAt?: string | Date;
  /** The same, counted from `ctx.now()`, so from the admission of the message and equal in each run. Not beside `expiresAt`. */
  readonly expiresIn?: Duration;
}

export interface StepOptions {
  /** How many more tries after a failed one, 0 to 100; default 0. A TerminalError is not tried again. */
  readonly retry?: number;
  /** Longest try, up to 24 h; its signal aborts then, and it counts as failed. Default: as long as it takes. */
  readonly timeout?: Duration;
}

/**
 * What a turn may do besides returning its state. After the turn ended all but `log`, `signal` and `idempotencyKey` fail with
 * TurnEndedError, and do nothing.
 */
export interface TurnContext {
  /**
   * Buffers a reply; it leaves after the commit of this turn, in order.
   * @throws TurnOutputError it is no reply, its `expiresAt` or `expiresIn` is none, or it is over `repliesMax`, `replyBytesMax` or
   *         `turnReplyBytesMax`
   * @throws PlainDataError its data is no plain JSON
   */
  reply(reply: ReplyInput): void;
  /**
   * Commits the replies so far in the middle of a long turn; resolves when they are durable. They have left then: a re-run of the turn
   * makes them again, and as many as were out are dropped.
   */
  replyNow(): Promise<void>;
  /**
   * Runs a side effect once: its result is journaled, and a re-run of the turn returns it instead of running it again. It begins when all
   * that came before it in the conversation is durable. A process that dies between effect and journal runs it again, so pass
   * `ctx.idempotencyKey(name)` to the outside. One that an earlier run of the turn left running is waited for, not run beside.
   *
   * A step is its name and how many of that name came before it, so steps that run side by side need names of their own. Each run must
   * ask for the same steps: what the handler decides by must come from state, message, context or earlier steps.
   * @param name 1 to 200 bytes; it stands in logs, so no user's text
   * @param run its result is plain JSON data or undefined, and comes back frozen; the signal aborts at `timeout` and when nobody can use
   *        the result any more, not when the turn's own time is up
   * @throws what `run` threw last: a failed step is not journaled and runs again in the next run. To keep a failure, return it
   * @throws StepTimeoutError the last try took too long
   * @throws StepMismatchError an earlier run of the turn did another step at this place
   * @throws TurnOutputError a bad name or option, or more than `stepsMax` steps or `journalBytesMax` bytes
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: what an async function without a result gives
  step<Result extends Plain | undefined | void>(
    name: string,
    run: (signal: AbortSignal) => Promise<Result> | Result,
    options?: StepOptions,
  ): Promise<Result>;
  /** Sets, or replaces, a durable timer; `onTimer[name]` runs when it is due. */
  timer(name: string, delay: Duration): void;
  cancel(name: string): void;
  /**
   * Sends a message to another conversation of this or another bot: exactly once, in order, with the commit of this turn.
   * @param to bot and channel are the turn's own where they are left out
   * @throws TurnOutputError no such name can be, or more than `sendsMax` sends or `replyBytesMax` bytes
   */
  send(
    to: { readonly bot?: string; readonly channel?: string; readonly conversation: string },
    message: { readonly text: string; readonly data?: Plain },
  ): void;
  /** Ends this life of the conversation after the turn. */
  end(): void;
  /** Time of admission of the message: the same in every re-run of the turn. */
  now(): Date;
  /** In [0, 1), derived from the message's place: the same in every re-run. */
  random(): number;
  /** A version 4 UUID, the same in every re-run. */
  uuid(): string;
  /** A key for an outside call made by this turn, the same in every re-run; also for a step that outlives the run that began it. */
  idempotencyKey(name?: string): string;
  /** Aborts when the turn's time is up or its incarnation ended. */
  readonly signal: AbortSignal;
  /** Log lines with the conversation's ids on them. */
  readonly log: TurnLog;
}

export interface TurnLog {
  info(message: string, fields?: Readonly<Record<string, Plain>>): void;
  warn(message: string, fields?: Readonly<Record<string, Plain>>): void;
  error(message: string, fields?: Readonly<Record<string, Plain>>): void;
}

export type Handled<State> = State | Promise<State>;

export interface GapNotice {
  readonly from: number;
  readonly to: number;
}
export interface PoisonedNotice {
  readonly id: string;
  readonly error: string;
}
export interface DeliveryFailedNotice {
  readonly outSeq: number;
  readonly reason: string;
}

export interface BotDefinition<State = Plain> {
  /** Stands in URLs, keys and ids: lower case letters, digits and "-", at most 64. */
  readonly name: string;
  /** A safe integer >= 1; raise it when the shape of the state changes, and add the step to `migrate`. */
  readonly version: number;
  initialState(): State;
  /** `migrate[n]` makes a state of version n + 1 from one of version n. */
  readonly migrate?: Readonly<Record<number, (old: unknown) => unknown>>;
  /** One turn. State and message are frozen; what is returned is the new state, plain JSON data. */
  onMessage(state: State, message: Message, ctx: TurnContext): Handled<State>;
  readonly onTimer?: Readonly<Record<string, (state: State, ctx: TurnContext) => Handled<State>>>;
  readonly onNotice?: {
    readonly gap?: (state: State, notice: GapNotice, ctx: TurnContext) => Handled<State>;
    readonly poisoned?: (state: State, notice: PoisonedNotice, ctx: TurnContext) => Handled<State>;
    readonly deliveryFailed?: (state: State, notice: DeliveryFailedNotice, ctx: TurnContext) => Handled<State>;
  };
  /** `strict` (default): what cannot go on in order stops its conversation. `available`: it is set aside, the rest goes on. */
  readonly ordering?: "strict" | "available";
  readonly maxAttempts?: number;
  readonly poisonMinMs?: number;
  /** Longest turn, ms; default 30,000, at most 24 h. */
  readonly handlerTimeoutMs?: number;
  readonly idleTimeoutMs?: number;
  readonly retentionMs?: number;
  /** How long a repeat of a message id is recognised, ms; default 600,000. */
  readonly dedupeMs?: number;
}

/** Identity with inference: gives a bot's state its type. */
export function defineBot<State>(bot: BotDefinition<State>): BotDefinition<State> {
  return bot;
}
