// Actor system: typed spawn, tell, ask and stop. nact schedules and is imported here alone.
//
// What nact does that an actor here must not see (nact 7.6.2): it copies a parent's map of children for each message that the
// parent handles, so parents are buckets without traffic; it drops the message whose handler threw, so `receive` must not
// throw, and if it does the actor is stopped and reported; it drops tells to a stopped actor without a word, so ours answer.
//
// Invariants
//   A1. `receive` of one actor never runs twice at once, and never after `stop` returned.
//   A2. A mailbox holds at most `mailboxMax` messages; a tell over it, or to a stopped actor, answers false.
//   A3. Whatever `receive` throws or rejects with reaches its `crashed`, or else `onCrash`, once, and no other actor.

import { dispatch, stop as nactStop, type Ref, spawn, start } from "nact";

export interface ActorBehaviour<Message> {
  receive(message: Message): void | Promise<void>;
  /** `receive` failed and the actor is stopped. Without it the failure goes to the system's `onCrash`. */
  crashed?(error: unknown): void;
}

export interface ActorRef<Message> {
  readonly name: string;
  /** Counts the actors of the system; a restarted actor has another one. */
  readonly incarnation: number;
  /** False if the mailbox is full or the actor stopped: then the message went nowhere. */
  tell(message: Message): boolean;
  /**
   * Tells a message made around a way to answer, and waits for the answer.
   * @throws AskError if the actor stopped, is full, or does not answer within `timeoutMs`
   */
  ask<Answer>(makeMessage: (answer: (value: Answer) => void) => Message, timeoutMs: number): Promise<Answer>;
  /** What waits is dropped; a running `receive` ends by itself and is ignored. */
  stop(): void;
}

export class AskError extends Error {
  override readonly name = "AskError";
}

export interface ActorSystemOptions {
  readonly after: (delayMs: number, run: () => void) => { cancel(): void };
  readonly onCrash: (actor: string, error: unknown) => void;
}

/** Actors of one kind. Its buckets are their nact parents and handle no message themselves. */
export interface ActorFamily {
  spawn<Message>(behaviour: ActorBehaviour<Message>, mailboxMax: number): ActorRef<Message>;
}

const BUCKETS = 64;

/** What the actors of a system share. */
interface SystemLife extends ActorSystemOptions {
  isOver: boolean;
}

export class ActorSystem {
  readonly #life: SystemLife;
  readonly #root: Ref<never>;
  #incarnations = 0;

  constructor(options: ActorSystemOptions) {
    this.#life = { ...options, isOver: false };
    this.#root = start() as Ref<never>;
  }

  family(name: string): ActorFamily {
    const buckets = Array.from({ length: BUCKETS }, (_, i) =>
      spawn(this.#root as never, () => undefined, `${name}-${i}-${++this.#incarnations}`, {
        onCrash: stopOnCrash,
      } as never),
    );
    return {
      spawn: (behaviour, mailboxMax) => {
        const incarnation = ++this.#incarnations;
        return new NactActor(this.#life, buckets[incarnation % BUCKETS]!, name, incarnation, behaviour, mailboxMax);
      },
    };
  }

  stop(): void {
    this.#life.isOver = true;
    nactStop(this.#root);
  }
}

const stopOnCrash = (_message: unknown, _error: unknown, context: { stop: symbol }): symbol => context.stop;

class NactActor<Message> implements ActorRef<Message> {
  readonly name: string;
  readonly incarnation: number;
  readonly #life: SystemLife;
  readonly #ref: Ref<Message>;
  readonly #mailboxMax: number;
  readonly #behaviour: ActorBehaviour<Message>;
  #waiting = 0;
  #stopped = false;

  constructor(
    life: SystemLife,
    parent: unknown,
    family: string,
    incarnation: number,
    behaviour: ActorBehaviour<Message>,
    mailboxMax: number,
  ) {
    this.#life = life;
    this.name = `${family}-${incarnation}`;
    this.incarnation = incarnation;
    this.#behaviour = behaviour;
    this.#mailboxMax = mailboxMax;
    this.#ref = spawn(parent as never, (_state: unknown, message: Message) => this.#handle(message), this.name, {
      onCrash: stopOnCrash,
    } as never) as Ref<Message>;
  }

  tell(message: Message): boolean {
    if (this.#stopped || this.#life.isOver || this.#waiting >= this.#mailboxMax) return false; // A2
    this.#waiting += 1;
    dispatch(this.#ref, message);
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
    if (this.#stopped) return;
    this.#stopped = true;
    nactStop(this.#ref);
  }

  #handle(message: Message): undefined | Promise<undefined> {
    this.#waiting -= 1;
    if (this.#stopped) return undefined;
    try {
      const running = this.#behaviour.receive(message);
      if (running === undefined) return undefined;
      return running.then(ignore, (error: unknown) => this.#crashed(error));
    } catch (error) {
      return this.#crashed(error);
    }
  }

  /** A3: nact never sees the error, so its own supervision never acts. */
  #crashed(error: unknown): undefined {
    if (this.#stopped) return undefined;
    this.stop();
    if (this.#behaviour.crashed) this.#behaviour.crashed(error);
    else this.#life.onCrash(this.name, error);
    return undefined;
  }
}

const ignore = (): undefined => undefined;
