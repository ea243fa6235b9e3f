// T1 to T5 of actors/timer-mover.ts, on a store in memory and a virtual clock.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TimerMover } from "../../actors/timer-mover.ts";
import { decodeInboxEntry } from "../../src/codec/inbox-codec.ts";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import { ENTRY_ZERO } from "../../src/domain/position.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { StoreCorruptError, StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { ShardStore, StoredTimer } from "../../src/store/shard-store.ts";
import { gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const ENTRY_BYTES_MAX = 1_048_576;
const LEASE_MS = 5_000;

const keyOf = (conversation: string): ConversationKey => conversationKey({ bot: "b", channel: "test", conversation });

/** What stands before each call of the store; it may throw, wait, or do the call itself and throw then. */
type Meddle = (name: "readTimers" | "moveTimers", call: () => Promise<unknown>) => Promise<unknown>;

class Rig {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(5);
  readonly log: RecordingLog = new RecordingLog();
  readonly data: MemoryStore = new MemoryStore(this.environment);
  readonly shard: ShardStore = this.data.shard(0);
  readonly lost: string[] = [];
  readonly failures: unknown[] = [];
  readonly calls = { readTimers: 0, moveTimers: 0 };
  meddle: Meddle = (_name, call) => call();
  readonly part: PartEnvironment;
  mover: TimerMover | null = null;
  #epoch = 0;
  #n = 0;

  readonly entryBytesMax: number;

  constructor(entryBytesMax: number = ENTRY_BYTES_MAX) {
    this.entryBytesMax = entryBytesMax;
    this.part = new PartEnvironment(this.environment, (error) => this.failures.push(error));
  }

  /** Owns the shard as of now. */
  async acquire(node = "a"): Promise<void> {
    const { epoch: observedEpoch } = await this.shard.owner();
    const reply = await this.shard.acquire({ node, observedEpoch, leaseMs: LEASE_MS });
    if (reply.kind !== "acquired") throw new Error(`not acquired: ${reply.kind}`);
    this.#epoch = reply.epoch;
    this.#n = 0;
  }

  async start({ epoch = this.#epoch, clockAheadMs = 0 } = {}): Promise<void> {
    const { shard } = this;
    const environment = clockAheadMs === 0 ? this.part : aheadBy(clockAheadMs, this.environment);
    this.mover = new TimerMover({
      environment,
      log: this.log.log,
      store: {
        readTimers: (request) => this.#call("readTimers", () => shard.readTimers(request)),
        moveTimers: (request) => this.#call("moveTimers", () => shard.moveTimers(request)),
      },
      epoch,
      entryBytesMax: this.entryBytesMax,
      onLost: (reason) => this.lost.push(reason),
    });
    this.part.onClose(() => void this.mover!.stop());
    this.mover.start();
    await quiet();
  }

  #call<Result>(name: "readTimers" | "moveTimers", call: () => Promise<Result>): Promise<Result> {
    this.calls[name] += 1;
    return this.meddle(name, call) as Promise<Result>;
  }

  /** By a commit, as everything that sets one. */
  async set(...timers: readonly { key: ConversationKey; name?: string; generation?: number; inMs: number }[]) {
    const nowMs = this.environment.nowMs();
    const keys = [...new Set(timers.map(({ key }) => key))];
    this.#n += 1;
    const reply = await this.shard.commit({
      epoch: this.#epoch,
      n: this.#n,
      leaseMs: LEASE_MS,
      conversations: keys.map((key) => ({
        key,
        record: Buffer.from("record"),
        ids: null,
        idsTtlMs: null,
        transcript: [],
        aside: {
          waiting: [],
          waitingDone: [],
          open: undefined,
          full: undefined,
          timers: timers
            .filter((timer) => timer.key === key)
            .map(({ name = "!retry", generation = 1, inMs }) => ({ name, generation, atMs: nowMs + inMs })),
        },
      })),
      outbox: null,
      inboxDone: [],
      inboxDoneBytes: 0,
      outboxDone: [],
      acks: [],
      lanes: [],
      dead: [],
      transcript: { linesMax: 1, bytesMax: 1, ttlMs: 1 },
    });
    expect(reply.kind).toBe("applied");
  }

  /** What stands in the inbox, entry by entry: `<conversation>/<name>/<generation>`. */
  async inbox(): Promise<string[][]> {
    const entries = await this.shard.readInbox({ after: ENTRY_ZERO, count: 1_000_000, blockMs: 0 });
    return entries.map(({ id, bytes }) => {
      const entry = { id, bytes: bytes.length, undecided: 0 };
      const { messages, rotten } = decodeInboxEntry(Buffer.from(bytes), entry, { lo: 1, hi: 2 });
      expect(rotten).toEqual([]);
      expect(bytes.length).toBeLessThanOrEqual(this.entryBytesMax);
      return messages.map((message) => {
        if (message.kind !== "timer") throw new Error(`a ${message.kind} among the timers`);
        return `${message.key.slice(keyOf("").length)}/${message.name}/${message.generation}`;
      });
    });
  }

  async left(): Promise<readonly StoredTimer[]> {
    const everything = new VirtualEnvironment(1);
    everything.nowMs = () => Number.MAX_SAFE_INTEGER / 2;
    return (await new MemoryStore(everything, this.data.data).shard(0).readTimers({ count: 1_000_000 })).due;
  }
}

/** The same world, seen by a node whose wall clock is ahead of Redis'. */
function aheadBy(ms: number, world: VirtualEnvironment): PartEnvironment {
  return new PartEnvironment({ ...world, nowMs: () => world.nowMs() + ms }, (error) => {
    throw error;
  });
}

async function owned(entryBytesMax?: number): Promise<Rig> {
  const rig = new Rig(entryBytesMax);
  await rig.acquire();
  return rig;
}

describe("due timers enter the inbox (T1, T2)", () => {
  test("a timer is moved when it is due, not before, and is then a message of its conversation", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c1"), name: "!order", generation: 7, inMs: 400 });
    await rig.start();
    await rig.environment.pass(399);
    expect(await rig.inbox()).toEqual([]);
    await rig.environment.pass(1);
    await quiet();
    expect(await rig.inbox()).toEqual([["c1/!order/7"]]);
    expect(await rig.left()).toEqual([]);
  });

  test("those due at once travel as one entry, the earliest first; each once, however often it looks again", async () => {
    const rig = await owned();
    await rig.set(
      { key: keyOf("b"), inMs: 30 },
      { key: keyOf("a"), inMs: 10 },
      { key: keyOf("a"), name: "n", inMs: 20 },
    );
    await rig.environment.pass(50);
    await rig.start();
    await rig.environment.pass(10_000);
    expect(await rig.inbox()).toEqual([["a/!retry/1", "a/n/1", "b/!retry/1"]]);
  });

  test("500 due timers of halted conversations do not block healthy ones: they leave the timers, in pages (attack B10)", async () => {
    const rig = await owned();
    const halted = Array.from({ length: 1_200 }, (_, i) => ({ key: keyOf(`halted-${i}`), inMs: i }));
    await rig.set(...halted, { key: keyOf("healthy"), inMs: 5_000 });
    await rig.environment.pass(5_000);
    await rig.start(); // nobody consumes anything: for all that is known here, every conversation is halted
    const entries = await rig.inbox();
    expect(entries.map(({ length }) => length)).toEqual([500, 500, 201]);
    expect(entries.flat()).toEqual([...halted.map((_, i) => `halted-${i}/!retry/1`), "healthy/!retry/1"]);
    expect(await rig.left()).toEqual([]);
  });

  test("another generation of a timer is another timer", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c"), generation: 1, inMs: 0 }, { key: keyOf("c"), generation: 2, inMs: 100 });
    await rig.start();
    await rig.environment.pass(100);
    await quiet();
    expect(await rig.inbox()).toEqual([["c/!retry/1"], ["c/!retry/2"]]);
  });
});

