// G1 to G6 of actors/turn-journal.ts, S1 and S2 of actors/running-step.ts, T5 and T6 of actors/turn.ts.

import { describe, expect, test } from "vitest";
import type { TurnResult } from "../../actors/turn.ts";
import type { TurnContext } from "../../src/domain/bot.ts";
import type { Plain } from "../../src/domain/plain-data.ts";
import type { JournaledStep } from "../../src/domain/record.ts";
import {
  HandlerTimeoutError,
  StepMismatchError,
  StepTimeoutError,
  TerminalError,
  TurnEndedError,
  TurnOutputError,
} from "../../src/errors.ts";
import { gate, quiet } from "../support/quiet.ts";
import { errorOf, type Given, JournalRig, openTurn, resultOf, run } from "./support/turn-rig.ts";

/** A turn whose state is what the handler's body came to. */
const body =
  (steps: (ctx: TurnContext) => Promise<unknown>) =>
  async (_state: Plain, _message: unknown, ctx: TurnContext): Promise<unknown> => {
    const value = await steps(ctx);
    return value === undefined ? "none" : value;
  };

const over = (rig: JournalRig, steps: (ctx: TurnContext) => Promise<unknown>, given: Given = {}): Promise<TurnResult> =>
  resultOf(body(steps), { ...given, journal: rig.journal });

const stateOf = (result: TurnResult): Plain => {
  if (result.kind === "failed") throw result.error;
  return result.state;
};

const step = (index: number, name: string, result?: Plain, occurrence = 0): JournaledStep =>
  result === undefined ? { index, name, occurrence } : { index, name, occurrence, result };

