// Event heap: what is due later, the earliest first. A binary heap; events of the same time keep their order.

import type { SimulatedLife } from "./scheduler.ts";

export interface ScheduledEvent {
  readonly life: SimulatedLife | null;
  readonly label: string;
  /** null once it has happened or was taken back. */
  run: (() => void) | null;
  readonly atMs: number;
  readonly order: number;
}

export class EventHeap {
  readonly #events: ScheduledEvent[] = [];

  /** When the next event is due that was not taken back; null if there is none. */
  get firstAtMs(): number | null {
    for (let first = this.#events[0]; first !== undefined; first = this.#events[0]) {
      if (first.run !== null && !first.life?.isDead) return first.atMs;
      this.#takeFirst();
    }
    return null;
  }

  push(event: ScheduledEvent): void {
    const events = this.#events;
    let at = events.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(events[parent]!, event)) break;
      events[at] = events[parent]!;
      at = parent;
    }
    events[at] = event;
  }

  /** The first event that is due by then; null if there is none. */
  takeDue(nowMs: number): ScheduledEvent | null {
    const firstAtMs = this.firstAtMs;
    return firstAtMs === null || firstAtMs > nowMs ? null : this.#takeFirst();
  }

  #takeFirst(): ScheduledEvent {
    const events = this.#events;
    const first = events[0]!;
    const moved = events.pop()!;
    if (events.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= events.length) break;
      if (child + 1 < events.length && isBefore(events[child + 1]!, events[child]!)) child += 1;
      if (isBefore(moved, events[child]!)) break;
      events[at] = events[child]!;
      at = child;
    }
    events[at] = moved;
    return first;
  }
}

const isBefore = (a: ScheduledEvent, b: ScheduledEvent): boolean =>
  a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
