// Recent ids: proves duplicates. Only ids do that, never a watermark (attack B8), and never a Redis key per message.
//
// A slot is 16 bytes: keyed hash of the external id (8), second of admission (4), CRC of the body (4). Time is the ms part of
// the inbox entry that carried the message, so that two admissions are compared on one clock, Redis', and the answer is the
// same whenever the message is decided.
//
// Invariants
//   I1. An id leaves only when `dedupeMs` older than the newest one, or as one beyond `dedupeMax`; the latter, if young, is counted.
//   I2. Stored bytes followed by what `takeChange` gave out equal what is resident.

import type { Hash64 } from "./hash.ts";

export const SLOT_BYTES = 16;

export interface DedupeBounds {
  readonly dedupeMs: number;
  readonly dedupeMax: number;
}

/** What the next commit must store: slots to append, or all that remain. */
export type IdsChange = { readonly kind: "append" | "rewrite"; readonly bytes: Uint8Array };

export type Seen = "new" | "duplicate" | "conflict";

export class RecentIds {
  /** Young ids that had to leave because there were more than `dedupeMax`. */
  leftYoung = 0;
  #bounds: DedupeBounds;
  #slots: Uint8Array;
  #view: DataView;
  #count: number;
  #stored: number;
  #rewritten = false;
  /** Open addressing over slot numbers + 1; at most half full. */
  #table: Uint32Array;

  /** @param stored bytes from the store, whole slots; null for none */
  constructor(bounds: DedupeBounds, stored: Uint8Array | null) {
    const count = stored === null ? 0 : Math.floor(stored.length / SLOT_BYTES);
    this.#bounds = bounds;
    this.#slots = new Uint8Array(Math.max(4, count + (count >> 1)) * SLOT_BYTES);
    if (stored !== null) this.#slots.set(stored.subarray(0, count * SLOT_BYTES));
    this.#view = new DataView(this.#slots.buffer);
    this.#count = count;
    this.#stored = count;
    this.#table = this.#index();
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#slots.length + this.#table.byteLength;
  }

  /** Has this id been decided within `dedupeMs` before `atMs`? `conflict` means yes, with another body: the first one won. */
  seen(id: Hash64, atMs: number, bodyHash: number): Seen {
    const mask = this.#table.length - 1;
    for (let at = id.lo & mask; ; at = (at + 1) & mask) {
      const slot = this.#table[at]!;
      if (slot === 0) return "new";
      const offset = (slot - 1) * SLOT_BYTES;
      if (this.#view.getUint32(offset, true) !== id.lo || this.#view.getUint32(offset + 4, true) !== id.hi) continue;
      if (!this.#isYoung(offset, atMs)) continue;
      return this.#view.getUint32(offset + 12, true) === bodyHash ? "duplicate" : "conflict";
    }
  }

  add(id: Hash64, atMs: number, bodyHash: number): void {
    if (this.#count * SLOT_BYTES === this.#slots.length) this.#makeRoom(atMs);
    const offset = this.#count * SLOT_BYTES;
    this.#view.setUint32(offset, id.lo, true);
    this.#view.setUint32(offset + 4, id.hi, true);
    this.#view.setUint32(offset + 8, Math.floor(atMs / 1000), true);
    this.#view.setUint32(offset + 12, bodyHash, true);
    this.#count += 1;
    if (this.#count * 2 > this.#table.length) this.#table = this.#index();
    else this.#enter(this.#table, this.#count - 1);
  }

  /** What changed since the last call; the caller stores it, or forgets this object. */
  takeChange(): IdsChange | null {
    const from = this.#rewritten ? 0 : this.#stored;
    const kind = this.#rewritten ? "rewrite" : "append";
    this.#stored = this.#count;
    this.#rewritten = false;
    if (kind === "append" && from === this.#count) return null;
    return { kind, bytes: this.#slots.slice(from * SLOT_BYTES, this.#count * SLOT_BYTES) };
  }

  #isYoung(offset: number, atMs: number): boolean {
    return atMs - this.#view.getUint32(offset + 8, true) * 1000 <= this.#bounds.dedupeMs + 1000;
  }

  /** I1: drops what is old if that is half or more, else what is beyond `dedupeMax`, else grows. */
  #makeRoom(nowMs: number): void {
    let young = 0;
    for (let slot = 0; slot < this.#count; slot += 1) if (this.#isYoung(slot * SLOT_BYTES, nowMs)) young += 1;
    const atMost = this.#bounds.dedupeMax * 2;
    if (young * 2 > this.#count && this.#count < atMost) {
      this.#resize(Math.min(this.#count * 2, atMost));
    } else {
      const drop = Math.max(0, young - this.#bounds.dedupeMax);
      this.leftYoung += drop;
      this.#keepYoung(nowMs, drop);
    }
  }

  #keepYoung(nowMs: number, alsoDrop: number): void {
    let kept = 0;
    let dropping = alsoDrop;
    for (let slot = 0; slot < this.#count; slot += 1) {
      const offset = slot * SLOT_BYTES;
      if (!this.#isYoung(offset, nowMs)) continue;
      if (dropping > 0) {
        dropping -= 1;
        continue;
      }
      this.#slots.copyWithin(kept * SLOT_BYTES, offset, offset + SLOT_BYTES);
      kept += 1;
    }
    this.#count = kept;
    this.#rewritten = true;
    this.#table = this.#index();
  }

  #resize(slots: number): void {
    const bigger = new Uint8Array(slots * SLOT_BYTES);
    bigger.set(this.#slots.subarray(0, this.#count * SLOT_BYTES));
    this.#slots = bigger;
    this.#view = new DataView(bigger.buffer);
  }

  #index(): Uint32Array {
    let size = 16;
    while (size < this.#count * 4) size *= 2;
    const table = new Uint32Array(size);
    for (let slot = 0; slot < this.#count; slot += 1) this.#enter(table, slot);
    return table;
  }

  #enter(table: Uint32Array, slot: number): void {
    const mask = table.length - 1;
    let at = this.#view.getUint32(slot * SLOT_BYTES, true) & mask;
    while (table[at] !== 0) at = (at + 1) & mask;
    table[at] = slot + 1;
  }
}
