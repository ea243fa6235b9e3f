// Order keeper: the messages of a conversation that wait for lower numbers of the outside, and the clock that ends their waiting. What
// the sequencer says of them is done here; where order is that of arrival there is none of this.
//
// Invariants
//   O1. What is held stands on the waiting list; in memory is only a view of it.
//   O2. Time counts only when all that has arrived was looked at, and all that stood in the inbox when the shard was acquired: what is
//       missing may be among it (Q5).
//   O3. While something is held and waits for a time, that time is a clock in the store: it wakes the conversation whoever has it then.

import type { OrderState } from "../../src/domain/external-order.ts";
import type { HeldMessages } from "../../src/domain/held-messages.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { type HeldDecision, nextHeld } from "../../src/domain/sequencer.ts";
import type { Timer } from "../../src/environment.ts";
import type { ConversationCore } from "./core.ts";
import type { ListWindow } from "./list-window.ts";

/** The clock of what is held, among the timers of the conversation. */
export const ORDER_CLOCK = "!order";

/** A held message whose turn has come: it is the head now. */
export interface Released {
  readonly kind: "released";
  readonly message: InboxMessage;
  readonly isLate: boolean;
  readonly order: OrderState | undefined;
}

/** What is missing was waited for in vain. `lowest` follows it. */
export interface Gap {
  readonly kind: "gap";
  readonly lowest: InboxMessage;
  readonly from: number;
  readonly to: number;
  readonly order: OrderState;
}

/** Longest time until a clock in memory is looked at again; the durable one is exact. */
const CLOCK_MS_MAX = 60_000;
/** Until the reader is looked at again, at start. */
const CATCH_UP_MS = 100;
/** Before any admission. */
const NO_TIME_PASSED = 0;
/** Says of a conversation that it is held although nothing of it was processed. */
const BEFORE_FIRST: OrderState = Object.freeze({ epoch: 0, next: null });

export class OrderKeeper {
  readonly #core: ConversationCore;
  readonly #list: ListWindow;
  readonly #held: HeldMessages<InboxMessage>;
  #clock: Timer | null = null;
  /** When what is held is due, as it was last told to the store. */
  #dueMs: number | null = null;
  /** At least so late it is for Redis, ms since the Unix epoch: a clock of it was due. */
  #redisMs = 0;
  /** All that is held was looked at, and waits for its time or for what is missing. */
  #isWaiting = false;

  constructor(core: ConversationCore, list: ListWindow, held: HeldMessages<InboxMessage>) {
    this.#core = core;
    this.#list = list;
    this.#held = held;
  }

  /** Something is held that may be released as soon as somebody looks: no clock in the store would ask for it (C4). */
  get mayRelease(): boolean {
    const hasClock = this.#isWaiting && this.#dueMs !== null;
    return this.#held.count > 0 && !hasClock;
  }

  /** What is known of waiting does not hold any more. */
  lookAgain(): void {
    this.#isWaiting = false;
  }

  /** O1 */
  hold(message: InboxMessage): void {
    const { ledger } = this.#core;
    const listed = this.#list.keep(message);
    if (ledger.extra?.order === undefined) ledger.change(message.position, { order: BEFORE_FIRST });
    this.#held.add(listed);
  }

  /**
   * The lowest, if it is its turn: before anything that came later. Null if what has arrived has to be looked at first: where time
   * or number of the held ones releases it and not its own number, a lower one may have come.
   */
  takeLowest(): Released | null {
    const lowest = this.#held.peek();
    if (lowest === undefined) return null;
    return this.#taken(lowest, this.#next(lowest, NO_TIME_PASSED));
  }

  /** Everything that has arrived is held: only time, or what is missing, moves it. Null while it waits. */
  takeInTime(): Released | Gap | null {
    const { key, ports } = this.#core;
    const lowest = this.#held.peek();
    if (lowest === undefined) this.setClock(null);
    else if (!ports.hasCaughtUp()) {
      this.#lookIn(CATCH_UP_MS); // O2
      return null;
    } else {
      const nowMs = Math.max(ports.environment.nowMs(), this.#redisMs);
      const decision = this.#next(lowest, nowMs);
      if (decision.kind === "gap") return { ...decision, lowest };
      const taken = this.#taken(lowest, decision);
      if (taken !== null) return taken;
      this.#isWaiting = decision.kind === "wait";
      this.setClock(decision.kind === "wait" ? decision.untilMs : null);
    }
    ports.headIsThrough(key); // nothing of it can run now
    return null;
  }

  #taken(lowest: InboxMessage, decision: HeldDecision): Released | null {
    if (decision.kind !== "release" && decision.kind !== "late") return null;
    this.#held.shift();
    this.#core.mailbox.putFirst(lowest);
    return { kind: "released", message: lowest, isLate: decision.kind === "late", order: decision.order };
  }

  /** @param nowMs O2 */
  #next({ position }: InboxMessage, nowMs: number): HeldDecision {
    return nextHeld(this.#core.ledger.recordFor(position), this.#core.rules, this.#held, nowMs);
  }

  /** O3. In memory and, if it changed, in the store. */
  setClock(dueMs: number | null): void {
    const { ledger, ports } = this.#core;
    this.#lookIn(dueMs === null ? null : Math.max(1, dueMs - ports.environment.nowMs()));
    const due = dueMs === null ? null : Math.ceil(dueMs);
    if (due === this.#dueMs) return;
    if (this.#dueMs !== null) ledger.setTimer(ORDER_CLOCK, this.#dueMs, null);
    if (due !== null) ledger.setTimer(ORDER_CLOCK, due, due);
    this.#dueMs = due;
  }

  /**
   * A clock of the conversation was due in Redis, and is there no more.
   * @param atMs it is at least so late: else a clock of this process that is behind would set it again and again
   */
  clockWasDue(name: string, generation: number, atMs: number): void {
    this.#redisMs = Math.max(this.#redisMs, atMs);
    if (name === ORDER_CLOCK && generation === this.#dueMs) this.#dueMs = null;
  }

  stop(): void {
    this.#clock?.cancel();
  }

  #lookIn(delayMs: number | null): void {
    this.#clock?.cancel();
    this.#clock = null;
    if (delayMs === null) return;
    this.#clock = this.#core.ports.environment.after(Math.min(delayMs, CLOCK_MS_MAX), this.#core.wake);
  }
}
