// Inspector: the port through which an operator looks at a node. actors/inspection.ts keeps it.

import type { DeadLetter } from "../codec/dead-letter-codec.ts";
import type { LaneState } from "../codec/lane-codec.ts";
import type { DecodedRecord } from "../codec/record-codec.ts";
import type { ConversationId } from "../domain/ids.ts";
import type { EntryId } from "../domain/position.ts";
import type { Owner } from "../store/shard-store.ts";

/**
 * `waiting`: for its record, a commit, room in its lane, or its place among the turns. `failing`: for its next attempt.
 * `crashed`: an error of the runtime's own ended it; it is replaced, or was too often and stays until the shard is opened again.
 */
export const ACTIVITIES = ["idle", "waiting", "running", "failing", "crashed", "quarantined"] as const;
export type ConversationActivity = (typeof ACTIVITIES)[number];

/** Lane states; `flowing` counts those in memory. */
export type LaneCounts = Readonly<Record<"flowing" | LaneState["state"], number>>;
export type ActivityCounts = Readonly<Record<ConversationActivity, number>>;

/** A shard as this node sees it. */
export interface ShardView {
  readonly shard: number;
  /** `starting`, `standby`, `opening`, `owned`, `closing` or `halted`. */
  readonly lease: { readonly kind: string; readonly owner?: string | null; readonly reason?: string };
  /** What is stored; null while Redis does not answer. */
  readonly stored: Owner | null;
  /** What is in memory; null unless this node owns it. */
  readonly memory: {
    /** Number of the last commit that was applied in this epoch. */
    readonly commit: number;
    /** Conversations with decided work that no commit has confirmed. */
    readonly uncommitted: number;
    readonly conversations: ActivityCounts;
    readonly lanes: LaneCounts;
    readonly readAheadBytes: number;
    readonly outboxBytes: number;
  } | null;
}

/** `stored`: not in memory here. */
export type ListedState = ConversationActivity | "stored";

export interface ConversationView {
  readonly id: ConversationId;
  readonly shard: number;
  readonly state: ListedState;
  /** Messages read and not decided. */
  readonly mailboxDepth: number;
  /** Failed turns of the message at the head, in this process. */
  readonly failures: number;
  /** Replies and bytes in memory that are not delivered. */
  readonly undelivered: { readonly replies: number; readonly bytes: number };
  /** null while it flows. */
  readonly lane: LaneState | null;
}

export interface ConversationDetail extends ConversationView {
  /** null if none is stored; a text says why a stored one cannot be read. */
  readonly record: DecodedRecord | string | null;
  readonly recordBytes: number;
  readonly idsBytes: number;
}

export interface ConversationFilter {
  readonly bot?: string | undefined;
  readonly channel?: string | undefined;
  /** By state or by that of the lane; undefined: whatever is stored. */
  readonly state?: ConversationActivity | `lane-${LaneState["state"]}` | undefined;
}

export interface Page<Item, Place> {
  readonly items: readonly Item[];
  /** Where the next page begins; null after the last one. */
  readonly next: Place | null;
}

export interface DeadLetterPlace {
  readonly shard: number;
  readonly entry: EntryId;
}

export interface DeadLetterView extends DeadLetter {
  readonly place: DeadLetterPlace;
}

/** Everything rejects with a ColloquyError while the store is away, but what `shards` says of memory. */
export interface Inspector {
  shards(): Promise<readonly ShardView[]>;
  /** null if nothing is known of it. */
  conversation(id: ConversationId): Promise<ConversationDetail | null>;
  /**
   * Of what is stored, by steps of a scan: a page may hold a few more than `limit`, or fewer, or none.
   * @param cursor what the page before gave as `next`; undefined for the first
   */
  stored(filter: ConversationFilter, limit: number, cursor?: string): Promise<Page<ConversationView, string>>;
  /**
   * Of what is in memory and in the filter's state, in the order of their keys.
   * @param after what the page before gave as `next`
   */
  inMemory(filter: ConversationFilter, limit: number, after?: string): Page<ConversationView, string>;
  /** Of all shards, by shard and position; a page ends early when it gets large. */
  deadLetters(limit: number, after?: DeadLetterPlace): Promise<Page<DeadLetterView, DeadLetterPlace>>;
}
