// What every implementation of the store port does: each reply of each operation, its replay, and no write on a refusal.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import { ENTRY_ZERO, type EntryId, formatEntryId } from "../../src/domain/position.ts";
import {
  type Commit,
  type ConversationWrite,
  SCAN_START,
  type ShardStore,
  type Store,
} from "../../src/store/shard-store.ts";
import { clockPasses } from "../support/clock-passes.ts";
import type { StoreBackDoors } from "./back-doors.ts";
import { asideConformance } from "./conformance-aside.ts";

/** One implementation, with back doors that the port has not. */
export interface StoreHarness extends StoreBackDoors {
  readonly store: Store;
  /** Everything that is stored of the shard and of what the namespace is made of, as comparable text. */
  dump(shard: number): Promise<string>;
  close(): Promise<void>;
}

export const LEASE_MS = 60_000;
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (value: Uint8Array | null): string | null => value && new TextDecoder().decode(value);
export const key = (conversation: string): ConversationKey =>
  conversationKey({ bot: "echo", channel: "http", conversation });

/** A commit that changes nothing but the number. */
export function emptyCommit(epoch: number, n: number): Commit {
  return {
    epoch,
    n,
    leaseMs: LEASE_MS,
    conversations: [],
    outbox: null,
    inboxDone: [],
    inboxDoneBytes: 0,
    outboxDone: [],
    acks: [],
    lanes: [],
    dead: [],
    transcript: { linesMax: 200, bytesMax: 262_144, ttlMs: 60_000 },
  };
}

export function write(conversation: string, record: string, more: Partial<ConversationWrite> = {}): ConversationWrite {
  return { key: key(conversation), record: bytes(record), ids: null, idsTtlMs: null, transcript: [], ...more };
}

const ALL = { after: ENTRY_ZERO, count: 1_000 };
const contents = (entries: readonly { bytes: Uint8Array }[]): (string | null)[] => entries.map((e) => text(e.bytes));

