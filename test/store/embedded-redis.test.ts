import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { systemEnvironment } from "../../src/environment.ts";
import { EmbeddedRedisError } from "../../src/errors.ts";
import { findRedis } from "../../src/redis-binary.mjs";
import { type DataFolder, openDataFolder } from "../../src/store/data-folder.ts";
import {
  type EmbeddedRedis,
  type EmbeddedRedisEvent,
  type EmbeddedRedisOptions,
  embeddedSocketPath,
  restartDelayMs,
  startEmbeddedRedis,
} from "../../src/store/embedded-redis.ts";
import { isRunning, redisProcessesOf } from "../../src/store/redis-process.ts";
import { startFolderProcess } from "../support/folder-processes.ts";

const binary = findRedis().binary!;
let dir: string;
let events: EmbeddedRedisEvent[];

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "colloquy-redis-")));
  events = [];
});
afterEach(async () => {
  for (const pid of await redisProcessesOf(dir)) process.kill(pid, "SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

async function openFolder(): Promise<DataFolder> {
  const folder = await openDataFolder(dir);
  onTestFinished(() => folder.close());
  return folder;
}

async function start(options: Partial<EmbeddedRedisOptions> = {}): Promise<EmbeddedRedis> {
  const folder = options.folder ?? (await openFolder());
  const onEvent = (event: EmbeddedRedisEvent) => void events.push(event);
  const redis = await startEmbeddedRedis({
    folder,
    durability: "always",
    environment: systemEnvironment,
    onEvent,
    ...options,
  });
  onTestFinished(() => redis.stop());
  return redis;
}

async function ask<T>(path: string, question: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis({ path, maxRetriesPerRequest: 0, retryStrategy: null });
  client.on("error", () => undefined);
  try {
    return await question(client);
  } finally {
    client.disconnect();
  }
}

const config = (path: string, name: string) =>
  ask(path, async (client) => ((await client.config("GET", name)) as string[])[1]);

/** A server that is not ours. */
async function foreign(args: readonly string[], socket = embeddedSocketPath(dir), cwd = dir): Promise<ChildProcess> {
  const child = spawn(binary.path, ["--port", "0", "--unixsocket", socket, "--save", "", ...args], {
    argv0: binary.argv0,
    cwd,
    env: { ...process.env, ...binary.env },
  });
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  });
  await until(() => existsSync(socket));
  return child;
}

async function until(holds: () => boolean | Promise<boolean>, limitMs = 15_000): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`still not so after ${limitMs} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function refusal(work: Promise<unknown>): Promise<EmbeddedRedisError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EmbeddedRedisError);
  return error as EmbeddedRedisError;
}

describe("start and stop", () => {
  test("runs with the settings of the promise, in a process group of its own, and stop leaves no process", async () => {
    const redis = await start();
    expect(redis).toMatchObject({ adopted: false, socketPath: join(dir, "redis.sock") });
    expect(readFileSync(join(dir, "redis.pid"), "utf8")).toBe(`${redis.pid}\n`);
    expect(await redisProcessesOf(dir)).toEqual([redis.pid]);
    expect(process.kill(-redis.pid, 0)).toBe(true); // a group is named by its leader
    const wanted = {
      appendonly: "yes",
      appendfsync: "always",
      "maxmemory-policy": "noeviction",
      dir,
      save: "",
      port: "0",
    };
    for (const [name, value] of Object.entries(wanted)) expect(await config(redis.socketPath, name), name).toBe(value);
    await Promise.all([redis.stop(), redis.stop()]);
    expect(await isRunning(redis.pid)).toBe(false);
    expect(existsSync(join(dir, "redis.pid"))).toBe(false);
    expect(existsSync(redis.socketPath)).toBe(false);
  });

  test("data survives stop and start", async () => {
    const folder = await openFolder();
    const first = await start({ folder });
    await ask(first.socketPath, (client) => client.set("k", "v"));
    await first.stop();
    const second = await start({ folder });
    expect(second).toMatchObject({ adopted: false });
    expect(await ask(second.socketPath, (client) => client.get("k"))).toBe("v");
  });

  test("a folder of a long path, with spaces, has its socket elsewhere", async () => {
    const folder = await openDataFolder(join(dir, "a folder with spaces ".repeat(5)));
    onTestFinished(() => folder.close());
    const redis = await start({ folder });
    expect(redis.socketPath).toMatch(/^\/tmp\/colloquy-/);
    expect(await redisProcessesOf(folder.dir)).toEqual([redis.pid]);
    expect(await config(redis.socketPath, "dir")).toBe(folder.dir);
    await redis.stop();
    rmSync(join(redis.socketPath, ".."), { recursive: true });
  });

  test("a stopped server that ignores SIGTERM is killed in the end", async () => {
    const redis = await start({ stopTimeoutMs: 200 });
    process.kill(redis.pid, "SIGSTOP");
    await redis.stop();
    expect(await redisProcessesOf(dir)).toEqual([]);
    expect(events.at(-1)).toEqual({ kind: "killed", pid: redis.pid });
  });

  test("a start that is called off leaves nothing", async () => {
    const { reason } = await refusal(start({ signal: AbortSignal.abort() }));
    expect(reason).toBe("stopped");
    expect(await redisProcessesOf(dir)).toEqual([]);
  });
});

describe("a server that is already there", () => {
  test("E2: is adopted with its data after the runtime was killed, and stopped by the one that adopted it", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await ask(first.socketPath, (client) => client.set("k", "v"));
    await killed.kill();
    expect(await isRunning(first.pid)).toBe(true);
    const redis = await start();
    expect(redis).toMatchObject({ pid: first.pid, adopted: true });
    expect(events).toEqual([{ kind: "started", pid: first.pid, adopted: true }]);
    expect(await ask(redis.socketPath, (client) => client.get("k"))).toBe("v");
    await redis.stop();
    expect(await isRunning(first.pid)).toBe(false);
  });

  test("E2: another durability is corrected before it is used", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await killed.kill();
    const redis = await start({ durability: "everysec" });
    expect(redis.pid).toBe(first.pid);
    expect(await config(redis.socketPath, "appendfsync")).toBe("everysec");
    expect(events[0]).toEqual({ kind: "corrected", setting: "appendfsync", from: "always", to: "everysec" });
  });

  test("E2: one that works on another folder is refused and left alone", async () => {
    const elsewhere = join(dir, "elsewhere");
    mkdirSync(elsewhere);
    const child = await foreign(["--appendonly", "yes"], embeddedSocketPath(dir), elsewhere);
    const { reason, message } = await refusal(start());
    expect(reason).toBe("foreign");
    expect(message).toContain(`works on ${elsewhere}, not on ${dir}; it was left alone`);
    expect(child.exitCode).toBe(null);
  });

  test("E2: one without a log, or with a password, is refused", async () => {
    const folder = await openFolder();
    const child = await foreign([]);
    expect((await refusal(start({ folder }))).message).toContain("keeps no log (appendonly no)");
    child.kill("SIGKILL");
    await once(child, "exit");
    rmSync(embeddedSocketPath(dir));
    await foreign(["--appendonly", "yes", "--requirepass", "x"]);
    expect((await refusal(start({ folder }))).message).toContain("is not ours (NOAUTH)");
  });

  test("E3: one that still loads its log is waited for, with progress", async () => {
    const folder = await openFolder();
    const filled = await start({ folder });
    const count = 20_000;
    await ask(filled.socketPath, (client) => client.mset(Array.from({ length: 2 * count }, (_, index) => `k${index}`)));
    await ask(filled.socketPath, (client) => client.bgrewriteaof()); // one key is one step of loading then
    await until(() => existsSync(join(dir, "appendonlydir/appendonly.aof.2.base.rdb")));
    await filled.stop();
    events.length = 0;
    const slow = ["--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"];
    const child = await foreign(["--appendonly", "yes", "--dir", dir, ...slow]);
    const redis = await start({ folder, answerTimeoutMs: 100 });
    expect(redis).toMatchObject({ pid: child.pid, adopted: true });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: "loading", pid: child.pid, percent: expect.any(Number) }),
    );
    expect(await ask(redis.socketPath, (client) => client.dbsize())).toBe(count);
  });

  test("E1: one whose socket was deleted is not joined by a second", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await killed.kill();
    rmSync(first.socketPath);
    rmSync(join(dir, "redis.pid"));
    const { reason, message } = await refusal(start({ answerTimeoutMs: 300 }));
    expect(reason).toBe("busy");
    expect(message).toContain(`stop it with: kill ${first.pid}`);
    expect(await redisProcessesOf(dir)).toEqual([first.pid]);
  });

  test("E1: one that is stopped is not joined by a second", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await killed.kill();
    process.kill(first.pid, "SIGSTOP");
    expect((await refusal(start({ answerTimeoutMs: 300 }))).reason).toBe("busy");
    expect(await redisProcessesOf(dir)).toEqual([first.pid]);
  });

  test("E1: one that is just shutting down is waited for", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await ask(first.socketPath, (client) => client.set("k", "v"));
    await killed.kill();
    await ask(first.socketPath, (client) => client.shutdown("NOSAVE")).catch(() => undefined); // it answers nobody any more
    const redis = await start();
    expect(await ask(redis.socketPath, (client) => client.get("k"))).toBe("v");
    expect(await redisProcessesOf(dir)).toEqual([redis.pid]);
  });

  test("E1: a dead socket and a pid file that names somebody else do not matter", async () => {
    const child = await foreign(["--appendonly", "yes"]);
    child.kill("SIGKILL");
    await once(child, "exit");
    writeFileSync(join(dir, "redis.pid"), `${process.pid}\n`);
    const redis = await start();
    expect(redis.adopted).toBe(false);
    expect(readFileSync(join(dir, "redis.pid"), "utf8")).toBe(`${redis.pid}\n`);
  });
});

describe("who may start one", () => {
  test("E1: of two processes that start at once one gets a server, the other is told why not", async () => {
    for (let round = 0; round < 3; round++) {
      const both = await Promise.all([startFolderProcess(), startFolderProcess()]);
      const tried = await Promise.allSettled(both.map((process) => process.open(dir).then(() => process.redis())));
      expect(tried.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
      expect(tried.find((outcome) => outcome.status === "rejected")?.reason).toMatchObject({ reason: "not-owner" });
      expect(await redisProcessesOf(dir)).toHaveLength(1);
      await Promise.all(both.map((process) => process.kill()));
    }
  });

  test("E1: two starts at once in one process are one start", async () => {
    const folder = await openFolder();
    const tried = await Promise.allSettled([start({ folder }), start({ folder })]);
    expect(tried.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await redisProcessesOf(dir)).toHaveLength(1);
  });
});

describe("a server that ends", () => {
  test("E4: kill -9 is followed by a restart with all data, and the waits double", async () => {
    const redis = await start();
    await ask(redis.socketPath, (client) => client.set("k", "v"));
    const pids = [redis.pid];
    for (let kill = 1; kill <= 3; kill++) {
      process.kill(redis.pid, "SIGKILL");
      await until(() => redis.pid !== pids.at(-1));
      pids.push(redis.pid);
      expect(await ask(redis.socketPath, (client) => client.get("k"))).toBe("v");
    }
    const exits = events.filter((event) => event.kind === "exited");
    expect(exits.map(({ restartInMs }) => restartInMs)).toEqual([100, 200, 400]);
    expect(exits[0]?.why).toContain("SIGKILL");
    expect(await redisProcessesOf(dir)).toEqual([redis.pid]);
    expect(new Set(pids).size).toBe(4);
  });

  test("E4: also an adopted one", async () => {
    const killed = await startFolderProcess();
    await killed.open(dir);
    const first = await killed.redis();
    await killed.kill();
    const redis = await start();
    process.kill(first.pid, "SIGKILL");
    await until(() => redis.pid !== first.pid);
    expect(redis.adopted).toBe(false);
  });

  test("stop while it is between two lives leaves no process", async () => {
    const redis = await start();
    process.kill(redis.pid, "SIGKILL");
    await until(() => events.some(({ kind }) => kind === "exited"));
    await redis.stop();
    expect(await redisProcessesOf(dir)).toEqual([]);
  });

  test("the waits", () => {
    expect([0, 1, 2, 3, 5, 6, 1_000].map(restartDelayMs)).toEqual([100, 200, 400, 800, 3_200, 5_000, 5_000]);
  });
});

describe("a server that cannot start", () => {
  test("a damaged log is reported with its last words and left as it is", async () => {
    const folder = await openFolder();
    const redis = await start({ folder });
    await ask(redis.socketPath, (client) => client.set("k", "v"));
    await redis.stop();
    const log = join(dir, "appendonlydir/appendonly.aof.1.incr.aof");
    const damaged = Buffer.concat([Buffer.from("*3\r\n$3\r\nSET\r\nno length\r\n"), readFileSync(log)]);
    writeFileSync(log, damaged);
    const { reason, message } = await refusal(start({ folder }));
    expect(reason).toBe("damaged");
    expect(message).toMatch(/was left as it is; copy the folder.*\n(.*\n)*.*Bad file format/);
    expect(readFileSync(log)).toEqual(damaged);
    expect(await redisProcessesOf(dir)).toEqual([]);
  });

  test("a binary that does not run, or is none, is one clear error", async () => {
    const folder = await openFolder();
    const missing = await refusal(start({ folder, binary: { ...binary, path: "/nowhere/redis-server" } }));
    expect(missing.message).toContain("it could not be run: spawn /nowhere/redis-server ENOENT");
    const other = await refusal(start({ folder, binary: { ...binary, path: "/bin/false" } }));
    expect(other).toMatchObject({ reason: "exited", message: expect.stringContaining("it ended with code 1") });
  });
});
