// When a failed message runs again and when it is poison; conversation-model.property.test.ts runs it through crashes
// and operators.

import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import {
  afterDeathAlone,
  afterFailure,
  countedAfresh,
  DEATHS_MAX,
  type PoisonRules,
} from "../../src/domain/attempts.ts";
import type { OpenTurn } from "../../src/domain/record.ts";
import { HANDLER_BACKOFF, retryDelayMs } from "../../src/domain/retry-policy.ts";
import { at } from "./support/numbered.ts";

const RULES: PoisonRules = { maxAttempts: 5, poisonMinMs: 600_000 };
const HERE = at(7);
const failure = { error: "Error: no answer", isTerminal: false };
const fail = (open: OpenTurn | undefined, nowMs: number, rules = RULES) =>
  afterFailure(open, HERE, failure, { nowMs, random: 0 }, rules);

const journal: OpenTurn = {
  position: HERE,
  attempts: 0,
  deaths: 0,
  firstFailedAtMs: null,
  nextAtMs: null,
  error: null,
  repliesOut: 2,
  steps: [{ index: 0, name: "lookup", occurrence: 0, result: 41 }],
};

describe("attempts", () => {
  law.prop([
    fc.integer({ min: 1, max: 8 }),
    fc.nat(20_000),
    fc.array(fc.nat(9_000), { maxLength: 12 }),
    fc.double({ min: 0, max: 0.99 }),
  ])(
    "end at the first failure that is both the maxAttempts-th and poisonMinMs after the first; before it the ladder holds (A2)",
    (maxAttempts, poisonMinMs, pauses, random) => {
      let open: OpenTurn | undefined;
      let nowMs = 1_000_000;
      pauses.forEach((pauseMs, failed) => {
        const after = afterFailure(open, HERE, failure, { nowMs, random }, { maxAttempts, poisonMinMs });
        const isOver = failed + 1 >= maxAttempts && nowMs - 1_000_000 >= poisonMinMs;
        expect(after.kind).toBe(isOver ? "poison" : "again");
        expect(after.open.attempts).toBe(failed + 1);
        expect(after.open.firstFailedAtMs).toBe(1_000_000);
        if (after.kind === "again") {
          expect(after.delayMs).toBe(retryDelayMs(HANDLER_BACKOFF, failed + 1, random));
          expect(after.open.nextAtMs).toBe(nowMs + after.delayMs);
        } else expect(after.open.nextAtMs).toBeNull();
        open = after.open;
        nowMs += pauseMs;
      });
    },
  );

  test("are over at once for an error that says so", () => {
    const after = afterFailure(undefined, HERE, { error: "E", isTerminal: true }, { nowMs: 5, random: 0 }, RULES);
    expect(after).toMatchObject({ kind: "poison", open: { attempts: 1, firstFailedAtMs: 5, error: "E" } });
  });

  test("keep the steps and replies of the turn, whatever fails, and when they are counted afresh (A3)", () => {
    const kept = { position: HERE, repliesOut: 2, steps: journal.steps };
    const failed = fail(journal, 10).open;
    expect(failed).toMatchObject(kept);
    const dead = afterDeathAlone(failed, HERE, 20).open;
    expect(dead).toMatchObject(kept);
    expect(countedAfresh(dead)).toEqual(journal);
  });

  test("do not go on for as long as a clock was set back", () => {
    const first = fail(undefined, 9_000_000).open;
    const second = fail(first, 1_000, { maxAttempts: 2, poisonMinMs: 100 });
    expect(second.kind).toBe("again");
    expect(fail(second.open, 1_100, { maxAttempts: 2, poisonMinMs: 100 }).kind).toBe("poison");
  });

  test("are never charged to another turn (A1)", () => {
    expect(() => afterFailure(journal, at(8), failure, { nowMs: 1, random: 0 }, RULES)).toThrow("another turn");
    expect(() => afterDeathAlone(journal, at(8), 1)).toThrow("another turn");
  });
});

describe("deaths alone", () => {
  test(`make a message poison at the ${DEATHS_MAX}rd and count nothing else (A1)`, () => {
    const failed = fail(undefined, 1_000).open;
    const first = afterDeathAlone(failed, HERE, 1_020);
    expect(first).toEqual({ kind: "again", open: { ...failed, deaths: 1 }, delayMs: failed.nextAtMs! - 1_020 });
    const second = afterDeathAlone(first.open, HERE, 9_000);
    expect(second).toEqual({ kind: "again", open: { ...failed, deaths: 2 }, delayMs: 0 });
    expect(afterDeathAlone(second.open, HERE, 9_000)).toMatchObject({
      kind: "poison",
      open: {
        deaths: 3,
        attempts: 1,
        nextAtMs: null,
        error: "the process ended 3 times while nothing but this turn ran",
      },
    });
  });

  test("open a turn where none was", () => {
    expect(afterDeathAlone(undefined, HERE, 1)).toMatchObject({
      kind: "again",
      open: { attempts: 0, deaths: 1 },
      delayMs: 0,
    });
  });
});
