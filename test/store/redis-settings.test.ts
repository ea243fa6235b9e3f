import { describe, expect, test } from "vitest";
import { servesFolder } from "../../src/store/redis-process.ts";
import {
  type Durability,
  explainExit,
  redisArguments,
  redisSettings,
  rewriteMinBytes,
} from "../../src/store/redis-settings.ts";

const GIB = 1024 ** 3;
const input = { dir: "/data", socketPath: "/data/redis.sock", memoryBytes: 8 * GIB, freeDiskBytes: 100 * GIB };

describe("settings of the embedded server", () => {
  test.each<[Durability, string]>([
    ["always", "always"],
    ["everysec", "everysec"],
    ["none", "no"],
  ])("S1: durability %s is appendfsync %s, and a rewrite suspends nothing", (durability, appendfsync) => {
    const settings = Object.fromEntries(redisSettings({ ...input, durability }));
    expect(settings).toMatchObject({ appendfsync, "no-appendfsync-on-rewrite": "no", appendonly: "yes", save: "" });
  });

  test("S2 and S3: nothing is evicted, no port is open, 40 % of memory", () => {
    const settings = Object.fromEntries(redisSettings({ ...input, durability: "always" }));
    expect(settings).toMatchObject({
      "maxmemory-policy": "noeviction",
      port: "0",
      unixsocketperm: "700",
      dir: "/data",
    });
    expect(Number(settings.maxmemory)).toBe(Math.floor(8 * GIB * 0.4));
  });

  test.each([
    [0, 0.25 * GIB],
    [2.5 * GIB, 0.25 * GIB],
    [10 * GIB, GIB],
    [40 * GIB, 4 * GIB],
    [900 * GIB, 4 * GIB],
  ])("with %d bytes free the log is first rewritten at %d", (free, expected) => {
    expect(rewriteMinBytes(free)).toBe(expected);
  });

  test("an empty value stays an argument of its own", () => {
    expect(
      redisArguments([
        ["save", ""],
        ["port", "0"],
      ]),
    ).toEqual(["--save", "", "--port", "0"]);
  });
});

describe("the last words of a server", () => {
  test.each([
    ["Error writing to the AOF file: No space left on device", "disk-full"],
    ["Can't open or create append-only dir appendonlydir: Permission denied", "forbidden"],
    ["Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup", "damaged"],
    ["the truncated file is not the last file", "damaged"],
    ["it ended by SIGKILL", "exited"],
    ["", "exited"],
  ])("%j mean %s", (words, reason) => {
    expect(explainExit(words).reason).toBe(reason);
  });
});

describe("which process serves a folder", () => {
  test.each([
    [["redis-server", "--port", "0", "--dir", "/data"], "/data", true],
    [["/usr/bin/valkey-server", "--dir", "/data"], undefined, true],
    [["redis-server 127.0.0.1:6379"], "/data", true],
    [["docker", "run", "valkey-server", "--dir", "/data"], "/home/me", true],
    [["redis-server", "--dir", "/data2"], "/data2", false],
    [["redis-aof-rewrite unixsocket:/data/redis.sock"], "/data", false],
    [["redis-cli", "-s", "/data/redis.sock"], "/data", false],
    [["tail", "-f", "redis.log"], "/data", false],
  ])("%j in %s: %s", (argv, cwd, serves) => {
    expect(servesFolder(argv, cwd, "/data")).toBe(serves);
  });
});
