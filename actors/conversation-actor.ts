// Conversation actor: the single writer of one conversation. What waits stands in its mailbox, what was decided in its ledger; what
// nact delivers is only the wake-up.
//
// Invariants
//   C1. Messages are decided one at a time, in the order that the sequencer gives, and each exactly once: a message leaves the
//       mailbox in the same step that moves record, ids and state past it.
//   C2. Turns run ahead of commits only up to the bounds on what is uncommitted and on what waits in the lane (R6).
//   C3. What the committer takes is all that was decided since it last took, as one value (P5).
//   C4. It can be dropped from memory only when `settled`; then everything in it can be loaded again (R4).
//   C5. A stopped actor decides nothing more, whatever its handler does later.
//   C6. What a crash of this code leaves half decided is never committed: its messages are given back, in order, to the actor
//       that replaces it once nothing of the conversation flies.
//   C7. What cannot move goes to the waiting list, oldest first, and pins no inbox entry (R1).
//   C8. A turn that was begun goes first, whatever else has come: it alone may have steps and replies in the world already.
//   C9. What an operator asks, and what a clock says, is handled before the mailbox and names what it means; done twice it changes
//       nothing.

import type { Channel } from "../src/channels/channel.ts";
import {
  type DeadMessageReason,
  encodeDeadMessage,
  encodeDeadNotice,
  encodeUnreadable,
} from "../src/codec/dead-message.ts";
import { decodeWaiting, encodeWaiting } from "../src/codec/inbox-codec.ts";
import type { ConversationState } from "../src/codec/open-codec.ts";
import { afterDeathAlone, afterFailure, countedAfresh, DEATHS_MAX } from "../src/domain/attempts.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import {
  comparePlaces,
  type ExternalOrder,
  type ExternalPlace,
  type OrderState,
  placeOf,
} from "../src/domain/external-order.ts";
import type { Hash64 } from "../src/domain/hash.ts";
import { HeldMessages } from "../src/domain/held-messages.ts";
import type { ConversationId, ConversationKey } from "../src/domain/ids.ts";
import type {
  ControlMessage,
  InboxEntry,
  InboxMessage,
  MailboxMessage,
  Reply,
  TimerMessage,
} from "../src/domain/message.ts";
import { comparePositions, formatBorn, type Position } from "../src/domain/position.ts";
import {
  type ConversationRecord,
  type Halt,
  type HaltReason,
  haltName,
  NO_OPEN_TURN,
  type Notice,
  type OpenTurn,
} from "../src/domain/record.ts";
import {
  type Decision,
  type HeldDecision,
  type HeldView,
  NOTHING_HELD,
  nextHeld,
  orderAfter,
  orderPastGap,
  sequence,
  waitOnceMore,
} from "../src/domain/sequencer.ts";
import { stateOf } from "../src/domain/situation.ts";
import type { Environment, Timer } from "../src/environment.ts";
import { TerminalError } from "../src/errors.ts";
import { describeError, type Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { StoredConversation, WaitingEntry } from "../src/store/shard-store.ts";
import type { ActorRef } from "./actor-system.ts";
import { describeBotError, fullBotError, shortBotError } from "./bot-error.ts";
import type { Committable, PendingWrite } from "./committer.ts";
import { type ExtraParts, Ledger, type LedgerBounds } from "./ledger.ts";
import { Mailbox, type MailboxBounds } from "./mailbox.ts";
import { type RenderedTurn, renderTurn } from "./rendered-turn.ts";
import type { RunningTurns } from "./running-turns.ts";
import { Turn, type TurnBounds, type TurnResult, type TurnWork } from "./turn.ts";
import { TurnJournal } from "./turn-journal.ts";

export interface ConversationBounds extends TurnBounds, LedgerBounds, MailboxBounds {
  readonly drainTurnsMax: number;
  readonly drainSliceMs: number;
  readonly uncommittedTurnsMax: number;
  readonly uncommittedBytesMax: number;
  readonly stepsMax: number;
  readonly journalBytesMax: number;
  readonly hopsMax: number;
}

/** What a conversation needs of its shard. */
export interface ConversationPorts {
  readonly environment: Environment;
  readonly log: Log;
  readonly bounds: ConversationBounds;
  readonly hashKey: Hash64;
  readonly running: RunningTurns;
  readonly counters: Counters;
  /** Puts it into the next commit. */
  commit(conversation: Committable): void;
  /** One message of the entry needs nothing more: an earlier commit decided it. */
  finish(entry: InboxEntry): void;
  /** Fetches what is stored and hands it to `loaded`. */
  load(conversation: ConversationActor): void;
  /** Fetches what stands on its waiting list behind `after` and hands it to `listRead`. */
  readList(conversation: ConversationActor, after: number): void;
  /** What it takes in memory changed by so many bytes. */
  resized(bytes: number): void;
  /** Its own code failed, not the bot's; it is stopped. */
  crashed(conversation: ConversationActor, error: unknown): void;
  /** Whether the lane can take more; else it calls back once it can. */
  laneHasRoom(key: ConversationKey, uncommittedReplies: number, uncommittedBytes: number, onRoom: () => void): boolean;
  /** Whether this node runs bot and channel of a conversation. */
  readonly canReach: (to: ConversationId) => boolean;
  /** Messages of the inbox wait in it, and something stands in their way; or no longer. */
  blocked(conversation: ConversationActor, isBlocked: boolean): void;
  /** False if there may be no more dead letters; else there is room for this one. */
  reserveDeadLetter(bytes: number): boolean;
  /** Whether the head at this position may run now, after unclean ends; else it is woken when it may. */
  mayRunHead(conversation: ConversationActor, position: Position): boolean;
  /** What was pending in it when the shard was acquired is decided, or failed durably. */
  headIsThrough(key: ConversationKey): void;
  /** Whether all was read that stood in the inbox when the shard was acquired. */
  hasCaughtUp(): boolean;
  /** Whether its mark as the one that ran alone was found when a process had ended: true once. */
  diedAlone(key: ConversationKey): boolean;
}

export type Wake = "wake";

/** The clocks that the runtime keeps of a conversation, among its timers. */
export const RETRY_CLOCK = "!retry";
export const ORDER_CLOCK = "!order";

/** A look at the clock costs as much as a small turn. */
const CLOCK_EVERY_TURNS = 4;
const HANDLER_TIMEOUT_MS_DEFAULT = 30_000;
const MAX_ATTEMPTS_DEFAULT = 5;
const POISON_MIN_MS_DEFAULT = 600_000;
/** Moved to the waiting list in one commit, per conversation. */
const MOVED_BYTES_MAX = 1_048_576;
/** Longest time until a clock in memory is looked at again; the durable one is exact. */
const CLOCK_MS_MAX = 60_000;
/** Until the reader is looked at again, at start. */
const CATCH_UP_MS = 100;
/** Before any admission. */
const NO_TIME_PASSED = 0;
const ARRIVAL: ExternalOrder = Object.freeze({ mode: "arrival" });
/** Says of a conversation that it is held although nothing of it was processed. */
const BEFORE_FIRST: OrderState = Object.freeze({ epoch: 0, next: null });

/** A turn that is under way or about to be. */
interface Work {
  /** Null for a notice. Another object, with its place on the list, once it was moved there. */
  message: InboxMessage | null;
  readonly notice: Notice | null;
  readonly isLate: boolean;
  /** What stands in the record after it; undefined leaves that. */
  readonly order: OrderState | undefined;
}

type Next = "go-on" | "over" | "in-turn";

export interface Situation {
  readonly state: ConversationState;
  /** ms since the Unix epoch; null where nothing durable says it. */
  readonly sinceMs: number | null;
  readonly why: string;
  /** On its waiting list. */
  readonly waiting: number;
  /** Failed runs of the message at the head. */
  readonly attempts: number;
}

export class ConversationActor implements Committable {
  readonly key: ConversationKey;
  readonly id: ConversationId;
  readonly #bot: BotDefinition;
  readonly #channel: Channel;
  readonly #rules: ExternalOrder;
  readonly #ports: ConversationPorts;
  /** The index says that its record could not be read: what its list holds is counted anew. */
  readonly #wasQuarantined: boolean;
  readonly #mailbox: Mailbox;
  readonly #ledger: Ledger;
  /** Null where order is that of arrival. */
  readonly #held: HeldMessages<InboxMessage> | null;
  ref: ActorRef<Wake> | null = null;
  #awake = false;
  /** What is stored of it was asked for and has not been taken wholly: its size is told before, which makes others leave. */
  #isLoading = false;
  /** All that is held was looked at, and waits for its time or for what is missing. */
  #waitsForOrder = false;
  #stopped = false;
  #draining = false;
  #waitsForCommit = false;
  /** The turn under way. */
  #turn: Turn | null = null;
  #work: Work | null = null;
  /** Of the message at the head, over all its attempts. */
  #journal: TurnJournal | null = null;
  /** Of the one that this one replaces. */
  #inherited: TurnJournal | null = null;
  #sliceTurns = 0;
  #sliceEndMs = 0;
  /** Ends the `receive` that a turn under way keeps open. */
  #drained: (() => void) | null = null;
  #born: { readonly position: Position | null; readonly text: string } = { position: null, text: "" };
  #retry: Timer | null = null;
  #orderClock: Timer | null = null;
  /** When what is held is due, as it was last told to the store. */
  #orderDueMs: number | null = null;
  #isReadingList = false;
  /** For one message, wherever on the list it stands: all of that is read into memory. */
  #isSeeking = false;
  /** What was the newest in the inbox when something last came to stand in the way of it. */
  #blockedUpTo: Position | null = null;
  /** At least so late it is for Redis, ms since the Unix epoch: a clock of it was due. */
  #redisMs = 0;
  /** The highest id on the list that is, or was, in memory. */
  #listReadTo = 0;
  /** Its record as it is stored, which cannot be read. */
  #quarantine: Uint8Array | null = null;
  /** While its list is counted, because its record does not say how long that is. */
  #listCount: ListCount | null = null;
  #onLanded: (() => void) | null = null;
  /** What waits until everything decided is durable. */
  #gate: (() => void)[] = [];

  constructor(
    id: ConversationId,
    key: ConversationKey,
    bot: BotDefinition,
    channel: Channel,
    ports: ConversationPorts,
    wasQuarantined = false,
  ) {
    const { environment, bounds, counters } = ports;
    this.#wasQuarantined = wasQuarantined;
    this.id = id;
    this.key = key;
    this.#bot = bot;
    this.#channel = channel;
    this.#rules = channel.order ?? ARRIVAL;
    this.#ports = ports;
    this.#mailbox = new Mailbox(bounds);
    this.#held = this.#rules.mode === "arrival" ? null : new HeldMessages();
    this.#ledger = new Ledger(key, bot, bounds, {
      counters,
      nowMs: () => environment.nowMs(),
      monotonicMs: () => environment.monotonicMs(),
      changed: () => ports.commit(this),
      resized: ports.resized,
    });
  }

  /** C4. What is held or halted needs nobody in memory: the list is durable, as are the clocks, and a message or a verb wakes it. */
  get settled(): boolean {
    const isIdle = !this.#awake && this.#work === null && !this.#isReadingList && this.#retry === null;
    return isIdle && this.#mailbox.isEmpty && this.#ledger.isSettled && !this.#goesOn;
  }

  /** Something of it runs as soon as it is loaded, has room or is let go: out of memory nobody would ask for it again. */
  get #goesOn(): boolean {
    if (this.#quarantine !== null) return false;
    if (this.#isLoading) return true;
    const { extra } = this.#ledger;
    if (extra === null || extra.halt !== undefined) return false;
    const isBegun = extra.openTurn !== undefined || extra.notices !== undefined;
    const hasClock = this.#waitsForOrder && this.#orderDueMs !== null;
    const mayBeReleased = this.#held !== null && this.#held.count > 0 && !hasClock;
    return isBegun || mayBeReleased || this.#mailbox.depth + this.#mailbox.unread > 0;
  }

  /** A turn is under way. */
  get isInTurn(): boolean {
    return this.#turn !== null;
  }

  get situation(): Situation {
    const { record } = this.#ledger;
    const { waiting, openTurn, halt } = record?.extra ?? {};
    const { state, why } = this.#stateInMemory() ?? (record === null ? IDLE : stateOf(record));
    const sinceMs = halt?.sinceMs ?? openTurn?.firstFailedAtMs ?? null;
    return { state, why, sinceMs, waiting: waiting?.count ?? 0, attempts: openTurn?.attempts ?? 0 };
  }

  /** Null where the record says it. */
  #stateInMemory(): Pick<Situation, "state" | "why"> | null {
    if (this.#stopped) return { state: "halted", why: "crashing: the runtime's own code failed on it" }; // else no resident
    if (this.#quarantine !== null) return { state: "quarantined", why: "its record cannot be read" };
    if (this.#turn !== null) return { state: "active", why: "a turn runs" };
    if (this.#retry !== null || this.#ledger.extra?.halt !== undefined || this.#mailbox.depth === 0) return null;
    return { state: "active", why: "messages wait for their record, a commit, or room" };
  }

  /** Messages in memory that are not decided. */
  get mailboxDepth(): number {
    return this.#mailbox.depth + (this.#held?.count ?? 0);
  }

  /** What it takes in memory, as last told to `resized`. */
  get residentBytes(): number {
    return this.#ledger.residentBytes;
  }

  deliver(message: MailboxMessage): void {
    if (message.kind === "message") this.#mailbox.push(message);
    else this.#mailbox.pushUrgent(message);
    if (this.#turn !== null) this.#tellBlocked(); // C7: nobody looks before it ends
    if (this.#mailbox.isOverBound) this.moveToList(); // P7
    this.wake();
  }

  wake = (): void => {
    if (this.#awake || this.#stopped || this.ref === null) return;
    this.#awake = true;
    this.ref.tell("wake");
  };

  loaded(stored: StoredConversation): void {
    if (this.#stopped) return;
    try {
      this.#ledger.load(stored); // its size is told, which may evict others
    } catch (error) {
      this.#startQuarantine(error, stored.record!);
      return;
    }
    if (this.#wasQuarantined) this.#countList();
    else this.#goOn();
  }

  #goOn(): void {
    const { extra } = this.#ledger;
    this.#mailbox.unread = extra?.waiting?.count ?? 0;
    this.#isLoading = false;
    if (extra?.openTurn !== undefined) this.#reopen(extra.openTurn);
    this.wake();
  }

  /** Begins no further turn; one under way ends by itself. */
  drain(): void {
    this.#draining = true;
  }

  stop(): void {
    this.#end();
    this.#journal?.close();
  }

  #end(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#orderClock?.cancel();
    this.#turn?.abandon(); // C5
    this.#ports.blocked(this, false);
    this.ref?.stop();
  }

  crashed(error: unknown): void {
    if (this.#stopped) return;
    this.#end();
    this.#ports.crashed(this, error);
  }

  /** C6: what it had decided and nobody took, and what waits behind; with the steps that still run (attack A6). */
  salvage(): Salvage {
    const { urgent, messages } = this.#mailbox.drain();
    const journal = this.#journal;
    this.#journal = null; // it is the successor's
    return { messages: [...this.#ledger.takeBack(), ...urgent, ...messages], journal };
  }

  /** Goes on for one that crashed. */
  inherit(journal: TurnJournal | null): void {
    this.#inherited = journal;
  }

  /** Calls back, once, when nothing of it flies. */
  onLanded(run: () => void): void {
    if (this.#ledger.isInFlight) this.#onLanded = run;
    else run();
  }

  receive(_wake: Wake): void | Promise<void> {
    const { environment, bounds } = this.#ports;
    this.#awake = false;
    this.#sliceTurns = 0;
    this.#sliceEndMs = environment.monotonicMs() + bounds.drainSliceMs;
    if (this.#drain() !== "in-turn") return undefined;
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  takeWrite(): PendingWrite {
    return this.#ledger.takeWrite();
  }

  committed(): void {
    this.#ledger.committed();
    this.#onLanded?.();
    if (this.#gate.length > 0 && this.#ledger.isSettled) for (const open of this.#gate.splice(0)) open();
    if (!this.#waitsForCommit) return;
    this.#waitsForCommit = false;
    this.wake();
  }

  /**
   * The next commit says that its head runs in a group of so many, one of which may be what ends the process.
   * @returns when that is durable: it may run then. Stays pending in one that is stopped, of which nothing is committed (C6)
   */
  markSuspect(size: number, position: Position): Promise<void> {
    if (this.#stopped) return new Promise(() => undefined); // C5: what it knows of its record is of another time
    const openTurn = this.#ledger.extra?.openTurn ?? { ...NO_OPEN_TURN, position };
    this.#ledger.change(position, { suspect: size, openTurn });
    return this.#settled();
  }

  // Deciding ----------------------------------------------------------------------------------------------------------

  /** Decides one after the other, until nothing is left, something has to come first, or a turn takes its time. */
  #drain(): "over" | "in-turn" {
    this.#waitsForOrder = false;
    let next: Next = "go-on";
    while (next === "go-on") {
      if (this.#stopped || !this.#mayDecide()) next = "over";
      else if (this.#isSliceOver()) {
        this.wake(); // others first
        next = "over";
      } else next = this.#decideNext();
    }
    if (!this.#stopped) this.#tellBlocked();
    return next;
  }

  /** Something stands in the way for as long as not all is gone that was in the inbox then: what moves is not moved to the list. */
  #tellBlocked(): void {
    const first = this.#mailbox.firstInInbox();
    const isSame =
      first !== undefined && this.#blockedUpTo !== null && comparePositions(first.position, this.#blockedUpTo) <= 0;
    if (!isSame) {
      this.#ports.blocked(this, false);
      this.#blockedUpTo = this.#mailbox.newest;
    }
    if (first !== undefined) this.#ports.blocked(this, true);
  }

  /** True if something can be looked at; where not, what it waits for wakes it. */
  #mayDecide(): boolean {
    if (this.#draining) return false;
    if (this.#quarantine !== null) {
      this.#dropUrgent();
      return false;
    }
    if (!this.#ledger.isLoaded) {
      this.#isLoading = true;
      this.#ports.load(this);
      return false;
    }
    if (this.#listCount !== null) return false;
    if (!this.#handleUrgent() || this.#retry !== null) return false;
    const { bounds, running } = this.#ports;
    const bytes = this.#ledger.uncommittedBytes;
    if (this.#ledger.uncommittedTurns >= bounds.uncommittedTurnsMax || bytes >= bounds.uncommittedBytesMax) {
      this.#waitsForCommit = true; // C2
      return false;
    }
    if (!this.#ports.laneHasRoom(this.key, this.#ledger.uncommittedReplies, bytes, this.wake)) return false; // C2
    if (running.hasRoomFor(this.key)) return true;
    running.onRoom(this.key, this.wake);
    return false;
  }

  #isSliceOver(): boolean {
    const { environment, bounds } = this.#ports;
    this.#sliceTurns += 1;
    if (this.#sliceTurns > bounds.drainTurnsMax) return true;
    return this.#sliceTurns % CLOCK_EVERY_TURNS === 0 && environment.monotonicMs() > this.#sliceEndMs;
  }

  #decideNext(): Next {
    const { extra } = this.#ledger;
    if (extra !== null) {
      if (extra.halt !== undefined) return this.#whileHalted();
      if (extra.openTurn !== undefined) return this.#resumeTurn(extra.openTurn); // C8
      if (extra.notices?.[0] !== undefined) return this.#begin(noticeWork(extra.notices[0]));
    }
    const released = this.#held === null || this.#mailbox.hasFirst ? null : this.#releaseHeld(this.#held);
    if (released !== null) return released;
    const head = this.#mailbox.head();
    if (head === "unread") return this.#readList();
    if (head !== undefined) return this.#decideHead(head);
    return this.#held === null ? "over" : this.#waitForOrder(this.#held);
  }

  #decideHead(message: InboxMessage): Next {
    const decision = this.#sequenced(message, this.#held ?? NOTHING_HELD);
    switch (decision.kind) {
      case "consumed":
        this.#mailbox.shift();
        this.#finishAgain(message);
        return "go-on";
      case "duplicate":
        this.#mailbox.shift();
        this.#dropDuplicate(message, decision.conflict);
        return "go-on";
      case "hold":
        this.#mailbox.shift();
        this.#hold(message);
        return "go-on";
      case "late":
      case "release":
        return this.#release(message, decision.kind === "late", decision.order);
    }
  }

  /** Its turn has come: it begins, unless a rule sets the message aside. */
  #release(message: InboxMessage, isLate: boolean, order: OrderState | undefined): Next {
    const isTooFar = (message.extra?.hops ?? 0) > this.#ports.bounds.hopsMax; // bots that answer each other (attack B17)
    if (!isTooFar && (!isLate || this.#bot.ordering === "available")) {
      return this.#begin(messageWork(message, isLate, order));
    }
    this.#setAside(message, isTooFar ? "hops" : "late", null);
    return "go-on";
  }

  #sequenced(message: InboxMessage, held: HeldView): Decision {
    const record = this.#ledger.recordFor(message.position);
    const from = message.waitingId === null ? "inbox" : "waiting";
    return sequence(record, this.#ledger.ids, this.#rules, message, from, held);
  }

  #dropDuplicate(message: InboxMessage, isConflict: boolean): void {
    const { counters } = this.#ports;
    counters.duplicates += 1;
    if (isConflict) counters.conflicts += 1;
    this.#ledger.drop(message);
  }

  // External order ----------------------------------------------------------------------------------------------------

  /** What is held stands on the waiting list. */
  #hold(message: InboxMessage): void {
    const listed = message.waitingId === null ? this.#ledger.move(message, encodeWaiting(message)) : message;
    this.#listReadTo = Math.max(this.#listReadTo, listed.waitingId!);
    if (this.#ledger.extra?.order === undefined) this.#ledger.change(message.position, { order: BEFORE_FIRST });
    this.#held!.add(listed);
  }

  /**
   * The lowest, if it is its turn: before anything that came later. Null if what has arrived has to be looked at first: where time
   * or number of the held ones releases it and not its own number, a lower one may have come.
   */
  #releaseHeld(held: HeldMessages<InboxMessage>): Next | null {
    const lowest = held.peek();
    if (lowest === undefined) return null;
    return this.#decideHeld(held, lowest, this.#nextHeld(lowest, NO_TIME_PASSED));
  }

  #decideHeld(held: HeldMessages<InboxMessage>, lowest: InboxMessage, decision: HeldDecision): Next | null {
    if (decision.kind !== "release" && decision.kind !== "late") return null;
    held.shift();
    this.#mailbox.putFirst(lowest);
    return this.#release(lowest, decision.kind === "late", decision.order);
  }

  /** @param nowMs time counts only when all that has arrived was looked at: what is missing may be among it */
  #nextHeld({ position }: InboxMessage, nowMs: number): HeldDecision {
    return nextHeld(this.#ledger.recordFor(position), this.#rules, this.#held!, nowMs);
  }

  /** Everything that has arrived is held: only time, or what is missing, moves it. */
  #waitForOrder(held: HeldMessages<InboxMessage>): Next {
    const { environment, hasCaughtUp, headIsThrough } = this.#ports;
    const lowest = held.peek();
    if (lowest !== undefined) {
      const nowMs = Math.max(environment.nowMs(), this.#redisMs);
      if (!hasCaughtUp()) {
        this.#lookAgainIn(CATCH_UP_MS); // what is missing may stand in the inbox
        return "over";
      }
      const decision = this.#nextHeld(lowest, nowMs);
      if (decision.kind === "gap") return this.#gap(lowest, decision);
      const next = this.#decideHeld(held, lowest, decision);
      if (next !== null) return next;
      this.#waitsForOrder = decision.kind === "wait";
      this.#setOrderClock(decision.kind === "wait" ? decision.untilMs : null);
    } else this.#setOrderClock(null);
    headIsThrough(this.key); // nothing of it can run now
    return "over";
  }

  #gap({ position }: InboxMessage, { from, to, order }: Extract<HeldDecision, { kind: "gap" }>): Next {
    const { counters, log } = this.#ports;
    const missing = from === to ? `number ${from} is missing` : `numbers ${from} to ${to} are missing`;
    counters.gaps += 1;
    if (this.#bot.ordering !== "available") {
      this.#halt("gap", missing, undefined, { epoch: order.epoch, sequence: from });
      return "go-on";
    }
    log.warn({ ...this.id, from, to }, `${missing}: passed`);
    const notices = this.#bot.onNotice?.gap === undefined ? [] : [{ kind: "gap", position, from, to } as const];
    this.#ledger.change(position, { order, notices: this.#ledger.withNotices(notices) });
    return "go-on";
  }

  /** In memory and, if it changed, in the store, where it wakes the conversation whoever has it then. */
  #setOrderClock(dueMs: number | null): void {
    this.#lookAgainIn(dueMs === null ? null : Math.max(1, dueMs - this.#ports.environment.nowMs()));
    const due = dueMs === null ? null : Math.ceil(dueMs);
    if (due === this.#orderDueMs) return;
    if (this.#orderDueMs !== null) this.#ledger.setTimer(ORDER_CLOCK, this.#orderDueMs, null);
    if (due !== null) this.#ledger.setTimer(ORDER_CLOCK, due, due);
    this.#orderDueMs = due;
  }

  #lookAgainIn(delayMs: number | null): void {
    this.#orderClock?.cancel();
    this.#orderClock = null;
    if (delayMs === null) return;
    this.#orderClock = this.#ports.environment.after(Math.min(delayMs, CLOCK_MS_MAX), this.wake);
  }

  // Turns -------------------------------------------------------------------------------------------------------------

  /** The turn that was begun before anything else (C8): its message stands on the list, or first in the inbox. */
  #resumeTurn(open: OpenTurn): Next {
    this.#finishConsumed();
    const notice = this.#ledger.extra?.notices?.[0];
    const isNotice = notice !== undefined && comparePositions(notice.position, open.position) === 0;
    const work = isNotice ? noticeWork(notice) : this.#findOpen(open.position);
    if (work === "unread") return this.#readList();
    if (work === "later" || work === undefined) return "over"; // it has not been read from the inbox yet
    if (open.deaths >= DEATHS_MAX) return this.#poison(work, open, open.error ?? "", {});
    return work.message === null ? this.#begin(work) : this.#release(work.message, work.isLate, work.order);
  }

  /** What is read again of an entry whose other messages are unfinished. */
  #finishConsumed(): void {
    const { cursor } = this.#ledger.record!;
    for (let head = this.#mailbox.firstInInbox(); head !== undefined; head = this.#mailbox.firstInInbox()) {
      if (comparePositions(head.position, cursor) > 0) return;
      this.#mailbox.shiftInbox();
      this.#finishAgain(head);
    }
  }

  /** What decided it may be uncommitted itself: then its entry goes with that. */
  #finishAgain(message: InboxMessage): void {
    if (this.#ledger.isSettled) this.#ports.finish(message.source);
    else this.#ledger.consumedAgain(message);
  }

  #findOpen(position: Position): Work | "unread" | "later" | undefined {
    const found = this.#bringToHead(position);
    return typeof found === "object" ? this.#workAgain(found) : found;
  }

  /**
   * The message at this position, now the head. Where order is, or was, the outside's, it may stand anywhere on the list; after a
   * restart also in the inbox, behind others that are held: then it joins them.
   * @returns `unread` while the list has to be read for it, `later` while a commit has to come first, undefined if it is nowhere yet
   */
  #bringToHead(position: Position): InboxMessage | "unread" | "later" | undefined {
    this.#isSeeking = false;
    const head = this.#mailbox.head();
    if (head === "unread") return "unread";
    if (head !== undefined && comparePositions(head.position, position) === 0) return head;
    this.#isSeeking = this.#mailbox.unread > 0;
    if (this.#isSeeking) return "unread";
    const listed = this.#mailbox.takeListed(position);
    if (listed !== undefined) {
      this.#mailbox.putFirst(listed);
      return listed;
    }
    if (this.#held !== null && this.#held.count > 0) {
      this.#leaveOnList(); // it may be one of those
      return "unread";
    }
    const first = this.#mailbox.firstInInbox();
    if (first === undefined || comparePositions(first.position, position) !== 0) return undefined;
    return this.#moveFirst() ? this.#bringToHead(position) : "later";
  }

  /** It was released or late before: since then nothing of the conversation was decided. */
  #workAgain(message: InboxMessage): Work {
    if (this.#held === null) return messageWork(message, false, undefined);
    const isLate = this.#sequenced(message, NOTHING_HELD).kind === "late";
    return messageWork(message, isLate, orderAfter(this.#ledger.recordFor(message.position), this.#rules, message));
  }

  #begin(work: Work): Next {
    const position = positionOf(work);
    if (!this.#ports.mayRunHead(this, position)) return "over";
    this.#work = work;
    let turn: Turn;
    try {
      turn = this.#newTurn(work, position);
    } catch (error) {
      return this.#failed(error, work); // the bot's: its initial state, or a step of its migration
    }
    const result = turn.run(this.#turnSettled);
    if (result !== null) {
      if (this.#sliceTurns === 1) this.#timeTurn(this.#sliceEndMs - this.#ports.bounds.drainSliceMs);
      return this.#applied(work, result);
    }
    this.#turn = turn;
    this.#ports.running.add(turn);
    return "in-turn";
  }

  #newTurn(work: Work, position: Position): Turn {
    const { bounds, log } = this.#ports;
    const { born, seq, extra } = this.#ledger.recordFor(position);
    const journal = this.#journalOf(extra?.openTurn, position);
    return new Turn({
      bot: this.#bot,
      conversation: this.id,
      key: this.key,
      born,
      seq: seq + 1,
      state: this.#ledger.currentState(),
      work: turnWork(work),
      position,
      journal,
      bounds,
      timeoutMs: this.#bot.handlerTimeoutMs ?? HANDLER_TIMEOUT_MS_DEFAULT,
      log,
      canReach: this.#ports.canReach,
      onStrayRejection: this.#onStrayRejection,
    });
  }

  #journalOf(open: OpenTurn | undefined, position: Position): TurnJournal {
    if (this.#journal !== null) return this.#journal;
    const { environment, bounds } = this.#ports;
    const ports = {
      environment,
      bounds,
      settled: () => this.#settled(),
      changed: () => this.#journalChanged(),
      flush: (replies: readonly Reply[]) => this.#flush(replies),
    };
    const isOfThis = open !== undefined && comparePositions(open.position, position) === 0;
    this.#journal = this.#inherited ?? new TurnJournal(isOfThis ? open : undefined, ports);
    this.#inherited?.adopt(isOfThis ? open : undefined, ports);
    this.#inherited = null;
    return this.#journal;
  }

  #onStrayRejection = (): void => {
    this.#ports.counters.strayRejections += 1;
  };

  /** A turn that took its time has ended. Goes on with what waits behind it. */
  #turnSettled = (result: TurnResult): void => {
    try {
      const turn = this.#turn!;
      this.#turn = null;
      this.#ports.running.remove(turn);
      this.#timeTurn(turn.deadlineMs - turn.timeoutMs);
      const goesOn = !this.#stopped && this.#applied(this.#work!, result) === "go-on"; // C5
      if (goesOn && this.#drain() === "in-turn") return;
    } catch (error) {
      this.crashed(error); // at once: a commit that lands meanwhile would take what is half decided (C6)
    }
    this.#drained?.();
  };

  /** One of a wake-up is enough: a look at the clock for each would cost as much as small turns do. */
  #timeTurn(startMs: number): void {
    const { counters, environment } = this.#ports;
    counters.timings.turn.observe(environment.monotonicMs() - startMs);
  }

  #applied(work: Work, result: TurnResult): Next {
    if (result.kind === "failed") return this.#failed(result.error, work);
    const record = this.#ledger.recordFor(positionOf(work));
    let rendered: RenderedTurn;
    try {
      rendered = this.#render(record, work, result.replies);
    } catch (error) {
      return this.#failed(error, work);
    }
    // C1: from here on nothing of the bot can fail.
    if (work.message !== null) this.#mailbox.shift();
    const effects = { state: result.state, rendered, replies: result.replies.length };
    this.#ledger.turn(work.message, record.born, effects, extraAfter(record, work), result.sends);
    this.#ended(record);
    return "go-on";
  }

  /** What was begun has ended, by a turn or otherwise. */
  #ended({ extra }: ConversationRecord): void {
    this.#work = null;
    this.#closeJournal();
    if (extra?.openTurn?.nextAtMs != null) this.#ledger.setTimer(RETRY_CLOCK, extra.openTurn.nextAtMs, null);
    this.#ports.headIsThrough(this.key);
  }

  /** What steps of it still do is nobody's any more. One that was never asked for anything serves the next message, too. */
  #closeJournal(): void {
    if (this.#journal === null || this.#journal.isUntouched) return;
    this.#journal.close();
    this.#journal = null;
  }

  #render(record: ConversationRecord, { message }: Work, replies: readonly Reply[]): RenderedTurn {
    const isBegun = (record.extra?.openTurn?.repliesOut ?? 0) > 0;
    const turn = { message, replies, withUserLine: !isBegun && message !== null };
    return renderTurn(this.#channel, this, record, this.#bornText(record), turn, this.#ports.bounds);
  }

  #bornText(record: ConversationRecord): string {
    if (this.#born.position !== record.born) this.#born = { position: record.born, text: formatBorn(record.born) };
    return this.#born.text;
  }

  // Steps, and replies in the middle of a turn ------------------------------------------------------------------------

  /** R4's gate. Pending for ever in a conversation that left: nothing of its turn goes on. */
  #settled(): Promise<void> {
    if (this.#ledger.isSettled) return Promise.resolve();
    return new Promise((resolve) => this.#gate.push(resolve));
  }

  #journalChanged(): void {
    if (this.#stopped || this.#journal === null) return;
    const open = this.#ledger.extra?.openTurn;
    const position = open?.position ?? (this.#work && positionOf(this.#work));
    if (position == null) return;
    const { steps, repliesOut } = this.#journal;
    this.#ledger.change(position, { openTurn: { ...(open ?? { ...NO_OPEN_TURN, position }), steps, repliesOut } });
  }

  #flush(replies: readonly Reply[]): void {
    if (this.#stopped) return;
    const work = this.#work!;
    const record = this.#ledger.recordFor(positionOf(work));
    this.#ledger.flush(record.born, { rendered: this.#render(record, work, replies), replies: replies.length });
  }

  // Failures ----------------------------------------------------------------------------------------------------------

  /** The same message again after a while or, if that was the last time, what the bot's ordering says (DESIGN 5). */
  #failed(error: unknown, work: Work): Next {
    const { environment, log, counters } = this.#ports;
    const position = positionOf(work);
    counters.failedTurns += 1;
    const failure = afterFailure(
      this.#ledger.extra?.openTurn,
      position,
      { error: shortBotError(error), isTerminal: error instanceof TerminalError },
      { nowMs: Math.floor(environment.nowMs()), random: environment.random() },
      {
        maxAttempts: this.#bot.maxAttempts ?? MAX_ATTEMPTS_DEFAULT,
        poisonMinMs: this.#bot.poisonMinMs ?? POISON_MIN_MS_DEFAULT,
      },
    );
    const { open } = failure;
    const line = {
      ...this.id,
      inboxPosition: formatBorn(position),
      attempt: open.attempts,
      error: describeBotError(error),
    };
    if (failure.kind === "poison") return this.#poison(work, open, fullBotError(error), line);
    log.warn(
      { ...line, retryInMs: failure.delayMs },
      "turn failed; nothing of it was committed, the message runs again",
    );
    this.#work = null;
    this.#ledger.change(position, { openTurn: open, suspect: undefined });
    this.#backOff(open, failure.delayMs, work.message);
    this.#ports.headIsThrough(this.key);
    return "over";
  }

  /** The durable clock is for one on the list: one of the inbox is read again by whoever has the shard next. */
  #backOff(open: OpenTurn, delayMs: number, message: InboxMessage | null): void {
    this.#retry = this.#ports.environment.after(delayMs, () => {
      this.#retry = null;
      this.wake();
    });
    if (message?.waitingId != null && open.nextAtMs !== null)
      this.#ledger.setTimer(RETRY_CLOCK, open.nextAtMs, open.nextAtMs);
  }

  /** What was open when it was loaded waits for its time, as before. One that ended its process alone is charged for it. */
  #reopen(open: OpenTurn): void {
    const { environment, diedAlone } = this.#ports;
    const nowMs = Math.floor(environment.nowMs());
    if (this.#ledger.extra?.suspect === 1 && diedAlone(this.key)) {
      const charged = afterDeathAlone(open, open.position, nowMs).open;
      this.#ports.log.warn({ ...this.id, deaths: charged.deaths }, "the process ended while only this message ran");
      this.#ledger.change(open.position, { openTurn: charged, suspect: undefined });
    } else if (open.nextAtMs !== null && open.nextAtMs > nowMs) this.#backOff(open, open.nextAtMs - nowMs, null);
  }

  /** @param error in full, for the dead letter */
  #poison(work: Work, open: OpenTurn, error: string, line: object): Next {
    const { counters, log } = this.#ports;
    this.#work = null;
    counters.poisoned += 1;
    if (work.message === null) return this.#dropNotice(work.notice!, { ...open, error }, line);
    if (this.#bot.ordering !== "available") {
      log.error({ ...this.id, ...line }, "message failed for good");
      this.#halt("poison", `${open.error ?? "ended the process"}; attempts: ${open.attempts + open.deaths}`, open);
      return "go-on";
    }
    log.error({ ...this.id, ...line }, "message failed for good: it becomes a dead letter, its conversation goes on");
    this.#setAside(work.message, "poison", { ...open, error });
    return "go-on";
  }

  /** There is no notice for a notice (attack B17): it becomes a dead letter or, without room for one, a line of the log. */
  #dropNotice(notice: Notice, open: OpenTurn, line: object): Next {
    const { counters, environment, log, reserveDeadLetter } = this.#ports;
    const record = this.#ledger.recordFor(notice.position);
    const attempts = open.attempts + open.deaths;
    const letter = encodeDeadNotice(this.id, notice, attempts, open.error, Math.floor(environment.nowMs()));
    const hasRoom = reserveDeadLetter(letter.length);
    if (hasRoom) counters.deadLetters += 1;
    log.error(
      { ...this.id, ...line },
      `the bot failed on a notice for good: it ${hasRoom ? "becomes a dead letter" : "is dropped, as there is no room for a dead letter"}, its conversation goes on`,
    );
    const parts = { notices: rest(record.extra?.notices), openTurn: undefined, suspect: undefined };
    this.#ledger.dropNotice(notice.position, parts, hasRoom ? letter : null);
    this.#ended(record);
    return "go-on";
  }

  /** The message at the head becomes a dead letter, in the commit that passes it. Where there is no room for one, it halts. */
  #setAside(message: InboxMessage, reason: DeadMessageReason, open: OpenTurn | null): void {
    const { counters, environment, log } = this.#ports;
    const record = this.#ledger.recordFor(message.position);
    const letter = encodeDeadMessage({
      id: this.id,
      message,
      reason,
      attempts: (open?.attempts ?? 0) + (open?.deaths ?? 0),
      error: open?.error ?? null,
      botVersion: this.#bot.version,
      repliesOut: open?.repliesOut ?? 0,
      atMs: Math.floor(environment.nowMs()),
    });
    if (!this.#ports.reserveDeadLetter(letter.length)) {
      const openTurn = open ?? { ...NO_OPEN_TURN, position: message.position };
      this.#halt("full", `no room for another dead letter (${reason})`, openTurn);
      return;
    }
    this.#mailbox.shift();
    counters.deadLetters += 1;
    log.warn({ ...this.id, inboxPosition: formatBorn(message.position), reason }, "message became a dead letter");
    this.#ledger.setAside(message, reason === "late" || reason === "skipped" ? reason : "dead", letter, {
      halt: undefined,
      openTurn: undefined,
      suspect: undefined,
      order: orderAfter(record, this.#rules, message),
      notices: this.#ledger.withNotices(this.#noticeOf(message, reason, open)),
    });
    this.#ended(record);
  }

  #noticeOf(message: InboxMessage, reason: DeadMessageReason, open: OpenTurn | null): readonly Notice[] {
    const { ordering, onNotice } = this.#bot;
    if (reason !== "poison" || ordering !== "available" || onNotice?.poisoned === undefined) return [];
    return [{ kind: "poisoned", position: message.position, id: message.id, error: open?.error ?? "" }];
  }

  #halt(reason: HaltReason, why: string, open: OpenTurn | undefined, missing?: ExternalPlace): void {
    const { counters, environment, log } = this.#ports;
    counters.halts += 1;
    const halt = { reason, sinceMs: Math.floor(environment.nowMs()), why, ...(missing && { missing }) };
    const born = this.#ledger.record?.born ?? open!.position; // the very first message may be the one that halts it
    this.#ledger.change(born, { halt, openTurn: open, suspect: undefined });
    this.#setOrderClock(null);
    log.error(
      { ...this.id, reason, why },
      "conversation halted: later messages wait in order, nothing is lost; mend the cause, then `colloquy retry` or `colloquy skip`",
    );
    this.#ports.headIsThrough(this.key);
  }

  // Halts, and what lifts them ----------------------------------------------------------------------------------------

  /** Everything that comes goes to the list; only what a gap lacks is looked for (attack B12). */
  #whileHalted(): Next {
    this.#leaveOnList();
    if (this.#mailbox.firstInInbox() === undefined) return "over";
    return this.#moveFirst() ? "go-on" : "over";
  }

  /** True if it is what a gap lacks: then the halt is lifted. */
  #liftsGap(message: InboxMessage): boolean {
    const missing = this.#ledger.extra?.halt?.missing;
    const place = placeOf(message);
    if (missing === undefined || place === null || comparePlaces(place, missing) !== 0) return false;
    this.#ports.log.info({ ...this.id }, "what was missing has come: the conversation goes on");
    this.#ledger.change(message.position, { halt: undefined });
    return true;
  }

  #leaveOnList(): void {
    this.#held?.clear();
    this.#mailbox.leaveOnList(this.#ledger.extra?.waiting?.count ?? 0);
    this.#listReadTo = 0;
  }

  /** C9. False if the list has to be read before the next one can be handled. */
  #handleUrgent(): boolean {
    for (let urgent = this.#mailbox.peekUrgent(); urgent !== undefined; urgent = this.#mailbox.peekUrgent()) {
      if (urgent.kind === "control") {
        if (!this.#control(urgent)) return false;
        continue;
      }
      this.#mailbox.shiftUrgent();
      this.#clock(urgent);
    }
    return true;
  }

  /** What a clock is about is decided by the time, not by it; but an attempt is not made before its time. */
  #clock({ name, generation, source, position }: TimerMessage): void {
    this.#redisMs = Math.max(this.#redisMs, position.entry.ms); // else a clock that is behind would set it again and again
    if (name === RETRY_CLOCK && generation === this.#ledger.extra?.openTurn?.nextAtMs) {
      this.#retry?.cancel();
      this.#retry = null;
    }
    if (name === ORDER_CLOCK && generation === this.#orderDueMs) this.#orderDueMs = null; // it is in the store no more
    this.#ports.finish(source);
  }

  /** False if the list has to be read first. */
  #control(message: ControlMessage): boolean {
    const { control, source } = message;
    const { record } = this.#ledger;
    const halt = record?.extra?.halt;
    const line = { ...this.id, verb: control.verb, halt: control.halt, by: control.by };
    if (record === null || halt === undefined || haltName(record) !== control.halt) {
      this.#mailbox.shiftUrgent();
      this.#ports.finish(source);
      this.#ports.log.info(line, "an operator's verb changed nothing: the conversation is not halted there any more");
      return true;
    }
    const skipped = control.verb === "skip" ? this.#skipped(halt, record) : undefined;
    if (skipped === "unread") this.#readList();
    if (skipped === "unread" || skipped === "later") return false;
    this.#mailbox.shiftUrgent();
    this.#ports.log.info({ ...line, reason: halt.reason }, "an operator's verb lifts the halt");
    if (control.verb === "retry") this.#liftForRetry(record, message);
    else this.#liftBySkip(halt, record, message, skipped);
    return true;
  }

  /** In a quarantined conversation nothing is halted or due. */
  #dropUrgent(): void {
    for (let urgent = this.#mailbox.peekUrgent(); urgent !== undefined; urgent = this.#mailbox.peekUrgent()) {
      this.#mailbox.shiftUrgent();
      this.#ports.finish(urgent.source);
    }
  }

  /** Attempts count from 0; a gap is waited for once more. */
  #liftForRetry({ born, extra }: ConversationRecord, control: ControlMessage): void {
    const { halt, openTurn, order } = extra!;
    const nowMs = Math.floor(this.#ports.environment.nowMs());
    this.#closeJournal(); // a step of it that hangs must not be joined once more
    const again = {
      halt: undefined,
      openTurn: openTurn && countedAfresh(openTurn),
      order: halt!.reason === "gap" ? waitOnceMore(order, nowMs) : order,
    };
    this.#ledger.change(born, again, control);
  }

  /** @param skipped the message that it is halted at; undefined for a gap, or if something else deleted it from Redis */
  #liftBySkip(
    halt: Halt,
    record: ConversationRecord,
    control: ControlMessage,
    skipped: InboxMessage | undefined,
  ): void {
    if (halt.missing !== undefined) {
      const order = orderPastGap(record, this.#rules, halt.missing, this.#waiting());
      this.#ledger.change(record.born, { halt: undefined, order }, control);
      return;
    }
    if (skipped === undefined) {
      this.#closeJournal();
      this.#ledger.change(record.born, { halt: undefined, openTurn: undefined, suspect: undefined }, control);
      return;
    }
    this.#ledger.change(record.born, {}, control);
    this.#setAside(skipped, "skipped", record.extra!.openTurn ?? null);
  }

  /** What a skip is about, brought to the head; of a gap it is enough that all of the list was read. */
  #skipped(halt: Halt, { extra }: ConversationRecord): InboxMessage | "unread" | "later" | undefined {
    if (halt.missing !== undefined) return this.#mailbox.unread > 0 ? "unread" : undefined;
    return extra?.openTurn && this.#bringToHead(extra.openTurn.position);
  }

  /** All that came before the verb of an operator, wherever it is: nothing of it may become late by that (Q3). */
  #waiting(): InboxMessage[] {
    return [...(this.#held ?? []), ...this.#mailbox.undecided()].filter((message) => this.#isNew(message));
  }

  /** No repeat of what was decided. */
  #isNew(message: InboxMessage): boolean {
    const { kind } = this.#sequenced(message, NOTHING_HELD);
    return kind !== "consumed" && kind !== "duplicate";
  }

  // The waiting list --------------------------------------------------------------------------------------------------

  /** Moves what waits in the inbox to the waiting list (C7), as far as one commit may. */
  moveToList(): void {
    if (this.#stopped || this.#draining || !this.#ledger.isLoaded || this.#listCount !== null) return;
    let moves = this.#mailbox.inInbox > 0;
    while (moves) moves = this.#moveFirst() && this.#mailbox.inInbox > 0;
    this.#ports.blocked(this, this.#mailbox.inInbox > 0);
  }

  /** False if a commit has to come first. */
  #moveFirst(): boolean {
    if (this.#ledger.isInFlight || this.#ledger.movedBytes >= MOVED_BYTES_MAX) {
      this.#waitsForCommit = true;
      return false;
    }
    const message = this.#mailbox.shiftInbox()!;
    if (this.#quarantine !== null) {
      this.#ledger.move(message, encodeWaiting(message));
      return true;
    }
    const decision = this.#sequenced(message, NOTHING_HELD);
    const isOpen = this.#isOpen(message);
    if (decision.kind === "consumed") this.#finishAgain(message);
    else if (decision.kind === "duplicate" && !isOpen) this.#dropDuplicate(message, decision.conflict);
    else {
      if (this.#liftsGap(message)) this.wake();
      this.#move(message, isOpen);
    }
    return true;
  }

  #move(message: InboxMessage, isOpen: boolean): void {
    const listed = this.#ledger.move(message, encodeWaiting(message));
    if (this.#mailbox.moved(listed)) this.#listReadTo = listed.waitingId!;
    if (!isOpen) return;
    if (this.#work?.message === message) this.#work.message = listed;
    const nextAtMs = this.#ledger.extra?.openTurn?.nextAtMs ?? null;
    if (this.#retry !== null && nextAtMs !== null) this.#ledger.setTimer(RETRY_CLOCK, nextAtMs, nextAtMs);
  }

  /** It is the one whose turn was begun. */
  #isOpen(message: InboxMessage): boolean {
    const open = this.#ledger.extra?.openTurn;
    return (
      this.#work?.message === message || (open !== undefined && comparePositions(open.position, message.position) === 0)
    );
  }

  /** What the commit under way writes or deletes there comes first. */
  #readList(): Next {
    if (this.#isReadingList) return "over";
    if (this.#ledger.isListUncommitted) {
      this.#waitsForCommit = true;
      return "over";
    }
    this.#isReadingList = true;
    this.#ports.readList(this, this.#listReadTo);
    return "over";
  }

  /** What stands on the list behind what was read; nothing if that was all. */
  listRead(entries: readonly WaitingEntry[]): void {
    if (this.#stopped) return;
    this.#isReadingList = false;
    if (this.#listCount !== null) {
      this.#count(this.#listCount, entries);
      return;
    }
    for (const entry of entries) {
      if (!this.#listed(entry)) break;
      this.#listReadTo = entry.id;
    }
    if (entries.length === 0 && this.#mailbox.unread > 0) this.#listIsShort();
    this.wake();
  }

  /** False if it has no room in memory now. Where order is the outside's, all of the list is looked at. */
  #listed({ id, bytes }: WaitingEntry): boolean {
    let message: InboxMessage;
    try {
      message = decodeWaiting(bytes, id, this.#ports.hashKey);
    } catch (error) {
      this.#setAsideUnreadable({ id, bytes }, error);
      return true;
    }
    if (this.#held === null && !this.#isSeeking && !this.#mailbox.hasRoomFor(message)) return false;
    this.#mailbox.wasRead(message);
    return true;
  }

  /** As a rotten message of the inbox would be (attack B18). Where there is no room for it, it stays and is looked at again. */
  #setAsideUnreadable({ id, bytes }: WaitingEntry, error: unknown): void {
    const { counters, environment, log } = this.#ports;
    const letter = encodeUnreadable(this.id, bytes, Math.floor(environment.nowMs()));
    log.error({ ...this.id, error: describeError(error) }, "a message on the waiting list cannot be read");
    this.#mailbox.unread -= 1;
    if (!this.#ports.reserveDeadLetter(letter.length)) return;
    counters.deadLetters += 1;
    this.#ledger.setAsideUnreadable(id, bytes.length, letter);
  }

  #listIsShort(): void {
    const { born, extra } = this.#ledger.record!;
    const missing = this.#mailbox.unread;
    this.#mailbox.unread = 0;
    const waiting = extra?.waiting && { ...extra.waiting, count: extra.waiting.count - missing };
    this.#ledger.change(born, { waiting });
    // Told once that is durable: an owner that lost the shard reads what its successor has left.
    void this.#settled().then(() =>
      this.#ports.log.fatal(
        { ...this.id, missing, counted: extra?.waiting?.count },
        "the waiting list holds fewer messages than its record says: something else deleted them from Redis; what is left goes on",
      ),
    );
  }

  // A record that cannot be read --------------------------------------------------------------------------------------

  /** Its messages go unread to its list (attack B13), behind what stands there: the record that knew where that ends is lost. */
  #startQuarantine(error: unknown, record: Uint8Array): void {
    this.#quarantine = record;
    this.#ports.log.error(
      { ...this.id, error: describeError(error) },
      "conversation quarantined: its record cannot be read and is left untouched; its messages wait on its list, nothing is lost",
    );
    this.#ports.headIsThrough(this.key);
    this.#countList();
    this.wake(); // clocks and verbs may wait
  }

  #countList(): void {
    this.#listCount = { lastId: 0, count: 0, bytes: 0, first: null };
    this.#isReadingList = true;
    this.#ports.readList(this, 0);
  }

  #count(count: ListCount, entries: readonly WaitingEntry[]): void {
    for (const entry of entries) {
      count.first ??= entry;
      count.lastId = entry.id;
      count.count += 1;
      count.bytes += entry.bytes.length;
    }
    if (entries.length > 0) {
      this.#isReadingList = true;
      this.#ports.readList(this, count.lastId);
      return;
    }
    this.#listCount = null;
    if (this.#quarantine !== null) this.#ledger.quarantine(this.#quarantine, count);
    else this.#endQuarantine(count);
  }

  /** A record that is readable again knows nothing of what came meanwhile. */
  #endQuarantine({ first, ...count }: ListCount): void {
    const born = first === null ? null : positionOnList(first, this.#ports.hashKey);
    if (this.#ledger.record !== null || born !== null) {
      this.#ports.log.info(
        { ...this.id, waiting: count.count },
        "its record can be read again: the conversation goes on",
      );
      this.#ledger.recount(born ?? this.#ledger.record!.born, count);
    }
    this.#goOn();
  }
}

