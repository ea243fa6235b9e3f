// Corrupted histories: each is one named change of a run that kept its promise, written as a folder and read by the same code as
// `colloquy verify`. Each must be caught by the invariant that it breaks, and by the rule that is meant to catch it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verifyText } from "../../src/cli/verify/verify-text.ts";
import type { ClientLine, DeliveryAttempt, RequestAttempt } from "../../src/verify/history.ts";
import { type AnyRule, INVARIANT_OF } from "../../src/verify/verdict.ts";
import { type VerifyOptions, type VerifyReport, verifyFolder } from "../../src/verify/verify-folder.ts";
import {
  type Append,
  type Commit,
  chainOf,
  EMPTY_RDB,
  type Run,
  RunWriter,
  sha256,
  smallRun,
  type WrittenMessage,
  type WrittenTurns,
} from "./support/generated-run.ts";
import { LANE_CORRUPTIONS } from "./support/lane-corruptions.ts";
import { laneRun } from "./support/lane-run.ts";
import { type Corruption, WAITING_CORRUPTIONS } from "./support/waiting-corruptions.ts";
import { SHARDS, waitingRun } from "./support/waiting-run.ts";

const OPTIONS: VerifyOptions = { fold: true, complete: true, dedupeMs: 600_000, dedupeMax: 4_096 };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "colloquy-verify-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function verified(run: Run, options: Partial<VerifyOptions> = {}, shards = 1): VerifyReport {
  const writer = new RunWriter(folder, EMPTY_RDB, shards);
  writer.write(run);
  writer.close();
  return verifyFolder(folder, { ...OPTIONS, ...options });
}

const rulesOf = ({ verdicts }: VerifyReport): Set<AnyRule> =>
  new Set(verdicts.flatMap(({ violations }) => violations.map(({ rule }) => rule)));

// --- places in the small run ------------------------------------------------------------------------------------------

const appends = (run: Run): Append[] => run.steps.filter((step) => step.kind === "append");
const commits = (run: Run): Commit[] => run.steps.filter((step) => step.kind === "commit");
const deliveries = (run: Run): DeliveryAttempt[] => run.lines.filter((line) => line.kind === "delivery");
const requests = (run: Run): RequestAttempt[] => run.lines.filter((line) => line.kind === "attempt");
const turnsOf = (run: Run, conversation: string): WrittenTurns[] =>
  commits(run).flatMap(({ turns }) => turns.filter((written) => written.conversation === conversation));
const ofC1 = (run: Run): DeliveryAttempt[] => deliveries(run).filter(({ conversation }) => conversation === "c1");

/** What a commit wrote of a conversation becomes this, its chain and that of all later ones made anew from their ids. */
function rechained(run: Run, conversation: string): void {
  let chain = { lo: 0, hi: 0 };
  for (const turns of turnsOf(run, conversation)) {
    chain = chainOf(chain, turns.decided);
    turns.record = { ...turns.record, chain };
  }
}

function replaceLine(run: Run, old: ClientLine, ...by: ClientLine[]): void {
  run.lines.splice(run.lines.indexOf(old), 1, ...by);
}

function withoutReply(run: Run, conversation: string, outSeq: number): void {
  run.lines = run.lines.filter(
    (line) => !(line.kind === "delivery" && line.conversation === conversation && line.sequence === outSeq),
  );
}

