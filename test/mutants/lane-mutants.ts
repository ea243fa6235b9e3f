// Mutants of the pure rules of a lane: one function decides otherwise, and the laws of its model must say so.

import type { LaneTrouble, LaneVerdict } from "../../src/domain/lane.ts";
import { LANE_RULES, type LaneLaw, type LaneRules } from "../domain/model/lane.ts";

export interface LaneMutant {
  /** What it does, as a sentence. */
  readonly name: string;
  readonly breaks: string;
  /** The law as which it must be found. */
  readonly law: LaneLaw;
  readonly rules: Partial<LaneRules>;
}

const RETRIES = { onAmbiguous: "retry" } as const;
const NO_END = { budgetMs: 1e12, attemptsMax: Number.POSITIVE_INFINITY };

/** What every attempt or probe comes to is another. */
const afterwards = (change: (verdict: LaneVerdict, before: LaneTrouble, nowMs: number) => LaneVerdict) => ({
  afterAttempt: (...given: Parameters<LaneRules["afterAttempt"]>) =>
    change(LANE_RULES.afterAttempt(...given), given[0], given[3]),
  afterProbe: (...given: Parameters<LaneRules["afterProbe"]>) =>
    change(LANE_RULES.afterProbe(...given), given[0], given[3]),
});

const retried = (verdict: LaneVerdict, change: (trouble: LaneTrouble) => Partial<LaneTrouble>): LaneVerdict =>
  verdict.kind === "retry" ? { ...verdict, trouble: { ...verdict.trouble, ...change(verdict.trouble) } } : verdict;

export const laneMutants: readonly LaneMutant[] = [
  {
    name: "a wait has no jitter",
    breaks: "N2",
    law: "backoff",
    rules: {
      afterAttempt: (trouble, outcome, policy, nowMs) =>
        LANE_RULES.afterAttempt(trouble, outcome, policy, nowMs, 0.999_999),
    },
  },
  {
    name: "a wait grows without bound",
    breaks: "N5",
    law: "backoff",
    rules: afterwards((verdict, _before, nowMs) =>
      retried(verdict, ({ attempts, nextAtMs }) =>
        nextAtMs === nowMs ? {} : { nextAtMs: Math.ceil(nowMs + (nextAtMs - nowMs) * 2 ** attempts) },
      ),
    ),
  },
  {
    name: "Retry-After is ignored",
    breaks: "N2",
    law: "backoff",
    rules: {
      afterAttempt: (trouble, outcome, ...rest) => {
        if (outcome.kind !== "retryable") return LANE_RULES.afterAttempt(trouble, outcome, ...rest);
        return LANE_RULES.afterAttempt(trouble, { kind: "retryable", reason: outcome.reason }, ...rest);
      },
    },
  },
  {
    name: "Retry-After reaches past the end of the budget",
    breaks: "N5",
    law: "backoff",
    rules: {
      afterAttempt: (trouble, outcome, policy, nowMs, random) => {
        const verdict = LANE_RULES.afterAttempt(trouble, outcome, policy, nowMs, random);
        const askedMs = outcome.kind === "retryable" ? (outcome.retryAfterMs ?? 0) : 0;
        if (!Number.isFinite(askedMs)) return verdict;
        return retried(verdict, ({ nextAtMs }) => ({ nextAtMs: Math.max(nextAtMs, nowMs + askedMs) }));
      },
    },
  },
  {
    name: "the budget never ends",
    breaks: "N2",
    law: "budget",
    rules: {
      afterAttempt: (trouble, outcome, policy, ...rest) =>
        LANE_RULES.afterAttempt(trouble, outcome, { ...policy, ...NO_END }, ...rest),
      afterProbe: (trouble, outcome, policy, ...rest) =>
        LANE_RULES.afterProbe(trouble, outcome, { ...policy, ...NO_END }, ...rest),
    },
  },
  {
    name: "the budget begins anew with each failure",
    breaks: "N2",
    law: "counts",
    rules: afterwards((verdict, _before, nowMs) => retried(verdict, () => ({ firstFailedAtMs: nowMs }))),
  },
  {
    name: "attempts are not counted",
    breaks: "N2",
    law: "counts",
    rules: afterwards((verdict, before) => retried(verdict, () => ({ attempts: before.attempts }))),
  },
  {
    name: "a restart forgets what was known",
    breaks: "N2",
    law: "counts",
    rules: { troubleOf: (head, _known, nowMs) => LANE_RULES.troubleOf(head, null, nowMs) },
  },
  {
    name: "an operator's retry leaves the count as it is",
    breaks: "N2",
    law: "counts",
    rules: { triedAfresh: (trouble, nowMs) => ({ ...trouble, nextAtMs: nowMs }) },
  },
  {
    name: "an expired reply is sent",
    breaks: "N4",
    law: "expired",
    rules: {
      beforeAttempt: (trouble, _expiresAtMs, policy, nowMs) =>
        LANE_RULES.beforeAttempt(trouble, undefined, policy, nowMs),
    },
  },
  {
    name: "an unknown outcome is tried again although the channel halts at it, or probes",
    breaks: "N3",
    law: "guess",
    rules: {
      beforeAttempt: (trouble, expiresAtMs, policy, nowMs) =>
        LANE_RULES.beforeAttempt(trouble, expiresAtMs, { ...policy, ...RETRIES }, nowMs),
      afterAttempt: (trouble, outcome, policy, ...rest) =>
        LANE_RULES.afterAttempt(trouble, outcome, { ...policy, ...RETRIES }, ...rest),
    },
  },
  {
    name: "an attempt that was cut counts as none",
    breaks: "N3",
    law: "guess",
    rules: {
      beforeAttempt: ({ isUnclear: _, ...trouble }, ...rest) => LANE_RULES.beforeAttempt(trouble, ...rest),
    },
  },
  {
    name: "a probe that cannot tell counts as absent",
    breaks: "N3",
    law: "guess",
    rules: {
      afterProbe: (trouble, outcome, ...rest) =>
        LANE_RULES.afterProbe(trouble, outcome.kind === "unknown" ? { kind: "absent" } : outcome, ...rest),
    },
  },
  {
    name: "strict buries what is terminal",
    breaks: "N1",
    law: "leaves",
    rules: {
      afterAttempt: (trouble, outcome, policy, ...rest) =>
        LANE_RULES.afterAttempt(trouble, outcome, { ...policy, ordering: "available" }, ...rest),
    },
  },
  {
    name: "what is terminal is tried again",
    breaks: "N1",
    law: "leaves",
    rules: {
      afterAttempt: (trouble, outcome, ...rest) =>
        LANE_RULES.afterAttempt(
          trouble,
          outcome.kind === "terminal" ? { kind: "retryable", reason: "r" } : outcome,
          ...rest,
        ),
    },
  },
  {
    name: "an unknown outcome counts as delivered",
    breaks: "N1",
    law: "leaves",
    rules: {
      afterAttempt: (trouble, outcome, ...rest) =>
        LANE_RULES.afterAttempt(trouble, outcome.kind === "ambiguous" ? { kind: "delivered" } : outcome, ...rest),
    },
  },
  {
    name: "gone does not close",
    breaks: "H3",
    law: "closes",
    rules: afterwards((verdict) => (verdict.kind === "bury" ? { ...verdict, closes: false } : verdict)),
  },
  {
    name: "gone is terminal",
    breaks: "H3",
    law: "closes",
    rules: {
      afterAttempt: (trouble, outcome, ...rest) =>
        LANE_RULES.afterAttempt(trouble, outcome.kind === "gone" ? { ...outcome, kind: "terminal" } : outcome, ...rest),
    },
  },
];
