// The whole tree, as one literal that reads top to bottom. Started in this order, stopped in reverse: what is accepted can
// still be worked off, because everything downstream of it lives longer. What fails takes with it what was started after it.
//
//   root (rest_for_one)
//     health     a port that answers before Redis does and after it left
//     store      data folder, embedded Redis, connections
//     leases     who owns which shard; gives the leases back when the shards are closed
//     children   what a user adds, there for the bots
//     shards     a subtree for each owned shard: committer -> lanes -> conversations -> reader -> retry-worker
//     observer   looks at Redis' settings and memory
//     ingress    lets webhooks and channels in: starts last, stops first

import type { Environment } from "../src/environment.ts";
import type { Log } from "../src/log.ts";
import type { ChildSpec } from "./child-spec.ts";
import { part, type StartPart } from "./shard-supervisor.ts";
import { type SupervisorSpec, supervisorChild } from "./supervisor.ts";

/** The embedded Redis has 10 s to end by itself; it is killed after that, and what it confirmed is on disk either way. */
const STORE_SHUTDOWN_MS = 12_000;

export interface RootParts {
  readonly health: StartPart;
  readonly store: StartPart;
  readonly leases: StartPart;
  /** The user's own. */
  readonly children: readonly ChildSpec[];
  readonly shards: ChildSpec["start"];
  readonly observer: StartPart;
  readonly ingress: StartPart;
  /** How long the whole may take to stop, ms. */
  readonly drainMs: number;
  readonly environment: Environment;
  readonly log: Log;
}

export function rootSupervisor(parts: RootParts): SupervisorSpec {
  const { drainMs, environment, log } = parts;
  const children: SupervisorSpec = { id: "children", strategy: "one_for_one", children: parts.children };
  return {
    id: "root",
    strategy: "rest_for_one",
    children: [
      part("health", 1_000, parts.health),
      part("store", STORE_SHUTDOWN_MS, parts.store),
      part("leases", 1_000, parts.leases),
      supervisorChild(children, environment, log, { shutdownMs: drainMs * 0.2 }),
      { id: "shards", type: "supervisor", start: parts.shards, shutdownMs: drainMs * 0.6 },
      part("observer", 1_000, parts.observer),
      part("ingress", drainMs * 0.2, parts.ingress),
    ],
  };
}
