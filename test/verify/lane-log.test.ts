// Where replies stand, transaction by transaction: what hand-made histories (corrupted-runs.test.ts) do not reach.

import { describe, expect, test } from "vitest";
import type { LaneState } from "../../src/domain/lane.ts";
import type { CommittedTurns, DeliveryAttempt, StoreEvent } from "../../src/verify/history.ts";
import { checkHistory } from "../../src/verify/judge.ts";
import { LaneLog, type LaneReply, nameOfReply } from "../../src/verify/lane-log.ts";

const KEY = "c";
const reply = (outSeq: number, part?: number): LaneReply => ({ key: KEY, outSeq, part });
const stateOf = (nextId: number, count: number): LaneState => ({
  state: "retrying",
  born: "b",
  outSeq: 1,
  attempts: 1,
  firstFailedAtMs: 1,
  nextAtMs: 2,
  reason: "HTTP 503",
  list: { nextId, count, bytes: count },
});

function rig(isWhole = true) {
  const log = new LaneLog(isWhole);
  const settled = (state: LaneState | null = null): string[] => {
    const told: string[] = [];
    log.settle(
      () => state,
      (rule) => told.push(rule),
    );
    return told;
  };
  const undelivered = (): string[] => [...log.undelivered()].map(nameOfReply);
  return { log, settled, undelivered };
}

describe("parts of one reply", () => {
  test("are places of their own, in order", () => {
    const { log, settled, undelivered } = rig();
    log.sent("1-0", [reply(1, 1), reply(1, 2), reply(2)]);
    expect(settled()).toEqual([]);
    log.acked("1-0", Uint8Array.of(0b001));
    expect(settled()).toEqual([]);
    expect(undelivered()).toEqual(["1.2", "2"]);
    log.joined(1, reply(1, 2), false);
    log.joined(2, reply(2), false);
    log.removed("1-0");
    expect(settled(stateOf(3, 2))).toEqual([]);
    expect(undelivered()).toEqual(["1.2", "2"]);
  });

  test("that stand on the list in the other order are found", () => {
    const { log, settled } = rig();
    log.sent("1-0", [reply(1, 1), reply(1, 2)]);
    settled();
    log.joined(1, reply(1, 2), false);
    log.joined(2, reply(1, 1), false);
    log.removed("1-0");
    expect(settled(stateOf(3, 2))).toEqual(["lane-order"]);
  });

  test("are buried together, each with a letter of its own", () => {
    const { log, settled, undelivered } = rig();
    log.sent("1-0", [reply(1, 1), reply(1, 2)]);
    settled();
    log.buried("2-0", reply(1, 1));
    log.buried("2-1", reply(1, 2));
    log.removed("1-0");
    expect(settled()).toEqual([]);
    expect(undelivered()).toEqual([]);
  });

  const POSITION = { entry: { ms: 1, seq: 0 }, index: 0 };
  const NO_HASH = { lo: 0, hi: 0 };
  const ADDRESS = { bot: "b", channel: "http", conversation: "c" };
  const committed = (replies: CommittedTurns["replies"], outSeq: number): CommittedTurns => ({
    kind: "committed",
    ...ADDRESS,
    at: 1,
    shard: "colloquy:{00}",
    epoch: 1,
    n: 1,
    record: { seq: 0, outSeq, cursor: { ...POSITION, index: -1 }, born: POSITION, chain: NO_HASH },
    decided: [],
    isRewrite: false,
    replies,
    transcribed: 0,
  });
  const part = (outSeq: number, number: number) => ({
    outSeq,
    part: number,
    born: "x",
    bodyHash: `${outSeq}.${number}`,
  });
  const delivered = (outSeq: number, number: number, atUs: number): DeliveryAttempt => ({
    kind: "delivery",
    ...ADDRESS,
    key: `b~http~c~x.${outSeq}.${number}`,
    sequence: outSeq,
    inReplyTo: null,
    text: "",
    bodyHash: `${outSeq}.${number}`,
    receivedUs: atUs,
    answeredUs: atUs + 1,
    status: 200,
  });
  const rulesOf = (events: readonly StoreEvent[], deliveries: readonly DeliveryAttempt[]): string[] => {
    const log = { events, isWhole: true, dedupeMs: 1_000, dedupeMax: 10 };
    const options = { complete: true, fold: false, clients: false, log };
    const found = checkHistory({ messages: [], attempts: [], deliveries }, options);
    return [...new Set(found.map(({ rule }) => rule))].filter((rule) => rule !== "cursor-astray");
  };
  const BOTH = [committed([part(1, 1), part(1, 2), part(2, 1)], 2)];

  test("are counted as one reply, and delivered one after the other", () => {
    expect(rulesOf(BOTH, [delivered(1, 1, 10), delivered(1, 2, 20), delivered(2, 1, 30)])).toEqual([]);
  });

  test.each<[string, StoreEvent[], DeliveryAttempt[]]>([
    ["out-seq", [committed([part(1, 1), part(1, 3)], 1)], [delivered(1, 1, 10), delivered(1, 3, 30)]],
    ["out-seq", [committed([part(1, 1), part(1, 2)], 2)], [delivered(1, 1, 10), delivered(1, 2, 20)]],
    ["delivery-order", BOTH, [delivered(1, 2, 10), delivered(1, 1, 20), delivered(2, 1, 30)]],
    ["gap", BOTH, [delivered(1, 1, 10), delivered(2, 1, 20), delivered(2, 3, 30)]],
    ["gap", BOTH, [delivered(1, 2, 20), delivered(2, 1, 30)]],
    ["reply-lost", BOTH, [delivered(1, 1, 10), delivered(2, 1, 30)]],
    ["reply-unknown", BOTH, [delivered(1, 1, 10), delivered(1, 2, 20), delivered(2, 1, 30), delivered(2, 2, 40)]],
  ])("are judged each: %s", (rule, events, deliveries) => {
    expect(rulesOf(events, deliveries)).toContain(rule);
  });

  test("that became dead letters leave no gap, be it the first, the last, or all of a reply", () => {
    const dead = (outSeq: number, number: number): StoreEvent => ({
      kind: "dead",
      ...ADDRESS,
      at: 2,
      outSeq,
      part: number,
    });
    expect(rulesOf([...BOTH, dead(1, 2)], [delivered(1, 1, 10), delivered(2, 1, 30)])).toEqual([]);
    expect(rulesOf([...BOTH, dead(1, 1), dead(1, 2)], [delivered(2, 1, 30)])).toEqual([]);
    expect(rulesOf([...BOTH, dead(1, 1)], [delivered(1, 2, 20), delivered(2, 1, 30)])).toEqual([]);
    const back: StoreEvent = { kind: "redriven", ...ADDRESS, at: 3, outSeq: 1, part: 2 };
    expect(rulesOf([...BOTH, dead(1, 2), back], [delivered(1, 1, 10), delivered(2, 1, 30)])).toEqual(["reply-lost"]);
    const late = [delivered(1, 1, 10), delivered(2, 1, 30), delivered(1, 2, 40)];
    expect(rulesOf([...BOTH, dead(1, 2), back], late)).toEqual([]);
  });
});

