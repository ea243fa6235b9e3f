// Scheduler: virtual time, and the one place that says what happens next. Whatever a simulated process or the world around
// it waits for is an event here; the scheduler picks one of those that can happen now, by a seed.
//
// Invariants
//   E1. One event runs at a time, and the next one is picked only when all that follows from it at once has happened.
//   E2. The same seed and the same events give the same run: nothing here reads a clock, and nothing real is waited for but
//       the event loop's own queues, which are first in, first out.
//   E3. Time passes from due time to due time, when nothing else can happen or, with `hasteShare`, now and then before; an
//       event never happens before it is due.
//   E4. Nothing of a dead process happens, and nothing of a paused one before it goes on.

import type { Environment, Timer } from "../environment.ts";
import { EventHeap, type ScheduledEvent } from "./event-heap.ts";
import { seededRandom } from "./seeded-random.ts";

export interface SchedulerOptions {
  readonly seed: number;
  /** Share of the steps in which a little time passes to the next due event although others could happen now; default 0. */
  readonly hasteShare?: number;
  /** Told of each event just before it happens. */
  readonly onEvent?: (event: { readonly label: string; readonly process: string; readonly atMs: number }) => void;
}

/** A time like any other; what counts is that it is always the same. */
const START_MS = 1_700_000_000_000;
/** What can happen now is not held up for longer than this by one step in haste. */
const HASTE_MS_MAX = 500;
/**
 * Turns of the event loop after each event. In the first, promises settle and what an event told an actor is handled; the
 * second is for what an actor was told meanwhile.
 */
const ROUNDS_PER_EVENT = 2;
/** So many events at one moment are an endless loop: what works gets on with less, and time has to pass. */
const EVENTS_AT_ONCE_MAX = 200_000;
/** Taken when the module is loaded, so that a test's fake timers do not stop the simulation itself. */
const nextTurn = setImmediate;

export class Scheduler {
  /** Uniform in [0, 1), by the seed. */
  readonly random: () => number;
  readonly #hasteShare: number;
  readonly #onEvent: SchedulerOptions["onEvent"];
  readonly #due: ScheduledEvent[] = [];
  readonly #later = new EventHeap();
  #nowMs = START_MS;
  /** How many have happened since `#nowMs` changed. */
  #atOnce = { atMs: START_MS, events: 0 };
  #order = 0;
  #afterwards: (() => void)[] = [];
  /** Events that have happened. */
  count = 0;

