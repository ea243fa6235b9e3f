// Steps: the named moments of a message's way at which the simulator injects faults, and how often it did.
//
// The numbers are those of the fault catalogue: S0 request in, S3 append, S4 answer out, S5 the owner reads, S6 taking a shard and
// loading, S7 and S8 a handler's start and end, S9 the commit of turns, S11, S12 and S16 a wake-up left, claimed and finished, S13
// and S14 a delivery begun and answered, S15 the commit of acknowledgements, S18 renewal, S19 release, S21 the commit of a dead
// letter, S17 what an operator asks, S20 the clocks, S22 the commit of what came back from the dead letters. S1 and S2 belong to the
// HTTP server, S10 is one with the arrival of S9's answer.

import { decodeDeadLetter } from "../../src/codec/dead-letter-codec.ts";
import { decodeRecord, encodeRecord } from "../../src/codec/record-codec.ts";
import { newRecord, type RecordExtra } from "../../src/domain/record.ts";
import type { Commit, ShardStore } from "../../src/store/shard-store.ts";
import type { StoreCall } from "../../src/testing/simulated-store.ts";
import { isOperators } from "./store-recorder.ts";

/** `before` it begins, `done` where the answer is still on its way, `after` it has had its effects. */
export type Stage = "before" | "done" | "after";

