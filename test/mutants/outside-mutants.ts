// Mutants of what else the runtime touches: channels, wake-ups, time and chance. And what it has to bear from them: perturbations
// that a careful design survives, so that the judge finding nothing there is a result as well.

import type { Channel } from "../../src/channels/channel.ts";
import type { Delivery } from "../../src/domain/message.ts";
import type { Environment } from "../../src/environment.ts";
import type { WorldOptions } from "../simulation/world.ts";
import type { WorldMutant } from "./mutant.ts";
import { eachNth, shardWith } from "./wrapped-ports.ts";

const sending = (send: (channel: Channel) => Channel["send"]): WorldOptions => ({
  wrapChannel: (channel) => ({ ...channel, send: send(channel) }),
});

const delivering = (change: (delivery: Delivery, attempts: number) => Delivery): WorldOptions =>
  sending((channel) => {
    let attempts = 0;
    return (delivery, signal) => {
      attempts += 1;
      return channel.send(change(delivery, attempts), signal);
    };
  });

/** An attempt that ended as `kind` is told as if it had been delivered. */
const glossingOver = (kind: string): WorldOptions =>
  sending((channel) => async (delivery, signal) => {
    const outcome = await channel.send(delivery, signal);
    return outcome.kind === kind ? { kind: "delivered" } : outcome;
  });

const environmentWith = (changed: (inner: Environment) => Partial<Environment>): WorldOptions => ({
  wrapEnvironment: (inner) => ({
    nowMs: () => inner.nowMs(),
    monotonicMs: () => inner.monotonicMs(),
    random: () => inner.random(),
    after: (delayMs, run) => inner.after(delayMs, run),
    soon: (run) => inner.soon(run),
    ...changed(inner),
  }),
});

const channels: readonly Omit<WorldMutant, "port">[] = [
  {
    name: "every attempt has a key of its own",
    breaks: "P4, L2",
    rules: ["bytes"],
    options: delivering((delivery, attempts) => ({
      ...delivery,
      idempotencyKey: `${delivery.idempotencyKey}.${attempts}`,
    })),
  },
  {
    name: "every attempt has bytes of its own",
    breaks: "B14: bytes made at send time",
    rules: ["bytes", "reply"], // a reply that is seen once alone is none that a turn made
    options: delivering((delivery, attempts) => {
      const body = { ...(JSON.parse(Buffer.from(delivery.body).toString()) as object), attempts };
      return { ...delivery, body: Buffer.from(JSON.stringify(body)) };
    }),
  },
  {
    name: "a send carries the body of the one before",
    breaks: "P4: right key, wrong reply",
    rules: ["reply"],
    options: sending((channel) => {
      let before: Uint8Array | null = null;
      return (delivery, signal) => {
        const body = before ?? delivery.body;
        before = delivery.body;
        return channel.send({ ...delivery, body }, signal);
      };
    }),
  },
  {
    name: "the key does not name the conversation",
    breaks: "B16: two conversations share keys",
    rules: ["bytes"],
    options: delivering((delivery) => ({ ...delivery, idempotencyKey: String(delivery.outSeq) })),
  },
  {
    name: "a reply leaves when it is rendered, before its commit",
    breaks: "P4, R4",
    rules: ["early"],
    options: {
      wrapChannel: (channel) => ({
        ...channel,
        render: (input) => {
          const body = channel.render(input) as Uint8Array;
          const { to, born, outSeq } = input;
          const idempotencyKey = [to.bot, to.channel, to.conversation, `${born}.${outSeq}`].join("~");
          void channel.send({ to, born, outSeq, idempotencyKey, body }, new AbortController().signal);
          return body;
        },
      }),
    },
  },
  {
    name: "a send is told as delivered before it has arrived",
    breaks: "P4, L1: the next one overtakes it",
    rules: ["delivery", "stuck"],
    options: sending((channel) => (delivery, signal) => {
      void channel.send(delivery, signal);
      return Promise.resolve({ kind: "delivered" });
    }),
  },
  {
    name: "what was refused for now counts as delivered",
    breaks: "P4, L1",
    rules: ["stuck", "delivery"],
    options: glossingOver("retryable"),
  },
  {
    name: "what had no clear answer counts as delivered",
    breaks: "P4, L1",
    rules: ["stuck", "delivery"],
    options: glossingOver("ambiguous"),
  },
  {
    name: "what was refused for good counts as delivered",
    breaks: "B11, P1",
    rules: ["stuck", "delivery"],
    options: glossingOver("terminal"),
  },
  {
    name: "a channel never answers",
    breaks: "H5, L1: an attempt without an end",
    rules: ["stuck", "alarm"],
    options: sending((channel) => {
      const hangs = eachNth(15);
      return (delivery, signal) => (hangs() ? new Promise(() => undefined) : channel.send(delivery, signal));
    }),
  },
];