describe("a step", () => {
  test("runs once; a re-run of the turn, in this process or another, is given its result (G2)", async () => {
    const rig = new JournalRig();
    let charges = 0;
    const charge = (ctx: TurnContext) =>
      ctx.step("charge", () => {
        charges += 1;
        return { receipt: charges };
      });
    const failing = await over(rig, async (ctx) => {
      await charge(ctx);
      throw new Error("after it");
    });
    expect(failing.kind).toBe("failed");
    expect(stateOf(await over(rig, charge))).toEqual({ receipt: 1 });
    await quiet();
    const next = new JournalRig({ open: openTurn({ steps: rig.durable.steps }) });
    expect(stateOf(await over(next, charge))).toEqual({ receipt: 1 });
    expect(charges).toBe(1);
  });

  test("keeps undefined apart from null, and gives what it journaled frozen", async () => {
    const rig = new JournalRig();
    for (let i = 0; i < 2; i += 1) {
      const result = await over(rig, async (ctx) => {
        const nothing = await ctx.step("nothing", () => undefined);
        const empty = await ctx.step("empty", () => null);
        const full = await ctx.step("full", () => ({ list: [{ x: 1 }] }));
        expect(Object.isFrozen(full.list[0])).toBe(true);
        return [nothing === undefined, empty === null];
      });
      expect(stateOf(result)).toEqual([true, true]);
    }
    expect(rig.journal.steps).toEqual([
      step(0, "nothing"),
      step(1, "empty", null),
      step(2, "full", { list: [{ x: 1 }] }),
    ]);
  });

  test("of a name that the turn used before is another one", async () => {
    const rig = new JournalRig();
    const thrice = async (ctx: TurnContext) => {
      const results: number[] = [];
      for (let i = 0; i < 3; i += 1) results.push(await ctx.step("item", () => i));
      return results;
    };
    expect(stateOf(await over(rig, thrice))).toEqual([0, 1, 2]);
    expect(rig.journal.steps).toEqual([step(0, "item", 0), step(1, "item", 1, 1), step(2, "item", 2, 2)]);
    expect(stateOf(await over(rig, thrice))).toEqual([0, 1, 2]);
  });

  test("begins when all before it is durable, and returns without waiting for its own commit (R4's gate, G1, G3)", async () => {
    const rig = new JournalRig({ commits: "by hand" });
    rig.changed(); // an earlier turn, uncommitted
    const seen: string[] = [];
    const done = over(rig, async (ctx) => {
      await ctx.step("a", () => {
        seen.push("a runs");
        return 1;
      });
      seen.push(`a returned, uncommitted: ${rig.isDirty}`);
      await ctx.step("b", () => {
        seen.push(`b runs, durable: ${rig.durable.steps.map(({ name }) => name).join()}`);
        return 2;
      });
    });
    await quiet();
    expect(seen).toEqual([]);
    rig.commit();
    await quiet();
    expect(seen).toEqual(["a runs", "a returned, uncommitted: true"]);
    rig.commit();
    stateOf(await done);
    expect(seen[2]).toBe("b runs, durable: a");
    expect(rig.isDirty).toBe(true); // the last one rides with the turn
  });

  test("of a journal is given back at once, without the gate", async () => {
    const rig = new JournalRig({ commits: "by hand", open: openTurn({ steps: [step(0, "a", 1)] }) });
    rig.changed();
    expect(stateOf(await over(rig, (ctx) => ctx.step("a", () => 2)))).toBe(1);
  });

  test("that fails is told to the handler, is not journaled, and runs again in the next run", async () => {
    const rig = new JournalRig();
    let runs = 0;
    const failing = async (ctx: TurnContext) =>
      ctx.step("s", () => {
        runs += 1;
        if (runs === 1) throw new Error("down");
        return runs;
      });
    const caught = await over(rig, (ctx) => failing(ctx).catch((error: Error) => error.message));
    expect(stateOf(caught)).toBe("down");
    expect(rig.journal.steps).toEqual([]);
    expect(stateOf(await over(rig, failing))).toBe(2);
  });

  test("runs side by side with others, each journaled when it ends", async () => {
    const rig = new JournalRig();
    const gates = { a: gate<number>(), b: gate<number>(), c: gate<number>() };
    const all = (ctx: TurnContext) =>
      Promise.all((["a", "b", "c"] as const).map((name) => ctx.step(name, () => gates[name].promise)));
    const first = over(rig, all);
    await quiet();
    gates.b.open(2);
    await quiet();
    expect(rig.durable.steps).toEqual([step(1, "b", 2)]);
    gates.a.open(1);
    gates.c.open(3);
    expect(stateOf(await first)).toEqual([1, 2, 3]);
    const next = new JournalRig({ open: openTurn({ steps: [step(1, "b", 20)] }) }); // as if the process had died then
    expect(stateOf(await over(next, all))).toEqual([1, 20, 3]);
    expect(next.journal.steps.map(({ index, name }) => `${index} ${name}`)).toEqual(["1 b", "0 a", "2 c"]);
  });
});

