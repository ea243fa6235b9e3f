// C7 of actors/conversation/list-window.ts and C8 of begun-work.ts: what cannot move leaves the inbox for its conversation's own list
// (R1), and a turn that was begun goes first.

import { describe, expect, test } from "vitest";
import { RETRY_CLOCK } from "../../actors/conversation/head-turn.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import { gate, quiet } from "../support/quiet.ts";
import { collector, ids, placed } from "./support/bots.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

const contiguous = testChannel({
  order: { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 0, maxHeld: 64, firstSequence: 1 },
});

/** A conversation whose message `slow` runs until `open`. */
async function inTurn(options: RigOptions = {}) {
  const held = gate();
  const rig = new ConversationRig(
    collector(({ id }) => (id === "slow" ? held.promise : undefined)),
    options,
  );
  const c = rig.conversation();
  rig.deliver(c, { id: "slow" });
  await quiet();
  return { rig, c, open: () => held.open() };
}

/** What is in memory of it goes; the next one finds what is stored. */
function reloaded(rig: ConversationRig, c: ConversationActor): ConversationActor {
  c.stop();
  return rig.conversation(c.id.conversation);
}

/** The next attempt was made, and all that follows from it. */
async function afterBackoff(rig: ConversationRig, c: ConversationActor): Promise<void> {
  await rig.environment.pass(1_000);
  await quiet();
  expect(c.settled).toBe(true);
}

const waitingIds = (rig: ConversationRig, c: ConversationActor): string[] => rig.waiting(c).map(({ id }) => id);

describe("attack B1: a conversation that cannot move pins no inbox entry (C7, R1)", () => {
  test("the message whose turn runs and all behind it are moved in one commit, in order, and their entries may go", async () => {
    const { rig, c, open } = await inTurn();
    rig.deliver(c, ...ids("m1", "m2"));
    expect(rig.blocked.has(c)).toBe(true);
    c.moveToList();
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["slow", "m1", "m2"]);
    expect(rig.writes).toHaveLength(1);
    expect(rig.writes[0]!.consumed).toHaveLength(3);
    expect(rig.blocked.has(c)).toBe(false);
    expect(rig.record(c).record).toMatchObject({ seq: 0, extra: { waiting: { count: 3, nextId: 4 } } });
    expect(rig.record(c).record.cursor).toEqual(rig.waiting(c).at(-1)!.position);
    open();
    await quiet();
    expect(rig.state(c)).toEqual(["slow", "m1", "m2"]);
    expect([rig.lists.size, rig.open.size, c.settled]).toEqual([0, 0, true]);
  });

  test("what comes while a turn goes on and on is seen to be blocked, however much was moved before", async () => {
    const { rig, c, open } = await inTurn();
    for (let hour = 1; hour <= 3; hour += 1) {
      rig.deliver(c, { id: `m${hour}` });
      expect(rig.blocked.has(c)).toBe(true);
      c.moveToList();
      await quiet();
      expect(rig.blocked.has(c)).toBe(false);
    }
    expect(waitingIds(rig, c)).toEqual(["slow", "m1", "m2", "m3"]);
    open();
    await quiet();
    expect(rig.state(c)).toEqual(["slow", "m1", "m2", "m3"]);
  });

  test("more than `mailboxMax` waiting go at once, those that come later behind them", async () => {
    const { rig, c, open } = await inTurn({ bounds: { mailboxMax: 2 } });
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["slow", "m1", "m2"]); // the one too many, and what stood before it
    rig.deliver(c, ...ids("m4", "m5", "m6"));
    open();
    await quiet();
    expect(rig.state(c)).toEqual(["slow", "m1", "m2", "m3", "m4", "m5", "m6"]);
    expect(rig.lists.size).toBe(0);
  });

  test("one commit moves 1 MiB of a conversation and no more; the rest follows", async () => {
    const { rig, c, open } = await inTurn({ commits: "by hand" });
    const text = "x".repeat(300_000);
    rig.deliver(c, ...["m1", "m2", "m3", "m4", "m5", "m6"].map((id) => ({ id, text })));
    c.moveToList();
    rig.commit();
    expect(waitingIds(rig, c)).toEqual(["slow", "m1", "m2", "m3", "m4"]);
    expect(rig.blocked.has(c)).toBe(true);
    c.moveToList();
    rig.commit();
    expect(waitingIds(rig, c)).toHaveLength(7);
    open();
    while (!c.settled) {
      await quiet();
      rig.commit();
    }
    expect(rig.state(c)).toEqual(["slow", "m1", "m2", "m3", "m4", "m5", "m6"]);
  });

  test("a backing-off one keeps its order: list before inbox (B1)", async () => {
    let fails = true;
    const rig = new ConversationRig(
      collector(({ id }) => {
        if (id === "m1" && fails) throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    c.moveToList();
    await quiet();
    rig.deliver(c, { id: "m3" });
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["m1", "m2"]);
    fails = false;
    await afterBackoff(rig, c);
    expect(rig.state(c)).toEqual(["m1", "m2", "m3"]);
  });

  test("nothing moves twice, and nothing moves while the commit before flies", async () => {
    const { rig, c, open } = await inTurn({ commits: "by hand" });
    c.moveToList();
    c.moveToList();
    const flying = rig.take();
    rig.deliver(c, { id: "m1" });
    c.moveToList();
    expect(rig.dirty.size).toBe(0);
    for (const each of flying) each.committed();
    c.moveToList();
    rig.commit();
    expect(waitingIds(rig, c)).toEqual(["slow", "m1"]);
    open();
    await quiet();
    rig.commit();
    expect(rig.state(c)).toEqual(["slow", "m1"]);
  });

  test("what a crash of this code had moved and nobody took is given back, in order (C6)", async () => {
    const { rig, c } = await inTurn({ commits: "by hand" });
    rig.deliver(c, ...ids("m1", "m2"));
    c.moveToList();
    rig.deliver(c, { id: "m3" });
    rig.dirty.clear(); // the committer is told to forget it
    c.stop();
    const back = c.salvage().messages;
    expect(back.map((message) => message.kind === "message" && message.id)).toEqual(["slow", "m1", "m2", "m3"]);
    const next = rig.conversation();
    rig.deploy(collector());
    for (const message of back) next.deliver(message);
    await quiet();
    expect(next.mailboxDepth).toBe(4); // its turn runs again
  });
});

