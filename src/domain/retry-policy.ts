// Retry policy: how long to wait before trying the same thing again. Not to be mixed with restart policy (who restarts
// crashed code): a message that failed is not a crash.

export interface Backoff {
  readonly baseMs: number;
  readonly capMs: number;
}

/** Deliveries: 200 ms doubling to 5 minutes. */
export const DELIVERY_BACKOFF: Backoff = { baseMs: 200, capMs: 300_000 };
/** Handlers: 100 ms doubling to 30 s, so that an outage behind the bot ends soon after it is mended. */
export const HANDLER_BACKOFF: Backoff = { baseMs: 100, capMs: 30_000 };
/** Connections and ownership: short, since everybody waits. */
export const RECONNECT_BACKOFF: Backoff = { baseMs: 25, capMs: 1_000 };

/**
 * Exponential backoff with jitter: uniform between half and whole of `baseMs * 2 ** (attempt - 1)`, capped at `capMs`. The
 * lower half is never used, so that a retry does not come at once.
 * @param attempt how many tries have failed, from 1
 * @param random uniform in [0, 1)
 */
export function retryDelayMs(backoff: Backoff, attempt: number, random: number): number {
  const whole = Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(attempt - 1, 30));
  return Math.round(whole * (0.5 + random / 2));
}

/**
 * Exponential backoff with full jitter: uniform between 0 and `baseMs * 2 ** (attempt - 1)`, capped at `capMs`. For many that failed
 * together and shall not come back together.
 * @param attempt how many tries have failed, from 1
 * @param random uniform in [0, 1)
 */
export function fullJitterDelayMs(backoff: Backoff, attempt: number, random: number): number {
  return Math.round(Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(attempt - 1, 30)) * random);
}
