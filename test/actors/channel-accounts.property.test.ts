// Q1 to Q4 of actors/channel-accounts.ts: whatever happens at an account, it does what a naive one does that looks at everything, each ms.

import { test as propertyTest } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect } from "vitest";
import { type AccountWaiter, type AttemptEnd, ChannelAccount } from "../../actors/channel-accounts.ts";
import type { Environment, Timer } from "../../src/environment.ts";

/** Time that passes only when it is told to, ms by ms. */
class Clock implements Environment {
  #nowMs = 1_000;
  readonly #timers = new Map<Timer, { atMs: number; run: () => void }>();

  nowMs = (): number => this.#nowMs;
  monotonicMs = (): number => this.#nowMs;
  random = (): number => 0.5;
  soon = (run: () => void): void => run();

  after = (delayMs: number, run: () => void): Timer => {
    const timer = { cancel: () => void this.#timers.delete(timer) };
    this.#timers.set(timer, { atMs: this.#nowMs + delayMs, run });
    return timer;
  };

  tick(): void {
    this.#nowMs += 1;
    for (const [timer, { atMs, run }] of [...this.#timers]) {
      if (atMs > this.#nowMs || !this.#timers.delete(timer)) continue;
      run();
    }
  }
}

interface Options {
  readonly concurrency: number;
  /** Ms that a token takes to come; null: no rate. */
  readonly tokenMs: number | null;
  readonly burst: number;
  readonly breakerFailures: number;
}

const OPEN_MS = 40;
const OPEN_MS_MAX = 160;

/** What an account is to do, by looking at everything again after each event. Those who wait and are not used to it leave at once. */
class NaiveAccount {
  readonly admitted: number[] = [];
  waiting: { id: number; isGone: boolean }[] = [];
  inFlight = 0;
  openings = 0;
  readonly #options: Options;
  readonly #nowMs: () => number;
  #failures = 0;
  /** Null: it is not open. */
  #opensAgainAtMs: number | null = null;
  #openMs = OPEN_MS;
  #isProbing = false;
  #placesBack: number;
  /** Worth of the bucket in ms, and since when. */
  #worthMs: number;
  #worthAtMs: number;

  constructor(options: Options, nowMs: () => number) {
    this.#options = options;
    this.#nowMs = nowMs;
    this.#placesBack = options.concurrency;
    this.#worthMs = this.#fullMs;
    this.#worthAtMs = nowMs();
  }

  get breaker(): string {
    if (this.#isProbing) return "half-open";
    return this.#opensAgainAtMs === null ? "closed" : "open";
  }

  get places(): number {
    return this.#placesBack;
  }

  enters(): boolean {
    return this.waiting.length === 0 && this.#starts();
  }

  wait(id: number, isGone: boolean): void {
    this.waiting.push({ id, isGone });
    this.look();
  }

  cancel(id: number): void {
    this.waiting = this.waiting.filter((each) => each.id !== id);
  }

  leave(ended: AttemptEnd): void {
    this.inFlight -= 1;
    if (ended === "unused") this.#giveTokenBack();
    else if (ended === "retryable" || ended === "ambiguous") this.#failed();
    else this.#answered();
    this.look();
  }

  look(): void {
    for (let first = this.waiting[0]; first !== undefined && this.#starts(); first = this.waiting[0]) {
      this.waiting.shift();
      this.admitted.push(first.id);
      if (!first.isGone) continue;
      this.inFlight -= 1;
      this.#giveTokenBack();
    }
  }

  get #fullMs(): number {
    return this.#options.burst * (this.#options.tokenMs ?? 0);
  }

  #starts(): boolean {
    if (this.inFlight >= (this.breaker === "closed" ? this.#placesBack : 1)) return false;
    if (this.#opensAgainAtMs !== null) {
      if (this.#nowMs() < this.#opensAgainAtMs) return false;
      this.#opensAgainAtMs = null;
      this.#isProbing = true;
    }
    const { tokenMs } = this.#options;
    if (tokenMs !== null) {
      this.#worthMs = Math.min(this.#fullMs, this.#worthMs + this.#nowMs() - this.#worthAtMs);
      this.#worthAtMs = this.#nowMs();
      if (this.#worthMs < tokenMs) return false;
      this.#worthMs -= tokenMs;
    }
    this.inFlight += 1;
    return true;
  }

  #giveTokenBack(): void {
    const { tokenMs } = this.#options;
    if (tokenMs === null) return;
    this.#worthMs = Math.min(this.#fullMs, this.#worthMs + this.#nowMs() - this.#worthAtMs + tokenMs);
    this.#worthAtMs = this.#nowMs();
  }

  #failed(): void {
    this.#failures += 1;
    if (this.#opensAgainAtMs !== null) return;
    if (this.#isProbing) this.#open(Math.min(this.#openMs * 2, OPEN_MS_MAX));
    else if (this.#failures >= this.#options.breakerFailures) this.#open(OPEN_MS);
  }

  #open(openMs: number): void {
    this.#openMs = openMs;
    this.#opensAgainAtMs = this.#nowMs() + openMs;
    this.#isProbing = false;
    this.#placesBack = 1;
    this.openings += 1;
  }

  #answered(): void {
    if (this.breaker === "closed") this.#placesBack = Math.min(this.#options.concurrency, this.#placesBack + 1);
    this.#failures = 0;
    this.#opensAgainAtMs = null;
    this.#isProbing = false;
  }
}

const endings: readonly AttemptEnd[] = [
  "delivered",
  "retryable",
  "retryable",
  "ambiguous",
  "terminal",
  "gone",
  "answered",
  "unused",
];
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("come" as const), isGone: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(20) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("leave" as const), ended: fc.constantFrom(...endings) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(60) }) },
  ),
  { maxLength: 120, size: "max" },
);
const anyOptions: fc.Arbitrary<Options> = fc.record({
  concurrency: fc.integer({ min: 1, max: 6 }),
  tokenMs: fc.constantFrom(null, null, 1, 20, 50),
  burst: fc.constantFrom(1, 2, 5),
  breakerFailures: fc.constantFrom(1, 2, 4, Number.POSITIVE_INFINITY),
});

