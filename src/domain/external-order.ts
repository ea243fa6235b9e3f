// External order: what a channel promises about the numbers that its messages bear, and what a conversation keeps of
// them.

import type { InboxMessage } from "./message.ts";

/** Declared per channel; every channel without one has `arrival`. */
export type ExternalOrder =
  /** As they come in. A message's `sequence` is only stored. */
  | { readonly mode: "arrival" }
  /** After n comes n + 1: what is missing can be seen. */
  | {
      readonly mode: "contiguous";
      /** How long the first message behind a gap waits for what is missing, ms from its admission. */
      readonly gapTimeoutMs: number;
      /** How long the very first message waits for lower ones; only without `firstSequence`. */
      readonly settleMs: number;
      /** More messages than this behind a gap are not waited for. */
      readonly maxHeld: number;
      /**
       * Of the first message of every conversation, and of every epoch; null: the lowest that comes within `settleMs`.
       */
      readonly firstSequence: number | null;
    }
  /** They rise with holes: what is missing cannot be seen, so each message waits `settleMs` for lower ones. */
  | { readonly mode: "monotonic"; readonly settleMs: number; readonly maxHeld: number };

/** What a conversation keeps of its channel's numbers. */
export interface OrderState {
  readonly epoch: number;
  /**
   * contiguous: the number that comes next; monotonic: one more than the highest that was processed; null before the
   * first.
   */
  readonly next: number | null;
  /**
   * When an operator asked to wait for a missing number once more, ms since the Unix epoch; the gap clock starts there.
   */
  readonly retriedAtMs?: number;
}

/** Order goes by these two, in this order. */
export interface ExternalPlace {
  readonly epoch: number;
  readonly sequence: number;
}

export function comparePlaces(a: ExternalPlace, b: ExternalPlace): number {
  return a.epoch - b.epoch || a.sequence - b.sequence;
}

/**
 * Null for a message that the outside gave no number, and for a redriven one: its place was decided when it became a
 * dead letter, and an operator asked for it to run now.
 */
export function placeOf(message: Pick<InboxMessage, "sequence" | "extra">): ExternalPlace | null {
  if (message.sequence === undefined || message.extra?.redrives !== undefined) return null;
  return { epoch: message.extra?.epoch ?? 0, sequence: message.sequence };
}

/** What a conversation keeps once the message at `place` is decided, whatever became of it. */
export function orderPast(place: ExternalPlace): OrderState {
  return { epoch: place.epoch, next: place.sequence + 1 };
}
