// Messages: the values that stages hand to each other. Plain and immutable; no stage adds to what it was given.

import type { Hash64 } from "./hash.ts";
import type { ConversationId, ConversationKey } from "./ids.ts";
import type { Plain } from "./plain-data.ts";
import type { EntryId, Position } from "./position.ts";

/** What a channel's `parse` makes of one external message. */
export interface Inbound {
  readonly to: ConversationId;
  /** The message's id in its conversation, as the outside names it: 1 to 512 bytes of UTF-8. What dedupe goes by. */
  readonly id: string;
  /** The outside's own order, where it has one: a safe integer >= 0. */
  readonly sequence?: number;
  readonly text: string;
  readonly data?: Plain;
  /** When the outside says it was sent, ms since the Unix epoch. */
  readonly sentAtMs?: number;
}

/** One inbox entry in memory, shared by the messages of its batch. It may go when none of them is undecided. */
export interface InboxEntry {
  readonly id: EntryId;
  readonly bytes: number;
  undecided: number;
}

/** A message as it stands in a mailbox. */
export interface InboxMessage {
  readonly position: Position;
  /** The inbox entry that carries it. */
  readonly source: InboxEntry;
  readonly key: ConversationKey;
  readonly id: string;
  readonly idHash: Hash64;
  /** CRC-32 of text and data, to tell a repeat from a conflict. */
  readonly bodyHash: number;
  readonly sequence: number | undefined;
  readonly sentAtMs: number | undefined;
  readonly text: string;
  /** JSON, parsed when its turn begins; empty for none. */
  readonly dataJson: string;
  /** Size in the inbox entry. */
  readonly bytes: number;
}

/** One reply of a turn, before the channel renders it. */
export interface Reply {
  readonly text: string;
  readonly data?: Plain;
}

/** What `Channel.render` is given: the reply and its place. Rendering is pure and happens before the commit (attack B14). */
export interface RenderInput {
  readonly to: ConversationId;
  readonly born: string;
  readonly outSeq: number;
  readonly inReplyTo: string | null;
  readonly reply: Reply;
}

/** One reply on its way out: the wire bytes that the commit stored. Every attempt sends these bytes under this key. */
export interface Delivery {
  readonly to: ConversationId;
  readonly born: string;
  readonly outSeq: number;
  readonly idempotencyKey: string;
  readonly body: Uint8Array;
}
