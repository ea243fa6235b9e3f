// Scripts: loads the .lua files beside it, types their arguments and decodes their replies. The contract of each stands in its
// header; what is said here and there is tested as one by the conformance suite.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ConversationKey } from "../domain/ids.ts";
import { type EntryId, formatEntryId, parseEntryId } from "../domain/position.ts";
import { type ShardKeys, timerMember } from "./keys.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { encodeRequest, type PackItem, type RequestArgument } from "./request.ts";
import type {
  AcquireReply,
  AcquireRequest,
  AppendOptions,
  AppendReply,
  Commit,
  CommitReply,
  LaneListWrite,
  MoveTimersReply,
  NamespaceMeta,
  ReleaseReply,
  RenewReply,
  TimerName,
} from "./shard-store.ts";
import { toStoreError, unexpectedReply } from "./store-error.ts";

interface Script {
  readonly name: string;
  readonly text: string;
  readonly sha: string;
}

const NAMES = ["acquire", "renew", "release", "append", "commit", "move-timers", "open-namespace"] as const;
type ScriptName = (typeof NAMES)[number];

const KEEP = 0;
const IDS_CHANGE = { append: 1, rewrite: 2 } as const;
const NO_BYTES = new Uint8Array(0);

export class Scripts {
  readonly #scripts: Readonly<Record<ScriptName, Script>>;

  /** @throws Error if a .lua file is not where the build puts it, beside this module */
  constructor() {
    this.#scripts = Object.fromEntries(NAMES.map((name) => [name, readScript(name)])) as Record<ScriptName, Script>;
  }

