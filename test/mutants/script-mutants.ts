// Mutants of the Lua scripts: one line of one script is another, on a real Redis. The memory store is the model: random calls on
// both must show a difference. What the model has not (foreign types in a key, a limit of memory, the fields of the namespace's meta)
// has a check of its own.

import { Redis } from "ioredis";
import { conversationKey } from "../../src/domain/ids.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { metaKey, shardKeys } from "../../src/store/keys.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Commit } from "../../src/store/shard-store.ts";
import { memoryBackDoors, redisBackDoors } from "../store/back-doors.ts";
import { compare, Difference, EVERY_SCRIPT, program, Side } from "../store/differential.ts";
import { type Patch, PatchedStore } from "./patched-scripts.ts";

/**
 * What notices it: the fuzz against the model, a refused commit that wrote, a Redis at its limit of memory that takes or refuses the
 * wrong things, or a namespace that is not what it was.
 */
export type Check = "fuzz" | "refusal" | "memory" | "namespace";

export interface ScriptMutant {
  /** What the script does not do any more, or does instead. */
  readonly name: string;
  readonly breaks: string;
  readonly check: Check;
  readonly patch: Patch;
}

/** What one came to. */
export interface ScriptFinding {
  /** First seed of the fuzz, or 1 if its own check found it; null if it survived. */
  readonly seed: number | null;
  readonly detail: string;
  /** Seeds at which the shipped scripts differ from the model. */
  readonly twinFailed: readonly number[];
}

export const SCRIPT_SEEDS_MAX = 40;
const CALLS = 250;
const NOT_FOUND: Omit<ScriptFinding, "twinFailed"> = { seed: null, detail: "" };

const mutant = (
  script: Patch["script"],
  name: string,
  breaks: string,
  [from, to]: readonly [from: string, to: string],
  check: Check = "fuzz",
): ScriptMutant => ({ name, breaks, check, patch: { script, from, to } });

const gone = (line: string): readonly [string, string] => [line, ""];

