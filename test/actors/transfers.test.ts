// X1 to X3 of actors/transfers.ts, on a store in memory.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isTransferKey, transferChannel, transferKey } from "../../actors/transfers.ts";
import type { SendOutcome } from "../../src/channels/channel.ts";
import { decodeInboxEntry, InboxBatch } from "../../src/codec/inbox-codec.ts";
import { conversationKey, parseConversationKey } from "../../src/domain/ids.ts";
import type { Delivery } from "../../src/domain/message.ts";
import { ENTRY_ZERO, type EntryId } from "../../src/domain/position.ts";
import { StoreCorruptError, StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { AppendReply } from "../../src/store/shard-store.ts";
import { gate, quiet } from "../support/quiet.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const never = new AbortController().signal;

const place = (ms: number, seq = 0): EntryId => ({ ms, seq });

/** What the commit at `place` sent to shard `target`: messages with these ids to one conversation. */
function delivery(target: number, at: EntryId, ...ids: readonly string[]): Delivery & { readonly place: EntryId } {
  const to = { bot: "b", channel: "test", conversation: "c" };
  const batch = new InboxBatch();
  for (const id of ids) batch.add(conversationKey(to), { to, id, text: id }, { from: to, hops: 1 });
  return {
    to: parseConversationKey(transferKey(target)),
    born: "0-0-0",
    outSeq: at.ms,
    idempotencyKey: `${at.ms}`,
    body: batch.finish(),
    place: at,
  };
}

class Rig {
  readonly store: MemoryStore = new MemoryStore(new VirtualEnvironment(5));
  /** Stands before each append. */
  meddle: (call: () => Promise<AppendReply>) => Promise<AppendReply> = (call) => call();

  channel(source = 0) {
    return transferChannel(
      (shard) => ({ append: (...given) => this.meddle(() => this.store.shard(shard).append(...given)) }),
      source,
    );
  }

  /** Ids of the messages in a shard's inbox. */
  async inbox(shard: number): Promise<string[]> {
    const entries = await this.store.shard(shard).readInbox({ after: ENTRY_ZERO, count: 1_000_000, blockMs: 0 });
    return entries.flatMap(({ id, bytes }) => {
      const entry = { id, bytes: bytes.length, undecided: 0 };
      const { messages } = decodeInboxEntry(Buffer.from(bytes), entry, { lo: 1, hi: 2 });
      return messages.map((message) => (message.kind === "message" ? message.id : message.kind));
    });
  }
}

describe("the lane of a transfer", () => {
  test("is named after its target, and no conversation has its key", () => {
    for (const shard of [0, 7, 255]) {
      const key = transferKey(shard);
      expect(isTransferKey(key)).toBe(true);
      expect(parseConversationKey(key)).toEqual({ bot: "!transfer", channel: "!transfer", conversation: `${shard}` });
    }
    const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
    fc.assert(
      fc.property(name, name, fc.string(), (bot, channel, conversation) => {
        expect(isTransferKey(conversationKey({ bot, channel, conversation }))).toBe(false);
      }),
    );
    expect(new Rig().channel()).toMatchObject({ name: "!transfer", delivery: "lane" });
  });

  test("hands a commit's batch to the target's inbox, with what each message brings", async () => {
    const rig = new Rig();
    expect(await rig.channel().send(delivery(3, place(1), "m1", "m2"), never)).toEqual({ kind: "delivered" });
    expect(await rig.inbox(3)).toEqual(["m1", "m2"]);
    expect(await rig.inbox(0)).toEqual([]);
  });

  test("has nothing to render: its commit has encoded the batch", () => {
    const to = parseConversationKey(transferKey(1));
    const input = { to, born: "b", outSeq: 1, inReplyTo: null, reply: { text: "" } };
    expect(() => rigChannel().render(input)).toThrow(TypeError);
  });
});

const rigChannel = () => new Rig().channel();

describe("sends between shards happen once, in order (X1, X2, attack B9)", () => {
  test("a repeat after a lost answer is delivered and writes nothing", async () => {
    const rig = new Rig();
    const channel = rig.channel();
    rig.meddle = async (call) => {
      await call();
      throw new StoreUnavailableError("answer lost");
    };
    expect(await channel.send(delivery(1, place(5), "m1"), never)).toMatchObject({ kind: "ambiguous" });
    rig.meddle = (call) => call();
    expect(await channel.send(delivery(1, place(5), "m1"), never)).toEqual({ kind: "delivered" });
    expect(await channel.send(delivery(1, place(5, 1), "m2"), never)).toEqual({ kind: "delivered" });
    expect(await rig.inbox(1)).toEqual(["m1", "m2"]);
  });

  test("a zombie's append that lands minutes later writes nothing, whatever was consumed meanwhile", async () => {
    const rig = new Rig();
    const [zombie, owner] = [rig.channel(), rig.channel()];
    let late: (() => Promise<AppendReply>) | null = null;
    rig.meddle = async (call) => {
      late = call;
      throw new StoreUnavailableError("connection lost");
    };
    await zombie.send(delivery(1, place(5), "m5"), never);
    rig.meddle = (call) => call();
    for (const n of [5, 6, 7]) await owner.send(delivery(1, place(n), `m${n}`), never);
    expect(await late!()).toEqual({ kind: "taken" });
    expect(await zombie.send(delivery(1, place(6), "m6"), never)).toEqual({ kind: "delivered" });
    expect(await rig.inbox(1)).toEqual(["m5", "m6", "m7"]);
  });

  test("each pair of shards has an order of its own", async () => {
    const rig = new Rig();
    await rig.channel(0).send(delivery(2, place(9), "from-0"), never);
    await rig.channel(1).send(delivery(2, place(3), "from-1"), never);
    await rig.channel(0).send(delivery(3, place(4), "other-target"), never);
    expect(await rig.inbox(2)).toEqual(["from-0", "from-1"]);
    expect(await rig.inbox(3)).toEqual(["other-target"]);
  });

  test("under any lost answers, repeats and late zombies each message is in the inbox once, in the order of the commits", async () => {
    const fault = fc.constantFrom("none", "refused", "lost-before", "lost-after", "late", "takeover");
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { maxLength: 60 }), fc.integer({ min: 1, max: 12 }), async (faults, count) => {
        const rig = new Rig();
        const late: (() => Promise<AppendReply>)[] = [];
        let calls = 0;
        rig.meddle = async (call) => {
          const met = faults[calls] ?? "none";
          calls += 1;
          if (calls % 3 === 0) await late.shift()?.(); // a lost one lands, some calls later
          if (met === "refused") throw new StoreNotReadyError("BUSY");
          if (met === "late") late.push(call);
          if (met === "lost-after") await call();
          if (met === "late" || met === "lost-before" || met === "lost-after") throw new StoreUnavailableError("lost");
          return call();
        };
        let channel = rig.channel();
        // As a lane does: one at a time, the next only after this one was taken; a new owner begins at the first unacknowledged.
        for (let n = 1; n <= count; ) {
          const outcome = await channel.send(delivery(1, place(n), `m${n}`), never);
          if (faults[calls] === "takeover") {
            channel = rig.channel();
            n = Math.max(1, n - 2); // acknowledgements that were not committed
            faults[calls] = "none";
          } else if (outcome.kind === "delivered") n += 1;
        }
        for (const call of late) await call();
        expect(await rig.inbox(1)).toEqual(Array.from({ length: count }, (_, i) => `m${i + 1}`));
      }),
      { numRuns: 200 },
    );
  });
});

