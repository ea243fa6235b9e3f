// Running turns: the node's bound on handlers that wait for something, and the clock that ends those that take too long.

import type { ConversationKey } from "../src/domain/ids.ts";
import type { Environment, Timer } from "../src/environment.ts";
import type { Turn } from "./turn.ts";

const SWEEP_MS = 250;

export class RunningTurns {
  readonly #environment: Environment;
  readonly #max: number;
  readonly #turns = new Set<Turn>();
  readonly #waiting = new Map<() => void, ConversationKey>();
  #sweep: Timer | null = null;
  /** By who asked for it, in that order: the first has it. */
  readonly #alone = new Map<unknown, { readonly key: ConversationKey; onAlone: (() => void) | null }>();

  constructor(environment: Environment, max: number) {
    this.#environment = environment;
    this.#max = max;
  }

  /** Whether a turn of this conversation may begin now. */
  hasRoomFor(key: ConversationKey): boolean {
    const first = this.#firstAlone;
    if (first === null) return this.#turns.size < this.#max;
    return first.key === key && this.#turns.size === 0;
  }

  /**
   * From now on only this conversation begins a turn, after those for which others asked before; null: for all this one cares all may
   * again.
   * @param onAlone called when it is its turn and no other runs any more
   * @param asker   each may ask for one at a time
   */
  leaveAlone(key: ConversationKey | null, onAlone?: () => void, asker: unknown = this): void {
    this.#alone.delete(asker);
    if (key !== null) this.#alone.set(asker, { key, onAlone: onAlone ?? null });
    this.#lookAlone();
    this.#wakeNext();
  }

  get #firstAlone(): { readonly key: ConversationKey; onAlone: (() => void) | null } | null {
    for (const first of this.#alone.values()) return first;
    return null;
  }

  #lookAlone(): void {
    const first = this.#firstAlone;
    if (first === null || this.#turns.size > 0) return;
    const { onAlone } = first;
    first.onAlone = null;
    onAlone?.();
  }

  /** Calls back once, when there is room for this conversation again. */
  onRoom(key: ConversationKey, wake: () => void): void {
    this.#waiting.set(wake, key);
  }

  add(turn: Turn): void {
    turn.deadlineMs = this.#environment.monotonicMs() + turn.timeoutMs;
    this.#turns.add(turn);
    this.#sweep ??= this.#environment.after(SWEEP_MS, () => this.#expireOverdue());
  }

  remove(turn: Turn): void {
    this.#turns.delete(turn);
    this.#lookAlone();
    this.#wakeNext();
  }

  /** One at a time, as long as there is room: who is woken may need no place, or may have been stopped meanwhile. */
  #wakeNext(): void {
    for (const [wake, key] of this.#waiting) {
      if (!this.hasRoomFor(key)) {
        if (this.#firstAlone === null) return; // nor for any other
        continue;
      }
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
