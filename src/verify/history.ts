// History: what clients, the sink and the faults of a run logged, and what the store's own log says, as plain values.
// docs/verify.md is the reference of the lines for those who write them.
//
// All times are microseconds of one monotonic clock, so that lines of different files can be compared. Lines of the store's
// log have no time, only an order: of two, the one with the lower `at` was written first.

import type { ExternalPlace, OrderState } from "../domain/external-order.ts";
import type { Hash64 } from "../domain/hash.ts";
import type { Position } from "../domain/position.ts";
import type { HaltReason, TurnOutcome } from "../domain/record.ts";

/** Whose conversation it is. In a folder that is verified each line names the bot; the channel is `http` if it names none. */
export interface Addressed {
  readonly bot?: string;
  readonly channel?: string;
}

/** Names a message within its conversation; other conversations use the same ids. */
export interface MessageName {
  readonly conversation: string;
  readonly id: string;
}

/** A message that was sent at least once. */
export interface SentMessage extends MessageName, Addressed {
  readonly kind: "message";
  /** The sender's own number of it in its conversation; for people who read the log. */
  readonly n?: number;
  /** Where the fold is checked; otherwise it may be empty. */
  readonly text: string;
}

/** One try at one request. */
export interface RequestAttempt extends Addressed {
  readonly kind: "attempt";
  /** Tries of the same request share it. */
  readonly request: string;
  readonly attempt: number;
  /** `first` also stands for its retries; a `repeat` was sent when all of it had been answered 2xx, in any order. */
  readonly purpose: "first" | "repeat";
  readonly items: readonly MessageName[];
  readonly sentUs: number;
  readonly endedUs: number;
  /** `nack`: certainly nothing of it was admitted. `unknown`: all, a part or nothing may have been (no answer, 429, 5xx). */
  readonly outcome: "ack" | "nack" | "unknown";
  /** HTTP status; 0 without an answer. */
  readonly status: number;
}

/** One request that the sink received. */
export interface DeliveryAttempt extends Addressed {
  readonly kind: "delivery";
  /** Idempotency-Key as it came. */
  readonly key: string;
  readonly conversation: string;
  readonly sequence: number;
  readonly inReplyTo: string | null;
  /** Where the fold is checked; otherwise it may be empty. */
  readonly text: string;
  /** SHA-256 of the body, hex. */
  readonly bodyHash: string;
  readonly bytes?: number;
  readonly receivedUs: number;
  readonly answeredUs: number;
  /** Status that was given; 0 if the connection ended without an answer. */
  readonly status: number;
}

export interface History {
  readonly messages: readonly SentMessage[];
  readonly attempts: readonly RequestAttempt[];
  readonly deliveries: readonly DeliveryAttempt[];
}

/** Something that was done to the system on purpose. */
export interface Fault {
  readonly kind: "fault";
  /** What was done, e.g. `kill`. */
  readonly fault: string;
  /** To what, e.g. `redis`. */
  readonly target?: string;
  readonly atUs: number;
}

/** A message as its batch was added to a shard's inbox. */
export interface Admitted extends Addressed, MessageName {
  readonly kind: "admitted";
  /** Where in the log: the number of the transaction. */
  readonly at: number;
  readonly shard: string;
  readonly position: Position;
  /** Of its identity: of what a dead letter brings back, of that letter. */
  readonly idHash: Hash64;
  /** Where the outside numbers its messages. */
  readonly place?: ExternalPlace;
  /** Who put it there, if it was no client: another conversation's turn, its own lane (a reply failed), or an operator. */
  readonly by?: "turn" | "lane" | "redrive";
}

/** What else stands in a shard's inbox and a cursor may pass: a due timer, or what an operator asks. */
export interface Signal extends Addressed {
  readonly kind: "signal";
  readonly conversation: string;
  readonly at: number;
  readonly shard: string;
  readonly position: Position;
  /** The halt that an operator's verb means; absent for a timer. */
  readonly halt?: string;
}

/** One slot of the ids that a commit stored: a message that it decided. */
export interface DecidedId {
  readonly hash: Hash64;
  /** Of the admission, s since the Unix epoch. */
  readonly second: number;
}

