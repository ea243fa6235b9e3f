// E1 to E3 of src/domain/record.ts, and what its list counts.

import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import {
  afterDrop,
  afterLeaving,
  afterMove,
  afterSetAside,
  afterTurn,
  type ConversationRecord,
  haltName,
  NO_OPEN_TURN,
  newRecord,
  nextChain,
  type TurnOutcome,
  withExtra,
  withoutEmptyList,
} from "../../src/domain/record.ts";
import { openEntryOf, stateOf } from "../../src/domain/situation.ts";

const at = (ms: number) => ({ entry: { ms, seq: 0 }, index: 0 });
const BORN = at(7);
const BOUNDS = { waitingMax: 6, waitingBytesMax: 600 };

type Step =
  | { readonly what: "turn" | "drop" | "dead" | "late" | "skipped"; readonly ofList: boolean; readonly replies: number }
  | { readonly what: "move"; readonly bytes: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    what: fc.constantFrom("turn" as const, "drop" as const, "dead" as const, "late" as const, "skipped" as const),
    ofList: fc.boolean(),
    replies: fc.nat({ max: 3 }),
  }),
  fc.record({ what: fc.constant("move" as const), bytes: fc.integer({ min: 1, max: 200 }) }),
);

/** The record and what it is about, one step further. */
class Life {
  record: ConversationRecord = newRecord(BORN);
  readonly list: { readonly id: number; readonly bytes: number }[] = [];
  readonly idsGiven: number[] = [];
  turns = 0;
  replies = 0;
  ms = 10;
  chain = { lo: 0, hi: 0 };

  step(each: Step): void {
    if (each.what === "move") {
      const id = this.record.extra?.waiting?.nextId ?? 1;
      this.record = afterMove(this.record, at(++this.ms), each.bytes, BOUNDS);
      this.list.push({ id, bytes: each.bytes });
      this.idsGiven.push(id);
      return;
    }
    const listed = each.ofList ? this.list.shift() : undefined;
    const position = listed === undefined ? at(++this.ms) : null;
    if (listed !== undefined) this.record = afterLeaving(this.record, listed.bytes, BOUNDS);
    const idHash = { lo: this.ms, hi: 1 };
    if (each.what === "drop") this.record = afterDrop(this.record, position);
    else if (each.what === "turn") {
      this.record = afterTurn(this.record, position, idHash, each.replies);
      this.turns += 1;
      this.replies += each.replies;
    } else this.record = afterSetAside(this.record, position, idHash, each.what);
    if (each.what !== "drop") this.chain = nextChain(this.chain, idHash, each.what);
  }
}

describe("a record", () => {
  test.prop([fc.array(step, { maxLength: 50 })])(
    "counts its turns, replies and list, and its cursor is the last position consumed, in any interleaving (E1, E2)",
    (steps) => {
      const life = new Life();
      for (const each of steps) {
        const before = life.record;
        life.step(each);
        const { seq, outSeq, cursor, born, chain, extra } = life.record;
        expect([seq, outSeq, born, chain]).toEqual([life.turns, life.replies, BORN, life.chain]);
        expect(cursor.entry.ms).toBe(life.ms === 10 ? 0 : life.ms);
        expect(seq >= before.seq && outSeq >= before.outSeq).toBe(true);
        const { count = 0, bytes = 0, isFull = false } = extra?.waiting ?? {};
        expect([count, bytes]).toEqual([life.list.length, life.list.reduce((sum, listed) => sum + listed.bytes, 0)]);
        if (count >= BOUNDS.waitingMax || bytes >= BOUNDS.waitingBytesMax) expect(isFull).toBe(true);
        if (count * 2 < BOUNDS.waitingMax && bytes * 2 < BOUNDS.waitingBytesMax) expect(isFull).toBe(false);
      }
      expect(life.idsGiven).toEqual(life.idsGiven.map((_, i) => i + 1)); // no id twice
    },
  );

  test.prop([fc.array(step, { maxLength: 30 })])(
    "is in the index exactly while something of it is unfinished",
    (steps) => {
      const life = new Life();
      for (const each of steps) {
        life.step(each);
        expect(openEntryOf(life.record, null, 5)?.waiting ?? 0).toBe(life.list.length);
        expect(withoutEmptyList(life.record).extra === null).toBe(life.list.length === 0);
      }
    },
  );

  example("tells every outcome apart in its chain", () => {
    const outcomes: TurnOutcome[] = ["turn", "dead", "late", "skipped"];
    const chains = outcomes.map((outcome) => nextChain({ lo: 1, hi: 2 }, { lo: 3, hi: 4 }, outcome));
    expect(new Set(chains.map(({ lo, hi }) => `${lo} ${hi}`)).size).toBe(4);
  });
});

describe("a halt", () => {
  const halted = (reason: "poison" | "gap" | "full", extra: object = {}) =>
    withExtra(newRecord(BORN), { halt: { reason, sinceMs: 40, why: "because" }, ...extra });

  const gapAt = (epoch: number, sequence: number) =>
    withExtra(newRecord(BORN), {
      halt: { reason: "gap", sinceMs: 40, why: "because", missing: { epoch, sequence } },
    });

  example("has a name that no later one of its conversation has", () => {
    const openTurn = { ...NO_OPEN_TURN, position: at(9) };
    expect(haltName(newRecord(BORN))).toBe(null);
    const names = [
      gapAt(0, 0),
      gapAt(0, 3),
      gapAt(1, 3),
      halted("poison", { openTurn }),
      halted("full", { openTurn: { ...openTurn, position: at(10) } }),
    ].map(haltName);
    expect(new Set(names).size).toBe(names.length);
    expect(names.slice(0, 3)).toEqual(["gap-0-0", "gap-0-3", "gap-1-3"]);
  });

  example("is shown before all else, with since when, and goes on by nobody but an operator", () => {
    const openTurn = { ...NO_OPEN_TURN, position: at(9), attempts: 3, firstFailedAtMs: 20 };
    const record = halted("poison", { openTurn, waiting: { nextId: 3, count: 2, bytes: 50, isFull: false } });
    expect(openEntryOf(record, null, 99)).toEqual({
      state: "halted",
      sinceMs: 40,
      why: "because",
      reason: "poison",
      halt: haltName(record),
      waiting: 2,
      waitingBytes: 50,
      attempts: 3,
      runs: false,
    });
  });
});

example("the states are idle, held, active and halted; since when is kept as long as the state is", () => {
  const waiting = { nextId: 3, count: 2, bytes: 50, isFull: false };
  const held = withExtra(newRecord(BORN), { waiting, order: { epoch: 0, next: 4 } });
  const active = withExtra(newRecord(BORN), { waiting });
  expect([newRecord(BORN), held, active].map((record) => stateOf(record).state)).toEqual(["idle", "held", "active"]);
  expect(stateOf(withExtra(held, { waiting: { ...waiting, count: 0 } })).state).toBe("idle");
  const first = openEntryOf(held, null, 10)!;
  expect([first.sinceMs, openEntryOf(held, first, 20)!.sinceMs, openEntryOf(active, first, 20)!.sinceMs]).toEqual([
    10, 10, 20,
  ]);
});