describe("the list itself", () => {
  test("is read in pages, and only as much of it as has room in memory", async () => {
    const { rig, c } = await inTurn({ bounds: { mailboxMax: 2, mailboxBytesMax: 1_000 } });
    const names = Array.from({ length: 11 }, (_, i) => `m${i + 1}`);
    rig.deliver(c, ...ids(...names));
    c.moveToList();
    await quiet();
    expect(c.mailboxDepth).toBeLessThanOrEqual(3);
    rig.deploy(collector());
    const next = reloaded(rig, c);
    next.wake();
    for (let read = 0; read < 6; read += 1) await quiet();
    expect(rig.state(next)).toEqual(["slow", ...names]);
    expect([rig.lists.size, rig.open.size, next.settled]).toEqual([0, 0, true]);
  });

  test("one whose id was decided is dropped as a duplicate when it would be moved", async () => {
    const held = gate();
    const rig = new ConversationRig(collector(({ id }) => (id === "slow" ? held.promise : undefined)));
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "slow"));
    await quiet();
    rig.deliver(c, ...ids("m1", "m2"));
    c.moveToList();
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["slow", "m2"]);
    expect(rig.counters.duplicates).toBe(1);
    held.open();
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "slow", "m2"]);
  });

  test("a duplicate of one that waits there joins it and is dropped in its turn; list and record agree", async () => {
    const { rig, c, open } = await inTurn();
    rig.deliver(c, { id: "m1", text: "first" }, { id: "m1", text: "first" });
    rig.deliver(c, { id: "m1", text: "second" });
    c.moveToList();
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["slow", "m1", "m1", "m1"]);
    open();
    await quiet();
    expect(rig.state(c)).toEqual(["slow", "m1"]);
    expect([rig.counters.duplicates, rig.counters.conflicts]).toEqual([2, 1]);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
    expect(rig.record(c).record.extra?.waiting?.count ?? 0).toBe(0);
  });

  test("ids are not given out again by the commit that empties it", async () => {
    const rig = new ConversationRig(collector(), { channel: contiguous, commits: "by hand" });
    const c = rig.conversation();
    rig.deliver(c, ...placed(2, 3));
    await quiet();
    rig.commit();
    expect(waitingIds(rig, c)).toEqual(["m2", "m3"]);
    rig.deliver(c, ...placed(1, 6, 5)); // 1 releases 2 and 3: the list is empty, and 6 and 5 are held
    await quiet();
    rig.commit();
    expect(rig.state(c)).toEqual(["m1", "m2", "m3"]);
    expect(rig.waiting(c).map(({ id, waitingId }) => [id, waitingId])).toEqual([
      ["m6", 3],
      ["m5", 4],
    ]);
    rig.deliver(c, ...placed(4));
    await quiet();
    rig.commit();
    expect(rig.state(c)).toEqual(["m1", "m2", "m3", "m4", "m5", "m6"]);
    rig.deliver(c, ...placed(7));
    await quiet();
    rig.commit();
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 0, next: 8 } }); // an empty list leaves no trace
  });

  test("at `waitingMax` its conversation is told to be full, and no longer once it is below half", async () => {
    const fails = new Set(["m1", "m2", "m3", "m4"]);
    const rig = new ConversationRig(
      collector(({ id }) => {
        if (fails.has(id)) throw new Error("not yet");
      }),
      { bounds: { waitingMax: 4 } },
    );
    const c = rig.conversation();
    const fullAfter = async (done: string): Promise<boolean> => {
      fails.delete(done);
      await rig.environment.until(() => waitingIds(rig, c)[0] !== done, 60_000, done);
      return rig.full.has(c.key);
    };
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    c.moveToList();
    await quiet();
    c.moveToList();
    await quiet();
    expect([waitingIds(rig, c).length, rig.full.has(c.key)]).toEqual([3, false]);
    rig.deliver(c, { id: "m4" });
    await quiet();
    c.moveToList();
    await quiet();
    expect([waitingIds(rig, c).length, rig.full.has(c.key)]).toEqual([4, true]);
    expect([await fullAfter("m1"), await fullAfter("m2"), await fullAfter("m3")]).toEqual([true, true, false]);
    fails.clear();
    await rig.environment.until(() => c.settled, 60_000, "all through");
    expect(rig.state(c)).toEqual(["m1", "m2", "m3", "m4"]);
  });

  test("`waitingBytesMax` counts as well", async () => {
    const { rig, c } = await inTurn({ bounds: { waitingBytesMax: 10_000 } });
    rig.deliver(c, { id: "m1", text: "x".repeat(11_000) });
    c.moveToList();
    await quiet();
    expect(rig.full.has(c.key)).toBe(true);
  });

  test("an entry that cannot be read becomes a dead letter as it is; its neighbours have their turns (attack B18)", async () => {
    const { rig, c } = await inTurn();
    rig.deliver(c, ...ids("m1", "m2"));
    c.moveToList();
    await quiet();
    const rotten = Buffer.from(rig.lists.get(c.key)!.get(2)!);
    rotten[rotten.length - 1]! ^= 1;
    rig.lists.get(c.key)!.set(2, rotten);
    rig.deploy(collector());
    const next = reloaded(rig, c);
    next.wake();
    await quiet();
    expect(rig.state(next)).toEqual(["slow", "m2"]);
    expect(rig.dead).toMatchObject([{ direction: "in", reason: "checksum", conversation: "c1" }]);
    expect(Buffer.from(rig.dead[0]!.payload)).toEqual(rotten);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
  });

  test("one that cannot be read stays while there is no room among the dead letters, and goes once there is", async () => {
    const { rig, c } = await inTurn();
    rig.deliver(c, ...ids("m1", "m2"));
    c.moveToList();
    await quiet();
    rig.lists.get(c.key)!.set(2, Uint8Array.of(1, 2, 3));
    rig.deadLettersHaveRoom = false;
    rig.deploy(collector());
    const next = reloaded(rig, c);
    next.wake();
    await quiet();
    expect(rig.state(next)).toEqual(["slow", "m2"]);
    expect([...rig.lists.get(next.key)!.keys()]).toEqual([2]);
    rig.deadLettersHaveRoom = true;
    const last = reloaded(rig, next);
    rig.deliver(last, { id: "m3" });
    await quiet();
    expect(rig.state(last)).toEqual(["slow", "m2", "m3"]);
    expect([rig.dead.length, rig.lists.size, rig.open.size]).toEqual([1, 0, 0]);
  });

  test("one that is shorter than its record says so loudly, and what is left goes on", async () => {
    const { rig, c } = await inTurn();
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    c.moveToList();
    await quiet();
    for (const id of [2, 3]) rig.lists.get(c.key)!.delete(id); // by a foreign hand
    rig.deploy(collector());
    const next = reloaded(rig, c);
    rig.deliver(next, { id: "m4" });
    await quiet();
    expect(rig.state(next)).toEqual(["slow", "m3", "m4"]);
    expect(rig.log.at("fatal", '"missing":2')).toHaveLength(1);
    expect([rig.open.size, next.settled]).toEqual([0, true]);
  });
});

