// Breaker against a naive model.

import { test as propertyTest } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect } from "vitest";
import { afterAnswer, afterTime, type Breaker, type BreakerPolicy, CLOSED } from "../../src/domain/breaker.ts";

const policies = fc.record({
  failures: fc.constantFrom(1, 2, 5, Number.POSITIVE_INFINITY),
  openMs: fc.constantFrom(10, 100),
  openMsMax: fc.constantFrom(100, 350),
});
const happenings = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("answer" as const), answers: fc.boolean() }),
    fc.record({ kind: fc.constant("time" as const), passedMs: fc.nat(200) }),
  ),
  { maxLength: 60, size: "max" },
);

describe("the breaker", () => {
  propertyTest.prop([policies, happenings], { numRuns: 2_000 })(
    "opens after so many failures in a row, for longer each time, and closes with an answer (K1, K2, K3)",
    (policy: BreakerPolicy, all) => {
      let breaker: Breaker = CLOSED;
      let nowMs = 0;
      let inRow = 0;
      let opensFor = policy.openMs;
      for (const each of all) {
        const before: Breaker = breaker;
        if (each.kind === "time") {
          nowMs += each.passedMs;
          breaker = afterTime(breaker, nowMs);
          const isDue = before.kind === "open" && before.reopensAtMs <= nowMs;
          expect(breaker.kind).toBe(isDue ? "half-open" : before.kind);
          continue;
        }
        breaker = afterAnswer(breaker, each.answers, policy, nowMs);
        inRow = each.answers ? 0 : inRow + 1;
        if (each.answers) {
          opensFor = policy.openMs;
          expect(breaker).toEqual(CLOSED);
        } else if (before.kind === "open") expect(breaker).toBe(before);
        else if (before.kind === "half-open") {
          opensFor = Math.min(opensFor * 2, policy.openMsMax);
          expect(breaker).toEqual({ kind: "open", reopensAtMs: nowMs + opensFor, openMs: opensFor });
        } else if (inRow >= policy.failures) {
          expect(breaker).toEqual({ kind: "open", reopensAtMs: nowMs + policy.openMs, openMs: policy.openMs });
        } else expect(breaker).toEqual({ kind: "closed", failures: inRow });
      }
    },
  );
});
