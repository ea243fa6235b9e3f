// Differential: the same random calls on two stores that should be one, reply by reply, and the same data at the end.
//
// Entry ids and times differ between two stores by clocks, so a call names an entry by when it was made, and replies are compared
// after ids became such numbers.

import fc from "fast-check";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import { ENTRY_ZERO, type EntryId, formatEntryId, parseEntryId } from "../../src/domain/position.ts";
import { ColloquyError } from "../../src/errors.ts";
import {
  type AppendOptions,
  type AsideWrite,
  type Commit,
  type ConversationWrite,
  type LaneListWrite,
  SCAN_START,
  type ShardStore,
  type TimerName,
} from "../../src/store/shard-store.ts";
import { clockPasses } from "../support/clock-passes.ts";
import type { StoreBackDoors, StreamName } from "./back-doors.ts";

const LONG_LEASE_MS = 3_600_000;
const TINY_LEASE_MS = 1;
/** Two clocks of one machine are never further apart. */
const CLOCK_MS = 4;
const INBOX_BYTES_MAX = 150;
const CONVERSATIONS = ["a", "b", "c", "d"];
const NODES = ["n1", "n2"];
const PROCESSES = [undefined, "p1", "p2"];
/** Long over, and never to come while this runs. */
const DUE_MS = 1_000;
const FAR_MS = 4_000_000_000_000;
/** So far ahead is a clock that gave out ids before it was put back. */
const AHEAD_MS = 600_000;

const key = (conversation: string): ConversationKey => conversationKey({ bot: "echo", channel: "http", conversation });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

/** One call; entries are named by their number among those made so far, modulo their count. */
export type Call =
  | {
      readonly op: "acquire";
      readonly node: string;
      readonly process: string | undefined;
      readonly stale: number;
      readonly tiny: boolean;
    }
  | { readonly op: "renew" | "release"; readonly stale: number; readonly tiny: boolean; readonly clean: boolean }
  | {
      readonly op: "append";
      readonly size: number;
      readonly asked: readonly string[];
      readonly from: { readonly shard: number; readonly ms: number; readonly seq: number } | null;
    }
  | { readonly op: "moveTimers"; readonly stale: number; readonly size: number; readonly timers: readonly TimerOf[] }
  | { readonly op: "moveDue"; readonly stale: number; readonly count: number }
  | { readonly op: "commit"; readonly stale: number; readonly nStep: number; readonly body: Body }
  | { readonly op: "again" }
  | { readonly op: "readInbox" | "readOutbox" | "readDeadLetters"; readonly after: number; readonly count: number }
  | { readonly op: "readTranscript"; readonly conversation: string; readonly after: number; readonly count: number }
  | {
      readonly op: "readWaiting" | "readLaneList";
      readonly conversation: string;
      readonly after: number;
      readonly count: number;
    }
  | { readonly op: "readOpen" | "scanLanes" | "readTimers"; readonly count: number }
  | { readonly op: "readLane"; readonly conversation: string }
  | { readonly op: "owner" | "load" | "readAcks" | "readLanes" | "lives" }
  | { readonly op: "lose"; readonly stream: StreamName }
  | { readonly op: "rewind"; readonly commits: number }
  | { readonly op: "clockBack"; readonly stream: StreamName };

interface TimerOf {
  readonly conversation: string;
  readonly name: string;
  readonly generation: number;
}

/** `steps` are how far the ids of what joins a list go on: below 1 they were given out before. `done` counts from the last back. */
interface ListChange {
  readonly steps: readonly number[];
  readonly done: readonly number[];
}

/** Of one conversation. */
interface Aside extends ListChange {
  readonly open: string | null | undefined;
  readonly timers: readonly (Omit<TimerOf, "conversation"> & {
    readonly at: "due" | "far" | null;
    readonly ms: number;
  })[];
  readonly full: boolean | undefined;
}

interface Body {
  readonly tiny: boolean;
  readonly conversations: readonly {
    readonly conversation: string;
    readonly record: string;
    readonly ids: { readonly kind: "append" | "rewrite"; readonly text: string } | null;
    readonly idsTtl: "tiny" | "long" | null;
    readonly lines: readonly number[];
    readonly aside: Aside | null;
  }[];
  readonly outbox: string | null;
  readonly inboxDone: readonly number[];
  readonly inboxDoneBytes: number;
  readonly outboxDone: readonly number[];
  readonly acks: readonly { readonly entry: number; readonly done: string }[];
  readonly lanes: readonly { readonly conversation: string; readonly state: string | null }[];
  readonly laneLists: readonly (ListChange & { readonly conversation: string })[];
  readonly dead: readonly string[];
  readonly deadDone: readonly number[];
  readonly inboxAdd: number | null;
  readonly headsThrough: boolean;
  readonly linesMax: number;
}

