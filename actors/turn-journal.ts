// Turn journal: the steps and replies of one message that are out of the handler's hands. It lives as long as the message is the head
// of its conversation: over runs of the turn, and over incarnations of the conversation in this process (attack A6).
//
// Invariants
//   G1. No effect begins, and no reply goes out early, before all that came before it in the conversation is durable (R4).
//   G2. A step runs once for its identity while this lives: a finished one is given back, a running one is joined.
//   G3. A finished step is remembered and told to the committer before its result is given to anybody, whichever run began it.
//   G4. Replies and their number go into the same commit.
//   G5. After `close` nothing is remembered and nobody is told.
//   G6. An effect whose result cannot be kept is not repeated while this lives: asked for again it fails again.

import { type StepPlace, StepWalk, stepBytes, stepIdentity, withStep } from "../src/domain/journal.ts";
import type { Reply } from "../src/domain/message.ts";
import { freezePlain, type Plain } from "../src/domain/plain-data.ts";
import type { JournaledStep, OpenTurn } from "../src/domain/record.ts";
import type { Environment } from "../src/environment.ts";
import { StepMismatchError, TurnEndedError, TurnOutputError } from "../src/errors.ts";
import { RunningStep, type StepPlan } from "./running-step.ts";

export interface JournalPorts {
  readonly environment: Environment;
  readonly bounds: { readonly stepsMax: number; readonly journalBytesMax: number };
  /** Resolves when everything of the conversation handed over before is durable. Stays pending in a conversation that left. */
  settled(): Promise<void>;
  /** `steps` or `repliesOut` changed: they ride in the next commit. */
  changed(): void;
  /** Puts these replies, rendered, into the next commit. Throws what rendering throws. */
  flush(replies: readonly Reply[]): void;
}

interface StepUnderWay {
  /** In the run that asked for it last. */
  place: StepPlace;
  readonly running: RunningStep;
  readonly result: Promise<Plain | undefined>;
}

interface Found {
  readonly result?: Plain | undefined | Promise<Plain | undefined>;
}

const NO_STEPS: readonly JournaledStep[] = Object.freeze([]);

export class TurnJournal {
  #ports: JournalPorts;
  #steps: readonly JournaledStep[];
  #repliesOut: number;
  #bytes = 0;
  /** By identity; made on first use, as most turns have no steps. */
  #underWay: Map<string, StepUnderWay> | null = null;
  #unkept: Map<string, unknown> | null = null;
  #isClosed = false;

