// Lane log: where each reply of a shard stands, transaction by transaction: undone in the outbox, on the list of its lane, among the
// dead letters, or nowhere any more, since it was delivered. A fold; it keeps what stands somewhere, and forgets what left.
//
// A transaction is judged when all of it is known: what moves leaves one place and enters the other in the same one. Whether what left
// without becoming a dead letter was delivered is said by the sink (log-judge.ts).
//
// Rules, by the invariant of verdict.ts that they attack
//   I6  lane-missing  replies stand on the list of a lane that has no state: no next owner finds them
//       letter-lost   the dead letter of a reply went, and the reply did not come back in the same transaction
//   I7  reply-twice   a reply stands in two places: on the list and undone in the outbox, twice on the list, or as a dead letter and
//                     still to be sent
//       lane-order    on its list, and then in the outbox, a reply stands behind one that comes after it
//   I8  reply-again   a reply came onto the list that was not in the outbox, is not new, and was no dead letter
//       lane-astray   a reply came onto the list of another conversation's lane
//       letter-again  a reply became a dead letter that was neither in the outbox nor on the list
//   I11 lane-count    the state of a lane counts other replies than its list has, or would give out an id of it again

import { hasBit } from "../codec/outbox-codec.ts";
import type { LaneState } from "../domain/lane.ts";

export type LaneRule =
  | "lane-missing"
  | "letter-lost"
  | "reply-twice"
  | "lane-order"
  | "reply-again"
  | "lane-astray"
  | "letter-again"
  | "lane-count";

/** A reply of a lane, or a part of one. */
export interface LaneReply {
  /** Of its conversation. */
  readonly key: string;
  readonly outSeq: number;
  readonly part: number | undefined;
}

/** `7`, or of a part `7.2`. */
export const nameOfReply = ({ outSeq, part }: Omit<LaneReply, "key">): string =>
  part === undefined ? String(outSeq) : `${outSeq}.${part}`;

export type SayOfLane = (rule: LaneRule, key: string, detail: string) => void;

interface OutboxPlace {
  readonly entry: string;
  readonly index: number;
}

/** Of one lane: whatever of it stands somewhere. */
interface Lane {
  /** Names of replies in entries of the outbox, done or not, in the order of the outbox. */
  readonly inOutbox: Map<string, LaneReply & OutboxPlace>;
  readonly list: Map<number, LaneReply>;
  /** On the list: its name and its id. */
  readonly listed: Map<string, number>;
  /** Came back from the dead letters: no place in the order is theirs. */
  readonly redriven: Set<string>;
  /** Of those that came onto the list since it was empty, the latest but for such. */
  last: LaneReply | null;
  /** The highest id that the list gave out since then. */
  lastId: number;
}

/** What one transaction does, while it is read. */
interface Step {
  readonly joined: (LaneReply & { readonly id: number; readonly isNew: boolean | undefined })[];
  readonly left: { readonly key: string; readonly id: number }[];
  readonly emptied: Set<string>;
  readonly acked: Map<string, Uint8Array>;
  readonly removed: Set<string>;
  readonly buried: LaneReply[];
  readonly exhumed: LaneReply[];
  readonly touched: Set<string>;
}

export class LaneLog {
  /** Whether it begins with an empty store, so that what came from nowhere came from nowhere. */
  readonly #isWhole: boolean;
  readonly #lanes = new Map<string, Lane>();
  readonly #entries = new Map<string, readonly (LaneReply | null)[]>();
  readonly #acks = new Map<string, Uint8Array>();
  /** By id of the dead letter. */
  readonly #letters = new Map<string, LaneReply>();
  #step: Step = emptyStep();

  constructor(isWhole: boolean) {
    this.#isWhole = isWhole;
  }

  /** @param replies by index in the entry; null for what is no reply of a lane */
  sent(entry: string, replies: readonly (LaneReply | null)[]): void {
    this.#entries.set(entry, replies);
    for (const [index, reply] of replies.entries()) {
      if (reply === null) continue;
      this.#lane(reply.key).inOutbox.set(nameOfReply(reply), { ...reply, entry, index });
      this.#step.touched.add(reply.key);
    }
  }

  /** @param isNew whether the same transaction made it; undefined where the log began too late to tell */
  joined(id: number, reply: LaneReply, isNew: boolean | undefined): void {
    this.#step.joined.push({ ...reply, id, isNew });
  }

