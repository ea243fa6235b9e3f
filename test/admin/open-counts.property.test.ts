// N1: the counts are those of the index, whatever was written to it in whatever order.

import fc from "fast-check";
import { expect, test } from "vitest";
import { OPEN_STATES, OpenCounts, type OpenState } from "../../src/admin/open-counts.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";

test("any writes: each state has as many as the index has", () => {
  const write = fc.tuple(fc.constantFrom("a", "b", "c", "d"), fc.option(fc.constantFrom(...OPEN_STATES)));
  fc.assert(
    fc.property(fc.array(write), (writes) => {
      const counts = new OpenCounts();
      const index = new Map<string, OpenState>();
      for (const [key, state] of writes) {
        counts.set(key as ConversationKey, state === null ? null : { state });
        if (state === null) index.delete(key);
        else index.set(key, state);
      }
      const expected = OPEN_STATES.map((state) => [state, [...index.values()].filter((each) => each === state).length]);
      expect(counts.counts).toEqual(Object.fromEntries(expected));
      expect(counts.total).toBe(index.size);
    }),
  );
});
