// Fold: what a bot made for verification computes (docs/verify.md), and what the checker computes again. Each reply carries the
// hash of all that its conversation consumed so far, in order, so one reply proves the whole way to it.

import { createHash } from "node:crypto";

export interface Fold {
  /** Messages consumed. */
  readonly n: number;
  readonly h: string;
}

/** What a reply says: after message `mid`, the `n`th, the hash is `h`. */
export interface FoldClaim extends Fold {
  readonly mid: string;
}

export const FOLD_START: Fold = { n: 0, h: "" };

export function fold(before: Fold, message: { readonly id: string; readonly text: string }): Fold {
  const h = createHash("sha256").update(before.h).update(message.id).update(message.text).digest("hex");
  return { n: before.n + 1, h };
}

/** @returns undefined if the text is not a reply of the fold bot */
export function parseClaim(text: string): FoldClaim | undefined {
  try {
    const { n, mid, h } = JSON.parse(text) as Partial<FoldClaim>;
    return typeof n === "number" && typeof mid === "string" && typeof h === "string" ? { n, mid, h } : undefined;
  } catch {
    return undefined;
  }
}
