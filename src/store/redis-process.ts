// Redis processes: which servers of this machine work on a data folder, whoever started them. A pid file can be old, missing
// or name a pid that is somebody else's by now; the processes themselves cannot.

import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { promisify } from "node:util";

const SERVER = /(?:^|\/)(?:redis|valkey)-server(?: |$)/;

/**
 * Looks at every process of this machine; about 5 ms on Linux. The child that rewrites a log calls itself otherwise and is
 * not one of them, nor is a process that has ended but was not yet waited for.
 * @param dir the folder's real path
 * @returns the pids of Redis servers that work in `dir`
 */
export async function redisProcessesOf(dir: string): Promise<number[]> {
  return process.platform === "linux" ? fromProc(dir) : fromPs(dir);
}

/** Whether a command line and working folder are those of a Redis server on `dir`. Pure. */
export function servesFolder(argv: readonly string[], cwd: string | undefined, dir: string): boolean {
  if (!argv.some((word) => SERVER.test(word))) return false;
  return cwd === dir || argv.some((word, index) => word === "--dir" && argv[index + 1] === dir);
}

/** Whether the process exists and has not ended; one that its parent has not waited for yet has ended. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  if (process.platform !== "linux") return !(await stateFromPs(pid)).startsWith("Z");
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  return stat !== undefined && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
}

async function fromProc(dir: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      try {
        const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0");
        if (!argv.some((word) => SERVER.test(word))) return [];
        const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined); // another user's cannot be read
        return servesFolder(argv, cwd, dir) ? [pid] : [];
      } catch {
        return []; // it ended while we looked
      }
    }),
  );
  return found.flat();
}

/** Without /proc the words of a command line come joined by spaces; `--dir` is therefore compared as text. */
async function fromPs(dir: string): Promise<number[]> {
  const { stdout } = await promisify(execFile)("ps", ["-axo", "pid=,command="], { maxBuffer: 16 << 20 });
  return stdout.split("\n").flatMap((line) => {
    const [, pid, command = ""] = /^\s*(\d+) (.*)$/.exec(line) ?? [];
    return pid && SERVER.test(command.split(" --")[0]!) && `${command} `.includes(` --dir ${dir} `)
      ? [Number(pid)]
      : [];
  });
}

async function stateFromPs(pid: number): Promise<string> {
  const listed = await promisify(execFile)("ps", ["-o", "stat=", "-p", String(pid)]).catch(() => ({ stdout: "Z" }));
  return listed.stdout.trim();
}
