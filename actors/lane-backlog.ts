// Lane backlog: what of a lane is undelivered, where it stands, and what the next commit has to say of it. No I/O and no clock.
//
// Invariants
//   B1. The list comes before the outbox, always: what joins the list does so behind all that is on it, and only while nothing of
//       the lane that is older stands in the outbox.
//   B2. A reply is in the outbox, on the list, or among the dead letters, in one of them at each commit: what moves or is buried
//       leaves one place and enters the other in the same write.
//   B3. Of the list only a window is in memory; a lane that stands still keeps none of it.

import { decodeOutboxEntry, encodeOutboxEntry, type OutboxReply, type ReplyExtra } from "../src/codec/outbox-codec.ts";
import { Fifo } from "../src/domain/fifo.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import type { LaneList, LaneState, LaneStateName, LaneTrouble, ReplyPlace } from "../src/domain/lane.ts";
import type { InboxMessage } from "../src/domain/message.ts";
import type { EntryId } from "../src/domain/position.ts";
import { CodecError } from "../src/errors.ts";
import type { WaitingEntry } from "../src/store/shard-store.ts";
import type { OutboxEntry } from "./committer.ts";

/** A marker for the inbox of the lane's own shard. */
export type Marker = Pick<InboxMessage, "id"> & {
  readonly deliveryFailed: { readonly outSeq: number; readonly reason: string };
};

/** One undelivered reply, or one part of it. */
export interface LaneItem extends ReplyPlace {
  readonly body: Uint8Array;
  readonly extra: ReplyExtra | undefined;
  /** Where it stands; it moves once, from the outbox to the list. */
  place: OutboxPlace | ListPlace;
}

interface OutboxPlace {
  readonly kind: "outbox";
  readonly entry: OutboxEntry;
  readonly index: number;
}

interface ListPlace {
  readonly kind: "list";
  readonly id: number;
  readonly bytes: number;
}

/** What a commit says of a lane, whole. */
export interface LaneWrite {
  readonly key: ConversationKey;
  /** null: it flows and has no list. */
  readonly state: LaneState | null;
  readonly joining: readonly { readonly id: number; readonly bytes: Uint8Array }[];
  readonly leaving: readonly number[];
  /** Replies of the outbox that moved to the list or were buried. */
  readonly done: readonly Omit<OutboxPlace, "kind">[];
  readonly dead: readonly Uint8Array[];
  /** Dead letters that joined the list. */
  readonly deadDone: readonly EntryId[];
  readonly markers: readonly Marker[];
}

type Changes = { -readonly [Member in Exclude<keyof LaneWrite, "key" | "state">]: LaneWrite[Member][number][] };

const NO_LIST: LaneList = Object.freeze({ nextId: 1, count: 0, bytes: 0 });

export class LaneBacklog {
  readonly key: ConversationKey;
  #phase: LaneStateName;
  #trouble: LaneTrouble | null;
  #list: LaneList;
  /** The first of the list, read. */
  #window = new Fifo<LaneItem & { place: ListPlace }>();
  #readUpTo = 0;
  #leftUpTo = 0;
  #outbox = new Fifo<LaneItem & { place: OutboxPlace }>();
  #outboxBytes = 0;
  #windowBytes = 0;
  #changes: Changes | null = null;
  #isStored: boolean;

  constructor(key: ConversationKey, state: LaneState | null) {
    this.key = key;
    this.#isStored = state !== null;
    this.#phase = state?.state ?? "flowing";
    this.#list = state?.list ?? NO_LIST;
    this.#trouble = state === null || isUntroubled(state) ? null : troubleIn(state);
  }

  get phase(): LaneStateName {
    return this.#phase;
  }

  /** Of the head; null if it was not tried, or has not failed. */
  get trouble(): LaneTrouble | null {
    return this.#trouble;
  }