/** Those that fail while others are answered: it opens, closes and opens again before its first wake-up comes. */
const flappingSteps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("come" as const) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("leave" as const),
        ended: fc.constantFrom<AttemptEnd>("retryable", "retryable", "retryable", "delivered"),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(30) }) },
  ),
  { maxLength: 60, size: "max" },
);
const flappingOptions: fc.Arbitrary<Options> = fc.record({
  concurrency: fc.integer({ min: 2, max: 4 }),
  tokenMs: fc.constantFrom(null, null, 20),
  burst: fc.constantFrom(1, 5),
  breakerFailures: fc.constantFrom(1, 2),
});

function accountOf({ concurrency, tokenMs, burst, breakerFailures }: Options, clock: Clock): ChannelAccount {
  const rate = tokenMs === null ? {} : { ratePerSecond: 1_000 / tokenMs, burst };
  const breaker = { breakerFailures, breakerOpenMs: OPEN_MS, breakerOpenMsMax: OPEN_MS_MAX };
  return new ChannelAccount("http", { concurrency, ...rate, ...breaker }, clock);
}

describe("an account", () => {
  propertyTest.prop([anyOptions, steps], { numRuns: 1_000 })(
    "that is rung each ms is a naive one that looks at everything (Q1, Q2, Q3)",
    (options, all) => {
      const clock = new Clock();
      const account = accountOf(options, clock);
      const naive = new NaiveAccount(options, clock.nowMs);
      const admitted: number[] = [];
      const waiters = new Map<number, AccountWaiter>();
      const come = (id: number, isGone: boolean): void => {
        const enters = account.tryEnter();
        expect(enters).toBe(naive.enters());
        if (enters) return;
        const waiter = {
          admitted: () => {
            admitted.push(id);
            if (isGone) account.leave("unused");
          },
        };
        waiters.set(id, waiter);
        account.wait(waiter);
        naive.wait(id, isGone);
      };
      const check = (): void => {
        const { breaker, inFlight, waiting, openings, places } = account.view;
        const { length } = naive.waiting;
        expect({ breaker, inFlight, waiting, openings, places }).toEqual({
          breaker: naive.breaker,
          inFlight: naive.inFlight,
          waiting: length,
          openings: naive.openings,
          places: naive.places,
        });
        expect(admitted).toEqual(naive.admitted);
        expect(inFlight).toBeLessThanOrEqual(options.concurrency); // Q1
      };
      for (const [id, step] of all.entries()) {
        if (step.kind === "come") come(id, step.isGone === 0);
        else if (step.kind === "cancel" && naive.waiting.length > 0) {
          const gone = naive.waiting[step.which % naive.waiting.length]!.id;
          account.cancel(waiters.get(gone)!);
          naive.cancel(gone);
        } else if (step.kind === "leave" && naive.inFlight > 0) {
          account.leave(step.ended);
          naive.leave(step.ended);
        } else if (step.kind === "pass") {
          for (let i = 0; i < step.ms; i += 1) {
            clock.tick();
            account.ring();
            naive.look();
          }
        }
        check();
      }
    },
  );

  propertyTest.prop([flappingOptions, flappingSteps, fc.constantFrom(0, 7, 50)], { numRuns: 1_000 })(
    "leaves nobody behind if one wake-up at a time rings it, which may be of an earlier opening or late (Q2, Q4)",
    (options, all, lateMs) => {
      const clock = new Clock();
      const account = accountOf(options, clock);
      const lineUp: number[] = [];
      let inFlight = 0;
      let wakeUpAtMs: number | null = null;
      /** As the queue keeps them: while one waits, no other is taken. */
      const wakeUpIn = (delayMs: number | null): void => {
        if (delayMs !== null) wakeUpAtMs ??= clock.nowMs() + delayMs + lateMs;
      };
      const leave = (ended: AttemptEnd): void => {
        inFlight -= 1;
        wakeUpIn(account.leave(ended));
      };
      const tick = (): void => {
        clock.tick();
        if (wakeUpAtMs === null || wakeUpAtMs > clock.nowMs()) return;
        wakeUpAtMs = null;
        account.ring();
        wakeUpIn(account.view.reopensInMs || null);
      };
      const admittedAs = (id: number) => () => {
        expect(lineUp.shift()).toBe(id);
        inFlight += 1;
      };
      for (const [id, step] of all.entries()) {
        if (step.kind === "come") {
          if (account.tryEnter()) {
            expect(lineUp).toEqual([]);
            inFlight += 1;
          } else {
            lineUp.push(id);
            account.wait({ admitted: admittedAs(id) });
          }
        } else if (step.kind === "leave" && inFlight > 0) leave(step.ended);
        else if (step.kind === "pass") for (let i = 0; i < step.ms; i += 1) tick();
      }
      for (let passedMs = 0; lineUp.length + inFlight > 0; passedMs += 1) {
        expect(passedMs).toBeLessThan(120 * 50 + 2 * OPEN_MS_MAX + 100); // each at the slowest rate, after the longest pause
        if (inFlight > 0) leave("delivered");
        tick();
      }
    },
  );
});