/** The third commit of the run stands before the take-over, the fourth after it. */
const CORRUPTIONS: readonly Corruption[] = [
  // what clients and sink saw
  [
    "every delivery of one reply is gone from the sink's log",
    "reply-lost",
    (run) => withoutReply(run, "c1", ofC1(run).at(-1)!.sequence),
  ],
  ["a reply in the middle never came", "gap", (run) => withoutReply(run, "c1", 2)],
  [
    "one reply was delivered twice, with other bytes the second time",
    "bytes",
    (run) => run.lines.push({ ...ofC1(run)[0]!, bodyHash: sha256("other"), receivedUs: 9e9, answeredUs: 9e9 + 1 }),
  ],
  [
    "what the sink received was never what the commit stored",
    "reply-bytes",
    (run) => replaceLine(run, ofC1(run)[1]!, { ...ofC1(run)[1]!, bodyHash: sha256("other") }),
  ],
  [
    "two replies were delivered in the other order",
    "delivery-order",
    (run) => {
      const [first, second] = ofC1(run);
      const times = { receivedUs: second!.answeredUs + 1, answeredUs: second!.answeredUs + 2 };
      replaceLine(run, first!, { ...first!, ...times });
    },
  ],
  [
    "a reply was attempted while the one before it was still being answered",
    "delivery-order",
    (run) => {
      const [first, second] = ofC1(run);
      replaceLine(run, first!, { ...first!, answeredUs: second!.receivedUs + 1 });
    },
  ],
  [
    "the 2xx of one reply was a 500",
    "undelivered",
    (run) => replaceLine(run, ofC1(run).at(-1)!, { ...ofC1(run).at(-1)!, status: 500 }),
  ],
  [
    "the sink received a reply that no commit contains",
    "reply-unknown",
    (run) => {
      const last = ofC1(run).at(-1)!;
      const sequence = last.sequence + 1;
      const key = last.key.replace(/\d+$/, String(sequence));
      run.lines.push({ ...last, key, sequence, receivedUs: last.answeredUs + 1, answeredUs: last.answeredUs + 2 });
    },
  ],
  [
    "two replies share a key",
    "key",
    (run) => replaceLine(run, ofC1(run)[1]!, { ...ofC1(run)[1]!, key: ofC1(run)[0]!.key }),
  ],
  [
    "a reply came again under another key",
    "key",
    (run) => run.lines.push({ ...ofC1(run)[0]!, key: `${ofC1(run)[0]!.key}9`, receivedUs: 9e9, answeredUs: 9e9 + 1 }),
  ],
  [
    "a reply came under the key of another bot",
    "key",
    (run) => replaceLine(run, ofC1(run)[0]!, { ...ofC1(run)[0]!, key: ofC1(run)[0]!.key.replace("fold~", "other~") }),
  ],
  [
    "the answer 2xx of a request is gone",
    "never-acknowledged",
    (run) => {
      const request = requests(run)[0]!;
      replaceLine(run, request, { ...request, outcome: "unknown", status: 0 });
    },
  ],
  [
    "a request was certainly refused, and its messages consumed",
    "refused",
    (run) => {
      const request = requests(run)[0]!;
      replaceLine(run, request, { ...request, outcome: "nack", status: 422 });
    },
  ],
  [
    "a message was consumed that no client sent",
    "phantom",
    (run) => {
      const message = run.lines.find((line) => line.kind === "message")!;
      run.lines.splice(run.lines.indexOf(message), 1);
    },
  ],
  [
    "an acknowledged message was never admitted",
    "lost",
    (run) => {
      const items = [{ conversation: "c1", id: "never" }];
      const message = { kind: "message", bot: "fold", conversation: "c1", id: "never", text: "" } as const;
      run.lines.push(message, { ...requests(run)[0]!, request: "r99", items, sentUs: 9e9, endedUs: 9e9 + 1 });
    },
  ],
  [
    "the messages of one request were consumed in another order than it has",
    "request-order",
    (run) => {
      const request = requests(run)[0]!;
      replaceLine(run, request, { ...request, items: [...request.items].reverse() });
    },
  ],
  [
    "a message was consumed before one that was acknowledged when it was sent",
    "real-time-order",
    (run) => {
      const request = requests(run)[0]!;
      replaceLine(run, request, { ...request, sentUs: 8e9, endedUs: 8e9 + 1 });
    },
  ],
  [
    "the state forgot a message",
    "fold",
    (run) => {
      const delivery = ofC1(run)[2]!;
      const text = JSON.stringify({ ...JSON.parse(delivery.text), h: "0".repeat(64) });
      replaceLine(run, delivery, { ...delivery, text });
    },
  ],
  [
    "a reply says that it answers another message",
    "in-reply-to",
    (run) => replaceLine(run, ofC1(run)[2]!, { ...ofC1(run)[2]!, inReplyTo: "m1" }),
  ],
  [
    "a message was consumed twice, says a reply",
    "doubled",
    (run) => {
      const [, second, third] = ofC1(run);
      const text = JSON.stringify({ ...JSON.parse(third!.text), mid: JSON.parse(second!.text).mid });
      replaceLine(run, third!, { ...third!, text });
    },
  ],
  // what the append-only file says
  [
    "an acknowledged message has no turn: the cursor just passed it",
    "turn-skipped",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      turns.decided = turns.decided.slice(1);
    },
  ],
  [
    "an acknowledged message has no turn, and the conversation was renumbered without it",
    "turn-skipped",
    (run) => {
      const written = turnsOf(run, "c1");
      written[1]!.decided = written[1]!.decided.slice(0, -1);
      for (const turns of written.slice(1)) turns.record = { ...turns.record, seq: turns.record.seq - 1 };
      rechained(run, "c1");
    },
  ],
  [
    "a turn was made twice in one commit",
    "turn-doubled",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      turns.decided.push(turns.decided[0]!);
    },
  ],
  [
    "a turn was made again by the next owner",
    "turn-doubled",
    (run) => {
      const written = turnsOf(run, "c1");
      written[2]!.decided.unshift(written[1]!.decided.at(-1)!);
      for (const turns of written.slice(2)) turns.record = { ...turns.record, seq: turns.record.seq + 1 };
      rechained(run, "c1");
    },
  ],
  [
    "a message that was sent twice was consumed twice",
    "turn-doubled",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      const repeated = appends(run)[1]!.messages.at(-2)!;
      expect(repeated.conversation).toBe("c1");
      turns.decided.push(repeated.id);
      for (const later of turnsOf(run, "c1").slice(1)) later.record = { ...later.record, seq: later.record.seq + 1 };
      rechained(run, "c1");
    },
  ],
  [
    "a turn consumed what was never in the inbox",
    "turn-phantom",
    (run) => {
      const written = turnsOf(run, "c1");
      written[1]!.decided.push("ghost");
      for (const turns of written.slice(1)) turns.record = { ...turns.record, seq: turns.record.seq + 1 };
      rechained(run, "c1");
    },
  ],
  [
    "two turns of one commit were made in the other order",
    "turn-order",
    (run) => {
      const turns = turnsOf(run, "c1").find(({ decided }) => decided.length > 1)!;
      turns.decided.reverse();
      rechained(run, "c1");
    },
  ],
  [
    "the chain is broken in one record",
    "chain",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      turns.record = { ...turns.record, chain: { lo: 1, hi: 2 } };
    },
  ],
  [
    "a record was written over a stale one: its chain leaves out the turns between",
    "chain",
    (run) => {
      const written = turnsOf(run, "c1");
      written[2]!.record = { ...written[2]!.record, chain: chainOf(written[0]!.record.chain, written[2]!.decided) };
    },
  ],
  [
    "a record jumps: seq rises by one more than there were turns",
    "seq-jump",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      turns.record = { ...turns.record, seq: turns.record.seq + 1 };
    },
  ],
  [
    "a record goes back to the one before it",
    "seq-back",
    (run) => {
      const written = turnsOf(run, "c1");
      written[2]!.record = written[0]!.record;
    },
  ],
  [
    "a cursor goes back",
    "cursor-back",
    (run) => {
      const written = turnsOf(run, "c1");
      written[2]!.record = { ...written[2]!.record, cursor: written[0]!.record.cursor };
    },
  ],
  [
    "a cursor stands between two messages",
    "cursor-astray",
    (run) => {
      const turns = turnsOf(run, "c1").at(-1)!;
      const { entry } = turns.record.cursor;
      turns.record = { ...turns.record, cursor: { entry, index: 99 } };
    },
  ],
  [
    "a conversation began a second life",
    "born",
    (run) => {
      const turns = turnsOf(run, "c1").at(-1)!;
      turns.record = { ...turns.record, born: turns.record.cursor };
    },
  ],
  [
    "outSeq was counted once too often",
    "out-seq",
    (run) => {
      const turns = turnsOf(run, "c1")[1]!;
      turns.record = { ...turns.record, outSeq: turns.record.outSeq + 1 };
    },
  ],
  [
    "a commit lacks a reply of its turn",
    "out-seq",
    (run) => {
      commits(run)[1]!.replies.pop();
    },
  ],
  [
    "a bit of a record was flipped",
    "record-damaged",
    (run) => {
      turnsOf(run, "c1")[1]!.damaged = true;
    },
  ],
  [
    "replies were put into the outbox without their record",
    "reply-alone",
    (run) => {
      const commit = commits(run)[1]!;
      commit.turns = commit.turns.filter(({ conversation }) => conversation !== "c1");
    },
  ],
  [
    "an inbox entry went before its messages were decided",
    "let-go",
    (run) => {
      const [first, second] = commits(run);
      first!.inboxDone.push(...second!.inboxDone);
      const [early, late] = [run.steps.indexOf(first!), run.steps.indexOf(appends(run)[1]!)];
      run.steps.splice(early, 0, ...run.steps.splice(late, 1));
    },
  ],
  [
    "the last commit of turns vanished, and its inbox entry with it",
    "let-go",
    (run) => {
      const last = commits(run).at(-2)!;
      last.turns = [];
      last.replies = [];
    },
  ],
  [
    "messages wait in the inbox for ever",
    "waits",
    (run) => {
      run.steps.splice(run.steps.indexOf(commits(run).at(-2)!), 2);
    },
  ],
  [
    "replies wait in the outbox for ever",
    "reply-waits",
    (run) => {
      commits(run).at(-1)!.outboxDone = [];
      withoutReply(run, "c1", ofC1(run).at(-1)!.sequence);
    },
  ],
  // the fence
  [
    "an epoch goes back",
    "epoch-back",
    (run) => {
      run.steps.push({ kind: "acquire", epoch: 1, node: "n1" });
    },
  ],
  [
    "an epoch is given out twice",
    "epoch-back",
    (run) => {
      run.steps.push({ kind: "acquire", epoch: 2, node: "n3" });
    },
  ],
  [
    "a commit's number leaves one out",
    "number-gap",
    (run) => {
      commits(run)[1]!.n += 1;
    },
  ],
  [
    "a commit of the former owner was applied after the take-over",
    "number-gap",
    (run) => {
      const late = commits(run)[1]!;
      run.steps.splice(run.steps.indexOf(late), 1);
      run.steps.splice(run.steps.findLastIndex(({ kind }) => kind === "acquire") + 1, 0, late);
    },
  ],
  [
    "a commit was applied twice",
    "number-gap",
    (run) => {
      const commit = commits(run)[1]!;
      run.steps.splice(run.steps.indexOf(commit), 0, commit);
    },
  ],
  [
    "records were written around the fence",
    "unowned",
    (run) => {
      commits(run)[1]!.isForeign = true;
    },
  ],
];

