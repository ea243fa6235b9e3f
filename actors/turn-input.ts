// Turn input: what a handler hands to its context, checked. Pure.

import { isDate } from "node:util/types";
import type { Duration, ReplyFields, ReplyInput, StepOptions } from "../src/domain/bot.ts";
import { durationMs } from "../src/domain/duration.ts";
import { type ConversationId, ID_BYTES_MAX, NAME_PATTERN } from "../src/domain/ids.ts";
import { STEP_NAME_BYTES_MAX, STEP_RETRIES_MAX, STEP_TIMEOUT_MS_MAX } from "../src/domain/journal.ts";
import type { Reply } from "../src/domain/message.ts";
import { freezePlain, type Plain } from "../src/domain/plain-data.ts";
import { timestampMs } from "../src/domain/timestamp.ts";
import { TurnOutputError } from "../src/errors.ts";
import type { StepPlan } from "./running-step.ts";

/** A message to another conversation. It leaves with the commit of the turn. */
export interface Send {
  readonly to: ConversationId;
  readonly text: string;
  readonly data?: Plain;
  /** The same in every re-run of the turn. */
  readonly id: string;
  /** How many sends led here, this one included (attack B17). */
  readonly hops: number;
  readonly from: ConversationId;
}

/** The last moment that a Date can say. */
const DATE_MS_MAX = 8_640_000_000_000_000;

export interface SendTarget {
  readonly bot?: string;
  readonly channel?: string;
  readonly conversation: string;
}

export interface SendInput {
  readonly text: string;
  readonly data?: Plain;
}

/**
 * @param nowMs what `ctx.now()` says
 * @throws TurnOutputError, PlainDataError
 */
export function checkedReply(input: ReplyInput, nowMs: number): Reply {
  if (typeof input === "string") return { text: wellFormed(input, "a reply") };
  if (typeof input !== "object" || input === null || typeof input.text !== "string") {
    throw refused("ctx.reply takes a string or { text, data, expiresAt, expiresIn }");
  }
  const text = wellFormed(input.text, "a reply");
  const expiresAtMs = expiryMs(input, nowMs);
  return {
    text,
    ...(input.data !== undefined && { data: freezePlain(input.data, "reply.data") }),
    ...(expiresAtMs !== null && { expiresAtMs }),
  };
}

/** Of a moment in the past, too: a turn that runs late may make a reply that is of no use any more. Null for none. */
function expiryMs({ expiresAt, expiresIn }: ReplyFields, nowMs: number): number | null {
  if (expiresIn === undefined) return expiresAt === undefined ? null : momentMs(expiresAt);
  if (expiresAt !== undefined) throw refused("a reply has expiresAt and expiresIn, and takes one of them");
  const ms = durationOrNull(expiresIn);
  if (ms !== null && nowMs + ms <= DATE_MS_MAX) return nowMs + ms;
  throw refused('expiresIn of a reply is no length of time; take ms, or e.g. "30s", "5m", "1h"');
}

function momentMs(moment: unknown): number {
  const ms = isDate(moment) ? moment.getTime() : timestampMs(moment);
  if (ms !== null && !Number.isNaN(ms)) return ms;
  const what = 'a valid Date, nor ISO 8601 with an offset, as "2024-05-17T09:30:00Z"';
  throw refused(`expiresAt of a reply is neither ${what}; for a length of time take expiresIn`);
}

export const sizeOf = (reply: Reply): number =>
  Buffer.byteLength(reply.text) + (reply.data === undefined ? 0 : Buffer.byteLength(JSON.stringify(reply.data)));

/**
 * @param own       the conversation that sends
 * @param bytesMax  text and data together, `replyBytesMax`
 * @throws TurnOutputError, PlainDataError
 */
export function checkedSend(
  to: SendTarget,
  message: SendInput,
  own: ConversationId,
  bytesMax: number,
): Pick<Send, "to" | "text" | "data"> {
  if (typeof to !== "object" || to === null || typeof message !== "object" || message === null) {
    throw refused("ctx.send takes { bot, channel, conversation } and { text, data }");
  }
  const { bot = own.bot, channel = own.channel, conversation } = to;
  assertName(bot, "bot");
  assertName(channel, "channel");
  assertId(conversation);
  if (typeof message.text !== "string") throw refused("the message of ctx.send has no text");
  const text = wellFormed(message.text, "a message of ctx.send");
  const content: Reply =
    message.data === undefined ? { text } : { text, data: freezePlain(message.data, "the data of ctx.send") };
  const bytes = sizeOf(content);
  if (bytes > bytesMax) {
    throw refused(`a message of ctx.send takes ${bytes} bytes, the bound is ${bytesMax} (replyBytesMax)`);
  }
  return { to: Object.freeze({ bot, channel, conversation }), ...content };
}

/**
 * @param within what runs the bot's code
 * @throws TurnOutputError
 */
export function stepPlan(
  name: unknown,
  run: (signal: AbortSignal) => unknown,
  options: StepOptions | undefined,
  within: StepPlan["within"],
): StepPlan {
  if (typeof name !== "string" || name === "" || !name.isWellFormed()) {
    throw refused("the name of a step is no text, empty, or holds half of a surrogate pair");
  }
  if (Buffer.byteLength(name) > STEP_NAME_BYTES_MAX) {
    throw refused(`the name of a step takes more than ${STEP_NAME_BYTES_MAX} bytes`);
  }
  if (typeof run !== "function") throw refused(`step ${name} has no function to run`);
  const { retry = 0, timeout } = options ?? {};
  if (!Number.isInteger(retry) || retry < 0 || retry > STEP_RETRIES_MAX) {
    throw refused(`retry of step ${name} is not a whole number from 0 to ${STEP_RETRIES_MAX}`);
  }
  return { name, run, within, retries: retry, timeoutMs: timeout === undefined ? null : stepTimeoutMs(name, timeout) };
}

function stepTimeoutMs(name: string, timeout: NonNullable<StepOptions["timeout"]>): number {
  const ms = durationOrNull(timeout) ?? 0;
  if (ms >= 1 && ms <= STEP_TIMEOUT_MS_MAX) return ms;
  throw refused(`timeout of step ${name} is not from 1 ms to 24 h; take ms, or e.g. "500ms", "2s", "5m"`);
}

/** Null for what is none. */
function durationOrNull(duration: Duration): number | null {
  try {
    return durationMs(duration);
  } catch {
    return null;
  }
}

function assertName(name: unknown, what: string): void {
  if (typeof name === "string" && NAME_PATTERN.test(name)) return;
  throw refused(`the ${what} that ctx.send names can be none: lower case letters, digits and "-", at most 64`);
}

function assertId(conversation: unknown): asserts conversation is string {
  if (typeof conversation !== "string" || !conversation.isWellFormed()) {
    throw refused("the conversation that ctx.send names is no text that UTF-8 can carry");
  }
  const bytes = Buffer.byteLength(conversation);
  if (bytes < 1 || bytes > ID_BYTES_MAX) {
    throw refused(`the conversation that ctx.send names takes ${bytes} bytes; an id has 1 to ${ID_BYTES_MAX}`);
  }
}

function wellFormed(text: string, what: string): string {
  if (text.isWellFormed()) return text;
  throw refused(`the text of ${what} holds half of a surrogate pair, which UTF-8 cannot carry`);
}

const refused = (what: string): TurnOutputError => new TurnOutputError(`${what}; nothing of the turn was committed`);
