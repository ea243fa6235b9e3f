// A conversation made of nothing but the pure functions: what an actor does around them is done here in the plainest
// way. There is a durable part, which only a commit changes and as one value, and a part in memory, which a crash
// forgets.
//
// It moves as the runtime must: an open turn and a poison halt go before everything, notices before any message, the
// waiting list before the inbox; time lets nothing go while a message that was admitted is not sequenced yet.

import type { PoisonRules } from "../../../src/domain/attempts.ts";
import { type ExternalOrder, type OrderState, placeOf } from "../../../src/domain/external-order.ts";
import { Fifo } from "../../../src/domain/fifo.ts";
import { comparePositions, type Position } from "../../../src/domain/position.ts";
import { RecentIds } from "../../../src/domain/recent-ids.ts";
import {
  type ConversationRecord,
  EMPTY_LIST,
  type Notice,
  newRecord,
  type RecordExtra,
  type TurnOutcome,
} from "../../../src/domain/record.ts";
import { type Decision, NOTHING_HELD } from "../../../src/domain/sequencer.ts";
import type { HeldInModel, ModelMessage, Rules } from "./rules.ts";

export interface Setting {
  readonly ordering: "strict" | "available";
  readonly order: ExternalOrder;
  readonly poison: PoisonRules;
}

/** What became durable, in the order in which it was decided. `event` counts what happens in the world. */
export type Line = { readonly atMs: number; readonly event: number } & (
  | {
      readonly what: TurnOutcome;
      readonly message: ModelMessage;
      readonly isLate: boolean;
      /** When it was let go, which a turn that fails may be long before it is decided. */
      readonly released: Release;
    }
  | { readonly what: "duplicate"; readonly message: ModelMessage; readonly conflict: boolean }
  | { readonly what: "notice" | "notice-dead"; readonly notice: Notice }
  | { readonly what: "failed"; readonly position: Position; readonly attempts: number; readonly isTerminal: boolean }
  | { readonly what: "died"; readonly position: Position; readonly deaths: number }
  | { readonly what: "poison"; readonly position: Position }
  | { readonly what: "retried"; readonly halt: string }
  | { readonly what: "gap" | "gap-passed"; readonly from: number; readonly to: number; readonly epoch: number }
);

export interface Release {
  readonly event: number;
  /** By itself, from among the held, or as a turn that was open. */
  readonly via: "head" | "held";
  /** More than `maxHeld` were held then. */
  readonly isOverflow: boolean;
}

export interface Durable {
  readonly record: ConversationRecord | null;
  readonly ids: Uint8Array | null;
  readonly state: readonly string[];
  readonly replies: readonly string[];
  readonly list: ReadonlyMap<number, ModelMessage>;
  readonly log: readonly Line[];
}

/** What the bot does with one turn. `dies`: the process ends while nothing else runs. */
export type Handled = "ok" | "fails" | "terminal" | "dies";

export interface Surroundings {
  readonly nowMs: number;
  readonly event: number;
  /** Everything admitted that its entry still carries. */
  readonly inbox: readonly ModelMessage[];
  handle(work: ModelMessage | Notice): Handled;
  /** A rule of the model itself is broken. */
  broken(law: string, how: string): void;
}

interface Head {
  readonly message: ModelMessage;
  /** Null: it stands in the inbox. */
  readonly listId: number | null;
  readonly order: OrderState | undefined;
  readonly isLate: boolean;
  readonly released: Release;
}

/** Thrown through the model when the process ends. */
class ProcessEnd extends Error {}

const NOTICE_HASH = { lo: 0, hi: 0 };
const DEDUPE = { dedupeMs: 3_600_000, dedupeMax: 1_000 };
const MESSAGE_BYTES = 100;
const WAITING_BOUNDS = { waitingMax: 1_000, waitingBytesMax: 4_194_304 };
const EMPTY: Durable = { record: null, ids: null, state: [], replies: [], list: new Map(), log: [] };

