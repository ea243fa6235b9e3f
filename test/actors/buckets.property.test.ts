// K1 and K2 of actors/buckets.ts, whoever comes and goes in whatever order.

import { fc, test } from "@fast-check/vitest";
import { expect } from "vitest";
import { type Bucket, Buckets } from "../../actors/buckets.ts";

const moves = fc.array(fc.record({ come: fc.nat(12), go: fc.nat(12), at: fc.nat(1_000) }), { maxLength: 200 });

test.prop([moves, fc.integer({ min: 1, max: 9 })])(
  "no bucket is overfull, and no more are made than needed",
  (plan, sizeMax) => {
    let made = 0;
    const buckets = new Buckets(sizeMax, () => made++);
    const taken: Bucket<number>[] = [];
    let most = 0;
    for (const { come, go, at } of plan) {
      for (let i = 0; i < come; i += 1) taken.push(buckets.take());
      most = Math.max(most, taken.length);
      for (let i = 0; i < go && taken.length > 0; i += 1) buckets.giveBack(taken.splice(at % taken.length, 1)[0]!);
      const sizes = new Map<number, number>();
      for (const { parent } of taken) sizes.set(parent, (sizes.get(parent) ?? 0) + 1);
      for (const bucket of taken) expect(bucket.size).toBe(sizes.get(bucket.parent));
      for (const size of sizes.values()) expect(size).toBeLessThanOrEqual(sizeMax); // K1
      expect(made).toBeLessThanOrEqual(most / Math.max(1, Math.ceil(sizeMax / 2)) + 1); // K2
    }
  },
);

test("actors that start together share a bucket", () => {
  let made = 0;
  const buckets = new Buckets(4, () => made++);
  expect(Array.from({ length: 9 }, () => buckets.take().parent)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2]);
});
