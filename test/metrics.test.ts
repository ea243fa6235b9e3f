import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AccountView } from "../actors/channel-accounts.ts";
import type { ShardView } from "../src/admin/inspector.ts";
import {
  createMetrics,
  DURATION_BUCKETS,
  Durations,
  GAUGES,
  type GaugeValues,
  METRICS,
  newCounters,
} from "../src/metrics.ts";
import { nodeGauges, shardGauges } from "../src/node-gauges.ts";

const BOUNDS = { durability: "always", inboxBytesMax: 1_000, deadLettersMax: 10 } as const;

/** Names and values of the samples in a text. */
function samples(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

function shard(over: Partial<ShardView> = {}): ShardView {
  return {
    shard: 0,
    lease: { kind: "owned" },
    stored: {
      node: "n1",
      epoch: 3,
      n: 7,
      leaseRemainingMs: 5_000,
      clean: false,
      inboxBytes: 100,
      deadLetters: { count: 2, bytes: 300 },
      uncleanEnds: 0,
    },
    memory: {
      commit: 7,
      uncommitted: 1,
      conversations: { idle: 1, active: 2, held: 3, halted: 4, quarantined: 5 },
      open: { active: 1, held: 2, halted: 3, quarantined: 4 },
      lanes: { flowing: 6, retrying: 7, halted: 8, closed: 9 },
      readAheadBytes: 10,
      outboxBytes: 11,
    },
    ...over,
  };
}

test("metrics give every count as it stands when they are read, in Prometheus' text format", async () => {
  const counters = newCounters();
  let now: GaugeValues = { ready: 1 };
  const metrics = createMetrics(counters, () => now);
  counters.turns = 5;
  expect(await metrics.text()).toContain("\ncolloquy_turns_total 5\n");
  counters.turns += 2;
  counters.duplicates += 1;
  const text = await metrics.text();
  expect(text).toContain("\ncolloquy_turns_total 7\n");
  expect(text).toContain("\ncolloquy_messages_duplicate_total 1\n");
  expect(text).toContain("\ncolloquy_ready 1\n");
  now = { lanes: { halted: 3 }, info: [{ labels: { version: "1", durability: "none" }, value: 1 }] };
  const later = await metrics.text();
  expect(later).toContain('\ncolloquy_lanes{state="halted"} 3\n');
  expect(later).toContain('\ncolloquy_build_info{version="1",durability="none"} 1\n');
  expect(samples(later).has("colloquy_ready")).toBe(false); // not as it was
  expect(metrics.contentType).toContain("text/plain");
});

test("T3: each metric has its help and type once, and a name by the conventions", async () => {
  const text = await createMetrics(newCounters(), () => ({})).text();
  for (const { name, type, unit, help } of METRICS) {
    expect(text.split(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`)).toHaveLength(2);
    expect(name).toMatch(/^(colloquy|process)_[a-z]+(_[a-z]+)*$/);
    if (unit !== "") expect(name).toMatch(new RegExp(`_${unit}(_total)?$`));
    expect(name.endsWith("_total")).toBe(type === "counter");
  }
  expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
  expect(text.match(/^# TYPE /gm)).toHaveLength(METRICS.length);
});

const BLOCKED: AccountView = {
  name: "sms",
  breaker: "half-open",
  reopensInMs: null,
  inFlight: 1,
  waiting: 9_999,
  places: 1,
  concurrency: 128,
  openings: 3,
  ended: { delivered: 7, retryable: 20, ambiguous: 2, terminal: 0, gone: 1, answered: 4 },
};

describe("durations", () => {
  test("are counted in every bucket that they fit", async () => {
    const counters = newCounters();
    for (const ms of [0, 1, 2, 40, 31_000]) counters.timings.commit.observe(ms);
    const found = samples(await createMetrics(counters, () => ({})).text());
    const bucket = (le: string): number | undefined => found.get(`colloquy_commit_duration_seconds_bucket{le="${le}"}`);
    expect([bucket("0.001"), bucket("0.0025"), bucket("0.05"), bucket("30"), bucket("+Inf")]).toEqual([2, 3, 4, 4, 5]);
    expect(found.get("colloquy_commit_duration_seconds_sum")).toBeCloseTo(31.043);
    expect(found.get("colloquy_commit_duration_seconds_count")).toBe(5);
  });

  test("any durations: buckets rise to the count, and each bound has those that are not over it", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -10, max: 100_000, noNaN: true })), (all) => {
        const durations = new Durations();
        for (const ms of all) durations.observe(ms);
        expect(durations.count).toBe(all.length);
        expect(durations.cumulative()).toEqual(
          DURATION_BUCKETS.map((seconds) => [seconds, all.filter((ms) => ms <= seconds * 1_000).length]),
        );
        expect(durations.sumSeconds).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe("gauges of a node", () => {
  test("sum the shards that it owns, and count all by state", () => {
    const standby = shard({ shard: 2, lease: { kind: "standby", owner: "n2" }, memory: null });
    expect(shardGauges([shard(), shard({ shard: 1 }), standby], BOUNDS)).toEqual({
      shards: { starting: 0, standby: 1, opening: 0, owned: 2, closing: 0, halted: 0 },
      residents: { idle: 2, active: 4, held: 6, halted: 8, quarantined: 10 },
      open: { active: 2, held: 4, halted: 6, quarantined: 8 },
      lanes: { flowing: 12, retrying: 14, halted: 16, closed: 18 },
      uncommitted: 2,
      readAheadBytes: 20,
      outboxBytes: 22,
      inboxBytes: 200,
      inboxBytesMax: 2_000,
      deadLettersStored: 4,
      deadLettersMax: 20,
    });
  });

  test("leave out what is stored while one shard's is not known", () => {
    const gauges = shardGauges([shard(), shard({ shard: 1, stored: null })], BOUNDS);
    expect(gauges).not.toHaveProperty("inboxBytes");
    expect(gauges).not.toHaveProperty("deadLettersStored");
    expect(gauges.readAheadBytes).toBe(20);
  });

  test("leave out what is open while one shard's is not counted", () => {
    const uncounted = { ...shard().memory!, open: null };
    expect(shardGauges([shard(), shard({ shard: 1, memory: uncounted })], BOUNDS)).not.toHaveProperty("open");
  });

  test("every gauge of the table is given by a node that works, and only those that can be by one that starts", async () => {
    const facts = {
      version: "7.0.15",
      role: "master",
      config: null,
      usedMemoryBytes: 5,
      maxMemoryBytes: 50,
    } as const;
    const sources = { version: "1.2.3", config: BOUNDS, isReady: () => true };
    const working = nodeGauges({
      ...sources,
      redis: () => ({ isUp: true, facts }),
      accounts: () => [BLOCKED],
      shards: async () => [shard()],
    });
    const now = await working();
    expect(Object.keys(now).sort()).toEqual(Object.keys(GAUGES).sort());
    expect(now).toMatchObject({
      accountAttempts: { sms: 1 },
      accountWaiting: { sms: 9_999 },
      accountBlocked: { sms: 1 },
      accountOpenings: { sms: 3 },
    });
    const text = await createMetrics(newCounters(), () => now).text();
    for (const [outcome, count] of Object.entries(BLOCKED.ended))
      expect(text).toContain(`\ncolloquy_account_outcomes_total{channel="sms",outcome="${outcome}"} ${count}\n`);
    const starting = nodeGauges({
      ...sources,
      isReady: () => false,
      redis: () => ({ isUp: false, facts: null }),
      accounts: () => [],
      shards: async () => null,
    });
    const gauges = await starting();
    expect(gauges).toMatchObject({ ready: 0, redisUp: 0 });
    expect(Object.keys(gauges).sort()).toEqual(
      ["info", "ready", "redisUp", "startTime", "processCpu", "processMemory", "eventLoop"].sort(),
    );
    expect(gauges.processMemory).toBeGreaterThan(10_000_000);
  });
});
