// What the production tree does about the failures of one node's parts, on a virtual clock (supervisors/root-supervisor.ts).

import { afterEach, describe, expect, test, vi } from "vitest";
import type { RunningPart } from "../../actors/shard.ts";
import type { Channel } from "../../src/channels/channel.ts";
import { decodeRecord } from "../../src/codec/record-codec.ts";
import { defineBot } from "../../src/domain/bot.ts";
import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { newCounters } from "../../src/metrics.ts";
import { MemoryData, MemoryShardStore } from "../../src/store/memory-store.ts";
import type { ChildLink, ChildSpec } from "../../supervisors/child-spec.ts";
import { failedWith } from "../../supervisors/exit-reason.ts";
import type { TreeNode } from "../../supervisors/tree.ts";
import { noFaults } from "../support/faulty-store.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { TestNode, type TestNodeOptions } from "../support/test-node.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const SHARDS = 2;

const bot = defineBot<readonly string[]>({
  name: "fold",
  version: 1,
  initialState: () => [],
  onMessage(state, message, ctx) {
    ctx.reply(message.id);
    return [...state, message.id];
  },
});

const nodes: TestNode[] = [];
afterEach(() => {
  for (const node of nodes.splice(0)) node.dispose();
});

/** One node that runs; its counters strike where a test says. */
async function running(
  strike: (counter: string) => void = () => undefined,
  more: Partial<Pick<TestNodeOptions, "bot" | "children" | "config" | "data">> & { readonly sendMs?: number } = {},
  before: (nowMs: number) => void = () => undefined,
) {
  const environment = new VirtualEnvironment(5);
  const log = new RecordingLog();
  const data = more.data ?? new MemoryData();
  before(environment.nowMs());
  const faults = noFaults();
  const delivered: string[] = [];
  const channel: Channel = {
    name: "test",
    delivery: "lane",
    render: ({ reply }) => Buffer.from(reply.text),
    send: async ({ to, body }) => {
      if (more.sendMs !== undefined) await new Promise<void>((resolve) => environment.after(more.sendMs!, resolve));
      delivered.push(`${to.conversation} ${Buffer.from(body).toString()}`);
      return { kind: "delivered" };
    },
  };
  const counters = new Proxy(newCounters(), {
    set: (target, name, value: number) => {
      strike(String(name));
      return Reflect.set(target, name, value);
    },
  });
  const node = new TestNode({
    environment,
    seen: { environment, counters },
    node: "a",
    channel,
    faults,
    log: log.log,
    ...(more.children && { children: more.children }),
    bot: more.bot ?? bot,
    data,
    config: { shards: SHARDS, ...more.config },
  });
  nodes.push(node);
  await node.ready();
  const key = (conversation: string) => conversationKey({ bot: "fold", channel: "test", conversation });
  const send = (conversation: string, ...ids: string[]) =>
    node.ownership.admit(
      ids.map((id): Inbound => ({ to: { bot: "fold", channel: "test", conversation }, id, text: "" })),
    );
  const state = (conversation: string): unknown => {
    const stored = data.shard(shardOf(key(conversation), SHARDS)).records.get(key(conversation));
    return stored && JSON.parse(Buffer.from(decodeRecord(stored).stateBytes).toString());
  };
  const restarts = (): { supervisor: string; child: string }[] =>
    log.lines
      .map((line) => JSON.parse(line) as { supervisor?: string; child: string; message: string })
      .filter(({ message }) => message.includes("is restarted"))
      .map(({ supervisor, child }) => ({ supervisor: supervisor!, child }));
  const idle = (): boolean =>
    [...data.shards.values()].every(({ inbox, outbox }) => inbox.entries.length + outbox.entries.length === 0);
  const quiet = () => environment.until(idle, 60_000, "idle");
  return { environment, log, data, faults, node, delivered, send, state, restarts, quiet };
}

const shapeOf = ({ id, children }: TreeNode): unknown => ({ [id]: children.map(shapeOf) });

/** Throws at the first `count` increments of this counter. */
function striking(counter: string, count = 1): (name: string) => void {
  let left = count;
  return (name) => {
    if (name !== counter || left === 0) return;
    left -= 1;
    throw new Error(`a mistake at ${counter}`);
  };
}

