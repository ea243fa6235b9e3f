// Provider behaviour: how an outside service treats an attempt at delivering. Pure: what becomes of attempt k at a reply
// follows from the seed, the reply and k alone, so that a seed repeats it whatever else happens meanwhile.
//
// Invariants
//   B1. Treatments are independent of each other: each attempt draws from a stream of its own.
//   B2. After `faultsMax` attempts a reply is answered 2xx at once, so that every run comes to an end.

import { seededRandom } from "./random.ts";

/**
 * `ok` and `slow` are answered 2xx. `429` has a Retry-After, and half of the `503` have one. `reset-unread`: the connection is
 * cut before the body is read. `reset-taken`: the reply is accepted, and then the connection is cut. `hang`: it is accepted and
 * never answered.
 */
export const TREATMENTS = ["ok", "slow", "429", "500", "503", "reset-unread", "reset-taken", "hang"] as const;
export type Treatment = (typeof TREATMENTS)[number];

export interface Behaviour {
  /** Shares of attempts, together at most 1; the rest is `ok`. */
  readonly shares: Readonly<Partial<Record<Exclude<Treatment, "ok">, number>>>;
  /** The first so many attempts at each reply are answered 503 without Retry-After. */
  readonly refusesFirst: number;
  /** Attempts at one reply that may be treated badly, those refused first included (B2). */
  readonly faultsMax: number;
  /** An answer that is not slow is given after 0 to so many ms. */
  readonly answerMsMax: number;
  readonly slowMsMin: number;
  readonly slowMsMax: number;
  readonly retryAfterS: number;
}

export const WELL_BEHAVED: Behaviour = {
  shares: {},
  refusesFirst: 0,
  faultsMax: 0,
  answerMsMax: 0,
  slowMsMin: 0,
  slowMsMax: 0,
  retryAfterS: 1,
};

export interface Treated {
  readonly treatment: Treatment;
  readonly afterMs: number;
  /** s; null for an answer without Retry-After. */
  readonly retryAfterS: number | null;
}

/** @param attempt at this reply, from 1 */
export function treat(seed: number, behaviour: Behaviour, reply: string, attempt: number): Treated {
  const random = seededRandom(seed, `${reply} ${attempt}`);
  const [roll, pace, says] = [random.next(), random.next(), random.chance(0.5)];
  const afterMs = pace * behaviour.answerMsMax;
  if (attempt <= behaviour.refusesFirst) return { treatment: "503", afterMs, retryAfterS: null };
  const treatment = attempt > behaviour.faultsMax ? "ok" : drawn(behaviour.shares, roll); // B2
  const { slowMsMin, slowMsMax, retryAfterS } = behaviour;
  if (treatment === "slow")
    return { treatment, afterMs: slowMsMin + pace * (slowMsMax - slowMsMin), retryAfterS: null };
  const tells = treatment === "429" || (treatment === "503" && says);
  return { treatment, afterMs, retryAfterS: tells ? retryAfterS : null };
}

function drawn(shares: Behaviour["shares"], roll: number): Treatment {
  let upTo = 0;
  for (const treatment of TREATMENTS) {
    upTo += treatment === "ok" ? 0 : (shares[treatment] ?? 0);
    if (roll < upTo) return treatment;
  }
  return "ok";
}

export const isAccepting = (treatment: Treatment): boolean =>
  treatment === "ok" || treatment === "slow" || treatment === "reset-taken" || treatment === "hang";