describe("bounds (T3)", () => {
  test("a page that is too large for an entry is cut into several, in order", async () => {
    const rig = await owned(8_192);
    const names = Array.from({ length: 300 }, (_, i) => `${i}-${"\u{1f600}".repeat(120)}`);
    await rig.set(...names.map((name, i) => ({ key: keyOf(name), inMs: i })));
    await rig.environment.pass(300);
    await rig.start();
    const entries = await rig.inbox(); // which looks at the size of each
    expect(entries.length).toBeGreaterThan(20);
    expect(entries.flat()).toEqual(names.map((name) => `${name}/!retry/1`));
  });
});

describe("it wakes in time (T5)", () => {
  test("a commit that sets an earlier timer wakes it", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("late"), inMs: 900 });
    await rig.start();
    await rig.set({ key: keyOf("early"), inMs: 200 });
    rig.mover!.wake(rig.environment.nowMs() + 200);
    rig.mover!.wake(rig.environment.nowMs() + 600); // a later one changes nothing
    await rig.environment.pass(201);
    await quiet();
    expect(await rig.inbox()).toEqual([["early/!retry/1"]]);
    await rig.environment.pass(700);
    await quiet();
    expect(await rig.inbox()).toEqual([["early/!retry/1"], ["late/!retry/1"]]);
  });

  test("a wake during a look that did not see the timer is not lost", async () => {
    const rig = await owned();
    const seen = gate();
    rig.meddle = async (_name, call) => {
      const result = await call();
      await seen.promise;
      return result;
    };
    await rig.start();
    await rig.set({ key: keyOf("c"), inMs: 100 });
    rig.mover!.wake(rig.environment.nowMs() + 100);
    seen.open();
    await rig.environment.pass(101);
    await quiet();
    expect(await rig.inbox()).toEqual([["c/!retry/1"]]);
  });

  test("without any wake a timer is a second late at the most", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("far"), inMs: 3_600_000 });
    await rig.start();
    await rig.environment.pass(50_300);
    await rig.set({ key: keyOf("c"), inMs: 0 });
    await rig.environment.pass(1_000);
    await quiet();
    expect(await rig.inbox()).toEqual([["c/!retry/1"]]);
    expect(rig.calls.readTimers).toBeLessThanOrEqual(54);
  });

  test.each([600_000, -600_000])(
    "a wall clock that differs from Redis' by %i ms neither spins nor makes a timer later than a second",
    async (clockAheadMs) => {
      const rig = await owned();
      await rig.start({ clockAheadMs });
      for (let i = 0; i < 10; i += 1) {
        await rig.set({ key: keyOf(`c${i}`), inMs: 500 });
        rig.mover!.wake(rig.environment.nowMs() + 500);
        await rig.environment.pass(1_500);
        await quiet();
        expect((await rig.inbox()).flat()).toHaveLength(i + 1);
      }
      expect(rig.calls.readTimers).toBeLessThan(60);
    },
  );

  test("timers that are always gone before they can be moved do not make it spin", async () => {
    const rig = await owned();
    rig.meddle = async (name) =>
      name === "moveTimers"
        ? { kind: "moved", id: null }
        : { due: [{ key: keyOf("c"), name: "n", generation: 1, atMs: 0 }], nextInMs: null };
    await rig.start();
    await rig.environment.pass(1_000);
    expect(rig.calls.readTimers).toBeLessThan(50);
    expect(rig.calls.readTimers).toBeGreaterThan(10);
  });
});