  left(key: string, id: number): void {
    this.#step.left.push({ key, id });
  }

  /** Whatever is on the list then. */
  leftAll(key: string): void {
    this.#step.emptied.add(key);
  }

  acked(entry: string, done: Uint8Array): void {
    this.#step.acked.set(entry, done);
  }

  /** Ids of what is in the outbox. */
  entries(): Iterable<string> {
    return this.#entries.keys();
  }

  removed(entry: string): void {
    this.#step.removed.add(entry);
  }

  buried(letter: string, reply: LaneReply): void {
    this.#letters.set(letter, reply);
    this.#step.buried.push(reply);
  }

  /** @returns the reply that the dead letter was about; undefined if it was about none */
  exhumed(letter: string): LaneReply | undefined {
    const reply = this.#letters.get(letter);
    if (reply === undefined) return undefined;
    this.#letters.delete(letter);
    this.#step.exhumed.push(reply);
    return reply;
  }

  stateChanged(key: string): void {
    this.#step.touched.add(key);
  }

  /**
   * Ends a transaction.
   * @param stateOf what is stored of a lane; null for nothing, or nothing readable
   * @returns the lanes whose lists it changed
   */
  settle(stateOf: (key: string) => LaneState | null, say: SayOfLane): ReadonlySet<string> {
    const step = this.#step;
    this.#step = emptyStep();
    const changed = new Set([...[...step.joined, ...step.left].map(({ key }) => key), ...step.emptied]);
    for (const key of changed) step.touched.add(key);
    const exhumed = new Set(step.exhumed.map(fullName));
    for (const reply of step.joined) this.#join(reply, exhumed.has(fullName(reply)), say);
    const stale = this.#isWhole ? step.buried.filter((reply) => !this.#isOpen(reply)) : [];
    for (const [entry, done] of step.acked) this.#acks.set(entry, done);
    for (const entry of step.removed) this.#remove(entry);
    for (const { key, id } of step.left) this.#leave(key, id);
    for (const key of step.emptied) {
      for (const id of [...(this.#lanes.get(key)?.list.keys() ?? [])]) this.#leave(key, id);
    }
    for (const reply of stale) {
      say(
        "letter-again",
        reply.key,
        `${tellReply(reply)} became a dead letter, and stood neither in the outbox nor on the list`,
      );
    }
    for (const reply of step.buried) {
      if (!this.#isOpen(reply)) continue;
      say("reply-twice", reply.key, `${tellReply(reply)} became a dead letter, and is still to be sent`);
    }
    const buried = new Set(step.buried.map(fullName));
    for (const reply of step.exhumed) {
      if (this.#isOpen(reply) || buried.has(fullName(reply))) continue;
      say("letter-lost", reply.key, `the dead letter of ${tellReply(reply)} went, and the reply did not come back`);
    }
    for (const key of step.touched) this.#check(key, stateOf, say);
    return changed;
  }

  *undelivered(): Iterable<LaneReply> {
    for (const lane of this.#lanes.values()) {
      yield* lane.list.values();
      for (const reply of lane.inOutbox.values()) {
        if (this.#isUndone(reply) && !lane.listed.has(nameOfReply(reply))) yield reply;
      }
    }
  }

  #join({ id, isNew, ...reply }: Step["joined"][number], isRedriven: boolean, say: SayOfLane): void {
    const lane = this.#lane(reply.key);
    const name = nameOfReply(reply);
    const place = lane.inOutbox.get(name);
    if (isRedriven) lane.redriven.add(name);
    else if (this.#isWhole && isNew === false && !lane.listed.has(name) && !(place && this.#isUndone(place))) {
      say("reply-again", reply.key, `${tellReply(reply)} came onto the list, and had left the outbox before`);
    }
    const other = lane.listed.get(name);
    if (other !== undefined) {
      say("reply-twice", reply.key, `${tellReply(reply)} stands on the list as ${other} and as ${id}`);
    } else if (!lane.redriven.has(name)) {
      if (lane.last && isBehind(lane.last, reply)) {
        say("lane-order", reply.key, `${tellReply(reply)} came onto the list behind ${tellReply(lane.last)}`);
      } else lane.last = reply;
    }
    lane.lastId = Math.max(lane.lastId, id);
    lane.list.set(id, reply);
    lane.listed.set(name, id);
  }

  #leave(key: string, id: number): void {
    const lane = this.#lanes.get(key);
    const reply = lane?.list.get(id);
    if (lane === undefined || reply === undefined) return;
    const name = nameOfReply(reply);
    lane.list.delete(id);
    if (lane.listed.get(name) === id) lane.listed.delete(name);
    if (!lane.listed.has(name)) lane.redriven.delete(name);
    if (lane.list.size === 0) Object.assign(lane, EMPTY_LIST);
    this.#forgetIfEmpty(key, lane);
  }

  #remove(entry: string): void {
    for (const reply of this.#entries.get(entry) ?? []) {
      const lane = reply && this.#lanes.get(reply.key);
      if (!lane) continue;
      const name = nameOfReply(reply);
      if (lane.inOutbox.get(name)?.entry === entry) lane.inOutbox.delete(name);
      this.#forgetIfEmpty(reply.key, lane);
    }
    this.#entries.delete(entry);
    this.#acks.delete(entry);
  }

  /** What a lane is after a transaction that had to do with it. */
  #check(key: string, stateOf: (key: string) => LaneState | null, say: SayOfLane): void {
    const lane = this.#lanes.get(key);
    const count = lane?.list.size ?? 0;
    if (this.#isWhole) this.#checkState(key, stateOf(key), count, lane?.lastId ?? 0, say);
    if (lane === undefined || count === 0) return;
    for (const reply of lane.inOutbox.values()) {
      if (!this.#isUndone(reply)) continue;
      const id = lane.listed.get(nameOfReply(reply));
      if (id !== undefined) {
        say("reply-twice", key, `${tellReply(reply)} stands on the list as ${id}, and is not done in the outbox`);
      } else if (lane.last && isBehind(lane.last, reply)) {
        say("lane-order", key, `${tellReply(reply)} is in the outbox, behind ${tellReply(lane.last)} on the list`);
      }
    }
  }

  /** Of a log that began late nobody knows what stood on the list then. */
  #checkState(key: string, state: LaneState | null, count: number, lastId: number, say: SayOfLane): void {
    if (count > 0 && state === null) {
      say("lane-missing", key, `${count} replies stand on the list of a lane that has no state`);
    } else if ((state?.list?.count ?? 0) !== count) {
      say("lane-count", key, `the state counts ${state?.list?.count ?? 0} replies on the list, there are ${count}`);
    } else if (state?.list !== undefined && state.list.nextId <= lastId) {
      say("lane-count", key, `the state would give out id ${state.list.nextId} next, and the list gave out ${lastId}`);
    }
  }

  #isOpen(reply: LaneReply): boolean {
    const lane = this.#lanes.get(reply.key);
    const place = lane?.inOutbox.get(nameOfReply(reply));
    return lane?.listed.has(nameOfReply(reply)) === true || (place !== undefined && this.#isUndone(place));
  }

  #isUndone({ entry, index }: OutboxPlace): boolean {
    const done = this.#acks.get(entry);
    return done === undefined || !hasBit(done, index);
  }

  #lane(key: string): Lane {
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { inOutbox: new Map(), list: new Map(), listed: new Map(), redriven: new Set(), ...EMPTY_LIST };
      this.#lanes.set(key, lane);
    }
    return lane;
  }

  #forgetIfEmpty(key: string, { inOutbox, list }: Lane): void {
    if (inOutbox.size === 0 && list.size === 0) this.#lanes.delete(key);
  }
}

const EMPTY_LIST = { last: null, lastId: 0 } as const;

const emptyStep = (): Step => ({
  joined: [],
  left: [],
  emptied: new Set(),
  acked: new Map(),
  removed: new Set(),
  buried: [],
  exhumed: [],
  touched: new Set(),
});

const fullName = (reply: LaneReply): string => `${nameOfReply(reply)} ${reply.key}`;
const tellReply = (reply: LaneReply): string => `reply ${nameOfReply(reply)}`;
/** Whether `reply`, which stands behind the other, should stand before it. */
const isBehind = (other: LaneReply, reply: LaneReply): boolean =>
  reply.outSeq < other.outSeq || (reply.outSeq === other.outSeq && (reply.part ?? 0) < (other.part ?? 0));
