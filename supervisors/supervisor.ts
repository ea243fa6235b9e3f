// Supervisor: carries out what the restart decision (supervisors/restart-decision.ts) says, one effect at a time, and answers in
// the order in which it was asked, as an Erlang process would.
//
// Invariants
//   V1. A child starts only after all before it have started, and stops only after all behind it have stopped.
//   V2. A failed start stops what had started, in reverse, and is the failure of the supervisor's own start.
//   V3. A child that does not stop within its `shutdownMs` is killed, or left behind and named; the others stop all the same.
//   V4. A stop while it starts waits for the child under way and stops that one too; nothing behind it starts.
//   V5. Exits and calls that arrive while an effect is under way wait, and are handled in the order of their arrival. A stop
//       does not wait: what was waiting then is answered `noproc`.
//   V6. A late exit of an incarnation that was stopped changes nothing; a late start is stopped.
//   V7. Once it ended, it has no timer, every call is answered, and every monitor has heard of it.

import type { Environment, Timer } from "../src/environment.ts";
import { ChildSpecError, ChildStartError, SupervisorEndedError } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import { type ChildLink, type ChildSpec, type FullChildSpec, fullChildSpec, type RunningChild } from "./child-spec.ts";
import { type ExitReason, exitReasonOf, KILLED, SHUTDOWN } from "./exit-reason.ts";
import { Monitors, type OnDown } from "./monitors.ts";
import type { RestartBackoff } from "./restart-backoff.ts";
import {
  type ChildCounts,
  type ChildState,
  countChildren,
  decide,
  newSupervisorState,
  type Strategy,
  type SupervisorEffect,
  type SupervisorEvent,
  type SupervisorState,
  type VerbAnswer,
  whichChildren,
} from "./restart-decision.ts";
import { restartsLeft } from "./restart-intensity.ts";
import type { AutoShutdown, RestartType, Shutdown } from "./restart-rules.ts";
import { killChild, type StartOutcome, startChild, stopChild } from "./running-child.ts";
import { type LastExit, lastExitOf, type NodeState, reasonFields, type TreeNode } from "./tree.ts";

export interface SupervisorSpec {
  readonly id: string;
  readonly strategy: Strategy;
  readonly children: readonly ChildSpec[];
  /** Restarts allowed within `periodMs`; one more ends the supervisor. Default 1. */
  readonly intensity?: number;
  /** Default 5,000. */
  readonly periodMs?: number;
  /** Default `never`. */
  readonly autoShutdown?: AutoShutdown;
  /** Waits before restarts; default none, as in OTP. */
  readonly backoff?: RestartBackoff;
}

export type ChildList = ReturnType<typeof whichChildren>;

/** One incarnation of a child, from its start until it is gone. */
interface Life {
  readonly spec: FullChildSpec;
  readonly incarnation: number;
  child: RunningChild | null;
  /** Set once it said that it ended. */
  exitReason: ExitReason | null;
  readonly exited: Promise<ExitReason>;
  resolveExited: (reason: ExitReason) => void;
}

type Waiting = SupervisorEvent | { readonly kind: "query"; readonly run: (isOver: boolean) => void };

const INTENSITY = 1;
const PERIOD_MS = 5_000;

export class Supervisor {
  readonly #spec: SupervisorSpec;
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #specs = new Map<string, FullChildSpec>();
  readonly #lives = new Map<number, Life>();
  readonly #monitors: Monitors;
  readonly #lastExits = new Map<string, LastExit>();
  readonly #calls = new Map<number, (answer: VerbAnswer) => void>();
  /** Specs of `startChild` calls that were not decided yet: the id may be taken. */
  readonly #newSpecs = new Map<number, FullChildSpec>();
  readonly #timers = new Set<Timer>();
  readonly #ended: Promise<ExitReason>;
  #waiting: Waiting[] = [];
  #state: SupervisorState;
  /** An effect is awaited. */
  #isBusy = false;
  #isOver = false;
  #isInTime = true;
  #lastCall = 0;
  #starting: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | null = null;
  #wasStarted = false;
  #end: (reason: ExitReason) => void = () => undefined;

