// Tree: what a supervisor shows of itself and of what is below it, for the admin view and the command line.

import { describeError } from "../src/log.ts";
import type { DownReason } from "./exit-reason.ts";

export type NodeState = "starting" | "running" | "restarting" | "stopping" | "stopped";

export interface TreeNode {
  readonly id: string;
  readonly kind: "supervisor" | "worker";
  /** Null for a worker. */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one" | "simple_one_for_one" | null;
  readonly state: NodeState;
  /** How many more restarts its intensity allows now; null for a worker and where each child has an intensity of its own. */
  readonly restartsLeft: number | null;
  /** How its last incarnation ended; null if none did. */
  readonly lastExit: LastExit | null;
  /** Messages that wait; null if it does not say. */
  readonly mailboxDepth: number | null;
  /** Empty for a family, which is rolled up into `counts`. */
  readonly children: readonly TreeNode[];
  readonly counts?: FamilyCounts;
}

export interface FamilyCounts {
  readonly running: number;
  readonly starting: number;
  readonly restarting: number;
  /** Children that were given up because they crashed too often, since the family started. */
  readonly crashing: number;
  /** Restarts since the family started. */
  readonly restarts: number;
}

export interface LastExit {
  readonly reason: DownReason["kind"];
  /** Name, code and message of what it failed with; never a user's text beyond an error's own message. */
  readonly error?: unknown;
  /** ms since the Unix epoch */
  readonly atMs: number;
}

export function lastExitOf(reason: DownReason, atMs: number): LastExit {
  return reason.kind === "error"
    ? { reason: reason.kind, error: describeError(reason.error), atMs }
    : { reason: reason.kind, atMs };
}

/** With what the part that failed last had failed, as an error with that text; null if none did. */
export function lastFailure(tree: TreeNode): Error | null {
  let last: { readonly id: string; readonly exit: LastExit } | null = null;
  const look = (node: TreeNode): void => {
    const exit = node.lastExit;
    if (exit?.reason === "error" && (last === null || exit.atMs >= last.exit.atMs)) last = { id: node.id, exit };
    node.children.forEach(look);
  };
  look(tree);
  return last === null ? null : new Error(`${(last as { id: string }).id} failed too often, see the log`);
}

/** What a log line says of an exit. */
export function reasonFields(reason: DownReason): { reason: string; error?: unknown } {
  return reason.kind === "error" ? { reason: reason.kind, error: reason.error } : { reason: reason.kind };
}
