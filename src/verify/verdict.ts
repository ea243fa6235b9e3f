// Verdict: what the violations that were found, and what there was to look at, mean for each invariant. Pure.
//
// Every invariant of the project's plan has a line, also those that no history can decide: a reader sees what was not proven.

import type { Rule, Violation } from "./judge.ts";
import type { LogRule } from "./log-judge.ts";
import type { ShardRule } from "./store-log.ts";

export type AnyRule = Rule | LogRule | ShardRule;
export type AnyViolation = Violation<AnyRule>;

/** What a folder holds. */
export interface Evidence {
  readonly clients: boolean;
  readonly sink: boolean;
  readonly fold: boolean;
  readonly complete: boolean;
  /** `whole`: from an empty store on. `late`: from a rewrite on. */
  readonly log: "none" | "late" | "whole";
}

export interface Verdict {
  /** `I1` to `I18`. */
  readonly id: string;
  readonly name: string;
  readonly status: "held" | "violated" | "not checked";
  /** Why it was not checked, or what of it was not. */
  readonly reason: string | null;
  /** All that were found, also those that are not shown. */
  readonly count: number;
  readonly violations: readonly AnyViolation[];
}

/** The invariant that each rule attacks. */
export const INVARIANT_OF: Readonly<Record<AnyRule, string>> = {
  lost: "I1",
  "turn-skipped": "I1",
  "let-go": "I1",
  "list-lost": "I1",
  "open-missing": "I1",
  "dead-alone": "I1",
  "notice-lost": "I1",
  "send-lost": "I1",
  doubled: "I2",
  "turn-doubled": "I2",
  "list-ahead": "I2",
  "list-again": "I2",
  "list-stays": "I2",
  "journal-lost": "I2",
  "send-again": "I2",
  "send-unmarked": "I2",
  phantom: "I3",
  refused: "I3",
  "turn-phantom": "I3",
  "list-phantom": "I3",
  "request-order": "I4",
  "real-time-order": "I4",
  "turn-order": "I4",
  "halt-passed": "I4",
  "halt-lifted": "I4",
  "gap-passed": "I4",
  "order-back": "I4",
  fold: "I5",
  "in-reply-to": "I5",
  undelivered: "I6",
  "reply-lost": "I6",
  "reply-waits": "I6",
  "lane-missing": "I6",
  "letter-lost": "I6",
  gap: "I7",
  "delivery-order": "I7",
  "reply-twice": "I7",
  "lane-order": "I7",
  "reply-unknown": "I8",
  "reply-alone": "I8",
  "reply-again": "I8",
  "lane-astray": "I8",
  "letter-again": "I8",
  bytes: "I9",
  key: "I9",
  "reply-bytes": "I9",
  "epoch-back": "I10",
  "number-gap": "I10",
  unowned: "I10",
  chain: "I11",
  "seq-jump": "I11",
  "seq-back": "I11",
  "cursor-back": "I11",
  "cursor-astray": "I11",
  "out-seq": "I11",
  born: "I11",
  "record-damaged": "I11",
  "list-count": "I11",
  "lane-count": "I11",
  "journal-replies": "I11",
  "timer-lost": "I13",
  "timer-again": "I13",
  "never-acknowledged": "I14",
  waits: "I14",
  "full-astray": "I14",
  "open-stale": "I14",
  "list-waits": "I14",
};

interface Invariant {
  readonly id: string;
  readonly name: string;
  /** null if the evidence suffices for all of it; `partly` if for a part. */
  readonly lacks: (evidence: Evidence) => { readonly reason: string; readonly partly: boolean } | null;
}

const no = (reason: string) => ({ reason, partly: false });
const partly = (reason: string) => ({ reason, partly: true });
const never = (reason: string) => () => no(reason);

const NO_CLIENTS = "no log of clients";
const NO_SINK = "no log of a sink";
const NO_LOG = "no append-only file";
const NO_WITNESS = "no append-only file, and no --fold";
const LATE_LOG = "the append-only file was rewritten during the run, so it does not tell what came before";
const CUT = "the history was cut short, so what is missing is no violation";

const hasWitness = ({ fold, sink, log }: Evidence): boolean => (fold && sink) || log === "whole";
const noWitness = ({ log }: Evidence): string => (log === "late" ? LATE_LOG : NO_WITNESS);

