// Mutants of the store: what a script, Redis or the way to it could do wrong, one thing at a time.

import { decodeWaiting, hashKeyOf } from "../../src/codec/inbox-codec.ts";
import { decodeLaneState, encodeLaneState } from "../../src/codec/lane-codec.ts";
import { decodeRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";
import type { EntryId } from "../../src/domain/position.ts";
import { SLOT_BYTES } from "../../src/domain/recent-ids.ts";
import type { RecordExtra } from "../../src/domain/record.ts";
import { timerMember } from "../../src/store/keys.ts";
import { type MemoryShard, MemoryStream } from "../../src/store/memory-store.ts";
import {
  type AppendOptions,
  type AsideWrite,
  type Commit,
  type CommitReply,
  type LaneListWrite,
  SCAN_START,
  type ShardStore,
  type StoredConversation,
} from "../../src/store/shard-store.ts";
import { SIMULATED_HASH_KEY } from "../../src/testing/simulated-process.ts";
import type { WorldMutant } from "./mutant.ts";
import { committing, eachNth, shardWith, storeWith, writing } from "./wrapped-ports.ts";

type StoreMutant = Omit<WorldMutant, "port">;

const ownership: readonly StoreMutant[] = [
  {
    name: "commits are not fenced",
    breaks: "P6, S2",
    rules: ["fence"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: async (commit) => {
            const reply = await shard.commit({ ...commit, epoch: data.epoch, n: data.n + 1 });
            return reply.kind === "applied" ? { ...reply, n: commit.n } : reply;
          },
        }),
    },
  },
  {
    name: "acquire does not raise the epoch",
    breaks: "P6, R2",
    rules: ["fence"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          acquire: async (request) => {
            const { epoch, n } = data;
            const reply = await shard.acquire(request);
            if (reply.kind !== "acquired" || epoch === 0) return reply;
            Object.assign(data, { epoch, n });
            return { ...reply, epoch };
          },
        }),
    },
  },
  {
    name: "acquire takes a shard whose lease lives",
    breaks: "H4, K2",
    rules: ["duel"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          owner: async () => ({ ...(await shard.owner()), leaseRemainingMs: 0 }),
          acquire: (request) => {
            data.leaseEndMs = 0;
            return shard.acquire(request);
          },
        }),
    },
  },
  {
    name: "a commit with a number that was passed over is applied",
    breaks: "R2: rewound is never said",
    rules: ["alarm", "lost", "state", "stuck"],
    options: forgetful((data, { n }) => {
      data.n = n - 1;
    }),
  },
  {
    name: "a confirmed commit is forgotten",
    breaks: "R2: Redis lost what it had confirmed",
    rules: ["alarm"],
    options: forgetful(() => undefined),
  },
];

/** Each 40th commit is confirmed and not kept; `before` each commit the store may cover it up. */
function forgetful(before: (data: MemoryShard, commit: Commit) => void): WorldMutant["options"] {
  return {
    wrapShard: (shard, data) => {
      const forgets = eachNth(40);
      return shardWith(shard, {
        commit: async (commit): Promise<CommitReply> => {
          if (data.epoch !== commit.epoch) return shard.commit(commit);
          if (commit.outbox === null && forgets()) return { kind: "applied", n: commit.n, outboxId: null };
          if (data.n !== commit.n) before(data, commit);
          return shard.commit(commit);
        },
      });
    },
  };
}