export const scriptMutants: readonly ScriptMutant[] = [
  mutant(
    "commit",
    "an epoch that is over still commits",
    "P6, S2",
    gone("if stored_epoch > epoch then return {'fenced', stored_epoch} end"),
  ),
  mutant(
    "commit",
    "an epoch that was never given commits",
    "P6, R2",
    gone("if stored_epoch < epoch then return {'rewound', stored_n} end"),
  ),
  mutant(
    "commit",
    "the same bytes again are applied again",
    "P4, S1",
    gone("if stored_n == n then return {'applied', n, stored[3] or ''} end"),
  ),
  mutant(
    "commit",
    "a number that was passed over is applied",
    "R2",
    gone("if stored_n < n - 1 then return {'rewound', stored_n} end"),
  ),
  mutant("commit", "a number from long ago is applied", "S1, R2", ["if stored_n > n then", "if false then"]),
  mutant("commit", "the number is not kept", "S1", ["{'n', ARGV[2], 'clean', '0'}", "{'clean', '0'}"]),
  mutant("commit", "a replay does not know its outbox entry", "P4, S1", gone("set_owner('outbox_id', outbox_id)")),
  mutant("commit", "records are not written", "P5", gone("call_in_chunks(pairs_to_set, 'MSET')")),
  mutant("commit", "the last record is left out", "P5, S1", [
    "for i = 1, record_count do",
    "for i = 1, record_count - 1 do",
  ]),
  mutant("commit", "ids replace those before", "B3, P2", [
    "call('APPEND', key, ids[3 * i - 2])",
    "call('SET', key, ids[3 * i - 2], 'KEEPTTL')",
  ]),
  mutant("commit", "rewritten ids live for ever", "P7", [", 'KEEPTTL')", ")"]),
  mutant("commit", "ids get no life", "P7", gone("if ttl_ms > 0 then call('PEXPIRE', key, ttl_ms) end")),
  mutant("commit", "replies are not written", "P4", [
    "outbox_id = call('XADD', outbox, '*', 'b', outbox_entry)",
    "outbox_id = '1-1'",
  ]),
  mutant("commit", "inbox entries that are done stay", "P7", ["call_in_chunks(inbox_done, 'XDEL', inbox)", ""]),
  mutant("commit", "the inbox's bytes are not counted down", "P7", ["inbox_bytes - inbox_done_bytes", "inbox_bytes"]),
  mutant("commit", "acknowledgements are not written", "P4", gone("call_in_chunks(ack_list, 'HSET', acks)")),
  mutant("commit", "outbox entries that are done stay", "P4, P7", gone("call_in_chunks(outbox_done, 'XDEL', outbox)")),
  mutant("commit", "acknowledgements outlive their entry", "P7", gone("call_in_chunks(outbox_done, 'HDEL', acks)")),
  mutant("commit", "a lane's state is never removed", "A1, P7", gone("call('HDEL', lanes, lane_list[i])")),
  mutant("commit", "dead letters are not written", "P1", gone("call('XADD', dead, '*', 'b', dead_letters[i])")),
  mutant(
    "commit",
    "dead letters are not counted",
    "B17, P7",
    gone("set_owner('dead_count', integer(math.max(0, dead_count)))"),
  ),
  mutant("commit", "transcripts keep a line too many", "P7", [
    "'MAXLEN', '=', lines_max,",
    "'MAXLEN', '=', lines_max + 1,",
  ]),
  mutant(
    "commit",
    "transcripts are not cut to their bytes",
    "P7",
    gone("if has_large_line then cut_to_bytes(transcript) end"),
  ),
  mutant("commit", "a commit does not renew the lease", "H11, K1", ["integer(now_ms + lease_ms)", "integer(now_ms)"]),
  mutant("commit", "a shard stays clean", "P6: what the next owner believes", ["'clean', '0'}", "}"]),
  mutant("commit", "an outbox behind what was seen is written to", "H10", [
    "#outbox_entry > 0 and highest_ms > now_ms and",
    "false and",
  ]),
  mutant(
    "commit",
    "keys of a foreign type are found while writing",
    "H6, S1",
    ["if foreign then", "if false then"],
    "refusal",
  ),
  mutant(
    "commit",
    "ids of a foreign type are found while writing",
    "H6, S1",
    ["if ids[3 * i - 1] == APPEND then call('STRLEN', KEYS[first_ids + i]) end", ""],
    "refusal",
  ),
  mutant(
    "commit",
    "an id that a list gave out is found while writing",
    "R1, S1",
    gone(
      "if has_used_id then return redis.error_reply('CORRUPT a waiting list gave out an id before that joins it now') end",
    ),
  ),
  mutant(
    "commit",
    "a waiting list outlives its last entry",
    "P7, R1",
    gone("if #ids > 0 and call('XLEN', list) == 0 then call('DEL', list) end"),
  ),
  mutant("commit", "what was decided stays on the waiting list", "P2, R1", gone("call_in_chunks(ids, 'XDEL', list)")),
  mutant("commit", "a message that has to wait is let go", "P1, R1", [
    "for joining = at + 1, leaving - 1, 2 do",
    "for joining = at + 3, leaving - 1, 2 do",
  ]),
  mutant("commit", "a list is written under the key of another", "P1, P3, R1", [
    "local list, leaving, next_list = KEYS[first_list + i], ends_of_list(at)",
    "local list, leaving, next_list = KEYS[first_list + list_count + 1 - i], ends_of_list(at)",
  ]),
  mutant("commit", "of the lists of a commit the last is left out", "P1, R1", [
    "for i = 1, list_count do",
    "for i = 1, list_count > 1 and list_count - 1 or list_count do",
  ]),
  mutant("commit", "what leaves a list takes what stands behind it along", "P1, R1", [
    "ids[#ids + 1] = integer(waiting_lists[id]) .. '-0'",
    "ids[#ids + 1] = integer(waiting_lists[id]) .. '-0' ids[#ids + 1] = integer(waiting_lists[id] + 1) .. '-0'",
  ]),
  mutant("commit", "what joins a list stands under another id", "P2, R1", [
    "integer(waiting_lists[joining]) .. '-0', 'b'",
    "integer(waiting_lists[joining]) .. '-1', 'b'",
  ]),
  mutant("commit", "a mark is not made where replies leave for a list", "P4, R1: in the outbox and on the list", [
    "call_in_chunks(ack_list, 'HSET', acks)",
    "if list_count == 0 then call_in_chunks(ack_list, 'HSET', acks) end",
  ]),
  mutant("commit", "an outbox entry stays where replies leave for a list", "P4, R1: in the outbox and on the list", [
    "call_in_chunks(outbox_done, 'XDEL', outbox)",
    "if list_count == 0 then call_in_chunks(outbox_done, 'XDEL', outbox) end",
  ]),
  mutant("commit", "the index of the unfinished forgets nothing", "P7, R1", gone("call('HDEL', open, open_list[i])")),
  mutant("commit", "a timer that was taken back comes due", "B10, R3", gone("call('ZREM', timers, timer_list[i])")),
  mutant("commit", "a timer keeps its first time", "B10", ["call('ZADD', timers,", "call('ZADD', timers, 'NX',"]),
  mutant("commit", "who was full once stays full", "P7, B1", ["full_list[i + 1] == 1 and 'SADD' or 'SREM'", "'SADD'"]),
  mutant("commit", "a send within the shard is let go", "P1, B9", [
    "set_owner('inbox_last', call('XADD', inbox, '*', 'b', inbox_entry))",
    "",
  ]),
  mutant("commit", "sends within the shard leave the highest id as it was", "H10", [
    "set_owner('inbox_last', call('XADD', inbox, '*', 'b', inbox_entry))",
    "call('XADD', inbox, '*', 'b', inbox_entry)",
  ]),
  mutant("commit", "sends within the shard are not counted", "P7", gone("inbox_bytes = inbox_bytes + #inbox_entry")),
  mutant("commit", "an inbox behind what was seen is sent to", "H10", ["inbox_highest_ms > now_ms and", "false and"]),
  mutant("commit", "a redriven dead letter stays", "P2, B17", gone("call('XDEL', dead, dead_done[i])")),
  mutant(
    "commit",
    "redriven dead letters are counted on",
    "B17, P7",
    gone("dead_count, dead_bytes = dead_count - 1, dead_bytes - #letter[2][2]"),
  ),
  mutant(
    "commit",
    "heads that are through leave the unclean ends counted",
    "H2",
    gone("if heads_are_through then set_owner('unclean', '0') end"),
  ),
  ...(["open", "full", "timers"] as const).map((name) =>
    mutant(
      "commit",
      `a foreign type in ${name} is found while writing`,
      "H6, S1",
      [`then foreign = '${name}' end`, "then end"],
      "refusal",
    ),
  ),
  mutant(
    "commit",
    "a foreign type in a waiting list is found while writing",
    "H6, S1",
    ["  if not holds(list, 'stream') then\n    foreign = 'waiting list'\n  elseif", "  if holds(list, 'stream') and"],
    "refusal",
  ),
  mutant("acquire", "an unclean end is not counted", "H2", gone("unclean_ends = unclean_ends + 1")),
  mutant("acquire", "a process that acquires again has ended", "H2", gone(" and not is_same_process")),
  mutant("acquire", "a drain is an unclean end", "H2", ["if was_clean == 0 and not", "if not"]),
  mutant("acquire", "unclean ends are not kept", "H2", [", 'unclean', integer(unclean_ends))", ")"]),
  mutant("acquire", "the process is not kept", "H2", ["'incarnation', incarnation, ", ""]),
  mutant("acquire", "nothing was pending", "H2", ["unclean_ends, last_id.inbox}", "unclean_ends, '0-0'}"]),
  mutant("acquire", "the lease of another is not respected", "K2, H4", ["lease_end > now_ms then", "false then"]),
  mutant(
    "acquire",
    "the observed epoch is not looked at",
    "P6, R2",
    gone("if epoch ~= observed_epoch then return {'changed', epoch} end"),
  ),
  mutant("acquire", "the epoch is not raised", "P6", ["integer(epoch + 1), 'n'", "integer(epoch), 'n'"]),
  mutant("acquire", "numbers go on from the last owner's", "S1", ["'n', '0', ", ""]),
  mutant("acquire", "a stream behind what was seen is taken", "H10", [
    "if is_below(last_id[name], highest_seen[name]) then",
    "if false then",
  ]),
  mutant("acquire", "the inbox is counted up to its first page", "P7", [
    "if #page < PAGE then return sum end",
    "do return sum end",
  ]),
  mutant("acquire", "a crash counts as a drain", "P6: what the next owner believes", [
    "stored[6] == '1') and 1 or 0",
    "true) and 1 or 0",
  ]),
  mutant(
    "renew",
    "an epoch that is over renews",
    "P6, S2",
    gone("if stored_epoch ~= epoch then return {'fenced', stored_epoch} end"),
  ),
  mutant("renew", "a renewal lengthens nothing", "K1", ["now_ms + lease_ms", "now_ms"]),
  mutant(
    "release",
    "an epoch that is over releases",
    "P6, S2",
    gone("if stored_epoch ~= epoch then return {'fenced', stored_epoch} end"),
  ),
  mutant("release", "a release keeps the lease", "H4", ["'lease_end', '0', ", ""]),
  mutant("release", "every release counts as a drain", "P6: what the next owner believes", [
    "'clean', clean)",
    "'clean', '1')",
  ]),
  mutant("append", "the inbox has no bound", "P7", ["if inbox_bytes_after > inbox_bytes_max then", "if false then"]),
  mutant("append", "the inbox's bytes are not counted", "P7", [
    "'inbox_bytes', string.format('%.0f', inbox_bytes_after), 'inbox_last'",
    "'inbox_last'",
  ]),
  mutant("append", "the highest id is not kept", "H10", [", 'inbox_last', id)", ")"]),
  mutant("append", "an inbox behind what was seen is written to", "H10", [
    "if highest_ms > now_ms and",
    "if false and",
  ]),
  mutant(
    "append",
    "sends that were taken are taken again",
    "B9, P2",
    gone("if last and not is_above(place, last) then return {'taken'} end"),
  ),
  mutant(
    "append",
    "the place of sends is not kept",
    "B9, P2",
    gone("if source then call('HSET', taken_from, source, place) end"),
  ),
  mutant(
    "append",
    "of the sends of one millisecond the first is taken",
    "B9, P1",
    gone(" or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))"),
  ),
  mutant("append", "nobody is full", "P7, B1", gone("if #named > 0 then return {'full', named} end")),
  mutant("append", "who is full is asked after the write", "B1, P2", [
    "if full_count > 0 and #ARGV[3] > 0 then",
    "if full_count > 0 and #ARGV[3] > 0 then call('XADD', inbox, '*', 'b', batch)",
  ]),
  mutant("append", "it is not told how many are full", "P7", [
    "inbox_bytes_after, full_count}",
    "inbox_bytes_after, 0}",
  ]),
  mutant(
    "move-timers",
    "an epoch that is over moves timers",
    "P6, S2",
    gone("if stored_epoch ~= epoch then return {'fenced', stored_epoch} end"),
  ),
  mutant("move-timers", "what is due is let go", "P1, B10", ["call('XADD', inbox, '*', 'b', entry)", "'1-1'"]),
  mutant(
    "move-timers",
    "what is due stays due",
    "B10, P7",
    gone("call('ZREM', timers, unpack(members, from, math.min(from + UNPACK_MAX - 1, #members)))"),
  ),
  mutant(
    "move-timers",
    "a repeat is a second entry",
    "B10",
    gone("if not is_any_there() then return {'moved', ''} end"),
  ),
  mutant("move-timers", "the inbox's bytes are not counted", "P7", [
    "tonumber(stored[2] or 0) + #entry)",
    "tonumber(stored[2] or 0))",
  ]),
  mutant("move-timers", "the highest id is not kept", "H10", [", 'inbox_last', id)", ")"]),
  mutant("move-timers", "an inbox behind what was seen is written to", "H10", [
    "if highest_ms > now_ms and",
    "if false and",
  ]),
  mutant("move-timers", "no timer moves at maxmemory", "B15, P7", ["#!lua flags=allow-oom", "#!lua"], "memory"),
  mutant("commit", "nothing is committed at maxmemory", "B15, P7", ["#!lua flags=allow-oom", "#!lua"], "memory"),
  mutant("acquire", "no shard is taken over at maxmemory", "B15, P7", ["#!lua flags=allow-oom", "#!lua"], "memory"),
  mutant("append", "everything is appended at maxmemory", "B15, P7", ["#!lua\n", "#!lua flags=allow-oom\n"], "memory"),
  mutant(
    "open-namespace",
    "the last who opens it makes it",
    "P2: another hash key, another shard count",
    ["if stored[1] and stored[2] and stored[3] then", "if false then"],
    "namespace",
  ),
  mutant(
    "open-namespace",
    "a meta without its hash key is completed",
    "P2: a new hash key beside old ids",
    gone(
      "if stored[1] or stored[2] or stored[3] then return redis.error_reply('CORRUPT the meta hash lacks a field') end",
    ),
    "namespace",
  ),
];

