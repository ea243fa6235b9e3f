// G1 to G5 of actors/committer.ts, on a store whose answers the test gives by hand.

import { describe, expect, test } from "vitest";
import { OutboxEntry } from "../../actors/committer.ts";
import { decodeLaneState } from "../../src/codec/lane-codec.ts";
import { decodeOutboxEntry, emptyBitmap, setBit } from "../../src/codec/outbox-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { StoreCorruptError, StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { quiet } from "../support/quiet.ts";
import { CommitterRig, isSettled } from "./support/committer-rig.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

describe("one commit in flight, the next grows meanwhile (G1)", () => {
  test("what is decided at the same time goes into one commit", async () => {
    const rig = new CommitterRig();
    const [a, b] = [rig.conversation("a"), rig.conversation("b")];
    a.decide({ replies: ["a1"] });
    b.decide({ replies: ["b1"] });
    a.decide({ replies: ["a2"] });
    await quiet();
    expect(rig.store.sent).toHaveLength(1);
    const { epoch, n, leaseMs, conversations, outbox } = rig.store.last;
    expect({ epoch, n, leaseMs }).toEqual({ epoch: 3, n: 1, leaseMs: 5_000 });
    expect(conversations.map(({ key }) => key)).toEqual([a.key, b.key]);
    expect(decodeOutboxEntry(Buffer.from(outbox!)).replies.map((reply) => text(reply!.body))).toEqual([
      "a1",
      "a2",
      "b1",
    ]);
  });

  test("while a commit flies nothing else is sent; the next takes all that came meanwhile, as one and one number up", async () => {
    const rig = new CommitterRig();
    const a = rig.conversation("a");
    for (let n = 1; n <= 4; n += 1) {
      for (let i = 0; i < n; i += 1) a.decide({ record: `a at ${n}.${i}` });
      await quiet();
      expect(rig.store.inFlight).toBe(1);
      if (n > 1) await rig.store.apply();
      expect(rig.store.inFlight).toBe(1);
    }
    await rig.store.apply();
    expect(rig.store.inFlight).toBe(0);
    expect(rig.store.sent.map(({ n }) => n)).toEqual([1, 2, 3, 4]);
    expect(text(rig.store.last.conversations[0]!.record)).toBe("a at 4.3");
  });

  test("nothing to say sends nothing", async () => {
    const rig = new CommitterRig();
    expect(await isSettled(rig.committer.committed())).toBe(true);
    expect(await isSettled(rig.committer.drained())).toBe(true);
    expect(rig.store.sent).toEqual([]);
  });
});

describe("an unknown outcome is resolved by the same bytes again (G2, R2)", () => {
  test("after StoreUnavailable and StoreNotReady the very same commit goes again, and nothing else in between", async () => {
    const rig = new CommitterRig();
    const [a, b] = [rig.conversation("a"), rig.conversation("b")];
    a.decide({ replies: ["a1"], consumed: [rig.entry(1, 1)] });
    const laneKey = conversationKey({ bot: "b", channel: "test", conversation: "lane" });
    rig.setLane(laneKey, "HTTP 500");
    await quiet();
    const failures = [new StoreUnavailableError("gone"), new StoreNotReadyError("LOADING")];
    for (let attempt = 1; attempt <= 40; attempt += 1) {
      await rig.store.fail(failures[attempt % 2]);
      b.decide({ replies: [`b${attempt}`] }); // grows while nobody answers
      rig.committer.addDeadLetter(Buffer.from("dead"));
      expect(rig.store.inFlight).toBe(0); // waits a little before it asks again
      await rig.environment.until(() => rig.store.inFlight === 1, 1_001, "resent");
    }
    expect(new Set(rig.store.sent).size).toBe(1);
    expect(new Set(rig.store.images).size).toBe(1);
    expect([a.commits, b.takes, rig.delivered.length, rig.inboxDone.length]).toEqual([0, 0, 0, 0]);
    await rig.store.apply({ ms: 77, seq: 1 }); // replayed: Redis gives the id of the first time
    expect(rig.delivered[0]!.entry.id).toEqual({ ms: 77, seq: 1 });
    expect(rig.delivered[0]!.replies.map(({ body }) => text(body))).toEqual(["a1"]);
    expect(a.commits).toBe(1);
    expect(rig.store.last.n).toBe(2);
    expect(rig.store.last.conversations.map(({ key }) => key)).toEqual([b.key]);
    expect(rig.store.last.dead).toHaveLength(40);
  });

  test("an outage is one warning, not one for each attempt", async () => {
    const rig = new CommitterRig();
    rig.conversation("a").decide();
    await quiet();
    for (let i = 0; i < 10; i += 1) {
      await rig.store.fail(new StoreUnavailableError("gone"));
      await rig.environment.until(() => rig.store.inFlight === 1, 1_001, "resent");
    }
    expect(rig.log.at("warn")).toHaveLength(1);
  });

  test("a bitmap of acknowledgements does not change in flight although more replies are delivered", async () => {
    const rig = new CommitterRig();
    const entry = new OutboxEntry({ ms: 9, seq: 0 }, 10);
    rig.committer.ack(entry, 0);
    void rig.committer.drained();
    await quiet();
    rig.committer.ack(entry, 5);
    await rig.store.fail(new StoreUnavailableError("gone"));
    await rig.environment.until(() => rig.store.inFlight === 1, 1_001, "resent");
    expect(new Set(rig.store.images).size).toBe(1);
    await rig.store.apply();
    expect([...rig.store.last.acks[0]!.done]).toEqual([0b100001, 0]);
  });
});

