// Failures: what follows a run that failed. The same message again after a while or, if that was the last time, what the bot's ordering
// says (DESIGN 5). Counting is in domain/attempts.ts.
//
// Invariants
//   F1. An attempt is in the ledger before anything else is decided, and nothing is decided until its time (C8).
//   F2. The clock of an attempt is durable where its message is on the list: one of the inbox is read again by whoever has the shard next.
//   F3. There is no notice for a notice (attack B17), and none halts its conversation: it goes, and the next comes.

import { afterDeathAlone, afterFailure } from "../../src/domain/attempts.ts";
import { formatBorn } from "../../src/domain/position.ts";
import type { OpenTurn } from "../../src/domain/record.ts";
import { positionOf, type Work } from "../../src/domain/work.ts";
import type { Timer } from "../../src/environment.ts";
import { TerminalError } from "../../src/errors.ts";
import { describeBotError, fullBotError, shortBotError } from "../bot-error.ts";
import type { ConversationCore, Next } from "./core.ts";
import type { Halts } from "./halts.ts";
import { type HeadTurn, RETRY_CLOCK } from "./head-turn.ts";

const MAX_ATTEMPTS_DEFAULT = 5;
const POISON_MIN_MS_DEFAULT = 600_000;

export class Failures {
  readonly #core: ConversationCore;
  readonly #head: HeadTurn;
  readonly #halts: Halts;
  #retry: Timer | null = null;

  constructor(core: ConversationCore, head: HeadTurn, halts: Halts) {
    this.#core = core;
    this.#head = head;
    this.#halts = halts;
  }

  /** The next attempt has its time, which has not come. */
  get isBackingOff(): boolean {
    return this.#retry !== null;
  }

  failed(error: unknown, work: Work): Next {
    const { bot, id, key, ledger, ports } = this.#core;
    const position = positionOf(work);
    ports.counters.failedTurns += 1;
    const failure = afterFailure(
      ledger.extra?.openTurn,
      position,
      { error: shortBotError(error), isTerminal: error instanceof TerminalError },
      { nowMs: this.#core.nowMs(), random: ports.environment.random() },
      {
        maxAttempts: bot.maxAttempts ?? MAX_ATTEMPTS_DEFAULT,
        poisonMinMs: bot.poisonMinMs ?? POISON_MIN_MS_DEFAULT,
      },
    );
    const { open } = failure;
    const line = { ...id, inboxPosition: formatBorn(position), attempt: open.attempts, error: describeBotError(error) };
    if (failure.kind === "poison") return this.poison(work, open, fullBotError(error), line);
    ports.log.warn(
      { ...line, retryInMs: failure.delayMs },
      "turn failed; nothing of it was committed, the message runs again",
    );
    this.#head.leave();
    ledger.change(position, { openTurn: open, suspect: undefined }); // F1
    this.#backOff(open, failure.delayMs, work.message?.waitingId != null);
    ports.headIsThrough(key);
    return "over";
  }

  /** What was open when it was loaded waits for its time, as before. One that ended its process alone is charged for it. */
  reopen(open: OpenTurn): void {
    const { id, key, ledger, ports } = this.#core;
    const nowMs = this.#core.nowMs();
    if (ledger.extra?.suspect === 1 && ports.diedAlone(key)) {
      const charged = afterDeathAlone(open, open.position, nowMs).open;
      ports.log.warn({ ...id, deaths: charged.deaths }, "the process ended while only this message ran");
      ledger.change(open.position, { openTurn: charged, suspect: undefined });
    } else if (open.nextAtMs !== null && open.nextAtMs > nowMs) this.#backOff(open, open.nextAtMs - nowMs, false);
  }

  /** The message at the head was moved to the list (F2). */
  moved(): void {
    const { ledger } = this.#core;
    const nextAtMs = ledger.extra?.openTurn?.nextAtMs ?? null;
    if (this.#retry !== null && nextAtMs !== null) ledger.setTimer(RETRY_CLOCK, nextAtMs, nextAtMs);
  }

  /** A clock of the conversation was due in Redis: an attempt is made then, and not before its time. */
  clockWasDue(name: string, generation: number): void {
    if (name !== RETRY_CLOCK || generation !== this.#core.ledger.extra?.openTurn?.nextAtMs) return;
    this.stop();
    this.#retry = null;
  }

  stop(): void {
    this.#retry?.cancel();
  }

  /** @param error in full, for the dead letter */
  poison(work: Work, open: OpenTurn, error: string, line: object): Next {
    const { bot, id, ports } = this.#core;
    this.#head.leave();
    ports.counters.poisoned += 1;
    if (work.message === null || work.notice !== null) {
      this.#halts.dropNotice(work, { ...open, error }, line); // F3
    } else if (bot.ordering !== "available") {
      ports.log.error({ ...id, ...line }, "message failed for good");
      this.#halts.halt(
        "poison",
        `${open.error ?? "ended the process"}; attempts: ${open.attempts + open.deaths}`,
        open,
      );
    } else {
      ports.log.error(
        { ...id, ...line },
        "message failed for good: it becomes a dead letter, its conversation goes on",
      );
      this.#halts.setAside(work.message, "poison", { ...open, error });
    }
    return "go-on";
  }

  #backOff(open: OpenTurn, delayMs: number, isOnList: boolean): void {
    this.#retry = this.#core.ports.environment.after(delayMs, () => {
      this.#retry = null;
      this.#core.wake();
    });
    if (isOnList && open.nextAtMs !== null) this.#core.ledger.setTimer(RETRY_CLOCK, open.nextAtMs, open.nextAtMs); // F2
  }
}
