// Running turns: the node's bound on handlers that wait for something, and the clock that ends those that take too long.

import type { Environment, Timer } from "../src/environment.ts";
import type { Turn } from "./turn.ts";

const SWEEP_MS = 250;

export class RunningTurns {
  readonly #environment: Environment;
  readonly #max: number;
  readonly #turns = new Set<Turn>();
  readonly #waiting = new Set<() => void>();
  #sweep: Timer | null = null;

  constructor(environment: Environment, max: number) {
    this.#environment = environment;
    this.#max = max;
  }

  get hasRoom(): boolean {
    return this.#turns.size < this.#max;
  }

  /** Calls back once, when there is room again. */
  onRoom(wake: () => void): void {
    this.#waiting.add(wake);
  }

  add(turn: Turn): void {
    turn.deadlineMs = this.#environment.monotonicMs() + turn.timeoutMs;
    this.#turns.add(turn);
    this.#sweep ??= this.#environment.after(SWEEP_MS, () => this.#expireOverdue());
  }

  remove(turn: Turn): void {
    this.#turns.delete(turn);
    this.#wakeNext();
  }

  /** One at a time, as long as there is room: who is woken may need no place, or may have been stopped meanwhile. */
  #wakeNext(): void {
    if (!this.hasRoom) return;
    for (const wake of this.#waiting) {
      this.#waiting.delete(wake);
      wake();
      if (this.#waiting.size > 0) this.#environment.soon(() => this.#wakeNext());
      return;
    }
  }

  #expireOverdue(): void {
    const nowMs = this.#environment.monotonicMs();
    for (const turn of this.#turns) if (turn.deadlineMs <= nowMs) turn.expire();
    this.#sweep = this.#turns.size > 0 ? this.#environment.after(SWEEP_MS, () => this.#expireOverdue()) : null;
  }
}
