// The whole tree, as one literal that reads top to bottom. Started in this order, stopped in reverse: what is accepted can
// still be worked off, because everything downstream of it lives longer.
//
//   root (rest_for_one)
//     health    a port that answers before Redis does and after it left
//     store     data folder, embedded Redis, connections
//     leases    who owns which shard; gives the leases back when the shards are closed
//     shards    acquires shards, and runs a subtree for each: committer -> lanes -> conversations -> reader -> retry-worker
//     ingress   lets webhooks and channels in: starts last, stops first

import { stepsChild } from "./child-spec.ts";
import type { SupervisorSpec } from "./supervisor.ts";

/** The embedded Redis has 10 s to end by itself; it is killed after that, and what it confirmed is on disk either way. */
const STORE_SHUTDOWN_MS = 12_000;

type Step = () => void | Promise<void>;

export interface RootParts {
  readonly health: { readonly start: Step; readonly stop: Step };
  readonly store: { readonly start: Step; readonly stop: Step };
  readonly leases: { readonly start: Step; readonly stop: Step };
  readonly shards: { readonly start: Step; readonly stop: Step };
  readonly ingress: { readonly start: Step; readonly stop: Step };
  /** How long the whole may take to stop, ms. */
  readonly drainMs: number;
}

export function rootSupervisor({ health, store, leases, shards, ingress, drainMs }: RootParts): SupervisorSpec {
  return {
    id: "root",
    strategy: "rest_for_one",
    children: [
      stepsChild({ id: "health", ...health, shutdownMs: 1_000 }),
      stepsChild({ id: "store", ...store, shutdownMs: STORE_SHUTDOWN_MS }),
      stepsChild({ id: "leases", ...leases, shutdownMs: 1_000 }),
      stepsChild({ id: "shards", ...shards, shutdownMs: drainMs * 0.6 }),
      stepsChild({ id: "ingress", ...ingress, shutdownMs: drainMs * 0.2 }),
    ],
  };
}