describe("a conversation is committed whole (G3)", () => {
  test("a commit takes as many whole conversations as `commitKeysMax` has room for, oldest first; the rest follows", async () => {
    const rig = new CommitterRig({ commitKeysMax: 11 }); // two conversations of four keys: record, ids, transcript, waiting list
    const all = ["a", "b", "c", "d", "e"].map((name) => rig.conversation(name));
    for (const each of all) each.decide({ replies: ["1", "2"] });
    await quiet();
    for (const expected of [[all[0], all[1]], [all[2], all[3]], [all[4]]]) {
      expect(rig.store.last.conversations.map(({ key }) => key)).toEqual(expected.map((each) => each!.key));
      const { replies } = decodeOutboxEntry(Buffer.from(rig.store.last.outbox!));
      expect(replies.map((reply) => reply!.key)).toEqual(expected.flatMap((each) => [each!.key, each!.key]));
      await rig.store.apply();
    }
    expect(rig.store.sent).toHaveLength(3);
    expect(all.map(({ takes, commits }) => [takes, commits])).toEqual(all.map(() => [1, 1]));
  });

  test("of every other list a commit takes 2,000 items; what is over, and who waits for it, has the next one", async () => {
    const rig = new CommitterRig();
    for (let i = 0; i < 2_001; i += 1) rig.setLane(`lane ${i}` as never, "HTTP 500");
    const allDurable = rig.committer.committed();
    await quiet();
    expect(rig.store.last.lanes).toHaveLength(2_000);
    await rig.store.apply();
    expect(await isSettled(allDurable)).toBe(false);
    expect(rig.store.last.lanes.map(({ key }) => key)).toEqual(["lane 2000"]);
    await rig.store.apply();
    expect(await isSettled(allDurable)).toBe(true);
  });

  test("a commit that reached `commitBytesMax` takes no further conversation and never a part of one", async () => {
    const rig = new CommitterRig({ commitBytesMax: 1_000 });
    const all = ["a", "b", "c"].map((name) => rig.conversation(name));
    for (const each of all) each.decide({ record: "r".repeat(300), replies: ["x".repeat(400), "y".repeat(400)] });
    await quiet();
    for (const each of all) {
      expect(rig.store.last.conversations.map(({ key }) => key)).toEqual([each.key]);
      expect(decodeOutboxEntry(Buffer.from(rig.store.last.outbox!)).replies).toHaveLength(2);
      await rig.store.apply();
    }
    expect(rig.store.sent).toHaveLength(3);
  });

  test("one that came back while it waited keeps its place, so that nobody starves", async () => {
    const rig = new CommitterRig({ commitKeysMax: 4 });
    const [busy, quietOne] = [rig.conversation("busy"), rig.conversation("quiet")];
    busy.decide();
    quietOne.decide();
    await quiet();
    busy.decide();
    await rig.store.apply();
    expect(rig.store.last.conversations.map(({ key }) => key)).toEqual([quietOne.key]);
    await rig.store.apply();
    expect(rig.store.last.conversations.map(({ key }) => key)).toEqual([busy.key]);
  });

  test("an inbox entry goes with the commit that decides the last of its messages, not before", async () => {
    const rig = new CommitterRig({ commitKeysMax: 4 });
    const entry = rig.entry(5, 3, 640);
    rig.conversation("a").decide({ consumed: [entry, entry] });
    rig.conversation("b").decide({ consumed: [entry] });
    await quiet();
    expect(rig.store.last.inboxDone).toEqual([]);
    await rig.store.apply();
    expect(rig.inboxDone).toEqual([]);
    expect(rig.store.last.inboxDone).toEqual([{ ms: 5, seq: 0 }]);
    expect(rig.store.last.inboxDoneBytes).toBe(640);
    expect(rig.inboxDone).toEqual([]); // told only once it is done
    await rig.store.apply();
    expect(rig.inboxDone).toEqual([640]);
  });

  test("a message that an earlier commit decided finishes its entry without a write of its conversation", async () => {
    const rig = new CommitterRig();
    const entry = rig.entry(5, 2);
    rig.committer.finish(entry);
    await rig.environment.pass(100);
    expect(rig.store.sent).toEqual([]);
    rig.committer.finish(entry);
    await rig.environment.pass(20);
    expect(rig.store.last).toMatchObject({ conversations: [], inboxDone: [{ ms: 5, seq: 0 }] });
  });
});