  async acquire(connection: RedisConnection, keys: ShardKeys, request: AcquireRequest): Promise<AcquireReply> {
    const reply = await this.#run(
      connection,
      "acquire",
      [keys.owner, keys.inbox, keys.outbox],
      [request.node, request.observedEpoch, request.leaseMs, request.incarnation ?? ""],
    );
    switch (reply.word) {
      case "acquired":
        return {
          kind: "acquired",
          epoch: reply.int(1),
          wasClean: reply.int(2) === 1,
          inboxBytes: reply.int(3),
          uncleanEnds: reply.int(4),
          inboxLast: reply.entryId(5),
        };
      case "held":
        return { kind: "held", node: reply.text(1), leaseRemainingMs: reply.int(2) };
      case "changed":
        return { kind: "changed", epoch: reply.int(1) };
      case "rewound": {
        const stream = reply.text(1) === "inbox" ? "inbox" : "outbox";
        return { kind: "rewound", stream, lastId: reply.text(2), highestSeen: reply.text(3) };
      }
      default:
        throw reply.unexpected();
    }
  }

  async renew(
    connection: RedisConnection,
    keys: ShardKeys,
    request: { epoch: number; leaseMs: number },
  ): Promise<RenewReply> {
    const reply = await this.#run(connection, "renew", [keys.owner], [request.epoch, request.leaseMs]);
    if (reply.word === "renewed") return { kind: "renewed" };
    if (reply.word === "fenced") return { kind: "fenced", epoch: reply.int(1) };
    throw reply.unexpected();
  }

  async release(
    connection: RedisConnection,
    keys: ShardKeys,
    request: { epoch: number; clean: boolean },
  ): Promise<ReleaseReply> {
    const reply = await this.#run(connection, "release", [keys.owner], [request.epoch, request.clean ? 1 : 0]);
    if (reply.word === "released") return { kind: "released" };
    if (reply.word === "fenced") return { kind: "fenced", epoch: reply.int(1) };
    throw reply.unexpected();
  }

  async append(
    connection: RedisConnection,
    keys: ShardKeys,
    batch: Uint8Array,
    inboxBytesMax: number,
    { conversations = [], from }: AppendOptions = {},
  ): Promise<AppendReply> {
    const asked = conversations.length === 0 ? NO_BYTES : { pack: conversations };
    const reply = await this.#run(
      connection,
      "append",
      [keys.owner, keys.inbox, keys.full, ...(from ? [keys.from] : [])],
      [batch, inboxBytesMax, asked, ...(from ? [from.shard, formatEntryId(from.place)] : [])],
    );
    switch (reply.word) {
      case "appended":
        return { kind: "appended", id: reply.entryId(1), inboxBytes: reply.int(2), full: reply.int(3) };
      case "over":
        return { kind: "over", inboxBytes: reply.int(1) };
      case "full":
        return { kind: "full", conversations: reply.texts(1) as ConversationKey[] };
      case "taken":
        return { kind: "taken" };
      default:
        throw reply.unexpected();
    }
  }

  async moveTimers(
    connection: RedisConnection,
    keys: ShardKeys,
    request: { epoch: number; timers: readonly TimerName[]; entry: Uint8Array },
  ): Promise<MoveTimersReply> {
    const args = [request.epoch, { pack: request.timers.map(timerMember) }, request.entry];
    const reply = await this.#run(connection, "move-timers", [keys.owner, keys.inbox, keys.timers], args);
    if (reply.word === "moved") return { kind: "moved", id: reply.text(1) === "" ? null : reply.entryId(1) };
    if (reply.word === "fenced") return { kind: "fenced", epoch: reply.int(1) };
    throw reply.unexpected();
  }

  async commit(connection: RedisConnection, keys: ShardKeys, commit: Commit): Promise<CommitReply> {
    const call = encodeCommit(keys, commit);
    const reply = await this.#run(connection, "commit", call.keys, call.args);
    switch (reply.word) {
      case "applied":
        return { kind: "applied", n: reply.int(1), outboxId: reply.text(2) === "" ? null : reply.entryId(2) };
      case "fenced":
        return { kind: "fenced", epoch: reply.int(1) };
      case "rewound":
        return { kind: "rewound", n: reply.int(1) };
      default:
        throw reply.unexpected();
    }
  }

  async openNamespace(
    connection: RedisConnection,
    metaKey: string,
    wanted: { shards: number; schemaVersion: number; hashKey: Uint8Array },
  ): Promise<NamespaceMeta> {
    const args = [wanted.shards, wanted.schemaVersion, wanted.hashKey];
    const reply = await this.#run(connection, "open-namespace", [metaKey], args);
    if (reply.word !== "created" && reply.word !== "found") throw reply.unexpected();
    return { shards: reply.int(1), schemaVersion: reply.int(2), hashKey: Uint8Array.from(reply.bytes(3)) };
  }

  /** EVALSHA; where Redis does not know the script (new, flushed, restarted): load it, then once more. */
  async #run(
    connection: RedisConnection,
    name: ScriptName,
    keys: readonly string[],
    args: readonly RequestArgument[],
  ): Promise<ScriptReply> {
    const { sha, text } = this.#scripts[name];
    const request = encodeRequest(["evalsha", sha, keys.length, ...keys, ...args]);
    const during = `${name}, ${connection.name}`;
    try {
      return new ScriptReply(await connection.sendRequest("evalsha", request), during);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw toStoreError(error, during);
    }
    await connection.send("script", ["load", text], during);
    try {
      return new ScriptReply(await connection.sendRequest("evalsha", request), during);
    } catch (error) {
      throw toStoreError(error, during);
    }
  }
}

/** An array whose first item is the word. */
class ScriptReply {
  readonly word: string;
  readonly #items: readonly unknown[];
  readonly #during: string;

  constructor(reply: unknown, during: string) {
    this.#during = during;
    if (!Array.isArray(reply)) throw this.unexpected();
    this.#items = reply;
    this.word = this.text(0);
  }

  int(index: number): number {
    const item = this.#items[index];
    if (typeof item !== "number") throw this.unexpected();
    return item;
  }

  bytes(index: number): Buffer {
    const item = this.#items[index];
    if (!Buffer.isBuffer(item)) throw this.unexpected();
    return item;
  }

  text(index: number): string {
    return this.bytes(index).toString("utf8");
  }

  texts(index: number): string[] {
    const item = this.#items[index];
    if (!Array.isArray(item) || !item.every(Buffer.isBuffer)) throw this.unexpected();
    return item.map((each) => each.toString("utf8"));
  }

  entryId(index: number): EntryId {
    return parseEntryId(this.text(index));
  }

