// Conversation actor: the single writer of one conversation. What waits stands in its mailbox, what was decided in its ledger; what
// nact delivers is only the wake-up. This is the way of one message; what may come in between is in the parts of `conversation/`.
//
// Invariants of a conversation, by the module that keeps them
//   C1. Messages are decided one at a time, in the order that the sequencer gives, and each exactly once: a message leaves the
//       mailbox in the same step that moves record, ids and state past it. (here, head-turn, halts)
//   C2. Turns run ahead of commits only up to the bounds on what is uncommitted and on what waits in the lane (R6). (here)
//   C3. What the committer takes is all that was decided since it last took, as one value (P5). (here, ledger)
//   C4. It can be dropped from memory only when `settled`; then everything in it can be loaded again (R4). (here)
//   C5. A stopped actor decides nothing more, whatever its handler does later. (here, head-turn)
//   C6. What a crash of this code leaves half decided is never committed: its messages are given back, in order, to the actor
//       that replaces it once nothing of the conversation flies. (here)
//   C7. What cannot move goes to the waiting list, oldest first, and pins no inbox entry (R1). (list-window)
//   C8. A turn that was begun goes first, whatever else has come: it alone may have steps and replies in the world already. (begun-work)
//   C9. What an operator asks, and what a clock says, is handled before the mailbox and names what it means; done twice it changes
//       nothing. (here, halts)

import type { Channel } from "../src/channels/channel.ts";
import { DEATHS_MAX } from "../src/domain/attempts.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import type { OrderState } from "../src/domain/external-order.ts";
import type { ConversationId, ConversationKey } from "../src/domain/ids.ts";
import type { InboxMessage, MailboxMessage, TimerMessage } from "../src/domain/message.ts";
import type { Position } from "../src/domain/position.ts";
import { NO_OPEN_TURN, type OpenTurn } from "../src/domain/record.ts";
import { NOTHING_HELD } from "../src/domain/sequencer.ts";
import { type Situation, situationOf } from "../src/domain/situation.ts";
import { messageWork, noticeWork, positionOf, type Work } from "../src/domain/work.ts";
import type { StoredConversation, WaitingEntry } from "../src/store/shard-store.ts";
import type { ActorRef } from "./actor-system.ts";
import type { Committable, PendingWrite } from "./committer.ts";
import { findBegun } from "./conversation/begun-work.ts";
import { ConversationCore, type ConversationPorts, type Next } from "./conversation/core.ts";
import { Failures } from "./conversation/failures.ts";
import { Halts } from "./conversation/halts.ts";
import { HeadTurn } from "./conversation/head-turn.ts";
import { ListWindow } from "./conversation/list-window.ts";
import { OrderKeeper } from "./conversation/order-keeper.ts";
import { Quarantine } from "./conversation/quarantine.ts";
import type { TurnResult } from "./turn.ts";
import type { TurnJournal } from "./turn-journal.ts";

export type Wake = "wake";

/** A look at the clock costs as much as a small turn. */
const CLOCK_EVERY_TURNS = 4;

/** What a conversation that crashed leaves to its successor. */
export interface Salvage {
  readonly messages: readonly MailboxMessage[];
  readonly journal: TurnJournal | null;
}

export class ConversationActor implements Committable {
  readonly key: ConversationKey;
  readonly id: ConversationId;
  ref: ActorRef<Wake> | null = null;
  readonly #core: ConversationCore;
  readonly #list: ListWindow;
  /** Null where order is that of arrival. */
  readonly #order: OrderKeeper | null;
  readonly #head: HeadTurn;
  readonly #halts: Halts;
  readonly #failures: Failures;
  /** The index says that its record could not be read: what its list holds is counted anew. */
  readonly #wasQuarantined: boolean;
  #quarantine: Quarantine | null = null;
  #awake = false;
  /** What is stored of it was asked for and has not been taken wholly: its size is told before, which makes others leave. */
  #isLoading = false;
  #draining = false;
  #sliceTurns = 0;
  #sliceEndMs = 0;
  /** Ends the `receive` that a turn under way keeps open. */
  #drained: (() => void) | null = null;
  #onLanded: (() => void) | null = null;