describe("work is told durable only after Redis answered (G4)", () => {
  test("replies reach their lanes in order, and conversations hear of it, after `applied` and not before", async () => {
    const rig = new CommitterRig();
    const a = rig.conversation("a");
    a.decide({ replies: ["1", "2"] });
    await quiet();
    expect([rig.delivered.length, a.commits]).toEqual([0, 0]);
    await rig.store.apply({ ms: 5, seq: 2 });
    expect(rig.delivered[0]!.entry.id).toEqual({ ms: 5, seq: 2 });
    expect(rig.delivered[0]!.replies.map(({ outSeq }) => outSeq)).toEqual([1, 2]);
    expect(a.commits).toBe(1);
  });

  test("committed() waits for what was handed over before it, not for what comes later", async () => {
    const rig = new CommitterRig();
    const a = rig.conversation("a");
    a.decide();
    const first = rig.committer.committed();
    await quiet();
    a.decide();
    const second = rig.committer.committed();
    expect(await isSettled(first)).toBe(false);
    await rig.store.apply();
    expect([await isSettled(first), await isSettled(second)]).toEqual([true, false]);
    await rig.store.apply();
    expect(await isSettled(second)).toBe(true);
  });

  test("committed() is not held up by what others decide after it, however full every commit is", async () => {
    const rig = new CommitterRig({ commitKeysMax: 4 });
    const [a, b] = [rig.conversation("a"), rig.conversation("b")];
    rig.setLane(a.key, "HTTP 500");
    const laneIsDurable = rig.committer.committed();
    a.decide();
    b.decide();
    await quiet();
    for (let n = 1; n <= 20; n += 1) {
      a.decide();
      b.decide();
      await rig.store.apply();
    }
    expect(await isSettled(laneIsDurable)).toBe(true);
  });

  test("drained() waits for leftovers, for what flies and for lone acknowledgements", async () => {
    const rig = new CommitterRig({ commitKeysMax: 4, ackDelayMs: 10_000 });
    rig.committer.ack(new OutboxEntry({ ms: 1, seq: 0 }, 1), 0);
    for (const name of ["a", "b"]) rig.conversation(name).decide();
    const drained = rig.committer.drained();
    for (let n = 1; n <= 2; n += 1) {
      expect(await isSettled(drained)).toBe(false);
      await rig.store.apply();
    }
    expect(await isSettled(drained)).toBe(true);
    expect(rig.store.sent[0]!.outboxDone).toEqual([{ ms: 1, seq: 0 }]);
  });

  test("drained() also resolves when the committer ends; committed() never does then", async () => {
    const rig = new CommitterRig();
    rig.conversation("a").decide();
    const [committed, drained] = [rig.committer.committed(), rig.committer.drained()];
    await quiet();
    rig.committer.stop();
    expect([await isSettled(committed), await isSettled(drained)]).toEqual([false, true]);
    expect(await isSettled(rig.committer.drained())).toBe(true);
    await rig.store.apply();
    expect(await isSettled(committed)).toBe(false);
    expect(rig.delivered).toEqual([]);
  });
});

