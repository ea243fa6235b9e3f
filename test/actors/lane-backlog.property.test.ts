// B1 to B3 of actors/lane-backlog.ts: replies, moves, reads, deliveries, burials, redrives, commits in two steps and crashes between
// any of them, against lists of names. What the store holds is what the writes of the lane say, applied by the simplest means.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OutboxEntry } from "../../actors/committer.ts";
import { LaneBacklog, type LaneItem, type LaneWrite } from "../../actors/lane-backlog.ts";
import { decodeLaneState, encodeLaneState } from "../../src/codec/lane-codec.ts";
import { decodeOutboxEntry, emptyBitmap, hasBit, type OutboxReply, setBit } from "../../src/codec/outbox-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { replyName, troubleOf } from "../../src/domain/lane.ts";

const KEY = conversationKey({ bot: "b", channel: "c", conversation: "x" });
const RUNS = 600;
const PAGE = 3;
/** Of the runs, each has to happen in so many. */
const SHARE_MIN = 0.05;

const ACTIONS = {
  replies: 10,
  "replies in parts": 3,
  "builds a commit": 10,
  "hears of its commit": 10,
  "begins to read": 8,
  "ends to read": 8,
  "begins to send": 8,
  delivers: 8,
  "is refused": 3,
  "moves some to the list": 4,
  "moves all to the list": 4,
  redrives: 5,
  forgets: 4,
  waits: 2,
  crashes: 2,
} as const;
type Action = keyof typeof ACTIONS;
const ROULETTE = (Object.keys(ACTIONS) as Action[]).flatMap((action) =>
  Array.from({ length: ACTIONS[action] }, () => action),
);

const nameOf = ({ born, outSeq, extra }: OutboxReply): string => replyName({ born, outSeq, part: extra?.part });

interface StoredOutbox {
  readonly id: number;
  readonly names: readonly string[];
  readonly done: Uint8Array;
}

/** What Redis would hold. */
class NaiveStore {
  outbox: StoredOutbox[] = [];
  list: { readonly id: number; readonly bytes: Uint8Array; readonly name: string }[] = [];
  dead: string[] = [];
  state: Uint8Array | null = null;
  /** The highest id of the list while its key lives. */
  #lastId = 0;

  apply({ write, entry, acks }: Flight, wrong: (what: string) => void): void {
    if (entry !== null) this.outbox.push({ ...entry, done: emptyBitmap(entry.names.length) });
    const dones = [...acks, ...write.done.map(({ entry: { id }, index }) => ({ id: id.ms, index }))];
    for (const { id, index } of dones) {
      const stored = this.outbox.find((each) => each.id === id);
      if (stored === undefined || hasBit(stored.done, index)) wrong(`${id}/${index} is done twice`);
      else setBit(stored.done, index);
    }
    for (const { id, bytes } of write.joining) {
      if (id <= this.#lastId) wrong(`the id ${id} of the list comes after ${this.#lastId}`);
      this.#lastId = id;
      this.list.push({ id, bytes, name: nameOf(decodeOutboxEntry(Buffer.from(bytes)).replies[0]!) });
    }
    for (const id of write.leaving) {
      if (!this.list.some((each) => each.id === id)) wrong(`${id} leaves the list and is not on it`);
      this.list = this.list.filter((each) => each.id !== id);
    }
    if (this.list.length === 0) this.#lastId = 0;
    for (const { ms } of write.deadDone) this.dead[ms] = "";
    this.dead.push(...write.dead.map((letter) => Buffer.from(letter).toString()));
    this.state = write.state === null ? null : encodeLaneState(write.state);
  }

  get undone(): string[] {
    return this.outbox.flatMap(({ names, done }) => names.filter((_, i) => !hasBit(done, i)));
  }

  get letters(): string[] {
    return this.dead.filter((name) => name !== "");
  }
}

interface Flight {
  readonly write: LaneWrite;
  readonly entry: { readonly id: number; readonly names: readonly string[] } | null;
  readonly replies: readonly OutboxReply[];
  readonly acks: readonly { readonly id: number; readonly index: number }[];
  readonly delivered: readonly string[];
}

class Run {
  readonly store = new NaiveStore();
  readonly met = new Set<Action>();
  readonly wrong: string[] = [];
  backlog = new LaneBacklog(KEY, null);
  /** All that was replied. */
  readonly #replies = new Map<string, OutboxReply>();
  /** Undelivered and not buried, first to last, of what the lane was told. */
  #waiting: string[] = [];
  #pending: OutboxReply[] = [];
  #acks: { id: number; index: number }[] = [];
  #deliveredSince: string[] = [];
  /** By commits that were applied. */
  readonly #gone = new Set<string>();
  readonly #stored = new Set<string>();
  #redriven = new Set<string>();
  #redrivenSince = new Set<string>();
  #flight: Flight | null = null;
  #page: Parameters<LaneBacklog["read"]>[0] | null = null;
  #sending: LaneItem | null = null;
  #entries = 0;
  #outSeq = 0;

