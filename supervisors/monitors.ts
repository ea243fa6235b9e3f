// Monitors: who wants to hear that a child or a supervisor is no longer there. Each hears once.

import type { Log } from "../src/log.ts";
import { type DownReason, type ExitReason, NOPROC } from "./exit-reason.ts";

export interface Down {
  readonly supervisor: string;
  /** Null: the supervisor itself. */
  readonly child: string | null;
  /** The incarnation that ended; null for a supervisor, and where there was none. */
  readonly incarnation: number | null;
  readonly reason: DownReason;
}

/** Called as soon as the end is known, before anything is restarted. What it throws is logged and concerns nobody else. */
export type OnDown = (down: Down) => void;

interface Monitor {
  readonly child: string | null;
  readonly onDown: OnDown;
}

export class Monitors {
  readonly #supervisor: string;
  readonly #log: Log;
  readonly #byIncarnation = new Map<number | null, Set<Monitor>>();

  constructor(supervisor: string, log: Log) {
    this.#supervisor = supervisor;
    this.#log = log;
  }

  add(child: string | null, incarnation: number | null, onDown: OnDown): () => void {
    const monitor: Monitor = { child, onDown };
    const monitors = this.#byIncarnation.get(incarnation) ?? new Set();
    this.#byIncarnation.set(incarnation, monitors.add(monitor));
    return () => {
      monitors.delete(monitor);
      if (monitors.size === 0 && this.#byIncarnation.get(incarnation) === monitors)
        this.#byIncarnation.delete(incarnation);
    };
  }

  tellNoproc(child: string | null, onDown: OnDown): () => void {
    this.#tell({ child, onDown }, null, NOPROC);
    return () => undefined;
  }

  down(incarnation: number | null, reason: ExitReason): void {
    const monitors = this.#byIncarnation.get(incarnation);
    this.#byIncarnation.delete(incarnation);
    for (const monitor of monitors ?? []) this.#tell(monitor, incarnation, reason);
  }

  /** The supervisor ended, and no child outlives it. */
  over(reason: ExitReason): void {
    for (const incarnation of [...this.#byIncarnation.keys()]) this.down(incarnation, reason);
  }

  #tell({ child, onDown }: Monitor, incarnation: number | null, reason: DownReason): void {
    try {
      onDown({ supervisor: this.#supervisor, child, incarnation, reason });
    } catch (error) {
      this.#log.error({ supervisor: this.#supervisor, child, error }, "a monitor failed when it was told of an end");
    }
  }
}
