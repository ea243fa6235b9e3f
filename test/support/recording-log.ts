// Recording log: keeps every line that would be written, for tests that ask what was said and what was not.

import type { DestinationStream } from "pino";
import { createLog, type Log } from "../../src/log.ts";

export class RecordingLog {
  readonly lines: string[] = [];
  readonly log: Log;

  constructor() {
    const destination: DestinationStream = { write: (line) => void this.lines.push(line) };
    this.log = createLog({ level: "debug", destination });
  }

  get text(): string {
    return this.lines.join("");
  }

  /** Lines at this level that hold the words. */
  at(level: string, words = ""): string[] {
    return this.lines.filter((line) => line.includes(`"level":"${level}"`) && line.includes(words));
  }
}
