import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CONFIG_KEYS,
  type ConfigFlags,
  type ConfigOptions,
  helpOf,
  resolveConfig,
  variableOf,
  withoutPassword,
} from "../src/config.ts";
import { ConfigProblemsError, nearest, problemsOf } from "../src/config-problems.ts";
import { ConfigError } from "../src/errors.ts";

/** The lines of the refusal; fails if there is none. */
function refusal(options: unknown, environment: Record<string, string> = {}, flags: ConfigFlags = {}): string[] {
  try {
    resolveConfig(options as ConfigOptions, environment, flags);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return problemsOf(error as ConfigError).map(({ message }) => message);
  }
  throw new Error("it was accepted");
}

describe("defaults", () => {
  test("nothing given is the documented default of every bound, frozen", () => {
    const config = resolveConfig({});
    expect(Object.isFrozen(config)).toBe(true);
    expect(config).toEqual({
      port: 4_000,
      host: "127.0.0.1",
      allowedHosts: [],
      dataDir: ".data",
      namespace: "colloquy",
      logLevel: "info",
      order: "arrival",
      shards: 1,
      durability: "always",
      leaseTtlMs: 5_000,
      redisMemoryRatioMax: 0.75,
      ackDelayMs: 20,
      drainMs: 10_000,
      dedupeMs: 600_000,
      transcriptMs: 2_592_000_000,
      drainSliceMs: 5,
      spillMs: 2_000,
      watchdogMs: 10_000,
      headerBytesMax: 16_384,
      connectionsMax: 10_000,
      requestTimeoutMs: 15_000,
      connectionTimeoutMs: 60_000,
      keepAliveTimeoutMs: 72_000,
      admitTimeoutMs: 10_000,
      eventStreamsMax: 1_000,
      eventStreamPollMs: 1_500,
      eventStreamHeartbeatMs: 15_000,
      eventStreamStallMs: 30_000,
      requestMessagesMax: 1_000,
      requestBytesMax: 1_048_576,
      messageBytesMax: 262_144,
      entryBytesMax: 1_048_576,
      inboxBytesMax: 67_108_864,
      admissionBytesMax: 16_777_216,
      mailboxMax: 1_024,
      mailboxBytesMax: 1_048_576,
      waitingMax: 1_000,
      waitingBytesMax: 4_194_304,
      suspectGroupMax: 64,
      dedupeMax: 4_096,
      readAheadBytesMax: 16_777_216,
      runningTurnsMax: 1_024,
      drainTurnsMax: 64,
      residentsMax: 100_000,
      residentBytesMax: 536_870_912,
      stateBytesMax: 1_048_576,
      stepsMax: 100,
      journalBytesMax: 262_144,
      sendsMax: 100,
      hopsMax: 32,
      uncommittedTurnsMax: 256,
      uncommittedBytesMax: 1_048_576,
      commitKeysMax: 4_000,
      commitBytesMax: 4_194_304,
      replyBytesMax: 65_536,
      repliesMax: 100,
      turnReplyBytesMax: 1_048_576,
      laneBacklogMax: 1_000,
      laneBacklogBytesMax: 4_194_304,
      deadLettersMax: 100_000,
      deadLetterBytesMax: 268_435_456,
      deliveryBudgetMs: 259_200_000,
      laneSweepMs: 1_000,
      outboxBytesMax: 67_108_864,
      transcriptLinesMax: 200,
      transcriptBytesMax: 262_144,
    });
  });

  test("without a Redis there is none in it, so that an embedded one runs", () => {
    expect(resolveConfig({}).redis).toBeUndefined();
  });

  test("every key has a description, a variable of its own and one help line", () => {
    expect(new Set(CONFIG_KEYS.map(variableOf)).size).toBe(CONFIG_KEYS.length);
    for (const key of CONFIG_KEYS) expect(helpOf(key)).toMatch(/^\S.+ \(.*[A-Z_]+\)$/);
  });
});

