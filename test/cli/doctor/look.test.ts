// What doctor sees, with real servers, folders and ports.

import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { lookAround } from "../../../src/cli/doctor/look.ts";
import { resolveConfig } from "../../../src/config.ts";
import { systemEnvironment } from "../../../src/environment.ts";
import { openDataFolder } from "../../../src/store/data-folder.ts";
import { RedisServer } from "../../support/redis-server.ts";

const folder = mkdtempSync(join(tmpdir(), "colloquy-doctor-"));
afterEach(() => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true });
});

const look = (options: Parameters<typeof resolveConfig>[0]) =>
  lookAround(resolveConfig({ port: 0, dataDir: join(folder, "data"), ...options }), systemEnvironment);

async function redisServer(options: Parameters<typeof RedisServer.start>[0] = {}): Promise<RedisServer> {
  const server = await RedisServer.start(options);
  onTestFinished(() => server.remove());
  return server;
}

describe("Redis", () => {
  test("tells its version, settings, memory and clock", async () => {
    const { path } = await redisServer({ args: ["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"] });
    const { redis, isEmbedded, redisCli, binary } = await look({ redis: path });
    expect(isEmbedded).toBe(false);
    expect(binary).toBeUndefined();
    expect(redisCli).toBe(`redis-cli -s ${path}`);
    expect(redis).toMatchObject({
      kind: "answers",
      role: "master",
      isLoading: false,
      config: { appendonly: true, appendfsync: "always", noAppendfsyncOnRewrite: false, maxmemoryPolicy: "noeviction" },
      isAofWriteOk: true,
      maxMemoryBytes: 100 * 1024 * 1024,
    });
    if (redis.kind !== "answers") throw new Error("unreachable");
    expect(Number.parseInt(redis.version, 10)).toBeGreaterThanOrEqual(7);
    expect(redis.usedMemoryBytes).toBeGreaterThan(100_000);
    expect(Math.abs(redis.clockSkewMs)).toBeLessThan(1_000 + redis.clockErrorMs); // one machine, one clock
  });

  test("without a log and with eviction is seen as it is", async () => {
    const { path } = await redisServer({ fsync: "off", args: ["--maxmemory-policy", "allkeys-lru"] });
    const { redis } = await look({ redis: path });
    expect(redis).toMatchObject({ config: { appendonly: false, maxmemoryPolicy: "allkeys-lru" } });
  });

  test("that forbids CONFIG is seen without it", async () => {
    const { path } = await redisServer({ args: ["--rename-command", "CONFIG", ""] });
    const { redis } = await look({ redis: path });
    expect(redis).toMatchObject({ kind: "answers", config: null });
  });

  test("that wants a password refuses, with none and with a wrong one; the right one is never shown", async () => {
    const port = await freePort();
    const { path } = await redisServer({ args: ["--port", String(port), "--bind", "127.0.0.1"] });
    const owner = new Redis({ path });
    await owner.config("SET", "requirepass", "right");
    owner.disconnect();
    const at = (user: string) => look({ redis: `redis://${user}127.0.0.1:${port}` });
    expect((await at("")).redis).toMatchObject({ kind: "refuses", why: expect.stringMatching(/^NOAUTH/) });
    expect((await at(":wrong@")).redis).toMatchObject({ kind: "refuses", why: expect.stringMatching(/^WRONGPASS/) });
    const { redis, redisLabel, redisCli } = await at(":right@");
    expect(redis.kind).toBe("answers");
    expect(redisLabel + redisCli).toBe(`redis://127.0.0.1:${port}redis-cli -u redis://127.0.0.1:${port} --askpass`);
  });

  test("that is not there is silent, with the reason", async () => {
    const port = await freePort();
    const { redis } = await look({ redis: `redis://127.0.0.1:${port}` });
    expect(redis).toEqual({ kind: "silent", why: expect.stringContaining("ECONNREFUSED") });
  });

  test("that is stopped is silent too, within the deadline", async () => {
    const server = await redisServer();
    server.pause();
    onTestFinished(() => server.resume());
    const { redis } = await look({ redis: server.path });
    expect(redis.kind).toBe("silent");
  });

  test("that is no Redis is not taken for one", async () => {
    const web = await listening(createHttpServer((_request, response) => response.end("hello")));
    const { redis } = await look({ redis: `redis://127.0.0.1:${portOf(web)}` });
    expect(["silent", "refuses"]).toContain(redis.kind);
  });
});

