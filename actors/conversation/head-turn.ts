// Head turn: the turn of what stands at the head of a conversation, over all its runs. One run at a time; its steps, and the replies that
// go out in the middle of it, are put into the ledger as they come.
//
// Invariants
//   C1. (the half of turns) What a turn made goes into the ledger in the step in which its message leaves the mailbox; before that
//       nothing of the bot can fail any more.
//   Y1. The journal is of the message at the head: it outlives failed runs, and a crash of the actor goes on with it (attack A6).
//   Y2. A run that was cut off ends here: its late result finds no turn to end (C5).

import type { InboxMessage, Reply } from "../../src/domain/message.ts";
import { comparePositions, formatBorn, type Position } from "../../src/domain/position.ts";
import { type ConversationRecord, NO_OPEN_TURN, type OpenTurn } from "../../src/domain/record.ts";
import { extraAfterTurn, positionOf, type Work } from "../../src/domain/work.ts";
import { type RenderedTurn, renderTurn } from "../rendered-turn.ts";
import { Turn, type TurnResult, type TurnWork } from "../turn.ts";
import { type JournalPorts, TurnJournal } from "../turn-journal.ts";
import type { ConversationCore } from "./core.ts";

/** The clock of the next attempt, among the timers of the conversation. */
export const RETRY_CLOCK = "!retry";

const HANDLER_TIMEOUT_MS_DEFAULT = 30_000;

type Done = Extract<TurnResult, { kind: "done" }>;

export class HeadTurn {
  readonly #core: ConversationCore;
  #turn: Turn | null = null;
  #work: Work | null = null;
  /** Y1 */
  #journal: TurnJournal | null = null;
  /** Of the actor that this one replaces. */
  #inherited: TurnJournal | null = null;
  #born: { readonly position: Position | null; readonly text: string } = { position: null, text: "" };

  constructor(core: ConversationCore) {
    this.#core = core;
  }

  /** A handler has not answered yet. */
  get isRunning(): boolean {
    return this.#turn !== null;
  }

  /** Begun in this life in memory, and not ended, failed or set aside. */
  get isUnderWay(): boolean {
    return this.#work !== null;
  }

  /** Of what the turn is that was begun, here or by an earlier life. */
  isOf(message: InboxMessage): boolean {
    const open = this.#core.ledger.extra?.openTurn;
    return (
      this.#work?.message === message || (open !== undefined && comparePositions(open.position, message.position) === 0)
    );
  }

  /**
   * Runs the handler.
   * @param timedFromMs on the monotonic clock, if this run is to be timed and ends at once
   * @param onSettled called with the result of a handler that takes its time, unless it is given up before
   * @returns the result of one that answered at once, else null
   */
  begin(work: Work, timedFromMs: number | null, onSettled: (result: TurnResult) => void): TurnResult | null {
    this.#work = work;
    let turn: Turn;
    try {
      turn = this.#newTurn(work, positionOf(work));
    } catch (error) {
      return { kind: "failed", error }; // the bot's: its initial state, or a step of its migration
    }
    const result = turn.run(onSettled);
    if (result === null) {
      this.#turn = turn;
      this.#core.ports.running.add(turn);
    } else if (timedFromMs !== null) this.#observe(timedFromMs);
    return result;
  }

  /** The handler that took its time has answered. @returns what it was about */
  settle(): Work {
    const turn = this.#turn!;
    this.#turn = null;
    this.#core.ports.running.remove(turn);
    this.#observe(turn.deadlineMs - turn.timeoutMs);
    return this.#work!;
  }

  /** The turn went well. @returns why it failed all the same: what it replied cannot be rendered */
  finish(work: Work, { state, replies, sends }: Done): { readonly error: unknown } | null {
    const { ledger, mailbox } = this.#core;
    const record = ledger.recordFor(positionOf(work));
    let rendered: RenderedTurn;
    try {
      rendered = this.#render(record, work, replies);
    } catch (error) {
      return { error };
    }
    // C1: from here on nothing of the bot can fail.
    if (work.message !== null) mailbox.shift();
    const effects = { state, rendered, replies: replies.length };
    ledger.turn(work.message, record.born, effects, extraAfterTurn(record, work), sends);
    this.ended(record);
    return null;
  }

  /** The run has failed; its message stays the head. */
  leave(): void {
    this.#work = null;
  }

