// Store recorder: what the store carried out, as the append-only file of a Redis would have it. So the simulation is judged by the
// rules of `colloquy verify` as well, and these by the simulation.
//
// Invariants
//   R1. What is recorded is what the runtime asked for and the store confirmed to have done, not what the store then holds: of a store
//       that breaks its contract the other rules find it.

import { InboxBatch } from "../../src/codec/inbox-codec.ts";
import { compareEntryIds, type EntryId, formatEntryId } from "../../src/domain/position.ts";
import { shardKeys } from "../../src/store/keys.ts";
import type { MemoryData } from "../../src/store/memory-store.ts";
import type {
  AcquireReply,
  AppendOptions,
  AppendReply,
  Commit,
  CommitReply,
  ConversationWrite,
  MoveTimersReply,
  ShardStore,
} from "../../src/store/shard-store.ts";
import { SIMULATED_HASH_KEY } from "../../src/testing/simulated-process.ts";
import type { StoreCall } from "../../src/testing/simulated-store.ts";
import type { StoreEvent } from "../../src/verify/history.ts";
import type { Violation } from "../../src/verify/judge.ts";
import type { Command } from "../../src/verify/resp.ts";
import { type ShardRule, StoreLog } from "../../src/verify/store-log.ts";

type Word = string | Uint8Array;

const NAMESPACE = "sim";

export class StoreRecorder {
  readonly events: StoreEvent[] = [];
  readonly violations: Violation<ShardRule>[] = [];
  readonly #data: MemoryData;
  readonly #log: StoreLog;
  readonly #applied = new Set<string>();
  #dead = 0;

