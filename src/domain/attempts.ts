// Attempts: what a failed turn leaves in its conversation's record, and when its message is poison. Pure; time and
// chance are arguments.
//
// Invariants
//   A1. A failure charges one attempt to the turn that failed, and is durable from the first on; a death of the process
//       charges only the turn that ran alone, and no attempt.
//   A2. Poison is a message whose error says that it is final, or that failed `maxAttempts` times over at least
//       `poisonMinMs`, so that an outage behind the bot does not halt everybody (attack H3), or that ended the process
//       `DEATHS_MAX` times while alone.
//   A3. What the turn did already, its steps and the replies that are out, is kept through all of it.

import { comparePositions, type Position } from "./position.ts";
import { NO_OPEN_TURN, type OpenTurn } from "./record.ts";
import { HANDLER_BACKOFF, retryDelayMs } from "./retry-policy.ts";

export interface PoisonRules {
  readonly maxAttempts: number;
  /** From the first failure. */
  readonly poisonMinMs: number;
}

/** Ends of the process while nothing else ran. */
export const DEATHS_MAX = 3;

export type AfterFailure =
  /** The same message runs again after `delayMs`; `open` is durable meanwhile. */
  | { readonly kind: "again"; readonly open: OpenTurn; readonly delayMs: number }
  | { readonly kind: "poison"; readonly open: OpenTurn };

/**
 * @param open what the record has of this turn; undefined if it never failed nor journaled anything
 * @param failure.error never a user's words
 * @param at.nowMs ms since the Unix epoch
 * @param at.random uniform in [0, 1)
 * @throws Error if `open` is of a turn at another position: our own mistake
 */
export function afterFailure(
  open: OpenTurn | undefined,
  position: Position,
  failure: { readonly error: string; readonly isTerminal: boolean },
  at: { readonly nowMs: number; readonly random: number },
  rules: PoisonRules,
): AfterFailure {
  const before = openTurnAt(open, position);
  const attempts = before.attempts + 1;
  // A clock that was set back must not put the end off by as much.
  const firstFailedAtMs = Math.min(before.firstFailedAtMs ?? at.nowMs, at.nowMs);
  const failed: OpenTurn = { ...before, attempts, firstFailedAtMs, nextAtMs: null, error: failure.error };
  const isOver = attempts >= rules.maxAttempts && at.nowMs - firstFailedAtMs >= rules.poisonMinMs;
  if (failure.isTerminal || isOver) return { kind: "poison", open: failed };
  const delayMs = retryDelayMs(HANDLER_BACKOFF, attempts, at.random);
  return { kind: "again", open: { ...failed, nextAtMs: at.nowMs + delayMs }, delayMs };
}

/**
 * The process ended while this turn ran alone in it. Counts a death and nothing else; a backoff under way goes on.
 * @throws Error if `open` is of a turn at another position: our own mistake
 */
export function afterDeathAlone(open: OpenTurn | undefined, position: Position, nowMs: number): AfterFailure {
  const before = openTurnAt(open, position);
  const deaths = before.deaths + 1;
  if (deaths >= DEATHS_MAX) {
    const error = `the process ended ${deaths} times while nothing but this turn ran`;
    return { kind: "poison", open: { ...before, deaths, nextAtMs: null, error } };
  }
  const delayMs = before.nextAtMs === null ? 0 : Math.max(0, before.nextAtMs - nowMs);
  return { kind: "again", open: { ...before, deaths }, delayMs };
}

/**
 * An operator asks for the message to run once more: attempts and deaths count from 0, what it did already stands (A3).
 */
export function countedAfresh(open: OpenTurn): OpenTurn {
  return { ...NO_OPEN_TURN, position: open.position, repliesOut: open.repliesOut, steps: open.steps };
}

function openTurnAt(open: OpenTurn | undefined, position: Position): OpenTurn {
  if (open === undefined) return { ...NO_OPEN_TURN, position };
  if (comparePositions(open.position, position) !== 0) throw new Error("another turn of this conversation is open");
  return open;
}
