// Laws: what every run must come to, judged from what was admitted and what became durable, and from nothing that the
// functions under test say about themselves.

import { type ExternalPlace, placeOf } from "../../../src/domain/external-order.ts";
import type { Position } from "../../../src/domain/position.ts";
import { comparePositions } from "../../../src/domain/position.ts";
import { nextChain } from "../../../src/domain/record.ts";
import { HANDLER_BACKOFF, retryDelayMs } from "../../../src/domain/retry-policy.ts";
import { type Line, noticeLabel } from "./conversation.ts";
import type { History } from "./schedule.ts";

/**
 * `accounted` P1: every message is exactly one of turn, duplicate, late, dead, skipped, waiting, and waits only at a
 * visible halt. `once` P2: of each id one is decided, the first that was admitted; all others are its duplicates.
 * `order` P3: numbers rise, and where they are contiguous none is passed without a gap that names it. `late`: only what
 * had not come when what follows it was let go. `gap`, `clock`: a gap names what is really missing, at its time, and
 * nothing else is passed. `poison`: attempts and deaths as in DESIGN 5. `notice`: told before anything else. `state`
 * P5: state, replies, seq and chain are the fold of the decided. `record`: the cursor, the extent of the list,
 * recovery.
 */
export const LAWS = [
  "accounted",
  "once",
  "order",
  "late",
  "gap",
  "clock",
  "poison",
  "notice",
  "state",
  "record",
] as const;
export type Law = (typeof LAWS)[number];

export interface Breach {
  readonly law: Law;
  readonly how: string;
}

type Decided = Extract<Line, { released: unknown }>;

const isDecided = (line: Line): line is Decided => "released" in line;
const keyOf = (position: Position): string => `${position.entry.ms}/${position.index}`;
const compare = (a: ExternalPlace, b: ExternalPlace): number => a.epoch - b.epoch || a.sequence - b.sequence;
const name = (place: ExternalPlace): string => `${place.epoch}:${place.sequence}`;

export function judge(history: History): Breach[] {
  const breaches: Breach[] = history.broken.map((text) => {
    const [law, how] = text.split(": ");
    return { law: law as Law, how: how! };
  });
  const breach = (law: Law, how: string): void => {
    breaches.push({ law, how });
  };
  judgeAccounts(history, breach);
  judgeRepeats(history, breach);
  if (history.setting.order.mode === "arrival") judgeArrival(history, breach);
  else judgePlaces(history, breach);
  judgeAttempts(history, breach);
  judgeNotices(history, breach);
  judgeState(history, breach);
  const inOrder = inOrderRun(history);
  if (inOrder !== null && inOrder.join() !== history.durable.state.filter((label) => label.startsWith("m:")).join())
    breach("order", "the state is not that of the in-order run");
  return breaches;
}

/** The state of the run without repeats, losses and swaps; null where something was set aside, passed or waits. */
export function inOrderRun({ admitted, durable, setting }: History): string[] | null {
  const isWhole = durable.log.every(
    (line) => line.what !== "gap-passed" && (!isDecided(line) || (line.what === "turn" && !line.isLate)),
  );
  const isPlaced = admitted.every(({ message }) => placeOf(message) !== null);
  if (!isWhole || durable.record?.extra?.halt !== undefined) return null;
  if (setting.order.mode !== "arrival" && !isPlaced) return null;
  const seen = new Set<number>();
  const firsts = admitted.map(({ message }) => message).filter(({ id }) => !seen.has(id) && seen.add(id));
  if (setting.order.mode !== "arrival") firsts.sort((a, b) => compare(placeOf(a)!, placeOf(b)!));
  return firsts.map(({ id }) => `m:${id}`);
}

type Tell = (law: Law, how: string) => void;

