// Bench: the whole path of a message with both ends in this process, so that what is measured is the runtime and Redis, and
// not an HTTP client. bench/README.md says what is measured and what is not.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHistogram, performance, type RecordableHistogram } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { createApp } from "../src/app.ts";
import { decodeRecord } from "../src/codec/record-codec.ts";
import { conversationKey, shardOf } from "../src/domain/ids.ts";
import type { Channel } from "../src/index.ts";
import { embeddedSocketPath } from "../src/store/embedded-redis.ts";
import { shardKeys } from "../src/store/keys.ts";
import { CONCURRENCY, DeadProvider } from "./dead-provider.ts";
import { crashingBot, echoBot, foldBot, foldReply, haltingBot, nextFold } from "./fold-bot.ts";
import { atRest, REPLIES_EACH, type RestResult, untilBlocked } from "./lanes.ts";

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
  /** Conversations of another bot that are halted before the clock runs, and are sent more meanwhile. */
  readonly halted: number;
  /** The same but for halting: they handle what they were sent, and then rest. */
  readonly idle: number;
  /** Lanes of another channel whose provider is dead, blocked before the clock runs. */
  readonly blocked: number;
  /** The same with a provider that took what they had to say. */
  readonly drained: number;
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
  #sentToHalted = 0;
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

  /** Before the clock runs: each halted one handles one message, halts at the second, and has the third wait. */
  async sendToOthers(): Promise<void> {
    const { halted, idle } = this.#options;
    const texts = halted > 0 ? ["hello", "halt", "wait"] : ["hello", "hello", "hello"];
    const others = Array.from({ length: Math.max(halted, idle) }, (_, index) => haltedId(index));
    for (let from = 0; from < others.length; from += OTHERS_AT_ONCE) {
      const page = others.slice(from, from + OTHERS_AT_ONCE);
      await this.#admitAll(page.flatMap((to) => texts.map((text, i) => ({ to, id: `${i}`, text }))));
    }
  }

  /** One more message for the next few that are halted. */
  async sendToHalted(): Promise<void> {
    const { halted } = this.#options;
    const count = Math.min(halted, HALTED_SENDS);
    const request = Array.from({ length: count }, (_, i) => {
      const n = this.#sentToHalted + i;
      return { to: haltedId(n % halted), id: `m${n}`, text: "wait" };
    });
    this.#sentToHalted += count;
    if (count > 0) await this.#admitAll(request).catch((error: Error) => this.#fail(error));
  }

  async #admitAll(request: Parameters<Admit>[0]): Promise<void> {
    const outcome = await this.#admit(request);
    if (outcome.kind !== "admitted") throw new Error(`not admitted: ${outcome.kind}`);
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
const OTHERS_AT_ONCE = 300;
const HALTED_SEND_EVERY_MS = 20;
/** Halted conversations that get a message each time: 500 messages a second together. */
const HALTED_SENDS = 10;
const SETTLED_WITHIN_MS = 120_000;
const LOOK_EVERY_MS = 50;
/** What waits of halted conversations may not stand in the inbox. */
const INBOX_ENTRIES_MAX = 100;

/** One in so many replies is timed. */
const LATENCY_SAMPLE = 8;

const wireText = (sequence: number, inReplyTo: string | null, text: string): string =>
  `{"sequence":${sequence},"inReplyTo":"${inReplyTo}","text":"${text}"}`;

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

const haltedId = (index: number) => ({ bot: haltingBot.name, channel: CHANNEL, conversation: `h${index}` });

const messageText = (conversation: number, n: number): string => `message ${n} of conversation ${conversation}`;

