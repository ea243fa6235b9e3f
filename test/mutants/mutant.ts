// Mutants of the simulated world: one port of the runtime breaks its contract, and the judge must say so within a few seeds.
//
// Invariants
//   U1. A mutant is made of the world's own options: the runtime under it is the one that is shipped, which has no switch for any
//       of this.
//   U2. What finds a mutant is the rule it was written for, not just any.
//   U3. Its twin, the same world without it, passes every seed up to the one that found it.

import { judge, type Rule } from "../simulation/judge.ts";
import { runWorld, type WorldOptions } from "../simulation/world.ts";

export type Port = "store" | "channel" | "wake-ups" | "environment";

export interface WorldMutant {
  /** What it does, as a sentence. */
  readonly name: string;
  readonly port: Port;
  /** The rule or attack that it stands for. */
  readonly breaks: string;
  /** It must be found as one of these. */
  readonly rules: readonly Rule[];
  readonly options: WorldOptions;
}

/** What one mutant came to. */
export interface Finding {
  /** Null if it survived. */
  readonly seed: number | null;
  /** As what the first seed found it, each once. */
  readonly found: readonly Rule[];
  /** Seeds at which the world without it broke the promise. */
  readonly twinFailed: readonly number[];
}

/** A mutant that needs more is hardly looked for at all. */
export const SEEDS_MAX = 200;

export const INVARIANT_OF: Readonly<Record<Rule, string>> = {
  lost: "P1",
  stuck: "P1",
  doubled: "P2",
  phantom: "P2",
  effect: "P2",
  order: "P3",
  early: "P4",
  bytes: "P4",
  delivery: "P4",
  reply: "P4",
  transcript: "P4",
  state: "P5",
  fence: "P6",
  duel: "P6",
  alarm: "alarm",
};

/** `P4 delivery`; an alarm is what the runtime itself said. */
export const toldRule = (rule: Rule): string => (rule === "alarm" ? rule : `${INVARIANT_OF[rule]} ${rule}`);

/** Runs seeds until one finds it, and its twin at the same seeds. */
export async function hunt({ options }: WorldMutant, seedsMax: number = SEEDS_MAX): Promise<Finding> {
  const twinFailed: number[] = [];
  for (let seed = 1; seed <= seedsMax; seed += 1) {
    if (!(await twinPasses(seed))) twinFailed.push(seed);
    const found = await rulesOf(seed, options);
    if (found.length > 0) return { seed, found, twinFailed };
  }
  return { seed: null, found: [], twinFailed };
}

/** The world without a mutant; the same for all of them. */
const twins = new Map<number, Promise<boolean>>();

function twinPasses(seed: number): Promise<boolean> {
  let twin = twins.get(seed);
  if (twin === undefined) {
    twin = rulesOf(seed, {}).then((found) => found.length === 0);
    twins.set(seed, twin);
  }
  return twin;
}

export async function rulesOf(seed: number, options: WorldOptions): Promise<Rule[]> {
  return [...new Set(judge((await runWorld(seed, options)).history).map(({ rule }) => rule))];
}

/** Whether it was found, as what it must be found, and only with it. */
export function isCaught({ rules }: WorldMutant, { found, twinFailed }: Finding): boolean {
  return twinFailed.length === 0 && found.some((rule) => rules.includes(rule));
}
