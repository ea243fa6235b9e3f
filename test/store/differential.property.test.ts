// The memory store answers as Redis does: the same random calls on both, reply by reply, and the same data at the end.
//
// Entry ids and times differ between the two by clocks, so a call names an entry by when it was made, and replies are compared
// after ids became such numbers. COLLOQUY_SEED repeats a run, COLLOQUY_CALLS makes a longer one.

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ENTRY_ZERO, type EntryId, formatEntryId } from "../../src/domain/position.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { ColloquyError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import type { Commit, ConversationWrite, ShardStore, Store } from "../../src/store/shard-store.ts";
import { clockPasses } from "../support/clock-passes.ts";
import { RedisServer } from "../support/redis-server.ts";
import { bytes, key, text } from "./conformance.ts";

const CALLS = Number(process.env.COLLOQUY_CALLS ?? 100_000);
const SEED = Number(process.env.COLLOQUY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CALLS_PER_SHARD = 250;
const SHARDS_AT_ONCE = 50;
const LONG_LEASE_MS = 3_600_000;
const TINY_LEASE_MS = 1;
const INBOX_BYTES_MAX = 150;
const CONVERSATIONS = ["a", "b", "c", "d"];
const NODES = ["n1", "n2"];

let server: RedisServer;
let redis: RedisStore;

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "off" });
  redis = new RedisStore({
    environment: systemEnvironment,
    address: { path: server.path },
    namespace: "diff",
    commandTimeoutMs: 20_000,
  });
});
afterAll(async () => {
  await redis.close();
  await server.remove();
});

/** One call; entries are named by their number among those made so far, modulo their count. */
type Call =
  | { readonly op: "acquire"; readonly node: string; readonly stale: number; readonly tiny: boolean }
  | { readonly op: "renew" | "release"; readonly stale: number; readonly tiny: boolean; readonly clean: boolean }
  | { readonly op: "append"; readonly size: number }
  | { readonly op: "commit"; readonly stale: number; readonly nStep: number; readonly body: Body }
  | { readonly op: "again" }
  | { readonly op: "readInbox" | "readOutbox" | "readDeadLetters"; readonly after: number; readonly count: number }
  | { readonly op: "readTranscript"; readonly conversation: string; readonly after: number; readonly count: number }
  | { readonly op: "owner" | "load" | "readAcks" | "readLanes" };

interface Body {
  readonly tiny: boolean;
  readonly conversations: readonly {
    readonly conversation: string;
    readonly record: string;
    readonly ids: { readonly kind: "append" | "rewrite"; readonly text: string } | null;
    readonly idsTtl: "tiny" | "long" | null;
    readonly lines: readonly number[];
  }[];
  readonly outbox: string | null;
  readonly inboxDone: readonly number[];
  readonly inboxDoneBytes: number;
  readonly outboxDone: readonly number[];
  readonly acks: readonly { readonly entry: number; readonly done: string }[];
  readonly lanes: readonly { readonly conversation: string; readonly state: string | null }[];
  readonly dead: readonly string[];
  readonly linesMax: number;
}

const word = fc.string({ maxLength: 8 });
const conversation = fc.constantFrom(...CONVERSATIONS);
const entryNumber = fc.nat(40);
/** Mostly the present epoch, sometimes one before or after it. */
const stale = fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(-1, 1) });
const rarely = fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) });

const body: fc.Arbitrary<Body> = fc.record({
  tiny: rarely,
  conversations: fc.uniqueArray(
    fc.record({
      conversation,
      record: word,
      ids: fc.option(fc.record({ kind: fc.constantFrom("append", "append", "rewrite"), text: word })),
      idsTtl: fc.constantFrom(null, null, null, "long", "tiny"),
      lines: fc.array(fc.nat(30), { maxLength: 3 }),
    }),
    { maxLength: 4, selector: (c) => c.conversation },
  ),
  outbox: fc.option(fc.string({ minLength: 1, maxLength: 20 })),
  inboxDone: fc.array(entryNumber, { maxLength: 4 }),
  inboxDoneBytes: fc.nat(60),
  outboxDone: fc.array(entryNumber, { maxLength: 3 }),
  acks: fc.uniqueArray(fc.record({ entry: entryNumber, done: word }), { maxLength: 3, selector: (a) => a.entry }),
  lanes: fc.array(fc.record({ conversation, state: fc.option(word) }), { maxLength: 3 }),
  dead: fc.array(word, { maxLength: 2 }),
  linesMax: fc.integer({ min: 1, max: 5 }),
});

