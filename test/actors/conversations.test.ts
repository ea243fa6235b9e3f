// M2 and M3 of actors/conversations.ts, and what may leave memory (C4), over a store in memory with a real committer.

import { describe, expect, test } from "vitest";
import { ActorSystem } from "../../actors/actor-system.ts";
import { Committer } from "../../actors/committer.ts";
import { Conversations, type ConversationsOptions } from "../../actors/conversations.ts";
import { PendingHeads } from "../../actors/pending-heads.ts";
import { RunningTurns } from "../../actors/running-turns.ts";
import { ReadProgress, ShardReader } from "../../actors/shard-reader.ts";
import type { AnyBot } from "../../src/app-types.ts";
import { checkBots } from "../../src/check-bot.ts";
import { InboxBatch } from "../../src/codec/inbox-codec.ts";
import { decodeRecord } from "../../src/codec/record-codec.ts";
import { type ConfigOptions, resolveConfig } from "../../src/config.ts";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { TerminalError } from "../../src/errors.ts";
import { newCounters } from "../../src/metrics.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import { gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { collector, ids } from "./support/bots.ts";
import { testChannel } from "./support/conversation-rig.ts";

/** The part of a shard that reads, decides and commits; one life of it after the other on the same data. */
class Shard {
  readonly environment = new VirtualEnvironment(9);
  readonly data = new MemoryData();
  readonly log = new RecordingLog();
  readonly crashes: unknown[] = [];
  readonly running: RunningTurns;
  readonly #store = new MemoryStore(this.environment, this.data);
  readonly #config: ReturnType<typeof resolveConfig>;
  conversations!: Conversations;
  #end: () => void = () => undefined;
  #lives = 0;

  constructor(config: ConfigOptions = {}) {
    this.#config = resolveConfig(config);
    this.running = new RunningTurns(this.environment, this.#config.runningTurnsMax);
  }

  keyOf(name: string): ConversationKey {
    return conversationKey({ bot: "b", channel: "test", conversation: name });
  }

  /** A new owner; the one before is gone without a word. */
  async start(bot: AnyBot): Promise<void> {
    this.#end();
    const store = this.#store.shard(0);
    const { epoch: observedEpoch } = await store.owner();
    const incarnation = `life ${++this.#lives}`;
    const acquired = await store.acquire({ node: "a", incarnation, observedEpoch, leaseMs: 5_000 });
    if (acquired.kind !== "acquired") throw new Error(acquired.kind);
    const environment = new PartEnvironment(this.environment, (error) => this.crashes.push(error));
    const counters = newCounters();
    const committer = new Committer({
      environment,
      log: this.log.log,
      counters,
      store,
      epoch: acquired.epoch,
      leaseMs: 5_000,
      ackDelayMs: 20,
      commitKeysMax: 4_000,
      commitBytesMax: 4_000_000,
      transcript: { linesMax: 10, bytesMax: 10_000, ttlMs: 60_000 },
      deadLetters: { count: 0, bytes: 0 },
      deadLettersMax: 100,
      deadLetterBytesMax: 1_000_000,
      onReplies: () => undefined,
      onTranscript: () => undefined,
      onInboxDone: (entries, bytes) => {
        progress.undecidedBytes -= bytes;
        heads.done(entries);
        reader.checkRoom();
      },
      onTimer: () => undefined,
      onOpen: () => undefined,
      toList: () => null,
      sortSends: () => ({ here: null, away: [] }),
      onLost: (reason) => this.crashes.push(reason),
    });
    const heads = new PendingHeads({
      environment,
      log: this.log.log,
      uncleanEnds: acquired.uncleanEnds,
      followsAnEnd: !acquired.wasClean,
      horizon: acquired.inboxLast,
      groupMax: this.#config.suspectGroupMax,
      leaveAlone: (key, onAlone) => this.running.leaveAlone(key, onAlone),
      onThrough: () => committer.headsAreThrough(),
    });
    const system = new ActorSystem({
      after: this.environment.after,
      onCrash: (_name, error) => this.crashes.push(error),
    });
    const [checked] = checkBots([bot]);
    const options: ConversationsOptions = {
      environment,
      heads,
      spillMs: this.#config.spillMs,
      ports: {
        log: this.log.log,
        counters,
        bounds: this.#config,
        hashKey: { lo: 1, hi: 2 },
        running: this.running,
        reserveDeadLetter: (bytes) => committer.reserveDeadLetter(bytes),
        commit: (conversation) => committer.add(conversation),
        finish: (entry) => committer.finish(entry),
        laneHasRoom: () => true,
      },
      crashPolicy: { restartAfterMs: () => 10 },
      takeBack: (conversation) => committer.remove(conversation),
      store,
      family: system.family("conversation"),
      budget: {
        residentsMax: this.#config.residentsMax,
        residentBytesMax: this.#config.residentBytesMax,
        residents: 0,
        bytes: 0,
      },
      bot: () => checked,
      channel: () => testChannel(),
      onEvicted: () => undefined,
      onCorrupt: () => this.crashes.push("corrupt"),
    };
    const conversations = new Conversations(options);
    await conversations.recover();
    const progress = new ReadProgress();
    const reader = new ShardReader({
      environment,
      progress,
      log: this.log.log,
      counters,
      store,
      hashKey: { lo: 1, hi: 2 },
      committer,
      control: () => {
        throw new Error("no operator here");
      },
      deliver: (message) => conversations.deliver(message),
      readAheadBytesMax: this.#config.readAheadBytesMax,
      outboxBytes: () => 0,
      outboxBytesMax: 1,
      onProgress: (entry) => heads.read(entry),
      onCorrupt: () => this.crashes.push("corrupt"),
    });
    reader.start();
    this.conversations = conversations;
    this.#end = () => {
      void reader.stop();
      conversations.stop();
      heads.stop();
      committer.stop();
      environment.close();
    };
  }

