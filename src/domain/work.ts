// Work: what a turn of a conversation is about, and what its end changes in the record beside state and counts. Pure.
//
// Invariants
//   V1. A turn that ends takes the open turn with it, and the mark of a suspect: both were of it alone.
//   V2. Only a message moves the outside's order; only a notice of the record leaves the notices.
//   V3. A marker is both: consumed as the message that it came as, and told as a notice. A bot is told only where nothing else stands for
//       it: with ordering `available`, and by a handler for it.

import type { BotDefinition } from "./bot.ts";
import type { OrderState } from "./external-order.ts";
import type { InboxMessage } from "./message.ts";
import type { Position } from "./position.ts";
import type { ConversationRecord, DeliveryFailed, ExtraParts, Notice } from "./record.ts";

/** A turn that is under way or about to be: of a message or of a notice. */
export interface Work {
  /** Null for a notice of the record. As it stands in the inbox or on the list. */
  readonly message: InboxMessage | null;
  /** What the bot is told instead of the message; null for one that it is given (V3). */
  readonly notice: Notice | DeliveryFailed | null;
  readonly isLate: boolean;
  /** What stands in the record after it; undefined for nothing. */
  readonly order: OrderState | undefined;
}

export const messageWork = (message: InboxMessage, isLate: boolean, order: OrderState | undefined): Work => ({
  message,
  notice: markerOf(message),
  isLate,
  order,
});

export const noticeWork = (notice: Notice): Work => ({ message: null, notice, isLate: false, order: undefined });

/** What a message tells that is none; null for one of the outside, of another conversation, or redriven. */
export function markerOf({ extra, position }: Pick<InboxMessage, "extra" | "position">): DeliveryFailed | null {
  return extra?.deliveryFailed === undefined ? null : { kind: "delivery-failed", position, ...extra.deliveryFailed };
}

/** V3 */
export const isToldOfDelivery = ({ ordering, onNotice }: Pick<BotDefinition, "ordering" | "onNotice">): boolean =>
  ordering === "available" && onNotice?.deliveryFailed !== undefined;

/** Of the message, or of what the notice is about. */
export const positionOf = ({ message, notice }: Work): Position => (message ?? notice)!.position;

/** Those that wait behind the oldest; undefined for none. */
export const noticesBehind = (notices: readonly Notice[] | undefined): readonly Notice[] | undefined =>
  notices === undefined || notices.length <= 1 ? undefined : notices.slice(1);

/** What changes in the extra by the end of its turn; null in the plain case, which is the frequent one. */
export function extraAfterTurn({ extra }: ConversationRecord, work: Work): ExtraParts | null {
  if (extra === null) return work.order === undefined ? null : { order: work.order };
  const ended = { openTurn: undefined, suspect: undefined }; // V1
  if (work.message === null) return { ...ended, order: extra.order, notices: noticesBehind(extra.notices) };
  return { ...ended, order: work.order, notices: extra.notices }; // V2
}