describe("a log that began late", () => {
  test("does not know what stood where before, and takes it as it is", () => {
    const { log, settled, undelivered } = rig(false);
    log.joined(7, reply(3), undefined);
    log.joined(8, reply(4), undefined);
    expect(settled(stateOf(9, 5))).toEqual([]);
    log.left(KEY, 2);
    log.left(KEY, 7);
    log.buried("1-0", reply(1));
    expect(settled(stateOf(9, 2))).toEqual([]);
    expect(undelivered()).toEqual(["4"]);
  });

  test("shows all the same what stands twice, and what is out of order", () => {
    const { log, settled } = rig(false);
    log.sent("1-0", [reply(4), reply(5)]);
    settled();
    log.joined(1, reply(5), undefined);
    expect(settled(stateOf(2, 1))).toEqual(["lane-order", "reply-twice"]);
  });
});

describe("dead letters", () => {
  test("of a reply that came back and is buried again are no loss", () => {
    const { log, settled, undelivered } = rig();
    log.sent("1-0", [reply(1)]);
    settled();
    log.buried("2-0", reply(1));
    log.removed("1-0");
    expect(settled()).toEqual([]);
    expect(log.exhumed("2-0")).toEqual(reply(1));
    log.joined(1, reply(1), false);
    log.left(KEY, 1);
    log.buried("3-0", reply(1));
    expect(settled()).toEqual([]);
    expect(undelivered()).toEqual([]);
    expect(log.exhumed("2-0")).toBeUndefined();
  });

  test("that came back stand anywhere in the order, and others not because of them", () => {
    const { log, settled, undelivered } = rig();
    log.sent("1-0", [reply(1), reply(2), reply(3)]);
    settled();
    log.buried("2-0", reply(1));
    log.joined(1, reply(2), false);
    log.joined(2, reply(3), false);
    log.removed("1-0");
    expect(settled(stateOf(3, 2))).toEqual([]);
    log.exhumed("2-0");
    log.joined(3, reply(1), false);
    expect(settled(stateOf(4, 3))).toEqual([]);
    log.joined(4, reply(4), true);
    expect(settled(stateOf(5, 4))).toEqual([]);
    expect(undelivered()).toEqual(["2", "3", "1", "4"]);
  });
});
