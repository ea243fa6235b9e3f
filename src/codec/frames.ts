// Frames: many payloads in one stream entry, each with its own length and checksum, so that one rotten payload costs one
// payload and not its neighbours (attack B18). Numbers are little endian.
//
//   entry    version u8 (1) | frame*
//   frame    length u32 | crc32 u32 | payload

import { CodecError } from "../errors.ts";
import { crc32 } from "./checksum.ts";

const VERSION = 1;
const HEADER_BYTES = 8;

export const FRAME_OVERHEAD_BYTES: number = HEADER_BYTES;
export const ENTRY_OVERHEAD_BYTES = 1;

/** Builds an entry in one growing buffer. Between `begin` and `end` the caller writes the payload. */
export class FrameWriter {
  bytes: Buffer;
  at: number = ENTRY_OVERHEAD_BYTES;
  count = 0;
  #frameStart = 0;

  constructor(capacity = 16_384) {
    this.bytes = Buffer.allocUnsafe(capacity);
    this.bytes[0] = VERSION;
  }

  /** Starts a frame whose payload takes at most `payloadBytesMax`. */
  begin(payloadBytesMax: number): void {
    const needed = this.at + HEADER_BYTES + payloadBytesMax;
    if (needed > this.bytes.length) {
      const bigger = Buffer.allocUnsafe(Math.max(needed, this.bytes.length * 2));
      this.bytes.copy(bigger, 0, 0, this.at);
      this.bytes = bigger;
    }
    this.#frameStart = this.at;
    this.at += HEADER_BYTES;
  }

  end(): void {
    const payloadStart = this.#frameStart + HEADER_BYTES;
    this.bytes.writeUInt32LE(this.at - payloadStart, this.#frameStart);
    this.bytes.writeUInt32LE(crc32(this.bytes, payloadStart, this.at), this.#frameStart + 4);
    this.count += 1;
  }

  writeText(text: string): void {
    this.at += this.bytes.write(text, this.at, "utf8");
  }

  /** Writes once more what stands at `from`. */
  repeat(from: number, length: number): void {
    this.bytes.copyWithin(this.at, from, from + length);
    this.at += length;
  }

  writeBytes(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** The entry so far. The writer must not be used afterwards. */
  finish(): Buffer {
    return this.bytes.subarray(0, this.at);
  }
}

export interface FrameVisitor {
  payload(index: number, start: number, end: number): void;
  /** A payload that does not match its checksum, or the rest of an entry whose lengths make no sense. */
  rotten(index: number, start: number, end: number): void;
}

/** @throws CodecError if the entry's version is unknown: then nothing of it can be told apart */
export function readFrames(entry: Buffer, visit: FrameVisitor): void {
  if (entry[0] !== VERSION) throw new CodecError(`entry version ${entry[0]} is unknown to this version of colloquy`);
  let at = ENTRY_OVERHEAD_BYTES;
  for (let index = 0; at < entry.length; index += 1) {
    const start = at + HEADER_BYTES;
    const end = start <= entry.length ? start + entry.readUInt32LE(at) : Number.POSITIVE_INFINITY;
    if (end > entry.length) {
      visit.rotten(index, at, entry.length);
      return;
    }
    if (crc32(entry, start, end) === entry.readUInt32LE(at + 4)) visit.payload(index, start, end);
    else visit.rotten(index, start, end);
    at = end;
  }
}