test("the run that kept its promise passes, and every invariant that a folder can prove is held", () => {
  const report = verified(smallRun());
  expect(report.ok, verifyText(report)).toBe(true);
  expect(report.verdicts.filter(({ status }) => status === "held").map(({ id }) => id)).toEqual(
    ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I13", "I14"], // prettier-ignore
  );
  expect(report.verdicts).toHaveLength(18);
  for (const { status, reason } of report.verdicts) if (status === "not checked") expect(reason).not.toBeNull();
});

test("it passes in partitions that go through files as well", () => {
  const report = verified(smallRun(), { partitionBytes: 2_000 });
  expect(report.ok, verifyText(report)).toBe(true);
});

/** Without a bot that folds; the numbers of the outside rise by one. */
const WAITING: Partial<VerifyOptions> = { fold: false, contiguous: true };

test("the run in which messages wait and are set aside passes", () => {
  const report = verified(waitingRun(), WAITING, SHARDS);
  expect(report.ok, verifyText(report)).toBe(true);
  expect(report.figures.log).toMatchObject({ listed: 6, rotten: 0 });
});

/** Without a bot that folds. */
const LANES: Partial<VerifyOptions> = { fold: false };

test("the run in which replies wait on lists, are set aside and come back passes", () => {
  const report = verified(laneRun(), LANES);
  expect(report.ok, verifyText(report)).toBe(true);
  expect(report.figures.log).toMatchObject({ replies: 13, listedReplies: 9, rotten: 0 });
});

