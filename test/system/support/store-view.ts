// Store view: looks into the runtime's Redis from outside, read-only, over a connection that may die with the server.

import { Redis } from "ioredis";
import { embeddedSocketPath } from "../../../src/store/embedded-redis.ts";
import type { Arena } from "./arena.ts";

/** Lengths over all shards of what holds only unfinished work. */
export interface Unfinished {
  readonly inbox: number;
  readonly outbox: number;
  readonly acks: number;
  readonly lanes: number;
}

const NOTHING: Unfinished = { inbox: 0, outbox: 0, acks: 0, lanes: 0 };

export class StoreView {
  readonly #redis: Redis;
  #shards: readonly string[] = [];

  /** @param address a URL, or the path of a socket */
  constructor(arena: Arena, address: string) {
    const options = { maxRetriesPerRequest: 0, commandTimeout: 2_000, retryStrategy: () => 50 };
    this.#redis = new Redis(address, options);
    this.#redis.on("error", () => undefined);
    arena.onCleanUp(() => this.#redis.disconnect());
  }

  static ofDataFolder(arena: Arena, dataFolder: string): StoreView {
    return new StoreView(arena, embeddedSocketPath(dataFolder));
  }

  /** @throws Error while Redis is away */
  async unfinished(): Promise<Unfinished> {
    if (this.#shards.length === 0) await this.#findShards();
    const sums = { ...NOTHING };
    const perShard = this.#shards.map(async (shard) => {
      const [inbox, outbox, acks, lanes] = await Promise.all([
        this.#redis.xlen(`${shard}:inbox`),
        this.#redis.xlen(`${shard}:outbox`),
        this.#redis.hlen(`${shard}:acks`),
        this.#redis.hlen(`${shard}:lanes`),
      ]);
      sums.inbox += inbox;
      sums.outbox += outbox;
      sums.acks += acks;
      sums.lanes += lanes;
    });
    await Promise.all(perShard);
    return sums;
  }

  /** Outbox entries: each holds at least one reply that no commit has acknowledged. */
  async outboxEntries(): Promise<number> {
    return (await this.unfinished()).outbox;
  }

  /** INFO's run_id: changes with every start of a server. */
  async runId(): Promise<string> {
    return /run_id:(\w+)/.exec(await this.#redis.info("server"))?.[1] ?? "";
  }

  async #findShards(): Promise<void> {
    const owners = await this.#redis.keys("colloquy:{*}:owner");
    this.#shards = owners.map((key) => key.slice(0, -":owner".length));
  }
}

export const isNothing = (unfinished: Unfinished): boolean => Object.values(unfinished).every((count) => count === 0);
