import { systemEnvironment } from "../../src/environment.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { memoryBackDoors } from "./back-doors.ts";
import { type StoreHarness, storeConformance } from "./conformance.ts";

storeConformance("memory store", async () => memoryHarness());

function memoryHarness(): StoreHarness {
  const store = new MemoryStore(systemEnvironment);
  const { data } = store;
  return {
    store,
    dump: async (shard) => JSON.stringify([data.meta, data.shard(shard)], plain),
    ...memoryBackDoors(data),
    close: () => store.close(),
  };
}

/** Maps, sets and bytes as plain values; waiting reads are no data. */
function plain(name: string, value: unknown): unknown {
  if (name === "waiting") return undefined;
  if (value instanceof Map || value instanceof Set) return [...value].sort();
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
}
