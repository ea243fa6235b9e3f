// Trail bot: its state is the whole way of its conversation, and each reply carries a proof of it. What a turn does besides replying
// (steps, replies in the middle, sends) follows from the state and what it consumes alone, so that a re-run does the same. Pure.

import { FOLD_START, type Fold, fold } from "../system/support/fold.ts";

export interface Trail extends Fold {
  /** What was consumed, in order: its name, and behind "=" the results of its steps. */
  readonly seen: readonly string[];
}

/** What a turn consumes. Names of notices begin with "!"; a late message ends with "~late", one that was redriven with "~again". */
export interface Consumed {
  readonly name: string;
  readonly text: string;
}

/** Reply `j` of `k` of the turn that consumed `mid` as the `n`th, after the steps with the results `r`. */
export interface TrailClaim {
  readonly n: number;
  readonly mid: string;
  readonly h: string;
  readonly j: number;
  readonly k: number;
  readonly r: readonly number[];
}

export interface TrailSend {
  readonly bot: "strict" | "available";
  readonly conversation: string;
  readonly text: string;
}

/** What a turn does, one after the other. */
export type TrailAct = "reply" | "step" | "flush" | "send";

export interface Plan {
  /** Of the state before and what is consumed. */
  readonly n: number;
  readonly h: string;
  readonly acts: readonly TrailAct[];
  /** How many replies. */
  readonly k: number;
}

export const TRAIL_START: Trail = { ...FOLD_START, seen: [] };

/** A send is answered by at most so many further ones, each by another conversation. */
const DEPTH_MAX = 2;
const TARGETS = 5;

export function planOf(before: Trail, { name, text }: Consumed): Plan {
  const { n, h } = fold(before, { id: name, text });
  const dice = (at: number): number => Number.parseInt(h[at]!, 16);
  const k = dice(0) & 3;
  const steps = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2][dice(1)]!;
  const sends = depthOf(text) < DEPTH_MAX ? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2][dice(2)]! : 0;
  const all: TrailAct[] = [...repeated("step", steps), ...repeated("reply", k), ...repeated("send", sends)];
  const turned = all.length === 0 ? 0 : dice(3) % all.length;
  const acts = [...all.slice(turned), ...all.slice(0, turned)];
  if (dice(4) < 3 && k > 0) acts.splice(acts.indexOf("reply") + 1, 0, "flush");
  return { n, h, acts, k };
}

const repeated = (act: TrailAct, count: number): TrailAct[] => Array.from({ length: count }, () => act);

export const isLong = ({ acts }: Plan): boolean => acts.includes("step") || acts.includes("flush");

export const claimOf = ({ n, h, k }: Plan, { name }: Consumed, j: number, r: readonly number[]): TrailClaim => ({
  n,
  mid: name,
  h,
  j,
  k,
  r: [...r],
});

/** Where the `i`th send of a turn goes, and what it says: by its text it can be told from every other. */
export function sendOf(plan: Plan, consumed: Consumed, from: string, i: number): TrailSend {
  const target = (Number.parseInt(plan.h.slice(8, 10), 16) + i) % (TARGETS * 2);
  return {
    bot: target % 2 === 0 ? "strict" : "available",
    conversation: `c${target >> 1}`,
    text: `send ${depthOf(consumed.text) + 1} ${from} ${plan.n} ${i}`,
  };
}

const depthOf = (text: string): number => Number(/^send (\d+) /.exec(text)?.[1] ?? 0);

/** The state after a turn whose steps had these results. */
export function stateAfter(before: Trail, plan: Plan, { name }: Consumed, results: readonly number[]): Trail {
  const h = results.length === 0 ? plan.h : fold({ n: 0, h: plan.h }, { id: "", text: results.join(" ") }).h;
  return { n: plan.n, h, seen: [...before.seen, results.length === 0 ? name : `${name}=${results.join(" ")}`] };
}

/** An entry of `seen` as what it says. */
export function parseSeen(entry: string): { readonly name: string; readonly results: readonly number[] } {
  const [name, results] = entry.split("=");
  return { name: name!, results: results === undefined ? [] : results.split(" ").map(Number) };
}

/** One turn as it must have been: the state after it, its replies and its sends. */
export function walk(
  before: Trail,
  consumed: Consumed,
  results: readonly number[],
  from: string,
): { readonly state: Trail; readonly claims: readonly TrailClaim[]; readonly sends: readonly TrailSend[] } {
  const plan = planOf(before, consumed);
  const claims: TrailClaim[] = [];
  const sends: TrailSend[] = [];
  let steps = 0;
  for (const act of plan.acts) {
    if (act === "reply") claims.push(claimOf(plan, consumed, claims.length + 1, results.slice(0, steps)));
    else if (act === "send") sends.push(sendOf(plan, consumed, from, sends.length));
    else if (act === "step") steps += 1;
  }
  return { state: stateAfter(before, plan, consumed, results), claims, sends };
}

/** The id of the message that it was, without what its name says besides. */
export const idOf = (name: string): string => name.replace(/~(late|again)/g, "");
