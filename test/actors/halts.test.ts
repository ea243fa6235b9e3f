// Poison, halts, what an operator does about them, dead letters and notices (C9; DESIGN 5; attacks B17, H3).

import { describe, expect, test } from "vitest";
import { RETRY_CLOCK } from "../../actors/conversation/head-turn.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import { haltName } from "../../src/domain/record.ts";
import { TerminalError } from "../../src/errors.ts";
import { gate, quiet } from "../support/quiet.ts";
import { collector, ids, placed, type Seen } from "./support/bots.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

const contiguous = testChannel({
  order: { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 0, maxHeld: 64, firstSequence: 1 },
});

interface Wrong {
  /** Messages that fail, and how. */
  readonly fails: Map<string, Error>;
  readonly runs: string[];
}

const failing = (rest: Parameters<typeof collector>[1] = {}): [ReturnType<typeof collector>, Wrong] => {
  const wrong: Wrong = { fails: new Map(), runs: [] };
  const bot = collector(({ id }) => {
    wrong.runs.push(id);
    const error = wrong.fails.get(id);
    if (error !== undefined) throw error;
  }, rest);
  return [bot, wrong];
};

function strict(options: RigOptions = {}, rest: Parameters<typeof collector>[1] = {}) {
  const [bot, wrong] = failing(rest);
  const rig = new ConversationRig(bot, options);
  return { rig, c: rig.conversation(), ...wrong };
}

const available = (options: RigOptions = {}, rest: Parameters<typeof collector>[1] = {}) =>
  strict(options, { ordering: "available", ...rest });

const haltOf = (rig: ConversationRig, c: ConversationActor): string => haltName(rig.record(c).record)!;
const reloaded = (rig: ConversationRig, c: ConversationActor): ConversationActor => {
  c.stop();
  return rig.conversation(c.id.conversation);
};
const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i += 1) await quiet();
};

describe("when a message is poison (attack H3)", () => {
  test("after `maxAttempts` failures over at least `poisonMinMs`: an outage of a dependency halts nobody", async () => {
    const { rig, c, fails, runs } = strict({}, { maxAttempts: 3, poisonMinMs: 60_000 });
    fails.set("m1", new Error("the dependency is down"));
    rig.deliver(c, ...ids("m1", "m2"));
    await rig.environment.pass(50_000);
    await quiet();
    expect(runs.length).toBeGreaterThan(5);
    expect([c.situation.state, rig.counters.halts]).toEqual(["active", 0]);
    const { firstFailedAtMs } = rig.record(c).record.extra!.openTurn!;
    await rig.environment.pass(45_000);
    await quiet();
    expect([c.situation.state, rig.counters.halts, rig.counters.poisoned]).toEqual(["halted", 1, 1]);
    expect(rig.record(c).record.extra!.halt!.sinceMs - firstFailedAtMs!).toBeGreaterThanOrEqual(60_000);
    expect(rig.open.get(c.key)).toMatchObject({ state: "halted", reason: "poison", waiting: 2, runs: false });
    const ran = runs.length;
    await rig.environment.pass(600_000);
    expect(runs).toHaveLength(ran);
  });

  test("with few slow failures it is `maxAttempts` that counts", async () => {
    const { rig, c, fails, runs } = strict({}, { maxAttempts: 8, poisonMinMs: 1 });
    fails.set("m1", new Error("no"));
    rig.deliver(c, { id: "m1" });
    await rig.environment.pass(600_000);
    expect(runs).toHaveLength(8);
  });

  test("at once for a TerminalError, also as a conversation's very first message", async () => {
    const { rig, c, fails, runs } = strict();
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    expect([runs, c.situation.state, rig.crashes]).toEqual([["m1"], "halted", []]);
    expect(rig.waiting(c).map(({ id }) => id)).toEqual(["m1", "m2"]);
    expect(rig.record(c).record).toMatchObject({ seq: 0, extra: { openTurn: { attempts: 1 } } });
  });

  test("attempts survive a reload, also where nothing ever succeeded", async () => {
    const { rig, c, fails, runs } = strict({}, { maxAttempts: 5, poisonMinMs: 1 });
    fails.set("m1", new Error("no"));
    rig.deliver(c, { id: "m1" });
    await rig.environment.until(() => runs.length === 3, 10_000, "three attempts");
    await quiet();
    c.moveToList();
    await quiet();
    const next = reloaded(rig, c);
    next.wake();
    await rig.environment.pass(60_000);
    expect([runs.length, next.situation.state]).toEqual([5, "halted"]);
  });
});

