// Log judge: decides from the store's own log whether each turn of a conversation was committed as it must be. Pure.
//
// A commit stores a conversation's record once, however many turns it holds. Which turns, and in what order, is told by the
// ids that the same transaction stores; that these are the turns behind the record is told by its `chain`; and what the turns
// had to be, by the messages in the inbox between the former cursor and the new one, and those on its waiting list. What of a
// conversation waits, is held up or is set aside is judged by aside-judge.ts.
//
// Rules, by the invariant of verdict.ts that they attack
//   I1  turn-skipped     the cursor passed a message that no turn consumed, that is no duplicate and went to no waiting list
//       let-go           an inbox entry went before the commit that decided its message
//   I2  turn-doubled     a message was consumed again within the time and the number of ids that duplicates are known for
//   I3  turn-phantom     a turn consumed what is neither in the inbox between the cursors nor on the waiting list
//   I4  turn-order       turns consumed in another order than the inbox has, list before inbox; where the outside numbers its
//                        messages: a higher one before a lower one that was there first
//   I6  reply-lost       a committed reply left the outbox, or the list of its lane, without a 2xx from the sink and without becoming a
//                        dead letter
//       reply-waits      a committed reply is still there at the end, though its lane is not halted
//   I8  reply-unknown    the sink received a reply that no commit contains
//       reply-alone      a reply was put into the outbox by a transaction without its record
//   I9  reply-bytes      what the sink received is not what the commit stored
//   I11 chain            the chain is not the fold over the turns
//       seq-jump         seq did not rise by the number of turns, notices to the bot included
//       seq-back         seq fell
//       cursor-back      the cursor fell
//       cursor-astray    the cursor stands where no message of the conversation is
//       out-seq          outSeq did not rise by the number of replies, or replies are not numbered one after the other
//       born             a record of the same conversation has another beginning
//       record-damaged   the stored bytes are no record, or it was removed
//   I14 waits            a message is still in the inbox at the end, or on a waiting list although nothing holds it up

import type { Hash64 } from "../domain/hash.ts";
import { comparePositions, formatBorn, formatEntryId, type Position } from "../domain/position.ts";
import { AsideJudge, type AsideRule } from "./aside-judge.ts";
import type { Admitted, Aside, CommittedTurns, DeliveryAttempt, HistoryLine, Signal, StoreEvent } from "./history.ts";
import type { Violation } from "./judge.ts";
import { nameOfReply } from "./lane-log.ts";
import { type Decision, decisionsOf, isChainOf, textOf, withMarkersTold } from "./turn-chain.ts";

export type LogRule =
  | AsideRule
  | "turn-skipped"
  | "let-go"
  | "turn-doubled"
  | "turn-phantom"
  | "turn-order"
  | "reply-lost"
  | "reply-waits"
  | "reply-unknown"
  | "reply-alone"
  | "reply-bytes"
  | "chain"
  | "seq-jump"
  | "seq-back"
  | "cursor-back"
  | "cursor-astray"
  | "out-seq"
  | "born"
  | "record-damaged"
  | "waits";

export interface LogOptions {
  /** Whether the log begins with an empty store. If not, the first record of each conversation is taken as it is. */
  readonly isWhole: boolean;
  /** How long an id proves a duplicate, ms. */
  readonly dedupeMs: number;
  /** How many ids of a conversation do. */
  readonly dedupeMax: number;
  /** Whether the outside's numbers rise by one, so that what is missing can be seen. */
  readonly contiguous?: boolean;
}

/** A turn as the log shows it. */
interface LoggedTurn {
  readonly id: string;
  readonly seq: number;
  readonly shownBy: CommittedTurns;
}

