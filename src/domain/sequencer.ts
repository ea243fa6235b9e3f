// Sequencer: decides what happens to the message at the head of a mailbox. Pure: (record, ids, message) -> decision.
//
// Invariants
//   Q1. A position at or below the cursor was consumed by a committed turn and is never released again (P2 after a crash).
//   Q2. Only an id proves a duplicate (P2); a released message is the next one in position order (P3).

import type { InboxMessage } from "./message.ts";
import { comparePositions } from "./position.ts";
import type { RecentIds } from "./recent-ids.ts";
import type { ConversationRecord } from "./record.ts";

export type Decision =
  /** Read again after a crash; its effect is already in the record. */
  | { readonly kind: "consumed" }
  /** Admitted before under this id; `conflict` if with another body. The first one won. */
  | { readonly kind: "duplicate"; readonly conflict: boolean }
  /** Next in order: run its turn as number `seq`. */
  | { readonly kind: "release"; readonly seq: number };

export function sequence(
  record: ConversationRecord,
  ids: Pick<RecentIds, "seen">,
  message: Pick<InboxMessage, "position" | "idHash" | "bodyHash">,
): Decision {
  if (comparePositions(message.position, record.cursor) <= 0) return { kind: "consumed" }; // Q1
  const seen = ids.seen(message.idHash, message.position.entry.ms, message.bodyHash);
  if (seen !== "new") return { kind: "duplicate", conflict: seen === "conflict" }; // Q2
  return { kind: "release", seq: record.seq + 1 };
}