  /** What was begun has ended, by a turn or otherwise. @param record as it was before */
  ended({ extra }: ConversationRecord): void {
    this.#work = null;
    this.closeJournal();
    if (extra?.openTurn?.nextAtMs != null) this.#core.ledger.setTimer(RETRY_CLOCK, extra.openTurn.nextAtMs, null);
    this.#core.ports.headIsThrough(this.#core.key);
  }

  /** What steps of it still do is nobody's any more. One that was never asked for anything serves the next message, too. */
  closeJournal(): void {
    if (this.#journal === null || this.#journal.isUntouched) return;
    this.#journal.close();
    this.#journal = null;
  }

  /** The message was moved to the list, where it stands as `listed`. */
  moved(message: InboxMessage, listed: InboxMessage): void {
    if (this.#work?.message === message) this.#work = { ...this.#work, message: listed };
  }

  /** The handler learns from its signal that nobody waits for it (C5). */
  abandon(): void {
    this.#turn?.abandon();
  }

  /** Steps that run are given up. */
  close(): void {
    this.#journal?.close();
  }

  /** From now on it is the successor's, with the steps that run (Y1). */
  giveJournal(): TurnJournal | null {
    const journal = this.#journal;
    this.#journal = null;
    return journal;
  }

  inherit(journal: TurnJournal | null): void {
    this.#inherited = journal;
  }

  #newTurn(work: Work, position: Position): Turn {
    const { bot, id, key, ledger, ports } = this.#core;
    const { born, seq, extra } = ledger.recordFor(position);
    const journal = this.#journalOf(extra?.openTurn, position);
    return new Turn({
      bot,
      conversation: id,
      key,
      born,
      seq: seq + 1,
      state: ledger.currentState(),
      work: turnWork(work),
      position,
      journal,
      bounds: ports.bounds,
      timeoutMs: bot.handlerTimeoutMs ?? HANDLER_TIMEOUT_MS_DEFAULT,
      log: ports.log,
      canReach: ports.canReach,
      onStrayRejection: this.#onStrayRejection,
    });
  }

  #onStrayRejection = (): void => {
    this.#core.ports.counters.strayRejections += 1;
  };

  /** One of a wake-up is enough: a look at the clock for each would cost as much as small turns do. */
  #observe(startMs: number): void {
    const { counters, environment } = this.#core.ports;
    counters.timings.turn.observe(environment.monotonicMs() - startMs);
  }

  #journalOf(open: OpenTurn | undefined, position: Position): TurnJournal {
    if (this.#journal !== null) return this.#journal;
    const isOfThis = open !== undefined && comparePositions(open.position, position) === 0;
    const ports = this.#journalPorts();
    this.#journal = this.#inherited ?? new TurnJournal(isOfThis ? open : undefined, ports);
    this.#inherited?.adopt(isOfThis ? open : undefined, ports);
    this.#inherited = null;
    return this.#journal;
  }

  #journalPorts(): JournalPorts {
    const { environment, bounds } = this.#core.ports;
    return {
      environment,
      bounds,
      settled: () => this.#core.settled(),
      changed: () => this.#journalChanged(),
      flush: (replies: readonly Reply[]) => this.#flush(replies),
    };
  }

  #journalChanged(): void {
    if (this.#core.isStopped || this.#journal === null) return;
    const { ledger } = this.#core;
    const open = ledger.extra?.openTurn;
    const position = open?.position ?? (this.#work && positionOf(this.#work));
    if (position == null) return;
    const { steps, repliesOut } = this.#journal;
    ledger.change(position, { openTurn: { ...(open ?? { ...NO_OPEN_TURN, position }), steps, repliesOut } });
  }

  #flush(replies: readonly Reply[]): void {
    if (this.#core.isStopped) return;
    const { ledger } = this.#core;
    const work = this.#work!;
    const record = ledger.recordFor(positionOf(work));
    ledger.flush(record.born, { rendered: this.#render(record, work, replies), replies: replies.length });
  }

  #render(record: ConversationRecord, { message }: Work, replies: readonly Reply[]): RenderedTurn {
    const isBegun = (record.extra?.openTurn?.repliesOut ?? 0) > 0;
    const turn = { message, replies, withUserLine: !isBegun && message !== null };
    return renderTurn(this.#core.channel, this.#core, record, this.#bornText(record), turn, this.#core.ports.bounds);
  }

  #bornText(record: ConversationRecord): string {
    if (this.#born.position !== record.born) this.#born = { position: record.born, text: formatBorn(record.born) };
    return this.#born.text;
  }
}

const turnWork = ({ message, notice, isLate }: Work): TurnWork =>
  notice === null ? { kind: "message", message: message!, isLate } : { kind: "notice", notice };
