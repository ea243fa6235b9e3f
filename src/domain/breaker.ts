// Breaker: whether it makes sense to try an outside at all. Pure: no I/O, no time, no randomness.
//
// Invariants
//   K1. So many failures in a row, whosever, open it; anything that says that the outside answers sets the count back to none.
//   K2. While it is open nothing is tried; when its time has come it is half-open, which lets one through to probe.
//   K3. A probe that fails opens it for twice as long, up to a bound; one that is answered closes it.

export interface BreakerPolicy {
  /** Infinity: it never opens. */
  readonly failures: number;
  readonly openMs: number;
  readonly openMsMax: number;
}

export type Breaker =
  | { readonly kind: "closed"; readonly failures: number }
  | { readonly kind: "open"; readonly reopensAtMs: number; readonly openMs: number }
  | { readonly kind: "half-open"; readonly openMs: number };

export const CLOSED: Breaker = Object.freeze({ kind: "closed", failures: 0 });

/** What an attempt that ended says: `answers` is false if it failed, or nobody knows how it ended. */
export function afterAnswer(breaker: Breaker, answers: boolean, policy: BreakerPolicy, nowMs: number): Breaker {
  if (answers) return breaker.kind === "closed" && breaker.failures === 0 ? breaker : CLOSED;
  switch (breaker.kind) {
    case "closed": {
      const failures = breaker.failures + 1;
      return failures < policy.failures ? { kind: "closed", failures } : opened(policy.openMs, nowMs); // K1
    }
    case "open":
      return breaker; // one that was under way when it opened
    case "half-open":
      return opened(Math.min(breaker.openMs * 2, policy.openMsMax), nowMs); // K3
  }
}

/** K2 */
export function afterTime(breaker: Breaker, nowMs: number): Breaker {
  if (breaker.kind !== "open" || nowMs < breaker.reopensAtMs) return breaker;
  return { kind: "half-open", openMs: breaker.openMs };
}

const opened = (openMs: number, nowMs: number): Breaker => ({ kind: "open", reopensAtMs: nowMs + openMs, openMs });
