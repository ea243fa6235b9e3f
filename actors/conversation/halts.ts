// Halts: what of a conversation does not go the way of a turn. A message that is set aside, a gap, a halt, and the verbs with which an
// operator lifts one.
//
// Invariants
//   C9. What an operator asks names what it means and is handled before the mailbox; done twice it changes nothing.
//   Z1. A message is set aside in the commit that passes it, with its dead letter; where there is no room for one, it halts.
//   Z2. There is no notice for a notice (attack B17): one that is given up becomes a dead letter that cannot come back or, without room for
//       one, a line of the log.

import { type DeadMessageReason, encodeDeadMessage, encodeDeadNotice } from "../../src/codec/dead-message.ts";
import type { ExternalPlace } from "../../src/domain/external-order.ts";
import { effectOfVerb, liftsHalt } from "../../src/domain/halt.ts";
import type { ControlMessage, InboxMessage } from "../../src/domain/message.ts";
import { formatBorn } from "../../src/domain/position.ts";
import {
  type ConversationRecord,
  type HaltReason,
  NO_OPEN_TURN,
  type Notice,
  type OpenTurn,
} from "../../src/domain/record.ts";
import { NOTHING_HELD, orderAfter, orderPastGap } from "../../src/domain/sequencer.ts";
import { isToldOfDelivery, markerOf, noticesBehind, type Work } from "../../src/domain/work.ts";
import type { ConversationCore } from "./core.ts";
import type { HeadTurn } from "./head-turn.ts";
import type { ListWindow } from "./list-window.ts";
import type { Gap, OrderKeeper } from "./order-keeper.ts";

export class Halts {
  readonly #core: ConversationCore;
  readonly #list: ListWindow;
  readonly #order: OrderKeeper | null;
  readonly #head: HeadTurn;

  constructor(core: ConversationCore, list: ListWindow, order: OrderKeeper | null, head: HeadTurn) {
    this.#core = core;
    this.#list = list;
    this.#order = order;
    this.#head = head;
  }

