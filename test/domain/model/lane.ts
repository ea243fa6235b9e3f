// Lane model: one reply at the head of a lane, through attempts, probes, cut attempts, time and an operator, with the rules of
// src/domain/lane.ts given as a value. What happened is judged by laws that know only what was answered and when.

import fc from "fast-check";
import type { ProbeOutcome, SendOutcome } from "../../../src/channels/channel.ts";
import { decodeLaneState, encodeLaneState } from "../../../src/codec/lane-codec.ts";
import {
  afterAttempt,
  afterProbe,
  beforeAttempt,
  type LanePolicy,
  type LaneTrouble,
  type LaneVerdict,
  triedAfresh,
  troubleOf,
} from "../../../src/domain/lane.ts";

export const LANE_RULES = { beforeAttempt, afterAttempt, afterProbe, triedAfresh, troubleOf };
export type LaneRules = typeof LANE_RULES;

const START_MS = 1_700_000_000_000;
const HEAD = { born: "b0", outSeq: 7, part: 2 } as const;
const BASE_MS = 200;
const CAP_MS = 300_000;

export interface LaneStep {
  readonly outcome: SendOutcome;
  readonly probed: ProbeOutcome;
  /** The process ends while the attempt or the probe is under way. */
  readonly isCut: boolean;
  readonly tookMs: number;
  /** How much later than its time it is tried again. */
  readonly lateMs: number;
  readonly random: number;
  /** What an operator does if it halts here. */
  readonly operatorRetries: boolean;
}

export interface LaneSchedule {
  readonly policy: LanePolicy;
  readonly expiresInMs: number | undefined;
  readonly steps: readonly LaneStep[];
}

const kindOf = fc.constantFrom(
  "retryable",
  "retryable",
  "retryable",
  "ambiguous",
  "ambiguous",
  "delivered",
  "terminal",
  "gone",
);
const outcomes: fc.Arbitrary<SendOutcome> = fc
  .tuple(
    kindOf,
    fc.option(fc.constantFrom(0, 1, 5_000, 90_000, 4_000_000, -5, Number.NaN, Infinity), { nil: undefined }),
  )
  .map(([kind, retryAfterMs]) => {
    if (kind === "delivered") return { kind };
    if (kind === "retryable" && retryAfterMs !== undefined) return { kind, reason: "r", retryAfterMs };
    return { kind, reason: "r" };
  });

const probes: fc.Arbitrary<ProbeOutcome> = fc.constantFrom(
  { kind: "delivered" },
  { kind: "absent" },
  { kind: "absent" },
  { kind: "unknown", reason: "u" },
  { kind: "unknown", reason: "u" },
);

const policies: fc.Arbitrary<LanePolicy> = fc.record({
  ordering: fc.constantFrom("strict", "available"),
  onAmbiguous: fc.constantFrom("retry", "probe", "halt"),
  budgetMs: fc.constantFrom(1_000, 60_000, 3_600_000, 259_200_000),
  attemptsMax: fc.constantFrom(2, 4, Number.POSITIVE_INFINITY),
});

export const laneSchedules: fc.Arbitrary<LaneSchedule> = fc.record({
  policy: policies,
  expiresInMs: fc.oneof(fc.constant(undefined), fc.constantFrom(0, 300, 30_000, 100_000)),
  steps: fc.array(
    fc.record({
      outcome: outcomes,
      probed: probes,
      isCut: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
      tookMs: fc.constantFrom(0, 20, 2_500),
      lateMs: fc.constantFrom(0, 0, 700, 40_000),
      random: fc.double({ min: 0, max: 0.999_999, noNaN: true }),
      operatorRetries: fc.boolean(),
    }),
    { minLength: 1, maxLength: 14 },
  ),
});

