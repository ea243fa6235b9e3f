// Journal: how a run of a handler walks along the steps that earlier runs of the same turn left behind. Pure.
//
// Invariants
//   J1. A step is its name and its occurrence, which is how many of that name its run began before it. Nothing else is ever given
//       back for it.
//   J2. No new effect stands in the place of another one: if the i-th step of a run is new, and the i-th that is known is one that the
//       run has not asked for, it is a mismatch, found before anything is done.
//   J3. A run that ends well has asked for every known step, so no effect is done and forgotten.
//
// A step that is known comes back at any place: branches that run side by side may reach their steps in another order each time.

import type { JournaledStep } from "./record.ts";
import type { Backoff } from "./retry-policy.ts";

/** Where a step stands in its run; `index` counts the steps that the run began, from 0. */
export type StepPlace = Pick<JournaledStep, "index" | "name" | "occurrence">;

export const STEP_NAME_BYTES_MAX = 200;
export const STEP_RETRIES_MAX = 100;
/** As long as a turn may take. */
export const STEP_TIMEOUT_MS_MAX = 86_400_000;
/** Tries of one step: short, since its conversation waits. */
export const STEP_BACKOFF: Backoff = { baseMs: 100, capMs: 10_000 };

/** J1: two different steps never share one. */
export function stepIdentity({ name, occurrence }: Pick<StepPlace, "name" | "occurrence">): string {
  return `${occurrence} ${name}`;
}

/** One run of the handler: what it asked for so far. */
export class StepWalk {
  readonly #occurrences = new Map<string, number>();
  readonly #asked = new Set<string>();

  /** The run asks for its next step. */
  next(name: string): StepPlace {
    const occurrence = this.#occurrences.get(name) ?? 0;
    this.#occurrences.set(name, occurrence + 1);
    const place = { index: this.#asked.size, name, occurrence };
    this.#asked.add(stepIdentity(place));
    return place;
  }

  /** J2: the known step that keeps a new one from this place. */
  inPlaceOf({ index }: StepPlace, known: Iterable<StepPlace>): StepPlace | undefined {
    for (const step of known) if (step.index === index && !this.#asked.has(stepIdentity(step))) return step;
    return undefined;
  }

  /** J3 */
  neverAsked(known: Iterable<StepPlace>): StepPlace | undefined {
    for (const step of known) if (!this.#asked.has(stepIdentity(step))) return step;
    return undefined;
  }
}

/**
 * The steps with one more. It keeps its place unless another one has it, as happens when branches changed their order; then it
 * takes the next that is free.
 */
export function withStep(steps: readonly JournaledStep[], step: JournaledStep): readonly JournaledStep[] {
  const taken = new Set(steps.map(({ index }) => index));
  let { index } = step;
  while (taken.has(index)) index += 1;
  return [...steps, Object.freeze({ ...step, index })];
}

const encoder = new TextEncoder();

/** What a step takes in the record, bytes of JSON. */
export function stepBytes(step: JournaledStep): number {
  return encoder.encode(JSON.stringify(step)).length;
}