/** All that the log says of one conversation. */
export interface LogView {
  readonly name: string;
  /** In the order of the inbox. */
  readonly admitted: readonly Admitted[];
  readonly signals: readonly Signal[];
  /** In the order of the log. */
  readonly commits: readonly CommittedTurns[];
  /** What each of the commits decided. */
  readonly decided: readonly CommittedTurns["decided"][];
  readonly asides: readonly Aside[];
  /** What came from clients. */
  readonly consumed: readonly LoggedTurn[];
  /** Ids of messages in the inbox, or on the waiting list, at the end. */
  readonly waiting: ReadonlySet<string>;
  /** Ids of messages that became dead letters. */
  readonly setAside: ReadonlySet<string>;
  /** Hashes of the ids that lanes gave. */
  readonly markers: ReadonlySet<string>;
  /** Whether the outside's numbers decide the order. */
  readonly isOrdered: boolean;
  /** Names of replies that became dead letters (lane-log.ts). */
  readonly buried: ReadonlySet<string>;
  /** Of these, the ones that did not come back. */
  readonly dead: ReadonlySet<string>;
  /** The reply at which the lane stands still for an operator; infinite if it does not. */
  readonly haltedFrom: number;
}

/** The replies of a conversation as the sink saw them, by their name (lane-log.ts). */
export type SinkView = ReadonlyMap<
  string,
  {
    readonly first: DeliveryAttempt;
    readonly attempts: readonly DeliveryAttempt[];
    readonly delivered: DeliveryAttempt | undefined;
  }
>;

/** @param events of one conversation, in the order of the log */
export function viewLog(name: string, events: readonly StoreEvent[]): LogView {
  const admitted: Admitted[] = [];
  const signals: Signal[] = [];
  const commits: CommittedTurns[] = [];
  const asides: Aside[] = [];
  for (const event of events) {
    if (event.kind === "admitted") admitted.push(event);
    else if (event.kind === "committed") commits.push(event);
    else if (event.kind === "signal") signals.push(event);
    else asides.push(event);
  }
  const decided = newlyDecided(commits);
  const halts = asides.flatMap(({ kind, outSeq }) => (kind === "halted" ? [outSeq!] : []));
  const waitsAt = placesAtTheEnd(commits, asides);
  const letters = new Set(commits.flatMap(({ aside }) => aside?.letters.map(({ idHash }) => textOf(idHash)) ?? []));
  return {
    name,
    admitted,
    signals,
    commits,
    decided,
    asides,
    consumed: turnsOf(admitted, commits, decided),
    waiting: idsOf(admitted, waitsAt, ({ position }) => placeOf(position)),
    setAside: idsOf(admitted, letters, ({ idHash }) => textOf(idHash)),
    markers: new Set(admitted.flatMap(({ by, idHash }) => (by === "lane" ? [textOf(idHash)] : []))),
    isOrdered: commits.some(({ aside }) => aside?.standing?.order !== undefined),
    buried: new Set(asides.flatMap((aside) => (aside.kind === "dead" ? [replyNamed(aside)] : []))),
    dead: deadAtTheEnd(asides),
    haltedFrom: Math.min(Number.POSITIVE_INFINITY, ...halts),
  };
}

const replyNamed = ({ outSeq, part }: Aside): string => nameOfReply({ outSeq: outSeq!, part });

function deadAtTheEnd(asides: readonly Aside[]): Set<string> {
  const dead = new Set<string>();
  for (const aside of asides) {
    if (aside.kind === "dead") dead.add(replyNamed(aside));
    else if (aside.kind === "redriven") dead.delete(replyNamed(aside));
  }
  return dead;
}

function idsOf(
  admitted: readonly Admitted[],
  wanted: ReadonlySet<string>,
  named: (message: Admitted) => string,
): Set<string> {
  if (wanted.size === 0) return new Set();
  return new Set(admitted.filter((message) => wanted.has(named(message))).map(({ id }) => id));
}