/** What stands on a list, as it was read. */
interface ListCount {
  lastId: number;
  count: number;
  bytes: number;
  first: WaitingEntry | null;
}

function positionOnList({ id, bytes }: WaitingEntry, hashKey: Hash64): Position | null {
  try {
    return decodeWaiting(bytes, id, hashKey).position;
  } catch {
    return null; // it becomes a dead letter when its turn comes
  }
}

export interface Salvage {
  readonly messages: readonly MailboxMessage[];
  readonly journal: TurnJournal | null;
}

const IDLE = Object.freeze({ state: "idle", why: "" } as const);
const messageWork = (message: InboxMessage, isLate: boolean, order: OrderState | undefined): Work => ({
  message,
  notice: null,
  isLate,
  order,
});

const noticeWork = (notice: Notice): Work => ({ message: null, notice, isLate: false, order: undefined });

const positionOf = ({ message, notice }: Work): Position => (message ?? notice)!.position;

const turnWork = ({ message, notice, isLate }: Work): TurnWork =>
  message === null ? { kind: "notice", notice: notice! } : { kind: "message", message, isLate };

const rest = (notices: readonly Notice[] | undefined): readonly Notice[] | undefined =>
  notices === undefined || notices.length <= 1 ? undefined : notices.slice(1);

/** What changes in the extra by a turn; null in the plain case. */
function extraAfter({ extra }: ConversationRecord, work: Work): ExtraParts | null {
  if (extra === null) return work.order === undefined ? null : { order: work.order };
  const ended = { openTurn: undefined, suspect: undefined };
  if (work.notice !== null) return { ...ended, order: extra.order, notices: rest(extra.notices) };
  return { ...ended, order: work.order, notices: extra.notices };
}
