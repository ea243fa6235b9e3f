// Verify folder: reads the logs of a run and its append-only file, and judges them conversation by conversation. Everything is
// read once, and a partition of the conversations is in memory at a time.

import { createHash } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { VerifyInputError } from "../errors.ts";
import { findAof, readAof } from "./aof-folder.ts";
import { parseLine, readLines } from "./client-lines.ts";
import {
  type ClientLine,
  type DeliveryAttempt,
  type Fault,
  type HistoryLine,
  type MessageName,
  nameOf,
  type RequestAttempt,
  type SentMessage,
  type StoreEvent,
} from "./history.ts";
import { checkHistory } from "./judge.ts";
import { Partitions } from "./partitions.ts";
import { StoreLog } from "./store-log.ts";
import { type AnyViolation, type Evidence, Findings, type Verdict } from "./verdict.ts";

/** Logs of this size are judged in one go; in memory they take about four times as much. */
const PARTITION_BYTES = 24 * 1_048_576;
const PARTITIONS_MAX = 512;
const PROGRESS_BYTES = 16 * 1_048_576;

export interface VerifyOptions {
  /** Whether the bot folds, so that each reply proves what came before it. */
  readonly fold: boolean;
  /** False for a run that was cut short: then what is missing is no violation. */
  readonly complete: boolean;
  /** How long the bot knows duplicates, ms. */
  readonly dedupeMs: number;
  /** How many ids of a conversation it knows. */
  readonly dedupeMax: number;
  /** Whether the numbers of its channels rise by one, so that what is missing can be seen. */
  readonly contiguous?: boolean;
  readonly onProgress?: (stage: "reading" | "judging", done: number, of: number) => void;
  readonly partitionBytes?: number;
}

export interface VerifyReport {
  /** No invariant is violated. */
  readonly ok: boolean;
  readonly evidence: Evidence;
  readonly figures: {
    readonly messages: number;
    readonly requestAttempts: number;
    readonly deliveries: number;
    readonly faults: number;
    /** Of the append-only file; null without one. */
    readonly log: {
      readonly transactions: number;
      readonly messages: number;
      readonly commits: number;
      readonly records: number;
      readonly replies: number;
      readonly listed: number;
      readonly listedReplies: number;
      readonly rotten: number;
    } | null;
  };
  readonly verdicts: readonly Verdict[];
}

type PartitionLine = ClientLine | StoreEvent;

/** @throws VerifyInputError  the folder, a log or the append-only file cannot be read, or there is nothing to verify */
export function verifyFolder(folder: string, options: VerifyOptions): VerifyReport {
  try {
    return new Verification(folder, options).run();
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (typeof code !== "string" || !/^E[A-Z]+$/.test(code)) throw error;
    throw new VerifyInputError(`${path ?? folder} cannot be read: ${code}; nothing was changed`, { cause: error });
  }
}

class Verification {
  readonly #folder: string;
  readonly #options: VerifyOptions;
  readonly #findings = new Findings();
  readonly #faults: Fault[] = [];
  readonly #figures = { messages: 0, requestAttempts: 0, deliveries: 0 };
  #bytesRead = 0;
  #bytesTold = 0;

