// Schedules: what the outside, time, crashes, handlers and operators do to a model conversation, as numbers that
// fast-check can shrink. Each number is one action, and the run tells which of them had something to act on.

import fc from "fast-check";
import type { ExternalOrder } from "../../../src/domain/external-order.ts";
import type { MessageExtra } from "../../../src/domain/message.ts";
import { comparePositions } from "../../../src/domain/position.ts";
import type { Notice } from "../../../src/domain/record.ts";
import { type Durable, type Handled, ModelConversation, noticeLabel, type Setting } from "./conversation.ts";
import type { ModelMessage, Rules } from "./rules.ts";

export const ACTIONS = {
  "sends in order": 8,
  "sends a repeat": 4,
  "sends a repeat with another body": 2,
  "sends out of order": 5,
  "loses a message": 4,
  "delivers what was lost": 4,
  "begins an epoch": 1,
  "sends without a number": 2,
  "sends a number twice under two ids": 1,
  crashes: 5,
  commits: 3,
  "lets time pass": 10,
  "fails some times": 3,
  "fails for good": 1,
  "ends the process alone": 1,
  "spills what cannot move": 3,
  "operator retries": 6,
  "operator skips": 5,
  "operator redrives": 4,
} as const;
export type Action = keyof typeof ACTIONS;

/** What a run may come to besides actions. */
export type Event =
  | Action
  | "holds"
  | "meets a gap"
  | "is late"
  | "is poison"
  | "halts"
  | "consumed again"
  | "comes to the in-order run"
  | "a gap halt lifted by arrival";

const ROULETTE: readonly Action[] = (Object.keys(ACTIONS) as Action[]).flatMap((action) =>
  Array.from({ length: ACTIONS[action] }, () => action),
);

export interface Schedule {
  readonly choices: readonly number[];
  readonly settleMs: number;
  readonly maxHeld: number;
  readonly firstSequence: number | null;
  /** A commit after so many steps as well; 0: only by choice. */
  readonly stepsPerCommit: number;
  /** What was lost comes at last, and an operator retries whatever halted. */
  readonly isMended: boolean;
}

export const schedules: fc.Arbitrary<Schedule> = fc.record({
  choices: fc.array(fc.nat(0xff_ffff), { minLength: 12, maxLength: 52 }),
  settleMs: fc.constantFrom(0, 400),
  maxHeld: fc.constantFrom(2, 5, 64),
  firstSequence: fc.constantFrom(1, null),
  stepsPerCommit: fc.constantFrom(0, 0, 1, 3),
  isMended: fc.boolean(),
});

export type Mode = ExternalOrder["mode"];

export function settingOf(mode: Mode, ordering: Setting["ordering"], schedule: Schedule): Setting {
  const { settleMs, maxHeld, firstSequence } = schedule;
  const order: ExternalOrder =
    mode === "arrival"
      ? { mode }
      : mode === "monotonic"
        ? { mode, settleMs, maxHeld }
        : { mode, gapTimeoutMs: 3_000, settleMs, maxHeld, firstSequence };
  return { ordering, order, poison: { maxAttempts: 3, poisonMinMs: 500 } };
}

/** What happened, for the laws to judge. */
export interface History {
  readonly setting: Setting;
  readonly isMended: boolean;
  /** Of all that was admitted, in order of admission. `event` is when. */
  readonly admitted: readonly {
    readonly message: ModelMessage;
    readonly event: number;
    readonly isRedriven: boolean;
  }[];
  readonly lost: readonly ModelMessage[];
  readonly inbox: readonly ModelMessage[];
  readonly durable: Durable;
  readonly happened: ReadonlySet<Event>;
  readonly broken: readonly string[];
}

const MAX_ROUNDS = 400;

/** What its next runs come to, first to last; after these it is handled. */
type Trouble = Exclude<Handled, "ok">[];

const times = (count: number, kind: Trouble[number]): Trouble => Array.from({ length: count }, () => kind);

interface Draft {
  readonly id: number;
  readonly bodyHash: number;
  readonly sequence: number | undefined;
  readonly extra: MessageExtra | null;
}

class World {
  nowMs = 1_000_000;
  event = 0;
  readonly happened = new Set<Event>();
  readonly broken: string[] = [];
  readonly admitted: { message: ModelMessage; event: number; isRedriven: boolean }[] = [];
  readonly entries: { readonly messages: readonly ModelMessage[]; readonly isPinned: boolean }[] = [];
  #inbox: ModelMessage[] = [];
  lost: Draft[] = [];
  readonly troubles = new Map<string, Trouble>();
  readonly redriven = new Set<number>();
  epoch = 0;
  lastNumber: number;
  lastId = 0;
  readonly mode: Mode;

  constructor(mode: Mode, firstSequence: number | null) {
    this.mode = mode;
    this.lastNumber = firstSequence === null ? 40 : firstSequence - 1;
  }

  get inbox(): readonly ModelMessage[] {
    return this.#inbox;
  }

