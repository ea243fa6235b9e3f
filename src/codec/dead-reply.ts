// Dead reply: a reply that became a dead letter, as it is written: JSON, its wire bytes in base64, so that it can be redriven.

import { type ConversationId, conversationKey } from "../domain/ids.ts";
import type { DeadReplyReason, ReplyPlace } from "../domain/lane.ts";
import type { OutboxReply, ReplyExtra } from "./outbox-codec.ts";

export interface DeadReply {
  readonly id: ConversationId;
  readonly item: ReplyPlace & { readonly body: Uint8Array; readonly extra: ReplyExtra | undefined };
  readonly reason: DeadReplyReason;
  /** Status or error code of the last attempt; never payload. */
  readonly error: string;
  readonly attempts: number;
  readonly atMs: number;
}

export function encodeDeadReply({ id, item, reason, error, attempts, atMs }: DeadReply): Buffer {
  const { born, outSeq, extra } = item;
  const body = Buffer.from(item.body).toString("base64");
  return Buffer.from(
    JSON.stringify({ direction: "out", ...id, born, outSeq, ...extra, reason, error, attempts, atMs, body }),
  );
}

/**
 * The reply that comes back: the same place, bytes and part, marked as redriven, and without an end of its time. Null if the letter is
 * none of a reply, or cannot be read.
 */
export function decodeDeadReply(letter: Uint8Array): OutboxReply | null {
  try {
    const { direction, bot, channel, conversation, born, outSeq, part, parts, isOfNotice, body } = JSON.parse(
      Buffer.from(letter).toString("utf8"),
    ) as Record<string, unknown>;
    if (direction !== "out" || typeof born !== "string" || typeof outSeq !== "number" || typeof body !== "string")
      return null;
    const id = { bot, channel, conversation } as ConversationId;
    if (![id.bot, id.channel, id.conversation].every((name) => typeof name === "string")) return null;
    const isPart = typeof part === "number" && typeof parts === "number";
    const extra: ReplyExtra = {
      ...(isPart && { part, parts }),
      ...(isOfNotice === true && { isOfNotice: true }),
      isRedriven: true,
    };
    return { key: conversationKey(id), born, outSeq, body: Buffer.from(body, "base64"), extra };
  } catch {
    return null;
  }
}
