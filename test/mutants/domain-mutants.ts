// Mutants of the pure rules of a conversation: one function decides otherwise, and the laws of the model must say so.

import { afterFailure } from "../../src/domain/attempts.ts";
import { orderPast, placeOf } from "../../src/domain/external-order.ts";
import { HeldMessages } from "../../src/domain/held-messages.ts";
import { nextChain, type OpenTurn } from "../../src/domain/record.ts";
import { NOTHING_HELD } from "../../src/domain/sequencer.ts";
import type { Setting } from "../domain/model/conversation.ts";
import type { Law } from "../domain/model/laws.ts";
import { type ModelMessage, RULES, type Rules } from "../domain/model/rules.ts";
import type { Mode } from "../domain/model/schedule.ts";

export interface DomainMutant {
  /** What it does, as a sentence. */
  readonly name: string;
  readonly of: "sequencer" | "held-messages" | "attempts" | "record";
  /** The rule or attack that it stands for. */
  readonly breaks: string;
  /** The law as which it must be found. */
  readonly law: Law;
  /** Of fast-check, with which it is found. */
  readonly seed: number;
  readonly mode: Mode;
  readonly ordering: Setting["ordering"];
  readonly rules: Partial<Rules>;
}

class NewestFirst extends HeldMessages<ModelMessage> {
  override get oldestMs(): number | null {
    return this.count === 0 ? null : Math.max(...[...this].map(({ position }) => position.entry.ms));
  }
}

/** Sorts each message as if it were another. */
class Disguised extends HeldMessages<ModelMessage> {
  readonly #disguise: (message: ModelMessage) => ModelMessage;
  readonly #originals = new Map<ModelMessage, ModelMessage>();

  constructor(disguise: (message: ModelMessage) => ModelMessage) {
    super();
    this.#disguise = disguise;
  }

