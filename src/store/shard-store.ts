// Shard store: the port to what is durable. Two implementations keep it, Redis and memory, under one conformance suite.
//
// Invariants
//   S1. A commit is applied whole or not at all, once per (epoch, n), however often its bytes arrive (R2).
//   S2. Nothing that carries an epoch other than the owner's writes (P6).
//   S3. Outcomes that are expected are replies with a `kind`; a rejected promise means the world failed, and its class says
//       whether something may have been written (StoreUnavailableError), nothing was (StoreNotReadyError), or nobody can
//       tell any more (StoreCorruptError: the shard halts).

import type { ConversationKey } from "../domain/ids.ts";
import type { EntryId } from "../domain/position.ts";
import type { IdsChange } from "../domain/recent-ids.ts";

export interface Owner {
  /** Node id of the last owner; null if the shard was never owned. */
  readonly node: string | null;
  readonly epoch: number;
  /** Number of the last commit within the epoch. */
  readonly n: number;
  /** What is left of the lease on Redis' clock, ms; 0 when it ran out or was given back. */
  readonly leaseRemainingMs: number;
  /** Whether that owner released the shard after draining. */
  readonly clean: boolean;
  /** Entries of the inbox together, as counted when it was acquired and kept since. */
  readonly inboxBytes: number;
  /** Of all owners together. */
  readonly deadLetters: { readonly count: number; readonly bytes: number };
  /** Processes that ended without releasing the shard since its pending heads were last through (DESIGN 5, poison). */
  readonly uncleanEnds: number;
}

export type AcquireReply =
  /**
   * Ours under the new epoch, observed + 1; commits count from 1. `wasClean`: the last owner had drained. `uncleanEnds`: with the one
   * that this acquisition follows, if it was one. `inboxLast`: the highest id in the inbox: what stands up to it was pending then.
   */
  | {
      readonly kind: "acquired";
      readonly epoch: number;
      readonly wasClean: boolean;
      readonly inboxBytes: number;
      readonly uncleanEnds: number;
      readonly inboxLast: EntryId;
    }
  /** Another node's lease lives. */
  | { readonly kind: "held"; readonly node: string; readonly leaseRemainingMs: number }
  /** Somebody acquired it since `observedEpoch` was read: read again. */
  | { readonly kind: "changed"; readonly epoch: number }
  /** A stream's last id is below the highest one seen: Redis lost writes. An operator must look (attack H10). */
  | {
      readonly kind: "rewound";
      readonly stream: "inbox" | "outbox";
      readonly lastId: string;
      readonly highestSeen: string;
    };

export type RenewReply = { readonly kind: "renewed" } | { readonly kind: "fenced"; readonly epoch: number };
export type ReleaseReply = { readonly kind: "released" } | { readonly kind: "fenced"; readonly epoch: number };

export interface AcquireRequest {
  readonly node: string;
  /** One per process: an owner that acquires again in the same process did not end. Absent: a process of its own each time. */
  readonly incarnation?: string;
  readonly observedEpoch: number;
  readonly leaseMs: number;
}

export type AppendReply =
  /** `full`: how many conversations of the shard are at the bound of their waiting list. */
  | { readonly kind: "appended"; readonly id: EntryId; readonly inboxBytes: number; readonly full: number }
  /** The shard's inbox is at its bound; nothing was written. */
  | { readonly kind: "over"; readonly inboxBytes: number }
  /** These of the conversations asked about are at their bound; nothing was written. */
  | { readonly kind: "full"; readonly conversations: readonly ConversationKey[] }
  /** What `from` names was taken before; nothing was written. */
  | { readonly kind: "taken" };

export interface AppendOptions {
  /** Asked about before anything is written: none of them may be at its bound. */
  readonly conversations?: readonly ConversationKey[];
  /** Of sends from another shard: each place is taken once, and only above all taken before (attack B9). */
  readonly from?: { readonly shard: number; readonly place: EntryId };
}

export type CommitReply =
  /** Now, or by an earlier try of the same bytes. `outboxId` is null if the commit had no replies. */
  | { readonly kind: "applied"; readonly n: number; readonly outboxId: EntryId | null }
  /** Another owner: nothing was written, now or by an earlier try that this one repeats. */
  | { readonly kind: "fenced"; readonly epoch: number }
  /** Redis is behind what it had confirmed: its n, or its epoch, is below ours. Nothing was written. */
  | { readonly kind: "rewound"; readonly n: number };

/** A durable clock of a conversation, or a timer of its bot. One of another generation than the record's is dropped at the head. */
export interface StoredTimer {
  readonly key: ConversationKey;
  /** 1 to 64 of A-Z a-z 0-9 _ - . and, for the runtime's own, a leading "!". */
  readonly name: string;
  readonly generation: number;
  /** On Redis' clock, ms. */
  readonly atMs: number;
}

