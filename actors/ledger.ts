// Ledger: one conversation as it was decided: record, ids and state, and what of them no commit has confirmed. It decides nothing.
// Each method is one decision applied whole, so that what the committer takes next is never half of one.
//
// Invariants
//   K1. Every change of record, ids or state stands in the pending work as well, in the same step (C1, C3).
//   K2. State that no turn has made in this life in memory is copied as it is stored (E3); decoding it is part of a turn (R5).
//   K3. What the index of the unfinished says follows the record: it is told with the commit that changes it.

import { waitingBytesOf } from "../src/codec/inbox-codec.ts";
import { encodeOpenEntry, type OpenEntry } from "../src/codec/open-codec.ts";
import { checkedState, type DecodedRecord, decodeRecord, encodeRecord } from "../src/codec/record-codec.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import type { Hash64 } from "../src/domain/hash.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import type { InboxMessage, MailboxMessage } from "../src/domain/message.ts";
import { freezePlain, type Plain } from "../src/domain/plain-data.ts";
import { ENTRY_ZERO, type Position, parseEntryId } from "../src/domain/position.ts";
import { RecentIds } from "../src/domain/recent-ids.ts";
import {
  afterDrop,
  afterLeaving,
  afterMove,
  afterSetAside,
  afterTurn,
  type ConversationRecord,
  EMPTY_LIST,
  type ExtraParts,
  type Notice,
  newRecord,
  type RecordExtra,
  storedExtra,
  type TurnOutcome,
  type WaitingBounds,
  withExtra,
  withoutEmptyList,
} from "../src/domain/record.ts";
import { openEntryOf, quarantinedEntryOf } from "../src/domain/situation.ts";
import { CodecError } from "../src/errors.ts";
import type { Counters } from "../src/metrics.ts";
import type { StoredConversation } from "../src/store/shard-store.ts";
import type { PendingWrite } from "./committer.ts";
import { PendingWork } from "./pending-work.ts";
import type { RenderedTurn } from "./rendered-turn.ts";
import type { Send } from "./turn.ts";

export interface LedgerBounds extends WaitingBounds {
  readonly dedupeMs: number;
  readonly dedupeMax: number;
}

export interface LedgerPorts {
  readonly counters: Counters;
  nowMs(): number;
  monotonicMs(): number;
  /** There is something to commit. */
  changed(): void;
  /** What it takes in memory changed by so many bytes. */
  resized(bytes: number): void;
}

/** What a turn made. */
export interface TurnEffects {
  readonly state: Plain;
  readonly rendered: RenderedTurn;
  /** How many replies, also such as a transcript takes. */
  readonly replies: number;
}

/** Estimate of what a resident takes besides its state and ids. */
const RESIDENT_OVERHEAD_BYTES = 2_048;
/** What is stored where the initial state cannot be had: no bot has this version. */
const NO_STATE = Object.freeze({ botVersion: 0, json: "null" });
/** A turn that consumes a notice has no id. */
const NO_ID: Hash64 = Object.freeze({ lo: 0, hi: 0 });

export class Ledger {
  readonly #key: ConversationKey;
  readonly #bot: BotDefinition;
  readonly #bounds: LedgerBounds;
  readonly #ports: LedgerPorts;
  #record: ConversationRecord | null = null;
  #ids: RecentIds | null = null;
  #idsTtlSetAtMs = Number.NEGATIVE_INFINITY;
  /** What was stored, until the first turn decodes it. */
  #stored: DecodedRecord | null = null;
  #state: Plain | undefined;
  #unreadable: Uint8Array | null = null;
  #residentBytes = RESIDENT_OVERHEAD_BYTES;
  #pending: PendingWork | null = null;
  #inFlight: PendingWork | null = null;
  /** As the index has it, or will with the commit under way. */
  #open: OpenEntry | null = null;
  #isOpenKnown = true;
  #wasFull = false;

  constructor(key: ConversationKey, bot: BotDefinition, bounds: LedgerBounds, ports: LedgerPorts) {
    this.#key = key;
    this.#bot = bot;
    this.#bounds = bounds;
    this.#ports = ports;
  }

  get isLoaded(): boolean {
    return this.#ids !== null;
  }

  /** Null before the first message of the conversation was decided. */
  get record(): ConversationRecord | null {
    return this.#record;
  }

  get extra(): RecordExtra | null {
    return this.#record === null ? null : this.#record.extra;
  }

