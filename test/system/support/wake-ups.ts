// Wake-ups: the keys of BullMQ in the runtime's Redis, seen and taken away from outside.

import { Redis } from "ioredis";
import { shardKeys } from "../../../src/store/keys.ts";
import type { Arena } from "./arena.ts";

/** Of a runtime with one shard, as is the default. */
const PATTERN = `${shardKeys("colloquy", 0).prefix}:wake-ups:*`;

export class WakeUps {
  readonly #redis: Redis;
  #removed = 0;

  /** @param address a URL, or the path of a socket */
  constructor(arena: Arena, address: string) {
    this.#redis = new Redis(address, { maxRetriesPerRequest: 0, commandTimeout: 5_000, retryStrategy: () => 50 });
    this.#redis.on("error", () => undefined);
    arena.onCleanUp(() => this.#redis.disconnect());
  }

  /** Keys that were taken away so far. */
  get removed(): number {
    return this.#removed;
  }

  /** Takes all of them away: what waits, what is being worked on, and what BullMQ knows of its queue. */
  async removeAll(): Promise<void> {
    const keys = await this.#redis.keys(PATTERN);
    if (keys.length > 0) this.#removed += await this.#redis.unlink(keys);
  }
}