  /** What is, or will be, stored of it; null for nothing. */
  get state(): LaneState | null {
    if (this.#phase === "flowing" && this.#trouble === null && this.#list.count === 0) return null;
    const trouble = this.#trouble ?? UNTROUBLED;
    return { state: this.#phase, ...trouble, ...(this.#list.count > 0 && { list: this.#list }) };
  }

  /** Undelivered. */
  get replies(): number {
    return this.#list.count + this.#outbox.length;
  }

  get bytes(): number {
    return this.#list.bytes + this.#outboxBytes;
  }

  get memoryBytes(): number {
    return this.#windowBytes + this.#outboxBytes;
  }

  get inOutbox(): number {
    return this.#outbox.length;
  }

  get listed(): number {
    return this.#list.count;
  }

  get hasChanges(): boolean {
    return this.#changes !== null;
  }

  /** The next to go; undefined if there is none, or it has to be read first. */
  get head(): LaneItem | undefined {
    return this.#window.peek() ?? (this.#list.count > 0 ? undefined : this.#outbox.peek());
  }

  /** The head is on the list and not in memory. */
  get mustRead(): boolean {
    return this.#window.length === 0 && this.#list.count > 0;
  }

  get hasUnread(): boolean {
    return this.#list.count > this.#window.length;
  }

  get readAfter(): number {
    return this.#readUpTo;
  }

  /** Whether a commit writes what comes next straight to the list (B1). */
  get takesToList(): boolean {
    return this.#list.count > 0 && this.#outbox.length === 0 && this.#phase !== "closed";
  }

  /** The next to go, if nothing is known of it that has to be looked at first. */
  get plainHead(): LaneItem | undefined {
    if (this.#phase !== "flowing" || this.#trouble !== null || this.#list.count > 0) return undefined;
    const item = this.#outbox.peek();
    return item?.extra === undefined ? item : undefined;
  }

  /** The head and what follows of the same reply, as far as it is in memory; empty if there is none, or it has to be read first. */
  get headReply(): readonly LaneItem[] {
    const first = this.head;
    if (first === undefined) return [];
    if (first.extra?.parts === undefined) return [first];
    const inMemory: readonly LaneItem[] = [...this.#window, ...(this.hasUnread ? [] : this.#outbox)];
    const end = inMemory.findIndex((item) => !isSameReply(item, first));
    return end === -1 ? inMemory : inMemory.slice(0, end);
  }

  /** Whether all of the reply at the head is in memory. */
  get hasWholeReply(): boolean {
    if (!this.hasUnread) return true;
    const first = this.head;
    if (first === undefined) return false;
    return first.extra?.parts === undefined || this.headReply.length < this.#window.length;
  }

  /** Of a commit that was applied, or of the outbox when the shard was opened. */
  add({ born, outSeq, body, extra }: OutboxReply, entry: OutboxEntry, index: number): void {
    this.#outbox.push({ born, outSeq, part: extra?.part, body, extra, place: { kind: "outbox", entry, index } });
    this.#outboxBytes += body.length;
  }

  /** Goes to the end of the list with the commit that is being built. */
  join(reply: OutboxReply): void {
    this.#joinBytes(encodeOutboxEntry([reply]));
  }

  /** A dead letter comes back, to the end of the list. */
  redrive(reply: OutboxReply, letter: EntryId): void {
    this.join(reply);
    this.#change().deadDone.push(letter);
  }

  /** R1: what stands in the outbox goes to the list, up to so many bytes and one reply more. @returns how many went */
  moveToList(bytesMax: number): number {
    const before = this.#outbox.length;
    let bytes = 0;
    for (let item = this.#outbox.peek(); item !== undefined && bytes < bytesMax; item = this.#outbox.peek()) {
      this.#outbox.shift();
      this.#outboxBytes -= item.body.length;
      const { entry, index } = item.place;
      this.#change().done.push({ entry, index });
      const { born, outSeq, body, extra } = item;
      const reply = { key: this.key, born, outSeq, body };
      (item as LaneItem).place = this.#joinBytes(
        encodeOutboxEntry([extra === undefined ? reply : { ...reply, extra }]),
      );
      bytes += body.length;
    }
    return before - this.#outbox.length;
  }

  /** @throws CodecError if one of them cannot be read: then nothing of them was taken */
  read(entries: readonly WaitingEntry[]): void {
    const items = entries.map(({ id, bytes }) => this.#decode(id, bytes));
    for (const item of items) {
      this.#window.push(item);
      this.#windowBytes += item.body.length;
      this.#readUpTo = item.place.id;
    }
  }

  /** B3 */
  forgetWindow(): void {
    this.#window.drain();
    this.#windowBytes = 0;
    this.#readUpTo = this.#leftUpTo;
  }

  /** It was delivered. @returns where its acknowledgement goes; null for one of the list, which leaves with the next write */
  leave(item: LaneItem): OutboxPlace | null {
    const { place } = item;
    if (place.kind === "list") {
      this.#leaveList(place, item.body.length);
      return null;
    }
    this.#leaveOutbox(item);
    return place;
  }

  /** It becomes a dead letter. */
  bury(item: LaneItem, letter: Uint8Array, marker: Marker | null): void {
    const { place } = item;
    const changes = this.#change();
    if (place.kind === "list") this.#leaveList(place, item.body.length);
    else {
      this.#leaveOutbox(item);
      changes.done.push({ entry: place.entry, index: place.index });
    }
    changes.dead.push(letter);
    if (marker !== null) changes.markers.push(marker);
  }

  /** @param trouble of the head; null: it flows */
  become(phase: LaneStateName, trouble: LaneTrouble | null): void {
    this.#phase = phase;
    this.#trouble = trouble;
    this.#change();
  }

  /** Null if there is nothing to say. */
  takeWrite(): LaneWrite {
    const { key, state } = this;
    const changes = this.#changes ?? noChanges();
    this.#changes = null;
    this.#isStored = state !== null;
    return { key, state, ...changes };
  }

  /** Whether what is stored of it may still say something. */
  get isStored(): boolean {
    return this.#isStored || this.#changes !== null;
  }

  #joinBytes(bytes: Uint8Array): ListPlace {
    const { nextId, count, bytes: listBytes } = this.#list;
    this.#list = { nextId: nextId + 1, count: count + 1, bytes: listBytes + bytes.length };
    this.#change().joining.push({ id: nextId, bytes });
    return { kind: "list", id: nextId, bytes: bytes.length };
  }

  #leaveOutbox(item: LaneItem): void {
    this.#outbox.shift();
    this.#outboxBytes -= item.body.length;
  }

  /** One that moved while it was sent stands on the list and in no window. */
  #leaveList({ id, bytes }: ListPlace, bodyBytes: number): void {
    if (this.#window.peek()?.place.id === id) {
      this.#window.shift();
      this.#windowBytes -= bodyBytes;
    }
    this.#leftUpTo = id;
    this.#readUpTo = Math.max(this.#readUpTo, id);
    this.#list = { ...this.#list, count: this.#list.count - 1, bytes: this.#list.bytes - bytes };
    this.#change().leaving.push(id);
  }

  #change(): Changes {
    this.#changes ??= noChanges();
    return this.#changes;
  }

  #decode(id: number, stored: Uint8Array): LaneItem & { place: ListPlace } {
    const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
    const [reply] = decodeOutboxEntry(bytes).replies;
    if (reply === undefined || reply === null)
      throw new CodecError("a reply on the list of a lane does not match its checksum");
    const { born, outSeq, body, extra } = reply;
    return { born, outSeq, part: extra?.part, body, extra, place: { kind: "list", id, bytes: stored.length } };
  }
}

export const isSameReply = (a: ReplyPlace, b: ReplyPlace): boolean => a.born === b.born && a.outSeq === b.outSeq;

/** Of a list whose head has not failed. */
const UNTROUBLED: LaneTrouble = Object.freeze({
  born: "",
  outSeq: 0,
  attempts: 0,
  firstFailedAtMs: 0,
  nextAtMs: 0,
  reason: "",
});

const isUntroubled = ({ state, attempts, isUnclear }: LaneState): boolean =>
  state === "flowing" && attempts === 0 && isUnclear !== true;

function troubleIn({ state: _, list: __, ...trouble }: LaneState): LaneTrouble {
  return trouble;
}

const noChanges = (): Changes => ({ joining: [], leaving: [], done: [], dead: [], deadDone: [], markers: [] });
