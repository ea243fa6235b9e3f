// The port of one shard on Redis. Each shard commits on a connection of its own, since fsyncs are shared between connections
// but not within one, and blocks on another; appends, reads and leases share theirs with the other shards.

import type { ConversationKey } from "../domain/ids.ts";
import { type EntryId, formatEntryId, parseEntryId } from "../domain/position.ts";
import { checkAppendOptions, checkCommit, checkMove } from "./check-commit.ts";
import { parseTimerMember, type ShardKeys, shardKeys, shardTag } from "./keys.ts";
import type { RedisConnection } from "./redis-connection.ts";
import type { Scripts } from "./scripts.ts";
import type {
  AcquireReply,
  AcquireRequest,
  AppendOptions,
  AppendReply,
  Commit,
  CommitReply,
  MoveTimersReply,
  Owner,
  ReleaseReply,
  RenewReply,
  ShardStore,
  StoredConversation,
  StoredEntry,
  StoredTimer,
  TimerName,
  WaitingEntry,
} from "./shard-store.ts";
import { closedError, unexpectedReply } from "./store-error.ts";

export interface ShardConnections {
  readonly append: () => RedisConnection;
  readonly query: () => RedisConnection;
  readonly lease: () => RedisConnection;
  /** Makes one that belongs to this shard. */
  readonly open: (purpose: "commit" | "reader") => RedisConnection;
  readonly shut: (connection: RedisConnection) => void;
}

/** Conversations whose record and ids are asked for in one MGET; a larger one would hold up everybody else (attack H9). */
const LOAD_CHUNK = 32;

export class RedisShardStore implements ShardStore {
  readonly shard: number;
  readonly #keys: ShardKeys;
  readonly #scripts: Scripts;
  readonly #connections: ShardConnections;
  readonly #commandTimeoutMs: number;
  readonly #onClose: () => void;
  #commits: RedisConnection | null = null;
  #reader: RedisConnection | null = null;
  #isClosed = false;

  constructor(settings: {
    ns: string;
    shard: number;
    scripts: Scripts;
    connections: ShardConnections;
    commandTimeoutMs: number;
    onClose: () => void;
  }) {
    this.shard = settings.shard;
    this.#keys = shardKeys(settings.ns, settings.shard);
    this.#scripts = settings.scripts;
    this.#connections = settings.connections;
    this.#commandTimeoutMs = settings.commandTimeoutMs;
    this.#onClose = settings.onClose;
  }