  constructor(folder: string, options: VerifyOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  run(): VerifyReport {
    if (!statSync(this.#folder).isDirectory()) throw new VerifyInputError(`${this.#folder} is not a folder`);
    const logs = readdirSync(this.#folder).filter((name) => name.endsWith(".ndjson"));
    const paths = logs.sort().map((name) => join(this.#folder, name));
    const aof = findAof(this.#folder);
    if (paths.length === 0 && !aof) {
      throw new VerifyInputError(
        `${this.#folder} holds no .ndjson log and no appendonlydir (docs/verify.md says what belongs there)`,
      );
    }
    const bytes = paths.reduce((sum, path) => sum + statSync(path).size, aof?.bytes ?? 0);
    const count = Math.ceil(bytes / (this.#options.partitionBytes ?? PARTITION_BYTES));
    const partitions = new Partitions<PartitionLine>(Math.min(PARTITIONS_MAX, Math.max(1, count)));
    try {
      for (const path of paths) this.#readLog(path, partitions, bytes);
      const log = new StoreLog({
        isWhole: aof?.isWhole ?? false,
        hashOf: (body) => createHash("sha256").update(body).digest("hex"),
        onEvent: (event) => partitions.add(partitions.partitionOf(nameOf(event, event.conversation)), event),
        onViolation: (violation) => this.#found(violation),
      });
      if (aof) {
        for (const transaction of readAof(aof, (length) => this.#progress(length, bytes))) log.add(transaction);
        log.end();
      }
      const evidence: Evidence = {
        clients: this.#figures.requestAttempts > 0,
        sink: this.#figures.deliveries > 0 || logs.some((name) => name.startsWith("sink")),
        fold: this.#options.fold,
        complete: this.#options.complete,
        log: aof ? (aof.isWhole ? "whole" : "late") : "none",
      };
      this.#judge(partitions, evidence);
      return this.#report(evidence, aof ? log.figures : null);
    } finally {
      partitions.close();
    }
  }

  #readLog(path: string, partitions: Partitions<PartitionLine>, bytes: number): void {
    for (const { text, where } of readLines(path, (length) => this.#progress(length, bytes))) {
      const line = parseLine(text, where);
      switch (line.kind) {
        case "fault":
          this.#faults.push(line);
          break;
        case "attempt": {
          this.#figures.requestAttempts += 1;
          this.#addAttempt(line, partitions, text);
          break;
        }
        default:
          if (line.kind === "message") this.#figures.messages += 1;
          else this.#figures.deliveries += 1;
          partitions.add(
            partitions.partitionOf(nameOf(line, line.conversation)),
            line,
            line.text === "" ? undefined : text,
          );
      }
    }
  }

  /** Each partition gets the items of its own conversations: order is a matter of one conversation. */
  #addAttempt(line: RequestAttempt, partitions: Partitions<PartitionLine>, text: string): void {
    if (partitions.count === 1) {
      partitions.add(0, line, text);
      return;
    }
    const shares = new Map<number, MessageName[]>();
    for (const item of line.items) {
      const place = partitions.partitionOf(nameOf(line, item.conversation));
      const share = shares.get(place);
      if (share) share.push(item);
      else shares.set(place, [item]);
    }
    for (const [place, items] of shares) partitions.add(place, { ...line, items });
  }

  #judge(partitions: Partitions<PartitionLine>, evidence: Evidence): void {
    const { complete, fold, dedupeMs, dedupeMax, contiguous = false, onProgress } = this.#options;
    for (let i = 0; i < partitions.count; i += 1) {
      onProgress?.("judging", i, partitions.count);
      const messages: SentMessage[] = [];
      const attempts: RequestAttempt[] = [];
      const deliveries: DeliveryAttempt[] = [];
      const events: StoreEvent[] = [];
      for (const line of partitions.read(i)) {
        if (line.kind === "message") messages.push(line);
        else if (line.kind === "attempt") attempts.push(line);
        else if (line.kind === "delivery") deliveries.push(line);
        else events.push(line);
      }
      const { clients, sink } = evidence;
      const isWhole = evidence.log === "whole";
      const log = evidence.log === "none" ? {} : { log: { events, isWhole, dedupeMs, dedupeMax, contiguous } };
      const options = { complete, fold: fold && sink, clients, sink, ...log };
      for (const violation of checkHistory({ messages, attempts, deliveries }, options)) this.#found(violation);
    }
    onProgress?.("judging", partitions.count, partitions.count);
  }

  #found(violation: AnyViolation): void {
    this.#findings.add(violation);
  }

  #progress(length: number, of: number): void {
    this.#bytesRead += length;
    if (this.#bytesRead - this.#bytesTold < PROGRESS_BYTES) return;
    this.#bytesTold = this.#bytesRead;
    this.#options.onProgress?.("reading", this.#bytesRead, of);
  }

  #report(evidence: Evidence, log: VerifyReport["figures"]["log"]): VerifyReport {
    const faults = this.#faults.sort((a, b) => a.atUs - b.atUs);
    const verdicts = this.#findings.verdicts(evidence).map((verdict) => ({
      ...verdict,
      violations: verdict.violations.map((violation) => withFault(violation, faults)),
    }));
    const ok = verdicts.every(({ status }) => status !== "violated");
    return { ok, evidence, figures: { ...this.#figures, faults: faults.length, log }, verdicts };
  }
}

/** The last fault before the end of what the slice shows belongs to it. */
function withFault(violation: AnyViolation, faults: readonly Fault[]): AnyViolation {
  const endUs = Math.max(...violation.slice.map(timeOf));
  const fault = faults.findLast(({ atUs }) => atUs <= endUs);
  return fault ? { ...violation, slice: [...violation.slice, fault] } : violation;
}

function timeOf(line: HistoryLine): number {
  if (line.kind === "attempt") return line.endedUs;
  return line.kind === "delivery" ? line.answeredUs : Number.NEGATIVE_INFINITY;
}
