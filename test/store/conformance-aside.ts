// What every implementation of the store port does with what cannot move: lists of messages and of replies, the index of the
// unfinished, timers, conversations at their bound, places of sends, dead letters that come back, and the count of unclean ends.

import { describe, expect, test } from "vitest";
import type { ConversationKey } from "../../src/domain/ids.ts";
import { ENTRY_ZERO, type EntryId } from "../../src/domain/position.ts";
import type { AsideWrite, Commit, ConversationWrite, ShardStore, TimerName } from "../../src/store/shard-store.ts";
import { SCAN_START } from "../../src/store/shard-store.ts";
import { clockPasses } from "../support/clock-passes.ts";
import { bytes, emptyCommit, key, LEASE_MS, type StoreHarness, text, write } from "./conformance.ts";

/** The shard of the test that runs, and what the suite does with it. */
export interface ShardBench {
  readonly harness: StoreHarness;
  readonly shard: ShardStore;
  readonly shardNumber: number;
  acquired(node?: string): Promise<number>;
  appended(batch: string): Promise<EntryId>;
  changesNothing<Reply>(call: () => Promise<Reply>): Promise<Reply>;
}

const NOTHING: AsideWrite = { waiting: [], waitingDone: [], open: undefined, timers: [], full: undefined };
const INBOX_BYTES_MAX = 1_000_000;
const ALL = { after: ENTRY_ZERO, count: 10_000 };
const LONG_AGO_MS = 1_000;
const FAR_MS = 4_000_000_000_000;

/** Of a conversation whose record says `r`. */
export const aside = (conversation: string, parts: Partial<AsideWrite>): ConversationWrite =>
  write(conversation, "r", { aside: { ...NOTHING, ...parts } });

const timer = (name: string, generation: number, atMs: number | null) => ({ name, generation, atMs });
const bytesOrNull = (value: string | null): Uint8Array | null => (value === null ? null : bytes(value));
const waitingOf = (...ids: readonly number[]) => ids.map((id) => ({ id, bytes: bytes(`m${id}`) }));
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

