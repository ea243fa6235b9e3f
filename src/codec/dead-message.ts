// Dead message: a message that became a dead letter, as it is written: JSON, the message itself in base64, so that it can be redriven.

import type { ConversationId } from "../domain/ids.ts";
import type { InboxMessage } from "../domain/message.ts";
import { formatBorn } from "../domain/position.ts";
import type { DeliveryFailed, Notice } from "../domain/record.ts";
import { encodeWaiting } from "./inbox-codec.ts";

export const DEAD_MESSAGE_REASONS = ["poison", "late", "skipped", "hops", "rejected"] as const;
export type DeadMessageReason = (typeof DEAD_MESSAGE_REASONS)[number];

export interface DeadMessage {
  readonly id: ConversationId;
  readonly message: InboxMessage;
  readonly reason: DeadMessageReason;
  readonly attempts: number;
  /** Never a user's words; null where nothing failed. */
  readonly error: string | null;
  readonly botVersion: number;
  /** Replies of its turn that had left already. */
  readonly repliesOut: number;
  readonly atMs: number;
}

export function encodeDeadMessage({ id, message, ...rest }: DeadMessage): Buffer {
  const { reason, attempts, error, botVersion, repliesOut, atMs } = rest;
  return Buffer.from(
    JSON.stringify({
      direction: "in",
      ...id,
      id: message.id,
      position: formatBorn(message.position),
      reason,
      attempts,
      error,
      botVersion,
      ...(repliesOut > 0 && { repliesOut }),
      atMs,
      body: encodeWaiting(message).toString("base64"),
    }),
  );
}

/** What stood on a waiting list and cannot be read, as raw bytes. */
export function encodeUnreadable(id: ConversationId, bytes: Uint8Array, atMs: number): Buffer {
  const body = Buffer.from(bytes).toString("base64");
  return Buffer.from(JSON.stringify({ direction: "in", ...id, reason: "checksum", atMs, body }));
}

/** A notice that the bot failed on for good. It cannot come back: what it told of happened before what came since. */
export function encodeDeadNotice(
  id: ConversationId,
  notice: Notice | DeliveryFailed,
  attempts: number,
  error: string | null,
  atMs: number,
): Buffer {
  const body = Buffer.from(JSON.stringify(notice)).toString("base64");
  return Buffer.from(JSON.stringify({ direction: "in", ...id, reason: "notice", attempts, error, atMs, body }));
}
