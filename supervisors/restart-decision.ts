// Restart decision: what a supervisor does about what happens to it, as a pure function of its state and one event. Nothing is
// started, stopped, timed or logged here; supervisors/supervisor.ts does that, one effect at a time.
//
// The behaviour is that of Erlang's `supervisor` (stdlib 4, OTP 25), to which test/supervisors/erlang holds it.
//
// Invariants
//   R1. At most one effect of a decision is awaited (`start` or `stop`), it is the last one, and while it is under way only its
//       result and `stop` are events; the shell keeps all others until the task is done.
//   R2. Children start in their order and stop in reverse. Nothing starts once the supervisor is to end.
//   R3. Each incarnation has a number of its own. What is said of any but the running one changes nothing.
//   R4. A restart is counted before it is tried. One too many ends the supervisor with `shutdown`, the offender first.
//   R5. A restart whose start fails leaves that child `restarting`, those started before it running and those behind it stopped,
//       and asks for another try, which is a restart of its own.

import { type ExitReason, failedWith, isOrderly, SHUTDOWN } from "./exit-reason.ts";
import { type RestartBackoff, restartDelayMs } from "./restart-backoff.ts";
import { addRestart, type Intensity, NO_RESTARTS, type RestartTimes } from "./restart-intensity.ts";
import {
  type AutoShutdown,
  afterExit,
  type ChildType,
  endsSupervisor,
  type RestartType,
  type Shutdown,
} from "./restart-rules.ts";

export type Strategy = "one_for_one" | "one_for_all" | "rest_for_one";

export interface SupervisorFlags extends Intensity {
  readonly strategy: Strategy;
  readonly autoShutdown: AutoShutdown;
  /** Beyond OTP: undefined restarts at once. */
  readonly backoff: RestartBackoff | undefined;
}

export interface ChildTraits {
  /** Unique below its supervisor. */
  readonly id: string;
  readonly restart: RestartType;
  readonly significant: boolean;
  readonly shutdownMs: Shutdown;
  readonly type: ChildType;
}

export type ChildStatus =
  /** Known and not running; Erlang calls its pid `undefined`. */
  | { readonly kind: "stopped" }
  | { readonly kind: "starting" | "running" | "stopping"; readonly incarnation: number }
  /** Between two tries. A restart with a ticket is counted already and waits out its backoff. */
  | { readonly kind: "restarting"; readonly ticket: number | null; readonly reason: ExitReason };

export interface ChildState {
  readonly traits: ChildTraits;
  readonly status: ChildStatus;
}

export interface SupervisorState {
  readonly flags: SupervisorFlags;
  readonly phase: "new" | "starting" | "running" | "ending" | "over";
  /** In start order. */
  readonly children: readonly ChildState[];
  readonly restarts: RestartTimes;
  readonly nextIncarnation: number;
  readonly nextTicket: number;
  readonly task: Task | null;
  /** Set by a `stop` that came while a task was under way. */
  readonly endReason: ExitReason | null;
}

/** What is being done; the first step is under way. */
export interface Task {
  readonly steps: readonly Step[];
  readonly goal: Goal;
}

interface Step {
  readonly kind: "start" | "stop";
  readonly id: string;
}

type Goal =
  | { readonly kind: "init" }
  | { readonly kind: "roll-back"; readonly id: string; readonly error: unknown }
  | { readonly kind: "restart" }
  | { readonly kind: "restart-later"; readonly id: string; readonly reason: ExitReason; readonly delayMs: number }
  | { readonly kind: "terminate" | "start-new" | "start-known"; readonly id: string; readonly call: number }
  | { readonly kind: "end"; readonly reason: ExitReason };

/** When it happened, ms of a monotonic clock, and a number uniform in [0, 1). */
interface Chance {
  readonly atMs: number;
  readonly random: number;
}