describe("retry and timeout of a step", () => {
  test("retry is how many more tries there are, after a short backoff by the environment's clock", async () => {
    const rig = new JournalRig();
    const triesAtMs: number[] = [];
    const startMs = rig.environment.nowMs();
    const result = over(rig, (ctx) =>
      ctx.step(
        "s",
        () => {
          triesAtMs.push(rig.environment.nowMs() - startMs);
          throw new Error(`try ${triesAtMs.length}`);
        },
        { retry: 3 },
      ),
    );
    await rig.environment.pass(60_000);
    expect(String(errorOf(await result))).toContain("try 4");
    expect(triesAtMs).toHaveLength(4);
    const waits = triesAtMs.slice(1).map((ms, i) => ms - triesAtMs[i]!);
    for (const [i, baseMs] of [100, 200, 400].entries()) {
      expect(waits[i]).toBeGreaterThanOrEqual(baseMs / 2);
      expect(waits[i]).toBeLessThanOrEqual(baseMs);
    }
  });

  test("a TerminalError ends the tries, and is what the handler is thrown", async () => {
    let tries = 0;
    const never = new TerminalError("never");
    const result = await over(new JournalRig(), (ctx) =>
      ctx.step(
        "s",
        () => {
          tries += 1;
          throw never;
        },
        { retry: 5 },
      ),
    );
    expect(errorOf(result)).toBe(never);
    expect(tries).toBe(1);
  });

  test("timeout is per try, aborts its signal, and ends in a StepTimeoutError that names the step", async () => {
    const rig = new JournalRig();
    const signals: AbortSignal[] = [];
    const result = over(rig, (ctx) =>
      ctx.step(
        "slow",
        (signal) => {
          signals.push(signal);
          return new Promise<number>(() => undefined);
        },
        { retry: 1, timeout: "2s" },
      ),
    );
    await quiet();
    await rig.environment.pass(1_999);
    expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
    await rig.environment.pass(10_000);
    const error = errorOf(await result);
    expect(error).toBeInstanceOf(StepTimeoutError);
    expect(String(error)).toContain("try 2 of step slow ran longer than 2000 ms");
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    expect(signals[1]!.reason).toBe(error);
  });

  test("a try that succeeds after its time was up counts while another one is due: what was done is not done again (S1)", async () => {
    for (const endsDuring of ["the backoff", "the next try"]) {
      const rig = new JournalRig();
      const tries = [gate<string>(), gate<string>()];
      const signals: AbortSignal[] = [];
      const result = over(rig, (ctx) =>
        ctx.step(
          "s",
          (signal) => {
            signals.push(signal);
            return tries[signals.length - 1]!.promise;
          },
          { retry: 1, timeout: 1_000 },
        ),
      );
      await quiet();
      await rig.environment.pass(endsDuring === "the backoff" ? 1_001 : 1_200);
      expect(signals).toHaveLength(endsDuring === "the backoff" ? 1 : 2);
      tries[0]!.open("first");
      expect(stateOf(await result)).toBe("first");
      await rig.environment.pass(10_000);
      expect(signals).toHaveLength(endsDuring === "the backoff" ? 1 : 2); // S2
      expect(signals.at(-1)!.aborted).toBe(true);
      tries[1]!.open("second");
      await quiet();
      expect(rig.journal.steps).toEqual([step(0, "s", "first")]);
    }
  });

  test("a try in time leaves its signal alone", async () => {
    let signal: AbortSignal | undefined;
    const rig = new JournalRig();
    await over(rig, (ctx) =>
      ctx.step(
        "s",
        (given) => {
          signal = given;
          return 1;
        },
        { timeout: 5 },
      ),
    );
    await rig.environment.pass(100);
    expect(signal!.aborted).toBe(false);
  });
});