describe("a halted conversation", () => {
  test("lets what comes wait in order, durably, and pins no inbox entry", async () => {
    const { rig, c, fails } = strict();
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, { id: "m1" });
    await quiet();
    rig.deliver(c, ...ids("m2", "m3"));
    await quiet();
    expect(rig.waiting(c).map(({ id }) => id)).toEqual(["m1", "m2", "m3"]);
    expect([rig.blocked.size, c.settled, c.mailboxDepth]).toEqual([0, true, 0]);
  });

  test("goes on with `retry`: attempts count from 0, the order is kept", async () => {
    const { rig, c, fails } = strict();
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, ...ids("m1", "m2"));
    await quiet();
    const halt = haltOf(rig, c);
    rig.control(c, "retry", halt);
    await quiet();
    expect(haltOf(rig, c)).toBe(halt); // it failed again
    expect(rig.record(c).record.extra!.openTurn!.attempts).toBe(1);
    fails.clear();
    rig.control(c, "retry", halt);
    await settle();
    expect([rig.state(c), rig.open.size, rig.lists.size]).toEqual([["m1", "m2"], 0, 0]);
    expect(c.situation).toMatchObject({ state: "idle", waiting: 0, attempts: 0 });
  });

  test("goes on with `skip`: the message becomes a dead letter with its attempts, in the commit that passes it", async () => {
    const { rig, c, fails } = strict();
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, { id: "m1", text: "the text" }, { id: "m2" });
    await quiet();
    rig.control(c, "skip", haltOf(rig, c));
    await settle();
    expect([rig.state(c), rig.open.size, rig.lists.size]).toEqual([["m2"], 0, 0]);
    expect(rig.dead).toMatchObject([
      { direction: "in", conversation: "c1", id: "m1", reason: "skipped", attempts: 1, botVersion: 1 },
    ]);
    rig.deliver(c, { id: "m1", text: "the text" });
    await quiet();
    expect([rig.counters.duplicates, rig.state(c)]).toEqual([1, ["m2"]]);
  });

  test("every verb works on one that is loaded for it, with a list longer than memory", async () => {
    for (const verb of ["retry", "skip"] as const) {
      const { rig, c, fails } = strict({ bounds: { mailboxMax: 2 } });
      fails.set("m1", new TerminalError("never"));
      rig.deliver(c, ...ids("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"));
      await settle();
      fails.clear();
      const next = reloaded(rig, c);
      rig.control(next, verb, haltOf(rig, c));
      await settle();
      const rest = ["m2", "m3", "m4", "m5", "m6", "m7", "m8"];
      expect(rig.state(next)).toEqual(verb === "retry" ? ["m1", ...rest] : rest);
      expect([rig.open.size, rig.lists.size]).toEqual([0, 0]);
    }
  });

  test("a verb that comes twice, late, or for another halt changes nothing and frees its entry (C9)", async () => {
    const { rig, c, fails } = strict();
    fails.set("m1", new TerminalError("never")).set("m2", new TerminalError("never"));
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    await quiet();
    const first = haltOf(rig, c);
    rig.control(c, "skip", first);
    rig.control(c, "skip", first);
    await settle();
    const second = haltOf(rig, c);
    expect([second === first, rig.dead.map(({ id }) => id)]).toEqual([false, ["m1"]]); // m2 was not skipped
    expect(rig.finished).toHaveLength(1);
    rig.control(c, "retry", first);
    rig.control(c, "skip", "gap-0-1");
    await settle();
    expect([haltOf(rig, c), rig.finished.length, rig.dead.length]).toEqual([second, 3, 1]);
    fails.clear();
    rig.control(c, "retry", second);
    rig.control(c, "retry", second);
    await settle();
    expect([rig.state(c), rig.finished.length]).toEqual([["m2", "m3"], 4]);
    expect(rig.log.at("info", "changed nothing")).toHaveLength(4);
  });

  test("a verb to a conversation that never was frees its entry and writes nothing", async () => {
    const { rig, c } = strict();
    rig.control(c, "retry", "gap-0-1");
    await quiet();
    expect([rig.finished.length, rig.writes.length, rig.crashes]).toEqual([1, 0, []]);
  });

  test("a verb is durable with what it did: its entry goes with that commit", async () => {
    const { rig, c, fails } = strict({ commits: "by hand" });
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, { id: "m1" });
    await quiet();
    rig.commit();
    await quiet();
    rig.commit();
    const before = rig.writes.length;
    rig.control(c, "skip", haltOf(rig, c));
    await settle();
    rig.commit();
    expect(rig.finished).toEqual([]);
    expect(rig.writes.slice(before).flatMap(({ consumed }) => consumed)).toHaveLength(1);
  });
});

