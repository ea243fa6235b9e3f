// Trail bot: its state is the whole way of its conversation, and each reply carries a proof of it. It makes 0 to 3 replies a turn.

import { FOLD_START, type Fold, fold } from "../system/support/fold.ts";

export interface Trail extends Fold {
  /** Ids of the messages consumed, in order. */
  readonly seen: readonly string[];
}

/** Reply `j` of `k` of the turn that consumed `mid` as the `n`th. */
export interface TrailClaim {
  readonly n: number;
  readonly mid: string;
  readonly h: string;
  readonly j: number;
  readonly k: number;
}

export const TRAIL_START: Trail = { ...FOLD_START, seen: [] };

/** One turn: the state after it, and its replies. */
export function walk(
  before: Trail,
  message: { readonly id: string; readonly text: string },
): { readonly state: Trail; readonly claims: readonly TrailClaim[] } {
  const { n, h } = fold(before, message);
  const k = Number.parseInt(h[0]!, 16) & 3;
  const claims = Array.from({ length: k }, (_, i) => ({ n, mid: message.id, h, j: i + 1, k }));
  return { state: { n, h, seen: [...before.seen, message.id] }, claims };
}
