// Ids. A conversation is the triple (bot, channel, conversation); it is sharded, stored and named by it.
//
// Invariants
//   N1. Two different triples never share a key: the first two parts carry their length (attack B16).
//   N2. Ids are stored exactly as given; a string that UTF-8 cannot carry (a lone surrogate) never becomes an id.

import { murmur3 } from "./hash.ts";

export interface ConversationId {
  readonly bot: string;
  readonly channel: string;
  readonly conversation: string;
}

declare const conversationKeyBrand: unique symbol;
/** `<length>:<bot><length>:<channel><conversation>`, lengths in UTF-16 units. */
export type ConversationKey = string & { readonly [conversationKeyBrand]: true };

/** Ids from outside: 1 to this many bytes of UTF-8. */
export const ID_BYTES_MAX = 512;

/** Names of bots and channels stand in URLs, metrics and tree ids. */
export const NAME_PATTERN: RegExp = /^[a-z][a-z0-9-]{0,63}$/;

export function conversationKey(id: ConversationId): ConversationKey {
  return `${id.bot.length}:${id.bot}${id.channel.length}:${id.channel}${id.conversation}` as ConversationKey;
}

/** @throws RangeError if the key was not made by `conversationKey` */
export function parseConversationKey(key: string): ConversationId {
  const [bot, afterBot] = lengthPrefixed(key, 0);
  const [channel, afterChannel] = lengthPrefixed(key, afterBot);
  return { bot, channel, conversation: key.slice(afterChannel) };
}

function lengthPrefixed(text: string, from: number): [part: string, next: number] {
  const colon = text.indexOf(":", from);
  const digits = text.slice(from, colon);
  const end = colon + 1 + Number(digits);
  if (colon < 0 || !/^\d{1,4}$/.test(digits) || end > text.length) throw new RangeError("not a conversation key");
  return [text.slice(colon + 1, end), end];
}

const encoder = new TextEncoder();

/** The shard of a conversation: MurmurHash3 of the key's UTF-8 bytes, modulo the namespace's fixed number of shards. */
export function shardOf(key: ConversationKey, shards: number): number {
  return shards === 1 ? 0 : murmur3(encoder.encode(key)) % shards;
}

/**
 * The key under which one reply is delivered, in every attempt and every life of this process:
 * `<bot>~<channel>~<conversation>~<born>.<outSeq>`, the first three percent-encoded, `~` too, so that it is a legal header. One of
 * several bodies that a reply is sent in has `.<part>` behind that.
 * @param part from 1; undefined for a reply of one body
 */
export function idempotencyKey(id: ConversationId, born: string, outSeq: number, part?: number): string {
  return replyKey(idempotencyPrefix(id, born), outSeq, part);
}

/** What the keys of all replies of one life of a conversation begin with. */
export function idempotencyPrefix(id: ConversationId, born: string): string {
  return `${encoded(id.bot)}~${encoded(id.channel)}~${encoded(id.conversation)}~${born}.`;
}

/** `idempotencyKey` for whoever keeps the prefix. */
export function replyKey(prefix: string, outSeq: number, part: number | undefined): string {
  return part === undefined ? `${prefix}${outSeq}` : `${prefix}${outSeq}.${part}`;
}

const encoded = (text: string): string => encodeURIComponent(text).replaceAll("~", "%7E");
