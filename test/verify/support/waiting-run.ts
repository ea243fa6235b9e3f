// Waiting run: a run in which messages wait, are held, are set aside, come from other conversations and from timers, and turns leave
// a journal; all of it as it must be. Two shards; each conversation has one story.

import { idempotencyKey } from "../../../src/domain/ids.ts";
import { formatBorn, type Position } from "../../../src/domain/position.ts";
import {
  type ConversationRecord,
  newRecord,
  type OpenTurn,
  type RecordExtra,
  type TurnOutcome,
} from "../../../src/domain/record.ts";
import type { ClientLine } from "../../../src/verify/history.ts";
import {
  type Append,
  type Commit,
  chainOf,
  noticed,
  type Run,
  type Step,
  sha256,
  type WrittenMessage,
  type WrittenReply,
  type WrittenTurns,
} from "./generated-run.ts";

/** Stands for a turn over a notice among the ids of what was decided. */
export const NOTICE = "!";

interface Wrote extends Omit<Partial<WrittenTurns>, "conversation" | "record" | "decided"> {
  /** Ids of what was decided, in order. */
  did?: string[];
  outcomes?: Record<string, TurnOutcome>;
  cursor?: Position;
  extra?: RecordExtra | null;
  replies?: number;
  /** From this id on they go to the list of their lane, instead of into the outbox. */
  toList?: number;
  /** They do not reach the sink, or later. */
  isUndelivered?: boolean;
  /** Instead of what it was before, e.g. of an outSeq that a mutation forgets. */
  bornAt?: Position;
}

export const at = (ms: number, index = 0): Position => ({ entry: { ms, seq: 0 }, index });

export class Scenario {
  readonly steps: Step[] = [];
  readonly lines: ClientLine[] = [];
  readonly #records = new Map<string, ConversationRecord>();
  readonly #n = new Map<number, number>();
  #ms = 1_700_000_000_000;
  #us = 1_000;

  acquire(shard: number): void {
    this.steps.push({ kind: "acquire", epoch: 1, node: `n${shard}`, shard });
  }

