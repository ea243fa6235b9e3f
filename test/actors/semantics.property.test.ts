// The promise of one conversation, under a seeded world and every rule that can set a message aside: three kinds of order, both
// orderings, repeats, swaps and losses outside, handlers that fail, steps, replies in the middle, sends, spills, evictions, kills,
// and an operator who retries, skips and redrives.

import { describe, expect, test } from "vitest";
import type { Channel } from "../../src/channels/channel.ts";
import { decodeDeadLetter } from "../../src/codec/dead-letter-codec.ts";
import { decodeWaiting, InboxBatch } from "../../src/codec/inbox-codec.ts";
import { decodeOpenEntry } from "../../src/codec/open-codec.ts";
import { decodeRecord } from "../../src/codec/record-codec.ts";
import { defineBot } from "../../src/domain/bot.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import { type ConversationKey, conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { Control } from "../../src/domain/message.ts";
import { formatEntryId } from "../../src/domain/position.ts";
import { openEntryOf } from "../../src/domain/situation.ts";
import { TerminalError } from "../../src/errors.ts";
import { MemoryData, type MemoryShard, MemoryStore } from "../../src/store/memory-store.ts";
import { noFaults } from "../support/faulty-store.ts";
import { TestNode } from "../support/test-node.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const RUNS = Number(process.env.COLLOQUY_TEST_RUNS ?? 300);
const SHARDS = 2;
/** Two of one shard and one of the other, so that sends stay and go. */
const CONVERSATIONS = ["c0", "c1", "c4"];
const MESSAGES = 8;
const MODES = ["arrival", "contiguous", "monotonic"] as const;
const HASH_KEY = { lo: 0, hi: 0 };

interface State {
  /** What the turns were about, in order. */
  readonly log: readonly string[];
}

/** What happens to one message of the outside, decided by the seed before anything runs. */
interface Plan {
  readonly id: string;
  readonly text: string;
  readonly sequence: number;
  /** Runs that fail before one that works; `terminal` ones at once for good. */
  readonly fails: number;
  readonly isTerminal: boolean;
  readonly slowMs: number;
  readonly hasStep: boolean;
  readonly repliesEarly: boolean;
  readonly sendsTo: string | null;
  /** How it is delivered: when, how often, or only after all the others. */
  readonly atMs: number;
  readonly copies: number;
  readonly isLost: boolean;
}

type Counts = Record<string, number>;
const NOT_OPEN = { sinceMs: 0 };

class World {
  readonly environment: VirtualEnvironment;
  readonly data = new MemoryData();
  readonly faults = noFaults();
  readonly counts: Counts = {};
  readonly plans: ReadonlyMap<string, readonly Plan[]>;
  readonly rules: ExternalOrder;
  readonly isStrict: boolean;
  readonly killsAllowed: boolean;
  /** By message: how often its handler began, and its side effect ran. */
  readonly runs = new Map<string, number>();
  readonly effects = new Map<string, number>();
  readonly outside = new Map<string, { sequence: number; text: string }[]>();
  readonly bytesByKey = new Map<string, string>();
  readonly wrong: string[] = [];
  readonly #store: MemoryStore;
  readonly #config: Record<string, number>;
  readonly #nodes: TestNode[] = [];
  #living: TestNode[] = [];
  #arriving = 0;