export function asideConformance(bench: ShardBench): void {
  const list = async (conversation = "c", after = 0, count = 10_000): Promise<string[]> =>
    (await bench.shard.readWaiting(key(conversation), { after, count })).map((e) => `${e.id} ${text(e.bytes)}`);

  /** Commits of one epoch, numbered as they come. */
  async function committer(): Promise<(...parts: readonly (ConversationWrite | Partial<Commit>)[]) => Promise<Commit>> {
    const epoch = await bench.acquired();
    let n = 0;
    return async (...parts) => {
      const conversations = parts.filter((part) => "record" in part);
      const rest = Object.assign({}, ...parts.filter((part) => !("record" in part))) as Partial<Commit>;
      n += 1;
      const commit = { ...emptyCommit(epoch, n), conversations, ...rest };
      expect(await bench.shard.commit(commit)).toMatchObject({ kind: "applied", n });
      return commit;
    };
  }

  async function refused(epoch: number, n: number, parts: Partial<Commit>): Promise<void> {
    const commit = { ...emptyCommit(epoch, n), outbox: bytes("r"), dead: [bytes("d")], ...parts };
    await bench.changesNothing(() =>
      expect(bench.shard.commit(commit)).rejects.toMatchObject({ code: "ERR_STORE_CORRUPT" }),
    );
  }

  async function open(count = 10_000): Promise<Map<ConversationKey, string | null>> {
    const found = new Map<ConversationKey, string | null>();
    let cursor = SCAN_START;
    do {
      const page = await bench.shard.readOpen({ cursor, count });
      for (const { key: name, value } of page.found) found.set(name, text(value));
      cursor = page.cursor;
    } while (cursor !== SCAN_START);
    return found;
  }

  const inbox = async (): Promise<(string | null)[]> =>
    (await bench.shard.readInbox({ ...ALL, blockMs: 0 })).map((entry) => text(entry.bytes));

  type Entry = AsideWrite["waiting"][number];

  /** Lists under ids of their own: of messages, and of replies. */
  interface ListOf {
    readonly name: string;
    /** A commit that lets these join and those leave, by conversation. */
    change(lists: Readonly<Record<string, { join?: readonly Entry[]; leave?: readonly number[] }>>): Partial<Commit>;
    read(conversation: string, after: number, count: number): Promise<readonly Entry[]>;
    isThere(conversation: string): Promise<boolean>;
  }

  const WAITING: ListOf = {
    name: "the waiting lists of conversations",
    change: (lists) => ({
      conversations: Object.entries(lists).map(([id, { join = [], leave = [] }]) =>
        aside(id, { waiting: join, waitingDone: leave }),
      ),
    }),
    read: (id, after, count) => bench.shard.readWaiting(key(id), { after, count }),
    isThere: (id) => bench.harness.hasWaitingList(bench.shardNumber, key(id)),
  };
  const LANES: ListOf = {
    name: "the lists of lanes",
    change: (lists) => ({
      laneLists: Object.entries(lists).map(([id, { join = [], leave = [] }]) => ({
        key: key(id),
        joining: join,
        leaving: leave,
      })),
    }),
    read: (id, after, count) => bench.shard.readLaneList(key(id), { after, count }),
    isThere: (id) => bench.harness.hasLaneList(bench.shardNumber, key(id)),
  };

  describe.each([WAITING, LANES])("$name", ({ change, read, isThere }) => {
    const entries = async (conversation = "c", after = 0, count = 10_000): Promise<string[]> =>
      (await read(conversation, after, count)).map((e) => `${e.id} ${text(e.bytes)}`);

    test("keep what joins under its id, in order, apart from those of others", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1, 2, 7) }, d: { join: waitingOf(2) } }));
      await commit(change({ c: { join: waitingOf(8) } }));
      expect(await entries("c")).toEqual(["1 m1", "2 m2", "7 m7", "8 m8"]);
      expect(await entries("d")).toEqual(["2 m2"]);
      expect(await entries("nobody")).toEqual([]);
      expect(await entries("c", 2, 1)).toEqual(["7 m7"]);
      expect(await entries("c", 7)).toEqual(["8 m8"]);
    });

    test("hold bytes exactly as given", async () => {
      const every = Uint8Array.from({ length: 256 }, (_, i) => i);
      const commit = await committer();
      await commit(change({ c: { join: [{ id: 1, bytes: every }] } }));
      const [entry] = await read("c", 0, 1);
      expect([...entry!.bytes]).toEqual([...every]);
    });

    test("what is done leaves, wherever it stands, and what is not there does no harm", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1, 2, 3, 4) } }));
      await commit(change({ c: { leave: [3, 1, 9, 3] }, nobody: { leave: [1] } }));
      expect(await entries()).toEqual(["2 m2", "4 m4"]);
      expect(await isThere("nobody")).toBe(false);
    });

    test("what joins may leave in the same commit", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1, 2, 3), leave: [1, 3] } }));
      expect(await entries()).toEqual(["2 m2"]);
    });

    test("a write that changes nothing is none", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1) } }));
      await commit(change({ c: {}, nobody: {} }));
      expect(await entries()).toEqual(["1 m1"]);
      expect(await isThere("nobody")).toBe(false);
    });

    test("the key goes with the last one, also with one that joined just now", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1, 2) }, d: { join: waitingOf(5), leave: [5] } }));
      await commit(change({ c: { leave: [1, 2] } }));
      expect(await entries()).toEqual([]);
      expect(await isThere("c")).toBe(false);
      expect(await isThere("d")).toBe(false);
    });

    test("an id that was given out is refused before any write, also when its entry has left", async () => {
      const commit = await committer();
      const { epoch } = await commit(change({ c: { join: waitingOf(4, 5, 6), leave: [6] } }));
      for (const id of [1, 5, 6]) {
        await refused(epoch, 2, change({ b: { join: waitingOf(1) }, c: { join: waitingOf(id) } }));
      }
      await commit(change({ c: { join: waitingOf(7) } }));
      expect(await entries()).toEqual(["4 m4", "5 m5", "7 m7"]);
    });

    test("large ids are exact", async () => {
      const id = 2 ** 52 + 1;
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(id, id + 1) } }));
      await commit(change({ c: { leave: [id] } }));
      expect(await entries()).toEqual([`${id + 1} m${id + 1}`]);
    });

    test("more join and leave than Lua's stack holds", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(...range(1, 9_000)) } }));
      expect(await entries()).toHaveLength(9_000);
      await commit(change({ c: { leave: range(1, 8_999) } }));
      expect(await entries()).toEqual(["9000 m9000"]);
    });

    test("as many lists as a commit has keys", async () => {
      const names = range(1, 4_000).map((i) => `c${i}`);
      const commit = await committer();
      await commit(change(Object.fromEntries(names.map((name) => [name, { join: waitingOf(1, 2) }]))));
      await commit(change(Object.fromEntries(names.map((name) => [name, { leave: [1] }]))));
      for (const name of ["c1", "c2", "c3999", "c4000"]) expect(await entries(name)).toEqual(["2 m2"]);
    });

    test("all that one holds at its bounds moves at once, and more does, too", async () => {
      const sizes = [...range(1, 1_000).map((i) => 4_000 + i), 2 ** 20 + 1]; // beyond 4 MiB, the last one alone beyond 1 MiB
      const join = sizes.map((size, i) => ({ id: i + 1, bytes: new Uint8Array(size).fill(i % 251) }));
      const commit = await committer();
      await commit(change({ c: { join } }), { outbox: bytes("r") });
      const found = await read("c", 0, 10_000);
      expect(found.map((entry) => entry.bytes.length)).toEqual(sizes);
      expect(found.every((entry, i) => entry.id === i + 1 && entry.bytes.at(-1) === i % 251)).toBe(true);
    });

    test("stay when another process takes the shard over", async () => {
      const commit = await committer();
      await commit(change({ c: { join: waitingOf(1, 2) } }));
      const next = await committer();
      expect(await entries()).toEqual(["1 m1", "2 m2"]);
      await next(change({ c: { join: waitingOf(3), leave: [1] } }));
      expect(await entries()).toEqual(["2 m2", "3 m3"]);
    });
  });

  test("a conversation's waiting list and its lane's list know nothing of each other", async () => {
    const commit = await committer();
    await commit(WAITING.change({ c: { join: waitingOf(1, 2) } }), LANES.change({ c: { join: waitingOf(2, 3) } }));
    await commit(WAITING.change({ c: { leave: [1, 2] } }));
    expect(await WAITING.isThere("c")).toBe(false);
    expect((await LANES.read("c", 0, 9)).map(({ id }) => id)).toEqual([2, 3]);
    await commit(WAITING.change({ c: { join: waitingOf(1) } }), LANES.change({ c: { leave: [2, 3] } }));
    expect(await LANES.isThere("c")).toBe(false);
    expect((await WAITING.read("c", 0, 9)).map(({ id }) => id)).toEqual([1]);
  });

  test("a lane moves to its list, and back, in one commit with its state, its marks and its dead letters", async () => {
    const commit = await committer();
    await commit({ outbox: bytes("c c d") });
    const [entry] = await bench.shard.readOutbox(ALL);
    const acks = [{ entry: entry!.id, done: Uint8Array.of(0b011) }];
    const state = (value: string | null) => ({ lanes: [{ key: key("c"), state: bytesOrNull(value) }] });
    await commit(LANES.change({ c: { join: waitingOf(1, 2) } }), state("retrying"), { acks });
    expect((await bench.shard.readAcks()).map(({ done }) => [...done])).toEqual([[0b011]]);
    await commit(LANES.change({ c: { leave: [1] } }), state("halted"), { dead: [bytes("1")], outboxDone: [entry!.id] });
    expect((await LANES.read("c", 0, 9)).map(({ id }) => id)).toEqual([2]);
    expect(await bench.shard.readOutbox(ALL)).toEqual([]);
    expect(text(await bench.shard.readLane(key("c")))).toBe("halted");
    await commit(LANES.change({ c: { leave: [2] } }), state(null));
    expect(await LANES.isThere("c")).toBe(false);
    expect(await bench.shard.readLanes()).toEqual([]);
    expect(await bench.shard.owner()).toMatchObject({ deadLetters: { count: 1, bytes: 1 } });
  });

  describe("index of the unfinished", () => {
    test("an entry is set, replaced, left alone, and removed", async () => {
      const commit = await committer();
      await commit(aside("c", { open: bytes("1") }), aside("d", { open: bytes("") }), aside("e", { open: bytes("3") }));
      await commit(aside("c", { open: bytes("2") }), aside("d", {}), aside("e", { open: null }), write("d2", "r"));
      expect(await open()).toEqual(
        new Map([
          [key("c"), "2"],
          [key("d"), ""],
        ]),
      );
    });
  });

  /** What is read in steps: how it is written, and one step. */
  interface Index {
    readonly name: string;
    put(values: Readonly<Record<string, string | null>>): readonly (ConversationWrite | Partial<Commit>)[];
    step(request: { cursor: string; count: number }): Promise<{ cursor: string; found: [string, string | null][] }>;
  }

  const INDEXES: readonly Index[] = [
    {
      name: "the index of the unfinished",
      put: (values) => Object.entries(values).map(([id, value]) => aside(id, { open: bytesOrNull(value) })),
      step: async (request) => {
        const { cursor, found } = await bench.shard.readOpen(request);
        return { cursor, found: found.map(({ key: name, value }) => [name, text(value)]) };
      },
    },
    {
      name: "lanes that have a state",
      put: (values) => [
        { lanes: Object.entries(values).map(([id, value]) => ({ key: key(id), state: bytesOrNull(value) })) },
      ],
      step: async (request) => {
        const { cursor, found } = await bench.shard.scanLanes(request);
        return { cursor, found: found.map(({ key: name, state }) => [name, text(state)]) };
      },
    },
  ];

  describe.each(INDEXES)("$name in steps", ({ put, step }) => {
    const x = (ids: readonly string[]) => Object.fromEntries(ids.map((id) => [id, "x"]));

    test("nothing is one step", async () => {
      expect(await step({ cursor: SCAN_START, count: 10 })).toEqual({ cursor: SCAN_START, found: [] });
    });

    test("all are found, whatever the ids of the conversations are", async () => {
      const ids = [...range(1, 2_000).map((i) => `c${i}`), "a|b", "{x}", "ö🙂", "a\nb", " ", "\u0000"];
      const commit = await committer();
      await commit(...put(Object.fromEntries(ids.map((id) => [id, id]))));
      let steps = 0;
      const found = new Map<string, string | null>();
      for (let cursor = SCAN_START; steps === 0 || cursor !== SCAN_START; steps += 1) {
        const page = await step({ cursor, count: 100 });
        for (const [name, value] of page.found) found.set(name, value);
        cursor = page.cursor;
      }
      expect(steps).toBeGreaterThan(5);
      expect(found).toEqual(new Map(ids.map((id) => [key(id), id])));
    });

    test("all that stay are found while others come and go", async () => {
      const stay = range(1, 700).map((i) => `stay${i}`);
      const commit = await committer();
      await commit(...put(x([...stay, ...range(1, 300).map((i) => `go${i}`)])));
      const found = new Set<string>();
      let steps = 0;
      for (let cursor = SCAN_START; steps === 0 || cursor !== SCAN_START; steps += 1) {
        const page = await step({ cursor, count: 50 });
        for (const [name] of page.found) found.add(name);
        await commit(...put({ [`go${steps + 1}`]: null, [`new${steps}`]: "x" }));
        cursor = page.cursor;
      }
      for (const id of stay) expect(found).toContain(key(id));
    });

    test("those of another shard are none", async () => {
      const commit = await committer();
      await commit(...put({ c: "x" }));
      const other = bench.harness.store.shard(bench.shardNumber + 10_000);
      expect((await other.readOpen({ cursor: SCAN_START, count: 9 })).found).toEqual([]);
      expect((await other.scanLanes({ cursor: SCAN_START, count: 9 })).found).toEqual([]);
    });
  });

  describe("timers", () => {
    const dueOf = async (count = 100): Promise<string[]> =>
      (await bench.shard.readTimers({ count })).due.map((t) => `${t.name} ${t.generation} ${t.key} ${t.atMs}`);
    const name = (conversation: string, called: string, generation: number): TimerName => ({
      key: key(conversation),
      name: called,
      generation,
    });
    const move = (epoch: number, timers: readonly TimerName[], entry = "due") =>
      bench.shard.moveTimers({ epoch, timers, entry: bytes(entry) });

    test("none: nothing is due, and nothing will be", async () => {
      expect(await bench.shard.readTimers({ count: 10 })).toEqual({ due: [], nextInMs: null });
    });

    test("are read when they are due, the earliest first, with what comes next", async () => {
      const commit = await committer();
      const now = Date.now();
      await commit(
        aside("c", { timers: [timer("nudge", 3, LONG_AGO_MS + 1), timer("!retry", 0, now + 60_000)] }),
        aside("d", { timers: [timer("nudge", 1, LONG_AGO_MS), timer("late", 2 ** 50, FAR_MS)] }),
      );
      expect(await dueOf()).toEqual([`nudge 1 ${key("d")} 1000`, `nudge 3 ${key("c")} 1001`]);
      const { nextInMs } = await bench.shard.readTimers({ count: 2 });
      expect(nextInMs).toBeGreaterThan(50_000);
      expect(nextInMs).toBeLessThanOrEqual(60_000 + 1_000);
    });

    test("more than asked for are due: the next is due now", async () => {
      const commit = await committer();
      await commit(aside("c", { timers: [timer("a", 1, 5), timer("b", 1, 6), timer("c", 1, 7)] }));
      expect(await bench.shard.readTimers({ count: 2 })).toMatchObject({
        due: [{ name: "a" }, { name: "b" }],
        nextInMs: 0,
      });
    });

    test("come due as Redis' clock goes on", async () => {
      const commit = await committer();
      await commit(aside("c", { timers: [timer("soon", 1, Date.now() + 40)] }));
      const deadline = Date.now() + 10_000;
      for (;;) {
        const { due, nextInMs } = await bench.shard.readTimers({ count: 2 });
        if (due.length > 0) break;
        expect(nextInMs).not.toBeNull();
        expect(Date.now()).toBeLessThan(deadline);
        await clockPasses(nextInMs! + 1);
      }
    });

    test("are set again, removed by name and generation, and keep odd conversations apart", async () => {
      const commit = await committer();
      await commit(
        aside("c", { timers: [timer("a", 1, 50), timer("a", 2, 60)] }),
        aside("x|y\n🙂", { timers: [timer("a.b-c_D", 1, 55)] }),
      );
      await commit(aside("c", { timers: [timer("a", 1, null), timer("a", 2, 40), timer("never", 9, null)] }));
      expect(await dueOf()).toEqual([`a 2 ${key("c")} 40`, `a.b-c_D 1 ${key("x|y\n🙂")} 55`]);
    });

    test("those that move are gone, and their messages are in the inbox, beyond its bound", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5), timer("b", 1, 6)] }));
      const reply = await move(epoch, [name("c", "a", 1)]);
      expect(await inbox()).toEqual(["due"]);
      const [entry] = await bench.shard.readInbox({ ...ALL, blockMs: 0 });
      expect(reply).toEqual({ kind: "moved", id: entry!.id });
      expect(await dueOf()).toEqual([`b 1 ${key("c")} 6`]);
      expect(await bench.shard.owner()).toMatchObject({ inboxBytes: 3 });
      expect(await bench.shard.append(bytes("x"), 3)).toEqual({ kind: "over", inboxBytes: 3 });
    });

    test("a repeat finds none of them and writes nothing", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5)] }));
      await move(epoch, [name("c", "a", 1)]);
      expect(await bench.changesNothing(() => move(epoch, [name("c", "a", 1)]))).toEqual({ kind: "moved", id: null });
      expect(await bench.changesNothing(() => move(epoch, []))).toEqual({ kind: "moved", id: null });
    });

    test("the entry goes when one of them is there still", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5), timer("a", 2, 5)] }));
      expect(await move(epoch, [name("c", "a", 0), name("c", "a", 2)])).toMatchObject({ kind: "moved", id: {} });
      expect(await dueOf()).toEqual([`a 1 ${key("c")} 5`]);
    });

    test("S2: an epoch that is over moves nothing", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5)] }));
      await bench.acquired();
      const stale = await bench.changesNothing(() => move(epoch, [name("c", "a", 1)]));
      expect(stale).toEqual({ kind: "fenced", epoch: epoch + 1 });
    });

    test("H10: nothing moves into a lost inbox while the clock is behind what was seen", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5)] }));
      await bench.harness.raiseHighestSeen(bench.shardNumber, "inbox", { ms: Date.now() + 60_000, seq: 0 });
      await bench.changesNothing(() =>
        expect(move(epoch, [name("c", "a", 1)])).rejects.toMatchObject({ code: "ERR_STORE_CORRUPT" }),
      );
    });

    test("a waiting read of the inbox is woken by them, and the highest id seen rises", async () => {
      const commit = await committer();
      const { epoch } = await commit(aside("c", { timers: [timer("a", 1, 5)] }));
      const read = bench.shard.readInbox({ after: ENTRY_ZERO, count: 10, blockMs: 20_000 });
      await clockPasses(30);
      await move(epoch, [name("c", "a", 1)]);
      expect(await read).toHaveLength(1);
      await bench.harness.loseStream(bench.shardNumber, "inbox");
      expect(await bench.shard.acquire({ node: "node-a", observedEpoch: epoch, leaseMs: LEASE_MS })).toMatchObject({
        kind: "rewound",
        stream: "inbox",
      });
    });

    test("B10: those that are due move in pages, none is met twice, and none blocks the page", async () => {
      const commit = await committer();
      const halted = range(1, 700).map((i) => timer("stuck", i, i)); // the earliest, of one conversation that handles nothing
      const healthy = range(1, 800).map((i) => aside(`c${i}`, { timers: [timer("nudge", 1, 10_000 + i)] }));
      const { epoch } = await commit(aside("halted", { timers: halted }), ...healthy);
      const met: string[] = [];
      for (let page = 1; page <= 100; page += 1) {
        const { due, nextInMs } = await bench.shard.readTimers({ count: 400 });
        if (due.length === 0) break;
        expect(nextInMs).toBe(due.length === 400 && met.length + 400 < 1_500 ? 0 : null);
        met.push(...due.map((t) => `${t.name} ${t.generation} ${t.key}`));
        expect(await move(epoch, due, `page ${page}`)).toMatchObject({ kind: "moved", id: {} });
      }
      expect(new Set(met).size).toBe(met.length);
      expect(met).toEqual([
        ...range(1, 700).map((i) => `stuck ${i} ${key("halted")}`),
        ...range(1, 800).map((i) => `nudge 1 ${key(`c${i}`)}`),
      ]);
      expect(await inbox()).toEqual(["page 1", "page 2", "page 3", "page 4"]);
    });

    test("more are set and move than Lua's stack holds", async () => {
      const commit = await committer();
      const many = range(1, 9_000);
      const { epoch } = await commit(aside("c", { timers: many.map((i) => timer("t", i, i)) }));
      expect((await bench.shard.readTimers({ count: 10_000 })).due).toHaveLength(9_000);
      expect(
        await move(
          epoch,
          [0, ...many].map((i) => name("c", "t", i)),
        ),
      ).toMatchObject({ kind: "moved", id: {} });
      expect(await bench.shard.readTimers({ count: 1 })).toEqual({ due: [], nextInMs: null });
    });

    test.each<[string, string, number]>([
      ["timers.name", "", 1],
      ["timers.name", "a|b", 1],
      ["timers.name", "a!b", 1],
      ["timers.name", "x".repeat(65), 1],
      ["timers.name", "a\n", 1],
      ["timers.generation", "a", -1],
      ["timers.generation", "a", 1.5],
    ])("a bad %s (%j, %d) is our bug: it throws before anything is sent", async (field, called, generation) => {
      const epoch = await bench.acquired();
      await bench.changesNothing(async () => {
        await expect(move(epoch, [name("c", called, generation)])).rejects.toThrow(field);
        const conversations = [aside("c", { timers: [timer(called, generation, 5)] })];
        await expect(bench.shard.commit({ ...emptyCommit(epoch, 1), conversations })).rejects.toThrow(field);
      });
    });
  });

  describe("conversations at their bound", () => {
    const append = (conversations?: readonly string[], size = 1) =>
      bench.shard.append(
        bytes("x".repeat(size)),
        10,
        conversations === undefined ? undefined : { conversations: conversations.map(key) },
      );

    test("are counted in each answer, join and leave once, and are refused by name before anything is written", async () => {
      const commit = await committer();
      expect(await append()).toMatchObject({ kind: "appended", full: 0 });
      await commit(aside("c", { full: true }), aside("d", { full: true }), aside("e", { full: false }));
      await commit(aside("c", { full: true }), aside("d", {}));
      expect(await append()).toMatchObject({ kind: "appended", full: 2 });
      expect(await append(["a", "b"])).toMatchObject({ kind: "appended", full: 2 });
      expect(await bench.changesNothing(() => append(["a", "d", "b", "c"]))).toEqual({
        kind: "full",
        conversations: [key("d"), key("c")],
      });
      await commit(aside("c", { full: false }));
      expect(await append(["c"])).toMatchObject({ kind: "appended", full: 1 });
      await commit(aside("d", { full: false }));
      expect(await append(["c", "d"])).toMatchObject({ kind: "appended", full: 0 });
    });

    test("are named before an inbox that is over its bound", async () => {
      const commit = await committer();
      await commit(aside("c", { full: true }));
      expect(await append(["c"], 11)).toMatchObject({ kind: "full" });
      expect(await append(["d"], 11)).toMatchObject({ kind: "over" });
    });

    test("more are asked about than Lua's stack holds", async () => {
      const commit = await committer();
      const many = range(1, 9_000).map((i) => `c${i}`);
      await commit(aside("c1", { full: true }), aside("c2001", { full: true }), aside("c9000", { full: true }));
      expect(await append(many)).toEqual({ kind: "full", conversations: ["c1", "c2001", "c9000"].map(key) });
    });

    test("have ids of any kind", async () => {
      const names = ["a|b", "ö🙂", "\u0000", "x".repeat(512)];
      const commit = await committer();
      await commit(...names.map((each) => aside(each, { full: true })));
      expect(await append(names)).toEqual({ kind: "full", conversations: names.map(key) });
    });
  });

  describe("B9: sends from another shard", () => {
    const send = (shard: number, ms: number, seq = 0, batch = `s${shard} ${ms}-${seq}`) =>
      bench.shard.append(bytes(batch), INBOX_BYTES_MAX, { from: { shard, place: { ms, seq } } });

    test("are taken once each, however often and late they come, and only above those taken before", async () => {
      expect(await send(3, 10, 5)).toMatchObject({ kind: "appended" });
      expect(await send(3, 10, 6)).toMatchObject({ kind: "appended" });
      expect(await send(3, 11)).toMatchObject({ kind: "appended" });
      for (const [ms, seq] of [
        [11, 0],
        [10, 6],
        [10, 5],
        [9, 2 ** 40],
        [0, 0],
      ] as const) {
        expect(await bench.changesNothing(() => send(3, ms, seq))).toEqual({ kind: "taken" });
      }
      expect(await inbox()).toEqual(["s3 10-5", "s3 10-6", "s3 11-0"]);
    });

    test("shards do not stand in each other's way, and owners come and go", async () => {
      await send(1, 100);
      expect(await send(2, 50)).toMatchObject({ kind: "appended" });
      await bench.acquired();
      await bench.acquired();
      expect(await send(1, 100)).toEqual({ kind: "taken" });
      expect(await send(2, 51)).toMatchObject({ kind: "appended" });
      expect(await send(0, 0)).toMatchObject({ kind: "appended" });
      expect(await send(0, 0)).toEqual({ kind: "taken" });
    });

    test("one that was refused has not been taken", async () => {
      const place = { shard: 1, place: { ms: 5, seq: 0 } };
      expect(await bench.changesNothing(() => bench.shard.append(bytes("xx"), 1, { from: place }))).toMatchObject({
        kind: "over",
      });
      expect(await bench.shard.append(bytes("xx"), 2, { from: place })).toMatchObject({ kind: "appended" });
      expect(await bench.shard.append(bytes("xx"), 2, { from: place })).toEqual({ kind: "taken" }); // not over: it is in
    });

    test("large places are compared exactly", async () => {
      const ms = 2 ** 52;
      await send(1, ms, 2 ** 52);
      expect(await send(1, ms, 2 ** 52)).toEqual({ kind: "taken" });
      expect(await send(1, ms, 2 ** 52 + 1)).toMatchObject({ kind: "appended" });
      expect(await send(1, ms + 1, 0)).toMatchObject({ kind: "appended" });
    });

    test.each<[string, number, number]>([
      ["from.shard", -1, 1],
      ["from.place.ms", 1, 0.5],
    ])("a bad %s is our bug: it throws before anything is sent", async (field, from, ms) => {
      await bench.changesNothing(() => expect(send(from, ms)).rejects.toThrow(field));
    });
  });

  describe("sends within the shard", () => {
    test("are an inbox entry of the commit, beyond the bound, and wake a waiting read", async () => {
      const commit = await committer();
      const done = await bench.appended("12345");
      const read = bench.shard.readInbox({ after: done, count: 10, blockMs: 20_000 });
      await clockPasses(30);
      await commit({ inboxAdd: bytes("abc"), inboxDone: [done], inboxDoneBytes: 5 });
      expect((await read).map((entry) => text(entry.bytes))).toEqual(["abc"]);
      expect(await bench.shard.owner()).toMatchObject({ inboxBytes: 3 });
      expect(await bench.shard.append(bytes("x"), 3)).toEqual({ kind: "over", inboxBytes: 3 });
      await commit({ inboxAdd: bytes("de") });
      expect(await bench.shard.owner()).toMatchObject({ inboxBytes: 5 });
    });

    test("H10: raise the highest id seen, and do not enter a lost inbox while the clock is behind it", async () => {
      const commit = await committer();
      const { epoch } = await commit({ inboxAdd: bytes("abc") });
      await bench.harness.loseStream(bench.shardNumber, "inbox");
      expect(await bench.shard.acquire({ node: "node-a", observedEpoch: epoch, leaseMs: LEASE_MS })).toMatchObject({
        kind: "rewound",
        stream: "inbox",
      });
      await bench.harness.raiseHighestSeen(bench.shardNumber, "inbox", { ms: Date.now() + 60_000, seq: 0 });
      await refused(epoch, 2, { conversations: [write("c", "r")], inboxAdd: bytes("x") });
      await commit(write("c", "r")); // one that adds nothing there goes through
    });
  });

  describe("dead letters that come back", () => {
    test("leave, and their count and bytes with them, once", async () => {
      const commit = await committer();
      await commit({ dead: [bytes("one"), bytes("three"), bytes("seventeen")] });
      const [first, second, third] = await bench.shard.readDeadLetters(ALL);
      await commit({ deadDone: [second!.id] });
      expect(await bench.shard.owner()).toMatchObject({ deadLetters: { count: 2, bytes: 12 } });
      await commit({ deadDone: [second!.id, first!.id, first!.id, { ms: 1, seq: 1 }], dead: [bytes("4444")] });
      expect(await bench.shard.owner()).toMatchObject({ deadLetters: { count: 2, bytes: 13 } });
      const left = await bench.shard.readDeadLetters(ALL);
      expect(left.map((entry) => text(entry.bytes))).toEqual(["seventeen", "4444"]);
      expect(left[0]!.id).toEqual(third!.id);
    });

    test("as many as there are leave nothing", async () => {
      const commit = await committer();
      await commit({ dead: range(1, 3_000).map((i) => bytes(`${i}`)) });
      await commit({ deadDone: (await bench.shard.readDeadLetters(ALL)).map(({ id }) => id) });
      expect(await bench.shard.owner()).toMatchObject({ deadLetters: { count: 0, bytes: 0 } });
      expect(await bench.shard.readDeadLetters(ALL)).toEqual([]);
    });
  });

  describe("unclean ends", () => {
    const acquire = async (incarnation?: string, node = "a") => {
      const { epoch } = await bench.shard.owner();
      const process = incarnation === undefined ? {} : { incarnation };
      const reply = await bench.shard.acquire({ node, observedEpoch: epoch, leaseMs: LEASE_MS, ...process });
      if (reply.kind !== "acquired") throw new Error(`expected acquired, got ${reply.kind}`);
      expect((await bench.shard.owner()).uncleanEnds).toBe(reply.uncleanEnds);
      return reply;
    };

    test("the first owner ever follows none", async () => {
      expect(await acquire("p1")).toMatchObject({ uncleanEnds: 0, inboxLast: ENTRY_ZERO });
    });

    test("each process that ends without a release is one, also one without a name", async () => {
      await acquire("p1");
      expect(await acquire("p2")).toMatchObject({ uncleanEnds: 1 });
      expect(await acquire()).toMatchObject({ uncleanEnds: 2 });
      expect(await acquire()).toMatchObject({ uncleanEnds: 3 });
      expect(await acquire("p1")).toMatchObject({ uncleanEnds: 4 });
    });

    test("an owner that acquires again in the same process has not ended", async () => {
      await acquire("p1");
      expect(await acquire("p1")).toMatchObject({ uncleanEnds: 0, wasClean: false });
      await acquire("p2");
      expect(await acquire("p2")).toMatchObject({ uncleanEnds: 1 });
    });

    test("a drained one counts nothing and takes nothing back; one that could not drain counts", async () => {
      await acquire("p1");
      const { epoch } = await acquire("p2");
      await bench.shard.release({ epoch, clean: true });
      const next = await acquire("p3");
      expect(next).toMatchObject({ uncleanEnds: 1, wasClean: true });
      await bench.shard.release({ epoch: next.epoch, clean: false });
      expect(await acquire("p4")).toMatchObject({ uncleanEnds: 2, wasClean: false });
    });

    test("a refused acquisition counts nothing", async () => {
      const { epoch } = await acquire("p1");
      const other = { node: "b", incarnation: "p2", leaseMs: LEASE_MS };
      await bench.changesNothing(() => bench.shard.acquire({ ...other, observedEpoch: epoch }));
      await bench.changesNothing(() => bench.shard.acquire({ ...other, node: "a", observedEpoch: epoch + 7 }));
      expect(await bench.shard.owner()).toMatchObject({ uncleanEnds: 0 });
    });

    test("a commit that says the heads are through sets them to 0, no other does", async () => {
      await acquire("p1");
      const { epoch } = await acquire("p2");
      await bench.shard.commit(emptyCommit(epoch, 1));
      await bench.shard.commit({ ...emptyCommit(epoch, 2), headsThrough: false });
      expect(await bench.shard.owner()).toMatchObject({ uncleanEnds: 1 });
      await bench.shard.commit({ ...emptyCommit(epoch, 3), headsThrough: true });
      expect(await bench.shard.owner()).toMatchObject({ uncleanEnds: 0 });
      expect(await acquire("p3")).toMatchObject({ uncleanEnds: 1 });
    });

    test("what stood in the inbox when it was acquired stands up to `inboxLast`", async () => {
      await bench.appended("a");
      const pending = await bench.appended("b");
      const reply = await acquire("p1");
      expect(reply.inboxLast).toEqual(pending);
      const [later] = await bench.shard.readInbox({ after: reply.inboxLast, count: 1, blockMs: 0 });
      expect(later).toBeUndefined();
      await bench.shard.commit({ ...emptyCommit(reply.epoch, 1), inboxDone: [pending], inboxDoneBytes: 1 });
      expect((await acquire("p1")).inboxLast).toEqual(pending);
    });
  });

  describe("all of it together", () => {
    const laneList = async (conversation: string): Promise<number[]> =>
      (await bench.shard.readLaneList(key(conversation), { after: 0, count: 9 })).map(({ id }) => id);

    const everything = (epoch: number, n: number, dead: EntryId): Commit => ({
      ...emptyCommit(epoch, n),
      conversations: [
        aside("c", {
          waiting: waitingOf(10 * n, 10 * n + 1),
          waitingDone: [10 * n],
          open: bytes("open"),
          timers: [timer("a", n, 5), timer("b", n, null)],
          full: true,
        }),
        write("d", "r", { ids: { kind: "append", bytes: bytes("i") }, transcript: [bytes("line")] }),
        aside("e", { waiting: waitingOf(n), full: false }),
      ],
      laneLists: [
        { key: key("c"), joining: waitingOf(10 * n, 10 * n + 1), leaving: [10 * n, 10 * n - 9] },
        { key: key("f"), joining: waitingOf(n), leaving: [] },
      ],
      outbox: bytes("replies"),
      dead: [bytes("letter")],
      deadDone: [dead],
      inboxAdd: bytes("sent"),
      headsThrough: true,
    });

    async function begun(): Promise<{ epoch: number; dead: EntryId }> {
      await bench.acquired();
      const epoch = await bench.acquired();
      await bench.shard.commit({ ...emptyCommit(epoch, 1), dead: [bytes("old")] });
      return { epoch, dead: (await bench.shard.readDeadLetters(ALL))[0]!.id };
    }

    test("S1: the same bytes again answer the same and change nothing", async () => {
      const { epoch, dead } = await begun();
      const first = await bench.shard.commit(everything(epoch, 2, dead));
      expect(first).toMatchObject({ kind: "applied", n: 2 });
      expect(await bench.changesNothing(() => bench.shard.commit(everything(epoch, 2, dead)))).toEqual(first);
      expect(await list("c")).toEqual(["21 m21"]);
      expect(await list("e")).toEqual(["2 m2"]);
      expect(await laneList("c")).toEqual([21]);
      expect(await laneList("f")).toEqual([2]);
      expect(await inbox()).toEqual(["sent"]);
      expect(await bench.shard.owner()).toMatchObject({ uncleanEnds: 0, deadLetters: { count: 1, bytes: 6 } });
      expect(await bench.shard.commit(everything(epoch, 3, dead))).toMatchObject({ kind: "applied", n: 3 });
      expect(await laneList("c")).toEqual([31]);
    });

    test("S2, P6: fenced, it changes nothing", async () => {
      const { epoch, dead } = await begun();
      await bench.acquired();
      const reply = await bench.changesNothing(() => bench.shard.commit(everything(epoch, 2, dead)));
      expect(reply).toEqual({ kind: "fenced", epoch: epoch + 1 });
    });

    test("another shard sees nothing of it", async () => {
      const { epoch, dead } = await begun();
      await bench.shard.commit(everything(epoch, 2, dead));
      const other = bench.harness.store.shard(bench.shardNumber + 10_000);
      expect(await other.readWaiting(key("c"), { after: 0, count: 1 })).toEqual([]);
      expect(await other.readLaneList(key("c"), { after: 0, count: 1 })).toEqual([]);
      expect((await other.readOpen({ cursor: SCAN_START, count: 1 })).found).toEqual([]);
      expect(await other.readTimers({ count: 1 })).toEqual({ due: [], nextInMs: null });
      expect(await other.append(bytes("x"), 10, { conversations: [key("c")] })).toMatchObject({ full: 0 });
    });

    test("scans of conversations find their records only", async () => {
      const { epoch, dead } = await begun();
      await bench.shard.commit(everything(epoch, 2, dead));
      const names: string[] = [];
      let cursor = SCAN_START;
      do {
        const page = await bench.harness.store.scanConversations({ cursor, count: 1_000 });
        for (const found of page.found) if (found.shard === bench.shardNumber) names.push(found.key);
        cursor = page.cursor;
      } while (cursor !== SCAN_START);
      expect([...new Set(names)].sort()).toEqual(["c", "d", "e"].map(key).sort());
    });

    test.each<[string, Partial<Commit>]>([
      ["waiting.id", { conversations: [aside("c", { waiting: waitingOf(0) })] }],
      ["waiting.id", { conversations: [aside("c", { waiting: waitingOf(2, 2) })] }],
      ["waiting.id", { conversations: [aside("c", { waiting: waitingOf(2, 1) })] }],
      ["waitingDone", { conversations: [aside("c", { waitingDone: [1.5] })] }],
      ["laneLists.joining.id", { laneLists: [{ key: key("c"), joining: waitingOf(0), leaving: [] }] }],
      ["laneLists.joining.id", { laneLists: [{ key: key("c"), joining: waitingOf(3, 3), leaving: [] }] }],
      ["laneLists.joining.id", { laneLists: [{ key: key("c"), joining: waitingOf(3, 2), leaving: [] }] }],
      ["laneLists.leaving", { laneLists: [{ key: key("c"), joining: [], leaving: [-1] }] }],
      [
        "laneLists.key",
        {
          laneLists: [
            { key: key("c"), joining: waitingOf(1), leaving: [] },
            { key: key("c"), joining: waitingOf(1), leaving: [] },
          ],
        },
      ],
      ["timers.atMs", { conversations: [aside("c", { timers: [timer("a", 1, Number.NaN)] })] }],
      ["inboxAdd", { inboxAdd: new Uint8Array(0) }],
      ["deadDone.ms", { deadDone: [{ ms: -1, seq: 0 }] }],
    ])("a commit with a bad %s is our bug: it throws before anything is sent", async (field, bad) => {
      const epoch = await bench.acquired();
      await bench.changesNothing(() =>
        expect(bench.shard.commit({ ...emptyCommit(epoch, 1), ...bad })).rejects.toThrow(field),
      );
    });
  });
}