const word = fc.string({ maxLength: 8 });
const conversation = fc.constantFrom(...CONVERSATIONS);
const entryNumber = fc.nat(40);
/** Mostly the present epoch, sometimes one before or after it. */
const stale = fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(-1, 1) });
const rarely = fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) });

const timerName = { name: fc.constantFrom("a", "b", "!retry"), generation: fc.nat(2) };
const listChange = {
  steps: fc.array(
    fc.oneof({ weight: 15, arbitrary: fc.constantFrom(1, 1, 3) }, { weight: 1, arbitrary: fc.constantFrom(0, -1, -9) }),
    { maxLength: 2 },
  ),
  done: fc.array(fc.nat(12), { maxLength: 3 }),
};
const aside: fc.Arbitrary<Aside> = fc.record({
  ...listChange,
  open: fc.option(fc.option(word), { nil: undefined }),
  timers: fc.array(fc.record({ ...timerName, at: fc.constantFrom("due", "due", "far", null), ms: fc.nat(5) }), {
    maxLength: 3,
  }),
  full: fc.constantFrom(undefined, true, false, false),
});

const body: fc.Arbitrary<Body> = fc.record({
  tiny: rarely,
  conversations: fc.uniqueArray(
    fc.record({
      conversation,
      record: word,
      ids: fc.option(fc.record({ kind: fc.constantFrom("append", "append", "rewrite"), text: word })),
      idsTtl: fc.constantFrom(null, null, null, "long", "tiny"),
      lines: fc.array(fc.nat(30), { maxLength: 3 }),
      aside: fc.option(aside, { freq: 2 }),
    }),
    { maxLength: 4, selector: (c) => c.conversation },
  ),
  outbox: fc.option(fc.string({ minLength: 1, maxLength: 20 })),
  inboxDone: fc.array(entryNumber, { maxLength: 4 }),
  inboxDoneBytes: fc.nat(60),
  outboxDone: fc.array(entryNumber, { maxLength: 3 }),
  acks: fc.uniqueArray(fc.record({ entry: entryNumber, done: word }), { maxLength: 3, selector: (a) => a.entry }),
  lanes: fc.array(fc.record({ conversation, state: fc.option(word) }), { maxLength: 3 }),
  laneLists: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.uniqueArray(fc.record({ conversation, ...listChange }), {
        maxLength: 3,
        selector: (list) => list.conversation,
      }),
    },
  ),
  dead: fc.array(word, { maxLength: 2 }),
  deadDone: fc.array(entryNumber, { maxLength: 2 }),
  inboxAdd: fc.option(fc.integer({ min: 1, max: 20 }), { freq: 2 }),
  headsThrough: rarely,
  linesMax: fc.integer({ min: 1, max: 5 }),
});

const commit = fc.record({
  op: fc.constant("commit" as const),
  stale,
  nStep: fc.oneof({ weight: 10, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constantFrom(-1, 0, 2) }),
  body,
});
const ownershipCall = (op: "renew" | "release"): fc.Arbitrary<Call> =>
  fc.record({ op: fc.constant(op), stale, tiny: rarely, clean: fc.boolean() });
const pageOf = fc.integer({ min: 1, max: 10 });
const streamName = fc.constantFrom<StreamName>("inbox", "outbox");

const place = fc.record({ shard: fc.nat(2), ms: fc.nat(9), seq: fc.nat(2) });

