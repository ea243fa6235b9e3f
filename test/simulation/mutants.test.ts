// The simulator finds bugs: with a port that breaks its contract the promise breaks, and the judge says so within a few seeds.

import { expect, test } from "vitest";
import type { Channel } from "../../src/channels/channel.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";
import type { Commit, ShardStore } from "../../src/store/shard-store.ts";
import { judge, type Rule } from "./judge.ts";
import { runWorld, type WorldOptions } from "./world.ts";

const SEEDS_MAX = 60;

/** The same shard with other ways to do some things. */
const shardWith = (shard: ShardStore, changed: Partial<ShardStore>): ShardStore => ({
  shard: shard.shard,
  owner: () => shard.owner(),
  acquire: (request) => shard.acquire(request),
  renew: (request) => shard.renew(request),
  release: (request) => shard.release(request),
  append: (entry, max) => shard.append(entry, max),
  readInbox: (request) => shard.readInbox(request),
  readOutbox: (request) => shard.readOutbox(request),
  load: (keys) => shard.load(keys),
  readAcks: () => shard.readAcks(),
  readLane: (key) => shard.readLane(key),
  readLanes: () => shard.readLanes(),
  commit: (commit) => shard.commit(commit),
  readTranscript: (key, request) => shard.readTranscript(key, request),
  readDeadLetters: (request) => shard.readDeadLetters(request),
  close: () => shard.close(),
  ...changed,
});

const committing = (change: (commit: Commit) => Commit): WorldOptions => ({
  wrapShard: (shard) => shardWith(shard, { commit: (commit) => shard.commit(change(commit)) }),
});

const mutants: readonly [what: string, rules: readonly Rule[], options: WorldOptions][] = [
  [
    "commits are not fenced (P6)",
    ["fence"],
    {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: async (commit) => {
            const reply = await shard.commit({ ...commit, epoch: data.epoch, n: data.n + 1 });
            return reply.kind === "applied" ? { ...reply, n: commit.n } : reply;
          },
        }),
    },
  ],
  [
    "a commit that comes again is applied again (P4, P5)",
    ["delivery", "fence", "stuck", "transcript"],
    {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: (commit) => {
            if (data.epoch === commit.epoch && data.n === commit.n) data.n -= 1;
            return shard.commit(commit);
          },
        }),
    },
  ],
  [
    "an append is confirmed and not kept (P1)",
    ["lost", "order"], // what came again by chance came too late
    {
      wrapShard: (shard) => {
        let count = 0;
        return shardWith(shard, {
          append: async (entry, max) => {
            count += 1;
            if (count % 20 !== 0) return shard.append(entry, max);
            return { kind: "appended", id: { ms: 1, seq: count }, inboxBytes: 0 };
          },
        });
      },
    },
  ],
  [
    "inbox entries go before their messages are decided (P1)",
    ["lost", "stuck"],
    {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          readInbox: async (request) => {
            const entries = await shard.readInbox(request);
            data.inbox.delete(entries.map(({ id }) => id));
            return entries;
          },
        }),
    },
  ],
  [
    "ids are not kept (P2)",
    ["doubled"],
    committing((commit) => ({
      ...commit,
      conversations: commit.conversations.map((write) => ({ ...write, ids: null, idsTtlMs: null })),
    })),
  ],
  [
    "a record is stored beside its commit, not in it (P5)",
    ["state"],
    {
      wrapShard: (shard, data) => {
        const held = new Map<ConversationKey, Uint8Array>();
        return shardWith(shard, {
          commit: async (commit) => {
            const before = new Map(data.records);
            const reply = await shard.commit(commit);
            for (const { key } of commit.conversations) {
              const late = held.get(key);
              held.set(key, data.records.get(key)!);
              if (late !== undefined) data.records.set(key, late);
              else if (before.has(key)) data.records.set(key, before.get(key)!);
            }
            return reply;
          },
        });
      },
    },
  ],
  [
    "replies are left out of the commit (P4)",
    ["stuck", "delivery", "alarm"],
    committing((commit) => ({ ...commit, outbox: null })),
  ],
  [
    "acknowledgements go before the replies do (P4)",
    ["stuck", "delivery"],
    {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: async (commit) => {
            const reply = await shard.commit(commit);
            if (reply.kind === "applied" && reply.outboxId !== null) data.outbox.delete([reply.outboxId]);
            return reply;
          },
        }),
    },
  ],
  [
    "every attempt has a key of its own (P4)",
    ["bytes"],
    {
      wrapChannel: (channel: Channel) => {
        let attempts = 0;
        return {
          ...channel,
          send: (delivery, signal) => {
            attempts += 1;
            return channel.send({ ...delivery, idempotencyKey: `${delivery.idempotencyKey}.${attempts}` }, signal);
          },
        };
      },
    },
  ],
  [
    "what was refused for now counts as delivered (P4)",
    ["stuck", "delivery"],
    {
      wrapChannel: (channel: Channel) => ({
        ...channel,
        send: async (delivery, signal) => {
          const outcome = await channel.send(delivery, signal);
          return outcome.kind === "retryable" ? { kind: "delivered" } : outcome;
        },
      }),
    },
  ],
];

test.each(mutants)("%s is found out", { timeout: 120_000 }, async (_what, rules, options) => {
  for (let seed = 1; seed <= SEEDS_MAX; seed += 1) {
    const found = judge((await runWorld(seed, options)).history).map(({ rule }) => rule);
    if (found.length === 0) continue;
    expect(
      found.some((rule) => rules.includes(rule)),
      `found as ${[...new Set(found)].join(", ")}`,
    ).toBe(true);
    return;
  }
  expect.unreachable(`not found within ${SEEDS_MAX} seeds`);
});