describe("what a target says is an outcome of the attempt (X3)", () => {
  test("a full inbox takes them: two that wait for each other's room would never have any", async () => {
    const rig = new Rig();
    const entry = new InboxBatch();
    const to = { bot: "b", channel: "test", conversation: "c" };
    entry.add(conversationKey(to), { to, id: "webhook", text: "" });
    const bytes = entry.finish();
    await rig.store.shard(1).append(bytes, bytes.length);
    expect(await rig.store.shard(1).append(bytes, bytes.length)).toMatchObject({ kind: "over" });
    expect(await rig.channel().send(delivery(1, place(1), "m1"), never)).toEqual({ kind: "delivered" });
    expect(await rig.inbox(1)).toEqual(["webhook", "m1"]);
  });

  test.each<[Error, SendOutcome["kind"]]>([
    [new StoreUnavailableError("answer lost"), "ambiguous"],
    [new StoreNotReadyError("OOM"), "retryable"],
    [new StoreCorruptError("WRONGTYPE"), "terminal"],
    [new TypeError("a mistake"), "ambiguous"],
  ])("%s is said as %s, never thrown, and its text stays here", async (error, kind) => {
    const rig = new Rig();
    rig.meddle = async () => {
      throw error;
    };
    const outcome = await rig.channel().send(delivery(1, place(1), "m1"), never);
    expect(outcome.kind).toBe(kind);
    expect(JSON.stringify(outcome)).not.toContain(error.message);
  });

  test("a delivery without its place cannot be told from a repeat, and is not sent", async () => {
    const rig = new Rig();
    const { place: _place, ...rest } = delivery(1, place(1), "m1");
    expect(await rig.channel().send(rest, never)).toMatchObject({ kind: "terminal" });
    expect(await rig.inbox(1)).toEqual([]);
  });

  test("aborting ends an attempt as ambiguous; one that is aborted before it began sends nothing", async () => {
    const rig = new Rig();
    const answer = gate();
    rig.meddle = async (call) => {
      await answer.promise;
      return call();
    };
    const lane = new AbortController();
    const sent = rig.channel().send(delivery(1, place(1), "m1"), lane.signal);
    await quiet();
    lane.abort();
    expect(await sent).toMatchObject({ kind: "ambiguous" });
    answer.open();
    await quiet();
    expect(await rig.channel().send(delivery(1, place(2), "m2"), lane.signal)).toMatchObject({ kind: "ambiguous" });
    await quiet();
    expect(await rig.inbox(1)).toEqual(["m1"]);
  });
});