  async send(name: string, ...inbounds: { id: string }[]): Promise<void> {
    const batch = new InboxBatch();
    const to = { bot: "b", channel: "test", conversation: name };
    for (const inbound of inbounds) batch.add(this.keyOf(name), { to, text: "", ...inbound });
    await this.#store.shard(0).append(batch.finish(), 1e9);
  }

  get shard() {
    return this.data.shard(0);
  }

  state(name: string): unknown {
    return JSON.parse(Buffer.from(decodeRecord(this.shard.records.get(this.keyOf(name))!).stateBytes).toString());
  }

  onList(name: string): number {
    return this.shard.waitingLists.get(this.keyOf(name))?.entries.length ?? 0;
  }

  async settle(): Promise<void> {
    for (let i = 0; i < 4; i += 1) await quiet();
  }

  async pass(ms: number): Promise<void> {
    await this.environment.pass(ms);
    await this.settle();
  }
}

const hangs = (): { bot: AnyBot; open: () => void } => {
  const held = gate();
  return { bot: collector(({ id }) => (id === "slow" ? held.promise : undefined)), open: () => held.open() };
};

describe("what stands in its way for `spillMs` moves a conversation's messages to its list (M2, attack B1)", () => {
  test("after it and not before; others go on, and the inbox is empty meanwhile", async () => {
    const shard = new Shard({ spillMs: 2_000 });
    const { bot, open } = hangs();
    await shard.start(bot);
    await shard.send("stuck", ...ids("slow", "m1"));
    await shard.pass(1_500);
    expect([shard.onList("stuck"), shard.shard.inbox.entries.length]).toEqual([0, 1]);
    await shard.pass(1_000);
    expect([shard.onList("stuck"), shard.shard.inbox.entries.length]).toEqual([2, 0]);
    await shard.send("other", ...ids("m1"));
    await shard.send("stuck", ...ids("m2"));
    await shard.pass(500);
    expect([shard.state("other"), shard.onList("stuck"), shard.shard.inbox.entries.length]).toEqual([["m1"], 2, 1]);
    await shard.pass(2_500); // hours later, as before
    expect([shard.onList("stuck"), shard.shard.inbox.entries.length]).toEqual([3, 0]);
    open();
    await shard.settle();
    expect([shard.state("stuck"), shard.onList("stuck"), shard.shard.open.size]).toEqual([["slow", "m1", "m2"], 0, 0]);
    expect(shard.crashes).toEqual([]);
  });

  test("200 that cannot move hold up nobody, however small the read-ahead", async () => {
    const shard = new Shard({ spillMs: 500, readAheadBytesMax: 8_192, entryBytesMax: 8_192, messageBytesMax: 1_024 });
    const failing = collector(({ id }) => {
      if (id === "bad") throw new TerminalError("never");
    });
    await shard.start(failing);
    for (let i = 0; i < 200; i += 1) await shard.send(`halted-${i}`, ...ids("bad", "m1", "m2"));
    await shard.send("healthy", ...ids("m1"));
    await shard.pass(5_000);
    expect([shard.state("healthy"), shard.shard.inbox.entries.length]).toEqual([["m1"], 0]);
    expect(Array.from({ length: 200 }, (_, i) => shard.onList(`halted-${i}`)).every((count) => count === 3)).toBe(true);
    expect(shard.shard.open.size).toBe(200);
  });
});

