// Turn: one run of a bot's handler over one message or notice. It touches nothing outside itself but its journal; what it made is its
// result.
//
// Invariants
//   T1. What a failed, expired or stopped turn replied and sent goes nowhere, but for what `replyNow` had put out before; only a
//       `done` result reaches a commit.
//   T2. State and message are frozen before the handler sees them, and its result is frozen when it is taken (R4).
//   T3. now, random, uuid, keys and the ids of sends depend on the message's place alone, so a re-run of the turn sees the same ones.
//   T4. What few turns need (signal, random, log, steps) is made on first use.
//   T5. A re-run makes the same replies again, and as many as are out are dropped; bounds count each of them once, so a re-run is refused
//       what the first run was.
//   T6. A handler that waits for its context learns that its turn was cut off; it never waits for ever.

import { createHash } from "node:crypto";
import type { BotDefinition, Message, ReplyInput, StepOptions, TurnContext, TurnLog } from "../src/domain/bot.ts";
import { murmur3 } from "../src/domain/hash.ts";
import { type ConversationId, type ConversationKey, idempotencyPrefix } from "../src/domain/ids.ts";
import { StepWalk } from "../src/domain/journal.ts";
import type { InboxMessage, Reply } from "../src/domain/message.ts";
import { freezeAndMeasure, freezePlain, type Plain } from "../src/domain/plain-data.ts";
import { formatBorn, type Position } from "../src/domain/position.ts";
import type { DeliveryFailed, Notice } from "../src/domain/record.ts";
import {
  type ColloquyError,
  FloatingRejectionError,
  HandlerTimeoutError,
  NotAvailableError,
  TurnEndedError,
  TurnOutputError,
} from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import { insideTurn, outsideTurns, type RejectionOwner } from "../src/turn-attribution.ts";
import { describeBotError } from "./bot-error.ts";
import {
  checkedReply,
  checkedSend,
  type Send,
  type SendInput,
  type SendTarget,
  sizeOf,
  stepPlan,
} from "./turn-input.ts";
import type { TurnJournal } from "./turn-journal.ts";

export type { Send } from "./turn-input.ts";

export interface TurnBounds {
  readonly repliesMax: number;
  readonly replyBytesMax: number;
  readonly turnReplyBytesMax: number;
  readonly stateBytesMax: number;
  readonly sendsMax: number;
}

/** What the turn is about. */
export type TurnWork =
  | { readonly kind: "message"; readonly message: InboxMessage; readonly isLate: boolean }
  | { readonly kind: "notice"; readonly notice: Notice | DeliveryFailed };

export interface TurnInput {
  readonly bot: BotDefinition;
  readonly conversation: ConversationId;
  readonly key: ConversationKey;
  readonly born: Position;
  readonly seq: number;
  readonly state: Plain;
  readonly work: TurnWork;
  /** What now, random, uuid and derived ids depend on: the message's, or that of what the notice is about. */
  readonly position: Position;
  readonly journal: TurnJournal;
  readonly bounds: TurnBounds;
  /** How long the handler may take, ms. */
  readonly timeoutMs: number;
  readonly log: Log;
  /** Whether this app runs the bot and the channel: a message to another one would wait for ever. */
  readonly canReach: (to: ConversationId) => boolean;
  /** A promise that the turn left behind was rejected after its end; the log has told it. */
  readonly onStrayRejection?: () => void;
}

export type TurnResult =
  | {
      readonly kind: "done";
      readonly state: Plain;
      /** Those that are not out yet. */
      readonly replies: readonly Reply[];
      readonly sends: readonly Send[];
    }
  | { readonly kind: "failed"; readonly error: unknown };

const NO_REPLIES: readonly Reply[] = Object.freeze([]);
const NO_SENDS: readonly Send[] = Object.freeze([]);

export class Turn implements TurnContext, RejectionOwner {
  readonly #input: TurnInput;
  /** Those that are not out yet. */
  #replies: Reply[] | null = null;
  /** All that the handler made, those included that an earlier run had put out. */
  #repliesMade = 0;
  #replyBytes = 0;
  /** How many of them an earlier run had put out. */
  readonly #repliesBefore: number;
  #sends: Send[] | null = null;
  #sendBytes = 0;
  #walk: StepWalk | null = null;
  /** Ends the waits of the handler. */
  #waits: Set<Wait> | null = null;
  #isDone = false;
  #ended = false;
  #abort: AbortController | null = null;
  #random: (() => number) | null = null;
  #uuids = 0;
  #onSettled: ((result: TurnResult) => void) | null = null;
  get timeoutMs(): number {
    return this.#input.timeoutMs;
  }