  constructor(open: OpenTurn | undefined, ports: JournalPorts) {
    this.#ports = ports;
    this.#steps = open?.steps ?? NO_STEPS;
    this.#repliesOut = open?.repliesOut ?? 0;
    for (const step of this.#steps) this.#bytes += stepBytes(step);
  }

  /** In the order in which they finished. A new array for each change. */
  get steps(): readonly JournaledStep[] {
    return this.#steps;
  }

  get repliesOut(): number {
    return this.#repliesOut;
  }

  /** The record has nothing to store of it. */
  get isEmpty(): boolean {
    return this.#steps === NO_STEPS && this.#repliesOut === 0;
  }

  /** Nothing was ever asked of it, so it can serve the next message as well. */
  get isUntouched(): boolean {
    return this.isEmpty && this.#underWay === null && !this.#isClosed;
  }

  /**
   * A new incarnation of the conversation takes it over. What is stored counts, with what finished in memory meanwhile; of replies
   * only what is stored is out.
   */
  adopt(open: OpenTurn | undefined, ports: JournalPorts): void {
    const stored = new Set((open?.steps ?? NO_STEPS).map(stepIdentity));
    const unstored = this.#steps.filter((step) => !stored.has(stepIdentity(step)));
    this.#ports = ports;
    this.#repliesOut = open?.repliesOut ?? 0;
    this.#steps = unstored.reduce(withStep, open?.steps ?? NO_STEPS);
    this.#bytes = this.#steps.reduce((sum, step) => sum + stepBytes(step), 0);
    if (unstored.length > 0) ports.changed();
  }

  /** Its message is decided, or the conversation left this process: steps under way are given up (G5). */
  close(): void {
    this.#isClosed = true;
    for (const { running } of this.#underWay?.values() ?? []) {
      running.giveUp(new TurnEndedError("the turn has ended, and nobody waits for this step any more"));
    }
  }

  /** G1 */
  settled(): Promise<void> {
    return this.#ports.settled();
  }

  /** G4 @throws what rendering throws; then none of them is out */
  sendOut(replies: readonly Reply[]): void {
    this.#ports.flush(replies);
    this.#repliesOut += replies.length;
    this.#ports.changed();
  }

  /** @throws StepMismatchError a step of an earlier run was not asked for by `walk`, whose run is about to end well */
  assertAllAsked(walk: StepWalk | null): void {
    if (this.#steps === NO_STEPS && this.#underWay === null) return;
    const left = (walk ?? new StepWalk()).neverAsked(this.#known());
    if (left !== undefined) throw mismatch(left, null);
  }

  /**
   * The result of the step that `walk` asks for next: remembered, joined, or of a new run of it.
   * @param mayBegin asked just before a new one begins; throws if its turn has ended
   * @throws StepMismatchError, TurnOutputError, what `mayBegin` throws, what the step's last try threw
   */
  async step(walk: StepWalk, plan: StepPlan, mayBegin: () => void): Promise<Plain | undefined> {
    const place = walk.next(plan.name);
    const { stepsMax } = this.#ports.bounds;
    if (place.index >= stepsMax) {
      throw new TurnOutputError(
        `a turn may have ${stepsMax} steps (stepsMax); step ${plan.name} was not run, and the turn was not committed`,
      );
    }
    const identity = stepIdentity(place);
    const known = this.#find(identity, place);
    if (known !== undefined) return known.result;
    const other = walk.inPlaceOf(place, this.#known());
    if (other !== undefined) throw mismatch(other, place);
    await this.#ports.settled(); // G1
    mayBegin();
    return (this.#find(identity, place) ?? this.#begin(identity, place, plan)).result;
  }

  /** Remembered, or under way. */
  *#known(): Iterable<StepPlace> {
    yield* this.#steps;
    for (const { place } of this.#underWay?.values() ?? []) yield place;
  }

  /** G2 */
  #find(identity: string, place: StepPlace): Found | undefined {
    const underWay = this.#underWay?.get(identity);
    if (underWay !== undefined) {
      underWay.place = place;
      return underWay;
    }
    if (this.#unkept?.has(identity)) throw this.#unkept.get(identity); // G6
    return this.#steps.find((step) => step.name === place.name && step.occurrence === place.occurrence);
  }

  #begin(identity: string, place: StepPlace, plan: StepPlan): StepUnderWay {
    if (this.#isClosed) throw new TurnEndedError(`the turn has ended; step ${plan.name} was not run`);
    const running = new RunningStep(plan, this.#ports.environment);
    const result = running.outcome.then(
      (value) => this.#finished(identity, value),
      (error: unknown) => {
        this.#underWay!.delete(identity);
        throw error;
      },
    );
    result.catch(() => undefined); // its run may have ended; the next one tries again
    const underWay = { place, running, result };
    this.#underWay ??= new Map();
    this.#underWay.set(identity, underWay);
    return underWay;
  }

  /** G3 */
  #finished(identity: string, value: unknown): Plain | undefined {
    const { place } = this.#underWay!.get(identity)!;
    this.#underWay!.delete(identity);
    try {
      const result = value === undefined ? undefined : freezePlain(value, `the result of step ${place.name}`);
      if (!this.#isClosed) this.#remember(result === undefined ? place : { ...place, result });
      return result;
    } catch (error) {
      this.#unkept ??= new Map();
      this.#unkept.set(identity, error); // G6
      throw error;
    }
  }

  #remember(step: JournaledStep): void {
    const { journalBytesMax } = this.#ports.bounds;
    const bytes = this.#bytes + stepBytes(step);
    if (bytes > journalBytesMax) {
      throw new TurnOutputError(
        `with the result of step ${step.name} the steps of the turn take ${bytes} bytes, the bound is ${journalBytesMax} ` +
          `(journalBytesMax). The step was run and its result cannot be kept; the turn was not committed. Return less from the step`,
      );
    }
    this.#steps = withStep(this.#steps, step);
    this.#bytes = bytes;
    this.#ports.changed();
  }
}

function mismatch(known: StepPlace, asked: StepPlace | null): StepMismatchError {
  const was = `an earlier run of this turn did step ${known.name} (number ${known.index + 1})`;
  const is =
    asked === null
      ? "this run ended without asking for it"
      : `this run asked for step ${asked.name} there, which was not run`;
  return new StepMismatchError(
    known.name,
    asked?.name ?? null,
    `${was}, ${is}. Nothing of the turn is lost, and the message runs again: run the version of the bot that began the turn, or let ` +
      "the handler decide by state, message and context alone",
  );
}
