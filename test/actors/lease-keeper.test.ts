// K1 to K3 of actors/lease-keeper.ts: keepers of several nodes on one memory store and a virtual clock.

import { describe, expect, test, vi } from "vitest";
import { LeaseKeeper } from "../../actors/lease-keeper.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { StoreCorruptError, StoreUnavailableError } from "../../src/errors.ts";
import { MemoryData, type MemoryShardStore, MemoryStore } from "../../src/store/memory-store.ts";
import type { ShardStore } from "../../src/store/shard-store.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const LEASE_MS = 5_000;

class World {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(9);
  readonly data: MemoryData = new MemoryData();

  get epoch(): number {
    return this.data.shard(0).epoch;
  }

  get owner(): string | null {
    return this.data.shard(0).node;
  }

  node(name: string): Node {
    return new Node(this, name);
  }
}

/** A process: its keeper, and what the keeper opened and closed. */
class Node {
  readonly keeper: LeaseKeeper;
  readonly log: RecordingLog = new RecordingLog();
  readonly opened: number[] = [];
  readonly failures: unknown[] = [];
  readonly closed: string[] = [];
  readonly states: string[] = [];
  readonly store: MemoryShardStore;
  /** Redis is away for this node. */
  away = false;
  broken: Error | null = null;
  committedAtMs = Number.NEGATIVE_INFINITY;
  commitsRenew = false;
  /** SIGSTOP: nothing of it reaches Redis until `resume`. */
  #paused: Gate<void> | null = null;
  openWith: (epoch: number) => Promise<void> = () => Promise.resolve();
  closeWith: () => Promise<void> = () => Promise.resolve();

  constructor(world: World, name: string) {
    this.store = new MemoryStore(world.environment, world.data).shard(0);
    const guard =
      <Args extends unknown[], Reply>(call: (...args: Args) => Promise<Reply>) =>
      async (...args: Args): Promise<Reply> => {
        await this.#paused?.promise;
        if (this.away) throw new StoreUnavailableError("away");
        if (this.broken !== null) throw this.broken;
        return call(...args);
      };
    const store: Pick<ShardStore, "owner" | "acquire" | "renew" | "release"> = {
      owner: guard(() => this.store.owner()),
      acquire: guard((request) => this.store.acquire(request)),
      renew: guard((request) => this.store.renew(request)),
      release: guard((request) => this.store.release(request)),
    };
    this.keeper = new LeaseKeeper({
      environment: new PartEnvironment(world.environment, (error) => this.failures.push(error)),
      log: this.log.log,
      node: name,
      incarnation: `${name} ${world.environment.random()}`,
      leaseTtlMs: LEASE_MS,
      store,
      name: "shard-00",
      open: async () => {
        const { epoch } = await this.keeper.newEpoch();
        this.opened.push(epoch);
        await this.openWith(epoch);
      },
      close: (how) => {
        this.closed.push(how);
        return this.closeWith().then(() => true);
      },
      lastCommitAtMs: () => this.committedAtMs,
      commitsRenew: () => this.commitsRenew,
      onStateChange: () => this.states.push(this.keeper.state.kind),
    });
    this.keeper.start();
  }

  get kind(): string {
    return this.keeper.state.kind;
  }

  pause(): void {
    this.#paused = gate();
  }

  resume(): void {
    this.#paused?.open();
    this.#paused = null;
  }
}

