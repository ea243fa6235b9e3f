// What conversations owe to whoever waits, where two of the rules meet: a message that nothing hinders runs, in order and once.

import { describe, expect, test } from "vitest";
import { ActorSystem } from "../../actors/actor-system.ts";
import { Committer, type PendingWrite } from "../../actors/committer.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import { Conversations, type CrashPolicy } from "../../actors/conversations.ts";
import { PendingHeads } from "../../actors/pending-heads.ts";
import type { Turn } from "../../actors/turn.ts";
import type { AnyBot } from "../../src/app-types.ts";
import { checkBots } from "../../src/check-bot.ts";
import { decodeInboxEntry, InboxBatch } from "../../src/codec/inbox-codec.ts";
import type { OpenEntry } from "../../src/codec/open-codec.ts";
import { encodeOpenEntry } from "../../src/codec/open-codec.ts";
import { type BotDefinition, defineBot } from "../../src/domain/bot.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { ENTRY_ZERO } from "../../src/domain/position.ts";
import { haltName } from "../../src/domain/record.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { TerminalError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { newCounters } from "../../src/metrics.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { gate, quiet } from "../support/quiet.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { ConversationRig, testChannel } from "./support/conversation-rig.ts";

type Seen = readonly string[];
const bot = (
  onMessage: BotDefinition<Seen>["onMessage"] = (state, { id }) => [...state, id],
  rest: Partial<BotDefinition<Seen>> = {},
): AnyBot => defineBot<Seen>({ name: "b", version: 1, initialState: () => [], onMessage, ...rest });

const CONTIGUOUS: ExternalOrder = {
  mode: "contiguous",
  gapTimeoutMs: 10_000,
  settleMs: 0,
  maxHeld: 64,
  firstSequence: 1,
};
const numbered = (...sequences: number[]): Partial<Inbound>[] =>
  sequences.map((sequence) => ({ id: `n${sequence}`, sequence }));

/** Conversations of a shard on the rig's store, as many as the budget allows. */
function shardOn(
  rig: ConversationRig,
  theBot: AnyBot,
  options: {
    readonly residentsMax?: number;
    readonly restartAfterMs?: CrashPolicy["restartAfterMs"];
    readonly order?: ExternalOrder;
    readonly heads?: Partial<ConstructorParameters<typeof PendingHeads>[0]>;
  } = {},
) {
  const [checked] = checkBots([theBot]);
  const system = new ActorSystem({ after: rig.environment.after, onCrash: (_name, error) => rig.crashes.push(error) });
  const through: number[] = [];
  const budget = { residentsMax: options.residentsMax ?? 1_000, residentBytesMax: 2 ** 40, residents: 0, bytes: 0 };
  const heads = new PendingHeads({
    environment: rig.environment,
    log: rig.log.log,
    uncleanEnds: 0,
    followsAnEnd: false,
    horizon: { ms: 0, seq: 0 },
    groupMax: 64,
    leaveAlone: (key, onAlone) => rig.running.leaveAlone(key, onAlone),
    onThrough: () => through.push(1),
    ...options.heads,
  });
  const index = (): [string, OpenEntry][] => [...rig.open];
  const conversations = new Conversations({
    environment: new PartEnvironment(rig.environment, (error) => rig.crashes.push(error)),
    crashPolicy: { restartAfterMs: options.restartAfterMs ?? (() => 0) },
    takeBack: (conversation) => rig.dirty.delete(conversation),
    ports: {
      log: rig.log.log,
      counters: rig.counters,
      bounds: rig.bounds,
      running: rig.running,
      hashKey: { lo: 1, hi: 2 },
      reserveDeadLetter: () => rig.deadLettersHaveRoom,
      commit: (conversation) => {
        rig.dirty.add(conversation);
        rig.environment.soon(() => rig.commit());
      },
      finish: (entry) => void rig.finished.push(entry),
      laneHasRoom: (_key, _replies, _bytes, onRoom) => {
        if (!rig.laneHasRoom) rig.laneWaiters.push(onRoom);
        return rig.laneHasRoom;
      },
    },
    heads,
    spillMs: 2_000,
    store: {
      readOpen: async () => ({
        cursor: "0",
        found: index().map(([key, entry]) => ({ key: key as ConversationKey, value: encodeOpenEntry(entry) })),
      }),
      readWaiting: async (key, { after, count }) =>
        [...(rig.lists.get(key) ?? [])]
          .filter(([id]) => id > after)
          .slice(0, count)
          .map(([id, bytes]) => ({ id, bytes })),
      load: async (keys) => keys.map((key) => rig.stored.get(key) ?? { record: null, ids: null }),
    },
    family: system.family("resident"),
    budget,
    bot: () => checked,
    channel: () => testChannel(options.order === undefined ? {} : { order: options.order }),
    onEvicted: () => undefined,
    onCorrupt: () => undefined,
  });
  const send = (name: string, ...inbounds: Partial<Inbound>[]): void => {
    for (const message of rig.messages(rig.conversation(name), inbounds)) conversations.deliver(message);
  };
  const find = (name: string): ConversationActor | undefined =>
    conversations.find(conversationKey({ bot: theBot.name, channel: "test", conversation: name }));
  return { conversations, budget, heads, through, send, find };
}