/** Of messages in the inbox and on the waiting list when the log ends. */
function placesAtTheEnd(commits: readonly CommittedTurns[], asides: readonly Aside[]): Set<string> {
  const listed = new Map<number, Position>();
  for (const { aside } of commits) {
    for (const { id, message } of aside?.listed ?? []) if (message) listed.set(id, message.position);
    for (const id of aside?.unlisted ?? []) listed.delete(id);
  }
  const inInbox = asides.flatMap(({ kind, position }) => (kind === "waiting" ? [position!] : []));
  return new Set([...listed.values(), ...inInbox].map(placeOf));
}

/** In the order of their decision; one that came back from the dead letters was consumed when it became one. */
function turnsOf(
  admitted: readonly Admitted[],
  commits: readonly CommittedTurns[],
  decided: LogView["decided"],
): LoggedTurn[] {
  const names = new Map(admitted.flatMap(({ idHash, id, by }) => (by === undefined ? [[textOf(idHash), id]] : [])));
  const turns: LoggedTurn[] = [];
  let before = 0;
  for (const [i, commit] of commits.entries()) {
    if (typeof commit.record !== "object" || commit.record === null) continue;
    for (const [j, { hash }] of decided[i]!.entries()) {
      const id = names.get(textOf(hash));
      if (id !== undefined) turns.push({ id, seq: before + j + 1, shownBy: commit });
    }
    before += decided[i]!.length;
  }
  return turns;
}

/** Of a rewrite: what stands behind all that had been stored before. */
function newlyDecided(commits: readonly CommittedTurns[]): CommittedTurns["decided"][] {
  if (!commits.some(({ isRewrite }) => isRewrite)) return commits.map(({ decided }) => decided);
  const known = new Map<string, number>();
  return commits.map(({ decided, isRewrite }) => {
    const lastKnown = isRewrite ? decided.findLastIndex(({ hash, second }) => known.get(textOf(hash)) === second) : -1;
    const fresh = decided.slice(lastKnown + 1);
    for (const { hash, second } of fresh) known.set(textOf(hash), second);
    return fresh;
  });
}

/** @param sink undefined where there is no log of a sink */
export function* judgeLog(
  view: LogView,
  options: LogOptions & { readonly complete: boolean },
  sink: SinkView | undefined,
): Iterable<Violation> {
  const say = (rule: LogRule, detail: string, slice: readonly HistoryLine[]): Violation => ({
    rule,
    conversation: view.name,
    detail,
    slice,
  });
  yield* turns(view, options, say);
  yield* leftovers(view, options, say);
  if (sink) yield* replies(view, options, sink, say);
}

export type Say = (rule: LogRule, detail: string, slice: readonly HistoryLine[]) => Violation;

/** Where a conversation stands after a commit. */
interface Standing {
  readonly record: Exclude<CommittedTurns["record"], string | null>;
  readonly by: CommittedTurns;
}

export interface FormerTurn {
  readonly second: number;
  readonly number: number;
  readonly by: CommittedTurns;
}

const CHAIN_START: Hash64 = { lo: 0, hi: 0 };
/** Of a record that was written before anything was consumed. */
const NO_CURSOR: Position = { entry: { ms: 0, seq: 0 }, index: -1 };

