// Checked outcome: what a channel says of an attempt, as a lane may store and judge it. Pure. Anybody writes channels, and what they
// say ends in a lane's durable state: one number there that is none would keep a whole shard from opening.
//
// Invariants
//   K1. What is no outcome says nothing of whether the reply arrived, so it is `ambiguous`, or `unknown` of a probe.
//   K2. A wait is a finite number of ms, at most a day; what is none is as if it had not been said.
//   K3. A reason is one short line.

import type { ProbeOutcome, SendOutcome } from "./channel.ts";

/** The longest wait that a channel can ask for, ms. */
export const CHANNEL_RETRY_AFTER_MAX_MS: number = 24 * 3_600_000;
const REASON_LENGTH_MAX = 200;

const NO_OUTCOME = "the channel gave no outcome";
const NO_REASON = "no reason given";

export function checkedSendOutcome(given: unknown): SendOutcome {
  const { kind, reason, retryAfterMs } = membersOf(given);
  switch (kind) {
    case "delivered":
      return DELIVERED;
    case "retryable": {
      const waitMs = checkedWaitMs(retryAfterMs);
      const retryable = { kind, reason: checkedReason(reason) } as const;
      return waitMs === undefined ? retryable : { ...retryable, retryAfterMs: waitMs };
    }
    case "ambiguous":
    case "terminal":
    case "gone":
      return { kind, reason: checkedReason(reason) };
    default:
      return { kind: "ambiguous", reason: NO_OUTCOME }; // K1
  }
}

export function checkedProbeOutcome(given: unknown): ProbeOutcome {
  const { kind, reason } = membersOf(given);
  if (kind === "delivered") return DELIVERED;
  if (kind === "absent") return { kind };
  return { kind: "unknown", reason: kind === "unknown" ? checkedReason(reason) : NO_OUTCOME }; // K1
}

const DELIVERED = Object.freeze({ kind: "delivered" } as const);

const membersOf = (given: unknown): Readonly<Record<string, unknown>> =>
  typeof given === "object" && given !== null ? (given as Readonly<Record<string, unknown>>) : {};

/** K2 */
function checkedWaitMs(given: unknown): number | undefined {
  if (typeof given !== "number" || !(given >= 0)) return undefined;
  return Math.ceil(Math.min(given, CHANNEL_RETRY_AFTER_MAX_MS)) || 0; // not -0
}

/** K3 */
function checkedReason(given: unknown): string {
  if (typeof given !== "string" || given === "") return NO_REASON;
  return given
    .slice(0, REASON_LENGTH_MAX)
    .replace(/\p{Cc}+/gu, " ")
    .toWellFormed();
}
