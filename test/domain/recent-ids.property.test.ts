// Recent ids against a model that keeps everything: a list of (id, second, body).

import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { RecentIds, SLOT_BYTES } from "../../src/domain/recent-ids.ts";

const hash = (n: number) => ({ lo: Math.imul(n, 0x9e3779b1) >>> 0, hi: n >>> 0 });
const DEDUPE_MS = 60_000;

const arrivals = fc.array(
  fc.record({
    id: fc.integer({ min: 0, max: 60 }),
    afterMs: fc.integer({ min: 0, max: 20_000 }),
    body: fc.integer({ min: 0, max: 3 }),
  }),
  { maxLength: 200 },
);

describe("recent ids", () => {
  test.prop([arrivals, fc.integer({ min: 1, max: 50 })])(
    "know every id of the last dedupeMs, through commits and reloads (I1, I2)",
    (steps, commitEvery) => {
      const bounds = { dedupeMs: DEDUPE_MS, dedupeMax: 1_000 };
      let ids = new RecentIds(bounds, null);
      let stored = new Uint8Array();
      const decided = new Map<number, { atMs: number; body: number }>();
      let nowMs = 1_000_000;
      steps.forEach(({ id, afterMs, body }, i) => {
        nowMs += afterMs;
        const before = decided.get(id);
        const seen = ids.seen(hash(id), nowMs, body);
        if (before !== undefined && nowMs - before.atMs <= DEDUPE_MS)
          expect(seen).toBe(before.body === body ? "duplicate" : "conflict");
        if (before === undefined || nowMs - before.atMs > DEDUPE_MS + 2_000) expect(seen).toBe("new");
        if (seen === "new") {
          ids.add(hash(id), nowMs, body);
          decided.set(id, { atMs: nowMs, body });
        }
        if (i % commitEvery !== 0) return;
        const change = ids.takeChange();
        if (change?.kind === "rewrite") stored = Uint8Array.from(change.bytes);
        if (change?.kind === "append") stored = Uint8Array.from([...stored, ...change.bytes]);
        ids = new RecentIds(bounds, stored); // a crash right after the commit
      });
      expect(ids.leftYoung).toBe(0);
    },
  );

  test.prop([fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 600 })])(
    "keep at least the last dedupeMax, at most about twice as many, and count what left young",
    (dedupeMax, count) => {
      const ids = new RecentIds({ dedupeMs: DEDUPE_MS, dedupeMax }, null);
      for (let n = 0; n < count; n += 1) ids.add(hash(n), 5_000_000, 0);
      for (let n = Math.max(0, count - dedupeMax); n < count; n += 1)
        expect(ids.seen(hash(n), 5_000_000, 0)).toBe("duplicate");
      expect(ids.count).toBeLessThanOrEqual(Math.max(4, dedupeMax * 2));
      expect(ids.count + ids.leftYoung).toBe(count);
    },
  );

  example("1,000 messages of one request, sent again as a whole, are all duplicates (attack B3)", () => {
    const ids = new RecentIds({ dedupeMs: DEDUPE_MS, dedupeMax: 4_096 }, null);
    for (let n = 0; n < 1_000; n += 1) ids.add(hash(n), 1_000_000, n);
    for (let n = 0; n < 1_000; n += 1) expect(ids.seen(hash(n), 1_030_000, n)).toBe("duplicate");
  });

  example("bytes that are not whole slots are read up to the last whole one", () => {
    const ids = new RecentIds({ dedupeMs: DEDUPE_MS, dedupeMax: 10 }, null);
    ids.add(hash(7), 1_000_000, 1);
    const bytes = ids.takeChange()!.bytes;
    const reloaded = new RecentIds({ dedupeMs: DEDUPE_MS, dedupeMax: 10 }, Uint8Array.from([...bytes, 1, 2, 3]));
    expect(bytes.length).toBe(SLOT_BYTES);
    expect(reloaded.seen(hash(7), 1_000_000, 1)).toBe("duplicate");
  });
});