  constructor(data: MemoryData, shards: number) {
    this.#data = data;
    this.#log = new StoreLog({
      isWhole: true,
      hashOf: () => "",
      onEvent: (event) => this.events.push(event),
      onViolation: (violation) => this.violations.push(violation),
    });
    this.#add(0, [command("HSET", `${NAMESPACE}:meta`, "shards", String(shards), "hash_key", SIMULATED_HASH_KEY)]);
  }

  /** @param at number of the event; @returns whether it is a commit that is applied for the first time */
  executed(at: number, { name, shard, args }: StoreCall, result: unknown): boolean {
    const keys = shardKeys(NAMESPACE, shard);
    switch (name) {
      case "acquire": {
        const reply = result as AcquireReply;
        if (reply.kind !== "acquired") return false;
        this.#add(at, [command("HSET", keys.owner, "node", "n", "epoch", String(reply.epoch), "n", "0")]);
        return false;
      }
      case "append": {
        const reply = result as AppendReply;
        if (reply.kind !== "appended") return false;
        const [entry, , options] = args as [Uint8Array, number, AppendOptions | undefined];
        const { from } = options ?? {};
        this.#add(at, [
          command("XADD", keys.inbox, formatEntryId(reply.id), "b", entry),
          ...this.#alsoWritten(shard, reply.id, entry).map((id) => command("XADD", keys.inbox, id, "b", entry)),
          ...(from ? [command("HSET", keys.from, String(from.shard), formatEntryId(from.place))] : []),
        ]);
        return false;
      }
      case "moveTimers": {
        const reply = result as MoveTimersReply;
        if (reply.kind !== "moved" || reply.id === null) return false;
        const [{ timers, entry }] = args as Parameters<ShardStore["moveTimers"]>;
        const members = timers.map(({ key, name: timer, generation }) => `${generation}|${timer}|${key}`);
        this.#add(at, [
          command("ZREM", keys.timers, ...members),
          command("XADD", keys.inbox, formatEntryId(reply.id), "b", entry),
        ]);
        return false;
      }
      case "commit":
        return this.#commit(at, shard, args[0] as Commit, result as CommitReply);
      default:
        return false;
    }
  }

  end(): void {
    this.#log.end();
  }

  /** A store that writes an entry twice answers once. */
  #alsoWritten(shard: number, first: EntryId, entry: Uint8Array): string[] {
    const { entries } = this.#data.shard(shard).inbox;
    const from = entries.findIndex(({ id }) => compareEntryIds(id, first) === 0) + 1;
    const next = from === 0 ? undefined : entries[from];
    const isSame = next !== undefined && next.id.ms === first.ms && Buffer.compare(next.bytes, entry) === 0;
    return isSame ? [formatEntryId(next.id)] : [];
  }

  #commit(at: number, shard: number, commit: Commit, reply: CommitReply): boolean {
    const name = `${shard} ${commit.epoch} ${commit.n}`;
    if (reply.kind !== "applied" || this.#applied.has(name)) return false;
    this.#applied.add(name);
    const keys = shardKeys(NAMESPACE, shard);
    const {
      conversations,
      outbox,
      inboxDone,
      outboxDone,
      acks,
      lanes,
      laneLists,
      dead,
      deadDone = [],
      inboxAdd,
    } = commit;
    const ids = (entries: readonly EntryId[]): string[] => entries.map(formatEntryId);
    const commands: Command[] = [];
    if (conversations.length > 0)
      commands.push(command("MSET", ...conversations.flatMap(({ key, record }) => [keys.record(key), record])));
    for (const write of conversations) commands.push(...this.#conversation(keys, write));
    if (inboxAdd !== undefined) {
      const { entries } = this.#data.shard(shard).inbox; // others may have been appended by now
      const { id } = entries.findLast(({ bytes }) => Buffer.compare(bytes, inboxAdd) === 0) ?? {
        id: { ms: 0, seq: 0 },
      };
      commands.push(command("XADD", keys.inbox, formatEntryId(id), "b", inboxAdd));
    }
    if (outbox !== null && reply.outboxId !== null)
      commands.push(command("XADD", keys.outbox, formatEntryId(reply.outboxId), "b", outbox));
    if (inboxDone.length > 0) commands.push(command("XDEL", keys.inbox, ...ids(inboxDone)));
    for (const { entry, done } of acks) commands.push(command("HSET", keys.acks, formatEntryId(entry), done));
    if (outboxDone.length > 0) commands.push(command("XDEL", keys.outbox, ...ids(outboxDone)));
    for (const { key, state } of lanes)
      commands.push(state === null ? command("HDEL", keys.lanes, key) : command("HSET", keys.lanes, key, state));
    for (const { key, joining, leaving } of laneLists ?? []) {
      for (const { id, bytes } of joining) commands.push(command("XADD", keys.laneList(key), `${id}-0`, "b", bytes));
      if (leaving.length > 0) commands.push(command("XDEL", keys.laneList(key), ...leaving.map((id) => `${id}-0`)));
    }
    for (const letter of dead) commands.push(command("XADD", keys.dead, this.#letterId(shard, letter), "b", letter));
    if (deadDone.length > 0) commands.push(command("XDEL", keys.dead, ...ids(deadDone)));
    commands.push(command("HSET", keys.owner, "n", String(commit.n)));
    this.#add(at, commands);
    return true;
  }

  /** Two that say the same have the ids of one another, and mean the same. */
  #letterId(shard: number, letter: Uint8Array): string {
    const { entries } = this.#data.shard(shard).dead;
    const stored = entries.findLast(({ bytes }) => Buffer.compare(bytes, letter) === 0);
    this.#dead += 1;
    return stored === undefined ? `0-${this.#dead}` : formatEntryId(stored.id);
  }

  *#conversation(
    keys: ReturnType<typeof shardKeys>,
    { key, ids, transcript, aside }: ConversationWrite,
  ): Iterable<Command> {
    if (ids !== null) yield command(ids.kind === "append" ? "APPEND" : "SET", keys.ids(key), ids.bytes);
    for (const line of transcript) yield command("XADD", keys.transcript(key), "1-0", "b", line);
    if (aside === undefined) return;
    const list = keys.waiting(key);
    for (const { id, bytes } of aside.waiting) yield command("XADD", list, `${id}-0`, "b", bytes);
    if (aside.waitingDone.length > 0) yield command("XDEL", list, ...aside.waitingDone.map((id) => `${id}-0`));
    if (aside.open === null) yield command("HDEL", keys.open, key);
    else if (aside.open !== undefined) yield command("HSET", keys.open, key, aside.open);
    for (const { name, generation, atMs } of aside.timers) {
      const member = `${generation}|${name}|${key}`;
      yield atMs === null ? command("ZREM", keys.timers, member) : command("ZADD", keys.timers, String(atMs), member);
    }
    if (aside.full !== undefined) yield command(aside.full ? "SADD" : "SREM", keys.full, key);
  }

  #add(at: number, commands: readonly Command[]): void {
    this.#log.add({ at, commands });
  }
}

function command(name: string, ...words: readonly Word[]): Command {
  return { offset: 0, name, args: words.map(bytesOf) };
}

/** Of bytes a view: what was handed to the store does not change. */
function bytesOf(word: Word): Buffer {
  return typeof word === "string" ? Buffer.from(word) : Buffer.from(word.buffer, word.byteOffset, word.byteLength);
}

/** Whether an inbox entry is what an operator asks for: verbs, or what comes back from the dead letters. */
export function isOperators(entry: Uint8Array): boolean {
  const bytes = Buffer.from(entry.buffer, entry.byteOffset, entry.byteLength);
  return bytes[FIRST_KIND_AT] === CONTROL_KIND || bytes.includes('"redrives"');
}

/** As an entry that begins with a verb has it; nothing else begins like that. */
const FIRST_KIND_AT = 9;
const CONTROL_KIND = kindOfControls();

function kindOfControls(): number {
  const batch = new InboxBatch();
  batch.addControl("1:a1:bc" as never, { verb: "retry", halt: "", by: "" });
  return batch.finish()[FIRST_KIND_AT]!;
}
