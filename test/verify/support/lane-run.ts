// Lane run: a run in which replies cannot go out at once: they move to the list of their lane, become dead letters, come back from
// there, or stand behind a halt; all of it as it must be. Each conversation has one story.

import type { LaneState } from "../../../src/domain/lane.ts";
import type { Run } from "./generated-run.ts";
import { at, Scenario, say } from "./waiting-run.ts";

const state = (
  name: LaneState["state"],
  outSeq: number,
  list?: { readonly nextId: number; readonly count: number },
): LaneState => ({
  state: name,
  born: "b",
  outSeq,
  attempts: name === "flowing" ? 0 : 1,
  firstFailedAtMs: 1,
  nextAtMs: 2,
  reason: "HTTP 503",
  ...(list && { list: { ...list, bytes: 100 * list.count } }),
});

/** Three messages that are answered in one commit, so that the outbox entry is theirs alone. @returns the entry's time */
function answered(s: Scenario, conversation: string, isUndelivered = false): number {
  const a = s.append([say(conversation, "m1"), say(conversation, "m2"), say(conversation, "m3")]);
  const did = { did: ["m1", "m2", "m3"], cursor: at(a, 2), replies: 3, isUndelivered };
  return s.commit({ [conversation]: did }, { inboxDone: [a] });
}

/** The provider is away: what stands in the outbox moves, in two commits; later ones go to the list at once, until all have left. */
function moved(s: Scenario): void {
  const conversation = "moved";
  const entry = answered(s, conversation);
  const reply = (outSeq: number) => s.reply(conversation, outSeq);
  s.commit({}, { lanes: [{ conversation, state: state("retrying", 1) }] });
  s.commit(
    {},
    {
      acks: [{ ms: entry, done: 0b011 }],
      lanes: [
        {
          conversation,
          state: state("retrying", 1, { nextId: 3, count: 2 }),
          joins: [1, 2].map((id) => ({ id, reply: reply(id) })),
        },
      ],
    },
  );
  s.commit(
    {},
    {
      outboxDone: [entry],
      lanes: [
        {
          conversation,
          state: state("retrying", 1, { nextId: 4, count: 3 }),
          joins: [{ id: 3, reply: reply(3) }],
        },
      ],
    },
  );
  const b = s.append([say(conversation, "m4")]);
  s.commit(
    { [conversation]: { did: ["m4"], cursor: at(b), replies: 1, toList: 4 } },
    { inboxDone: [b], lanes: [{ conversation, state: state("retrying", 1, { nextId: 5, count: 4 }), joins: [] }] },
  );
  s.commit({}, { lanes: [{ conversation, state: state("flowing", 3, { nextId: 5, count: 2 }), leaves: [1, 2] }] });
  s.commit({}, { lanes: [{ conversation, state: null, leaves: [3, 4], isLast: true }] });
}

/** Refused for good in strict order: what is behind it waits on the list at the end, and new ones in the outbox. */
function halted(s: Scenario): void {
  const conversation = "halted";
  const a = s.append([say(conversation, "m1")]);
  const first = s.commit({ [conversation]: { did: ["m1"], cursor: at(a), replies: 1 } }, { inboxDone: [a] });
  const b = s.append([say(conversation, "m2"), say(conversation, "m3")]);
  const wrote = { did: ["m2", "m3"], cursor: at(b, 1), replies: 2, isUndelivered: true };
  const second = s.commit({ [conversation]: wrote }, { inboxDone: [b], outboxDone: [first] });
  s.commit({}, { lanes: [{ conversation, state: state("halted", 2) }] });
  s.commit(
    {},
    {
      acks: [{ ms: second, done: 0b01 }],
      lanes: [
        {
          conversation,
          state: state("halted", 2, { nextId: 2, count: 1 }),
          joins: [{ id: 1, reply: s.reply(conversation, 2) }],
        },
      ],
    },
  );
}

/** Refused for good in available order: it becomes a dead letter, the rest goes on, and an operator sends it again. */
function redriven(s: Scenario): void {
  const conversation = "redriven";
  const entry = answered(s, conversation, true);
  s.deliver(conversation, 1);
  const buried = s.commit({}, { acks: [{ ms: entry, done: 0b011 }], dead: [{ conversation, outSeq: 2 }] });
  s.deliver(conversation, 3);
  s.commit({}, { outboxDone: [entry] });
  const joins = [{ id: 1, reply: s.reply(conversation, 2) }];
  s.commit(
    {},
    {
      deadDone: [`${buried}-0`],
      lanes: [{ conversation, state: state("flowing", 0, { nextId: 2, count: 1 }), joins }],
    },
  );
  s.deliver(conversation, 2);
  s.commit({}, { lanes: [{ conversation, state: null, leaves: [1], isLast: true }] });
}

/** An operator skips the head of a list; what was behind it is delivered. */
function skipped(s: Scenario): void {
  const conversation = "skipped";
  const entry = answered(s, conversation, true);
  const joins = [1, 2, 3].map((id) => ({ id, reply: s.reply(conversation, id) }));
  s.commit(
    {},
    {
      outboxDone: [entry],
      lanes: [{ conversation, state: state("halted", 1, { nextId: 4, count: 3 }), joins }],
    },
  );
  s.commit(
    {},
    {
      dead: [{ conversation, outSeq: 1 }],
      lanes: [{ conversation, state: state("flowing", 0, { nextId: 4, count: 2 }), leaves: [1] }],
    },
  );
  s.deliver(conversation, 2);
  s.deliver(conversation, 3);
  s.commit({}, { lanes: [{ conversation, state: null, leaves: [2, 3], isLast: true }] });
}

export function laneRun(): Run {
  const s = new Scenario();
  s.acquire(0);
  for (const story of [moved, halted, redriven, skipped]) story(s);
  return s.run();
}
