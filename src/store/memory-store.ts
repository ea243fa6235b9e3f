// Store in memory: the same port, for tests and simulation. It models what Redis does with the scripts, no more: streams with
// rising ids, hashes, sets, strings and lives. Faults are not its business; wrap it.
//
// What is durable lives in a `MemoryData`, so that several stores (nodes, or lives of one) can share it. Every call takes
// effect at once, as a script does, and answers in a later microtask. Bytes are copied on the way in, and handed out frozen
// by agreement: nobody writes into what a store gave.

import type { ConversationKey } from "../domain/ids.ts";
import { compareEntryIds, ENTRY_ZERO, type EntryId, formatEntryId, parseEntryId } from "../domain/position.ts";
import type { Environment, Timer } from "../environment.ts";
import { StoreCorruptError } from "../errors.ts";
import { checkAppendOptions, checkCommit, checkMove } from "./check-commit.ts";
import { parseTimerMember, timerMember } from "./keys.ts";
import {
  type AcquireReply,
  type AcquireRequest,
  type AppendOptions,
  type AppendReply,
  type AsideWrite,
  type Commit,
  type CommitReply,
  type ConversationWrite,
  type LaneListWrite,
  type MoveTimersReply,
  type NamespaceMeta,
  type Owner,
  type ReleaseReply,
  type RenewReply,
  SCAN_START,
  SCHEMA_VERSION,
  type ScanPage,
  type ShardStore,
  type Store,
  type StoredConversation,
  type StoredEntry,
  type StoredTimer,
  type StoreFacts,
  type TimerName,
  type WaitingEntry,
} from "./shard-store.ts";
import { closedError } from "./store-error.ts";

/** A stream as Redis keeps it: ids only rise, also past deleted entries. */
export class MemoryStream {
  lastId: EntryId = ENTRY_ZERO;
  entries: StoredEntry[] = [];

  add(bytes: Uint8Array, nowMs: number): EntryId {
    const { ms, seq } = this.lastId;
    return this.addAs(nowMs > ms ? { ms: nowMs, seq: 0 } : { ms, seq: seq + 1 }, bytes);
  }

  /** @param id above the last one */
  addAs(id: EntryId, bytes: Uint8Array): EntryId {
    this.lastId = id;
    this.entries.push({ id, bytes: bytes.slice() });
    return id;
  }

  delete(ids: readonly EntryId[]): void {
    if (ids.length === 0) return;
    const gone = new Set(ids.map(formatEntryId));
    this.entries = this.entries.filter(({ id }) => !gone.has(formatEntryId(id)));
  }

  after(id: EntryId, count: number): StoredEntry[] {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareEntryIds(this.entries[middle]!.id, id) <= 0) low = middle + 1;
      else high = middle;
    }
    return this.entries.slice(low, low + count);
  }

  get bytes(): number {
    return this.entries.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }
}

/** A value with a life; `expiresAtMs` null means for ever. */
interface Living<Value> {
  value: Value;
  expiresAtMs: number | null;
}

/** Everything of one shard, as it stands in Redis. Open to tests that damage it on purpose. */
export class MemoryShard {
  node: string | null = null;
  /** Empty for none. */
  incarnation = "";
  epoch = 0;
  n = 0;
  leaseEndMs = 0;
  clean = false;
  uncleanEnds = 0;
  inboxLast: EntryId = ENTRY_ZERO;
  outboxLast: EntryId = ENTRY_ZERO;
  outboxId: EntryId | null = null;
  inboxBytes = 0;
  inbox: MemoryStream = new MemoryStream();
  outbox: MemoryStream = new MemoryStream();
  readonly dead: MemoryStream = new MemoryStream();
  deadCount = 0;
  deadBytes = 0;
  /** By entry id. */
  readonly acks: Map<string, Uint8Array> = new Map();
  readonly lanes: Map<ConversationKey, Uint8Array> = new Map();
  readonly records: Map<ConversationKey, Uint8Array> = new Map();
  readonly ids: Map<ConversationKey, Living<Uint8Array>> = new Map();
  readonly transcripts: Map<ConversationKey, Living<MemoryStream>> = new Map();
  /** A list without entries is none: what ids it gave out is forgotten. */
  readonly waitingLists: Map<ConversationKey, MemoryStream> = new Map();
  readonly laneLists: Map<ConversationKey, MemoryStream> = new Map();
  readonly open: Map<ConversationKey, Uint8Array> = new Map();
  readonly full: Set<ConversationKey> = new Set();
  /** By member, as in Redis: due at, ms. */
  readonly timers: Map<string, number> = new Map();
  /** By source shard: the place taken last. */
  readonly from: Map<number, EntryId> = new Map();
  /** Reads that wait for an append; not part of the data. */
  readonly waiting: Set<() => void> = new Set();
}