describe("a shard is open only under its own epoch (K1)", () => {
  test("a fresh shard is acquired and opened at once, under epoch 1, and stays so while the lease is renewed", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    expect([a.kind, a.opened]).toEqual(["owned", [1]]);
    await world.environment.pass(600_000);
    expect([a.kind, a.opened, a.closed, world.epoch]).toEqual(["owned", [1], [], 1]);
    expect(a.states).toEqual(["opening", "owned"]);
  });

  test("found fenced by a writer, it is closed at once and before anything is acquired again", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const closing = gate();
    a.closeWith = () => closing.promise;
    a.keeper.lost("fenced");
    await quiet();
    expect([a.kind, a.closed, a.opened]).toEqual(["closing", ["abandon"], [1]]);
    await world.environment.pass(60_000);
    expect(world.epoch).toBe(1);
    closing.open();
    await world.environment.until(() => a.opened.length === 2, 10_000, "acquired again");
    expect(a.opened).toEqual([1, 2]);
  });

  test("lost while it was being opened: closed and never called owned by mistake for long", async () => {
    const world = new World();
    const a = world.node("a");
    const opening = gate();
    a.openWith = () => opening.promise;
    await quiet();
    expect(a.kind).toBe("opening");
    a.keeper.lost("rewound");
    opening.open();
    await quiet();
    expect([a.kind, a.closed]).toEqual(["halted", ["abandon"]]);
  });

  test("lost and taken again many times, it leaves no listener behind each time", async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): number => warnings.push(warning);
    process.on("warning", listen);
    const world = new World();
    const a = world.node("a");
    for (let n = 1; n <= 30; n += 1) {
      await world.environment.until(() => a.kind === "owned" && a.opened.length === n, 10_000, `owned ${n} times`);
      a.keeper.lost("fenced");
    }
    await quiet();
    process.off("warning", listen);
    expect(warnings).toEqual([]);
  });

  test("what the shard says after its epoch was over is nobody's loss", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    a.keeper.lost("fenced");
    a.keeper.lost("corrupt");
    await world.environment.until(() => a.opened.length === 2, 10_000, "acquired again");
    await quiet();
    expect(a.kind).toBe("owned");
  });
});

describe("the age of a lease", () => {
  test("is fresh while it is renewed, and old for one that slept through it, until the next renewal", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    await world.environment.pass(60_000);
    expect(a.keeper.isLeaseFresh).toBe(true);
    a.pause();
    await world.environment.pass(LEASE_MS + 1);
    expect([a.kind, a.keeper.isLeaseFresh]).toEqual(["owned", false]);
    a.resume();
    await world.environment.until(() => a.keeper.isLeaseFresh, LEASE_MS, "renewed");
  });

  test("is fresh while commits renew it, also when no lone renewal gets through", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    a.pause();
    await world.environment.pass(LEASE_MS - 10);
    a.committedAtMs = world.environment.monotonicMs();
    await world.environment.pass(LEASE_MS - 10);
    expect(a.keeper.isLeaseFresh).toBe(true);
    await world.environment.pass(20);
    expect(a.keeper.isLeaseFresh).toBe(false);
  });
});

test("no lone renewal is sent while commits renew the lease, and one is when they stop (attack H11)", async () => {
  const world = new World();
  const a = world.node("a");
  await quiet();
  a.commitsRenew = true;
  await world.environment.pass(LEASE_MS * 3);
  expect((await a.store.owner()).leaseRemainingMs).toBe(0); // the commits of this test are none
  a.commitsRenew = false;
  await world.environment.pass(LEASE_MS);
  expect((await a.store.owner()).leaseRemainingMs).toBeGreaterThan(0);
  expect([a.kind, world.epoch]).toEqual(["owned", 1]);
});

