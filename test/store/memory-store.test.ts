import { systemEnvironment } from "../../src/environment.ts";
import { MemoryShard, MemoryStore, MemoryStream } from "../../src/store/memory-store.ts";
import { type StoreHarness, storeConformance } from "./conformance.ts";

storeConformance("memory store", async () => memoryHarness());

function memoryHarness(): StoreHarness {
  const store = new MemoryStore(systemEnvironment);
  const { data } = store;
  const left = (expiresAtMs: number | null | undefined): number | null =>
    expiresAtMs == null ? null : expiresAtMs - Date.now();
  return {
    store,
    dump: async () => JSON.stringify([data.meta, [...data.shards]], plain),
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
        for (const field of ["node", "epoch", "n", "leaseEndMs"] as const)
          Object.assign(owner, { [field]: new MemoryShard()[field] });
    },
    idsTtlMs: async (shard, key) => left(data.shard(shard).ids.get(key)?.expiresAtMs),
    transcriptTtlMs: async (shard, key) => left(data.shard(shard).transcripts.get(key)?.expiresAtMs),
    close: () => store.close(),
  };
}

/** Maps and bytes as plain values; waiting reads are no data. */
function plain(name: string, value: unknown): unknown {
  if (name === "waiting") return undefined;
  if (value instanceof Map) return [...value].sort();
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
}