describe("precedence", () => {
  test("a flag beats an option, an option the environment, and that the default", () => {
    const environment = { COLLOQUY_PORT: "5002" };
    expect(resolveConfig({}, environment).port).toBe(5_002);
    expect(resolveConfig({ port: 5_001 }, environment).port).toBe(5_001);
    expect(resolveConfig({ port: 5_001 }, environment, { port: "5000" }).port).toBe(5_000);
  });

  test("an option that is undefined is one that is not given", () => {
    expect(resolveConfig({ port: undefined, redis: undefined }, { COLLOQUY_PORT: "5002" }).port).toBe(5_002);
  });

  test("a variable is named after its key; only redis has the name that everybody uses", () => {
    expect(variableOf("leaseTtlMs")).toBe("COLLOQUY_LEASE_TTL_MS");
    expect(variableOf("host")).toBe("COLLOQUY_HOST");
    expect(resolveConfig({}, { COLLOQUY_LEASE_TTL_MS: "6000" }).leaseTtlMs).toBe(6_000);
    expect(resolveConfig({}, { REDIS_URL: "redis://127.0.0.1:6379" }).redis).toBe("redis://127.0.0.1:6379");
  });

  test("any legal whole number means the same as an option, a flag and a variable", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65_535 }), (port) => {
        const read = [
          resolveConfig({ port }),
          resolveConfig({}, { COLLOQUY_PORT: `${port}` }),
          resolveConfig({}, {}, { port: `${port}` }),
        ];
        expect(read.map((config) => config.port)).toEqual([port, port, port]);
      }),
    );
  });

  test("a list is separated by commas as a flag and a variable, and an array as an option", () => {
    const read = [
      resolveConfig({ allowedHosts: ["chat.example.org", "10.0.0.5"] }),
      resolveConfig({}, { COLLOQUY_ALLOWED_HOSTS: "chat.example.org,10.0.0.5" }),
      resolveConfig({}, {}, { allowedHosts: "Chat.Example.org, 10.0.0.5" }),
    ];
    for (const { allowedHosts } of read) expect(allowedHosts).toEqual(["chat.example.org", "10.0.0.5"]);
    for (const text of ["", ",", "a,,b", "https://a", "a:4000", "*"])
      expect(refusal({}, { COLLOQUY_ALLOWED_HOSTS: text }).join()).toMatch(
        /^allowedHosts: COLLOQUY_ALLOWED_HOSTS is .+, not host names or addresses without port, separated by commas \(/,
      );
  });

  test("what does not begin with COLLOQUY_ is nobody's business", () => {
    expect(resolveConfig({}, { PORT: "1", HOST: "x", PATH: "/bin", NODE_ENV: "production" })).toEqual(
      resolveConfig({}),
    );
  });
});

