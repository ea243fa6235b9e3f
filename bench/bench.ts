// Bench: the whole path of a message with both ends in this process, so that what is measured is the runtime and Redis, and
// not an HTTP client. bench/README.md says what is measured and what is not.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHistogram, performance, type RecordableHistogram } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { createApp } from "../src/app.ts";
import { decodeRecord } from "../src/codec/record-codec.ts";
import { conversationKey, shardOf } from "../src/domain/ids.ts";
import type { Channel } from "../src/index.ts";
import { embeddedSocketPath } from "../src/store/embedded-redis.ts";
import { shardKeys } from "../src/store/keys.ts";
import { crashingBot, foldBot, foldReply, nextFold } from "./fold-bot.ts";

interface BenchOptions {
  readonly messages: number;
  readonly conversations: number;
  /** Messages without a delivered reply at any moment. */
  readonly window: number;
  readonly shards: number;
  /** Messages of one admit call, as a webhook batch would have. */
  readonly batch: number;
  readonly durability: "always" | "everysec" | "none";
  /** Conversations of another bot beside those that are measured, whose handler throws at each message. */
  readonly crashing: number;
}

interface BenchResult extends BenchOptions {
  readonly messagesPerSecond: number;
  readonly messagesPerDay: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly nodeRssBytes: number;
  readonly redisRssBytes: number;
  readonly aofBytesPerMessage: number;
  /** CPU time, both ends of the bench included. */
  readonly nodeUsPerMessage: number;
  readonly redisUsPerMessage: number;
}

type Admit = Parameters<NonNullable<Channel["open"]>>[0];

const CHANNEL = "bench";

