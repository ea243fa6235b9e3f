// The sequencer: positions say what was consumed, ids say what is a duplicate, and nothing else says either.

import { fc, test } from "@fast-check/vitest";
import { describe, expect } from "vitest";
import type { Hash64 } from "../../src/domain/hash.ts";
import { comparePositions, type Position } from "../../src/domain/position.ts";
import { RecentIds } from "../../src/domain/recent-ids.ts";
import { type ConversationRecord, newRecord } from "../../src/domain/record.ts";
import { type Decision, NOTHING_HELD, sequence } from "../../src/domain/sequencer.ts";

const BOUNDS = { dedupeMs: 60_000, dedupeMax: 1_000 };
const position = fc.record({
  entry: fc.record({ ms: fc.integer({ min: 1, max: 50_000 }), seq: fc.nat(3) }),
  index: fc.nat(3),
});
const idHash = (id: number) => ({ lo: id, hi: id });
const byArrival = (
  record: ConversationRecord,
  ids: RecentIds,
  message: { position: Position; idHash: Hash64; bodyHash: number },
): Decision =>
  sequence(record, ids, { mode: "arrival" }, { ...message, sequence: undefined, extra: null }, "inbox", NOTHING_HELD);

describe("the sequencer", () => {
  test.prop([fc.uniqueArray(fc.nat(1_000), { minLength: 2, maxLength: 50 })])(
    "releases each id that it has not seen, be it below all that came before (attack B8: a watermark proves no duplicate)",
    (numbers) => {
      const ids = new RecentIds(BOUNDS, null);
      let record = newRecord({ entry: { ms: 0, seq: 0 }, index: 0 });
      numbers.forEach((id, i) => {
        const message = { position: { entry: { ms: i + 1, seq: 0 }, index: 0 }, idHash: idHash(id), bodyHash: 1 };
        expect(byArrival(record, ids, message)).toEqual({ kind: "release", order: undefined });
        ids.add(message.idHash, message.position.entry.ms, 1);
        record = { ...record, seq: i + 1, cursor: message.position };
      });
    },
  );

  test.prop([position, position, fc.boolean()])(
    "never releases a position at or below the cursor, whatever the ids say (Q1)",
    (cursor, at, isKnown) => {
      const ids = new RecentIds(BOUNDS, null);
      if (isKnown) ids.add(idHash(7), at.entry.ms, 1);
      const record = { ...newRecord(cursor), cursor, seq: 4 };
      const { kind } = byArrival(record, ids, { position: at, idHash: idHash(7), bodyHash: 1 });
      if (comparePositions(at, cursor) <= 0) expect(kind).toBe("consumed");
      else expect(kind).toBe(isKnown ? "duplicate" : "release");
    },
  );

  test.prop([fc.nat(9), fc.nat(9)])("tells a duplicate from a conflict by its body alone (Q2)", (first, second) => {
    const ids = new RecentIds(BOUNDS, null);
    ids.add(idHash(7), 1, first);
    const record = newRecord({ entry: { ms: 1, seq: 0 }, index: 0 });
    const again = { position: { entry: { ms: 2, seq: 0 }, index: 0 }, idHash: idHash(7), bodyHash: second };
    expect(byArrival(record, ids, again)).toEqual({ kind: "duplicate", conflict: first !== second });
  });
});
