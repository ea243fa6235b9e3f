// Held messages against a sorted list.

import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { HeldMessages } from "../../src/domain/held-messages.ts";
import { hashOf, type Numbered, numbered } from "./support/numbered.ts";

const operations = fc.array(
  fc.oneof(
    fc.record({ epoch: fc.nat(2), sequence: fc.nat(12), atMs: fc.nat(50) }),
    fc.constantFrom("shift" as const, "shift" as const, "clear" as const),
  ),
  { maxLength: 60 },
);

const ordered = (model: readonly Numbered[]): Numbered[] =>
  [...model].sort(
    (a, b) =>
      (a.extra?.epoch ?? 0) - (b.extra?.epoch ?? 0) ||
      a.sequence! - b.sequence! ||
      a.position.entry.ms - b.position.entry.ms ||
      a.position.index - b.position.index,
  );

describe("held messages", () => {
  test.prop([operations])("come by place, then by position, and know the oldest and every id (M1, M2)", (steps) => {
    const held = new HeldMessages<Numbered>();
    let model: Numbered[] = [];
    steps.forEach((step, id) => {
      if (step === "clear") {
        held.clear();
        model = [];
      } else if (step === "shift") {
        const [first] = ordered(model);
        expect(held.shift()).toBe(first);
        model = model.filter((message) => message !== first);
        if (first !== undefined) expect(held.has(first.idHash)).toBe(false);
      } else {
        const made = numbered(step.sequence, step.atMs, { id, epoch: step.epoch, body: id % 3 });
        const message = { ...made, position: { ...made.position, index: id } };
        held.add(message);
        model.push(message);
      }
      const sorted = ordered(model);
      expect([...held]).toEqual(sorted);
      expect(held.peek()).toBe(sorted[0]);
      expect(held.count).toBe(model.length);
      expect(held.lowest?.sequence).toBe(sorted[0]?.sequence);
      expect(held.oldestMs).toBe(
        model.length === 0 ? null : Math.min(...model.map(({ position }) => position.entry.ms)),
      );
      for (const message of model) expect(held.bodyHashOf(message.idHash)).toBe(message.bodyHash);
      expect(held.bodyHashOf(hashOf(10_000))).toBeUndefined();
    });
  });

  example("refuse what has no place, and an id twice", () => {
    const held = new HeldMessages<Numbered>();
    expect(() => held.add(numbered(undefined, 1))).toThrow("without a place");
    expect(() => held.add(numbered(1, 1, { extra: { redrives: "1-0" } }))).toThrow("without a place");
    held.add(numbered(1, 1, { id: 5 }));
    expect(() => held.add(numbered(2, 2, { id: 5 }))).toThrow("held already");
  });
});
