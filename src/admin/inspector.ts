// Inspector: the port through which an operator looks at a node. actors/inspection.ts keeps it.

import type { DeadLetter } from "../codec/dead-letter-codec.ts";
import type { LaneState } from "../codec/lane-codec.ts";
import type { ConversationState } from "../codec/open-codec.ts";
import type { DecodedRecord } from "../codec/record-codec.ts";
import type { ConversationId } from "../domain/ids.ts";
import type { LaneStateName } from "../domain/lane.ts";
import type { InboxMessage } from "../domain/message.ts";
import type { EntryId } from "../domain/position.ts";
import type { HaltReason } from "../domain/record.ts";
import type { Owner } from "../store/shard-store.ts";
import { type LaneSituation, laneItem } from "./lane-view.ts";
import type { OpenState } from "./open-counts.ts";
import type { Where, WhereItem } from "./where.ts";

/** What a conversation does, and since when. */
export interface Situation {
  readonly state: ConversationState;
  /** ms since the Unix epoch; null where nobody wrote it down. */
  readonly sinceMs: number | null;
  /** One line for people; never a user's words. */
  readonly why: string;
  /** On the waiting list. */
  readonly waiting: number;
  /** Failed runs of the message at the head. */
  readonly attempts: number;
}

/** Lane states; `flowing` counts those in memory. */
export type LaneCounts = Readonly<Record<"flowing" | LaneState["state"], number>>;
export type StateCounts = Readonly<Record<ConversationState, number>>;

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
    /** Those in memory. */
    readonly conversations: StateCounts;
    /** Those in the index of the unfinished; null where they are not counted. */
    readonly open: Readonly<Record<OpenState, number>> | null;
    readonly lanes: LaneCounts;
    readonly readAheadBytes: number;
    readonly outboxBytes: number;
  } | null;
}

export interface ConversationView {
  readonly id: ConversationId;
  readonly shard: number;
  readonly isResident: boolean;
  /** null if it is not in memory here and the index was not asked. */
  readonly state: ConversationState | null;
  readonly sinceMs: number | null;
  readonly why: string | null;
  /** Failed runs of the message at the head. */
  readonly attempts: number;
  /** On the waiting list. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** What a verb resolves; null unless it is halted, or the index was not asked. */
  readonly halt: HaltView | null;
  /** Runs in a group of so many that one of them may have ended the process; null as a rule. */
  readonly suspect: number | null;
  /** Messages read and not decided. */
  readonly mailboxDepth: number;
  /** Replies and bytes in memory that are not delivered. */
  readonly undelivered: { readonly replies: number; readonly bytes: number };
  /** null while it flows. */
  readonly lane: LaneState | null;
}

export interface HaltView {
  readonly reason: HaltReason | null;
  /** A verb that repeats it means this halt and no later one. */
  readonly name: string;
}

/** A lane that does not flow, or whose replies wait on its list. */
export interface LaneView extends LaneSituation {
  readonly id: ConversationId;
  readonly shard: number;
}

export interface ConversationDetail extends ConversationView {
  /** Of its lane; null while it flows and has no list. */
  readonly laneView: LaneView | null;
  /** null if none is stored; a text says why a stored one cannot be read. */
  readonly record: DecodedRecord | string | null;
  readonly recordBytes: number;
  readonly idsBytes: number;
  /** The first of its waiting list; of one that cannot be read there is only its id. */
  readonly waitingHead: readonly { readonly id: number; readonly message: InboxMessage | null }[];
}

/** Of the index of the unfinished, or of that of lanes: where a step of the scan begins. */
export interface OpenPlace {
  readonly shard: number;
  readonly cursor: string;
}

/** What memory is asked for: a state of the conversation, or of its lane. */
export type MemoryState = ConversationState | `lane-${LaneState["state"]}`;

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
  /** As it stands in memory here; null if it does not. */
  resident(id: ConversationId): ConversationView | null;
  /** null if nothing is known of it. */
  conversation(id: ConversationId): Promise<ConversationDetail | null>;
  /**
   * Of the index of the unfinished of all shards, by steps of a scan: a page may hold more than `limit`, or fewer, or none.
   * @param after what the page before gave as `next`; undefined for the first
   */
  open(where: Where, limit: number, after?: OpenPlace): Promise<Page<ConversationView, OpenPlace>>;
  /**
   * Of what is stored, by steps of a scan like `open`. Only names are known of what is not in memory here.
   * @param cursor what the page before gave as `next`; undefined for the first
   */
  stored(where: Where, limit: number, cursor?: string): Promise<Page<ConversationView, string>>;
  /**
   * Of what is in memory here, in the order of their keys.
   * @param state undefined: any
   * @param after what the page before gave as `next`
   */
  inMemory(state: MemoryState | undefined, where: Where, limit: number, after?: string): Page<ConversationView, string>;
  /** null if it flows and nothing of it waits on a list. */
  lane(id: ConversationId): Promise<LaneView | null>;
  /**
   * Of all shards, those that do not flow or have a list, by steps of a scan like `open`.
   * @param after what the page before gave as `next`; undefined for the first
   * @param state undefined: any
   */
  lanes(where: Where, limit: number, after?: OpenPlace, state?: LaneStateName): Promise<Page<LaneView, OpenPlace>>;
  /** Those in memory of the shards that this node owns; null if it owns none. */
  laneCounts(): LaneCounts | null;
  /** Of all shards, by shard and position; a page ends early when much had to be read for it. */
  deadLetters(where: Where, limit: number, after?: DeadLetterPlace): Promise<Page<DeadLetterView, DeadLetterPlace>>;
}

/** What a filter sees of a conversation. */
export function conversationItem(view: ConversationView, nowMs: number): WhereItem {
  return {
    ...view.id,
    state: view.state,
    reason: view.halt?.reason ?? null,
    error: view.why,
    since: view.sinceMs === null ? null : nowMs - view.sinceMs,
    attempts: view.attempts,
    waiting: view.waiting,
  };
}

/** What a filter sees of a lane. */
export const laneViewItem = (lane: LaneView, nowMs: number): WhereItem => ({ ...lane.id, ...laneItem(lane, nowMs) });

/** What a filter sees of a dead letter. */
export function deadLetterItem({ place, ...letter }: DeadLetterView, nowMs: number): WhereItem {
  const { bot, channel, conversation, direction, reason, error, attempts, atMs } = letter;
  return { bot, channel, conversation, direction, reason, error, attempts, age: nowMs - (atMs ?? place.entry.ms) };
}
