// Aside judge: decides from the store's log whether what of a conversation waits, is held up or is set aside is kept as it must be:
// its waiting list, its halts, its open turn, its order, its notices, and the indexes that name it. Pure.
//
// Rules, by the invariant of verdict.ts that they attack
//   I1  list-lost        a message left the waiting list, and no commit had decided it
//       open-missing     a list, an open turn or a halt that the index of the unfinished does not name: no next owner finds it
//       dead-alone       a message became a dead letter in a commit that did not decide it
//       notice-lost      a notice to the bot vanished
//   I2  list-ahead       a message was moved to the list and stands before the cursor still: it would be consumed from both
//       list-again       a message was moved to the list that was decided or moved before
//       list-stays       a message was decided and is on the list still
//       journal-lost     the result of a side effect, or a reply that is out, was forgotten while its turn was open
//   I3  list-phantom     a message was moved to the list that is not in the inbox
//   I4  halt-passed      a message had its turn while its conversation was halted
//       halt-lifted      a halt went without an operator's verb and without the message that was missing
//       gap-passed       a number of the outside was passed over, and neither a halt nor a notice says so (`contiguous` only)
//       order-back       what comes next in the outside's order fell
//   I11 list-count       the record counts other than what is on the list
//       journal-replies  a turn that goes on sent other replies than its record counts
//   I14 full-astray      the record and the index of those at their bound say different things
//       open-stale       the index of the unfinished names a conversation that has nothing unfinished
//       list-waits       messages stand on the list at the end, and nothing holds them up

import type { ExternalPlace } from "../domain/external-order.ts";
import { comparePositions, type Position } from "../domain/position.ts";
import type { Admitted, CommittedTurns, HistoryLine, StandingAside } from "./history.ts";
import type { Violation } from "./judge.ts";
import { type FormerTurn, type LogOptions, type LogView, placeOf, type Say } from "./log-judge.ts";
import { type Decision, textOf } from "./turn-chain.ts";

export type AsideRule =
  | "list-lost"
  | "open-missing"
  | "dead-alone"
  | "notice-lost"
  | "list-ahead"
  | "list-again"
  | "list-stays"
  | "journal-lost"
  | "list-phantom"
  | "halt-passed"
  | "halt-lifted"
  | "gap-passed"
  | "order-back"
  | "list-count"
  | "journal-replies"
  | "full-astray"
  | "open-stale"
  | "list-waits";

export interface AsideCommit {
  readonly commit: CommittedTurns;
  readonly before: CommittedTurns | undefined;
  readonly record: Exclude<CommittedTurns["record"], string | null>;
  /** Messages that the cursor passed. */
  readonly passed: readonly Admitted[];
  readonly decisions: readonly Decision[];
  readonly former: ReadonlyMap<string, FormerTurn>;
}

interface Listed {
  readonly id: number;
  readonly message: Admitted;
}

const NOTHING: StandingAside = { waiting: 0, isFull: false, notices: 0 };
const NO_MESSAGES: readonly Admitted[] = [];

export class AsideJudge {
  readonly #view: LogView;
  readonly #options: LogOptions & { readonly complete: boolean };
  readonly #say: Say;
  readonly #list = new Map<number, Admitted>();
  /** By place and by id: how many entries of the list. */
  readonly #onList = new Map<string, number>();
  /** What had its turn, highest in both the inbox and the outside's order; what is below one of them in both came too late. */
  #front: Admitted[] = [];
  #last: CommittedTurns | undefined;

  constructor(view: LogView, options: LogOptions & { readonly complete: boolean }, say: Say) {
    this.#view = view;
    this.#options = options;
    this.#say = say;
  }

  /** What the next commit may decide, in the order of the inbox: list before inbox. */
  sources(passed: readonly Admitted[]): readonly Admitted[] {
    return this.#list.size === 0 ? passed : [...this.#list.values(), ...passed];
  }

  isOnList({ position, idHash }: Admitted): boolean {
    return this.#onList.size > 0 && (this.#onList.has(placeOf(position)) || this.#onList.has(textOf(idHash)));
  }