export function storeConformance(name: string, makeHarness: () => Promise<StoreHarness>): void {
  describe(name, () => {
    let harness: StoreHarness;
    let shardNumber = 0;
    let shard: ShardStore;

    beforeAll(async () => {
      harness = await makeHarness();
    });
    afterAll(async () => {
      await harness.close();
    });
    beforeEach(() => {
      shardNumber += 1; // a fresh shard for each test
      shard = harness.store.shard(shardNumber);
    });

    async function acquired(node = "node-a"): Promise<number> {
      const reply = await shard.acquire({ node, observedEpoch: (await shard.owner()).epoch, leaseMs: LEASE_MS });
      if (reply.kind !== "acquired") throw new Error(`expected acquired, got ${reply.kind}`);
      return reply.epoch;
    }
    async function appended(batch: string): Promise<EntryId> {
      const reply = await shard.append(bytes(batch), 1_000_000);
      if (reply.kind !== "appended") throw new Error("expected appended");
      return reply.id;
    }
    async function changesNothing<Reply>(call: () => Promise<Reply>): Promise<Reply> {
      const before = await harness.dump(shardNumber);
      const reply = await call();
      expect(await harness.dump(shardNumber)).toBe(before);
      return reply;
    }

    describe("namespace", () => {
      test("is created on first use, and found with its first values after that", async () => {
        const hashKey = Uint8Array.of(0, 1, 2, 3, 254, 255, 13, 10);
        const created = await harness.store.openNamespace({ shards: 16, hashKey });
        expect(created.shards).toBe(16);
        expect(created.schemaVersion).toBe(1);
        expect([...created.hashKey]).toEqual([...hashKey]);
        const found = await changesNothing(() =>
          harness.store.openNamespace({ shards: 4, hashKey: new Uint8Array(8).fill(9) }),
        );
        expect(found.shards).toBe(16);
        expect([...found.hashKey]).toEqual([...hashKey]);
      });
    });

    describe("acquire", () => {
      test("a shard that nobody owned has epoch 0 and counts as clean", async () => {
        expect(await shard.owner()).toEqual({
          node: null,
          epoch: 0,
          n: 0,
          leaseRemainingMs: 0,
          clean: true,
          inboxBytes: 0,
          deadLetters: { count: 0, bytes: 0 },
          uncleanEnds: 0,
        });
        expect(await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS })).toEqual({
          kind: "acquired",
          epoch: 1,
          wasClean: true,
          inboxBytes: 0,
          uncleanEnds: 0,
          inboxLast: ENTRY_ZERO,
        });
        const owner = await shard.owner();
        expect(owner).toMatchObject({ node: "a", epoch: 1, n: 0, clean: false });
        expect(owner.leaseRemainingMs).toBeGreaterThan(LEASE_MS - 5_000);
        expect(owner.leaseRemainingMs).toBeLessThanOrEqual(LEASE_MS);
      });

      test("is refused while another node's lease lives", async () => {
        await acquired("a");
        const reply = await changesNothing(() => shard.acquire({ node: "b", observedEpoch: 1, leaseMs: LEASE_MS }));
        expect(reply).toMatchObject({ kind: "held", node: "a" });
        if (reply.kind === "held") expect(reply.leaseRemainingMs).toBeGreaterThan(LEASE_MS - 5_000);
      });

      test("a node takes its own shard back at once", async () => {
        await acquired("a");
        const reply = await shard.acquire({ node: "a", observedEpoch: 1, leaseMs: LEASE_MS });
        expect(reply).toMatchObject({ kind: "acquired", epoch: 2, wasClean: false });
      });

      test("another node gets it when the lease ran out", async () => {
        await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: 1 });
        await clockPasses(5);
        expect((await shard.owner()).leaseRemainingMs).toBe(0);
        const reply = await shard.acquire({ node: "b", observedEpoch: 1, leaseMs: LEASE_MS });
        expect(reply).toMatchObject({ kind: "acquired", epoch: 2, wasClean: false });
      });

      test("is refused when the epoch is not the observed one", async () => {
        await acquired("a");
        const reply = await changesNothing(() => shard.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS }));
        expect(reply).toEqual({ kind: "changed", epoch: 1 });
      });

      test("commits count from 1 again, and the old number is no replay", async () => {
        const first = await acquired();
        await shard.commit({ ...emptyCommit(first, 1), outbox: bytes("r") });
        const second = await acquired();
        expect((await shard.owner()).n).toBe(0);
        expect(await shard.commit(emptyCommit(second, 1))).toEqual({ kind: "applied", n: 1, outboxId: null });
      });

      test("counts the inbox anew", async () => {
        await appended("12345");
        await appended("1234567");
        const reply = await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS });
        expect(reply).toMatchObject({ kind: "acquired", inboxBytes: 12 });
      });

      test("counts an inbox of many pages", async () => {
        for (let i = 0; i < 40; i += 1) await appended("x".repeat(i));
        const reply = await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS });
        expect(reply).toMatchObject({ kind: "acquired", inboxBytes: (39 * 40) / 2 });
      });

      test("H10: an inbox that is gone, or begins anew below what was seen, is refused as rewound", async () => {
        const last = await appended("a");
        await harness.loseStream(shardNumber, "inbox");
        const reply = await changesNothing(() => shard.acquire({ node: "a", observedEpoch: 0, leaseMs: LEASE_MS }));
        const highestSeen = formatEntryId(last);
        expect(reply).toEqual({ kind: "rewound", stream: "inbox", lastId: "0-0", highestSeen });
      });

      test("H10: an outbox that is gone is refused as rewound", async () => {
        const epoch = await acquired();
        const reply = await shard.commit({ ...emptyCommit(epoch, 1), outbox: bytes("replies") });
        if (reply.kind !== "applied" || reply.outboxId === null) throw new Error("expected an outbox id");
        await harness.loseStream(shardNumber, "outbox");
        expect(
          await changesNothing(() => shard.acquire({ node: "node-a", observedEpoch: epoch, leaseMs: LEASE_MS })),
        ).toEqual({ kind: "rewound", stream: "outbox", lastId: "0-0", highestSeen: formatEntryId(reply.outboxId) });
      });

      test("H10: a lost inbox gets no new entries while the clock is behind what was seen", async () => {
        await appended("a");
        await harness.raiseHighestSeen(shardNumber, "inbox", { ms: Date.now() + 60_000, seq: 0 });
        await changesNothing(() =>
          expect(shard.append(bytes("b"), 1_000)).rejects.toMatchObject({ code: "ERR_STORE_CORRUPT" }),
        );
      });

      test("H10: a lost outbox gets no new entries while the clock is behind what was seen", async () => {
        const epoch = await acquired();
        await harness.raiseHighestSeen(shardNumber, "outbox", { ms: Date.now() + 60_000, seq: 0 });
        const commit = { ...emptyCommit(epoch, 1), conversations: [write("c", "r")], outbox: bytes("replies") };
        await changesNothing(() => expect(shard.commit(commit)).rejects.toMatchObject({ code: "ERR_STORE_CORRUPT" }));
        expect(await shard.commit({ ...commit, outbox: null })).toMatchObject({ kind: "applied" });
      });

      test("streams whose entries are all done are not rewound", async () => {
        const epoch = await acquired();
        const id = await appended("a");
        const applied = await shard.commit({
          ...emptyCommit(epoch, 1),
          outbox: bytes("r"),
          inboxDone: [id],
          inboxDoneBytes: 1,
        });
        if (applied.kind !== "applied" || applied.outboxId === null) throw new Error("expected an outbox id");
        await shard.commit({ ...emptyCommit(epoch, 2), outboxDone: [applied.outboxId] });
        expect(await shard.acquire({ node: "node-a", observedEpoch: epoch, leaseMs: LEASE_MS })).toMatchObject({
          kind: "acquired",
          inboxBytes: 0,
        });
      });
    });

    describe("renew and release", () => {
      test("renewing lengthens the lease, also one that ran out", async () => {
        await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: 1 });
        await clockPasses(5);
        expect(await shard.renew({ epoch: 1, leaseMs: LEASE_MS })).toEqual({ kind: "renewed" });
        expect((await shard.owner()).leaseRemainingMs).toBeGreaterThan(LEASE_MS - 5_000);
      });

      test("a stale epoch neither renews nor releases", async () => {
        await acquired();
        await acquired();
        expect(await changesNothing(() => shard.renew({ epoch: 1, leaseMs: LEASE_MS }))).toEqual({
          kind: "fenced",
          epoch: 2,
        });
        expect(await changesNothing(() => shard.release({ epoch: 1, clean: true }))).toEqual({
          kind: "fenced",
          epoch: 2,
        });
      });

      test("a shard that nobody owns is fenced with epoch 0", async () => {
        expect(await changesNothing(() => shard.renew({ epoch: 1, leaseMs: LEASE_MS }))).toEqual({
          kind: "fenced",
          epoch: 0,
        });
        expect(await changesNothing(() => shard.release({ epoch: 1, clean: true }))).toEqual({
          kind: "fenced",
          epoch: 0,
        });
      });

      test.each([true, false])(
        "after a release (clean: %s) another node acquires at once and is told",
        async (clean) => {
          const epoch = await acquired("a");
          expect(await shard.release({ epoch, clean })).toEqual({ kind: "released" });
          expect(await shard.release({ epoch, clean })).toEqual({ kind: "released" });
          expect(await shard.owner()).toMatchObject({ node: "a", epoch, leaseRemainingMs: 0, clean });
          const reply = await shard.acquire({ node: "b", observedEpoch: epoch, leaseMs: LEASE_MS });
          expect(reply).toMatchObject({ kind: "acquired", epoch: epoch + 1, wasClean: clean });
        },
      );

      test("a commit after a release makes the shard unclean again", async () => {
        const epoch = await acquired();
        await shard.release({ epoch, clean: true });
        await shard.commit(emptyCommit(epoch, 1));
        expect(await shard.owner()).toMatchObject({ clean: false });
      });
    });

    describe("append", () => {
      test("adds entries in order, exactly as given", async () => {
        const every = Uint8Array.from({ length: 256 }, (_, i) => i);
        const first = await shard.append(every, 1_000);
        const second = await shard.append(bytes("b"), 1_000);
        expect(first).toMatchObject({ kind: "appended", inboxBytes: 256 });
        expect(second).toMatchObject({ kind: "appended", inboxBytes: 257 });
        const entries = await shard.readInbox({ ...ALL, blockMs: 0 });
        expect(entries.map((e) => [...e.bytes])).toEqual([[...every], [98]]);
        expect(entries.map((e) => e.id)).toEqual([first, second].map((r) => r.kind === "appended" && r.id));
      });

      test("needs no owner and no epoch", async () => {
        expect(await shard.append(bytes("a"), 10)).toMatchObject({ kind: "appended" });
        expect(await shard.owner()).toEqual({
          node: null,
          epoch: 0,
          n: 0,
          leaseRemainingMs: 0,
          clean: true,
          inboxBytes: 1,
          deadLetters: { count: 0, bytes: 0 },
          uncleanEnds: 0,
        });
      });

      test("is refused when the inbox would pass its bound, and fits again after a commit", async () => {
        const epoch = await acquired();
        const id = await appended("12345678");
        expect(await shard.append(bytes("9a"), 10)).toMatchObject({ kind: "appended", inboxBytes: 10 });
        const over = await changesNothing(() => shard.append(bytes("b"), 10));
        expect(over).toEqual({ kind: "over", inboxBytes: 10 });
        await shard.commit({ ...emptyCommit(epoch, 1), inboxDone: [id], inboxDoneBytes: 8 });
        expect(await shard.append(bytes("b"), 10)).toMatchObject({ kind: "appended", inboxBytes: 3 });
        expect((await shard.owner()).inboxBytes).toBe(3);
      });
    });

    describe("commit", () => {
      test("stores records, ids, replies and dead letters, and takes what is done out of the inbox", async () => {
        const epoch = await acquired();
        const done = await appended("batch");
        const left = await appended("later");
        const reply = await shard.commit({
          ...emptyCommit(epoch, 1),
          conversations: [
            write("c1", "record 1", { ids: { kind: "append", bytes: bytes("ids 1") } }),
            write("c2", "record 2"),
          ],
          outbox: bytes("replies"),
          inboxDone: [done],
          inboxDoneBytes: 5,
          dead: [bytes("letter 1"), bytes("letter 2")],
        });
        const [outboxEntry] = await shard.readOutbox(ALL);
        expect(reply).toEqual({ kind: "applied", n: 1, outboxId: outboxEntry?.id });
        expect(text(outboxEntry!.bytes)).toBe("replies");
        const loaded = await shard.load([key("c2"), key("nobody"), key("c1")]);
        expect(loaded.map((c) => [text(c.record), text(c.ids)])).toEqual([
          ["record 2", null],
          [null, null],
          ["record 1", "ids 1"],
        ]);
        const inbox = await shard.readInbox({ ...ALL, blockMs: 0 });
        expect(inbox.map((e) => e.id)).toEqual([left]);
        expect(contents(await shard.readDeadLetters(ALL))).toEqual(["letter 1", "letter 2"]);
        expect(await shard.owner()).toMatchObject({ n: 1, deadLetters: { count: 2, bytes: 16 } });
        await shard.commit({ ...emptyCommit(epoch, 2), dead: [bytes("third")] });
        expect((await shard.owner()).deadLetters).toEqual({ count: 3, bytes: 21 });
      });

      test("S1: the same bytes again answer the same and change nothing", async () => {
        const epoch = await acquired();
        const commit: Commit = {
          ...emptyCommit(epoch, 1),
          conversations: [
            write("c", "r", { ids: { kind: "append", bytes: bytes("once") }, transcript: [bytes("line")] }),
          ],
          outbox: bytes("replies"),
          dead: [bytes("letter")],
        };
        const first = await shard.commit(commit);
        const again = await changesNothing(() => shard.commit(commit));
        expect(again).toEqual(first);
      });

      test("S1: a replay of a commit without replies has no outbox id, whatever the one before had", async () => {
        const epoch = await acquired();
        await shard.commit({ ...emptyCommit(epoch, 1), outbox: bytes("replies") });
        await shard.commit(emptyCommit(epoch, 2));
        expect(await changesNothing(() => shard.commit(emptyCommit(epoch, 2)))).toEqual({
          kind: "applied",
          n: 2,
          outboxId: null,
        });
      });

      test("S2, P6: a stale epoch is fenced, also for a commit that was applied", async () => {
        const epoch = await acquired("a");
        const commit = { ...emptyCommit(epoch, 1), conversations: [write("c", "r")] };
        await shard.commit(commit);
        await acquired("a");
        for (const n of [1, 2]) {
          expect(await changesNothing(() => shard.commit({ ...commit, n }))).toEqual({
            kind: "fenced",
            epoch: epoch + 1,
          });
        }
      });

      test("an owner whose lease ran out still commits as long as nobody acquired, and has its lease again", async () => {
        await shard.acquire({ node: "a", observedEpoch: 0, leaseMs: 1 });
        await clockPasses(5);
        expect(await shard.commit(emptyCommit(1, 1))).toMatchObject({ kind: "applied" });
        expect((await shard.owner()).leaseRemainingMs).toBeGreaterThan(LEASE_MS - 5_000);
      });

      test("R2: a store that forgot commits answers rewound", async () => {
        const epoch = await acquired();
        for (const n of [1, 2, 3]) await shard.commit(emptyCommit(epoch, n));
        await harness.rewindOwner(shardNumber, { n: 1 });
        const commit = { ...emptyCommit(epoch, 4), conversations: [write("c", "r")], outbox: bytes("x") };
        expect(await changesNothing(() => shard.commit(commit))).toEqual({ kind: "rewound", n: 1 });
      });

      test("R2: a store that forgot its owner answers rewound, not fenced", async () => {
        const epoch = await acquired();
        await harness.rewindOwner(shardNumber, "nothing");
        expect(await changesNothing(() => shard.commit(emptyCommit(epoch, 1)))).toEqual({ kind: "rewound", n: 0 });
      });

      test("a number that was passed long ago is our bug: it throws and changes nothing", async () => {
        const epoch = await acquired();
        for (const n of [1, 2]) await shard.commit(emptyCommit(epoch, n));
        await changesNothing(() =>
          expect(shard.commit(emptyCommit(epoch, 1))).rejects.toMatchObject({ code: "ERR_STORE_CORRUPT" }),
        );
      });

      test("ids are appended or rewritten, and keep or get a life", async () => {
        const epoch = await acquired();
        const step = async (n: number, more: Partial<ConversationWrite>): Promise<(string | number | null)[]> => {
          await shard.commit({ ...emptyCommit(epoch, n), conversations: [write("c", "r", more)] });
          const [stored] = await shard.load([key("c")]);
          const ttl = await harness.idsTtlMs(shardNumber, key("c"));
          return [text(stored!.ids), ttl === null ? null : Math.ceil(ttl / 10_000)];
        };
        expect(await step(1, { ids: { kind: "append", bytes: bytes("a") } })).toEqual(["a", null]);
        expect(await step(2, { ids: { kind: "append", bytes: bytes("b") }, idsTtlMs: 20_000 })).toEqual(["ab", 2]);
        expect(await step(3, { ids: { kind: "append", bytes: bytes("c") } })).toEqual(["abc", 2]);
        expect(await step(4, { ids: { kind: "rewrite", bytes: bytes("d") } })).toEqual(["d", 2]);
        expect(await step(5, { idsTtlMs: 50_000 })).toEqual(["d", 5]);
        expect(await step(6, { ids: { kind: "rewrite", bytes: bytes("ef") }, idsTtlMs: 10_000 })).toEqual(["ef", 1]);
      });

      test("ids whose life ended are gone", async () => {
        const epoch = await acquired();
        const ids = { kind: "append", bytes: bytes("a") } as const;
        await shard.commit({ ...emptyCommit(epoch, 1), conversations: [write("c", "r", { ids, idsTtlMs: 1 })] });
        await clockPasses(5);
        expect((await shard.load([key("c")]))[0]!.ids).toBeNull();
        await shard.commit({ ...emptyCommit(epoch, 2), conversations: [write("c", "r", { ids })] });
        expect(text((await shard.load([key("c")]))[0]!.ids)).toBe("a");
        expect(await harness.idsTtlMs(shardNumber, key("c"))).toBeNull();
      });

      test("acknowledgements replace each other and go with their entry", async () => {
        const epoch = await acquired();
        const entries: EntryId[] = [];
        for (const n of [1, 2]) {
          const reply = await shard.commit({ ...emptyCommit(epoch, n), outbox: bytes(`replies ${n}`) });
          if (reply.kind === "applied" && reply.outboxId !== null) entries.push(reply.outboxId);
        }
        const [first, second] = entries as [EntryId, EntryId];
        const acks = [first, second].map((entry) => ({ entry, done: Uint8Array.of(0b101, 0) }));
        await shard.commit({ ...emptyCommit(epoch, 3), acks });
        await shard.commit({ ...emptyCommit(epoch, 4), acks: [{ entry: second, done: Uint8Array.of(0b111, 255) }] });
        const stored = new Map((await shard.readAcks()).map(({ entry, done }) => [formatEntryId(entry), [...done]]));
        expect(stored).toEqual(
          new Map([
            [formatEntryId(first), [0b101, 0]],
            [formatEntryId(second), [0b111, 255]],
          ]),
        );
        await shard.commit({ ...emptyCommit(epoch, 5), outboxDone: [first] });
        expect((await shard.readAcks()).map(({ entry }) => entry)).toEqual([second]);
        expect((await shard.readOutbox(ALL)).map(({ id }) => id)).toEqual([second]);
      });

      test("lane states are set and removed", async () => {
        const epoch = await acquired();
        const lane = (conversation: string, state: string | null) => ({
          key: key(conversation),
          state: state === null ? null : bytes(state),
        });
        await shard.commit({
          ...emptyCommit(epoch, 1),
          lanes: [lane("c1", "one"), lane("c2", "two"), lane("ö🙂", "")],
        });
        await shard.commit({ ...emptyCommit(epoch, 2), lanes: [lane("c1", null), lane("c2", "2"), lane("c9", null)] });
        const stored = new Map((await shard.readLanes()).map((l) => [l.key, text(l.state)]));
        expect(stored).toEqual(
          new Map([
            [key("c2"), "2"],
            [key("ö🙂"), ""],
          ]),
        );
        const single = await Promise.all(["c1", "c2", "ö🙂"].map((name) => shard.readLane(key(name))));
        expect(single.map(text)).toEqual([null, "2", ""]);
      });

      test("more records, ids, lines and ids of done entries than Lua's stack holds", async () => {
        const epoch = await acquired();
        const done: EntryId[] = [];
        for (let i = 0; i < 60; i += 1) done.push(await appended("x"));
        while (done.length < 9_000) done.push({ ms: 1, seq: done.length }); // not there: no harm
        const many = Array.from({ length: 4_000 }, (_, i) =>
          write(`c${i}`, `record ${i}`, {
            ids: { kind: i % 2 === 0 ? "append" : "rewrite", bytes: bytes(`ids ${i}`) },
            idsTtlMs: i % 3 === 0 ? 60_000 : null,
            transcript: i % 4 === 0 ? [bytes(`line ${i}`)] : [],
          }),
        );
        const reply = await shard.commit({
          ...emptyCommit(epoch, 1),
          conversations: many,
          inboxDone: done,
          inboxDoneBytes: 60,
          acks: done.slice(0, 4_500).map((entry) => ({ entry, done: Uint8Array.of(1) })),
          lanes: many.map((c) => ({ key: c.key, state: c.record })),
          dead: many.slice(0, 100).map((c) => c.record),
        });
        expect(reply.kind).toBe("applied");
        const loaded = await shard.load(many.map((c) => c.key));
        expect(loaded.map((c) => text(c.record))).toEqual(many.map((_, i) => `record ${i}`));
        expect(loaded.map((c) => text(c.ids))).toEqual(many.map((_, i) => `ids ${i}`));
        expect(await shard.readInbox({ ...ALL, blockMs: 0 })).toEqual([]);
        expect(await shard.readAcks()).toHaveLength(4_500);
        expect(await shard.readLanes()).toHaveLength(4_000);
        expect(contents(await shard.readTranscript(key("c4"), ALL))).toEqual(["line 4"]);
        expect(await shard.append(bytes("x"), 1)).toMatchObject({ kind: "appended", inboxBytes: 1 });
      });

      test("an outbox entry and a record at their bounds", async () => {
        const epoch = await acquired();
        const big = new Uint8Array(1_048_576).map((_, i) => i);
        const record = { ...write("c", ""), record: big };
        await shard.commit({ ...emptyCommit(epoch, 1), conversations: [record], outbox: big });
        const [stored] = await shard.load([key("c")]);
        const [entry] = await shard.readOutbox(ALL);
        expect(Buffer.compare(stored!.record!, big)).toBe(0);
        expect(Buffer.compare(entry!.bytes, big)).toBe(0);
      });

      test.each<[string, Partial<Commit>]>([
        ["n", { n: 0 }],
        ["n", { n: 1.5 }],
        ["leaseMs", { leaseMs: 0 }],
        ["outbox", { outbox: new Uint8Array(0) }],
        ["inboxDone.ms", { inboxDone: [{ ms: Number.NaN, seq: 0 }] }],
        ["idsTtlMs", { conversations: [write("c", "r", { idsTtlMs: 0 })] }],
      ])("a commit with a bad %s is our bug: it throws before anything is sent", async (field, bad) => {
        const epoch = await acquired();
        await changesNothing(() => expect(shard.commit({ ...emptyCommit(epoch, 1), ...bad })).rejects.toThrow(field));
      });
    });

    describe("transcript", () => {
      const bounds = { linesMax: 3, bytesMax: 30, ttlMs: 60_000 };
      async function lines(epoch: number, n: number, ...added: string[]): Promise<(string | null)[]> {
        const conversations = [write("c", "r", { transcript: added.map(bytes) })];
        await shard.commit({ ...emptyCommit(epoch, n), conversations, transcript: bounds });
        return contents(await shard.readTranscript(key("c"), ALL));
      }

      test("keeps the last lines, in order, and has a life", async () => {
        const epoch = await acquired();
        expect(await lines(epoch, 1, "a", "b")).toEqual(["a", "b"]);
        expect(await lines(epoch, 2, "c", "d")).toEqual(["b", "c", "d"]);
        expect(await lines(epoch, 3, "e", "f", "g", "h", "i")).toEqual(["g", "h", "i"]);
        expect(await harness.transcriptTtlMs(shardNumber, key("c"))).toBeGreaterThan(50_000);
      });

      test("is cut to its bytes when a large line comes, but never to nothing", async () => {
        const epoch = await acquired();
        expect(await lines(epoch, 1, "a", "b")).toEqual(["a", "b"]);
        expect(await lines(epoch, 2, "x".repeat(29))).toEqual(["b", "x".repeat(29)]);
        expect(await lines(epoch, 3, "y".repeat(40))).toEqual(["y".repeat(40)]);
        expect(await lines(epoch, 4, "z".repeat(10))).toEqual(["y".repeat(40), "z".repeat(10)]); // no large line: not measured
      });

      test("is read on from an entry", async () => {
        const epoch = await acquired();
        await lines(epoch, 1, "a", "b", "c");
        const [first, ...rest] = await shard.readTranscript(key("c"), ALL);
        expect(await shard.readTranscript(key("c"), { after: first!.id, count: 10 })).toEqual(rest);
        expect(contents(await shard.readTranscript(key("c"), { after: first!.id, count: 1 }))).toEqual(["b"]);
        expect(await shard.readTranscript(key("nobody"), ALL)).toEqual([]);
      });
    });

    describe("readInbox", () => {
      test("pages from an entry on, and answers at once with nothing when it may not wait", async () => {
        const ids = [await appended("a"), await appended("b"), await appended("c")];
        const page = await shard.readInbox({ after: ENTRY_ZERO, count: 2, blockMs: 0 });
        expect(page.map((e) => e.id)).toEqual(ids.slice(0, 2));
        const rest = await shard.readInbox({ after: page[1]!.id, count: 2, blockMs: 1_000 });
        expect(rest.map((e) => e.id)).toEqual(ids.slice(2));
        expect(await shard.readInbox({ after: rest[0]!.id, count: 2, blockMs: 0 })).toEqual([]);
      });

      test("a waiting read is woken by an append", async () => {
        const after = await appended("old");
        const read = shard.readInbox({ after, count: 10, blockMs: 20_000 });
        await clockPasses(30);
        await appended("new");
        expect(contents(await read)).toEqual(["new"]);
      });

      test("a waiting read answers with nothing when its time is up", async () => {
        expect(await shard.readInbox({ after: ENTRY_ZERO, count: 10, blockMs: 20 })).toEqual([]);
      });

      test("close ends a waiting read promptly, and the shard can be opened again", async () => {
        const read = shard.readInbox({ after: ENTRY_ZERO, count: 10, blockMs: 20_000 });
        await clockPasses(30);
        const closedAt = performance.now();
        await shard.close();
        expect(await read).toEqual([]);
        expect(performance.now() - closedAt).toBeLessThan(1_000);
        shard = harness.store.shard(shardNumber);
        await appended("a");
        expect(await shard.readInbox({ after: ENTRY_ZERO, count: 10, blockMs: 1_000 })).toHaveLength(1);
      });
    });

    describe("scanConversations", () => {
      async function scanned(count: number): Promise<{ names: string[]; steps: number }> {
        const names: string[] = [];
        let steps = 0;
        for (let cursor = SCAN_START; steps === 0 || cursor !== SCAN_START; steps += 1) {
          const page = await harness.store.scanConversations({ cursor, count });
          for (const found of page.found) if (found.shard === shardNumber) names.push(found.key);
          cursor = page.cursor;
        }
        return { names, steps };
      }

      test("finds each conversation that has a record, whatever its id, and nothing else", async () => {
        const ids = [
          ...Array.from({ length: 300 }, (_, i) => `c${i}`),
          "a:c:b",
          "{x}",
          "ö🙂",
          "a\nb",
          "*",
          " ",
          "}:c:1:a1:b",
        ];
        const epoch = await acquired();
        const change = { ids: { kind: "append", bytes: bytes("x") }, transcript: [bytes("line")] } as const;
        await shard.commit({ ...emptyCommit(epoch, 1), conversations: ids.map((id) => write(id, "r", change)) });
        await appended("entry");
        for (const count of [10, 100, 10_000]) {
          const { names, steps } = await scanned(count);
          expect([...new Set(names)].sort()).toEqual(ids.map(key).sort());
          if (count === 10) expect(steps).toBeGreaterThan(10);
        }
      });

      test("finds all that stay while others come and go", async () => {
        const epoch = await acquired();
        const stay = Array.from({ length: 100 }, (_, i) => write(`stay${i}`, "r"));
        await shard.commit({ ...emptyCommit(epoch, 1), conversations: stay });
        const names = new Set<string>();
        let n = 1;
        for (let cursor = SCAN_START; n === 1 || cursor !== SCAN_START; ) {
          n += 1;
          const page = await harness.store.scanConversations({ cursor, count: 20 });
          for (const { key: found } of page.found) names.add(found);
          await shard.commit({ ...emptyCommit(epoch, n), conversations: [write(`new${n}`, "r")] });
          cursor = page.cursor;
        }
        for (const { key: name } of stay) expect(names).toContain(name);
      });
    });

    asideConformance({
      get harness() {
        return harness;
      },
      get shard() {
        return shard;
      },
      get shardNumber() {
        return shardNumber;
      },
      acquired,
      appended,
      changesNothing,
    });

    test("conversation ids of any kind are stored under keys of their own", async () => {
      const names = ["a", "A", "a:b", "{b}", "ö", "🙂", "a\u0000b", "a\r\nb", " ", "*", "x".repeat(512)];
      const epoch = await acquired();
      await shard.commit({ ...emptyCommit(epoch, 1), conversations: names.map((name) => write(name, `of ${name}`)) });
      const loaded = await shard.load(names.map(key));
      expect(loaded.map((c) => text(c.record))).toEqual(names.map((name) => `of ${name}`));
    });
  });
}
