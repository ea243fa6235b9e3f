// Restart intensity: more than `intensity` restarts within `periodMs` mean that restarting does not help.
//
// Invariants
//   N1. A restart counts before it is tried, and counts whether or not it succeeds.
//   N2. One that happened exactly `periodMs` ago still counts, as in Erlang; an older one does not.
//   N3. At most `intensity` + 1 times are remembered.

export interface Intensity {
  /** Restarts that are allowed within the period; 0 allows none. */
  readonly intensity: number;
  readonly periodMs: number;
}

/** When the counted restarts happened, newest first, ms of a monotonic clock. */
export type RestartTimes = readonly number[];

export const NO_RESTARTS: RestartTimes = [];

/** @returns the times with this restart among them, and whether it is one too many */
export function addRestart(
  times: RestartTimes,
  nowMs: number,
  { intensity, periodMs }: Intensity,
): { readonly times: RestartTimes; readonly isTooMany: boolean } {
  const counted = [nowMs, ...times.filter((atMs) => atMs >= nowMs - periodMs)].slice(0, intensity + 1); // N2, N3
  return { times: counted, isTooMany: counted.length > intensity };
}

/** How many more restarts are allowed now. */
export function restartsLeft(times: RestartTimes, nowMs: number, { intensity, periodMs }: Intensity): number {
  return Math.max(0, intensity - times.filter((atMs) => atMs >= nowMs - periodMs).length);
}
