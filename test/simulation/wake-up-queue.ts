// Wake-up queue: the twin of BullMQ behind the port WakeUps, one for each shard, shared by all processes and outliving them. At
// most one wake-up of a lane waits. It loses, doubles and delays them as the real one may; the sweep has to make up for it.

import type { Alarm, Ring, WakeUps } from "../../actors/retry-worker.ts";
import type { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import type { Stage, Step } from "./steps.ts";

export interface WakeUpFaults {
  /** Share of wake-ups that meet each: never kept, rung twice, rung up to `LATE_MS` late. */
  readonly lost: number;
  readonly doubled: number;
  readonly late: number;
}

type Reached = (step: Step, stage: Stage, life: SimulatedLife) => void;

const LATE_MS = 3_000;
/** A worker that went silent with a job loses it after this. */
const STALLED_MS = 10_000;
const NO_WORKER_CHECK_MS = 1_000;

interface Worker {
  readonly life: SimulatedLife;
  readonly ring: Ring;
}

export class WakeUpQueue {
  readonly hits = { lost: 0, doubled: 0, late: 0, stalled: 0 };
  readonly #scheduler: Scheduler;
  readonly #faults: WakeUpFaults;
  readonly #reached: Reached;
  readonly #workers = new Set<Worker>();
  /** Lanes with a wake-up that waits or is being rung. */
  readonly #jobs = new Set<Alarm>();

  constructor(scheduler: Scheduler, faults: WakeUpFaults, reached: Reached) {
    this.#scheduler = scheduler;
    this.#faults = faults;
    this.#reached = reached;
  }

  port(life: SimulatedLife, ring: Ring): WakeUps {
    const worker: Worker = { life, ring };
    return {
      start: () => void this.#workers.add(worker),
      schedule: (key, delayMs) => {
        this.#workers.add(worker);
        this.#reached("S11 wake-up left", "before", life);
        if (life.isDead) return;
        this.#scheduler.schedule("wake-up left", 0, () => this.#add(key, delayMs));
        this.#scheduler.afterwards(() => this.#reached("S11 wake-up left", "after", life));
      },
      stop: async () => void this.#workers.delete(worker),
    };
  }

  #add(key: Alarm, delayMs: number): void {
    if (this.#jobs.has(key)) return;
    const dice = this.#scheduler.random();
    const { lost, doubled, late } = this.#faults;
    if (dice < lost) {
      this.hits.lost += 1;
      return;
    }
    this.#jobs.add(key);
    const isLate = dice > 1 - late;
    if (isLate) this.hits.late += 1;
    this.#claimAfter(key, delayMs + (isLate ? this.#scheduler.random() * LATE_MS : 0));
    if (dice < lost + doubled) {
      this.hits.doubled += 1;
      this.#claimAfter(key, delayMs);
    }
  }

  #claimAfter(key: Alarm, delayMs: number): void {
    this.#scheduler.schedule("wake-up due", delayMs, () => this.#claim(key));
  }

  /** By any process with a worker, the shard's owner or not: one that does not own it rings nothing and is done. */
  #claim(key: Alarm): void {
    if (!this.#jobs.has(key)) return;
    for (const worker of this.#workers) if (worker.life.isDead) this.#workers.delete(worker);
    const workers = [...this.#workers];
    const worker = workers[Math.floor(this.#scheduler.random() * workers.length)];
    if (worker === undefined) {
      this.#claimAfter(key, NO_WORKER_CHECK_MS);
      return;
    }
    const { life, ring } = worker;
    const stalled = this.#scheduler.schedule("wake-up stalled", STALLED_MS, () => {
      this.hits.stalled += 1;
      this.#claim(key);
    });
    life.schedule("wake-up claimed", 0, () => {
      this.#reached("S12 wake-up claimed", "before", life);
      if (life.isDead) return;
      ring(key);
      this.#scheduler.afterwards(() => this.#reached("S12 wake-up claimed", "after", life));
      life.schedule("wake-up finished", 0, () => {
        this.#reached("S16 wake-up finished", "before", life);
        if (life.isDead) return;
        stalled.cancel();
        this.#jobs.delete(key);
        this.#scheduler.afterwards(() => this.#reached("S16 wake-up finished", "after", life));
      });
    });
  }
}
