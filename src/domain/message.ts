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
  /** Rises when the outside begins its sequence anew; order goes by (epoch, sequence). Default 0. */
  readonly epoch?: number;
  /** An edit or a reaction is a message of its own, with an id of its own; `about` is the id of the message that it is about. */
  readonly kind?: "edit" | "reaction";
  readonly about?: string;
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

/** What few messages have. */
export interface MessageExtra {
  readonly epoch?: number;
  readonly kind?: "edit" | "reaction";
  readonly about?: string;
  /** The conversation whose turn sent it, and how many sends led here (attack B17). */
  readonly from?: ConversationId;
  readonly hops?: number;
  /** The dead letter that came back as this message, `<entry id>`. */
  readonly redrives?: string;
  /** It is no message but a marker: a reply became a dead letter (ordering `available` only). */
  readonly deliveryFailed?: { readonly outSeq: number; readonly reason: string };
}

/** A due timer or clock of a conversation, as it stands in a mailbox. */
export interface TimerMessage {
  readonly kind: "timer";
  readonly position: Position;
  readonly source: InboxEntry;
  readonly key: ConversationKey;
  readonly name: string;
  readonly generation: number;
}

/** What an operator asks of a conversation. Handled before its mailbox; done twice it changes nothing. */
export interface ControlMessage {
  readonly kind: "control";
  readonly position: Position;
  readonly source: InboxEntry;
  readonly key: ConversationKey;
  readonly control: Control;
}

export type Control =
  /** Runs the message that it is halted at once more, with attempts counted from 0; of a gap: waits for it once more. */
  | { readonly verb: "retry"; readonly halt: string; readonly by: string }
  /** The message that it is halted at becomes a dead letter, or the gap is passed. */
  | { readonly verb: "skip"; readonly halt: string; readonly by: string };

/** What an operator asks of the lane of a conversation. It goes there, past the conversation itself; done twice it changes nothing. */
export interface LaneControlMessage {
  readonly kind: "lane-control";
  readonly position: Position;
  readonly source: InboxEntry;
  readonly key: ConversationKey;
  readonly control: LaneControl;
}

export type LaneControl =
  /** Sends the reply at the head again, with attempts counted from 0; it opens a lane that is closed. `at`: `replyName` of the head. */
  | { readonly verb: "lane-retry"; readonly at: string; readonly by: string }
  /** The reply at the head of a halted lane, with the other parts of it, becomes a dead letter. */
  | { readonly verb: "lane-skip"; readonly at: string; readonly by: string }
  /** The reply that is this dead letter, `<entry id>`, joins the end of its lane's list: same key, same bytes. */
  | { readonly verb: "lane-redrive"; readonly letter: string; readonly by: string };

export type MailboxMessage = InboxMessage | TimerMessage | ControlMessage;

/** A message as it stands in a mailbox. */
export interface InboxMessage {
  readonly kind: "message";
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
  readonly extra: MessageExtra | null;
  /** Where it stands on its conversation's waiting list; null while the inbox has it. */
  readonly waitingId: number | null;
}

/** One reply of a turn, before the channel renders it. */
export interface Reply {
  readonly text: string;
  readonly data?: Plain;
  /** ms since the Unix epoch: from then on its lane does not send it any more. A transcript keeps it all the same. */
  readonly expiresAtMs?: number;
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
  /** The outbox entry that holds it: it only rises along a lane. */
  readonly place?: EntryId;
  /** It had become a dead letter, and an operator sent it again. */
  readonly redriven?: true;
}