  handle = (work: ModelMessage | Notice): Handled => {
    const trouble = this.troubles.get("kind" in work ? noticeLabel(work) : `m:${work.id}`);
    return trouble?.shift() ?? "ok";
  };

  broke = (law: string, how: string): void => {
    this.broken.push(`${law}: ${how}`);
  };

  create(param: number): Draft {
    this.lastId += 1;
    this.lastNumber += this.mode === "monotonic" ? 1 + (param % 3) : 1;
    const extra = this.epoch === 0 ? null : { epoch: this.epoch };
    return { id: this.lastId, bodyHash: param % 5, sequence: this.lastNumber, extra };
  }

  admit(drafts: readonly Draft[], isPinned: boolean, isRedriven = false): void {
    this.nowMs += 1;
    const messages = drafts.map((draft, index) => ({
      ...draft,
      position: { entry: { ms: this.nowMs, seq: 0 }, index },
      idHash: { lo: draft.id, hi: draft.id },
    }));
    for (const message of messages) this.admitted.push({ message, event: this.event, isRedriven });
    this.entries.push({ messages, isPinned });
    this.#inbox.push(...messages);
  }

  /** Entries go when all in them is consumed, but for those that a neighbour pins. */
  trim(durable: Durable, pins: boolean): void {
    const { record } = durable;
    if (record === null) return;
    this.#inbox = this.entries
      .filter(({ messages, isPinned }) => {
        const isConsumed = comparePositions(messages.at(-1)!.position, record.cursor) <= 0;
        return !isConsumed || (isPinned && pins);
      })
      .flatMap(({ messages }) => messages);
  }
}

/** Runs one schedule to its end: everything read, every clock run out. */
export function run(rules: Rules, mode: Mode, ordering: Setting["ordering"], schedule: Schedule): History {
  const setting = settingOf(mode, ordering, schedule);
  const world = new World(mode, schedule.firstSequence);
  const around = {
    get nowMs() {
      return world.nowMs;
    },
    get event() {
      return world.event;
    },
    get inbox() {
      return world.inbox;
    },
    handle: world.handle,
    broken: world.broke,
  };
  const conversation = new ModelConversation(setting, watched(rules, world.happened), around);
  const pump = (): void => {
    world.event += 1;
    const hadGap = conversation.extra?.halt?.reason === "gap";
    for (let lives = 0; !conversation.pump(schedule.stepsPerCommit); lives += 1)
      if (lives > 50) world.broke("accounted", "it dies for ever");
    if (hadGap && conversation.extra?.halt?.reason !== "gap") world.happened.add("a gap halt lifted by arrival");
    if (conversation.extra?.halt !== undefined) world.happened.add("halts");
  };
  for (const choice of schedule.choices) {
    world.event += 1;
    const action = ROULETTE[choice % ROULETTE.length]!;
    const param = Math.floor(choice / ROULETTE.length);
    if (act(world, conversation, action, param, pump)) world.happened.add(action);
    if (param % 3 !== 0 || action === "delivers what was lost") pump();
  }
  settle(world, conversation, pump);
  if (schedule.isMended) mend(world, conversation, pump);
  conversation.commit();
  const before = conversation.durable;
  conversation.crash();
  pump(); // a recovery of what is at rest finds nothing to do
  conversation.commit();
  if (conversation.durable.log.length !== before.log.length) world.broke("record", "a recovery at rest did something");
  world.trim(conversation.durable, false);
  return {
    setting,
    isMended: schedule.isMended,
    admitted: world.admitted,
    lost: world.lost.map((draft) => ({ ...draft, position: NOWHERE, idHash: { lo: draft.id, hi: draft.id } })),
    inbox: world.inbox,
    durable: conversation.durable,
    happened: world.happened,
    broken: world.broken,
  };
}

const NOWHERE = { entry: { ms: 0, seq: 0 }, index: 0 };

/** Every clock runs out. */
function settle(world: World, conversation: ModelConversation, pump: () => void): void {
  pump();
  for (let round = 0; conversation.dueAtMs !== null; round += 1) {
    if (round > MAX_ROUNDS) {
      world.broke("accounted", "its clocks never run out");
      return;
    }
    world.nowMs = Math.max(world.nowMs, conversation.dueAtMs);
    pump();
  }
}

/** What was lost arrives; an operator retries poison, and skips a gap that nothing can fill any more. */
function mend(world: World, conversation: ModelConversation, pump: () => void): void {
  for (const draft of world.lost.splice(0)) {
    world.event += 1;
    world.admit([draft], false);
  }
  settle(world, conversation, pump);
  for (let round = 0; conversation.extra?.halt !== undefined; round += 1) {
    if (round > MAX_ROUNDS) {
      world.broke("accounted", "an operator cannot end its halts");
      return;
    }
    if (conversation.extra.halt.reason === "gap") conversation.skip();
    else conversation.retry();
    settle(world, conversation, pump);
  }
}