/** Which timer it is. */
export type TimerName = Pick<StoredTimer, "key" | "name" | "generation">;

/** What a commit changes of a conversation besides its record: only where something has to wait, or did. */
export interface AsideWrite {
  /** Appended to its waiting list; ids rise and were never used in it. At most 1 MiB of one conversation and one more. */
  readonly waiting: readonly { readonly id: number; readonly bytes: Uint8Array }[];
  /** Leave the waiting list, also such as this commit appends; the key goes with the last one. */
  readonly waitingDone: readonly number[];
  /** Its entry in the index of the unfinished; undefined leaves it, null removes it. */
  readonly open: Uint8Array | null | undefined;
  /** Set, or with `atMs` null removed. */
  readonly timers: readonly {
    readonly name: string;
    readonly generation: number;
    readonly atMs: number | null;
  }[];
  /** Joins or leaves the conversations at their bound; undefined leaves it as it is. */
  readonly full: boolean | undefined;
}

export interface ConversationWrite {
  readonly key: ConversationKey;
  readonly record: Uint8Array;
  readonly ids: IdsChange | null;
  /** Sets the life of the ids key, ms; null leaves it. */
  readonly idsTtlMs: number | null;
  /** Transcript lines to append, JSON in UTF-8. */
  readonly transcript: readonly Uint8Array[];
  readonly aside?: AsideWrite;
}

/** What a commit changes of the list of a lane that does not flow (R1). */
export interface LaneListWrite {
  readonly key: ConversationKey;
  /**
   * Appended; ids rise and were never used in the list. At most 1 MiB of one lane and one reply more, and on top what its turns of
   * this commit reply; the store takes more.
   */
  readonly joining: readonly { readonly id: number; readonly bytes: Uint8Array }[];
  /** Leave, also such as this commit appends; the key goes with the last one. */
  readonly leaving: readonly number[];
}

export interface Commit {
  readonly epoch: number;
  /** Last applied + 1. */
  readonly n: number;
  readonly leaseMs: number;
  readonly conversations: readonly ConversationWrite[];
  /** All replies of this commit as one entry; null for none. */
  readonly outbox: Uint8Array | null;
  readonly inboxDone: readonly EntryId[];
  /** Sum of the sizes of the entries in `inboxDone`. */
  readonly inboxDoneBytes: number;
  readonly outboxDone: readonly EntryId[];
  /** Which replies of partly done outbox entries are done: a bitmap, bit i of byte i >> 3. Replaces what was stored. */
  readonly acks: readonly { readonly entry: EntryId; readonly done: Uint8Array }[];
  /** Durable lane states; null removes. */
  readonly lanes: readonly { readonly key: ConversationKey; readonly state: Uint8Array | null }[];
  /** At most one of each lane; a second one is our bug. */
  readonly laneLists?: readonly LaneListWrite[];
  readonly dead: readonly Uint8Array[];
  /** Dead letters that were redriven: they leave. */
  readonly deadDone?: readonly EntryId[];
  /** An inbox entry of what this commit sends to conversations of the same shard. It passes the bound of the inbox. */
  readonly inboxAdd?: Uint8Array;
  /** The heads pending when the shard was acquired are through: unclean ends count from 0 again. */
  readonly headsThrough?: boolean;
  readonly transcript: { readonly linesMax: number; readonly bytesMax: number; readonly ttlMs: number };
}

export interface StoredEntry {
  readonly id: EntryId;
  readonly bytes: Uint8Array;
}

export interface StoredConversation {
  readonly record: Uint8Array | null;
  readonly ids: Uint8Array | null;
}

/** One message on a waiting list. */
export interface WaitingEntry {
  readonly id: number;
  readonly bytes: Uint8Array;
}

export type MoveTimersReply =
  /** They left the timers, and the entry is in the inbox; null if none of them was there any more: then nothing was written. */
  { readonly kind: "moved"; readonly id: EntryId | null } | { readonly kind: "fenced"; readonly epoch: number };

