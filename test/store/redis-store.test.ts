import { Redis } from "ioredis";
import { systemEnvironment } from "../../src/environment.ts";
import { metaKey, shardKeys } from "../../src/store/keys.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { RedisServer } from "../support/redis-server.ts";
import { redisBackDoors } from "./back-doors.ts";
import { type StoreHarness, storeConformance } from "./conformance.ts";

const NS = "test";

storeConformance("redis store", redisHarness);

async function redisHarness(): Promise<StoreHarness> {
  const server = await RedisServer.start();
  const store = new RedisStore({ environment: systemEnvironment, address: { path: server.path }, namespace: NS });
  const raw = new Redis({ path: server.path });
  return {
    store,
    dump: (shard) => dump(raw, shard),
    ...redisBackDoors(raw, NS),
    close: async () => {
      await store.close();
      raw.disconnect();
      await server.remove();
    },
  };
}

async function dump(raw: Redis, shard: number): Promise<string> {
  const keys = [metaKey(NS), ...(await raw.keys(`${shardKeys(NS, shard).prefix}:*`)).sort()];
  const values = await Promise.all(keys.map((key) => raw.dumpBuffer(key)));
  return keys.map((key, i) => `${key} ${values[i]?.toString("hex")}`).join("\n");
}