const call: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant("acquire"), node: fc.constantFrom(...NODES), stale, tiny: rarely }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom("renew", "release"), stale, tiny: rarely, clean: fc.boolean() }),
  },
  { weight: 6, arbitrary: fc.record({ op: fc.constant("append"), size: fc.nat(40) }) },
  {
    weight: 12,
    arbitrary: fc.record({
      op: fc.constant("commit"),
      stale,
      nStep: fc.oneof({ weight: 10, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constantFrom(-1, 0, 2) }),
      body,
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("again") }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom("readInbox", "readOutbox", "readDeadLetters"),
      after: entryNumber,
      count: fc.integer({ min: 1, max: 10 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("readTranscript"),
      conversation,
      after: entryNumber,
      count: fc.integer({ min: 1, max: 10 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constantFrom("owner", "load", "readAcks", "readLanes") }) },
);

/** Entries of one stream by the order in which the calls of a run made them. */
class EntryNames {
  readonly #ids: EntryId[] = [];
  readonly #numbers = new Map<string, number>();

  id(number: number): EntryId {
    return this.#ids.length === 0 ? ENTRY_ZERO : this.#ids[number % this.#ids.length]!;
  }

  /** The entry's number; one that was never seen gets the next. */
  number(id: EntryId): number {
    const name = formatEntryId(id);
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.#ids.length);
    return this.#ids.push(id) - 1;
  }
}

const STREAM_OF: Readonly<Partial<Record<Call["op"], "inbox" | "outbox">>> = {
  append: "inbox",
  readInbox: "inbox",
  commit: "outbox",
  again: "outbox",
  readOutbox: "outbox",
  readAcks: "outbox",
};

/** One store's view of a run. */
class Side {
  readonly shard: ShardStore;
  readonly #names = { inbox: new EntryNames(), outbox: new EntryNames() };
  #last: Commit | null = null;

  constructor(store: Store, shard: number) {
    this.shard = store.shard(shard);
  }

  async run(call: Call, epoch: number, n: number): Promise<unknown> {
    try {
      return this.#comparable(await this.#call(call, epoch, n), STREAM_OF[call.op]);
    } catch (error) {
      if (error instanceof ColloquyError) return { error: error.code };
      throw error;
    }
  }

  #call(call: Call, epoch: number, n: number): Promise<unknown> {
    const { shard } = this;
    switch (call.op) {
      case "acquire":
        return shard.acquire({ node: call.node, observedEpoch: epoch + call.stale, leaseMs: lease(call.tiny) });
      case "renew":
        return shard.renew({ epoch: epoch + call.stale, leaseMs: lease(call.tiny) });
      case "release":
        return shard.release({ epoch: epoch + call.stale, clean: call.clean });
      case "append":
        return shard.append(bytes("x".repeat(call.size)), INBOX_BYTES_MAX);
      case "commit":
        this.#last = this.#commit(call.body, Math.max(1, epoch + call.stale), Math.max(1, n + call.nStep));
        return shard.commit(this.#last);
      case "again":
        return this.#last === null ? Promise.resolve(null) : shard.commit(this.#last);
      case "readInbox":
        return shard.readInbox({ after: this.#names.inbox.id(call.after), count: call.count, blockMs: 0 });
      case "readOutbox":
        return shard.readOutbox({ after: this.#names.outbox.id(call.after), count: call.count });
      case "readDeadLetters":
        return shard.readDeadLetters({ after: ENTRY_ZERO, count: call.count });
      case "readTranscript":
        return shard.readTranscript(key(call.conversation), { after: ENTRY_ZERO, count: call.count });
      case "load":
        return shard.load(CONVERSATIONS.map(key));
      case "owner":
        return shard.owner();
      case "readAcks":
        return shard.readAcks();
      case "readLanes":
        return shard.readLanes();
    }
  }

  #commit(body: Body, epoch: number, n: number): Commit {
    return {
      epoch,
      n,
      leaseMs: lease(body.tiny),
      conversations: body.conversations.map(
        (c): ConversationWrite => ({
          key: key(c.conversation),
          record: bytes(c.record),
          ids: c.ids && { kind: c.ids.kind, bytes: bytes(c.ids.text) },
          idsTtlMs: c.idsTtl === null ? null : lease(c.idsTtl === "tiny"),
          transcript: c.lines.map((size) => bytes("l".repeat(size))),
        }),
      ),
      outbox: body.outbox === null ? null : bytes(body.outbox),
      inboxDone: body.inboxDone.map((i) => this.#names.inbox.id(i)),
      inboxDoneBytes: body.inboxDoneBytes,
      outboxDone: body.outboxDone.map((i) => this.#names.outbox.id(i)),
      acks: body.acks.map(({ entry, done }) => ({ entry: this.#names.outbox.id(entry), done: bytes(done) })),
      lanes: body.lanes.map((l) => ({ key: key(l.conversation), state: l.state === null ? null : bytes(l.state) })),
      dead: body.dead.map(bytes),
      transcript: { linesMax: body.linesMax, bytesMax: 50, ttlMs: LONG_LEASE_MS },
    };
  }

  #comparable(reply: unknown, stream: "inbox" | "outbox" | undefined): unknown {
    if (Array.isArray(reply)) return sorted(reply.map((item) => this.#comparable(item, stream)));
    if (reply instanceof Uint8Array) return text(reply);
    if (typeof reply !== "object" || reply === null) return reply;
    const fields = Object.entries(reply).map(([name, value]): [string, unknown] => {
      if (name === "leaseRemainingMs") return [name, value > 60_000 ? "long" : value > 0 ? "short" : "none"];
      if ((name === "id" || name === "outboxId" || name === "entry") && value !== null) {
        return [name, stream ? this.#names[stream].number(value) : "some"];
      }
      return [name, this.#comparable(value, stream)];
    });
    return Object.fromEntries(fields);
  }
}

const lease = (tiny: boolean): number => (tiny ? TINY_LEASE_MS : LONG_LEASE_MS);

/** Hashes have no order: whatever has no id is compared sorted. */
function sorted(items: unknown[]): unknown[] {
  const isUnordered = items.some(
    (item) => typeof item === "object" && item !== null && ("done" in item || "state" in item),
  );
  return isUnordered ? items.map((item) => JSON.stringify(item)).sort() : items;
}

const isTiny = (call: Call): boolean =>
  ("tiny" in call && call.tiny) ||
  (call.op === "commit" && (call.body.tiny || call.body.conversations.some((c) => c.idsTtl === "tiny")));

/** Each reply that must have occurred somewhere, or the run proved little. */
const KINDS = [
  "acquire acquired",
  "acquire held",
  "acquire changed",
  "renew renewed",
  "renew fenced",
  "release released",
  "release fenced",
  "append appended",
  "append over",
  "commit applied",
  "commit fenced",
  "commit rewound",
  "commit ERR_STORE_CORRUPT",
  "again applied",
  "again fenced",
];

async function runShard(shard: number, calls: readonly Call[], memory: Store, kinds: Set<string>): Promise<number> {
  const sides = [new Side(memory, shard), new Side(redis, shard)] as const;
  let made = 0;
  const both = async (call: Call): Promise<void> => {
    const { epoch, n } = await sides[0].shard.owner();
    const inMemory = await sides[0].run(call, epoch, n);
    const inRedis = await sides[1].run(call, epoch, n);
    made += 1;
    kinds.add(`${call.op} ${kindOf(inMemory)}`);
    if (JSON.stringify(inMemory) !== JSON.stringify(inRedis)) {
      expect(inMemory, `shard ${shard}, call ${made}: ${JSON.stringify(call)}`).toEqual(inRedis);
    }
    if (isTiny(call)) await tinyIsOver(sides);
  };
  for (const call of calls) await both(call);
  for (const op of ["owner", "load", "readAcks", "readLanes"] as const) await both({ op });
  for (const op of ["readInbox", "readOutbox", "readDeadLetters"] as const) await both({ op, after: 0, count: 1_000 });
  for (const conversation of CONVERSATIONS) await both({ op: "readTranscript", conversation, after: 0, count: 1_000 });
  await sides[1].shard.close(); // its connections
  return made;
}

/** Redis reads its clock when it likes: what it says of the lease is asked, not computed. */
async function tinyIsOver(sides: readonly Side[]): Promise<void> {
  await clockPasses(TINY_LEASE_MS + 4);
  for (const { shard } of sides) {
    for (;;) {
      const { leaseRemainingMs } = await shard.owner();
      if (leaseRemainingMs === 0 || leaseRemainingMs > TINY_LEASE_MS) break;
    }
  }
}

function kindOf(reply: unknown): unknown {
  if (typeof reply !== "object" || reply === null) return reply;
  return "kind" in reply ? reply.kind : "error" in reply ? reply.error : "data";
}

test(`${CALLS} random calls give equal replies on memory and on Redis (seed ${SEED})`, async () => {
  const memory = new MemoryStore(systemEnvironment);
  const programs = fc.array(call, { minLength: CALLS_PER_SHARD, maxLength: CALLS_PER_SHARD, size: "max" });
  let shard = 0;
  let calls = 0;
  const kinds = new Set<string>();
  while (calls < CALLS) {
    const batch = fc.sample(programs, { seed: SEED + shard, numRuns: SHARDS_AT_ONCE });
    const made = await Promise.all(batch.map((program) => runShard(shard++, program, memory, kinds)));
    calls += made.reduce((sum, count) => sum + count, 0);
  }
  expect(calls).toBeGreaterThanOrEqual(CALLS);
  expect([...kinds]).toEqual(expect.arrayContaining(KINDS));
});
