// Inbox codec: a batch of messages as one inbox entry, and one message on a waiting list. The frames of an entry hold
//
//   kind u8 | flags u8 | key length u16 | id length u16 | text length u32 | sequence f64? | sent at f64? | extra length u16?
//   | key | id | text | extra as JSON? | data as JSON (the rest)
//
// kind 0, a message. kind 1, a timer: the id is its name, `sequence` its generation. kind 2, an operator's control: its data.
// On a waiting list a message is the one frame of an entry of its own, behind its position:
//
//   position: ms f64, seq f64, index i32 | entry

import type { Hash64 } from "../domain/hash.ts";
import { halfSipHash64 } from "../domain/hash.ts";
import type { ConversationKey } from "../domain/ids.ts";
import type {
  Control,
  Inbound,
  InboxEntry,
  InboxMessage,
  LaneControl,
  LaneControlMessage,
  MailboxMessage,
  MessageExtra,
  TimerMessage,
} from "../domain/message.ts";
import type { Position } from "../domain/position.ts";
import { CodecError } from "../errors.ts";
import { crc32 } from "./checksum.ts";
import { ENTRY_OVERHEAD_BYTES, FRAME_OVERHEAD_BYTES, FrameWriter, readFrames } from "./frames.ts";

const KIND = { message: 0, timer: 1, control: 2, laneControl: 3 } as const;
const HAS_SEQUENCE = 1;
const HAS_SENT_AT = 2;
const HAS_EXTRA = 4;
const FIXED_BYTES = 10;
const OPTIONAL_BYTES = 8 + 8 + 2;
/** A UTF-16 unit becomes at most this many bytes of UTF-8. */
const UTF8_BYTES_PER_UNIT = 3;
const POSITION_BYTES = 20;
const NO_TEXT = "";

/** What a frame is made of, whatever its kind. */
interface Frame {
  readonly kind: number;
  readonly key: ConversationKey;
  readonly id: string;
  readonly text: string;
  readonly dataJson: string;
  readonly extraJson: string;
  readonly sequence: number | undefined;
  readonly sentAtMs: number | undefined;
}

export class InboxBatch {
  readonly #frames: FrameWriter;

  constructor(capacity?: number) {
    this.#frames = new FrameWriter(capacity);
  }

  get count(): number {
    return this.#frames.count;
  }

  get bytes(): number {
    return this.#frames.at;
  }

  /** @param extra besides what the message itself brings: where a send came from, what a redrive brings back */
  add(key: ConversationKey, message: Inbound, extra: MessageExtra | null = null): void {
    this.#write({
      kind: KIND.message,
      key,
      id: message.id,
      text: message.text,
      dataJson: dataJsonOf(message),
      extraJson: extraJsonOf(message, extra),
      sequence: message.sequence,
      sentAtMs: message.sentAtMs,
    });
  }

  /** A message that was read before, as it was. */
  addAgain(message: InboxMessage): void {
    this.#write({
      ...message,
      kind: KIND.message,
      extraJson: message.extra === null ? NO_TEXT : JSON.stringify(message.extra),
    });
  }

  addTimer({ key, name, generation }: Pick<TimerMessage, "key" | "name" | "generation">): void {
    this.#write({ ...NOTHING, kind: KIND.timer, key, id: name, sequence: generation });
  }

  addControl(key: ConversationKey, control: Control): void {
    this.#write({ ...NOTHING, kind: KIND.control, key, dataJson: JSON.stringify(control) });
  }

  addLaneControl(key: ConversationKey, control: LaneControl): void {
    this.#write({ ...NOTHING, kind: KIND.laneControl, key, dataJson: JSON.stringify(control) });
  }

  finish(): Buffer {
    return this.#frames.finish();
  }

  #write({ kind, key, id, text, dataJson, extraJson, sequence, sentAtMs }: Frame): void {
    const units = key.length + id.length + text.length + dataJson.length + extraJson.length;
    const frames = this.#frames;
    frames.begin(FIXED_BYTES + OPTIONAL_BYTES + units * UTF8_BYTES_PER_UNIT);
    const head = frames.at;
    frames.at += FIXED_BYTES;
    let flags = 0;
    if (sequence !== undefined) {
      flags |= HAS_SEQUENCE;
      frames.at = frames.bytes.writeDoubleLE(sequence, frames.at);
    }
    if (sentAtMs !== undefined) {
      flags |= HAS_SENT_AT;
      frames.at = frames.bytes.writeDoubleLE(sentAtMs, frames.at);
    }
    if (extraJson !== NO_TEXT) {
      flags |= HAS_EXTRA;
      frames.at = frames.bytes.writeUInt16LE(Buffer.byteLength(extraJson), frames.at);
    }
    const keyStart = frames.at;
    frames.writeText(key);
    const idStart = frames.at;
    frames.writeText(id);
    const textStart = frames.at;
    frames.writeText(text);
    const { bytes } = frames;
    bytes[head] = kind;
    bytes[head + 1] = flags;
    bytes.writeUInt16LE(idStart - keyStart, head + 2);
    bytes.writeUInt16LE(textStart - idStart, head + 4);
    bytes.writeUInt32LE(frames.at - textStart, head + 6);
    if (extraJson !== NO_TEXT) frames.writeText(extraJson);
    if (dataJson !== NO_TEXT) frames.writeText(dataJson);
    frames.end();
  }
}

