import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { doctorExitCode } from "../../../src/cli/doctor/doctor-command.ts";
import { type DoctorFacts, doctorText, findings, type RedisSeen } from "../../../src/cli/doctor/findings.ts";
import { resolveConfig } from "../../../src/config.ts";
import { checkSafety } from "../../../src/store/safety.ts";

const CONFIG: NonNullable<RedisSeen["config"]> = {
  appendonly: true,
  appendfsync: "always",
  noAppendfsyncOnRewrite: false,
  maxmemoryPolicy: "noeviction",
};
const REDIS: RedisSeen = {
  kind: "answers",
  version: "7.0.15",
  role: "master",
  isLoading: false,
  config: CONFIG,
  isAofWriteOk: true,
  isAofRewriteOk: true,
  usedMemoryBytes: 1e6,
  maxMemoryBytes: 1e9,
  clockSkewMs: 3,
  clockErrorMs: 1,
};
const FACTS: DoctorFacts = {
  nodeVersion: "20.19.0",
  settings: resolveConfig({}),
  isEmbedded: true,
  binary: { version: "7.0.15", path: "/usr/bin/redis-server", rejected: [], installCommand: "apt" },
  redisLabel: "the embedded Redis",
  redisCli: "redis-cli -s /d/redis.sock",
  redis: REDIS,
  folder: { kind: "folder", isInUse: false },
  disk: { freeBytes: 1e11, totalBytes: 2e11 },
  fsync: { medianMs: 2, maxMs: 4 },
  port: { kind: "free" },
  openFilesMax: 20_000,
};
const external: Partial<DoctorFacts> = { isEmbedded: false };
const redis = (more: Partial<RedisSeen>): Partial<DoctorFacts> => ({ redis: { ...REDIS, ...more } });
const config = (more: Partial<typeof CONFIG>): Partial<DoctorFacts> => redis({ config: { ...CONFIG, ...more } });
const durability = (level: DoctorFacts["settings"]["durability"]): Partial<DoctorFacts> => ({
  settings: { ...FACTS.settings, durability: level },
});
const none = { ...FACTS.binary!, version: undefined, path: undefined };

test("a machine that is well has nothing but ok", () => {
  const checks = findings(FACTS);
  expect(checks.length).toBeGreaterThan(12);
  expect(checks.filter(({ status }) => status !== "ok")).toEqual([]);
  expect(doctorExitCode(FACTS, checks)).toBe(0);
});