describe("the embedded Redis", () => {
  test("is not started, and its binary is looked for", async () => {
    const { redis, isEmbedded, binary } = await look({});
    expect(isEmbedded).toBe(true);
    expect(redis).toEqual({ kind: "not-started" });
    expect(Number.parseInt(binary?.version ?? "", 10)).toBeGreaterThanOrEqual(7);
    expect(existsSync(join(folder, "data"))).toBe(false); // K1
  });

  test("is looked at where one answers at its socket, and not where one has died there", async () => {
    const server = await redisServer(); // its folder has a redis.sock, like a data folder
    const alive = await look({ dataDir: server.dir });
    expect(alive.redis.kind).toBe("answers");
    await server.kill();
    expect(existsSync(server.path)).toBe(true);
    expect((await look({ dataDir: server.dir })).redis).toEqual({ kind: "not-started" });
  });
});

describe("the data folder", () => {
  test("is timed, and left as it was", async () => {
    const dataDir = join(folder, "there");
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "kept"), "1");
    const { folder: seen, fsync, disk } = await look({ dataDir });
    expect(seen).toEqual({ kind: "folder", isInUse: false });
    expect(fsync!.medianMs).toBeGreaterThan(0);
    expect(fsync!.maxMs).toBeGreaterThanOrEqual(fsync!.medianMs);
    expect(disk!.totalBytes).toBeGreaterThan(disk!.freeBytes);
    expect(readdirSync(dataDir)).toEqual(["kept"]); // K1
  });

  test("may be missing: what is above it is timed, and it is not made", async () => {
    const { folder: seen, fsync } = await look({ dataDir: join(folder, "a/b/c") });
    expect(seen).toEqual({ kind: "missing", isInUse: false });
    expect(fsync).toBeDefined();
    expect(readdirSync(folder)).toEqual([]);
  });

  test("may be a file", async () => {
    writeFileSync(join(folder, "file"), "");
    expect((await look({ dataDir: join(folder, "file") })).folder).toEqual({ kind: "not-a-folder", isInUse: false });
  });

  test("is in use while a process holds its lock, and what a dead one left stays", async () => {
    const dataDir = join(folder, "locked");
    const held = await openDataFolder(dataDir);
    expect((await look({ dataDir })).folder.isInUse).toBe(true);
    await held.close();
    expect((await look({ dataDir })).folder.isInUse).toBe(false);
    mkdirSync(join(dataDir, "lock"), { recursive: true });
    writeFileSync(join(dataDir, "lock", "0a0b0c0d"), "");
    expect((await look({ dataDir })).folder.isInUse).toBe(false);
    expect(existsSync(join(dataDir, "lock", "0a0b0c0d"))).toBe(true);
  });

  test("is in use also where its path is too long for a socket", async () => {
    const dataDir = join(folder, "long".repeat(30));
    const held = await openDataFolder(dataDir);
    onTestFinished(() => held.close());
    expect((await look({ dataDir })).folder.isInUse).toBe(true);
  });

  test("that may not be written is seen with its reason", async () => {
    const isRoot = process.getuid?.() === 0; // whom no mode stops, but a file system that takes no files does
    const dataDir = isRoot ? "/proc" : join(folder, "shut");
    if (!isRoot) mkdirSync(dataDir);
    if (!isRoot) chmodSync(dataDir, 0o500);
    const { folder: seen, fsync } = await look({ dataDir });
    expect(seen.notWritable).toMatch(/^E[A-Z]+$/);
    expect(fsync).toBeUndefined();
  });
});

describe("the port", () => {
  const taken = async (answer: RequestListener) => {
    const server = await listening(createHttpServer(answer));
    return (await look({ port: portOf(server) })).port;
  };
  const json = (status: number, body: unknown): RequestListener => {
    return (_request, response) => response.writeHead(status).end(JSON.stringify(body));
  };

  test("may be free", async () => {
    expect((await look({ port: await freePort() })).port).toEqual({ kind: "free" });
  });

  test("may be taken by another program, by one that is no web server, or by a colloquy", async () => {
    expect(await taken(json(200, { hello: "world" }))).toEqual({ kind: "taken" });
    const mute = await listening(createServer((socket) => socket.end("?\n")));
    expect((await look({ port: portOf(mute) })).port).toEqual({ kind: "taken" });
    expect(await taken(json(200, { live: true, ready: true }))).toEqual({ kind: "ours" });
    expect(await taken(json(200, { live: true, ready: false, reason: "it drains" }))).toEqual({
      kind: "ours",
      notReady: "it drains",
    });
  });

  test("may be of an address that is not here", async () => {
    expect((await look({ host: "203.0.113.7" })).port).toEqual({ kind: "unusable", code: "EADDRNOTAVAIL" });
  });
});

test("the number of open files is seen on Linux", async () => {
  const { openFilesMax } = await look({});
  if (process.platform === "linux") expect(openFilesMax).toBeGreaterThan(0);
  else expect(openFilesMax).toBeUndefined();
});

async function listening<S extends Server>(server: S): Promise<S> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}
