// Held messages: those that wait for lower numbers of the outside, in the order in which they will go. Only a view in
// memory: each of them stands on the waiting list, which is read again after a crash.
//
// Invariants
//   M1. Order is by epoch, sequence, position; of two with the same place the one admitted first comes first.
//   M2. `oldestMs` is the admission of the oldest that is held now, wherever it stands in the order.

import { comparePlaces, type ExternalPlace, placeOf } from "./external-order.ts";
import type { Hash64 } from "./hash.ts";
import type { InboxMessage } from "./message.ts";
import { comparePositions } from "./position.ts";
import type { HeldView } from "./sequencer.ts";

export type Holdable = Pick<InboxMessage, "position" | "idHash" | "bodyHash" | "sequence" | "extra">;

interface Held<Item> {
  readonly item: Item;
  readonly place: ExternalPlace;
}

/** For as many as a waiting list holds (1,000): adding and shifting take linear time at worst. */
export class HeldMessages<Item extends Holdable> implements HeldView {
  /** M1, highest first: the lowest leaves from the end. */
  #held: Held<Item>[] = [];
  readonly #bodyHashes = new Map<string, number>();
  /** Null after the oldest has left, until somebody asks. */
  #oldestMs: number | null = null;

  get count(): number {
    return this.#held.length;
  }

  get lowest(): ExternalPlace | null {
    return this.#held.at(-1)?.place ?? null;
  }

  /** M2 */
  get oldestMs(): number | null {
    if (this.#held.length === 0) return null;
    this.#oldestMs ??= this.#held.reduce((oldest, { item }) => Math.min(oldest, item.position.entry.ms), Infinity);
    return this.#oldestMs;
  }

  has(idHash: Hash64): boolean {
    return this.#bodyHashes.has(keyOf(idHash));
  }

  bodyHashOf(idHash: Hash64): number | undefined {
    return this.#bodyHashes.size === 0 ? undefined : this.#bodyHashes.get(keyOf(idHash));
  }

  /**
   * @param item one that the sequencer answered `hold` for
   * @throws Error if it has no place in the outside's order or its id is held already: our own mistake
   */
  add(item: Item): void {
    const place = placeOf(item);
    if (place === null) throw new Error("a message without a place in the outside's order cannot be held");
    if (this.has(item.idHash)) throw new Error("a message of this id is held already");
    this.#held.splice(this.#indexFor(place, item), 0, { item, place });
    this.#bodyHashes.set(keyOf(item.idHash), item.bodyHash);
    const { ms } = item.position.entry;
    if (this.#held.length === 1) this.#oldestMs = ms;
    else if (this.#oldestMs !== null) this.#oldestMs = Math.min(this.#oldestMs, ms);
  }

  /** The lowest. */
  peek(): Item | undefined {
    return this.#held.at(-1)?.item;
  }

  /** Takes the lowest. */
  shift(): Item | undefined {
    const item = this.#held.pop()?.item;
    if (item === undefined) return undefined;
    this.#bodyHashes.delete(keyOf(item.idHash));
    if (item.position.entry.ms === this.#oldestMs) this.#oldestMs = null;
    return item;
  }

  /** Lowest first. */
  *[Symbol.iterator](): Iterator<Item> {
    for (let i = this.#held.length - 1; i >= 0; i -= 1) yield this.#held[i]!.item;
  }

  clear(): void {
    this.#held = [];
    this.#bodyHashes.clear();
    this.#oldestMs = null;
  }

  /** How many stand above it. */
  #indexFor(place: ExternalPlace, item: Item): number {
    let from = 0;
    let to = this.#held.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      const other = this.#held[middle]!;
      const isAbove = (comparePlaces(other.place, place) || comparePositions(other.item.position, item.position)) > 0;
      if (isAbove) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

const keyOf = (hash: Hash64): string => `${hash.lo}:${hash.hi}`;
