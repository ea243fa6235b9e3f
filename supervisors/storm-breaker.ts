// Storm breaker: bounds how often a family as a whole restarts children, so that a fault which hits all of them at once does not
// make the process do nothing but restart.
//
// Invariants
//   B1. In any window of `windowMs` at most `restartsMax` restarts happen. Those beyond wait; none is dropped.
//   B2. The breaker opens with the first restart that has to wait and closes with the first that has not. While it stays open
//       the gaps double, window by window, up to 64 times: what did not get better is tried less often.

export interface StormLimits {
  /** At least 2. */
  readonly restartsMax: number;
  readonly windowMs: number;
}

export interface StormState {
  /** When the next restart would be due if they came evenly spread, ms of a monotonic clock. */
  readonly dueMs: number;
  readonly openSinceMs: number | null;
}

export const CALM: StormState = { dueMs: Number.NEGATIVE_INFINITY, openSinceMs: null };

export interface StormAnswer {
  readonly state: StormState;
  readonly delayMs: number;
  /** This one opened it: say so once. */
  readonly opened: boolean;
}

const DOUBLINGS_MAX = 6;

/** Half of the bound may come at once and half of it evenly spread over a window, so no window has more than the whole (B1). */
export function admitRestart(state: StormState, nowMs: number, { restartsMax, windowMs }: StormLimits): StormAnswer {
  const burst = Math.ceil(restartsMax / 2);
  const gapMs = windowMs / Math.floor(restartsMax / 2);
  const atMs = Math.max(nowMs, state.dueMs - gapMs * (burst - 1));
  if (atMs <= nowMs)
    return { state: { dueMs: Math.max(nowMs, state.dueMs) + gapMs, openSinceMs: null }, delayMs: 0, opened: false };
  const openSinceMs = state.openSinceMs ?? nowMs;
  const doublings = Math.min(DOUBLINGS_MAX, Math.floor((nowMs - openSinceMs) / windowMs)); // B2
  return {
    state: { dueMs: state.dueMs + gapMs * 2 ** doublings, openSinceMs },
    delayMs: atMs - nowMs,
    opened: state.openSinceMs === null,
  };
}
