// Child specification: what a supervisor knows of a child. The words and defaults are those of Erlang's `supervisor`.

import { ChildSpecError } from "../src/errors.ts";
import type { ExitReason } from "./exit-reason.ts";
import type { ChildTraits } from "./restart-decision.ts";
import type { AutoShutdown, ChildType, RestartType, Shutdown } from "./restart-rules.ts";
import type { TreeNode } from "./tree.ts";

export interface ChildSpec {
  /** Unique below its supervisor, 1 to 512 characters; part of log lines and of the tree that operators see. */
  readonly id: string;
  /**
   * Resolves when the child does its work; the next sibling starts only then. `ignore`: there is nothing to run now. What it
   * throws or rejects with is the failure of the start.
   * @param link how the child says that it ended by itself; may be called before the start is over
   */
  start(link: ChildLink): Started | Promise<Started>;
  /** Default `permanent`. */
  readonly restart?: RestartType;
  /** How long `stop` may take, ms. After it the child is killed. Default 5,000 for a worker, `infinity` for a supervisor. */
  readonly shutdownMs?: Shutdown;
  /** Default `worker`. */
  readonly type?: ChildType;
  /** Its own end can end the supervisor (`autoShutdown`). Default false; never for a permanent child. */
  readonly significant?: boolean;
  /** How long `start` may take, ms. Default 60,000 for a worker, `infinity` for a supervisor: its children have their own. */
  readonly startTimeoutMs?: number | "infinity";
}

export interface ChildLink {
  /** The child is no longer there. Counts once; what comes later, or from an incarnation that was stopped, is ignored. */
  exited(reason: ExitReason): void;
}

export interface RunningChild {
  /** Ends the child in good order, when what it returns resolves: finishes what it accepted. Called at most once. */
  stop(): unknown;
  /** Ends it at once; must not wait. Without it a child that does not stop in time is left behind and named in the log. */
  kill?(): void;
  /** What is below it, for views. */
  tree?(): TreeNode;
  /** Messages that wait, for views. */
  mailboxDepth?(): number;
}

export type Started = RunningChild | "ignore";

/** A child spec whose defaults are filled in. */
export interface FullChildSpec extends ChildTraits {
  readonly start: ChildSpec["start"];
  readonly startTimeoutMs: number | "infinity";
}

const WORKER_SHUTDOWN_MS = 5_000;
const START_TIMEOUT_MS = 60_000;
const ID_LENGTH_MAX = 512;
/** What a timer can hold. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * Fills in the defaults.
 * @throws ChildSpecError a field cannot be used; the rules are those of Erlang's `check_childspecs`
 */
export function fullChildSpec(spec: ChildSpec, autoShutdown: AutoShutdown): FullChildSpec {
  const { id, restart = "permanent", type = "worker", significant = false } = spec;
  const isSupervisor = type === "supervisor";
  const shutdownMs = spec.shutdownMs ?? (isSupervisor ? "infinity" : WORKER_SHUTDOWN_MS);
  const startTimeoutMs = spec.startTimeoutMs ?? (isSupervisor ? "infinity" : START_TIMEOUT_MS);
  if (typeof id !== "string" || id.length === 0 || id.length > ID_LENGTH_MAX)
    throw new ChildSpecError(`a child's id must be a string of 1 to ${ID_LENGTH_MAX} characters; nothing was started`);
  const refuse = (field: string, allowed: string): never => {
    throw new ChildSpecError(`child ${id}: ${field} must be ${allowed}; nothing of it was started`);
  };
  if (typeof spec.start !== "function") refuse("start", "a function");
  if (!["permanent", "transient", "temporary"].includes(restart))
    refuse("restart", "permanent, transient or temporary");
  if (!["worker", "supervisor"].includes(type)) refuse("type", "worker or supervisor");
  if (shutdownMs !== "brutal_kill" && shutdownMs !== "infinity" && !isTime(shutdownMs))
    refuse("shutdownMs", `brutal_kill, infinity or 0 to ${TIMER_MS_MAX} ms`);
  if (startTimeoutMs !== "infinity" && !isTime(startTimeoutMs))
    refuse("startTimeoutMs", `infinity or 0 to ${TIMER_MS_MAX} ms`);
  if (typeof significant !== "boolean") refuse("significant", "true or false");
  if (significant && restart === "permanent")
    refuse("significant", "false for a permanent child, which always comes back");
  if (significant && autoShutdown === "never")
    refuse("significant", "false unless the supervisor has an autoShutdown other than never");
  return { id, start: (link) => spec.start(link), restart, type, significant, shutdownMs, startTimeoutMs };
}

const isTime = (ms: unknown): boolean => typeof ms === "number" && ms >= 0 && ms <= TIMER_MS_MAX;
