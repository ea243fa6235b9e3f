// Store in memory: the same port, for tests and simulation. It models what Redis does with the scripts, no more: streams with
// rising ids, hashes, strings and lives. Faults are not its business; wrap it.
//
// What is durable lives in a `MemoryData`, so that several stores (nodes, or lives of one) can share it. Every call takes
// effect at once, as a script does, and answers in a later microtask. Bytes are copied on the way in, and handed out frozen
// by agreement: nobody writes into what a store gave.

import type { ConversationKey } from "../domain/ids.ts";
import { compareEntryIds, ENTRY_ZERO, type EntryId, formatEntryId, parseEntryId } from "../domain/position.ts";
import type { Environment, Timer } from "../environment.ts";
import { StoreCorruptError } from "../errors.ts";
import { checkCommit } from "./check-commit.ts";
import {
  type AcquireReply,
  type AppendReply,
  type Commit,
  type CommitReply,
  type ConversationWrite,
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
  type StoreFacts,
} from "./shard-store.ts";
import { closedError } from "./store-error.ts";

/** A stream as Redis keeps it: ids only rise, also past deleted entries. */
export class MemoryStream {
  lastId: EntryId = ENTRY_ZERO;
  entries: StoredEntry[] = [];

  add(bytes: Uint8Array, nowMs: number): EntryId {
    const { ms, seq } = this.lastId;
    this.lastId = nowMs > ms ? { ms: nowMs, seq: 0 } : { ms, seq: seq + 1 };
    this.entries.push({ id: this.lastId, bytes: bytes.slice() });
    return this.lastId;
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
  epoch = 0;
  n = 0;
  leaseEndMs = 0;
  clean = false;
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
    const { node, epoch, n, leaseEndMs, clean, inboxBytes, deadCount, deadBytes } = this.#data;
    const leaseRemainingMs = Math.max(0, leaseEndMs - this.#nowMs());
    const deadLetters = { count: deadCount, bytes: deadBytes };
    return { node, epoch, n, leaseRemainingMs, clean: epoch === 0 || clean, inboxBytes, deadLetters };
  }

  async acquire(request: { node: string; observedEpoch: number; leaseMs: number }): Promise<AcquireReply> {
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
    data.node = request.node;
    data.epoch += 1;
    data.n = 0;
    data.leaseEndMs = nowMs + request.leaseMs;
    data.clean = false;
    data.inboxLast = data.inbox.lastId;
    data.outboxLast = data.outbox.lastId;
    data.outboxId = null;
    data.inboxBytes = data.inbox.bytes;
    return { kind: "acquired", epoch: data.epoch, wasClean, inboxBytes: data.inboxBytes };
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

  async append(entry: Uint8Array, inboxBytesMax: number): Promise<AppendReply> {
    this.#checkOpen("append");
    const data = this.#data;
    const inboxBytes = data.inboxBytes + entry.length;
    if (inboxBytes > inboxBytesMax) return { kind: "over", inboxBytes: data.inboxBytes };
    this.#checkClock("inbox", data.inbox, data.inboxLast);
    const id = data.inbox.add(entry, this.#nowMs());
    data.inboxBytes = inboxBytes;
    data.inboxLast = id;
    for (const wake of [...data.waiting]) wake();
    return { kind: "appended", id, inboxBytes };
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

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