describe("refusals", () => {
  test.each<[string, unknown, string]>([
    ["a wrong type", { port: "4000" }, 'port: is "4000", not a whole number from 0 to 65535'],
    ["NaN", { leaseTtlMs: Number.NaN }, "leaseTtlMs: is NaN, not a whole number of ms from 1000 to 60000"],
    ["a negative number", { ackDelayMs: -1 }, "ackDelayMs: is -1, not a whole number of ms from 0 to 10000"],
    ["a fraction", { shards: 1.5 }, "shards: is 1.5, not a whole number from 1 to 256"],
    ["too many", { shards: 257 }, "shards: is 257, not a whole number from 1 to 256"],
    ["null", { host: null }, "host: is null, not a host name or IP address without port"],
    ["an object", { host: {} }, "host: is an object, not a host name"],
    [
      "a host with a port",
      { host: "localhost:80" },
      'host: is "localhost:80", not a host name or IP address without port',
    ],
    ["a namespace that moves the hash tag", { namespace: "a{b" }, 'namespace: is "a{b", not 1 to 64 of A-Z'],
    [
      "an unknown durability",
      { durability: "often" },
      'durability: is "often", not one of always, everysec, none, assumed',
    ],
    ["another protocol", { redis: "http://localhost" }, 'redis: is "http://localhost", not redis://host:port'],
    ["no host", { redis: "redis://" }, 'redis: is "redis://", not redis://host:port'],
    ["an empty data folder", { dataDir: "" }, "dataDir: is empty, not the path of a folder"],
    ["all of the memory", { redisMemoryRatioMax: 1 }, "redisMemoryRatioMax: is 1, not a number from 0.1 to 0.95"],
    ["a short token", { adminToken: "abc" }, "adminToken: is a text of 3 bytes, not a token of at least 32 bytes"],
  ])("%s is refused with key, value and what it should be", (_, options, line) => {
    const [first, ...rest] = refusal(options);
    expect(rest).toEqual([]);
    expect(first).toContain(line);
    expect(first).toMatch(/\(.+\)$/);
    expect(first).not.toContain("\n");
  });

  test("an unknown key is refused, and the nearest one named", () => {
    expect(refusal({ prot: 1 })).toEqual(["prot: is not an option (did you mean port?)"]);
    expect(refusal({ leaseTTLms: 1 })).toEqual(["leaseTTLms: is not an option (did you mean leaseTtlMs?)"]);
    expect(refusal({ chanels: [] })).toEqual(["chanels: is not an option (did you mean channels?)"]);
    expect(refusal({ wxyz: 1 })).toEqual(["wxyz: is not an option (remove it)"]);
    expect(refusal(JSON.parse('{"__proto__":1}'))).toEqual(["__proto__: is not an option (remove it)"]);
    expect(refusal({ constructor: 1, toString: 2 })).toHaveLength(2);
  });

  test("the order's numbers are numbers as flag and variable, and absent if not given", () => {
    const flags = { order: "contiguous", gapTimeoutMs: "250", firstSequence: "0" };
    expect(resolveConfig({}, { COLLOQUY_MAX_HELD: "9", COLLOQUY_SETTLE_MS: "0" }, flags)).toMatchObject({
      order: "contiguous",
      gapTimeoutMs: 250,
      settleMs: 0,
      maxHeld: 9,
      firstSequence: 0,
    });
    const { gapTimeoutMs, settleMs, maxHeld, firstSequence } = resolveConfig({});
    expect([gapTimeoutMs, settleMs, maxHeld, firstSequence]).toEqual([undefined, undefined, undefined, undefined]);
    expect(refusal({}, { COLLOQUY_MAX_HELD: "0", COLLOQUY_SETTLE_MS: "1s" })).toEqual([
      'settleMs: COLLOQUY_SETTLE_MS is "1s", not a whole number of ms from 0 to 604800000 (how long lower numbers are waited for: contiguous, at first, 500 if not set; monotonic, always, 0)',
      "maxHeld: COLLOQUY_MAX_HELD is 0, not a whole number from 1 to 100000 (order contiguous and monotonic: messages held back at most; 64 if not set)",
    ]);
  });

  test("a rate may be a fraction; what is no rate is refused", () => {
    expect(resolveConfig({}, { COLLOQUY_DELIVERY_RATE_PER_SECOND: "0.5" }).deliveryRatePerSecond).toBe(0.5);
    expect(resolveConfig({}, {}, { deliveryRatePerSecond: "30" }).deliveryRatePerSecond).toBe(30);
    for (const rate of ["0", "-1", "1e3", "fast", "1000001"])
      expect(refusal({}, { COLLOQUY_DELIVERY_RATE_PER_SECOND: rate })[0]).toMatch(
        / not a number from 0\.001 to 1000000 /,
      );
  });

  test("settings of the http channel are refused as options, with the place where they go", () => {
    expect(refusal({ settleMs: 5 })).toEqual([
      "settleMs: is an option of the http channel (channels: [httpChannel({ settleMs })])",
    ]);
    expect(refusal({ httpSecret: "0123456789abcdef" })).toEqual([
      "httpSecret: is an option of the http channel (channels: [httpChannel({ secret })])",
    ]);
    expect(refusal({ deliveryBurst: 5 })).toEqual([
      "deliveryBurst: is an option of the http channel (channels: [httpChannel({ account: { burst } })])",
    ]);
  });

  test("a misspelt variable is not silent", () => {
    expect(refusal({}, { COLLOQUY_PROT: "1" })).toEqual([
      "COLLOQUY_PROT: is not a setting (did you mean COLLOQUY_PORT?)",
    ]);
    expect(refusal({}, { COLLOQUY_REDIS: "x" })).toEqual([
      "COLLOQUY_REDIS: is not a setting (did you mean REDIS_URL?)",
    ]);
    expect(refusal({}, { COLLOQUY_: "x" })).toEqual(["COLLOQUY_: is not a setting (remove it)"]);
  });

  test("variables of the project's tests and of Kubernetes are no settings", () => {
    const environment = {
      COLLOQUY_COUNTS_FILE: "x",
      COLLOQUY_TEST_SEED: "1",
      COLLOQUY_SERVICE_HOST: "10.0.0.1",
      COLLOQUY_SERVICE_PORT: "80",
      COLLOQUY_PORT_80_TCP_ADDR: "10.0.0.1",
    };
    expect(resolveConfig({}, environment)).toEqual(resolveConfig({}));
    expect(refusal({}, { COLLOQUY_PORT: "tcp://10.0.0.1:80" })[0]).toContain("enableServiceLinks: false");
  });

  test.each(["", " ", "abc", "0x10", "1e3", "4000 ", "4,000", "+1"])("the text %j is no number", (text) => {
    expect(refusal({}, { COLLOQUY_PORT: text })[0]).toMatch(/^port: COLLOQUY_PORT is .+, not a whole number/);
    expect(refusal({}, {}, { port: text })[0]).toMatch(/^port: --port is .+, not a whole number/);
  });

  test("an empty variable is refused, so that a secret that failed to arrive opens nothing", () => {
    expect(refusal({}, { COLLOQUY_HTTP_SECRET: "" })[0]).toContain("httpSecret: COLLOQUY_HTTP_SECRET is empty");
    expect(refusal({}, { REDIS_URL: "" })[0]).toContain("redis: REDIS_URL is empty");
  });

  test("an order that is none is refused with those that are", () => {
    expect(refusal({}, {}, { order: "sorted" })[0]).toBe(
      'order: --order is "sorted", not one of arrival, contiguous, monotonic (what decides the order of a conversation\'s messages; default arrival)',
    );
  });

  test("several problems are all told, and the error is still one ConfigError", () => {
    const lines = refusal({ port: -1, prot: 1 }, { COLLOQUY_SHARDS: "0", COLLOQUY_X: "1" });
    expect(lines.map((line) => line.slice(0, line.indexOf(":")))).toEqual(["prot", "COLLOQUY_X", "port", "shards"]);
    try {
      resolveConfig({ port: -1, shards: 0 });
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigProblemsError);
      expect(error).toMatchObject({ code: "ERR_CONFIG", key: "port", name: "ConfigProblemsError" });
      expect((error as Error).message.split("\n")).toHaveLength(2);
    }
  });

  test("no secret and no password ever stands in a refusal", () => {
    const lines = [
      ...refusal({}, { COLLOQUY_HTTP_SECRET: "canary", COLLOQUY_ADMIN_TOKEN: "canary" }),
      ...refusal({}, { REDIS_URL: "rediz://user:canary@host/0?password=canary" }),
      ...refusal({}, {}, { deliverTo: "https://user:canary@host/?token=canary" }),
    ];
    expect(lines).toHaveLength(4);
    expect(lines.join()).not.toContain("canary");
  });
});

