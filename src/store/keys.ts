// Keys: every Redis key is built here. All keys of a shard share one hash tag, so that one script may see them in a cluster.

import type { ConversationKey } from "../domain/ids.ts";
import { ConfigError } from "../errors.ts";
import type { TimerName } from "./shard-store.ts";

export interface ShardKeys {
  /** Hash tag and prefix of everything of the shard: `<ns>:{<tag>}`. */
  readonly prefix: string;
  /** hash: node, process, epoch, lease end, commit number, highest ids seen, inbox bytes, unclean ends, dead letters */
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
  /** hash: conversation key -> its entry in the index of the unfinished */
  readonly open: string;
  /** set: keys of the conversations whose waiting list is at its bound */
  readonly full: string;
  /** zset: `timerMember` -> when it is due, ms on Redis' clock */
  readonly timers: string;
  /** hash: source shard -> place of the last sends taken from it */
  readonly from: string;
  /** stream: messages of a conversation that wait, under ids that the record gives out */
  waiting(conversation: string): string;
  /** stream: replies of a lane that does not flow, under ids that its state gives out */
  laneList(conversation: string): string;
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

/** Timer of a conversation, as a member of the shard's `timers`. */
export const timerMember = ({ key, name, generation }: TimerName): string => `${generation}|${name}|${key}`;

/** @throws RangeError if it is none that `timerMember` made */
export function parseTimerMember(member: string): TimerName {
  const [, generation, name, key] = /^(\d{1,16})\|([^|]+)\|(.+)$/s.exec(member) ?? [];
  if (key === undefined) throw new RangeError("not a member of the timers");
  return { key: key as ConversationKey, name: name!, generation: Number(generation) };
}

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
    open: `${prefix}:open`,
    full: `${prefix}:full`,
    timers: `${prefix}:timers`,
    from: `${prefix}:from`,
    waiting: (conversation) => `${prefix}:in:${conversation}`,
    laneList: (conversation) => `${prefix}:out:${conversation}`,
    record: (conversation) => `${prefix}:c:${conversation}`,
    ids: (conversation) => `${prefix}:ids:${conversation}`,
    transcript: (conversation) => `${prefix}:transcript:${conversation}`,
  };
}