  constructor(seed: number) {
    this.environment = new VirtualEnvironment(seed);
    this.#store = new MemoryStore(this.environment, this.data);
    const mode = MODES[seed % 3]!;
    this.isStrict = Math.floor(seed / 3) % 2 === 0;
    this.killsAllowed = Math.floor(seed / 6) % 4 !== 0;
    const maxHeld = this.#chance(0.3) ? 2 : 50;
    const settleMs = this.#chance(0.5) ? 0 : 400;
    this.rules =
      mode === "arrival"
        ? { mode }
        : mode === "monotonic"
          ? { mode, settleMs, maxHeld }
          : { mode, gapTimeoutMs: 1_500, settleMs, maxHeld, firstSequence: this.#chance(0.6) ? 1 : null };
    this.#config = {
      shards: SHARDS,
      leaseTtlMs: 2_000,
      spillMs: this.#chance(0.5) ? 100 : 1_000,
      mailboxMax: this.#chance(0.5) ? 1 + this.#below(3) : 1_024,
      waitingMax: this.#chance(0.5) ? 2 + this.#below(6) : 1_000,
      residentsMax: this.#chance(0.5) ? 1 : 1_000,
      drainTurnsMax: 1 + this.#below(4),
      uncommittedTurnsMax: 1 + this.#below(4),
      runningTurnsMax: 1 + this.#below(3),
    };
    this.plans = new Map(CONVERSATIONS.map((name) => [name, this.#plansOf(name)]));
  }

  #plansOf(conversation: string): Plan[] {
    return Array.from({ length: MESSAGES }, (_, i) => {
      const n = i + 1;
      const isTerminal = this.#chance(0.06);
      const isArrival = this.rules.mode === "arrival";
      return {
        id: `m${n}`,
        text: `${conversation}/m${n}`,
        sequence: this.rules.mode === "monotonic" ? n * 10 : n,
        fails: isTerminal ? 1 : this.#chance(0.12) ? 1 + this.#below(4) : 0,
        isTerminal,
        slowMs: this.#chance(0.2) ? this.#below(1_500) : 0,
        hasStep: this.#chance(0.15),
        repliesEarly: this.#chance(0.15),
        sendsTo: this.#chance(0.1) ? CONVERSATIONS[this.#below(CONVERSATIONS.length)]! : null,
        atMs: n * 150 + (!isArrival && this.#chance(0.3) ? this.#below(1_200) : 0),
        copies: this.#chance(0.2) ? 2 : 1,
        isLost: !isArrival && this.#chance(0.08),
      };
    });
  }

  #chance(share: number): boolean {
    return this.environment.random() < share;
  }

  #below(bound: number): number {
    return Math.floor(this.environment.random() * bound);
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.environment.after(ms, resolve));
  }

  keyOf(conversation: string): ConversationKey {
    return conversationKey({ bot: "all", channel: "test", conversation });
  }

  // The bot, and what is behind it --------------------------------------------------------------------------------------

