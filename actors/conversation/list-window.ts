// List window: what of a conversation stands on its waiting list, and how that comes into memory and goes out of it.
//
// Invariants
//   C7. What cannot move goes to the waiting list, oldest first, and pins no inbox entry (R1).
//   W1. The list is read only as it is stored: what a commit under way writes or deletes there comes first.
//   W2. What is read again of it is what was not read before, or all: `readTo` is the highest id that is, or was, in memory.

import { encodeUnreadable } from "../../src/codec/dead-message.ts";
import { decodeWaiting, encodeWaiting } from "../../src/codec/inbox-codec.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { comparePositions, type Position } from "../../src/domain/position.ts";
import { describeError } from "../../src/log.ts";
import type { WaitingEntry } from "../../src/store/shard-store.ts";
import type { ConversationCore, Next } from "./core.ts";

/** What joining the list means to the rest of the conversation. */
export interface ListRules {
  /** The first of the inbox is about to join. False if it needs nothing more, of which the ledger knows. */
  joins(message: InboxMessage): boolean;
  /** It stands there as `listed`. */
  joined(message: InboxMessage, listed: InboxMessage): void;
}

/** Moved to the waiting list in one commit, per conversation. */
const MOVED_BYTES_MAX = 1_048_576;

export class ListWindow {
  readonly #core: ConversationCore;
  readonly #rules: ListRules;
  #isReading = false;
  /** For one message, wherever on the list it stands: all of that is read into memory. */
  #isSeeking = false;
  /** W2 */
  #readTo = 0;
  /** Nobody can decide what stands on it: it is not looked at. */
  #isClosed = false;
  /** What was the newest in the inbox when something last came to stand in the way of it. */
  #blockedUpTo: Position | null = null;

  constructor(core: ConversationCore, rules: ListRules) {
    this.#core = core;
    this.#rules = rules;
  }

  /** Something of it was asked for and is not here. */
  get isReading(): boolean {
    return this.#isReading;
  }

  // To the list ---------------------------------------------------------------------------------------------------------

  /** Something stands in the way for as long as not all is gone that was in the inbox then: what moves is not moved to the list. */
  tellBlocked(): void {
    const { mailbox } = this.#core;
    const first = mailbox.firstInInbox();
    const isSame =
      first !== undefined && this.#blockedUpTo !== null && comparePositions(first.position, this.#blockedUpTo) <= 0;
    if (!isSame) {
      this.#core.tellBlocked(false);
      this.#blockedUpTo = mailbox.newest;
    }
    if (first !== undefined) this.#core.tellBlocked(true);
  }

  /** Moves what waits in the inbox (C7), as far as one commit may. */
  spill(): void {
    const { mailbox } = this.#core;
    let moves = mailbox.inInbox > 0;
    while (moves) moves = this.moveFirst() && mailbox.inInbox > 0;
    this.#core.tellBlocked(mailbox.inInbox > 0);
  }