export type SupervisorEvent =
  | { readonly kind: "init" }
  | ({ readonly kind: "exited"; readonly incarnation: number; readonly reason: ExitReason } & Chance)
  | { readonly kind: "started"; readonly incarnation: number }
  /** The start found that there is nothing to run. */
  | { readonly kind: "ignored"; readonly incarnation: number }
  | ({ readonly kind: "start-failed"; readonly incarnation: number; readonly error: unknown } & Chance)
  | { readonly kind: "stopped"; readonly incarnation: number }
  | ({ readonly kind: "retry"; readonly id: string; readonly ticket: number | null } & Chance)
  | { readonly kind: "start-child"; readonly call: number; readonly traits: ChildTraits }
  | {
      readonly kind: "terminate-child" | "restart-child" | "delete-child";
      readonly call: number;
      readonly id: string;
    }
  | { readonly kind: "stop"; readonly reason: ExitReason };

export type Refusal =
  | "already_present"
  | "already_started"
  | "not_found"
  | "running"
  | "restarting"
  | "start_failed"
  | "simple_one_for_one"
  | "noproc";

/** `incarnation` is what Erlang answers a pid for: null where that is `undefined`, missing where it answers `ok` alone. */
export type VerbAnswer =
  | { readonly ok: true; readonly incarnation?: number | null }
  | { readonly ok: false; readonly error: Refusal; readonly incarnation?: number; readonly reason?: unknown };

export type SupervisorEffect =
  | { readonly kind: "start"; readonly id: string; readonly incarnation: number }
  | { readonly kind: "stop"; readonly id: string; readonly incarnation: number; readonly shutdownMs: Shutdown }
  /** Bring a `retry` back: after `delayMs`, or for 0 behind all that waits already. */
  | { readonly kind: "retry"; readonly id: string; readonly ticket: number | null; readonly delayMs: number }
  | { readonly kind: "reply"; readonly call: number; readonly answer: VerbAnswer }
  | {
      readonly kind: "log";
      readonly what: "restart" | "gave-up" | "ended" | "start-failed";
      readonly id: string;
      readonly reason: ExitReason;
      readonly restartsLeft: number;
    }
  | { readonly kind: "up" }
  | { readonly kind: "start-of-supervisor-failed"; readonly id: string; readonly error: unknown }
  | { readonly kind: "exit"; readonly reason: ExitReason };

export interface Decision {
  readonly state: SupervisorState;
  readonly effects: readonly SupervisorEffect[];
}

const STOPPED: ChildStatus = { kind: "stopped" };

export function newSupervisorState(flags: SupervisorFlags, children: readonly ChildTraits[]): SupervisorState {
  return {
    flags,
    phase: "new",
    children: children.map((traits) => ({ traits, status: STOPPED })),
    restarts: NO_RESTARTS,
    nextIncarnation: 1,
    nextTicket: 1,
    task: null,
    endReason: null,
  };
}

/** The state and the effects that follow from an event. Events that no longer concern anybody change nothing (R3). */
export function decide(state: SupervisorState, event: SupervisorEvent): Decision {
  const draft: Draft = { ...state, effects: [] };
  if (draft.phase !== "over") apply(draft, event);
  const { effects, ...next } = draft;
  return { state: next, effects };
}

/** As Erlang answers: the child that started last comes first. */
export function whichChildren(
  state: SupervisorState,
): { readonly id: string; readonly child: number | "restarting" | "undefined"; readonly type: ChildType }[] {
  return state.children.toReversed().map(({ traits: { id, type }, status }) => {
    if (status.kind === "stopped") return { id, child: "undefined", type };
    return { id, child: status.kind === "restarting" ? "restarting" : status.incarnation, type };
  });
}

export interface ChildCounts {
  /** Children known, running or not. */
  readonly specs: number;
  readonly active: number;
  readonly supervisors: number;
  readonly workers: number;
}