/** Both ends of the world in memory: sends up to `window` messages ahead of their replies, and checks each reply. */
class Ends implements Channel {
  readonly name = CHANNEL;
  readonly delivery = "lane";
  readonly latency: RecordableHistogram = createHistogram();
  readonly #options: BenchOptions;
  readonly #folds: { n: number; h: number }[];
  readonly #answered: { n: number; h: number }[];
  readonly #sentAtMs: number[][];
  #admit: Admit = async () => ({ kind: "unavailable", reason: "closed", retryAfterMs: 0 });
  #sent = 0;
  #crashes = 0;
  #replied = 0;
  #finish: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor(options: BenchOptions) {
    this.#options = options;
    const each = <T>(make: () => T): T[] => Array.from({ length: options.conversations }, make);
    this.#folds = each(() => ({ n: 0, h: 0 }));
    this.#answered = each(() => ({ n: 0, h: 0 }));
    this.#sentAtMs = each(() => []);
  }

  open(admit: Admit): void {
    this.#admit = admit;
  }

  render({ outSeq, inReplyTo, reply }: Parameters<Channel["render"]>[0]): Uint8Array {
    return Buffer.from(wireText(outSeq, inReplyTo, reply.text));
  }

  /** The sink: every reply must be the next of its conversation and carry the fold of all before it. */
  async send(delivery: Parameters<Channel["send"]>[0]): ReturnType<Channel["send"]> {
    const index = Number(delivery.to.conversation.slice(1));
    const answered = this.#answered[index]!;
    const n = answered.n + 1;
    const h = nextFold(answered.h, messageText(index, n));
    const expected = wireText(n, `m${n}`, foldReply(n, h));
    const received = asBuffer(delivery.body).toString();
    if (received !== expected)
      this.#fail(new Error(`conversation ${index}: received ${received}, expected ${expected}`));
    answered.n = n;
    answered.h = h;
    if (this.#replied % LATENCY_SAMPLE === 0) this.#recordLatency(index, n);
    this.#replied += 1;
    if (this.#replied === this.#options.messages) this.#finish();
    else if (this.#options.window - (this.#sent - this.#replied) >= this.#options.batch) this.#sendMore();
    return { kind: "delivered" };
  }

  #recordLatency(index: number, n: number): void {
    const us = (performance.now() - this.#sentAtMs[index]![n - 1]!) * 1000;
    this.latency.record(Math.max(1, Math.round(us)));
  }

  /** One message for each conversation that crashes; their replies never come. */
  async sendToCrashing(): Promise<void> {
    const { crashing } = this.#options;
    if (crashing === 0) return;
    this.#crashes += 1;
    const id = `m${this.#crashes}`;
    const to = (index: number) => ({ bot: crashingBot.name, channel: CHANNEL, conversation: `x${index}` });
    await this.#admit(Array.from({ length: crashing }, (_, index) => ({ to: to(index), id, text: "" })));
  }

  /** Resolves when the last reply is delivered, with the time from the first send. */
  async run(): Promise<number> {
    const startMs = performance.now();
    const done = new Promise<void>((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.#sendMore();
    await done;
    return performance.now() - startMs;
  }

  /** Compares what is stored with the fold of what was sent. */
  async checkFinalStates(redis: Redis): Promise<void> {
    for (let index = 0; index < this.#options.conversations; index += 1) {
      const key = conversationKey({ bot: foldBot.name, channel: CHANNEL, conversation: `c${index}` });
      const stored = await redis.getBuffer(shardKeys("colloquy", shardOf(key, this.#options.shards)).record(key));
      const expected = this.#folds[index]!;
      if (stored === null && expected.n === 0) continue;
      const state = JSON.parse(Buffer.from(decodeRecord(stored!).stateBytes).toString()) as { n: number; h: number };
      if (state.n !== expected.n || state.h !== expected.h)
        throw new Error(`conversation ${index}: stored ${JSON.stringify(state)}, expected ${JSON.stringify(expected)}`);
    }
  }

  #sendMore(): void {
    const { messages, window, batch } = this.#options;
    while (this.#sent < messages && this.#sent - this.#replied < window) {
      const count = Math.min(batch, messages - this.#sent, window - (this.#sent - this.#replied));
      const request = Array.from({ length: count }, () => this.#nextMessage());
      void this.#admit(request).then((outcome) => {
        if (outcome.kind !== "admitted") this.#fail(new Error(`not admitted: ${outcome.kind}`));
      });
    }
  }

  #nextMessage() {
    const index = this.#sent % this.#options.conversations;
    this.#sent += 1;
    const fold = this.#folds[index]!;
    const n = fold.n + 1;
    const text = messageText(index, n);
    this.#folds[index] = { n, h: nextFold(fold.h, text) };
    this.#sentAtMs[index]!.push(performance.now());
    return { to: { bot: foldBot.name, channel: CHANNEL, conversation: `c${index}` }, id: `m${n}`, text };
  }
}

const CRASH_EVERY_MS = 20;

/** One in so many replies is timed. */
const LATENCY_SAMPLE = 8;

const wireText = (sequence: number, inReplyTo: string | null, text: string): string =>
  `{"sequence":${sequence},"inReplyTo":"${inReplyTo}","text":"${text}"}`;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

const messageText = (conversation: number, n: number): string => `message ${n} of conversation ${conversation}`;

async function measure(options: BenchOptions): Promise<BenchResult> {
  const dataDir = mkdtempSync(join(tmpdir(), "colloquy-bench-"));
  const ends = new Ends(options);
  const { shards, durability } = options;
  const bots = [foldBot, crashingBot];
  const logLevel = options.crashing > 0 ? "error" : "warn";
  const app = createApp({ bots, channels: [ends], port: 0, dataDir, shards, durability, logLevel });
  try {
    const info = await app.start();
    if (!info.ready) throw new Error("the runtime did not become ready");
    const redis = new Redis({ path: embeddedSocketPath(dataDir), maxRetriesPerRequest: 1 });
    const before = await redisFigures(redis);
    const cpuBefore = process.cpuUsage();
    const crashes = setInterval(() => void ends.sendToCrashing(), CRASH_EVERY_MS);
    const elapsedMs = await ends.run().finally(() => clearInterval(crashes));
    const cpu = process.cpuUsage(cpuBefore);
    const nodeRssBytes = process.memoryUsage.rss();
    const after = await redisFigures(redis);
    await ends.checkFinalStates(redis);
    redis.disconnect();
    const messagesPerSecond = Math.round((options.messages / elapsedMs) * 1000);
    return {
      ...options,
      messagesPerSecond,
      messagesPerDay: messagesPerSecond * 86_400,
      p50Ms: ends.latency.percentile(50) / 1000,
      p99Ms: ends.latency.percentile(99) / 1000,
      nodeRssBytes,
      redisRssBytes: after.rssBytes,
      nodeUsPerMessage: round1((cpu.user + cpu.system) / options.messages),
      redisUsPerMessage: round1((after.cpuUs - before.cpuUs) / options.messages),
      aofBytesPerMessage: Math.round((after.aofBytes - before.aofBytes) / options.messages),
    };
  } finally {
    await app.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function redisFigures(redis: Redis): Promise<{ rssBytes: number; aofBytes: number; cpuUs: number }> {
  const info = await redis.info();
  const figure = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1] ?? 0);
  const cpuUs = (figure("used_cpu_user") + figure("used_cpu_sys")) * 1_000_000;
  return { rssBytes: figure("used_memory_rss"), aofBytes: figure("aof_current_size"), cpuUs };
}

const round1 = (value: number): number => Math.round(value * 10) / 10;

function median(results: readonly BenchResult[]): BenchResult {
  return results.toSorted((a, b) => a.messagesPerSecond - b.messagesPerSecond)[Math.floor(results.length / 2)]!;
}

/** Healthy conversations alone and beside crashing ones, in turn: what the latter cost the former. */
async function isolation(options: BenchOptions, pairs: number): Promise<Isolation> {
  const p99Ms = { alone: [] as number[], beside: [] as number[] };
  for (let pair = 1; pair <= pairs; pair += 1) {
    for (const [name, crashing] of [
      ["alone", 0],
      ["beside", 1],
    ] as const) {
      const result = await measure({ ...options, crashing });
      p99Ms[name].push(round1(result.p99Ms));
      const rate = result.messagesPerSecond.toLocaleString("en");
      console.error(`pair ${pair} of ${pairs}, ${name}: p99 ${result.p99Ms.toFixed(1)} ms, ${rate} messages/s`);
    }
  }
  const ratios = p99Ms.beside.map((beside, i) => beside / p99Ms.alone[i]!).toSorted((a, b) => a - b);
  return { ...options, p99Ms, p99Ratio: round1(ratios[Math.floor(ratios.length / 2)]!) };
}

interface Isolation extends BenchOptions {
  readonly p99Ms: { readonly alone: readonly number[]; readonly beside: readonly number[] };
  /** Median over the pairs. */
  readonly p99Ratio: number;
}

interface Wanted {
  readonly mode: "throughput" | "isolation";
  readonly options: BenchOptions;
  readonly runs: number;
  readonly json: boolean;
}

function readOptions(): Wanted {
  const { values } = parseArgs({
    options: {
      messages: { type: "string", default: "300000" },
      conversations: { type: "string", default: "1000" },
      window: { type: "string", default: "8000" },
      shards: { type: "string", default: "1" },
      batch: { type: "string", default: "100" },
      durability: { type: "string", default: "always" },
      runs: { type: "string", default: "1" },
      mode: { type: "string", default: "throughput" },
      json: { type: "boolean", default: false },
    },
  });
  const whole = (name: "messages" | "conversations" | "window" | "shards" | "batch" | "runs"): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`--${name} takes a whole number from 1, not ${values[name]}`);
    return value;
  };
  const { durability, mode } = values;
  if (mode !== "throughput" && mode !== "isolation") throw new RangeError("--mode takes throughput or isolation");
  if (durability !== "always" && durability !== "everysec" && durability !== "none")
    throw new RangeError("--durability takes always, everysec or none");
  return {
    mode,
    options: {
      crashing: 0,
      messages: whole("messages"),
      conversations: whole("conversations"),
      window: whole("window"),
      shards: whole("shards"),
      batch: whole("batch"),
      durability,
    },
    runs: whole("runs"),
    json: values.json,
  };
}

async function main(): Promise<void> {
  const { mode, options, runs, json } = readOptions();
  if (mode === "isolation") {
    const result = await isolation(options, runs);
    console.log(json ? JSON.stringify(result) : result);
    return;
  }
  const results: BenchResult[] = [];
  for (let run = 1; run <= runs; run += 1) {
    const result = await measure(options);
    results.push(result);
    console.error(
      `run ${run} of ${runs}: ${result.messagesPerSecond.toLocaleString("en")} messages/s, p50 ${result.p50Ms.toFixed(1)} ms, p99 ${result.p99Ms.toFixed(1)} ms, CPU per message ${result.nodeUsPerMessage} us node, ${result.redisUsPerMessage} us redis`,
    );
  }
  const result = median(results);
  if (json) console.log(JSON.stringify({ ...result, runs: results.map((each) => each.messagesPerSecond) }));
  else console.table(result);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof RangeError ? `bench: ${error.message}` : error);
  process.exitCode = error instanceof RangeError ? 2 : 1;
}
