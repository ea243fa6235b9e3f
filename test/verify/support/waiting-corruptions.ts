// Corruptions of the waiting run: each one named change, and the rule that must find it.

import { expect } from "vitest";
import type { RecordExtra } from "../../../src/domain/record.ts";
import type { AnyRule } from "../../../src/verify/verdict.ts";
import { type Append, type Commit, chainOf, noticed, type Run, type WrittenTurns } from "./generated-run.ts";
import { NOTICE, say } from "./waiting-run.ts";

export type Corruption = readonly [what: string, rule: AnyRule, corrupt: (run: Run) => void];

const appends = (run: Run): Append[] => run.steps.filter((step) => step.kind === "append");
const commits = (run: Run): Commit[] => run.steps.filter((step) => step.kind === "commit");
const ofConversation = (run: Run, conversation: string): WrittenTurns[] =>
  commits(run).flatMap(({ turns }) => turns.filter((written) => written.conversation === conversation));
const withControl = (run: Run, conversation: string): Append =>
  appends(run).find(({ messages }) => messages.some((each) => each.conversation === conversation && each.control))!;

function extraOf(written: WrittenTurns, parts: Partial<RecordExtra>): void {
  written.record = { ...written.record, extra: { ...written.record.extra, ...parts } };
}

/** What a commit decided becomes this, and the chains from it on are made anew. */
function redecided(run: Run, conversation: string, index: number, did: string[], outcomes = {}): void {
  const all = ofConversation(run, conversation);
  let chain = all[index - 1]?.record.chain ?? { lo: 0, hi: 0 };
  for (const [i, written] of all.entries()) {
    if (i < index) continue;
    if (i === index) written.decided = did.filter((id) => id !== NOTICE);
    const ids = i === index ? did : written.decided;
    chain = ids.reduce((link, id) => (id === NOTICE ? noticed(link) : chainOf(link, [id], outcomes)), chain);
    written.record = { ...written.record, chain };
  }
}