describe("a turn that was begun goes first (C8)", () => {
  test("on the list, before what stood there earlier and what came later", async () => {
    let fails = true;
    const failing = collector(({ id }) => {
      if (id === "m1" && fails) throw new Error("not yet");
    });
    const rig = new ConversationRig(failing, { channel: contiguous });
    const c = rig.conversation();
    rig.deliver(c, ...placed(2, 3, 1)); // 2 and 3 are held, then 1 fails
    await quiet();
    c.moveToList();
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["m2", "m3", "m1"]);
    const next = reloaded(rig, c);
    rig.deliver(next, ...placed(4));
    fails = false;
    await afterBackoff(rig, next);
    expect(rig.state(next)).toEqual(["m1", "m2", "m3", "m4"]);
  });

  test("still in the inbox, though others are held and stand on the list", async () => {
    let fails = true;
    const failing = collector(({ id }) => {
      if (id === "m1" && fails) throw new Error("not yet");
    });
    const rig = new ConversationRig(failing, { channel: contiguous });
    const c = rig.conversation();
    rig.deliver(c, ...placed(2, 3));
    const first = rig.messages(c, placed(1));
    for (const message of first) c.deliver(message);
    await quiet();
    expect(waitingIds(rig, c)).toEqual(["m2", "m3"]);
    expect(rig.record(c).record.extra!.openTurn).toMatchObject({ attempts: 1, position: first[0]!.position });
    const next = reloaded(rig, c);
    next.wake(); // as at a start: before anything is read of the inbox
    await quiet();
    for (const message of first) next.deliver(message);
    fails = false;
    await afterBackoff(rig, next);
    expect(rig.state(next)).toEqual(["m1", "m2", "m3"]);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
  });

  test("in the inbox, behind messages of its entry that were consumed before the crash", async () => {
    let fails = true;
    const rig = new ConversationRig(
      collector(({ id }) => {
        if (id === "m3" && fails) throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    const entry = rig.messages(c, ids("m1", "m2", "m3", "m4"));
    for (const message of entry) c.deliver(message);
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    const next = reloaded(rig, c);
    for (const message of entry) next.deliver(message); // read again, whole
    fails = false;
    await afterBackoff(rig, next);
    expect(rig.state(next)).toEqual(["m1", "m2", "m3", "m4"]);
    expect(rig.finished).toHaveLength(2); // m1 and m2, whose effect was in the record
    expect(rig.record(next).record.seq).toBe(4);
  });

  test("waits for its backoff across a reload; its clock is durable once it stands on the list", async () => {
    const attempts: number[] = [];
    const rig = new ConversationRig(
      collector(() => {
        attempts.push(rig.environment.nowMs());
        throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await rig.environment.until(() => attempts.length === 8, 600_000, "long delays");
    await quiet();
    expect(rig.timers.size).toBe(0); // of the inbox it is read again by whoever has the shard next
    c.moveToList();
    await quiet();
    const { nextAtMs } = rig.record(c).record.extra!.openTurn!;
    expect([...rig.timers]).toEqual([[`${nextAtMs} ${RETRY_CLOCK} ${c.key}`, nextAtMs]]);
    const next = reloaded(rig, c);
    next.wake();
    await quiet();
    rig.deliver(next, { id: "m2" });
    await quiet();
    expect(attempts).toHaveLength(8); // nothing brings it forward
    await rig.environment.until(() => attempts.length === 9, 60_000, "the next attempt");
    expect(attempts[8]).toBe(nextAtMs);
    await quiet();
    const later = rig.record(next).record.extra!.openTurn!;
    expect(later.attempts).toBe(9);
    expect(rig.timers.get(`${later.nextAtMs} ${RETRY_CLOCK} ${c.key}`)).toBe(later.nextAtMs);
  });

  test("a clock of the present attempt makes it at once, one of an older attempt changes nothing (C9)", async () => {
    let attempts = 0;
    const rig = new ConversationRig(
      collector(() => {
        attempts += 1;
        throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.moveToList();
    await quiet();
    const { nextAtMs } = rig.record(c).record.extra!.openTurn!;
    rig.fire(c, RETRY_CLOCK, nextAtMs! - 1);
    await quiet();
    expect(attempts).toBe(1);
    rig.fire(c, RETRY_CLOCK, nextAtMs!);
    await quiet();
    expect(attempts).toBe(2);
    rig.fire(c, RETRY_CLOCK, nextAtMs!);
    await quiet();
    expect(attempts).toBe(2);
    expect(rig.finished).toHaveLength(3); // each leaves its entry
  });

  test("once it has ended, no clock of it is left", async () => {
    let fails = true;
    const rig = new ConversationRig(
      collector(() => {
        if (fails) throw new Error("not yet");
      }),
    );
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.moveToList();
    await quiet();
    expect(rig.timers.size).toBe(1);
    fails = false;
    await afterBackoff(rig, c);
    expect([rig.timers.size, rig.open.size, rig.lists.size]).toEqual([0, 0, 0]);
  });
});

describe("what could go on stays in memory (C4)", () => {
  test("a list that waits for room among the running turns", async () => {
    const { rig, c, open } = await inTurn({ runningTurnsMax: 1 });
    const other = rig.conversation("other");
    rig.deliver(other, ...ids("m1", "m2"));
    await quiet();
    other.moveToList();
    await quiet();
    expect([waitingIds(rig, other).length, other.settled]).toEqual([2, false]);
    open();
    await quiet();
    expect([rig.state(other), other.settled, c.settled]).toEqual([["m1", "m2"], true, true]);
  });

  test("one whose record is being fetched, also while it is told how large it is", async () => {
    const settled: boolean[] = [];
    const { rig, c } = await inTurn();
    c.moveToList();
    await quiet();
    let next: ConversationActor | null = null;
    const watching = new ConversationRig(collector(), {
      ports: { resized: () => void settled.push(next!.settled) },
    });
    watching.stored.set(c.key, rig.stored.get(c.key)!);
    watching.lists.set(c.key, rig.lists.get(c.key)!);
    next = watching.conversation();
    next.wake();
    await Promise.resolve();
    await quiet();
    expect(watching.state(next)).toEqual(["slow"]);
    expect(settled.length).toBeGreaterThan(0);
    expect(settled).not.toContain(true);
  });

  test("held ones that may go, while they wait for room; those that wait for their number may leave", async () => {
    const held = gate();
    const rig = new ConversationRig(
      collector(({ id }) => (id === "m1" ? held.promise : undefined)),
      { channel: contiguous, runningTurnsMax: 1 },
    );
    const [slow, c] = [rig.conversation("slow"), rig.conversation()];
    rig.deliver(c, ...placed(3));
    await quiet();
    expect([waitingIds(rig, c), c.settled]).toEqual([["m3"], true]);
    rig.deliver(slow, ...placed(1));
    await quiet();
    c.wake();
    await quiet();
    expect(c.settled).toBe(false); // not looked at: nobody can say
    held.open();
    await quiet();
    expect(c.settled).toBe(true);
  });
});
