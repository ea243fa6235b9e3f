import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import {
  findRedis,
  planRedis,
  type RedisBinary,
  type RedisFacts,
  redisCacheDir,
  redisInstallCommand,
} from "../src/redis-binary.mjs";

const binary: RedisBinary = { path: "/usr/bin/valkey-server", argv0: "valkey-server", env: {}, version: "8.0.1" };
const bare: RedisFacts = {
  binary: null,
  rejected: [],
  serverBin: undefined,
  platform: "linux",
  isRoot: false,
  hasApt: false,
  hasDpkg: false,
  hasBrew: false,
  hasDnf: false,
  hasApk: false,
  dockerAnswers: false,
  failed: [],
};
const debian = { ...bare, hasApt: true, hasDpkg: true };
const tooOld = [{ path: "/usr/bin/redis-server", reason: "is version 6.0.16, older than 7.0" }];

describe("the plan for a Redis server", () => {
  test.each<[string, RedisFacts, string]>([
    ["a usable binary is used, whatever else there is", { ...debian, binary, isRoot: true, hasBrew: true }, "use"],
    ["root on Debian installs redis-tools", { ...debian, isRoot: true }, "apt"],
    ["root goes rootless when the install failed", { ...debian, isRoot: true, failed: ["apt"] }, "deb"],
    ["a user on Debian unpacks into the cache", debian, "deb"],
    ["a user on Debian without dpkg has Docker", { ...debian, hasDpkg: false, dockerAnswers: true }, "docker"],
    ["macOS uses brew", { ...bare, platform: "darwin", hasBrew: true }, "brew"],
    ["macOS cannot use Docker's sockets", { ...bare, platform: "darwin", dockerAnswers: true }, "stop"],
    ["Linux with brew uses it before Docker", { ...bare, hasBrew: true, dockerAnswers: true }, "brew"],
    ["Linux with a Docker daemon uses it last", { ...bare, dockerAnswers: true }, "docker"],
    ["nothing works", { ...debian, isRoot: true, dockerAnswers: true, failed: ["apt", "deb", "docker"] }, "stop"],
    ["an unusable REDIS_SERVER_BIN is never passed over", { ...debian, serverBin: "/opt/redis", isRoot: true }, "stop"],
  ])("%s", (_, facts, kind) => {
    expect(planRedis(facts).kind).toBe(kind);
  });

  test.each<[RedisFacts, string]>([
    [{ ...bare, platform: "darwin" }, "brew install valkey"],
    [
      { ...debian, failed: ["deb"] },
      "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-tools",
    ],
    [{ ...bare, hasApk: true, isRoot: true }, "apk add valkey"],
    [{ ...bare, hasDnf: true }, "sudo dnf install -y valkey"],
    [
      { ...debian, failed: ["deb"], rejected: tooOld },
      "export REDIS_SERVER_BIN=/path/to/redis-server # version 7.0 or newer",
    ],
    [bare, "export REDIS_SERVER_BIN=/path/to/redis-server # version 7.0 or newer"],
    [
      { ...bare, serverBin: "/opt/redis", rejected: [{ path: "/opt/redis", reason: "does not run" }] },
      "unset REDIS_SERVER_BIN",
    ],
  ])("stops with one command to type: case %#", (facts, command) => {
    expect(planRedis(facts)).toMatchObject({ kind: "stop", command });
  });

  test("says why what was found is not used", () => {
    expect(planRedis({ ...bare, rejected: tooOld })).toMatchObject({
      why: "no usable Redis server: /usr/bin/redis-server is version 6.0.16, older than 7.0",
    });
  });
});

describe("finding a Redis server", () => {
  const folder = mkdtempSync(join(tmpdir(), "colloquy-binary-"));
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** A shell script that answers like a server of this version. */
  function fake(path: string, answer: string): string {
    const file = join(folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `#!/bin/sh\necho "${answer}"\n`);
    chmodSync(file, 0o755);
    return file;
  }

  test("prefers valkey-server, skips what is too old, and says so", () => {
    const old = fake("a/valkey-server", "Redis server v=6.2.7 sha=0");
    const good = fake("b/valkey-server", "Valkey server v=8.0.1 sha=0");
    fake("a/redis-server", "Redis server v=7.2.0 sha=0");
    const found = findRedis({ PATH: `${join(folder, "a")}:${join(folder, "b")}` });
    expect(found.binary).toEqual({ path: good, argv0: "valkey-server", env: {}, version: "8.0.1" });
    expect(found.rejected).toEqual([{ path: old, reason: "is version 6.2.7, older than 7.0" }]);
  });

  test("redis-check-rdb counts when it answers as a server", () => {
    const path = fake("bin/redis-check-rdb", "Redis server v=7.0.15 sha=0");
    expect(findRedis({ PATH: dirname(path) }).binary).toMatchObject({ path, argv0: "redis-server" });
    fake("bin/redis-check-rdb", "redis-check-rdb 7.0.15");
    const none = findRedis({ PATH: dirname(path), XDG_CACHE_HOME: folder });
    expect(none).toEqual({ binary: null, rejected: [{ path, reason: "is not a Redis server" }] });
  });

  test("an unpacked .deb in the cache is found with its libraries", () => {
    const env = { PATH: "", XDG_CACHE_HOME: folder };
    expect(redisCacheDir(env)).toBe(join(folder, "colloquy/redis"));
    const path = fake("colloquy/redis/deb/usr/bin/redis-check-rdb", "Redis server v=7.0.15 sha=0");
    mkdirSync(join(folder, "colloquy/redis/deb/usr/lib/x86_64-linux-gnu"), { recursive: true });
    const found = findRedis(env).binary;
    expect(found?.path).toBe(path);
    expect(found?.env.LD_LIBRARY_PATH).toContain(join(folder, "colloquy/redis/deb/usr/lib/x86_64-linux-gnu"));
  });

  test("B2: REDIS_SERVER_BIN decides alone, also when it cannot be used", () => {
    const path = fake("bin/redis-server", "Redis server v=7.2.0 sha=0");
    expect(findRedis({ PATH: dirname(path), REDIS_SERVER_BIN: "/nowhere/redis" })).toEqual({
      binary: null,
      rejected: [{ path: "/nowhere/redis", reason: "does not run (ENOENT)" }],
    });
    expect(findRedis({ REDIS_SERVER_BIN: path }).binary?.path).toBe(path);
  });

  test("the command to type fits the package manager that is on PATH", () => {
    const none = "export REDIS_SERVER_BIN=/path/to/redis-server # version 7.0 or newer";
    const onMac = process.platform === "darwin" ? "brew install valkey" : undefined;
    const env = { PATH: join(folder, "bin") };
    expect(redisInstallCommand([], env)).toBe(onMac ?? none);
    fake("bin/apt-get", "");
    expect(redisInstallCommand([], env)).toMatch(onMac ?? /^(?:sudo )?apt-get update && .*install .*redis-tools$/);
    expect(redisInstallCommand(tooOld, env)).toBe(onMac ?? none);
    expect(redisInstallCommand([], { ...env, REDIS_SERVER_BIN: "/nowhere" })).toBe("unset REDIS_SERVER_BIN");
  });
});