function act(world: World, conversation: ModelConversation, action: Action, param: number, pump: () => void): boolean {
  const isPinned = param % 4 === 0;
  const pick = <Item>(items: readonly Item[]): Item | undefined => items[param % items.length];
  switch (action) {
    case "sends in order":
      world.admit([world.create(param)], isPinned);
      return true;
    case "sends a repeat":
    case "sends a repeat with another body": {
      const original = pick(world.admitted.filter(({ isRedriven }) => !isRedriven))?.message;
      if (original === undefined) return false;
      const { id, sequence, extra, bodyHash } = original;
      const body = action === "sends a repeat" ? bodyHash : bodyHash + 5;
      world.admit([{ id, sequence, extra, bodyHash: body }], isPinned);
      return true;
    }
    case "sends out of order": {
      const drafts = [world.create(param), world.create(param >> 2)];
      if (param % 2 === 0) drafts.push(world.create(param >> 3));
      drafts.reverse();
      if (param % 5 < 2) world.admit(drafts, isPinned);
      else
        for (const draft of drafts) {
          world.admit([draft], isPinned);
          if (param % 5 > 2) pump();
        }
      return true;
    }
    case "loses a message": {
      const draft = world.create(param);
      if (param % 3 === 0) world.troubles.set(`m:${draft.id}`, times(1 + (param % 2), "fails"));
      world.lost.push(draft);
      return true;
    }
    case "delivers what was lost": {
      const draft = pick(world.lost);
      if (draft === undefined) return false;
      world.lost = world.lost.filter((other) => other !== draft);
      world.admit([draft], isPinned);
      return true;
    }
    case "begins an epoch":
      world.epoch += 1;
      world.lastNumber = param % 2 === 0 ? 0 : 20;
      world.admit([world.create(param)], isPinned);
      return true;
    case "sends without a number":
      world.lastId += 1;
      world.admit([{ id: world.lastId, bodyHash: 1, sequence: undefined, extra: null }], isPinned);
      return true;
    case "sends a number twice under two ids": {
      const other = pick(world.admitted.filter(({ message }) => message.sequence !== undefined))?.message;
      if (other === undefined) return false;
      world.lastId += 1;
      const epoch = other.extra?.epoch;
      world.admit(
        [{ id: world.lastId, bodyHash: 1, sequence: other.sequence, extra: epoch === undefined ? null : { epoch } }],
        isPinned,
      );
      return true;
    }
    case "crashes":
      conversation.crash();
      return true;
    case "commits":
      conversation.commit();
      world.trim(conversation.durable, true);
      return true;
    case "lets time pass":
      world.nowMs += param % 2 === 0 ? 3_500 : param % 700;
      return true;
    case "fails some times":
    case "fails for good":
    case "ends the process alone": {
      const count = 1 + (param % 4);
      const trouble: Record<typeof action, Trouble> = {
        "fails some times": times(count, "fails"),
        "fails for good": ["terminal"],
        "ends the process alone": [...times(param % 3, "fails"), ...times(count, "dies"), ...times(count, "fails")],
      };
      const draft = world.create(param);
      world.troubles.set(`m:${draft.id}`, trouble[action]);
      // what the bot is told of it may fail as well
      if (param % 3 === 0) world.troubles.set(`poisoned:${draft.id}`, [...trouble[action]]);
      world.admit([draft], isPinned);
      return true;
    }
    case "spills what cannot move":
      return conversation.spill();
    case "operator retries":
      return conversation.retry() !== null;
    case "operator skips":
      pump();
      return conversation.skip() !== null;
    case "operator redrives": {
      const dead = pick(
        conversation.durable.log.filter(
          (line) =>
            (line.what === "dead" || line.what === "late" || line.what === "skipped") &&
            !world.redriven.has(line.message.id),
        ),
      );
      if (dead === undefined || !("message" in dead)) return false;
      world.redriven.add(dead.message.id);
      world.lastId += 1;
      const extra = { ...dead.message.extra, redrives: `${dead.message.id}-0` };
      world.admit([{ ...dead.message, id: world.lastId, extra }], isPinned, true);
      return true;
    }
  }
}

/** The same rules, telling what they decided. */
function watched(rules: Rules, happened: Set<Event>): Rules {
  return {
    ...rules,
    sequence: (...given) => {
      const decision = rules.sequence(...given);
      if (decision.kind === "hold") happened.add("holds");
      if (decision.kind === "late") happened.add("is late");
      if (decision.kind === "consumed") happened.add("consumed again");
      return decision;
    },
    nextHeld: (...given) => {
      const decision = rules.nextHeld(...given);
      if (decision.kind === "gap") happened.add("meets a gap");
      if (decision.kind === "late") happened.add("is late");
      return decision;
    },
    afterFailure: (...given) => {
      const after = rules.afterFailure(...given);
      if (after.kind === "poison") happened.add("is poison");
      return after;
    },
    afterDeathAlone: (...given) => {
      const after = rules.afterDeathAlone(...given);
      if (after.kind === "poison") happened.add("is poison");
      return after;
    },
  };
}
