// Duration: a length of time as people write it, "5m", and as the core counts it, in ms.

import type { Duration } from "./bot.ts";

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const WRITTEN = /^(\d{1,15}(?:\.\d{1,6})?)(ms|s|m|h|d)$/;

/**
 * @param duration ms, or e.g. "500ms", "1.5s", "5m", "1h", "7d"
 * @returns whole ms, rounded, >= 0 and a safe integer
 * @throws RangeError for anything else; the message repeats what was given
 */
export function durationMs(duration: Duration): number {
  const ms = typeof duration === "number" ? duration : writtenMs(duration);
  const whole = Math.round(ms);
  if (!(whole >= 0) || !Number.isSafeInteger(whole)) {
    throw new RangeError(
      `${JSON.stringify(duration) ?? String(duration)} is not a duration; take ms, or e.g. "500ms", "2s", "5m", "1h", "7d"`,
    );
  }
  return whole;
}

function writtenMs(text: unknown): number {
  const match = typeof text === "string" ? WRITTEN.exec(text) : null;
  return match ? Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS] : Number.NaN;
}