  /** When `expire` is due, on the monotonic clock; kept for RunningTurns. */
  deadlineMs = 0;

  constructor(input: TurnInput) {
    this.#input = input;
    this.#repliesBefore = input.journal.repliesOut;
  }

  /**
   * Runs the handler; never throws.
   * @param onSettled called once with the result if the handler answered with a promise
   * @returns the result of a handler that answered at once, else null
   */
  run(onSettled: (result: TurnResult) => void): TurnResult | null {
    try {
      const handled: unknown = insideTurn(this, handle);
      if (!isPromiseLike(handled)) return this.#finish(handled);
      this.#onSettled = onSettled;
      // A thenable of another make may answer at once, twice or by throwing; the platform's promise is the same object.
      Promise.resolve(handled).then(
        (value) => this.#settle(this.#finish(value)),
        (error: unknown) => this.#settle(this.#fail(error)),
      );
      return null;
    } catch (error) {
      return this.#fail(error);
    }
  }

  /** Not for the handler: what `run` calls inside the turn. */
  handle(): unknown {
    const { bot, state, work } = this.#input;
    if (work.kind === "message") return bot.onMessage(state, this.#message(work.message, work.isLate), this);
    const { notice } = work;
    const { gap, poisoned, deliveryFailed } = bot.onNotice ?? {};
    switch (notice.kind) {
      case "gap":
        return gap === undefined ? state : gap(state, Object.freeze({ from: notice.from, to: notice.to }), this);
      case "poisoned":
        if (poisoned === undefined) return state;
        return poisoned(state, Object.freeze({ id: notice.id, error: notice.error }), this);
      case "delivery-failed":
        if (deliveryFailed === undefined) return state;
        return deliveryFailed(state, Object.freeze({ outSeq: notice.outSeq, reason: notice.reason }), this);
    }
  }

  /** Its time is up: it fails now, and whatever the handler does later is ignored. */
  expire(): void {
    const { bot, timeoutMs } = this.#input;
    this.#cutOff(
      new HandlerTimeoutError(
        `the handler of ${bot.name} ran longer than ${timeoutMs} ms; nothing of this turn was committed, the message runs again`,
      ),
    );
  }

  /** Its conversation is stopped here: the handler learns it from its signal, and nobody waits for it. */
  abandon(): void {
    this.#cutOff(new TurnEndedError("the conversation left this process; nothing of this turn was committed"));
  }