describe("what is unfinished and goes on by itself is activated at start (M3)", () => {
  test("a list, whether or not anything comes for it; not one that is halted", async () => {
    const shard = new Shard({ spillMs: 500 });
    const { bot } = hangs();
    await shard.start(bot);
    await shard.send("stuck", ...ids("slow", "m1"));
    await shard.pass(2_000);
    expect(shard.onList("stuck")).toBe(2);
    await shard.start(collector(() => undefined));
    await shard.settle();
    expect([shard.state("stuck"), shard.shard.open.size]).toEqual([["slow", "m1"], 0]);
    const failing = collector(({ id }) => {
      if (id === "bad") throw new TerminalError("never");
    });
    await shard.start(failing);
    await shard.send("halted", ...ids("bad", "m1"));
    await shard.settle();
    await shard.start(collector(() => undefined));
    await shard.settle();
    expect([shard.conversations.count, shard.onList("halted"), shard.shard.open.size]).toEqual([0, 2, 1]);
  });

  test("many more than may be resident: each has its turns, none is forgotten over another", async () => {
    const shard = new Shard({ spillMs: 500, residentsMax: 1, runningTurnsMax: 2 });
    await shard.start(collector(() => new Promise(() => undefined)));
    const names = Array.from({ length: 40 }, (_, i) => `c${i}`);
    for (const name of names) await shard.send(name, ...ids("m1", "m2"));
    await shard.pass(2_000);
    expect(names.every((name) => shard.onList(name) === 2)).toBe(true);
    shard.running.leaveAlone(null);
    await shard.start(collector(() => new Promise((resolve) => void shard.environment.after(10, () => resolve(null)))));
    await shard.pass(20_000);
    expect(names.map((name) => shard.state(name))).toEqual(names.map(() => ["m1", "m2"]));
    expect([shard.shard.open.size, shard.crashes]).toEqual([0, []]);
  });
});

describe("after processes that ended uncleanly (attack H2)", () => {
  test("the one that ends the process is found in a few ends, and the others finish", async () => {
    const shard = new Shard({ spillMs: 500, suspectGroupMax: 8 });
    let hasDied = false;
    let isKiller = (_name: string): boolean => false;
    const deadly = collector((message) => {
      if (hasDied) return new Promise(() => undefined); // nothing runs in a process that ended
      if (isKiller(message.conversation)) hasDied = true;
      return hasDied ? new Promise(() => undefined) : undefined;
    });
    await shard.start(deadly);
    isKiller = (name) => name === "c13";
    const names = Array.from({ length: 20 }, (_, i) => `c${i}`);
    for (const name of names) await shard.send(name, ...ids("m1"));
    await shard.settle();
    let ends = 0;
    while (ends < 20 && !(shard.shard.records.size === 20 && shard.log.at("error", "conversation halted").length > 0)) {
      hasDied = false;
      ends += 1;
      shard.running.leaveAlone(null);
      await shard.start(deadly);
      await shard.pass(2_000);
    }
    expect(ends).toBeLessThanOrEqual(10);
    expect(names.filter((name) => name !== "c13").map((name) => shard.state(name))).toEqual(Array(19).fill(["m1"]));
    const { record } = decodeRecord(shard.shard.records.get(shard.keyOf("c13"))!);
    expect(record.extra).toMatchObject({ halt: { reason: "poison" }, openTurn: { attempts: 0, deaths: 3 } });
    await shard.pass(1_000);
    expect(shard.shard.uncleanEnds).toBe(0); // W3
  });
});