describe("a step outlives the run of the turn that began it (attack A6)", () => {
  test("the next run joins it instead of running it again; the turn's own time-out does not abort it", async () => {
    const rig = new JournalRig();
    const charged = gate<string>();
    let charges = 0;
    let signal: AbortSignal | undefined;
    const charge = (ctx: TurnContext) =>
      ctx.step("charge", (given) => {
        charges += 1;
        signal = given;
        return charged.promise;
      });
    const seen: unknown[] = [];
    const first = run(
      body((ctx) => charge(ctx).catch((error: unknown) => seen.push(error))),
      { journal: rig.journal },
    );
    await quiet();
    first.turn.expire();
    expect(errorOf(await first.later)).toBeInstanceOf(HandlerTimeoutError);
    await quiet();
    expect(seen).toEqual([errorOf(await first.later)]); // T6
    expect(signal!.aborted).toBe(false);
    const second = over(rig, charge);
    await quiet();
    charged.open("receipt");
    expect(stateOf(await second)).toBe("receipt");
    expect(charges).toBe(1);
  });

  test("a later try of it still has the idempotency key of the first", async () => {
    const rig = new JournalRig();
    const keys: string[] = [];
    const charge = (ctx: TurnContext) =>
      ctx.step(
        "charge",
        () => {
          keys.push(ctx.idempotencyKey("charge"));
          if (keys.length === 1) throw new Error("down");
          return keys.length;
        },
        { retry: 1 },
      );
    const first = run(body(charge), { journal: rig.journal });
    await quiet();
    first.turn.expire();
    await first.later;
    await rig.environment.pass(1_000);
    expect(stateOf(await over(rig, charge))).toBe(2);
    expect(keys).toEqual([keys[0], keys[0]]);
  });

  test("one that ends between two runs is journaled all the same", async () => {
    const rig = new JournalRig();
    const charged = gate<string>();
    const charge = (ctx: TurnContext) => ctx.step("charge", () => charged.promise);
    const first = run(body(charge), { journal: rig.journal });
    await quiet();
    first.turn.expire();
    await first.later;
    charged.open("receipt");
    await quiet();
    expect(rig.durable.steps).toEqual([step(0, "charge", "receipt")]);
    expect(stateOf(await over(rig, (ctx) => ctx.step("charge", () => "again")))).toBe("receipt");
  });

  test("one that waits at the gate when its turn ends never begins", async () => {
    const rig = new JournalRig({ commits: "by hand" });
    rig.changed();
    let runs = 0;
    const first = run(
      body((ctx) => ctx.step("s", () => (runs += 1))),
      { journal: rig.journal },
    );
    await quiet();
    first.turn.expire();
    rig.commit();
    await quiet();
    expect(runs).toBe(0);
    expect(stateOf(await over(rig, (ctx) => ctx.step("s", () => (runs += 1))))).toBe(1);
  });

  test("a journal that another incarnation adopts keeps what finished and what runs, and the replies that are stored", async () => {
    const rig = new JournalRig();
    const held = gate<string>();
    const steps = async (ctx: TurnContext) => {
      await ctx.step("a", () => "A");
      ctx.reply("on it");
      await ctx.replyNow();
      return [await ctx.step("b", () => held.promise), await ctx.step("c", () => "C")];
    };
    const first = run(body(steps), { journal: rig.journal });
    await quiet();
    first.turn.abandon();
    await first.later;
    const stored = openTurn({ steps: [], repliesOut: 0 }); // as if nothing had been committed
    const next = new JournalRig({ open: stored });
    next.journal = rig.journal;
    rig.journal.adopt(stored, next);
    expect(next.isDirty).toBe(true);
    expect(rig.journal.repliesOut).toBe(0);
    const second = over(next, steps);
    await quiet();
    held.open("B");
    expect(stateOf(await second)).toEqual(["B", "C"]);
    expect(next.durable.replies).toEqual([{ text: "on it" }]);
    expect(next.journal.steps.map(({ name }) => name)).toEqual(["a", "b", "c"]);
  });

  test("after close nothing is remembered and nobody told; what runs is aborted and rejects (G5)", async () => {
    const rig = new JournalRig();
    const held = gate<string>();
    let signal: AbortSignal | undefined;
    let late: unknown;
    const done = await over(rig, async (ctx) => {
      const loser = ctx.step("loser", (given) => {
        signal = given;
        return held.promise;
      });
      loser.catch((error: unknown) => {
        late = error;
      });
      await Promise.race([loser, ctx.step("winner", () => 1)]);
    });
    stateOf(done);
    await quiet();
    rig.journal.close();
    expect(signal!.aborted).toBe(true);
    held.open("too late");
    await quiet();
    expect(late).toBeInstanceOf(TurnEndedError);
    expect(rig.journal.steps).toEqual([step(1, "winner", 1)]);
    expect(rig.isDirty).toBe(false);
  });
});

test("a journal that is closed at any moment of a step's end changes no more (G5)", async () => {
  const lengths = new Set<number>();
  for (let moments = 0; moments < 12; moments += 1) {
    const rig = new JournalRig();
    const held = gate<string>();
    run(
      body((ctx) => ctx.step("s", () => held.promise)),
      { journal: rig.journal },
    );
    await quiet();
    held.open("done");
    for (let i = 0; i < moments; i += 1) await Promise.resolve();
    rig.journal.close();
    const atClose = rig.journal.steps;
    await quiet();
    expect(rig.journal.steps).toBe(atClose);
    lengths.add(atClose.length);
  }
  expect([...lengths]).toEqual([0, 1]); // before its end, and after
});

