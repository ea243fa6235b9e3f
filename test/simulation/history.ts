// History of a simulated run: what senders, recipient and store saw, as plain values. Moments are numbers of events: of two, the
// one with the lower number came first, everywhere.

import type { Hash64 } from "../../src/domain/hash.ts";

export interface SentMessage {
  /** Name of the conversation in this history: bot and conversation. */
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
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
  readonly chain: Hash64;
  readonly stateJson: string;
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
  /** Replies that it made dead letters. */
  readonly dead: readonly { readonly conversation: string; readonly sequence: number }[];
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
  readonly hashKey: Hash64;
  /** Conversations whose replies go to the transcript; those of the others are delivered. */
  readonly transcribed: readonly string[];
  readonly messages: readonly SentMessage[];
  readonly requests: readonly SentRequest[];
  readonly deliveries: readonly ReceivedDelivery[];
  readonly commits: readonly AppliedCommit[];
  readonly acquisitions: readonly Acquisition[];
  /** From here on nothing fails any more. */
  readonly mendedAt: number;
  readonly final: FinalStore;
  /** What the runtime should never say: an actor that crashed, a shard that halted. */
  readonly alarms: readonly string[];
}