/** One server, and the shards on it that are taken for one check each. */
export class ScriptHunt {
  readonly #path: string;
  readonly #raw: Redis;
  #stores = 0;
  /** By seed: how the shipped scripts differ from the model. */
  readonly #twins = new Map<number, Promise<string | null>>();

  /** @param path of the server's socket */
  constructor(path: string) {
    this.#path = path;
    this.#raw = new Redis({ path });
  }

  close(): void {
    this.#raw.disconnect();
  }

  async hunt(mutant: ScriptMutant): Promise<ScriptFinding> {
    if (mutant.check === "fuzz") return await this.#fuzz(mutant.patch);
    const check = this.#checks[mutant.check];
    const [wrong, twin] = [await check(mutant.patch), await check(null)];
    const found = wrong === null ? NOT_FOUND : { seed: 1, detail: wrong };
    return { ...found, twinFailed: twin === null ? [] : [1] };
  }

  async #fuzz(patch: Patch): Promise<ScriptFinding> {
    const twinFailed: number[] = [];
    for (let seed = 1; seed <= SCRIPT_SEEDS_MAX; seed += 1) {
      const twin = this.#twins.get(seed) ?? this.#difference(seed, null);
      this.#twins.set(seed, twin);
      if ((await twin) !== null) twinFailed.push(seed);
      const detail = await this.#difference(seed, patch);
      if (detail !== null) return { seed, detail, twinFailed };
    }
    return { ...NOT_FOUND, twinFailed };
  }

  /** How the calls of a seed end otherwise than in the model; null if they do not. */
  async #difference(seed: number, patch: Patch | null): Promise<string | null> {
    const memory = new MemoryStore(systemEnvironment);
    const ns = this.#newNamespace();
    const store = new PatchedStore(this.#path, ns, patch);
    try {
      const sides = [
        new Side(memory.shard(0), memoryBackDoors(memory.data)),
        new Side(store.shard(0), redisBackDoors(this.#raw, ns)),
      ] as const;
      await compare(sides, program(seed, EVERY_SCRIPT, CALLS));
      return null;
    } catch (error) {
      if (error instanceof Difference) return error.message;
      throw error;
    } finally {
      store.close();
    }
  }

  /** A commit that meets a key of a foreign type is refused, and nothing of it is written. */
  readonly #writtenByRefused = async (patch: Patch | null): Promise<string | null> => {
    const ns = this.#newNamespace();
    const store = new PatchedStore(this.#path, ns, patch);
    const commit = fullCommit();
    const { key } = commit.conversations[0]!;
    const at = shardKeys(ns, 0);
    try {
      const shard = store.shard(0);
      await shard.acquire({ node: "n", observedEpoch: 0, leaseMs: LEASE_MS });
      for (const foreign of [
        at.inbox,
        at.outbox,
        at.acks,
        at.lanes,
        at.dead,
        at.ids(key),
        at.transcript(key),
        at.open,
        at.full,
        at.timers,
        at.waiting(key),
        at.laneList(key),
      ]) {
        await (foreign === at.full ? this.#raw.set(foreign, "foreign") : this.#raw.sadd(foreign, "foreign"));
        const kind = await kindOf(shard.commit(commit));
        if (kind !== "refused") return `with a foreign type in ${foreign} it is ${kind}`;
        const [record, n] = [await this.#raw.exists(at.record(key)), await this.#raw.hget(at.owner, "n")];
        if (record !== 0 || n !== "0") return `with a foreign type in ${foreign} it is refused and has written`;
        await this.#raw.del(foreign);
      }
      return null;
    } finally {
      store.close();
    }
  };

  /** What the first one made of a namespace is what all others find; a meta that lacks a field is refused. */
  readonly #namespaceChanged = async (patch: Patch | null): Promise<string | null> => {
    const ns = this.#newNamespace();
    const meta = metaKey(ns);
    const store = new PatchedStore(this.#path, ns, patch);
    const { connection, scripts } = store;
    const open = (shards: number): Promise<unknown> =>
      scripts
        .openNamespace(connection, meta, { shards, schemaVersion: 1, hashKey: new Uint8Array(8).fill(shards) })
        .catch(() => "refused");
    try {
      const first = JSON.stringify(await open(3));
      if (JSON.stringify(await open(5)) !== first) return "the second one changed it";
      await this.#raw.hdel(meta, "hash_key");
      return (await open(3)) === "refused" ? null : "a meta without a hash key is taken";
    } finally {
      store.close();
    }
  };

  /** At its limit Redis refuses appends whole, lets shards be taken over and commits free what is full, and what is due be handled. */
  readonly #wrongWhenFull = async (patch: Patch | null): Promise<string | null> => {
    const store = new PatchedStore(this.#path, this.#newNamespace(), patch);
    const shard = store.shard(0);
    const bytes = Buffer.from("batch");
    try {
      await shard.append(bytes, INBOX_BYTES_MAX);
      await this.#raw.config("SET", "maxmemory", 1);
      const said = [
        await kindOf(shard.acquire({ node: "n", observedEpoch: 0, leaseMs: LEASE_MS })),
        await kindOf(shard.commit(fullCommit())),
        await kindOf(shard.moveTimers({ epoch: 1, timers: (await shard.readTimers({ count: 1 })).due, entry: bytes })),
        await kindOf(shard.append(bytes, INBOX_BYTES_MAX)),
      ].join(", ");
      return said === "acquired, applied, moved, refused" ? null : `it says ${said}`;
    } finally {
      await this.#raw.config("SET", "maxmemory", 0);
      store.close();
    }
  };

  readonly #checks: Readonly<Record<Exclude<Check, "fuzz">, (patch: Patch | null) => Promise<string | null>>> = {
    refusal: this.#writtenByRefused,
    memory: this.#wrongWhenFull,
    namespace: this.#namespaceChanged,
  };

  #newNamespace(): string {
    this.#stores += 1;
    return `mutant${this.#stores}`;
  }
}

const LEASE_MS = 60_000;
const INBOX_BYTES_MAX = 1_000;

const kindOf = (reply: Promise<{ readonly kind: string }>): Promise<string> =>
  reply.then(
    ({ kind }) => kind,
    () => "refused",
  );

/** One that touches every kind of key. */
function fullCommit(): Commit {
  const bytes = Buffer.from("x");
  const key = conversationKey({ bot: "b", channel: "c", conversation: "c" });
  const timers = [{ name: "t", generation: 1, atMs: 1 }];
  const aside = { waiting: [{ id: 1, bytes }], waitingDone: [], open: bytes, timers, full: true };
  return {
    epoch: 1,
    n: 1,
    leaseMs: LEASE_MS,
    conversations: [
      { key, record: bytes, ids: { kind: "append", bytes }, idsTtlMs: LEASE_MS, transcript: [bytes], aside },
    ],
    outbox: bytes,
    inboxDone: [{ ms: 1, seq: 1 }],
    inboxDoneBytes: 1,
    outboxDone: [{ ms: 1, seq: 1 }],
    acks: [{ entry: { ms: 1, seq: 2 }, done: bytes }],
    lanes: [{ key, state: bytes }],
    laneLists: [{ key, joining: [{ id: 1, bytes }], leaving: [] }],
    dead: [bytes],
    transcript: { linesMax: 5, bytesMax: 100, ttlMs: LEASE_MS },
  };
}