const INVARIANTS: readonly Invariant[] = [
  {
    id: "I1",
    name: "no loss",
    lacks: (evidence) => {
      if (!hasWitness(evidence)) return no(noWitness(evidence));
      if (!evidence.clients) return evidence.log === "whole" ? partly(NO_CLIENTS) : no(NO_CLIENTS);
      return evidence.complete ? null : partly(CUT);
    },
  },
  {
    id: "I2",
    name: "no duplicate effect",
    lacks: (evidence) => {
      if (hasWitness(evidence)) return null;
      return evidence.log === "late" ? partly(LATE_LOG) : no(NO_WITNESS);
    },
  },
  {
    id: "I3",
    name: "no phantom input",
    lacks: (evidence) => {
      if (!hasWitness(evidence)) return no(noWitness(evidence));
      if (evidence.clients) return null;
      return evidence.log === "whole" ? partly(NO_CLIENTS) : no(NO_CLIENTS);
    },
  },
  {
    id: "I4",
    name: "order",
    lacks: (evidence) => {
      if (!hasWitness(evidence)) return no(noWitness(evidence));
      if (evidence.clients) return null;
      return evidence.log === "whole" ? partly(NO_CLIENTS) : no(NO_CLIENTS);
    },
  },
  {
    id: "I5",
    name: "state is the fold",
    lacks: ({ fold, sink, clients }) => {
      if (!fold) return no("only a bot that folds shows its state (--fold)");
      return sink && clients ? null : no(sink ? NO_CLIENTS : NO_SINK);
    },
  },
  {
    id: "I6",
    name: "reply completeness",
    lacks: ({ sink, log, complete }) => {
      if (!sink) return no(NO_SINK);
      if (log !== "none") return complete ? null : partly(CUT);
      return complete
        ? partly(`${NO_LOG}: of replies that were never attempted nothing is known`)
        : no(`${NO_LOG}, and ${CUT}`);
    },
  },
  { id: "I7", name: "reply order", lacks: ({ sink }) => (sink ? null : no(NO_SINK)) },
  {
    id: "I8",
    name: "no phantom reply",
    lacks: ({ sink, log }) => {
      if (log !== "whole") return no(log === "late" ? LATE_LOG : NO_LOG);
      return sink ? partly("that the commit came first is not: the two logs share no clock") : no(NO_SINK);
    },
  },
  { id: "I9", name: "key stability", lacks: ({ sink }) => (sink ? null : no(NO_SINK)) },
  { id: "I10", name: "fencing", lacks: ({ log }) => (log === "none" ? no(NO_LOG) : null) },
  {
    id: "I11",
    name: "contiguity",
    lacks: ({ log }) => {
      if (log === "whole") return null;
      return log === "late" ? partly(LATE_LOG) : no(NO_LOG);
    },
  },
  { id: "I12", name: "ack honesty", lacks: never("needs the length of the append-only file at each answer") },
  {
    id: "I13",
    name: "timers",
    lacks: ({ log }) => (log === "none" ? no(NO_LOG) : partly("that none was early is not: the log has no times")),
  },
  {
    id: "I14",
    name: "liveness",
    lacks: ({ clients, log, complete }) => {
      if (!complete) return no(CUT);
      if (!clients && log === "none") return no(`${NO_LOG}, and ${NO_CLIENTS}`);
      return partly("only by what is left open at the end; memory and BullMQ's queues are not looked at");
    },
  },
  { id: "I15", name: "isolation", lacks: never("needs latencies with and without the fault") },
  { id: "I16", name: "supervision", lacks: never("needs the log of the node") },
  { id: "I17", name: "no silent rewind", lacks: never("needs the log of the node") },
  { id: "I18", name: "no secrets", lacks: never("needs the logs and dumps that might hold them") },
];

/** Collects violations as they are found: the first few of each invariant, and how many there were. */
export class Findings {
  readonly #shownMax: number;
  readonly #shown = new Map<string, AnyViolation[]>();
  readonly #counts = new Map<string, number>();

  constructor(shownMax = 10) {
    this.#shownMax = shownMax;
  }

  add(violation: AnyViolation): void {
    const id = INVARIANT_OF[violation.rule];
    const shown = this.#shown.get(id) ?? [];
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    this.#shown.set(id, shown);
    if (shown.length < this.#shownMax) shown.push(violation);
  }

  /** What was found is a violation whatever else could not be looked at. */
  verdicts(evidence: Evidence): Verdict[] {
    return INVARIANTS.map(({ id, name, lacks }) => {
      const lacking = lacks(evidence);
      const count = this.#counts.get(id) ?? 0;
      const status = count > 0 ? "violated" : lacking && !lacking.partly ? "not checked" : "held";
      return { id, name, status, reason: lacking?.reason ?? null, count, violations: this.#shown.get(id) ?? [] };
    });
  }
}