const inbox: readonly StoreMutant[] = [
  {
    name: "an append is confirmed and not kept",
    breaks: "P1, M1",
    rules: ["lost", "order"], // what came again by chance came too late
    options: {
      wrapShard: (shard) => {
        const forgets = eachNth(20);
        let seq = 0;
        return shardWith(shard, {
          append: async (entry, max, options) => {
            if (!forgets()) return shard.append(entry, max, options);
            seq += 1;
            return { kind: "appended", id: { ms: 1, seq }, inboxBytes: 0, full: 0 };
          },
        });
      },
    },
  },
  {
    name: "an append is confirmed before it is written",
    breaks: "P1, P3, M2",
    rules: ["lost", "order"],
    options: {
      wrapShard: (shard) => {
        const waits = eachNth(5);
        let held: Uint8Array | null = null;
        return shardWith(shard, {
          append: async (entry, max, options) => {
            if (held === null && waits()) {
              held = entry.slice();
              return { kind: "appended", id: { ms: 1, seq: 1 }, inboxBytes: 0, full: 0 };
            }
            const reply = await shard.append(entry, max, options);
            if (held !== null && reply.kind === "appended") {
              await shard.append(held, max);
              held = null;
            }
            return reply;
          },
        });
      },
    },
  },
  {
    name: "an append keeps another batch than it got",
    breaks: "B18: a batch rots",
    rules: ["lost"],
    options: {
      wrapShard: (shard) => {
        const rots = eachNth(25);
        return shardWith(shard, {
          append: (entry, max, options) => {
            const kept = entry.slice();
            if (rots()) kept[kept.length - 1]! ^= 1;
            return shard.append(kept, max, options);
          },
        });
      },
    },
  },
  {
    name: "entry ids of the inbox fall back",
    breaks: "H10: a stream that was lost, and a clock that is behind",
    rules: ["lost", "stuck"],
    options: {
      wrapShard: (shard, data) => {
        const falls = eachNth(30);
        let seq = 0;
        return shardWith(shard, {
          append: (entry, max, options) => {
            if (!falls()) return shard.append(entry, max, options);
            seq += 1;
            const id = { ms: 1, seq };
            data.inbox.entries.unshift({ id, bytes: entry.slice() });
            return Promise.resolve({ kind: "appended", id, inboxBytes: data.inboxBytes, full: 0 });
          },
        });
      },
    },
  },
  {
    name: "inbox entries go before their messages are decided",
    breaks: "P1, D3",
    rules: ["lost", "stuck"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          readInbox: async (request) => {
            const entries = await shard.readInbox(request);
            data.inbox.delete(entries.map(({ id }) => id));
            return entries;
          },
        }),
    },
  },
  {
    name: "entries that are done stay in the inbox",
    breaks: "P1, P7: an inbox that only grows",
    rules: ["stuck", "alarm"],
    options: committing((commit) => ({ ...commit, inboxDone: [] })),
  },
  {
    name: "a page of the inbox comes newest first",
    breaks: "P3, D1",
    rules: ["order", "lost", "stuck"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, { readInbox: async (request) => [...(await shard.readInbox(request))].reverse() }),
    },
  },
  {
    name: "a page of the inbox lacks an entry now and then",
    breaks: "P1, D1",
    rules: ["lost", "stuck", "alarm"],
    options: {
      wrapShard: (shard) => {
        const skips = eachNth(20);
        return shardWith(shard, {
          readInbox: async (request) => {
            const entries = await shard.readInbox(request);
            return entries.length > 0 && skips() ? entries.slice(1) : entries;
          },
        });
      },
    },
  },
];