  /** How many turns of a commit can have been over notices. */
  noticesMax(commit: CommittedTurns, before: CommittedTurns | undefined, decisions: readonly Decision[]): number {
    if (!commit.aside && !before?.aside) return 0;
    const pending = before?.aside?.standing?.notices ?? 0;
    const setAside = decisions.filter(({ outcome }) => outcome === "dead").length;
    return pending + setAside + (this.#view.isOrdered ? decisions.length + 1 : 0);
  }

  mayNoticeAt(decisions: readonly Decision[], index: number): boolean {
    return index === 0 || this.#view.isOrdered || decisions[index - 1]!.outcome === "dead";
  }

  /** What had its turn before `sources[place]` and should have had it later. @param last the highest of this commit so far */
  passedOver(sources: readonly Admitted[], place: number, last: number): Admitted | undefined {
    if (!this.#view.isOrdered) return place < last ? sources[last] : undefined;
    const message = sources[place]!;
    if (message.place === undefined || message.by === "redrive") return undefined;
    const isBelow = (other: Admitted): boolean =>
      comparePositions(message.position, other.position) < 0 && comparePlaces(message.place!, other.place!) < 0;
    const passed = this.#front.find(isBelow);
    if (passed) return passed;
    const isAbove = (other: Admitted): boolean =>
      comparePositions(other.position, message.position) <= 0 && comparePlaces(other.place!, message.place!) <= 0;
    this.#front = this.#front.filter((other) => !isAbove(other));
    this.#front.push(message);
    return undefined;
  }

  /** Messages that stay on the list although what stands behind them was decided. */
  leftBehind(
    sources: readonly Admitted[],
    last: number,
    now: ReadonlySet<string>,
    former: ReadonlyMap<string, FormerTurn>,
  ): readonly Admitted[] {
    if (this.#onList.size === 0 || this.#view.isOrdered) return NO_MESSAGES;
    return sources.slice(0, Math.max(0, last)).filter(({ idHash, position }) => {
      const name = textOf(idHash);
      return this.#onList.has(placeOf(position)) && !now.has(name) && !former.has(name);
    });
  }

  *commit(step: AsideCommit): Iterable<Violation> {
    const { commit, before } = step;
    this.#last = commit;
    if (!commit.aside && !before?.aside && this.#list.size === 0) return;
    const was = before?.aside?.standing ?? NOTHING;
    const is = commit.aside?.standing ?? NOTHING;
    const slice = before ? [before, commit] : [commit];
    yield* this.#moves(step, slice);
    yield* this.#letters(step);
    yield* this.#indexes(is, step, slice);
    yield* this.#halts(was, is, step, slice);
    yield* this.#journal(was, is, step, slice);
    yield* this.#order(was, is, step, slice);
  }

  *end(): Iterable<Violation> {
    const last = this.#last;
    const standing = last?.aside?.standing;
    const unfinished = this.#view.asides.find(({ kind }) => kind === "unfinished");
    if (unfinished && last && unfinishedIn(standing ?? NOTHING) === null) {
      const detail = "the index of the unfinished names it, and nothing of it waits, is open or halted";
      yield this.#say("open-stale", detail, [last, unfinished]);
    }
    if (!this.#options.complete || this.#list.size === 0 || standing?.halt) return;
    const messages = [...this.#list.values()];
    const detail = `${messages.length} messages stand on the waiting list, the first is ${messages[0]!.id}, and nothing holds them up`;
    yield this.#say("list-waits", detail, [...messages.slice(0, 3), ...(last ? [last] : [])]);
  }

  /** On and off the waiting list. */
  *#moves(
    { commit, record, passed, decisions, former }: AsideCommit,
    slice: readonly HistoryLine[],
  ): Iterable<Violation> {
    const { listed = [], unlisted = [] } = commit.aside ?? {};
    const now = new Set(this.#list.size + listed.length === 0 ? [] : decisions.map(({ hash }) => textOf(hash)));
    for (const { id, message } of listed) {
      const position = message?.position;
      const moved = position && passed.find((each) => comparePositions(each.position, position) === 0);
      if (moved) this.#enter(id, moved);
      if (moved || position === undefined) continue;
      const known = this.#view.admitted.find((each) => comparePositions(each.position, position) === 0);
      if (known === undefined) {
        const detail = `entry ${id} of the list stands for ${placeOf(position)}, where the inbox had no message of this conversation`;
        yield this.#say("list-phantom", detail, [commit]);
        continue;
      }
      const isAhead = comparePositions(position, record.cursor) > 0;
      const detail = isAhead
        ? `${known.id} is on the list, and the cursor at ${placeOf(record.cursor)} has not passed ${placeOf(position)}`
        : `${known.id} was moved to the list when the cursor had passed ${placeOf(position)} long ago`;
      yield this.#say(isAhead ? "list-ahead" : "list-again", detail, [known, ...slice]);
      this.#enter(id, known);
    }
    const left: Listed[] = [];
    for (const id of unlisted) {
      const message = this.#list.get(id);
      if (message === undefined) continue;
      left.push({ id, message });
      this.#list.delete(id);
      this.#count(message, -1);
    }
    for (const { id, message } of left) {
      const name = textOf(message.idHash);
      if (now.has(name) || former.has(name) || this.#onList.has(name)) continue;
      const detail = `${message.id} left the list as entry ${id}, and no commit had decided it`;
      yield this.#say("list-lost", detail, [message, ...slice]);
    }
    const taken = new Set(left.map(({ message }) => textOf(message.idHash)));
    for (const [id, message] of this.#list) {
      const name = textOf(message.idHash);
      // One that waits behind its original is found to be a duplicate when its turn comes.
      if (!now.has(name) || taken.has(name) || this.#isRepeat(message)) continue;
      yield this.#say("list-stays", `${message.id} was decided and is entry ${id} of the list still`, [
        message,
        ...slice,
      ]);
    }
    const counted = commit.aside?.standing?.waiting ?? 0;
    if (counted !== this.#list.size) {
      const detail = `the record counts ${counted} messages on the list, there are ${this.#list.size}`;
      yield this.#say("list-count", detail, slice);
    }
  }

  #enter(id: number, message: Admitted): void {
    this.#list.set(id, message);
    this.#count(message, 1);
  }

  #count({ position, idHash }: Admitted, change: 1 | -1): void {
    for (const name of [placeOf(position), textOf(idHash)]) {
      const count = (this.#onList.get(name) ?? 0) + change;
      if (count === 0) this.#onList.delete(name);
      else this.#onList.set(name, count);
    }
  }

  /** Whether its id was admitted before it. */
  #isRepeat({ idHash, position }: Admitted): boolean {
    const first = this.#view.admitted.find((each) => each.idHash.lo === idHash.lo && each.idHash.hi === idHash.hi);
    return first !== undefined && comparePositions(first.position, position) < 0;
  }

  *#letters({ commit, decisions }: AsideCommit): Iterable<Violation> {
    const letters = commit.aside?.letters ?? [];
    if (letters.length === 0) return;
    const now = new Set(decisions.map(({ hash }) => textOf(hash)));
    for (const { idHash } of letters) {
      const name = textOf(idHash);
      if (now.has(name)) continue;
      const id = this.#view.admitted.find((each) => textOf(each.idHash) === name)?.id ?? `the id with hash ${name}`;
      yield this.#say("dead-alone", `${id} became a dead letter in a commit that did not decide it`, [commit]);
    }
  }

  *#indexes(is: StandingAside, { commit }: AsideCommit, slice: readonly HistoryLine[]): Iterable<Violation> {
    const { isOpen = false, isFull = false } = commit.aside ?? {};
    const what = unfinishedIn(is);
    if (!isOpen && what !== null) {
      yield this.#say("open-missing", `it has ${what}, and the index of the unfinished does not name it`, slice);
    }
    if (isFull !== is.isFull) {
      const detail = `its record says that it is ${is.isFull ? "" : "not "}at its bound, the index says the contrary`;
      yield this.#say("full-astray", detail, slice);
    }
  }

  *#halts(
    was: StandingAside,
    is: StandingAside,
    { commit, decisions }: AsideCommit,
    slice: readonly HistoryLine[],
  ): Iterable<Violation> {
    if (!was.halt) return;
    const { name, reason } = was.halt;
    const isStill = is.halt?.name === name && is.halt.reason === reason;
    if (isStill) {
      if (!decisions.some(({ outcome }) => outcome === "turn")) return;
      const wasRetried = is.order?.retriedAtMs !== was.order?.retriedAtMs;
      if (wasRetried && this.#wasAsked(name, commit.at)) return; // it went, a message had its turn, and the same gap halted it again
      yield this.#say("halt-passed", `a message had its turn while the conversation was halted at ${name}`, slice);
      return;
    }
    if (reason === "crashing") return; // it ends with the process
    if (this.#wasAsked(name, commit.at)) return;
    if (was.halt.missing && this.#hasCome(was.halt.missing, commit.at)) return;
    yield this.#say("halt-lifted", `the halt at ${name} went, and no operator asked for it`, slice);
  }

  /** Whether an operator's verb that means this halt has come by then. */
  #wasAsked(name: string, before: number): boolean {
    return this.#view.signals.some(({ halt, at }) => halt === name && at < before);
  }

  /** Whether a message with this number has come by then. */
  #hasCome(missing: ExternalPlace, at: number): boolean {
    return this.#view.admitted.some(
      (message) => message.at < at && message.place !== undefined && comparePlaces(message.place, missing) === 0,
    );
  }

  *#journal(
    was: StandingAside,
    is: StandingAside,
    { commit, record, before, decisions }: AsideCommit,
    slice: readonly HistoryLine[],
  ): Iterable<Violation> {
    const earlier = before && typeof before.record === "object" ? before.record : null;
    const isUndecided = decisions.length === 0 && record.seq === (earlier?.seq ?? 0);
    // A notice is open at the position of what it is about, which may be open next.
    const isSame = isUndecided && isSamePosition(was.openTurn?.position, is.openTurn?.position);
    if (isSame) {
      const steps = new Set(is.openTurn!.steps);
      const lost = was.openTurn!.steps.find((step) => !steps.has(step));
      if (lost !== undefined || is.openTurn!.repliesOut < was.openTurn!.repliesOut) {
        const detail = lost === undefined ? "replies that were out" : `step ${lost.slice(0, 80)}`;
        yield this.#say("journal-lost", `the open turn forgot ${detail}`, slice);
      }
    }
    if (!isUndecided || !is.openTurn) return;
    const counted = is.openTurn.repliesOut - (isSame ? was.openTurn!.repliesOut : 0);
    const sent = record.outSeq - (earlier?.outSeq ?? 0);
    if (counted === sent) return;
    const detail = `the open turn counts ${counted} replies more, and outSeq rose by ${sent}`;
    yield this.#say("journal-replies", detail, [commit]);
  }

