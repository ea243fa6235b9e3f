// Proc: what Linux tells in /proc, read from text. Pure.

/** Of `/proc/<pid>/task/<tid>/stat`. */
export interface ThreadStat {
  /** utime + stime, ms. */
  readonly cpuMs: number;
  /** Neither running nor ready to run: asleep, in an uninterruptible wait, or stopped. */
  readonly isAsleep: boolean;
}

/** USER_HZ, in which Linux tells times to programs on every architecture that Node runs on. */
const TICK_MS = 10;
const UTIME = 11;
const STIME = 12;

/** @returns null if the text is not of that form */
export function parseThreadStat(text: string): ThreadStat | null {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" "); // the name before it may hold blanks and brackets
  const cpuTicks = Number(fields[UTIME]) + Number(fields[STIME]);
  if (!text.includes(")") || !Number.isSafeInteger(cpuTicks)) return null;
  return { cpuMs: cpuTicks * TICK_MS, isAsleep: fields[0] !== "R" };
}

const ESTABLISHED = "01";

/**
 * Whether somebody is connected to a listening port of this machine.
 * @param table text of `/proc/self/net/tcp` or `tcp6`
 */
export function hasConnectionTo(port: number, table: string): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return table.split("\n").some((line) => {
    const [, localAddress, , state] = line.trim().split(/\s+/);
    return state === ESTABLISHED && localAddress?.endsWith(local) === true;
  });
}
