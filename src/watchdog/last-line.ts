// Last line: a line of the log, of the shape that log.ts gives its lines, written without the main thread's help.

import { write } from "node:fs";
import type { LogFields } from "../log.ts";

const STDERR = 2;

/** @param fields plain values of bounded length, none of a user's words, as for any line of the log */
export function logLine(
  level: "warn" | "fatal",
  nowMs: number,
  pid: number,
  fields: LogFields,
  message: string,
): string {
  return `${JSON.stringify({ level, time: new Date(nowMs).toISOString(), pid, ...fields, message })}\n`;
}

/** Resolves when the line is out, cannot be written, or nobody took it in time: a full pipe must not hold up what comes next. */
export function writeWithin(line: string, withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, withinMs);
    write(STDERR, line, () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