const records: readonly StoreMutant[] = [
  {
    name: "a record is stored beside its commit, not in it",
    breaks: "P5, S1",
    rules: ["state"],
    options: {
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
  },
  {
    name: "a commit of several conversations keeps all but one",
    breaks: "P5, S1: half a commit",
    rules: ["state", "lost", "stuck"],
    options: committing((commit) => ({
      ...commit,
      conversations: commit.conversations.length > 1 ? commit.conversations.slice(1) : commit.conversations,
    })),
  },
  {
    name: "load gives what was stored before the last commit",
    breaks: "B5: activation over an uncommitted turn",
    rules: ["doubled", "state", "alarm"],
    options: {
      wrapShard: (shard, data) => {
        const before = new Map<ConversationKey, StoredConversation>();
        return shardWith(shard, {
          commit: (commit) => {
            for (const { key } of commit.conversations)
              before.set(key, { record: data.records.get(key) ?? null, ids: data.ids.get(key)?.value ?? null });
            return shard.commit(commit);
          },
          load: async (keys) => {
            const now = await shard.load(keys);
            return keys.map((key, i) => before.get(key) ?? now[i]!);
          },
        });
      },
    },
  },
  {
    name: "load finds nothing of a conversation now and then",
    breaks: "B7: removal forgets what protects",
    rules: ["doubled", "state", "bytes"],
    options: loading(eachNth, () => ({ record: null, ids: null })),
  },
  {
    name: "load finds the record and not the ids",
    breaks: "B3, P2",
    rules: ["doubled"],
    options: loading(
      () => () => true,
      ({ record }) => ({ record, ids: null }),
    ),
  },
  {
    name: "ids are not kept",
    breaks: "B3, P2",
    rules: ["doubled"],
    options: writing((write) => ({ ...write, ids: null, idsTtlMs: null })),
  },
  {
    name: "ids live for a second only",
    breaks: "B3, A11: a repeat comes later than that",
    rules: ["doubled"],
    options: writing((write) => ({ ...write, idsTtlMs: 1_000 })),
  },
  {
    name: "ids are rewritten where they should be appended to",
    breaks: "B3: the ring of one",
    rules: ["doubled"],
    options: writing((write) => ({ ...write, ids: write.ids && { ...write.ids, kind: "rewrite" } })),
  },
  {
    name: "each process has a hash key of its own",
    breaks: "P2: ids of one process prove nothing to the next",
    rules: ["doubled", "state"],
    options: {
      wrapStore: (store, process) => {
        const hashKey = Uint8Array.from({ length: 8 }, (_, i) => process.charCodeAt(i % process.length));
        return storeWith(store, {
          openNamespace: async (wanted) => ({ ...(await store.openNamespace(wanted)), hashKey }),
        });
      },
    },
  },
];

/** @param nth says for each store when it strikes */
function loading(
  nth: (every: number) => () => boolean,
  change: (stored: StoredConversation) => StoredConversation,
): WorldMutant["options"] {
  return {
    wrapShard: (shard) => {
      const strikes = nth(4);
      return shardWith(shard, {
        load: async (keys) =>
          (await shard.load(keys)).map((stored) => (stored.record !== null && strikes() ? change(stored) : stored)),
      });
    },
  };
}

/** A store that keeps the records that it gets without a part of what few of them have. */
const keepingExtra = (change: (extra: RecordExtra) => RecordExtra): WorldMutant["options"] =>
  writing((write) => {
    const { record, botVersion, stateBytes } = decodeRecord(write.record);
    if (record.extra === null) return write;
    const extra = change(record.extra);
    const kept = { ...record, extra: Object.keys(extra).length === 0 ? null : extra };
    return { ...write, record: encodeRecord(kept, botVersion, stateBytes) };
  });

/** The same for what it keeps beside the record. */
const keepingAside = (change: (aside: AsideWrite) => AsideWrite): WorldMutant["options"] =>
  writing((write) => (write.aside === undefined ? write : { ...write, aside: change(write.aside) }));

const lists: readonly StoreMutant[] = [
  {
    name: "what is moved to a waiting list is not kept",
    breaks: "B1, R1",
    rules: ["alarm", "lost", "stuck"],
    options: keepingAside((aside) => ({ ...aside, waiting: [] })),
  },
  {
    name: "what was decided stays on its waiting list",
    breaks: "R1: unfinished as long as it is there",
    rules: ["alarm", "stuck", "doubled", "order", "lost"],
    options: keepingAside((aside) => ({ ...aside, waitingDone: [] })),
  },
  {
    name: "a waiting list is read newest first",
    breaks: "B1, P3",
    rules: ["order", "alarm", "lost"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, { readWaiting: async (key, request) => (await shard.readWaiting(key, request)).toReversed() }),
    },
  },
  {
    name: "a waiting list is read without its first entry",
    breaks: "B1, P1",
    rules: ["alarm", "lost", "order"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, {
          readWaiting: async (key, request) => {
            const entries = await shard.readWaiting(key, request);
            return request.after === 0 ? entries.slice(1) : entries;
          },
        }),
    },
  },
  {
    name: "the index of the unfinished is not kept",
    breaks: "R1: nobody goes on with what a process left",
    rules: ["stuck", "alarm"],
    options: keepingAside((aside) => ({ ...aside, open: undefined })),
  },
  {
    name: "the index of the unfinished is not found at recovery",
    breaks: "R1: nobody goes on with what a process left",
    rules: ["stuck", "alarm"],
    options: {
      wrapShard: (shard) => shardWith(shard, { readOpen: () => Promise.resolve({ cursor: SCAN_START, found: [] }) }),
    },
  },
  {
    name: "an id enters when its message is moved to the list",
    breaks: "B3: an id enters when its message is decided",
    rules: ["lost", "state"],
    options: writing((write) => {
      const slots = (write.aside?.waiting ?? []).map(({ bytes }) => slotOf(bytes));
      if (slots.length === 0 || write.ids?.kind === "rewrite") return write;
      const bytes = Buffer.concat([write.ids?.bytes ?? new Uint8Array(0), ...slots]);
      return { ...write, ids: { kind: "append", bytes } };
    }),
  },
  {
    name: "halts are not kept",
    breaks: "B12, strict: nothing passes a halt",
    rules: ["order"],
    options: keepingExtra(({ halt: _halt, ...extra }) => extra),
  },
  {
    name: "what comes next in the outside's order is not kept",
    breaks: "B8, P3",
    rules: ["order"],
    options: keepingExtra(({ order: _order, ...extra }) => extra),
  },
  {
    name: "notices to the bot are not kept",
    breaks: "B17: a bot that is not told what was set aside",
    rules: ["lost", "stuck", "alarm"], // one that is open without being there never ends
    options: keepingExtra(({ notices: _notices, ...extra }) => extra),
  },
];