  do(action: Action, choice: number): void {
    if (!this.#act(action, choice)) return;
    this.met.add(action);
    this.#look();
  }

  /** False if there was nothing to act on. */
  #act(action: Action, choice: number): boolean {
    const { backlog } = this;
    const isBusy = this.#page !== null || this.#sending !== null;
    switch (action) {
      case "replies":
        return this.#reply(1);
      case "replies in parts":
        return this.#reply(2 + (choice % 4));
      case "builds a commit":
        return this.#build();
      case "hears of its commit":
        return this.#land();
      case "begins to read":
        if (isBusy || !(backlog.mustRead || !backlog.hasWholeReply)) return false;
        this.#commitAll(); // what joined is there once it is committed
        this.#page = this.store.list.filter(({ id }) => id > backlog.readAfter).slice(0, PAGE);
        return true;
      case "ends to read":
        if (this.#page === null) return false;
        backlog.read(this.#page);
        this.#page = null;
        return true;
      case "begins to send":
        if (isBusy || backlog.head === undefined) return false;
        this.#sending = backlog.head;
        return true;
      case "delivers":
        return this.#deliver();
      case "is refused":
        return this.#refuse();
      case "moves some to the list":
        return backlog.moveToList(1 + (choice % 8)) > 0;
      case "moves all to the list":
        return backlog.moveToList(Number.POSITIVE_INFINITY) > 0;
      case "redrives":
        return this.#redrive(choice);
      case "forgets":
        if (isBusy) return false;
        backlog.forgetWindow();
        if (backlog.listed > 0) expect(backlog.head).toBeUndefined();
        return true;
      case "waits":
        return this.#wait();
      case "crashes":
        return this.#crash(choice % 2 === 0);
    }
  }

  #reply(parts: number): boolean {
    this.#outSeq += 1;
    for (let part = 1; part <= parts; part += 1) {
      const body = Buffer.from(`${this.#outSeq}/${part}`);
      const reply: OutboxReply = { key: KEY, born: "b", outSeq: this.#outSeq, body };
      this.#pending.push(parts === 1 ? reply : { ...reply, extra: { part, parts } });
    }
    return true;
  }

  /** As the committer does it: first where its replies go, then what the lane has to say. */
  #build(): boolean {
    const { backlog } = this;
    if (this.#flight !== null) return false;
    const outbox: OutboxReply[] = [];
    for (const reply of this.#pending.splice(0)) {
      this.#replies.set(nameOf(reply), reply);
      if (backlog.takesToList) {
        backlog.join(reply);
        this.#waiting.push(nameOf(reply));
      } else outbox.push(reply);
    }
    const entry = outbox.length === 0 ? null : { id: ++this.#entries, names: outbox.map(nameOf) };
    const write = backlog.takeWrite();
    const acks = this.#acks.splice(0);
    this.#flight = { write, entry, replies: outbox, acks, delivered: this.#deliveredSince.splice(0) };
    this.#redriven = this.#redrivenSince;
    this.#redrivenSince = new Set();
    return true;
  }

  #commitAll(): void {
    this.#land();
    if (this.#pending.length === 0 && !this.backlog.hasChanges && this.#acks.length === 0) return;
    this.#build();
    this.#land();
  }

  #apply(flight: Flight): void {
    this.store.apply(flight, (what) => void this.wrong.push(what));
    for (const name of flight.delivered) this.#gone.add(name);
    this.#judgeStore();
  }

  #land(): boolean {
    const flight = this.#flight;
    if (flight === null) return false;
    this.#apply(flight);
    this.#flight = null;
    this.#redriven = new Set();
    if (flight.entry !== null) this.#add(flight.entry, flight.replies, emptyBitmap(flight.replies.length));
    return true;
  }

  #add(entry: NonNullable<Flight["entry"]>, replies: readonly OutboxReply[], done: Uint8Array): void {
    const outboxEntry = new OutboxEntry({ ms: entry.id, seq: 0 }, replies.length, done);
    for (const [index, reply] of replies.entries()) {
      if (hasBit(done, index)) continue;
      this.backlog.add(reply, outboxEntry, index);
      this.#waiting.push(nameOf(reply));
    }
  }

