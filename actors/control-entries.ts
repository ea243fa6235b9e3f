// Control entries: what operators ask for, written into the inboxes of shards.
//
// Invariants
//   E1. The controls of one shard enter its inbox in the order in which they are given.
//   E2. They pass the bound of the inbox, since they are what empties it (P7).

import { InboxBatch } from "../src/codec/inbox-codec.ts";
import type { ShardStore } from "../src/store/shard-store.ts";

/** One control message on its way to the inbox of a shard. */
export interface ShardControl {
  readonly shard: number;
  readonly addTo: (batch: InboxBatch) => void;
}

/** Control messages in one inbox entry. */
const CONTROLS_PER_ENTRY = 500;

/** Resolves when Redis has confirmed all of them; when it rejects, some may have been appended. */
export async function appendControls(
  store: (shard: number) => Pick<ShardStore, "append">,
  controls: readonly ShardControl[],
): Promise<void> {
  for (const [shard, all] of byShard(controls)) {
    for (let from = 0; from < all.length; from += CONTROLS_PER_ENTRY) {
      const batch = new InboxBatch();
      for (const { addTo } of all.slice(from, from + CONTROLS_PER_ENTRY)) addTo(batch);
      await store(shard).append(batch.finish(), Number.MAX_SAFE_INTEGER); // E2
    }
  }
}

/** E1 */
export function byShard<Each extends { readonly shard: number }>(
  all: readonly Each[],
): ReadonlyMap<number, readonly Each[]> {
  const shards = new Map<number, Each[]>();
  for (const each of all) {
    const known = shards.get(each.shard);
    if (known === undefined) shards.set(each.shard, [each]);
    else known.push(each);
  }
  return shards;
}