function judgeAccounts({ admitted, inbox, durable, setting }: History, breach: Tell): void {
  const accounts = new Map<string, string[]>();
  for (const { message } of admitted) accounts.set(keyOf(message.position), []);
  const enter = (position: Position, what: string): void => {
    const account = accounts.get(keyOf(position));
    if (account === undefined) breach("accounted", `${what} of a message that was never admitted`);
    else account.push(what);
  };
  for (const line of durable.log) if ("message" in line) enter(line.message.position, line.what);
  for (const message of durable.list.values()) enter(message.position, "waiting");
  const cursor = durable.record?.cursor;
  for (const message of inbox) {
    if (cursor === undefined || comparePositions(message.position, cursor) > 0) enter(message.position, "waiting");
  }
  let waiting = 0;
  for (const [position, account] of accounts) {
    if (account.length !== 1) breach("accounted", `${position} is ${account.join(" and ") || "lost"}`);
    if (account.includes("waiting")) waiting += 1;
  }
  const halt = durable.record?.extra?.halt;
  if (waiting > 0 && halt === undefined) breach("accounted", `${waiting} wait, and no halt is visible`);
  if (halt !== undefined && setting.ordering === "available") breach("accounted", `available halts: ${halt.reason}`);
  if (halt === undefined && durable.record?.extra?.openTurn !== undefined) breach("accounted", "a turn stays open");
  if (durable.record?.extra?.notices !== undefined) breach("notice", "a notice was never told");
}

/** The first that was admitted is decided, the others are its duplicates. */
function judgeRepeats({ admitted, durable }: History, breach: Tell): void {
  const firsts = new Map<number, { readonly position: Position; readonly bodyHash: number }>();
  for (const { message } of admitted) if (!firsts.has(message.id)) firsts.set(message.id, message);
  for (const line of durable.log) {
    if (!("message" in line)) continue;
    const first = firsts.get(line.message.id)!;
    const isFirst = comparePositions(first.position, line.message.position) === 0;
    if (line.what === "duplicate") {
      if (isFirst) breach("once", "what was never admitted before is called a duplicate");
      if (line.conflict !== (first.bodyHash !== line.message.bodyHash)) breach("once", "conflict and body disagree");
    } else if (!isFirst) breach("once", `a repeat is decided as ${line.what}`);
  }
}

function judgeArrival({ durable }: History, breach: Tell): void {
  let last: Position | null = null;
  for (const line of durable.log) {
    if (!isDecided(line)) continue;
    if (line.isLate || line.what === "late") breach("late", "late by arrival");
    const { position } = line.message;
    if (last !== null && comparePositions(position, last) <= 0) breach("order", "not in order of arrival");
    last = position;
  }
}