/** What survives the end of every store on it. */
export class MemoryData {
  meta: NamespaceMeta | null = null;
  readonly #shards = new Map<number, MemoryShard>();

  shard(shard: number): MemoryShard {
    let data = this.#shards.get(shard);
    if (data === undefined) {
      data = new MemoryShard();
      this.#shards.set(shard, data);
    }
    return data;
  }

  get shards(): ReadonlyMap<number, MemoryShard> {
    return this.#shards;
  }
}

/** Below every place. */
const BEFORE_ALL: EntryId = { ms: -1, seq: 0 };
/** Of one shard, in memory. */
const RECORDS_MAX = 2 ** 32;

export class MemoryStore implements Store {
  readonly data: MemoryData;
  readonly #environment: Environment;
  readonly #shards = new Map<number, MemoryShardStore>();
  readonly #listeners = new Set<(ready: boolean) => void>();
  #isClosed = false;

  constructor(environment: Environment, data: MemoryData = new MemoryData()) {
    this.#environment = environment;
    this.data = data;
  }

  async openNamespace(wanted: { shards: number; hashKey: Uint8Array }): Promise<NamespaceMeta> {
    if (this.#isClosed) throw closedError("openNamespace");
    this.data.meta ??= { shards: wanted.shards, schemaVersion: SCHEMA_VERSION, hashKey: wanted.hashKey.slice() };
    return this.data.meta;
  }

  async facts(): Promise<StoreFacts> {
    const config = {
      appendonly: true,
      appendfsync: "always" as const,
      noAppendfsyncOnRewrite: false,
      maxmemoryPolicy: "noeviction",
    };
    return { version: "7.0.0", role: "master", config, usedMemoryBytes: 0, maxMemoryBytes: 0 };
  }

  shard(shard: number): MemoryShardStore {
    let store = this.#shards.get(shard);
    if (store === undefined) {
      const onClose = (): void => void this.#shards.delete(shard);
      store = new MemoryShardStore(this.#environment, shard, this.data.shard(shard), onClose);
      this.#shards.set(shard, store);
    }
    return store;
  }

  /** Records are never removed, so the cursor is a shard and how many of its records were given. */
  async scanConversations({ cursor, count }: { cursor: string; count: number }): Promise<ScanPage> {
    if (this.#isClosed) throw closedError("scanConversations");
    const from = Number(cursor);
    const rest = [...this.data.shards].flatMap(([shard, { records }]) =>
      Array.from(records.keys(), (key, i) => ({ shard, key, place: shard * RECORDS_MAX + i + 1 })).filter(
        ({ place }) => place > from,
      ),
    );
    const page = rest.sort((a, b) => a.place - b.place).slice(0, count);
    return {
      cursor: page.length < rest.length ? String(page.at(-1)!.place) : SCAN_START,
      found: page.map(({ shard, key }) => ({ shard, key })),
    };
  }

  isReady(): boolean {
    return !this.#isClosed;
  }

  onReadyChange(listener: (ready: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const shard of this.#shards.values()) await shard.close();
    for (const listener of this.#listeners) listener(false);
  }
}

export class MemoryShardStore implements ShardStore {
  readonly shard: number;
  readonly #environment: Environment;
  readonly #data: MemoryShard;
  readonly #onClose: () => void;
  readonly #waiting = new Set<() => void>();
  #isClosed = false;

  constructor(environment: Environment, shard: number, data: MemoryShard, onClose: () => void) {
    this.#environment = environment;
    this.shard = shard;
    this.#data = data;
    this.#onClose = onClose;
  }

  async owner(): Promise<Owner> {
    const { node, epoch, n, leaseEndMs, clean, inboxBytes, deadCount, deadBytes, uncleanEnds } = this.#data;
    const leaseRemainingMs = Math.max(0, leaseEndMs - this.#nowMs());
    const deadLetters = { count: deadCount, bytes: deadBytes };
    return { node, epoch, n, leaseRemainingMs, clean: epoch === 0 || clean, inboxBytes, deadLetters, uncleanEnds };
  }

  async acquire(request: AcquireRequest): Promise<AcquireReply> {
    this.#checkOpen("acquire");
    const data = this.#data;
    const nowMs = this.#nowMs();
    if (data.node !== null && data.node !== request.node && data.leaseEndMs > nowMs) {
      return { kind: "held", node: data.node, leaseRemainingMs: data.leaseEndMs - nowMs };
    }
    if (data.epoch !== request.observedEpoch) return { kind: "changed", epoch: data.epoch };
    const rewound =
      rewoundStream("inbox", data.inbox, data.inboxLast) ?? rewoundStream("outbox", data.outbox, data.outboxLast);
    if (rewound !== null) return rewound;
    const wasClean = data.epoch === 0 || data.clean;
    const { incarnation = "" } = request;
    if (!wasClean && (incarnation === "" || incarnation !== data.incarnation)) data.uncleanEnds += 1;
    data.node = request.node;
    data.incarnation = incarnation;
    data.epoch += 1;
    data.n = 0;
    data.leaseEndMs = nowMs + request.leaseMs;
    data.clean = false;
    data.inboxLast = data.inbox.lastId;
    data.outboxLast = data.outbox.lastId;
    data.outboxId = null;
    data.inboxBytes = data.inbox.bytes;
    const { epoch, inboxBytes, uncleanEnds, inboxLast } = data;
    return { kind: "acquired", epoch, wasClean, inboxBytes, uncleanEnds, inboxLast };
  }

  async renew(request: { epoch: number; leaseMs: number }): Promise<RenewReply> {
    this.#checkOpen("renew");
    if (this.#data.epoch !== request.epoch) return { kind: "fenced", epoch: this.#data.epoch };
    this.#data.leaseEndMs = this.#nowMs() + request.leaseMs;
    this.#data.clean = false;
    return { kind: "renewed" };
  }

  async release(request: { epoch: number; clean: boolean }): Promise<ReleaseReply> {
    this.#checkOpen("release");
    if (this.#data.epoch !== request.epoch) return { kind: "fenced", epoch: this.#data.epoch };
    this.#data.leaseEndMs = 0;
    this.#data.clean = request.clean;
    return { kind: "released" };
  }

  async append(entry: Uint8Array, inboxBytesMax: number, options: AppendOptions = {}): Promise<AppendReply> {
    checkAppendOptions(options);
    this.#checkOpen("append");
    const data = this.#data;
    const { from, conversations = [] } = options;
    if (from !== undefined && compareEntryIds(from.place, data.from.get(from.shard) ?? BEFORE_ALL) <= 0) {
      return { kind: "taken" };
    }
    const named = conversations.filter((key) => data.full.has(key));
    if (named.length > 0) return { kind: "full", conversations: named };
    const inboxBytes = data.inboxBytes + entry.length;
    if (inboxBytes > inboxBytesMax) return { kind: "over", inboxBytes: data.inboxBytes };
    this.#checkClock("inbox", data.inbox, data.inboxLast);
    const id = this.#addToInbox(entry);
    if (from !== undefined) data.from.set(from.shard, from.place);
    return { kind: "appended", id, inboxBytes, full: data.full.size };
  }

  async commit(commit: Commit): Promise<CommitReply> {
    checkCommit(commit);
    this.#checkOpen("commit");
    const data = this.#data;
    const { epoch, n } = commit;
    if (data.epoch > epoch) return { kind: "fenced", epoch: data.epoch };
    if (data.epoch < epoch) return { kind: "rewound", n: data.n };
    if (data.n === n) return { kind: "applied", n, outboxId: data.outboxId };
    if (data.n < n - 1) return { kind: "rewound", n: data.n };
    if (data.n > n) throw new StoreCorruptError(`commit ${n} came after ${data.n}`);
    if (commit.outbox !== null) this.#checkClock("outbox", data.outbox, data.outboxLast);
    if (commit.inboxAdd !== undefined) this.#checkClock("inbox", data.inbox, data.inboxLast);
    for (const { key, aside } of commit.conversations) {
      checkListIds(this.#data.waitingLists, key, aside?.waiting ?? []);
    }
    for (const { key, joining } of commit.laneLists ?? []) checkListIds(this.#data.laneLists, key, joining);
    this.#apply(commit);
    return { kind: "applied", n, outboxId: data.outboxId };
  }

  async readInbox(request: { after: EntryId; count: number; blockMs: number }): Promise<StoredEntry[]> {
    this.#checkOpen("readInbox");
    const entries = this.#data.inbox.after(request.after, request.count);
    if (entries.length > 0 || request.blockMs <= 0) return entries;
    await this.#appended(request.after, request.blockMs);
    return this.#isClosed ? [] : this.#data.inbox.after(request.after, request.count);
  }

  async readOutbox(request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    this.#checkOpen("readOutbox");
    return this.#data.outbox.after(request.after, request.count);
  }

  async load(keys: readonly ConversationKey[]): Promise<StoredConversation[]> {
    this.#checkOpen("load");
    const { records, ids } = this.#data;
    return keys.map((key) => ({ record: records.get(key) ?? null, ids: this.#living(ids, key)?.value ?? null }));
  }

  async readAcks(): Promise<{ entry: EntryId; done: Uint8Array }[]> {
    this.#checkOpen("readAcks");
    return Array.from(this.#data.acks, ([id, done]) => ({ entry: parseEntryId(id), done }));
  }

  async readLane(key: ConversationKey): Promise<Uint8Array | null> {
    this.#checkOpen("readLane");
    return this.#data.lanes.get(key) ?? null;
  }

  async readLanes(): Promise<{ key: ConversationKey; state: Uint8Array }[]> {
    this.#checkOpen("readLanes");
    return Array.from(this.#data.lanes, ([key, state]) => ({ key, state }));
  }

  async readTranscript(key: ConversationKey, request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    this.#checkOpen("readTranscript");
    return this.#living(this.#data.transcripts, key)?.value.after(request.after, request.count) ?? [];
  }

  async readDeadLetters(request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    this.#checkOpen("readDeadLetters");
    return this.#data.dead.after(request.after, request.count);
  }

  async readWaiting(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]> {
    this.#checkOpen("readWaiting");
    return listed(this.#data.waitingLists, key, request);
  }

  async readLaneList(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]> {
    this.#checkOpen("readLaneList");
    return listed(this.#data.laneLists, key, request);
  }

  async scanLanes(request: { cursor: string; count: number }): ReturnType<ShardStore["scanLanes"]> {
    this.#checkOpen("scanLanes");
    const { cursor, page } = scanned(this.#data.lanes, request);
    return { cursor, found: page.map(([key, state]) => ({ key, state })) };
  }

  async readOpen(request: { cursor: string; count: number }): ReturnType<ShardStore["readOpen"]> {
    this.#checkOpen("readOpen");
    const { cursor, page } = scanned(this.#data.open, request);
    return { cursor, found: page.map(([key, value]) => ({ key, value })) };
  }

  async readTimers({ count }: { count: number }): ReturnType<ShardStore["readTimers"]> {
    this.#checkOpen("readTimers");
    const nowMs = this.#nowMs();
    const first = earliest(this.#data.timers, count + 1);
    const due = first.slice(0, count).filter(({ atMs }) => atMs <= nowMs);
    const next = first[due.length];
    return { due, nextInMs: next === undefined ? null : Math.max(0, next.atMs - nowMs) };
  }

  async moveTimers(request: {
    epoch: number;
    timers: readonly TimerName[];
    entry: Uint8Array;
  }): Promise<MoveTimersReply> {
    checkMove(request);
    this.#checkOpen("moveTimers");
    const data = this.#data;
    if (data.epoch !== request.epoch) return { kind: "fenced", epoch: data.epoch };
    const members = request.timers.map(timerMember);
    if (!members.some((member) => data.timers.has(member))) return { kind: "moved", id: null };
    this.#checkClock("inbox", data.inbox, data.inboxLast);
    for (const member of members) data.timers.delete(member);
    return { kind: "moved", id: this.#addToInbox(request.entry) };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const end of [...this.#waiting]) end();
    this.#onClose();
  }

  #apply(commit: Commit): void {
    const data = this.#data;
    const nowMs = this.#nowMs();
    for (const write of commit.conversations) this.#write(write, commit.transcript, nowMs);
    data.outboxId = commit.outbox === null ? null : data.outbox.add(commit.outbox, nowMs);
    if (data.outboxId !== null) data.outboxLast = data.outboxId;
    data.inbox.delete(commit.inboxDone);
    if (commit.inboxDone.length > 0) data.inboxBytes = Math.max(0, data.inboxBytes - commit.inboxDoneBytes);
    if (commit.inboxAdd !== undefined) this.#addToInbox(commit.inboxAdd);
    for (const { entry, done } of commit.acks) data.acks.set(formatEntryId(entry), done.slice());
    data.outbox.delete(commit.outboxDone);
    for (const id of commit.outboxDone) data.acks.delete(formatEntryId(id));
    for (const { key, state } of commit.lanes) {
      if (state === null) data.lanes.delete(key);
      else data.lanes.set(key, state.slice());
    }
    for (const letter of commit.dead) {
      data.dead.add(letter, nowMs);
      data.deadBytes += letter.length;
    }
    data.deadCount += commit.dead.length;
    this.#forgetDead(commit.deadDone ?? []);
    for (const { key, aside } of commit.conversations) if (aside !== undefined) this.#writeAside(key, aside);
    for (const { key, joining, leaving } of commit.laneLists ?? []) writeList(data.laneLists, key, joining, leaving);
    if (commit.headsThrough === true) data.uncleanEnds = 0;
    data.n = commit.n;
    data.clean = false;
    data.leaseEndMs = nowMs + commit.leaseMs;
  }

  #write(write: ConversationWrite, bounds: Commit["transcript"], nowMs: number): void {
    const { key, ids: change, idsTtlMs } = write;
    this.#data.records.set(key, write.record.slice());
    const stored = this.#living(this.#data.ids, key);
    const ids: Living<Uint8Array> = stored ?? { value: new Uint8Array(0), expiresAtMs: null };
    if (change !== null) {
      ids.value = change.kind === "append" ? concat(ids.value, change.bytes) : change.bytes.slice();
      this.#data.ids.set(key, ids);
    }
    if (idsTtlMs !== null) ids.expiresAtMs = nowMs + idsTtlMs;
    if (write.transcript.length > 0) this.#writeTranscript(key, write.transcript, bounds, nowMs);
  }

  #writeAside(key: ConversationKey, { waiting, waitingDone, open, timers, full }: AsideWrite): void {
    const data = this.#data;
    writeList(data.waitingLists, key, waiting, waitingDone);
    if (open === null) data.open.delete(key);
    else if (open !== undefined) data.open.set(key, open.slice());
    for (const { name, generation, atMs } of timers) {
      const member = timerMember({ key, name, generation });
      if (atMs === null) data.timers.delete(member);
      else data.timers.set(member, atMs);
    }
    if (full === true) data.full.add(key);
    if (full === false) data.full.delete(key);
  }

  #forgetDead(ids: readonly EntryId[]): void {
    if (ids.length === 0) return;
    const data = this.#data;
    const { bytes, entries } = data.dead;
    data.dead.delete(ids);
    data.deadCount = Math.max(0, data.deadCount - (entries.length - data.dead.entries.length));
    data.deadBytes = Math.max(0, data.deadBytes - (bytes - data.dead.bytes));
  }

  #addToInbox(entry: Uint8Array): EntryId {
    const data = this.#data;
    const id = data.inbox.add(entry, this.#nowMs());
    data.inboxBytes += entry.length;
    data.inboxLast = id;
    for (const wake of [...data.waiting]) wake();
    return id;
  }

  #writeTranscript(
    key: ConversationKey,
    lines: readonly Uint8Array[],
    bounds: Commit["transcript"],
    nowMs: number,
  ): void {
    const stored = this.#living(this.#data.transcripts, key)?.value ?? new MemoryStream();
    for (const line of lines) stored.add(line, nowMs);
    stored.entries = stored.entries.slice(-bounds.linesMax);
    if (lines.some((line) => line.length > bounds.bytesMax / bounds.linesMax)) cutToBytes(stored, bounds.bytesMax);
    this.#data.transcripts.set(key, { value: stored, expiresAtMs: nowMs + bounds.ttlMs });
  }

  #living<Value>(values: Map<ConversationKey, Living<Value>>, key: ConversationKey): Living<Value> | undefined {
    const living = values.get(key);
    if (living?.expiresAtMs == null || living.expiresAtMs > this.#nowMs()) return living;
    values.delete(key);
    return undefined;
  }

  /** Resolves when there is something after the id, the time is up, or the store closes. */
  #appended(after: EntryId, waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | null = null;
      const finish = (): void => {
        timer?.cancel();
        this.#data.waiting.delete(look);
        this.#waiting.delete(finish);
        resolve();
      };
      const look = (): void => {
        if (compareEntryIds(this.#data.inbox.lastId, after) > 0) finish();
      };
      this.#data.waiting.add(look);
      this.#waiting.add(finish);
      timer = this.#environment.after(waitMs, finish);
    });
  }

  /** H10: a lost stream with the clock behind would give ids that were passed already. */
  #checkClock(name: string, stream: MemoryStream, highestSeen: EntryId): void {
    if (highestSeen.ms > this.#nowMs() && stream.lastId.ms < highestSeen.ms) {
      throw new StoreCorruptError(`the ${name} is behind the highest id seen, and so is the clock`);
    }
  }

  #nowMs(): number {
    return Math.floor(this.#environment.nowMs());
  }

  #checkOpen(during: string): void {
    if (this.#isClosed) throw closedError(during);
  }
}

function rewoundStream(stream: "inbox" | "outbox", data: MemoryStream, highestSeen: EntryId): AcquireReply | null {
  if (compareEntryIds(data.lastId, highestSeen) >= 0) return null;
  return { kind: "rewound", stream, lastId: formatEntryId(data.lastId), highestSeen: formatEntryId(highestSeen) };
}

/** In the order of a sorted set: by time, then by the member's bytes. */
function earliest(timers: ReadonlyMap<string, number>, count: number): StoredTimer[] {
  const inOrder = [...timers].sort(([a, aMs], [b, bMs]) => aMs - bMs || Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return inOrder.slice(0, count).map(([member, atMs]) => ({ ...parseTimerMember(member), atMs }));
}

/** Keeps the newest entries that fit, and the newest in any case. */
function cutToBytes(stream: MemoryStream, bytesMax: number): void {
  let sum = 0;
  let from = stream.entries.length;
  while (from > 0) {
    sum += stream.entries[from - 1]!.bytes.length;
    if (sum > bytesMax && from < stream.entries.length) break;
    from -= 1;
  }
  stream.entries = stream.entries.slice(from);
}

/** The cursor is the last key given: what comes and goes meanwhile moves nothing else. */
function scanned<Value>(
  values: ReadonlyMap<ConversationKey, Value>,
  { cursor, count }: { readonly cursor: string; readonly count: number },
): { readonly cursor: string; readonly page: readonly (readonly [ConversationKey, Value])[] } {
  const last = cursor === SCAN_START ? "" : cursor;
  const rest = [...values].filter(([key]) => key > last).sort(([a], [b]) => (a < b ? -1 : 1));
  const page = rest.slice(0, count);
  return { cursor: page.length < rest.length ? page.at(-1)![0] : SCAN_START, page };
}

type Lists = Map<ConversationKey, MemoryStream>;

function listed(
  lists: Lists,
  key: ConversationKey,
  { after, count }: { after: number; count: number },
): WaitingEntry[] {
  const entries = lists.get(key)?.after({ ms: after, seq: 0 }, count) ?? [];
  return entries.map(({ id, bytes }) => ({ id: id.ms, bytes }));
}

function writeList(
  lists: Lists,
  key: ConversationKey,
  joining: LaneListWrite["joining"],
  leaving: LaneListWrite["leaving"],
): void {
  const list = lists.get(key) ?? new MemoryStream();
  for (const { id, bytes } of joining) list.addAs({ ms: id, seq: 0 }, bytes);
  list.delete(leaving.map((id) => ({ ms: id, seq: 0 })));
  if (list.entries.length > 0) lists.set(key, list);
  else lists.delete(key);
}

/** Of those that join, the first has to be above all that the list gave out; the others rise. */
function checkListIds(lists: Lists, key: ConversationKey, joining: LaneListWrite["joining"]): void {
  const last = lists.get(key)?.lastId ?? ENTRY_ZERO;
  if (joining[0] !== undefined && joining[0].id <= last.ms) {
    throw new StoreCorruptError("a waiting list gave out an id before that joins it now");
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
