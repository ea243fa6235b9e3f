// Log judge: decides from the store's own log whether each turn of a conversation was committed as it must be. Pure.
//
// A commit stores a conversation's record once, however many turns it holds. Which turns, and in what order, is told by the
// ids that the same transaction stores; that these are the turns behind the record is told by its `chain`; and what the turns
// had to be, by the messages in the inbox between the former cursor and the new one.
//
// Rules, by the invariant of verdict.ts that they attack
//   I1  turn-skipped     the cursor passed a message that no turn consumed and that is no duplicate
//       let-go           an inbox entry went before the commit that decided its message
//   I2  turn-doubled     a message was consumed again within the time and the number of ids that duplicates are known for
//   I3  turn-phantom     a turn consumed what is not in the inbox between the cursors
//   I4  turn-order       turns consumed in another order than the inbox has
//   I6  reply-lost       a committed reply left the outbox without a 2xx from the sink and without becoming a dead letter
//       reply-waits      a committed reply is still in the outbox at the end, though its lane is not halted
//   I8  reply-unknown    the sink received a reply that no commit contains
//       reply-alone      a reply was put into the outbox by a transaction without its record
//   I9  reply-bytes      what the sink received is not what the commit stored
//   I11 chain            the chain is not the fold over the turns
//       seq-jump         seq did not rise by the number of turns
//       seq-back         seq fell
//       cursor-back      the cursor fell
//       cursor-astray    the cursor stands where no message of the conversation is
//       out-seq          outSeq did not rise by the number of replies, or replies are not numbered one after the other
//       born             a record of the same conversation has another beginning
//       record-damaged   the stored bytes are no record, or it was removed
//   I14 waits            a message is still in the inbox at the end

import type { Hash64 } from "../domain/hash.ts";
import { comparePositions, formatBorn, formatEntryId, type Position } from "../domain/position.ts";
import { nextChain, type TurnOutcome } from "../domain/record.ts";
import type { Admitted, Aside, CommittedTurns, DeliveryAttempt, HistoryLine, StoreEvent } from "./history.ts";
import type { Violation } from "./judge.ts";

export type LogRule =
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
  /** In the order of the log. */
  readonly commits: readonly CommittedTurns[];
  readonly asides: readonly Aside[];
  readonly consumed: readonly LoggedTurn[];
  /** Ids of messages in the inbox at the end. */
  readonly waiting: ReadonlySet<string>;
  /** Replies that became dead letters. */
  readonly dead: ReadonlySet<number>;
  /** The reply at which the lane stands still for an operator; infinite if it does not. */
  readonly haltedFrom: number;
}

/** The replies of a conversation as the sink saw them, by their number. */
export type SinkView = ReadonlyMap<
  number,
  {
    readonly first: DeliveryAttempt;
    readonly attempts: readonly DeliveryAttempt[];
    readonly delivered: DeliveryAttempt | undefined;
  }
>;

/** @param events of one conversation, in the order of the log */
export function viewLog(name: string, events: readonly StoreEvent[]): LogView {
  const admitted: Admitted[] = [];
  const commits: CommittedTurns[] = [];
  const asides: Aside[] = [];
  for (const event of events) {
    if (event.kind === "admitted") admitted.push(event);
    else if (event.kind === "committed") commits.push(event);
    else asides.push(event);
  }
  const waitingAt = new Set(asides.flatMap(({ kind, position }) => (kind === "waiting" ? [placeOf(position!)] : [])));
  const halts = asides.flatMap(({ kind, outSeq }) => (kind === "halted" ? [outSeq!] : []));
  return {
    name,
    admitted,
    commits,
    asides,
    consumed: turnsOf(admitted, commits),
    waiting: new Set(admitted.filter(({ position }) => waitingAt.has(placeOf(position))).map(({ id }) => id)),
    dead: new Set(asides.flatMap(({ kind, outSeq }) => (kind === "dead" ? [outSeq!] : []))),
    haltedFrom: Math.min(Number.POSITIVE_INFINITY, ...halts),
  };
}

function turnsOf(admitted: readonly Admitted[], commits: readonly CommittedTurns[]): LoggedTurn[] {
  const names = new Map(admitted.map(({ idHash, id }) => [textOf(idHash), id]));
  const turns: LoggedTurn[] = [];
  let before = 0;
  for (const commit of commits) {
    if (typeof commit.record !== "object" || commit.record === null) continue;
    const decided = newlyDecided(commit, commit.record.seq - before);
    for (const [i, { hash }] of decided.entries()) {
      const id = names.get(textOf(hash));
      if (id !== undefined) turns.push({ id, seq: before + i + 1, shownBy: commit });
    }
    before = commit.record.seq;
  }
  return turns;
}