async function measure(options: BenchOptions): Promise<BenchResult> {
  const dataDir = mkdtempSync(join(tmpdir(), "colloquy-bench-"));
  const ends = new Ends(options);
  const { shards, durability } = options;
  const provider = new DeadProvider();
  const bots = [foldBot, crashingBot, haltingBot, echoBot];
  const logLevel = options.halted + options.blocked > 0 ? "fatal" : options.crashing > 0 ? "error" : "warn";
  const app = createApp({ bots, channels: [ends, provider], port: 0, dataDir, shards, durability, logLevel });
  try {
    const info = await app.start();
    if (!info.ready) throw new Error("the runtime did not become ready");
    const redis = new Redis({ path: embeddedSocketPath(dataDir), maxRetriesPerRequest: 1 });
    await ends.sendToOthers();
    await untilSettled(info.url, redis, options);
    await addLanes(provider, redis, options);
    const before = await redisFigures(redis);
    const cpuBefore = process.cpuUsage();
    const crashes = setInterval(() => void ends.sendToCrashing(), CRASH_EVERY_MS);
    const toHalted = setInterval(() => void ends.sendToHalted(), HALTED_SEND_EVERY_MS);
    const elapsedMs = await ends.run().finally(() => [crashes, toHalted].forEach(clearInterval));
    const cpu = process.cpuUsage(cpuBefore);
    const nodeRssBytes = process.memoryUsage.rss();
    const after = await redisFigures(redis);
    await ends.checkFinalStates(redis);
    await untilSettled(info.url, redis, options);
    if (options.blocked > 0) await drain(provider, options.blocked);
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

/** Lanes that are blocked, or have said what they had to say, before the clock runs. */
async function addLanes(
  provider: DeadProvider,
  redis: Redis,
  { blocked, drained, shards }: BenchOptions,
): Promise<void> {
  provider.isDead = blocked > 0;
  await provider.block(Math.max(blocked, drained), REPLIES_EACH);
  if (blocked > 0) await untilBlocked(redis, { blocked, shards });
  else await provider.drain(drained * REPLIES_EACH);
}

/** Nothing of them came while it was dead, and all of it does when it is back. */
async function drain(provider: DeadProvider, blocked: number): Promise<void> {
  await provider.drain(blocked * REPLIES_EACH);
  const { inFlightMax } = provider;
  if (inFlightMax > CONCURRENCY) throw new Error(`${inFlightMax} attempts were in flight, more than ${CONCURRENCY}`);
}

/** As many are halted as should be, and neither what they were sent nor anything else stands in the inbox. */
async function untilSettled(url: string, redis: Redis, { halted, shards }: BenchOptions): Promise<void> {
  const endMs = performance.now() + SETTLED_WITHIN_MS;
  for (;;) {
    const { open } = (await (await fetch(`${url}/admin/stats`)).json()) as { open: { halted?: number } };
    const inboxes = Array.from({ length: shards }, (_, shard) => redis.xlen(shardKeys("colloquy", shard).inbox));
    const entries = (await Promise.all(inboxes)).reduce((sum, count) => sum + count, 0);
    const found = open.halted ?? 0;
    if (found === halted && entries < INBOX_ENTRIES_MAX) return;
    if (performance.now() > endMs) throw new Error(`${found} of ${halted} are halted, ${entries} entries in the inbox`);
    await sleep(LOOK_EVERY_MS);
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

/** Healthy conversations alone and beside others, in turn: what those cost them. */
async function inPairs(options: BenchOptions, { alone, beside }: Others, pairs: number): Promise<Pairs> {
  const results = { alone: [] as BenchResult[], beside: [] as BenchResult[] };
  for (let pair = 1; pair <= pairs; pair += 1) {
    for (const name of ["alone", "beside"] as const) {
      const result = await measure({ ...options, ...(name === "alone" ? alone : beside) });
      results[name].push(result);
      const rate = result.messagesPerSecond.toLocaleString("en");
      const cpu = `${result.nodeUsPerMessage} + ${result.redisUsPerMessage}`;
      console.error(
        `pair ${pair} of ${pairs}, ${name}: p99 ${result.p99Ms.toFixed(1)} ms, ${rate} messages/s, CPU ${cpu} us`,
      );
    }
  }
  const of = (figure: Figure) => ({ alone: results.alone.map(figure), beside: results.beside.map(figure) });
  const messagesPerSecond = of((result) => result.messagesPerSecond);
  const p99Ms = of((result) => round1(result.p99Ms));
  return {
    ...options,
    ...beside,
    messagesPerSecond,
    messagesPerSecondRatio: medianRatio(messagesPerSecond),
    p99Ms,
    p99Ratio: medianRatio(p99Ms),
    nodeUsPerMessage: of((result) => result.nodeUsPerMessage),
    redisUsPerMessage: of((result) => result.redisUsPerMessage),
  };
}

function medianRatio({ alone, beside }: BothWays): number {
  const ratios = beside.map((figure, i) => figure / alone[i]!).toSorted((a, b) => a - b);
  return Math.round(ratios[Math.floor(ratios.length / 2)]! * 100) / 100;
}

type Figure = (result: BenchResult) => number;

/** Who else is there. */
interface Others {
  readonly alone: Partial<BenchOptions>;
  readonly beside: Partial<BenchOptions>;
}

/** One figure for each pair. */
interface BothWays {
  readonly alone: readonly number[];
  readonly beside: readonly number[];
}

/** Ratios are beside divided by alone, the median over the pairs. */
interface Pairs extends BenchOptions {
  readonly messagesPerSecond: BothWays;
  readonly messagesPerSecondRatio: number;
  readonly p99Ms: BothWays;
  readonly p99Ratio: number;
  /** CPU time, which says more than throughput where the machine is shared. */
  readonly nodeUsPerMessage: BothWays;
  readonly redisUsPerMessage: BothWays;
}

interface Wanted {
  readonly mode: "throughput" | "isolation" | "halted" | "lanes";
  readonly options: BenchOptions;
  /** For the mode of that name. */
  readonly halted: number;
  /** For the mode `lanes`, as is `seconds`. */
  readonly blocked: number;
  readonly seconds: number;
  readonly runs: number;
  readonly json: boolean;
}

type WholeFlag =
  | "messages"
  | "conversations"
  | "window"
  | "shards"
  | "batch"
  | "runs"
  | "halted"
  | "blocked"
  | "seconds";

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
      halted: { type: "string", default: "10000" },
      blocked: { type: "string", default: "10000" },
      seconds: { type: "string", default: "60" },
      json: { type: "boolean", default: false },
    },
  });
  const whole = (name: WholeFlag): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`--${name} takes a whole number from 1, not ${values[name]}`);
    return value;
  };
  const { durability, mode } = values;
  if (mode !== "throughput" && mode !== "isolation" && mode !== "halted" && mode !== "lanes")
    throw new RangeError("--mode takes throughput, isolation, halted or lanes");
  if (durability !== "always" && durability !== "everysec" && durability !== "none")
    throw new RangeError("--durability takes always, everysec or none");
  return {
    mode,
    halted: whole("halted"),
    blocked: whole("blocked"),
    seconds: whole("seconds"),
    options: {
      crashing: 0,
      halted: 0,
      idle: 0,
      blocked: 0,
      drained: 0,
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
  const { mode, options, halted, blocked, seconds, runs, json } = readOptions();
  if (mode !== "throughput") {
    let rest: { readonly atRest: RestResult } | null = null;
    if (mode === "lanes") {
      rest = { atRest: await atRest({ blocked, seconds, shards: options.shards, durability: options.durability }) };
      console.error(`${blocked} lanes blocked for ${seconds} s: ${JSON.stringify(rest.atRest)}`);
    }
    const others: Readonly<Record<typeof mode, Others>> = {
      isolation: { alone: {}, beside: { crashing: 1 } },
      halted: { alone: { idle: halted }, beside: { halted } },
      lanes: { alone: { drained: blocked }, beside: { blocked } },
    };
    const result = { ...(await inPairs(options, others[mode], runs)), ...rest };
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
