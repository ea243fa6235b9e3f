// Metrics: what happened, counted where it happens, and how things stand when /metrics is read, in Prometheus' text format.
//
// Invariants
//   T1. The path of a message adds to plain numbers and reads no clock for each message: per request, per commit, per wake-up.
//   T2. Never the id of a conversation as a label; a label has few values, which are known when this is written. Ids belong
//       into logs.
//   T3. Every metric stands in the table `METRICS`, from which docs/metrics.md is made; nothing else is given out.

import { Registry } from "prom-client";

/** Since the process started. Plain numbers: the path of a message adds to them. */
export interface Counters {
  admitted: number;
  /** Messages that were not, or not surely, stored; their senders were told to come again. */
  refused: number;
  commits: number;
  turns: number;
  failedTurns: number;
  /** Messages dropped because their id had been decided before. */
  duplicates: number;
  /** Those among them that came with another body; the first one won. */
  conflicts: number;
  /** Dedupe ids that had to leave while young: a repeat of theirs would not be recognised. */
  idsLeftYoung: number;
  delivered: number;
  failedDeliveries: number;
  deadLetters: number;
  /** Messages that failed for good. */
  poisoned: number;
  /** Conversations that halted. */
  halts: number;
  /** Numbers of the outside, or runs of them, that were found missing. */
  gaps: number;
  /** Messages moved to a waiting list. */
  moved: number;
  /** Replies moved to the list of their lane. */
  movedReplies: number;
  /** Promises that a turn had left behind and that were rejected after its end. */
  strayRejections: number;
  readonly timings: Timings;
}

export type CountName = Exclude<keyof Counters, "timings">;

/** How long things took. */
export interface Timings {
  readonly admission: Durations;
  readonly turn: Durations;
  readonly commit: Durations;
  readonly admissionToCommit: Durations;
  readonly delivery: Durations;
}

/** Upper bounds in seconds; what is over the last one counts in the total only. */
export const DURATION_BUCKETS: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

/** A histogram that costs a few comparisons to add to. */
export class Durations {
  readonly #counts = new Float64Array(DURATION_BUCKETS.length);
  #count = 0;
  #sumMs = 0;

  /** A clock that was set back makes a negative one, which counts as 0. */
  observe(ms: number): void {
    const spentMs = Math.max(0, ms);
    this.#count += 1;
    this.#sumMs += spentMs;
    for (let i = 0; i < DURATION_BUCKETS.length; i += 1) {
      if (spentMs > DURATION_BUCKETS[i]! * 1_000) continue;
      this.#counts[i]! += 1;
      return;
    }
  }

  get count(): number {
    return this.#count;
  }

  get sumSeconds(): number {
    return this.#sumMs / 1_000;
  }

  /** How many took at most so long, for each bound. */
  cumulative(): readonly (readonly [seconds: number, count: number])[] {
    let sum = 0;
    return DURATION_BUCKETS.map((seconds, i) => {
      sum += this.#counts[i]!;
      return [seconds, sum];
    });
  }
}

export function newCounters(): Counters {
  return {
    admitted: 0,
    refused: 0,
    commits: 0,
    turns: 0,
    failedTurns: 0,
    duplicates: 0,
    conflicts: 0,
    idsLeftYoung: 0,
    delivered: 0,
    failedDeliveries: 0,
    deadLetters: 0,
    poisoned: 0,
    halts: 0,
    gaps: 0,
    moved: 0,
    movedReplies: 0,
    strayRejections: 0,
    timings: {
      admission: new Durations(),
      turn: new Durations(),
      commit: new Durations(),
      admissionToCommit: new Durations(),
      delivery: new Durations(),
    },
  };
}

/** One number, one for each value of the first label, or samples with all their labels. */
export type GaugeValue = number | Readonly<Record<string, number>> | readonly GaugeSample[];

export interface GaugeSample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export type GaugeName =
  | "info"
  | "ready"
  | "shards"
  | "residents"
  | "open"
  | "uncommitted"
  | "lanes"
  | "accountAttempts"
  | "accountWaiting"
  | "accountBlocked"
  | "accountOpenings"
  | "accountOutcomes"
  | "inboxBytes"
  | "inboxBytesMax"
  | "readAheadBytes"
  | "outboxBytes"
  | "deadLettersStored"
  | "deadLettersMax"
  | "redisUp"
  | "redisMemoryBytes"
  | "redisMemoryBytesMax"
  | "startTime"
  | "processCpu"
  | "processMemory"
  | "eventLoop";

/** What is not known now is left out, rather than given as it was. */
export type GaugeValues = Readonly<Partial<Record<GaugeName, GaugeValue>>>;

export interface MetricSpec {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  /** "" for a count. */
  readonly unit: "" | "bytes" | "seconds" | "ratio";
  readonly help: string;
  readonly labels?: readonly string[];
  /** What OpenTelemetry's conventions call it; without it it is the Prometheus name behind the dot of its namespace. */
  readonly otel?: { readonly name: string; readonly attributes?: Readonly<Record<string, string>> };
}

