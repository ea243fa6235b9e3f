// U1 to U3 of src/domain/halt.ts: what a verb does, and what lifts a halt by arriving.

import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { effectOfVerb, liftsHalt } from "../../src/domain/halt.ts";
import type { Control } from "../../src/domain/message.ts";
import { type ConversationRecord, type Halt, haltName, newRecord, withExtra } from "../../src/domain/record.ts";
import { at, numbered } from "./support/numbered.ts";

const NOW_MS = 5_000;
const halt = (parts: Partial<Halt> = {}): Halt => ({ reason: "poison", sinceMs: 1, why: "Error", ...parts });
const gap = halt({ reason: "gap", missing: { epoch: 2, sequence: 7 } });
const openTurn = {
  position: at(3),
  attempts: 5,
  deaths: 2,
  firstFailedAtMs: 10,
  nextAtMs: null,
  error: "Error",
  repliesOut: 1,
  steps: [{ index: 0, name: "charge", occurrence: 0, result: "r1" }],
};

const halted = (parts: Parameters<typeof withExtra>[1]): ConversationRecord => withExtra(newRecord(at(1)), parts);
const verb = (record: ConversationRecord, kind: Control["verb"]): Control => ({
  verb: kind,
  halt: haltName(record) ?? "none",
  by: "operator",
});

describe("a verb", () => {
  law.prop([fc.constantFrom("retry" as const, "skip" as const), fc.string(), fc.boolean()])(
    "for another halt, or where nothing is halted, changes nothing (U1)",
    (kind, name, isHalted) => {
      const record = halted(isHalted ? { halt: halt(), openTurn } : { openTurn });
      fc.pre(haltName(record) !== name);
      expect(effectOfVerb(record, { verb: kind, halt: name, by: "operator" }, NOW_MS)).toEqual({ kind: "nothing" });
    },
  );

  test("for a conversation that has no record changes nothing (U1)", () => {
    expect(effectOfVerb(null, { verb: "skip", halt: "poison", by: "operator" }, NOW_MS)).toEqual({ kind: "nothing" });
  });

  law.prop([fc.constantFrom(halt(), gap, halt({ reason: "full" })), fc.boolean()])(
    "retry names no halt any more once it is done (U1)",
    (at, isOpen) => {
      const record = halted({ halt: at, ...(isOpen && { openTurn }) });
      const control = verb(record, "retry");
      const effect = effectOfVerb(record, control, NOW_MS);
      if (effect.kind !== "retry") throw new Error(effect.kind);
      const after = withExtra(record, effect.parts);
      expect(after.extra?.halt).toBeUndefined();
      expect(effectOfVerb(after, control, NOW_MS)).toEqual({ kind: "nothing" });
    },
  );

  test("retry counts attempts and deaths from 0 and keeps what the turn did (U2)", () => {
    const record = halted({ halt: halt(), openTurn, order: { epoch: 0, next: 4 } });
    const effect = effectOfVerb(record, verb(record, "retry"), NOW_MS);
    expect(effect).toEqual({
      kind: "retry",
      halt: halt(),
      parts: {
        halt: undefined,
        openTurn: { ...openTurn, attempts: 0, deaths: 0, firstFailedAtMs: null, error: null },
        order: { epoch: 0, next: 4 },
      },
    });
  });

  test("retry of a gap waits for the number once more, from now (U2)", () => {
    const record = halted({ halt: gap, order: { epoch: 2, next: 7 } });
    const effect = effectOfVerb(record, verb(record, "retry"), NOW_MS);
    expect(effect).toMatchObject({ parts: { order: { epoch: 2, next: 7, retriedAtMs: NOW_MS }, openTurn: undefined } });
  });

  test("skip passes a gap and sets a message aside", () => {
    const atGap = halted({ halt: gap });
    expect(effectOfVerb(atGap, verb(atGap, "skip"), NOW_MS)).toEqual({
      kind: "pass-gap",
      halt: gap,
      missing: { epoch: 2, sequence: 7 },
    });
    const atPoison = halted({ halt: halt(), openTurn });
    expect(effectOfVerb(atPoison, verb(atPoison, "skip"), NOW_MS)).toEqual({ kind: "skip", halt: halt() });
  });
});

describe("what arrives", () => {
  law.prop([fc.integer({ min: 0, max: 4 }), fc.option(fc.integer({ min: 5, max: 9 }), { nil: undefined })])(
    "lifts the halt of a gap only by its very place (U3)",
    (epoch, sequence) => {
      expect(liftsHalt(gap, numbered(sequence, 9, { epoch }))).toBe(epoch === 2 && sequence === 7);
    },
  );

  test("lifts no other halt, and is no longer what is missing once it is redriven (U3)", () => {
    expect(liftsHalt(undefined, numbered(7, 9, { epoch: 2 }))).toBe(false);
    expect(liftsHalt(halt(), numbered(7, 9, { epoch: 2 }))).toBe(false);
    expect(liftsHalt(gap, numbered(7, 9, { epoch: 2, extra: { redrives: "1-1" } }))).toBe(false);
  });
});