  /** @throws ChildSpecError the specification cannot be used; nothing was started */
  constructor(spec: SupervisorSpec, environment: Environment, log: Log) {
    const flags = fullFlags(spec);
    this.#spec = spec;
    this.#environment = environment;
    this.#log = log;
    this.#monitors = new Monitors(spec.id, log);
    for (const child of spec.children) {
      if (this.#specs.has(child.id))
        throw new ChildSpecError(`${spec.id} has two children named ${child.id}; rename one`);
      this.#specs.set(child.id, fullChildSpec(child, flags.autoShutdown));
    }
    this.#state = newSupervisorState(flags, [...this.#specs.values()]);
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get id(): string {
    return this.#spec.id;
  }

  /** Resolves with the reason once it ended, however that came. A start that failed is `shutdown`. */
  get ended(): Promise<ExitReason> {
    return this.#ended;
  }

  /**
   * Once in its life.
   * @throws ChildStartError a child did not start; its `cause` is what that child threw
   * @throws SupervisorEndedError it was stopped before or meanwhile, or started already
   */
  start(): Promise<void> {
    if (this.#wasStarted) return Promise.reject(new SupervisorEndedError(`${this.id} was started already`));
    this.#wasStarted = true;
    if (this.#isOver) return Promise.reject(stoppedWhileStarting(this.id));
    return new Promise((resolve, reject) => {
      this.#starting = { resolve, reject };
      this.#decide({ kind: "init" });
      this.#drain();
    });
  }

  /** True if every child stopped within its time. */
  async stop(): Promise<boolean> {
    if (!this.#isOver) this.#decide({ kind: "stop", reason: SHUTDOWN }); // V5
    await this.#ended;
    return this.#isInTime;
  }

  /** Ends it and all below it at once, without asking. What is being started is killed when it comes up. */
  kill(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const life of [...this.#lives.values()].toReversed()) if (life.child !== null) this.#kill(life, life.child);
    this.#over(KILLED);
    this.#settleStart(new SupervisorEndedError(`${this.id} was killed while it started; its children were killed too`));
  }

  /** Adds a child behind the others and starts it. @throws ChildSpecError */
  async startChild(spec: ChildSpec): Promise<VerbAnswer> {
    const traits = fullChildSpec(spec, this.#state.flags.autoShutdown);
    return this.#call((call) => ({ kind: "start-child", call, traits }), traits);
  }

  /** Stops a child, which stays known unless it is temporary. Ends no supervisor, significant or not. */
  terminateChild(id: string): Promise<VerbAnswer> {
    return this.#call((call) => ({ kind: "terminate-child", call, id }));
  }

  /** Starts a child that is known and does not run. */
  restartChild(id: string): Promise<VerbAnswer> {
    return this.#call((call) => ({ kind: "restart-child", call, id }));
  }

  /** Forgets a child that does not run. */
  deleteChild(id: string): Promise<VerbAnswer> {
    return this.#call((call) => ({ kind: "delete-child", call, id }));
  }

  /** The child that started last comes first. Null once the supervisor ended. */
  whichChildren(): Promise<ChildList | null> {
    return this.#query(() => whichChildren(this.#state));
  }

  /** Null once the supervisor ended. */
  countChildren(): Promise<ChildCounts | null> {
    return this.#query(() => countChildren(this.#state, (incarnation) => this.#isAlive(incarnation)));
  }

  /** The running incarnation of a child. */
  child(id: string): RunningChild | undefined {
    return this.#lifeOf(id)?.child ?? undefined;
  }

  /** The running part at this place below, supervisor by supervisor. */
  descendant([id, ...below]: readonly string[]): RunningChild | undefined {
    const child = id === undefined ? undefined : this.child(id);
    if (below.length === 0) return child;
    return (child as { readonly supervisor?: Supervisor } | undefined)?.supervisor?.descendant(below);
  }

  /**
   * Calls `onDown` once: when the child's running incarnation, or for null the supervisor, is no longer there. At once, with
   * `noproc`, if it is not there now. The answer takes the monitor back.
   */
  monitor(id: string | null, onDown: OnDown): () => void {
    if (id === null)
      return this.#isOver ? this.#monitors.tellNoproc(null, onDown) : this.#monitors.add(null, null, onDown);
    const life = this.#lifeOf(id);
    if (life === undefined || life.exitReason !== null) return this.#monitors.tellNoproc(id, onDown);
    return this.#monitors.add(id, life.incarnation, onDown);
  }

  tree(): TreeNode {
    const { flags, children, restarts, phase } = this.#state;
    return {
      id: this.id,
      kind: "supervisor",
      strategy: flags.strategy,
      state: PHASES[phase],
      restartsLeft: restartsLeft(restarts, this.#environment.monotonicMs(), flags),
      lastExit: null,
      mailboxDepth: null,
      children: children.map((child) => this.#node(child)),
    };
  }

  #node({ traits: { id, type }, status }: ChildState): TreeNode {
    const child = this.child(id);
    const own = child?.tree?.();
    return {
      kind: type,
      strategy: null,
      restartsLeft: null,
      children: [],
      ...own,
      id,
      state: status.kind,
      lastExit: this.#lastExits.get(id) ?? null,
      mailboxDepth: child?.mailboxDepth?.() ?? null,
    };
  }

  #lifeOf(id: string): Life | undefined {
    const status = this.#state.children.find(({ traits }) => traits.id === id)?.status;
    return status?.kind === "running" || status?.kind === "stopping" ? this.#lives.get(status.incarnation) : undefined;
  }

  #isAlive(incarnation: number): boolean {
    return this.#lives.get(incarnation)?.exitReason === null;
  }

  #call(event: (call: number) => SupervisorEvent, spec?: FullChildSpec): Promise<VerbAnswer> {
    if (this.#isOver || this.#state.phase === "new") return Promise.resolve({ ok: false, error: "noproc" });
    this.#lastCall += 1;
    const call = this.#lastCall;
    return new Promise((resolve) => {
      this.#calls.set(call, resolve);
      if (spec !== undefined) this.#newSpecs.set(call, spec);
      this.#post(event(call));
    });
  }

  #query<Answer>(answer: () => Answer): Promise<Answer | null> {
    if (this.#isOver || this.#state.phase === "new") return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#post({ kind: "query", run: (isOver) => resolve(isOver ? null : answer()) });
    });
  }

  #post(waiting: Waiting): void {
    if (this.#isOver) return;
    this.#waiting.push(waiting);
    queueMicrotask(() => this.#drain());
  }

  /** V5 */
  #drain(): void {
    while (!this.#isBusy && !this.#isOver) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      if (next.kind === "query") next.run(false);
      else this.#decide(next);
    }
  }

  #decide(event: SupervisorEvent): void {
    if (event.kind === "start-child") this.#adopt(event.call, event.traits.id);
    if (event.kind === "exited") this.#lives.delete(event.incarnation);
    const { state, effects } = decide(this.#state, event);
    const isForgotten = state.children.length < this.#state.children.length;
    this.#state = state;
    if (isForgotten) this.#forget();
    for (const effect of effects) this.#carryOut(effect);
  }

  #adopt(call: number, id: string): void {
    const isKnown = this.#state.children.some(({ traits }) => traits.id === id);
    if (!isKnown) this.#specs.set(id, this.#newSpecs.get(call)!);
    this.#newSpecs.delete(call);
  }

  #forget(): void {
    const known = new Set(this.#state.children.map(({ traits }) => traits.id));
    for (const id of this.#specs.keys()) {
      if (known.has(id)) continue;
      this.#specs.delete(id);
      this.#lastExits.delete(id);
    }
  }

  #carryOut(effect: SupervisorEffect): void {
    switch (effect.kind) {
      case "start":
        this.#start(this.#specs.get(effect.id)!, effect.incarnation);
        break;
      case "stop":
        this.#stop(this.#lives.get(effect.incarnation)!);
        break;
      case "retry":
        this.#retryLater(effect);
        break;
      case "reply":
        this.#calls.get(effect.call)?.(effect.answer);
        this.#calls.delete(effect.call);
        break;
      case "log":
        this.#logExit(effect);
        break;
      case "up":
        this.#settleStart(null);
        break;
      case "start-of-supervisor-failed":
        this.#over(SHUTDOWN);
        this.#settleStart(new ChildStartError(this.id, effect.id, effect.error));
        break;
      case "exit":
        this.#over(effect.reason);
        this.#settleStart(stoppedWhileStarting(this.id));
        break;
    }
  }

  #start(spec: FullChildSpec, incarnation: number): void {
    this.#isBusy = true;
    let resolveExited: Life["resolveExited"] = () => undefined;
    const exited = new Promise<ExitReason>((resolve) => {
      resolveExited = resolve;
    });
    const life: Life = { spec, incarnation, child: null, exitReason: null, exited, resolveExited };
    this.#lives.set(incarnation, life);
    void startChild({
      name: spec.id,
      environment: this.#environment,
      timeoutMs: spec.startTimeoutMs,
      start: spec.start,
      link: { exited: (reason) => this.#childExited(life, reason) },
      discard: (child) => this.#discard(life, child),
    }).then((outcome) => this.#startSettled(life, outcome));
  }

  #startSettled(life: Life, outcome: StartOutcome): void {
    const { incarnation } = life;
    if (outcome.kind === "started") {
      if (this.#isOver) {
        this.#kill(life, outcome.child); // V6
        return;
      }
      life.child = outcome.child;
    } else this.#lives.delete(incarnation);
    this.#effectDone(
      outcome.kind === "failed"
        ? { kind: "start-failed", incarnation, error: outcome.error, ...this.#chance() }
        : { kind: outcome.kind, incarnation },
    );
  }

  /** V6: what came up too late is stopped, beside whatever goes on now. */
  #discard(life: Life, child: RunningChild): void {
    const { id, shutdownMs } = life.spec;
    this.#log.warn({ supervisor: this.id, child: id }, "child started after its time was over and is stopped");
    void stopChild({
      supervisor: this.id,
      id,
      environment: this.#environment,
      log: this.#log,
      child,
      shutdownMs,
      exited: life.exited,
    });
  }

  #stop(life: Life): void {
    this.#isBusy = true;
    void this.#stopped(life).then(({ reason, inTime }) => {
      this.#isInTime &&= inTime;
      this.#gone(life, life.exitReason ?? reason);
      this.#effectDone({ kind: "stopped", incarnation: life.incarnation });
    });
  }

  #stopped(life: Life): ReturnType<typeof stopChild> {
    if (life.exitReason !== null) return Promise.resolve({ reason: life.exitReason, inTime: true });
    return stopChild({
      supervisor: this.id,
      id: life.spec.id,
      environment: this.#environment,
      log: this.#log,
      child: life.child!,
      shutdownMs: life.spec.shutdownMs,
      exited: life.exited,
    });
  }

  #childExited(life: Life, reason: ExitReason): void {
    if (life.exitReason !== null || this.#lives.get(life.incarnation) !== life) return; // V6
    const known = exitReasonOf(reason);
    life.exitReason = known;
    life.resolveExited(known);
    this.#lastExits.set(life.spec.id, lastExitOf(known, this.#environment.nowMs()));
    this.#monitors.down(life.incarnation, known);
    this.#post({ kind: "exited", incarnation: life.incarnation, reason: known, ...this.#chance() });
  }

  #gone(life: Life, reason: ExitReason): void {
    this.#lives.delete(life.incarnation);
    if (life.exitReason === null) this.#lastExits.set(life.spec.id, lastExitOf(reason, this.#environment.nowMs()));
    this.#monitors.down(life.incarnation, reason);
  }

  #kill(life: Life, child: RunningChild): void {
    killChild({ supervisor: this.id, id: life.spec.id, log: this.#log }, child);
    life.resolveExited(KILLED); // whoever waits for its stop
    this.#gone(life, life.exitReason ?? KILLED);
  }

  #effectDone(event: SupervisorEvent): void {
    if (this.#isOver) return;
    this.#isBusy = false;
    this.#decide(event);
    this.#drain();
  }

  #retryLater({ id, ticket, delayMs }: Extract<SupervisorEffect, { kind: "retry" }>): void {
    const retry = (): Waiting => ({ kind: "retry", id, ticket, ...this.#chance() });
    if (delayMs === 0) {
      this.#waiting.push(retry());
      return;
    }
    const timer = this.#environment.after(delayMs, () => {
      this.#timers.delete(timer);
      this.#post(retry());
    });
    this.#timers.add(timer);
  }

  #chance(): { atMs: number; random: number } {
    return { atMs: this.#environment.monotonicMs(), random: this.#environment.random() };
  }

  #logExit({ what, id, reason, restartsLeft: left }: Extract<SupervisorEffect, { kind: "log" }>): void {
    const fields = {
      supervisor: this.id,
      child: id,
      ...reasonFields(reason),
      strategy: this.#spec.strategy,
      restartsLeft: left,
    };
    if (what === "restart") this.#log.warn(fields, "child is restarted");
    else if (what === "ended") this.#log.warn(fields, "child ended abnormally and is not restarted");
    else if (what === "start-failed") this.#log.warn(fields, "child did not start again; another try follows");
    else this.#log.error(fields, "child was restarted too often: the supervisor stops its children and ends");
  }

  #settleStart(error: unknown): void {
    const starting = this.#starting;
    this.#starting = null;
    if (error === null) starting?.resolve();
    else starting?.reject(error);
  }

  /** V7 */
  #over(reason: ExitReason): void {
    this.#isOver = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) if (one.kind === "query") one.run(true);
    for (const answer of this.#calls.values()) answer({ ok: false, error: "noproc" });
    this.#calls.clear();
    this.#newSpecs.clear();
    if (this.#state.phase !== "over") this.#state = { ...this.#state, phase: "over" };
    this.#end(reason);
    this.#monitors.over(reason);
  }
}

