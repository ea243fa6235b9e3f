// Inspection: what an operator may see of a node, without touching it. Everything is read as it stands; nothing is kept for it.
//
// Invariants
//   V1. A look is bounded: a page of a list, a step count of a scan, a sum of bytes; whoever wants more asks again.
//   V2. A look writes nothing and wakes nobody. Of shards that this node does not own it sees what is stored.
//   V3. Payload (states, messages, replies) comes only to whom asks for it by name.

import type {
  ConversationDetail,
  ConversationFilter,
  ConversationView,
  DeadLetterPlace,
  DeadLetterView,
  Inspector,
  Page,
  ShardView,
} from "../src/admin/inspector.ts";
import { decodeDeadLetter } from "../src/codec/dead-letter-codec.ts";
import { decodeLaneState } from "../src/codec/lane-codec.ts";
import { type DecodedRecord, decodeRecord } from "../src/codec/record-codec.ts";
import {
  type ConversationId,
  type ConversationKey,
  conversationKey,
  parseConversationKey,
  shardOf,
} from "../src/domain/ids.ts";
import { ENTRY_ZERO } from "../src/domain/position.ts";
import { ColloquyError } from "../src/errors.ts";
import { SCAN_START, type Store } from "../src/store/shard-store.ts";
import type { LeaseState } from "./lease-keeper.ts";
import type { Shard } from "./shard.ts";

export interface InspectionOptions {
  readonly store: Store;
  /** By shard. */
  readonly leases: readonly LeaseState[];
  /** Those that this node owns. */
  readonly owned: ReadonlyMap<number, Shard>;
}

/** Steps of a scan in one look (V1). */
const SCAN_STEPS_MAX = 50;
const SCAN_COUNT_MIN = 4;
/** Dead letters are up to `replyBytesMax` or a whole inbox entry long, and read some at a time (V1). */
const DEAD_LETTERS_READ = 4;
const DEAD_LETTER_BYTES_MAX = 4 * 1024 * 1024;

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

  async conversation(id: ConversationId): Promise<ConversationDetail | null> {
    const { store, owned, leases } = this.#options;
    const key = conversationKey(id);
    const shard = shardOf(key, leases.length);
    const open = owned.get(shard);
    const stored = store.shard(shard);
    const [[loaded], lane] = await Promise.all([stored.load([key]), open ? null : stored.readLane(key)]);
    const { record = null, ids = null } = loaded ?? {};
    const view = viewOf(shard, key, open);
    if (record === null && view.state === "stored" && view.lane === null && lane === null) return null;
    return {
      ...view,
      ...(lane !== null && { lane: decodeLaneState(lane) }),
      record: record === null ? null : readable(record),
      recordBytes: record?.length ?? 0,
      idsBytes: ids?.length ?? 0,
    };
  }

  async stored(filter: ConversationFilter, limit: number, cursor?: string): Promise<Page<ConversationView, string>> {
    const { store, owned } = this.#options;
    const items = new Map<ConversationKey, ConversationView>();
    let at = cursor ?? SCAN_START;
    for (let step = 0; step < SCAN_STEPS_MAX && items.size < limit; step += 1) {
      const page = await store.scanConversations({ cursor: at, count: Math.max(SCAN_COUNT_MIN, limit - items.size) });
      for (const { shard, key } of page.found) {
        const open = owned.get(shard);
        const view = viewOf(shard, key, open);
        if (isOf(filter, view.id)) items.set(key, view);
      }
      at = page.cursor;
      if (at === SCAN_START) return { items: [...items.values()], next: null };
    }
    return { items: [...items.values()], next: at };
  }

  inMemory(filter: ConversationFilter, limit: number, after = ""): Page<ConversationView, string> {
    const smallest = new SmallestKeys(limit + 1); // one more says that there is a next page
    for (const [shard, { parts }] of this.#options.owned) {
      if (filter.state?.startsWith("lane-")) {
        const wanted = filter.state.slice("lane-".length);
        for (const lane of parts.lanes?.all() ?? [])
          if (lane.state?.state === wanted && lane.key > after && isOf(filter, lane.id)) smallest.add(lane.key, shard);
      } else {
        for (const actor of parts.conversations?.all() ?? [])
          if (actor.activity === filter.state && actor.key > after && isOf(filter, actor.id))
            smallest.add(actor.key, shard);
      }
    }
    const items = smallest.entries.slice(0, limit).map(({ key, shard }) => {
      const open = this.#options.owned.get(shard)!;
      return viewOf(shard, key, open);
    });
    return { items, next: smallest.entries.length > limit ? smallest.entries[limit - 1]!.key : null };
  }

  async deadLetters(limit: number, after?: DeadLetterPlace): Promise<Page<DeadLetterView, DeadLetterPlace>> {
    const { store, leases } = this.#options;
    const items: DeadLetterView[] = [];
    let bytes = 0;
    for (let shard = after?.shard ?? 0; shard < leases.length; shard += 1) {
      let entry = shard === after?.shard ? after.entry : ENTRY_ZERO;
      for (;;) {
        if (items.length >= limit || bytes >= DEAD_LETTER_BYTES_MAX) return { items, next: { shard, entry } };
        const count = Math.min(DEAD_LETTERS_READ, limit - items.length);
        const letters = await store.shard(shard).readDeadLetters({ after: entry, count });
        for (const letter of letters) {
          items.push({ ...decodeDeadLetter(letter.bytes), place: { shard, entry: letter.id } });
          bytes += letter.bytes.length;
          entry = letter.id;
        }
        if (letters.length < count) break;
      }
    }
    return { items, next: null };
  }
}

function memoryOf(shard: Shard): NonNullable<ShardView["memory"]> {
  const { committer, conversations, lanes } = shard.parts;
  const activities = { idle: 0, waiting: 0, running: 0, failing: 0, crashed: 0, quarantined: 0 };
  for (const actor of conversations?.all() ?? []) activities[actor.activity] += 1;
  const states = { flowing: 0, retrying: 0, halted: 0, closed: 0 };
  for (const lane of lanes?.all() ?? []) states[lane.state?.state ?? "flowing"] += 1;
  return {
    commit: committer?.applied ?? 0,
    uncommitted: committer?.uncommitted ?? 0,
    conversations: activities,
    lanes: states,
    readAheadBytes: shard.undecidedBytes,
    outboxBytes: shard.undeliveredBytes,
  };
}

function viewOf(shard: number, key: ConversationKey, open: Shard | undefined): ConversationView {
  const actor = open?.parts.conversations?.find(key);
  const lane = open?.parts.lanes?.find(key);
  return {
    id: parseConversationKey(key),
    shard,
    state: actor?.activity ?? "stored",
    mailboxDepth: actor?.mailboxDepth ?? 0,
    failures: actor?.failures ?? 0,
    undelivered: { replies: lane?.replies ?? 0, bytes: lane?.bytes ?? 0 },
    lane: lane?.state ?? null,
  };
}

const isOf = ({ bot, channel }: ConversationFilter, id: ConversationId): boolean =>
  (bot === undefined || id.bot === bot) && (channel === undefined || id.channel === channel);

function readable(record: Uint8Array): DecodedRecord | string {
  try {
    return decodeRecord(record);
  } catch (error) {
    if (error instanceof ColloquyError) return error.message;
    throw error;
  }
}

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

  add(key: ConversationKey, shard: number): void {
    const { entries } = this;
    if (entries.length === this.#max && key >= entries.at(-1)!.key) return;
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