/** What one transaction wrote of one conversation. */
export interface CommittedTurns extends Addressed {
  readonly kind: "committed";
  readonly conversation: string;
  readonly at: number;
  readonly shard: string;
  readonly epoch: number;
  readonly n: number;
  /** null if the transaction wrote none; a text says why the stored bytes are no record. */
  readonly record:
    | {
        readonly seq: number;
        readonly outSeq: number;
        readonly cursor: Position;
        readonly born: Position;
        readonly chain: Hash64;
      }
    | string
    | null;
  /** The ids that it decided, in order; those of a rewrite are all that were kept, the new ones last. */
  readonly decided: readonly DecidedId[];
  readonly isRewrite: boolean;
  /** Put into the outbox. */
  readonly replies: readonly CommittedReply[];
  /** Put into the transcript. */
  readonly transcribed: number;
  /** Absent if nothing of the conversation waits, is held up or is set aside, before or now. */
  readonly aside?: CommittedAside;
}

/** What one transaction did of a conversation beside its turns. */
export interface CommittedAside {
  /** Of the record that it wrote; absent if that has nothing extra. */
  readonly standing?: StandingAside;
  readonly listed: readonly ListedMessage[];
  /** Ids that left the waiting list. */
  readonly unlisted: readonly number[];
  /** Messages that became dead letters. */
  readonly letters: readonly Letter[];
  /** How many notices did. */
  readonly droppedNotices: number;
  /** Whether it is in the index of the unfinished, and among those at their bound, after the transaction. */
  readonly isOpen: boolean;
  readonly isFull: boolean;
}

/** What a record says of what waits and holds up. */
export interface StandingAside {
  /** On the waiting list. */
  readonly waiting: number;
  readonly isFull: boolean;
  readonly halt?: { readonly reason: HaltReason; readonly name: string; readonly missing?: ExternalPlace };
  readonly openTurn?: OpenTurnView;
  readonly order?: OrderState;
  readonly notices: number;
  readonly isSuspect?: true;
}

export interface OpenTurnView {
  readonly position: Position;
  readonly repliesOut: number;
  /** Each as JSON, in the order of their begin. */
  readonly steps: readonly string[];
}

/** An entry of a waiting list. */
export interface ListedMessage {
  readonly id: number;
  /** null for bytes that are no message. */
  readonly message: { readonly position: Position; readonly idHash: Hash64 } | null;
}

export interface Letter {
  readonly idHash: Hash64;
  readonly outcome: Exclude<TurnOutcome, "turn">;
}

export interface CommittedReply {
  readonly outSeq: number;
  /** Of a reply that its channel sends in several, from 1; they share an `outSeq`. */
  readonly part?: number;
  readonly born: string;
  /** SHA-256 of the wire bytes, hex. */
  readonly bodyHash: string;
}

/** What became of a reply or a message beside the usual way. */
export interface Aside extends Addressed {
  /**
   * `dead`: the reply became a dead letter. `redriven`: it came back from there. `open`: it is in the outbox, or on the list of its
   * lane, when the log ends. `halted`: its lane stands still then, from it on.
   * `let-go`: an inbox entry went before its message was decided. `waiting`: it is in the inbox when the log ends. `unfinished`: the
   * conversation is in the index of the unfinished when the log ends.
   */
  readonly kind: "dead" | "redriven" | "open" | "halted" | "let-go" | "waiting" | "unfinished";
  readonly conversation: string;
  readonly at: number;
  readonly outSeq?: number;
  /** Of a reply in several parts. */
  readonly part?: number;
  readonly position?: Position;
}

/** A change of a shard's owner as the log has it, or a commit. */
export interface OwnerWrite {
  readonly kind: "owner";
  readonly at: number;
  readonly shard: string;
  readonly epoch: number;
  readonly n: number;
  readonly node: string;
}

export type StoreEvent = Admitted | Signal | CommittedTurns | Aside;
export type ClientLine = SentMessage | RequestAttempt | DeliveryAttempt;
/** A change of a shard's timers, or of what it took from another shard. */
export interface ShardWrite {
  readonly kind: "shard";
  readonly at: number;
  readonly shard: string;
  readonly what: string;
}

export type HistoryLine = ClientLine | Fault | StoreEvent | OwnerWrite | ShardWrite;

/** The name under which all lines of one conversation meet. */
export function nameOf({ bot, channel }: Addressed, conversation: string): string {
  return bot === undefined ? conversation : `${bot}/${channel ?? "http"}/${conversation}`;
}
