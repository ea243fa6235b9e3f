// Back doors into what is stored, the same for memory and Redis: what the port does not tell, and faults that leave something behind.

import type { Redis } from "ioredis";
import type { ConversationKey } from "../../src/domain/ids.ts";
import { type EntryId, formatEntryId } from "../../src/domain/position.ts";
import { shardKeys } from "../../src/store/keys.ts";
import { type MemoryData, MemoryShard, MemoryStream } from "../../src/store/memory-store.ts";

export type StreamName = "inbox" | "outbox";

export interface StoreBackDoors {
  /** As if Redis had lost the stream. */
  loseStream(shard: number, stream: StreamName): Promise<void>;
  /** As if ids up to this one had been given out by a clock that is ahead of the present one. */
  raiseHighestSeen(shard: number, stream: StreamName, id: EntryId): Promise<void>;
  /** As if Redis had lost the shard's latest commits, or all that it knew of the owner. */
  rewindOwner(shard: number, to: { n: number } | "nothing"): Promise<void>;
  /** What is left of its life, ms; null if it has no end or is not there. */
  idsTtlMs(shard: number, key: ConversationKey): Promise<number | null>;
  transcriptTtlMs(shard: number, key: ConversationKey): Promise<number | null>;
  /** Whether there is a key for it, be it empty. */
  hasWaitingList(shard: number, key: ConversationKey): Promise<boolean>;
  hasLaneList(shard: number, key: ConversationKey): Promise<boolean>;
}

export function memoryBackDoors(data: MemoryData): StoreBackDoors {
  const left = (expiresAtMs: number | null | undefined): number | null =>
    expiresAtMs == null || expiresAtMs <= Date.now() ? null : expiresAtMs - Date.now();
  return {
    idsTtlMs: async (shard, key) => left(data.shard(shard).ids.get(key)?.expiresAtMs),
    transcriptTtlMs: async (shard, key) => left(data.shard(shard).transcripts.get(key)?.expiresAtMs),
    hasWaitingList: async (shard, key) => data.shard(shard).waitingLists.has(key),
    hasLaneList: async (shard, key) => data.shard(shard).laneLists.has(key),
    loseStream: async (shard, stream) => {
      data.shard(shard)[stream] = new MemoryStream();
    },
    raiseHighestSeen: async (shard, stream, id) => {
      data.shard(shard)[stream === "inbox" ? "inboxLast" : "outboxLast"] = id;
    },
    rewindOwner: async (shard, to) => {
      const owner = data.shard(shard);
      if (to !== "nothing") owner.n = to.n;
      else
        for (const field of ["node", "incarnation", "epoch", "n", "leaseEndMs", "uncleanEnds"] as const)
          Object.assign(owner, { [field]: new MemoryShard()[field] });
    },
  };
}

export function redisBackDoors(raw: Redis, ns: string): StoreBackDoors {
  const left = async (key: string): Promise<number | null> => {
    const ttlMs = await raw.pttl(key);
    return ttlMs < 0 ? null : ttlMs;
  };
  return {
    idsTtlMs: (shard, key) => left(shardKeys(ns, shard).ids(key)),
    transcriptTtlMs: (shard, key) => left(shardKeys(ns, shard).transcript(key)),
    hasWaitingList: async (shard, key) => (await raw.exists(shardKeys(ns, shard).waiting(key))) === 1,
    hasLaneList: async (shard, key) => (await raw.exists(shardKeys(ns, shard).laneList(key))) === 1,
    loseStream: async (shard, stream) => {
      await raw.del(shardKeys(ns, shard)[stream]);
    },
    raiseHighestSeen: async (shard, stream, id) => {
      await raw.hset(shardKeys(ns, shard).owner, `${stream}_last`, formatEntryId(id));
    },
    rewindOwner: async (shard, to) => {
      const { owner } = shardKeys(ns, shard);
      if (to === "nothing") await raw.del(owner);
      else await raw.hset(owner, "n", to.n);
    },
  };
}
