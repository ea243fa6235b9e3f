// What src/domain/situation.ts says of a conversation that is in memory.

import { fc, test as law } from "@fast-check/vitest";
import { expect } from "vitest";
import { NO_OPEN_TURN, newRecord, withExtra } from "../../src/domain/record.ts";
import { situationOf, stateOf } from "../../src/domain/situation.ts";
import { at } from "./support/numbered.ts";

const halt = { reason: "poison", sinceMs: 70, why: "Error" } as const;
const openTurn = { ...NO_OPEN_TURN, position: at(2), attempts: 3, firstFailedAtMs: 60 };
const records = fc
  .record({ isHalted: fc.boolean(), isOpen: fc.boolean(), listed: fc.nat(3) })
  .map(({ isHalted, isOpen, listed }) =>
    withExtra(newRecord(at(1)), {
      ...(isHalted && { halt }),
      ...(isOpen && { openTurn }),
      ...(listed > 0 && { waiting: { nextId: 9, count: listed, bytes: listed, isFull: false } }),
    }),
  );
const inMemory = fc.record({
  isCrashing: fc.boolean(),
  isQuarantined: fc.boolean(),
  isInTurn: fc.boolean(),
  isBackingOff: fc.boolean(),
  undecided: fc.nat(2),
});

law.prop([fc.option(records), inMemory])(
  "what memory alone knows comes first, what the record says next, and only what nothing is known of is idle",
  (record, memory) => {
    const { state, why, sinceMs, waiting, attempts } = situationOf(record, memory);
    const { extra = null } = record ?? {};
    expect([waiting, attempts]).toEqual([extra?.waiting?.count ?? 0, extra?.openTurn?.attempts ?? 0]);
    expect(sinceMs).toBe(extra?.halt?.sinceMs ?? extra?.openTurn?.firstFailedAtMs ?? null);
    if (memory.isCrashing) expect([state, why.split(":")[0]]).toEqual(["halted", "crashing"]);
    else if (memory.isQuarantined) expect(state).toBe("quarantined");
    else if (memory.isInTurn) expect([state, why]).toEqual(["active", "a turn runs"]);
    else if (extra?.halt !== undefined) expect([state, why]).toEqual(["halted", "Error"]);
    else if (memory.undecided > 0 && !memory.isBackingOff) expect(state).toBe("active");
    else expect({ state, why }).toEqual(record === null ? { state: "idle", why: "" } : stateOf(record));
  },
);
