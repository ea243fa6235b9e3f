// Waiting line: first come, first served, and whoever is in it may leave it from any place; each step takes constant time.
//
// A Set keeps the same order, but finding its first element passes all that were removed since it last shrank: with 100,000 in it
// that is a walk for each one served.

interface Place<Item> {
  readonly item: Item;
  before: Place<Item> | null;
  behind: Place<Item> | null;
}

export class WaitingLine<Item> {
  readonly #places = new Map<Item, Place<Item>>();
  #first: Place<Item> | null = null;
  #last: Place<Item> | null = null;

  get length(): number {
    return this.#places.size;
  }

  /** One that is in it keeps its place. */
  join(item: Item): void {
    if (this.#places.has(item)) return;
    const place: Place<Item> = { item, before: this.#last, behind: null };
    if (this.#last === null) this.#first = place;
    else this.#last.behind = place;
    this.#last = place;
    this.#places.set(item, place);
  }

  /** Nothing happens to one that is not in it. */
  leave(item: Item): void {
    const place = this.#places.get(item);
    if (place === undefined) return;
    this.#places.delete(item);
    if (place.before === null) this.#first = place.behind;
    else place.before.behind = place.behind;
    if (place.behind === null) this.#last = place.before;
    else place.behind.before = place.before;
  }

  /** Takes the first out of it; undefined if nobody is in it. */
  shift(): Item | undefined {
    const first = this.#first;
    if (first === null) return undefined;
    this.leave(first.item);
    return first.item;
  }
}