function judgePlaces(history: History, breach: Tell): void {
  const { durable, setting } = history;
  const order = setting.order as Exclude<typeof setting.order, { mode: "arrival" }>;
  const admittedAt = new Map(history.admitted.map(({ message, event }) => [keyOf(message.position), event]));
  const passed: { readonly place: ExternalPlace; readonly line: Decided | null; readonly position: Position | null }[] =
    [];
  /** The number that comes next, by epoch; told by what was decided. */
  let now: ExternalPlace | null = null;
  const inGaps = new Set<string>();
  for (const line of durable.log) {
    if (line.what === "gap-passed") {
      for (let sequence = line.from; sequence <= line.to; sequence += 1)
        inGaps.add(name({ epoch: line.epoch, sequence }));
      if (line.to < line.from) breach("gap", "it names nothing");
      const expected = now?.epoch === line.epoch ? now.sequence + 1 : firstOf(order);
      if (expected !== line.from) breach("gap", `it begins with ${line.from}, not with ${expected}`);
      now = { epoch: line.epoch, sequence: line.to };
      passed.push({ place: now, line: null, position: null });
    }
    if (!isDecided(line)) continue;
    const place = placeOf(line.message);
    if (place === null) {
      if (line.isLate) breach("late", "what has no number is late");
      continue;
    }
    if (line.isLate) {
      judgeLate(line, place);
      continue;
    }
    if (now !== null && compare(place, now) <= 0) breach("order", `${name(place)} is decided after ${name(now)}`);
    if (order.mode === "contiguous") {
      const expected: number | null = now?.epoch === place.epoch ? now.sequence + 1 : firstOf(order);
      if (expected !== null && place.sequence !== expected)
        breach("order", `${name(place)} is decided where ${expected} comes next`);
    }
    if (order.mode === "monotonic" || now?.epoch !== place.epoch) judgeSettled(line);
    now = place;
    passed.push({ place, line, position: line.message.position });
  }

  /** What a baseline or holes make wait: for settleMs from the admission of the oldest that it goes with. */
  function judgeSettled(line: Decided): void {
    if (firstOf(order) !== null || order.settleMs === 0 || line.released.isOverflow) return;
    if (line.released.via === "head") breach("clock", "it goes at once where it has to settle");
  }

  function judgeLate(line: Decided, place: ExternalPlace): void {
    if (setting.ordering === "strict" && line.what === "turn") breach("late", "strict runs what is late");
    const first = firstOf(order);
    if (first !== null && place.sequence < first) return;
    const above = passed.filter((other) => compare(other.place, place) >= 0 || inGaps.has(name(place)));
    if (above.length === 0) {
      breach("late", `${name(place)} is late, and nothing that follows it was decided`);
      return;
    }
    const admitted = admittedAt.get(keyOf(line.message.position))!;
    const isExcused = above.some(({ place: other, line: by, position }) => {
      if (by === null) return true; // a gap; whether it was right is judged there
      if (compare(other, place) === 0 && comparePositions(position!, line.message.position) < 0) return true;
      if (by.released.isOverflow || admitted >= by.released.event) return true;
      if (other.epoch > place.epoch && first !== null) return true; // the end of an epoch cannot be seen
      const isAtOnce = by.released.via === "head" && comparePositions(line.message.position, position!) > 0;
      return isAtOnce && order.settleMs === 0;
    });
    if (!isExcused) breach("late", `${name(place)} had come when what follows it was let go`);
  }

  judgeGaps(history, breach);
}

const firstOf = (order: History["setting"]["order"]): number | null =>
  order.mode === "contiguous" ? order.firstSequence : null;

/** What a gap names had not been admitted, unless too many waited; a gap halt at the end is of what never came. */
function judgeGaps({ admitted, durable, setting }: History, breach: Tell): void {
  const { order } = setting;
  if (order.mode !== "contiguous") return;
  const placed = admitted.flatMap(({ message, event }) => {
    const place = placeOf(message);
    return place === null ? [] : [{ place, event }];
  });
  const came = (epoch: number, from: number, to: number, before: number): boolean =>
    placed.some(
      ({ place, event }) => place.epoch === epoch && place.sequence >= from && place.sequence <= to && event < before,
    );
  let retriedAtMs: number | null = null;
  let named: Extract<Line, { from: number }> | null = null;
  for (const line of durable.log) {
    if (line.what === "gap") named = line;
    if (line.what === "gap-passed") {
      const isNamed = named?.epoch === line.epoch && named.from === line.from && line.to <= named.to;
      if (!isNamed) breach("gap", `${line.from} to ${line.to} are passed, and were not called missing`);
      named = null;
    }
    if (line.what === "retried" && line.halt === "gap") retriedAtMs = line.atMs;
    if (isDecided(line) && !line.isLate && placeOf(line.message) !== null) retriedAtMs = null;
    if (line.what === "gap" && retriedAtMs !== null && line.atMs < retriedAtMs + order.gapTimeoutMs)
      breach("clock", "a gap that is to be waited for once more is not");
    if (line.what === "gap" && order.maxHeld === 64 && came(line.epoch, line.from, line.to, line.event))
      breach("gap", `${line.from} to ${line.to} are called missing, and one had come`);
  }
  const halt = durable.record?.extra?.halt;
  if (halt?.reason !== "gap") return;
  const last = durable.log.findLast((line) => line.what === "gap");
  if (last?.what === "gap" && came(last.epoch, last.from, last.from, Number.POSITIVE_INFINITY))
    breach("accounted", `halted for ${last.from}, which has come`);
}

