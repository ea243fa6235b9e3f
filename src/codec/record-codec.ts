// Record codec: envelope and state as one value (R5). Numbers are little endian.
//
//   version u8 (1) | crc32 u32 of the rest of the envelope | seq f64 | outSeq f64 | cursor: ms f64, seq f64, index i32
//   | born: ms f64, seq f64, index i32 | chain u32 u32 | bot version u32 | crc32 u32 of the state | state (the rest)
//
// Version 2 is for a record with an extra: between the envelope and the state stand its length, u32, and the extra as JSON, both under
// the envelope's checksum. Records without one stay version 1.
//
// Two checksums, because two parties read: a bad envelope quarantines the conversation, a bad state is the turn's failure.

import type { ConversationRecord, RecordExtra, StoredState } from "../domain/record.ts";
import { CodecError } from "../errors.ts";
import { crc32 } from "./checksum.ts";

const VERSION_PLAIN = 1;
const VERSION_WITH_EXTRA = 2;
const CRC_AT = 1;
const SEQ_AT = 5;
const CURSOR_AT = 21;
const BORN_AT = 41;
const CHAIN_AT = 61;
const BOT_VERSION_AT = 69;
const STATE_CRC_AT = 73;
const STATE_AT = 77;

export interface DecodedRecord {
  readonly record: ConversationRecord;
  readonly botVersion: number;
  /** Not checked yet: `checkedState` does, as part of the turn. */
  readonly stateBytes: Uint8Array;
  readonly stateCrc: number;
}

/** @param stateJson the state's JSON, or its bytes untouched */
export function encodeRecord(record: ConversationRecord, botVersion: number, stateJson: string | Uint8Array): Buffer {
  const extra = record.extra === null ? null : Buffer.from(JSON.stringify(record.extra));
  const stateAt = extra === null ? STATE_AT : STATE_AT + 4 + extra.length;
  const stateBytes = typeof stateJson === "string" ? Buffer.byteLength(stateJson) : stateJson.length;
  const out = Buffer.allocUnsafe(stateAt + stateBytes);
  out[0] = extra === null ? VERSION_PLAIN : VERSION_WITH_EXTRA;
  out.writeDoubleLE(record.seq, SEQ_AT);
  out.writeDoubleLE(record.outSeq, SEQ_AT + 8);
  writePosition(out, CURSOR_AT, record.cursor);
  writePosition(out, BORN_AT, record.born);
  out.writeUInt32LE(record.chain.lo, CHAIN_AT);
  out.writeUInt32LE(record.chain.hi, CHAIN_AT + 4);
  out.writeUInt32LE(botVersion, BOT_VERSION_AT);
  if (extra !== null) {
    out.writeUInt32LE(extra.length, STATE_AT);
    out.set(extra, STATE_AT + 4);
  }
  if (typeof stateJson === "string") out.write(stateJson, stateAt, "utf8");
  else out.set(stateJson, stateAt);
  out.writeUInt32LE(crc32(out, stateAt), STATE_CRC_AT);
  out.writeUInt32LE(crc32(out, SEQ_AT, stateAt), CRC_AT);
  return out;
}

/** @throws CodecError if the envelope is damaged or of an unknown version */
export function decodeRecord(stored: Uint8Array): DecodedRecord {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const version = bytes[0];
  if (version !== VERSION_PLAIN && version !== VERSION_WITH_EXTRA) {
    throw new CodecError(`record version ${version} is unknown to this version of colloquy`);
  }
  const hasExtra = version === VERSION_WITH_EXTRA;
  const stateAt = hasExtra && bytes.length >= STATE_AT + 4 ? STATE_AT + 4 + bytes.readUInt32LE(STATE_AT) : STATE_AT;
  if (bytes.length < stateAt || crc32(bytes, SEQ_AT, stateAt) !== bytes.readUInt32LE(CRC_AT)) {
    throw new CodecError("the record's envelope does not match its checksum");
  }
  return {
    record: {
      seq: bytes.readDoubleLE(SEQ_AT),
      outSeq: bytes.readDoubleLE(SEQ_AT + 8),
      cursor: readPosition(bytes, CURSOR_AT),
      born: readPosition(bytes, BORN_AT),
      chain: { lo: bytes.readUInt32LE(CHAIN_AT), hi: bytes.readUInt32LE(CHAIN_AT + 4) },
      extra: hasExtra ? (JSON.parse(bytes.toString("utf8", STATE_AT + 4, stateAt)) as RecordExtra) : null,
    },
    botVersion: bytes.readUInt32LE(BOT_VERSION_AT),
    stateBytes: bytes.subarray(stateAt),
    stateCrc: bytes.readUInt32LE(STATE_CRC_AT),
  };
}

/** @throws CodecError if the state does not match its checksum */
export function checkedState(decoded: DecodedRecord): StoredState {
  if (crc32(decoded.stateBytes) !== decoded.stateCrc)
    throw new CodecError("the stored state does not match its checksum");
  return { botVersion: decoded.botVersion, bytes: decoded.stateBytes };
}

interface StoredPosition {
  readonly entry: { readonly ms: number; readonly seq: number };
  readonly index: number;
}

function writePosition(out: Buffer, at: number, position: StoredPosition): void {
  out.writeDoubleLE(position.entry.ms, at);
  out.writeDoubleLE(position.entry.seq, at + 8);
  out.writeInt32LE(position.index, at + 16);
}

function readPosition(bytes: Buffer, at: number): StoredPosition {
  return { entry: { ms: bytes.readDoubleLE(at), seq: bytes.readDoubleLE(at + 8) }, index: bytes.readInt32LE(at + 16) };
}
