// Turn chain: is the chain of a record the fold over what its commit decided? Pure.
//
// The ids that a commit stores say which messages it decided, in order. Its dead letters say which of them were set aside, and as what;
// all others had a turn, but for markers of lanes: a bot need not have a handler for them. What leaves no id is a turn that told the bot
// of something, a notice: how many there were is what `seq` rose by besides, and where they can have stood is where something was set aside
// or passed over.

import type { Hash64 } from "../domain/hash.ts";
import { nextChain, type TurnOutcome } from "../domain/record.ts";
import type { DecidedId, Letter } from "./history.ts";

/** A message that a commit decided. */
export interface Decision {
  readonly hash: Hash64;
  readonly outcome: TurnOutcome;
  /** It had a turn, or none: its outcome may be `untold` as well. */
  readonly isMarker?: true;
}

export const textOf = ({ lo, hi }: Hash64): string =>
  hi.toString(16).padStart(8, "0") + lo.toString(16).padStart(8, "0");

/** @param markers ids of messages that a lane made: without a letter, they may have had a turn or not */
export function decisionsOf(
  decided: readonly DecidedId[],
  letters: readonly Letter[] = NO_LETTERS,
  markers: ReadonlySet<string> = NO_MARKERS,
): Decision[] {
  if (letters.length === 0 && markers.size === 0) return decided.map(({ hash }) => ({ hash, outcome: "turn" }));
  const outcomes = new Map(letters.map(({ idHash, outcome }) => [textOf(idHash), outcome]));
  return decided.map(({ hash }) => {
    const outcome = outcomes.get(textOf(hash));
    if (outcome !== undefined) return { hash, outcome };
    return markers.has(textOf(hash)) ? { hash, outcome: "turn", isMarker: true } : { hash, outcome: "turn" };
  });
}

const NO_LETTERS: readonly Letter[] = [];
const NO_MARKERS: ReadonlySet<string> = new Set();
/** A notice has no id. */
const NOTICE: Hash64 = { lo: 0, hi: 0 };
/** Orders of turns and notices that are tried; what needs more is given the benefit of the doubt. */
const STEPS_MAX = 100_000;

/**
 * @param notices     turns that consumed a notice instead of a message, if each marker had one
 * @param mayComeAt   whether a notice can have come before the decision of this number; of their count, after the last
 */
export function isChainOf(
  before: Hash64,
  after: Hash64,
  decisions: readonly Decision[],
  notices = 0,
  mayComeAt: (index: number) => boolean = () => true,
): boolean {
  return outcomesIn(before, after, decisions, notices, mayComeAt) !== null;
}

/** The decisions with the outcome of each marker as the chain has it; as they are where it fits none. Parameters as of `isChainOf`. */
export function withMarkersTold(
  before: Hash64,
  after: Hash64,
  decisions: readonly Decision[],
  notices: number,
  mayComeAt: (index: number) => boolean,
): readonly Decision[] {
  if (!decisions.some(({ isMarker }) => isMarker)) return decisions;
  const outcomes = outcomesIn(before, after, decisions, notices, mayComeAt);
  return outcomes === null ? decisions : decisions.map(({ hash }, i) => ({ hash, outcome: outcomes[i]! }));
}

/** Null if the chain is no fold over them. */
function outcomesIn(
  before: Hash64,
  after: Hash64,
  decisions: readonly Decision[],
  notices: number,
  mayComeAt: (index: number) => boolean,
): readonly TurnOutcome[] | null {
  const outcomes = decisions.map(({ outcome }) => outcome);
  const lastPlace = Array.from({ length: decisions.length + 1 }, (_, i) => i).findLast((i) => mayComeAt(i)) ?? -1;
  let steps = 0;
  /** @param left turns that have to be found besides; below 0 as many markers had none */
  const fold = (start: Hash64, from: number, wanted: number, markersBehind: number): boolean => {
    let [chain, left, behind] = [start, wanted, markersBehind];
    for (let i = from; i < decisions.length; i += 1) {
      steps += 1;
      if (left > 0 && i > lastPlace) return false;
      const mayBeTold = left + behind > 0 && mayComeAt(i);
      if (mayBeTold && fold(nextChain(chain, NOTICE, "turn"), i, left - 1, behind)) return true;
      if (steps > STEPS_MAX) return true;
      const { hash, outcome, isMarker } = decisions[i]!;
      outcomes[i] = outcome;
      if (isMarker) {
        behind -= 1;
        if (behind + left >= 0 && fold(nextChain(chain, hash, "turn"), i + 1, left, behind)) return true;
        outcomes[i] = "untold";
        left += 1;
      }
      chain = nextChain(chain, hash, outcomes[i]!);
    }
    if (left < 0 || (left > 0 && !mayComeAt(decisions.length))) return false;
    for (let i = 0; i < left; i += 1) chain = nextChain(chain, NOTICE, "turn");
    return chain.lo === after.lo && chain.hi === after.hi;
  };
  const markers = decisions.reduce((sum, { isMarker }) => sum + (isMarker ? 1 : 0), 0);
  if (notices + markers < 0 || !fold(before, 0, notices, markers)) return null;
  return steps > STEPS_MAX ? someUntold(decisions, -notices) : outcomes;
}

/** So many markers had no turn, whichever. */
function someUntold(decisions: readonly Decision[], count: number): readonly TurnOutcome[] {
  let left = count;
  return decisions.map(({ outcome, isMarker }) => {
    if (!isMarker || left <= 0) return outcome;
    left -= 1;
    return "untold";
  });
}