function* turns(view: LogView, options: LogOptions & { readonly complete: boolean }, say: Say): Iterable<Violation> {
  const former = new Map<string, FormerTurn>();
  const asides = new AsideJudge(view, options, say);
  let standing: Standing | undefined;
  let passedCount = 0;
  for (const [i, commit] of view.commits.entries()) {
    const { record } = commit;
    if (record === null) {
      const detail = `replies were put into the outbox without the record, in transaction ${commit.at}`;
      if (commit.replies.length > 0) yield say("reply-alone", detail, [commit]);
      continue;
    }
    if (typeof record === "string") {
      yield say("record-damaged", record, [commit]);
      continue;
    }
    const from = passedCount;
    while (passedCount < view.admitted.length) {
      if (comparePositions(view.admitted[passedCount]!.position, record.cursor) > 0) break;
      passedCount += 1;
    }
    const isBaseline = standing === undefined && !options.isWhole;
    const decided = isBaseline ? commit.decided : view.decided[i]!;
    if (!isBaseline) {
      const slice = standing ? [standing.by, commit] : [commit];
      const passed = view.admitted.slice(from, passedCount);
      const decisions = settled(decisionsOf(decided, commit.aside?.letters, view.markers), standing, record, asides);
      const sources = asides.sources(passed);
      yield* stepOf(standing, commit, record, decisions, asides, slice, say);
      if (options.isWhole) {
        yield* cursorOf(standing, commit, record, passed, view, passedCount, slice, say);
        yield* asides.commit({ commit, before: standing?.by, record, passed, decisions, former });
        yield* matchOf(commit, passed, sources, decided, former, asides, options, say);
      } else yield* repeatsOf(commit, decided, former, options, say);
    }
    for (const { hash, second } of decided) {
      former.set(textOf(hash), { second, number: former.size, by: commit });
    }
    standing = { record, by: commit };
  }
  if (options.isWhole) yield* asides.end();
}

/** With what became of each marker, which nothing but the chain says. */
function settled(
  decisions: readonly Decision[],
  standing: Standing | undefined,
  record: Standing["record"],
  asides: AsideJudge,
): readonly Decision[] {
  const { seq = 0, chain = CHAIN_START } = standing?.record ?? {};
  const mayComeAt = (index: number): boolean => asides.mayNoticeAt(decisions, index);
  return withMarkersTold(chain, record.chain, decisions, record.seq - seq - turnsAmong(decisions), mayComeAt);
}

const turnsAmong = (decisions: readonly Decision[]): number =>
  decisions.reduce((sum, { outcome }) => sum + (outcome === "turn" ? 1 : 0), 0);

/** The record itself: counters, beginning, chain. */
function* stepOf(
  standing: Standing | undefined,
  commit: CommittedTurns,
  record: Standing["record"],
  decisions: readonly Decision[],
  asides: AsideJudge,
  slice: readonly HistoryLine[],
  say: Say,
): Iterable<Violation> {
  const before = standing?.record;
  const seqBefore = before?.seq ?? 0;
  const outSeqBefore = before?.outSeq ?? 0;
  if (before && comparePositions(before.born, record.born) !== 0) {
    yield say("born", `the record began at ${formatBorn(before.born)} and now at ${formatBorn(record.born)}`, slice);
  }
  const turnCount = turnsAmong(decisions);
  const notices = record.seq - seqBefore - turnCount;
  if (record.seq < seqBefore) yield say("seq-back", `seq fell from ${seqBefore} to ${record.seq}`, slice);
  else if (notices < 0 || notices > asides.noticesMax(commit, standing?.by, decisions)) {
    const detail = `seq rose from ${seqBefore} to ${record.seq} with ${decisions.length} messages decided, ${turnCount} of them by a turn`;
    yield say("seq-jump", detail, slice);
  }
  if (before && comparePositions(record.cursor, before.cursor) < 0) {
    const detail = `the cursor fell from ${placeOf(before.cursor)} to ${placeOf(record.cursor)}`;
    yield say("cursor-back", detail, slice);
  }
  const mayComeAt = (index: number): boolean => asides.mayNoticeAt(decisions, index);
  if (!isChainOf(before?.chain ?? CHAIN_START, record.chain, decisions, Math.max(0, notices), mayComeAt)) {
    const detail = `the chain at seq ${record.seq} is not the fold over the chain at ${seqBefore} and ${decisions.length} messages decided`;
    yield say("chain", detail, slice);
  }
  const wholes = commit.replies.filter(({ part = 1 }) => part === 1).length;
  const expected = outSeqBefore + wholes + commit.transcribed;
  if (record.outSeq !== expected || !isNumbered(commit.replies, outSeqBefore)) {
    const numbers = commit.replies.map(({ outSeq }) => outSeq).slice(0, 8);
    const detail = `outSeq went from ${outSeqBefore} to ${record.outSeq} with ${expected - outSeqBefore} replies [${numbers.join(", ")}]`;
    yield say("out-seq", detail, slice);
  }
}

