// Turn: one run of a bot's handler over one message. It touches nothing outside itself; what it made is its result.
//
// Invariants
//   T1. What a failed, expired or stopped turn replied goes nowhere; only a `done` result reaches a commit.
//   T2. State and message are frozen before the handler sees them, and its result is frozen when it is taken (R4).
//   T3. now, random and uuid depend on the message's place alone, so a re-run of the turn sees the same ones.
//   T4. What few turns need (signal, random, log) is made on first use.

import { createHash } from "node:crypto";
import type { BotDefinition, Message, ReplyInput, TurnContext, TurnLog } from "../src/domain/bot.ts";
import { murmur3 } from "../src/domain/hash.ts";
import { type ConversationId, idempotencyKey } from "../src/domain/ids.ts";
import type { InboxMessage, Reply } from "../src/domain/message.ts";
import { freezeAndMeasure, freezePlain, type Plain } from "../src/domain/plain-data.ts";
import { formatBorn, type Position } from "../src/domain/position.ts";
import {
  type ColloquyError,
  HandlerTimeoutError,
  NotAvailableError,
  TurnEndedError,
  TurnOutputError,
} from "../src/errors.ts";
import type { Log } from "../src/log.ts";

export interface TurnBounds {
  readonly repliesMax: number;
  readonly replyBytesMax: number;
  readonly turnReplyBytesMax: number;
  readonly stateBytesMax: number;
}

export interface TurnInput {
  readonly bot: BotDefinition;
  readonly conversation: ConversationId;
  readonly born: Position;
  readonly seq: number;
  readonly state: Plain;
  readonly message: InboxMessage;
  readonly bounds: TurnBounds;
  /** How long the handler may take, ms. */
  readonly timeoutMs: number;
  readonly log: Log;
}

export type TurnResult =
  | { readonly kind: "done"; readonly state: Plain; readonly replies: readonly Reply[] }
  | { readonly kind: "failed"; readonly error: unknown };

const NO_REPLIES: readonly Reply[] = Object.freeze([]);

export class Turn implements TurnContext {
  readonly #input: TurnInput;
  #replies: Reply[] | null = null;
  #replyBytes = 0;
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
  }

  /**
   * Runs the handler; never throws.
   * @param onSettled called once with the result if the handler answered with a promise
   * @returns the result of a handler that answered at once, else null
   */
  run(onSettled: (result: TurnResult) => void): TurnResult | null {
    const { bot, state } = this.#input;
    try {
      const handled: unknown = bot.onMessage(state, this.#message(), this);
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

  #cutOff(error: ColloquyError): void {
    this.#settle(this.#fail(error));
    this.#abort?.abort(error);
  }

  reply(input: ReplyInput): void {
    this.#assertOpen("reply");
    const { bounds } = this.#input;
    this.#replies ??= [];
    if (this.#replies.length >= bounds.repliesMax)
      throw new TurnOutputError(`a turn may make ${bounds.repliesMax} replies; nothing of it was committed`);
    const reply = checkedReply(input);
    const bytes = sizeOf(reply);
    this.#replyBytes += bytes;
    if (bytes > bounds.replyBytesMax)
      throw new TurnOutputError(
        `reply ${this.#replies.length + 1} of the turn takes ${bytes} bytes, the bound is ${bounds.replyBytesMax}; nothing was committed`,
      );
    if (this.#replyBytes > bounds.turnReplyBytesMax)
      throw new TurnOutputError(
        `the replies of the turn take over ${bounds.turnReplyBytesMax} bytes together; nothing was committed`,
      );
    this.#replies.push(reply);
  }

  now(): Date {
    this.#assertOpen("now");
    return new Date(this.#input.message.position.entry.ms);
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

  idempotencyKey(name = "turn"): string {
    this.#assertOpen("idempotencyKey");
    const { conversation, born, seq } = this.#input;
    return `${idempotencyKey(conversation, formatBorn(born), seq)}~${encodeURIComponent(name).replaceAll("~", "%7E")}`;
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
    return Promise.reject(new NotAvailableError("ctx.replyNow"));
  }

  step(): Promise<never> {
    return Promise.reject(new NotAvailableError("ctx.step"));
  }

  timer(): void {
    throw new NotAvailableError("ctx.timer");
  }

  cancel(): void {
    throw new NotAvailableError("ctx.cancel");
  }

  send(): void {
    throw new NotAvailableError("ctx.send");
  }

  end(): void {
    throw new NotAvailableError("ctx.end");
  }

  #message(): Message {
    const { message, conversation, seq } = this.#input;
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
      this.#ended = true;
      return { kind: "done", state, replies: this.#replies ?? NO_REPLIES };
    } catch (error) {
      return this.#fail(error);
    }
  }

  #fail(error: unknown): TurnResult {
    this.#ended = true; // T1
    return { kind: "failed", error };
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

  /** The conversation is part of it: positions of two shards may be equal. */
  #place(): string {
    const { born, message } = this.#input;
    return `${formatBorn(born)} ${formatBorn(message.position)} ${message.key}`;
  }
}

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

function checkedReply(input: ReplyInput): Reply {
  if (typeof input === "string") return { text: wellFormed(input) };
  if (typeof input !== "object" || input === null || typeof input.text !== "string") {
    throw new TurnOutputError("ctx.reply takes a string or { text, data }; nothing was committed");
  }
  if (input.expiresAt !== undefined) throw new NotAvailableError("reply.expiresAt");
  const text = wellFormed(input.text);
  return input.data === undefined ? { text } : { text, data: freezePlain(input.data, "reply.data") };
}

function wellFormed(text: string): string {
  if (text.isWellFormed()) return text;
  throw new TurnOutputError(
    "the text of a reply holds half of a surrogate pair, which UTF-8 cannot carry; nothing was committed",
  );
}

/** The estimate is at most six times too small, so most states are never measured. */
function assertStateFits(state: Plain, size: number, bytesMax: number): void {
  if (size * 6 <= bytesMax) return;
  const bytes = Buffer.byteLength(JSON.stringify(state));
  if (bytes > bytesMax)
    throw new TurnOutputError(
      `the state takes ${bytes} bytes, the bound is ${bytesMax}; nothing of the turn was committed`,
    );
}

const sizeOf = (reply: Reply): number =>
  Buffer.byteLength(reply.text) + (reply.data === undefined ? 0 : Buffer.byteLength(JSON.stringify(reply.data)));

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