describe("a gap that halts", () => {
  const halted = async () => {
    const { rig, c, fails } = strict({ channel: contiguous });
    rig.deliver(c, ...placed(1, 3, 6, 5));
    await rig.environment.pass(3_100);
    await settle();
    expect([c.situation.state, haltOf(rig, c)]).toEqual(["halted", "gap-0-2"]);
    return { rig, c, fails };
  };

  test("`skip` goes on with the lowest there is; the next gap has its own time and name", async () => {
    const { rig, c } = await halted();
    rig.control(c, "skip", "gap-0-2");
    await settle();
    expect(rig.state(c)).toEqual(["m1", "m3"]);
    await rig.environment.pass(3_100);
    await settle();
    expect(haltOf(rig, c)).toBe("gap-0-4");
    rig.control(c, "skip", "gap-0-2"); // late
    rig.control(c, "skip", "gap-0-4");
    await settle();
    expect([rig.state(c), rig.lists.size, rig.open.size]).toEqual([["m1", "m3", "m5", "m6"], 0, 0]);
    expect(rig.dead).toEqual([]); // nothing was set aside
  });

  test("`retry` waits once more for `gapTimeoutMs`, however many wait", async () => {
    const { rig, c } = await halted();
    rig.control(c, "retry", "gap-0-2");
    await settle();
    await rig.environment.pass(2_900);
    await settle();
    expect(c.situation.state).toBe("held");
    await rig.environment.pass(300);
    await settle();
    expect(haltOf(rig, c)).toBe("gap-0-2");
    rig.control(c, "retry", "gap-0-2");
    await settle();
    rig.deliver(c, ...placed(2));
    await settle();
    expect(rig.state(c)).toEqual(["m1", "m2", "m3"]);
  });

  test("`skip` of one that is loaded for it reads all of its list first", async () => {
    const { rig, c } = await halted();
    rig.deliver(c, ...placed(9, 8, 7, 4));
    await settle();
    const next = reloaded(rig, c);
    rig.control(next, "skip", "gap-0-2");
    await settle();
    expect(rig.state(next)).toEqual(["m1", "m3", "m4", "m5", "m6", "m7", "m8", "m9"]);
    expect([rig.lists.size, rig.open.size]).toEqual([0, 0]);
  });

  test("`skip` never goes back: what is late, or a repeat, has no say in where it goes on", async () => {
    const { rig, c } = await halted();
    rig.control(c, "skip", "gap-0-2");
    await settle();
    await rig.environment.pass(3_100);
    await settle();
    expect([rig.state(c), haltOf(rig, c)]).toEqual([["m1", "m3"], "gap-0-4"]);
    rig.deliver(c, ...placed(2), ...placed(1)); // onto the list, since it is halted
    await settle();
    rig.control(c, "skip", "gap-0-4");
    await settle();
    expect(rig.state(c)).toEqual(["m1", "m3", "m5", "m6"]);
    expect([rig.dead.map(({ id, reason }) => [id, reason]), rig.counters.duplicates]).toEqual([[["m2", "late"]], 1]);
    expect(rig.record(c).record.extra!.order).toEqual({ epoch: 0, next: 7 });
  });

  test("a message fails for good behind it: each halt in its turn", async () => {
    const { rig, c, fails } = await halted();
    fails.set("m3", new TerminalError("never"));
    rig.deliver(c, ...placed(2));
    await settle();
    expect(rig.state(c)).toEqual(["m1", "m2"]);
    const halt = haltOf(rig, c);
    expect(halt).not.toMatch(/^gap/);
    rig.control(c, "skip", halt);
    await settle();
    expect(rig.dead).toMatchObject([{ id: "m3", reason: "skipped" }]);
    rig.deliver(c, ...placed(4));
    await settle();
    expect([rig.state(c), rig.lists.size]).toEqual([["m1", "m2", "m4", "m5", "m6"], 0]);
  });
});