  /** Nothing of it goes on but by an operator, or by what is missing. */
  halt(reason: HaltReason, why: string, open: OpenTurn | undefined, missing?: ExternalPlace): void {
    const { id, key, ledger, ports } = this.#core;
    ports.counters.halts += 1;
    const halt = { reason, sinceMs: this.#core.nowMs(), why, ...(missing && { missing }) };
    const born = ledger.record?.born ?? open!.position; // the very first message may be the one that halts it
    ledger.change(born, { halt, openTurn: open, suspect: undefined });
    this.#order?.setClock(null);
    ports.log.error(
      { ...id, reason, why },
      "conversation halted: later messages wait in order, nothing is lost; mend the cause, then `colloquy retry` or `colloquy skip`",
    );
    ports.headIsThrough(key);
  }

  gap({ lowest: { position }, from, to, order }: Gap): void {
    const { bot, id, ledger, ports } = this.#core;
    const missing = from === to ? `number ${from} is missing` : `numbers ${from} to ${to} are missing`;
    ports.counters.gaps += 1;
    if (bot.ordering !== "available") {
      this.halt("gap", missing, undefined, { epoch: order.epoch, sequence: from });
      return;
    }
    ports.log.warn({ ...id, from, to }, `${missing}: passed`);
    const notices = bot.onNotice?.gap === undefined ? [] : [{ kind: "gap", position, from, to } as const];
    ledger.change(position, { order, notices: ledger.withNotices(notices) });
  }

  /** Z1. The message at the head becomes a dead letter. */
  setAside(message: InboxMessage, reason: DeadMessageReason, open: OpenTurn | null): void {
    const { bot, id, ledger, mailbox, ports, rules } = this.#core;
    const record = ledger.recordFor(message.position);
    const letter = encodeDeadMessage({
      id,
      message,
      reason,
      attempts: (open?.attempts ?? 0) + (open?.deaths ?? 0),
      error: open?.error ?? null,
      botVersion: bot.version,
      repliesOut: open?.repliesOut ?? 0,
      atMs: this.#core.nowMs(),
    });
    if (!ports.reserveDeadLetter(letter.length)) {
      const openTurn = open ?? { ...NO_OPEN_TURN, position: message.position };
      this.halt("full", `no room for another dead letter (${reason})`, openTurn);
      return;
    }
    mailbox.shift();
    ports.counters.deadLetters += 1;
    ports.log.warn({ ...id, inboxPosition: formatBorn(message.position), reason }, "message became a dead letter");
    ledger.setAside(message, reason === "late" || reason === "skipped" ? reason : "dead", letter, {
      halt: undefined,
      openTurn: undefined,
      suspect: undefined,
      order: orderAfter(record, rules, message),
      notices: ledger.withNotices(this.#noticeOf(message, reason, open)),
    });
    this.#head.ended(record);
  }

  /** Z2. The bot failed on it for good. A marker is at the head then. */
  dropNotice({ message, notice }: Work, open: OpenTurn, line: object): void {
    const { id, ledger, mailbox, ports } = this.#core;
    const { position } = notice!;
    const record = ledger.recordFor(position);
    const letter = encodeDeadNotice(id, notice!, open.attempts + open.deaths, open.error, this.#core.nowMs());
    const hasRoom = ports.reserveDeadLetter(letter.length);
    if (hasRoom) ports.counters.deadLetters += 1;
    ports.log.error(
      { ...id, ...line },
      `the bot failed on a notice for good: it ${hasRoom ? "becomes a dead letter" : "is dropped, as there is no room for a dead letter"}, its conversation goes on`,
    );
    const kept = hasRoom ? letter : null;
    const ended = { openTurn: undefined, suspect: undefined };
    if (message === null) {
      ledger.dropNotice(position, { ...ended, notices: noticesBehind(record.extra?.notices) }, kept);
    } else {
      mailbox.shift();
      ledger.setAside(message, "untold", kept, ended);
    }
    this.#head.ended(record);
  }

  /** The head, if it is a marker that the bot has no handler for: it goes without a turn. */
  passUntold(message: InboxMessage): boolean {
    const { bot, ledger, mailbox } = this.#core;
    if (markerOf(message) === null || isToldOfDelivery(bot)) return false;
    const record = ledger.recordFor(message.position);
    mailbox.shift();
    ledger.setAside(message, "untold", null, { openTurn: undefined, suspect: undefined });
    this.#head.ended(record);
    return true;
  }

  #noticeOf(message: InboxMessage, reason: DeadMessageReason, open: OpenTurn | null): readonly Notice[] {
    const { ordering, onNotice } = this.#core.bot;
    if (reason !== "poison" || ordering !== "available" || onNotice?.poisoned === undefined) return [];
    return [{ kind: "poisoned", position: message.position, id: message.id, error: open?.error ?? "" }];
  }

  /** Whether the message is what a gap lacks (attack B12): then the halt is lifted. */
  lift(message: InboxMessage): boolean {
    const { id, ledger, ports } = this.#core;
    if (!liftsHalt(ledger.extra?.halt, message)) return false;
    ports.log.info({ ...id }, "what was missing has come: the conversation goes on");
    ledger.change(message.position, { halt: undefined });
    return true;
  }

  /** C9. False if something has to come first: the list has to be read, or a commit to land. */
  control(message: ControlMessage): boolean {
    const { id, ledger, mailbox, ports } = this.#core;
    const { control, source } = message;
    const { record } = ledger;
    const line = { ...id, verb: control.verb, halt: control.halt, by: control.by };
    const effect = effectOfVerb(record, control, this.#core.nowMs());
    if (record === null || effect.kind === "nothing") {
      mailbox.shiftUrgent();
      ports.finish(source);
      ports.log.info(line, "an operator's verb changed nothing: the conversation is not halted there any more");
      return true;
    }
    const skipped = effect.kind === "skip" ? this.#skipped(record) : undefined;
    const isListNeeded = skipped === "unread" || (effect.kind === "pass-gap" && mailbox.unread > 0);
    if (isListNeeded) this.#list.read();
    if (isListNeeded || typeof skipped === "string") return false;
    mailbox.shiftUrgent();
    ports.log.info({ ...line, reason: effect.halt.reason }, "an operator's verb lifts the halt");
    if (effect.kind === "retry") {
      this.#head.closeJournal(); // a step of it that hangs must not be joined once more
      ledger.change(record.born, effect.parts, message);
    } else if (effect.kind === "pass-gap") {
      const order = orderPastGap(record, this.#core.rules, effect.missing, this.#waiting());
      ledger.change(record.born, { halt: undefined, order }, message);
    } else this.#skip(record, message, skipped);
    return true;
  }

  /** What a skip is about, brought to the head. */
  #skipped({ extra }: ConversationRecord): InboxMessage | "unread" | "later" | undefined {
    return extra?.openTurn && this.#list.bringToHead(extra.openTurn.position);
  }

  /** @param skipped undefined if something else deleted it from Redis, or no turn of it is open */
  #skip(record: ConversationRecord, control: ControlMessage, skipped: InboxMessage | undefined): void {
    const { ledger } = this.#core;
    if (skipped === undefined) {
      this.#head.closeJournal();
      ledger.change(record.born, { halt: undefined, openTurn: undefined, suspect: undefined }, control);
      return;
    }
    ledger.change(record.born, {}, control);
    this.setAside(skipped, "skipped", record.extra!.openTurn ?? null);
  }

  /** All that came before the verb of an operator, wherever it is: nothing of it may become late by that (Q3). */
  #waiting(): InboxMessage[] {
    const { held, mailbox } = this.#core;
    return [...(held ?? []), ...mailbox.undecided()].filter((message) => this.#isNew(message));
  }

  /** No repeat of what was decided. */
  #isNew(message: InboxMessage): boolean {
    const { kind } = this.#core.sequenced(message, NOTHING_HELD);
    return kind !== "consumed" && kind !== "duplicate";
  }
}