  /** A promise that its handler started was rejected, and nobody had awaited it. */
  rejected(reason: unknown): void {
    const { bot, conversation, seq, log, onStrayRejection } = this.#input;
    if (!this.#ended) {
      this.#cutOff(
        new FloatingRejectionError(
          reason,
          `a promise that the handler of ${bot.name} started and did not await was rejected; nothing of this turn was committed, the ` +
            "message runs again. Await what the handler starts",
        ),
      );
      return;
    }
    log.error(
      { ...conversation, seq, error: describeBotError(reason) },
      "a promise that the handler started and did not await was rejected after its turn; the turn is not affected. Await what the " +
        "handler starts",
    );
    onStrayRejection?.();
  }

  #cutOff(error: ColloquyError): void {
    this.#settle(this.#fail(error));
    insideTurn(this, () => this.#abort?.abort(error)); // whoever listens is the bot's code
    for (const { promise, reject } of this.#waits ?? []) {
      promise.catch(() => undefined); // it is no mistake of the handler if nobody awaits this one
      reject(error); // T6
    }
  }

  reply(input: ReplyInput): void {
    this.#assertOpen("reply");
    const { bounds } = this.#input;
    if (this.#repliesMade >= bounds.repliesMax)
      throw new TurnOutputError(
        `a turn may make ${bounds.repliesMax} replies (repliesMax); nothing of it was committed`,
      );
    const reply = checkedReply(input, this.#input.position.entry.ms);
    const bytes = sizeOf(reply);
    this.#replyBytes += bytes;
    if (bytes > bounds.replyBytesMax)
      throw new TurnOutputError(
        `reply ${this.#repliesMade + 1} of the turn takes ${bytes} bytes, the bound is ${bounds.replyBytesMax} (replyBytesMax); nothing was committed`,
      );
    if (this.#replyBytes > bounds.turnReplyBytesMax)
      throw new TurnOutputError(
        `the replies of the turn take over ${bounds.turnReplyBytesMax} bytes together (turnReplyBytesMax); nothing was committed`,
      );
    this.#repliesMade += 1;
    if (this.#repliesMade <= this.#repliesBefore) return; // T5
    this.#replies ??= [];
    this.#replies.push(reply);
  }

  now(): Date {
    this.#assertOpen("now");
    return new Date(this.#input.position.entry.ms);
  }

  random(): number {
    this.#assertOpen("random");
    this.#random ??= seededRandom(this.#place());
    return this.#random();
  }

  /** Of a hash, since 32 bits of seed would make the same UUID twice within 100,000 turns. */
  uuid(): string {
    this.#assertOpen("uuid");
    this.#uuids += 1;
    const hash = createHash("sha256").update(`${this.#place()} ${this.#uuids}`).digest("hex");
    const variant = (8 | (Number.parseInt(hash[16]!, 16) & 3)).toString(16);
    return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-4${hash.slice(13, 16)}-${variant}${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
  }

  /** A name without an effect, and a step that outlives the run asks for it in a later try: so at any time. */
  idempotencyKey(name = "turn"): string {
    const { conversation, born, position } = this.#input;
    // Not by `seq`: the turn after one that was set aside has the same.
    const turn = `${idempotencyPrefix(conversation, formatBorn(born))}${formatBorn(position)}${this.#noticeName(".")}`;
    return `${turn}~${encodeURIComponent(name).replaceAll("~", "%7E")}`;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#ended) this.#abort.abort(new TurnEndedError("the turn has ended"));
    return this.#abort.signal;
  }

  get log(): TurnLog {
    const { conversation, seq, log } = this.#input;
    const line = log.child({
      bot: conversation.bot,
      channel: conversation.channel,
      conversation: conversation.conversation,
      seq,
    });
    return {
      info: (message, fields) => line.info(fields ?? {}, message),
      warn: (message, fields) => line.warn(fields ?? {}, message),
      error: (message, fields) => line.error(fields ?? {}, message),
    };
  }

  replyNow(): Promise<void> {
    return this.#wait("replyNow", async () => {
      const { journal } = this.#input;
      await journal.settled(); // R4
      if (this.#isDone || this.#replies === null) return; // they leave with the commit of the turn, or there is none
      this.#assertOpen("replyNow");
      const replies = this.#replies;
      journal.sendOut(replies);
      this.#replies = null;
      await journal.settled();
    });
  }

  // biome-ignore lint/suspicious/noConfusingVoidType: as the contract has it
  step<Result extends Plain | undefined | void>(
    name: string,
    run: (signal: AbortSignal) => Promise<Result> | Result,
    options?: StepOptions,
  ): Promise<Result> {
    return this.#wait("step", () => {
      const plan = stepPlan(name, run, options, (part) => insideTurn(this, part));
      this.#walk ??= new StepWalk();
      const mayBegin = () => this.#assertOpen("step");
      return this.#input.journal.step(this.#walk, plan, mayBegin) as Promise<Result>; // what `run` gave, frozen
    });
  }

  timer(): void {
    this.#assertOpen("timer");
    throw new NotAvailableError("ctx.timer");
  }

  cancel(): void {
    this.#assertOpen("cancel");
    throw new NotAvailableError("ctx.cancel");
  }

  send(to: SendTarget, message: SendInput): void {
    this.#assertOpen("send");
    const { bounds, conversation, work, canReach } = this.#input;
    const count = this.#sends?.length ?? 0;
    if (count >= bounds.sendsMax)
      throw new TurnOutputError(`a turn may make ${bounds.sendsMax} sends (sendsMax); nothing of it was committed`);
    const checked = checkedSend(to, message, conversation, bounds.replyBytesMax);
    if (!canReach(checked.to))
      throw new TurnOutputError(
        "ctx.send names a bot or channel that this app does not run; nothing of the turn was committed",
      );
    this.#sendBytes += sizeOf(checked);
    if (this.#sendBytes > bounds.turnReplyBytesMax)
      throw new TurnOutputError(
        `what the turn sends takes over ${bounds.turnReplyBytesMax} bytes together (turnReplyBytesMax); nothing of it was committed`,
      );
    const before = work.kind === "message" ? (work.message.extra?.hops ?? 0) : 0;
    this.#sends ??= [];
    this.#sends.push({ ...checked, id: this.#sendId(count), hops: before + 1, from: conversation });
  }

  end(): void {
    this.#assertOpen("end");
    throw new NotAvailableError("ctx.end");
  }

  #message(message: InboxMessage, isLate: boolean): Message {
    const { conversation, seq } = this.#input;
    const given: { -readonly [Key in keyof Message]: Message[Key] } = {
      id: message.id,
      conversation: conversation.conversation,
      channel: conversation.channel,
      seq,
      text: message.text,
    };
    if (message.sequence !== undefined) given.sequence = message.sequence;
    if (message.dataJson !== "") given.data = freezePlain(JSON.parse(message.dataJson), "data");
    if (message.sentAtMs !== undefined) given.sentAt = new Date(message.sentAtMs).toISOString();
    if (isLate) given.late = true;
    const { extra } = message;
    if (extra !== null) {
      if (extra.kind !== undefined) given.kind = extra.kind;
      if (extra.about !== undefined) given.about = extra.about;
      if (extra.from !== undefined) given.from = Object.freeze({ ...extra.from });
      if (extra.redrives !== undefined) given.redriven = true;
    }
    return Object.freeze(given); // T2
  }

  #finish(value: unknown): TurnResult {
    if (this.#ended) return this.#fail(new TurnEndedError("the turn has ended"));
    try {
      if (value === undefined)
        throw new TurnOutputError(
          `the handler of ${this.#input.bot.name} returned no state; return the new state, or the old one unchanged`,
        );
      const size = freezeAndMeasure(value, "state"); // T2
      const state = value as Plain;
      assertStateFits(state, size, this.#input.bounds.stateBytesMax);
      this.#input.journal.assertAllAsked(this.#walk);
      this.#ended = true;
      this.#isDone = true;
      return { kind: "done", state, replies: this.#replies ?? NO_REPLIES, sends: this.#sends ?? NO_SENDS };
    } catch (error) {
      return this.#fail(error);
    }
  }

  #fail(error: unknown): TurnResult {
    this.#ended = true; // T1
    return { kind: "failed", error };
  }

  /** What the handler waits for. The promise is the handler's; what is done for it is the runtime's. */
  #wait<Value>(what: string, begin: () => Promise<Value>): Promise<Value> {
    const { promise, resolve, reject } = insideTurn(this, () => newWait<Value>());
    const wait = { promise, reject };
    try {
      this.#assertOpen(what);
      this.#waits ??= new Set();
      this.#waits.add(wait);
      outsideTurns(() =>
        begin()
          .then(resolve, reject)
          .finally(() => this.#waits!.delete(wait)),
      );
    } catch (error) {
      reject(error);
    }
    return promise;
  }

  #settle(result: TurnResult): void {
    const onSettled = this.#onSettled;
    this.#onSettled = null; // T1: what comes after the end is ignored
    onSettled?.(result);
  }

  #assertOpen(what: string): void {
    if (this.#ended)
      throw new TurnEndedError(
        `ctx.${what} was called after its turn had ended; it had no effect. Await what the handler starts`,
      );
  }

  /** Of a hash, as what it is made of may be longer than an id can be. */
  #sendId(index: number): string {
    return `send-${createHash("sha256").update(`${this.#place()} send ${index}`).digest("hex").slice(0, 40)}`;
  }

  /**
   * The conversation is part of it: positions of two shards may be equal. A notice has the position of what it is about, whose own turn
   * may come as well.
   */
  #place(): string {
    const { born, position, key } = this.#input;
    return `${formatBorn(born)} ${formatBorn(position)} ${key}${this.#noticeName(" ")}`;
  }

  /** Tells a notice from the message at the same position, and from other notices there. Empty for a message. */
  #noticeName(separator: string): string {
    const { work } = this.#input;
    if (work.kind === "message") return "";
    const { notice } = work;
    const parts = notice.kind === "gap" ? [notice.kind, notice.from, notice.to] : [notice.kind];
    return parts.map((part) => `${separator}${part}`).join("");
  }
}

interface Wait {
  readonly promise: Promise<unknown>;
  readonly reject: (error: unknown) => void;
}

function newWait<Value>() {
  let resolve: (value: Value) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<Value>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

const handle = (turn: Turn): unknown => turn.handle();

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/** The estimate is at most six times too small, so most states are never measured. */
function assertStateFits(state: Plain, size: number, bytesMax: number): void {
  if (size * 6 <= bytesMax) return;
  const bytes = Buffer.byteLength(JSON.stringify(state));
  if (bytes > bytesMax)
    throw new TurnOutputError(
      `the state takes ${bytes} bytes, the bound is ${bytesMax} (stateBytesMax); nothing of the turn was committed`,
    );
}

/** mulberry32, seeded by the message's place. */
function seededRandom(place: string): () => number {
  let a = murmur3(Buffer.from(place));
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