/** One after the other; parts of one share its number, and are numbered from 1. */
function isNumbered(replies: CommittedTurns["replies"], outSeqBefore: number): boolean {
  let last = { outSeq: outSeqBefore, part: 1 };
  return replies.every(({ outSeq, part = 1 }) => {
    const isNext = part === 1 ? outSeq === last.outSeq + 1 : outSeq === last.outSeq && part === last.part + 1;
    last = { outSeq, part };
    return isNext;
  });
}

function* cursorOf(
  standing: Standing | undefined,
  commit: CommittedTurns,
  record: Standing["record"],
  passed: readonly Admitted[],
  view: LogView,
  passedCount: number,
  slice: readonly HistoryLine[],
  say: Say,
): Iterable<Violation> {
  const last = view.admitted[passedCount - 1];
  const order = comparePositions(record.cursor, standing?.record.cursor ?? NO_CURSOR);
  if (order <= 0 || (last && comparePositions(last.position, record.cursor) === 0)) return;
  if (view.admitted.some(({ position }) => comparePositions(position, record.cursor) === 0)) return; // in an inbox out of order
  const detail = `the cursor is ${placeOf(record.cursor)}, where the inbox of ${commit.shard} had nothing of this conversation`;
  yield say("cursor-astray", detail, [...slice, ...passed.slice(-1)]);
}

/** The turns of one commit against the messages on the list before it and those that its cursor passed. */
function* matchOf(
  commit: CommittedTurns,
  passed: readonly Admitted[],
  sources: readonly Admitted[],
  decided: CommittedTurns["decided"],
  former: ReadonlyMap<string, FormerTurn>,
  asides: AsideJudge,
  options: LogOptions,
  say: Say,
): Iterable<Violation> {
  const places = new Map<string, number>();
  for (const [i, { idHash }] of sources.entries()) {
    const name = textOf(idHash);
    if (!places.has(name)) places.set(name, i);
  }
  const now = new Set<string>();
  let last = -1;
  for (const { hash, second } of decided) {
    const name = textOf(hash);
    const place = places.get(name);
    const earlier = former.get(name);
    if (now.has(name)) {
      yield say("turn-doubled", `one commit consumed ${nameIn(sources, place, name)} twice`, [commit]);
    } else if (earlier && isRemembered(earlier, second, former.size, options)) {
      const slice = [earlier.by, ...(place === undefined ? [] : [sources[place]!]), commit];
      yield say("turn-doubled", `${nameIn(sources, place, name)} had been consumed before`, slice);
    } else if (place === undefined) {
      const detail = `a turn consumed the id with hash ${name}, which was neither in the inbox between the cursors nor on the list`;
      yield say("turn-phantom", detail, [commit]);
    } else {
      const passedOver = asides.passedOver(sources, place, last);
      if (passedOver) {
        const detail = `${sources[place]!.id} stands before ${passedOver.id}, but was consumed after it`;
        yield say("turn-order", detail, [sources[place]!, passedOver, commit]);
      }
    }
    if (place !== undefined) last = Math.max(last, place);
    now.add(name);
  }
  for (const message of asides.leftBehind(sources, last, now, former)) {
    const detail = `${message.id} stood on the waiting list, and what stands behind it was consumed before it`;
    yield say("turn-order", detail, [message, commit]);
  }
  for (const message of passed) {
    const name = textOf(message.idHash);
    if (now.has(name) || former.has(name) || asides.isOnList(message)) continue;
    const detail = `the cursor passed ${message.id} at ${placeOf(message.position)}, and no turn consumed it`;
    yield say("turn-skipped", detail, [message, commit]);
  }
}

