// Watchdog thread: the shell of the watcher, a worker beside a main thread from which nothing can be expected.
//
// Invariants
//   E1. Once the process is to end, it ends within a bounded time, whatever hangs: the search and the line have a time each.
//   E2. It ends by SIGKILL, so that no exit handler waits for what is blocked: it costs what any crash costs.

import { openSync, readFileSync, readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import type { JudgeRules } from "./judge.ts";
import { logLine, writeWithin } from "./last-line.ts";
import { findMainThread } from "./main-thread-frames.ts";
import { hasConnectionTo, parseThreadStat, type ThreadStat } from "./proc.ts";
import { SharedBeats } from "./shared-beats.ts";
import { Watcher } from "./watcher.ts";

export interface WatchdogThreadData {
  readonly buffer: SharedArrayBuffer;
  readonly limitMs: number;
  readonly sampleEveryMs: number;
  readonly label: string | null;
}

const FIND_CPU_WITHIN_MS = 1_000;
const FIND_WITHIN_MS = 5_000;
const WRITE_WITHIN_MS = 500;
const STAT_BYTES_MAX = 4_096;

/** CPU time of the main thread. Its id is that of the process. */
class MainThreadClock {
  readonly isOfProcess: boolean;
  readonly #file: number | null = null;
  readonly #bytes = Buffer.alloc(STAT_BYTES_MAX);

  constructor() {
    if (process.platform === "linux") {
      try {
        this.#file = openSync(`/proc/self/task/${process.pid}/stat`, "r");
      } catch {
        // no /proc here
      }
    }
    this.isOfProcess = this.#stat() === null;
  }

  read(): ThreadStat {
    const { user, system } = this.isOfProcess ? process.cpuUsage() : { user: 0, system: 0 };
    return this.#stat() ?? { cpuMs: (user + system) / 1_000, isAsleep: false };
  }

  #stat(): ThreadStat | null {
    if (this.#file === null) return null;
    return parseThreadStat(this.#bytes.toString("latin1", 0, readSync(this.#file, this.#bytes, 0, STAT_BYTES_MAX, 0)));
  }
}

const { buffer, limitMs, sampleEveryMs, label } = workerData as WatchdogThreadData;
const clock = new MainThreadClock();
const beats = new SharedBeats(buffer);
const rules: JudgeRules = { limitMs, sampleEveryMs, isCpuOfProcess: clock.isOfProcess };

const watcher = new Watcher(rules, {
  sample: () => ({ beats: beats.beats, atMs: performance.now(), ...clock.read() }),
  isDebugged,
  find: () =>
    findMainThread({
      cpuMs: () => clock.read().cpuMs,
      cpuWithinMs: FIND_CPU_WITHIN_MS,
      withinMs: FIND_WITHIN_MS,
    }),
  tell(level, fields, message) {
    const cpuOf = rules.isCpuOfProcess ? "process" : "main thread";
    const all = { ...(label !== null && { label }), watchdogMs: limitMs, cpuOf, ...fields };
    return writeWithin(logLine(level, Date.now(), process.pid, all, message), WRITE_WITHIN_MS);
  },
  end: () => void process.kill(process.pid, "SIGKILL"), // E2
});

/** Where connections cannot be listed, an open inspector is taken for one in use. */
function isDebugged(): boolean {
  const port = beats.inspectorPort;
  if (port === 0) return false;
  const tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(textOf).filter((text) => text !== null);
  return tables.length === 0 || tables.some((table) => hasConnectionTo(port, table));
}

function textOf(file: string): string | null {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return null;
  }
}

setInterval(() => void watcher.look(), sampleEveryMs);
parentPort!.postMessage("started");