describe("ordering `available`", () => {
  test("poison becomes a dead letter with its error, a notice follows before any message, the rest goes on", async () => {
    const { rig, c, fails } = available();
    fails.set("m1", new TerminalError("quotes the customer"));
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    expect(rig.state(c)).toEqual(["poisoned:m1", "m2"]);
    expect(rig.dead).toMatchObject([{ id: "m1", reason: "poison", attempts: 1, botVersion: 1 }]);
    expect(rig.dead[0]!.error).toContain("quotes the customer"); // in full, for whoever mends it
    expect(rig.record(c).record).toMatchObject({ seq: 2, extra: null });
    expect([rig.counters.poisoned, rig.counters.deadLetters, rig.open.size]).toEqual([1, 1, 0]);
  });

  test("a clock that was set for it is taken away with it", async () => {
    const { rig, c, fails, runs } = available({}, { maxAttempts: 2, poisonMinMs: 1 });
    fails.set("m1", new Error("no"));
    rig.deliver(c, { id: "m1" });
    await quiet();
    c.moveToList();
    await quiet();
    expect([...rig.timers.keys()][0]).toContain(RETRY_CLOCK);
    await rig.environment.pass(10_000);
    await settle();
    expect([runs.length, rig.timers.size, rig.lists.size, rig.open.size]).toEqual([2, 0, 0, 0]);
  });

  test("notices come in order, before what waits, and each once, across a reload", async () => {
    const held = gate();
    const wrong = new Set(["m1", "m2"]);
    const bot = collector(
      ({ id }) => {
        if (wrong.has(id)) throw new TerminalError("never");
      },
      {
        ordering: "available",
        onNotice: {
          poisoned: async (state: Seen, { id }) => {
            await held.promise;
            return [...state, `poisoned:${id}`];
          },
        },
      },
    );
    const rig = new ConversationRig(bot, { channel: contiguous });
    const c = rig.conversation();
    rig.deliver(c, ...placed(1, 2, 3));
    await settle();
    expect(rig.record(c).record.extra!.notices).toMatchObject([{ kind: "poisoned", id: "m1" }]);
    expect(rig.open.get(c.key)).toMatchObject({ state: "active", runs: true });
    const next = reloaded(rig, c);
    rig.deliver(next, ...placed(2, 3)); // read again
    held.open();
    await settle();
    expect(rig.state(next)).toEqual(["poisoned:m1", "poisoned:m2", "m3"]);
    expect([rig.record(next).record.seq, rig.dead.length]).toEqual([3, 2]);
  });

  test("attack B17: a notice that fails for good is dropped, and there is no notice for a notice", async () => {
    const runs: string[] = [];
    const bot = collector(
      ({ id }) => {
        if (id === "m1") throw new TerminalError("never");
      },
      {
        ordering: "available",
        onNotice: {
          poisoned: (_state: Seen, { id }) => {
            runs.push(id);
            throw new TerminalError("never either");
          },
        },
      },
    );
    const rig = new ConversationRig(bot);
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    expect([runs, rig.state(c), rig.dead.length]).toEqual([["m1"], ["m2"], 2]); // the message, and the notice of it
    expect(rig.log.at("error", "failed on a notice for good")).toHaveLength(1);
    expect(rig.record(c).record).toMatchObject({ seq: 1, extra: null });
  });

  test("a notice that fails runs again with backoff, before any message", async () => {
    let fails = true;
    const bot = collector(
      ({ id }) => {
        if (id === "m1") throw new TerminalError("never");
      },
      {
        ordering: "available",
        onNotice: {
          poisoned: (state: Seen, { id }) => {
            if (fails) throw new Error("not yet");
            return [...state, `poisoned:${id}`];
          },
        },
      },
    );
    const rig = new ConversationRig(bot);
    const c = rig.conversation();
    rig.deliver(c, ...ids("m1", "m2"));
    await rig.environment.pass(500);
    await settle();
    expect(rig.record(c).record).toMatchObject({ seq: 0 });
    const next = reloaded(rig, c);
    rig.deliver(next, { id: "m2" }); // read again
    fails = false;
    await rig.environment.pass(2_000);
    await settle();
    expect(rig.state(next)).toEqual(["poisoned:m1", "m2"]);
  });

  test("a bot without a handler for it is told nothing", async () => {
    const { rig, c, fails } = available({}, { onNotice: {} });
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    expect([rig.state(c), rig.record(c).record.seq]).toEqual([["m2"], 1]);
  });
});