  constructor(
    id: ConversationId,
    key: ConversationKey,
    bot: BotDefinition,
    channel: Channel,
    ports: ConversationPorts,
    wasQuarantined = false,
  ) {
    this.id = id;
    this.key = key;
    this.#wasQuarantined = wasQuarantined;
    const core = new ConversationCore(this, bot, channel, ports);
    const list = new ListWindow(core, { joins: this.#joinsList, joined: this.#joinedList });
    this.#core = core;
    this.#list = list;
    this.#order = core.held === null ? null : new OrderKeeper(core, list, core.held);
    this.#head = new HeadTurn(core);
    this.#halts = new Halts(core, list, this.#order, this.#head);
    this.#failures = new Failures(core, this.#head, this.#halts);
  }

  // What is known of it -----------------------------------------------------------------------------------------------

  /** C4. What is held or halted needs nobody in memory: the list is durable, as are the clocks, and a message or a verb wakes it. */
  get settled(): boolean {
    const { ledger, mailbox } = this.#core;
    const isIdle = !this.#awake && !this.#head.isUnderWay && !this.#list.isReading && !this.#failures.isBackingOff;
    return isIdle && mailbox.isEmpty && ledger.isSettled && !this.#goesOn;
  }

  /** Something of it runs as soon as it is loaded, has room or is let go: out of memory nobody would ask for it again. */
  get #goesOn(): boolean {
    if (this.#quarantine?.holds) return false;
    if (this.#isLoading) return true;
    const { ledger, mailbox } = this.#core;
    const { extra } = ledger;
    if (extra === null || extra.halt !== undefined) return false;
    const isBegun = extra.openTurn !== undefined || extra.notices !== undefined;
    return isBegun || (this.#order?.mayRelease ?? false) || mailbox.depth + mailbox.unread > 0;
  }

  /** A turn is under way. */
  get isInTurn(): boolean {
    return this.#head.isRunning;
  }

  get situation(): Situation {
    const { isStopped, ledger, mailbox } = this.#core;
    return situationOf(ledger.record, {
      isCrashing: isStopped, // else no resident
      isQuarantined: this.#quarantine?.holds ?? false,
      isInTurn: this.#head.isRunning,
      isBackingOff: this.#failures.isBackingOff,
      undecided: mailbox.depth,
    });
  }

  /** Messages in memory that are not decided. */
  get mailboxDepth(): number {
    return this.#core.mailbox.depth + (this.#core.held?.count ?? 0);
  }

  /** What it takes in memory, as last told to `resized`. */
  get residentBytes(): number {
    return this.#core.ledger.residentBytes;
  }

  // Into and out of memory --------------------------------------------------------------------------------------------

  deliver(message: MailboxMessage): void {
    const { mailbox } = this.#core;
    if (message.kind === "message") mailbox.push(message);
    else mailbox.pushUrgent(message);
    if (this.#head.isRunning) this.#list.tellBlocked(); // C7: nobody looks before it ends
    if (mailbox.isOverBound) this.moveToList(); // P7
    this.wake();
  }

  wake = (): void => {
    if (this.#awake || this.#core.isStopped || this.ref === null) return;
    this.#awake = true;
    this.ref.tell("wake");
  };

  loaded(stored: StoredConversation): void {
    if (this.#core.isStopped) return;
    try {
      this.#core.ledger.load(stored); // its size is told, which may evict others
    } catch (error) {
      this.#startQuarantine(stored.record!, error);
      return;
    }
    if (this.#wasQuarantined) this.#startQuarantine(null);
    else this.#goOn();
  }

  #startQuarantine(record: Uint8Array | null, error?: unknown): void {
    this.#quarantine = new Quarantine(this.#core, this.#list, record, () => this.#goOn());
    this.#quarantine.start(error);
  }

  #goOn(): void {
    const { ledger, mailbox } = this.#core;
    this.#quarantine = null;
    mailbox.unread = ledger.extra?.waiting?.count ?? 0;
    this.#isLoading = false;
    if (ledger.extra?.openTurn !== undefined) this.#failures.reopen(ledger.extra.openTurn);
    this.wake();
  }

  /** Begins no further turn; one under way ends by itself. */
  drain(): void {
    this.#draining = true;
  }

  stop(): void {
    this.#end();
    this.#head.close();
  }

  #end(): void {
    this.#core.isStopped = true;
    this.#failures.stop();
    this.#order?.stop();
    this.#head.abandon(); // C5
    this.#core.tellBlocked(false);
    this.ref?.stop();
  }

  crashed(error: unknown): void {
    if (this.#core.isStopped) return;
    this.#end();
    this.#core.ports.crashed(this, error);
  }

  /** C6: what it had decided and nobody took, and what waits behind; with the steps that still run (attack A6). */
  salvage(): Salvage {
    const { urgent, messages } = this.#core.mailbox.drain();
    const journal = this.#head.giveJournal();
    return { messages: [...this.#core.ledger.takeBack(), ...urgent, ...messages], journal };
  }

  /** Goes on for one that crashed. */
  inherit(journal: TurnJournal | null): void {
    this.#head.inherit(journal);
  }

  // Commits -----------------------------------------------------------------------------------------------------------

  /** C3 */
  takeWrite(): PendingWrite {
    return this.#core.ledger.takeWrite();
  }

  committed(): void {
    this.#core.ledger.committed();
    this.#onLanded?.();
    this.#core.landed();
  }

  /** Calls back, once, when nothing of it flies. */
  onLanded(run: () => void): void {
    if (this.#core.ledger.isInFlight) this.#onLanded = run;
    else run();
  }

  /**
   * The next commit says that its head runs in a group of so many, one of which may be what ends the process.
   * @returns when that is durable: it may run then. Stays pending in one that is stopped, of which nothing is committed (C6)
   */
  markSuspect(size: number, position: Position): Promise<void> {
    const { isStopped, ledger } = this.#core;
    if (isStopped) return new Promise(() => undefined); // C5: what it knows of its record is of another time
    const openTurn = ledger.extra?.openTurn ?? { ...NO_OPEN_TURN, position };
    ledger.change(position, { suspect: size, openTurn });
    return this.#core.settled();
  }

  // The way of a message ----------------------------------------------------------------------------------------------

  receive(_wake: Wake): void | Promise<void> {
    const { environment, bounds } = this.#core.ports;
    this.#awake = false;
    this.#sliceTurns = 0;
    this.#sliceEndMs = environment.monotonicMs() + bounds.drainSliceMs;
    if (this.#drain() !== "in-turn") return undefined;
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  /** Decides one after the other, until nothing is left, something has to come first, or a turn takes its time. */
  #drain(): "over" | "in-turn" {
    this.#order?.lookAgain();
    let next: Next = "go-on";
    while (next === "go-on") {
      if (this.#core.isStopped || !this.#mayDecide()) next = "over";
      else if (this.#isSliceOver()) {
        this.wake(); // others first
        next = "over";
      } else next = this.#decideNext();
    }
    if (!this.#core.isStopped) this.#list.tellBlocked();
    return next;
  }

  /** True if something can be looked at; where not, what it waits for wakes it. */
  #mayDecide(): boolean {
    const { ledger, ports } = this.#core;
    if (this.#draining) return false;
    if (this.#quarantine !== null) {
      if (this.#quarantine.holds) this.#quarantine.dropUrgent();
      return false;
    }
    if (!ledger.isLoaded) {
      this.#isLoading = true;
      ports.load(this);
      return false;
    }
    if (!this.#handleUrgent() || this.#failures.isBackingOff) return false;
    const { bounds, running } = ports;
    const bytes = ledger.uncommittedBytes;
    if (ledger.uncommittedTurns >= bounds.uncommittedTurnsMax || bytes >= bounds.uncommittedBytesMax) {
      this.#core.waitForCommit(); // C2
      return false;
    }
    if (!ports.laneHasRoom(this.key, ledger.uncommittedReplies, bytes, this.wake)) return false; // C2
    if (running.hasRoomFor(this.key)) return true;
    running.onRoom(this.key, this.wake);
    return false;
  }

  /** C9. False if something has to come before the next one can be handled. */
  #handleUrgent(): boolean {
    const { mailbox } = this.#core;
    for (let urgent = mailbox.peekUrgent(); urgent !== undefined; urgent = mailbox.peekUrgent()) {
      if (urgent.kind === "control") {
        if (!this.#halts.control(urgent)) return false;
        continue;
      }
      mailbox.shiftUrgent();
      this.#clockWasDue(urgent);
    }
    return true;
  }

  /** What a clock is about is decided by the time, not by it. */
  #clockWasDue({ name, generation, source, position }: TimerMessage): void {
    this.#failures.clockWasDue(name, generation);
    this.#order?.clockWasDue(name, generation, position.entry.ms);
    this.#core.ports.finish(source);
  }

  #isSliceOver(): boolean {
    const { environment, bounds } = this.#core.ports;
    this.#sliceTurns += 1;
    if (this.#sliceTurns > bounds.drainTurnsMax) return true;
    return this.#sliceTurns % CLOCK_EVERY_TURNS === 0 && environment.monotonicMs() > this.#sliceEndMs;
  }

  #decideNext(): Next {
    const { ledger, mailbox } = this.#core;
    const { extra } = ledger;
    if (extra !== null) {
      if (extra.halt !== undefined) return this.#whileHalted();
      if (extra.openTurn !== undefined) return this.#resumeTurn(extra.openTurn); // C8
      if (extra.notices?.[0] !== undefined) return this.#begin(noticeWork(extra.notices[0]));
    }
    const released = this.#order === null || mailbox.hasFirst ? null : this.#order.takeLowest();
    if (released !== null) return this.#release(released.message, released.isLate, released.order);
    const head = mailbox.head();
    if (head === "unread") return this.#list.read();
    if (head !== undefined) return this.#decideHead(head);
    return this.#order === null ? "over" : this.#waitForOrder(this.#order);
  }

  #decideHead(message: InboxMessage): Next {
    const { mailbox } = this.#core;
    const decision = this.#core.sequenced(message, this.#core.held ?? NOTHING_HELD);
    switch (decision.kind) {
      case "consumed":
        mailbox.shift();
        this.#core.finishAgain(message);
        return "go-on";
      case "duplicate":
        this.#core.dropDuplicate(message, decision.conflict);
        mailbox.shift(); // C6: not before, so that a crash in between loses nothing
        return "go-on";
      case "hold":
        this.#order!.hold(message);
        mailbox.shift();
        return "go-on";
      case "late":
      case "release":
        return this.#release(message, decision.kind === "late", decision.order);
    }
  }

  /** Everything that has arrived is held. */
  #waitForOrder(order: OrderKeeper): Next {
    const taken = order.takeInTime();
    if (taken === null) return "over";
    if (taken.kind === "released") return this.#release(taken.message, taken.isLate, taken.order);
    this.#halts.gap(taken);
    return "go-on";
  }

  /** Its turn has come: it begins, unless a rule sets the message aside. */
  #release(message: InboxMessage, isLate: boolean, order: OrderState | undefined): Next {
    const { bot, ports } = this.#core;
    if (message.extra !== null && this.#halts.passUntold(message)) return "go-on";
    const isTooFar = (message.extra?.hops ?? 0) > ports.bounds.hopsMax; // bots that answer each other (attack B17)
    if (!isTooFar && (!isLate || bot.ordering === "available")) {
      return this.#begin(messageWork(message, isLate, order));
    }
    this.#halts.setAside(message, isTooFar ? "hops" : "late", null);
    return "go-on";
  }

  /** C8 */
  #resumeTurn(open: OpenTurn): Next {
    const work = findBegun(this.#core, this.#list, open);
    if (work === "unread") return this.#list.read();
    if (work === "later" || work === undefined) return "over"; // what it waits for wakes it
    if (open.deaths >= DEATHS_MAX) return this.#failures.poison(work, open, open.error ?? "", {});
    return work.message === null ? this.#begin(work) : this.#release(work.message, work.isLate, work.order);
  }

  #begin(work: Work): Next {
    const { bounds } = this.#core.ports;
    if (!this.#core.mayRunHead(positionOf(work))) return "over";
    const timedFromMs = this.#sliceTurns === 1 ? this.#sliceEndMs - bounds.drainSliceMs : null;
    const result = this.#head.begin(work, timedFromMs, this.#turnSettled);
    return result === null ? "in-turn" : this.#applied(work, result);
  }

  #applied(work: Work, result: TurnResult): Next {
    const failure = result.kind === "failed" ? result : this.#head.finish(work, result);
    return failure === null ? "go-on" : this.#failures.failed(failure.error, work);
  }

  /** A turn that took its time has ended. Goes on with what waits behind it. */
  #turnSettled = (result: TurnResult): void => {
    try {
      const work = this.#head.settle();
      const goesOn = !this.#core.isStopped && this.#applied(work, result) === "go-on"; // C5
      if (goesOn && this.#drain() === "in-turn") return;
    } catch (error) {
      this.crashed(error); // at once: a commit that lands meanwhile would take what is half decided (C6)
    }
    this.#drained?.();
  };

  // What cannot move --------------------------------------------------------------------------------------------------

  /** Everything that comes goes to the list; only what a gap lacks is looked for (attack B12). */
  #whileHalted(): Next {
    this.#list.leave();
    if (this.#core.mailbox.firstInInbox() === undefined) return "over";
    return this.#list.moveFirst() ? "go-on" : "over";
  }

  /** Moves what waits in the inbox to the waiting list (C7), as far as one commit may. */
  moveToList(): void {
    const { isStopped, ledger } = this.#core;
    if (isStopped || this.#draining || !ledger.isLoaded || this.#quarantine?.isCounting) return;
    this.#list.spill();
  }

  #joinsList = (message: InboxMessage): boolean => {
    const decision = this.#core.sequenced(message, NOTHING_HELD);
    if (decision.kind === "consumed") this.#core.finishAgain(message);
    else if (decision.kind === "duplicate" && !this.#head.isOf(message)) {
      this.#core.dropDuplicate(message, decision.conflict);
    } else {
      if (this.#halts.lift(message)) this.wake();
      return true;
    }
    return false;
  };

  #joinedList = (message: InboxMessage, listed: InboxMessage): void => {
    if (!this.#head.isOf(message)) return;
    this.#head.moved(message, listed);
    this.#failures.moved();
  };

  /** What stands on the list behind what was asked for; nothing if that was all. */
  listRead(entries: readonly WaitingEntry[]): void {
    if (this.#core.isStopped) return;
    this.#list.answered();
    if (this.#quarantine?.isCounting) this.#quarantine.count(entries);
    else this.#list.take(entries);
  }
}
