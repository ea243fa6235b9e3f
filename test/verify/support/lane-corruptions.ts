// Corruptions of the lane run: each one named change, and the rule that must find it.

import type { LaneState } from "../../../src/domain/lane.ts";
import type { DeliveryAttempt } from "../../../src/verify/history.ts";
import type { Commit, Run, WrittenLane } from "./generated-run.ts";
import type { Corruption } from "./waiting-corruptions.ts";

const commits = (run: Run): Commit[] => run.steps.filter((step) => step.kind === "commit");
/** Commits that write of the lane, beside its replies in the outbox. */
const ofLane = (run: Run, conversation: string): { commit: Commit; lane: WrittenLane }[] =>
  commits(run).flatMap((commit) =>
    (commit.lanes ?? []).filter((lane) => lane.conversation === conversation).map((lane) => ({ commit, lane })),
  );
/** The one that lets this reply join its list. */
const joinOf = (run: Run, conversation: string, outSeq: number): { commit: Commit; lane: WrittenLane } =>
  ofLane(run, conversation).find(({ lane }) => lane.joins?.some(({ reply }) => reply.outSeq === outSeq))!;
const buryingOf = (run: Run, conversation: string): Commit =>
  commits(run).find(({ dead }) => dead.some((letter) => letter.conversation === conversation))!;

function counted(lane: WrittenLane, change: Partial<NonNullable<LaneState["list"]>>): void {
  lane.state = { ...lane.state!, list: { ...lane.state!.list!, ...change } };
}

function undelivered(run: Run, conversation: string, outSeq: number): void {
  const isIt = (line: Run["lines"][number]): line is DeliveryAttempt =>
    line.kind === "delivery" && line.conversation === conversation && line.sequence === outSeq;
  run.lines = run.lines.filter((line) => !isIt(line));
}