/** Facts that differ in one thing, the one check that is not ok for it, words of it, and the exit code. */
test.each<[string, Partial<DoctorFacts>, string, RegExp, number]>([
  ["an old Node", { nodeVersion: "20.18.3" }, "fail node", /older than 20\.19/, 1],
  ["a much older Node", { nodeVersion: "18.20.0" }, "fail node", /nvm install/, 1],
  [
    "no binary",
    { binary: none, redis: { kind: "not-started" } },
    "fail redis-binary",
    /no Redis server on PATH.*apt/s,
    1,
  ],
  ["no binary any more, under a server that runs", { binary: none }, "warn redis-binary", /no Redis server/, 0],
  [
    "a binary that is too old",
    { binary: { ...none, rejected: [{ path: "/r", reason: "is version 6" }] }, redis: { kind: "not-started" } },
    "fail redis-binary",
    /\/r is version 6/,
    1,
  ],
  ["a silent Redis", { ...external, redis: { kind: "silent", why: "ECONNREFUSED" } }, "fail redis", /REDIS_URL/, 3],
  [
    "a Redis with a password",
    { ...external, redis: { kind: "refuses", why: "NOAUTH x" } },
    "fail redis",
    /password@/,
    3,
  ],
  [
    "one that forbids INFO",
    { ...external, redis: { kind: "refuses", why: "NOPERM x" } },
    "fail redis",
    /ACL SETUSER/,
    3,
  ],
  [
    "one that is none",
    { ...external, redis: { kind: "refuses", why: "ERR x" } },
    "fail redis",
    /address of a Redis/,
    3,
  ],
  ["another at the socket", { redis: { kind: "refuses", why: "NOAUTH x" } }, "fail redis", /another folder/, 3],
  ["one that loads", redis({ isLoading: true }), "warn redis", /still loading/, 0],
  ["an old Redis", redis({ version: "6.2.14" }), "fail redis-version", /older than 7\.0/, 1],
  ["a Redis without version", redis({ version: "unknown" }), "fail redis-version", /unknown/, 1],
  ["a replica", redis({ role: "slave" }), "fail redis-role", /its master's address/, 1],
  ["no log", config({ appendonly: false }), "fail redis-aof", /config set appendonly yes/, 1],
  ["fsync each second", config({ appendfsync: "everysec" }), "fail redis-fsync", /config set appendfsync always/, 1],
  ["no fsync", config({ appendfsync: "no" }), "fail redis-fsync", /half minute/, 1],
  [
    "fsync each second, asked for",
    { ...config({ appendfsync: "everysec" }), ...durability("everysec") },
    "warn redis-fsync",
    /last seconds/,
    0,
  ],
  [
    "no fsync, each second asked for",
    { ...config({ appendfsync: "no" }), ...durability("everysec") },
    "fail redis-fsync",
    /appendfsync everysec/,
    1,
  ],
  [
    "no fsync, asked for",
    { ...config({ appendfsync: "no" }), ...durability("none") },
    "warn redis-fsync",
    /half minute/,
    0,
  ],
  ["no fsync while rewriting", config({ noAppendfsyncOnRewrite: true }), "fail redis-fsync", /on-rewrite no/, 1],
  ["eviction", config({ maxmemoryPolicy: "allkeys-lru" }), "fail redis-eviction", /noeviction/, 1],
  ["forbidden CONFIG", redis({ config: null }), "fail redis-config", /--durability assumed/, 1],
  [
    "forbidden CONFIG, vouched for",
    { ...redis({ config: null }), ...durability("assumed") },
    "warn redis-config",
    /vouches/,
    0,
  ],
  ["a write that failed", redis({ isAofWriteOk: false }), "fail redis-aof-write", /free space/, 1],
  ["a rewrite that failed", redis({ isAofRewriteOk: false }), "warn redis-aof-write", /grows/, 0],
  ["no memory limit", redis({ maxMemoryBytes: 0 }), "warn redis-memory", /config set maxmemory/, 0],
  ["much memory used", redis({ usedMemoryBytes: 7e8 }), "warn redis-memory", /\(70 %\)/, 0],
  ["too much memory used", redis({ usedMemoryBytes: 7.6e8 }), "fail redis-memory", /503/, 1],
  ["a clock that is behind", redis({ clockSkewMs: 5_000 }), "warn clock", /5000 ms behind/, 0],
  ["a clock that is ahead", redis({ clockSkewMs: -5_000 }), "warn clock", /5000 ms ahead of/, 0],
  ["no folder", { folder: { kind: "not-a-folder", isInUse: false } }, "fail data-folder", /--data/, 1],
  [
    "a folder of another",
    { folder: { kind: "folder", notWritable: "EACCES", isInUse: false } },
    "fail data-folder",
    /EACCES.*chown/s,
    1,
  ],
  [
    "a folder that cannot be made",
    { folder: { kind: "missing", notWritable: "EROFS", isInUse: false } },
    "fail data-folder",
    /cannot be made/,
    1,
  ],
  ["a full disk", { disk: { freeBytes: 1e6, totalBytes: 1e9 } }, "fail disk-space", /1\.0 MiB of/, 1],
  ["little disk", { disk: { freeBytes: 1e9, totalBytes: 2e9 } }, "warn disk-space", /250 bytes a message/, 0],
  ["a slow disk", { fsync: { medianMs: 80, maxMs: 200 } }, "warn disk-fsync", /80 ms \(at most 200 ms\)/, 0],
  ["a port that is taken", { port: { kind: "taken" } }, "fail port", /ss -ltnp/, 1],
  ["a port that is not ours to take", { port: { kind: "unusable", code: "EACCES" } }, "fail port", /above 1023/, 1],
  ["an address of another machine", { port: { kind: "unusable", code: "EADDRNOTAVAIL" } }, "fail port", /--host/, 1],
  ["a colloquy that is not ready", { port: { kind: "ours", notReady: "it drains" } }, "warn port", /it drains/, 0],
  ["few open files", { openFilesMax: 1_024 }, "warn open-files", /ulimit -n/, 0],
])("%s is told with its fix", (_, more, expected, words, code) => {
  const facts = { ...FACTS, ...more };
  const checks = findings(facts);
  const [wrong, ...others] = checks.filter(({ status }) => status !== "ok");
  expect(others).toEqual([]);
  expect(`${wrong?.status} ${wrong?.id}`).toBe(expected);
  expect(`${wrong?.message} ${wrong?.fix}`).toMatch(words);
  expect(doctorExitCode(facts, checks)).toBe(code);
});

describe("what is well in another way", () => {
  test.each<[string, Partial<DoctorFacts>, string, RegExp]>([
    ["no server yet", { redis: { kind: "not-started" } }, "redis", /colloquy start starts it/],
    ["a folder that is not there yet", { folder: { kind: "missing", isInUse: false } }, "data-folder", /will be made/],
    ["a folder in use", { folder: { kind: "folder", isInUse: true } }, "data-folder", /stand by/],
    ["any free port", { settings: { ...FACTS.settings, port: 0 } }, "port", /a free port/],
    ["a colloquy that runs", { port: { kind: "ours" } }, "port", /that is ready/],
    ["a clock within its measuring error", redis({ clockSkewMs: 1_400, clockErrorMs: 900 }), "clock", /agrees/],
    [
      "little disk where Redis is elsewhere",
      { ...external, disk: { freeBytes: 1e8, totalBytes: 1e9 } },
      "disk-space",
      /free/,
    ],
  ])("%s", (_, more, id, words) => {
    const check = findings({ ...FACTS, ...more }).find((each) => each.id === id);
    expect(check?.status).toBe("ok");
    expect(check?.message).toMatch(words);
  });

  test("F3: what was not seen is not judged", () => {
    const { disk: _disk, fsync: _fsync, openFilesMax: _files, binary: _binary, ...rest } = FACTS;
    const ids = findings({ ...rest, redis: { kind: "not-started" } }).map(({ id }) => id);
    expect(ids).toEqual(["node", "redis", "data-folder", "port"]);
  });
});

const anyRedis: fc.Arbitrary<RedisSeen> = fc.record({
  kind: fc.constant("answers" as const),
  version: fc.constantFrom("5.0.1", "6.2.14", "7.0.15", "8.1.0", "unknown"),
  role: fc.constantFrom("master", "slave"),
  isLoading: fc.boolean(),
  config: fc.option(
    fc.record({
      appendonly: fc.boolean(),
      appendfsync: fc.constantFrom("always", "everysec", "no"),
      noAppendfsyncOnRewrite: fc.boolean(),
      maxmemoryPolicy: fc.constantFrom("noeviction", "allkeys-lru", "volatile-ttl"),
    }),
    { nil: null },
  ),
  isAofWriteOk: fc.constant(true),
  isAofRewriteOk: fc.boolean(),
  usedMemoryBytes: fc.constant(1),
  maxMemoryBytes: fc.constantFrom(0, 1e9),
  clockSkewMs: fc.integer({ min: -1e6, max: 1e6 }),
  clockErrorMs: fc.integer({ min: 0, max: 1_000 }),
});

law.prop([anyRedis, fc.constantFrom("always", "everysec", "none", "assumed" as const)])(
  "F1: doctor fails Redis exactly where the start refuses it",
  (seen, level) => {
    const { version, config: settings, usedMemoryBytes, maxMemoryBytes } = seen;
    const refused = checkSafety(
      {
        version,
        role: seen.role === "master" ? "master" : "replica",
        config: settings && { ...settings, appendfsync: settings.appendfsync as "always" | "everysec" | "no" },
        usedMemoryBytes,
        maxMemoryBytes,
      },
      level as "always",
    );
    const failed = findings({ ...FACTS, ...durability(level as "always"), redis: seen }).filter(
      ({ status }) => status === "fail",
    );
    expect(failed.length > 0).toBe(refused.length > 0);
  },
);

law.prop([anyRedis, fc.constantFrom<DoctorFacts["port"]>({ kind: "free" }, { kind: "taken" }, { kind: "ours" })])(
  "F2: a check has a fix exactly if it is not ok, and an id of its own",
  (seen, port) => {
    const checks = findings({ ...FACTS, redis: seen, port });
    for (const { status, fix } of checks) expect(fix === undefined).toBe(status === "ok");
    expect(new Set(checks.map(({ id }) => id)).size).toBe(checks.length);
  },
);

test("the text has a line for each check, its fix below it, and a sum", () => {
  const text = doctorText([
    { id: "a", status: "ok", message: "well" },
    { id: "long-id", status: "fail", message: "bad", fix: "mend it" },
    { id: "b", status: "warn", message: "so so", fix: "look" },
  ]);
  expect(text.split("\n")).toEqual([
    "ok    a        well",
    "fail  long-id  bad",
    "               fix: mend it",
    "warn  b        so so",
    "               fix: look",
    "",
    "1 of 3 failed, 1 warning",
    "",
  ]);
});