  get ids(): RecentIds {
    return this.#ids!;
  }

  get residentBytes(): number {
    return this.#residentBytes;
  }

  get isSettled(): boolean {
    return this.#pending === null && this.#inFlight === null;
  }

  /** A commit that carries something of it is under way. */
  get isInFlight(): boolean {
    return this.#inFlight !== null;
  }

  /** The list in Redis is not yet what the record says. */
  get isListUncommitted(): boolean {
    return (this.#pending?.touchesList ?? false) || (this.#inFlight?.touchesList ?? false);
  }

  get uncommittedTurns(): number {
    return (this.#pending?.turns ?? 0) + (this.#inFlight?.turns ?? 0);
  }

  get uncommittedBytes(): number {
    return (this.#pending?.bytes ?? 0) + (this.#inFlight?.bytes ?? 0);
  }

  get uncommittedReplies(): number {
    return (this.#pending?.replies.length ?? 0) + (this.#inFlight?.replies.length ?? 0);
  }

  /** Moved to the list and not taken by the committer. */
  get movedBytes(): number {
    return this.#pending?.movedBytes ?? 0;
  }

  /** @throws CodecError if the envelope cannot be read: then nothing is loaded */
  load(stored: StoredConversation): void {
    this.#stored = stored.record === null ? null : decodeRecord(stored.record);
    this.#record = this.#stored?.record ?? null;
    this.#ids = new RecentIds({ dedupeMs: this.dedupeMs, dedupeMax: this.#bounds.dedupeMax }, stored.ids);
    this.#isOpenKnown = this.extra === null;
    this.#wasFull = this.extra?.waiting?.isFull ?? false;
    this.#measure(this.#stored?.stateBytes.length ?? 0);
  }

  /** Its record cannot be read: from now on it only takes what goes to the list, and writes the record back as it was (R5). */
  quarantine(
    stored: Uint8Array,
    listed: { readonly lastId: number; readonly count: number; readonly bytes: number },
  ): void {
    this.#unreadable = stored;
    this.#ids = new RecentIds({ dedupeMs: this.dedupeMs, dedupeMax: this.#bounds.dedupeMax }, null);
    const waiting = { nextId: listed.lastId + 1, count: listed.count, bytes: listed.bytes, isFull: false };
    this.#record = withExtra(newRecord({ entry: ENTRY_ZERO, index: 0 }), { waiting });
    this.#isOpenKnown = false;
  }

  /** What stands on the list was counted: it is what the record did not know. */
  recount(
    born: Position,
    { lastId, count, bytes }: { readonly lastId: number; readonly count: number; readonly bytes: number },
  ): void {
    const record = this.recordFor(born);
    const known = record.extra?.waiting ?? EMPTY_LIST;
    const isFull = count >= this.#bounds.waitingMax || bytes >= this.#bounds.waitingBytesMax;
    this.#isOpenKnown = false;
    this.#wasFull = true; // by whoever moved there what the record did not know
    this.change(born, { waiting: { nextId: Math.max(known.nextId, lastId + 1), count, bytes, isFull } });
  }

  /** The record as a first message at `born` finds it. */
  recordFor(born: Position): ConversationRecord {
    return this.#record ?? newRecord(born);
  }

  /** The stored state, decoded and brought to the bot's version. @throws what the bot's own code throws, or CodecError (R5) */
  currentState(): Plain {
    const bot = this.#bot;
    if (this.#state !== undefined) return this.#state;
    if (this.#stored === null || this.#stored.botVersion === NO_STATE.botVersion) {
      return freezePlain(bot.initialState(), "initialState()");
    }
    const { botVersion, bytes } = checkedState(this.#stored);
    let state: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (botVersion > bot.version) {
      throw new CodecError(
        `the state was written by version ${botVersion} of bot ${bot.name}, this is version ${bot.version}; it is untouched`,
      );
    }
    for (let version = botVersion; version < bot.version; version += 1) {
      const migrate = bot.migrate?.[version];
      if (migrate !== undefined) state = migrate(state);
    }
    return freezePlain(state, "state");
  }

  /** A turn consumed the message, or the oldest notice if it is null. */
  turn(
    message: InboxMessage | null,
    born: Position,
    { state, rendered, replies }: TurnEffects,
    extra: ExtraParts | null,
    sends: readonly Send[],
  ): void {
    const pending = this.#openPending();
    const position = this.#leave(message, born);
    const record = afterTurn(this.#record!, position, message?.idHash ?? NO_ID, replies);
    this.#record = extra === null ? record : withExtra(record, extra);
    this.#state = state;
    this.#stored = null;
    if (message !== null) this.#remember(message);
    this.#ports.counters.turns += 1;
    pending.turns += 1;
    pending.bytes += message?.bytes ?? 0;
    pending.addReplies(rendered);
    for (const send of sends) pending.send(send);
    this.#ports.changed();
  }

  /** Replies of a turn that goes on. */
  flush(born: Position, { rendered, replies }: Omit<TurnEffects, "state">): void {
    const record = this.recordFor(born);
    this.#record = { ...record, outSeq: record.outSeq + replies };
    this.#openPending().addReplies(rendered);
    this.#ports.changed();
  }

  /** It has a duplicate that was decided, or is one of what is held. */
  drop(message: InboxMessage): void {
    const position = this.#leave(message, message.position); // which may change what the record says of the list
    this.#record = afterDrop(this.#record!, position);
    this.#ports.changed();
  }

  /** The message goes without a turn. @param letter what becomes of it; null for a marker of which nothing has to be kept */
  setAside(
    message: InboxMessage,
    outcome: Exclude<TurnOutcome, "turn">,
    letter: Uint8Array | null,
    extra: ExtraParts | null,
  ): void {
    const pending = this.#openPending();
    const position = this.#leave(message, message.position);
    const record = afterSetAside(this.#record!, position, message.idHash, outcome);
    this.#record = extra === null ? record : withExtra(record, extra);
    this.#remember(message);
    if (letter !== null) pending.addDead(letter);
    this.#ports.changed();
  }

  /** The message goes from the inbox to the waiting list (R1): as it stands there. */
  move(message: InboxMessage, bytes: Uint8Array): InboxMessage {
    this.#ports.counters.moved += 1; // first: what fails here has changed nothing
    const pending = this.#openPending();
    const record = this.recordFor(message.position);
    const { nextId } = record.extra?.waiting ?? EMPTY_LIST;
    this.#record = afterMove(record, message.position, bytes.length, this.#bounds);
    pending.move(nextId, bytes);
    pending.consumed.push(message);
    this.#ports.changed();
    return { ...message, waitingId: nextId };
  }

  /** What cannot be read on the list leaves it as a dead letter: nobody can tell whose turn it would be. */
  setAsideUnreadable(waitingId: number, bytes: number, letter: Uint8Array): void {
    const pending = this.#openPending();
    this.#record = afterLeaving(this.#record!, bytes, this.#bounds);
    pending.leaveList(waitingId);
    pending.addDead(letter);
    this.#ports.changed();
  }

  /** The oldest notice goes without a turn. */
  dropNotice(born: Position, parts: ExtraParts, letter: Uint8Array | null): void {
    this.#record = withExtra(this.recordFor(born), parts);
    const pending = this.#openPending();
    if (letter !== null) pending.addDead(letter);
    this.#ports.changed();
  }

  /** A message that an uncommitted decision has passed was read again. */
  consumedAgain(message: InboxMessage): void {
    this.#openPending().consumed.push(message);
    this.#ports.changed();
  }

  /** Something of the extra changed, and nothing was consumed but a control. */
  change(born: Position, parts: ExtraParts, consumed?: MailboxMessage): void {
    const pending = this.#openPending();
    this.#record = withExtra(this.recordFor(born), parts);
    if (consumed !== undefined) pending.consumed.push(consumed);
    this.#ports.changed();
  }

  setTimer(name: string, generation: number, atMs: number | null): void {
    this.#openPending().setTimer(name, generation, atMs);
    this.#ports.changed();
  }

  /** Those that wait and these behind them; undefined for none. */
  withNotices(more: readonly Notice[]): readonly Notice[] | undefined {
    const all = [...(this.extra?.notices ?? []), ...more];
    return all.length === 0 ? undefined : all;
  }

  takeWrite(): PendingWrite {
    const pending = this.#pending!;
    this.#inFlight = pending;
    this.#pending = null;
    const ids = this.#ids!.takeChange();
    if (!pending.touchesList) this.#record = withoutEmptyList(this.#record!);
    const record = this.#encodeRecord();
    this.#measure(record.length);
    const aside = pending.aside(this.#openChange(), this.#fullChange());
    const write = {
      key: this.#key,
      record,
      ids,
      idsTtlMs: ids === null ? null : this.#idsTtl(),
      transcript: pending.transcript,
    };
    return {
      write: aside === undefined ? write : { ...write, aside },
      replies: pending.replies,
      consumed: pending.consumed,
      dead: pending.dead,
      deadDone: pending.deadDone,
      sends: pending.sends,
    };
  }

  committed(): void {
    this.#inFlight = null;
  }

  /** C6: what was decided and nobody took; nothing of it counts any more. */
  takeBack(): readonly MailboxMessage[] {
    const consumed = this.#pending?.consumed ?? [];
    this.#pending = null;
    return consumed;
  }

  get dedupeMs(): number {
    return this.#bot.dedupeMs ?? this.#bounds.dedupeMs;
  }

  /** Takes the message from inbox or list. @returns the position to move the cursor to, null for none */
  #leave(message: InboxMessage | null, born: Position): Position | null {
    this.#record ??= newRecord(born);
    if (message === null) return null;
    const pending = this.#openPending();
    if (message.extra?.redrives !== undefined) pending.redriven(parseEntryId(message.extra.redrives));
    if (message.waitingId === null) {
      pending.consumed.push(message);
      return message.position;
    }
    pending.leaveList(message.waitingId);
    this.#record = afterLeaving(this.#record, waitingBytesOf(message), this.#bounds);
    return null;
  }

  #remember(message: InboxMessage): void {
    const { counters } = this.#ports;
    const ids = this.#ids!;
    ids.add(message.idHash, message.position.entry.ms, message.bodyHash);
    counters.idsLeftYoung += ids.leftYoung;
    ids.leftYoung = 0;
  }

  #openPending(): PendingWork {
    this.#pending ??= new PendingWork();
    return this.#pending;
  }

  #encodeRecord(): Uint8Array {
    if (this.#unreadable !== null) return this.#unreadable;
    const record = this.extra === null ? this.#record! : { ...this.#record!, extra: storedExtra(this.extra) };
    if (this.#state === undefined && this.#stored !== null) {
      return encodeRecord(record, this.#stored.botVersion, this.#stored.stateBytes); // K2
    }
    if (this.#state === undefined) return this.#encodeInitial(record);
    return encodeRecord(record, this.#bot.version, JSON.stringify(this.#state));
  }

  /** No turn has made a state. That the bot's `initialState` fails is for a turn to meet, never for a commit, which is everybody's. */
  #encodeInitial(record: ConversationRecord): Uint8Array {
    try {
      return encodeRecord(record, this.#bot.version, JSON.stringify(this.currentState()));
    } catch {
      return encodeRecord(record, NO_STATE.botVersion, NO_STATE.json);
    }
  }

  /** K3. What was stored before this life in memory is not known, so the first change is told in any case. */
  #openChange(): Uint8Array | null | undefined {
    if (this.extra === null && this.#open === null && this.#isOpenKnown) return undefined;
    const nowMs = Math.floor(this.#ports.nowMs());
    const isReadable = this.#unreadable === null;
    const entry = (isReadable ? openEntryOf : quarantinedEntryOf)(this.#record!, this.#open, nowMs);
    const isSame = this.#isOpenKnown && JSON.stringify(entry) === JSON.stringify(this.#open);
    this.#open = entry;
    this.#isOpenKnown = true;
    if (isSame) return undefined;
    return entry === null ? null : encodeOpenEntry(entry);
  }

  #fullChange(): boolean | undefined {
    const isFull = this.extra?.waiting?.isFull ?? false;
    if (isFull === this.#wasFull) return undefined;
    this.#wasFull = isFull;
    return isFull;
  }

  #measure(stateBytes: number): void {
    const before = this.#residentBytes;
    this.#residentBytes = RESIDENT_OVERHEAD_BYTES + stateBytes + this.#ids!.bytes;
    if (this.#residentBytes !== before) this.#ports.resized(this.#residentBytes - before);
  }

  /** The ids key lives for twice `dedupeMs`; renewing it once per `dedupeMs` keeps every young id. */
  #idsTtl(): number | null {
    const dedupeMs = this.dedupeMs;
    const nowMs = this.#ports.monotonicMs();
    if (nowMs - this.#idsTtlSetAtMs < dedupeMs) return null;
    this.#idsTtlSetAtMs = nowMs;
    return dedupeMs * 2;
  }
}