describe("a part that fails takes with it what depends on it, and nothing else", () => {
  test("the committer, in the middle of a commit: its shard goes on under another epoch, nothing lost and nothing twice", async () => {
    const { node, data, delivered, send, state, restarts, quiet } = await running(striking("commits"));
    const before = shapeOf(node.root.tree());
    await send("c1", "m1", "m2");
    await quiet();
    expect(state("c1")).toEqual(["m1", "m2"]);
    expect(delivered).toEqual(["c1 m1", "c1 m2"]);
    expect(restarts().map(({ child }) => child)).toEqual(["committer"]);
    expect([...data.shards.values()].map(({ epoch }) => epoch).toSorted()).toEqual([1, 2]);
    expect(shapeOf(node.root.tree())).toEqual(before);
  });

  test("one conversation that crashes on each message changes no other's incarnation, and halts at the sixth crash in 30 s", async () => {
    let crashing = "";
    const { environment, send, state, restarts, log, quiet } = await running((counter) => {
      if (counter === "turns" && crashing === "bad") throw new Error("a mistake");
    });
    await send("good", "m1");
    await quiet();
    crashing = "bad";
    await send("bad", "m1", "m2");
    await environment.pass(1_000);
    crashing = "";
    await send("good", "m2");
    await environment.pass(1_000);
    expect(state("good")).toEqual(["m1", "m2"]);
    expect(state("bad")).toBeUndefined();
    expect(restarts()).toHaveLength(5);
    expect(restarts().every(({ child }) => child === "fold/test/bad")).toBe(true);
    expect(log.at("error", "is halted")).toHaveLength(1);
  });

  test("a lane: its reply is sent again, in order", async () => {
    const { delivered, send, restarts, quiet } = await running(striking("delivered"));
    await send("c1", "m1", "m2");
    await quiet();
    expect(delivered).toEqual(["c1 m1", "c1 m1", "c1 m2"]);
    expect(restarts()).toEqual([{ supervisor: expect.stringMatching(/^shard-0\d\/lanes$/), child: "fold/test/c1" }]);
  });
});

describe("a call of the store that never ends", () => {
  test.each([
    ["commit", "committer"],
    ["readInbox", "reader"],
    ["load", "conversations"],
  ] as const)("in %s: after a minute %s is started again, and nothing is lost", async (call, part) => {
    const { environment, faults, send, state, restarts, quiet } = await running();
    faults.hang = call;
    await environment.pass(1_000);
    await send("c1", "m1");
    await environment.pass(61_000);
    await quiet();
    expect(state("c1")).toEqual(["m1"]);
    expect(restarts().map(({ child }) => child)).toContain(part);
  });
});

test("Redis away for a minute restarts nothing; nothing is admitted meanwhile, and then all goes on", async () => {
  const { environment, faults, node, send, state, restarts, quiet } = await running();
  await send("c1", "m1");
  faults.away = true;
  for (let second = 0; second < 60; second += 1) {
    await environment.pass(1_000);
    expect((await send("c1", "m2")).kind).toBe("unavailable");
  }
  faults.away = false;
  await node.ready();
  await send("c1", "m2");
  await quiet();
  expect(state("c1")).toEqual(["m1", "m2"]);
  expect(restarts()).toEqual([]);
});

/** A user's child whose failure the test decides. */
function failingChild() {
  let link: ChildLink | null = null;
  const spec: ChildSpec = {
    id: "mine",
    start: (started) => {
      link = started;
      return { stop: () => undefined };
    },
  };
  return { spec, fail: () => link?.exited(failedWith(new Error("a user's mistake"))) };
}

test("the lease is renewed while the successor of a committer that failed cannot start yet", async () => {
  const { environment, faults, node, send, restarts } = await running(
    (counter) => {
      if (counter !== "commits" || faults.away !== false) return;
      faults.away = "owner"; // a committer that starts looks at it
      throw new Error("a mistake");
    },
    { config: { leaseTtlMs: 2_000 } },
  );
  await send("c1", "m1");
  for (let i = 0; i < 60; i += 1) {
    await environment.pass(100);
    expect(node.notReady).toBeUndefined();
  }
  expect(restarts().map(({ child }) => child)).toEqual(["committer"]);
});