const wakeUps: readonly Omit<WorldMutant, "port">[] = [
  {
    name: "the queue throws when a wake-up is left",
    breaks: "the port WakeUps: its errors are delays",
    rules: ["alarm", "stuck"],
    options: {
      wrapWakeUps: (inner) => ({
        start: () => inner.start(),
        stop: () => inner.stop(),
        schedule: () => {
          throw new Error("the queue is full");
        },
      }),
    },
  },
  {
    name: "the queue throws when its worker starts",
    breaks: "the port WakeUps: its errors are delays",
    rules: ["alarm", "stuck"],
    options: {
      wrapWakeUps: (inner) => ({
        start: () => {
          throw new Error("the worker cannot start");
        },
        schedule: (key, delayMs) => inner.schedule(key, delayMs),
        stop: () => inner.stop(),
      }),
    },
  },
];

const environment: readonly Omit<WorldMutant, "port">[] = [
  {
    name: "a timer is lost now and then",
    breaks: "the port Environment: every wait ends",
    rules: ["stuck", "alarm"],
    options: environmentWith((inner) => {
      const loses = eachNth(40);
      return { after: (delayMs, run) => (loses() ? { cancel: () => undefined } : inner.after(delayMs, run)) };
    }),
  },
  {
    name: "a turn of the event loop is lost now and then",
    breaks: "the port Environment: what was put off comes",
    rules: ["stuck", "alarm"],
    options: environmentWith((inner) => {
      const loses = eachNth(60);
      return { soon: (run) => (loses() ? undefined : inner.soon(run)) };
    }),
  },
  {
    name: "the clock stands still",
    breaks: "the port Environment: what is due becomes due",
    rules: ["stuck", "alarm"],
    options: environmentWith((inner) => {
      const atMs = inner.monotonicMs();
      const wallMs = inner.nowMs();
      return { monotonicMs: () => atMs, nowMs: () => wallMs };
    }),
  },
];

export const outsideMutants: readonly WorldMutant[] = [
  ...channels.map((mutant) => ({ ...mutant, port: "channel" as const })),
  ...wakeUps.map((mutant) => ({ ...mutant, port: "wake-ups" as const })),
  ...environment.map((mutant) => ({ ...mutant, port: "environment" as const })),
];

/** Named by what keeps them harmless. */
export const borne: readonly (readonly [name: string, options: WorldOptions])[] = [
  [
    "every append is written twice: ids prove the second one",
    {
      wrapShard: (shard) =>
        shardWith(shard, {
          append: async (entry, max, options) => {
            const reply = await shard.append(entry, max, options);
            if (reply.kind === "appended") await shard.append(entry, max, options);
            return reply;
          },
        }),
    },
  ],
  [
    "every read of the inbox gives its first entry twice: the cursor is past it",
    {
      wrapShard: (shard) =>
        shardWith(shard, {
          readInbox: async (request) => {
            const entries = await shard.readInbox(request);
            return entries.flatMap((entry, i) => (i === 0 ? [entry, entry] : [entry]));
          },
        }),
    },
  ],
  [
    "every commit arrives twice: its number is known",
    {
      wrapShard: (shard) =>
        shardWith(shard, {
          commit: async (commit) => {
            await shard.commit(commit);
            return await shard.commit(commit);
          },
        }),
    },
  ],
  [
    "acquire does not look at the observed epoch: the fence stands all the same",
    {
      wrapShard: (shard, data) =>
        shardWith(shard, { acquire: (request) => shard.acquire({ ...request, observedEpoch: data.epoch }) }),
    },
  ],
  [
    "every send arrives twice: the key is the same",
    sending((channel) => async (delivery, signal) => {
      await channel.send(delivery, signal);
      return await channel.send(delivery, signal);
    }),
  ],
  [
    "no wake-up is ever kept: the sweep rings",
    { wrapWakeUps: (inner) => ({ start: () => inner.start(), schedule: () => undefined, stop: () => inner.stop() }) },
  ],
  [
    "every wake-up comes at once: the lane knows when it is due",
    {
      wrapWakeUps: (inner) => ({
        start: () => inner.start(),
        schedule: (key) => inner.schedule(key, 0),
        stop: () => inner.stop(),
      }),
    },
  ],
  ["all dice show the same", environmentWith(() => ({ random: () => 0.5 }))],
  [
    "the wall clock is of another year",
    environmentWith((inner) => ({ nowMs: () => inner.nowMs() - 365 * 24 * 3_600_000 })),
  ],
];
