// Steps: the named moments of a message's way at which the simulator injects faults, and how often it did.
//
// The numbers are those of the fault catalogue: S0 request in, S3 append, S4 answer out, S5 the owner reads, S6 taking a shard and
// loading, S7 and S8 a handler's start and end, S9 the commit of turns, S11, S12 and S16 a wake-up left, claimed and finished, S13
// and S14 a delivery begun and answered, S15 the commit of acknowledgements, S18 renewal, S19 release, S21 the commit of a dead
// letter. S1 and S2 belong to the HTTP server, S10 is one with the arrival of S9's answer; S17, S20 and S22 do not exist yet.

import type { StoreCall } from "../../src/testing/simulated-store.ts";

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
  "S8 handler end": WITHOUT_ANSWER,
  "S9 commit turns": WITH_ANSWER,
  "S9 commit lane": WITH_ANSWER,
  "S11 wake-up left": WITHOUT_ANSWER,
  "S12 wake-up claimed": WITHOUT_ANSWER,
  "S13 send": WITHOUT_ANSWER,
  "S14 response": WITHOUT_ANSWER,
  "S15 commit acks": WITH_ANSWER,
  "S16 wake-up finished": WITHOUT_ANSWER,
  "S18 renew": WITH_ANSWER,
  "S19 release": WITH_ANSWER,
  "S21 commit dead": WITH_ANSWER,
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
export function stepsOf({ name, commit }: StoreCall): readonly Step[] {
  switch (name) {
    case "append":
      return ["S3 append"];
    case "readInbox":
      return ["S5 read inbox"];
    case "acquire":
      return ["S6 acquire"];
    case "readOutbox":
    case "readAcks":
    case "readLanes":
      return ["S6 recover"];
    case "load":
      return ["S6 load"];
    case "renew":
      return ["S18 renew"];
    case "release":
      return ["S19 release"];
    case "commit": {
      const steps: Step[] = [];
      if (commit!.conversations.length > 0) steps.push("S9 commit turns");
      if (commit!.lanes.length > 0) steps.push("S9 commit lane");
      if (commit!.acks.length + commit!.outboxDone.length > 0) steps.push("S15 commit acks");
      if (commit!.dead.length > 0) steps.push("S21 commit dead");
      return steps;
    }
    default:
      return [];
  }
}

/** The step matrix as a table: a line for each step and stage, a column for each kind of fault. */
export function matrixTable(hits: ReadonlyMap<string, number>): string {
  const lines = CELLS.filter(({ kind }) => kind === FAULT_KINDS[0]).map(({ step, stage }) => {
    const counts = FAULT_KINDS.map((kind) => String(hits.get(cellName({ step, stage, kind })) ?? 0).padStart(14));
    return `${step.padEnd(22)}${stage.padEnd(8)}${counts.join("")}`;
  });
  return [`${"".padEnd(30)}${FAULT_KINDS.map((kind) => kind.padStart(14)).join("")}`, ...lines].join("\n");
}