  unexpected(): Error {
    return unexpectedReply(this.#during);
  }
}

function encodeCommit(keys: ShardKeys, commit: Commit): ScriptCall {
  const recordKeys = [keys.owner, keys.inbox, keys.outbox, keys.acks, keys.lanes, keys.dead];
  const idsKeys: string[] = [];
  const transcriptKeys: string[] = [];
  const records: PackItem[] = [];
  const ids: PackItem[] = [];
  const lines: PackItem[] = [];
  for (const { key, record, ids: change, idsTtlMs, transcript } of commit.conversations) {
    recordKeys.push(keys.record(key));
    records.push(record);
    if (change !== null || idsTtlMs !== null) {
      idsKeys.push(keys.ids(key));
      ids.push(change?.bytes ?? NO_BYTES, change === null ? KEEP : IDS_CHANGE[change.kind], idsTtlMs ?? 0);
    }
    if (transcript.length > 0) {
      transcriptKeys.push(keys.transcript(key));
      lines.push(transcript.length, ...transcript);
    }
  }
  const aside = hasAside(commit) ? encodeAside(keys, commit) : NO_ASIDE;
  return {
    keys: recordKeys.concat(idsKeys, transcriptKeys, aside.keys),
    args: [
      commit.epoch,
      commit.n,
      commit.leaseMs,
      { pack: records },
      { pack: ids },
      commit.outbox ?? NO_BYTES,
      { pack: commit.inboxDone.map(formatEntryId) },
      commit.inboxDoneBytes,
      { pack: commit.outboxDone.map(formatEntryId) },
      { pack: commit.acks.flatMap(({ entry, done }) => [formatEntryId(entry), done]) },
      { pack: commit.lanes.flatMap(({ key, state }) => [key, state ?? false]) },
      { pack: lines },
      { pack: commit.dead },
      commit.transcript.linesMax,
      commit.transcript.bytesMax,
      commit.transcript.ttlMs,
      ...aside.args,
    ],
  };
}

interface ScriptCall {
  readonly keys: readonly string[];
  readonly args: readonly RequestArgument[];
}

/** Most commits move nothing aside, and pay nothing for it. */
const NO_ASIDE: ScriptCall = { keys: [], args: [] };

const hasAside = ({ conversations, deadDone, inboxAdd, headsThrough, laneLists }: Commit): boolean =>
  (deadDone !== undefined && deadDone.length > 0) ||
  (laneLists !== undefined && laneLists.length > 0) ||
  inboxAdd !== undefined ||
  headsThrough === true ||
  conversations.some(({ aside }) => aside !== undefined);

/** ARGV[17] on, and their keys. */
function encodeAside(keys: ShardKeys, commit: Commit): ScriptCall {
  const listKeys: string[] = [];
  const lists: PackItem[] = [];
  const addList = (key: string, joining: LaneListWrite["joining"], leaving: LaneListWrite["leaving"]): void => {
    if (joining.length === 0 && leaving.length === 0) return;
    listKeys.push(key);
    lists.push(joining.length);
    for (const { id, bytes } of joining) lists.push(id, bytes);
    lists.push(leaving.length, ...leaving);
  };
  const open: PackItem[] = [];
  const timers: PackItem[] = [];
  const full: PackItem[] = [];
  for (const { key, aside } of commit.conversations) {
    if (aside === undefined) continue;
    addList(keys.waiting(key), aside.waiting, aside.waitingDone);
    if (aside.open !== undefined) open.push(key, aside.open ?? false);
    for (const { name, generation, atMs } of aside.timers) {
      timers.push(timerMember({ key, name, generation }), atMs ?? false);
    }
    if (aside.full !== undefined) full.push(key, aside.full ? 1 : 0);
  }
  for (const { key, joining, leaving } of commit.laneLists ?? []) addList(keys.laneList(key), joining, leaving);
  return {
    keys: [keys.open, keys.full, keys.timers, ...listKeys],
    args: [
      { pack: lists },
      { pack: open },
      { pack: timers },
      { pack: full },
      { pack: (commit.deadDone ?? []).map(formatEntryId) },
      commit.inboxAdd ?? NO_BYTES,
      commit.headsThrough === true ? 1 : 0,
    ],
  };
}

function readScript(name: ScriptName): Script {
  const text = readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), "utf8");
  return { name, text, sha: createHash("sha1").update(text).digest("hex") };
}