describe("bounds that must fit into each other", () => {
  test.each<[string, ConfigOptions, string]>([
    ["entryBytesMax", { messageBytesMax: 1_048_576 }, "less than messageBytesMax + 4096"],
    ["requestBytesMax", { requestBytesMax: 100_000 }, "less than messageBytesMax (262144)"],
    ["admissionBytesMax", { admissionBytesMax: 1_000_000 }, "less than 4 * requestBytesMax (4194304)"],
    ["readAheadBytesMax", { readAheadBytesMax: 1_000_000 }, "less than entryBytesMax"],
    ["inboxBytesMax", { inboxBytesMax: 1_000_000 }, "less than entryBytesMax"],
    ["turnReplyBytesMax", { turnReplyBytesMax: 60_000 }, "less than replyBytesMax"],
    [
      "commitBytesMax",
      { commitBytesMax: 2_000_000 },
      "less than stateBytesMax + journalBytesMax + messageBytesMax + the larger of",
    ],
    ["commitBytesMax", { journalBytesMax: 2_097_152 }, "less than stateBytesMax + journalBytesMax"],
    ["mailboxBytesMax", { mailboxBytesMax: 262_144 }, "less than messageBytesMax + 4096"],
    ["waitingBytesMax", { waitingBytesMax: 262_144 }, "less than messageBytesMax + 4096"],
    ["laneBacklogMax", { laneBacklogMax: 99 }, "less than repliesMax"],
    ["laneBacklogBytesMax", { laneBacklogBytesMax: 1_000_000 }, "less than turnReplyBytesMax"],
    ["outboxBytesMax", { outboxBytesMax: 4_000_000 }, "less than commitBytesMax"],
    ["residentBytesMax", { stateBytesMax: 2_097_152, residentBytesMax: 1_048_576 }, "less than stateBytesMax"],
    ["connectionTimeoutMs", { connectionTimeoutMs: 20_000 }, "less than 2 x eventStreamHeartbeatMs (30000)"],
    ["connectionTimeoutMs", { admitTimeoutMs: 90_000 }, "less than admitTimeoutMs (90000)"],
    ["connectionsMax", { connectionsMax: 500 }, "less than eventStreamsMax + 1 (1001)"],
    ["leaseTtlMs", { leaseTtlMs: 1_000, ackDelayMs: 400 }, "less than 3 x ackDelayMs (1200)"],
  ])("%s is refused when it cannot hold what must go into it", (key, options, reason) => {
    const lines = refusal(options).filter((line) => line.startsWith(`${key}: `));
    expect(lines.join()).toContain(reason);
    expect(lines.join()).toContain("raise the first or lower the others");
  });

  test("any options are accepted or refused, never anything else", () => {
    const value = fc.oneof(
      fc.integer(),
      fc.string(),
      fc.constant(undefined),
      fc.constant(null),
      fc.double(),
      fc.object(),
    );
    const options = fc.dictionary(fc.oneof(fc.constantFrom(...CONFIG_KEYS), fc.string()), value);
    fc.assert(
      fc.property(options, (given) => {
        try {
          resolveConfig(given as ConfigOptions);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
    );
  });
});

test("a URL is shown without user, password and query", () => {
  expect(withoutPassword("redis://u:p@h:1/2")).toBe("redis://***@h:1/2");
  expect(withoutPassword("redis://:p@ss/w@h:1?password=x")).toBe("redis://***@h:1?***");
  expect(withoutPassword("redis://h:1/2")).toBe("redis://h:1/2");
  expect(withoutPassword("/run/redis.sock")).toBe("/run/redis.sock");
});

test("the nearest word is a start, a swap or few letters away, or none", () => {
  const words = ["port", "host", "shards", "leaseTtlMs"];
  expect(nearest("prot", words)).toBe("port");
  expect(nearest("shrads", words)).toBe("shards");
  expect(nearest("lease", words)).toBe("leaseTtlMs");
  expect(nearest("banana", words)).toBeUndefined();
  expect(nearest("x".repeat(100_000), words)).toBeUndefined();
});
