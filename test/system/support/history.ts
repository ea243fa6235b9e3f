// History: what senders and the sink of a run saw, as lines of JSON. One writer for each file, one line for each event,
// written at once: a log holds everything that had happened when it is read.
//
// All times are microseconds of the machine's monotonic clock, which its processes share, so that lines of different files
// can be compared.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

/** Names a message within its conversation; other conversations use the same ids. */
export interface MessageName {
  readonly conversation: string;
  readonly id: string;
}

/** A message that was sent at least once. */
export interface SentMessage extends MessageName {
  readonly kind: "message";
  /** The sender's own number of it in its conversation; for people who read the log. */
  readonly n: number;
  readonly text: string;
}

/** One try at one request. */
export interface RequestAttempt {
  readonly kind: "attempt";
  /** Tries of the same request share it. */
  readonly request: string;
  readonly attempt: number;
  /** `first` also stands for its retries; a `repeat` was sent when all of it had been answered 2xx, in any order. */
  readonly purpose: "first" | "repeat";
  readonly items: readonly MessageName[];
  readonly sentUs: number;
  readonly endedUs: number;
  /** `nack`: certainly nothing of it was admitted. `unknown`: all, a part or nothing may have been (no answer, 429, 5xx). */
  readonly outcome: "ack" | "nack" | "unknown";
  /** HTTP status; 0 without an answer. */
  readonly status: number;
}

/** One request that the sink received. */
export interface DeliveryAttempt {
  readonly kind: "delivery";
  /** Idempotency-Key as it came. */
  readonly key: string;
  readonly conversation: string;
  readonly sequence: number;
  readonly inReplyTo: string | null;
  readonly text: string;
  /** SHA-256 of the body, hex. */
  readonly bodyHash: string;
  readonly bytes: number;
  readonly receivedUs: number;
  readonly answeredUs: number;
  /** Status that was given; 0 if the connection ended without an answer. */
  readonly status: number;
}

export interface History {
  readonly messages: readonly SentMessage[];
  readonly attempts: readonly RequestAttempt[];
  readonly deliveries: readonly DeliveryAttempt[];
}

export type HistoryLine = SentMessage | RequestAttempt | DeliveryAttempt;

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

export class HistoryWriter {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "a");
  }

  write(line: HistoryLine): void {
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}

export function readHistory(paths: readonly string[]): History {
  const messages: SentMessage[] = [];
  const attempts: RequestAttempt[] = [];
  const deliveries: DeliveryAttempt[] = [];
  for (const path of paths) {
    for (const text of readFileSync(path, "utf8").split("\n")) {
      if (text === "") continue;
      const line = JSON.parse(text) as HistoryLine;
      if (line.kind === "message") messages.push(line);
      else if (line.kind === "attempt") attempts.push(line);
      else deliveries.push(line);
    }
  }
  return { messages, attempts, deliveries };
}
