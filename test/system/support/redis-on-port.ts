// Redis on a port: an external server as an operator runs it, for `--redis`. It keeps its port and data over kill and start.

import { RedisServer } from "../../support/redis-server.ts";
import type { Arena } from "./arena.ts";

export const urlOfRedis = (port: number): string => `redis://127.0.0.1:${port}`;

/** Starts a server that the promise can rest on, unless `args` weaken it. */
export async function redisOnPort(arena: Arena, port: number, args: readonly string[] = []): Promise<RedisServer> {
  const listening = ["--port", String(port), "--bind", "127.0.0.1", "--maxmemory-policy", "noeviction"];
  const redis = await RedisServer.start({ args: [...listening, ...args] });
  arena.onCleanUp(() => redis.remove());
  return redis;
}