test("that a reply failed is told by its lane: no client sent that", () => {
  const run = smallRun();
  const { ms, n } = commits(run).at(-1)!;
  const { record } = turnsOf(run, "c1").at(-1)!;
  const marker: WrittenMessage = { conversation: "c1", id: "delivery-failed:b.1", text: "" };
  const told: Append = { kind: "append", ms: ms + 1, messages: [marker] };
  const cursor = { entry: { ms: ms + 1, seq: 0 }, index: 0 };
  const after = { ...record, cursor, seq: record.seq + 1, chain: chainOf(record.chain, [marker.id]) };
  const turns: WrittenTurns[] = [{ conversation: "c1", record: after, decided: [marker.id] }];
  run.steps.push(told, { ...commits(run).at(-1)!, ms: ms + 2, n: n + 1, turns, inboxDone: [ms + 1], outboxDone: [] });
  expect([...rulesOf(verified(run))]).toEqual(["phantom"]);
  marker.extra = { deliveryFailed: { outSeq: 1, reason: "terminal" } };
  expect([...rulesOf(verified(run))]).toEqual([]);
});

test("what waits or was set aside is not lost, whoever the witness is", () => {
  const run = waitingRun();
  const items = [{ conversation: "available", id: "m2" }];
  const sent = { kind: "attempt", bot: "fold", request: "r1", attempt: 1, purpose: "first", items } as const;
  run.lines.push({ kind: "message", bot: "fold", conversation: "available", id: "m2", text: "" });
  run.lines.push({ ...sent, sentUs: 1, endedUs: 2, outcome: "ack", status: 202 });
  expect([...rulesOf(verified(run, WAITING, SHARDS))]).not.toContain("lost");
  expect([...rulesOf(verified(run, { ...WAITING, fold: true }, SHARDS))]).not.toContain("lost");
});