test("what a committer leaves behind that failed is not waited for, and nothing of it is sent", async () => {
  const slow = defineBot<readonly string[]>({
    ...bot,
    async onMessage(state, message, ctx) {
      if (message.id === "slow")
        await new Promise<void>((resolve) => ctx.signal.addEventListener("abort", () => resolve()));
      for (let i = 0; i < 50; i += 1) ctx.reply(`${message.id} ${i}`);
      return [...state, message.id];
    },
  });
  let isArmed = false;
  const { environment, send, state, delivered, restarts } = await running(
    (counter) => {
      if (counter !== "commits" || !isArmed) return;
      isArmed = false;
      throw new Error("a mistake");
    },
    { bot: slow, config: { shards: 1 }, sendMs: 10 },
  );
  await send("c1", "slow");
  await send("c2", "m1");
  await environment.pass(100);
  isArmed = true;
  await send("c3", "m1");
  await environment.pass(1_000);
  expect(restarts().map(({ child }) => child)).toEqual(["committer"]);
  expect(state("c3")).toEqual(["m1"]);
  expect(delivered.length - new Set(delivered).size).toBeLessThanOrEqual(20);
});

test("a node that stops leaves no start behind that goes on asking the store", async () => {
  const { environment, faults, node, send } = await running((counter) => {
    if (counter !== "commits") return;
    faults.away = "owner"; // a committer that starts looks at it
    throw new Error("a mistake");
  });
  await send("c1", "m1");
  await environment.pass(1_000);
  await node.stop();
  const { calls } = faults;
  await environment.pass(60_000);
  expect(faults.calls).toBe(calls);
});

test("lanes that Redis left while they were read back begin again only when what they did is committed", async () => {
  const environment = new VirtualEnvironment(5);
  const data = new MemoryData();
  const options = { environment, data, bot: { ...bot, ordering: "available" as const }, config: { shards: 1 } };
  const channel = (send: Channel["send"]): Channel => ({
    name: "test",
    delivery: "lane",
    render: ({ reply }) => Buffer.from(reply.text),
    send,
  });
  const first = new TestNode({ ...options, node: "a", channel: channel(() => new Promise(() => undefined)) });
  nodes.push(first);
  await first.ready();
  for (let i = 0; i < 20; i += 1) {
    const to = { bot: "fold", channel: "test", conversation: `c${i}` };
    await first.ownership.admit([{ to, id: "m1", text: "" }]);
    await environment.pass(50);
  }
  first.kill();
  expect(data.shard(0).outbox.entries).toHaveLength(20); // more than a page

  const away = new StoreUnavailableError("away");
  const { readOutbox, commit } = MemoryShardStore.prototype;
  let pages = 0;
  const pageRead = vi.spyOn(MemoryShardStore.prototype, "readOutbox").mockImplementation(async function (
    this: MemoryShardStore,
    ...args
  ) {
    pages += 1;
    if (pages !== 2) return readOutbox.apply(this, args);
    await new Promise<void>((resolve) => environment.after(100, resolve));
    throw away;
  });
  let isAway = true;
  const committing = vi.spyOn(MemoryShardStore.prototype, "commit").mockImplementation(async function (
    this: MemoryShardStore,
    ...args
  ) {
    if (isAway) throw away;
    return commit.apply(this, args);
  });
  const second = new TestNode({
    ...options,
    node: "a",
    channel: channel(() => Promise.resolve({ kind: "terminal", reason: "refused" })),
  });
  nodes.push(second);
  await environment.pass(2_000);
  isAway = false;
  await environment.until(() => data.shard(0).outbox.entries.length === 0, 60_000, "delivered");
  await environment.pass(1_000);
  expect(data.shard(0).dead.entries).toHaveLength(20);
  pageRead.mockRestore();
  committing.mockRestore();
});

test("the leases, just as a message is let in: it gets its outcome, and nobody waits for it", async () => {
  const { environment, node, send, state, restarts, quiet } = await running();
  let outcome: string | undefined;
  const renewing = vi.spyOn(MemoryShardStore.prototype, "renew").mockImplementationOnce(async () => {
    void send("c1", "m1").then(({ kind }) => {
      outcome = kind;
    });
    throw new Error("a mistake");
  });
  await environment.until(() => renewing.mock.calls.length > 0, 10_000, "renewed");
  await environment.pass(100);
  expect(outcome).toBe("admitted");
  await environment.pass(900);
  expect(node.notReady).toBeUndefined();
  await quiet();
  expect(state("c1")).toEqual(["m1"]);
  expect(restarts().map(({ child }) => child)).toEqual(["leases"]);
  renewing.mockRestore();
});