const NOTHING = {
  id: NO_TEXT,
  text: NO_TEXT,
  dataJson: NO_TEXT,
  extraJson: NO_TEXT,
  sequence: undefined,
  sentAtMs: undefined,
};

const dataJsonOf = (message: Inbound): string => (message.data === undefined ? NO_TEXT : JSON.stringify(message.data));

function extraJsonOf({ epoch, kind, about }: Inbound, given: MessageExtra | null): string {
  if (given === null && epoch === undefined && kind === undefined && about === undefined) return NO_TEXT;
  return JSON.stringify({ epoch, kind, about, ...given }); // what is undefined leaves no trace
}

/** Upper bound of what `add` takes of an entry, without an extra of its own. */
export function inboxBytesMax(key: ConversationKey, message: Inbound): number {
  const units = key.length + message.id.length + message.text.length;
  const json = dataJsonOf(message).length + extraJsonOf(message, null).length;
  const fixed = ENTRY_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES + FIXED_BYTES + OPTIONAL_BYTES;
  return fixed + (units + json) * UTF8_BYTES_PER_UNIT;
}

/** Upper bound of what `addTimer` takes of an entry. */
export function timerBytesMax({ key, name }: Pick<TimerMessage, "key" | "name">): number {
  const fixed = ENTRY_OVERHEAD_BYTES + FRAME_OVERHEAD_BYTES + FIXED_BYTES + OPTIONAL_BYTES;
  return fixed + (key.length + name.length) * UTF8_BYTES_PER_UNIT;
}

export interface DecodedBatch {
  readonly messages: readonly MailboxMessage[];
  /** They go to lanes, past the conversations. */
  readonly laneControls: readonly LaneControlMessage[];
  /** Payloads that fail their checksum or are of an unknown kind, as they were read. */
  readonly rotten: readonly Buffer[];
}

/**
 * @param entry the entry that the messages will share
 * @throws CodecError if the whole entry cannot be read
 */
export function decodeInboxEntry(bytes: Buffer, entry: InboxEntry, hashKey: Hash64): DecodedBatch {
  const messages: MailboxMessage[] = [];
  const laneControls: LaneControlMessage[] = [];
  const rotten: Buffer[] = [];
  readFrames(bytes, {
    payload(index, start, end) {
      const place = { position: { entry: entry.id, index }, source: entry };
      const message = decodeFrame(bytes, start, end, place, hashKey);
      if (message === null) rotten.push(bytes.subarray(start, end));
      else if (message.kind === "lane-control") laneControls.push(message);
      else messages.push(message);
    },
    rotten: (_index, start, end) => rotten.push(bytes.subarray(start, end)),
  });
  return { messages, laneControls, rotten };
}

type Place = Pick<InboxMessage, "position" | "source">;

