// External order: what a channel promises about the numbers that its messages bear, and what a conversation keeps of them.

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
      /** Of the first message of every conversation, and of every epoch; null: the lowest that comes within `settleMs`. */
      readonly firstSequence: number | null;
    }
  /** They rise with holes: what is missing cannot be seen, so each message waits `settleMs` for lower ones. */
  | { readonly mode: "monotonic"; readonly settleMs: number; readonly maxHeld: number };

/** What a conversation keeps of its channel's numbers. */
export interface OrderState {
  readonly epoch: number;
  /** contiguous: the number that comes next; monotonic: one more than the highest that was processed; null before the first. */
  readonly next: number | null;
}

/** Order goes by these two, in this order. */
export interface ExternalPlace {
  readonly epoch: number;
  readonly sequence: number;
}