  /** The first of the inbox leaves it. False if a commit has to come first. */
  moveFirst(): boolean {
    const { ledger, mailbox } = this.#core;
    if (ledger.isInFlight || ledger.movedBytes >= MOVED_BYTES_MAX) {
      this.#core.waitForCommit();
      return false;
    }
    const message = mailbox.shiftInbox()!;
    if (this.#isClosed) this.#core.ledger.move(message, encodeWaiting(message));
    else if (this.#rules.joins(message)) this.#join(message);
    return true;
  }

  /** From now on all that moves joins the list as it is, and stays there. */
  close(): void {
    this.#isClosed = true;
  }

  #join(message: InboxMessage): void {
    const listed = this.#core.ledger.move(message, encodeWaiting(message));
    if (this.#core.mailbox.moved(listed)) this.#readTo = listed.waitingId!;
    this.#rules.joined(message, listed);
  }

  /** As it stands on the list; moved there if it came from the inbox. It is not in the window: whoever holds it has it. */
  keep(message: InboxMessage): InboxMessage {
    const listed = message.waitingId === null ? this.#core.ledger.move(message, encodeWaiting(message)) : message;
    this.#readTo = Math.max(this.#readTo, listed.waitingId!);
    return listed;
  }

  /** Forgets what is in memory of the list. */
  leave(): void {
    const { held, ledger, mailbox } = this.#core;
    held?.clear();
    mailbox.leaveOnList(ledger.extra?.waiting?.count ?? 0);
    this.#readTo = 0;
  }

  // From the list -------------------------------------------------------------------------------------------------------

  /** What comes next has to be read: its conversation is woken then. */
  read(): Next {
    if (this.#isReading) return "over";
    if (this.#core.ledger.isListUncommitted)
      this.#core.waitForCommit(); // W1
    else this.ask(this.#readTo);
    return "over";
  }

  /** Asks for what stands behind this id; `answered` ends it. */
  ask(after: number): void {
    this.#isReading = true;
    this.#core.readList(after);
  }

  answered(): void {
    this.#isReading = false;
  }

  /** Takes what stands on the list behind what was read; nothing if that was all. */
  take(entries: readonly WaitingEntry[]): void {
    for (const entry of entries) {
      if (!this.#listed(entry)) break;
      this.#readTo = entry.id;
    }
    if (entries.length === 0 && this.#core.mailbox.unread > 0) this.#listIsShort();
    this.#core.wake();
  }

  /** False if it has no room in memory now. Where order is the outside's, all of the list is looked at. */
  #listed({ id, bytes }: WaitingEntry): boolean {
    const { held, mailbox, ports } = this.#core;
    let message: InboxMessage;
    try {
      message = decodeWaiting(bytes, id, ports.hashKey);
    } catch (error) {
      this.#setAsideUnreadable({ id, bytes }, error);
      return true;
    }
    if (held === null && !this.#isSeeking && !mailbox.hasRoomFor(message)) return false;
    mailbox.wasRead(message);
    return true;
  }

  /** As a rotten message of the inbox would be (attack B18). Where there is no room for it, it stays and is looked at again. */
  #setAsideUnreadable({ id, bytes }: WaitingEntry, error: unknown): void {
    const { counters, log } = this.#core.ports;
    const letter = encodeUnreadable(this.#core.id, bytes, this.#core.nowMs());
    log.error({ ...this.#core.id, error: describeError(error) }, "a message on the waiting list cannot be read");
    this.#core.mailbox.unread -= 1;
    if (!this.#core.ports.reserveDeadLetter(letter.length)) return;
    counters.deadLetters += 1;
    this.#core.ledger.setAsideUnreadable(id, bytes.length, letter);
  }

  #listIsShort(): void {
    const { id, ledger, mailbox, ports } = this.#core;
    const { born, extra } = ledger.record!;
    const missing = mailbox.unread;
    mailbox.unread = 0;
    const waiting = extra?.waiting && { ...extra.waiting, count: extra.waiting.count - missing };
    ledger.change(born, { waiting });
    // Told once that is durable: an owner that lost the shard reads what its successor has left.
    void this.#core
      .settled()
      .then(() =>
        ports.log.fatal(
          { ...id, missing, counted: extra?.waiting?.count },
          "the waiting list holds fewer messages than its record says: something else deleted them from Redis; what is left goes on",
        ),
      );
  }

  /**
   * The message at this position, now the head. Where order is, or was, the outside's, it may stand anywhere on the list; after a
   * restart also in the inbox, behind others that are held: then it joins them.
   * @returns `unread` while the list has to be read for it, `later` while a commit has to come first, undefined if it is nowhere yet
   */
  bringToHead(position: Position): InboxMessage | "unread" | "later" | undefined {
    const { held, mailbox } = this.#core;
    this.#isSeeking = false;
    const head = mailbox.head();
    if (head === "unread") return "unread";
    if (head !== undefined && comparePositions(head.position, position) === 0) return head;
    this.#isSeeking = mailbox.unread > 0;
    if (this.#isSeeking) return "unread";
    const listed = mailbox.takeListed(position);
    if (listed !== undefined) {
      mailbox.putFirst(listed);
      return listed;
    }
    if (held !== null && held.count > 0) {
      this.leave(); // it may be one of those
      return "unread";
    }
    const first = mailbox.firstInInbox();
    if (first === undefined || comparePositions(first.position, position) !== 0) return undefined;
    return this.moveFirst() ? this.bringToHead(position) : "later";
  }
}
