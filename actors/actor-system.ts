// Actor system: typed spawn, tell, ask and stop. nact schedules and is imported here alone.
//
// What nact does that an actor here must not see (nact 7.6.2): it copies a parent's map of children for each message that the
// parent handles, so parents are buckets without traffic; it loses the message whose handler threw and what waits at a stop, so
// the mailbox is ours and a nact message is only a wake-up; its `reset` runs a second handler beside the first, so it never hears
// of an error; it drops tells to a stopped actor without a word, prints what an actor threw, and has no time limit.
//
// Invariants
//   A1. `receive` of one actor never runs twice at once, and never begins after `stop` returned or the actor ended.
//   A2. A mailbox holds at most `mailboxMax` messages; a tell over it, or to a stopped actor, answers false.
//   A3. Whatever `receive` throws, rejects with or resolves to reaches the actor's end or nobody; never the console, nact, or the
//       process. An actor ends once, and who is told of it can do no harm by throwing.
//   A4. A message that is told and not received is a dead letter: counted, and shown to `onDeadLetter`. One that a full mailbox
//       refused is not: its sender knows.
//   A5. A `receive` that takes longer than `receiveTimeoutMs` ends the actor: its signal is aborted, and who supervises it is told
//       when it settled or `abortGraceMs` later, so that one which heeds the signal never runs beside its replacement.

import { dispatch, stop as nactStop, type Ref, spawn, start } from "nact";
import { ReceiveTimeoutError } from "../src/errors.ts";
import { type Bucket, Buckets } from "./buckets.ts";

export interface ActorBehaviour<Message> {
  /**
   * @param signal aborts when the time for this message is over or the actor is stopped. For actors without
   *   `receiveTimeoutMs` it is one that never aborts.
   */
  receive(message: Message, signal: AbortSignal): unknown;
  /** The actor ended by itself, with this error, and has no `onExit`. Without it the failure goes to the system's `onCrash`. */
  crashed?(error: unknown): void;
}

export interface ActorRef<Message> {
  readonly name: string;
  /** Counts the actors of the system; a restarted actor has another one. */
  readonly incarnation: number;
  /** Messages that wait. */
  readonly mailboxDepth: number;
  /** False if the mailbox is full or the actor stopped: then the message went nowhere. */
  tell(message: Message): boolean;
  /**
   * Tells a message made around a way to answer, and waits for the answer.
   * @throws AskError if the actor stopped, is full, or does not answer within `timeoutMs`
   */
  ask<Answer>(makeMessage: (answer: (value: Answer) => void) => Message, timeoutMs: number): Promise<Answer>;
  /** What waits becomes dead letters; a running `receive` ends by itself and is ignored. */
  stop(): void;
  /** Takes nothing more in and stops when all that was taken in is received. Undefined if that is so already. */
  drain(): Promise<void> | undefined;
}

export class AskError extends Error {
  override readonly name = "AskError";
}

export interface ActorSystemOptions {
  readonly after: (delayMs: number, run: () => void) => { cancel(): void };
  /** An actor that has neither `onExit` nor `crashed` of its own ended because of this error. */
  readonly onCrash: (actor: string, error: unknown) => void;
  readonly onDeadLetter?: (actor: string, message: unknown) => void;
  /** Calls `wakeUp` when nact may learn that an actor has a message. Default: at once; a simulator picks whose turn it is. */
  readonly schedule?: (wakeUp: () => void) => void;
}

export interface SpawnOptions {
  readonly mailboxMax: number;
  /** How long `receive` may take, ms; default for ever. Only one that returns a promise can be caught at it. */
  readonly receiveTimeoutMs?: number;
  /** How long one whose time is over may take to heed its signal, ms; default 1,000. */
  readonly abortGraceMs?: number;
  /** The actor ended by itself, with this error; called once, instead of `crashed` and `onCrash`. */
  readonly onExit?: (error: unknown) => void;
}

/** Actors of one kind. Its buckets are their nact parents and handle no message themselves. */
export interface ActorFamily {
  spawn<Message>(behaviour: ActorBehaviour<Message>, options: number | SpawnOptions): ActorRef<Message>;
}

/** Actors below one parent. nact keeps them in a map of the parent, which it copies for each message that the parent handles. */
const BUCKET_SIZE_MAX = 1_024;
const ABORT_GRACE_MS = 1_000;
const NEVER_ABORTS = new AbortController().signal;
/** All that nact ever carries. */
const WAKE_UP = 0;

