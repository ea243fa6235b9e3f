// Watcher: one look after the other at the main thread, and what follows from what is seen. What it looks with, speaks with and
// ends the process with is given to it.
//
// Invariants
//   T1. The process ends only if the main thread is silent still after it was looked for: one that came round goes on.
//   T2. One look at a time: what one decides is not decided again meanwhile.
//   T3. While a debugger is attached nothing is counted: it may hold the thread as it likes.

import type { LogFields } from "../log.ts";
import { type JudgeRules, judge, type Sample, type Watch, watchFrom } from "./judge.ts";
import type { MainThreadFrames } from "./main-thread-frames.ts";

export interface WatcherPorts {
  sample(): Sample;
  isDebugged(): boolean;
  find(): Promise<MainThreadFrames>;
  tell(level: "warn" | "fatal", fields: LogFields, message: string): Promise<void>;
  /** Ends the process. */
  end(): void;
}

const NEXT = "nothing admitted is lost, and the next start goes on with it";
const BLOCKED = `the main thread is blocked: it used watchdogMs of CPU time without coming back to its event loop, and this process is ended (SIGKILL); ${NEXT}; mend the code in frames, or raise watchdogMs if it is meant to take so long`;
const BLOCKED_NATIVE = `the main thread is blocked: it used watchdogMs of CPU time without coming back to its event loop, and this process is ended (SIGKILL); ${NEXT}; it runs native code, of which no frame can be shown: look for a synchronous call that can take long (JSON of many MB, crypto, zlib, a regular expression)`;
const CAME_BACK =
  "the main thread used more than watchdogMs of CPU time without coming back to its event loop, and came back just before this process would have been ended; nothing is lost; look for a handler that computes for long";
const ASLEEP =
  "the main thread waits in a synchronous call for longer than watchdogMs: nothing is handled meanwhile, nothing is lost; it uses no CPU time, so this process is not ended; look for Atomics.wait, execSync and reads of a dead file system in handlers";

export class Watcher {
  readonly #rules: JudgeRules;
  readonly #ports: WatcherPorts;
  #watch: Watch;
  #isAsleepTold = false;
  #isLooking = false;

  constructor(rules: JudgeRules, ports: WatcherPorts) {
    this.#rules = rules;
    this.#ports = ports;
    this.#watch = watchFrom(ports.sample());
  }

  async look(): Promise<void> {
    if (this.#isLooking) return; // T2
    this.#isLooking = true;
    try {
      await this.#look(this.#ports.sample());
    } finally {
      this.#isLooking = false;
    }
  }

  async #look(sample: Sample): Promise<void> {
    const { watch, verdict } = judge(this.#watch, sample, this.#rules);
    this.#watch = watch;
    if (watch.silentMs === 0) this.#isAsleepTold = false;
    if (verdict === "fine") return;
    if (this.#ports.isDebugged()) {
      this.#watch = watchFrom(sample); // T3
      return;
    }
    const seen = { cpuMs: Math.round(sample.cpuMs - watch.cpuAtBeatMs), silentMs: Math.round(watch.silentMs) };
    if (verdict === "blocked") await this.#blocked(sample, seen);
    else await this.#asleep(seen);
  }

  /** Told once for each time that it falls asleep. */
  async #asleep(seen: LogFields): Promise<void> {
    if (this.#isAsleepTold) return;
    this.#isAsleepTold = true;
    await this.#ports.tell("warn", seen, ASLEEP);
  }

  async #blocked({ beats }: Sample, seen: LogFields): Promise<void> {
    const { frames, release } = await this.#ports.find();
    const now = this.#ports.sample();
    if (now.beats !== beats) {
      release(); // T1
      this.#watch = watchFrom(now);
      await this.#ports.tell("warn", seen, CAME_BACK);
      return;
    }
    await this.#ports.tell("fatal", { ...seen, frames: frames ?? [] }, frames ? BLOCKED : BLOCKED_NATIVE);
    this.#ports.end();
  }
}