describe("a re-run that does not do the same is an error that names both (J2, J3)", () => {
  test("another step at the place of a journaled one is not run", async () => {
    let runs = 0;
    const rig = new JournalRig({ open: openTurn({ steps: [step(0, "charge", 1), step(1, "mail", 2)] }) });
    const result = await over(rig, async (ctx) => {
      await ctx.step("charge", () => 0);
      await ctx.step("refund", () => (runs += 1));
    });
    const error = errorOf(result);
    expect(error).toBeInstanceOf(StepMismatchError);
    expect(error).not.toBeInstanceOf(TerminalError);
    expect(error).toMatchObject({ journaled: "mail", asked: "refund" });
    expect(String(error)).toMatch(/step mail \(number 2\).*step refund there/);
    expect(runs).toBe(0);
  });

  test("so is another one at the place of one that still runs", async () => {
    const rig = new JournalRig();
    const first = run(
      body((ctx) => ctx.step("charge", () => new Promise<number>(() => undefined))),
      { journal: rig.journal },
    );
    await quiet();
    first.turn.expire();
    await first.later;
    const result = await over(rig, (ctx) => ctx.step("other", () => 1));
    expect(errorOf(result)).toMatchObject({ journaled: "charge", asked: "other" });
  });

  test("a run that ends without asking for a journaled step fails", async () => {
    const rig = new JournalRig({ open: openTurn({ steps: [step(0, "charge", 1)] }) });
    const result = await over(rig, async () => "no step at all");
    expect(errorOf(result)).toBeInstanceOf(StepMismatchError);
    expect(errorOf(result)).toMatchObject({ journaled: "charge", asked: null });
    const synchronous = run((state) => state, { journal: rig.journal });
    expect(errorOf(synchronous.now)).toBeInstanceOf(StepMismatchError);
  });

  test("branches side by side may reach their journaled steps in another order", async () => {
    const rig = new JournalRig({ open: openTurn({ steps: [step(0, "a", 1), step(1, "b", 2)] }) });
    const result = await over(rig, async (ctx) => {
      const [b, a] = await Promise.all([ctx.step("b", () => 0), ctx.step("a", () => 0)]);
      return [a, b, await ctx.step("c", () => 3)];
    });
    expect(stateOf(result)).toEqual([1, 2, 3]);
  });
});

