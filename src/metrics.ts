// Metrics: what happened, counted where it happens and read by /metrics in Prometheus' text format. Never a conversation's id
// as a label: ids belong into logs.

import { Counter, Gauge, Registry } from "prom-client";

/** Since the process started. Plain numbers: the path of a message adds to them. */
export interface Counters {
  admitted: number;
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
}

export function newCounters(): Counters {
  return {
    admitted: 0,
    commits: 0,
    turns: 0,
    failedTurns: 0,
    duplicates: 0,
    conflicts: 0,
    idsLeftYoung: 0,
    delivered: 0,
    failedDeliveries: 0,
    deadLetters: 0,
  };
}

const COUNTERS: Readonly<Record<keyof Counters, readonly [name: string, help: string]>> = {
  admitted: ["colloquy_messages_admitted_total", "Messages answered 2xx by this process, repeats included"],
  commits: ["colloquy_commits_total", "Group commits that Redis confirmed"],
  turns: ["colloquy_turns_total", "Turns that ended well and were handed to a commit"],
  failedTurns: ["colloquy_turns_failed_total", "Turns that failed; their message runs again"],
  duplicates: ["colloquy_messages_duplicate_total", "Messages dropped because their id had been decided before"],
  conflicts: ["colloquy_messages_conflict_total", "Duplicates with another body; the first one won"],
  idsLeftYoung: ["colloquy_dedupe_ids_left_young_total", "Ids forgotten before dedupeMs was over, for want of room"],
  delivered: ["colloquy_replies_delivered_total", "Replies that the outside confirmed"],
  failedDeliveries: ["colloquy_deliveries_failed_total", "Attempts at sending a reply that failed or stayed unclear"],
  deadLetters: ["colloquy_dead_letters_total", "Messages and replies set aside"],
};

export interface GaugeSources {
  readonly isReady: () => boolean;
  readonly residents: () => number;
  readonly undeliveredBytes: () => number;
  readonly undecidedBytes: () => number;
}

const GAUGES: Readonly<Record<keyof GaugeSources, readonly [name: string, help: string]>> = {
  isReady: ["colloquy_ready", "1 while messages are admitted"],
  residents: ["colloquy_conversations_resident", "Conversations in memory"],
  undeliveredBytes: ["colloquy_outbox_bytes", "Undelivered replies in memory, bytes"],
  undecidedBytes: ["colloquy_inbox_read_ahead_bytes", "Inbox entries in memory that hold undecided messages, bytes"],
};

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
}

export function createMetrics(counters: Counters, sources: GaugeSources): Metrics {
  const registry = new Registry();
  for (const key of Object.keys(COUNTERS) as (keyof Counters)[]) {
    const [name, help] = COUNTERS[key];
    const counter: Counter = new Counter({
      name,
      help,
      registers: [registry],
      collect: () => {
        counter.reset();
        counter.inc(counters[key]);
      },
    });
  }
  for (const key of Object.keys(GAUGES) as (keyof GaugeSources)[]) {
    const [name, help] = GAUGES[key];
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect: () => gauge.set(Number(sources[key]())),
    });
  }
  return { contentType: registry.contentType, text: () => registry.metrics() };
}
