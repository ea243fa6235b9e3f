// History of a system test: what its processes log, one writer for each file, one line for each event, written at once: a log
// holds everything that had happened when it is read. The formats are those of `colloquy verify`.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import type {
  ClientLine,
  DeliveryAttempt,
  Fault,
  History,
  RequestAttempt,
  SentMessage,
} from "../../../src/verify/history.ts";

import type { ProviderAttempt } from "./provider-log.ts";

export type {
  DeliveryAttempt,
  History,
  MessageName,
  RequestAttempt,
  SentMessage,
} from "../../../src/verify/history.ts";

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

export class HistoryWriter {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, "a");
  }

  write(line: ClientLine | Fault | ProviderAttempt): void {
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
      const line = JSON.parse(text) as ClientLine;
      if (line.kind === "message") messages.push(line);
      else if (line.kind === "attempt") attempts.push(line);
      else deliveries.push(line);
    }
  }
  return { messages, attempts, deliveries };
}