describe("attack B17: sends that follow from one another without end", () => {
  test("over `hopsMax` a message becomes a dead letter, also in strict and as the very first", async () => {
    for (const make of [strict, available]) {
      const { rig, c } = make({ bounds: { hopsMax: 2 } });
      const from = { bot: "b", channel: "test", conversation: "other" };
      for (const message of rig.messages(c, ids("m1"), { from, hops: 3 })) c.deliver(message);
      for (const message of rig.messages(c, ids("m2"), { from, hops: 2 })) c.deliver(message);
      await settle();
      expect([rig.state(c), c.situation.state]).toEqual([["m2"], "idle"]);
      expect(rig.dead).toMatchObject([{ id: "m1", reason: "hops" }]);
    }
  });
});

describe("no room for another dead letter", () => {
  test("the conversation halts at the message, and goes on with `retry` once there is room", async () => {
    const { rig, c, fails } = available();
    fails.set("m2", new TerminalError("never"));
    rig.deadLettersHaveRoom = false;
    rig.deliver(c, ...ids("m1", "m2", "m3"));
    await settle();
    expect([rig.state(c), c.situation.state]).toEqual([["m1"], "halted"]);
    expect(rig.open.get(c.key)).toMatchObject({ reason: "full", waiting: 2 });
    expect(rig.waiting(c).map(({ id }) => id)).toEqual(["m2", "m3"]);
    rig.control(c, "retry", haltOf(rig, c));
    await settle();
    expect([rig.dead.length, c.situation.state]).toEqual([0, "halted"]);
    rig.deadLettersHaveRoom = true;
    rig.control(c, "retry", haltOf(rig, c));
    await settle();
    expect([rig.state(c), rig.dead.map(({ id }) => id)]).toEqual([["m1", "poisoned:m2", "m3"], ["m2"]]);
  });

  test("`skip` without room halts as before, at the same message", async () => {
    const { rig, c, fails } = strict();
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, ...ids("m1", "m2"));
    await settle();
    rig.deadLettersHaveRoom = false;
    rig.control(c, "skip", haltOf(rig, c));
    await settle();
    expect([c.situation.state, rig.open.get(c.key)!.reason, rig.dead.length]).toEqual(["halted", "full", 0]);
    rig.deadLettersHaveRoom = true;
    rig.control(c, "skip", haltOf(rig, c));
    await settle();
    expect([rig.state(c), rig.dead.map(({ id }) => id), rig.lists.size]).toEqual([["m2"], ["m1"], 0]);
  });

  test("also at a conversation's very first message, and for one that is late", async () => {
    const { rig, c } = strict({ bounds: { hopsMax: 0 } });
    rig.deadLettersHaveRoom = false;
    for (const message of rig.messages(c, ids("m1"), { hops: 1 })) c.deliver(message);
    await settle();
    expect([c.situation.state, rig.crashes, rig.open.get(c.key)!.reason]).toEqual(["halted", [], "full"]);
    const late = strict({ channel: contiguous });
    late.rig.deliver(late.c, ...placed(1, 2));
    late.rig.deadLettersHaveRoom = false;
    late.rig.deliver(late.c, { id: "m0", sequence: 0 }, ...placed(3));
    await settle();
    expect(late.c.situation.state).toBe("halted");
    late.rig.deadLettersHaveRoom = true;
    late.rig.control(late.c, "retry", haltOf(late.rig, late.c));
    await settle();
    expect(late.rig.dead).toMatchObject([{ id: "m0", reason: "late" }]);
    expect(late.rig.state(late.c)).toEqual(["m1", "m2", "m3"]);
  });
});

