// Family: a simple_one_for_one supervisor, for up to 1,000,000 children that are all alike and come and go.
//
// Its children are no nact children of it, and it handles no message of theirs: they live below the buckets of the actor system,
// so their number costs nobody anything. What it keeps of each is one object in a map.
//
// Invariants
//   Y1. Children do not wait for each other: a start or a stop that takes long holds up nobody else. (Erlang's would.)
//   Y2. An id names at most one child at a time. Each incarnation is an object of its own; what is said of another is ignored,
//       and what another brings up late is stopped.
//   Y3. With `intensityOf: "child"` a child over its intensity is given up, and the family goes on. With "family", as in OTP,
//       the family ends with `shutdown`.
//   Y4. Restarts of the whole family stay within `storm` (supervisors/storm-breaker.ts).
//   Y5. Once it ended, no child runs that it could end, it has no timer, and every monitor has heard of it.

import type { Environment, Timer } from "../src/environment.ts";
import { ChildSpecError, SupervisorEndedError } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import {
  type ChildLink,
  type ChildSpec,
  type FullChildSpec,
  fullChildSpec,
  type RunningChild,
  type Started,
} from "./child-spec.ts";
import { type ExitReason, exitReasonOf, failedWith, isOrderly, KILLED, SHUTDOWN } from "./exit-reason.ts";
import { Monitors, type OnDown } from "./monitors.ts";
import { type RestartBackoff, restartDelayMs } from "./restart-backoff.ts";
import type { ChildCounts, VerbAnswer } from "./restart-decision.ts";
import { addRestart, type Intensity, NO_RESTARTS, type RestartTimes, restartsLeft } from "./restart-intensity.ts";
import { type AutoShutdown, afterExit, endsSupervisor } from "./restart-rules.ts";
import { killChild, outcomeOf, type StartOutcome, startChild, stopChild } from "./running-child.ts";
import { admitRestart, CALM, type StormLimits, type StormState } from "./storm-breaker.ts";
import { reasonFields, type TreeNode } from "./tree.ts";

export interface FamilyChild<Args> extends Omit<ChildSpec, "id" | "start"> {
  /** Starts the child named `id`; a restart gets the same arguments. */
  start(link: ChildLink, id: string, args: Args): Started | Promise<Started>;
}

export interface FamilySpec<Args> {
  readonly id: string;
  readonly child: FamilyChild<Args>;
  /** Default 1. */
  readonly intensity?: number;
  /** Default 5,000. */
  readonly periodMs?: number;
  /** Whose restarts are counted; default `family`, as in OTP. */
  readonly intensityOf?: "family" | "child";
  /** Default `never`. */
  readonly autoShutdown?: AutoShutdown;
  /** Waits before restarts; default none, as in OTP. */
  readonly backoff?: RestartBackoff;
  /** Default none. */
  readonly storm?: StormLimits;
  /** A child was given up because it crashed too often (Y3). It is gone; its id can be started again. */
  readonly onGivenUp?: (id: string, reason: ExitReason) => void;
}

export type FamilyListing = {
  readonly id: string;
  readonly child: number | "restarting";
  readonly type: FullChildSpec["type"];
}[];

const INTENSITY = 1;
const PERIOD_MS = 5_000;
/** So many are told to stop before others get a turn. */
const STOPS_AT_ONCE = 1_000;

type Status = "starting" | "running" | "restarting" | "stopping";

/** One incarnation of a child: its link, too. */
class Member<Args> implements ChildLink {
  readonly id: string;
  readonly args: Args;
  readonly incarnation: number;
  readonly restarts: RestartTimes;
  readonly #family: { childExited(member: Member<Args>, reason: ExitReason): void };
  status: Status = "starting";
  child: RunningChild | null = null;
  exitReason: ExitReason | null = null;
  /** While it waits for a restart: its timer. While it stops: what wants to hear that it exited. */
  pending: Timer | ((reason: ExitReason) => void) | null = null;

