// Messages that bear numbers, as short as tests of order want them.

import type { OrderState } from "../../../src/domain/external-order.ts";
import type { MessageExtra } from "../../../src/domain/message.ts";
import type { Position } from "../../../src/domain/position.ts";
import { RecentIds } from "../../../src/domain/recent-ids.ts";
import { type ConversationRecord, newRecord, withExtra } from "../../../src/domain/record.ts";

export interface Numbered {
  readonly position: Position;
  readonly idHash: { readonly lo: number; readonly hi: number };
  readonly bodyHash: number;
  readonly sequence: number | undefined;
  readonly extra: MessageExtra | null;
}

export const at = (ms: number, index = 0): Position => ({ entry: { ms, seq: 0 }, index });
export const hashOf = (id: number): { lo: number; hi: number } => ({ lo: id, hi: id });

/** @param atMs its admission; also what tells it from others, unless `id` says otherwise */
export function numbered(
  sequence: number | undefined,
  atMs: number,
  other: { readonly id?: number; readonly body?: number; readonly epoch?: number; readonly extra?: MessageExtra } = {},
): Numbered {
  const extra = other.epoch === undefined ? (other.extra ?? null) : { epoch: other.epoch, ...other.extra };
  return { position: at(atMs), idHash: hashOf(other.id ?? atMs), bodyHash: other.body ?? 1, sequence, extra };
}

export const emptyIds = (): RecentIds => new RecentIds({ dedupeMs: 60_000, dedupeMax: 1_000 }, null);

/** A record of a conversation that goes on with `next`. */
export const goingOnWith = (next: number, epoch = 0): ConversationRecord => withOrder({ epoch, next });

export const withOrder = (order: OrderState | undefined): ConversationRecord => withExtra(newRecord(at(0)), { order });