export type LaneEvent =
  | { readonly kind: "sent" | "asked"; readonly atMs: number }
  | { readonly kind: "cut"; readonly what: "sent" | "asked"; readonly atMs: number }
  | { readonly kind: "answered"; readonly outcome: SendOutcome; readonly atMs: number; readonly random: number }
  | { readonly kind: "told"; readonly outcome: ProbeOutcome; readonly atMs: number; readonly random: number }
  | { readonly kind: "judged"; readonly verdict: LaneVerdict; readonly atMs: number }
  | { readonly kind: "operator retries"; readonly atMs: number };

/** What of it survives a restart. */
const stored = (trouble: LaneTrouble): LaneTrouble => {
  const { state: _, ...known } = decodeLaneState(encodeLaneState({ state: "retrying", ...trouble }));
  return known;
};

export function runLane(rules: LaneRules, { policy, expiresInMs, steps }: LaneSchedule): LaneEvent[] {
  const events: LaneEvent[] = [];
  const expiresAtMs = expiresInMs === undefined ? undefined : START_MS + expiresInMs;
  let known: LaneTrouble | null = null;
  let nowMs = START_MS;
  for (const step of steps) {
    const trouble: LaneTrouble = rules.troubleOf(HEAD, known, nowMs);
    const before = rules.beforeAttempt(trouble, expiresAtMs, policy, nowMs);
    let verdict: LaneVerdict;
    if (before.kind === "send" || before.kind === "probe") {
      const what = before.kind === "send" ? "sent" : "asked";
      events.push({ kind: what, atMs: nowMs });
      if (policy.onAmbiguous !== "retry" && what === "sent") known = stored({ ...trouble, isUnclear: true });
      nowMs += step.tookMs;
      if (step.isCut) {
        events.push({ kind: "cut", what, atMs: nowMs });
        continue;
      }
      if (what === "sent") {
        events.push({ kind: "answered", outcome: step.outcome, atMs: nowMs, random: step.random });
        verdict = rules.afterAttempt(rules.troubleOf(HEAD, known, nowMs), step.outcome, policy, nowMs, step.random);
      } else {
        events.push({ kind: "told", outcome: step.probed, atMs: nowMs, random: step.random });
        verdict = rules.afterProbe(rules.troubleOf(HEAD, known, nowMs), step.probed, policy, nowMs, step.random);
      }
    } else verdict = before;
    events.push({ kind: "judged", verdict, atMs: nowMs });
    if (verdict.kind === "delivered" || verdict.kind === "bury") break;
    known = stored(verdict.trouble);
    if (verdict.kind === "retry") {
      nowMs = Math.max(nowMs, known.nextAtMs) + step.lateMs;
      continue;
    }
    if (!step.operatorRetries) break;
    known = stored(rules.triedAfresh(known, nowMs));
    events.push({ kind: "operator retries", atMs: nowMs });
  }
  return events;
}

/**
 * `leaves` N1: only what was delivered leaves as delivered, only what is refused or out of time dies, and terminal ends as the
 * ordering says. `counts` N2: attempts and first failure. `budget` N2: it ends, and not before its time. `backoff` full jitter with
 * Retry-After as a floor, and N5. `guess` N3. `expired` N4. `closes`: gone closes, nothing else does.
 */
export const LANE_LAWS = ["leaves", "counts", "budget", "backoff", "guess", "expired", "closes"] as const;
export type LaneLaw = (typeof LANE_LAWS)[number];

interface Account {
  attempts: number;
  firstFailedAtMs: number | null;
  /** Whether it may have arrived, and nobody has said since. */
  isOpen: boolean;
}

type Judged = Extract<LaneEvent, { kind: "judged" }>;
type Said = Extract<LaneEvent, { kind: "answered" | "told" }>;

