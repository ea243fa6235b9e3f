import { Redis } from "ioredis";
import { systemEnvironment } from "../../src/environment.ts";
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
    dump: () => dumpAll(raw),
    ...redisBackDoors(raw, NS),
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
