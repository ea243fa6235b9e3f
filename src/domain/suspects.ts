// Suspects: which of the heads that were pending at an acquisition may run after processes ended uncleanly, since one
// of them may be what ends the process (DESIGN 5, Poison; attack H2).
//
// The first unclean end changes nothing. After the second they run in groups, one group at a time, beside all that came
// later: a commit marks a group before it runs, and the commits of its turns clear the marks. After another death those
// still marked run first, in groups of at most half the size that they were marked with, down to one that runs alone in
// the process.
//
// Invariants
//   S1. Nothing that waits here runs before the commit that marks it is durable.
//   S2. One group at a time: whatever ends the process now is in it, or did not wait here.
//   S3. A death halves, at least, the size of the group that its cause runs in next.
//   S4. Alone is only who ended the process with at most two others beside it, however few asked; else two ends from
//       outside would make everybody wait for one turn.

export const SUSPECT_GROUP = 64;
/** With fewer unclean ends in a row nobody is suspected. */
export const UNCLEAN_ENDS_MIN = 2;

export interface SuspectStart<Key> {
  /** Unclean ends since heads were last through. */
  readonly uncleanEnds: number;
  /** Marks that the former owners left. */
  readonly marked: readonly { readonly key: Key; readonly size: number }[];
  readonly groupMax?: number;
}

export interface SuspectGroup<Key> {
  readonly keys: readonly Key[];
  /** What they are marked with; 1 means alone. A single one that was not narrowed down so far is marked with 2 (S4). */
  readonly size: number;
}

export class SuspectGroups<Key> {
  readonly #isOn: boolean;
  readonly #groupMax: number;
  readonly #marks = new Map<Key, number>();
  /** Those with a mark, and those without, that asked and were not in a group yet; first come, first served. */
  readonly #askedMarked = new Set<Key>();
  readonly #asked = new Set<Key>();
  /** The group under way: members that are not through. */
  readonly #members = new Set<Key>();
  #memberSize = 0;
  /** Those whose mark is durable, or that are through. */
  readonly #free = new Set<Key>();

  constructor(start: SuspectStart<Key>) {
    this.#isOn = start.uncleanEnds >= UNCLEAN_ENDS_MIN;
    this.#groupMax = Math.max(2, start.groupMax ?? SUSPECT_GROUP);
    for (const { key, size } of start.marked) this.#marks.set(key, size);
  }

  /** A conversation whose head was pending at the acquisition asks to run; asking twice changes nothing. */
  ask(key: Key): "free" | "wait" {
    if (!this.#isOn || this.#free.has(key)) return "free";
    if (!this.#members.has(key)) (this.#marks.has(key) ? this.#askedMarked : this.#asked).add(key);
    return "wait"; // S1
  }

  /**
   * The group to mark in one commit now: null while the former one has members left (S2) or nobody asks. Marked ones
   * first, in groups of half their size (S3), those of the smallest size before others.
   */
  nextGroup(): SuspectGroup<Key> | null {
    if (this.#members.size > 0) return null;
    const group = this.#askedMarked.size > 0 ? this.#halved() : this.#firstAsked();
    if (group === null) return null;
    for (const key of group.keys) this.#members.add(key);
    this.#memberSize = group.size;
    return group;
  }

  /** The commit that marks them is durable: they may run. */
  marked(keys: readonly Key[]): void {
    for (const key of keys) if (this.#members.has(key)) this.#free.add(key);
  }

  /** Its turn is committed, or it failed durably, halted or turned out to have nothing to run. */
  through(key: Key): void {
    if (!this.#isOn) return;
    this.#members.delete(key);
    this.#asked.delete(key);
    this.#askedMarked.delete(key);
    this.#marks.delete(key);
    this.#free.add(key);
  }

  /** The one that may run alone in the process now; null if none. */
  get alone(): Key | null {
    if (this.#memberSize !== 1) return null;
    for (const key of this.#members) if (this.#free.has(key)) return key;
    return null;
  }

  #halved(): SuspectGroup<Key> {
    const bySize = [...this.#askedMarked].sort((a, b) => this.#marks.get(a)! - this.#marks.get(b)!);
    const halfSize = Math.floor(this.#marks.get(bySize[0]!)! / 2);
    const keys = bySize.slice(0, Math.min(this.#groupMax, Math.max(1, halfSize)));
    for (const key of keys) this.#askedMarked.delete(key);
    return { keys, size: halfSize <= 1 ? 1 : Math.max(2, keys.length) };
  }

  #firstAsked(): SuspectGroup<Key> | null {
    const keys: Key[] = [];
    for (const key of this.#asked) {
      if (keys.length === this.#groupMax) break;
      keys.push(key);
    }
    for (const key of keys) this.#asked.delete(key);
    return keys.length === 0 ? null : { keys, size: Math.max(2, keys.length) };
  }
}
