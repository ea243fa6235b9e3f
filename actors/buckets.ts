// Buckets: which parent a new actor gets. They are filled one after the other, so that actors which started together share one,
// and a message to one of them touches nothing whose size grows with the number of all.
//
// Invariants
//   K1. A bucket has at most `sizeMax` actors.
//   K2. There is at most one bucket for each `sizeMax / 2` actors that there were at once, and one more.

export interface Bucket<Parent> {
  readonly parent: Parent;
  size: number;
}

export class Buckets<Parent> {
  readonly #sizeMax: number;
  readonly #makeParent: () => Parent;
  /** Those that emptied to half and are not being filled. */
  readonly #withRoom: Bucket<Parent>[] = [];
  #open: Bucket<Parent> | null = null;

  constructor(sizeMax: number, makeParent: () => Parent) {
    this.#sizeMax = sizeMax;
    this.#makeParent = makeParent;
  }

  /** A place for one actor; give it back once. */
  take(): Bucket<Parent> {
    if (this.#open === null || this.#open.size >= this.#sizeMax)
      this.#open = this.#withRoom.pop() ?? { parent: this.#makeParent(), size: 0 };
    this.#open.size += 1;
    return this.#open;
  }

  giveBack(bucket: Bucket<Parent>): void {
    bucket.size -= 1;
    if (bucket.size === Math.floor(this.#sizeMax / 2) && bucket !== this.#open) this.#withRoom.push(bucket);
  }
}