  override get oldestMs(): number | null {
    const admitted = [...this].map((disguised) => this.#originals.get(disguised)!.position.entry.ms);
    return admitted.length === 0 ? null : Math.min(...admitted);
  }

  override add(message: ModelMessage): void {
    const disguised = this.#disguise(message);
    this.#originals.set(disguised, message);
    super.add(disguised);
  }

  override shift(): ModelMessage | undefined {
    const disguised = super.shift();
    return disguised === undefined ? undefined : this.#originals.get(disguised);
  }
}

const withoutEpoch = (message: ModelMessage): ModelMessage => {
  const { epoch: _, ...extra } = message.extra ?? {};
  return { ...message, extra };
};

const fromTheEnd = (message: ModelMessage): ModelMessage => {
  const { entry, index } = message.position;
  return { ...message, position: { entry: { ms: -entry.ms, seq: entry.seq }, index: -index } };
};

const neverFailed = (open: OpenTurn | undefined): OpenTurn | undefined =>
  open === undefined ? undefined : { ...open, firstFailedAtMs: null };

const strict = { mode: "contiguous", ordering: "strict" } as const;
const available = { mode: "contiguous", ordering: "available" } as const;

export const domainMutants: readonly DomainMutant[] = [
  {
    name: "what is below the last number is called a duplicate",
    of: "sequencer",
    breaks: "Q2, B8",
    law: "once",
    seed: 2,
    ...strict,
    rules: {
      sequence: (...given) => {
        const decision = RULES.sequence(...given);
        return decision.kind === "late" ? { kind: "duplicate", conflict: false } : decision;
      },
    },
  },
  {
    name: "the cursor counts for the waiting list, too",
    of: "sequencer",
    breaks: "Q1, R1",
    law: "accounted",
    seed: 2,
    ...strict,
    rules: {
      sequence: (record, ids, rules, message, _from, held) =>
        RULES.sequence(record, ids, rules, message, "inbox", held),
    },
  },
  {
    name: "the cursor is not looked at",
    of: "sequencer",
    breaks: "Q1",
    law: "accounted",
    seed: 1,
    mode: "arrival",
    ordering: "strict",
    rules: {
      sequence: (record, ids, rules, message, _from, held) =>
        RULES.sequence(record, ids, rules, message, "waiting", held),
    },
  },
  {
    name: "a higher number is released at once",
    of: "sequencer",
    breaks: "Q4",
    law: "order",
    seed: 1,
    ...available,
    rules: {
      sequence: (record, ids, rules, message, from, held) => {
        const decision = RULES.sequence(record, ids, rules, message, from, held);
        return decision.kind === "hold" ? { kind: "release", order: orderPast(placeOf(message)!) } : decision;
      },
    },
  },
  {
    name: "what is held is not looked at: a higher epoch begins before a lower one that waits",
    of: "sequencer",
    breaks: "Q3",
    law: "late",
    seed: 1,
    ...available,
    rules: {
      sequence: (record, ids, rules, message, from, held) =>
        RULES.sequence(record, ids, rules, message, from, { ...NOTHING_HELD, bodyHashOf: (id) => held.bodyHashOf(id) }),
    },
  },
  {
    name: "a repeat of what is held with another body is no conflict",
    of: "sequencer",
    breaks: "Q2",
    law: "once",
    seed: 3,
    mode: "monotonic",
    ordering: "strict",
    rules: {
      sequence: (record, ids, rules, message, from, held) => {
        const decision = RULES.sequence(record, ids, rules, message, from, held);
        const isHeld = decision.kind === "duplicate" && held.has(message.idHash);
        return isHeld ? { ...decision, conflict: false } : decision;
      },
    },
  },
  {
    name: "a redriven message goes by its old number",
    of: "sequencer",
    breaks: "R3",
    law: "late",
    seed: 2,
    ...available,
    rules: {
      sequence: (record, ids, rules, message, from, held) => {
        const { redrives: _, ...extra } = message.extra ?? {};
        return RULES.sequence(record, ids, rules, { ...message, extra }, from, held);
      },
    },
  },
  {
    name: "nothing settles",
    of: "sequencer",
    breaks: "Q3",
    law: "late",
    seed: 2,
    mode: "monotonic",
    ordering: "strict",
    rules: {
      nextHeld: (record, rules, held) => RULES.nextHeld(record, rules, held, Number.MAX_SAFE_INTEGER),
    },
  },
  {
    name: "a gap is declared before its time",
    of: "sequencer",
    breaks: "Q4",
    law: "clock",
    seed: 4,
    ...available,
    rules: {
      nextHeld: (record, rules, held, nowMs) => RULES.nextHeld(record, rules, held, nowMs === 0 ? 0 : nowMs + 1_000),
    },
  },
  {
    name: "maxHeld bounds nothing",
    of: "sequencer",
    breaks: "P7",
    law: "clock",
    seed: 3,
    ...strict,
    rules: {
      nextHeld: (record, rules, held, nowMs) =>
        RULES.nextHeld(record, rules.mode === "arrival" ? rules : { ...rules, maxHeld: 1_000 }, held, nowMs),
    },
  },
  {
    name: "a gap names one number too many",
    of: "sequencer",
    breaks: "Q4",
    law: "gap",
    seed: 1,
    ...available,
    rules: {
      nextHeld: (...given) => {
        const decision = RULES.nextHeld(...given);
        return decision.kind === "gap" ? { ...decision, from: decision.from + 1 } : decision;
      },
    },
  },
  {
    name: "passing a gap passes what follows it",
    of: "sequencer",
    breaks: "Q4",
    law: "order",
    seed: 1,
    ...available,
    rules: {
      nextHeld: (...given) => {
        const decision = RULES.nextHeld(...given);
        if (decision.kind !== "gap") return decision;
        return { ...decision, order: { ...decision.order, next: decision.order.next! + 1 } };
      },
    },
  },
  {
    name: "the second of two equal places goes as well",
    of: "sequencer",
    breaks: "Q3",
    law: "order",
    seed: 1,
    mode: "monotonic",
    ordering: "available",
    rules: {
      nextHeld: (record, rules, held, nowMs) => {
        const decision = RULES.nextHeld(record, rules, held, nowMs);
        return decision.kind === "late" ? { kind: "release", order: record.extra!.order! } : decision;
      },
    },
  },
  {
    name: "a late message that failed takes the order back",
    of: "sequencer",
    breaks: "Q3",
    law: "gap",
    seed: 4,
    ...available,
    rules: {
      orderAfter: (record, _rules, message) => {
        const place = placeOf(message);
        return place === null ? record.extra?.order : orderPast(place);
      },
    },
  },
  {
    name: "what settles does so for a moment only",
    of: "sequencer",
    breaks: "Q3",
    law: "clock",
    seed: 1,
    mode: "monotonic",
    ordering: "strict",
    rules: {
      nextHeld: (record, rules, held, nowMs) =>
        RULES.nextHeld(record, rules.mode === "arrival" ? rules : { ...rules, settleMs: 1 }, held, nowMs),
    },
  },
  {
    name: "a gap that is to be waited for once more is not",
    of: "sequencer",
    breaks: "operator verbs",
    law: "clock",
    seed: 3,
    ...strict,
    rules: { waitOnceMore: (order) => order ?? { epoch: 0, next: null } },
  },
  {
    name: "the clock starts at the newest that is held",
    of: "held-messages",
    breaks: "M2, DESIGN 5",
    law: "clock",
    seed: 1,
    ...strict,
    rules: { newHeld: () => new NewestFirst() },
  },
  {
    name: "order goes by sequence without epoch",
    of: "held-messages",
    breaks: "M1",
    law: "late",
    seed: 1,
    mode: "monotonic",
    ordering: "available",
    rules: { newHeld: () => new Disguised(withoutEpoch) },
  },
  {
    name: "of two equal places the last admitted goes first",
    of: "held-messages",
    breaks: "M1",
    law: "late",
    seed: 3,
    ...strict,
    rules: { newHeld: () => new Disguised(fromTheEnd) },
  },
  {
    name: "attempts end by their number alone",
    of: "attempts",
    breaks: "A2, H3",
    law: "poison",
    seed: 3,
    mode: "arrival",
    ordering: "strict",
    rules: {
      afterFailure: (open, position, failure, at, rules) =>
        afterFailure(open, position, failure, at, { ...rules, poisonMinMs: 0 }),
    },
  },
  {
    name: "each failure is the first",
    of: "attempts",
    breaks: "A2",
    law: "poison",
    seed: 4,
    mode: "arrival",
    ordering: "strict",
    rules: {
      afterFailure: (open, position, failure, at, rules) =>
        afterFailure(neverFailed(open), position, failure, at, rules),
    },
  },
  {
    name: "a death alone is an attempt",
    of: "attempts",
    breaks: "A1",
    law: "poison",
    seed: 1,
    mode: "arrival",
    ordering: "available",
    rules: {
      afterDeathAlone: (...given) => {
        const after = RULES.afterDeathAlone(...given);
        return { ...after, open: { ...after.open, attempts: after.open.attempts + 1 } };
      },
    },
  },
  {
    name: "an operator's retry goes on counting",
    of: "attempts",
    breaks: "operator verbs",
    law: "poison",
    seed: 3,
    mode: "arrival",
    ordering: "strict",
    rules: { countedAfresh: (open) => open },
  },
  {
    name: "consuming one message consumes its whole entry",
    of: "record",
    breaks: "E2",
    law: "accounted",
    seed: 1,
    mode: "arrival",
    ordering: "strict",
    rules: {
      afterTurn: (record, position, ...rest) =>
        RULES.afterTurn(record, position && { ...position, index: position.index + 1_000 }, ...rest),
    },
  },
  {
    name: "the cursor stays behind what is moved",
    of: "record",
    breaks: "E2",
    law: "accounted",
    seed: 1,
    ...strict,
    rules: { afterMove: (...given) => ({ ...RULES.afterMove(...given), cursor: given[0].cursor }) },
  },
  {
    name: "a turn does not count",
    of: "record",
    breaks: "E1",
    law: "state",
    seed: 1,
    mode: "arrival",
    ordering: "strict",
    rules: { afterTurn: (...given) => ({ ...RULES.afterTurn(...given), seq: given[0].seq }) },
  },
  {
    name: "the chain does not tell a turn from a dead letter",
    of: "record",
    breaks: "R5",
    law: "state",
    seed: 1,
    mode: "arrival",
    ordering: "available",
    rules: {
      afterSetAside: (record, position, idHash, _outcome) => ({
        ...RULES.afterSetAside(record, position, idHash, "dead"),
        chain: nextChain(record.chain, idHash, "turn"),
      }),
    },
  },
  {
    name: "setting one part of an extra forgets the order",
    of: "record",
    breaks: "P3",
    law: "order",
    seed: 2,
    mode: "monotonic",
    ordering: "available",
    rules: {
      withExtra: (record, parts) =>
        RULES.withExtra(record, "order" in parts || "halt" in parts ? parts : { ...parts, order: undefined }),
    },
  },
];