export function judgeLane(schedule: LaneSchedule, events: readonly LaneEvent[]): LaneLaw[] {
  const { policy, expiresInMs } = schedule;
  const broken = new Set<LaneLaw>();
  const hold = (law: LaneLaw, isSo: boolean): void => {
    if (!isSo) broken.add(law);
  };
  const endMs = expiresInMs === undefined ? Number.POSITIVE_INFINITY : START_MS + expiresInMs;
  const account: Account = { attempts: 0, firstFailedAtMs: null, isOpen: false };
  let said: Said | null = null;
  for (const event of events) {
    switch (event.kind) {
      case "sent":
        hold("expired", event.atMs < endMs);
        hold("guess", !account.isOpen || policy.onAmbiguous === "retry");
        if (policy.onAmbiguous !== "retry") account.firstFailedAtMs ??= event.atMs; // written down before it begins
        said = null;
        break;
      case "asked":
        hold("guess", account.isOpen && policy.onAmbiguous === "probe");
        said = null;
        break;
      case "cut":
        if (event.what === "sent") account.isOpen = true;
        break;
      case "answered":
        said = event;
        if (event.outcome.kind === "delivered") break;
        account.attempts += 1;
        account.firstFailedAtMs ??= event.atMs;
        account.isOpen = event.outcome.kind === "ambiguous";
        break;
      case "told":
        said = event;
        if (event.outcome.kind === "unknown") account.attempts += 1;
        else account.isOpen = false;
        break;
      case "operator retries":
        Object.assign(account, { attempts: 0, firstFailedAtMs: event.atMs, isOpen: false });
        break;
      case "judged":
        judgeVerdict(event, said, account, policy, endMs, hold);
        said = null;
    }
  }
  return [...broken];
}

function judgeVerdict(
  { verdict, atMs }: Judged,
  said: Said | null,
  account: Account,
  policy: LanePolicy,
  endMs: number,
  hold: (law: LaneLaw, isSo: boolean) => void,
): void {
  const outcome = said?.outcome.kind ?? "none";
  hold("leaves", (verdict.kind === "delivered") === (outcome === "delivered"));
  if (verdict.kind === "delivered") return;
  const { trouble } = verdict;
  const isExhausted =
    account.attempts >= policy.attemptsMax ||
    (account.attempts > 0 && atMs - (account.firstFailedAtMs ?? atMs) >= policy.budgetMs);
  hold("counts", trouble.attempts === account.attempts);
  hold("counts", trouble.firstFailedAtMs === (account.firstFailedAtMs ?? atMs));
  hold("counts", trouble.born === HEAD.born && trouble.outSeq === HEAD.outSeq && trouble.part === HEAD.part);
  if (verdict.kind === "bury") {
    const { reason } = verdict;
    hold("closes", verdict.closes === (reason === "gone"));
    hold("closes", (reason === "gone") === (outcome === "gone"));
    hold("expired", (reason === "expired") === (outcome === "none" && endMs <= atMs));
    hold("leaves", reason !== "terminal" || (outcome === "terminal" && policy.ordering === "available"));
    hold("budget", reason !== "exhausted" || (isExhausted && policy.ordering === "available" && outcome !== "none"));
    return;
  }
  hold("closes", outcome !== "gone");
  hold("leaves", outcome !== "terminal" || (verdict.kind === "halt" && policy.ordering === "strict"));
  if (verdict.kind === "halt") {
    const { halt } = verdict.trouble;
    hold("leaves", (halt === "terminal") === (outcome === "terminal"));
    hold("guess", halt !== "unclear" || (account.isOpen && policy.onAmbiguous !== "retry"));
    hold("budget", halt !== "exhausted" || (isExhausted && policy.ordering === "strict"));
    hold("leaves", halt !== undefined && halt !== "full");
    return;
  }
  hold("expired", outcome !== "none"); // a retry follows from something that was said
  if (outcome === "absent") {
    hold("backoff", trouble.nextAtMs === atMs);
    return;
  }
  hold("budget", !isExhausted);
  const whole = Math.min(CAP_MS, BASE_MS * 2 ** (account.attempts - 1)) * said!.random;
  const asked = said!.outcome.kind === "retryable" ? (said!.outcome.retryAfterMs ?? 0) : 0;
  const wantedMs = Math.min(
    atMs + Math.max(whole, Number.isNaN(asked) ? 0 : asked),
    account.firstFailedAtMs! + policy.budgetMs,
  );
  hold("backoff", Math.abs(trouble.nextAtMs - wantedMs) <= 1);
}