/** @param isAlive says of a running incarnation whether it is still there: its exit may wait to be heard */
export function countChildren(state: SupervisorState, isAlive: (incarnation: number) => boolean): ChildCounts {
  const of = (test: (child: ChildState) => boolean): number => state.children.filter(test).length;
  return {
    specs: state.children.length,
    active: of(({ status }) => status.kind === "running" && isAlive(status.incarnation)),
    supervisors: of(({ traits }) => traits.type === "supervisor"),
    workers: of(({ traits }) => traits.type === "worker"),
  };
}

/** A state under way to the next. */
type Draft = { -readonly [Key in keyof SupervisorState]: SupervisorState[Key] } & { effects: SupervisorEffect[] };

function apply(draft: Draft, event: SupervisorEvent): Draft {
  switch (event.kind) {
    case "init":
      draft.phase = "starting";
      return begin(draft, { kind: "init" }, starts(draft.children));
    case "exited":
      return exited(draft, event);
    case "started":
    case "ignored":
    case "stopped":
      return stepDone(draft, event);
    case "start-failed":
      return startFailed(draft, event);
    case "retry":
      return retry(draft, event);
    case "stop":
      if (draft.phase === "ending") return draft;
      if (draft.task === null) return end(draft, event.reason);
      draft.endReason ??= event.reason; // R1: the step under way is waited for
      return draft;
    default:
      return verb(draft, event);
  }
}

function exited(draft: Draft, { incarnation, reason, ...chance }: Of<"exited">): Draft {
  const child = draft.children.find(({ status }) => status.kind === "running" && status.incarnation === incarnation);
  if (child === undefined) return draft; // R3
  const { id, restart, significant } = child.traits;
  if (afterExit(restart, reason) === "restart") return countedRestart(draft, id, reason, chance);
  terminated(draft, id);
  if (!isOrderly(reason)) log(draft, "ended", id, reason);
  const othersLeft = draft.children.filter(({ traits, status }) => traits.significant && status.kind !== "stopped");
  if (endsSupervisor(draft.flags.autoShutdown, significant, othersLeft.length)) end(draft, SHUTDOWN);
  return draft;
}

/** R4 */
function countedRestart(draft: Draft, id: string, reason: ExitReason, { atMs, random }: Chance): Draft {
  const { times, isTooMany } = addRestart(draft.restarts, atMs, draft.flags);
  draft.restarts = times;
  setStatus(draft, id, STOPPED);
  log(draft, isTooMany ? "gave-up" : "restart", id, reason);
  if (isTooMany) return end(draft, SHUTDOWN);
  const delayMs = restartDelayMs(draft.flags.backoff, times.length, random);
  if (delayMs === 0) return restart(draft, id);
  return begin(draft, { kind: "restart-later", id, reason, delayMs }, stops(restartedWith(draft, id)));
}

function restart(draft: Draft, id: string): Draft {
  const together = restartedWith(draft, id);
  const comingBack = together.filter(({ traits }) => traits.restart !== "temporary");
  return begin(draft, { kind: "restart" }, [...stops(together), ...starts(comingBack)]);
}

/** Whom a restart of this child concerns, itself included. */
function restartedWith({ flags, children }: Draft, id: string): readonly ChildState[] {
  switch (flags.strategy) {
    case "one_for_one":
      return children.filter(({ traits }) => traits.id === id);
    case "rest_for_one":
      return children.slice(children.findIndex(({ traits }) => traits.id === id));
    case "one_for_all":
      return children;
  }
}

function retry(draft: Draft, { id, ticket, ...chance }: Of<"retry">): Draft {
  const status = draft.children.find(({ traits }) => traits.id === id)?.status;
  if (status?.kind !== "restarting") return draft; // meanwhile started with others, terminated or deleted
  if (ticket === null) return countedRestart(draft, id, status.reason, chance);
  if (ticket === status.ticket) restart(draft, id);
  return draft;
}

