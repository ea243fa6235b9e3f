// The promise, under a seeded world: answers of the store get lost, deliveries fail, handlers throw, processes die, and a
// process that was stopped too long comes back beside its successor. P1 to P6 of README hold at the end of every run.

import { describe, expect, test } from "vitest";
import type { Channel, SendOutcome } from "../../src/channels/channel.ts";
import { decodeRecord } from "../../src/codec/record-codec.ts";
import { defineBot } from "../../src/domain/bot.ts";
import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { newCounters } from "../../src/metrics.ts";
import { MemoryData } from "../../src/store/memory-store.ts";
import { noFaults } from "../support/faulty-store.ts";
import { Saboteur } from "../support/saboteur.ts";
import { TestNode } from "../support/test-node.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const CONVERSATIONS = 6;
const MESSAGES = 14;
const RUNS = Number(process.env.COLLOQUY_TEST_RUNS ?? 300);
const SHARDS = 2;

interface FoldState {
  readonly n: number;
  readonly seen: readonly string[];
}

/** What reached the outside, over all processes. */
class Outside {
  readonly firsts = new Map<string, { sequence: number; text: string }[]>();
  readonly bytesByKey = new Map<string, string>();
  readonly wrong: string[] = [];
  readonly #environment: VirtualEnvironment;
  failureRate = 0;

  constructor(environment: VirtualEnvironment) {
    this.#environment = environment;
  }

  channel(): Channel {
    return {
      name: "test",
      delivery: "lane",
      render: ({ outSeq, inReplyTo, reply }) =>
        Buffer.from(JSON.stringify({ sequence: outSeq, inReplyTo, text: reply.text })),
      send: async (delivery) => {
        await new Promise<void>((resolve) => this.#environment.after(this.#environment.random() * 40, resolve));
        const dice = this.#environment.random();
        if (dice < this.failureRate / 2) return { kind: "retryable", reason: "HTTP 500" };
        this.#receive(delivery.to.conversation, delivery.idempotencyKey, Buffer.from(delivery.body).toString());
        const outcome: SendOutcome =
          dice < this.failureRate ? { kind: "ambiguous", reason: "reset" } : { kind: "delivered" };
        return outcome;
      },
    };
  }

  #receive(conversation: string, key: string, body: string): void {
    const before = this.bytesByKey.get(key);
    if (before !== undefined && before !== body) this.wrong.push(`${key}: ${before} became ${body}`);
    if (before !== undefined) return;
    this.bytesByKey.set(key, body);
    const firsts = this.firsts.get(conversation) ?? [];
    firsts.push(JSON.parse(body) as { sequence: number; text: string });
    this.firsts.set(conversation, firsts);
  }
}

interface RunOptions {
  /** Lets the runtime's own code crash in mid-work, more than five seconds apart, so that the tree has to mend it. */
  readonly sabotage?: boolean;
}

