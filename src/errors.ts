// Errors: the world failing, as classes with a stable code. Expected outcomes are values and have no class here.
//
// A message of an error says what happened, whether data is safe, and what to do next; it never holds a user's text.
// `retryable` is decided once, here, by the class: nobody above parses the text of an error.

export abstract class ColloquyError extends Error {
  abstract readonly code: string;
  readonly retryable: boolean = false;

  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Redis did not answer. A write may or may not have happened: send the very same bytes again. */
export class StoreUnavailableError extends ColloquyError {
  readonly code = "ERR_STORE_UNAVAILABLE";
  override readonly retryable = true;
}

/** Redis answered that it did not run the script (LOADING, BUSY, READONLY, MISCONF, OOM, ...): nothing was written. */
export class StoreNotReadyError extends ColloquyError {
  readonly code = "ERR_STORE_NOT_READY";
  override readonly retryable = true;
}

/** A script failed inside, or the shard's data is not what this version wrote: the shard halts, nothing is sent again. */
export class StoreCorruptError extends ColloquyError {
  readonly code = "ERR_STORE_CORRUPT";
}

/** A call of the store never ended, which its own time-outs should have seen to. What waited for it is started again. */
export class StoreHangError extends ColloquyError {
  readonly code = "ERR_STORE_HANG";
}

/** Redis runs with settings under which the promise does not hold (version, AOF, fsync, eviction). Nothing was written. */
export class StoreUnsafeError extends ColloquyError {
  readonly code = "ERR_STORE_UNSAFE";
}

/** An option, flag, environment variable or bot file cannot be used. */
export class ConfigError extends ColloquyError {
  readonly code = "ERR_CONFIG";
  /** The option's path, e.g. `port` or `bots[0].version`. */
  readonly key: string;

  constructor(key: string, message: string, options?: { cause?: unknown }) {
    super(`${key}: ${message}`, options);
    this.key = key;
  }
}

/** The data folder cannot be used: not a folder, not writable, full, or unsafe. Nothing in it was changed. */
export class DataFolderError extends ColloquyError {
  readonly code = "ERR_DATA_FOLDER";
  readonly dir: string;

  constructor(dir: string, message: string, options?: { cause?: unknown }) {
    super(`data folder ${dir}: ${message}`, options);
    this.dir = dir;
  }
}

/** Why the runtime's own Redis server is not running; the message names the command to type. */
export type EmbeddedRedisReason =
  | "no-binary"
  | "not-owner"
  | "foreign"
  | "busy"
  | "disk-full"
  | "forbidden"
  | "damaged"
  | "exited"
  | "stopped";

/** The runtime's own Redis server cannot be started or adopted. What is on disk was left as it is. */
export class EmbeddedRedisError extends ColloquyError {
  readonly code = "ERR_EMBEDDED_REDIS";
  readonly reason: EmbeddedRedisReason;

  constructor(reason: EmbeddedRedisReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

/** The feature is part of the API but not in this version. The turn is not committed and runs again; nothing is lost. */
export class NotAvailableError extends ColloquyError {
  readonly code = "ERR_NOT_AVAILABLE";
  readonly feature: string;

  constructor(feature: string) {
    super(
      `${feature} is not available in this version of colloquy; what called it had no effect, and nothing admitted is lost`,
    );
    this.feature = feature;
  }
}

/** Bytes read back from the store do not match their checksum or their version is unknown. */
export class CodecError extends ColloquyError {
  readonly code = "ERR_CODEC";
}

/** A bot handed over something that cannot be used, or more than a bound allows. The turn was not committed. */
export class TurnOutputError extends ColloquyError {
  readonly code = "ERR_TURN_OUTPUT";
}

/** The context of a turn was used after the turn had ended. What was called had no effect. */
export class TurnEndedError extends ColloquyError {
  readonly code = "ERR_TURN_ENDED";
}

/** A handler ran longer than `handlerTimeoutMs`; its late result is ignored and the message runs again. */
export class HandlerTimeoutError extends ColloquyError {
  readonly code = "ERR_HANDLER_TIMEOUT";
}

/** A try of a step ran longer than its `timeout`. Its effect may have happened all the same: pass it an idempotency key. */
export class StepTimeoutError extends ColloquyError {
  readonly code = "ERR_STEP_TIMEOUT";
}

/**
 * A re-run of a turn asked for other steps than its journal holds, so the handler does not do the same each time. Nothing new was
 * done. An ordinary failure, tried again: the version of the bot that began the turn may be the one that can end it.
 */
export class StepMismatchError extends ColloquyError {
  readonly code = "ERR_STEP_MISMATCH";
  /** The name that the journal holds. */
  readonly journaled: string;
  /** The name that was asked for; null if the turn ended without asking. */
  readonly asked: string | null;

  constructor(journaled: string, asked: string | null, message: string) {
    super(message);
    this.journaled = journaled;
    this.asked = asked;
  }
}

/** A promise that a handler started and did not await was rejected. `reason` is what with, and may hold a user's text. */
export class FloatingRejectionError extends ColloquyError {
  readonly code = "ERR_FLOATING_REJECTION";
  readonly reason: unknown;

  constructor(reason: unknown, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Thrown by a bot: this message can never succeed, do not try it again. */
export class TerminalError extends ColloquyError {
  readonly code = "ERR_TERMINAL";
}

/** A child or supervisor specification cannot be used. Nothing of it was started. */
export class ChildSpecError extends ColloquyError {
  readonly code = "ERR_CHILD_SPEC";
}

/** A supervisor did not come up because this child did not; what had started before it was stopped again. */
export class ChildStartError extends ColloquyError {
  readonly code = "ERR_CHILD_START";
  readonly child: string;

  constructor(supervisor: string, child: string, cause: unknown) {
    super(
      `${supervisor} did not start because its child ${child} failed to; what had started before it was stopped again, and its cause says what to mend`,
      { cause },
    );
    this.child = child;
  }
}

/** What the child at the bottom threw, below any number of supervisors that failed with it. */
export function causeOfStart(error: unknown): unknown {
  return error instanceof ChildStartError ? causeOfStart(error.cause) : error;
}

/** A child's start did not end within `startTimeoutMs`. If it ends later, what it started is stopped. */
export class ChildStartTimeoutError extends ColloquyError {
  readonly code = "ERR_CHILD_START_TIMEOUT";
}

/** A supervisor ended before what was asked of it was done. */
export class SupervisorEndedError extends ColloquyError {
  readonly code = "ERR_SUPERVISOR_ENDED";
}

/** An actor's `receive` did not end within `receiveTimeoutMs`. The actor was stopped; a late result of it is ignored. */
export class ReceiveTimeoutError extends ColloquyError {
  readonly code = "ERR_RECEIVE_TIMEOUT";
}

/**
 * What whoever waits for the store does about an error: `retry` the same, Redis is away; `halt` until somebody has looked, what is
 * stored is not as it should be; `crash`, it is an error of this code, and the supervisor's business.
 */
export function severityOf(error: unknown): "retry" | "halt" | "crash" {
  if (!(error instanceof ColloquyError) || error instanceof StoreHangError) return "crash";
  return error.retryable ? "retry" : "halt";
}

/** A folder that cannot be verified: unreadable, damaged, or not in the format of docs/verify.md. Nothing was changed. */
export class VerifyInputError extends ColloquyError {
  readonly code = "ERR_VERIFY_INPUT";
}
