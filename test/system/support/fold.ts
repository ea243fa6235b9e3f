// Fold: the bot of the system tests computes it, and the history checker computes it again.

export { FOLD_START, type Fold, type FoldClaim, fold, parseClaim } from "../../../src/verify/fold.ts";