const CALLS = {
  acquire: fc.record({
    op: fc.constant("acquire" as const),
    node: fc.constantFrom(...NODES),
    process: fc.constantFrom(...PROCESSES),
    stale,
    tiny: rarely,
  }),
  renew: ownershipCall("renew"),
  release: ownershipCall("release"),
  append: fc.record({
    op: fc.constant("append" as const),
    size: fc.nat(40),
    asked: fc.array(conversation, { maxLength: 3 }),
    from: fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: place }),
  }),
  moveTimers: fc.oneof(
    fc.record({
      op: fc.constant("moveTimers" as const),
      stale,
      size: fc.integer({ min: 1, max: 20 }),
      timers: fc.array(fc.record({ conversation, ...timerName }), { maxLength: 6 }),
    }),
    fc.record({ op: fc.constant("moveDue" as const), stale, count: fc.integer({ min: 1, max: 5 }) }),
  ),
  commit,
  again: fc.record({ op: fc.constant("again" as const) }),
  readStream: fc.record({
    op: fc.constantFrom("readInbox", "readOutbox", "readDeadLetters"),
    after: entryNumber,
    count: pageOf,
  }),
  readTranscript: fc.record({
    op: fc.constant("readTranscript" as const),
    conversation,
    after: entryNumber,
    count: pageOf,
  }),
  readAside: fc.oneof(
    fc.record({
      op: fc.constantFrom("readWaiting" as const, "readLaneList" as const),
      conversation,
      after: fc.nat(12),
      count: pageOf,
    }),
    fc.record({
      op: fc.constantFrom("readOpen" as const, "scanLanes" as const, "readTimers" as const),
      count: pageOf,
    }),
  ),
  readLane: fc.record({ op: fc.constant("readLane" as const), conversation }),
  readAll: fc.record({ op: fc.constantFrom("owner", "load", "readAcks", "readLanes", "lives") }),
  lose: fc.record({ op: fc.constant("lose" as const), stream: streamName }),
  rewind: fc.record({ op: fc.constant("rewind" as const), commits: fc.integer({ min: 1, max: 3 }) }),
  clockBack: fc.record({ op: fc.constant("clockBack" as const), stream: streamName }),
} satisfies Readonly<Record<string, fc.Arbitrary<Call>>>;

/** How often each kind of call comes, among all of them. */
export type Mix = Readonly<Partial<Record<keyof typeof CALLS, number>>>;

/** What a shard meets in its life. */
export const EVERYDAY: Mix = {
  acquire: 20,
  renew: 5,
  release: 5,
  append: 60,
  commit: 120,
  again: 20,
  readStream: 40,
  readTranscript: 20,
  moveTimers: 15,
  readAside: 30,
  readLane: 5,
  readAll: 30,
};
/** As many calls of each script as of the others, and a Redis that loses something now and then. */
export const EVERY_SCRIPT: Mix = {
  acquire: 45,
  renew: 45,
  release: 45,
  append: 45,
  commit: 42,
  again: 5,
  moveTimers: 45,
  readStream: 15,
  readTranscript: 5,
  readAside: 12,
  readLane: 6,
  readAll: 10,
  lose: 2,
  rewind: 2,
  clockBack: 2,
};

/** The calls of one shard: the same for the same seed, mix and length. */
export function program(seed: number, mix: Mix, length: number): readonly Call[] {
  const weighted = (Object.keys(mix) as (keyof typeof CALLS)[]).map((name) => ({
    weight: mix[name]!,
    arbitrary: CALLS[name] as fc.Arbitrary<Call>,
  }));
  const calls = fc.array(fc.oneof(...weighted), { minLength: length, maxLength: length, size: "max" });
  return fc.sample(calls, { seed, numRuns: 1 })[0]!;
}

/** Entries of one stream by the order in which the calls of a run made them. */
class EntryNames {
  readonly #ids: EntryId[] = [];
  readonly #numbers = new Map<string, number>();

  /** Below 0: what comes before all of them. */
  id(number: number): EntryId {
    return this.#ids.length === 0 || number < 0 ? ENTRY_ZERO : this.#ids[number % this.#ids.length]!;
  }

