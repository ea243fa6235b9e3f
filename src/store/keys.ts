// Keys: every Redis key is built here. All keys of a shard share one hash tag, so that one script may see them in a cluster.

import type { ConversationKey } from "../domain/ids.ts";
import { ConfigError } from "../errors.ts";

export interface ShardKeys {
  /** Hash tag and prefix of everything of the shard: `<ns>:{<tag>}`. */
  readonly prefix: string;
  /** hash: node, epoch, lease end, commit number, highest ids seen, inbox bytes, clean */
  readonly owner: string;
  /** stream: one entry per admitted batch */
  readonly inbox: string;
  /** stream: one entry per commit that replied */
  readonly outbox: string;
  /** hash: outbox entry id -> bitmap of the replies that are done (partly done entries only) */
  readonly acks: string;
  /** hash: conversation key -> lane state (lanes that are not flowing only) */
  readonly lanes: string;
  /** stream: dead letters, in and out */
  readonly dead: string;
  /** string: a conversation's record */
  record(conversation: string): string;
  /** string: a conversation's dedupe ids */
  ids(conversation: string): string;
  /** stream: what a conversation's turns consumed and replied */
  transcript(conversation: string): string;
}

/** @throws ConfigError if the namespace would move the hash tag */
export function checkNamespace(ns: string): string {
  if (!/^[A-Za-z0-9._:-]{1,64}$/.test(ns)) {
    throw new ConfigError("namespace", `${JSON.stringify(ns)} is not usable; take 1 to 64 of A-Z a-z 0-9 . _ : -`);
  }
  return ns;
}

/** What SCAN matches the records of all shards with; no character of a namespace means anything there. */
export const anyRecord = (ns: string): string => `${ns}:{*}:c:*`;

/** Whose record a key is; null if it is none of this namespace. */
export function placeOfRecord(ns: string, name: string): { shard: number; key: ConversationKey } | null {
  if (!name.startsWith(`${ns}:{`)) return null;
  const [, tag, key] = /^\{(\d{2,3})\}:c:(.+)$/s.exec(name.slice(ns.length + 1)) ?? [];
  return tag === undefined ? null : { shard: Number(tag), key: key as ConversationKey };
}

export const metaKey = (ns: string): string => `${ns}:meta`;

/** Two digits at least, as in the tree's `shard-07`. */
export const shardTag = (shard: number): string => String(shard).padStart(2, "0");

export function shardKeys(ns: string, shard: number): ShardKeys {
  const prefix = `${ns}:{${shardTag(shard)}}`;
  return {
    prefix,
    owner: `${prefix}:owner`,
    inbox: `${prefix}:inbox`,
    outbox: `${prefix}:outbox`,
    acks: `${prefix}:acks`,
    lanes: `${prefix}:lanes`,
    dead: `${prefix}:dead`,
    record: (conversation) => `${prefix}:c:${conversation}`,
    ids: (conversation) => `${prefix}:ids:${conversation}`,
    transcript: (conversation) => `${prefix}:transcript:${conversation}`,
  };
}
