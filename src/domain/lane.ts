// Lane: what becomes of the reply at the head of a lane before and after an attempt at sending it. Pure: no I/O, no time, no
// randomness.
//
// Invariants
//   N1. What is delivered leaves. Past anything else a lane goes on only with a reply that became a dead letter (L1).
//   N2. Attempts and the time budget count from when this very reply could not go out first, and survive restarts in the lane's state.
//   N3. A channel that cannot recognise a repeat (`onAmbiguous` is not `retry`) is never sent the same reply again by a guess: an
//       outcome that nobody knows, an attempt cut short by the end of a process included, is probed, or halts the lane.
//   N4. A reply whose time is over is not sent, whatever the ordering.
//   N5. Every wait ends: no Retry-After reaches past the time budget, and what a channel says in no number of milliseconds says nothing.

import type { ProbeOutcome, SendOutcome } from "../channels/channel.ts";
import { DELIVERY_BACKOFF, fullJitterDelayMs } from "./retry-policy.ts";

/** One reply, or one part of it: whose trouble it is. */
export interface ReplyPlace {
  readonly born: string;
  readonly outSeq: number;
  /** Absent for a reply that is one part. */
  readonly part?: number | undefined;
}

/** What is known of a reply that could not go out. */
export interface LaneTrouble extends ReplyPlace {
  /** Failed attempts of it; 0 if it only waits for its account. */
  readonly attempts: number;
  /** When it could not go out for the first time, ms since the Unix epoch; the time budget counts from then. */
  readonly firstFailedAtMs: number;
  readonly nextAtMs: number;
  /** Status or error code of the last attempt, or why there was none; never payload. */
  readonly reason: string;
  /** An attempt was begun and nobody wrote down how it ended (N3). */
  readonly isUnclear?: true;
  /** Why it needs an operator. */
  readonly halt?: LaneHalt;
}

/** A lane that does not flow, or whose replies wait on its list. One that flows and has no list has no state. */
export interface LaneState extends LaneTrouble {
  /** `retrying` goes on by itself, at `nextAtMs` or when its account has a place; `halted` and `closed` wait for an operator. */
  readonly state: LaneStateName;
  /** What stands on its list, before everything of it in the outbox. Absent: nothing. */
  readonly list?: LaneList;
}

export const LANE_STATES = ["flowing", "retrying", "halted", "closed"] as const;
export type LaneStateName = (typeof LANE_STATES)[number];

/**
 * `terminal`, `exhausted`: as a dead reply's. `unclear`: nobody knows whether it arrived. `full`: no room for one more dead letter.
 * `gone`: closed, the recipient left.
 */
export const LANE_HALTS = ["terminal", "exhausted", "unclear", "full", "gone"] as const;
export type LaneHalt = (typeof LANE_HALTS)[number];

export interface LaneList {
  /** The id that the next reply on it will have; never used before. */
  readonly nextId: number;
  readonly count: number;
  readonly bytes: number;
}

/** Why a reply became a dead letter. */
export const DEAD_REPLY_REASONS = ["terminal", "exhausted", "expired", "gone", "skipped"] as const;
export type DeadReplyReason = (typeof DEAD_REPLY_REASONS)[number];

/** What bot and channel say of their lanes. */
export interface LanePolicy {
  readonly ordering: "strict" | "available";
  readonly onAmbiguous: "retry" | "probe" | "halt";
  /** From when a reply could not go out first, ms. */
  readonly budgetMs: number;
  /** Failed attempts; Infinity for as many as there is time for. */
  readonly attemptsMax: number;
}

export type LaneVerdict =
  | { readonly kind: "delivered" }
  /** Tried, or asked about, again at `trouble.nextAtMs`. */
  | { readonly kind: "retry"; readonly trouble: LaneTrouble }
  | { readonly kind: "halt"; readonly trouble: LaneTrouble }
  /** It becomes a dead letter. `closes`: and so does all behind it, from now on. */
  | {
      readonly kind: "bury";
      readonly reason: DeadReplyReason;
      readonly closes: boolean;
      readonly trouble: LaneTrouble;
    };

export type BeforeAttempt = { readonly kind: "send" } | { readonly kind: "probe" } | LaneVerdict;

/** `<born>.<outSeq>`, of a part `<born>.<outSeq>.<part>`: what a verb names the head of a lane by. */
export const replyName = ({ born, outSeq, part }: ReplyPlace): string =>
  part === undefined ? `${born}.${outSeq}` : `${born}.${outSeq}.${part}`;

/** What is known of this reply; the trouble of another one says nothing of it. */
export function troubleOf(head: ReplyPlace, known: LaneTrouble | null, nowMs: number): LaneTrouble {
  if (known !== null && known.born === head.born && known.outSeq === head.outSeq && known.part === head.part)
    return known;
  const { born, outSeq, part } = head;
  const place = part === undefined ? { born, outSeq } : { born, outSeq, part };
  return { ...place, attempts: 0, firstFailedAtMs: nowMs, nextAtMs: nowMs, reason: "" };
}

