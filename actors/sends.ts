// Sends: what one commit sends from conversation to conversation, sorted by the inbox that it goes to. To the shard itself it goes
// with the commit, to another one by the lane that leads there.

import { InboxBatch } from "../src/codec/inbox-codec.ts";
import type { OutboxReply } from "../src/codec/outbox-codec.ts";
import { conversationKey, parseConversationKey, shardOf } from "../src/domain/ids.ts";
import type { LaneMarkers, SortedSends } from "./committer.ts";
import { transferKey } from "./transfers.ts";
import type { Send } from "./turn.ts";

export interface SendPlace {
  readonly shard: number;
  readonly shards: number;
  /** Tells the transfers of this owner from those of others, for people; the outbox entry is what they go by. */
  readonly epoch: number;
}

function markerBatch(lanes: readonly LaneMarkers[]): InboxBatch {
  const batch = new InboxBatch();
  for (const { key, markers } of lanes) {
    const to = parseConversationKey(key);
    for (const { id, deliveryFailed } of markers) batch.add(key, { to, id, text: "" }, { deliveryFailed });
  }
  return batch;
}

/** About what it takes of a commit, bytes. */
export const sendBytesOf = ({ text, data }: Pick<Send, "text" | "data">): number =>
  text.length + (data === undefined ? 0 : JSON.stringify(data).length);

/**
 * @param markers of conversations of this shard
 * @param n       number of the commit
 */
export function sortSends(
  sends: readonly Send[],
  markers: readonly LaneMarkers[],
  n: number,
  { shard, shards, epoch }: SendPlace,
): SortedSends {
  const batches = new Map<number, InboxBatch>();
  if (markers.length > 0) batches.set(shard, markerBatch(markers));
  for (const { to, id, text, data, from, hops } of sends) {
    const key = conversationKey(to);
    const target = shardOf(key, shards);
    const batch = batches.get(target) ?? new InboxBatch();
    batches.set(target, batch);
    batch.add(key, { to, id, text, ...(data !== undefined && { data }) }, { from, hops });
  }
  const here = batches.get(shard)?.finish() ?? null;
  batches.delete(shard);
  const away = Array.from(batches, ([target, batch]): OutboxReply => {
    return { key: transferKey(target), born: `e${epoch}`, outSeq: n, body: batch.finish() };
  });
  return { here, away };
}
