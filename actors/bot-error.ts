// Bot error: what the log may say of an error that a bot's code threw.

import { PlainDataError } from "../src/domain/plain-data.ts";
import { ColloquyError, FloatingRejectionError, TerminalError } from "../src/errors.ts";
import { describeError } from "../src/log.ts";

/** A bot's error may quote the message, so its text stays out of the log; ours never do. */
export function describeBotError(error: unknown): unknown {
  if (error instanceof FloatingRejectionError) {
    return { ...(describeError(error) as object), reason: describeBotError(error.reason) };
  }
  if (error instanceof PlainDataError) return { name: error.name, reason: error.reason };
  if (error instanceof ColloquyError && !(error instanceof TerminalError)) return describeError(error);
  if (!(error instanceof Error)) return { name: typeof error };
  return { name: error.name, at: firstFrame(error) };
}

/** The line behind the message, and only if it is one of a stack: a message may have lines that begin with "at", too. */
function firstFrame({ name, message, stack = "" }: Error): string | undefined {
  const header = message === "" ? name : message;
  const from = stack.indexOf(header);
  const behind = from < 0 ? "" : stack.slice(from + header.length);
  return behind.startsWith("\n    at ") ? behind.split("\n", 2)[1]!.trim() : undefined;
}

/** One line of what `describeBotError` says, for the record. */
export function shortBotError(error: unknown): string {
  const { name, code, at } = describeBotError(error) as { name?: string; code?: string; at?: string };
  return [name, code, at]
    .filter((part) => part !== undefined)
    .join(" ")
    .slice(0, ERROR_TEXT_MAX);
}

/** In full, with what the bot wrote into it: only for where the message itself stands, too. */
export function fullBotError(error: unknown): string {
  if (error instanceof FloatingRejectionError) return `${error.code}: ${fullBotError(error.reason)}`;
  return String(error instanceof Error ? (error.stack ?? error) : error).slice(0, ERROR_TEXT_MAX * 4);
}

const ERROR_TEXT_MAX = 500;
