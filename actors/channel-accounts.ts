// Channel accounts: what all lanes of a node share at the outside of one channel: how many attempts may be under way, how many may
// begin per second, and whether it makes sense to try at all.
//
// Invariants
//   Q1. Attempts under way are never more than `concurrency`. A place is taken by one lane and given back once.
//   Q2. Who waits is admitted in the order in which it came, and nobody passes those who wait. One that waits no more costs nobody
//       its place, and one that did not use its place costs nobody its share of the rate. However many wait, each step is as cheap.
//   Q3. An open breaker lets nobody through before its time, and then one at a time. After it closed, places grow by one with each
//       answer: those that waited do not come back as a herd.
//   Q4. No retry timer lives here: an open breaker is rung by a durable wake-up, which leaves another if it comes before its
//       time, or by the sweep of the lanes. The timer of a rate limit only paces those who wait for it.
//   Q5. Entering and leaving make no objects while nobody waits and nothing fails; without a rate they read no clock either.

import type { AccountOptions, Channel, SendOutcome } from "../src/channels/channel.ts";
import { afterAnswer, afterTime, type Breaker, type BreakerPolicy, CLOSED } from "../src/domain/breaker.ts";
import { FULL, nextTokenInMs, type RateLimit, withOneBack, withoutOne } from "../src/domain/token-bucket.ts";
import { WaitingLine } from "../src/domain/waiting-line.ts";
import type { Environment } from "../src/environment.ts";

export interface AccountWaiter {
  /** A place was given, which must be given back by `leave`. Called from within the account: it may only wake, or give it back. */
  admitted(): void;
}

/** How an attempt ended; `answered`: it was a question after one, and the outside knew. */
export type AttemptOutcome = SendOutcome["kind"] | "answered";
/** `unused`: there was none. */
export type AttemptEnd = AttemptOutcome | "unused";

export interface AccountView {
  /** The channel's. */
  readonly name: string;
  readonly breaker: Breaker["kind"];
  /** Until an open breaker lets a probe through, ms; null for one that is not open. */
  readonly reopensInMs: number | null;
  readonly inFlight: number;
  readonly waiting: number;
  /** Attempts that may be under way now; less than `concurrency` while the breaker is not closed, and for a while after. */
  readonly places: number;
  readonly concurrency: number;
  /** How often the breaker opened in this process. */
  readonly openings: number;
  /** Attempts of this process by how they ended. */
  readonly ended: AttemptCounts;
}

export type AttemptCounts = Readonly<Record<AttemptOutcome, number>>;

const CONCURRENCY = 128;
const BREAKER_FAILURES = 20;
const BREAKER_OPEN_MS = 1_000;
const BREAKER_OPEN_MS_MAX = 30_000;

export class ChannelAccount {
  readonly name: string;
  readonly #environment: Environment;
  readonly #concurrency: number;
  readonly #policy: BreakerPolicy;
  readonly #rate: RateLimit | null;
  readonly #line = new WaitingLine<AccountWaiter>();
  readonly #ended = { delivered: 0, retryable: 0, ambiguous: 0, terminal: 0, gone: 0, answered: 0 };
  #breaker: Breaker = CLOSED;
  #bucket = FULL;
  #inFlight = 0;
  #places: number;
  #isPacing = false;
  #isAdmitting = false;
  #openings = 0;

