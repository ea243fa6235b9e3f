// Inspection: what an operator may see of a node, without touching it. Everything is read as it stands; nothing is kept for it.
//
// Invariants
//   V1. A look is bounded: a page of a list, a step count of a scan, a sum of bytes; whoever wants more asks again.
//   V2. A look writes nothing and wakes nobody. Of shards that this node does not own it sees what is stored.
//   V3. Payload (states, messages, replies) comes only to whom asks for it by name.

import {
  type ConversationDetail,
  type ConversationView,
  conversationItem,
  type DeadLetterPlace,
  type DeadLetterView,
  deadLetterItem,
  type Inspector,
  type LaneCounts,
  type LaneView,
  laneViewItem,
  type MemoryState,
  type OpenPlace,
  type Page,
  type ShardView,
} from "../src/admin/inspector.ts";
import { type LaneAccount, laneSituation } from "../src/admin/lane-view.ts";
import { meets, type Where } from "../src/admin/where.ts";
import { decodeDeadLetter } from "../src/codec/dead-letter-codec.ts";
import { decodeWaiting } from "../src/codec/inbox-codec.ts";
import type { OpenEntry } from "../src/codec/open-codec.ts";
import { type DecodedRecord, decodeRecord } from "../src/codec/record-codec.ts";
import {
  type ConversationId,
  type ConversationKey,
  conversationKey,
  parseConversationKey,
  shardOf,
} from "../src/domain/ids.ts";
import type { LaneState, LaneStateName } from "../src/domain/lane.ts";
import type { InboxMessage } from "../src/domain/message.ts";
import { ENTRY_ZERO } from "../src/domain/position.ts";
import { CodecError, ColloquyError } from "../src/errors.ts";
import { SCAN_START, type Store, type StoredEntry, type WaitingEntry } from "../src/store/shard-store.ts";
import type { AccountView } from "./channel-accounts.ts";
import { readLanePage, readLaneState } from "./lane-index.ts";
import type { LeaseState } from "./lease-keeper.ts";
import { findOpen, readOpenPage } from "./open-index.ts";
import type { Shard } from "./shard.ts";

export interface InspectionOptions {
  readonly store: Store;
  /** By shard. */
  readonly leases: readonly LeaseState[];
  /** Those that this node owns. */
  readonly owned: ReadonlyMap<number, Shard>;
  /** What the lanes of a channel share at its outside, by the channel's name; undefined where this node has none. */
  readonly account?: (channel: string) => Pick<AccountView, "name" | "breaker" | "reopensInMs"> | undefined;
  /** To say how old something is. */
  readonly nowMs: () => number;
}

/** Steps of a scan in one look (V1). */
const SCAN_STEPS_MAX = 50;
const SCAN_COUNT_MIN = 4;
/** Dead letters are up to `replyBytesMax` or a whole inbox entry long: a few are read at a time, more while they are small (V1). */
const DEAD_LETTERS_READ_MIN = 4;
const DEAD_LETTERS_READ_MAX = 128;
const DEAD_LETTERS_ARE_SMALL_BYTES = 128 * 1024;
const DEAD_LETTER_BYTES_MAX = 4 * 1024 * 1024;
const DEAD_LETTERS_LOOKED_AT_MAX = 4_000;
/** How much of a waiting list is shown. */
const WAITING_HEAD = 3;

export class Inspection implements Inspector {
  readonly #options: InspectionOptions;

  constructor(options: InspectionOptions) {
    this.#options = options;
  }

  async shards(): Promise<ShardView[]> {
    const { leases, owned, store } = this.#options;
    return await Promise.all(
      leases.map(async (lease, shard) => {
        const open = owned.get(shard);
        const stored = store.isReady() ? await orNull(store.shard(shard).owner()) : null;
        return { shard, lease, stored, memory: open ? memoryOf(open) : null };
      }),
    );
  }

  resident(id: ConversationId): ConversationView | null {
    const { owned, leases } = this.#options;
    const key = conversationKey(id);
    const shard = shardOf(key, leases.length);
    const view = viewOf(shard, key, owned.get(shard), undefined);
    return view.isResident ? view : null;
  }

