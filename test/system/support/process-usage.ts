// Process usage: what a process has cost so far, from /proc.

import { readFileSync } from "node:fs";
import { parseThreadStat } from "../../../src/watchdog/proc.ts";

export interface ProcessUsage {
  /** User and system time of all its threads. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** @throws Error if there is no such process, or no /proc */
export function usageOf(pid: number): ProcessUsage {
  const stat = parseThreadStat(readFileSync(`/proc/${pid}/stat`, "utf8")); // of the whole process in the same form
  const rssKib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (stat === null || rssKib === undefined) throw new Error(`/proc tells nothing of process ${pid}`);
  return { cpuMs: stat.cpuMs, rssBytes: Number(rssKib) * 1_024 };
}