  #deliver(): boolean {
    const item = this.#sending;
    if (item === null) return false;
    this.#sending = null;
    const place = this.backlog.leave(item);
    if (place !== null) this.#acks.push({ id: place.entry.id.ms, index: place.index });
    this.#deliveredSince.push(this.#first());
    this.backlog.become("flowing", null);
    return true;
  }

  /** The reply that was being sent, with its other parts, once they are read. */
  #refuse(): boolean {
    const { backlog } = this;
    const item = this.#sending;
    if (this.#page !== null || (item === null && backlog.head === undefined)) return false;
    this.#sending = null;
    if (!backlog.hasWholeReply) return true;
    for (const each of backlog.headReply) {
      if (replyName(each) !== this.#waiting[0]) this.wrong.push(`${replyName(each)} dies before ${this.#waiting[0]}`);
      backlog.bury(each, Buffer.from(this.#first()), null);
    }
    const next = this.#waiting[0] ?? "";
    if (item !== null && next.startsWith(`b.${item.outSeq}.`) && this.#isOriginal(next))
      this.wrong.push(`${next} stays behind`);
    return true;
  }

  /** Parts that were redriven stand apart from those that were not. */
  #isOriginal(name: string): boolean {
    return this.#replies.get(name)!.extra?.isRedriven !== true;
  }

  #first(): string {
    return this.#waiting.shift()!;
  }

  #redrive(choice: number): boolean {
    const { backlog, store } = this;
    const letters = store.letters.filter((name) => !this.#redriven.has(name) && !this.#redrivenSince.has(name));
    const name = letters[choice % letters.length];
    if (name === undefined || backlog.inOutbox > 0 || this.#flight?.entry != null) return false;
    const { extra, ...reply } = this.#replies.get(name)!;
    const redriven: OutboxReply = { ...reply, extra: { ...extra, isRedriven: true } };
    this.#replies.set(name, redriven);
    backlog.redrive(redriven, { ms: store.dead.indexOf(name), seq: 0 });
    this.#redrivenSince.add(name);
    this.#waiting.push(name);
    return true;
  }

  #wait(): boolean {
    const { head } = this.backlog;
    if (head === undefined) return false;
    this.backlog.become("retrying", { ...troubleOf(head, null, 5), attempts: 1, reason: "r" });
    return true;
  }

  /** @param isApplied what became of the commit that nobody heard of */
  #crash(isApplied: boolean): boolean {
    if (this.#flight !== null && isApplied) this.#apply(this.#flight);
    const { store } = this;
    Object.assign(this, { backlog: new LaneBacklog(KEY, store.state === null ? null : decodeLaneState(store.state)) });
    this.#flight = null;
    this.#page = null;
    this.#sending = null;
    this.#acks = [];
    this.#pending = [];
    this.#deliveredSince = [];
    this.#redriven = new Set();
    this.#redrivenSince = new Set();
    this.#waiting = store.list.map(({ name }) => name);
    for (const entry of store.outbox)
      this.#add(
        entry,
        entry.names.map((name) => this.#replies.get(name)!),
        entry.done,
      );
    return true;
  }

  /** B2, and B1 as far as the store shows it. */
  #judgeStore(): void {
    const { list, undone, letters, state } = this.store;
    const names = list.map(({ name }) => name);
    const all = [...names, ...undone, ...letters];
    if (new Set(all).size < all.length) this.wrong.push(`in two places: ${all.join(" ")}`);
    for (const name of all) this.#stored.add(name);
    for (const name of all) if (this.#gone.has(name) && this.#isOriginal(name)) this.wrong.push(`${name} is back`);
    const said = state === null ? undefined : decodeLaneState(state).list;
    const bytes = list.reduce((sum, each) => sum + each.bytes.length, 0);
    if ((said?.count ?? 0) !== list.length || (said?.bytes ?? 0) !== bytes)
      this.wrong.push("the state lies of its list");
    if (list.length > 0 && said!.nextId <= list.at(-1)!.id) this.wrong.push("the next id is one of the list");
  }

  /** What the lane says of itself. */
  #look(): void {
    const { backlog } = this;
    const { head } = backlog;
    if (backlog.replies !== this.#waiting.length) this.wrong.push(`${backlog.replies} of ${this.#waiting.length}`);
    if (head !== undefined && replyName(head) !== this.#waiting[0])
      this.wrong.push(`${replyName(head)} is first, and not ${this.#waiting[0]}`);
    if (head === undefined && backlog.replies > 0 && !backlog.mustRead) this.wrong.push("no head, and nothing to read");
    if (backlog.listed > 0 && backlog.state?.list?.count !== backlog.listed) this.wrong.push("its list has no state");
    if (backlog.replies === 0 && backlog.bytes + Math.abs(backlog.memoryBytes) > 0) this.wrong.push("bytes of nothing");
  }

  /** Everything is told and written, and then delivered. */
  end(): void {
    this.#sending = null;
    for (let left = 10_000; left > 0; left -= 1) {
      this.#commitAll();
      if (this.#page !== null) this.do("ends to read", 0);
      else if (this.backlog.replies === 0) break;
      else if (this.backlog.head === undefined) this.do("begins to read", 0);
      else {
        this.do("begins to send", 0);
        this.do("delivers", 0);
      }
    }
    const { list, undone, letters } = this.store;
    if (list.length + undone.length > 0) this.wrong.push(`left: ${[...list.map(({ name }) => name), ...undone]}`);
    for (const name of this.#replies.keys()) {
      if (this.#stored.has(name) && !letters.includes(name) && !this.#gone.has(name))
        this.wrong.push(`${name} is lost`);
    }
  }
}

describe("the backlog of a lane", () => {
  test("keeps each reply in one place, in order, through moves, reads, redrives and crashes between any two steps (B1 to B3)", () => {
    const met = new Map(Object.keys(ACTIONS).map((action) => [action, 0]));
    const choices = fc.array(fc.nat(0xff_ffff), { minLength: 40, maxLength: 160 });
    fc.assert(
      fc.property(choices, (each) => {
        const run = new Run();
        for (const choice of each) run.do(ROULETTE[choice % ROULETTE.length]!, choice >> 8);
        for (const action of run.met) met.set(action, met.get(action)! + 1);
        run.end();
        expect(run.wrong).toEqual([]);
      }),
      { numRuns: RUNS, seed: 3 },
    );
    for (const [action, runs] of met) expect(runs / RUNS, `runs in which it ${action}`).toBeGreaterThan(SHARE_MIN);
  });
});
