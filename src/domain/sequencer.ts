// Sequencer: decides what happens to the message at the head of a mailbox, and what those that are held allow. Pure:
// (record, ids, rules, message) -> decision. An open turn and a halt go before all of this; whoever asks sees to that.
//
// Invariants
//   Q1. A position at or below the cursor was consumed by a committed turn and is never released again (P2 after a
//       crash). Of what is on the waiting list the cursor says nothing.
//   Q2. Only an id proves a duplicate (P2, attack B8): one that was decided, or one that is held.
//   Q3. What is released stands above all that was processed and below all that is held (P3). What stands lower than
//       what was processed is late; of two with the same place the one admitted first goes.
//   Q4. A missing number is passed only by a gap, which names it, and only when its time is up or more than `maxHeld`
//       wait.
//   Q5. Decisions depend on nothing that a crash forgets: clocks start at admission, which the position tells.
//
// Epochs. The end of an epoch cannot be seen: numbers missing there are no gap, and what comes of them once a higher
// epoch has begun is late. A higher epoch begins only when nothing of a lower one is held, by the same rules as a new
// conversation: `firstSequence`, or the lowest within `settleMs`. Where a gap is passed, it lies in the epoch of what
// follows it.

import {
  comparePlaces,
  type ExternalOrder,
  type ExternalPlace,
  type OrderState,
  orderPast,
  placeOf,
} from "./external-order.ts";
import type { Hash64 } from "./hash.ts";
import type { InboxMessage } from "./message.ts";
import { comparePositions } from "./position.ts";
import type { RecentIds } from "./recent-ids.ts";
import type { ConversationRecord } from "./record.ts";

export type Decision =
  /** Read again after a crash; its effect is already in the record. Only of the inbox. */
  | { readonly kind: "consumed" }
  /** Admitted before under this id; `conflict` if with another body. The first one won. */
  | { readonly kind: "duplicate"; readonly conflict: boolean }
  /** Next in order: run its turn. `order` is what stands in the record after it. */
  | { readonly kind: "release"; readonly order: OrderState | undefined }
  /** Lower numbers may come first. It stays, or goes, on the waiting list and to those that are held. */
  | { readonly kind: "hold" }
  /** What follows it was processed before. */
  | { readonly kind: "late"; readonly order: OrderState | undefined };

/** What is held for order now. */
export interface HeldView {
  readonly count: number;
  readonly lowest: ExternalPlace | null;
  /** Admission of the one admitted first, ms of Redis time. */
  readonly oldestMs: number | null;
  has(idHash: Hash64): boolean;
  /** Undefined if none of this id is held. */
  bodyHashOf(idHash: Hash64): number | undefined;
}

/** What the held ones allow now. */
export type HeldDecision =
  | { readonly kind: "nothing" }
  /** Run the turn of the lowest. */
  | { readonly kind: "release"; readonly order: OrderState }
  /** The lowest shares its place with one that was processed. */
  | { readonly kind: "late"; readonly order: OrderState | undefined }
  /** Ask again at this time, ms of Redis time, or when something else is held or processed. */
  | { readonly kind: "wait"; readonly untilMs: number }
  /**
   * Numbers `from` to `to` of epoch `order.epoch` are missing, and their time is up or too many wait. `order`: after
   * passing them.
   */
  | { readonly kind: "gap"; readonly from: number; readonly to: number; readonly order: OrderState };

export const NOTHING_HELD: HeldView = Object.freeze({
  count: 0,
  lowest: null,
  oldestMs: null,
  has: () => false,
  bodyHashOf: () => undefined,
});

const CONSUMED: Decision = Object.freeze({ kind: "consumed" });
const HOLD: Decision = Object.freeze({ kind: "hold" });
/** Whoever goes by arrival keeps no numbers: what was kept under another mode would be stale when that comes back. */
const RELEASE_BY_ARRIVAL: Decision = Object.freeze({ kind: "release", order: undefined });
const NOTHING: HeldDecision = Object.freeze({ kind: "nothing" });

/**
 * Decides a message that is not held.
 * @param from of the `inbox` the cursor counts, of the `waiting` list it does not
 * @param held what is held of this conversation now
 */
export function sequence(
  record: ConversationRecord,
  ids: Pick<RecentIds, "seen">,
  rules: ExternalOrder,
  message: Pick<InboxMessage, "position" | "idHash" | "bodyHash" | "sequence" | "extra">,
  from: "inbox" | "waiting",
  held: HeldView,
): Decision {
  if (from === "inbox" && comparePositions(message.position, record.cursor) <= 0) return CONSUMED; // Q1
  // A dead letter can be asked for again as long as its message waits: its id counts as long as it is kept, whatever its age.
  const isRedriven = message.extra?.redrives !== undefined;
  const seen = ids.seen(message.idHash, isRedriven ? 0 : message.position.entry.ms, message.bodyHash);
  if (seen !== "new") return { kind: "duplicate", conflict: seen === "conflict" }; // Q2
  const heldBody = held.bodyHashOf(message.idHash);
  if (heldBody !== undefined) return { kind: "duplicate", conflict: heldBody !== message.bodyHash }; // Q2
  if (rules.mode === "arrival") return RELEASE_BY_ARRIVAL;
  const order = record.extra?.order;
  const place = placeOf(message);
  if (place === null) return { kind: "release", order };
  if (isPast(order, rules, place)) return { kind: "late", order }; // Q3
  if (held.lowest !== null && comparePlaces(held.lowest, place) <= 0) return HOLD; // Q3
  return isNext(order, rules, place) ? { kind: "release", order: orderPast(place) } : HOLD;
}

