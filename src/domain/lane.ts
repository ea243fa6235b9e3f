// Lane: what becomes of the reply at the head of a lane after an attempt at sending it. Pure: no I/O, no time, no randomness.
//
// Invariants
//   N1. What is delivered leaves. Past anything else a lane goes on only with a reply that became a dead letter (L1).
//   N2. Attempts and the time budget count from the first failure of this very reply, and survive restarts in the lane's state.
//   N3. A channel that cannot recognise a repeat (`onAmbiguous` is not `retry`) is never sent the same reply again by a guess: an
//       outcome that nobody knows, an attempt cut short by the end of a process included, is probed, or halts the lane.

/** A lane that does not flow, or whose replies wait on its list. One that flows and has no list has no state. */
export interface LaneState {
  /** `retrying` goes on by itself, at `nextAtMs` or when its account has a place; `halted` and `closed` wait for an operator. */
  readonly state: LaneStateName;
  /** The reply at the head that the following is about. */
  readonly born: string;
  readonly outSeq: number;
  /** Absent for a reply that is one part. */
  readonly part?: number;
  /** Failed attempts of it; 0 if it only waits for its account. */
  readonly attempts: number;
  /** When it could not go out for the first time; the time budget counts from then. */
  readonly firstFailedAtMs: number;
  readonly nextAtMs: number;
  /** Status or error code of the last attempt, or why there was none; never payload. */
  readonly reason: string;
  /** An attempt was begun and nobody wrote down how it ended (N3). */
  readonly isUnclear?: true;
  /** What stands on its list, before everything of it in the outbox. Absent: nothing. */
  readonly list?: LaneList;
}

export const LANE_STATES = ["flowing", "retrying", "halted", "closed"] as const;
export type LaneStateName = (typeof LANE_STATES)[number];

export interface LaneList {
  /** The id that the next reply on it will have; never used before. */
  readonly nextId: number;
  readonly count: number;
  readonly bytes: number;
}

/** Why a reply became a dead letter. */
export const DEAD_REPLY_REASONS = ["terminal", "exhausted", "expired", "gone", "skipped"] as const;
export type DeadReplyReason = (typeof DEAD_REPLY_REASONS)[number];