describe("steps are bounded and checked", () => {
  test("more than stepsMax, those of the journal included, is refused before it runs", async () => {
    const rig = new JournalRig({ bounds: { stepsMax: 2 } });
    const ran: number[] = [];
    const three = async (ctx: TurnContext) => {
      for (let i = 0; i < 3; i += 1) await ctx.step(`s${i}`, () => ran.push(i));
    };
    for (let i = 0; i < 2; i += 1) {
      const error = errorOf(await over(rig, three));
      expect(error).toBeInstanceOf(TurnOutputError);
      expect(String(error)).toContain("2 steps (stepsMax)");
    }
    expect(ran).toEqual([0, 1]);
  });

  test("what cannot be kept fails the step by a bound's name or a path, and its effect is not repeated here (G6)", async () => {
    const results: [() => unknown, string][] = [
      [() => "x".repeat(10_000), "journalBytesMax"],
      [() => ({ when: new Date() }), "the result of step s.when is a Date"],
    ];
    for (const [result, says] of results) {
      const rig = new JournalRig();
      let runs = 0;
      const effect = (ctx: TurnContext) =>
        ctx.step("s", () => {
          runs += 1;
          return result() as Plain;
        });
      for (let i = 0; i < 3; i += 1) expect(String(errorOf(await over(rig, effect)))).toContain(says);
      expect(runs).toBe(1);
      expect(rig.journal.isEmpty).toBe(true);
    }
  });

  test("the bound counts what was journaled before, in this life or an earlier one", async () => {
    const steps = [step(0, "a", "x".repeat(600))];
    const rig = new JournalRig({ bounds: { journalBytesMax: 950 }, open: openTurn({ steps }) });
    const result = await over(rig, async (ctx) => {
      await ctx.step("a", () => "");
      await ctx.step("b", () => "y".repeat(300));
    });
    expect(errorOf(result)).toBeInstanceOf(TurnOutputError);
    const roomy = new JournalRig({ bounds: { journalBytesMax: 1_050 }, open: openTurn({ steps }) });
    stateOf(
      await over(roomy, async (ctx) => {
        await ctx.step("a", () => "");
        await ctx.step("b", () => "y".repeat(300));
      }),
    );
  });

  const wrong: [string, (ctx: TurnContext) => Promise<unknown>][] = [
    ["no name", (ctx) => ctx.step("", () => 1)],
    ["a name that is no text", (ctx) => ctx.step(7 as unknown as string, () => 1)],
    ["a name over 200 bytes", (ctx) => ctx.step("é".repeat(101), () => 1)],
    ["half of a surrogate pair", (ctx) => ctx.step("\ud83d", () => 1)],
    ["nothing to run", (ctx) => ctx.step("s", undefined as unknown as () => number)],
    ["a negative retry", (ctx) => ctx.step("s", () => 1, { retry: -1 })],
    ["half a retry", (ctx) => ctx.step("s", () => 1, { retry: 0.5 })],
    ["over 100 retries", (ctx) => ctx.step("s", () => 1, { retry: 101 })],
    ["no time at all", (ctx) => ctx.step("s", () => 1, { timeout: 0 })],
    ["more than a day", (ctx) => ctx.step("s", () => 1, { timeout: "25h" })],
    ["a timeout that is no duration", (ctx) => ctx.step("s", () => 1, { timeout: "soon" as "1s" })],
  ];
  for (const [what, use] of wrong) {
    test(`${what} is a TurnOutputError, and nothing is run`, async () => {
      const rig = new JournalRig();
      expect(errorOf(await over(rig, use))).toBeInstanceOf(TurnOutputError);
      expect(rig.journal.isUntouched).toBe(true);
    });
  }
});