const operation = (name: string, type: string) => ({
  "messaging.system": "colloquy",
  "messaging.operation.name": name,
  "messaging.operation.type": type,
});

export const COUNTERS: Readonly<Record<CountName, MetricSpec>> = {
  admitted: counter("messages_admitted", "Messages answered 2xx by this process, repeats included"),
  refused: counter("messages_refused", "Messages whose senders were told to come again (503)"),
  turns: {
    ...counter("turns", "Turns that ended well and were handed to a commit"),
    otel: { name: "messaging.client.consumed.messages", attributes: operation("turn", "process") },
  },
  failedTurns: counter("turns_failed", "Turns that failed; their message runs again"),
  duplicates: counter("messages_duplicate", "Messages dropped because their id had been decided before"),
  conflicts: counter("messages_conflict", "Duplicates with another body; the first one won"),
  idsLeftYoung: counter("dedupe_ids_left_young", "Ids forgotten before dedupeMs was over, for want of room"),
  commits: counter("commits", "Group commits that Redis confirmed"),
  delivered: {
    ...counter("replies_delivered", "Replies that the outside confirmed"),
    otel: { name: "messaging.client.sent.messages", attributes: operation("deliver", "send") },
  },
  failedDeliveries: counter("deliveries_failed", "Attempts at sending a reply that failed or stayed unclear"),
  deadLetters: counter("dead_letters", "Messages and replies set aside by this process"),
  poisoned: counter(
    "messages_poisoned",
    "Messages that failed for good: their conversation halted, or they became dead letters",
  ),
  halts: counter("conversations_halted", "Conversations that halted, for whatever reason"),
  gaps: counter("gaps", "Missing numbers of the outside whose time was up"),
  strayRejections: counter(
    "turn_stray_rejections",
    "Promises of bots that nobody waited for, rejected after their turn",
  ),
  movedReplies: counter("replies_moved", "Replies moved to the list of their lane, since it did not flow"),
  moved: counter("messages_moved", "Messages moved to a waiting list, since their conversation could not take them"),
};

export const HISTOGRAMS: Readonly<Record<keyof Timings, MetricSpec>> = {
  admission: {
    ...histogram("admission", "From a request's messages to the answer that they are stored, waiting included"),
    otel: { name: "messaging.client.operation.duration", attributes: operation("admit", "send") },
  },
  turn: {
    ...histogram(
      "turn",
      "A handler's run: the first of each wake-up of a conversation, and all that answer with a promise",
    ),
    otel: { name: "messaging.process.duration", attributes: operation("turn", "process") },
  },
  commit: {
    ...histogram("commit", "From sending a group commit to Redis' answer, repeats included"),
    otel: { name: "messaging.client.operation.duration", attributes: operation("commit", "settle") },
  },
  admissionToCommit: histogram(
    "admission_to_commit",
    "From the append of an inbox entry to the commit that decided the last of its messages; Redis' clock against this node's",
  ),
  delivery: {
    ...histogram("delivery", "An attempt at sending a reply: the first of each wake-up of a lane"),
    otel: { name: "messaging.client.operation.duration", attributes: operation("deliver", "send") },
  },
};

