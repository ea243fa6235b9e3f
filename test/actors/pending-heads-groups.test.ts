// W1 to W3 of actors/pending-heads.ts, and attack H2: a handler that ends the process costs nothing on healthy messages.

import { describe, expect, test } from "vitest";
import { type Head, PendingHeads, type PendingHeadsOptions } from "../../actors/pending-heads.ts";
import { RunningTurns } from "../../actors/running-turns.ts";
import { DEATHS_MAX } from "../../src/domain/attempts.ts";
import { type ConversationKey, conversationKey } from "../../src/domain/ids.ts";
import type { Position } from "../../src/domain/position.ts";
import { quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { collector, ids, placed } from "./support/bots.ts";
import { ConversationRig, testChannel } from "./support/conversation-rig.ts";

const HORIZON = { ms: 1_000, seq: 5 };
const PENDING: Position = { entry: { ms: 900, seq: 0 }, index: 0 };
const LATER: Position = { entry: { ms: 1_000, seq: 6 }, index: 0 };
const keyOf = (name: string): ConversationKey => conversationKey({ bot: "b", channel: "test", conversation: name });
const entry = (ms: number, seq = 0) => ({ id: { ms, seq }, bytes: 10, undecided: 0 });

/** A conversation that asks to run when it is woken. */
class FakeHead implements Head {
  readonly key: ConversationKey;
  readonly marks: number[] = [];
  wakes = 0;
  durable: () => void = () => undefined;

  constructor(name: string) {
    this.key = keyOf(name);
  }

  markSuspect(size: number): Promise<void> {
    this.marks.push(size);
    return new Promise((resolve) => {
      this.durable = resolve;
    });
  }

  wake(): void {
    this.wakes += 1;
  }
}

class Rig {
  readonly environment = new VirtualEnvironment(3);
  readonly running = new RunningTurns(this.environment, 8);
  readonly alone: (ConversationKey | null)[] = [];
  through = 0;
  readonly heads: PendingHeads;

  constructor(options: Partial<PendingHeadsOptions> = {}) {
    this.heads = new PendingHeads({
      environment: this.environment,
      log: new RecordingLog().log,
      uncleanEnds: 2,
      followsAnEnd: true,
      horizon: HORIZON,
      groupMax: 4,
      leaveAlone: (key, onAlone) => {
        this.alone.push(key);
        this.running.leaveAlone(key, onAlone);
      },
      onThrough: () => {
        this.through += 1;
      },
      ...options,
    });
  }

  /** What asked at about the same time was gathered. */
  gathered(): Promise<void> {
    return this.environment.pass(60);
  }
}

const names = (count: number): FakeHead[] => Array.from({ length: count }, (_, i) => new FakeHead(`c${i}`));

describe("who is held back (W1)", () => {
  test("after one unclean end nobody", () => {
    const rig = new Rig({ uncleanEnds: 1 });
    rig.heads.recovered([{ key: keyOf("c0"), suspect: undefined }]);
    expect([rig.heads.mayRun(new FakeHead("c0"), PENDING), rig.heads.mayRun(new FakeHead("c1"), PENDING)]).toEqual([
      true,
      true,
    ]);
  });

  test("after two what was pending, by its place or by its entry in the index; not what came later", () => {
    const rig = new Rig();
    rig.heads.recovered([{ key: keyOf("open"), suspect: undefined }]);
    expect(rig.heads.mayRun(new FakeHead("c1"), { entry: HORIZON, index: 3 })).toBe(false);
    expect(rig.heads.mayRun(new FakeHead("c2"), LATER)).toBe(true);
    expect(rig.heads.mayRun(new FakeHead("open"), LATER)).toBe(false); // of the list: its place says nothing
  });

  test("a group runs when the marks of all its members are durable, and not before", async () => {
    const rig = new Rig();
    const [a, b] = names(2);
    for (const head of [a!, b!]) expect(rig.heads.mayRun(head, PENDING)).toBe(false);
    await rig.gathered();
    expect([a!.marks, b!.marks]).toEqual([[2], [2]]);
    a!.durable();
    await quiet();
    expect([a!.wakes, rig.heads.mayRun(a!, PENDING)]).toEqual([0, false]);
    b!.durable();
    await quiet();
    expect([a!.wakes, b!.wakes]).toEqual([1, 1]);
    expect([rig.heads.mayRun(a!, PENDING), rig.heads.mayRun(b!, PENDING)]).toEqual([true, true]);
    expect([a!.marks, b!.marks]).toEqual([[2], [2]]); // once
  });

  test("the next group waits until the former is through", async () => {
    const rig = new Rig();
    const all = names(6);
    for (const head of all) rig.heads.mayRun(head, PENDING);
    await rig.gathered();
    expect(all.map(({ marks }) => marks)).toEqual([[4], [4], [4], [4], [], []]);
    for (const head of all.slice(0, 4)) head.durable();
    await quiet();
    for (const head of all.slice(0, 3)) rig.heads.through(head.key);
    await rig.gathered();
    expect(all[4]!.marks).toEqual([]);
    rig.heads.through(all[3]!.key);
    await rig.gathered();
    expect([all[4]!.marks, all[5]!.marks]).toEqual([[2], [2]]);
  });

  test("one that is replaced before its mark is durable is marked anew, and its group is not stuck", async () => {
    const rig = new Rig();
    const [a, b] = names(2);
    for (const head of [a!, b!]) rig.heads.mayRun(head, PENDING);
    await rig.gathered();
    b!.durable();
    const again = new FakeHead("c0"); // a crashed: what it had told the committer is forgotten
    expect(rig.heads.mayRun(again, PENDING)).toBe(false);
    expect(again.marks).toEqual([2]);
    a!.durable(); // of a life that ended
    await quiet();
    expect([b!.wakes, again.wakes]).toEqual([0, 0]);
    again.durable();
    await quiet();
    expect([a!.wakes, b!.wakes, again.wakes]).toEqual([0, 1, 1]);
    expect(rig.heads.mayRun(again, PENDING)).toBe(true);
  });

  test("one that is through before its mark is durable holds up nobody", async () => {
    const rig = new Rig();
    const [a, b] = names(2);
    for (const head of [a!, b!]) rig.heads.mayRun(head, PENDING);
    await rig.gathered();
    b!.durable();
    await quiet();
    expect(b!.wakes).toBe(0);
    rig.heads.through(a!.key); // halted, or crashed once too often
    expect([b!.wakes, rig.heads.mayRun(b!, PENDING)]).toEqual([1, true]);
  });
});

describe("groups that halve (W2)", () => {
  test("marked ones run first, in groups of half their size, down to one that runs alone in the process", async () => {
    const rig = new Rig({ uncleanEnds: 4 });
    const marked = [2, 2].map((size, i) => ({ key: keyOf(`c${i}`), suspect: size }));
    rig.heads.recovered([...marked, { key: keyOf("c2"), suspect: undefined }]);
    const all = names(3);
    for (const head of all) rig.heads.mayRun(head, PENDING);
    await rig.gathered();
    expect(all.map(({ marks }) => marks)).toEqual([[1], [], []]);
    all[0]!.durable();
    await quiet();
    expect(rig.alone).toEqual([keyOf("c0")]);
    expect([rig.running.hasRoomFor(keyOf("c0")), rig.running.hasRoomFor(keyOf("other"))]).toEqual([true, false]);
    rig.heads.through(keyOf("c0"));
    expect(rig.alone.slice(-2)).toEqual([null, keyOf("c1")]);
    expect(all[1]!.marks).toEqual([1]);
    rig.heads.through(keyOf("c1"));
    expect(rig.alone.at(-1)).toBeNull();
  });

  test("who died alone is told once, and only after a process ended", () => {
    for (const followsAnEnd of [true, false]) {
      const rig = new Rig({ uncleanEnds: 5, followsAnEnd });
      rig.heads.recovered([
        { key: keyOf("alone"), suspect: 1 },
        { key: keyOf("beside"), suspect: 2 },
      ]);
      const told = [rig.heads.diedAlone(keyOf("alone")), rig.heads.diedAlone(keyOf("alone"))];
      expect([told, rig.heads.diedAlone(keyOf("beside"))]).toEqual([[followsAnEnd, false], false]);
    }
  });

  test("whoever is stopped leaves nobody behind that cannot run", async () => {
    const rig = new Rig({ uncleanEnds: 4 });
    rig.heads.recovered([{ key: keyOf("c0"), suspect: 2 }]);
    const head = new FakeHead("c0");
    rig.heads.mayRun(head, PENDING);
    await rig.gathered();
    head.durable();
    await quiet();
    rig.heads.stop();
    expect([rig.alone, rig.heads.mayRun(new FakeHead("c9"), PENDING)]).toEqual([[keyOf("c0"), null], true]);
  });
});

describe("when all that was pending is through (W3)", () => {
  test("its inbox entries are done, and its open conversations were decided", () => {
    const rig = new Rig();
    rig.heads.recovered([{ key: keyOf("open"), suspect: undefined }]);
    rig.heads.read({ ms: 900, seq: 0 });
    rig.heads.read({ ms: 1_000, seq: 5 });
    rig.heads.read({ ms: 1_100, seq: 0 }); // later
    rig.heads.done([entry(900), entry(1_100)]);
    rig.heads.through(keyOf("open"));
    expect(rig.through).toBe(0);
    rig.heads.done([{ ...entry(1_000), id: HORIZON }]);
    expect(rig.through).toBe(1);
    expect(rig.heads.mayRun(new FakeHead("c9"), PENDING)).toBe(true);
    rig.heads.done([entry(950)]);
    expect(rig.through).toBe(1);
  });

  test("not before the inbox was read up to where it stood", () => {
    const rig = new Rig();
    rig.heads.recovered([]);
    rig.heads.read({ ms: 900, seq: 0 });
    rig.heads.done([entry(900)]);
    expect(rig.through).toBe(0);
    rig.heads.read(null); // there is no more
    expect(rig.through).toBe(1);
  });

  test("after a clean end it is through from the start, and tells nobody", () => {
    const rig = new Rig({ uncleanEnds: 0, followsAnEnd: false });
    rig.heads.recovered([]);
    rig.heads.read(null);
    expect([rig.through, rig.heads.mayRun(new FakeHead("c1"), PENDING)]).toEqual([0, true]);
  });
});

describe("attack H2: a conversation under suspicion", () => {
  test("is marked durably before it runs, and its commit clears the mark; nothing of it is an attempt", async () => {
    let mayRun = false;
    const rig = new ConversationRig(collector(), { ports: { mayRunHead: () => mayRun } });
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    const [message] = rig.messages(c, []);
    expect([message, rig.writes.length, c.settled]).toEqual([undefined, 0, false]);
    const position = { entry: { ms: 1_700_000_000_001, seq: 0 }, index: 0 };
    let isDurable = false;
    void c.markSuspect(8, position).then(() => {
      isDurable = true;
    });
    await quiet();
    expect(isDurable).toBe(true);
    expect(rig.record(c).record.extra).toMatchObject({ suspect: 8, openTurn: { attempts: 0, deaths: 0, position } });
    expect(rig.open.get(c.key)).toMatchObject({ state: "active", suspect: 8, runs: true });
    mayRun = true;
    c.wake();
    await quiet();
    expect([rig.state(c), rig.record(c).record.extra, rig.open.size]).toEqual([["m1", "m2"], null, 0]);
  });

  test("that was marked and died in a group is charged nothing", async () => {
    const rig = new ConversationRig(collector(), { ports: { mayRunHead: () => false } });
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    void c.markSuspect(8, { entry: { ms: 1_700_000_000_001, seq: 0 }, index: 0 });
    await quiet();
    c.stop();
    const next = rig.conversation();
    next.wake();
    await quiet();
    expect(rig.record(next).record.extra!.openTurn).toMatchObject({ attempts: 0, deaths: 0 });
  });

  for (const ordering of ["strict", "available"] as const) {
    test(`that died alone ${DEATHS_MAX} times is poison (${ordering}); before that it runs again, charged once each`, async () => {
      const runs: string[] = [];
      const died = { alone: false };
      const rig = new ConversationRig(
        collector(
          ({ id }) => {
            runs.push(id);
          },
          { ordering },
        ),
        {
          ports: {
            mayRunHead: () => !died.alone,
            diedAlone: () => {
              const was = died.alone;
              died.alone = false;
              return was;
            },
          },
        },
      );
      let c = rig.conversation();
      const message = rig.messages(c, ids("m1"))[0]!;
      for (let death = 1; death <= DEATHS_MAX; death += 1) {
        died.alone = true; // it may not run, and is marked
        c.deliver(message);
        await quiet();
        void c.markSuspect(1, message.position);
        await quiet();
        c.stop();
        c = rig.conversation();
        c.wake();
        await quiet();
        const { openTurn, suspect } = rig.record(c).record.extra ?? {};
        if (death < DEATHS_MAX) expect([openTurn!.deaths, openTurn!.attempts, suspect]).toEqual([death, 0, undefined]);
      }
      c.deliver(message);
      await quiet();
      expect(runs).toEqual([]);
      if (ordering === "strict") {
        expect(c.situation.state).toBe("halted");
        expect(rig.open.get(c.key)).toMatchObject({ reason: "poison" });
        expect(rig.open.get(c.key)).not.toHaveProperty("suspect");
        rig.control(c, "retry", rig.open.get(c.key)!.halt!);
        await quiet();
        await quiet();
        expect([runs, rig.state(c)]).toEqual([["m1"], ["m1"]]); // deaths count from 0 again
      } else {
        expect(rig.state(c)).toEqual(["poisoned:m1"]);
        expect(rig.dead).toMatchObject([{ id: "m1", reason: "poison", attempts: DEATHS_MAX }]);
        expect(rig.dead[0]!.error).toContain("while nothing but this turn ran");
      }
    });
  }

  test("that asks again and again is not lost over another with the same place", async () => {
    let asked = 0;
    const may = { run: false };
    const order = { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 0, maxHeld: 64, firstSequence: 1 } as const;
    const rig = new ConversationRig(collector(undefined, { ordering: "available" }), {
      channel: testChannel({ order }),
      ports: { mayRunHead: () => may.run || ++asked === 1 },
    });
    const c = rig.conversation();
    rig.deliver(c, ...placed(2), { id: "twin", sequence: 2 }, ...placed(1));
    await quiet();
    for (let wake = 0; wake < 3; wake += 1) {
      c.wake();
      await quiet();
    }
    expect([rig.state(c), c.settled]).toEqual([["m1"], false]);
    may.run = true;
    c.wake();
    await quiet();
    expect(rig.state(c)).toEqual(["m1", "m2", "late:twin"]);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
  });

  test("that is marked while a lower one takes its place is found again among those that are held", async () => {
    const may = { run: false };
    const order = { mode: "monotonic", settleMs: 400, maxHeld: 64 } as const;
    const rig = new ConversationRig(collector(undefined, { ordering: "available" }), {
      channel: testChannel({ order }),
      ports: { mayRunHead: () => may.run },
    });
    const c = rig.conversation();
    rig.deliver(c, ...placed(20));
    await rig.environment.pass(500);
    await quiet();
    rig.deliver(c, ...placed(10));
    await rig.environment.pass(500);
    await quiet();
    void c.markSuspect(2, rig.waiting(c)[0]!.position);
    may.run = true;
    c.wake();
    await rig.environment.pass(500);
    await quiet();
    await quiet();
    expect(rig.state(c)).toEqual(["m20", "late:m10"]); // what was marked goes first (C8)
  });

  test("that is stopped bears no mark: nothing of it is committed (C6)", async () => {
    const rig = new ConversationRig(collector(), { ports: { mayRunHead: () => false } });
    const c = rig.conversation();
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.stop();
    let isDurable = false;
    void c.markSuspect(4, PENDING).then(() => {
      isDurable = true;
    });
    await quiet();
    expect([isDurable, rig.dirty.size, rig.writes]).toEqual([false, 0, []]);
  });
});