  *#order(
    was: StandingAside,
    is: StandingAside,
    { commit, before, record, decisions }: AsideCommit,
    slice: readonly HistoryLine[],
  ): Iterable<Violation> {
    const seqBefore = before && typeof before.record === "object" ? (before.record?.seq ?? 0) : 0;
    const turnCount = decisions.filter(({ outcome }) => outcome === "turn").length;
    const told = record.seq - seqBefore - turnCount;
    const dropped = commit.aside?.droppedNotices ?? 0;
    if (was.notices - is.notices > told + dropped) {
      yield this.#say("notice-lost", `${was.notices} notices waited, now ${is.notices}, and ${told} were told`, slice);
    }
    if (!was.order) return;
    if (!is.order || is.order.epoch < was.order.epoch || isLower(is.order, was.order)) {
      const next = is.order ? `${is.order.epoch}/${is.order.next}` : "nothing";
      yield this.#say("order-back", `after ${was.order.epoch}/${was.order.next} comes ${next}`, slice);
      return;
    }
    if (!this.#options.contiguous || told + is.notices + dropped > 0 || was.halt?.reason === "gap") return;
    const missing = this.#passedOver(was.order, is.order, decisions);
    const halt = `gap-${was.order.epoch}-${missing}`;
    if (missing === null || this.#wasAsked(halt, commit.at)) return;
    const detail = `number ${missing} was passed over, and neither a halt nor a notice says so`;
    yield this.#say("gap-passed", detail, slice);
  }

  /** The first number between two states of the order that had no turn; a new epoch begins where it likes. */
  #passedOver(
    was: NonNullable<StandingAside["order"]>,
    is: NonNullable<StandingAside["order"]>,
    decisions: readonly Decision[],
  ): number | null {
    if (was.next === null || is.next === null || is.epoch !== was.epoch) return null;
    const now = new Set(decisions.map(({ hash }) => textOf(hash)));
    const had = new Set(
      this.#view.admitted.flatMap(({ place, idHash }) =>
        place?.epoch === was.epoch && now.has(textOf(idHash)) ? [place.sequence] : [],
      ),
    );
    for (let next = was.next; next < is.next; next += 1) if (!had.has(next)) return next;
    return null;
  }
}

/** What the index of the unfinished must name it for; null for nothing. */
function unfinishedIn({ halt, openTurn, waiting, notices, isSuspect }: StandingAside): string | null {
  if (halt) return "a halt";
  if (openTurn) return "an open turn";
  if (waiting > 0) return "a waiting list";
  if (notices > 0) return "a notice";
  return isSuspect ? "a mark of a suspect" : null;
}

const isLower = (a: NonNullable<StandingAside["order"]>, b: NonNullable<StandingAside["order"]>): boolean =>
  a.epoch === b.epoch && b.next !== null && (a.next ?? 0) < b.next;

const isSamePosition = (a: Position | undefined, b: Position | undefined): boolean =>
  a !== undefined && b !== undefined && comparePositions(a, b) === 0;

const comparePlaces = (a: ExternalPlace, b: ExternalPlace): number => a.epoch - b.epoch || a.sequence - b.sequence;