export const LANE_CORRUPTIONS: readonly Corruption[] = [
  ["what left the list of its lane was never delivered", "reply-lost", (run) => undelivered(run, "moved", 4)],
  [
    "a reply was marked done in the outbox, and did not join the list",
    "reply-lost",
    (run) => {
      const { lane } = joinOf(run, "skipped", 3);
      lane.joins!.pop();
      for (const later of ofLane(run, "skipped").slice(0, 2)) {
        counted(later.lane, { count: later.lane.state!.list!.count - 1, nextId: 3 });
      }
      ofLane(run, "skipped")[2]!.lane.leaves = [2];
      undelivered(run, "skipped", 3);
    },
  ],
  [
    "a reply left the list one commit too early, with the one before it",
    "reply-lost",
    (run) => {
      const [, second, third] = ofLane(run, "skipped");
      second!.lane.leaves = [1, 2];
      counted(second!.lane, { count: 1 });
      third!.lane.leaves = [3];
      undelivered(run, "skipped", 2);
    },
  ],
  [
    "the list of a lane that is halted lost its key",
    "reply-lost",
    (run) => {
      const { lane } = joinOf(run, "halted", 2);
      lane.isLast = true;
      lane.state = { ...lane.state!, list: { nextId: 2, count: 0, bytes: 0 } };
    },
  ],
  [
    "replies stand on the list for ever, and nothing holds their lane up",
    "reply-waits",
    (run) => {
      const { lane } = joinOf(run, "halted", 2);
      lane.state = { ...lane.state!, state: "retrying" };
    },
  ],
  [
    "a lane with a list has no state",
    "lane-missing",
    (run) => {
      joinOf(run, "halted", 2).lane.state = null;
    },
  ],
  [
    "the state of a lane went before its list did",
    "lane-missing",
    (run) => {
      ofLane(run, "skipped")[1]!.lane.state = null;
    },
  ],
  [
    "a dead letter was taken out, and its reply went nowhere",
    "letter-lost",
    (run) => {
      const { lane } = joinOf(run, "redriven", 2);
      lane.joins = [];
      lane.state = null;
    },
  ],
  [
    "a reply joined the list, and its mark in the outbox was not made",
    "reply-twice",
    (run) => {
      joinOf(run, "moved", 1).commit.acks = [];
    },
  ],
  [
    "all replies of an entry joined the list, and the entry stayed",
    "reply-twice",
    (run) => {
      joinOf(run, "skipped", 1).commit.outboxDone = [];
    },
  ],
  [
    "a reply joined the list twice",
    "reply-twice",
    (run) => {
      const [, , , { lane }] = ofLane(run, "moved") as [unknown, unknown, unknown, { lane: WrittenLane }];
      const { reply } = joinOf(run, "moved", 3).lane.joins![0]!;
      lane.joins!.unshift({ id: 4, reply });
      lane.joins!.at(-1)!.id = 5;
    },
  ],
  [
    "a reply became a dead letter and stayed on the list",
    "reply-twice",
    (run) => {
      const { lane } = ofLane(run, "skipped")[1]!;
      lane.leaves = [];
      counted(lane, { count: 3 });
    },
  ],
  [
    "a reply became a dead letter and was not marked done in the outbox",
    "reply-twice",
    (run) => {
      buryingOf(run, "redriven").acks = [];
    },
  ],
  [
    "replies joined the list in the other order",
    "lane-order",
    (run) => {
      const { joins } = joinOf(run, "skipped", 1).lane;
      const [first, second] = joins!;
      [first!.reply, second!.reply] = [second!.reply, first!.reply];
    },
  ],
  [
    "the second reply moved to the list, and the first stayed in the outbox",
    "lane-order",
    (run) => {
      const { commit, lane } = joinOf(run, "halted", 2);
      commit.acks![0]!.done = 0b10;
      lane.joins![0]!.reply = { ...lane.joins![0]!.reply, outSeq: 3, body: "reply 3 of halted" };
    },
  ],
  [
    "a reply came back onto the list that had been delivered from it",
    "reply-again",
    (run) => {
      const last = ofLane(run, "moved").at(-1)!;
      const { reply } = joinOf(run, "moved", 2).lane.joins![1]!;
      last.lane.joins = [{ id: 5, reply }];
      last.lane.leaves!.push(5);
    },
  ],
  [
    "a reply was sent again by an operator, and its dead letter stayed",
    "reply-again",
    (run) => {
      joinOf(run, "redriven", 2).commit.deadDone = [];
    },
  ],
  [
    "a reply joined the list of another conversation's lane",
    "lane-astray",
    (run) => {
      joinOf(run, "moved", 3).lane.joins![0]!.reply = joinOf(run, "halted", 2).lane.joins![0]!.reply;
    },
  ],
  [
    "a reply became a dead letter that had been delivered and had left",
    "letter-again",
    (run) => {
      commits(run).at(-1)!.dead.push({ conversation: "moved", outSeq: 1 });
    },
  ],
  [
    "the state of a lane counts one reply more than its list has",
    "lane-count",
    (run) => counted(ofLane(run, "moved")[4]!.lane, { count: 3 }),
  ],
  [
    "a reply left the list twice, and the second time it was another one",
    "lane-count",
    (run) => {
      ofLane(run, "moved")[4]!.lane.leaves = [1, 2, 3];
    },
  ],
  [
    "the state of a lane counts a list that is gone",
    "lane-count",
    (run) => {
      const { lane } = ofLane(run, "moved").at(-1)!;
      lane.state = ofLane(run, "moved")[4]!.lane.state!;
    },
  ],
  [
    "the state of a lane would give out an id of its list again",
    "lane-count",
    (run) => counted(joinOf(run, "moved", 1).lane, { nextId: 2 }),
  ],
  [
    "a reply was written to the list, and not counted by its record",
    "out-seq",
    (run) => {
      for (const { turns } of commits(run)) {
        for (const written of turns) {
          if (written.conversation === "moved" && written.record.outSeq === 4)
            written.record = { ...written.record, outSeq: 3 };
        }
      }
    },
  ],
  [
    "the list of a lane was written around the fence",
    "unowned",
    (run) => {
      joinOf(run, "halted", 2).commit.isForeign = true;
    },
  ],
];