/** What the actors of a system share. */
interface SystemLife extends ActorSystemOptions {
  isOver: boolean;
  deadLetters: number;
  callbackErrors: number;
  /** Time limits of what runs. */
  readonly timers: Set<{ cancel(): void }>;
}

export class ActorSystem {
  readonly #life: SystemLife;
  readonly #root: Ref<never>;
  #incarnations = 0;

  constructor(options: ActorSystemOptions) {
    this.#life = { ...options, isOver: false, deadLetters: 0, callbackErrors: 0, timers: new Set() };
    this.#root = start() as Ref<never>;
  }

  /** Messages that were told and not received, since the system started. */
  get deadLetters(): number {
    return this.#life.deadLetters;
  }

  /** How often `onCrash`, `onExit` or `onDeadLetter` threw. */
  get callbackErrors(): number {
    return this.#life.callbackErrors;
  }

  family(name: string): ActorFamily {
    const buckets = new Buckets<unknown>(BUCKET_SIZE_MAX, () =>
      spawn(this.#root as never, () => undefined, `${name}-bucket-${++this.#incarnations}`, QUIET as never),
    );
    return {
      spawn: (behaviour, options) => {
        const incarnation = ++this.#incarnations;
        const limits = typeof options === "number" ? { mailboxMax: options } : options;
        return new NactActor(this.#life, buckets, name, incarnation, behaviour, limits);
      },
    };
  }

  /** Ends all actors at once and leaves no timer but those of asks under way. */
  stop(): void {
    if (this.#life.isOver) return;
    this.#life.isOver = true;
    for (const timer of this.#life.timers) timer.cancel();
    this.#life.timers.clear();
    nactStop(this.#root);
  }
}

/** Never called for an actor of ours (A3); nact's own policy would print the message. */
const QUIET = {
  onCrash: (_message: unknown, _error: unknown, context: { stop: symbol }): symbol => context.stop,
};

class NactActor<Message> implements ActorRef<Message> {
  readonly incarnation: number;
  readonly #family: string;
  readonly #life: SystemLife;
  readonly #buckets: Buckets<unknown>;
  readonly #bucket: Bucket<unknown>;
  readonly #ref: Ref<number>;
  readonly #options: SpawnOptions;
  readonly #mailboxMax: number;
  readonly #behaviour: ActorBehaviour<Message>;
  /** Null while empty: most actors are idle. */
  #mailbox: Message[] | null = null;
  #abort: AbortController | null = null;
  /** Of the `receive` that runs: its time limit, then the grace for heeding the signal. */
  #timer: { cancel(): void } | null = null;
  #isStopped = false;
  #isReceiving = false;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  constructor(
    life: SystemLife,
    buckets: Buckets<unknown>,
    family: string,
    incarnation: number,
    behaviour: ActorBehaviour<Message>,
    options: SpawnOptions,
  ) {
    this.#life = life;
    this.#family = family;
    this.incarnation = incarnation;
    this.#behaviour = behaviour;
    this.#options = options;
    this.#mailboxMax = options.mailboxMax;
    this.#buckets = buckets;
    this.#bucket = buckets.take();
    this.#ref = spawn(this.#bucket.parent as never, () => this.#handleNext(), this.name, QUIET as never) as Ref<number>;
  }

  get name(): string {
    return `${this.#family}-${this.incarnation}`;
  }

  get mailboxDepth(): number {
    return this.#mailbox?.length ?? 0;
  }

  tell(message: Message): boolean {
    if (this.#isStopped || this.#drained !== null || this.#life.isOver) {
      this.#deadLetter(message);
      return false;
    }
    if (this.mailboxDepth >= this.#mailboxMax) return false; // A2
    this.#mailbox ??= [];
    this.#mailbox.push(message);
    const { schedule } = this.#life;
    if (schedule === undefined) dispatch(this.#ref, WAKE_UP);
    else schedule(() => dispatch(this.#ref, WAKE_UP));
    return true;
  }

  ask<Answer>(makeMessage: (answer: (value: Answer) => void) => Message, timeoutMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const timer = this.#life.after(timeoutMs, () =>
        reject(new AskError(`${this.name} did not answer within ${timeoutMs} ms`)),
      );
      const answer = (value: Answer): void => {
        timer.cancel();
        resolve(value);
      };
      if (this.tell(makeMessage(answer))) return;
      timer.cancel();
      reject(new AskError(`${this.name} is stopped or its mailbox is full`));
    });
  }

  stop(): void {
    this.#clearTimer(); // also of one whose time is over: who stops it need not be told
    if (this.#isStopped) return;
    this.#isStopped = true; // A1
    if (!this.#life.isOver) nactStop(this.#ref);
    this.#buckets.giveBack(this.#bucket);
    const left = this.#mailbox;
    this.#mailbox = null;
    for (const message of left ?? []) this.#deadLetter(message); // A4
    this.#abort?.abort();
    this.#drained?.resolve();
  }

  drain(): Promise<void> | undefined {
    if (this.#drained === null && (this.#isStopped || (this.#mailbox === null && !this.#isReceiving))) {
      this.stop();
      return undefined;
    }
    if (this.#drained === null) {
      let resolve = (): void => undefined;
      const promise = new Promise<void>((done) => {
        resolve = done;
      });
      this.#drained = { promise, resolve };
    }
    return this.#drained.promise;
  }

  /** One wake-up, one message. What it returns nact waits for, and it never throws or rejects (A1, A3). */
  #handleNext(): undefined | Promise<undefined> {
    if (this.#isStopped || this.#mailbox === null) return undefined;
    const message = this.#mailbox.shift() as Message;
    if (this.#mailbox.length === 0) this.#mailbox = null;
    let running: unknown;
    try {
      running = this.#behaviour.receive(message, this.#signal());
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
    if (typeof running === "object" && running !== null) {
      this.#isReceiving = true;
      return this.#settled(running);
    }
    this.#received();
    return undefined;
  }

  #received(): undefined {
    this.#isReceiving = false;
    if (this.#drained !== null && this.#mailbox === null) this.stop();
    return undefined;
  }

  #signal(): AbortSignal {
    if (this.#options.receiveTimeoutMs === undefined) return NEVER_ABORTS;
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  /** `Promise.resolve` also takes in thenables whose `then` throws, calls back twice, or is a getter that throws. */
  #settled(running: object): Promise<undefined> {
    const { receiveTimeoutMs } = this.#options;
    const ended = Promise.resolve(running);
    if (receiveTimeoutMs === undefined)
      return ended.then(
        () => this.#received(),
        (error: unknown) => this.#fail(error),
      );
    return new Promise((resolve) => {
      let overdue: ReceiveTimeoutError | null = null;
      const report = (): void => {
        this.#clearTimer();
        this.#report(overdue);
      };
      this.#setTimer(receiveTimeoutMs, () => {
        overdue = new ReceiveTimeoutError(
          `${this.name} did not end a receive within ${receiveTimeoutMs} ms and was stopped; its late result is ignored. Pass the signal on or raise receiveTimeoutMs`,
        );
        this.stop(); // A5: nothing more begins, and the signal aborts
        this.#setTimer(this.#options.abortGraceMs ?? ABORT_GRACE_MS, report);
      });
      const settle = (end: () => void): void => {
        resolve(undefined);
        if (overdue === null) {
          if (!this.#isStopped) this.#clearTimer();
          end();
        } else if (this.#timer !== null) report();
      };
      ended.then(
        () => settle(() => this.#received()),
        (error: unknown) => settle(() => this.#fail(error)),
      );
    });
  }

  #setTimer(delayMs: number, run: () => void): void {
    const { timers } = this.#life;
    const timer = this.#life.after(delayMs, () => {
      this.#clearTimer();
      run();
    });
    this.#timer = timer;
    timers.add(timer);
  }

  #clearTimer(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#life.timers.delete(this.#timer);
    this.#timer = null;
  }

  #fail(error: unknown): undefined {
    if (this.#isStopped) return undefined;
    this.stop();
    this.#report(error);
    return undefined;
  }

  #report(error: unknown): void {
    const { onExit } = this.#options;
    this.#call(() => {
      if (onExit !== undefined) onExit(error);
      else if (this.#behaviour.crashed !== undefined) this.#behaviour.crashed(error);
      else this.#life.onCrash(this.name, error);
    });
  }

  #deadLetter(message: unknown): void {
    this.#life.deadLetters += 1;
    const { onDeadLetter } = this.#life;
    if (onDeadLetter !== undefined) this.#call(() => onDeadLetter(this.name, message));
  }

  /** A3 */
  #call(tell: () => void): void {
    try {
      tell();
    } catch {
      this.#life.callbackErrors += 1;
    }
  }
}