  /** The highest one. */
  get last(): EntryId {
    return this.#ids.at(-1) ?? ENTRY_ZERO;
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

const STREAM_OF: Readonly<Partial<Record<Call["op"], NamedStream>>> = {
  acquire: "inbox",
  lose: "inbox",
  append: "inbox",
  moveTimers: "inbox",
  moveDue: "inbox",
  readInbox: "inbox",
  commit: "outbox",
  again: "outbox",
  readOutbox: "outbox",
  readDeadLetters: "dead",
  readAcks: "outbox",
};

type NamedStream = StreamName | "dead";

/** One store's view of a run. */
export class Side {
  readonly shard: ShardStore;
  readonly #doors: StoreBackDoors;
  readonly #names = { inbox: new EntryNames(), outbox: new EntryNames(), dead: new EntryNames() };
  /** By conversation: the highest id that was asked for on its waiting list, on its lane's list. */
  readonly #waiting = new Map<string, number>();
  readonly #laneLists = new Map<string, number>();
  #last: Commit | null = null;

  constructor(shard: ShardStore, doors: StoreBackDoors) {
    this.shard = shard;
    this.#doors = doors;
  }

  run(call: Call, epoch: number, n: number): Promise<unknown> {
    if (call.op === "clockBack") return this.#clockBack(call.stream, epoch, n);
    return this.#reply(() => this.#call(call, epoch, n), STREAM_OF[call.op]);
  }

  async #reply(run: () => Promise<unknown>, stream?: NamedStream): Promise<unknown> {
    try {
      return this.#comparable(await run(), stream);
    } catch (error) {
      if (error instanceof ColloquyError) return { error: error.code };
      throw error;
    }
  }

  #call(call: Exclude<Call, { op: "clockBack" }>, epoch: number, n: number): Promise<unknown> {
    const { shard } = this;
    switch (call.op) {
      case "acquire":
        return shard.acquire({
          node: call.node,
          ...(call.process === undefined ? {} : { incarnation: call.process }),
          observedEpoch: epoch + call.stale,
          leaseMs: lease(call.tiny),
        });
      case "renew":
        return shard.renew({ epoch: epoch + call.stale, leaseMs: lease(call.tiny) });
      case "release":
        return shard.release({ epoch: epoch + call.stale, clean: call.clean });
      case "append":
        return shard.append(bytes("x".repeat(call.size)), INBOX_BYTES_MAX, appendOptions(call));
      case "moveTimers":
        return shard.moveTimers({
          epoch: Math.max(1, epoch + call.stale),
          timers: call.timers.map(timerOf),
          entry: bytes("t".repeat(call.size)),
        });
      case "moveDue":
        return this.#moveDue(Math.max(1, epoch + call.stale), call.count);
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
        return shard.readDeadLetters({ after: this.#names.dead.id(call.after), count: call.count });
      case "readWaiting":
        return shard.readWaiting(key(call.conversation), { after: call.after, count: call.count });
      case "readLaneList":
        return shard.readLaneList(key(call.conversation), { after: call.after, count: call.count });
      case "readOpen":
        return this.#inSteps((cursor) => shard.readOpen({ cursor, count: call.count }));
      case "scanLanes":
        return this.#inSteps((cursor) => shard.scanLanes({ cursor, count: call.count }));
      case "readTimers":
        return shard.readTimers({ count: call.count });
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
      case "readLane":
        return shard.readLane(key(call.conversation));
      case "lives":
        return this.#lives();
      case "lose":
        return this.#lose(call.stream, epoch);
      case "rewind":
        return this.#doors.rewindOwner(shard.shard, { n: Math.max(0, n - call.commits) });
    }
  }

  async #moveDue(epoch: number, count: number): Promise<unknown> {
    const { due } = await this.shard.readTimers({ count });
    return await this.shard.moveTimers({ epoch, timers: due, entry: bytes("due") });
  }

  /** All of it; what is found twice counts once. */
  async #inSteps<Found extends { readonly key: string }>(
    step: (cursor: string) => Promise<{ readonly cursor: string; readonly found: readonly Found[] }>,
  ): Promise<unknown> {
    const found = new Map<string, Found>();
    let cursor = SCAN_START;
    do {
      const page = await step(cursor);
      for (const each of page.found) found.set(each.key, each);
      cursor = page.cursor;
    } while (cursor !== SCAN_START);
    return [...found.values()];
  }

