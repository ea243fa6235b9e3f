// Rendered turn: the bytes that leave, made from a turn's replies. Pure, and before the commit, which stores them: every attempt
// at sending a reply sends the same ones (attack B14).
//
// Invariants
//   D1. A reply is what its channel made of it: bytes, or for a lane 1 to `PARTS_MAX` parts, which share an outSeq and follow each
//       other. One part is as none: its name and key are those of a reply of one body.
//   D2. What a channel makes of replies within their bounds has a bound of its own (R6): `renderedBytesMax`. It and D1 fail the turn
//       before anything of it is committed.
//   D3. A reply to a notice of a reply that failed says so, and such a notice is nobody's message: replies to it answer none (no
//       marker for a marker).

import { isUint8Array } from "node:util/types";
import { type Channel, PARTS_MAX } from "../src/channels/channel.ts";
import type { OutboxReply, ReplyExtra } from "../src/codec/outbox-codec.ts";
import type { ConversationId, ConversationKey } from "../src/domain/ids.ts";
import type { InboxMessage, Reply } from "../src/domain/message.ts";
import type { Plain } from "../src/domain/plain-data.ts";
import type { ConversationRecord } from "../src/domain/record.ts";
import { transcriptUserLine } from "../src/domain/transcript.ts";
import { TurnOutputError } from "../src/errors.ts";

export interface RenderedTurn {
  readonly outbox: readonly OutboxReply[];
  readonly transcript: readonly Uint8Array[];
  readonly bytes: number;
}

export interface RenderBounds {
  readonly replyBytesMax: number;
  readonly turnReplyBytesMax: number;
}

const NOTHING: RenderedTurn = Object.freeze({ outbox: [], transcript: [], bytes: 0 });

/** What escaping makes of a byte at most, as JSON does of a control character. */
const ESCAPED_BYTES_MAX = 6;
/** What stands around a reply: two ids of 512 bytes, escaped, and short words. */
const ENVELOPE_BYTES_MAX = 8_192;

/** @param bytesMax what the bot may have put into it, `replyBytesMax` or `turnReplyBytesMax` */
export const renderedBytesMax = (bytesMax: number, bodies: number): number =>
  ESCAPED_BYTES_MAX * bytesMax + ENVELOPE_BYTES_MAX * bodies;

/**
 * @param record  as it was before the turn
 * @param born    `record.born` as text
 * @throws TurnOutputError the channel rendered what cannot be sent, or too much of it (D1, D2)
 * @throws whatever the channel's `render` throws
 */
export function renderTurn(
  channel: Channel,
  { id, key }: { readonly id: ConversationId; readonly key: ConversationKey },
  record: ConversationRecord,
  born: string,
  turn: {
    /** Null for a notice that waited in the record. */
    readonly message: InboxMessage | null;
    readonly replies: readonly Reply[];
    /** Whether the transcript gets the message, too: once, with the first of its replies. */
    readonly withUserLine: boolean;
  },
  bounds: RenderBounds,
): RenderedTurn {
  const { message, replies, withUserLine } = turn;
  const toTranscript = channel.delivery === "transcript";
  if (replies.length === 0 && !toTranscript) return NOTHING;
  const isOfNotice = message?.extra?.deliveryFailed !== undefined; // D3
  const inReplyTo = isOfNotice ? null : (message?.id ?? null);
  const outbox: OutboxReply[] = [];
  const transcript: Uint8Array[] = [];
  const size = { bodies: 0, bytes: 0 };
  const add = (reply: Reply, outSeq: number, body: Uint8Array, part: number, parts: number): void => {
    size.bodies += 1;
    size.bytes += body.length;
    if (toTranscript) transcript.push(body);
    else outbox.push(outboxReply({ key, born, outSeq, body }, extraOf(reply, part, parts, isOfNotice)));
  };
  if (toTranscript && message !== null && withUserLine && !isOfNotice) transcript.push(userLine(record, born, message));
  for (let i = 0; i < replies.length; i += 1) {
    const reply = replies[i]!;
    const outSeq = record.outSeq + 1 + i;
    const rendered: unknown = channel.render({ to: id, born, outSeq, inReplyTo, reply });
    if (isBody(rendered)) {
      assertFits(channel, outSeq, rendered.length, 1, bounds);
      add(reply, outSeq, rendered, 1, 1);
    } else {
      const parts = partsOf(channel, rendered, outSeq, bounds);
      for (const [at, body] of parts.entries()) add(reply, outSeq, body, at + 1, parts.length);
    }
  }
  const bytesMax = renderedBytesMax(bounds.turnReplyBytesMax, size.bodies);
  if (size.bytes > bytesMax) {
    const what = `the replies of the turn into ${size.bytes} bytes, the bound is ${bytesMax}`;
    throw refused(
      channel,
      `${what} (${ESCAPED_BYTES_MAX} x turnReplyBytesMax, and ${ENVELOPE_BYTES_MAX} for each body)`,
    );
  }
  return { outbox, transcript, bytes: size.bytes };
}

