// Poison view: what stands in the store of conversations that did not go on, read from outside while the runtime may be dead.

import { Redis } from "ioredis";
import { decodeOpenEntry, type OpenEntry } from "../../../src/codec/open-codec.ts";
import { decodeRecord } from "../../../src/codec/record-codec.ts";
import { conversationKey, parseConversationKey } from "../../../src/domain/ids.ts";
import type { ConversationRecord } from "../../../src/domain/record.ts";
import { embeddedSocketPath } from "../../../src/store/embedded-redis.ts";
import { anyRecord, placeOfRecord } from "../../../src/store/keys.ts";
import type { Arena } from "./arena.ts";

const NAMESPACE = "colloquy";
const HTTP = "http";

/** Members that the tests look at. */
export interface DeadMessage {
  readonly direction: string;
  readonly bot: string;
  readonly conversation: string;
  readonly id: string;
  readonly reason: string;
  readonly attempts: number;
  readonly error: string | null;
  readonly botVersion: number;
}

export interface NamedRecord {
  readonly bot: string;
  readonly conversation: string;
  readonly record: ConversationRecord;
}

export interface NamedOpen {
  readonly bot: string;
  readonly conversation: string;
  readonly entry: OpenEntry;
}

export class PoisonView {
  readonly #redis: Redis;

  constructor(arena: Arena, dataFolder: string) {
    const options = { maxRetriesPerRequest: 0, commandTimeout: 5_000, retryStrategy: () => 50 };
    this.#redis = new Redis(embeddedSocketPath(dataFolder), options);
    this.#redis.on("error", () => undefined);
    arena.onCleanUp(() => this.#redis.disconnect());
  }

  async record(bot: string, conversation: string): Promise<ConversationRecord | null> {
    const key = conversationKey({ bot, channel: HTTP, conversation });
    const [name] = await this.#redis.keys(`${NAMESPACE}:{*}:c:${escapeGlob(key)}`);
    const stored = name === undefined ? null : await this.#redis.getBuffer(name);
    return stored === null ? null : decodeRecord(stored).record;
  }

  async records(): Promise<NamedRecord[]> {
    const names = await this.#redis.keys(anyRecord(NAMESPACE));
    const found: NamedRecord[] = [];
    for (const name of names) {
      const stored = await this.#redis.getBuffer(name);
      const place = placeOfRecord(NAMESPACE, name);
      if (stored === null || place === null) continue;
      const { bot, conversation } = parseConversationKey(place.key);
      found.push({ bot, conversation, record: decodeRecord(stored).record });
    }
    return found;
  }

  /** The index of the unfinished. */
  async open(): Promise<NamedOpen[]> {
    const entries = await this.#eachShard("open", (key) => this.#redis.hgetallBuffer(key));
    return entries.flatMap((fields) =>
      Object.entries(fields).map(([key, bytes]) => {
        const { bot, conversation } = parseConversationKey(key);
        return { bot, conversation, entry: decodeOpenEntry(bytes) };
      }),
    );
  }

  async openEntry(bot: string, conversation: string): Promise<OpenEntry | null> {
    return (await this.open()).find((one) => one.bot === bot && one.conversation === conversation)?.entry ?? null;
  }

  async deadMessages(): Promise<DeadMessage[]> {
    const streams = await this.#eachShard("dead", (key) => this.#redis.xrange(key, "-", "+"));
    return streams.flat().map(([, fields]) => JSON.parse(fields[1]!) as DeadMessage);
  }

  /** Entries of the inbox: what no commit has gone past. */
  async inboxEntries(): Promise<number> {
    return (await this.#eachShard("inbox", (key) => this.#redis.xlen(key))).reduce((sum, count) => sum + count, 0);
  }

  async #eachShard<Result>(part: string, read: (key: string) => Promise<Result>): Promise<Result[]> {
    const owners = await this.#redis.keys(`${NAMESPACE}:{*}:owner`);
    return await Promise.all(owners.map((owner) => read(owner.replace(/:owner$/, `:${part}`))));
  }
}

const escapeGlob = (text: string): string => text.replace(/[\\*?[\]]/g, "\\$&");
