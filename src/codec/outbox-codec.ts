// Outbox codec: the replies of one commit as one outbox entry. Frames of
//
//   key length u16 | born length u8 | outSeq f64 | key | born | wire bytes (the rest)

import type { ConversationKey } from "../domain/ids.ts";
import { FrameWriter, readFrames } from "./frames.ts";

const FIXED_BYTES = 11;

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

export function encodeOutboxEntry(replies: readonly OutboxReply[]): Buffer {
  const frames = new FrameWriter(sizeHint(replies));
  let named: OutboxReply | null = null;
  let namesStart = 0;
  let keyBytes = 0;
  let bornBytes = 0;
  for (const reply of replies) {
    frames.begin(FIXED_BYTES + (reply.key.length + reply.born.length) * 3 + reply.body.length);
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
      named = reply;
    }
    namesStart = namesAt;
    frames.bytes.writeUInt16LE(keyBytes, head);
    frames.bytes[head + 2] = bornBytes;
    frames.bytes.writeDoubleLE(reply.outSeq, head + 3);
    frames.writeBytes(reply.body);
    frames.end();
  }
  return frames.finish();
}

const sizeHint = (replies: readonly OutboxReply[]): number =>
  replies.reduce((sum, reply) => sum + reply.body.length + reply.key.length + 64, 64);

/** @throws CodecError if the whole entry cannot be read */
export function decodeOutboxEntry(bytes: Buffer): DecodedOutboxEntry {
  const replies: (OutboxReply | null)[] = [];
  const rotten: Buffer[] = [];
  readFrames(bytes, {
    payload(_index, start, end) {
      const bornStart = start + FIXED_BYTES + bytes.readUInt16LE(start);
      const bodyStart = bornStart + bytes[start + 2]!;
      replies.push({
        key: bytes.toString("utf8", start + FIXED_BYTES, bornStart) as ConversationKey,
        born: bytes.toString("utf8", bornStart, bodyStart),
        outSeq: bytes.readDoubleLE(start + 3),
        body: bytes.subarray(bodyStart, end),
      });
    },
    rotten(_index, start, end) {
      replies.push(null);
      rotten.push(bytes.subarray(start, end));
    },
  });
  return { replies, rotten };
}

/** A bitmap of `count` bits, all 0. */
export const emptyBitmap = (count: number): Uint8Array => new Uint8Array((count + 7) >> 3);

export const hasBit = (bitmap: Uint8Array, index: number): boolean =>
  ((bitmap[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;

export function setBit(bitmap: Uint8Array, index: number): void {
  bitmap[index >> 3]! |= 1 << (index & 7);
}