  constructor(
    family: { childExited(member: Member<Args>, reason: ExitReason): void },
    id: string,
    args: Args,
    incarnation: number,
    restarts: RestartTimes,
  ) {
    this.#family = family;
    this.id = id;
    this.args = args;
    this.incarnation = incarnation;
    this.restarts = restarts;
  }

  exited(reason: ExitReason): void {
    this.#family.childExited(this, reason);
  }
}

export class Family<Args = unknown> {
  readonly #spec: FamilySpec<Args>;
  readonly #child: FullChildSpec;
  readonly #intensity: Intensity;
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #members = new Map<string, Member<Args>>();
  readonly #monitors: Monitors;
  readonly #ended: Promise<ExitReason>;
  readonly #hooks = { childExited: (member: Member<Args>, reason: ExitReason) => this.#childExited(member, reason) };
  #waiting: (() => void)[] = [];
  #isScheduled = false;
  #phase: "running" | "ending" | "over" = "running";
  #isInTime = true;
  #lastIncarnation = 0;
  #restarts: RestartTimes = NO_RESTARTS;
  #storm: StormState = CALM;
  #restartCount = 0;
  #crashing = 0;
  #end: (reason: ExitReason) => void = () => undefined;

  /** @throws ChildSpecError the specification cannot be used */
  constructor(spec: FamilySpec<Args>, environment: Environment, log: Log) {
    const { id, child, intensity = INTENSITY, periodMs = PERIOD_MS, autoShutdown = "never", storm } = spec;
    if (!Number.isSafeInteger(intensity) || intensity < 0 || !(periodMs > 0))
      throw new ChildSpecError(
        `family ${id}: intensity must be a whole number from 0 and periodMs above 0; nothing was started`,
      );
    if (storm !== undefined && !(storm.restartsMax >= 2 && storm.windowMs > 0))
      throw new ChildSpecError(
        `family ${id}: storm.restartsMax must be 2 or more and windowMs above 0; nothing was started`,
      );
    this.#spec = spec;
    this.#child = fullChildSpec({ ...child, id, start: () => "ignore" }, autoShutdown);
    this.#intensity = { intensity, periodMs };
    this.#environment = environment;
    this.#log = log;
    this.#monitors = new Monitors(id, log);
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get id(): string {
    return this.#spec.id;
  }

  /** Resolves with the reason once it ended, however that came. */
  get ended(): Promise<ExitReason> {
    return this.#ended;
  }

  /** Children that run, start or are about to. */
  get size(): number {
    return this.#members.size;
  }

  /** The running child of this id. */
  child(id: string): RunningChild | undefined {
    return this.#members.get(id)?.child ?? undefined;
  }

  /** `already_started` if the id is taken, also by one that is being stopped. */
  startChild(id: string, args: Args): Promise<VerbAnswer> {
    return this.#call((answer) => {
      const taken = this.#members.get(id);
      if (taken !== undefined) return answer({ ok: false, error: "already_started", incarnation: taken.incarnation });
      const member = this.#newMember(id, args, NO_RESTARTS);
      this.#launch(member, (outcome) => {
        if (outcome.kind === "started") return answer({ ok: true, incarnation: member.incarnation });
        if (this.#members.get(id) === member) this.#members.delete(id);
        answer(
          outcome.kind === "ignored"
            ? { ok: true, incarnation: null }
            : { ok: false, error: "start_failed", reason: outcome.error },
        );
      });
    });
  }

  /** Stops a child and forgets it. */
  terminateChild(id: string): Promise<VerbAnswer> {
    return this.#call((answer) => {
      const member = this.#members.get(id);
      if (member === undefined || member.status === "stopping") return answer({ ok: false, error: "not_found" });
      void this.#stopMember(member).then(() => answer({ ok: true }));
    });
  }

  /** As in OTP there is nothing to restart or delete: a child that ended is forgotten. */
  restartChild(_id: string): Promise<VerbAnswer> {
    return this.#call((answer) => answer({ ok: false, error: "simple_one_for_one" }));
  }

  deleteChild(_id: string): Promise<VerbAnswer> {
    return this.#call((answer) => answer({ ok: false, error: "simple_one_for_one" }));
  }

  /** In no particular order. Null once it ended. */
  whichChildren(): Promise<FamilyListing | null> {
    return this.#ask(() => {
      const listing: FamilyListing = [];
      for (const { id, status, incarnation } of this.#members.values()) {
        if (status !== "stopping")
          listing.push({ id, child: status === "restarting" ? status : incarnation, type: this.#child.type });
      }
      return listing;
    });
  }

  /** Null once it ended. */
  countChildren(): Promise<ChildCounts | null> {
    return this.#ask(() => {
      let all = 0;
      let active = 0;
      for (const { status } of this.#members.values()) {
        if (status !== "stopping") all += 1;
        if (status === "running" || status === "starting") active += 1;
      }
      const isWorker = this.#child.type === "worker";
      return { specs: 1, active, supervisors: isWorker ? 0 : all, workers: isWorker ? all : 0 };
    });
  }

  /** As of a supervisor: `id` null for the family itself. */
  monitor(id: string | null, onDown: OnDown): () => void {
    if (id === null)
      return this.#phase === "over" ? this.#monitors.tellNoproc(null, onDown) : this.#monitors.add(null, null, onDown);
    const member = this.#members.get(id);
    if (member?.child == null || member.exitReason !== null) return this.#monitors.tellNoproc(id, onDown);
    return this.#monitors.add(id, member.incarnation, onDown);
  }

  /** Stops all children at once, as in OTP. True if every one stopped within its time. */
  async stop(): Promise<boolean> {
    this.#stopAll(SHUTDOWN);
    await this.#ended;
    return this.#isInTime;
  }

  kill(): void {
    if (this.#phase === "over") return;
    this.#phase = "over";
    for (const member of this.#members.values()) this.#killMember(member);
    this.#over(KILLED);
  }

  tree(): TreeNode {
    const counts = { running: 0, starting: 0, restarting: 0, crashing: this.#crashing, restarts: this.#restartCount };
    for (const { status } of this.#members.values()) if (status !== "stopping") counts[status] += 1;
    const isPerChild = this.#spec.intensityOf === "child";
    return {
      id: this.id,
      kind: "supervisor",
      strategy: "simple_one_for_one",
      state: this.#phase === "running" ? "running" : this.#phase === "ending" ? "stopping" : "stopped",
      restartsLeft: isPerChild ? null : restartsLeft(this.#restarts, this.#environment.monotonicMs(), this.#intensity),
      lastExit: null,
      mailboxDepth: null,
      children: [],
      counts,
    };
  }

  #newMember(id: string, args: Args, restarts: RestartTimes): Member<Args> {
    this.#lastIncarnation += 1;
    const member = new Member(this.#hooks, id, args, this.#lastIncarnation, restarts);
    this.#members.set(id, member);
    return member;
  }

  /** A plain start is over when this returns; one that waits settles later, and holds up nobody (Y1). */
  #launch(member: Member<Args>, settled: (outcome: StartOutcome) => void): void {
    let started: Started | Promise<Started>;
    try {
      started = this.#spec.child.start(member, member.id, member.args);
    } catch (error) {
      settled({ kind: "failed", error });
      return;
    }
    if (!(started instanceof Promise)) {
      settled(this.#launched(member, outcomeOf(member.id, started)));
      return;
    }
    void startChild({
      name: member.id,
      environment: this.#environment,
      timeoutMs: this.#child.startTimeoutMs,
      start: () => started,
      link: member,
      discard: (child) => this.#discard(member, child),
    }).then((outcome) => settled(this.#launched(member, outcome)));
  }

  #launched(member: Member<Args>, outcome: StartOutcome): StartOutcome {
    if (outcome.kind !== "started") return outcome;
    if (this.#members.get(member.id) !== member || this.#phase !== "running") {
      this.#discard(member, outcome.child); // Y2
      const error = new SupervisorEndedError(`${member.id} was terminated while it started; it was stopped again`);
      return { kind: "failed", error };
    }
    member.child = outcome.child;
    member.status = "running";
    return outcome;
  }

  #discard(member: Member<Args>, child: RunningChild): void {
    void stopChild({ ...this.#stopOptions(member, child), exited: new Promise(() => undefined) });
  }

  #childExited(member: Member<Args>, told: ExitReason): void {
    if (member.exitReason !== null || this.#members.get(member.id) !== member || this.#phase === "over") return; // Y2
    const reason = exitReasonOf(told);
    member.exitReason = reason;
    this.#monitors.down(member.incarnation, reason);
    if (typeof member.pending === "function") member.pending(reason);
    else this.#post(() => this.#handleExit(member, reason));
  }

  #handleExit(member: Member<Args>, reason: ExitReason): void {
    if (this.#members.get(member.id) !== member || member.status === "stopping") return; // Y2
    member.child = null;
    if (afterExit(this.#child.restart, reason) === "restart") {
      this.#restart(member, reason);
      return;
    }
    this.#members.delete(member.id);
    if (!isOrderly(reason)) this.#line("warn", member.id, reason, "child ended abnormally and is not restarted");
    if (endsSupervisor(this.#spec.autoShutdown ?? "never", this.#child.significant, this.#members.size))
      this.#stopAll(SHUTDOWN);
  }

  /** Counts a restart, and makes it now or later, or not any more (Y3, Y4). */
  #restart(member: Member<Args>, reason: ExitReason): void {
    const nowMs = this.#environment.monotonicMs();
    const isPerChild = this.#spec.intensityOf === "child";
    const { times, isTooMany } = addRestart(isPerChild ? member.restarts : this.#restarts, nowMs, this.#intensity);
    if (!isPerChild) this.#restarts = times;
    if (isTooMany) {
      this.#giveUp(member, reason, isPerChild);
      return;
    }
    this.#restartCount += 1;
    this.#line("warn", member.id, reason, "child is restarted", Math.max(0, this.#intensity.intensity - times.length));
    const next = this.#newMember(member.id, member.args, isPerChild ? times : NO_RESTARTS);
    next.status = "restarting";
    const backoffMs = restartDelayMs(this.#spec.backoff, times.length, this.#environment.random());
    this.#later(next, backoffMs, () => this.#admit(next));
  }

  /** Y4. Asked when the restart is due, so that one which waits long for itself keeps no other waiting. */
  #admit(member: Member<Args>): void {
    const { storm } = this.#spec;
    if (storm === undefined) {
      this.#relaunch(member);
      return;
    }
    const { state, delayMs, opened } = admitRestart(this.#storm, this.#environment.monotonicMs(), storm);
    this.#storm = state;
    if (opened)
      this.#log.error(
        { supervisor: this.id, restartsMax: storm.restartsMax, windowMs: storm.windowMs, children: this.#members.size },
        "so many children crash that restarts are delayed; none is lost. Look for what they have in common",
      );
    this.#later(member, delayMs, () => this.#relaunch(member));
  }

  /** Goes on with a member that is still there by then; at once for 0. */
  #later(member: Member<Args>, delayMs: number, goOn: () => void): void {
    if (delayMs === 0) {
      goOn();
      return;
    }
    member.pending = this.#environment.after(delayMs, () => {
      member.pending = null;
      this.#post(() => {
        if (this.#members.get(member.id) === member) goOn(); // Y2
      });
    });
  }

  #relaunch(member: Member<Args>): void {
    member.status = "starting";
    this.#launch(member, (outcome) => {
      if (this.#members.get(member.id) !== member || outcome.kind === "started") return;
      if (outcome.kind === "ignored") {
        this.#members.delete(member.id);
        return;
      }
      const reason = failedWith(outcome.error);
      member.status = "restarting";
      this.#line("warn", member.id, reason, "child did not start again; another try follows");
      this.#post(() => {
        if (this.#members.get(member.id) === member) this.#restart(member, reason);
      });
    });
  }

  #giveUp(member: Member<Args>, reason: ExitReason, isPerChild: boolean): void {
    this.#members.delete(member.id);
    if (!isPerChild) {
      this.#line(
        "error",
        member.id,
        reason,
        "children were restarted too often: the family stops its children and ends",
        0,
      );
      this.#stopAll(SHUTDOWN);
      return;
    }
    this.#crashing += 1;
    this.#line("error", member.id, reason, "child crashed too often and is given up; the others go on", 0);
    try {
      this.#spec.onGivenUp?.(member.id, reason);
    } catch (error) {
      this.#log.error(
        { supervisor: this.id, child: member.id, error },
        "who was told of a child that is given up failed",
      );
    }
  }

  /** The child is gone when this resolves. */
  async #stopMember(member: Member<Args>): Promise<void> {
    const { child } = member;
    cancel(member.pending);
    if (child === null || member.exitReason !== null) {
      this.#members.delete(member.id); // a start under way is stopped when it comes up (Y2)
      return;
    }
    member.status = "stopping";
    const exited = new Promise<ExitReason>((resolve) => {
      member.pending = resolve;
    });
    const { reason, inTime } = await stopChild({ ...this.#stopOptions(member, child), exited });
    this.#isInTime &&= inTime;
    if (this.#members.get(member.id) === member) this.#members.delete(member.id);
    this.#monitors.down(member.incarnation, reason);
  }

  #stopOptions(member: Member<Args>, child: RunningChild) {
    const { id: supervisor } = this;
    const { shutdownMs } = this.#child;
    return { supervisor, id: member.id, environment: this.#environment, log: this.#log, child, shutdownMs };
  }

  #stopAll(reason: ExitReason): void {
    if (this.#phase !== "running") return;
    this.#phase = "ending";
    void this.#stopMembers().then(() => {
      if (this.#phase === "over") return;
      this.#phase = "over";
      this.#over(reason);
    });
  }

  /** One timer for all of them. */
  async #stopMembers(): Promise<void> {
    const { shutdownMs } = this.#child;
    const left = new Set<Member<Args>>();
    let whenEmpty: () => void = () => undefined;
    const done = (member: Member<Args>, reason: ExitReason): void => {
      if (!left.delete(member)) return;
      this.#members.delete(member.id);
      this.#monitors.down(member.incarnation, reason);
      if (left.size === 0) whenEmpty();
    };
    let told = 0;
    for (const member of [...this.#members.values()]) {
      if (this.#phase === "over") return;
      this.#tellToStop(member, left, done);
      told += 1;
      if (told % STOPS_AT_ONCE === 0) await new Promise<void>((resolve) => this.#environment.soon(resolve));
    }
    if (left.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer =
        typeof shutdownMs === "number"
          ? this.#environment.after(shutdownMs, () => {
              this.#isInTime = false;
              const { size } = left;
              const fields = { supervisor: this.id, children: size, shutdownMs };
              this.#log.warn(
                fields,
                "children did not stop in time and were killed; what they accepted is in the store",
              );
              for (const member of [...left]) this.#killMember(member);
              resolve();
            })
          : null;
      whenEmpty = () => {
        timer?.cancel();
        resolve();
      };
    });
  }

  #tellToStop(
    member: Member<Args>,
    left: Set<Member<Args>>,
    done: (member: Member<Args>, reason: ExitReason) => void,
  ): void {
    const { child } = member;
    if (member.status === "stopping") {
      left.add(member); // terminated before: its own stop is under way, and bounded
      this.#monitors.add(member.id, member.incarnation, ({ reason }) => {
        if (reason.kind !== "noproc") done(member, reason);
      });
      return;
    }
    cancel(member.pending);
    if (child === null || member.exitReason !== null) {
      this.#members.delete(member.id);
      return;
    }
    if (this.#child.shutdownMs === "brutal_kill") {
      this.#killMember(member);
      return;
    }
    member.status = "stopping";
    left.add(member);
    member.pending = (reason) => done(member, reason);
    let stopping: unknown;
    try {
      stopping = child.stop();
    } catch (error) {
      stopping = Promise.reject(error);
    }
    if (!(stopping instanceof Promise)) {
      done(member, SHUTDOWN);
      return;
    }
    stopping.then(
      () => done(member, SHUTDOWN),
      (error: unknown) => {
        this.#log.error({ supervisor: this.id, child: member.id, error }, "child failed to stop");
        killChild({ supervisor: this.id, id: member.id, log: this.#log }, child);
        done(member, failedWith(error));
      },
    );
  }

  #killMember(member: Member<Args>): void {
    cancel(member.pending);
    this.#members.delete(member.id);
    if (member.child === null || member.exitReason !== null) return;
    member.exitReason = KILLED;
    killChild({ supervisor: this.id, id: member.id, log: this.#log }, member.child);
    this.#monitors.down(member.incarnation, KILLED);
  }

  #call(run: (answer: (value: VerbAnswer) => void) => void): Promise<VerbAnswer> {
    return new Promise((resolve) => {
      this.#post(
        () => run(resolve),
        () => resolve({ ok: false, error: "noproc" }),
      );
    });
  }

  #ask<Answer>(answer: () => Answer): Promise<Answer | null> {
    return new Promise((resolve) => {
      this.#post(
        () => resolve(answer()),
        () => resolve(null),
      );
    });
  }

  /** What happens to the family is handled in the order in which it happened, after what runs now. */
  #post(run: () => void, runOver: () => void = () => undefined): void {
    this.#waiting.push(() => (this.#phase === "running" ? run() : runOver()));
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => this.#drain());
  }

  #drain(): void {
    this.#isScheduled = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const run of waiting) run();
  }

  #line(level: "warn" | "error", id: string, reason: ExitReason, message: string, left?: number): void {
    const fields = { supervisor: this.id, child: id, ...reasonFields(reason), strategy: "simple_one_for_one" };
    this.#log[level](left === undefined ? fields : { ...fields, restartsLeft: left }, message);
  }

  /** Y5 */
  #over(reason: ExitReason): void {
    for (const member of this.#members.values()) cancel(member.pending);
    this.#members.clear();
    this.#end(reason);
    this.#monitors.over(reason);
  }
}

function cancel(pending: Timer | ((reason: ExitReason) => void) | null): void {
  if (pending !== null && typeof pending !== "function") pending.cancel();
}

export interface FamilyChildOptions {
  readonly restart?: NonNullable<ChildSpec["restart"]>;
  readonly shutdownMs?: NonNullable<ChildSpec["shutdownMs"]>;
  readonly significant?: boolean;
}

/** A family as a child of a supervisor: each start is a new family without children, and its end is told upwards. */
export function familyChild<Args>(
  spec: FamilySpec<Args>,
  environment: Environment,
  log: Log,
  options: FamilyChildOptions = {},
): ChildSpec & { start(link: ChildLink): RunningChild & { readonly family: Family<Args> } } {
  return {
    id: spec.id,
    type: "supervisor",
    ...options,
    start: (link) => {
      const family = new Family(spec, environment, log);
      family.monitor(null, ({ reason }) => {
        if (reason.kind !== "noproc") link.exited(reason);
      });
      return { family, stop: () => family.stop(), kill: () => family.kill(), tree: () => family.tree() };
    },
  };
}
