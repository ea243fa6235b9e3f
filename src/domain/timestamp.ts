// Timestamp: a moment as people write it in ISO 8601, and as the core counts it, in ms since the Unix epoch.

const WRITTEN = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/;

/**
 * @param text date, time and offset, as 2024-05-17T09:30:00Z; without an offset it would mean another moment on each machine
 * @returns whole ms, or null for anything else, a day that its month does not have included
 */
export function timestampMs(text: unknown): number | null {
  const parts = typeof text === "string" ? WRITTEN.exec(text) : null;
  if (!parts || Number(parts[3]) > daysInMonth(Number(parts[1]), Number(parts[2]))) return null;
  const ms = Date.parse(parts[0]);
  return Number.isNaN(ms) ? null : ms;
}

const daysInMonth = (year: number, month: number): number => new Date(Date.UTC(year, month, 0)).getUTCDate();