  async conversation(id: ConversationId): Promise<ConversationDetail | null> {
    const { store, owned, leases } = this.#options;
    const key = conversationKey(id);
    const shard = shardOf(key, leases.length);
    const open = owned.get(shard);
    const stored = store.shard(shard);
    const [[loaded], lane, unfinished, waiting] = await Promise.all([
      stored.load([key]),
      open ? null : stored.readLane(key),
      findOpen(stored, new Set([key])),
      stored.readWaiting(key, { after: 0, count: WAITING_HEAD }),
    ]);
    const { record = null, ids = null } = loaded ?? {};
    const view = viewOf(shard, key, open, unfinished.get(key));
    const laneState = view.lane ?? (lane === null ? null : readLaneState(lane));
    if (record === null && !unfinished.has(key) && !view.isResident && view.lane === null && lane === null) return null;
    return {
      ...view,
      state: view.state ?? "idle", // the index was asked and does not name it
      lane: laneState,
      laneView: laneState === null && lane === null ? null : this.#laneView(shard, key, laneState),
      record: record === null ? null : readable(record),
      recordBytes: record?.length ?? 0,
      idsBytes: ids?.length ?? 0,
      waitingHead: waiting.map((entry) => ({ id: entry.id, message: waitingMessage(entry) })),
    };
  }

  open(where: Where, limit: number, after?: OpenPlace): Promise<Page<ConversationView, OpenPlace>> {
    const { store, owned } = this.#options;
    return this.#scanned(limit, after, async (shard, cursor, count) => {
      const page = await readOpenPage(store.shard(shard), cursor, count);
      const views = page.found.map(({ key, entry }) => [key, viewOf(shard, key, owned.get(shard), entry)] as const);
      return { cursor: page.cursor, items: views.filter(([, view]) => this.#isMeant(view, where)) };
    });
  }

  lanes(where: Where, limit: number, after?: OpenPlace, state?: LaneStateName): Promise<Page<LaneView, OpenPlace>> {
    const { store, nowMs } = this.#options;
    return this.#scanned(limit, after, async (shard, cursor, count) => {
      const page = await readLanePage(store.shard(shard), cursor, count);
      const found = page.found.filter(({ state: its }) => state === undefined || its?.state === state);
      const views = found.map((each) => [each.key, this.#laneView(shard, each.key, each.state)] as const);
      return { cursor: page.cursor, items: views.filter(([, view]) => meets(laneViewItem(view, nowMs()), where)) };
    });
  }

  async lane(id: ConversationId): Promise<LaneView | null> {
    const { store, leases } = this.#options;
    const key = conversationKey(id);
    const shard = shardOf(key, leases.length);
    const stored = await store.shard(shard).readLane(key);
    return stored === null ? null : this.#laneView(shard, key, readLaneState(stored));
  }

  laneCounts(): LaneCounts | null {
    const { owned } = this.#options;
    if (owned.size === 0) return null;
    const counts = Array.from(owned.values(), laneCountsOf);
    const sum = (state: LaneStateName): number => counts.reduce((total, each) => total + each[state], 0);
    return { flowing: sum("flowing"), retrying: sum("retrying"), halted: sum("halted"), closed: sum("closed") };
  }

