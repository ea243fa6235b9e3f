// Mailbox: what of one conversation is in memory and undecided. Messages of the inbox in position order, and before them a window of
// the waiting list. Knows nothing of order rules, commits or turns.
//
// Invariants
//   B1. List before inbox, always: `head` is a message of the inbox only when nothing of the list waits for its turn.
//   B2. What is on the list is first, in the window, or counted in `unread`, or its owner holds it for order; nothing is in two.
//   B3. What is read of the list is bounded by the list's own bounds; what is over the window's bound is left there and read later.

import { Fifo } from "../src/domain/fifo.ts";
import type { ControlMessage, InboxMessage, TimerMessage } from "../src/domain/message.ts";
import type { Position } from "../src/domain/position.ts";
import { comparePositions } from "../src/domain/position.ts";

export interface MailboxBounds {
  readonly mailboxMax: number;
  readonly mailboxBytesMax: number;
}

/** What is handled before the mailbox, whatever stands in the way of that. */
export type Urgent = ControlMessage | TimerMessage;

export class Mailbox {
  readonly #bounds: MailboxBounds;
  readonly #inbox = new Fifo<InboxMessage>();
  readonly #urgent = new Fifo<Urgent>();
  readonly #window = new Fifo<InboxMessage>();
  /** Taken out of its order: it goes before all others. */
  #first: InboxMessage | null = null;
  #newest: Position | null = null;
  #inboxBytes = 0;
  #windowBytes = 0;
  /** On the list behind the window. */
  unread = 0;

  constructor(bounds: MailboxBounds) {
    this.#bounds = bounds;
  }

  get isEmpty(): boolean {
    return this.#inbox.length === 0 && this.#urgent.length === 0;
  }

  /** Messages whose inbox entries cannot go before they are decided or moved. */
  get inInbox(): number {
    return this.#inbox.length;
  }

  /** Undecided in memory. */
  get depth(): number {
    return this.#inbox.length + this.#window.length + (this.#first === null ? 0 : 1);
  }

  /** More of the inbox waits than may (P7). */
  get isOverBound(): boolean {
    return this.#inbox.length > this.#bounds.mailboxMax || this.#inboxBytes > this.#bounds.mailboxBytesMax;
  }

  push(message: InboxMessage): void {
    this.#inbox.push(message);
    this.#newest = message.position;
    this.#inboxBytes += message.bytes;
  }

  pushUrgent(message: Urgent): void {
    this.#urgent.push(message);
  }

  peekUrgent(): Urgent | undefined {
    return this.#urgent.peek();
  }

  shiftUrgent(): void {
    this.#urgent.shift();
  }

  /** B1. `unread` while the list has to be read first. */
  head(): InboxMessage | "unread" | undefined {
    const first = this.#first ?? this.#window.peek();
    if (first !== undefined) return first;
    return this.unread > 0 ? "unread" : this.#inbox.peek();
  }

  /** Of the message of the inbox that came last, whether or not it is still here. */
  get newest(): Position | null {
    return this.#newest;
  }

  /** The first of the inbox, whatever stands on the list. */
  firstInInbox(): InboxMessage | undefined {
    return this.#inbox.peek();
  }

  /** The head leaves. */
  shift(): void {
    if (this.#first !== null) {
      this.#first = null;
      return;
    }
    const listed = this.#window.shift();
    if (listed === undefined) this.shiftInbox();
    else this.#windowBytes -= listed.bytes;
  }

  shiftInbox(): InboxMessage | undefined {
    const message = this.#inbox.shift();
    if (message !== undefined) this.#inboxBytes -= message.bytes;
    return message;
  }

  get hasFirst(): boolean {
    return this.#first !== null;
  }

  /** One of the list that is not in the window goes before all others. */
  putFirst(message: InboxMessage): void {
    this.#first = message;
  }

  /** All that is here and undecided, of the list before of the inbox. */
  undecided(): readonly InboxMessage[] {
    return [...(this.#first === null ? [] : [this.#first]), ...this.#window, ...this.#inbox];
  }

  /** Whether there is room in memory for one more of the list; what is read is cut there (B3). */
  hasRoomFor(message: InboxMessage): boolean {
    if (this.#window.length === 0) return true;
    const { mailboxMax, mailboxBytesMax } = this.#bounds;
    return this.#window.length < mailboxMax && this.#windowBytes + message.bytes <= mailboxBytesMax;
  }

  /** It was moved to the end of the list. True if it stays here: all before it does, and there is room (B2). */
  moved(message: InboxMessage): boolean {
    if (this.unread > 0 || !this.hasRoomFor(message)) {
      this.unread += 1;
      return false;
    }
    this.#pushWindow(message);
    return true;
  }

  /** It was read from the list. */
  wasRead(message: InboxMessage): void {
    this.unread -= 1;
    this.#pushWindow(message);
  }

  /** Of the window, the one at this position, taken out of its order. */
  takeListed(position: Position): InboxMessage | undefined {
    let found: InboxMessage | undefined;
    for (const message of this.#window.drain()) {
      if (found === undefined && comparePositions(message.position, position) === 0) found = message;
      else this.#window.push(message);
    }
    if (found !== undefined) this.#windowBytes -= found.bytes;
    return found;
  }

  /** Forgets what is in memory of the list. @param onList how many stand there */
  leaveOnList(onList: number): void {
    this.#first = null;
    this.#window.drain();
    this.#windowBytes = 0;
    this.unread = onList;
  }

  /** All of the inbox, in order, to be handed to a successor. */
  drain(): { readonly urgent: readonly Urgent[]; readonly messages: readonly InboxMessage[] } {
    this.#inboxBytes = 0;
    return { urgent: this.#urgent.drain(), messages: this.#inbox.drain() };
  }

  #pushWindow(message: InboxMessage): void {
    this.#window.push(message);
    this.#windowBytes += message.bytes;
  }
}
