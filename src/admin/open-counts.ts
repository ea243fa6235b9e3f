// Open counts: how many conversations of a shard are in the index of the unfinished, by state, without reading it again: its owner
// reads it once, and every later change of it is one of the owner's own commits.
//
// Invariants
//   N1. The counts are those of the index as of the last commit that was told.

import type { OpenEntry } from "../codec/open-codec.ts";
import type { ConversationKey } from "../domain/ids.ts";

/** One that is idle is not in the index. */
export const OPEN_STATES = ["active", "held", "halted", "quarantined"] as const satisfies readonly OpenEntry["state"][];
export type OpenState = OpenEntry["state"];

export class OpenCounts {
  readonly #states = new Map<ConversationKey, OpenState>();
  readonly #counts: Record<OpenState, number> = { active: 0, held: 0, halted: 0, quarantined: 0 };

  /** Also of what is read at the start. Null: it left the index. */
  set(key: ConversationKey, entry: Pick<OpenEntry, "state"> | null): void {
    const before = this.#states.get(key);
    if (before !== undefined) this.#counts[before] -= 1;
    if (entry === null) {
      this.#states.delete(key);
      return;
    }
    this.#counts[entry.state] += 1;
    this.#states.set(key, entry.state);
  }

  /** Undefined for one that is idle. */
  stateOf(key: ConversationKey): OpenState | undefined {
    return this.#states.get(key);
  }

  get counts(): Readonly<Record<OpenState, number>> {
    return { ...this.#counts };
  }

  get total(): number {
    return OPEN_STATES.reduce((sum, state) => sum + this.#counts[state], 0);
  }
}