export interface ShardStore {
  readonly shard: number;
  owner(): Promise<Owner>;
  acquire(request: AcquireRequest): Promise<AcquireReply>;
  renew(request: { epoch: number; leaseMs: number }): Promise<RenewReply>;
  /** Gives the lease back. `clean` says that everything was drained. */
  release(request: { epoch: number; clean: boolean }): Promise<ReleaseReply>;
  /** One inbox entry. After StoreUnavailableError the outcome is unknown: the sender repeats, dedupe makes that harmless. */
  append(entry: Uint8Array, inboxBytesMax: number, options?: AppendOptions): Promise<AppendReply>;
  /**
   * Entries after `after`, oldest first, at most `count`; waits up to `blockMs` for the first one (0: not at all). One waiting
   * read at a time; `close` ends it with no entries.
   */
  readInbox(request: { after: EntryId; count: number; blockMs: number }): Promise<StoredEntry[]>;
  readOutbox(request: { after: EntryId; count: number }): Promise<StoredEntry[]>;
  /** In the order of `keys`. */
  load(keys: readonly ConversationKey[]): Promise<StoredConversation[]>;
  readAcks(): Promise<{ entry: EntryId; done: Uint8Array }[]>;
  /** Of one conversation; null for a lane that flows. */
  readLane(key: ConversationKey): Promise<Uint8Array | null>;
  readLanes(): Promise<{ key: ConversationKey; state: Uint8Array }[]>;
  /** One step through the lanes that have a state, like `Store.scanConversations`. */
  scanLanes(request: { cursor: string; count: number }): Promise<{
    readonly cursor: string;
    readonly found: readonly { readonly key: ConversationKey; readonly state: Uint8Array }[];
  }>;
  commit(commit: Commit): Promise<CommitReply>;
  /** Lines after `after`, oldest first. */
  readTranscript(key: ConversationKey, request: { after: EntryId; count: number }): Promise<StoredEntry[]>;
  readDeadLetters(request: { after: EntryId; count: number }): Promise<StoredEntry[]>;
  /** Of a conversation's waiting list, those with ids above `after` (0: from the first), in order. */
  readWaiting(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]>;
  /** Of a lane's list, those with ids above `after` (0: from the first), in order. */
  readLaneList(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]>;
  /** One step through the index of the unfinished, like `Store.scanConversations`. */
  readOpen(request: { cursor: string; count: number }): Promise<{
    readonly cursor: string;
    readonly found: readonly { readonly key: ConversationKey; readonly value: Uint8Array }[];
  }>;
  /** The earliest timers that are due on Redis' clock, at most `count`, and when the first of the others will be. */
  readTimers(request: { count: number }): Promise<{
    readonly due: readonly StoredTimer[];
    /** From now, ms; null if there is none, 0 if more than `count` are due. */
    readonly nextInMs: number | null;
  }>;
  /**
   * Takes timers away and appends `entry`, their messages, to the inbox, under the fence and in one step (R3). It passes the bound of
   * the inbox. A repeat finds none of them and writes nothing.
   */
  moveTimers(request: {
    readonly epoch: number;
    readonly timers: readonly TimerName[];
    readonly entry: Uint8Array;
  }): Promise<MoveTimersReply>;
  close(): Promise<void>;
}

/** Version of the keys and of what is in them. */
export const SCHEMA_VERSION = 1;

export interface NamespaceMeta {
  readonly shards: number;
  readonly schemaVersion: number;
  /** Key of the id hash, 8 random bytes made once per namespace. */
  readonly hashKey: Uint8Array;
}

/** What start-up and the running node want to know of the server. */
export interface StoreFacts {
  readonly version: string;
  readonly role: "master" | "replica";
  /** null where CONFIG is forbidden. */
  readonly config: {
    readonly appendonly: boolean;
    readonly appendfsync: "always" | "everysec" | "no";
    /** Whether fsyncs pause while a rewrite runs: up to 30 s may be lost then, whatever `appendfsync` says. */
    readonly noAppendfsyncOnRewrite: boolean;
    readonly maxmemoryPolicy: string;
  } | null;
  readonly usedMemoryBytes: number;
  /** 0: no limit. */
  readonly maxMemoryBytes: number;
}

export interface ScanPage {
  readonly cursor: string;
  readonly found: readonly { readonly shard: number; readonly key: ConversationKey }[];
}

/** Where a scan begins, and what it gives at its end. */
export const SCAN_START = "0";

export interface Store {
  /** Creates the namespace's meta on first use, else reads it: the stored values win over `wanted`. The caller compares. */
  openNamespace(wanted: { shards: number; hashKey: Uint8Array }): Promise<NamespaceMeta>;
  facts(): Promise<StoreFacts>;
  shard(shard: number): ShardStore;
  /**
   * One step through the conversations that have a record, of all shards, in no order. What has one from the first step to the last
   * is found once at least; what comes or goes meanwhile may be.
   * @param request.cursor `SCAN_START`, then what the step before gave, until that is `SCAN_START` again
   * @param request.count  how many keys of the store are looked at, about; a step may find none
   */
  scanConversations(request: { cursor: string; count: number }): Promise<ScanPage>;
  /** Whether Redis answers now. */
  isReady(): boolean;
  /** Calls back on each change of `isReady`; returns the way to stop that. */
  onReadyChange(listener: (ready: boolean) => void): () => void;
  close(): Promise<void>;
}