describe("a redriven dead letter", () => {
  const poisoned = async () => {
    const { rig, c, fails } = available({}, { onNotice: {} });
    fails.set("m1", new TerminalError("never"));
    rig.deliver(c, { id: "m1", text: "the text" }, { id: "m2" });
    await settle();
    fails.clear();
    return { rig, c, fails };
  };

  test("runs as a message of its own, once however often it is sent, and its letter goes in that commit", async () => {
    const { rig, c } = await poisoned();
    rig.redrive(c, rig.dead[0]!, "77-0", 3);
    await settle();
    expect(rig.state(c)).toEqual(["m2", "redriven:m1"]);
    expect(rig.deadDone.slice(0, 1)).toEqual(["77-0"]);
    expect(rig.counters.duplicates).toBe(2);
    rig.deliver(c, { id: "m1", text: "the text" }); // from outside it is what it always was
    await settle();
    expect([rig.state(c), rig.counters.duplicates]).toEqual([["m2", "redriven:m1"], 3]);
  });

  test("that fails again is another letter, and the old one goes", async () => {
    const { rig, c, fails } = await poisoned();
    fails.set("m1", new TerminalError("still"));
    rig.redrive(c, rig.dead[0]!, "77-0");
    await settle();
    expect(rig.deadDone).toEqual(["77-0"]);
    expect(rig.dead.map(({ id, reason }) => [id, reason])).toEqual([
      ["m1", "poison"],
      ["m1", "poison"],
    ]);
    fails.clear();
    rig.redrive(c, rig.dead[1]!, "78-0");
    await settle();
    expect([rig.state(c), rig.deadDone]).toEqual([
      ["m2", "redriven:m1"],
      ["77-0", "78-0"],
    ]);
  });

  test("goes at once, whatever the order of the outside: its place was decided when it was set aside", async () => {
    const { rig, c } = strict({ channel: contiguous });
    rig.deliver(c, ...placed(1, 2), { id: "m0", sequence: 0, text: "late" });
    await settle();
    expect(rig.dead).toMatchObject([{ id: "m0", reason: "late" }]);
    rig.redrive(c, rig.dead[0]!, "77-0");
    rig.deliver(c, ...placed(3));
    await settle();
    expect(rig.state(c)).toEqual(["m1", "m2", "redriven:m0", "m3"]);
    expect(rig.record(c).record.extra).toEqual({ order: { epoch: 0, next: 4 } });
  });
});