/** @param expiresAtMs of the reply; undefined for one that stays good */
export function beforeAttempt(
  trouble: LaneTrouble,
  expiresAtMs: number | undefined,
  policy: LanePolicy,
  nowMs: number,
): BeforeAttempt {
  const isUnclear = trouble.isUnclear === true && policy.onAmbiguous !== "retry";
  if (expiresAtMs !== undefined && expiresAtMs <= nowMs && !isUnclear) return bury("expired", trouble); // N4
  if (!isUnclear) return SEND;
  switch (policy.onAmbiguous) {
    case "probe":
      return PROBE;
    default:
      return { kind: "halt", trouble: halted(trouble, "unclear") }; // N3
  }
}

/** @param random uniform in [0, 1) */
export function afterAttempt(
  trouble: LaneTrouble,
  outcome: SendOutcome,
  policy: LanePolicy,
  nowMs: number,
  random: number,
): LaneVerdict {
  if (outcome.kind === "delivered") return DELIVERED;
  const { isUnclear: _, ...known } = trouble;
  const failed: LaneTrouble = { ...known, attempts: trouble.attempts + 1, reason: outcome.reason };
  switch (outcome.kind) {
    case "retryable":
      return later(failed, outcome.retryAfterMs ?? 0, policy, nowMs, random);
    case "ambiguous":
      if (policy.onAmbiguous === "halt") return { kind: "halt", trouble: halted(failed, "unclear") }; // N3
      if (policy.onAmbiguous === "probe") return later({ ...failed, isUnclear: true }, 0, policy, nowMs, random);
      return later(failed, 0, policy, nowMs, random);
    case "gone":
      return { kind: "bury", reason: "gone", closes: true, trouble: halted(failed, "gone") };
    case "terminal":
      return giveUp("terminal", failed, policy);
  }
}

/** @param random uniform in [0, 1) */
export function afterProbe(
  trouble: LaneTrouble,
  outcome: ProbeOutcome,
  policy: LanePolicy,
  nowMs: number,
  random: number,
): LaneVerdict {
  switch (outcome.kind) {
    case "delivered":
      return DELIVERED;
    case "absent": {
      const { isUnclear: _, ...known } = trouble;
      return { kind: "retry", trouble: { ...known, nextAtMs: nowMs } };
    }
    case "unknown":
      return later({ ...trouble, attempts: trouble.attempts + 1, reason: outcome.reason }, 0, policy, nowMs, random);
  }
}

/** Whether there is no time for another attempt, however it would end. One that was never made is still owed. */
export const isExhausted = ({ attempts, firstFailedAtMs }: LaneTrouble, policy: LanePolicy, nowMs: number): boolean =>
  attempts >= policy.attemptsMax || (attempts > 0 && nowMs - firstFailedAtMs >= policy.budgetMs);

/** What becomes of one that is exhausted. */
export function outOfTime(trouble: LaneTrouble, policy: LanePolicy): LaneVerdict {
  if (trouble.isUnclear === true) return { kind: "halt", trouble: halted(trouble, "unclear") }; // N3
  return giveUp("exhausted", trouble, policy);
}

/** What an operator's `retry` makes of it: as if it had not been tried. */
export function triedAfresh({ isUnclear: _, halt: __, ...trouble }: LaneTrouble, nowMs: number): LaneTrouble {
  return { ...trouble, attempts: 0, firstFailedAtMs: nowMs, nextAtMs: nowMs };
}

/** N2 */
function later(
  trouble: LaneTrouble,
  retryAfterMs: number,
  policy: LanePolicy,
  nowMs: number,
  random: number,
): LaneVerdict {
  if (isExhausted(trouble, policy, nowMs)) return outOfTime(trouble, policy);
  const floorMs = Number.isNaN(retryAfterMs) ? 0 : retryAfterMs;
  const delayMs = Math.max(floorMs, fullJitterDelayMs(DELIVERY_BACKOFF, trouble.attempts, random));
  const endMs = Math.min(trouble.firstFailedAtMs + policy.budgetMs, Number.MAX_SAFE_INTEGER); // N5
  return { kind: "retry", trouble: { ...trouble, nextAtMs: Math.ceil(Math.min(nowMs + delayMs, endMs)) } };
}

const giveUp = (reason: "terminal" | "exhausted", trouble: LaneTrouble, { ordering }: LanePolicy): LaneVerdict =>
  ordering === "strict" ? { kind: "halt", trouble: halted(trouble, reason) } : bury(reason, trouble);

const bury = (reason: DeadReplyReason, trouble: LaneTrouble): LaneVerdict & { readonly kind: "bury" } => ({
  kind: "bury",
  reason,
  closes: false,
  trouble,
});

const halted = (trouble: LaneTrouble, halt: LaneHalt): LaneTrouble => ({ ...trouble, halt });

const DELIVERED = Object.freeze({ kind: "delivered" } as const);
const SEND = Object.freeze({ kind: "send" } as const);
const PROBE = Object.freeze({ kind: "probe" } as const);