  #bot() {
    return defineBot<State>({
      name: "all",
      version: 1,
      initialState: () => ({ log: [] }),
      ordering: this.isStrict ? "strict" : "available",
      maxAttempts: 3,
      poisonMinMs: 150,
      onMessage: async (state, message, ctx) => {
        if (message.from !== undefined) {
          ctx.reply(`sent:${message.text}`);
          return { log: [...state.log, `sent:${message.text}`] };
        }
        const plan = this.plans.get(message.conversation)!.find(({ text }) => text === message.text)!;
        const run = (this.runs.get(plan.text) ?? 0) + 1;
        this.runs.set(plan.text, run);
        if (plan.repliesEarly) {
          ctx.reply(`${plan.id}#0`);
          await ctx.replyNow();
        }
        let charge = 0;
        if (plan.hasStep)
          charge = await ctx.step("charge", async () => {
            await this.pause(30);
            const times = (this.effects.get(plan.text) ?? 0) + 1;
            this.effects.set(plan.text, times);
            return times;
          });
        if (plan.slowMs > 0) await this.pause(plan.slowMs);
        if (run <= plan.fails) {
          this.count(plan.isTerminal ? "terminal" : "failed");
          throw plan.isTerminal ? new TerminalError("never") : new Error("not now");
        }
        if (plan.sendsTo !== null) ctx.send({ conversation: plan.sendsTo }, { text: plan.text });
        const what = `${message.redriven ? "redriven:" : ""}${message.late ? "late:" : ""}${plan.id}`;
        ctx.reply(`${what}#1 ${charge}`);
        return { log: [...state.log, what] };
      },
      onNotice: {
        gap: (state, { from, to }, ctx) => {
          ctx.reply(`gap:${from}-${to}`);
          return { log: [...state.log, `gap:${from}-${to}`] };
        },
        poisoned: (state, { id }, ctx) => {
          ctx.reply(`poisoned:${id}`);
          return { log: [...state.log, `poisoned:${id}`] };
        },
      },
    });
  }

  #channel(): Channel {
    return {
      name: "test",
      delivery: "lane",
      order: this.rules,
      render: ({ outSeq, reply }) => Buffer.from(JSON.stringify({ sequence: outSeq, text: reply.text })),
      send: async ({ to, idempotencyKey, body }) => {
        await this.pause(this.environment.random() * 20);
        const text = Buffer.from(body).toString();
        const before = this.bytesByKey.get(idempotencyKey);
        if (before !== undefined && before !== text) this.wrong.push(`${idempotencyKey}: ${before} became ${text}`);
        if (before === undefined) {
          this.bytesByKey.set(idempotencyKey, text);
          const all = this.outside.get(to.conversation) ?? [];
          this.outside.set(to.conversation, [...all, JSON.parse(text) as { sequence: number; text: string }]);
        }
        return { kind: "delivered" };
      },
    };
  }

  // Nodes ---------------------------------------------------------------------------------------------------------------

  start(node: string): void {
    const started = new TestNode({
      environment: this.environment,
      data: this.data,
      node,
      bot: this.#bot() as never,
      channel: this.#channel(),
      faults: this.faults,
      config: this.#config,
    });
    this.#nodes.push(started);
    this.#living.push(started);
  }

  async trouble(i: number): Promise<void> {
    const how = this.environment.random();
    if (this.killsAllowed && how < 0.5) {
      for (const node of this.#living.splice(0)) node.kill();
      this.start("a");
      this.count("kills");
    } else if (this.killsAllowed && how < 0.7) {
      const [old] = this.#living.splice(0, 1);
      this.start(`other-${i}`);
      old!.kill();
      this.count("takeovers");
    } else {
      const old = this.#living.splice(0);
      this.start(`next-${i}`);
      for (const node of old) await node.stop();
      this.count("drains");
    }
  }

  get crashes(): unknown[] {
    return this.#nodes.flatMap(({ crashes }) => crashes);
  }

  dispose(): void {
    for (const node of this.#nodes) node.dispose();
  }

  // What comes from outside ---------------------------------------------------------------------------------------------

  async #append(conversation: string, entry: Uint8Array, isBounded = true): Promise<void> {
    const key = this.keyOf(conversation);
    const store = this.#store.shard(shardOf(key, SHARDS));
    for (;;) {
      const reply = await store.append(entry, 1e9, isBounded ? { conversations: [key] } : {});
      if (reply.kind !== "full") return;
      this.count("full");
      await this.pause(100);
    }
  }

  async #deliver(conversation: string, plan: Plan, isConflict = false): Promise<void> {
    const batch = new InboxBatch();
    const to = { bot: "all", channel: "test", conversation };
    const text = isConflict ? "another body" : plan.text;
    batch.add(this.keyOf(conversation), { to, id: plan.id, sequence: plan.sequence, text });
    await this.#append(conversation, batch.finish());
  }

  /** One sender for each conversation: what it sends later is admitted later. */
  async #sender(conversation: string): Promise<void> {
    const all = [...this.plans.get(conversation)!].sort((a, b) => a.atMs - b.atMs);
    const startMs = this.environment.nowMs();
    for (const plan of all.filter(({ isLost }) => !isLost)) {
      await this.pause(Math.max(0, startMs + plan.atMs - this.environment.nowMs()));
      await this.#deliver(conversation, plan);
      for (let copy = 1; copy < plan.copies; copy += 1) {
        this.count("repeats");
        await this.#deliver(conversation, plan, this.#chance(0.3));
      }
    }
    if (all.some(({ isLost }) => isLost)) await this.pause(2_500);
    for (const plan of all.filter(({ isLost }) => isLost)) {
      this.count("found late");
      await this.#deliver(conversation, plan);
    }
  }

  arrive(): void {
    for (const conversation of this.plans.keys()) {
      this.#arriving += 1;
      void this.#sender(conversation).then(() => {
        this.#arriving -= 1;
      });
    }
  }

  // The operator --------------------------------------------------------------------------------------------------------

  async operate(): Promise<void> {
    for (const shard of this.data.shards.values()) {
      for (const [key, bytes] of [...shard.open]) {
        const { halt } = decodeOpenEntry(bytes);
        if (halt === undefined) continue;
        const verb = this.#chance(0.6) ? "retry" : "skip";
        const name = this.#chance(0.1) ? "gap-0-77" : halt;
        this.count(verb);
        for (let times = this.#chance(0.2) ? 2 : 1; times > 0; times -= 1) await this.#control(key, verb, name);
      }
      for (const { id, bytes } of shard.dead.entries) {
        if (!this.#chance(0.1)) continue;
        const letter = decodeDeadLetter(bytes);
        const message = decodeWaiting(letter.payload, null, HASH_KEY);
        const batch = new InboxBatch();
        batch.addAgain({ ...message, extra: { ...message.extra, redrives: formatEntryId(id) } });
        this.count("redrive");
        const entry = batch.finish();
        for (let times = this.#chance(0.3) ? 2 : 1; times > 0; times -= 1)
          await this.#append(letter.conversation!, entry, false);
      }
    }
  }

  async #control(key: ConversationKey, verb: Control["verb"], halt: string): Promise<void> {
    const batch = new InboxBatch();
    batch.addControl(key, { verb, halt, by: "operator" });
    await this.#store.shard(shardOf(key, SHARDS)).append(batch.finish(), 1e9);
  }

  // What must hold ------------------------------------------------------------------------------------------------------

  get isDone(): boolean {
    return (
      this.#arriving === 0 &&
      [...this.data.shards.values()].every(
        ({ inbox, outbox, open, timers, laneLists }) =>
          inbox.entries.length + outbox.entries.length + open.size + timers.size + laneLists.size === 0,
      )
    );
  }

  /** At every moment, since all of it is one commit: record, list, index and bound say the same. */
  checkStored(): void {
    for (const shard of this.data.shards.values()) {
      for (const key of [...shard.open.keys(), ...shard.waitingLists.keys(), ...shard.full])
        if (!shard.records.has(key)) throw new Error(`${key} is unfinished and has no record`);
      for (const [key, stored] of shard.records) this.#checkRecord(shard, key, stored);
    }
  }

  /** Without `expect`, which would take most of the time of a run. */
  #checkRecord(shard: MemoryShard, key: ConversationKey, stored: Uint8Array): void {
    const { record } = decodeRecord(stored);
    const list = shard.waitingLists.get(key)?.entries ?? [];
    const { count = 0, bytes = 0, isFull = false, nextId = 1 } = record.extra?.waiting ?? {};
    if (count > 0) this.count("lists");
    const listed = list.reduce((sum, entry) => sum + entry.bytes.length, 0);
    const { sinceMs: _since, ...told } = shard.open.has(key) ? decodeOpenEntry(shard.open.get(key)!) : NOT_OPEN;
    const { sinceMs: _ofNow, ...expected } = openEntryOf(record, null, 0) ?? NOT_OPEN;
    const isRight =
      list.length === count &&
      listed === bytes &&
      list.every(({ id }) => id.ms < nextId) &&
      shard.full.has(key) === isFull &&
      JSON.stringify(told) === JSON.stringify(expected);
    if (isRight) return;
    const found = { count: list.length, bytes: listed, isFull: shard.full.has(key), told };
    throw new Error(`${key}: ${JSON.stringify({ found, expected, waiting: record.extra?.waiting })}`);
  }

  /** Every message is accounted for once; state and replies are the fold of the turns; order is the outside's. */
  checkEnd(): void {
    expect(this.wrong).toEqual([]); // P4: same key, same bytes
    expect(this.crashes).toEqual([]);
    const sent = new Map<string, string>();
    const decided = new Map<string, readonly string[]>();
    const dead = this.#deadByConversation();
    expect(new Set(CONVERSATIONS.map((name) => shardOf(this.keyOf(name), SHARDS))).size).toBe(SHARDS);
    for (const conversation of this.plans.keys()) {
      const shard = this.data.shard(shardOf(this.keyOf(conversation), SHARDS));
      const { record, stateBytes } = decodeRecord(shard.records.get(this.keyOf(conversation))!);
      const { log } = JSON.parse(Buffer.from(stateBytes).toString()) as State;
      decided.set(conversation, log);
      expect(record.seq).toBe(log.length);
      expect(record.extra?.waiting?.count ?? 0).toBe(0);
      const replies = this.outside.get(conversation) ?? [];
      expect(replies.map(({ sequence }) => sequence)).toEqual(replies.map((_, i) => i + 1)); // P4: complete, in order
      expect(replies.length).toBe(record.outSeq);
      this.#checkConversation(conversation, log, dead.get(conversation) ?? [], replies);
    }
    for (const [conversation, log] of decided)
      for (const { text, id, sendsTo } of this.plans.get(conversation)!)
        if (sendsTo !== null && log.some((what) => what.endsWith(`:${id}`) || what === id)) {
          const isTurn = log.some((what) => /^((redriven|late):)*m\d+$/.test(what) && what.split(":").at(-1) === id);
          if (isTurn) sent.set(text, sendsTo);
        }
    for (const [conversation, log] of decided) {
      const arrived = log.filter((what) => what.startsWith("sent:")).map((what) => what.slice(5));
      const expected = [...sent].filter(([, to]) => to === conversation).map(([text]) => text);
      expect(arrived.toSorted(), `sent to ${conversation}`).toEqual(expected.toSorted()); // exactly once
    }
  }

  #deadByConversation(): Map<string, { id: string; repliesOut: number }[]> {
    const dead = new Map<string, { id: string; repliesOut: number }[]>();
    for (const shard of this.data.shards.values())
      for (const { bytes } of shard.dead.entries) {
        const letter = JSON.parse(Buffer.from(bytes).toString()) as {
          conversation: string;
          id: string;
          repliesOut?: number;
        };
        const all = dead.get(letter.conversation) ?? [];
        dead.set(letter.conversation, [...all, { id: letter.id, repliesOut: letter.repliesOut ?? 0 }]);
      }
    return dead;
  }

  #checkConversation(
    conversation: string,
    log: readonly string[],
    dead: readonly { id: string; repliesOut: number }[],
    replies: readonly { text: string }[],
  ): void {
    const plans = this.plans.get(conversation)!;
    const turns = log.filter((what) => /^((redriven|late):)*m\d+$/.test(what));
    const accounted = [...turns.map((what) => what.split(":").at(-1)!), ...dead.map(({ id }) => id)];
    expect(accounted.toSorted(), `${conversation}: ${log.join(" ")}`).toEqual(plans.map(({ id }) => id).toSorted()); // P1, P2
    this.counts.dead = (this.counts.dead ?? 0) + dead.length;
    const inOrder = turns.filter((what) => !what.includes(":"));
    const places = inOrder.map((id) => plans.find((plan) => plan.id === id)!);
    expect(inOrder, `${conversation} in order`).toEqual(
      places.toSorted((a, b) => a.sequence - b.sequence).map(({ id }) => id),
    ); // P3
    const early = new Set(plans.filter(({ repliesEarly }) => repliesEarly).map(({ id }) => id));
    const ofTurns = replies.map(({ text }) => text.split(" ")[0]!).filter((text) => !text.endsWith("#0"));
    expect(ofTurns).toEqual(
      log.map((what) => (/m\d+$/.test(what) && !/^(poisoned|sent)/.test(what) ? `${what}#1` : what)),
    );
    for (const id of early) {
      const out = replies.filter(({ text }) => text === `${id}#0`).length;
      const isTurn = turns.some((what) => what.split(":").at(-1) === id);
      const isRedriven = turns.includes(`redriven:${id}`) || turns.includes(`redriven:late:${id}`);
      const letter = dead.find((each) => each.id === id);
      if (isRedriven)
        expect(out).toBeLessThanOrEqual(2); // its turn had spoken before it became a dead letter
      else expect(out).toBe(isTurn ? 1 : letter!.repliesOut);
    }
    for (const { text, hasStep, id } of plans)
      if (hasStep && !this.killsAllowed && !turns.includes(`redriven:${id}`))
        expect(this.effects.get(text) ?? 0, `step of ${text}`).toBeLessThanOrEqual(1); // DESIGN 5: steps
  }

  get report(): string {
    return JSON.stringify({
      rules: this.rules,
      isStrict: this.isStrict,
      config: this.#config,
      counts: this.counts,
      arriving: this.#arriving,
      nodes: this.#living.map((node) => node.notReady ?? "ready"),
      shards: [...this.data.shards.values()].map((shard) => ({
        open: Array.from(shard.open, ([key, value]) => `${key}: ${Buffer.from(value).toString()}`),
        inbox: shard.inbox.entries.map(({ id }) => formatEntryId(id)),
        outbox: shard.outbox.entries.length,
        timers: [...shard.timers],
        unclean: shard.uncleanEnds,
        extras: Array.from(shard.records, ([key, stored]) => `${key} ${JSON.stringify(decodeRecord(stored).record)}`),
      })),
    });
  }
}