function judgeAttempts({ durable, setting }: History, breach: Tell): void {
  const { maxAttempts, poisonMinMs } = setting.poison;
  const turns = new Map<string, { attempts: number; firstMs: number; lastMs: number; deaths: number; over: boolean }>();
  const turnAt = (position: Position) => {
    const key = keyOf(position);
    let turn = turns.get(key);
    if (turn === undefined) {
      turn = { attempts: 0, firstMs: 0, lastMs: 0, deaths: 0, over: false };
      turns.set(key, turn);
    }
    return turn;
  };
  let open: Position | null = null;
  durable.log.forEach((line, i) => {
    const isPoisonNext = durable.log[i + 1]?.what === "poison";
    if (line.what === "failed") {
      const turn = turnAt(line.position);
      const soonestMs = turn.lastMs + retryDelayMs(HANDLER_BACKOFF, Math.max(1, turn.attempts), 0);
      if (turn.attempts > 0 && line.atMs < soonestMs) breach("poison", "it runs again before its backoff is over");
      if (turn.attempts === 0) turn.firstMs = line.atMs;
      turn.attempts += 1;
      turn.lastMs = line.atMs;
      const isOver = turn.attempts >= maxAttempts && line.atMs - turn.firstMs >= poisonMinMs;
      if (line.attempts !== turn.attempts) breach("poison", `attempt ${turn.attempts} counts as ${line.attempts}`);
      if (isPoisonNext !== (isOver || line.isTerminal))
        breach("poison", `attempt ${turn.attempts} ${isPoisonNext ? "is" : "is not"} its last`);
      open = line.position;
    }
    if (line.what === "died") {
      const turn = turnAt(line.position);
      turn.deaths += 1;
      if (isPoisonNext !== turn.deaths >= 3) breach("poison", `death ${turn.deaths} alone`);
      open = line.position;
    }
    if (line.what === "retried" && line.halt === "poison") turns.clear();
    if ((isDecided(line) || line.what === "notice" || line.what === "notice-dead") && open !== null) {
      const position = isDecided(line) ? line.message.position : line.notice.position;
      if (comparePositions(position, open) !== 0) breach("order", "something passed an open turn");
      open = null;
      turns.clear(); // a notice has the position of what it is about
    }
    if (line.what === "dead" && durable.log[i - 1]?.what !== "poison") breach("poison", "dead, but no poison");
  });
}

function judgeNotices({ durable, setting }: History, breach: Tell): void {
  const due: string[] = [];
  for (const line of durable.log) {
    if (line.what === "notice" || line.what === "notice-dead") {
      if (due.shift() !== noticeLabel(line.notice))
        breach("notice", "a notice that nothing called for, or out of turn");
    } else if (line.what === "turn" && due.length > 0) breach("notice", `a message ran before ${due[0]}`);
    if (setting.ordering === "strict") continue;
    if (line.what === "dead") due.push(`poisoned:${line.message.id}`);
    if (line.what === "gap-passed") due.push(`gap:${line.from}-${line.to}`);
  }
}

function judgeState({ durable }: History, breach: Tell): void {
  let chain = { lo: 0, hi: 0 };
  const state: string[] = [];
  for (const line of durable.log) {
    if (line.what === "notice") {
      chain = nextChain(chain, { lo: 0, hi: 0 }, "turn");
      state.push(noticeLabel(line.notice));
    }
    if (!isDecided(line)) continue;
    chain = nextChain(chain, line.message.idHash, line.what);
    if (line.what === "turn") state.push(`${line.isLate ? "late" : "m"}:${line.message.id}`);
  }
  const { record, replies } = durable;
  if (durable.state.join() !== state.join()) breach("state", "the state is not the fold of the turns");
  if (replies.join() !== state.map((label, i) => `${i + 1}:${label}`).join())
    breach("state", "the replies are not one for each turn, numbered from 1");
  if (record === null) return;
  if (record.seq !== state.length) breach("state", `seq ${record.seq} after ${state.length} turns`);
  if (record.chain.lo !== chain.lo || record.chain.hi !== chain.hi) breach("state", "the chain links something else");
}
