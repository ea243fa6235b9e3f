import { Redis } from "ioredis";
import { formatEntryId } from "../../src/domain/position.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { shardKeys } from "../../src/store/keys.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { RedisServer } from "../support/redis-server.ts";
import { type StoreHarness, storeConformance } from "./conformance.ts";

const NS = "test";

storeConformance("redis store", redisHarness);

async function redisHarness(): Promise<StoreHarness> {
  const server = await RedisServer.start();
  const store = new RedisStore({ environment: systemEnvironment, address: { path: server.path }, namespace: NS });
  const raw = new Redis({ path: server.path });
  const left = async (key: string): Promise<number | null> => {
    const ttlMs = await raw.pttl(key);
    return ttlMs < 0 ? null : ttlMs;
  };
  return {
    store,
    dump: () => dumpAll(raw),
    loseStream: async (shard, stream) => {
      await raw.del(shardKeys(NS, shard)[stream]);
    },
    raiseHighestSeen: async (shard, stream, id) => {
      await raw.hset(shardKeys(NS, shard).owner, `${stream}_last`, formatEntryId(id));
    },
    rewindOwner: async (shard, to) => {
      const { owner } = shardKeys(NS, shard);
      if (to === "nothing") await raw.del(owner);
      else await raw.hset(owner, "n", to.n);
    },
    idsTtlMs: (shard, key) => left(shardKeys(NS, shard).ids(key)),
    transcriptTtlMs: (shard, key) => left(shardKeys(NS, shard).transcript(key)),
    close: async () => {
      await store.close();
      raw.disconnect();
      await server.remove();
    },
  };
}

async function dumpAll(raw: Redis): Promise<string> {
  const keys = (await raw.keys("*")).sort();
  const values = await Promise.all(keys.map((key) => raw.dumpBuffer(key)));
  return keys.map((key, i) => `${key} ${values[i]?.toString("hex")}`).join("\n");
}