  /** V1. Steps of scans, shard after shard; of one that is found twice the later one counts. */
  async #scanned<Item>(
    limit: number,
    after: OpenPlace | undefined,
    step: (
      shard: number,
      cursor: string,
      count: number,
    ) => Promise<{ readonly cursor: string; readonly items: readonly (readonly [ConversationKey, Item])[] }>,
  ): Promise<Page<Item, OpenPlace>> {
    const items = new Map<string, Item>();
    let place: OpenPlace = after ?? { shard: 0, cursor: SCAN_START };
    for (let steps = 0; place.shard < this.#options.leases.length; steps += 1) {
      if (items.size >= limit || steps >= SCAN_STEPS_MAX) return { items: [...items.values()], next: place };
      const { shard, cursor } = place;
      const page = await step(shard, cursor, Math.max(SCAN_COUNT_MIN, limit - items.size));
      for (const [key, item] of page.items) items.set(`${shard}:${key}`, item); // lanes to a shard have one key in all
      place = page.cursor === SCAN_START ? { shard: shard + 1, cursor: SCAN_START } : { shard, cursor: page.cursor };
    }
    return { items: [...items.values()], next: null };
  }

  #laneView(shard: number, key: ConversationKey, state: LaneState | null): LaneView {
    const id = parseConversationKey(key);
    const lane = this.#options.owned.get(shard)?.parts.lanes?.find(key);
    const memory = lane === undefined ? null : { replies: lane.replies, bytes: lane.bytes };
    return { id, shard, ...laneSituation({ state, memory, account: this.#account(id.channel) }) };
  }

  #account(channel: string): LaneAccount | null {
    const view = this.#options.account?.(channel);
    if (view === undefined) return null;
    const { name, breaker, reopensInMs } = view;
    return { name, breaker, reopensAtMs: reopensInMs === null ? null : this.#options.nowMs() + reopensInMs };
  }

  async stored(where: Where, limit: number, cursor?: string): Promise<Page<ConversationView, string>> {
    const { store, owned } = this.#options;
    const items = new Map<ConversationKey, ConversationView>();
    let at = cursor ?? SCAN_START;
    for (let step = 0; step < SCAN_STEPS_MAX && items.size < limit; step += 1) {
      const page = await store.scanConversations({ cursor: at, count: Math.max(SCAN_COUNT_MIN, limit - items.size) });
      for (const { shard, key } of page.found) {
        const view = viewOf(shard, key, owned.get(shard), undefined);
        if (this.#isMeant(view, where)) items.set(key, view);
      }
      at = page.cursor;
      if (at === SCAN_START) return { items: [...items.values()], next: null };
    }
    return { items: [...items.values()], next: at };
  }

  inMemory(state: MemoryState | undefined, where: Where, limit: number, after = ""): Page<ConversationView, string> {
    const smallest = new SmallestKeys(limit + 1); // one more says that there is a next page
    for (const [shard, open] of this.#options.owned) {
      for (const key of keysInMemory(open, state)) {
        if (key <= after || !smallest.hasRoomFor(key)) continue;
        if (this.#isMeant(viewOf(shard, key, open, undefined), where)) smallest.add(key, shard);
      }
    }
    const items = smallest.entries.slice(0, limit).map(({ key, shard }) => {
      const open = this.#options.owned.get(shard)!;
      return viewOf(shard, key, open, undefined);
    });
    return { items, next: smallest.entries.length > limit ? smallest.entries[limit - 1]!.key : null };
  }

  async deadLetters(
    where: Where,
    limit: number,
    after?: DeadLetterPlace,
  ): Promise<Page<DeadLetterView, DeadLetterPlace>> {
    const { store, leases, nowMs } = this.#options;
    const items: DeadLetterView[] = [];
    let bytes = 0;
    let looked = 0;
    let ahead = DEAD_LETTERS_READ_MIN;
    for (let shard = after?.shard ?? 0; shard < leases.length; shard += 1) {
      let entry = shard === after?.shard ? after.entry : ENTRY_ZERO;
      for (;;) {
        if (items.length >= limit || bytes >= DEAD_LETTER_BYTES_MAX || looked >= DEAD_LETTERS_LOOKED_AT_MAX)
          return { items, next: { shard, entry } }; // V1
        const count = Math.min(ahead, limit - items.length);
        const letters = await store.shard(shard).readDeadLetters({ after: entry, count });
        for (const letter of letters) {
          const view = { ...decodeDeadLetter(letter.bytes), place: { shard, entry: letter.id } };
          if (meets(deadLetterItem(view, nowMs()), where)) items.push(view);
          bytes += letter.bytes.length;
          looked += 1;
          entry = letter.id;
        }
        if (letters.length < count) break;
        const areSmall = bytesOf(letters) <= DEAD_LETTERS_ARE_SMALL_BYTES;
        ahead = areSmall ? Math.min(ahead * 2, DEAD_LETTERS_READ_MAX) : DEAD_LETTERS_READ_MIN;
      }
    }
    return { items, next: null };
  }

  #isMeant(view: ConversationView, where: Where): boolean {
    return where.length === 0 || meets(conversationItem(view, this.#options.nowMs()), where);
  }
}

/** Of a state of the conversations, or of the lanes. */
function* keysInMemory({ parts }: Shard, state: MemoryState | undefined): Generator<ConversationKey> {
  if (state?.startsWith("lane-")) {
    const wanted = state.slice("lane-".length);
    for (const lane of parts.lanes?.all() ?? []) if (lane.state?.state === wanted) yield lane.key;
  } else {
    for (const actor of parts.conversations?.all() ?? [])
      if (state === undefined || actor.situation.state === state) yield actor.key;
  }
}

function memoryOf(shard: Shard): NonNullable<ShardView["memory"]> {
  const { committer, conversations, open } = shard.parts;
  const states = { idle: 0, active: 0, held: 0, halted: 0, quarantined: 0 };
  for (const actor of conversations?.all() ?? []) states[actor.situation.state] += 1;
  const laneStates = laneCountsOf(shard);
  return {
    commit: committer?.applied ?? 0,
    uncommitted: committer?.uncommitted ?? 0,
    conversations: states,
    open: open?.counts ?? null,
    lanes: laneStates,
    readAheadBytes: shard.undecidedBytes,
    outboxBytes: shard.undeliveredBytes,
  };
}

function laneCountsOf({ parts }: Shard): LaneCounts {
  const counts = { flowing: 0, retrying: 0, halted: 0, closed: 0 };
  for (const lane of parts.lanes?.all() ?? []) counts[lane.state?.state ?? "flowing"] += 1;
  return counts;
}

const UNREADABLE_ENTRY = "its entry in the index of the unfinished cannot be read";

/** @param entry what the index says of it; undefined if it does not, or was not asked; null if that cannot be read */
function viewOf(
  shard: number,
  key: ConversationKey,
  open: Shard | undefined,
  entry: OpenEntry | null | undefined,
): ConversationView {
  const actor = open?.parts.conversations?.find(key);
  const lane = open?.parts.lanes?.find(key);
  const now = actor === undefined ? null : actor.situation;
  return {
    id: parseConversationKey(key),
    shard,
    isResident: actor !== undefined,
    state: entry?.state ?? now?.state ?? null, // what is durable is what a verb acts on
    sinceMs: entry?.sinceMs ?? now?.sinceMs ?? null,
    why: entry === null ? UNREADABLE_ENTRY : (entry?.why ?? now?.why ?? null),
    attempts: entry?.attempts ?? now?.attempts ?? 0,
    waiting: entry?.waiting ?? now?.waiting ?? 0,
    waitingBytes: entry?.waitingBytes ?? 0,
    halt: entry?.halt === undefined ? null : { reason: entry.reason ?? null, name: entry.halt },
    suspect: entry?.suspect ?? null,
    mailboxDepth: actor?.mailboxDepth ?? 0,
    undelivered: { replies: lane?.replies ?? 0, bytes: lane?.bytes ?? 0 },
    lane: lane?.state ?? null,
  };
}

/** Only to be shown, so whatever the hash of its id would be does not matter. */
function waitingMessage({ bytes }: WaitingEntry): InboxMessage | null {
  try {
    return decodeWaiting(bytes, null, { lo: 0, hi: 0 });
  } catch (error) {
    if (error instanceof CodecError) return null;
    throw error;
  }
}

function readable(record: Uint8Array): DecodedRecord | string {
  try {
    return decodeRecord(record);
  } catch (error) {
    if (error instanceof ColloquyError) return error.message;
    throw error;
  }
}

const bytesOf = (entries: readonly StoredEntry[]): number => entries.reduce((sum, { bytes }) => sum + bytes.length, 0);

/** What a shard's owner record says may be missing from a look while Redis is away; anything else is an error. */
async function orNull<Value>(value: Promise<Value>): Promise<Value | null> {
  try {
    return await value;
  } catch (error) {
    if (error instanceof ColloquyError && error.retryable) return null;
    throw error;
  }
}

/** The least `max` of many keys, without sorting them all: there may be 100,000. */
class SmallestKeys {
  readonly #max: number;
  readonly entries: { readonly key: ConversationKey; readonly shard: number }[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  hasRoomFor(key: ConversationKey): boolean {
    return this.entries.length < this.#max || key < this.entries.at(-1)!.key;
  }

  add(key: ConversationKey, shard: number): void {
    const { entries } = this;
    if (!this.hasRoomFor(key)) return;
    let low = 0;
    for (let high = entries.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (entries[middle]!.key < key) low = middle + 1;
      else high = middle;
    }
    entries.splice(low, 0, { key, shard });
    if (entries.length > this.#max) entries.pop();
  }
}