async function run(seed: number): Promise<Counts> {
  const world = new World(seed);
  const { environment } = world;
  try {
    world.start("a");
    world.arrive();
    for (let i = 0; i < 3; i += 1) {
      world.faults.rate = 0.03;
      await environment.pass(environment.random() * 1_200);
      world.checkStored();
      if (environment.random() < 0.5) await world.operate();
      await world.trouble(i);
      world.checkStored();
    }
    world.faults.rate = 0;
    for (let round = 0; !world.isDone; round += 1) {
      if (round > 60) throw new Error("not at rest");
      await environment.pass(500);
      world.checkStored();
      await world.operate();
    }
    world.checkEnd();
  } catch (error) {
    throw new Error(world.report, { cause: error });
  } finally {
    world.dispose();
  }
  return world.counts;
}

describe("every message of a conversation is accounted for once, in order, whatever happens to it (P1 to P5)", () => {
  test(`${RUNS} seeds of three modes and both orderings`, async () => {
    const first = Number(process.env.COLLOQUY_TEST_SEED ?? 1);
    const totals: Counts = {};
    for (let seed = first; seed < first + RUNS; seed += 1) {
      try {
        for (const [what, count] of Object.entries(await run(seed))) totals[what] = (totals[what] ?? 0) + count;
      } catch (error) {
        throw new Error(`seed ${seed}: run with COLLOQUY_TEST_SEED=${seed} COLLOQUY_TEST_RUNS=1`, { cause: error });
      }
    }
    if (process.env.COLLOQUY_TEST_RUNS !== undefined) return;
    for (const what of KINDS) expect(totals[what], `${what} happened`).toBeGreaterThan(RUNS / 10);
  }, 120_000);
});

const KINDS = [
  "kills",
  "takeovers",
  "drains",
  "failed",
  "terminal",
  "repeats",
  "found late",
  "full",
  "lists",
  "retry",
  "skip",
  "redrive",
  "dead",
];
