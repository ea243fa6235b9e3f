// Restart backoff: beyond OTP, which restarts at once. What hammers a thing that is down on every restart can be told to wait.

import { type Backoff, retryDelayMs } from "../src/domain/retry-policy.ts";

/** `baseMs` doubling up to `capMs`; half of it is jitter. Keep `capMs` well below `periodMs`, or the intensity never bites. */
export type RestartBackoff = Backoff;

/**
 * @param restarts how many restarts of the supervisor are counted in its period, this one included
 * @param random uniform in [0, 1)
 */
export function restartDelayMs(backoff: RestartBackoff | undefined, restarts: number, random: number): number {
  return backoff === undefined ? 0 : retryDelayMs(backoff, Math.max(1, restarts), random);
}