/** As `RecentIds` stores it. */
function slotOf(listed: Uint8Array): Buffer {
  const { idHash, bodyHash, position } = decodeWaiting(listed, null, hashKeyOf(SIMULATED_HASH_KEY));
  const slot = Buffer.alloc(SLOT_BYTES);
  slot.writeUInt32LE(idHash.lo, 0);
  slot.writeUInt32LE(idHash.hi, 4);
  slot.writeUInt32LE(Math.floor(position.entry.ms / 1_000), 8);
  slot.writeUInt32LE(bodyHash, 12);
  return slot;
}

const effects: readonly StoreMutant[] = [
  {
    name: "a commit is confirmed before it is written",
    breaks: "B5, B6: the gate before a step opens too early",
    rules: ["effect", "state", "lost", "early", "alarm", "fence"],
    options: {
      wrapShard: (shard, data) => {
        let held: Commit | null = null;
        const late = eachNth(7);
        return shardWith(shard, {
          commit: async (commit): Promise<CommitReply> => {
            const before = held;
            held = null;
            if (before !== null && before.n !== commit.n) await shard.commit(before);
            const mayHold = data.epoch === commit.epoch && data.n === commit.n - 1 && commit.outbox === null;
            if (!mayHold || !late()) return shard.commit(commit);
            held = commit;
            return { kind: "applied", n: commit.n, outboxId: null };
          },
        });
      },
    },
  },
  {
    name: "results of steps are not kept",
    breaks: "A6, P2: what was done in the world is done again",
    rules: ["effect"],
    options: keepingExtra(({ openTurn, ...extra }) =>
      openTurn ? { ...extra, openTurn: { ...openTurn, steps: [] } } : extra,
    ),
  },
  {
    name: "replies that are out in the middle of a turn are not counted",
    breaks: "A5, P4",
    rules: ["reply", "state", "doubled"],
    options: keepingExtra(({ openTurn, ...extra }) =>
      openTurn ? { ...extra, openTurn: { ...openTurn, repliesOut: 0 } } : extra,
    ),
  },
];

/** A store that keeps something else of what leaves and joins the lists of lanes. */
const keepingLists = (change: (list: LaneListWrite) => LaneListWrite): WorldMutant["options"] =>
  committing((commit) => (commit.laneLists ? { ...commit, laneLists: commit.laneLists.map(change) } : commit));

const joinsLists = ({ laneLists = [] }: Commit): boolean => laneLists.some(({ joining }) => joining.length > 0);