test("the shards give up as a lease comes free: the shard that is to be opened waits for those that come next", async () => {
  let isArmed = false;
  const slow = defineBot<readonly string[]>({
    ...bot,
    async onMessage(state, message, ctx) {
      if (message.id === "slow")
        await new Promise<void>((resolve) => ctx.signal.addEventListener("abort", () => resolve()));
      else ctx.reply(message.id);
      return [...state, message.id];
    },
  });
  const names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
  const of = (shard: number) =>
    names.find((name) => shardOf(conversationKey({ bot: "fold", channel: "test", conversation: name }), 3) === shard)!;
  const data = new MemoryData();
  const { environment, node, send, restarts } = await running(
    (counter) => {
      if (counter === "commits" && isArmed) throw new Error("a mistake");
    },
    { bot: slow, config: { shards: 3 }, data },
    (now) => Object.assign(data.shard(2), { node: "b", epoch: 1, leaseEndMs: now + 20_000 }),
  );
  await send(of(1), "slow");
  await environment.pass(18_000);
  isArmed = true;
  for (let i = 0; i < 200 && restarts().at(-1)?.child !== "shards"; i += 1) {
    await send(of(0), `m${i}`);
    await environment.pass(50);
  }
  isArmed = false;
  await environment.pass(1_000);
  await node.ready();
  expect(
    restarts()
      .map(({ child }) => child)
      .filter((child) => !["committer", "shard-00"].includes(child)),
  ).toEqual(["shards"]);
});

test("a conversation that is replaced while its shard stops begins no turn", async () => {
  const turns: string[] = [];
  const slow = defineBot<readonly string[]>({
    ...bot,
    async onMessage(state, message, ctx) {
      turns.push(message.id);
      const takesMs = { slow: 1_000, slower: 2_000 }[message.id] ?? 0;
      if (takesMs > 0) await new Promise<void>((resolve) => environment.after(takesMs, resolve));
      ctx.reply(message.id);
      return [...state, message.id];
    },
  });
  let strikes = 0;
  const { environment, node, send } = await running(
    (counter) => {
      if (counter !== "turns" || strikes > 0) return;
      strikes += 1;
      throw new Error("a mistake");
    },
    { bot: slow, config: { shards: 1 } },
  );
  await send("c1", "slow", "m2");
  await send("c2", "slower");
  await environment.pass(500);
  await node.stop();
  expect(strikes).toBe(1);
  expect(turns).toEqual(["slow", "slower"]);
});

describe("a user's child that fails too often", () => {
  test("takes the shards with it, which come back and go on", async () => {
    const child = failingChild();
    const { environment, node, send, state, restarts, quiet } = await running(undefined, { children: [child.spec] });
    await send("c1", "m1");
    await quiet();
    child.fail();
    await environment.pass(10);
    child.fail();
    await environment.pass(1_000);
    await node.ready();
    await send("c1", "m2");
    await quiet();
    expect(state("c1")).toEqual(["m1", "m2"]);
    expect(restarts().map((one) => one.child)).toEqual(["mine", "children"]);
  });

  test("while Redis is away, too", async () => {
    const child = failingChild();
    let turns = 0;
    const { environment, faults, node, send, state, restarts, quiet } = await running(
      (counter) => {
        if (counter !== "turns") return;
        turns += 1;
        if (turns === 1) faults.away = true; // before the commit
      },
      { children: [child.spec] },
    );
    await send("c1", "m1");
    await environment.pass(1_000);
    expect(turns).toBe(1);
    child.fail();
    await environment.pass(10);
    child.fail();
    await environment.pass(20_000);
    faults.away = false;
    await node.ready();
    await quiet();
    expect(state("c1")).toEqual(["m1"]);
    expect(restarts().map((one) => one.child)).toEqual(["mine", "children"]);
  });
});

test("lanes that find an outbox that cannot be read halt their shard at once: no restart would mend it", async () => {
  const { environment, data, node, send, restarts, quiet } = await running();
  await send("c1", "m1");
  await quiet();
  const shard = shardOf(conversationKey({ bot: "fold", channel: "test", conversation: "c1" }), SHARDS);
  data.shard(shard).outbox.add(Buffer.from("rotten"), environment.nowMs());
  const name = `shard-0${shard}`;
  const lanes = node.root.descendant(["shards", name, "lanes"]) as Partial<RunningPart>;
  lanes.fail!(new Error("a mistake"));
  await environment.pass(20_000);
  expect((await send("c1", "m2")).kind).toBe("unavailable");
  expect(restarts().map(({ child }) => child)).toEqual(["lanes"]);
});
