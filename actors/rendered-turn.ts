// Rendered turn: the bytes that leave, made from a turn's replies. Pure, and before the commit, which stores them: every attempt
// at sending a reply sends the same ones (attack B14).

import type { Channel } from "../src/channels/channel.ts";
import type { OutboxReply } from "../src/codec/outbox-codec.ts";
import type { ConversationId, ConversationKey } from "../src/domain/ids.ts";
import type { InboxMessage, Reply } from "../src/domain/message.ts";
import type { Plain } from "../src/domain/plain-data.ts";
import type { ConversationRecord } from "../src/domain/record.ts";
import { transcriptUserLine } from "../src/domain/transcript.ts";

export interface RenderedTurn {
  readonly outbox: readonly OutboxReply[];
  readonly transcript: readonly Uint8Array[];
  readonly bytes: number;
}

const NOTHING: RenderedTurn = Object.freeze({ outbox: [], transcript: [], bytes: 0 });

/**
 * @param record  as it was before the turn
 * @param born    `record.born` as text
 * @throws whatever the channel's `render` throws
 */
export function renderTurn(
  channel: Channel,
  { id, key }: { readonly id: ConversationId; readonly key: ConversationKey },
  record: ConversationRecord,
  born: string,
  turn: {
    /** Null for a notice. */
    readonly message: InboxMessage | null;
    readonly replies: readonly Reply[];
    /** Whether the transcript gets the message, too: once, with the first of its replies. */
    readonly withUserLine: boolean;
  },
): RenderedTurn {
  const { message, replies, withUserLine } = turn;
  const toTranscript = channel.delivery === "transcript";
  if (replies.length === 0 && !toTranscript) return NOTHING;
  const bodies = replies.map((reply, i) =>
    channel.render({ to: id, born, outSeq: record.outSeq + 1 + i, inReplyTo: message?.id ?? null, reply }),
  );
  const bytes = bodies.reduce((sum, body) => sum + body.length, 0);
  if (toTranscript && message !== null && withUserLine)
    return { outbox: [], transcript: [userLine(record, born, message), ...bodies], bytes };
  if (toTranscript) return { outbox: [], transcript: bodies, bytes };
  const outbox = bodies.map((body, i) => ({ key, born, outSeq: record.outSeq + 1 + i, body }));
  return { outbox, transcript: [], bytes };
}

function userLine(record: ConversationRecord, born: string, message: InboxMessage): Uint8Array {
  const line = { seq: record.seq + 1, born, messageId: message.id, text: message.text };
  const { dataJson } = message;
  return transcriptUserLine(dataJson === "" ? line : { ...line, data: JSON.parse(dataJson) as Plain });
}