export class ModelConversation {
  durable: Durable = EMPTY;
  readonly #setting: Setting;
  readonly #rules: Rules;
  readonly #around: Surroundings;
  #record: ConversationRecord | null = null;
  #ids = new RecentIds(DEDUPE, null);
  #state: string[] = [];
  #replies: string[] = [];
  #list = new Map<number, ModelMessage>();
  #log: Line[] = [];
  #held!: HeldInModel;
  /** List ids of what is held, by id. */
  #heldIds = new Map<number, number>();
  /** On the list and not sequenced in this life of the process. */
  #fresh = new Fifo<{ readonly listId: number; readonly message: ModelMessage }>();
  /** Without a number, come while a gap halts: they wait for its end. */
  #parked: { readonly listId: number; readonly message: ModelMessage }[] = [];
  #read: Position | null = null;
  #head: Head | null = null;
  /** The highest that the list gave out: as long as it may stand in Redis, ids must rise. */
  #lastListId = 0;
  /** When something becomes due by itself. */
  dueAtMs: number | null = null;

  constructor(setting: Setting, rules: Rules, around: Surroundings) {
    this.#setting = setting;
    this.#rules = rules;
    this.#around = around;
    this.#load();
  }

  get extra(): RecordExtra | null {
    return this.#record?.extra ?? null;
  }

  get heldCount(): number {
    return this.#held.count;
  }