async function run(seed: number, { sabotage = false }: RunOptions = {}): Promise<Record<string, number>> {
  const environment = new VirtualEnvironment(seed);
  const data = new MemoryData();
  const outside = new Outside(environment);
  const faults = noFaults();
  const counts = { kills: 0, takeovers: 0, throws: 0, drains: 0 };

  const bot = defineBot<FoldState>({
    name: "fold",
    version: 1,
    initialState: () => ({ n: 0, seen: [] }),
    async onMessage(state, message, ctx) {
      if (environment.random() < 0.3)
        await new Promise<void>((resolve) => environment.after(environment.random() * 200, resolve));
      if (environment.random() < 0.05) {
        counts.throws += 1;
        throw new Error("the handler's own failure");
      }
      const seen = [...state.seen, message.id];
      for (let i = 0; i < message.seq % 3; i += 1) ctx.reply(`${seen.join(",")}#${i}`);
      return { n: state.n + 1, seen };
    },
  });

  const everyNode: TestNode[] = [];
  const saboteurs: Saboteur[] = [];
  let isOver = false;
  const start = (node: string): TestNode => {
    const saboteur = new Saboteur(environment, newCounters());
    const armAgain = (): void => {
      if (isOver) {
        saboteur.disarm();
        return;
      }
      saboteur.arm(Math.floor(environment.random() ** 2 * 200));
      environment.after(5_001 + environment.random() * 3_000, armAgain);
    };
    if (sabotage) environment.after(environment.random() * 2_000, armAgain);
    saboteurs.push(saboteur);
    const started = new TestNode({
      environment,
      seen: saboteur,
      data,
      node,
      bot,
      channel: outside.channel(),
      faults,
      config: { shards: SHARDS, leaseTtlMs: 2_000 },
    });
    everyNode.push(started);
    return started;
  };
  let nodes = [start("a")];
  await nodes[0]!.ready();
  faults.rate = 0.06;
  outside.failureRate = 0.2;

  const admit = async (messages: readonly Inbound[]): Promise<void> => {
    for (;;) {
      for (const node of nodes) {
        const outcome = await Promise.race([
          node.ownership.admit(messages).catch(() => ({ kind: "unavailable" as const })), // HTTP answers 500
          new Promise<{ kind: "unavailable" }>((resolve) =>
            environment.after(3_000, () => resolve({ kind: "unavailable" })),
          ),
        ]);
        if (outcome.kind === "admitted") return;
      }
      await new Promise<void>((resolve) => environment.after(100 + environment.random() * 200, resolve));
    }
  };
  const inbound = (c: number, n: number): Inbound => ({
    to: { bot: "fold", channel: "test", conversation: `c${c}` },
    id: `m${n}`,
    text: `text ${n}`,
  });
  const send = async (c: number): Promise<void> => {
    for (let n = 1; n <= MESSAGES; ) {
      const batch = 1 + Math.floor(environment.random() * 3);
      const messages = Array.from({ length: Math.min(batch, MESSAGES + 1 - n) }, (_, i) => inbound(c, n + i));
      await admit(messages);
      if (environment.random() < 0.2) await admit(messages); // a sender that missed its 2xx
      n += messages.length;
      await new Promise<void>((resolve) => environment.after(environment.random() * 300, resolve));
    }
  };
  let sending = CONVERSATIONS;
  for (let c = 0; c < CONVERSATIONS; c += 1) void send(c).then(() => (sending -= 1));

  for (let i = 0; i < 4; i += 1) {
    await environment.pass(environment.random() * 1_500);
    const how = environment.random();
    if (how < 0.45) {
      for (const node of nodes) node.kill();
      nodes = [start("a")];
      counts.kills += 1;
    } else if (how < 0.75) {
      nodes = [...nodes, start(`other-${i}`)]; // beside the living one: stands by until a lease runs out
      nodes[0]!.kill();
      counts.takeovers += 1;
    } else {
      const old = nodes;
      nodes = [start(`next-${i}`)];
      for (const node of old) if (!node.isKilled) await node.stop();
      counts.drains += 1;
    }
  }
  const report = (): string =>
    JSON.stringify({
      shards: [...data.shards.values()].map(({ inbox, outbox, open, node, epoch }) => ({
        open: Array.from(open, ([key, value]) => `${key}: ${Buffer.from(value).toString()}`),
        inbox: inbox.entries.length,
        outbox: outbox.entries.length,
        node,
        epoch,
      })),
      nodes: nodes.map((node) => (node.isKilled ? "killed" : (node.notReady ?? "ready"))),
      counts,
    });
  const isDone = (): boolean =>
    [...data.shards.values()].every(
      ({ inbox, outbox, open, laneLists }) =>
        inbox.entries.length + outbox.entries.length + open.size + laneLists.size === 0,
    );
  try {
    await environment.until(() => sending === 0, 600_000, "all admitted");
    isOver = true;
    faults.rate = 0;
    outside.failureRate = 0;
    await environment.until(isDone, 900_000, "drained");
  } catch (error) {
    throw new Error(report(), { cause: error });
  }

  expect(outside.wrong).toEqual([]); // P4: same key, same bytes
  for (let c = 0; c < CONVERSATIONS; c += 1) {
    const ids = Array.from({ length: MESSAGES }, (_, i) => `m${i + 1}`);
    const key = conversationKey({ bot: "fold", channel: "test", conversation: `c${c}` });
    const stored = data.shard(shardOf(key, SHARDS)).records.get(key)!;
    const decoded = decodeRecord(stored);
    expect(JSON.parse(Buffer.from(decoded.stateBytes).toString())).toEqual({ n: MESSAGES, seen: ids }); // P1, P2, P3, P5
    const expected = ids.flatMap((_, i) =>
      Array.from({ length: (i + 1) % 3 }, (_each, j) => `${ids.slice(0, i + 1).join(",")}#${j}`),
    );
    const replies = outside.firsts.get(`c${c}`)!;
    expect(replies.map(({ text }) => text)).toEqual(expected); // P4: complete, and in order of first delivery
    expect(replies.map(({ sequence }) => sequence)).toEqual(expected.map((_, i) => i + 1));
    expect(decoded.record).toMatchObject({ seq: MESSAGES, outSeq: expected.length });
  }
  for (const node of nodes) expect(node.crashes).toEqual([]);
  for (const node of everyNode) node.dispose();
  const struck = saboteurs.flatMap((saboteur) => saboteur.struck);
  return { ...counts, ...faults.hits, struck: struck.length };
}

describe("every message is handled once and in order, every reply delivered in order (P1 to P6)", () => {
  test(`through lost answers, failing sends and handlers, kills and takeovers: ${RUNS} seeds`, async () => {
    await runAll({}, WORLD_FAULTS);
  }, 240_000);

  test(`and while the runtime's own code crashes wherever it is: the tree mends it, ${RUNS} seeds`, async () => {
    await runAll({ sabotage: true }, [...WORLD_FAULTS, "struck"]);
  }, 240_000);
});

const WORLD_FAULTS = [
  "kills",
  "takeovers",
  "drains",
  "throws",
  "refused",
  "unanswered-before",
  "unanswered-after",
  "late",
];

async function runAll(options: RunOptions, faults: readonly string[]): Promise<void> {
  const first = Number(process.env.COLLOQUY_TEST_SEED ?? 1);
  const totals: Record<string, number> = {};
  for (let seed = first; seed < first + RUNS; seed += 1) {
    try {
      for (const [what, count] of Object.entries(await run(seed, options))) totals[what] = (totals[what] ?? 0) + count;
    } catch (error) {
      throw new Error(`seed ${seed}: run with COLLOQUY_TEST_SEED=${seed}`, { cause: error });
    }
  }
  for (const what of faults) expect(totals[what], `${what} happened`).toBeGreaterThan(RUNS / 10);
}
