// Store errors: the one place where what ioredis and Redis say becomes an error of ours. Nobody above reads their texts.
//
// Invariants
//   X1. `StoreNotReadyError` only if the script certainly did not start; an error that a command raised inside a running script
//       carries the script's hash and is corrupt, whatever its code, since Lua does not roll back.
//   X2. Nothing of a command's arguments gets out: ioredis hangs them on its errors, and a log would print the payloads.

import {
  type ColloquyError,
  StoreCorruptError,
  StoreNotReadyError,
  StoreUnavailableError,
  StoreUnsafeError,
} from "../errors.ts";

/** First words of the replies with which Redis refuses to start a command. */
const NOT_RUN: ReadonlySet<string> = new Set([
  "LOADING",
  "BUSY",
  "READONLY",
  "MISCONF",
  "OOM",
  "CLUSTERDOWN",
  "TRYAGAIN",
  "MASTERDOWN",
  "NOREPLICAS",
  "NOSCRIPT",
  "NOAUTH",
]);

/** Refused by an ACL before it ran: somebody must change the server's settings. */
const FORBIDDEN: ReadonlySet<string> = new Set(["NOPERM", "WRONGPASS"]);

const INSIDE_SCRIPT = /script: [0-9a-f]{40}/;
const REPLY_CODE = /^([A-Z][A-Z0-9]+) /;
const TEXT_LENGTH_MAX = 200;

/** The command never left this process. */
export class NotSentError extends Error {}

/** @param during what was attempted, for the operator, e.g. `commit of shard 03` */
export function toStoreError(error: unknown, during: string): ColloquyError {
  const text = describe(error);
  const options = { cause: bare(error, text) };
  if (error instanceof NotSentError) {
    return new StoreUnavailableError(`Redis is away (${during}): ${text}; nothing was sent`, options);
  }
  if (!isReply(error)) {
    return new StoreUnavailableError(`Redis did not answer (${during}): ${text}; it may or may not have run`, options);
  }
  const code = INSIDE_SCRIPT.test(messageOf(error)) ? "" : (REPLY_CODE.exec(text)?.[1] ?? "");
  if (FORBIDDEN.has(code)) {
    return new StoreUnsafeError(`Redis does not permit it (${during}): ${text}; nothing was written`, options);
  }
  if (NOT_RUN.has(code)) {
    return new StoreNotReadyError(`Redis refused to run it now (${during}): ${text}; nothing was written`, options);
  }
  return new StoreCorruptError(`Redis failed (${during}): ${text}; the shard stops until somebody has looked`, options);
}

/** The reply of a call that is not a script's: what this version did not write. */
export function unexpectedReply(during: string): StoreCorruptError {
  return new StoreCorruptError(`Redis answered what no script of this version says (${during})`);
}

export function closedError(during: string): StoreUnavailableError {
  return new StoreUnavailableError(`the store is closed (${during}); nothing was sent`);
}

const isReply = (error: unknown): boolean => error instanceof Error && error.name === "ReplyError";

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** One line without arguments: an unknown command is quoted with its arguments by Redis. */
function describe(error: unknown): string {
  const [text = ""] = messageOf(error).split(/, with args beginning with|\r|\n/);
  return text.slice(0, TEXT_LENGTH_MAX);
}

/** X2: a copy without `command` and `previousErrors`. */
function bare(error: unknown, text: string): Error {
  const copy = new Error(text);
  if (error instanceof Error) {
    copy.name = error.name;
    delete copy.stack;
    if ("code" in error && typeof error.code === "string") Object.assign(copy, { code: error.code });
  }
  return copy;
}