describe("the world fails (T1, T4)", () => {
  test("fenced: it says so once, and what is due stays for the next owner (P6)", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c"), inMs: 2_000 });
    await rig.start();
    await rig.environment.pass(1_000);
    await rig.acquire();
    await rig.environment.pass(60_000);
    expect(rig.lost).toEqual(["fenced"]);
    expect(await rig.inbox()).toEqual([]);
    expect(await rig.left()).toHaveLength(1);
    expect(rig.calls.moveTimers).toBe(1);
  });

  test("of a page of several entries nothing further is tried once it is fenced", async () => {
    const rig = await owned(8_192);
    await rig.set(...Array.from({ length: 100 }, (_, i) => ({ key: keyOf(`${i}${"x".repeat(400)}`), inMs: 0 })));
    await rig.acquire();
    await rig.start({ epoch: 1 });
    expect(rig.lost).toEqual(["fenced"]);
    expect(rig.calls.moveTimers).toBe(1);
  });

  test("an epoch below its own is a store that lost writes", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c"), inMs: 0 });
    await rig.start({ epoch: 7 });
    expect(rig.lost).toEqual(["rewound"]);
    expect(await rig.inbox()).toEqual([]);
  });

  test.each([
    ["is not done", false],
    ["is done and its answer lost", true],
  ])("a move of unknown outcome that %s: each timer is in the inbox once", async (_what, isDone) => {
    const rig = await owned();
    await rig.set({ key: keyOf("a"), inMs: 0 }, { key: keyOf("b"), inMs: 0 });
    rig.meddle = async (name, call) => {
      if (name === "readTimers" || rig.calls.moveTimers > 3) return call();
      if (isDone) await call();
      throw new StoreUnavailableError("connection lost");
    };
    await rig.start();
    await rig.environment.pass(10_000);
    expect((await rig.inbox()).flat().sort()).toEqual(["a/!retry/1", "b/!retry/1"]);
    expect(rig.lost).toEqual([]);
  });

  test("a lost move that lands after its repeat moves nothing twice", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("a"), inMs: 0 });
    let late: (() => Promise<unknown>) | null = null;
    rig.meddle = async (name, call) => {
      if (name === "readTimers" || late !== null) return call();
      late = call;
      throw new StoreUnavailableError("connection lost");
    };
    await rig.start();
    await rig.environment.pass(10_000);
    await late!();
    expect(await rig.inbox()).toEqual([["a/!retry/1"]]);
  });

  test("while the store is away it asks with pauses of up to a second, and goes on when it is back", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c"), inMs: 0 });
    const errors = [() => new StoreUnavailableError("away"), () => new StoreNotReadyError("LOADING")];
    rig.meddle = async () => {
      throw errors[rig.calls.readTimers % 2]!();
    };
    await rig.start();
    await rig.environment.pass(60_000);
    expect(rig.calls.readTimers).toBeGreaterThan(50);
    expect(rig.calls.readTimers).toBeLessThan(150);
    rig.meddle = (_name, call) => call();
    await rig.environment.pass(1_000);
    expect(await rig.inbox()).toEqual([["c/!retry/1"]]);
    expect([rig.lost, rig.failures]).toEqual([[], []]);
  });

  test("what cannot be read halts the shard, with a line in the log", async () => {
    const rig = await owned();
    rig.meddle = async () => {
      throw new StoreCorruptError("WRONGTYPE");
    };
    await rig.start();
    await rig.environment.pass(60_000);
    expect(rig.lost).toEqual(["corrupt"]);
    expect(rig.calls.readTimers).toBe(1);
    expect(rig.log.at("fatal")).toHaveLength(1);
  });

  test("an error of its own code is its supervisor's business", async () => {
    const rig = await owned();
    const own = new TypeError("a mistake");
    rig.meddle = async () => {
      throw own;
    };
    await rig.start();
    expect(rig.failures).toEqual([own]);
    await rig.environment.pass(60_000);
    expect(rig.calls.readTimers).toBe(1);
  });

  test("under any faults every timer reaches the inbox, and a repeat of one only where a lost move landed late", async () => {
    const fault = fc.constantFrom("none", "none", "refused", "lost-before", "lost-after", "late");
    const plan = fc.record({
      faults: fc.array(fault, { minLength: 5, maxLength: 40 }),
      timers: fc.array(fc.nat(3_000), { minLength: 1, maxLength: 30 }),
    });
    await fc.assert(
      fc.asyncProperty(plan, async ({ faults, timers }) => {
        const rig = await owned();
        let calls = 0;
        let landedLate = 0;
        rig.meddle = async (_name, call) => {
          const met = faults[calls];
          calls += 1;
          if (met === "refused") throw new StoreNotReadyError("BUSY");
          if (met === "late") {
            landedLate += 1;
            rig.environment.after(150, () => void call());
          } else if (met === "lost-after") await call();
          if (met === "lost-before" || met === "late" || met === "lost-after") throw new StoreUnavailableError("lost");
          return call();
        };
        await rig.set(...timers.map((inMs, i) => ({ key: keyOf(`c${i}`), inMs })));
        await rig.start();
        await rig.environment.pass(60_000);
        const moved = (await rig.inbox()).flat();
        expect(new Set(moved).size).toBe(timers.length);
        if (landedLate === 0) expect(moved).toHaveLength(timers.length);
        expect(await rig.left()).toEqual([]);
        await rig.mover!.stop();
      }),
      { numRuns: 60 },
    );
  });
});

describe("it ends", () => {
  test("a stop waits for the call under way, and moves nothing more", async () => {
    const rig = await owned();
    await rig.set({ key: keyOf("c"), inMs: 0 });
    const answer = gate();
    rig.meddle = async (_name, call) => {
      await answer.promise;
      return call();
    };
    await rig.start();
    let isStopped = false;
    void rig.mover!.stop().then(() => {
      isStopped = true;
    });
    await quiet();
    expect(isStopped).toBe(false);
    answer.open();
    await quiet();
    expect(isStopped).toBe(true);
    expect(rig.calls).toEqual({ readTimers: 1, moveTimers: 0 });
    expect(await rig.left()).toHaveLength(1);
  });

  test("one that sleeps is stopped at once; one whose part is killed looks no more", async () => {
    const sleeping = await owned();
    await sleeping.start();
    await sleeping.mover!.stop();
    const killed = await owned();
    await killed.start();
    killed.part.close();
    await quiet();
    for (const rig of [sleeping, killed]) {
      const { readTimers } = rig.calls;
      await rig.environment.pass(10_000);
      expect(rig.calls.readTimers).toBe(readTimers);
    }
  });
});