describe("nobody takes a shard whose lease lives (K2, attack H4)", () => {
  test("another node stands by while the owner renews, and says so in one line", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const b = world.node("b");
    await world.environment.pass(600_000);
    expect(b.keeper.state).toEqual({ kind: "standby", owner: "a" });
    expect([b.opened, world.epoch, a.kind]).toEqual([[], 1, "owned"]);
    expect(b.log.at("info", "standing by")).toHaveLength(1);
  });

  test("it takes over within the lease and a second once the owner is gone", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const b = world.node("b");
    await world.environment.pass(30_000);
    a.pause(); // kill -9
    const goneAtMs = world.environment.nowMs();
    await world.environment.until(() => b.kind === "owned", LEASE_MS + 1_000, "taken over");
    expect(world.environment.nowMs() - goneAtMs).toBeLessThanOrEqual(LEASE_MS + 1_000);
    expect(b.opened).toEqual([2]);
  });

  test("a node takes its own shard back at once after a crash, though its lease lives", async () => {
    const world = new World();
    const crashed = world.node("a");
    await quiet();
    crashed.pause();
    const startedAtMs = world.environment.nowMs();
    const again = world.node("a");
    await quiet();
    expect([again.kind, again.opened, world.environment.nowMs() - startedAtMs]).toEqual(["owned", [2], 0]);
  });

  test("a released shard is taken by who stands by, without waiting for the lease to end", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const b = world.node("b");
    await world.environment.pass(10_000);
    let isReleased = false;
    void a.keeper
      .close()
      .then(() => a.keeper.release())
      .then(() => {
        isReleased = true;
      });
    await quiet();
    expect([isReleased, a.closed]).toEqual([true, ["drain"]]);
    await world.environment.until(() => b.kind === "owned", 501, "taken over");
    expect(a.opened).toEqual([1]);
  });

  test("one that comes back after a long stop is fenced, closes, stands by and never duels: epochs do not climb in ten minutes", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const b = world.node("b");
    await world.environment.pass(10_000);
    a.pause();
    await world.environment.until(() => b.kind === "owned", 10_000, "taken over");
    a.resume();
    await world.environment.until(() => a.kind === "standby", 10_000, "fenced and standing by");
    await world.environment.pass(600_000);
    expect([world.epoch, world.owner]).toEqual([2, "b"]);
    expect([a.opened, a.closed, a.kind]).toEqual([[1], ["abandon"], "standby"]);
    expect(b.kind).toBe("owned");
  });

  test("ten nodes that start at once on one store end with one owner, and keep it for ten minutes", async () => {
    const world = new World();
    const nodes = Array.from({ length: 10 }, (_, i) => world.node(`n${i}`));
    await world.environment.pass(600_000);
    expect(nodes.filter(({ kind }) => kind === "owned")).toHaveLength(1);
    expect(nodes.filter(({ kind }) => kind === "standby")).toHaveLength(9);
    expect(world.epoch).toBe(1);
  });

  test("two processes that run under one node id do not duel either", async () => {
    const world = new World();
    const first = world.node("a");
    await quiet();
    const second = world.node("a");
    await world.environment.pass(600_000);
    expect([world.epoch, first.kind, second.kind]).toEqual([2, "standby", "owned"]);
  });
});

describe("Redis away closes nothing (K3)", () => {
  test("an owner stays open through an outage shorter or longer than its lease, if nobody took over", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    for (const outageMs of [1_000, 60_000]) {
      a.away = true;
      await world.environment.pass(outageMs);
      expect([a.kind, a.closed]).toEqual(["owned", []]);
      a.away = false;
      await world.environment.pass(10_000);
    }
    expect([a.kind, a.opened, world.epoch]).toEqual(["owned", [1], 1]);
    expect(world.data.shard(0).leaseEndMs).toBeGreaterThan(world.environment.nowMs());
  });

  test("if somebody did take over meanwhile, it learns that by its first renewal and closes", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const b = world.node("b");
    a.away = true;
    await world.environment.until(() => b.kind === "owned", 10_000, "taken over");
    expect(a.kind).toBe("owned"); // it cannot know; every script would refuse it (P6)
    a.away = false;
    await world.environment.until(() => a.kind === "standby", 2_000, "fenced");
    expect(a.closed).toEqual(["abandon"]);
  });

  test("a node that starts while Redis is away acquires when it is back", async () => {
    const world = new World();
    const a = world.node("a");
    a.away = true;
    await world.environment.pass(60_000);
    expect([a.kind, a.opened]).toEqual(["starting", []]);
    a.away = false;
    await world.environment.until(() => a.kind === "owned", 2_000, "acquired");
  });

  test("Redis that leaves while a shard is being opened: closed, acquired again when it is back", async () => {
    const world = new World();
    const a = world.node("a");
    let outages = 1;
    a.openWith = () => {
      outages -= 1;
      return outages >= 0 ? Promise.reject(new StoreUnavailableError("away")) : Promise.resolve();
    };
    await world.environment.until(() => a.kind === "owned", 10_000, "opened");
    expect([a.opened, a.closed]).toEqual([[1, 2], ["abandon"]]);
  });

  test("a shard whose opening finds Redis away again and again is tried with pauses, not as fast as it can", async () => {
    const world = new World();
    const a = world.node("a");
    a.openWith = () =>
      a.opened.length > 200 ? new Promise(() => undefined) : Promise.reject(new StoreUnavailableError("away"));
    await world.environment.pass(10_000);
    expect(a.opened.length).toBeLessThan(100);
  });
});

