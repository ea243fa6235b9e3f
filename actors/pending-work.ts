// Pending work: what a conversation decided since the committer last took it, as one value (C3, G3).

import type { OutboxReply } from "../src/codec/outbox-codec.ts";
import type { MailboxMessage } from "../src/domain/message.ts";
import type { EntryId } from "../src/domain/position.ts";
import type { AsideWrite } from "../src/store/shard-store.ts";
import type { RenderedTurn } from "./rendered-turn.ts";
import { sendBytesOf } from "./sends.ts";
import type { Send } from "./turn.ts";

const NONE: readonly never[] = Object.freeze([]);

export class PendingWork {
  turns = 0;
  bytes = 0;
  /** Moved to the waiting list, bytes. */
  movedBytes = 0;
  readonly replies: OutboxReply[] = [];
  /** Messages of the inbox that this commit decides or moves; they are given back if it never comes (C6). */
  readonly consumed: MailboxMessage[] = [];
  readonly transcript: Uint8Array[] = [];
  #waiting: AsideWrite["waiting"][number][] | null = null;
  #waitingDone: number[] | null = null;
  #timers: AsideWrite["timers"][number][] | null = null;
  #dead: Uint8Array[] | null = null;
  #deadDone: EntryId[] | null = null;
  #sends: Send[] | null = null;

  move(id: number, bytes: Uint8Array): void {
    this.#waiting ??= [];
    this.#waiting.push({ id, bytes });
    this.movedBytes += bytes.length;
    this.bytes += bytes.length;
  }

  leaveList(id: number): void {
    this.#waitingDone ??= [];
    this.#waitingDone.push(id);
  }

  /** The last word on a timer counts: what was said of the same one before goes. */
  setTimer(name: string, generation: number, atMs: number | null): void {
    this.#timers = (this.#timers ?? []).filter((timer) => timer.name !== name || timer.generation !== generation);
    this.#timers.push({ name, generation, atMs });
  }

  addDead(letter: Uint8Array): void {
    this.#dead ??= [];
    this.#dead.push(letter);
    this.bytes += letter.length;
  }

  redriven(letter: EntryId): void {
    this.#deadDone ??= [];
    this.#deadDone.push(letter);
  }

  send(send: Send): void {
    this.#sends ??= [];
    this.#sends.push(send);
    this.bytes += sendBytesOf(send);
  }

  addReplies({ outbox, transcript, bytes }: RenderedTurn): void {
    for (const reply of outbox) this.replies.push(reply);
    for (const line of transcript) this.transcript.push(line);
    this.bytes += bytes;
  }

  /** Whether what it says of the list must be durable before the list is read. */
  get touchesList(): boolean {
    return this.#waiting !== null || this.#waitingDone !== null;
  }

  get dead(): readonly Uint8Array[] {
    return this.#dead ?? NONE;
  }

  get deadDone(): readonly EntryId[] {
    return this.#deadDone ?? NONE;
  }

  get sends(): readonly Send[] {
    return this.#sends ?? NONE;
  }

  /** Undefined where nothing of the kind changes: nearly always. */
  aside(open: Uint8Array | null | undefined, full: boolean | undefined): AsideWrite | undefined {
    const isNothing = !this.touchesList && this.#timers === null && open === undefined && full === undefined;
    if (isNothing) return undefined;
    return {
      waiting: this.#waiting ?? NONE,
      waitingDone: this.#waitingDone ?? NONE,
      timers: this.#timers ?? NONE,
      open,
      full,
    };
  }
}