function verb(draft: Draft, event: Verb): Draft {
  const id = event.kind === "start-child" ? event.traits.id : event.id;
  const status = draft.children.find(({ traits }) => traits.id === id)?.status;
  const refuse = (error: Refusal): Draft => reply(draft, event.call, { ok: false, error });
  if (event.kind === "start-child") {
    if (status === undefined) {
      draft.children = [...draft.children, { traits: event.traits, status: STOPPED }];
      return begin(draft, { kind: "start-new", id, call: event.call }, [{ kind: "start", id }]);
    }
    if (status.kind !== "running") return refuse("already_present");
    return reply(draft, event.call, { ok: false, error: "already_started", incarnation: status.incarnation });
  }
  if (status === undefined) return refuse("not_found");
  if (event.kind === "terminate-child")
    return begin(draft, { kind: "terminate", id, call: event.call }, [{ kind: "stop", id }]);
  if (status.kind === "restarting") return refuse("restarting");
  if (status.kind !== "stopped") return refuse("running");
  if (event.kind === "restart-child")
    return begin(draft, { kind: "start-known", id, call: event.call }, [{ kind: "start", id }]);
  forget(draft, id);
  return reply(draft, event.call, { ok: true });
}

function end(draft: Draft, reason: ExitReason): Draft {
  draft.phase = "ending";
  return begin(draft, { kind: "end", reason }, stops(draft.children));
}

const starts = (children: readonly ChildState[]): Step[] =>
  children.map(({ traits }) => ({ kind: "start", id: traits.id }));

const stops = (children: readonly ChildState[]): Step[] =>
  children.toReversed().map(({ traits }) => ({ kind: "stop", id: traits.id }));

function begin(draft: Draft, goal: Goal, steps: readonly Step[]): Draft {
  draft.task = { goal, steps };
  return advance(draft);
}

/** Goes on to the next step that has to be awaited, or to the end of the task. */
function advance(draft: Draft): Draft {
  while (draft.task !== null) {
    const [step] = draft.task.steps;
    if (step === undefined) return conclude(draft, draft.task.goal);
    if (step.kind === "start") return startNext(draft, step.id);
    const child = draft.children.find(({ traits }) => traits.id === step.id);
    if (child?.status.kind === "running") {
      const { incarnation } = child.status;
      setStatus(draft, step.id, { kind: "stopping", incarnation });
      draft.effects.push({ kind: "stop", id: step.id, incarnation, shutdownMs: child.traits.shutdownMs });
      return draft;
    }
    terminated(draft, step.id);
    shiftStep(draft);
  }
  return draft;
}

/** R2 */
function startNext(draft: Draft, id: string): Draft {
  if (draft.endReason !== null) return end(draft, draft.endReason);
  const incarnation = draft.nextIncarnation;
  draft.nextIncarnation += 1;
  setStatus(draft, id, { kind: "starting", incarnation });
  draft.effects.push({ kind: "start", id, incarnation });
  return draft;
}

function stepDone(draft: Draft, { kind, incarnation }: Of<"started" | "ignored" | "stopped">): Draft {
  const child = draft.children.find(
    ({ status }) => (status.kind === "starting" || status.kind === "stopping") && status.incarnation === incarnation,
  );
  if (child === undefined) return draft; // R3
  const { id, restart: restartType } = child.traits;
  if (kind === "started") setStatus(draft, id, { kind: "running", incarnation });
  else if (kind === "stopped") terminated(draft, id);
  else if (draft.task?.goal.kind === "start-known" || restartType !== "temporary") setStatus(draft, id, STOPPED);
  else forget(draft, id);
  shiftStep(draft);
  return advance(draft);
}