/** Of a rewrite nothing but the count tells which slots are new. */
function newlyDecided({ decided, isRewrite }: CommittedTurns, count: number): CommittedTurns["decided"] {
  return isRewrite ? decided.slice(Math.max(0, decided.length - Math.max(0, count))) : decided;
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

type Say = (rule: LogRule, detail: string, slice: readonly HistoryLine[]) => Violation;

/** Where a conversation stands after a commit. */
interface Standing {
  readonly record: Exclude<CommittedTurns["record"], string | null>;
  readonly by: CommittedTurns;
}

interface FormerTurn {
  readonly second: number;
  readonly number: number;
  readonly by: CommittedTurns;
}

const CHAIN_START: Hash64 = { lo: 0, hi: 0 };

function* turns(view: LogView, options: LogOptions, say: Say): Iterable<Violation> {
  const former = new Map<string, FormerTurn>();
  let standing: Standing | undefined;
  let passedCount = 0;
  for (const commit of view.commits) {
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
    if (!isBaseline) {
      const slice = standing ? [standing.by, commit] : [commit];
      const passed = view.admitted.slice(from, passedCount);
      const decided = newlyDecided(commit, record.seq - (standing?.record.seq ?? 0));
      yield* stepOf(standing, commit, record, decided, slice, say);
      if (options.isWhole) {
        yield* cursorOf(standing, commit, record, passed, view.admitted[passedCount - 1], slice, say);
        yield* matchOf(commit, passed, decided, former, options, say);
      } else yield* repeatsOf(commit, decided, former, options, say);
    }
    for (const { hash, second } of isBaseline
      ? commit.decided
      : newlyDecided(commit, record.seq - (standing?.record.seq ?? 0))) {
      former.set(textOf(hash), { second, number: former.size, by: commit });
    }
    standing = { record, by: commit };
  }
}

/** The record itself: counters, beginning, chain. */
function* stepOf(
  standing: Standing | undefined,
  commit: CommittedTurns,
  record: Standing["record"],
  decided: CommittedTurns["decided"],
  slice: readonly HistoryLine[],
  say: Say,
): Iterable<Violation> {
  const before = standing?.record;
  const seqBefore = before?.seq ?? 0;
  const outSeqBefore = before?.outSeq ?? 0;
  if (before && comparePositions(before.born, record.born) !== 0) {
    yield say("born", `the record began at ${formatBorn(before.born)} and now at ${formatBorn(record.born)}`, slice);
  }
  if (record.seq < seqBefore) yield say("seq-back", `seq fell from ${seqBefore} to ${record.seq}`, slice);
  else if (record.seq - seqBefore !== decided.length) {
    const detail = `seq rose from ${seqBefore} to ${record.seq} with ${decided.length} messages decided`;
    yield say("seq-jump", detail, slice);
  }
  if (before && comparePositions(record.cursor, before.cursor) < 0) {
    const detail = `the cursor fell from ${placeOf(before.cursor)} to ${placeOf(record.cursor)}`;
    yield say("cursor-back", detail, slice);
  }
  if (!isChainOf(before?.chain ?? CHAIN_START, record.chain, decided)) {
    const detail = `the chain at seq ${record.seq} is not the fold over the chain at ${seqBefore} and ${decided.length} turns`;
    yield say("chain", detail, slice);
  }
  const expected = outSeqBefore + commit.replies.length + commit.transcribed;
  const isNumbered = commit.replies.every(({ outSeq }, i) => outSeq === outSeqBefore + i + 1);
  if (record.outSeq !== expected || !isNumbered) {
    const numbers = commit.replies.map(({ outSeq }) => outSeq).slice(0, 8);
    const detail = `outSeq went from ${outSeqBefore} to ${record.outSeq} with ${expected - outSeqBefore} replies [${numbers.join(", ")}]`;
    yield say("out-seq", detail, slice);
  }
}

function* cursorOf(
  standing: Standing | undefined,
  commit: CommittedTurns,
  record: Standing["record"],
  passed: readonly Admitted[],
  last: Admitted | undefined,
  slice: readonly HistoryLine[],
  say: Say,
): Iterable<Violation> {
  const fell = standing && comparePositions(record.cursor, standing.record.cursor) < 0;
  if (fell || (last && comparePositions(last.position, record.cursor) === 0)) return;
  const detail = `the cursor is ${placeOf(record.cursor)}, where the inbox of ${commit.shard} had no message of this conversation`;
  yield say("cursor-astray", detail, [...slice, ...passed.slice(-1)]);
}

/** The turns of one commit against the messages that its cursor passed. */
function* matchOf(
  commit: CommittedTurns,
  passed: readonly Admitted[],
  decided: CommittedTurns["decided"],
  former: ReadonlyMap<string, FormerTurn>,
  options: LogOptions,
  say: Say,
): Iterable<Violation> {
  const places = new Map<string, number>();
  for (const [i, { idHash }] of passed.entries()) {
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
      yield say("turn-doubled", `one commit consumed ${nameIn(passed, place, name)} twice`, [commit]);
    } else if (earlier && isRemembered(earlier, second, former.size, options)) {
      const slice = [earlier.by, ...(place === undefined ? [] : [passed[place]!]), commit];
      yield say("turn-doubled", `${nameIn(passed, place, name)} had been consumed before`, slice);
    } else if (place === undefined) {
      const detail = `a turn consumed the id with hash ${name}, which was not in the inbox between the cursors`;
      yield say("turn-phantom", detail, [commit]);
    } else if (place < last) {
      const detail = `${passed[place]!.id} stands before ${passed[last]!.id} in the inbox, but was consumed after it`;
      yield say("turn-order", detail, [passed[place]!, passed[last]!, commit]);
    }
    if (place !== undefined) last = Math.max(last, place);
    now.add(name);
  }
  for (const message of passed) {
    const name = textOf(message.idHash);
    if (now.has(name) || former.has(name)) continue;
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
  const open = new Set(view.asides.flatMap(({ kind, outSeq }) => (kind === "open" ? [outSeq!] : [])));
  const stored = new Map<string, { readonly bodyHash: string; readonly by: CommittedTurns }>();
  for (const commit of view.commits) {
    for (const { outSeq, born, bodyHash } of commit.replies) {
      stored.set(`${born}.${outSeq}`, { bodyHash, by: commit });
      if (view.dead.has(outSeq) || sink.get(outSeq)?.delivered) continue;
      const attempts = sink.get(outSeq)?.attempts ?? [];
      if (!open.has(outSeq)) {
        const detail = `reply ${outSeq} left the outbox, was not delivered and is no dead letter`;
        yield say("reply-lost", detail, [commit, ...attempts]);
      } else if (complete && outSeq < view.haltedFrom) {
        yield say("reply-waits", `reply ${outSeq} is still in the outbox`, [commit, ...attempts]);
      }
    }
  }
  if (!isWhole) return;
  for (const [outSeq, { attempts }] of sink) {
    for (const attempt of attempts) {
      const known = stored.get(attempt.key.slice(attempt.key.lastIndexOf("~") + 1));
      if (known?.bodyHash === attempt.bodyHash) continue;
      if (!known) yield say("reply-unknown", `the sink received reply ${outSeq}, which no commit contains`, [attempt]);
      else yield say("reply-bytes", `reply ${outSeq} is not what its commit stored`, [known.by, attempt]);
      break;
    }
  }
}

/** Outcomes other than `turn` that are looked for in one commit; more would be a search without end. */
const OTHER_OUTCOMES_MAX = 2;
const OTHER_OUTCOMES: readonly TurnOutcome[] = ["dead", "late", "skipped"];

/** Is `after` the chain behind these decisions, whatever the outcome of a few of them? */
function isChainOf(before: Hash64, after: Hash64, decided: CommittedTurns["decided"]): boolean {
  const fold = (chain: Hash64, from: number, others: number): boolean => {
    if (others === 0) {
      let end = chain;
      for (let i = from; i < decided.length; i += 1) end = nextChain(end, decided[i]!.hash, "turn");
      return end.lo === after.lo && end.hi === after.hi;
    }
    let start = chain;
    for (let i = from; i < decided.length; i += 1) {
      for (const outcome of OTHER_OUTCOMES) {
        if (fold(nextChain(start, decided[i]!.hash, outcome), i + 1, others - 1)) return true;
      }
      start = nextChain(start, decided[i]!.hash, "turn");
    }
    return false;
  };
  for (let others = 0; others <= Math.min(OTHER_OUTCOMES_MAX, decided.length); others += 1) {
    if (others === OTHER_OUTCOMES_MAX && decided.length > 64) break;
    if (fold(before, 0, others)) return true;
  }
  return false;
}

function nameIn(passed: readonly Admitted[], place: number | undefined, hash: string): string {
  return place === undefined ? `the id with hash ${hash}` : passed[place]!.id;
}

const textOf = ({ lo, hi }: Hash64): string => hi.toString(16).padStart(8, "0") + lo.toString(16).padStart(8, "0");

const placeOf = ({ entry, index }: Position): string => `${formatEntryId(entry)}/${index}`;
