// Halted view: what stands in the store of ten thousand conversations at once, read from outside while the runtime may
// be dead.

import { Redis } from "ioredis";
import { decodeOpenEntry, type OpenEntry } from "../../../src/codec/open-codec.ts";
import { decodeRecord } from "../../../src/codec/record-codec.ts";
import { type ConversationKey, conversationKey, parseConversationKey } from "../../../src/domain/ids.ts";
import type { ConversationRecord } from "../../../src/domain/record.ts";
import { embeddedSocketPath } from "../../../src/store/embedded-redis.ts";
import { type ShardKeys, shardKeys } from "../../../src/store/keys.ts";
import type { Arena } from "./arena.ts";

/** The namespace of a runtime with one shard, as is the default. */
const KEYS: ShardKeys = shardKeys("colloquy", 0);
const GET_PAGE = 1_000;

export interface Stored {
  readonly record: ConversationRecord;
  readonly state: unknown;
}

export class HaltedView {
  readonly #redis: Redis;
  readonly #keyOf: (conversation: string) => ConversationKey;

  constructor(arena: Arena, dataFolder: string, bot: string) {
    const options = { maxRetriesPerRequest: 0, commandTimeout: 10_000, retryStrategy: () => 50 };
    this.#redis = new Redis(embeddedSocketPath(dataFolder), options);
    this.#redis.on("error", () => undefined);
    this.#keyOf = (conversation) => conversationKey({ bot, channel: "http", conversation });
    arena.onCleanUp(() => this.#redis.disconnect());
  }

  inboxEntries(): Promise<number> {
    return this.#redis.xlen(KEYS.inbox);
  }

  /** The index of the unfinished, by conversation. */
  async open(): Promise<ReadonlyMap<string, OpenEntry>> {
    const fields = Object.entries(await this.#redis.hgetallBuffer(KEYS.open));
    return new Map(fields.map(([key, bytes]) => [parseConversationKey(key).conversation, decodeOpenEntry(bytes)]));
  }

  /** Conversations that have a waiting list. */
  async lists(): Promise<number> {
    return (await this.#redis.keys(KEYS.waiting("*"))).length;
  }

  /** In the order of the names; null for one that is not stored. */
  async stored(conversations: readonly string[]): Promise<(Stored | null)[]> {
    const found: (Stored | null)[] = [];
    for (let from = 0; from < conversations.length; from += GET_PAGE) {
      const keys = conversations.slice(from, from + GET_PAGE).map((name) => KEYS.record(this.#keyOf(name)));
      for (const bytes of await this.#redis.mgetBuffer(keys)) found.push(bytes === null ? null : stored(bytes));
    }
    return found;
  }

  /** When the last commit that said something in it was applied, ms by the clock of this machine; null: none did. */
  async lastCommitAtMs(conversation: string): Promise<number | null> {
    const [last] = await this.#redis.xrevrange(KEYS.transcript(this.#keyOf(conversation)), "+", "-", "COUNT", 1);
    return last === undefined ? null : Number.parseInt(last[0], 10);
  }
}

function stored(bytes: Buffer): Stored {
  const { record, stateBytes } = decodeRecord(bytes);
  return { record, state: JSON.parse(Buffer.from(stateBytes).toString()) };
}
