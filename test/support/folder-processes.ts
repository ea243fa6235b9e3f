// Starts processes that open a data folder, for tests that kill, stop and race them.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface FolderProcess {
  readonly pid: number;
  open(dir: string): Promise<{ nodeId: string; holdsLock: boolean }>;
  tryLock(): Promise<{ nodeId: string; holdsLock: boolean }>;
  redis(): Promise<{ pid: number; adopted: boolean; socketPath: string }>;
  close(): Promise<void>;
  signal(name: NodeJS.Signals): void;
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>;
}

interface Reply {
  value?: unknown;
  error?: { message: string; code?: string; reason?: string };
}

export async function startFolderProcess(): Promise<FolderProcess> {
  const child = fork(fileURLToPath(new URL("folder-process.ts", import.meta.url)), [], {
    execArgv: ["--import", "jiti/register"],
  });
  await reply(child);
  const ask = async <T>(verb: string, dir = ""): Promise<T> => {
    const answer = reply(child);
    child.send({ verb, dir });
    return (await answer) as T;
  };
  return {
    pid: child.pid!,
    open: (dir) => ask("open", dir),
    tryLock: () => ask("tryLock"),
    redis: () => ask("redis"),
    close: () => ask("close"),
    signal: (name) => void child.kill(name),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    },
  };
}

async function reply(child: ChildProcess): Promise<unknown> {
  const over = new AbortController();
  const answer = await Promise.race([
    once(child, "message", over).then(([message]) => message as Reply),
    once(child, "exit", over).then(
      ([code]): Reply => ({ error: { message: `the process ended (${code}) without an answer` } }),
    ),
  ]).finally(() => over.abort());
  if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
  return answer.value;
}
