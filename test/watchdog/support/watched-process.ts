// A process of its own with a watchdog, whose main thread then does what its first argument names. It tells "started" when the
// watchdog runs, "came back" when its main thread is through with it, and then lives on for its parent to end it.

import { pbkdf2Sync } from "node:crypto";
import { open as openInspector } from "node:inspector";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { startWatchdog, type Watchdog } from "../../../src/watchdog/watchdog.ts";

const [, , deed = "", limit = "500", duration = "0"] = process.argv;
const limitMs = Number(limit);
const durationMs = Number(duration);
const say = (words: unknown): void => void process.send?.(words);

process.on("exit", () => say("exit handler ran"));

function spin(untilMs: number): number {
  let rounds = 0;
  while (performance.now() < untilMs) rounds += 1;
  return rounds;
}

/** When the parent says so. */
const goAhead = (): Promise<unknown> => new Promise((resolve) => process.once("message", resolve));

/** Uses a stretch of CPU time of the process, however much of the machine it gets. @returns how long it was */
function compute(cpuMs: number): number {
  const start = process.cpuUsage();
  for (;;) {
    spin(performance.now() + 1);
    const { user, system } = process.cpuUsage(start);
    const usedMs = (user + system) / 1_000;
    if (usedMs >= cpuMs) return usedMs;
  }
}

function innermostLoop(): never {
  for (;;) spin(Number.MAX_SAFE_INTEGER);
}

const deeds: Readonly<Record<string, () => unknown>> = {
  loop: innermostLoop,
  async microtasks() {
    for (;;) await null;
  },
  native: () => pbkdf2Sync("password", "salt", 2 ** 31 - 1, 64, "sha512"),
  wait: () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs),
  turn: () => sleep(durationMs),
  /** Computes most of the limit, again and again, and comes back to the event loop in between. */
  async stretches() {
    await goAhead();
    for (const endMs = performance.now() + durationMs; performance.now() < endMs; ) {
      compute(limitMs / 2);
      await sleep(2 * limitMs);
    }
  },
  /** A breakpoint of somebody else's session, which lets it go on after the duration. */
  breakpoint() {
    const debuggerThread = new Worker(
      `const { Session } = require("node:inspector");
       const { parentPort, workerData } = require("node:worker_threads");
       setInterval(() => undefined, 1_000); // a session keeps no thread alive
       const session = new Session();
       session.connectToMainThread();
       session.on("Debugger.paused", () => setTimeout(() => session.post("Debugger.resume"), workerData));
       session.post("Debugger.enable", () => parentPort.postMessage("enabled"));`,
      { eval: true, workerData: durationMs },
    );
    return new Promise<void>((resolve) => {
      debuggerThread.once("message", () => {
        const atMs = performance.now();
        // biome-ignore lint/suspicious/noDebugger: it is what is tested
        debugger;
        say({ heldMs: performance.now() - atMs });
        resolve();
      });
    });
  },
  /** Computes far beyond the limit with the inspector open. */
  async inspected() {
    openInspector(0, "127.0.0.1");
    say({ inspector: (await import("node:inspector")).url() });
    await goAhead();
    await sleep(2 * limitMs); // a thread that seldom gets the CPU has seen by then who is connected
    say({ cpuMs: compute(durationMs) });
  },
  async restarted() {
    await watchdog.stop();
    await watchdog.stop();
    compute(2 * limitMs);
    await watch();
    innermostLoop();
  },
  async stopped() {
    await watchdog.stop();
    compute(durationMs);
  },
  leave: () => process.disconnect(),
};

let watchdog: Watchdog;
function watch(): Promise<void> {
  return new Promise((resolve) => {
    watchdog = startWatchdog({ limitMs, label: "tested", onStarted: resolve });
  });
}

process.on("disconnect", () => undefined);
await watch();
say("started");
// After a round of the event loop, so that the beats are those of a process that works.
await sleep(limitMs / 4);
await deeds[deed]!();
if (process.connected) say("came back");