describe("what an operator must look at halts", () => {
  test("a stream behind what was confirmed is never acquired, and the reason names it (attack H10)", async () => {
    const world = new World();
    const shard = world.data.shard(0);
    shard.inboxLast = { ms: 99, seq: 0 }; // confirmed once, and the stream is gone
    const a = world.node("a");
    await world.environment.pass(60_000);
    expect(a.keeper.state).toMatchObject({ kind: "halted", reason: expect.stringContaining("inbox ends at 0-0") });
    expect([a.opened, world.epoch]).toEqual([[], 0]);
    expect(a.log.at("fatal", "halted")).toHaveLength(1);
  });

  for (const reason of ["rewound", "corrupt"] as const) {
    test(`a shard found ${reason} is closed, halted and not taken again`, async () => {
      const world = new World();
      const a = world.node("a");
      await quiet();
      a.keeper.lost(reason);
      await world.environment.pass(600_000);
      expect([a.kind, a.closed, a.opened, world.epoch]).toEqual(["halted", ["abandon"], [1], 1]);
      expect(a.log.at("fatal")).toHaveLength(1);
    });
  }

  test("a Redis that forgot the owner, found by a renewal: that is a loss of what was confirmed and not another node", async () => {
    const world = new World();
    const a = world.node("a");
    await world.environment.until(() => a.kind === "owned", 1_000, "owned");
    Object.assign(world.data.shard(0), { epoch: 0, node: null, leaseEndMs: 0 });
    await world.environment.until(() => a.kind === "halted", LEASE_MS, "halted");
    expect(a.keeper.state).toMatchObject({ reason: expect.stringContaining("rewound") });
    await world.environment.pass(60_000);
    expect(world.epoch).toBe(0);
    expect(a.opened).toEqual([1]);
  });

  test("a Redis that forgot the owner while this node stood by after owning the shard", async () => {
    const world = new World();
    const a = world.node("a");
    await world.environment.until(() => a.kind === "owned", 1_000, "owned");
    a.pause();
    const b = world.node("b");
    await world.environment.until(() => b.kind === "owned", 10_000, "b owns");
    a.resume();
    await world.environment.until(() => a.kind === "standby", 10_000, "a stands by");
    b.away = true;
    Object.assign(world.data.shard(0), { epoch: 0, node: null, leaseEndMs: 0 });
    await world.environment.until(() => a.kind === "halted", LEASE_MS, "halted");
    expect(world.epoch).toBe(0);
  });

  test("a shard that cannot be opened, for another reason than Redis being away", async () => {
    const world = new World();
    const a = world.node("a");
    a.openWith = () => Promise.reject(new StoreCorruptError("outbox entry 1-0 does not match its checksums"));
    await world.environment.pass(60_000);
    expect([a.kind, a.closed, a.opened]).toEqual(["halted", ["abandon"], [1]]);
  });

  test("an owner record that is not readable", async () => {
    const world = new World();
    const a = world.node("a");
    a.broken = new StoreCorruptError("WRONGTYPE");
    await world.environment.pass(60_000);
    expect([a.kind, a.opened]).toEqual(["halted", []]);
  });

  test("a halted keeper can still be closed and releases nothing", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    a.keeper.lost("rewound");
    await quiet();
    await a.keeper.close();
    await a.keeper.release();
    expect([world.data.shard(0).clean, a.closed]).toEqual([false, ["abandon"]]);
  });
});

