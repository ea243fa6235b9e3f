import { fc, test } from "@fast-check/vitest";
import { test as example, expect } from "vitest";
import type { ProbeOutcome, SendOutcome } from "../../src/channels/channel.ts";
import {
  CHANNEL_RETRY_AFTER_MAX_MS,
  checkedProbeOutcome,
  checkedSendOutcome,
} from "../../src/channels/checked-outcome.ts";

const reason = fc.stringMatching(/^[ -~]{1,200}$/);
const waitMs = fc.option(fc.integer({ min: 0, max: CHANNEL_RETRY_AFTER_MAX_MS }), { nil: undefined });
const send: fc.Arbitrary<SendOutcome> = fc.oneof(
  fc.constant({ kind: "delivered" } as const),
  fc
    .record({ kind: fc.constant("retryable"), reason, retryAfterMs: waitMs })
    .map(({ retryAfterMs, ...rest }) => (retryAfterMs === undefined ? rest : { ...rest, retryAfterMs })),
  fc.record({ kind: fc.constantFrom("ambiguous", "terminal", "gone"), reason }),
);
const probe: fc.Arbitrary<ProbeOutcome> = fc.oneof(
  fc.constantFrom({ kind: "delivered" } as const, { kind: "absent" } as const),
  fc.record({ kind: fc.constant("unknown"), reason }),
);

test.prop([send])("an outcome is what it was", (outcome) => {
  expect(checkedSendOutcome(outcome)).toEqual(outcome);
});

test.prop([probe])("what a probe found is what it was", (found) => {
  expect(checkedProbeOutcome(found)).toEqual(found);
});

const kinds = ["delivered", "retryable", "ambiguous", "terminal", "gone", "absent", "unknown"];
const anything = fc.oneof(
  fc.anything(),
  fc.record({
    kind: fc.oneof(fc.constantFrom(...kinds), fc.anything()),
    reason: fc.oneof(fc.string({ unit: "binary" }), fc.anything()),
    retryAfterMs: fc.oneof(fc.double(), fc.anything()),
  }),
);

test.prop([anything])(
  "anything else is one that JSON brings back, with a wait that can be added to a time",
  (given) => {
    for (const outcome of [checkedSendOutcome(given), checkedProbeOutcome(given)]) {
      expect(JSON.parse(JSON.stringify(outcome))).toEqual(outcome);
      if ("reason" in outcome) expect(outcome.reason).toMatch(/^[^\p{Cc}]{1,200}$/u);
      const { retryAfterMs = 0 } = outcome as { retryAfterMs?: number };
      expect(Number.isSafeInteger(retryAfterMs) && retryAfterMs >= 0).toBe(true);
      expect(retryAfterMs).toBeLessThanOrEqual(CHANNEL_RETRY_AFTER_MAX_MS);
    }
  },
);

example.each([undefined, null, "delivered", true, [], {}, { kind: "ok" }, { kind: "absent" }])(
  "%j says nothing of whether a reply arrived (K1)",
  (given) => {
    expect(checkedSendOutcome(given)).toEqual({ kind: "ambiguous", reason: "the channel gave no outcome" });
  },
);

example.each([undefined, null, "absent", false, {}, { kind: "retryable", reason: "x" }])(
  "%j is no answer of a probe (K1)",
  (given) => {
    expect(checkedProbeOutcome(given)).toEqual({ kind: "unknown", reason: "the channel gave no outcome" });
  },
);

example.each<[unknown, number | undefined]>([
  [Number.NaN, undefined],
  [-1, undefined],
  ["5", undefined],
  [0, 0],
  [1.2, 2],
  [Number.POSITIVE_INFINITY, CHANNEL_RETRY_AFTER_MAX_MS],
])("a wait of %s is one of %s ms (K2)", (retryAfterMs, expected) => {
  const outcome = checkedSendOutcome({ kind: "retryable", reason: "HTTP 503", retryAfterMs });
  expect(outcome).toEqual({
    kind: "retryable",
    reason: "HTTP 503",
    ...(expected !== undefined && { retryAfterMs: expected }),
  });
});
