// Turn chain: is the chain of a record the fold over what its commit decided? Pure.
//
// The ids that a commit stores say which messages it decided, in order. Its dead letters say which of them were set aside, and as what;
// all others had a turn. What leaves no id is a turn that told the bot of something, a notice: how many there were is what `seq` rose
// by besides, and where they can have stood is where something was set aside or passed over.

import type { Hash64 } from "../domain/hash.ts";
import { nextChain, type TurnOutcome } from "../domain/record.ts";
import type { DecidedId, Letter } from "./history.ts";

/** A message that a commit decided. */
export interface Decision {
  readonly hash: Hash64;
  readonly outcome: TurnOutcome;
}

export const textOf = ({ lo, hi }: Hash64): string =>
  hi.toString(16).padStart(8, "0") + lo.toString(16).padStart(8, "0");

export function decisionsOf(decided: readonly DecidedId[], letters: readonly Letter[] = NO_LETTERS): Decision[] {
  if (letters.length === 0) return decided.map(({ hash }) => ({ hash, outcome: "turn" }));
  const outcomes = new Map(letters.map(({ idHash, outcome }) => [textOf(idHash), outcome]));
  return decided.map(({ hash }) => ({ hash, outcome: outcomes.get(textOf(hash)) ?? "turn" }));
}

const NO_LETTERS: readonly Letter[] = [];
/** A notice has no id. */
const NOTICE: Hash64 = { lo: 0, hi: 0 };
/** Orders of turns and notices that are tried; what needs more is given the benefit of the doubt. */
const STEPS_MAX = 100_000;

/**
 * @param notices     turns that consumed a notice instead of a message
 * @param mayComeAt   whether a notice can have come before the decision of this number; of their count, after the last
 */
export function isChainOf(
  before: Hash64,
  after: Hash64,
  decisions: readonly Decision[],
  notices = 0,
  mayComeAt: (index: number) => boolean = () => true,
): boolean {
  let steps = 0;
  const fold = (start: Hash64, from: number, left: number): boolean => {
    let chain = start;
    for (let i = from; i < decisions.length; i += 1) {
      steps += 1;
      if (left > 0 && mayComeAt(i) && fold(nextChain(chain, NOTICE, "turn"), i, left - 1)) return true;
      if (steps > STEPS_MAX) return true;
      chain = nextChain(chain, decisions[i]!.hash, decisions[i]!.outcome);
    }
    if (left > 0 && !mayComeAt(decisions.length)) return false;
    for (let i = 0; i < left; i += 1) chain = nextChain(chain, NOTICE, "turn");
    return chain.lo === after.lo && chain.hi === after.hi;
  };
  return notices >= 0 && fold(before, 0, notices);
}