const laneLists: readonly StoreMutant[] = [
  {
    name: "replies that move to the list of their lane are not kept",
    breaks: "B2, R1, P4",
    rules: ["alarm", "stuck", "delivery"],
    options: keepingLists((list) => ({ ...list, joining: [] })),
  },
  {
    name: "replies that move to the list of their lane stay in the outbox",
    breaks: "R1: in one place at each moment",
    rules: ["delivery", "stuck", "alarm"],
    options: committing((commit) => (joinsLists(commit) ? { ...commit, acks: [], outboxDone: [] } : commit)),
  },
  {
    name: "what was delivered stays on the list of its lane",
    breaks: "R1: unfinished as long as it is there",
    rules: ["stuck", "alarm", "delivery"],
    options: keepingLists((list) => ({ ...list, leaving: [] })),
  },
  {
    name: "what leaves the list of its lane takes the next along",
    breaks: "R1, P4",
    rules: ["alarm", "stuck", "delivery"],
    options: keepingLists((list) => ({ ...list, leaving: list.leaving.flatMap((id) => [id, id + 1]) })),
  },
  {
    name: "the list of a lane is read newest first",
    breaks: "B2, P4",
    rules: ["delivery", "alarm"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, {
          readLaneList: async (key, request) => (await shard.readLaneList(key, request)).toReversed(),
        }),
    },
  },
  {
    name: "the list of a lane is read without its first entry",
    breaks: "B2, P4",
    rules: ["delivery", "stuck", "alarm"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, {
          readLaneList: async (key, request) => {
            const entries = await shard.readLaneList(key, request);
            return request.after === 0 ? entries.slice(1) : entries;
          },
        }),
    },
  },
  {
    name: "the list of a lane is written under the key of another",
    breaks: "R1, B16",
    rules: ["alarm", "stuck", "delivery"],
    options: {
      wrapShard: (shard) => {
        const other = new Map<ConversationKey, ConversationKey>();
        return shardWith(shard, {
          commit: (commit) => {
            for (const { key } of commit.lanes) if (!other.has(key)) other.set(key, [...other.keys()].at(-1) ?? key);
            const written = commit.laneLists?.map((list) => ({ ...list, key: other.get(list.key) ?? list.key }));
            const keys = new Set(written?.map(({ key }) => key));
            const isApart = written === undefined || keys.size < written.length;
            return shard.commit(isApart ? commit : { ...commit, laneLists: written });
          },
        });
      },
    },
  },
  {
    name: "what a lane's state says of its list is not kept",
    breaks: "R1: nobody goes on with what a process left",
    rules: ["alarm", "stuck", "delivery"],
    options: committing((commit) => ({
      ...commit,
      lanes: commit.lanes.map(({ key, state }) => ({ key, state: state && withoutList(state) })),
    })),
  },
  {
    name: "lists of lanes are written before the fence is checked",
    breaks: "P6, S2",
    rules: ["alarm", "stuck", "delivery"],
    options: beforeTheFence((data, { laneLists: lists = [] }) => {
      for (const { key, joining } of lists) {
        const list = data.laneLists.get(key) ?? new MemoryStream();
        for (const { id, bytes } of joining) list.addAs({ ms: id, seq: 0 }, bytes);
        if (joining.length > 0) data.laneLists.set(key, list);
      }
    }),
  },
];

function withoutList(bytes: Uint8Array): Uint8Array {
  const { list: _list, ...state } = decodeLaneState(bytes);
  return encodeLaneState(state);
}

const withoutPlace = ({ from: _place, ...options }: AppendOptions = {}): AppendOptions => options;

const between: readonly StoreMutant[] = [
  {
    name: "places taken from other shards are not remembered",
    breaks: "B9: a send comes twice",
    rules: ["doubled"],
    options: {
      wrapShard: (shard) =>
        shardWith(shard, { append: (entry, max, options) => shard.append(entry, max, withoutPlace(options)) }),
    },
  },
  {
    name: "sends to the same shard are left out of the commit",
    breaks: "B9: a send is lost",
    rules: ["lost"],
    options: committing(({ inboxAdd: _sends, ...commit }) => commit),
  },
  {
    name: "due timers are taken away and come nowhere",
    breaks: "B10, R3",
    rules: ["stuck", "alarm"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          moveTimers: (request) => {
            for (const timer of request.timers) data.timers.delete(timerMember(timer));
            return shard.moveTimers(request);
          },
        }),
    },
  },
  {
    name: "due timers stay where they are",
    breaks: "B10: the same page for ever",
    rules: ["stuck", "alarm"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          moveTimers: async (request) => {
            const before = new Map(data.timers);
            const reply = await shard.moveTimers(request);
            for (const [member, atMs] of before) data.timers.set(member, atMs);
            return reply;
          },
        }),
    },
  },
];