/** Null for a kind that this version does not know. */
function decodeFrame(
  bytes: Buffer,
  start: number,
  end: number,
  place: Place,
  hashKey: Hash64,
): MailboxMessage | LaneControlMessage | null {
  const flags = bytes[start + 1]!;
  let at = start + FIXED_BYTES;
  let sequence: number | undefined;
  let sentAtMs: number | undefined;
  let extraBytes = 0;
  if (flags & HAS_SEQUENCE) {
    sequence = bytes.readDoubleLE(at);
    at += 8;
  }
  if (flags & HAS_SENT_AT) {
    sentAtMs = bytes.readDoubleLE(at);
    at += 8;
  }
  if (flags & HAS_EXTRA) {
    extraBytes = bytes.readUInt16LE(at);
    at += 2;
  }
  const idStart = at + bytes.readUInt16LE(start + 2);
  const textStart = idStart + bytes.readUInt16LE(start + 4);
  const extraStart = textStart + bytes.readUInt32LE(start + 6);
  const dataStart = extraStart + extraBytes;
  const key = bytes.toString("utf8", at, idStart) as ConversationKey;
  switch (bytes[start]) {
    case KIND.timer:
      return {
        kind: "timer",
        ...place,
        key,
        name: bytes.toString("utf8", idStart, textStart),
        generation: sequence ?? 0,
      };
    case KIND.control:
      return { kind: "control", ...place, key, control: JSON.parse(bytes.toString("utf8", dataStart, end)) as Control };
    case KIND.laneControl: {
      const control = JSON.parse(bytes.toString("utf8", dataStart, end)) as LaneControl;
      return { kind: "lane-control", ...place, key, control };
    }
    case KIND.message: {
      const extra =
        extraBytes === 0 ? null : (JSON.parse(bytes.toString("utf8", extraStart, dataStart)) as MessageExtra);
      return {
        kind: "message",
        position: place.position,
        source: place.source,
        key,
        id: bytes.toString("utf8", idStart, textStart),
        idHash:
          extra?.redrives === undefined
            ? halfSipHash64(hashKey, bytes, idStart, textStart)
            : halfSipHash64(hashKey, Buffer.from(`redrive:${extra.redrives}`)), // its own id was decided long ago
        bodyHash: crc32(bytes, textStart, end),
        sequence,
        sentAtMs,
        text: bytes.toString("utf8", textStart, extraStart),
        dataJson: dataStart === end ? NO_TEXT : bytes.toString("utf8", dataStart, end),
        bytes: end - start + FRAME_OVERHEAD_BYTES,
        extra,
        waitingId: null,
      };
    }
    default:
      return null;
  }
}

/** Size of what `encodeWaiting` makes. */
export const waitingBytesOf = (message: Pick<InboxMessage, "bytes">): number =>
  POSITION_BYTES + ENTRY_OVERHEAD_BYTES + message.bytes;

/** A message as it stands on a waiting list, with the position that it was admitted at. */
export function encodeWaiting(message: InboxMessage): Buffer {
  const batch = new InboxBatch(message.bytes + 64);
  batch.addAgain(message);
  const entry = batch.finish();
  const out = Buffer.allocUnsafe(POSITION_BYTES + entry.length);
  out.writeDoubleLE(message.position.entry.ms, 0);
  out.writeDoubleLE(message.position.entry.seq, 8);
  out.writeInt32LE(message.position.index, 16);
  out.set(entry, POSITION_BYTES);
  return out;
}

/**
 * @param waitingId its id on the list
 * @throws CodecError if it was not made by `encodeWaiting`, or a bit of it changed
 */
export function decodeWaiting(stored: Uint8Array, waitingId: number | null, hashKey: Hash64): InboxMessage {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length <= POSITION_BYTES) throw new CodecError("a message on a waiting list is too short");
  const entry = { ms: bytes.readDoubleLE(0), seq: bytes.readDoubleLE(8) };
  const position: Position = { entry, index: bytes.readInt32LE(16) };
  const source: InboxEntry = { id: entry, bytes: bytes.length, undecided: 1 }; // the entry itself is gone
  const { messages } = decodeInboxEntry(bytes.subarray(POSITION_BYTES), source, hashKey);
  const [message] = messages;
  if (message?.kind !== "message") throw new CodecError("a message on a waiting list does not match its checksum");
  return { ...message, position, waitingId };
}

/** The namespace's hash key as two halves. */
export function hashKeyOf(bytes: Uint8Array): Hash64 {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { lo: view.getUint32(0, true), hi: view.getUint32(4, true) };
}