describe("a lost shard ends the committer (G5)", () => {
  const endings: [string, (rig: CommitterRig) => Promise<void>, string | null][] = [
    ["fenced", (rig) => rig.store.answer({ kind: "fenced", epoch: 4 }), "fenced"],
    ["rewound", (rig) => rig.store.answer({ kind: "rewound", n: 0 }), "rewound"],
    ["an error from inside the script", (rig) => rig.store.fail(new StoreCorruptError("WRONGTYPE")), "corrupt"],
    ["a mistake of our own, which its supervisor is told", (rig) => rig.store.fail(new RangeError("commit.n")), null],
  ];
  for (const [how, end, reason] of endings) {
    for (const after of ["at once", "after a lost answer"]) {
      test(`${how}, ${after}: onLost is called once, nobody hears of a commit and nothing is sent any more`, async () => {
        const rig = new CommitterRig();
        const a = rig.conversation("a");
        a.decide({ replies: ["1"], consumed: [rig.entry(1, 1)] });
        const committed = rig.committer.committed();
        await quiet();
        if (after !== "at once") {
          await rig.store.fail(new StoreUnavailableError("gone"));
          await rig.environment.until(() => rig.store.inFlight === 1, 1_001, "resent");
        }
        a.decide({ replies: ["2"] });
        const sent = rig.store.sent.length;
        await end(rig);
        expect(rig.lost).toEqual(reason === null ? [] : [reason]);
        expect(rig.failures).toHaveLength(reason === null ? 1 : 0);
        a.decide();
        rig.committer.ack(new OutboxEntry({ ms: 1, seq: 0 }, 1), 0);
        rig.setLane(a.key, null);
        rig.committer.addDeadLetter(Buffer.from("dead"));
        rig.committer.finish(rig.entry(2, 1));
        void rig.committer.committed();
        expect(await isSettled(rig.committer.drained())).toBe(true);
        await rig.environment.pass(60_000);
        expect(rig.store.sent).toHaveLength(sent);
        expect(rig.lost).toHaveLength(reason === null ? 0 : 1);
        expect([rig.delivered, rig.inboxDone, a.commits]).toEqual([[], [], 0]);
        expect(await isSettled(committed)).toBe(false);
      });
    }
  }

  test("an error from inside the script is one fatal line, and its bytes are not sent again (attack H6)", async () => {
    const rig = new CommitterRig();
    rig.conversation("a").decide();
    await quiet();
    await rig.store.fail(new StoreCorruptError("WRONGTYPE"));
    await rig.environment.pass(60_000);
    expect(rig.log.at("fatal", "commit failed inside Redis")).toHaveLength(1);
    expect(rig.store.sent).toHaveLength(1);
  });

  test("stopped while an answer is out: a late `fenced` is nobody's loss, a late `applied` nobody's news", async () => {
    for (const reply of [
      { kind: "fenced", epoch: 9 },
      { kind: "applied", n: 1, outboxId: null },
    ] as const) {
      const rig = new CommitterRig();
      const a = rig.conversation("a");
      a.decide();
      await quiet();
      rig.committer.stop();
      await rig.store.answer(reply);
      expect([rig.lost, a.commits]).toEqual([[], 0]);
    }
  });

  test("stopped between two attempts of a commit, it sends it no more", async () => {
    const rig = new CommitterRig();
    rig.conversation("a").decide();
    await quiet();
    await rig.store.fail(new StoreUnavailableError("gone"));
    rig.committer.stop();
    await rig.environment.pass(60_000);
    expect(rig.store.sent).toHaveLength(1);
    expect(rig.lost).toEqual([]);
  });
});

