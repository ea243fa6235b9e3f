// History of a simulated run: what senders, recipient and store saw, as plain values. Moments are numbers of events: of two, the
// one with the lower number came first, everywhere.

import type { ConversationId } from "../../src/domain/ids.ts";
import type { StoreEvent } from "../../src/verify/history.ts";
import type { Violation } from "../../src/verify/judge.ts";
import type { ShardRule } from "../../src/verify/store-log.ts";

export interface SentMessage {
  /** Name of the conversation in this history: bot, channel and conversation. */
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
}

/** A message that a turn sent, as it came into an inbox. */
export interface ArrivedSend extends SentMessage {
  readonly from: string;
  readonly at: number;
}

/** A side effect that a step had in the world outside. */
export interface Effect {
  /** Its result: no two are the same. */
  readonly number: number;
  readonly begunAt: number;
  readonly at: number;
  /** The life of a process whose step it was. */
  readonly by: string;
  readonly conversation: string;
  /** What the turn consumed, and what tells it from every other turn of the conversation. */
  readonly consumed: string;
  readonly turn: string;
  /** Counts the steps of the turn from 0. */
  readonly step: number;
  readonly key: string;
}

/** One request with messages of one conversation, all its tries together. */
export interface SentRequest {
  readonly conversation: string;
  /** In the order in which they must be consumed. */
  readonly ids: readonly string[];
  readonly firstSentAt: number;
  /** null if no 2xx reached the sender. */
  readonly ackedAt: number | null;
}

/** One attempt at a delivery, as it reached the recipient. */
export interface ReceivedDelivery {
  readonly conversation: string;
  readonly key: string;
  readonly sequence: number;
  readonly body: string;
  readonly at: number;
  /** Whether the recipient took it, whatever answer got back. */
  readonly isAccepted: boolean;
}

/** A conversation as one commit wrote it. */
export interface CommittedRecord {
  readonly conversation: string;
  readonly seq: number;
  readonly outSeq: number;
  readonly born: string;
  readonly stateJson: string;
  /** Results of the steps of its open turn. */
  readonly journal: readonly number[];
}

/** A reply as a commit put it into the outbox or, as the text of its line, into the transcript. */
export interface CommittedReply {
  readonly conversation: string;
  readonly sequence: number;
  readonly body: string;
}

/** A commit, when it was applied; repeats of it are not listed. */
export interface AppliedCommit {
  readonly at: number;
  readonly shard: number;
  readonly epoch: number;
  readonly n: number;
  /** The life of a process that sent it. */
  readonly by: string;
  readonly records: readonly CommittedRecord[];
  readonly replies: readonly CommittedReply[];
  /** Lines of transcripts, in order. */
  readonly lines: readonly { readonly conversation: string; readonly line: string }[];
  /** Messages, and replies, that it made dead letters. */
  readonly deadMessages: readonly { readonly conversation: string; readonly id: string }[];
  readonly dead: readonly { readonly conversation: string; readonly sequence: number }[];
  /** Replies that came back from the dead letters. */
  readonly redriven: readonly { readonly conversation: string; readonly sequence: number }[];
}

export interface Acquisition {
  readonly at: number;
  readonly shard: number;
  readonly epoch: number;
  readonly by: string;
}

/** What the store holds when the run is over. */
export interface FinalStore {
  readonly inboxEntries: number;
  /** Messages among the dead letters, as they would be named when they came back. */
  readonly deadMessages: readonly { readonly conversation: string; readonly id: string }[];
  /** Messages on waiting lists. */
  readonly waiting: readonly { readonly conversation: string; readonly id: string }[];
  /** Replies that no commit has acknowledged. */
  readonly undelivered: readonly { readonly conversation: string; readonly sequence: number }[];
  /** Replies among the dead letters. */
  readonly dead: readonly { readonly conversation: string; readonly sequence: number }[];
  readonly haltedLanes: readonly { readonly conversation: string; readonly sequence: number }[];
  readonly retryingLanes: readonly { readonly conversation: string; readonly sequence: number }[];
  readonly records: readonly CommittedRecord[];
  readonly transcripts: readonly { readonly conversation: string; readonly lines: readonly string[] }[];
}

export interface SimulatedHistory {
  /** Of every conversation that a sender wrote to. */
  readonly conversations: ReadonlyMap<string, ConversationId>;
  /** How many the namespace has. */
  readonly shards: number;
  /** Channels whose numbers decide the order; and those whose numbers rise by one. */
  readonly ordered: readonly string[];
  readonly contiguous: readonly string[];
  /** What the store carried out, as its log would have it. */
  readonly log: { readonly events: readonly StoreEvent[]; readonly violations: readonly Violation<ShardRule>[] };
  readonly sends: readonly ArrivedSend[];
  readonly effects: readonly Effect[];
  /** Conversations whose replies go to the transcript; those of the others are delivered. */
  readonly transcribed: readonly string[];
  readonly messages: readonly SentMessage[];
  readonly requests: readonly SentRequest[];
  readonly deliveries: readonly ReceivedDelivery[];
  readonly commits: readonly AppliedCommit[];
  readonly acquisitions: readonly Acquisition[];
  /** Lives whose own code was made to crash. */
  readonly sabotaged: readonly string[];
  /** From here on nothing fails any more. */
  readonly mendedAt: number;
  readonly final: FinalStore;
  /** What the runtime should never say: an actor that crashed, a shard that halted. */
  readonly alarms: readonly string[];
}