  commit(): void {
    const change = this.#ids.takeChange();
    const before = this.durable;
    const ids =
      change === null
        ? before.ids
        : change.kind === "rewrite" || before.ids === null
          ? change.bytes
          : Buffer.concat([before.ids, change.bytes]);
    if (before.record !== null && this.#record !== null) {
      if (comparePositions(this.#record.cursor, before.record.cursor) < 0)
        this.#around.broken("record", "the cursor went back");
    }
    const record = this.#record && { ...this.#record, extra: this.#rules.storedExtra(this.#record.extra) };
    const { count, bytes } = record?.extra?.waiting ?? EMPTY_LIST;
    if (count !== this.#list.size || bytes !== count * MESSAGE_BYTES)
      this.#around.broken("record", "it says another extent of the list than the list has");
    if (count === 0 && record?.extra?.waiting !== undefined) this.#around.broken("record", "an empty list is stored");
    this.durable = {
      record,
      ids,
      state: [...this.#state],
      replies: [...this.#replies],
      list: new Map(this.#list),
      log: [...this.#log],
    };
  }

  crash(): void {
    this.#load();
  }

  /** The process ended while the head ran alone: what the next one charges. */
  #chargeDeath(position: Position): void {
    const record = this.#record!;
    const { nowMs } = this.#around;
    const after = this.#rules.afterDeathAlone(record.extra?.openTurn, position, nowMs);
    this.#write({ what: "died", position, deaths: after.open.deaths });
    this.#record = this.#rules.withExtra(record, { openTurn: after.open });
    this.#findHead();
    if (after.kind === "poison") this.#poisoned(after.open.error ?? "");
    this.commit();
  }

  /** What stands in the durable part, and nothing else. */
  #load(): void {
    const { record, ids, state, replies, list, log } = this.durable;
    this.#record = record === null ? null : (JSON.parse(JSON.stringify(record)) as ConversationRecord);
    this.#ids = new RecentIds(DEDUPE, ids);
    this.#state = [...state];
    this.#replies = [...replies];
    this.#list = new Map(list);
    this.#log = [...log];
    this.#held = this.#rules.newHeld();
    this.#heldIds.clear();
    this.#fresh = new Fifo();
    for (const [listId, message] of this.#list) this.#fresh.push({ listId, message });
    this.#parked = [];
    this.#read = null;
    this.#head = null;
    this.#lastListId = Math.max(0, ...list.keys()); // an empty one is gone, and what it gave out with it
    if (this.extra?.openTurn !== undefined) this.#findHead();
  }

  /** The message whose turn is open; none if it is a notice's. */
  #findHead(): void {
    if (this.#head !== null) return;
    const open = this.extra!.openTurn!;
    const { notices } = this.extra!;
    if (notices !== undefined && comparePositions(notices[0]!.position, open.position) === 0) return;
    const isIt = (message: ModelMessage): boolean => comparePositions(message.position, open.position) === 0;
    const listed = this.#fresh.drain();
    for (const entry of listed) {
      if (isIt(entry.message)) this.#takeUp(entry.message, entry.listId);
      else this.#fresh.push(entry);
    }
    if (this.#head !== null) return;
    const { cursor } = this.#record!;
    let message = this.#nextOfInbox();
    while (message !== null && comparePositions(message.position, cursor) <= 0) {
      this.#read = message.position;
      message = this.#nextOfInbox();
    }
    if (message !== null && isIt(message)) this.#takeUp(message, null);
    else this.#around.broken("accounted", "the message whose turn is open is neither listed nor next in the inbox");
  }

  #takeUp(message: ModelMessage, listId: number | null): void {
    const record = this.#record!;
    const { order } = this.#setting;
    const decision = this.#rules.sequence(record, this.#ids, order, message, "waiting", NOTHING_HELD);
    this.#head = {
      message,
      listId,
      order: this.#rules.orderAfter(record, order, message),
      isLate: decision.kind === "late",
      released: this.#releases.get(message.id)!,
    };
    if (listId === null) this.#read = message.position;
  }

  /** Of turns that were let go and failed: they stay let go. */
  readonly #releases = new Map<number, Release>();

  /** Goes on until something has to happen first. Returns false if the process ended meanwhile. */
  pump(stepsPerCommit: number): boolean {
    try {
      this.dueAtMs = null;
      let steps = 0;
      while (this.#step()) {
        steps += 1;
        if (stepsPerCommit > 0 && steps % stepsPerCommit === 0) this.commit();
        if (steps > 2_000) {
          this.#around.broken("accounted", "it does not come to rest");
          return true;
        }
      }
      return true;
    } catch (error) {
      if (!(error instanceof ProcessEnd)) throw error;
      return false;
    }
  }

  #step(): boolean {
    const { extra } = this;
    if (extra?.halt?.reason === "poison") return false;
    const open = extra?.openTurn;
    if (open !== undefined) {
      if (open.nextAtMs !== null && this.#around.nowMs < open.nextAtMs) {
        this.dueAtMs = open.nextAtMs;
        return false;
      }
      return this.#head === null ? this.#runNotice(extra!.notices![0]!) : this.#run(this.#head);
    }
    if (extra?.notices !== undefined) return this.#runNotice(extra.notices[0]!);
    if (this.#goOnWithHeld(0)) return true; // what needs no time
    if (this.#takeNext()) return true;
    return this.#goOnWithHeld(this.#around.nowMs);
  }

  /** @returns true if something was decided */
  #goOnWithHeld(nowMs: number): boolean {
    if (this.#record === null) return false;
    const { order, ordering } = this.#setting;
    const isOverflow = order.mode !== "arrival" && this.#held.count > order.maxHeld;
    const decision = this.#rules.nextHeld(this.#record, order, this.#held, nowMs);
    switch (decision.kind) {
      case "nothing":
        return false;
      case "wait":
        if (nowMs > 0) this.dueAtMs = decision.untilMs;
        this.#checkWait(decision.untilMs);
        return false;
      case "release":
      case "late": {
        const isLate = decision.kind === "late";
        if (!isLate) this.#checkSettled(isOverflow);
        const message = this.#held.shift()!;
        const listId = this.#heldIds.get(message.id)!;
        this.#heldIds.delete(message.id);
        if (!isLate) this.#liftGap();
        return this.#begin(message, listId, decision.order, isLate, "held", isOverflow);
      }
      case "gap": {
        const { from, to } = decision;
        const { epoch } = decision.order;
        if (this.extra?.halt !== undefined) return false;
        this.#write({ what: "gap", from, to, epoch });
        this.#checkGap(isOverflow);
        if (ordering === "strict") {
          const missing = { epoch, sequence: from };
          const halt = { reason: "gap" as const, missing, sinceMs: nowMs, why: `${from} to ${to} are missing` };
          this.#record = this.#rules.withExtra(this.#record, { halt });
          return false;
        }
        const position = this.#lowestHeld()!.position;
        this.#passGap(from, to, decision.order);
        this.#notify({ kind: "gap", position, from, to });
        return true;
      }
    }
  }

  #lowestHeld(): ModelMessage | undefined {
    const message = this.#held.shift();
    if (message !== undefined) this.#held.add(message);
    return message;
  }

  #passGap(from: number, to: number, order: OrderState): void {
    this.#write({ what: "gap-passed", from, to, epoch: order.epoch });
    this.#record = this.#rules.withExtra(this.#record!, { order });
  }

  /** What was missing has come, or an operator said so. */
  #liftGap(): void {
    if (this.extra?.halt?.reason !== "gap") return;
    this.#record = this.#rules.withExtra(this.#record!, { halt: undefined });
    this.#unpark();
  }

  #unpark(): void {
    const behind = this.#fresh.drain();
    for (const entry of [...this.#parked, ...behind]) this.#fresh.push(entry);
    this.#parked = [];
  }

  #nextOfInbox(): ModelMessage | null {
    const { inbox } = this.#around;
    return inbox.find(({ position }) => this.#read === null || comparePositions(position, this.#read) > 0) ?? null;
  }

  #takeNext(): boolean {
    const listed = this.#fresh.shift();
    const message = listed?.message ?? this.#nextOfInbox();
    if (message === null) return false;
    if (listed === undefined) this.#read = message.position;
    this.#record ??= newRecord(message.position);
    const from = listed === undefined ? "inbox" : "waiting";
    const decision = this.#rules.sequence(this.#record, this.#ids, this.#setting.order, message, from, this.#held);
    this.#apply(decision, message, listed?.listId ?? null);
    return true;
  }

  #apply(decision: Decision, message: ModelMessage, listId: number | null): void {
    switch (decision.kind) {
      case "consumed":
        return;
      case "duplicate":
        this.#write({ what: "duplicate", message, conflict: decision.conflict });
        this.#drop(message, listId);
        return;
      case "hold": {
        const heldId = listId ?? this.#enlist(message);
        this.#held.add(message);
        this.#heldIds.set(message.id, heldId);
        return;
      }
      case "release":
        if (this.extra?.halt !== undefined) {
          if (placeOf(message) === null) {
            this.#parked.push({ listId: listId ?? this.#enlist(message), message });
            return;
          }
          this.#liftGap();
        }
        this.#begin(message, listId, decision.order, false, "head", false);
        return;
      case "late":
        this.#begin(message, listId, decision.order, true, "head", false);
    }
  }

  #begin(
    message: ModelMessage,
    listId: number | null,
    order: OrderState | undefined,
    isLate: boolean,
    via: "head" | "held",
    isOverflow: boolean,
  ): boolean {
    const released: Release = { event: this.#around.event, via, isOverflow };
    const head: Head = { message, listId, order, isLate, released };
    this.#releases.set(message.id, released);
    this.#head = head;
    if (!isLate || this.#setting.ordering === "available") return this.#run(head);
    this.#setAside("late");
    return true;
  }

  #run(head: Head): boolean {
    const { message } = head;
    const outcome = this.#handle(message, message.position);
    if (outcome !== "ok") return this.#failed(message.position, outcome === "terminal");
    const label = `${head.isLate ? "late" : "m"}:${message.id}`;
    this.#turned(label, this.#leaveHead(), message.idHash);
    this.#record = this.#rules.withExtra(this.#record!, { order: head.order, openTurn: undefined });
    this.#write({ what: "turn", message, isLate: head.isLate, released: head.released });
    this.#remember(message);
    return true;
  }

  #runNotice(notice: Notice): boolean {
    const outcome = this.#handle(notice, notice.position);
    if (outcome !== "ok") return this.#failed(notice.position, outcome === "terminal");
    this.#turned(noticeLabel(notice), null, NOTICE_HASH);
    this.#write({ what: "notice", notice });
    this.#dropNotice();
    return true;
  }

  #dropNotice(): void {
    const notices = this.extra!.notices!.slice(1);
    this.#record = this.#rules.withExtra(this.#record!, {
      notices: notices.length === 0 ? undefined : notices,
      openTurn: undefined,
    });
  }

  #notify(notice: Notice): void {
    this.#record = this.#rules.withExtra(this.#record!, { notices: [...(this.extra?.notices ?? []), notice] });
  }

  #handle(work: ModelMessage | Notice, position: Position): "ok" | "fails" | "terminal" {
    const outcome = this.#around.handle(work);
    if (outcome !== "dies") return outcome;
    this.commit(); // alone is only whose mark is committed
    this.#load();
    this.#chargeDeath(position);
    throw new ProcessEnd();
  }

  /** @param position null: nothing of the inbox was consumed */
  #turned(label: string, position: Position | null, idHash: { lo: number; hi: number }): void {
    this.#record = this.#rules.afterTurn(this.#record!, position, idHash, 1);
    this.#state.push(label);
    this.#replies.push(`${this.#record.outSeq}:${label}`);
  }

  #failed(position: Position, isTerminal: boolean): boolean {
    const record = this.#record!;
    const { nowMs } = this.#around;
    const failure = { error: `failed at ${nowMs}`, isTerminal };
    const at = { nowMs, random: 0 };
    const after = this.#rules.afterFailure(record.extra?.openTurn, position, failure, at, this.#setting.poison);
    this.#write({ what: "failed", position, attempts: after.open.attempts, isTerminal });
    this.#record = this.#rules.withExtra(record, { openTurn: after.open });
    if (after.kind === "poison") this.#poisoned(failure.error);
    return true;
  }

  #poisoned(error: string): void {
    const open = this.extra!.openTurn!;
    this.#write({ what: "poison", position: open.position });
    if (this.#head === null) {
      const notice = this.extra!.notices![0]!;
      this.#write({ what: "notice-dead", notice });
      this.#dropNotice();
      return;
    }
    const { message, listId } = this.#head;
    if (this.#setting.ordering === "available") {
      this.#setAside("dead");
      this.#notify({ kind: "poisoned", position: message.position, id: String(message.id), error });
      return;
    }
    if (listId === null) this.#head = { ...this.#head, listId: this.#enlist(message) };
    const halt = { reason: "poison" as const, sinceMs: this.#around.nowMs, why: error };
    this.#record = this.#rules.withExtra(this.#record!, { halt });
  }

  /** The head is decided without a turn. */
  #setAside(what: Exclude<TurnOutcome, "turn">): void {
    const { message, order, isLate, released } = this.#head!;
    this.#write({ what, message, isLate, released });
    const position = this.#leaveHead();
    const after = this.#rules.afterSetAside(this.#record!, position, message.idHash, what);
    this.#record = this.#rules.withExtra(after, { order, openTurn: undefined });
    this.#remember(message);
  }

  #remember(message: ModelMessage): void {
    this.#ids.add(message.idHash, message.position.entry.ms, message.bodyHash);
  }

  #leaveHead(): Position | null {
    const { message, listId } = this.#head!;
    this.#head = null;
    return this.#leave(message, listId);
  }

  #drop(message: ModelMessage, listId: number | null): void {
    const position = this.#leave(message, listId);
    this.#record = this.#rules.afterDrop(this.#record!, position);
  }

  /** Takes the message from inbox or list. @returns the position that the cursor goes to, null for none */
  #leave(message: ModelMessage, listId: number | null): Position | null {
    if (listId === null) return message.position;
    this.#list.delete(listId);
    this.#record = this.#rules.afterLeaving(this.#record!, MESSAGE_BYTES, WAITING_BOUNDS);
    return null;
  }

  /** Moves a message of the inbox to the list; the cursor passes it. */
  #enlist(message: ModelMessage): number {
    const listId = (this.extra?.waiting ?? EMPTY_LIST).nextId;
    if (listId <= this.#lastListId) this.#around.broken("record", `list id ${listId} is given out twice`);
    this.#lastListId = listId;
    this.#list.set(listId, message);
    this.#record = this.#rules.afterMove(this.#record!, message.position, MESSAGE_BYTES, WAITING_BOUNDS);
    return listId;
  }

  /** What cannot move leaves the inbox, the head first (R1). @returns whether there was anything to move */
  spill(): boolean {
    const { extra } = this;
    if (extra?.halt?.reason !== "poison" && extra?.openTurn === undefined) return false;
    if (this.#head !== null && this.#head.listId === null) {
      this.#head = { ...this.#head, listId: this.#enlist(this.#head.message) };
    }
    let moved = false;
    for (let message = this.#nextOfInbox(); message !== null; message = this.#nextOfInbox()) {
      this.#read = message.position;
      if (comparePositions(message.position, this.#record!.cursor) <= 0) continue;
      if (this.#ids.seen(message.idHash, message.position.entry.ms, message.bodyHash) !== "new") {
        const seen = this.#ids.seen(message.idHash, message.position.entry.ms, message.bodyHash);
        this.#write({ what: "duplicate", message, conflict: seen === "conflict" });
        this.#drop(message, null);
      } else {
        this.#fresh.push({ listId: this.#enlist(message), message });
        moved = true;
      }
    }
    return moved;
  }

  /** @returns the reason of the halt that was resolved */
  retry(): string | null {
    const halt = this.extra?.halt;
    if (halt === undefined) return null;
    this.#write({ what: "retried", halt: halt.reason });
    const record = this.#record!;
    if (halt.reason === "poison") {
      const openTurn = this.#rules.countedAfresh(record.extra!.openTurn!);
      this.#record = this.#rules.withExtra(record, { halt: undefined, openTurn });
    } else {
      const order = this.#rules.waitOnceMore(record.extra?.order, this.#around.nowMs);
      this.#record = this.#rules.withExtra(record, { halt: undefined, order });
      this.#unpark();
    }
    return halt.reason;
  }

  /** Only at rest: else messages that are not sequenced yet may be what is missing. @returns the reason of the halt */
  skip(): string | null {
    const halt = this.extra?.halt;
    if (halt === undefined) return null;
    this.#record = this.#rules.withExtra(this.#record!, { halt: undefined });
    if (halt.reason === "poison") {
      this.#setAside("skipped");
      return halt.reason;
    }
    const missing = halt.missing!;
    const before = this.extra?.order;
    const order = this.#rules.orderPastGap(this.#record, this.#setting.order, missing, this.#list.values());
    if (order !== undefined && order !== before) this.#passGap(missing.sequence, order.next! - 1, order);
    this.#unpark();
    return halt.reason;
  }

  #write(line: DistributiveOmit<Line, "atMs" | "event">): void {
    this.#log.push({ ...line, atMs: this.#around.nowMs, event: this.#around.event } as Line);
  }

  /**
   * What the list says of the clock, which `held` must not contradict: everything sequenced and placed, oldest first.
   */
  #oldestListed(): { readonly oldestMs: number; readonly count: number } {
    let oldestMs = Number.POSITIVE_INFINITY;
    let count = 0;
    const fresh = this.#fresh.drain();
    for (const entry of fresh) this.#fresh.push(entry);
    const unsequenced = new Set(fresh.map(({ listId }) => listId));
    for (const [listId, message] of this.#list) {
      if (unsequenced.has(listId) || placeOf(message) === null) continue;
      oldestMs = Math.min(oldestMs, message.position.entry.ms);
      count += 1;
    }
    return { oldestMs, count };
  }

  #checkWait(untilMs: number): void {
    const { order } = this.#setting;
    if (order.mode === "arrival") return;
    const { oldestMs, count } = this.#oldestListed();
    const longest = order.mode === "contiguous" ? Math.max(order.gapTimeoutMs, order.settleMs) : order.settleMs;
    const fromMs = Math.max(oldestMs, this.extra?.order?.retriedAtMs ?? 0);
    if (untilMs > fromMs + longest) this.#around.broken("clock", "it waits longer than from the oldest that is held");
    if (count > order.maxHeld && this.extra?.order?.retriedAtMs === undefined)
      this.#around.broken("clock", "it waits although more than maxHeld are held");
  }

  /** Where nothing says which number comes next, the oldest that is held must have settled. */
  #checkSettled(isOverflow: boolean): void {
    const { order } = this.#setting;
    if (order.mode === "arrival" || isOverflow) return;
    const { lowest } = this.#held;
    const isBegun = this.extra?.order?.epoch === lowest?.epoch && this.extra?.order?.next !== null;
    if (order.mode === "contiguous" && (order.firstSequence !== null || isBegun)) return;
    if (this.#around.nowMs < this.#oldestListed().oldestMs + order.settleMs)
      this.#around.broken("clock", "it goes before it has settled");
  }

  #checkGap(isOverflow: boolean): void {
    const { order } = this.#setting;
    if (order.mode !== "contiguous") {
      this.#around.broken("gap", "where numbers have holes there is no gap");
      return;
    }
    const { oldestMs, count } = this.#oldestListed();
    const isDue = this.#around.nowMs >= Math.max(oldestMs, this.extra?.order?.retriedAtMs ?? 0) + order.gapTimeoutMs;
    if (isOverflow !== count > order.maxHeld) this.#around.broken("clock", "held miscounts");
    if (!isDue && !isOverflow) this.#around.broken("clock", "a gap was declared before its time");
  }
}

export const noticeLabel = (notice: Notice): string =>
  notice.kind === "gap" ? `gap:${notice.from}-${notice.to}` : `poisoned:${notice.id}`;

type DistributiveOmit<Union, Keys extends PropertyKey> = Union extends unknown ? Omit<Union, Keys> : never;
