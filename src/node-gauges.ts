// Node gauges: how a node stands, as numbers for /metrics. Summed over the shards that it owns, so that nodes can be added up.

import type { AccountView } from "../actors/channel-accounts.ts";
import type { ShardView } from "./admin/inspector.ts";
import { OPEN_STATES } from "./admin/open-counts.ts";
import { CONVERSATION_STATES } from "./codec/open-codec.ts";
import type { Config } from "./config.ts";
import type { GaugeValues } from "./metrics.ts";
import type { StoreFacts } from "./store/shard-store.ts";

export interface GaugeSources {
  readonly version: string;
  readonly config: Pick<Config, "durability" | "inboxBytesMax" | "deadLettersMax">;
  readonly isReady: () => boolean;
  readonly redis: () => { readonly isUp: boolean; readonly facts: StoreFacts | null };
  readonly accounts: () => readonly AccountView[];
  /** null before they are known. */
  readonly shards: () => Promise<readonly ShardView[] | null>;
}

const SHARD_STATES = ["starting", "standby", "opening", "owned", "closing", "halted"];
const LANE_STATES = ["flowing", "retrying", "halted", "closed"] as const;

export function nodeGauges(sources: GaugeSources): () => Promise<GaugeValues> {
  const { version, config } = sources;
  let before = performance.eventLoopUtilization();
  return async () => {
    const shards = await sources.shards();
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    const cpu = process.cpuUsage();
    return {
      info: [{ labels: { version, durability: config.durability }, value: 1 }],
      ready: Number(sources.isReady()),
      ...redisGauges(sources.redis()),
      ...(shards !== null && shardGauges(shards, config)),
      ...accountGauges(sources.accounts()),
      startTime: performance.timeOrigin / 1_000,
      processCpu: (cpu.user + cpu.system) / 1_000_000,
      processMemory: process.memoryUsage.rss(),
      eventLoop: utilization,
    };
  };
}

function redisGauges({ isUp, facts }: ReturnType<GaugeSources["redis"]>): GaugeValues {
  if (!isUp || facts === null) return { redisUp: Number(isUp) };
  return {
    redisUp: 1,
    redisMemoryBytes: facts.usedMemoryBytes,
    ...(facts.maxMemoryBytes > 0 && { redisMemoryBytesMax: facts.maxMemoryBytes }),
  };
}

function accountGauges(accounts: readonly AccountView[]): GaugeValues {
  if (accounts.length === 0) return {};
  const byChannel = (of: (account: AccountView) => number): Record<string, number> =>
    Object.fromEntries(accounts.map((account) => [account.name, of(account)]));
  return {
    accountAttempts: byChannel(({ inFlight }) => inFlight),
    accountWaiting: byChannel(({ waiting }) => waiting),
    accountBlocked: byChannel(({ breaker }) => Number(breaker !== "closed")),
    accountOpenings: byChannel(({ openings }) => openings),
    accountOutcomes: accounts.flatMap(({ name, ended }) =>
      Object.entries(ended).map(([outcome, value]) => ({ labels: { channel: name, outcome }, value })),
    ),
  };
}

/** What is stored is left out while it is not known of every shard: a part of a sum looks like a fall. */
export function shardGauges(shards: readonly ShardView[], config: GaugeSources["config"]): GaugeValues {
  const owned = shards.filter(({ memory }) => memory !== null);
  const memory = owned.map((shard) => shard.memory!);
  const stored = owned.flatMap((shard) => shard.stored ?? []);
  const open = memory.flatMap((shard) => shard.open ?? []);
  return {
    shards: counted(SHARD_STATES, (state) => shards.filter(({ lease }) => lease.kind === state).length),
    residents: counted(CONVERSATION_STATES, (state) => total(memory.map(({ conversations }) => conversations[state]))),
    ...(open.length === owned.length && {
      open: counted(OPEN_STATES, (state) => total(open.map((counts) => counts[state]))),
    }),
    lanes: counted(LANE_STATES, (state) => total(memory.map(({ lanes }) => lanes[state]))),
    uncommitted: total(memory.map(({ uncommitted }) => uncommitted)),
    readAheadBytes: total(memory.map(({ readAheadBytes }) => readAheadBytes)),
    outboxBytes: total(memory.map(({ outboxBytes }) => outboxBytes)),
    inboxBytesMax: owned.length * config.inboxBytesMax,
    deadLettersMax: owned.length * config.deadLettersMax,
    ...(stored.length === owned.length && {
      inboxBytes: total(stored.map(({ inboxBytes }) => inboxBytes)),
      deadLettersStored: total(stored.map(({ deadLetters }) => deadLetters.count)),
    }),
  };
}

const counted = <State extends string>(
  states: readonly State[],
  of: (state: State) => number,
): Record<string, number> => Object.fromEntries(states.map((state) => [state, of(state)]));

const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
