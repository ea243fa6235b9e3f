import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  ConfigError,
  DataFolderError,
  EmbeddedRedisError,
  StoreCorruptError,
  StoreUnavailableError,
  StoreUnsafeError,
} from "../../src/errors.ts";
import { INFO, run } from "./support/fake-terminal.ts";

const folder = mkdtempSync(join(tmpdir(), "colloquy-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));
const BOT = join(folder, "bot.ts");
writeFileSync(
  BOT,
  `import { defineBot } from "colloquy";
   export default defineBot({ name: "b", version: 1, initialState: () => 0, onMessage: (n: number) => n + 1 });`,
);

describe("help and version", () => {
  test("P2: --version prints the version of the package and exits 0", async () => {
    const { code, stdout, stderr } = run(["--version"]);
    expect(await code).toBe(0);
    expect(stdout()).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(stderr()).toBe("");
  });

  test.each([["--help"], ["start", "--help"], ["help", "start"]])(
    "P2: %s %s prints help with examples and exits 0",
    async (...argv) => {
      const { code, stdout, stderr, calls } = run(argv);
      expect(await code).toBe(0);
      expect(stdout()).toContain("Examples:\n  colloquy start bot.ts");
      expect(stderr()).toBe("");
      expect(calls).toEqual([]);
    },
  );

  test("the help of start names each flag with its default and variable, and the exit codes", async () => {
    const { code, stdout } = run(["start", "--help"]);
    await code;
    const text = stdout().replace(/\s+/g, " ");
    for (const flag of [
      "port",
      "host",
      "redis",
      "data",
      "deliver-to",
      "order",
      "durability",
      "shards",
      "namespace",
      "log-level",
    ])
      expect(text).toContain(`--${flag} <`);
    expect(text).toContain("default 4000, COLLOQUY_PORT");
    expect(text).toContain("Exit codes: 0 stopped by a signal, 1 crashed, 2 wrong usage or setting, 3 Redis");
    expect(text).toContain("COLLOQUY_HTTP_SECRET");
    expect(text).not.toContain("--http-secret");
  });
});

describe("P1: wrong usage", () => {
  test.each<[string, string[], string]>([
    ["no command", [], "Usage: colloquy"],
    ["an unknown command", ["strat", BOT], "colloquy: unknown command 'strat' (Did you mean start?)"],
    ["an unknown flag", ["start", BOT, "--prot", "1"], "colloquy: unknown option '--prot' (Did you mean --port?)"],
    ["no bot", ["start"], "colloquy: missing required argument 'bot'"],
    ["two bots", ["start", BOT, BOT], "colloquy: too many arguments for 'start'"],
    ["a flag without value", ["start", BOT, "--port"], "colloquy: option '--port <number>' argument missing"],
    ["a flag of another command", ["doctor", "--shards", "2"], "usage: colloquy doctor [options]"],
    ["no folder", ["init"], "usage: colloquy init <folder> [options]"],
    ["two addresses", ["tree", "--port", "1", "--url", "http://x"], "cannot be used with option '--url <url>'"],
    ["an argument that chat has not", ["chat", "hello"], "colloquy: too many arguments for 'chat'"],
  ])("%s exits 2 with the usage on stderr", async (_, argv, line) => {
    const { code, stdout, stderr, calls } = run(argv);
    expect(await code).toBe(2);
    expect(stderr()).toContain(line);
    expect(stderr()).toMatch(/usage: colloquy \S+( <\S+>)? \[options\]|Usage: colloquy \[options\] \[command\]/);
    expect(stdout()).toBe("");
    expect(calls).toEqual([]);
  });
});

describe("P1: wrong settings", () => {
  test.each<[string, string[], string]>([
    ["an address that is none", ["chat", "--url", "localhost"], 'colloquy: --url: is "localhost", not the address'],
    ["a port that is none", ["chat", "--port", "0"], 'colloquy: --port: is "0", not a whole number from 1 to 65535'],
    ["a time that is none", ["chat", "--timeout", "0"], 'colloquy: --timeout: is "0", not whole seconds from 1 to'],
    ["a setting of doctor that is none", ["doctor", "--port", "x"], "colloquy: port: --port is"],
    ["a name that no bot can have", ["init", "x", "--name", "A B"], 'colloquy: --name: "A B" can be no bot\'s name ('],
  ])("%s exits 2 with one line", async (_, argv, line) => {
    const { code, stdout, stderr } = run(argv);
    expect(await code).toBe(2);
    expect(stderr()).toContain(line);
    expect(stderr().split("\n")).toHaveLength(2);
    expect(stdout()).toBe("");
  });

  test.each<[string, string[], Record<string, string>, string]>([
    [
      "a port that is none",
      ["--port", "abc"],
      {},
      'colloquy: port: --port is "abc", not a whole number from 0 to 65535 (',
    ],
    [
      "an order that is none",
      ["--order", "sorted"],
      {},
      'colloquy: order: --order is "sorted", not one of arrival, contiguous, monotonic (',
    ],
    ["a durability that is none", ["--durability", "often"], {}, "colloquy: durability: --durability is"],
    [
      "a Redis that is none",
      ["--redis", "localhost"],
      {},
      'colloquy: redis: --redis is "localhost", not redis://host:port',
    ],
    [
      "a wrong variable",
      [],
      { COLLOQUY_SHARDS: "0" },
      "colloquy: shards: COLLOQUY_SHARDS is 0, not a whole number from 1 to 256",
    ],
    ["an unknown variable", [], { COLLOQUY_DURABLE: "1" }, "colloquy: COLLOQUY_DURABLE: is not a setting ("],
    [
      "a short secret",
      [],
      { COLLOQUY_HTTP_SECRET: "abc" },
      "colloquy: httpSecret: COLLOQUY_HTTP_SECRET is a text of 3 bytes",
    ],
  ])("%s exits 2 with one line and no stack", async (_, flags, environment, line) => {
    const { code, stderr, stdout, calls } = run(["start", BOT, ...flags], { environment });
    expect(await code).toBe(2);
    expect(stderr().startsWith(line)).toBe(true);
    expect(stderr()).toMatch(/^[^\n]+\)\n$/);
    expect(stdout()).toBe("");
    expect(calls).toEqual([]);
  });

  test("several have a line each", async () => {
    const { code, stderr } = run(["start", BOT, "--port", "x", "--shards", "y"], { environment: { COLLOQUY_A: "1" } });
    expect(await code).toBe(2);
    expect(
      stderr()
        .split("\n")
        .map((line) => line.split(":").slice(0, 2).join(":")),
    ).toEqual(["colloquy: COLLOQUY_A", "colloquy: port", "colloquy: shards", ""]);
  });

  test("a bot that cannot be used exits 2 with a line that names it", async () => {
    const { code, stderr, calls } = run(["start", join(folder, "none.ts")]);
    expect(await code).toBe(2);
    expect(stderr()).toMatch(/^colloquy: \S+none\.ts: there is no such file \(.+\)\n$/);
    expect(calls).toEqual([]);
  });
});

describe("a start", () => {
  test("gives the app the bots, the settings and an http channel, and nothing of the channel's own", async () => {
    const { up, options } = run(
      ["start", BOT, "--port", "5000", "--data", "/d", "--deliver-to", "http://127.0.0.1:9/r"],
      {
        environment: { COLLOQUY_LEASE_TTL_MS: "7000", COLLOQUY_HTTP_SECRET: "0123456789abcdef" },
      },
    );
    await up;
    const { bots, channels, ...settings } = options();
    expect(bots.map(({ name }) => name)).toEqual(["b"]);
    expect(channels?.map(({ name, delivery }) => `${name} ${delivery}`)).toEqual(["http lane"]);
    expect(channels?.[0]?.verify?.({}, new Uint8Array())).toBe(false);
    expect(settings).toMatchObject({ port: 5_000, dataDir: "/d", leaseTtlMs: 7_000 });
    for (const key of ["deliverTo", "httpSecret", "order", "settleMs"]) expect(settings).not.toHaveProperty(key);
  });

  test("gives the http channel what is set of its posting, and refuses what means nothing without deliverTo", async () => {
    const channelOf = async (environment: Record<string, string>, ...flags: readonly string[]) => {
      const { up, options } = run(["start", BOT, "--deliver-to", "http://127.0.0.1:9/r", ...flags], { environment });
      await up;
      const { channels, ...settings } = options();
      expect(Object.keys(settings).filter((key) => /^delivery(?!BudgetMs)/.test(key))).toEqual([]);
      return channels![0]!;
    };
    expect((await channelOf({})).account).toEqual({ concurrency: 128 });
    const environment = {
      COLLOQUY_DELIVERY_RATE_PER_SECOND: "0.5",
      COLLOQUY_DELIVERY_BURST: "3",
      COLLOQUY_DELIVERY_BREAKER_OPEN_MS: "2000",
    };
    const flags = ["--delivery-concurrency", "16", "--delivery-breaker-open-ms-max", "9000"];
    expect((await channelOf(environment, ...flags, "--delivery-breaker-failures", "5")).account).toEqual({
      concurrency: 16,
      ratePerSecond: 0.5,
      burst: 3,
      breakerFailures: 5,
      breakerOpenMs: 2_000,
      breakerOpenMsMax: 9_000,
    });
    expect((await channelOf({}, "--delivery-breaker-failures", "0")).account).toEqual({
      concurrency: 128,
      breakerFailures: Number.POSITIVE_INFINITY,
    });
    const { code, stderr, calls } = run(["start", BOT, "--delivery-concurrency", "16", "--delivery-burst", "3"]);
    expect(await code).toBe(2);
    expect(stderr()).toBe(
      "colloquy: channels.http.connections: means nothing without deliverTo (set where replies are posted, or remove it)\n" +
        "colloquy: channels.http.account: means nothing without deliverTo (set where replies are posted, or remove it)\n",
    );
    expect(calls).toEqual([]);
  });

  test("gives the http channel its order, and refuses what that order has no use for", async () => {
    const orderOf = async (...flags: readonly string[]) => {
      const { up, options } = run(["start", BOT, ...flags]);
      await up;
      return options().channels?.[0]?.order;
    };
    expect(await orderOf()).toEqual({ mode: "arrival" });
    expect(await orderOf("--order", "monotonic", "--settle-ms", "200")).toMatchObject({ settleMs: 200, maxHeld: 64 });
    expect(await orderOf("--order", "contiguous", "--first-sequence", "1", "--gap-timeout-ms", "10000")).toEqual({
      mode: "contiguous",
      gapTimeoutMs: 10_000,
      settleMs: 500,
      maxHeld: 64,
      firstSequence: 1,
    });
    const { code, stderr, calls } = run(["start", BOT, "--first-sequence", "1"]);
    expect(await code).toBe(2);
    expect(stderr()).toBe(
      "colloquy: channels.http.firstSequence: means nothing with the order arrival (remove it, or set order to contiguous)\n",
    );
    expect(calls).toEqual([]);
  });

  test("without --deliver-to has its replies in the transcript, and the web channel beside it", async () => {
    const { up, options, stderr } = run(["start", BOT]);
    await up;
    const channels = options().channels?.map(({ name, delivery }) => `${name} ${delivery}`);
    expect(channels).toEqual(["http transcript", "web transcript"]);
    expect(stderr()).toMatch(/\n {2}chat {6}http:\/\/\S+\/\n/);
  });

  test("with a secret has no web channel, which would take messages without a signature", async () => {
    const { up, options, stderr } = run(["start", BOT], { environment: { COLLOQUY_HTTP_SECRET: "0123456789abcdef" } });
    await up;
    expect(options().channels?.map(({ name }) => name)).toEqual(["http"]);
    expect(stderr()).not.toContain("chat");
  });

  test("listens to signals before anything runs, so that a start can be stopped", async () => {
    const { up, calls, lifecycle } = run(["start", BOT]);
    await up;
    expect(calls).toEqual(["live", "start"]);
    expect(lifecycle().drainMs).toBe(10_000);
    await lifecycle().stop();
    expect(calls.at(-1)).toBe("stop");
  });

  test("prints the banner on stderr, because stdout is for log lines", async () => {
    const { up, stdout, stderr } = run(["start", BOT, "--port", "4000"]);
    await up;
    expect(stdout()).toBe("");
    expect(stderr()).toContain("http://127.0.0.1:4000, pid 4242, node n1, 4 shards, durability always");
    expect(stderr()).toContain("curl -X POST http://127.0.0.1:4000/channels/http/b ");
    expect(stderr()).toContain("curl 'http://127.0.0.1:4000/channels/http/b/c1/replies?after=0'");
    expect(stderr()).toContain("embedded, /data/redis.sock, pid 4243");
    expect(stderr()).toContain(`kill -9 4242; colloquy start ${BOT} --port 4000\n`);
    expect(stderr()).not.toContain("WARNING");
    expect(stderr()).not.toContain("\u001b");
  });

  test("under npm start names that as the line to type again", async () => {
    const environment = { npm_lifecycle_event: "start" };
    const plain = run(["start", BOT], { environment });
    const added = run(["start", BOT, "--port", "5000", "--data", "/it's"], { environment });
    await Promise.all([plain.up, added.up]);
    expect(plain.stderr()).toContain("kill -9 4242; npm start\n");
    expect(added.stderr()).toContain("kill -9 4242; npm start -- --port 5000 --data '/it'\\''s'\n");
  });

  test("says what is not promised: in red on a terminal, plain elsewhere", async () => {
    const info = { durability: "everysec", ready: false } as const;
    const colored = run(["start", BOT], { info, isTTY: true });
    const plain = run(["start", BOT], { info });
    const none = run(["start", BOT], { info, isTTY: true, environment: { NO_COLOR: "1" } });
    await Promise.all([colored.up, plain.up, none.up]);
    expect(colored.stderr()).toContain("\u001b[31mWARNING   durability everysec: a crash of Redis");
    expect(colored.stderr()).toContain("\u001b[31mWARNING   Redis is not there yet: webhooks answer 503");
    expect(plain.stderr()).toContain("  WARNING   durability everysec: ");
    expect(none.stderr()).toBe(plain.stderr());
  });

  test("never shows a password of Redis or of the recipient", async () => {
    const { up, stderr } = run(["start", BOT, "--deliver-to", "https://h/r?token=canary"], {
      info: { redis: { embedded: false, address: "redis://u:canary@h:1" } },
    });
    await up;
    expect(stderr()).toContain("redis://***@h:1");
    expect(stderr()).toContain("posted to https://h/r?***");
    expect(stderr()).not.toContain("canary");
  });
});

describe("a failure", () => {
  test.each<[string, Error, number, string]>([
    [
      "a port in use",
      new ConfigError("port", "4000 is in use; stop who has it, or take another"),
      2,
      "colloquy: port: 4000 is in use; stop",
    ],
    [
      "an unusable data folder",
      new DataFolderError("/d", "is not a folder"),
      2,
      "colloquy: dataDir: data folder /d: is not a folder\n",
    ],
    [
      "a full disk",
      new DataFolderError("/d", "is full", { cause: Object.assign(new Error(), { code: "ENOSPC" }) }),
      3,
      "colloquy: dataDir: ",
    ],
    [
      "a bare full disk",
      Object.assign(new Error("write"), { code: "ENOSPC" }),
      3,
      "colloquy: dataDir: the disk is full; ",
    ],
    [
      "no Redis binary",
      new EmbeddedRedisError("no-binary", "there is none (apt-get install redis-tools)"),
      3,
      "colloquy: redis: there is none",
    ],
    [
      "an unsafe Redis",
      new StoreUnsafeError("appendfsync is everysec"),
      3,
      "colloquy: redis: appendfsync is everysec\n",
    ],
    ["an unreachable Redis", new StoreUnavailableError("no answer"), 3, "colloquy: redis: no answer\n"],
    ["corrupt data", new StoreCorruptError("a record"), 1, "colloquy: ERR_STORE_CORRUPT: a record\n"],
    [
      "a bug",
      new TypeError("x is not a function"),
      1,
      "colloquy: crash: TypeError: x is not a function at program.test.ts:",
    ],
  ])("%s at start is one line and its exit code, and leaves nothing running", async (_, startError, exitCode, line) => {
    const { code, stderr, stdout, calls } = run(["start", BOT], { startError });
    expect(await code).toBe(exitCode);
    expect(stderr().startsWith(line)).toBe(true);
    expect(stderr()).toMatch(/^[^\n]+\n$/);
    expect(stdout()).toBe("");
    expect(calls).toEqual(["live", "start", "release", "stop"]);
  });

  test("in building the app starts nothing", async () => {
    const { code, calls } = run(["start", BOT], {
      createError: new ConfigError("channels[0].name", "is taken (rename)"),
    });
    expect(await code).toBe(2);
    expect(calls).toEqual([]);
  });

  test("has its stack shown at log level debug only", async () => {
    const startError = new TypeError("x");
    for (const [argv, environment, shown] of [
      [["--log-level", "debug"], {}, true],
      [["--log-level=debug"], {}, true],
      [[], { COLLOQUY_LOG_LEVEL: "debug" }, true],
      [["--log-level", "info"], { COLLOQUY_LOG_LEVEL: "debug" }, false],
      [[], {}, false],
    ] as const) {
      const { code, stderr } = run(["start", BOT, ...argv], { startError, environment });
      await code;
      expect(stderr().includes("\n    at ")).toBe(shown);
    }
  });

  test("later ends the process with the code of its kind, and a wrong setting is none any more", async () => {
    for (const [error, exitCode] of [
      [new StoreUnsafeError("eviction is on"), 3],
      [new TypeError("x"), 1],
      [new ConfigError("shards", "changed"), 1],
    ] as const) {
      const { code, up, crash, calls } = run(["start", BOT]);
      await up;
      crash(error);
      expect(await code).toBe(exitCode);
      expect(calls).toEqual(["live", "start", "release"]);
    }
  });

  test("X2: while messages flow tells the name and place of a foreign error, never its text, which may quote one", async () => {
    const { code, up, crash, lifecycle, stderr } = run(["start", BOT]);
    await up;
    lifecycle().tell(new Error("canary"));
    lifecycle().tell("canary");
    lifecycle().tell(Object.assign(new Error("canary"), { code: "ECONNRESET" }));
    crash(new RangeError("canary\nsecond line"));
    await code;
    expect(stderr()).not.toContain("canary");
    expect(stderr()).toMatch(
      /colloquy: crash: RangeError at program\.test\.ts:\d+:\d+ \(--log-level debug shows all of it\)\n$/,
    );
    expect(stderr()).toContain("colloquy: crash: something that is no error (");
    expect(stderr()).toContain("colloquy: crash: Error ECONNRESET at ");
  });

  test("never breaks its line or moves the cursor", async () => {
    const startError = new StoreUnsafeError("a\r\n\n  b\u001b[2Jc");
    const { code, stderr } = run(["start", BOT], { startError });
    await code;
    expect(stderr()).toBe("colloquy: redis: a b?[2Jc\n");
  });
});

test("the place where it listens is what the app says, not what was asked for", async () => {
  const { up, stderr } = run(["start", BOT, "--port", "0"], { info: { url: "http://127.0.0.1:39999", pid: INFO.pid } });
  await up;
  expect(stderr()).toContain("http://127.0.0.1:39999/readyz");
});
