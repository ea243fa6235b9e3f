// Wrapped ports: the same port with other ways to do some things.

import type { Commit, ConversationWrite, ShardStore, Store } from "../../src/store/shard-store.ts";
import type { WorldOptions } from "../simulation/world.ts";

export const shardWith = (shard: ShardStore, changed: Partial<ShardStore>): ShardStore => ({
  shard: shard.shard,
  owner: () => shard.owner(),
  acquire: (request) => shard.acquire(request),
  renew: (request) => shard.renew(request),
  release: (request) => shard.release(request),
  append: (entry, max, options) => shard.append(entry, max, options),
  readInbox: (request) => shard.readInbox(request),
  readOutbox: (request) => shard.readOutbox(request),
  load: (keys) => shard.load(keys),
  readAcks: () => shard.readAcks(),
  readLane: (key) => shard.readLane(key),
  readLanes: () => shard.readLanes(),
  scanLanes: (request) => shard.scanLanes(request),
  commit: (commit) => shard.commit(commit),
  readTranscript: (key, request) => shard.readTranscript(key, request),
  readDeadLetters: (request) => shard.readDeadLetters(request),
  readWaiting: (key, request) => shard.readWaiting(key, request),
  readLaneList: (key, request) => shard.readLaneList(key, request),
  readOpen: (request) => shard.readOpen(request),
  readTimers: (request) => shard.readTimers(request),
  moveTimers: (request) => shard.moveTimers(request),
  close: () => shard.close(),
  ...changed,
});

export const storeWith = (store: Store, changed: Partial<Store>): Store => ({
  openNamespace: (wanted) => store.openNamespace(wanted),
  facts: () => store.facts(),
  shard: (index) => store.shard(index),
  scanConversations: (request) => store.scanConversations(request),
  isReady: () => store.isReady(),
  onReadyChange: (listener) => store.onReadyChange(listener),
  close: () => store.close(),
  ...changed,
});

/** A store that writes another commit than the one it got. */
export const committing = (change: (commit: Commit) => Commit): WorldOptions => ({
  wrapShard: (shard) => shardWith(shard, { commit: (commit) => shard.commit(change(commit)) }),
});

/** The same for what it writes of each conversation. */
export const writing = (change: (write: ConversationWrite) => ConversationWrite): WorldOptions =>
  committing((commit) => ({ ...commit, conversations: commit.conversations.map(change) }));

/** Counts from 1; true at each `every`th time. */
export function eachNth(every: number): () => boolean {
  let count = 0;
  return () => {
    count += 1;
    return count % every === 0;
  };
}
