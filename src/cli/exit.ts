// Exit: what a failure is called on stderr, and the code that the process ends with.
//
// Invariants
//   X1. One line for each problem, `colloquy: <key>: <what> (<hint>)`; a stack only at log level debug.
//   X2. What was thrown while messages flow may quote one, so of an error that is not ours only its name and place are told.

import { ConfigProblemsError } from "../config-problems.ts";
import {
  ColloquyError,
  ConfigError,
  DataFolderError,
  EmbeddedRedisError,
  StoreNotReadyError,
  StoreUnavailableError,
  StoreUnsafeError,
} from "../errors.ts";

export const EXIT = { ok: 0, failed: 1, usage: 2, store: 3 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

const STORE_ERRORS = [StoreUnavailableError, StoreNotReadyError, StoreUnsafeError, EmbeddedRedisError];

export interface FailureOptions {
  /** Show the stack and everything else. */
  readonly isDebug: boolean;
  /** Whether messages may have flowed when it happened (X2). */
  readonly isRunning: boolean;
}

/** A full disk under the data folder is the store's failure; a folder that cannot be used is a wrong setting. */
export function exitCodeOf(error: unknown): ExitCode {
  if (STORE_ERRORS.some((kind) => error instanceof kind) || isDiskFull(error)) return EXIT.store;
  if (error instanceof ConfigError || error instanceof DataFolderError) return EXIT.usage;
  return EXIT.failed;
}

/** The text for stderr, each line ended. */
export function failureText(error: unknown, { isDebug, isRunning }: FailureOptions): string {
  const lines = linesOf(error, isRunning && !isDebug).map((line) => `colloquy: ${oneLine(line)}\n`);
  if (isDebug && error instanceof Error && error.stack) lines.push(`${error.stack}\n`);
  return lines.join("");
}

function linesOf(error: unknown, hidesText: boolean): readonly string[] {
  if (error instanceof ConfigProblemsError) return error.problems.map(({ message }) => message);
  if (error instanceof ConfigError) return [error.message];
  if (error instanceof DataFolderError) return [`dataDir: ${error.message}`];
  if (STORE_ERRORS.some((kind) => error instanceof kind)) return [`redis: ${(error as Error).message}`];
  if (error instanceof ColloquyError) return [`${error.code}: ${error.message}`];
  if (isDiskFull(error))
    return ["dataDir: the disk is full; nothing was admitted that is not stored (free some space)"];
  const hint = "--log-level debug shows all of it";
  if (!(error instanceof Error))
    return [`crash: ${hidesText ? "something that is no error" : String(error)} (${hint})`];
  return [`crash: ${error.name}${hidesText ? "" : `: ${error.message}`}${codeOf(error)}${placeOf(error)} (${hint})`];
}

function codeOf(error: Error): string {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" && /^[A-Z][A-Z0-9_]{1,40}$/.test(code) && !error.message.includes(code)
    ? ` ${code}`
    : "";
}

/** The first line of the stack that is not node's own, as ` at bot.ts:3:14`. */
function placeOf(error: Error): string {
  const frames = error.stack?.split("\n").filter((line) => /^\s+at /.test(line) && !line.includes("node:")) ?? [];
  const place = /([^/\\()\s]+:\d+:\d+)\)?$/.exec(frames[0] ?? "")?.[1];
  return place ? ` at ${place}` : "";
}

function isDiskFull(error: unknown): boolean {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: unknown };
  return code === "ENOSPC" || (cause !== undefined && cause !== error && isDiskFull(cause));
}

/** Line breaks and what else would move a terminal's cursor or change its colours. */
function oneLine(text: string): string {
  return text.replace(/\s*[\r\n]+\s*/g, " ").replace(/\p{Cc}/gu, "?");
}
