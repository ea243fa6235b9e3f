import { describe, expect, test } from "vitest";
import { checkSafety, type Durability } from "../../src/store/safety.ts";
import type { StoreFacts } from "../../src/store/shard-store.ts";

type Config = NonNullable<StoreFacts["config"]>;
const SAFE: Config = {
  appendonly: true,
  appendfsync: "always",
  noAppendfsyncOnRewrite: false,
  maxmemoryPolicy: "noeviction",
};
const facts = (config: Partial<Config> | null, more: Partial<StoreFacts> = {}): StoreFacts => ({
  version: "7.0.15",
  role: "master",
  config: config && { ...SAFE, ...config },
  usedMemoryBytes: 0,
  maxMemoryBytes: 0,
  ...more,
});

test.each<Durability>(["always", "everysec", "none", "assumed"])("safe settings are safe for %s", (durability) => {
  expect(checkSafety(facts({}), durability)).toEqual([]);
});

describe.each<[string, StoreFacts, Durability, string[]]>([
  ["an old server", facts({}, { version: "6.2.14" }), "none", ["7.0 or later"]],
  ["a server without a version", facts({}, { version: "unknown" }), "none", ["7.0 or later"]],
  ["a much newer server", facts({}, { version: "10.1.0" }), "always", []],
  ["a replica", facts({}, { role: "replica" }), "assumed", ["master"]],
  ["no append-only file", facts({ appendonly: false }), "everysec", ["appendonly yes"]],
  ["no append-only file", facts({ appendonly: false }), "none", []],
  ["everysec", facts({ appendfsync: "everysec" }), "always", ["--durability everysec"]],
  ["everysec", facts({ appendfsync: "everysec" }), "everysec", []],
  ["no fsync", facts({ appendfsync: "no" }), "everysec", ["appendfsync everysec"]],
  ["no fsync", facts({ appendfsync: "no" }), "none", []],
  ["everysec", facts({ appendfsync: "everysec" }), "assumed", ["--durability everysec"]],
  ["no fsync while rewriting", facts({ noAppendfsyncOnRewrite: true }), "always", ["no-appendfsync-on-rewrite no"]],
  ["eviction", facts({ maxmemoryPolicy: "allkeys-lru" }), "none", ["noeviction"]],
  ["forbidden CONFIG", facts(null), "always", ["--durability assumed"]],
  ["forbidden CONFIG", facts(null), "none", ["--durability assumed"]],
  ["forbidden CONFIG", facts(null), "assumed", []],
  [
    "all at once",
    facts({ appendfsync: "no", noAppendfsyncOnRewrite: true, maxmemoryPolicy: "volatile-ttl" }, { version: "5.0.0" }),
    "always",
    ["7.0", "noeviction", "appendfsync always", "no-appendfsync-on-rewrite no"],
  ],
])("%s", (_, server, durability, expected) => {
  test(`for ${durability}: ${expected.length === 0 ? "no problem" : expected.join(", ")}`, () => {
    const problems = checkSafety(server, durability);
    expect(problems).toHaveLength(expected.length);
    for (const [i, part] of expected.entries()) {
      expect(problems[i]).toContain(part);
      expect(problems[i]).not.toContain("\n");
    }
  });
});
