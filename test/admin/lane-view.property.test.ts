// What an operator sees of a lane: each state says why in words, names the reply that a verb would mean, and shows no payload.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type LaneAccount, laneItem, laneSituation } from "../../src/admin/lane-view.ts";
import { meets, parseWhere, type Where } from "../../src/admin/where.ts";
import { LANE_HALTS, LANE_STATES, type LaneState } from "../../src/domain/lane.ts";
import { LANE_HALTED } from "../support/unfinished.ts";

const NOW_MS = 1_600_000_600_000;
const OPEN: LaneAccount = { name: "http", breaker: "open", reopensAtMs: NOW_MS };

const whyOf = (over: Partial<LaneState>, account: LaneAccount | null = null): string =>
  laneSituation({ state: { ...LANE_HALTED, ...over }, memory: null, account }).why;

describe("why", () => {
  const { halt: _, ...tried } = LANE_HALTED;
  const { attempts: __, reason: ___, ...rest } = tried;

  test.each<[string, LaneState, LaneAccount | null]>([
    ["HTTP 503, 4 attempts", { ...tried, state: "retrying", reason: "HTTP 503", attempts: 4 }, null],
    [
      "HTTP 503, 1 attempt; its account http is open, the next probe at 2020-09-13T12:36:40.000Z",
      { ...tried, state: "retrying", reason: "HTTP 503", attempts: 1 },
      OPEN,
    ],
    [
      "it waits for its account; its account http is open, one attempt probes now",
      { ...rest, state: "retrying", reason: "", attempts: 0 },
      { ...OPEN, breaker: "half-open", reopensAtMs: null },
    ],
    [
      "ECONNRESET, 1,234 attempts; nobody knows yet how the last attempt ended",
      { ...tried, state: "retrying", reason: "ECONNRESET", attempts: 1_234, isUnclear: true },
      { ...OPEN, breaker: "closed" },
    ],
    ["HTTP 400, 2 attempts; it was refused for good", LANE_HALTED, null],
    [
      "HTTP 410, 2 attempts; the recipient is gone, its replies become dead letters",
      { ...tried, state: "closed", reason: "HTTP 410" },
      null,
    ],
    ["it flows; what waits on its list goes first", { ...rest, state: "flowing", reason: "", attempts: 0 }, null],
  ])("%s", (why, state, account) => {
    expect(laneSituation({ state, memory: null, account }).why).toBe(why);
  });

  test("each reason of a halt has words of its own", () => {
    const words = LANE_HALTS.map((halt) => whyOf({ halt }));
    expect(new Set(words).size).toBe(LANE_HALTS.length);
    for (const text of words) expect(text).toMatch(/^HTTP 400, 2 attempts; \w/);
  });
});

test("one that cannot be read says so and is nothing that a verb could name", () => {
  expect(laneSituation({ state: null, memory: null, account: null })).toMatchObject({
    state: null,
    head: null,
    why: "its stored state cannot be read",
  });
});

const stored: fc.Arbitrary<LaneState> = fc.record(
  {
    state: fc.constantFrom(...LANE_STATES),
    born: fc.constantFrom("", "k0-0-0", "k1-2-3"),
    outSeq: fc.nat(1_000),
    part: fc.integer({ min: 1, max: 9 }),
    attempts: fc.nat(50),
    firstFailedAtMs: fc.integer({ min: 0, max: NOW_MS }),
    nextAtMs: fc.nat(NOW_MS * 2),
    reason: fc.constantFrom("", "HTTP 503", "ECONNRESET"),
    halt: fc.constantFrom(...LANE_HALTS),
    isUnclear: fc.constant(true as const),
    list: fc.record({ nextId: fc.nat(99), count: fc.nat(99), bytes: fc.nat(9_999) }),
  },
  { requiredKeys: ["state", "born", "outSeq", "attempts", "firstFailedAtMs", "nextAtMs", "reason"] },
);
const memory = fc.option(fc.record({ replies: fc.nat(99), bytes: fc.nat(9_999) }), { nil: null });

test("any lane: W2, its name is that of the reply that it stands at; what flows and what never failed has none", () => {
  fc.assert(
    fc.property(stored, memory, (state, known) => {
      const { head, waiting, waitingBytes, why, reason, nextAtMs, sinceMs } = laneSituation({
        state,
        memory: known,
        account: null,
      });
      const isNamed = state.state !== "flowing" && state.born !== "";
      const { born, outSeq, part } = state;
      expect(head?.name).toBe(isNamed ? [born, outSeq, ...(part === undefined ? [] : [part])].join(".") : undefined);
      expect(waiting).toBe(known === null ? (state.list?.count ?? 0) : known.replies);
      expect(waitingBytes).toBe(known === null ? (state.list?.bytes ?? 0) : known.bytes);
      expect(nextAtMs).toBe(state.state === "retrying" ? state.nextAtMs : null);
      expect(sinceMs).toBe(state.state === "flowing" ? null : state.firstFailedAtMs);
      if (state.state === "flowing" || state.state === "retrying") expect(reason).toBeNull();
      if (state.state === "closed") expect(reason).toBe("gone");
      expect(why === "").toBe(
        state.state === "halted" && state.reason === "" && state.attempts === 0 && state.halt === undefined,
      );
    }),
  );
});

test.each<[string, boolean]>([
  ["state=halted", true],
  ["state!=retrying", true],
  ["reason=terminal", true],
  ["reason=exhausted", false],
  ["error~http 4", true],
  ["error~503", false],
  ["since>9m", true],
  ["since>11m", false],
  ["attempts>=2", true],
  ["waiting>6", true],
  ["waiting>7", false],
  ["born=k0-0-0", true],
  ["born!=k0-0-0", false],
])("a filter sees it: %s is %s", (text, expected) => {
  const parsed = parseWhere(text, "lanes");
  if (parsed.kind === "problem") throw new Error(parsed.detail);
  const where: Where = parsed.where;
  const lane = laneSituation({ state: LANE_HALTED, memory: null, account: null });
  expect(meets(laneItem(lane, NOW_MS), where)).toBe(expected);
});