  /** @returns its time, which is the id of its entry */
  append(messages: WrittenMessage[], more: Partial<Append> = {}): number {
    this.#ms += 10;
    this.steps.push({ kind: "append", ms: this.#ms, messages, ...more });
    return this.#ms;
  }

  /** @returns its time, which is the id of its outbox entry */
  commit(wrote: Readonly<Record<string, Wrote>>, more: Partial<Commit> = {}): number {
    this.#ms += 10;
    const { shard = 0 } = more;
    const n = (this.#n.get(shard) ?? 0) + 1;
    this.#n.set(shard, n);
    const commit: Commit = {
      kind: "commit",
      n,
      ms: this.#ms,
      turns: [],
      replies: [],
      inboxDone: [],
      outboxDone: [],
      dead: [],
      ...more,
    };
    for (const [conversation, each] of Object.entries(wrote))
      commit.turns.push(this.#turns(conversation, each, commit));
    this.steps.push(commit);
    return this.#ms;
  }

  run(): Run {
    return { steps: this.steps, lines: this.lines };
  }

  #turns(conversation: string, wrote: Wrote, commit: Commit): WrittenTurns {
    const { did = [], outcomes = {}, cursor, extra, replies = 0, bornAt, toList, isUndelivered, ...aside } = wrote;
    const before = this.#records.get(conversation) ?? newRecord(bornAt ?? cursor!);
    const chain = did.reduce(
      (link, id) => (id === NOTICE ? noticed(link) : chainOf(link, [id], outcomes)),
      before.chain,
    );
    const record: ConversationRecord = {
      ...before,
      seq: before.seq + did.filter((id) => (outcomes[id] ?? "turn") === "turn").length,
      outSeq: before.outSeq + replies,
      cursor: cursor ?? before.cursor,
      chain,
      extra: extra === undefined ? before.extra : extra,
    };
    this.#records.set(conversation, record);
    for (let i = 1; i <= replies; i += 1) {
      const reply = this.reply(conversation, before.outSeq + i);
      if (toList === undefined) commit.replies.push(reply);
      else commit.lanes!.find((lane) => lane.conversation === conversation)!.joins!.push({ id: toList + i - 1, reply });
      if (!isUndelivered) this.deliver(conversation, reply.outSeq);
    }
    return { conversation, record, decided: did.filter((id) => id !== NOTICE), ...aside };
  }

  reply(conversation: string, outSeq: number): WrittenReply {
    const born = formatBorn(this.#records.get(conversation)!.born);
    return { conversation, born, outSeq, body: `reply ${outSeq} of ${conversation}` };
  }

  deliver(conversation: string, outSeq: number): void {
    const { born, body } = this.reply(conversation, outSeq);
    this.#us += 100;
    this.lines.push({
      kind: "delivery",
      bot: "fold",
      channel: "http",
      key: idempotencyKey({ bot: "fold", channel: "http", conversation }, born, outSeq),
      conversation,
      sequence: outSeq,
      inReplyTo: null,
      text: "",
      bodyHash: sha256(body),
      receivedUs: this.#us,
      answeredUs: this.#us + 10,
      status: 200,
    });
  }
}

export const say = (conversation: string, id: string, sequence?: number): WrittenMessage => ({
  conversation,
  id,
  text: `text of ${id}`,
  ...(sequence !== undefined && { sequence }),
});

const openTurn = (position: Position, more: Partial<OpenTurn> = {}): OpenTurn => ({
  position,
  attempts: 1,
  deaths: 0,
  firstFailedAtMs: 1,
  nextAtMs: 2,
  error: "Error",
  repliesOut: 0,
  steps: [],
  ...more,
});

const waiting = (count: number, nextId: number, isFull = false) => ({ nextId, count, bytes: 64 * count, isFull });
const halt = (reason: "poison" | "gap") => ({ reason, sinceMs: 1, why: "why" });

/** A message that fails for good in strict order: later ones wait on the list until an operator skips it. */
function poison(s: Scenario): void {
  const a = s.append([say("poison", "m1"), say("poison", "m2"), say("poison", "m3")]);
  const open = openTurn(at(a, 1));
  s.commit({
    poison: {
      did: ["m1"],
      cursor: at(a, 0),
      replies: 1,
      extra: { openTurn: open },
      open: true,
      timersSet: ["2|!retry"],
    },
  });
  const due = s.append([{ conversation: "poison", id: "", text: "", timer: "2|!retry" }], {
    unset: ["2|!retry|poison"],
  });
  const b = s.append([say("poison", "m4")]);
  const extra: RecordExtra = { openTurn: open, halt: halt("poison"), waiting: waiting(3, 4, true) };
  s.commit(
    {
      poison: {
        cursor: at(b, 0),
        extra,
        full: true,
        listed: [
          { id: 1, message: say("poison", "m2"), ms: a, index: 1 },
          { id: 2, message: say("poison", "m3"), ms: a, index: 2 },
          { id: 3, message: say("poison", "m4"), ms: b, index: 0 },
        ],
      },
    },
    { inboxDone: [a, due, b] },
  );
  const name = formatBorn(open.position);
  const verb = s.append([{ ...say("poison", ""), control: { verb: "skip", halt: name, by: "test" } }]);
  const letters = [{ message: say("poison", "m2"), ms: a, index: 1, reason: "skipped" }];
  s.commit(
    {
      poison: {
        did: ["m2", "m3"],
        outcomes: { m2: "skipped" },
        extra: { waiting: waiting(1, 4) },
        unlisted: [1, 2],
        full: false,
        letters,
        replies: 1,
      },
    },
    { inboxDone: [verb] },
  );
  s.commit({ poison: { did: ["m4"], extra: null, unlisted: [3], open: false, replies: 1 } });
}

/** The same where order gives way: it is set aside, the bot is told, the rest goes on. */
function available(s: Scenario): void {
  const a = s.append([say("available", "m1"), say("available", "m2"), say("available", "m3")]);
  const notices = [{ kind: "poisoned" as const, position: at(a, 1), id: "m2", error: "Error" }];
  const letters = [{ message: say("available", "m2"), ms: a, index: 1, reason: "poison" }];
  s.commit({
    available: {
      did: ["m1", "m2"],
      outcomes: { m2: "dead" },
      cursor: at(a, 1),
      extra: { notices },
      letters,
      open: true,
      replies: 1,
    },
  });
  s.commit(
    { available: { did: [NOTICE, "m3"], cursor: at(a, 2), extra: null, open: false, replies: 2 } },
    { inboxDone: [a] },
  );
  const again: WrittenMessage = { ...say("available", "m2"), extra: { redrives: "1-0" } };
  const b = s.append([again]);
  s.commit({ available: { did: ["redrive:1-0"], cursor: at(b, 0), replies: 1 } }, { inboxDone: [b] });
}

/** Numbers of the outside: one comes too early, one never comes. */
function numbered(s: Scenario): void {
  const a = s.append([say("numbered", "n1", 1), say("numbered", "n3", 3), say("numbered", "n4", 4)]);
  s.commit(
    {
      numbered: {
        did: ["n1"],
        cursor: at(a, 2),
        extra: { order: { epoch: 0, next: 2 }, waiting: waiting(2, 3) },
        listed: [
          { id: 1, message: say("numbered", "n3", 3), ms: a, index: 1 },
          { id: 2, message: say("numbered", "n4", 4), ms: a, index: 2 },
        ],
        open: true,
        replies: 1,
      },
    },
    { inboxDone: [a] },
  );
  const b = s.append([say("numbered", "n2", 2), say("numbered", "n6", 6)]);
  s.commit(
    {
      numbered: {
        did: ["n2", "n3"],
        cursor: at(b, 1),
        extra: { order: { epoch: 0, next: 4 }, waiting: waiting(2, 4) },
        unlisted: [1],
        listed: [{ id: 3, message: say("numbered", "n6", 6), ms: b, index: 1 }],
        replies: 1,
      },
    },
    { inboxDone: [b] },
  );
  const order = { epoch: 0, next: 5 };
  const halted = { order, waiting: waiting(1, 4), halt: { ...halt("gap"), missing: { epoch: 0, sequence: 5 } } };
  s.commit({ numbered: { did: ["n4"], extra: halted, unlisted: [2] } });
  const verb = s.append([{ ...say("numbered", ""), control: { verb: "skip", halt: "gap-0-5", by: "test" } }]);
  s.commit(
    {
      numbered: {
        did: ["n6"],
        extra: { order: { epoch: 0, next: 7 } },
        unlisted: [3],
        open: false,
      },
    },
    { inboxDone: [verb] },
  );
}

/** A turn with a step and a reply on the way. */
function journal(s: Scenario): void {
  const a = s.append([say("journal", "m1")]);
  const step = { index: 0, name: "charge", occurrence: 0, result: "r1" };
  const open = openTurn(at(a), { attempts: 0, steps: [step] });
  const bornAt = at(a);
  s.commit({ journal: { bornAt, cursor: at(0, -1), extra: { openTurn: open }, open: true } });
  const said = { ...open, repliesOut: 1 };
  s.commit({ journal: { extra: { openTurn: said }, replies: 1 } });
  const second = { index: 1, name: "mail", occurrence: 0 };
  s.commit({ journal: { extra: { openTurn: { ...said, steps: [step, second] } } } });
  s.commit({ journal: { did: ["m1"], cursor: at(a), extra: null, open: false, replies: 1 } }, { inboxDone: [a] });
}

/** A turn that sends to a conversation of its shard and to one of the other. */
function sends(s: Scenario): void {
  const a = s.append([say("sender", "m1")]);
  const from = { bot: "fold", channel: "http", conversation: "sender" };
  const near: WrittenMessage = { ...say("near", "s1"), extra: { from, hops: 1 } };
  const far: WrittenMessage = { ...say("far", "s2"), extra: { from, hops: 1 } };
  const batch = { conversation: "", born: "b", outSeq: 1, body: "batch", target: 1 };
  const b = s.commit(
    { sender: { did: ["m1"], cursor: at(a) } },
    { inboxDone: [a], sent: { ms: a + 5, messages: [near] }, replies: [batch] },
  );
  const c = s.append([far], { shard: 1, from: { shard: 0, ms: b } });
  s.commit({ near: { did: ["s1"], cursor: at(a + 5) } }, { inboxDone: [a + 5], outboxDone: [b] });
  s.commit({ far: { did: ["s2"], cursor: at(c) } }, { shard: 1, inboxDone: [c] });
}

export const SHARDS = 2;

export function waitingRun(): Run {
  const scenario = new Scenario();
  scenario.acquire(0);
  scenario.acquire(1);
  poison(scenario);
  available(scenario);
  numbered(scenario);
  journal(scenario);
  sends(scenario);
  return acknowledged(scenario.run());
}

/** The last commit of the shard acknowledges all replies. */
function acknowledged(run: Run): Run {
  const commits = run.steps.filter((step) => step.kind === "commit");
  const last = commits.filter(({ shard = 0 }) => shard === 0).at(-1)!;
  for (const { ms, replies } of commits) if (replies.length > 0) last.outboxDone.push(ms);
  return run;
}