/** Without a whole inbox: nothing but that no id comes twice. */
function* repeatsOf(
  commit: CommittedTurns,
  decided: CommittedTurns["decided"],
  former: ReadonlyMap<string, FormerTurn>,
  options: LogOptions,
  say: Say,
): Iterable<Violation> {
  for (const { hash, second } of decided) {
    const earlier = former.get(textOf(hash));
    if (!earlier || !isRemembered(earlier, second, former.size, options)) continue;
    yield say("turn-doubled", `the id with hash ${textOf(hash)} had been consumed before`, [earlier.by, commit]);
  }
}

function isRemembered(earlier: FormerTurn, second: number, count: number, options: LogOptions): boolean {
  return (second - earlier.second) * 1_000 <= options.dedupeMs && count - earlier.number <= options.dedupeMax;
}

function* leftovers(view: LogView, { complete }: { readonly complete: boolean }, say: Say): Iterable<Violation> {
  let cursor: Position | undefined;
  for (const { record } of view.commits) if (record !== null && typeof record !== "string") cursor = record.cursor;
  const places = new Map(view.asides.length > 0 ? view.admitted.map((each) => [placeOf(each.position), each]) : []);
  const atPlace = (at: Position): Admitted[] => [places.get(placeOf(at))].filter((found) => found !== undefined);
  for (const aside of view.asides) {
    if (aside.kind === "let-go") {
      const detail = `the inbox entry ${formatEntryId(aside.position!.entry)} went before its message was decided`;
      yield say("let-go", detail, [...atPlace(aside.position!), aside]);
    } else if (aside.kind === "waiting" && complete && (!cursor || comparePositions(aside.position!, cursor) > 0)) {
      const detail = `the message at ${placeOf(aside.position!)} is still in the inbox`;
      yield say("waits", detail, [...atPlace(aside.position!), aside]);
    }
  }
}

function* replies(
  view: LogView,
  { isWhole, complete }: LogOptions & { complete: boolean },
  sink: SinkView,
  say: Say,
): Iterable<Violation> {
  const open = new Set(view.asides.flatMap((aside) => (aside.kind === "open" ? [replyNamed(aside)] : [])));
  const stored = new Map<string, { readonly bodyHash: string; readonly by: CommittedTurns }>();
  for (const commit of view.commits) {
    for (const { outSeq, part, born, bodyHash } of commit.replies) {
      const name = nameOfReply({ outSeq, part });
      stored.set(`${born}.${name}`, { bodyHash, by: commit });
      if (view.dead.has(name) || sink.get(name)?.delivered) continue;
      const attempts = sink.get(name)?.attempts ?? [];
      if (!open.has(name)) {
        const detail = `reply ${name} left the outbox or its lane's list, was not delivered and is no dead letter`;
        yield say("reply-lost", detail, [commit, ...attempts]);
      } else if (complete && outSeq < view.haltedFrom) {
        yield say("reply-waits", `reply ${name} is still in the outbox or on its lane's list`, [commit, ...attempts]);
      }
    }
  }
  if (!isWhole) return;
  for (const [name, { attempts }] of sink) {
    for (const attempt of attempts) {
      const known = stored.get(attempt.key.slice(attempt.key.lastIndexOf("~") + 1));
      if (known?.bodyHash === attempt.bodyHash) continue;
      if (!known) yield say("reply-unknown", `the sink received reply ${name}, which no commit contains`, [attempt]);
      else yield say("reply-bytes", `reply ${name} is not what its commit stored`, [known.by, attempt]);
      break;
    }
  }
}

function nameIn(sources: readonly Admitted[], place: number | undefined, hash: string): string {
  return place === undefined ? `the id with hash ${hash}` : sources[place]!.id;
}

export const placeOf = ({ entry, index }: Position): string => `${formatEntryId(entry)}/${index}`;