/** What happens there, to the process whose step it is; a store restart is felt by all. */
export const FAULT_KINDS = ["kill", "pause", "store-restart", "reset"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

const WITH_ANSWER: readonly Stage[] = ["before", "done", "after"];
const WITHOUT_ANSWER: readonly Stage[] = ["before", "after"];

export const STEPS = {
  "S0 request": WITHOUT_ANSWER,
  "S3 append": WITH_ANSWER,
  "S4 answer": WITHOUT_ANSWER,
  "S5 read inbox": WITH_ANSWER,
  "S6 acquire": WITH_ANSWER,
  "S6 recover": WITH_ANSWER,
  "S6 load": WITH_ANSWER,
  "S7 handler start": WITHOUT_ANSWER,
  "S8 step effect": WITHOUT_ANSWER,
  "S8 handler end": WITHOUT_ANSWER,
  "S9 commit turns": WITH_ANSWER,
  "S9 commit lane": WITH_ANSWER,
  "S9 commit journal": WITH_ANSWER,
  "S9 commit failure": WITH_ANSWER,
  "S9 commit halt": WITH_ANSWER,
  "S9 commit list": WITH_ANSWER,
  "S9 commit off list": WITH_ANSWER,
  "S9 commit sends": WITH_ANSWER,
  "S9 read list": WITH_ANSWER,
  "S11 wake-up left": WITHOUT_ANSWER,
  "S12 wake-up claimed": WITHOUT_ANSWER,
  "S13 send": WITHOUT_ANSWER,
  "S14 response": WITHOUT_ANSWER,
  "S15 commit acks": WITH_ANSWER,
  "S16 wake-up finished": WITHOUT_ANSWER,
  "S17 verb": WITH_ANSWER,
  "S17 commit notice": WITH_ANSWER,
  "S18 renew": WITH_ANSWER,
  "S19 release": WITH_ANSWER,
  "S20 transfer": WITH_ANSWER,
  "S20 commit lane list": WITH_ANSWER,
  "S20 move timers": WITH_ANSWER,
  "S21 commit dead": WITH_ANSWER,
  "S21 commit dead message": WITH_ANSWER,
  "S22 commit redrive": WITH_ANSWER,
} as const satisfies Readonly<Record<string, readonly Stage[]>>;
export type Step = keyof typeof STEPS;

export interface Cell {
  readonly step: Step;
  readonly stage: Stage;
  readonly kind: FaultKind;
}

/** Every fault at every stage of every step. */
export const CELLS: readonly Cell[] = (Object.keys(STEPS) as Step[]).flatMap((step) =>
  STEPS[step].flatMap((stage) => FAULT_KINDS.map((kind) => ({ step, stage, kind }))),
);

export const cellName = ({ step, stage, kind }: Cell): string => `${step} / ${stage} / ${kind}`;

/** What a call to the store is on a message's way. A commit may be several things at once. */
export function stepsOf({ name, commit, args }: StoreCall): readonly Step[] {
  switch (name) {
    case "append": {
      const [entry, , options] = args as Parameters<ShardStore["append"]>;
      if (options?.from !== undefined) return ["S20 transfer"];
      return [isOperators(entry) ? "S17 verb" : "S3 append"];
    }
    case "moveTimers":
      return ["S20 move timers"];
    case "readWaiting":
    case "readLaneList":
      return ["S9 read list"];
    case "readInbox":
      return ["S5 read inbox"];
    case "acquire":
      return ["S6 acquire"];
    case "readOutbox":
    case "readAcks":
    case "readLanes":
    case "scanLanes":
      return ["S6 recover"];
    case "load":
      return ["S6 load"];
    case "renew":
      return ["S18 renew"];
    case "release":
      return ["S19 release"];
    case "commit":
      return stepsOfCommit(commit!);
    default:
      return [];
  }
}

function stepsOfCommit(commit: Commit): readonly Step[] {
  const { conversations, lanes, laneLists = [], acks, outboxDone, dead, deadDone = [], inboxAdd } = commit;
  const steps: Step[] = [];
  if (conversations.length > 0) steps.push("S9 commit turns");
  if (lanes.length > 0) steps.push("S9 commit lane");
  if (laneLists.length > 0) steps.push("S20 commit lane list");
  if (acks.length + outboxDone.length > 0) steps.push("S15 commit acks");
  for (const letter of dead) steps.push(isMessage(letter) ? "S21 commit dead message" : "S21 commit dead");
  if (deadDone.length > 0) steps.push("S22 commit redrive");
  if (inboxAdd !== undefined) steps.push("S9 commit sends");
  for (const { record, aside } of conversations) {
    if ((aside?.waiting.length ?? 0) > 0) steps.push("S9 commit list");
    if ((aside?.waitingDone.length ?? 0) > 0) steps.push("S9 commit off list");
    const extra = extraOf(record);
    if (extra === null) continue;
    if (extra.halt !== undefined) steps.push("S9 commit halt");
    if (extra.notices !== undefined) steps.push("S17 commit notice");
    if (extra.openTurn === undefined) continue;
    const { steps: journaled, repliesOut, attempts } = extra.openTurn;
    if (journaled.length + repliesOut > 0) steps.push("S9 commit journal");
    if (attempts > 0) steps.push("S9 commit failure");
  }
  return [...new Set(steps)];
}

const isMessage = (letter: Uint8Array): boolean => decodeDeadLetter(letter).direction === "in";

/** Nearly all records have none, which their first byte says. */
function extraOf(record: Uint8Array): RecordExtra | null {
  return record[0] === PLAIN_RECORD ? null : decodeRecord(record).record.extra;
}

const [PLAIN_RECORD] = encodeRecord(newRecord({ entry: { ms: 0, seq: 0 }, index: 0 }), 1, "");

/** The step matrix as a table: a line for each step and stage, a column for each kind of fault. */
export function matrixTable(hits: ReadonlyMap<string, number>): string {
  const lines = CELLS.filter(({ kind }) => kind === FAULT_KINDS[0]).map(({ step, stage }) => {
    const counts = FAULT_KINDS.map((kind) => String(hits.get(cellName({ step, stage, kind })) ?? 0).padStart(14));
    return `${step.padEnd(26)}${stage.padEnd(8)}${counts.join("")}`;
  });
  return [`${"".padEnd(34)}${FAULT_KINDS.map((kind) => kind.padStart(14)).join("")}`, ...lines].join("\n");
}