const RUNS: readonly (readonly [(run: Run) => VerifyReport, () => Run, readonly Corruption[]])[] = [
  [(run) => verified(run), smallRun, CORRUPTIONS],
  [(run) => verified(run, WAITING, SHARDS), waitingRun, WAITING_CORRUPTIONS],
  [(run) => verified(run, LANES), laneRun, LANE_CORRUPTIONS],
];

describe("a corrupted history is caught", () => {
  const each = RUNS.flatMap(([judged, base, corruptions]) =>
    corruptions.map(([what, rule, corrupt]) => [what, rule, corrupt, base, judged] as const),
  );
  test.each(each)("%s: %s", (_what, rule, corrupt, base, judged) => {
    const run = base();
    corrupt(run);
    const report = judged(run);
    expect(report.ok).toBe(false);
    expect([...rulesOf(report)], verifyText(report)).toContain(rule);
    const verdict = report.verdicts.find(({ id }) => id === INVARIANT_OF[rule])!;
    expect(verdict.status).toBe("violated");
    for (const { slice, detail } of verdict.violations) {
      expect(detail).not.toBe("");
      expect(slice.length).toBeGreaterThan(0);
    }
  });

  test.each(CORRUPTIONS)("also in partitions: %s: %s", (_what, rule, corrupt) => {
    const run = smallRun();
    corrupt(run);
    expect([...rulesOf(verified(run, { partitionBytes: 2_000 }))]).toContain(rule);
  });

  test.each(WAITING_CORRUPTIONS)("also in partitions: %s: %s", (_what, rule, corrupt) => {
    const run = waitingRun();
    corrupt(run);
    expect([...rulesOf(verified(run, { ...WAITING, partitionBytes: 2_000 }, SHARDS))]).toContain(rule);
  });

  test.each(LANE_CORRUPTIONS)("also in partitions: %s: %s", (_what, rule, corrupt) => {
    const run = laneRun();
    corrupt(run);
    expect([...rulesOf(verified(run, { ...LANES, partitionBytes: 1_000 }))]).toContain(rule);
  });

  test("by every rule that there is", () => {
    const attacked = new Set([...CORRUPTIONS, ...WAITING_CORRUPTIONS, ...LANE_CORRUPTIONS].map(([, rule]) => rule));
    expect(Object.keys(INVARIANT_OF).filter((rule) => !attacked.has(rule as AnyRule))).toEqual([]);
    expect(CORRUPTIONS.length).toBeGreaterThanOrEqual(46);
    expect(WAITING_CORRUPTIONS.length).toBeGreaterThanOrEqual(30);
    expect(LANE_CORRUPTIONS.length).toBeGreaterThanOrEqual(25);
  });
});