function startFailed(draft: Draft, { incarnation, error, ...chance }: Of<"start-failed">): Draft {
  const child = draft.children.find(({ status }) => status.kind === "starting" && status.incarnation === incarnation);
  if (child === undefined || draft.task === null) return draft; // R3
  const { id } = child.traits;
  const { goal } = draft.task;
  draft.task = null;
  setStatus(draft, id, STOPPED);
  switch (goal.kind) {
    case "init":
      draft.phase = "ending";
      return begin(draft, { kind: "roll-back", id, error }, stops(draft.children));
    case "start-new":
      forget(draft, id);
      reply(draft, goal.call, { ok: false, error: "start_failed", reason: error });
      break;
    case "start-known":
      reply(draft, goal.call, { ok: false, error: "start_failed", reason: error });
      break;
    default:
      log(draft, "start-failed", id, failedWith(error));
      if (draft.endReason === null) return tryAgain(draft, id, failedWith(error), chance); // R5
  }
  if (draft.endReason !== null) end(draft, draft.endReason);
  return draft;
}

/** R5. With a backoff the next try is counted and stops its siblings now, since it may be long until it is made. */
function tryAgain(draft: Draft, id: string, reason: ExitReason, chance: Chance): Draft {
  if (draft.flags.backoff !== undefined) return countedRestart(draft, id, reason, chance);
  setStatus(draft, id, { kind: "restarting", ticket: null, reason });
  draft.effects.push({ kind: "retry", id, ticket: null, delayMs: 0 });
  return draft;
}

function conclude(draft: Draft, goal: Goal): Draft {
  draft.task = null;
  switch (goal.kind) {
    case "init":
      if (draft.endReason !== null) break;
      draft.phase = "running";
      draft.effects.push({ kind: "up" });
      break;
    case "restart":
      break;
    case "restart-later": {
      const { id, reason, delayMs } = goal;
      const ticket = draft.nextTicket;
      draft.nextTicket += 1;
      setStatus(draft, id, { kind: "restarting", ticket, reason });
      draft.effects.push({ kind: "retry", id, ticket, delayMs });
      break;
    }
    case "terminate":
      reply(draft, goal.call, { ok: true });
      break;
    case "start-new":
    case "start-known": {
      const status = draft.children.find(({ traits }) => traits.id === goal.id)?.status;
      reply(draft, goal.call, { ok: true, incarnation: status?.kind === "running" ? status.incarnation : null });
      break;
    }
    case "roll-back":
      draft.phase = "over";
      draft.effects.push({ kind: "start-of-supervisor-failed", id: goal.id, error: goal.error });
      return draft;
    case "end":
      draft.phase = "over";
      draft.effects.push({ kind: "exit", reason: goal.reason });
      return draft;
  }
  if (draft.endReason !== null) end(draft, draft.endReason);
  return draft;
}

function shiftStep(draft: Draft): void {
  if (draft.task !== null) draft.task = { ...draft.task, steps: draft.task.steps.slice(1) };
}

/** A child that ended and is not to come back by itself: a temporary one is forgotten with it. */
function terminated(draft: Draft, id: string): void {
  const child = draft.children.find(({ traits }) => traits.id === id);
  if (child?.traits.restart === "temporary") forget(draft, id);
  else setStatus(draft, id, STOPPED);
}

function setStatus(draft: Draft, id: string, status: ChildStatus): void {
  draft.children = draft.children.map((child) => (child.traits.id === id ? { ...child, status } : child));
}

function forget(draft: Draft, id: string): void {
  draft.children = draft.children.filter(({ traits }) => traits.id !== id);
}

function reply(draft: Draft, call: number, answer: VerbAnswer): Draft {
  draft.effects.push({ kind: "reply", call, answer });
  return draft;
}

function log(draft: Draft, what: Extract<SupervisorEffect, { kind: "log" }>["what"], id: string, reason: ExitReason) {
  const restartsLeft = Math.max(0, draft.flags.intensity - draft.restarts.length);
  draft.effects.push({ kind: "log", what, id, reason, restartsLeft });
}

type Of<Kind extends SupervisorEvent["kind"]> = Extract<SupervisorEvent, { kind: Kind }>;
type Verb = Of<"start-child" | "terminate-child" | "restart-child" | "delete-child">;