export const GAUGES: Readonly<Record<GaugeName, MetricSpec>> = {
  info: { ...gauge("build_info", "", "1; the labels say what runs and how"), labels: ["version", "durability"] },
  ready: gauge("ready", "", "1 while messages are admitted"),
  shards: { ...gauge("shards", "", "Shards by the state that they have on this node"), labels: ["state"] },
  residents: { ...gauge("conversations_resident", "", "Conversations in memory by what they do"), labels: ["state"] },
  open: {
    ...gauge("conversations_open", "", "Conversations with something unfinished, in memory or not, by state"),
    labels: ["state"],
  },
  uncommitted: gauge("conversations_uncommitted", "", "Conversations with work that no commit has confirmed yet"),
  lanes: {
    ...gauge("lanes", "", "Lanes in memory by state: all that do not flow, and flowing ones used lately"),
    labels: ["state"],
  },
  accountAttempts: { ...gauge("account_attempts", "", "Attempts at sending that are under way"), labels: ["channel"] },
  accountWaiting: {
    ...gauge("account_lanes_waiting", "", "Lanes that wait for a place at the account of their channel"),
    labels: ["channel"],
  },
  accountBlocked: {
    ...gauge("account_breaker_open", "", "1 while so many attempts have failed in a row that only a probe is sent"),
    labels: ["channel"],
  },
  accountOpenings: {
    ...gauge("account_breaker_openings_total", "", "How often that came to pass since this process started"),
    type: "counter",
    labels: ["channel"],
  },
  accountOutcomes: {
    ...gauge(
      "account_outcomes_total",
      "",
      "Attempts at sending by how they ended; answered: a question whether one had arrived, and the outside knew",
    ),
    type: "counter",
    labels: ["channel", "outcome"],
  },
  inboxBytes: gauge("inbox_bytes", "bytes", "Inboxes of the shards of this node, in Redis"),
  inboxBytesMax: gauge("inbox_max_bytes", "bytes", "The most they may be together; a full one answers 503"),
  readAheadBytes: gauge("inbox_read_ahead_bytes", "bytes", "Inbox entries in memory that hold undecided messages"),
  outboxBytes: gauge("outbox_bytes", "bytes", "Undelivered replies in memory"),
  deadLettersStored: gauge("dead_letters_stored", "", "Dead letters of the shards of this node, in Redis"),
  deadLettersMax: gauge("dead_letters_max", "", "The most they may be together; at it conversations and lanes halt"),
  redisUp: gauge("redis_up", "", "1 while Redis answers"),
  redisMemoryBytes: gauge("redis_memory_bytes", "bytes", "Memory that Redis uses"),
  redisMemoryBytesMax: gauge("redis_memory_max_bytes", "bytes", "Its maxmemory; left out where it has none"),
  startTime: ofProcess("process_start_time_seconds", "gauge", "seconds", "Since the Unix epoch"),
  processCpu: {
    ...ofProcess("process_cpu_seconds_total", "counter", "seconds", "CPU time, user and system"),
    otel: { name: "process.cpu.time" },
  },
  processMemory: {
    ...ofProcess("process_resident_memory_bytes", "gauge", "bytes", "Resident memory"),
    otel: { name: "process.memory.usage" },
  },
  eventLoop: {
    ...gauge("event_loop_utilization_ratio", "ratio", "Share of time that the thread was busy, since last read"),
    otel: { name: "nodejs.eventloop.utilization" },
  },
};

/** T3 */
export const METRICS: readonly MetricSpec[] = [COUNTERS, HISTOGRAMS, GAUGES].flatMap((table) => Object.values(table));

function counter(name: string, help: string): MetricSpec {
  return { name: `colloquy_${name}_total`, type: "counter", unit: "", help };
}

function histogram(name: string, help: string): MetricSpec {
  return { name: `colloquy_${name}_duration_seconds`, type: "histogram", unit: "seconds", help };
}

function gauge(name: string, unit: MetricSpec["unit"], help: string): MetricSpec {
  return { name: `colloquy_${name}`, type: "gauge", unit, help };
}

function ofProcess(name: string, type: MetricSpec["type"], unit: MetricSpec["unit"], help: string): MetricSpec {
  return { name, type, unit, help };
}

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
}

/** @param read how things stand now; asked once each time the metrics are */
export function createMetrics(counters: Counters, read: () => GaugeValues | Promise<GaugeValues>): Metrics {
  let values: GaugeValues = {};
  const registry = new Registry();
  for (const [key, spec] of entriesOf(COUNTERS)) register(registry, spec, () => [{ value: counters[key], labels: {} }]);
  for (const [key, spec] of entriesOf(HISTOGRAMS))
    register(registry, spec, () => samplesOf(spec, counters.timings[key]));
  for (const [key, spec] of entriesOf(GAUGES)) register(registry, spec, () => gaugeSamples(spec, values[key]));
  return {
    contentType: registry.contentType,
    async text() {
      values = await read();
      return await registry.metrics();
    },
  };
}

interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
}

function gaugeSamples({ labels: [label = "of"] = [] }: MetricSpec, value: GaugeValue | undefined): readonly Sample[] {
  if (value === undefined) return [];
  if (typeof value === "number") return [{ value, labels: {} }];
  if (isSamples(value)) return value;
  return Object.entries(value).map(([of, each]) => ({ value: each, labels: { [label]: of } }));
}

const isSamples = (value: object): value is readonly GaugeSample[] => Array.isArray(value);

function samplesOf({ name }: MetricSpec, durations: Durations): Sample[] {
  const bucket = (le: number | string, value: number): Sample => ({
    value,
    labels: { le },
    metricName: `${name}_bucket`,
  });
  return [
    ...durations.cumulative().map(([seconds, count]) => bucket(seconds, count)),
    bucket("+Inf", durations.count),
    { value: durations.sumSeconds, labels: {}, metricName: `${name}_sum` },
    { value: durations.count, labels: {}, metricName: `${name}_count` },
  ];
}

/** A metric that is read where it is counted: the registry only writes it out. */
function register(registry: Registry, { name, help, type }: MetricSpec, samples: () => readonly Sample[]): void {
  const metric = {
    name,
    get: async () => ({ name, help, type, aggregator: "sum", values: samples() }),
  };
  registry.registerMetric(metric as unknown as Parameters<Registry["registerMetric"]>[0]);
}

const entriesOf = <Key extends string, Value>(table: Readonly<Record<Key, Value>>): [Key, Value][] =>
  Object.entries(table) as [Key, Value][];