  constructor({ seed, hasteShare = 0, onEvent }: SchedulerOptions) {
    this.random = seededRandom(seed);
    this.#hasteShare = hasteShare;
    this.#onEvent = onEvent;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** An event of the world outside of all processes. */
  schedule(label: string, delayMs: number, run: () => void): Timer {
    return this.scheduleFor(null, label, delayMs, run);
  }

  /** @internal for `SimulatedLife` */
  scheduleFor(life: SimulatedLife | null, label: string, delayMs: number, run: () => void): Timer {
    this.#order += 1;
    const event: ScheduledEvent = { life, label, run, atMs: this.#nowMs + Math.ceil(delayMs), order: this.#order };
    if (event.atMs > this.#nowMs) this.#later.push(event);
    else this.#due.push(event);
    return { cancel: () => cancel(event) };
  }

  /** @internal an event that was held back can happen again */
  again(event: ScheduledEvent): void {
    this.#due.push(event);
  }

  /** Whether something can happen without time passing. */
  get canMove(): boolean {
    this.#fetchDue();
    for (let i = this.#due.length - 1; i >= 0; i -= 1) {
      if (this.#isReady(this.#due[i]!)) return true;
      this.#takeDue(i);
    }
    return false;
  }

  /**
   * Lets one event happen, and all that follows from it at once.
   * @param untilMs how far time may pass
   * @returns false if nothing can happen up to then
   * @throws Error when events follow each other without end and time does not pass
   */
  async step(untilMs: number = Number.POSITIVE_INFINITY): Promise<boolean> {
    const event = this.#next(untilMs);
    if (event === null) return false;
    this.count += 1;
    this.#checkTimePasses(event);
    this.#onEvent?.({ label: event.label, process: event.life?.name ?? "world", atMs: this.#nowMs });
    const { run } = event;
    cancel(event);
    run?.();
    await this.#breathe();
    for (const each of this.#afterwards.splice(0)) each();
    return true;
  }

  /** When all that follows at once from the event that happens now has happened. */
  afterwards(run: () => void): void {
    this.#afterwards.push(run);
  }

  /** All that can happen without time passing. */
  async settle(): Promise<void> {
    await this.#breathe();
    while (this.canMove) await this.step(this.#nowMs);
  }

  /** Time passes, and all that is due in it happens. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await this.#breathe();
    while (await this.step(endMs));
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  /** Lets things happen until `isSo` holds. @returns false if it does not within `limitMs` */
  async until(isSo: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.#nowMs + limitMs;
    await this.#breathe();
    while (!isSo()) if (!(await this.step(endMs))) return isSo();
    return true;
  }

  #checkTimePasses({ label, life }: ScheduledEvent): void {
    if (this.#atOnce.atMs !== this.#nowMs) this.#atOnce = { atMs: this.#nowMs, events: 0 };
    this.#atOnce.events += 1;
    if (this.#atOnce.events <= EVENTS_AT_ONCE_MAX) return;
    throw new Error(
      `${EVENTS_AT_ONCE_MAX} events happened and no time passed: something waits in an endless loop. The next one: "${label}" of ${life?.name ?? "the world"}.`,
    );
  }

  /** What has just begun gets as far as its next events. */
  async #breathe(): Promise<void> {
    for (let round = 0; round < ROUNDS_PER_EVENT; round += 1) await new Promise<void>((resolve) => nextTurn(resolve));
  }

  #next(untilMs: number): ScheduledEvent | null {
    for (;;) {
      const isHasty = this.#hasteShare > 0 && this.random() < this.#hasteShare;
      if (isHasty || !this.canMove) {
        const atMs = this.#later.firstAtMs;
        const endMs = this.canMove ? Math.min(untilMs, this.#nowMs + HASTE_MS_MAX) : untilMs;
        if (atMs !== null && atMs <= endMs)
          this.#nowMs = Math.max(this.#nowMs, atMs); // E3
        else if (!this.canMove) return null;
      }
      if (!this.canMove) continue; // what became due is of a process that is paused or dead
      const event = this.#takeDue(Math.floor(this.random() * this.#due.length));
      if (this.#isReady(event)) return event;
    }
  }

  #fetchDue(): void {
    for (let event = this.#later.takeDue(this.#nowMs); event !== null; event = this.#later.takeDue(this.#nowMs)) {
      this.#due.push(event);
    }
  }

  #takeDue(index: number): ScheduledEvent {
    const event = this.#due[index]!;
    const last = this.#due.pop()!;
    if (index < this.#due.length) this.#due[index] = last;
    return event;
  }

  /** E4: false also holds an event back for the end of a pause. */
  #isReady(event: ScheduledEvent): boolean {
    if (event.run === null || event.life?.isDead) return false;
    if (!event.life?.isPaused) return true;
    event.life.hold(event);
    return false;
  }
}

/** The time of one process, from its start to its end: what it waits for ends with it. */
export class SimulatedLife implements Environment {
  readonly name: string;
  readonly #scheduler: Scheduler;
  readonly #held: ScheduledEvent[] = [];
  isDead = false;
  isPaused = false;
  /** How far its wall clock is off, ms. */
  skewMs = 0;

  constructor(scheduler: Scheduler, name: string) {
    this.#scheduler = scheduler;
    this.name = name;
  }

  nowMs = (): number => this.#scheduler.nowMs + this.skewMs;
  monotonicMs = (): number => this.#scheduler.nowMs;
  random = (): number => this.#scheduler.random();
  soon = (run: () => void): void => void this.schedule("soon", 0, run);
  after = (delayMs: number, run: () => void): Timer => this.schedule("timer", delayMs, run);

  schedule(label: string, delayMs: number, run: () => void): Timer {
    return this.#scheduler.scheduleFor(this, label, delayMs, run);
  }

  /** @internal */
  hold(event: ScheduledEvent): void {
    this.#held.push(event);
  }

  /** Like SIGSTOP: what it waits for goes on to happen, and it learns of it only when it goes on. */
  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    for (const event of this.#held.splice(0)) this.#scheduler.again(event);
  }

  /** Like SIGKILL. */
  kill(): void {
    this.isDead = true;
    this.#held.length = 0;
  }
}

function cancel(event: ScheduledEvent): void {
  event.run = null;
}
