// The whole tree, as one literal that reads top to bottom. Started in this order, stopped in reverse: what is accepted can
// still be worked off, because everything downstream of it lives longer.
//
//   root (rest_for_one)
//     health    a port that answers before Redis does and after it left
//     store     data folder, embedded Redis, connections
//     leases    checks the store, opens the namespace, keeps a lease per shard
//     shards    one subtree per owned shard: committer -> lanes -> conversations -> reader -> retry-worker
//     ingress   lets webhooks and channels in: starts last, stops first

import type { SupervisorSpec } from "./supervisor.ts";

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
      { id: "health", ...health, shutdownMs: 1_000 },
      { id: "store", ...store, shutdownMs: drainMs },
      { id: "leases", ...leases, shutdownMs: 1_000 },
      { id: "shards", ...shards, shutdownMs: drainMs * 0.6 },
      { id: "ingress", ...ingress, shutdownMs: drainMs * 0.2 },
    ],
  };
}