  async owner(): Promise<Owner> {
    const connection = this.#connections.lease();
    const during = this.#during("owner");
    const fields = ["node", "epoch", "n", "lease_end", "clean", "inbox_bytes", "dead_count", "dead_bytes", "unclean"];
    const [time, stored] = await Promise.all([
      connection.send("time", [], during),
      connection.send("hmget", [this.#keys.owner, ...fields], during),
    ]);
    const [node, epoch, n, leaseEnd, clean, inboxBytes, deadCount, deadBytes, unclean] = texts(stored, during);
    const nowMs = timeMs(time, during);
    return {
      node: node ?? null,
      epoch: Number(epoch ?? 0),
      n: Number(n ?? 0),
      leaseRemainingMs: Math.max(0, Number(leaseEnd ?? 0) - nowMs),
      clean: epoch === null || clean === "1",
      inboxBytes: Number(inboxBytes ?? 0),
      deadLetters: { count: Number(deadCount ?? 0), bytes: Number(deadBytes ?? 0) },
      uncleanEnds: Number(unclean ?? 0),
    };
  }

  async acquire(request: AcquireRequest): Promise<AcquireReply> {
    return await this.#scripts.acquire(this.#connections.lease(), this.#keys, request);
  }

  async renew(request: { epoch: number; leaseMs: number }): Promise<RenewReply> {
    return await this.#scripts.renew(this.#connections.lease(), this.#keys, request);
  }

  async release(request: { epoch: number; clean: boolean }): Promise<ReleaseReply> {
    return await this.#scripts.release(this.#connections.lease(), this.#keys, request);
  }

  async append(entry: Uint8Array, inboxBytesMax: number, options: AppendOptions = {}): Promise<AppendReply> {
    checkAppendOptions(options);
    return await this.#scripts.append(this.#connections.append(), this.#keys, entry, inboxBytesMax, options);
  }

  async commit(commit: Commit): Promise<CommitReply> {
    checkCommit(commit);
    if (this.#isClosed) throw closedError(this.#during("commit"));
    this.#commits ??= this.#connections.open("commit");
    return await this.#scripts.commit(this.#commits, this.#keys, commit);
  }

  /** One blocked read at a time: a second one waits behind the first. */
  async readInbox(request: { after: EntryId; count: number; blockMs: number }): Promise<StoredEntry[]> {
    const during = this.#during("readInbox");
    if (request.blockMs <= 0) return await this.#readStream(this.#keys.inbox, request, during);
    if (this.#isClosed) throw closedError(during);
    this.#reader ??= this.#connections.open("reader");
    try {
      const reply = await this.#reader.send(
        "xread",
        ["COUNT", request.count, "BLOCK", request.blockMs, "STREAMS", this.#keys.inbox, formatEntryId(request.after)],
        during,
        request.blockMs + this.#commandTimeoutMs,
      );
      return reply === null ? [] : decodeEntries(streamOf(reply, during), during);
    } catch (error) {
      if (this.#isClosed) return []; // ended by close
      throw error;
    }
  }

  readOutbox(request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    return this.#readStream(this.#keys.outbox, request, this.#during("readOutbox"));
  }

  readTranscript(key: ConversationKey, request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    return this.#readStream(this.#keys.transcript(key), request, this.#during("readTranscript"));
  }

  readDeadLetters(request: { after: EntryId; count: number }): Promise<StoredEntry[]> {
    return this.#readStream(this.#keys.dead, request, this.#during("readDeadLetters"));
  }

  async load(keys: readonly ConversationKey[]): Promise<StoredConversation[]> {
    const chunks: Promise<StoredConversation[]>[] = [];
    for (let from = 0; from < keys.length; from += LOAD_CHUNK) {
      chunks.push(this.#loadChunk(keys.slice(from, from + LOAD_CHUNK)));
    }
    return (await Promise.all(chunks)).flat();
  }

  async readAcks(): Promise<{ entry: EntryId; done: Uint8Array }[]> {
    const fields = await this.#readHash(this.#keys.acks, this.#during("readAcks"));
    return fields.map(([id, done]) => ({ entry: parseEntryId(id), done }));
  }

  async readLane(key: ConversationKey): Promise<Uint8Array | null> {
    const during = this.#during("readLane");
    return copyOrNull(await this.#connections.query().send("hget", [this.#keys.lanes, key], during), during);
  }

  async readLanes(): Promise<{ key: ConversationKey; state: Uint8Array }[]> {
    const fields = await this.#readHash(this.#keys.lanes, this.#during("readLanes"));
    return fields.map(([key, state]) => ({ key: key as ConversationKey, state }));
  }

  readWaiting(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]> {
    return this.#readList(this.#keys.waiting(key), request, this.#during("readWaiting"));
  }

  readLaneList(key: ConversationKey, request: { after: number; count: number }): Promise<WaitingEntry[]> {
    return this.#readList(this.#keys.laneList(key), request, this.#during("readLaneList"));
  }

  async #readList(
    key: string,
    { after, count }: { after: number; count: number },
    during: string,
  ): Promise<WaitingEntry[]> {
    const entries = await this.#readStream(key, { after: { ms: after, seq: 0 }, count }, during);
    return entries.map(({ id, bytes }) => ({ id: id.ms, bytes }));
  }

  async scanLanes(request: { cursor: string; count: number }): ReturnType<ShardStore["scanLanes"]> {
    const { cursor, fields } = await this.#scanHash(this.#keys.lanes, request, this.#during("scanLanes"));
    return { cursor, found: fields.map(([key, state]) => ({ key: key as ConversationKey, state })) };
  }

  async readOpen(request: { cursor: string; count: number }): ReturnType<ShardStore["readOpen"]> {
    const { cursor, fields } = await this.#scanHash(this.#keys.open, request, this.#during("readOpen"));
    return { cursor, found: fields.map(([key, value]) => ({ key: key as ConversationKey, value })) };
  }

  async readTimers({ count }: { count: number }): ReturnType<ShardStore["readTimers"]> {
    const connection = this.#connections.query();
    const during = this.#during("readTimers");
    const [time, flat] = await Promise.all([
      connection.send("time", [], during),
      connection.send("zrange", [this.#keys.timers, 0, count, "WITHSCORES"], during), // both ends are in: one more
    ]);
    const nowMs = timeMs(time, during);
    const first = pairs(flat, during).map(([member, score]) => storedTimer(member, Number(score), during));
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
    return await this.#scripts.moveTimers(this.#connections.append(), this.#keys, request);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const connection of [this.#commits, this.#reader]) if (connection) this.#connections.shut(connection);
    this.#onClose();
  }

  async #loadChunk(keys: readonly ConversationKey[]): Promise<StoredConversation[]> {
    const during = this.#during("load");
    const wanted = keys.flatMap((key) => [this.#keys.record(key), this.#keys.ids(key)]);
    const values = array(await this.#connections.query().send("mget", wanted, during), during);
    return keys.map((_, i) => ({
      record: copyOrNull(values[2 * i], during),
      ids: copyOrNull(values[2 * i + 1], during),
    }));
  }

  async #readStream(
    stream: string,
    request: { after: EntryId; count: number },
    during: string,
  ): Promise<StoredEntry[]> {
    const from = `(${formatEntryId(request.after)}`;
    const reply = await this.#connections.query().send("xrange", [stream, from, "+", "COUNT", request.count], during);
    return decodeEntries(reply, during);
  }

  async #readHash(key: string, during: string): Promise<[field: string, value: Uint8Array][]> {
    return pairs(await this.#connections.query().send("HGETALL", [key], during), during); // upper case: no ioredis map
  }

  async #scanHash(
    key: string,
    { cursor, count }: { readonly cursor: string; readonly count: number },
    during: string,
  ): Promise<{ cursor: string; fields: [field: string, value: Uint8Array][] }> {
    const reply = await this.#connections.query().send("hscan", [key, cursor, "COUNT", count], during);
    const [next, flat] = array(reply, during);
    return { cursor: bytes(next, during).toString("latin1"), fields: pairs(flat, during) };
  }

  #during(what: string): string {
    return `${what}, shard-${shardTag(this.shard)}`;
  }
}

/** Reply of XREAD for one stream: `[[name, entries]]`. */
function streamOf(reply: unknown, during: string): unknown {
  return array(array(reply, during)[0], during)[1];
}

/** `[[id, [field, bytes]], ...]`; our entries have one field. */
function decodeEntries(reply: unknown, during: string): StoredEntry[] {
  return array(reply, during).map((entry) => {
    const [id, fields] = array(entry, during);
    return { id: parseEntryId(bytes(id, during).toString("latin1")), bytes: bytes(array(fields, during)[1], during) };
  });
}

function array(value: unknown, during: string): unknown[] {
  if (!Array.isArray(value)) throw unexpectedReply(during);
  return value;
}

function bytes(value: unknown, during: string): Buffer {
  if (!Buffer.isBuffer(value)) throw unexpectedReply(during);
  return value;
}

/** `[name, value, ...]`. */
function pairs(value: unknown, during: string): [name: string, value: Buffer][] {
  const flat = array(value, during);
  const found: [string, Buffer][] = [];
  for (let i = 0; i < flat.length; i += 2) {
    found.push([bytes(flat[i], during).toString("utf8"), bytes(flat[i + 1], during)]);
  }
  return found;
}

function storedTimer(member: string, atMs: number, during: string): StoredTimer {
  try {
    return { ...parseTimerMember(member), atMs };
  } catch {
    throw unexpectedReply(during);
  }
}

/** Reply of TIME: `[seconds, microseconds]`. */
function timeMs(reply: unknown, during: string): number {
  const [seconds, micros] = texts(reply, during);
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** A copy: what is decoded from it stays resident, and a slice would pin the whole chunk that came from the socket. */
function copyOrNull(value: unknown, during: string): Uint8Array | null {
  return value === null || value === undefined ? null : Buffer.from(bytes(value, during));
}

function texts(value: unknown, during: string): (string | null)[] {
  return array(value, during).map((item) => (item === null ? null : bytes(item, during).toString("utf8")));
}