/**
 * Ask until it answers `wait` or `nothing`, after whatever was processed or held.
 * @param nowMs on the clock of positions, Redis'. Pass 0 while a message that was admitted is not sequenced yet: it may
 * be   what is missing, and after an outage every clock is long over when the first of them is read
 */
export function nextHeld(
  record: ConversationRecord,
  rules: ExternalOrder,
  held: HeldView,
  nowMs: number,
): HeldDecision {
  const { lowest, oldestMs } = held;
  if (lowest === null || oldestMs === null) return NOTHING;
  const release: HeldDecision = { kind: "release", order: orderPast(lowest) };
  if (rules.mode === "arrival") return release;
  const order = record.extra?.order;
  if (isPast(order, rules, lowest)) return { kind: "late", order }; // Q3
  const next = rules.mode === "monotonic" ? null : expectedIn(lowest.epoch, order, rules);
  if (lowest.sequence === next) return release;
  if (next === null || rules.mode === "monotonic") {
    const untilMs = oldestMs + rules.settleMs; // the oldest and all below it
    return held.count > rules.maxHeld || nowMs >= untilMs ? release : { kind: "wait", untilMs };
  }
  const retriedAtMs = order?.retriedAtMs;
  const untilMs = Math.max(oldestMs, retriedAtMs ?? 0) + rules.gapTimeoutMs; // Q5
  const isTooMany = held.count > rules.maxHeld && retriedAtMs === undefined;
  if (!isTooMany && nowMs < untilMs) return { kind: "wait", untilMs }; // Q4
  return { kind: "gap", from: next, to: lowest.sequence - 1, order: { epoch: lowest.epoch, next: lowest.sequence } };
}

/**
 * What stands in the record once this message is decided, however it came to its turn: one whose turn is open goes on
 * with it, though lower ones may have come meanwhile.
 */
export function orderAfter(
  record: ConversationRecord,
  rules: ExternalOrder,
  message: Pick<InboxMessage, "sequence" | "extra">,
): OrderState | undefined {
  if (rules.mode === "arrival") return undefined;
  const order = record.extra?.order;
  const place = placeOf(message);
  return place === null || isPast(order, rules, place) ? order : orderPast(place);
}

/**
 * What stands in the record once an operator passed what is missing: the lowest place of those that wait is next. Those
 * that are past, and those without a place, say nothing of it. Where one of a lower epoch has come meanwhile, nothing
 * is passed: that goes first, and what is missing before it is another gap, which nobody has named yet (Q4).
 * @param missing where the gap begins that the operator was told of
 * @param waiting all that waits of the conversation, held or not, in any order
 */
export function orderPastGap(
  record: ConversationRecord,
  rules: ExternalOrder,
  missing: ExternalPlace,
  waiting: Iterable<Pick<InboxMessage, "sequence" | "extra">>,
): OrderState | undefined {
  const order = record.extra?.order;
  let lowest: ExternalPlace | null = null;
  for (const message of waiting) {
    const place = placeOf(message);
    if (place === null || isPast(order, rules, place)) continue;
    if (lowest === null || comparePlaces(place, lowest) < 0) lowest = place;
  }
  if (lowest === null || comparePlaces(lowest, missing) < 0) return order;
  return { epoch: lowest.epoch, next: lowest.sequence };
}

/** An operator asks for the missing number to be waited for once more: `gapTimeoutMs` from now, however many wait. */
export function waitOnceMore(order: OrderState | undefined, nowMs: number): OrderState {
  return { ...(order ?? { epoch: 0, next: null }), retriedAtMs: nowMs };
}

/** The number with which `epoch` goes on or begins; null if the lowest that comes begins it. */
function expectedIn(epoch: number, order: OrderState | undefined, rules: ExternalOrder): number | null {
  if (order !== undefined && order.next !== null && order.epoch === epoch) return order.next;
  return rules.mode === "contiguous" ? rules.firstSequence : null;
}

function isPast(order: OrderState | undefined, rules: ExternalOrder, place: ExternalPlace): boolean {
  if (order !== undefined && order.next !== null && place.epoch < order.epoch) return true;
  const next = expectedIn(place.epoch, order, rules);
  return next !== null && place.sequence < next;
}

/** Nothing lower has to be waited for; `place` is not past. */
function isNext(
  order: OrderState | undefined,
  rules: Exclude<ExternalOrder, { mode: "arrival" }>,
  place: ExternalPlace,
): boolean {
  if (rules.mode === "monotonic") return rules.settleMs === 0;
  const next = expectedIn(place.epoch, order, rules);
  return next === null ? rules.settleMs === 0 : place.sequence === next;
}
