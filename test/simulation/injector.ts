// Injector: decides by the seed which faults a run meets, and where: a few cells of the step matrix on purpose, so that over many
// seeds each is hit, and the rest by chance.

import type { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import type { CallFate } from "../../src/testing/simulated-store.ts";
import { CELLS, type Cell, cellName, type FaultKind, type Stage, type Step } from "./steps.ts";

/** How rough the world of one run is. */
export interface Weather {
  /** Share of the calls to the store that meet a fault. */
  readonly store: number;
  /** Share of the deliveries that do not end well. */
  readonly delivery: number;
  /** Share of the deliveries that are refused for good. */
  readonly refusal: number;
  /** Share of the turns that throw, and of those that hang. */
  readonly handler: number;
  readonly hang: number;
  /** Share of the messages whose handler throws several times, or says that there is no help; and of those that end the process. */
  readonly poison: number;
  readonly killer: number;
  /** Share of the messages with a number that never come, and of those that come late. */
  readonly missing: number;
  /** Whether most channels have numbers. */
  readonly needsNumbers: boolean;
  /** Share of requests and answers between sender and runtime that get lost, come twice or late. */
  readonly network: number;
  readonly wakeUps: number;
}

const CELLS_PER_SEED = 7;
/** How often a step passes before its fault strikes, at most. */
const PASSES_MAX = 6;

interface Armed {
  readonly cell: Cell;
  passes: number;
}

/** Seeds in a row share no cell until all have had their turn. */
export function cellsOf(seed: number): readonly Cell[] {
  return Array.from({ length: CELLS_PER_SEED }, (_, i) => CELLS[(seed * CELLS_PER_SEED + i) % CELLS.length]!);
}

export function weatherOf(random: () => number, cells: readonly Cell[]): Weather {
  const pick = (...shares: readonly number[]): number => shares[Math.floor(random() * shares.length)]!;
  const has = (...steps: readonly Step[]): boolean => cells.some(({ step }) => steps.includes(step));
  const needsRetries = has(
    "S9 commit lane",
    "S11 wake-up left",
    "S12 wake-up claimed",
    "S16 wake-up finished",
    "S20 commit lane list",
  );
  const needsNumbers = has("S20 move timers");
  const needsPoison = has(
    "S21 commit dead message",
    "S17 commit notice",
    "S9 commit halt",
    "S17 verb",
    "S22 commit redrive",
  );
  return {
    store: pick(0, 0.01, 0.04, 0.1),
    delivery: needsRetries ? 0.3 : pick(0, 0.1, 0.3),
    refusal: has("S21 commit dead") ? 0.15 : pick(0, 0, 0.02),
    handler: pick(0, 0.03, 0.1),
    hang: pick(0, 0.005, 0.02),
    poison: needsPoison ? 0.12 : pick(0, 0.03, 0.08),
    killer: pick(0, 0, 0.01),
    missing: needsNumbers ? 0.15 : pick(0, 0.04, 0.1),
    needsNumbers,
    network: pick(0, 0.05, 0.15),
    wakeUps: pick(0, 0.2, 0.5),
  };
}

export class Injector {
  /** By cell of the step matrix. */
  readonly cellHits = new Map<string, number>();
  /** By kind of fault, wherever it came. */
  readonly faultHits = new Map<string, number>();
  /** False ends all of them. */
  isOn = true;
  readonly #scheduler: Scheduler;
  readonly #weather: Weather;
  readonly #strike: (kind: FaultKind, life: SimulatedLife) => void;
  readonly #armed: Armed[];

  constructor(
    scheduler: Scheduler,
    weather: Weather,
    cells: readonly Cell[],
    strike: (kind: FaultKind, life: SimulatedLife) => void,
  ) {
    this.#scheduler = scheduler;
    this.#weather = weather;
    this.#strike = strike;
    this.#armed = cells.map((cell) => ({ cell, passes: Math.floor(scheduler.random() * PASSES_MAX) }));
  }

  reached = (step: Step, stage: Stage, life: SimulatedLife): void => {
    if (!this.isOn || life.isDead || life.isPaused) return;
    for (const armed of this.#armed) {
      if (armed.cell.step !== step || armed.cell.stage !== stage) continue;
      armed.passes -= 1;
      if (armed.passes >= 0) continue;
      this.#armed.splice(this.#armed.indexOf(armed), 1);
      const name = cellName(armed.cell);
      this.cellHits.set(name, (this.cellHits.get(name) ?? 0) + 1);
      this.count(armed.cell.kind);
      this.#strike(armed.cell.kind, life);
      return;
    }
  };

  /** Whether a fault of this share strikes now. */
  strikes(what: string, share: number): boolean {
    if (!this.isOn || share === 0 || this.#scheduler.random() >= share) return false;
    this.count(what);
    return true;
  }

  fate = (): CallFate => {
    const { store } = this.#weather;
    if (!this.isOn || store === 0 || this.#scheduler.random() >= store) return "pass";
    const fate = FATES[Math.floor(this.#scheduler.random() * FATES.length)]!;
    this.count(`call ${fate}`);
    return fate;
  };

  count(what: string): void {
    this.faultHits.set(what, (this.faultHits.get(what) ?? 0) + 1);
  }
}

const FATES: readonly CallFate[] = ["refused", "lost", "unanswered", "ghost"];
