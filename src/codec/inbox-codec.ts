// Inbox codec: a batch of messages as one inbox entry. Frames of
//
//   kind u8 (0: message) | flags u8 | key length u16 | id length u16 | text length u32 | sequence f64? | sent at f64?
//   | key | id | text | data as JSON (the rest)

import type { Hash64 } from "../domain/hash.ts";
import { halfSipHash64 } from "../domain/hash.ts";
import type { ConversationKey } from "../domain/ids.ts";
import type { Inbound, InboxEntry, InboxMessage } from "../domain/message.ts";
import { crc32 } from "./checksum.ts";
import { ENTRY_OVERHEAD_BYTES, FRAME_OVERHEAD_BYTES, FrameWriter, readFrames } from "./frames.ts";

const KIND_MESSAGE = 0;
const HAS_SEQUENCE = 1;
const HAS_SENT_AT = 2;
const FIXED_BYTES = 10;
/** A UTF-16 unit becomes at most this many bytes of UTF-8. */
const UTF8_BYTES_PER_UNIT = 3;

export class InboxBatch {
  readonly #frames = new FrameWriter();

  get count(): number {
    return this.#frames.count;
  }

  get bytes(): number {
    return this.#frames.at;
  }

  add(key: ConversationKey, message: Inbound): void {
    const dataJson = message.data === undefined ? "" : JSON.stringify(message.data);
    const units = key.length + message.id.length + message.text.length + dataJson.length;
    const frames = this.#frames;
    frames.begin(FIXED_BYTES + 16 + units * UTF8_BYTES_PER_UNIT);
    const head = frames.at;
    frames.at += FIXED_BYTES;
    let flags = 0;
    if (message.sequence !== undefined) {
      flags |= HAS_SEQUENCE;
      frames.at = frames.bytes.writeDoubleLE(message.sequence, frames.at);
    }
    if (message.sentAtMs !== undefined) {
      flags |= HAS_SENT_AT;
      frames.at = frames.bytes.writeDoubleLE(message.sentAtMs, frames.at);
    }
    const keyStart = frames.at;
    frames.writeText(key);
    const idStart = frames.at;
    frames.writeText(message.id);
    const textStart = frames.at;
    frames.writeText(message.text);
    const { bytes } = frames;
    bytes[head] = KIND_MESSAGE;
    bytes[head + 1] = flags;
    bytes.writeUInt16LE(idStart - keyStart, head + 2);
    bytes.writeUInt16LE(textStart - idStart, head + 4);
    bytes.writeUInt32LE(frames.at - textStart, head + 6);
    if (dataJson !== "") frames.writeText(dataJson);
    frames.end();
  }

  finish(): Buffer {
    return this.#frames.finish();
  }
}

/** Upper bound of what `add` takes of an entry. */
export function inboxBytesMax(key: ConversationKey, message: Inbound): number {
  const units = key.length + message.id.length + message.text.length;
  const data = message.data === undefined ? 0 : JSON.stringify(message.data).length;
  return ENTRY_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES + FIXED_BYTES + 16 + (units + data) * UTF8_BYTES_PER_UNIT;
}

export interface DecodedBatch {
  readonly messages: readonly InboxMessage[];
  /** Payloads that fail their checksum or are of an unknown kind, as they were read. */
  readonly rotten: readonly Buffer[];
}

/**
 * @param entry the entry that the messages will share
 * @throws CodecError if the whole entry cannot be read
 */
export function decodeInboxEntry(bytes: Buffer, entry: InboxEntry, hashKey: Hash64): DecodedBatch {
  const messages: InboxMessage[] = [];
  const rotten: Buffer[] = [];
  readFrames(bytes, {
    payload(index, start, end) {
      if (bytes[start] === KIND_MESSAGE) messages.push(decodeMessage(bytes, index, start, end, entry, hashKey));
      else rotten.push(bytes.subarray(start, end));
    },
    rotten: (_index, start, end) => rotten.push(bytes.subarray(start, end)),
  });
  return { messages, rotten };
}

function decodeMessage(
  bytes: Buffer,
  index: number,
  start: number,
  end: number,
  entry: InboxEntry,
  hashKey: Hash64,
): InboxMessage {
  const flags = bytes[start + 1]!;
  let at = start + FIXED_BYTES;
  let sequence: number | undefined;
  let sentAtMs: number | undefined;
  if (flags & HAS_SEQUENCE) {
    sequence = bytes.readDoubleLE(at);
    at += 8;
  }
  if (flags & HAS_SENT_AT) {
    sentAtMs = bytes.readDoubleLE(at);
    at += 8;
  }
  const idStart = at + bytes.readUInt16LE(start + 2);
  const textStart = idStart + bytes.readUInt16LE(start + 4);
  const dataStart = textStart + bytes.readUInt32LE(start + 6);
  return {
    position: { entry: entry.id, index },
    source: entry,
    key: bytes.toString("utf8", at, idStart) as ConversationKey,
    id: bytes.toString("utf8", idStart, textStart),
    idHash: halfSipHash64(hashKey, bytes, idStart, textStart),
    bodyHash: crc32(bytes, textStart, end),
    sequence,
    sentAtMs,
    text: bytes.toString("utf8", textStart, dataStart),
    dataJson: dataStart === end ? "" : bytes.toString("utf8", dataStart, end),
    bytes: end - start + FRAME_OVERHEAD_BYTES,
  };
}

/** The namespace's hash key as two halves. */
export function hashKeyOf(bytes: Uint8Array): Hash64 {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { lo: view.getUint32(0, true), hi: view.getUint32(4, true) };
}
