import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DataFolderError } from "../../src/errors.ts";
import { openDataFolder, SOCKET_PATH_BYTES_MAX, socketPath } from "../../src/store/data-folder.ts";
import { type FolderProcess, startFolderProcess } from "../support/folder-processes.ts";

let parent: string;
let dir: string;
const processes: FolderProcess[] = [];

async function start(): Promise<FolderProcess> {
  const started = await startFolderProcess();
  processes.push(started);
  return started;
}

beforeEach(() => {
  parent = realpathSync(mkdtempSync(join(tmpdir(), "colloquy-folder-")));
  dir = join(parent, "data");
});
afterEach(async () => {
  await Promise.all(processes.splice(0).map((child) => child.kill()));
  rmSync(parent, { recursive: true, force: true });
});

describe("one process", () => {
  test("the folder is created for this user alone and the id stays over openings", async () => {
    const first = await openDataFolder(dir);
    expect(first).toMatchObject({ dir, holdsLock: true });
    expect(first.nodeId).toMatch(/^[0-9a-f]{16}$/);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    await first.close();
    expect(first.holdsLock).toBe(false);
    const second = await openDataFolder(dir);
    expect(second).toMatchObject({ nodeId: first.nodeId, holdsLock: true });
    await second.close();
    expect(readdirSync(dir)).toEqual(["node-id"]);
  });

  test("an unreadable stored id is replaced", async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, "node-id"), "");
    const folder = await openDataFolder(dir, { randomId: () => "00112233445566aa" });
    expect(folder.nodeId).toBe("00112233445566aa");
    expect(readFileSync(join(dir, "node-id"), "utf8")).toBe("00112233445566aa\n");
    await folder.close();
  });

  test("tryLock while held, twice at once, and close twice are harmless", async () => {
    const folder = await openDataFolder(dir);
    expect(await Promise.all([folder.tryLock(), folder.tryLock()])).toEqual([true, true]);
    await folder.close();
    await folder.close();
    expect(await Promise.all([folder.tryLock(), folder.tryLock()])).toEqual([true, true]);
    await folder.close();
  });

  test("a path that is a file is one clear error", async () => {
    writeFileSync(dir, "");
    for (const path of [dir, join(dir, "below")]) {
      const refused = openDataFolder(path);
      await expect(refused).rejects.toBeInstanceOf(DataFolderError);
      await expect(refused).rejects.toThrow(
        `data folder ${path}: it is not a folder; nothing that was stored is lost; choose`,
      );
    }
  });
});

describe("where a socket goes", () => {
  test.each([
    ["/var/lib/app/.data", "/var/lib/app/.data/redis.sock"],
    [`/${"d".repeat(88)}`, `/${"d".repeat(88)}/redis.sock`],
    [`/${"d".repeat(89)}`, expect.stringMatching(/^\/tmp\/colloquy-[0-9a-f]{20}\/redis\.sock$/)],
    [`/${"ü".repeat(45)}`, expect.stringMatching(/^\/tmp\/colloquy-/)],
  ])("%s -> %s", (folder, path) => {
    expect(socketPath(folder, "redis.sock")).toEqual(path);
    expect(Buffer.byteLength(socketPath(folder, "redis.sock"))).toBeLessThanOrEqual(SOCKET_PATH_BYTES_MAX);
  });

  test("a folder of a long path is locked like any other", async () => {
    const long = join(parent, "l".repeat(120));
    const folder = await openDataFolder(long);
    const other = await openDataFolder(long);
    expect([folder.holdsLock, other.holdsLock]).toEqual([true, false]);
    await folder.close();
    expect(await other.tryLock()).toBe(true);
    await other.close();
    const short = dirname(socketPath(long, "redis.sock"));
    expect(existsSync(short)).toBe(true);
    rmSync(short, { recursive: true });
  });
});

describe("several processes", () => {
  test("F3: a second process gets a fresh id, and keeps it when it takes the lock later", async () => {
    const [first, second] = await Promise.all([start(), start()]);
    const holder = await first.open(dir);
    const waiting = await second.open(dir);
    expect(holder.holdsLock).toBe(true);
    expect(waiting.holdsLock).toBe(false);
    expect(waiting.nodeId).not.toBe(holder.nodeId);
    expect((await second.tryLock()).holdsLock).toBe(false);
    await first.close();
    expect(await second.tryLock()).toEqual({ nodeId: waiting.nodeId, holdsLock: true });
    await second.kill();
    expect(await first.open(dir)).toEqual(holder);
  });

  test("F1: kill -9 of the holder frees the lock at once", async () => {
    const [first, second] = await Promise.all([start(), start()]);
    const holder = await first.open(dir);
    await first.kill();
    expect(await second.open(dir)).toEqual(holder);
  });

  test("F1: a stopped holder holds it, also when its backlog is full", async () => {
    const [first, second] = await Promise.all([start(), start()]);
    await first.open(dir);
    first.signal("SIGSTOP");
    expect((await second.open(dir)).holdsLock).toBe(false);
    const probes = await Promise.all(Array.from({ length: 700 }, () => openDataFolder(dir)));
    expect(probes.filter(({ holdsLock }) => holdsLock)).toEqual([]);
    expect((await second.tryLock()).holdsLock).toBe(false);
    first.signal("SIGCONT");
    expect((await first.tryLock()).holdsLock).toBe(true);
  });

  test("F1: of 8 processes that race for a dead one's lock exactly one wins, 20 rounds", async () => {
    const racers = await Promise.all(Array.from({ length: 8 }, start));
    let nextHolder = start();
    const nodeIds = new Set<string>();
    for (let round = 1; round <= 20; round++) {
      const holder = await nextHolder;
      if (round < 20) nextHolder = start();
      nodeIds.add((await holder.open(dir)).nodeId);
      await holder.kill();
      const opened = await Promise.all(racers.map((racer) => racer.open(dir)));
      const winners = opened.filter(({ holdsLock }) => holdsLock);
      expect(winners, `round ${round}`).toHaveLength(1);
      nodeIds.add(winners[0]!.nodeId);
      expect(new Set(opened.map(({ nodeId }) => nodeId)).size).toBe(8);
      await Promise.all(racers.map((racer) => racer.close()));
    }
    expect(nodeIds.size).toBe(1);
    expect(readdirSync(dir)).toEqual(["node-id"]);
  });
});
