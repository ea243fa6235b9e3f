// Running turns: the node's bound on handlers that wait for something, and the clock that ends those that take too long.

import type { Environment, Timer } from "../src/environment.ts";
import type { Turn } from "./turn.ts";

const SWEEP_MS = 250;

export class RunningTurns {
  readonly #environment: Environment;
  readonly #max: number;
  readonly #deadlines = new Map<Turn, { readonly atMs: number; readonly timeoutMs: number }>();
  readonly #waiting = new Set<() => void>();
  #sweep: Timer | null = null;

  constructor(environment: Environment, max: number) {
    this.#environment = environment;
    this.#max = max;
  }

  get hasRoom(): boolean {
    return this.#deadlines.size < this.#max;
  }

  /** Calls back once, when there is room again. */
  onRoom(wake: () => void): void {
    this.#waiting.add(wake);
  }

  add(turn: Turn, timeoutMs: number): void {
    this.#deadlines.set(turn, { atMs: this.#environment.monotonicMs() + timeoutMs, timeoutMs });
    this.#sweep ??= this.#environment.after(SWEEP_MS, () => this.#expireOverdue());
  }

  remove(turn: Turn): void {
    this.#deadlines.delete(turn);
    for (const wake of this.#waiting) {
      this.#waiting.delete(wake);
      wake();
      return;
    }
  }

  #expireOverdue(): void {
    const nowMs = this.#environment.monotonicMs();
    for (const [turn, deadline] of this.#deadlines) if (deadline.atMs <= nowMs) turn.expire(deadline.timeoutMs);
    this.#sweep = this.#deadlines.size > 0 ? this.#environment.after(SWEEP_MS, () => this.#expireOverdue()) : null;
  }
}