describe("replyNow", () => {
  test("puts what was replied out in the order of the calls, and resolves when it is durable; the rest leaves with the turn", async () => {
    const rig = new JournalRig({ commits: "by hand" });
    rig.changed(); // an earlier turn, uncommitted
    let isOut = false;
    const turn = run(
      body(async (ctx) => {
        ctx.reply("one");
        ctx.reply({ text: "two", data: [2] });
        await ctx.replyNow();
        isOut = true;
        ctx.reply("three");
      }),
      { journal: rig.journal },
    );
    await quiet();
    expect(rig.journal.repliesOut).toBe(0); // the gate
    rig.commit();
    await quiet();
    expect([rig.journal.repliesOut, isOut]).toEqual([2, false]);
    rig.commit();
    expect(await turn.later).toMatchObject({ kind: "done", replies: [{ text: "three" }] });
    expect(rig.durable).toMatchObject({ repliesOut: 2, replies: [{ text: "one" }, { text: "two", data: [2] }] });
  });

  test("with nothing to say changes nothing", async () => {
    const rig = new JournalRig();
    await over(rig, (ctx) => ctx.replyNow());
    expect(rig.journal.isUntouched).toBe(true);
  });

  test("a re-run drops as many as are out, and no bound counts them twice (T5)", async () => {
    const rig = new JournalRig();
    const three = (fails: boolean) => async (ctx: TurnContext) => {
      for (const text of ["one", "two"]) {
        ctx.reply(text);
        await ctx.replyNow();
      }
      if (fails) throw new Error("after two");
      ctx.reply("three");
      return "done";
    };
    const bounds = { repliesMax: 3, turnReplyBytesMax: 11 };
    for (let i = 0; i < 3; i += 1) expect((await over(rig, three(true), { bounds })).kind).toBe("failed");
    expect(await over(rig, three(false), { bounds })).toMatchObject({ kind: "done", replies: [{ text: "three" }] });
    expect(rig.durable.replies).toEqual([{ text: "one" }, { text: "two" }]);
    expect(rig.journal.repliesOut).toBe(2);
  });

  test("a re-run is refused what the first run was: replies that are out count towards the bounds", async () => {
    const rig = new JournalRig();
    const four = async (ctx: TurnContext) => {
      for (const text of ["1", "2", "3", "4"]) {
        ctx.reply(text);
        await ctx.replyNow();
      }
    };
    for (let i = 0; i < 2; i += 1) {
      expect(String(errorOf(await over(rig, four)))).toContain("3 replies");
      expect(rig.durable.replies.map(({ text }) => text)).toEqual(["1", "2", "3"]);
    }
  });

  test("a reply that cannot be rendered is the handler's error, and none is out", async () => {
    const rig = new JournalRig();
    rig.renderError = new Error("cannot be drawn");
    const result = await over(rig, async (ctx) => {
      ctx.reply("one");
      await ctx.replyNow();
    });
    expect(errorOf(result)).toBe(rig.renderError);
    expect(rig.journal.isEmpty).toBe(true);
  });

  test("that nobody awaits leaves its replies to the commit of the turn", async () => {
    const rig = new JournalRig({ commits: "by hand" });
    rig.changed();
    let after: Promise<void> | undefined;
    const turn = run(
      (state, _message, ctx) => {
        ctx.reply("one");
        after = ctx.replyNow();
        return state;
      },
      { journal: rig.journal },
    );
    expect(turn.now).toMatchObject({ kind: "done", replies: [{ text: "one" }] });
    rig.commit();
    await after;
    expect(rig.journal.repliesOut).toBe(0);
  });

  test("two at a time put each reply out once", async () => {
    const rig = new JournalRig();
    stateOf(
      await over(rig, async (ctx) => {
        ctx.reply("one");
        const first = ctx.replyNow();
        ctx.reply("two");
        await Promise.all([first, ctx.replyNow()]);
      }),
    );
    expect(rig.durable.replies).toEqual([{ text: "one" }, { text: "two" }]);
  });
});

test("a turn without steps and replyNow leaves its journal untouched, for the next message", () => {
  const rig = new JournalRig();
  run(
    (state, _message, ctx) => {
      ctx.reply("hi");
      return state;
    },
    { journal: rig.journal },
  );
  expect([rig.journal.isUntouched, rig.journal.isEmpty, rig.isDirty]).toEqual([true, true, false]);
});

describe("after its end a turn's context does nothing (T1)", () => {
  const uses: [string, (ctx: TurnContext) => unknown][] = [
    ["step", (ctx) => ctx.step("s", () => 1)],
    ["replyNow", (ctx) => ctx.replyNow()],
    ["send", (ctx) => ctx.send({ conversation: "c2" }, { text: "t" })],
    ["timer", (ctx) => ctx.timer("t", "5m")],
    ["cancel", (ctx) => ctx.cancel("t")],
    ["end", (ctx) => ctx.end()],
    ["now", (ctx) => ctx.now()],
    ["uuid", (ctx) => ctx.uuid()],
    ["random", (ctx) => ctx.random()],
  ];
  for (const [name, use] of uses) {
    test(`ctx.${name} is a TurnEndedError that names it`, async () => {
      let kept: TurnContext | undefined;
      run((state, _message, ctx) => {
        kept = ctx;
        return state;
      });
      const thrown = await new Promise((resolve) => resolve(use(kept!))).catch((error: unknown) => error);
      expect(thrown).toBeInstanceOf(TurnEndedError);
      expect(String(thrown)).toContain(`ctx.${name}`);
    });
  }
});