/** The second test is for bytes of another realm. */
const isBody = (rendered: unknown): rendered is Uint8Array => rendered instanceof Uint8Array || isUint8Array(rendered);

/** D1, D2 */
function partsOf(channel: Channel, rendered: unknown, outSeq: number, bounds: RenderBounds): readonly Uint8Array[] {
  const parts: readonly unknown[] | null = Array.isArray(rendered) ? Array.from(rendered) : null; // without holes
  if (parts === null || !parts.every(isBody)) {
    throw refused(channel, `reply ${outSeq} into something that is no Uint8Array, nor a list of such`);
  }
  if (channel.delivery === "transcript") {
    throw refused(channel, `reply ${outSeq} into a list, and a line of a transcript is one body`);
  }
  if (parts.length < 1 || parts.length > PARTS_MAX) {
    throw refused(channel, `reply ${outSeq} into ${parts.length} bodies, and a reply has 1 to ${PARTS_MAX}`);
  }
  const bytes = parts.reduce((sum, body) => sum + body.length, 0);
  assertFits(channel, outSeq, bytes, parts.length, bounds);
  return parts;
}

/** D2 */
function assertFits(channel: Channel, outSeq: number, bytes: number, bodies: number, bounds: RenderBounds): void {
  const bytesMax = renderedBytesMax(bounds.replyBytesMax, bodies);
  if (bytes <= bytesMax) return;
  const what = `reply ${outSeq} into ${bytes} bytes, the bound is ${bytesMax}`;
  throw refused(channel, `${what} (${ESCAPED_BYTES_MAX} x replyBytesMax, and ${ENVELOPE_BYTES_MAX} for each body)`);
}

const outboxReply = (reply: OutboxReply, extra: ReplyExtra | null): OutboxReply =>
  extra === null ? reply : { ...reply, extra };

/** Null for most. */
function extraOf({ expiresAtMs }: Reply, part: number, parts: number, isOfNotice: boolean): ReplyExtra | null {
  if (expiresAtMs === undefined && parts === 1 && !isOfNotice) return null;
  return {
    ...(expiresAtMs !== undefined && { expiresAtMs }),
    ...(parts > 1 && { part, parts }),
    ...(isOfNotice && { isOfNotice }),
  };
}

const refused = ({ name }: Channel, what: string): TurnOutputError =>
  new TurnOutputError(
    `channel ${name} rendered ${what}; nothing of the turn was committed, its message runs again: mend the channel's render`,
  );

function userLine(record: ConversationRecord, born: string, message: InboxMessage): Uint8Array {
  const line = { seq: record.seq + 1, born, messageId: message.id, text: message.text };
  const { dataJson } = message;
  return transcriptUserLine(dataJson === "" ? line : { ...line, data: JSON.parse(dataJson) as Plain });
}