const seen = (rig: ConversationRig, name = "c1"): unknown => rig.state(rig.conversation(name));

describe("what has no state yet", () => {
  test("a bot whose initial state throws fails its turns and nothing else: what is stored holds no state", async () => {
    let isMended = false;
    const rig = new ConversationRig(
      bot(undefined, {
        initialState: () => {
          if (!isMended) throw new Error("no configuration");
          return [];
        },
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(rig.crashes).toEqual([]);
    expect(rig.record(c).record.extra?.openTurn?.attempts).toBe(1);
    isMended = true;
    const next = rig.conversation(); // the next process
    rig.deliver(next, { id: "m2" });
    await rig.environment.pass(120_000);
    expect(rig.record(next).record.seq).toBe(1);
    rig.dispose();
  });
});

describe("a successor of one that crashed", () => {
  test("joins the step that still runs, and its turn ends well (attack A6)", async () => {
    const held = gate<string>();
    let begun = 0;
    const stepping = bot(async (state, { id }, ctx) => {
      const result = await ctx.step("charge", () => {
        begun += 1;
        return held.promise;
      });
      return [...state, `${id} ${result}`];
    });
    const rig = new ConversationRig(stepping);
    const { send, find } = shardOn(rig, stepping);
    send("c1", { id: "m1" });
    await quiet();
    find("c1")!.crashed(new Error("of the runtime"));
    await rig.environment.pass(10);
    held.open("done");
    await rig.environment.pass(10);
    expect([begun, seen(rig)]).toEqual([1, ["m1 done"]]);
    rig.dispose();
  });
});

describe("the waiting list", () => {
  test("a duplicate that leaves it is counted off: nothing of it is said to wait, and its bound lets others in again", async () => {
    const rig = new ConversationRig(bot(), { bounds: { waitingMax: 2 } });
    const { send } = shardOn(rig, bot());
    rig.laneHasRoom = false;
    send("c1", { id: "m1" }, { id: "m1" }, { id: "m2" });
    await rig.environment.pass(3_000);
    const { key } = rig.conversation();
    expect([rig.full.has(key), rig.open.get(key)?.waiting]).toEqual([true, 3]);
    rig.laneHasRoom = true;
    for (const wake of rig.laneWaiters.splice(0)) wake();
    await quiet();
    expect([seen(rig), rig.full.size, rig.open.size, rig.lists.size]).toEqual([["m1", "m2"], 0, 0, 0]);
    rig.dispose();
  });
});

describe("what waits on a list and could run is not dropped from memory", () => {
  const fill = async (rig: ConversationRig, send: ReturnType<typeof shardOn>["send"]): Promise<void> => {
    for (let i = 0; i < 8; i += 1) {
      send(`other${i}`, { id: "m1" });
      await quiet();
    }
    await rig.environment.pass(100);
  };

  test("while its lane has no room", async () => {
    const rig = new ConversationRig(bot());
    const { send } = shardOn(rig, bot(), { residentsMax: 2 });
    rig.laneHasRoom = false;
    send("c1", { id: "m1" }, { id: "m2" });
    await rig.environment.pass(3_000); // longer than `spillMs`
    expect(rig.waiting(rig.conversation())).toHaveLength(2);
    await fill(rig, send);
    rig.laneHasRoom = true;
    for (const wake of rig.laneWaiters.splice(0)) wake();
    await rig.environment.pass(100);
    expect(seen(rig)).toEqual(["m1", "m2"]);
    rig.dispose();
  });

  test("while no turn may begin in the process", async () => {
    const rig = new ConversationRig(bot(), { runningTurnsMax: 1 });
    const { send } = shardOn(rig, bot(), { residentsMax: 2 });
    const other = { deadlineMs: 0, timeoutMs: 1_000_000 } as Turn;
    rig.running.add(other);
    send("c1", { id: "m1" });
    await rig.environment.pass(3_000);
    expect(rig.waiting(rig.conversation())).toHaveLength(1);
    await fill(rig, send);
    rig.running.remove(other);
    await rig.environment.pass(100);
    expect(seen(rig)).toEqual(["m1"]);
    rig.dispose();
  });

  test("while what was recovered is being loaded", async () => {
    const rig = new ConversationRig(bot());
    const first = shardOn(rig, bot());
    rig.laneHasRoom = false;
    for (let i = 0; i < 6; i += 1) first.send(`c${i}`, { id: "m1" });
    await rig.environment.pass(3_000);
    first.conversations.stop();
    rig.laneHasRoom = true;
    const next = shardOn(rig, bot(), { residentsMax: 1 });
    const recovered = next.conversations.recover();
    await quiet();
    await recovered;
    next.send("new1", { id: "m1" });
    next.send("new2", { id: "m1" });
    await rig.environment.pass(100);
    for (let i = 0; i < 6; i += 1) expect(seen(rig, `c${i}`)).toEqual(["m1"]);
    rig.dispose();
  });
});

describe("external order", () => {
  test("a turn that failed, whose message is still in the inbox when others are held on the list, runs after a restart", async () => {
    let fails = true;
    const failing = bot((state, { id }) => {
      if (fails && id === "n1") throw new Error("not yet");
      return [...state, id];
    });
    const rig = new ConversationRig(failing, { channel: testChannel({ order: CONTIGUOUS }) });
    const first = rig.conversation();
    rig.deliver(first, ...numbered(3, 4));
    await quiet();
    const inbox = rig.messages(first, numbered(1));
    for (const message of inbox) first.deliver(message);
    await quiet();
    expect(rig.record(first).record.extra?.openTurn?.attempts).toBe(1);
    first.stop();
    fails = false;
    await rig.environment.pass(60_000); // the process was away: every backoff is over
    const { conversations } = shardOn(rig, failing, { order: CONTIGUOUS });
    await conversations.recover();
    await rig.environment.pass(10);
    for (const message of inbox) conversations.deliver(message);
    await rig.environment.pass(5_000);
    expect(seen(rig)).toEqual(["n1"]);
    rig.dispose();
  });

  test("attack B12: what a gap lacks lifts the halt, also where it comes among more than may be in memory", async () => {
    const rig = new ConversationRig(bot(), {
      channel: testChannel({ order: CONTIGUOUS }),
      bounds: { mailboxMax: 4 },
    });
    const c = rig.conversation();
    rig.deliver(c, ...numbered(1, 3));
    await rig.environment.pass(20_000);
    expect(rig.record(c).record.extra?.halt?.reason).toBe("gap");
    rig.deliver(c, ...numbered(4, 5, 6, 2, 7, 8));
    for (let i = 0; i < 5; i += 1) await quiet();
    expect(seen(rig)).toEqual(["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"]);
    rig.dispose();
  });

  test("one that waits for its suspects' mark is not passed by what is held above it (P3)", async () => {
    const monotonic: ExternalOrder = { mode: "monotonic", settleMs: 1_000, maxHeld: 2 };
    let mayRun = false;
    const rig = new ConversationRig(bot(), {
      channel: testChannel({ order: monotonic }),
      ports: { mayRunHead: () => mayRun },
    });
    const c = rig.conversation();
    rig.deliver(c, ...numbered(1, 2, 3, 4, 5, 6));
    await quiet();
    for (let i = 0; i < 3; i += 1) {
      c.wake();
      await quiet();
    }
    mayRun = true;
    c.wake();
    await rig.environment.pass(5_000);
    expect(seen(rig)).toEqual(["n1", "n2", "n3", "n4", "n5", "n6"]);
    rig.dispose();
  });

  test("a clock of this node behind that of Redis makes no storm of clocks", async () => {
    const rig = new ConversationRig(bot(), { channel: testChannel({ order: CONTIGUOUS }) });
    const c = rig.conversation();
    rig.deliver(c, ...numbered(3));
    await quiet();
    const [due] = rig.timers.values();
    expect(due).toBeGreaterThan(rig.environment.nowMs());
    const writes = rig.writes.length;
    rig.clock(c, "!order", due!, due!);
    await quiet();
    expect(rig.record(c).record.extra?.halt?.reason).toBe("gap"); // Redis says that it is time
    expect(rig.writes.length - writes).toBeLessThanOrEqual(2);
    rig.dispose();
  });
});

describe("suspects", () => {
  test("a group goes on when its notice failed for good", async () => {
    const through: ConversationKey[] = [];
    const failing = bot(
      (_state, { id }) => {
        throw new TerminalError(id);
      },
      {
        ordering: "available",
        onNotice: {
          poisoned: () => {
            throw new TerminalError("no notice either");
          },
        },
      },
    );
    const rig = new ConversationRig(failing, { ports: { headIsThrough: (key) => void through.push(key) } });
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    expect(rig.dead.map(({ reason }) => reason)).toContain("poison");
    expect(through.length).toBeGreaterThanOrEqual(2);
    rig.dispose();
  });

  test("what was pending is through when its list turned out to hold duplicates only (W3)", async () => {
    const rig = new ConversationRig(bot());
    const { heads, through } = shardOn(rig, bot(), { heads: { uncleanEnds: 1 } });
    const key = "k" as ConversationKey;
    heads.recovered([{ key, suspect: undefined }]);
    heads.read(null);
    expect(through).toHaveLength(0);
    heads.closed(key);
    expect(through).toHaveLength(1);
    rig.dispose();
  });

  test("one that crashed is marked in no commit", async () => {
    const rig = new ConversationRig(bot());
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.crashed(new Error("of the runtime"));
    void c.markSuspect(2, { entry: { ms: 1, seq: 1 }, index: 0 });
    expect(rig.dirty.size).toBe(0);
    rig.dispose();
  });
});

describe("quarantine", () => {
  test("clocks and verbs pin no entry of the inbox", async () => {
    const rig = new ConversationRig(bot());
    const c = rig.conversation();
    rig.stored.set(c.key, { record: Uint8Array.of(1, 2, 3), ids: null });
    rig.clock(c, "!order", 1, 1);
    rig.control(c, "retry", "gap-0-1");
    await quiet();
    expect([c.situation.state, rig.finished.length, c.settled]).toEqual(["quarantined", 2, true]);
    rig.dispose();
  });

  test("what came while a record could not be read runs, once, when it can be read again (P1)", async () => {
    const rig = new ConversationRig(bot());
    const first = shardOn(rig, bot());
    first.send("c1", { id: "m1" });
    await quiet();
    const readable = rig.stored.get(rig.conversation().key)!;
    first.conversations.stop();
    rig.stored.set(rig.conversation().key, { ...readable, record: Buffer.from([99, ...readable.record!.slice(1)]) });
    const second = shardOn(rig, bot()); // a version that cannot read it
    second.send("c1", { id: "m2" }, { id: "m3" });
    await rig.environment.pass(5_000);
    expect(rig.open.get(rig.conversation().key)?.state).toBe("quarantined");
    second.conversations.stop();
    rig.stored.set(rig.conversation().key, readable);
    const third = shardOn(rig, bot());
    await third.conversations.recover();
    await rig.environment.pass(100);
    third.send("c1", { id: "m4" });
    await rig.environment.pass(100);
    expect(seen(rig)).toEqual(["m1", "m2", "m3", "m4"]);
    expect([rig.lists.size, rig.open.size, rig.crashes]).toEqual([0, 0, []]);
    rig.dispose();
  });
});

describe("dead letters", () => {
  test("what was redriven makes room for others, without the shard being opened again (R6)", async () => {
    const environment = new VirtualEnvironment(3);
    const store = new MemoryStore(environment).shard(0);
    await store.acquire({ node: "a", observedEpoch: 0, leaseMs: 5_000 });
    const committer = new Committer({
      environment: new PartEnvironment(environment, (error) => {
        throw error;
      }),
      log: silentLog,
      counters: newCounters(),
      store,
      epoch: 1,
      leaseMs: 5_000,
      ackDelayMs: 20,
      commitKeysMax: 4_000,
      commitBytesMax: 4_194_304,
      transcript: { linesMax: 200, bytesMax: 262_144, ttlMs: 60_000 },
      deadLetters: { count: 0, bytes: 0 },
      deadLettersMax: 2,
      deadLetterBytesMax: 100,
      countDeadLetters: async () => (await store.owner()).deadLetters,
      onReplies: () => undefined,
      onTranscript: () => undefined,
      onInboxDone: () => undefined,
      onTimer: () => undefined,
      onOpen: () => undefined,
      toList: () => null,
      sortSends: () => ({ here: null, away: [] }),
      onLost: () => undefined,
    });
    expect([10, 20, 30].map((bytes) => committer.addDeadLetter(new Uint8Array(bytes)))).toEqual([true, true, false]);
    await committer.committed();
    const [letter] = await store.readDeadLetters({ after: ENTRY_ZERO, count: 1 });
    const redriven: PendingWrite = {
      write: { key: "k" as ConversationKey, record: Buffer.from("r"), ids: null, idsTtlMs: null, transcript: [] },
      replies: [],
      consumed: [],
      dead: [],
      deadDone: [letter!.id],
      sends: [],
    };
    committer.add({ key: redriven.write.key, takeWrite: () => redriven, committed: () => undefined });
    await committer.drained();
    expect([81, 80, 1].map((bytes) => committer.reserveDeadLetter(bytes))).toEqual([false, true, false]);
    committer.stop();
  });

  test("a retry of one that found no room does not run a message that went too far (attack B17)", async () => {
    const rig = new ConversationRig(bot(), { bounds: { hopsMax: 2 } });
    const c = rig.conversation();
    rig.deadLettersHaveRoom = false;
    for (const message of rig.messages(c, [{ id: "m1" }])) c.deliver({ ...message, extra: { hops: 3 } });
    rig.deliver(c, { id: "m2" });
    await quiet();
    expect(rig.record(c).record.extra?.halt?.reason).toBe("full");
    rig.deadLettersHaveRoom = true;
    rig.control(c, "retry", haltName(rig.record(c).record)!);
    for (let i = 0; i < 3; i += 1) await quiet();
    expect([seen(rig), rig.dead.map(({ reason }) => reason)]).toEqual([["m2"], ["hops"]]);
    rig.dispose();
  });

  test("one that is redriven again while its conversation is halted runs once, however long that takes (P2)", async () => {
    const failing = bot(
      (state, { id, redriven }) => {
        if (id === "m1") throw new TerminalError("never");
        return [...state, redriven ? `${id} again` : id];
      },
      { dedupeMs: 60_000 },
    );
    const rig = new ConversationRig(failing);
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    const redrive = (atMs: number): void => {
      for (const message of rig.messages(c, [{ id: "m0" }])) {
        const batch = new InboxBatch();
        batch.addAgain({ ...message, extra: { redrives: "5-0" } });
        const entry = { id: { ms: atMs, seq: 0 }, bytes: 1, undecided: 1 };
        for (const again of decodeInboxEntry(batch.finish(), entry, { lo: 1, hi: 2 }).messages) c.deliver(again);
      }
    };
    redrive(rig.environment.nowMs() + 1_000);
    await rig.environment.pass(300_000);
    redrive(rig.environment.nowMs());
    await quiet();
    rig.control(c, "skip", haltName(rig.record(c).record)!);
    for (let i = 0; i < 5; i += 1) await quiet();
    expect([seen(rig), rig.counters.duplicates]).toEqual([["m0 again"], 1]);
    rig.dispose();
  });

  test("skipping a message that something else deleted from Redis lifts the halt", async () => {
    const failing = bot((state, { id }) => {
      if (id === "m1") throw new TerminalError("never");
      return [...state, id];
    });
    const rig = new ConversationRig(failing);
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" }, { id: "m2" });
    await quiet();
    rig.lists.get(c.key)!.delete(1);
    rig.control(c, "skip", haltName(rig.record(c).record)!);
    for (let i = 0; i < 5; i += 1) await quiet();
    expect(seen(rig)).toEqual(["m2"]);
    expect(rig.log.at("fatal", "fewer messages")).toHaveLength(1);
    rig.dispose();
  });
});

describe("what moves stays where it is", () => {
  test("a conversation that goes on all the time, and is never done, has nothing moved to its list (R1)", async () => {
    const slow = bot(
      (state, { id }) =>
        new Promise<Seen>((resolve) => {
          rig.environment.after(10, () => resolve([...state.slice(-3), id]));
        }),
    );
    const rig: ConversationRig = new ConversationRig(slow);
    const { send } = shardOn(rig, slow);
    for (let i = 0; i < 500; i += 1) {
      send("c1", { id: `m${i}` });
      if (i % 2 === 1) await rig.environment.pass(19);
    }
    expect(rig.counters.moved).toBe(0);
    rig.dispose();
  });
});
