// Watchdog: ends this process when its main thread is blocked, as by an endless loop in a handler, after a line in the log that
// says where. Without it such a process hangs for ever: timers, signals and health checks need the thread that is blocked.
//
// Invariants
//   W1. Blocked means: the main thread used `limitMs` of CPU time and its event loop did not come round. Time in which the process
//       is stopped, the machine sleeps or others have the CPU does not count; nor does a turn that awaits, however long.
//   W2. A thread that waits inside a synchronous call uses no CPU time: it is told of once in the log, never ended.
//   W3. It keeps no process alive, and a watchdog that fails is a line in the log, never a crash.
//
// On Linux the CPU time is the main thread's own. Elsewhere only that of the whole process can be had, which may be more; there
// the silence must also last `limitMs` by the clock, and work in other threads beside a main thread that waits can end the process.

import { url as inspectorUrl } from "node:inspector";
import { clearInterval, setInterval } from "node:timers";
import { isMainThread, Worker } from "node:worker_threads";
import { describeError } from "../log.ts";
import { logLine, writeWithin } from "./last-line.ts";
import { SharedBeats } from "./shared-beats.ts";
import type { WatchdogThreadData } from "./watchdog-thread.ts";

export interface WatchdogOptions {
  /** CPU ms that the main thread may use without coming back to its event loop, from 100. */
  readonly limitMs: number;
  /** Stands in the line that the watchdog logs. */
  readonly label?: string | undefined;
  /** Called once, when the thread runs. */
  readonly onStarted?: (() => void) | undefined;
}

export interface Watchdog {
  /** Resolves when its thread has ended; calling it again is harmless. */
  stop(): Promise<void>;
}

/** Looked at so often within the limit, but no oftener than the least and no more seldom than the most. */
const SAMPLES_PER_LIMIT = 10;
const SAMPLE_EVERY_MS_MIN = 20;
const SAMPLE_EVERY_MS_MAX = 500;
const WRITE_WITHIN_MS = 500;

/** Starts nothing outside of the main thread, whose end a worker may not decide about. */
export function startWatchdog({ limitMs, label, onStarted }: WatchdogOptions): Watchdog {
  if (!isMainThread) return { stop: async () => undefined };
  const sampleEveryMs = Math.min(SAMPLE_EVERY_MS_MAX, Math.max(SAMPLE_EVERY_MS_MIN, limitMs / SAMPLES_PER_LIMIT));
  const beats = new SharedBeats();
  const data: WatchdogThreadData = { buffer: beats.buffer, limitMs, sampleEveryMs, label: label ?? null };
  const beating = setInterval(() => beats.beat(inspectorPort()), sampleEveryMs);
  beating.unref(); // W3
  const worker = startThread(data);
  worker.unref();
  let isStopping = false;
  worker.once("message", () => {
    if (!isStopping) onStarted?.();
  });
  worker.on("error", (error) => {
    clearInterval(beating);
    if (!isStopping) void writeWithin(failureLine(error), WRITE_WITHIN_MS);
  });
  return {
    async stop() {
      isStopping = true;
      clearInterval(beating);
      await worker.terminate();
    },
  };
}

/** Nothing of the caller's own settings or preloaded modules gets into the thread, but for sources, whose loader it needs. */
function startThread(workerData: WatchdogThreadData): Worker {
  const isSource = import.meta.url.endsWith(".ts");
  const settings = isSource ? { execArgv: process.execArgv } : { execArgv: [], env: {} };
  return new Worker(new URL(isSource ? "./watchdog-thread.ts" : "./watchdog-thread.js", import.meta.url), {
    workerData,
    name: "watchdog",
    ...settings,
  });
}

function inspectorPort(): number {
  const url = inspectorUrl();
  return url === undefined ? 0 : Number(new URL(url).port);
}

const failureLine = (error: unknown): string =>
  logLine(
    "warn",
    Date.now(),
    process.pid,
    { error: describeError(error) },
    "the watchdog's thread ended: until the next start nothing notices a main thread that is blocked; nothing is lost",
  );