describe("acknowledgements ride in commits", () => {
  test("with the next commit at no cost of their own", async () => {
    const rig = new CommitterRig();
    rig.committer.ack(new OutboxEntry({ ms: 1, seq: 0 }, 1), 0);
    await quiet();
    expect(rig.store.sent).toEqual([]);
    rig.conversation("a").decide();
    await quiet();
    expect(rig.store.last.outboxDone).toEqual([{ ms: 1, seq: 0 }]);
    await rig.store.apply();
    await rig.environment.pass(100);
    expect(rig.store.sent).toHaveLength(1); // no second commit for the same acknowledgement
  });

  test("alone after `ackDelayMs`, many together", async () => {
    const rig = new CommitterRig({ ackDelayMs: 20 });
    rig.committer.ack(new OutboxEntry({ ms: 1, seq: 0 }, 1), 0);
    await rig.environment.pass(10);
    rig.committer.ack(new OutboxEntry({ ms: 2, seq: 0 }, 1), 0);
    await rig.environment.pass(9);
    expect(rig.store.sent).toEqual([]);
    await rig.environment.pass(1);
    await quiet();
    expect(rig.store.last.outboxDone).toEqual([
      { ms: 1, seq: 0 },
      { ms: 2, seq: 0 },
    ]);
  });

  test("in the commit after the one that flies, without a delay", async () => {
    const rig = new CommitterRig({ ackDelayMs: 10_000 });
    rig.conversation("a").decide();
    await quiet();
    rig.committer.ack(new OutboxEntry({ ms: 1, seq: 0 }, 1), 0);
    await rig.store.apply();
    expect(rig.store.last.outboxDone).toEqual([{ ms: 1, seq: 0 }]);
  });

  test("a partly done outbox entry stores its bitmap, a fully done one is removed", async () => {
    const rig = new CommitterRig();
    const entry = new OutboxEntry({ ms: 4, seq: 0 }, 9);
    for (const index of [0, 8]) rig.committer.ack(entry, index);
    await rig.environment.pass(20);
    await quiet();
    expect(rig.store.last.outboxDone).toEqual([]);
    expect(rig.store.last.acks).toEqual([{ entry: { ms: 4, seq: 0 }, done: new Uint8Array([1, 1]) }]);
    await rig.store.apply();
    for (let index = 1; index < 8; index += 1) rig.committer.ack(entry, index);
    await rig.environment.pass(20);
    await quiet();
    expect(rig.store.last).toMatchObject({ acks: [], outboxDone: [{ ms: 4, seq: 0 }] });
  });

  test("an entry read back with an earlier owner's acknowledgements goes when the others are done", async () => {
    const stored = emptyBitmap(3);
    setBit(stored, 1);
    const rig = new CommitterRig();
    const entry = new OutboxEntry({ ms: 4, seq: 0 }, 3, stored);
    rig.committer.ack(entry, 1); // told again: counts once
    rig.committer.ack(entry, 0);
    await rig.environment.pass(20);
    await quiet();
    expect([...rig.store.last.acks[0]!.done]).toEqual([0b011]);
    await rig.store.apply();
    rig.committer.ack(entry, 2);
    await rig.environment.pass(20);
    await quiet();
    expect(rig.store.last.outboxDone).toEqual([{ ms: 4, seq: 0 }]);
    expect([...stored]).toEqual([0b010]); // what was handed in is not written to
  });
});

test("of several states of a lane only the last is written, and a null removes it", async () => {
  const rig = new CommitterRig();
  const key = conversationKey({ bot: "b", channel: "test", conversation: "l" });
  rig.setLane(key, "one");
  rig.setLane(key, "two");
  await quiet();
  expect(rig.store.last.lanes.map((lane) => decodeLaneState(lane.state!).reason)).toEqual(["two"]);
  rig.setLane(key, null);
  await rig.store.apply();
  expect(rig.store.last.lanes).toEqual([{ key, state: null }]);
});

test("those who follow a transcript are told after the commit that holds its lines, and of none without lines", async () => {
  const rig = new CommitterRig();
  const [a, b] = [rig.conversation("a"), rig.conversation("b")];
  a.decide({ transcript: ["line"] });
  b.decide({});
  await quiet();
  expect(rig.transcripts).toEqual([]);
  await rig.store.apply();
  expect(rig.transcripts).toEqual([a.key]);
});
