// Token bucket: a rate on average, with a burst after a quiet time. Pure: no I/O, no time, no randomness.
//
// The whole of a bucket is one number: when it will be full again, if nothing more is taken, in ms of whatever clock its times are
// given in. So taking a token allocates nothing, and what comes between two takings is never rounded.

export interface RateLimit {
  /** Tokens that come per second, > 0. */
  readonly perSecond: number;
  /** Tokens that it holds at most, >= 1. */
  readonly burst: number;
}

/** ms of the caller's clock; the past for one that is full. */
export type FullAtMs = number;

export const FULL: FullAtMs = Number.NEGATIVE_INFINITY;

/** Until it holds a whole token, ms; 0 if it does. A clock that went back makes it longer, never more. */
export const nextTokenInMs = (fullAtMs: FullAtMs, { perSecond, burst }: RateLimit, nowMs: number): number =>
  Math.max(0, fullAtMs - nowMs - ((burst - 1) * 1_000) / perSecond);

/** With one token less. To be asked of one that holds a token. */
export const withoutOne = (fullAtMs: FullAtMs, { perSecond }: RateLimit, nowMs: number): FullAtMs =>
  Math.max(fullAtMs, nowMs) + 1_000 / perSecond;

/** With a token back that was taken and not used, as if it had not been taken: never more than `burst`. */
export const withOneBack = (fullAtMs: FullAtMs, { perSecond }: RateLimit): FullAtMs => fullAtMs - 1_000 / perSecond;