const PHASES: Readonly<Record<SupervisorState["phase"], NodeState>> = {
  new: "stopped",
  starting: "starting",
  running: "running",
  ending: "stopping",
  over: "stopped",
};

export interface SupervisorChildOptions {
  readonly restart?: RestartType;
  readonly shutdownMs?: Shutdown;
  readonly significant?: boolean;
}

/** A supervisor as a child of another: each start is a new supervisor, and its end is told upwards. */
export function supervisorChild(
  spec: SupervisorSpec,
  environment: Environment,
  log: Log,
  options: SupervisorChildOptions = {},
): ChildSpec & { start(link: ChildLink): Promise<RunningChild & { readonly supervisor: Supervisor }> } {
  return {
    id: spec.id,
    type: "supervisor",
    ...options,
    start: async (link) => {
      const supervisor = new Supervisor(spec, environment, log);
      await supervisor.start();
      supervisor.monitor(null, ({ reason }) => {
        if (reason.kind !== "noproc") link.exited(reason);
      });
      return {
        supervisor,
        stop: () => supervisor.stop(),
        kill: () => supervisor.kill(),
        tree: () => supervisor.tree(),
      };
    },
  };
}

const stoppedWhileStarting = (id: string): SupervisorEndedError =>
  new SupervisorEndedError(`${id} was stopped while it started; what had started was stopped again`);

function fullFlags({
  id,
  strategy,
  intensity = INTENSITY,
  periodMs = PERIOD_MS,
  autoShutdown = "never",
  backoff,
}: SupervisorSpec) {
  const refuse = (field: string, allowed: string): never => {
    throw new ChildSpecError(`supervisor ${id}: ${field} must be ${allowed}; nothing of it was started`);
  };
  if (!["one_for_one", "one_for_all", "rest_for_one"].includes(strategy))
    refuse("strategy", "one_for_one, one_for_all or rest_for_one (simple_one_for_one is a family)");
  if (!Number.isSafeInteger(intensity) || intensity < 0) refuse("intensity", "a whole number from 0");
  if (!Number.isFinite(periodMs) || periodMs <= 0) refuse("periodMs", "a number of ms above 0");
  if (!["never", "any_significant", "all_significant"].includes(autoShutdown))
    refuse("autoShutdown", "never, any_significant or all_significant");
  return { strategy, intensity, periodMs, autoShutdown, backoff };
}
