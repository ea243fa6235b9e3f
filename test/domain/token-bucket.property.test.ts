import { test as propertyTest } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  FULL,
  type FullAtMs,
  nextTokenInMs,
  type RateLimit,
  withOneBack,
  withoutOne,
} from "../../src/domain/token-bucket.ts";

/** Counts in whole ms of waiting, so that nothing is rounded: a token is worth `tokenMs` of them. */
class NaiveBucket {
  #worthMs: number;
  readonly #tokenMs: number;
  readonly #mostMs: number;

  constructor(tokenMs: number, burst: number) {
    this.#tokenMs = tokenMs;
    this.#mostMs = burst * tokenMs;
    this.#worthMs = this.#mostMs;
  }

  pass(ms: number): void {
    for (let i = 0; i < ms; i += 1) this.#worthMs = Math.min(this.#mostMs, this.#worthMs + 1);
  }

  get nextInMs(): number {
    return Math.max(0, this.#tokenMs - this.#worthMs);
  }

  take(): void {
    this.#worthMs -= this.#tokenMs;
  }

  giveBack(): void {
    this.#worthMs = Math.min(this.#mostMs, this.#worthMs + this.#tokenMs);
  }
}

const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom("take" as const, "take" as const, "giveBack" as const) }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(300) }),
  ),
  { maxLength: 80, size: "max" },
);

describe("the token bucket", () => {
  propertyTest.prop([fc.constantFrom(1, 2, 20, 100, 250), fc.constantFrom(1, 3, 50), fc.nat(1_000_000), steps], {
    numRuns: 1_000,
  })("is a naive one that counts, ms for ms", (tokenMs, burst, startMs, all) => {
    const limit: RateLimit = { perSecond: 1_000 / tokenMs, burst };
    const naive = new NaiveBucket(tokenMs, burst);
    let bucket: FullAtMs = FULL;
    let nowMs = startMs;
    let taken = 0;
    for (const step of all) {
      expect(nextTokenInMs(bucket, limit, nowMs)).toBeCloseTo(naive.nextInMs, 6);
      if (step.kind === "pass") {
        nowMs += step.ms;
        naive.pass(step.ms);
      } else if (step.kind === "take" && naive.nextInMs === 0) {
        bucket = withoutOne(bucket, limit, nowMs);
        naive.take();
        taken += 1;
      } else if (step.kind === "giveBack" && taken > 0) {
        bucket = withOneBack(bucket, limit);
        naive.giveBack();
        taken -= 1;
      }
    }
  });

  propertyTest.prop([
    fc.constantFrom(0.001, 0.3, 1, 7, 1_000, 1_000_000),
    fc.constantFrom(1, 3, 50),
    fc.array(fc.double({ min: 0, max: 5_000, noNaN: true }), { maxLength: 200 }),
  ])("never gives more than the burst and what came since (Q1)", (perSecond, burst, waits) => {
    const limit = { perSecond, burst };
    let bucket: FullAtMs = FULL;
    let nowMs = 0;
    let taken = 0;
    for (const waitMs of waits) {
      nowMs += waitMs;
      if (nextTokenInMs(bucket, limit, nowMs) > 0) continue;
      bucket = withoutOne(bucket, limit, nowMs);
      taken += 1;
      expect(taken).toBeLessThanOrEqual(burst + (nowMs * perSecond) / 1_000 + 1e-6);
    }
  });

  propertyTest.prop([fc.constantFrom(0.001, 0.3, 7, 999), fc.constantFrom(1, 50), fc.nat(1_000_000)])(
    "who comes when it was told to, to the next whole ms, finds a token",
    (perSecond, burst, startMs) => {
      const limit = { perSecond, burst };
      let bucket: FullAtMs = FULL;
      let nowMs = startMs;
      for (let i = 0; i < 3 * burst; i += 1) {
        nowMs += Math.ceil(nextTokenInMs(bucket, limit, nowMs));
        expect(nextTokenInMs(bucket, limit, nowMs)).toBeLessThan(1e-6);
        bucket = withoutOne(bucket, limit, nowMs);
      }
    },
  );

  test("a clock that goes back adds nothing", () => {
    const limit = { perSecond: 10, burst: 1 };
    const bucket = withoutOne(FULL, limit, 1_000);
    expect(nextTokenInMs(bucket, limit, 1_000)).toBe(100);
    expect(nextTokenInMs(bucket, limit, 500)).toBe(600);
  });
});
