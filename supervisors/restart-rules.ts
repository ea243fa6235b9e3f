// Restart rules: the few tables of OTP that every kind of supervisor shares, each a pure function of plain words.

import { type ExitReason, isOrderly } from "./exit-reason.ts";

/**
 * `permanent`: always restarted. `transient`: only after an end that was not orderly. `temporary`: never, and forgotten when
 * it ends.
 */
export type RestartType = "permanent" | "transient" | "temporary";

/** Whether the end of significant children ends their supervisor. */
export type AutoShutdown = "never" | "any_significant" | "all_significant";

/** How long a child may take to stop, ms; `brutal_kill` does not ask it. */
export type Shutdown = number | "brutal_kill" | "infinity";

export type ChildType = "worker" | "supervisor";

/** What an exit means for the child itself: it comes back, stays known without running, or is forgotten. */
export function afterExit(restart: RestartType, reason: ExitReason): "restart" | "keep" | "forget" {
  if (restart === "permanent") return "restart";
  if (restart === "temporary") return "forget";
  return isOrderly(reason) ? "keep" : "restart";
}

/**
 * Whether the end of a child that is not restarted ends its supervisor, in good order.
 * @param othersLeft other significant children that run or are about to
 */
export function endsSupervisor(autoShutdown: AutoShutdown, isSignificant: boolean, othersLeft: number): boolean {
  if (!isSignificant || autoShutdown === "never") return false;
  return autoShutdown === "any_significant" || othersLeft === 0;
}