const replies: readonly StoreMutant[] = [
  {
    name: "a commit that comes again is applied again",
    breaks: "P4, S1",
    rules: ["delivery", "fence", "stuck", "transcript", "alarm"], // the alarm of a list that gave out an id twice
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: (commit) => {
            if (data.epoch === commit.epoch && data.n === commit.n) data.n -= 1;
            return shard.commit(commit);
          },
        }),
    },
  },
  {
    name: "replies are left out of the commit",
    breaks: "P4, G4",
    rules: ["stuck", "delivery", "alarm"],
    options: committing((commit) => ({ ...commit, outbox: null })),
  },
  {
    name: "outbox entries go before their replies are delivered",
    breaks: "P4, G4",
    rules: ["stuck", "delivery"],
    options: {
      wrapShard: (shard, data) =>
        shardWith(shard, {
          commit: async (commit) => {
            const reply = await shard.commit(commit);
            if (reply.kind === "applied" && reply.outboxId !== null) data.outbox.delete([reply.outboxId]);
            return reply;
          },
        }),
    },
  },
  {
    name: "one acknowledgement stands for the whole entry",
    breaks: "P4: acknowledged is not delivered",
    rules: ["stuck", "delivery", "alarm"],
    options: committing((commit) => ({
      ...commit,
      acks: commit.acks.map(({ entry, done }) => ({ entry, done: new Uint8Array(done.length).fill(255) })),
    })),
  },
  {
    name: "acknowledgements go to the entry before",
    breaks: "P4: acknowledged is not delivered",
    rules: ["stuck", "delivery", "alarm"],
    options: {
      wrapShard: (shard) => {
        let last: EntryId | null = null;
        return shardWith(shard, {
          commit: async (commit) => {
            const acks = commit.acks.map(({ entry, done }) => ({ entry: last ?? entry, done }));
            const reply = await shard.commit({ ...commit, acks });
            if (reply.kind === "applied" && reply.outboxId !== null) last = reply.outboxId;
            return reply;
          },
        });
      },
    },
  },
  {
    name: "no acknowledgement is found at recovery",
    breaks: "A1: a lane is halted behind replies that are done, or sends them again as if they were not",
    rules: ["stuck", "reply"],
    options: { wrapShard: (shard) => shardWith(shard, { readAcks: () => Promise.resolve([]) }) },
  },
  {
    name: "the outbox is recovered newest first",
    breaks: "P4, H3",
    rules: ["delivery", "alarm"],
    options: recovering((entries) => [...entries].reverse()),
  },
  {
    name: "the outbox is recovered without its oldest entry",
    breaks: "P4, H3",
    rules: ["stuck", "delivery"],
    options: recovering((entries) => entries.slice(1)),
  },
  {
    name: "lane states are not kept",
    breaks: "A1: a halt that a restart forgets",
    rules: ["stuck", "alarm"],
    options: committing((commit) => ({ ...commit, lanes: [] })),
  },
  {
    name: "lane states are never removed",
    breaks: "A1, P7: states of lanes that flow",
    rules: ["stuck"],
    options: committing((commit) => ({ ...commit, lanes: commit.lanes.filter(({ state }) => state !== null) })),
  },
  {
    name: "dead letters are not kept",
    breaks: "P1: set aside, and gone",
    rules: ["lost"],
    options: committing((commit) => ({ ...commit, dead: [] })),
  },
  {
    name: "dead letters are written before the fence is checked",
    breaks: "P6, B11",
    rules: ["phantom", "doubled"], // an operator redrives what was never set aside
    options: beforeTheFence((data, { dead }) => {
      for (const letter of dead) data.dead.add(letter, 0);
    }),
  },
  {
    name: "transcript lines are not kept",
    breaks: "P4",
    rules: ["transcript"],
    options: writing((write) => ({ ...write, transcript: [] })),
  },
  {
    name: "transcript lines are kept newest first",
    breaks: "P4",
    rules: ["transcript"],
    options: writing((write) => ({ ...write, transcript: [...write.transcript].reverse() })),
  },
  {
    name: "transcript lines are written before the fence is checked",
    breaks: "P6, S1",
    rules: ["transcript"],
    options: beforeTheFence((data, { conversations }) => {
      for (const { key, transcript } of conversations) {
        const stream = data.transcripts.get(key)?.value;
        for (const line of transcript) stream?.add(line, 0);
      }
    }),
  },
  {
    name: "records are written before the fence is checked",
    breaks: "P6, S2",
    rules: ["state", "doubled", "lost", "stuck", "delivery"], // turns of the loser, whose replies nobody has
    options: beforeTheFence((data, { conversations }) => {
      for (const { key, record } of conversations) data.records.set(key, record.slice());
    }),
  },
];

/** Something of a commit that is refused, or comes again, is written all the same. */
function beforeTheFence(write: (data: MemoryShard, commit: Commit) => void): WorldMutant["options"] {
  return {
    wrapShard: (shard, data) =>
      shardWith(shard, {
        commit: (commit) => {
          if (data.epoch !== commit.epoch || data.n === commit.n) write(data, commit);
          return shard.commit(commit);
        },
      }),
  };
}

function recovering(
  change: (entries: Awaited<ReturnType<ShardStore["readOutbox"]>>) => Awaited<ReturnType<ShardStore["readOutbox"]>>,
): WorldMutant["options"] {
  return {
    wrapShard: (shard) => shardWith(shard, { readOutbox: async (request) => change(await shard.readOutbox(request)) }),
  };
}

const all = [...ownership, ...inbox, ...records, ...lists, ...laneLists, ...effects, ...between, ...replies];

export const storeMutants: readonly WorldMutant[] = all.map((mutant) => ({
  ...mutant,
  port: "store",
}));
