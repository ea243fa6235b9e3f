// Token bucket: a rate on average, with a burst after a quiet time. Pure: no I/O, no time, no randomness.

export interface RateLimit {
  /** Tokens that come per second, > 0. */
  readonly perSecond: number;
  /** Tokens that it holds at most, >= 1. */
  readonly burst: number;
}

export interface TokenBucket {
  readonly tokens: number;
  /** When there were so many, ms. */
  readonly atMs: number;
}

export const fullBucket = ({ burst }: RateLimit, nowMs: number): TokenBucket => ({ tokens: burst, atMs: nowMs });

/** What it holds now. A clock that went back adds nothing. */
export function refilled({ tokens, atMs }: TokenBucket, { perSecond, burst }: RateLimit, nowMs: number): TokenBucket {
  const passedMs = Math.max(0, nowMs - atMs);
  return { tokens: Math.min(burst, tokens + (passedMs * perSecond) / 1_000), atMs: nowMs };
}

/** Of a bucket as it is now; null if it has no whole token. */
export const withoutOne = ({ tokens, atMs }: TokenBucket): TokenBucket | null =>
  tokens < 1 ? null : { tokens: tokens - 1, atMs };

/** Until it has a whole token, ms from `atMs`; 0 if it has one. */
export const nextTokenInMs = ({ tokens }: TokenBucket, { perSecond }: RateLimit): number =>
  tokens >= 1 ? 0 : ((1 - tokens) * 1_000) / perSecond;
