// Progress: how much of what a verb asked for has come to pass. Pure.
//
// Invariants
//   P1. One that stands as it stood when it was asked is left to go; one that stands anew is told apart: it moved, and stopped again.
//   P2. One that was set in motion and has not come to an end is left to go as well.

export interface Standing {
  /** Not moved yet. */
  readonly left: number;
  /** Moved, and stands again. */
  readonly again: number;
}

/** The standstill of one that moves. */
export const UNDER_WAY = "under way";

/**
 * @param asked standstill by name, as it was when it was asked
 * @param now standstill by name, of all that stand now
 */
export function standingOf(asked: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): Standing {
  let left = 0;
  let again = 0;
  for (const [name, standstill] of asked) {
    const found = now.get(name);
    if (found === undefined) continue;
    if (found === standstill || found === UNDER_WAY) left += 1;
    else again += 1;
  }
  return { left, again };
}