  async #lives(): Promise<unknown> {
    const lives = CONVERSATIONS.map(key).map(async (each) => [
      lengthOf((await this.#doors.idsTtlMs(this.shard.shard, each)) ?? 0),
      lengthOf((await this.#doors.transcriptTtlMs(this.shard.shard, each)) ?? 0),
      await this.#doors.hasWaitingList(this.shard.shard, each),
      await this.#doors.hasLaneList(this.shard.shard, each),
    ]);
    return await Promise.all(lives);
  }

  /** Ids of the stream that comes after it are others only when the clock has gone on. The owner asks for its shard at once. */
  async #lose(stream: StreamName, epoch: number): Promise<unknown> {
    const { shard } = this;
    await this.#doors.loseStream(shard.shard, stream);
    await clockPasses(CLOCK_MS);
    const { node } = await shard.owner();
    return await shard.acquire({ node: node ?? NODES[0]!, observedEpoch: epoch, leaseMs: LONG_LEASE_MS });
  }

  /** H10: what a clock ahead of this one gave out is remembered, while it lasts. */
  async #clockBack(stream: StreamName, epoch: number, n: number): Promise<unknown> {
    const { shard } = this;
    const before = this.#names[stream].last;
    await this.#doors.raiseHighestSeen(shard.shard, stream, { ms: Date.now() + AHEAD_MS, seq: 0 });
    const own = Math.max(1, epoch);
    const outbox = bytes("r");
    /** The commit before is refused when it was the outbox that was behind. */
    const next = n + (stream === "inbox" ? 2 : 1);
    const replies = [
      await this.#reply(() => shard.append(bytes("b"), INBOX_BYTES_MAX)),
      await this.#reply(() => shard.commit({ ...emptyCommit(own, n + 1), outbox })),
      await this.#reply(() => shard.commit({ ...emptyCommit(own, next), inboxAdd: bytes("s") })),
      await this.#reply(() => this.#moveDue(own, 1)),
      await this.#reply(() => shard.acquire({ node: NODES[0]!, observedEpoch: epoch, leaseMs: LONG_LEASE_MS })),
    ];
    await this.#doors.raiseHighestSeen(shard.shard, stream, before);
    return replies;
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
          ...(c.aside === null ? {} : { aside: this.#aside(c.conversation, c.aside) }),
        }),
      ),
      outbox: body.outbox === null ? null : bytes(body.outbox),
      inboxDone: body.inboxDone.map((i) => this.#names.inbox.id(i)),
      inboxDoneBytes: body.inboxDoneBytes,
      outboxDone: body.outboxDone.map((i) => this.#names.outbox.id(i)),
      acks: body.acks.map(({ entry, done }) => ({ entry: this.#names.outbox.id(entry), done: bytes(done) })),
      lanes: body.lanes.map((l) => ({ key: key(l.conversation), state: l.state === null ? null : bytes(l.state) })),
      ...(body.laneLists.length === 0 ? {} : { laneLists: body.laneLists.map((list) => this.#laneList(list)) }),
      dead: body.dead.map(bytes),
      deadDone: body.deadDone.map((i) => this.#names.dead.id(i)),
      ...(body.inboxAdd === null ? {} : { inboxAdd: bytes("s".repeat(body.inboxAdd)) }),
      headsThrough: body.headsThrough,
      transcript: { linesMax: body.linesMax, bytesMax: 50, ttlMs: LONG_LEASE_MS },
    };
  }

  #laneList({ conversation, ...change }: Body["laneLists"][number]): LaneListWrite {
    return { key: key(conversation), ...changed(this.#laneLists, conversation, change) };
  }

  #aside(conversation: string, { open, timers, full, ...change }: Aside): AsideWrite {
    const { joining, leaving } = changed(this.#waiting, conversation, change);
    return {
      waiting: joining,
      waitingDone: leaving,
      open: open == null ? open : bytes(open),
      timers: timers.map(({ name, generation, at, ms }) => ({
        name,
        generation,
        atMs: at === null ? null : ms + (at === "due" ? DUE_MS : FAR_MS),
      })),
      full,
    };
  }

  #place(id: EntryId, stream: NamedStream | undefined): unknown {
    if (id.ms === 0 && id.seq === 0) return "none";
    return stream ? this.#names[stream].number(id) : "some";
  }

  #comparable(reply: unknown, stream: NamedStream | undefined): unknown {
    if (Array.isArray(reply)) return sorted(reply.map((item) => this.#comparable(item, stream)));
    if (reply instanceof Uint8Array) return text(reply);
    if (typeof reply !== "object" || reply === null) return reply;
    const fields = Object.entries(reply).map(([name, value]): [string, unknown] => {
      if (name === "lastId" || name === "highestSeen")
        return [name, this.#place(parseEntryId(value), stream && (reply as { stream: StreamName }).stream)];
      if (name === "inboxLast") return [name, this.#place(value, "inbox")];
      if (name === "id" && typeof value === "number") return [name, value];
      if (name === "nextInMs") return [name, value === null ? "never" : lengthOf(value)];
      if (name === "leaseRemainingMs") return [name, lengthOf(value)];
      if ((name === "id" || name === "outboxId" || name === "entry") && value !== null) {
        return [name, stream ? this.#names[stream].number(value) : "some"];
      }
      return [name, this.#comparable(value, stream)];
    });
    return Object.fromEntries(fields);
  }
}

/** @param highest by conversation: the highest id that was asked for; goes on with those that join */
function changed(
  highest: Map<string, number>,
  conversation: string,
  { steps, done }: ListChange,
): Omit<LaneListWrite, "key"> {
  let last = 0;
  const joining = steps.map((step) => {
    last = Math.max(1, last + 1, (highest.get(conversation) ?? 0) + step);
    highest.set(conversation, Math.max(last, highest.get(conversation) ?? 0));
    return { id: last, bytes: bytes(`m${last}`) };
  });
  return { joining, leaving: done.map((i) => Math.max(1, (highest.get(conversation) ?? 0) - i)) };
}

/** A commit that changes nothing but the number. */
const emptyCommit = (epoch: number, n: number): Commit => ({
  epoch,
  n,
  leaseMs: LONG_LEASE_MS,
  conversations: [],
  outbox: null,
  inboxDone: [],
  inboxDoneBytes: 0,
  outboxDone: [],
  acks: [],
  lanes: [],
  dead: [],
  transcript: { linesMax: 5, bytesMax: 50, ttlMs: LONG_LEASE_MS },
});

const timerOf = ({ conversation: of, name, generation }: TimerOf): TimerName => ({ key: key(of), name, generation });

const appendOptions = ({ asked, from }: Call & { readonly op: "append" }): AppendOptions => ({
  conversations: asked.map(key),
  ...(from === null ? {} : { from: { shard: from.shard, place: { ms: from.ms, seq: from.seq } } }),
});

const lengthOf = (ms: number): string => (ms > 60_000 ? "long" : ms > 0 ? "short" : "none");

const lease = (tiny: boolean): number => (tiny ? TINY_LEASE_MS : LONG_LEASE_MS);

/** Hashes have no order: whatever has no id is compared sorted. */
function sorted(items: unknown[]): unknown[] {
  const isUnordered = items.some(
    (item) => typeof item === "object" && item !== null && ("done" in item || "state" in item || "value" in item),
  );
  return isUnordered ? items.map((item) => JSON.stringify(item)).sort() : items;
}

const isTiny = (call: Call): boolean =>
  ("tiny" in call && call.tiny) ||
  (call.op === "commit" && (call.body.tiny || call.body.conversations.some((c) => c.idsTtl === "tiny")));

/** Two stores answered one call differently. */
export class Difference extends Error {
  override readonly name = "Difference";
  /** From 1. */
  readonly call: number;

  constructor(shard: number, number: number, call: Call, [model, other]: readonly [unknown, unknown]) {
    const told = [call, model, other].map((value) => JSON.stringify(value));
    super(`shard ${shard}, call ${number}: ${told[0]}\n  the first says  ${told[1]}\n  the second says ${told[2]}`);
    this.call = number;
  }
}

/**
 * Makes every call on both sides, the first of which is the model, and at the end reads all there is.
 * @param told is called with each call that was made, and what became of it
 * @throws Difference at the first one
 */
export async function compare(
  sides: readonly [Side, Side],
  calls: readonly Call[],
  told: (op: Call["op"], kind: unknown) => void = () => undefined,
): Promise<void> {
  let made = 0;
  let lastCommit: Call | null = null;
  const both = async (call: Call): Promise<void> => {
    const { epoch, n } = await sides[0].shard.owner();
    const first = await sides[0].run(call, epoch, n);
    const second = await sides[1].run(call, epoch, n);
    made += 1;
    told(call.op, kindOf(first));
    if (JSON.stringify(first) !== JSON.stringify(second))
      throw new Difference(sides[0].shard.shard, made, call, [first, second]);
    if (call.op === "commit") lastCommit = call;
    if (isTiny(call.op === "again" && lastCommit !== null ? lastCommit : call)) await tinyIsOver(sides);
  };
  for (const call of calls) await both(call);
  for (const op of ["owner", "load", "lives", "readAcks", "readLanes"] as const) await both({ op });
  for (const op of ["readOpen", "scanLanes", "readTimers"] as const) await both({ op, count: 1_000 });
  for (const op of ["readInbox", "readOutbox", "readDeadLetters"] as const) await both({ op, after: -1, count: 1_000 });
  for (const conversation of CONVERSATIONS) {
    await both({ op: "readTranscript", conversation, after: 0, count: 1_000 });
    for (const op of ["readWaiting", "readLaneList"] as const) await both({ op, conversation, after: 0, count: 1_000 });
  }
}

/** Redis reads its clock when it likes: what it says of the lease is asked, not computed. */
async function tinyIsOver(sides: readonly Side[]): Promise<void> {
  await clockPasses(TINY_LEASE_MS + CLOCK_MS);
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