  constructor(name: string, options: AccountOptions, environment: Environment) {
    this.name = name;
    this.#environment = environment;
    this.#concurrency = options.concurrency ?? CONCURRENCY;
    this.#places = this.#concurrency;
    this.#policy = {
      failures: options.breakerFailures ?? BREAKER_FAILURES,
      openMs: options.breakerOpenMs ?? BREAKER_OPEN_MS,
      openMsMax: options.breakerOpenMsMax ?? BREAKER_OPEN_MS_MAX,
    };
    const { ratePerSecond: perSecond } = options;
    this.#rate = perSecond === undefined ? null : { perSecond, burst: options.burst ?? Math.max(1, perSecond) };
  }

  /** It makes no sense to try now, but for a probe. */
  get isBlocked(): boolean {
    return this.#breaker.kind !== "closed";
  }

  get view(): AccountView {
    const breaker = this.#breaker;
    const nowMs = this.#environment.monotonicMs();
    return {
      name: this.name,
      breaker: breaker.kind,
      reopensInMs: breaker.kind === "open" ? Math.max(0, breaker.reopensAtMs - nowMs) : null,
      inFlight: this.#inFlight,
      waiting: this.#line.length,
      places: this.#places,
      concurrency: this.#concurrency,
      openings: this.#openings,
      ended: { ...this.#ended },
    };
  }

  /** A place now; false if there is none, or others wait for one. */
  tryEnter(): boolean {
    return this.#line.length === 0 && this.#take();
  }

  /** A waiter waits once at a time. */
  wait(waiter: AccountWaiter): void {
    this.#line.join(waiter);
    this.#admit();
  }

  /** Waits no more. One that was admitted meanwhile waits no more either: it gives its place back by `leave`. */
  cancel(waiter: AccountWaiter): void {
    this.#line.leave(waiter);
  }

  /** @returns if that opened the breaker: when it lets a probe through, ms from now; else null */
  leave(ended: AttemptEnd): number | null {
    this.#inFlight -= 1;
    const openMs = ended === "unused" ? this.#unused() : this.#learn(ended);
    this.#admit();
    return openMs;
  }

  /** Lets a probe through, if its time has come; else `reopensInMs` of its view says when to ring again (Q4). */
  ring(): void {
    if (this.#breaker.kind !== "closed") this.#admit();
  }

  /** Q2 */
  #unused(): null {
    if (this.#rate !== null) this.#bucket = withOneBack(this.#bucket, this.#rate);
    return null;
  }

  #learn(ended: AttemptOutcome): number | null {
    this.#ended[ended] += 1;
    const answers = ended !== "retryable" && ended !== "ambiguous";
    const before = this.#breaker;
    if (before.kind === "closed" && answers) {
      if (before.failures > 0) this.#breaker = CLOSED;
      if (this.#places < this.#concurrency) this.#places += 1; // Q3
      return null;
    }
    const nowMs = this.#environment.monotonicMs();
    this.#breaker = afterAnswer(before, answers, this.#policy, nowMs);
    if (this.#breaker.kind !== "open" || before.kind === "open") return null;
    this.#places = 1;
    this.#openings += 1;
    return this.#breaker.openMs;
  }

  /** Q2. One that gives its place back at once is followed by the next in the same loop, however many do. */
  #admit(): void {
    if (this.#isAdmitting) return;
    this.#isAdmitting = true;
    try {
      while (this.#line.length > 0 && this.#take()) this.#line.shift()!.admitted();
    } finally {
      this.#isAdmitting = false;
    }
  }

  /** Q1 */
  #take(): boolean {
    if (this.#inFlight >= this.#places || !this.#letsThrough() || !this.#takesToken()) return false;
    this.#inFlight += 1;
    return true;
  }

  /** Q3. Half-open, what is under way is the probe, or what was when it opened: either tells. */
  #letsThrough(): boolean {
    if (this.#breaker.kind === "closed") return true;
    this.#breaker = afterTime(this.#breaker, this.#environment.monotonicMs());
    return this.#breaker.kind === "half-open";
  }

  #takesToken(): boolean {
    const rate = this.#rate;
    if (rate === null) return true;
    const nowMs = this.#environment.monotonicMs();
    const inMs = nextTokenInMs(this.#bucket, rate, nowMs);
    if (inMs > 0) {
      this.#pace(inMs);
      return false;
    }
    this.#bucket = withoutOne(this.#bucket, rate, nowMs);
    return true;
  }

  /** Q4 */
  #pace(delayMs: number): void {
    if (this.#isPacing) return;
    this.#isPacing = true;
    this.#environment.after(Math.ceil(delayMs), () => {
      this.#isPacing = false;
      this.#admit();
    });
  }
}

/** The accounts of a node, by channel; made when a lane needs one first. */
export class ChannelAccounts {
  readonly #environment: Environment;
  readonly #accounts = new Map<string, ChannelAccount>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Null for a channel without bounds. */
  of({ name, account }: Pick<Channel, "name" | "account">): ChannelAccount | null {
    if (account === undefined) return null;
    const known = this.#accounts.get(name);
    if (known !== undefined) return known;
    const made = new ChannelAccount(name, account, this.#environment);
    this.#accounts.set(name, made);
    return made;
  }

  ring(name: string): void {
    this.#accounts.get(name)?.ring();
  }

  ringAll(): void {
    for (const account of this.#accounts.values()) account.ring();
  }

  find(name: string): ChannelAccount | undefined {
    return this.#accounts.get(name);
  }

  get views(): readonly AccountView[] {
    return Array.from(this.#accounts.values(), (account) => account.view);
  }
}
