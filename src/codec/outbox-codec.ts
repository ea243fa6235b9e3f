// Outbox codec: the replies of one commit as one outbox entry. Frames of
//
//   key length u16 | born length u8 | outSeq f64 | key | born | (extra length u16 | extra as JSON)? | wire bytes (the rest)
//
// The high bit of the byte with the length of `born` says that there is an extra. `born` is never that long, so a reply without one
// takes the same bytes as before there were any.

import type { ConversationKey } from "../domain/ids.ts";
import { FrameWriter, readFrames } from "./frames.ts";

const FIXED_BYTES = 11;
const HAS_EXTRA = 0x80;
const BORN_BYTES_MAX = HAS_EXTRA - 1;
const EXTRA_LENGTH_BYTES = 2;
const NO_EXTRA = "";

export interface OutboxReply {
  readonly key: ConversationKey;
  readonly born: string;
  readonly outSeq: number;
  /** The wire bytes of every attempt. */
  readonly body: Uint8Array;
  /** What few replies have; absent for the others. */
  readonly extra?: ReplyExtra;
}

export interface ReplyExtra {
  /** ms since the Unix epoch: from then on it is not sent any more. */
  readonly expiresAtMs?: number;
  /** Of a reply that its channel sends in several: which one, from 1, of how many. They share an `outSeq` and follow each other. */
  readonly part?: number;
  readonly parts?: number;
  /** Its turn consumed a notice: of its own failure there is none (no marker for a marker). */
  readonly isOfNotice?: true;
  /** An operator sent it again after it had become a dead letter. */
  readonly isRedriven?: true;
}

export interface DecodedOutboxEntry {
  /** By index in the entry; null where the frame is rotten. */
  readonly replies: readonly (OutboxReply | null)[];
  readonly rotten: readonly Buffer[];
}

/** @throws RangeError if `born` takes more than 127 bytes, which none that the runtime makes does */
export function encodeOutboxEntry(replies: readonly OutboxReply[]): Buffer {
  const frames = new FrameWriter(sizeHint(replies));
  let named: OutboxReply | null = null;
  let namesStart = 0;
  let keyBytes = 0;
  let bornBytes = 0;
  for (const reply of replies) {
    const extra = reply.extra === undefined ? NO_EXTRA : extraJson(reply.extra);
    const extraBytes = extra === NO_EXTRA ? 0 : EXTRA_LENGTH_BYTES + extra.length;
    frames.begin(FIXED_BYTES + (reply.key.length + reply.born.length) * 3 + extraBytes + reply.body.length);
    const head = frames.at;
    frames.at += FIXED_BYTES;
    const namesAt = frames.at;
    if (named !== null && named.key === reply.key && named.born === reply.born) {
      // Replies of one conversation stand together: what the first one encoded serves the others.
      frames.repeat(namesStart, keyBytes + bornBytes);
    } else {
      frames.writeText(reply.key);
      keyBytes = frames.at - namesAt;
      frames.writeText(reply.born);
      bornBytes = frames.at - namesAt - keyBytes;
      if (bornBytes > BORN_BYTES_MAX)
        throw new RangeError(`a reply names the beginning of its life in ${bornBytes} bytes`);
      named = reply;
    }
    namesStart = namesAt;
    frames.bytes.writeUInt16LE(keyBytes, head);
    frames.bytes[head + 2] = extra === NO_EXTRA ? bornBytes : bornBytes | HAS_EXTRA;
    frames.bytes.writeDoubleLE(reply.outSeq, head + 3);
    if (extra !== NO_EXTRA) {
      frames.at = frames.bytes.writeUInt16LE(extra.length, frames.at);
      frames.writeText(extra);
    }
    frames.writeBytes(reply.body);
    frames.end();
  }
  return frames.finish();
}

/** Numbers and `true` only: as many bytes as letters. */
function extraJson({ expiresAtMs, part, parts, isOfNotice, isRedriven }: ReplyExtra): string {
  return JSON.stringify({ expiresAtMs, part, parts, isOfNotice, isRedriven }); // what is undefined leaves no trace
}

const sizeHint = (replies: readonly OutboxReply[]): number =>
  replies.reduce((sum, reply) => sum + reply.body.length + reply.key.length + 64, 64);

/**
 * A payload that matches its checksum and is no reply all the same counts as rotten, too.
 * @throws CodecError if the whole entry cannot be read
 */
export function decodeOutboxEntry(bytes: Buffer): DecodedOutboxEntry {
  const replies: (OutboxReply | null)[] = [];
  const rotten: Buffer[] = [];
  const add = (reply: OutboxReply | null, start: number, end: number): void => {
    replies.push(reply);
    if (reply === null) rotten.push(bytes.subarray(start, end));
  };
  readFrames(bytes, {
    payload: (_index, start, end) => add(decodeReply(bytes, start, end), start, end),
    rotten: (_index, start, end) => add(null, start, end),
  });
  return { replies, rotten };
}

function decodeReply(bytes: Buffer, start: number, end: number): OutboxReply | null {
  if (end - start < FIXED_BYTES) return null;
  const bornLength = bytes[start + 2]!;
  const bornStart = start + FIXED_BYTES + bytes.readUInt16LE(start);
  const bornEnd = bornStart + (bornLength & BORN_BYTES_MAX);
  if (bornEnd > end) return null;
  const key = bytes.toString("utf8", start + FIXED_BYTES, bornStart) as ConversationKey;
  const born = bytes.toString("utf8", bornStart, bornEnd);
  const outSeq = bytes.readDoubleLE(start + 3);
  if ((bornLength & HAS_EXTRA) === 0) return { key, born, outSeq, body: bytes.subarray(bornEnd, end) };
  const extraStart = bornEnd + EXTRA_LENGTH_BYTES;
  const bodyStart = extraStart <= end ? extraStart + bytes.readUInt16LE(bornEnd) : Number.POSITIVE_INFINITY;
  const extra = bodyStart <= end ? parseExtra(bytes.toString("utf8", extraStart, bodyStart)) : null;
  return extra === null ? null : { key, born, outSeq, body: bytes.subarray(bodyStart, end), extra };
}

function parseExtra(json: string): ReplyExtra | null {
  try {
    const extra: unknown = JSON.parse(json);
    return typeof extra === "object" && extra !== null && !Array.isArray(extra) ? extra : null;
  } catch {
    return null;
  }
}

/** A bitmap of `count` bits, all 0. */
export const emptyBitmap = (count: number): Uint8Array => new Uint8Array((count + 7) >> 3);

export const hasBit = (bitmap: Uint8Array, index: number): boolean =>
  ((bitmap[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;

export function setBit(bitmap: Uint8Array, index: number): void {
  bitmap[index >> 3]! |= 1 << (index & 7);
}