export const WAITING_CORRUPTIONS: readonly Corruption[] = [
  [
    "a message vanished from the waiting list without a decision",
    "list-lost",
    (run) => {
      const written = ofConversation(run, "poison")[2]!;
      written.unlisted!.push(3);
      extraOf(written, { waiting: { nextId: 4, count: 0, bytes: 0, isFull: false } });
    },
  ],
  [
    "the key of a waiting list was deleted with what was on it",
    "list-lost",
    (run) => {
      const written = ofConversation(run, "numbered")[1]!;
      extraOf(written, {});
      const { waiting: _gone, ...extra } = written.record.extra!;
      written.record = { ...written.record, extra };
    },
  ],
  [
    "a waiting message was decided and stays on the list, to be decided twice",
    "list-stays",
    (run) => {
      const written = ofConversation(run, "poison")[2]!;
      written.unlisted = [1];
      extraOf(written, { waiting: { nextId: 4, count: 2, bytes: 128, isFull: false } });
    },
  ],
  [
    "a waiting message was decided twice",
    "turn-doubled",
    (run) => {
      const written = ofConversation(run, "poison")[3]!;
      written.record = { ...written.record, seq: written.record.seq + 1 };
      redecided(run, "poison", 3, ["m3", "m4"]);
    },
  ],
  [
    "a message stands on the list, and in the inbox past the cursor",
    "list-ahead",
    (run) => {
      const written = ofConversation(run, "numbered")[0]!;
      const { entry } = written.record.cursor;
      written.record = { ...written.record, cursor: { entry, index: 1 } };
    },
  ],
  [
    "a message was moved to the list a second time",
    "list-again",
    (run) => {
      const written = ofConversation(run, "poison")[3]!;
      const [first] = ofConversation(run, "poison")[1]!.listed!;
      written.listed = [{ ...first!, id: 4 }];
      extraOf(written, { waiting: { nextId: 5, count: 1, bytes: 64, isFull: false } });
    },
  ],
  [
    "what was moved to the list was never in the inbox",
    "list-phantom",
    (run) => {
      const written = ofConversation(run, "poison")[1]!;
      written.listed!.push({ id: 4, message: say("poison", "ghost"), ms: 1_600_000_000_000, index: 0 });
    },
  ],
  [
    "the record counts fewer messages than its list has",
    "list-count",
    (run) =>
      extraOf(ofConversation(run, "numbered")[1]!, { waiting: { nextId: 4, count: 1, bytes: 64, isFull: false } }),
  ],
  [
    "messages wait on a list that nothing holds up",
    "list-waits",
    (run) => {
      const last = commits(run).find(({ turns }) => turns.includes(ofConversation(run, "poison")[3]!))!;
      last.turns = [];
      last.replies = [];
    },
  ],
  [
    "a message overtook one on the waiting list",
    "turn-order",
    (run) => {
      const written = ofConversation(run, "poison")[2]!;
      written.unlisted = [1, 3];
      redecided(run, "poison", 2, ["m2", "m4"], { m2: "skipped" });
    },
  ],
  [
    "the cursor passed a message that went to no list",
    "turn-skipped",
    (run) => {
      const written = ofConversation(run, "poison")[1]!;
      written.listed!.pop();
      extraOf(written, { waiting: { nextId: 4, count: 2, bytes: 128, isFull: true } });
    },
  ],
  [
    "a halted conversation's later message had its turn before the halt was lifted",
    "halt-passed",
    (run) => {
      const halted = ofConversation(run, "poison")[1]!.record.extra!;
      extraOf(ofConversation(run, "poison")[2]!, { halt: halted.halt!, openTurn: halted.openTurn! });
    },
  ],
  [
    "a poison halt went without an operator's verb",
    "halt-lifted",
    (run) => {
      withControl(run, "poison").messages[0]!.control = { verb: "skip", halt: "another", by: "test" };
    },
  ],
  [
    "a gap halt went, and neither the missing message nor a verb came",
    "halt-lifted",
    (run) => {
      withControl(run, "numbered").messages[0]!.control = { verb: "retry", halt: "gap-0-99", by: "test" };
    },
  ],
  [
    "a number was passed over without a halt or a notice",
    "gap-passed",
    (run) => {
      const [, , halted] = ofConversation(run, "numbered");
      const { halt: _none, ...extra } = halted!.record.extra!;
      halted!.record = { ...halted!.record, extra };
      withControl(run, "numbered").messages[0]!.control = { verb: "skip", halt: "another", by: "test" };
    },
  ],
  [
    "two numbers had their turns in the other order",
    "turn-order",
    (run) => {
      const first = appends(run).find(({ messages }) => messages[0]!.id === "n1")!;
      const [one, three, four] = first.messages;
      expect([one, three, four].map((each) => each!.id)).toEqual(["n1", "n3", "n4"]);
      const all = ofConversation(run, "numbered");
      all[1]!.unlisted = [2];
      all[2]!.unlisted = [1];
      redecided(run, "numbered", 1, ["n2", "n4"]);
      redecided(run, "numbered", 2, ["n3"]);
    },
  ],
  [
    "what comes next in the outside's order fell",
    "order-back",
    (run) => extraOf(ofConversation(run, "numbered")[1]!, { order: { epoch: 0, next: 1 } }),
  ],
  [
    "a message was set aside and has no dead letter",
    "chain",
    (run) => {
      ofConversation(run, "available")[0]!.letters = [];
    },
  ],
  [
    "a message became a dead letter in a commit that did not decide it",
    "dead-alone",
    (run) => {
      const written = ofConversation(run, "available")[1]!;
      written.letters = [...ofConversation(run, "available")[0]!.letters!];
    },
  ],
  [
    "a notice vanished before the bot was told",
    "notice-lost",
    (run) => {
      const written = ofConversation(run, "available").slice(1);
      for (const each of written) each.record = { ...each.record, seq: each.record.seq - 1 };
      redecided(run, "available", 1, ["m3"]);
    },
  ],
  [
    "the bot was told twice of one thing",
    "seq-jump",
    (run) => {
      const written = ofConversation(run, "available").slice(1);
      for (const each of written) each.record = { ...each.record, seq: each.record.seq + 1 };
      redecided(run, "available", 1, [NOTICE, NOTICE, "m3"]);
    },
  ],
  [
    "the bot was told after the message that comes behind it",
    "chain",
    (run) => redecided(run, "available", 1, ["m3", NOTICE]),
  ],
  [
    "a dead letter that came back was consumed twice",
    "turn-doubled",
    (run) => {
      const written = ofConversation(run, "available")[2]!;
      written.decided.push("redrive:1-0");
    },
  ],
  [
    "the result of a step was forgotten while its turn was open",
    "journal-lost",
    (run) => {
      const written = ofConversation(run, "journal")[2]!;
      const openTurn = written.record.extra!.openTurn!;
      extraOf(written, { openTurn: { ...openTurn, steps: openTurn.steps.slice(1) } });
    },
  ],
  [
    "an open turn forgot that a reply of it is out",
    "journal-lost",
    (run) => {
      const written = ofConversation(run, "journal")[2]!;
      extraOf(written, { openTurn: { ...written.record.extra!.openTurn!, repliesOut: 0 } });
    },
  ],
  [
    "an open turn sent a reply and does not count it",
    "journal-replies",
    (run) => {
      for (const written of ofConversation(run, "journal").slice(1, 3))
        extraOf(written, { openTurn: { ...written.record.extra!.openTurn!, repliesOut: 0 } });
    },
  ],
  [
    "a halted conversation is not in the index of the unfinished",
    "open-missing",
    (run) => {
      delete ofConversation(run, "poison")[0]!.open;
    },
  ],
  [
    "a conversation stays in the index of the unfinished for ever",
    "open-stale",
    (run) => {
      delete ofConversation(run, "numbered").at(-1)!.open;
    },
  ],
  [
    "a conversation stays among those at their bound, and is refused for ever",
    "full-astray",
    (run) => {
      delete ofConversation(run, "poison")[2]!.full;
    },
  ],
  [
    "a timer left and came nowhere",
    "timer-lost",
    (run) => {
      const moved = appends(run).find(({ unset }) => unset)!;
      moved.messages = [say("poison", "m5")];
    },
  ],
  [
    "a timer came into the inbox twice",
    "timer-again",
    (run) => {
      const moved = appends(run).find(({ unset }) => unset)!;
      run.steps.splice(run.steps.indexOf(moved), 0, { ...moved, ms: moved.ms - 1 });
    },
  ],
  [
    "a shard took the same sends twice",
    "send-again",
    (run) => {
      const taken = appends(run).find(({ from }) => from)!;
      run.steps.splice(run.steps.indexOf(taken) + 1, 0, { ...taken, ms: taken.ms + 1 });
    },
  ],
  [
    "sends of another shard came in without a mark of what was taken",
    "send-unmarked",
    (run) => {
      delete appends(run).find(({ from }) => from)!.from;
    },
  ],
  [
    "sends left the outbox and never came",
    "send-lost",
    (run) => {
      const taken = appends(run).find(({ from }) => from)!;
      const consumed = commits(run).find(({ turns }) => turns.some(({ conversation }) => conversation === "far"))!;
      run.steps = run.steps.filter((step) => step !== taken && step !== consumed);
    },
  ],
];
