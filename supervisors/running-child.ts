// Running a child: the two waits of every supervisor, for a start and for a stop, each bounded and each without a way to throw.
//
// Invariants
//   C1. A start that does not settle in time has failed; what it brings up later is stopped, and nobody else hears of it.
//   C2. A child that does not stop within its `shutdownMs` is killed. One that cannot be killed is left behind and named.
//   C3. Neither wait leaves a timer.

import { type Environment, pause } from "../src/environment.ts";
import { ChildSpecError, ChildStartTimeoutError } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { ChildLink, RunningChild, Started } from "./child-spec.ts";
import { type ExitReason, KILLED, SHUTDOWN } from "./exit-reason.ts";
import type { Shutdown } from "./restart-rules.ts";

export type StartOutcome =
  | { readonly kind: "started"; readonly child: RunningChild }
  | { readonly kind: "ignored" }
  | { readonly kind: "failed"; readonly error: unknown };

export interface StartOptions {
  /** For error messages. */
  readonly name: string;
  readonly environment: Environment;
  readonly timeoutMs: number | "infinity";
  readonly start: (link: ChildLink) => Started | Promise<Started>;
  readonly link: ChildLink;
  /** C1: gets a child whose start came too late. */
  readonly discard: (child: RunningChild) => void;
}

/** Never rejects. */
export function startChild({
  name,
  environment,
  timeoutMs,
  start,
  link,
  discard,
}: StartOptions): Promise<StartOutcome> {
  return new Promise((resolve) => {
    let isOverdue = false;
    const timer =
      timeoutMs === "infinity"
        ? null
        : environment.after(timeoutMs, () => {
            isOverdue = true;
            const error = new ChildStartTimeoutError(
              `${name} did not start within ${timeoutMs} ms; if it still does, it is stopped. Mend its start or raise startTimeoutMs`,
            );
            resolve({ kind: "failed", error });
          });
    (async () => start(link))().then(
      (started) => {
        timer?.cancel(); // C3
        const outcome = outcomeOf(name, started);
        if (!isOverdue) resolve(outcome);
        else if (outcome.kind === "started") discard(outcome.child);
      },
      (error: unknown) => {
        timer?.cancel();
        resolve({ kind: "failed", error });
      },
    );
  });
}

export function outcomeOf(name: string, started: unknown): StartOutcome {
  if (started === "ignore") return { kind: "ignored" };
  if (typeof (started as RunningChild | null | undefined)?.stop === "function")
    return { kind: "started", child: started as RunningChild };
  const error = new ChildSpecError(
    `${name}: start must give an object with a stop function, or "ignore"; what it started, if anything, is not supervised`,
  );
  return { kind: "failed", error };
}

export interface StopOptions {
  readonly supervisor: string;
  readonly id: string;
  readonly environment: Environment;
  readonly log: Log;
  readonly child: RunningChild;
  readonly shutdownMs: Shutdown;
  /** Resolves when the child says by itself that it ended. */
  readonly exited: Promise<ExitReason>;
}

export interface StopOutcome {
  readonly reason: ExitReason;
  readonly inTime: boolean;
}

/** Never rejects. */
export async function stopChild(options: StopOptions): Promise<StopOutcome> {
  const { supervisor, id, environment, log, child, shutdownMs, exited } = options;
  const lines = { supervisor, child: id };
  if (shutdownMs === "brutal_kill") {
    killChild(options, child);
    return { reason: KILLED, inTime: true };
  }
  const isDone = new AbortController();
  const stopped = (async () => child.stop())().then(
    (): ExitReason => SHUTDOWN,
    (error: unknown): ExitReason => {
      log.error({ ...lines, error }, "child failed to stop");
      killChild(options, child);
      return { kind: "error", error };
    },
  );
  const waits: Promise<ExitReason | null>[] = [stopped, exited];
  if (shutdownMs !== "infinity") waits.push(pause(environment, shutdownMs, isDone.signal).then(() => null));
  const reason = await Promise.race(waits);
  isDone.abort(); // C3
  if (reason !== null) return { reason, inTime: true };
  log.warn(
    { ...lines, shutdownMs },
    child.kill === undefined
      ? "child did not stop in time and is left behind; what it accepted is in the store"
      : "child did not stop in time and was killed; what it accepted is in the store",
  ); // C2
  killChild(options, child);
  return { reason: KILLED, inTime: false };
}

export function killChild(
  { supervisor, id, log }: Pick<StopOptions, "supervisor" | "id" | "log">,
  child: RunningChild,
) {
  try {
    child.kill?.();
  } catch (error) {
    log.error({ supervisor, child: id, error }, "child failed to be killed");
  }
}
