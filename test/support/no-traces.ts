// No traces: the test files of a worker share one process, which saves each of them its start and the import of the runtime. So no
// file may leave anything behind in it that the next one could meet. What is left fails the file that left it.

import { afterAll, expect } from "vitest";

/** Anything else that can be told apart by `Object.is`. */
export type Traces = Readonly<Record<string, unknown>>;

/** A listener of one of them changes what becomes of an error, or of the process. */
const EVENTS = [
  "unhandledRejection",
  "rejectionHandled",
  "uncaughtException",
  "uncaughtExceptionMonitor",
  "warning",
  "message",
  "disconnect",
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
];
const GLOBALS = [
  "Date",
  "fetch",
  "performance",
  "queueMicrotask",
  "setImmediate",
  "setInterval",
  "setTimeout",
  "clearImmediate",
  "clearInterval",
  "clearTimeout",
] as const;

/** The state of the process that all test files of a worker have in common. */
export function tracesNow(): Traces {
  return {
    ...Object.fromEntries(EVENTS.map((event) => [`listeners for ${event}`, process.listenerCount(event)])),
    ...Object.fromEntries(GLOBALS.map((name) => [name, globalThis[name]])),
    ...Object.fromEntries(Object.entries(process.env).map(([name, value]) => [`environment variable ${name}`, value])),
    "Date.now": Date.now,
    "Math.random": Math.random,
    "process.exit": process.exit,
    "process.kill": process.kill,
    "process.stdout.write": process.stdout.write,
    "process.stderr.write": process.stderr.write,
    "working directory": process.cwd(),
  };
}

/** The names of what is no longer as it was. */
export function tracesLeft(before: Traces, after: Traces): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => !Object.is(before[name], after[name])).sort();
}

/** Called by the runner before each file, whose own hooks end before this one. */
const before = tracesNow();
afterAll(() => {
  expect(tracesLeft(before, tracesNow()), "what this file left behind in the process").toEqual([]);
});