describe("the stop of a keeper", () => {
  test("drains what is open; the lease lives until release, and says clean only then", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const draining = gate();
    a.closeWith = () => draining.promise;
    const closed = a.keeper.close();
    await world.environment.pass(20_000); // longer than the lease: it is renewed meanwhile
    expect(world.data.shard(0).leaseEndMs).toBeGreaterThan(world.environment.nowMs());
    draining.open();
    await closed;
    expect(world.data.shard(0).clean).toBe(false);
    await a.keeper.release();
    expect([world.data.shard(0).clean, world.data.shard(0).leaseEndMs]).toEqual([true, 0]);
    const b = world.node("b");
    await quiet();
    expect(b.log.at("info", '"wasClean":true')).toHaveLength(1);
  });

  test("of one that stands by ends at once and releases nothing of the owner's", async () => {
    const world = new World();
    world.node("a");
    await quiet();
    const b = world.node("b");
    await world.environment.pass(1_000);
    await b.keeper.close();
    await b.keeper.release();
    expect(world.owner).toBe("a");
    expect(world.data.shard(0).leaseEndMs).toBeGreaterThan(world.environment.nowMs());
  });

  test("of one that never started, or without Redis, is harmless", async () => {
    const world = new World();
    const a = world.node("a");
    await quiet();
    await a.keeper.close();
    a.away = true;
    await a.keeper.release();
    expect(a.log.at("warn", "runs out by itself")).toHaveLength(1);
  });
});

test("one that was closed while it asked for another epoch takes none any more, also not after it was started again", async () => {
  const world = new World();
  const a = world.node("a");
  await quiet();
  a.away = true;
  let refused: unknown;
  a.keeper.newEpoch().catch((error: unknown) => {
    refused = error;
  });
  await world.environment.pass(100);
  a.pause(); // a try is on its way while it is closed
  await world.environment.pass(5_000);
  await a.keeper.close();
  a.keeper.start();
  a.resume();
  await world.environment.pass(5_000);
  expect(refused).toBeInstanceOf(StoreUnavailableError);
  a.away = false;
  await world.environment.pass(10_000);
  expect([a.kind, a.opened, world.epoch]).toEqual(["owned", [1, 2], 2]);
});

test("nothing of an epoch that is over is kept: each listener is taken off again, none of them by a signal", async () => {
  const listening = { now: 0, bySignal: 0 };
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  const add = vi.spyOn(AbortSignal.prototype, "addEventListener").mockImplementation(function (
    this: AbortSignal,
    ...args: Parameters<typeof addEventListener>
  ) {
    listening.now += 1;
    const options = args[2];
    if (typeof options === "object" && options.signal !== undefined) listening.bySignal += 1;
    addEventListener.apply(this, args);
  });
  const remove = vi.spyOn(AbortSignal.prototype, "removeEventListener").mockImplementation(function (
    this: AbortSignal,
    ...args: Parameters<typeof removeEventListener>
  ) {
    listening.now -= 1;
    removeEventListener.apply(this, args);
  });
  try {
    const world = new World();
    const a = world.node("a");
    await quiet();
    const lose = async (n: number): Promise<void> => {
      a.keeper.lost("fenced");
      await world.environment.until(() => a.kind === "owned" && a.opened.length === n, 10_000, `opened ${n} times`);
    };
    await lose(2);
    const before = listening.now;
    for (let n = 3; n <= 22; n += 1) await lose(n);
    // What listens for the end of an epoch goes with its signal; the rest must not grow.
    expect(listening.now - before).toBeLessThanOrEqual(20);
    expect(listening.bySignal).toBe(0);
  } finally {
    add.mockRestore();
    remove.mockRestore();
  }
});
