// Conversation actor: the single writer of one conversation. Its mailbox is a queue of messages in position order; what nact
// delivers is only the wake-up.
//
// Invariants
//   C1. Messages are decided in position order, one at a time, and each exactly once: the head leaves the mailbox in the same
//       step that moves record, ids and state past it.
//   C2. Turns run ahead of commits only up to the bounds on what is uncommitted and on what waits in the lane (R6).
//   C3. What the committer takes is all that was decided since it last took, as one value (P5).
//   C4. It can be dropped from memory only when `settled`; then everything in it can be loaded again (R4).
//   C5. A stopped actor decides nothing more, whatever its handler does later.
//   C6. What a crash of this code leaves half decided is never committed: its messages are given back, in order, to the actor
//       that replaces it once nothing of the conversation flies.

import type { ConversationActivity } from "../src/admin/inspector.ts";
import type { Channel } from "../src/channels/channel.ts";
import type { OutboxReply } from "../src/codec/outbox-codec.ts";
import { checkedState, type DecodedRecord, decodeRecord, encodeRecord } from "../src/codec/record-codec.ts";
import type { BotDefinition } from "../src/domain/bot.ts";
import { Fifo } from "../src/domain/fifo.ts";
import type { ConversationId, ConversationKey } from "../src/domain/ids.ts";
import type { InboxEntry, InboxMessage } from "../src/domain/message.ts";
import { freezePlain, type Plain } from "../src/domain/plain-data.ts";
import { formatBorn, type Position } from "../src/domain/position.ts";
import { RecentIds } from "../src/domain/recent-ids.ts";
import { afterDrop, afterTurn, type ConversationRecord, newRecord } from "../src/domain/record.ts";
import { HANDLER_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { sequence } from "../src/domain/sequencer.ts";
import type { Environment, Timer } from "../src/environment.ts";
import { CodecError } from "../src/errors.ts";
import { describeError, type Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { StoredConversation } from "../src/store/shard-store.ts";
import type { ActorRef } from "./actor-system.ts";
import { describeBotError } from "./bot-error.ts";
import type { Committable, PendingWrite } from "./committer.ts";
import { type RenderedTurn, renderTurn } from "./rendered-turn.ts";
import type { RunningTurns } from "./running-turns.ts";
import { Turn, type TurnBounds, type TurnResult } from "./turn.ts";

export interface ConversationBounds extends TurnBounds {
  readonly drainTurnsMax: number;
  readonly drainSliceMs: number;
  readonly uncommittedTurnsMax: number;
  readonly uncommittedBytesMax: number;
  readonly dedupeMs: number;
  readonly dedupeMax: number;
}

/** What a conversation needs of its shard. */
export interface ConversationPorts {
  readonly environment: Environment;
  readonly log: Log;
  readonly bounds: ConversationBounds;
  readonly running: RunningTurns;
  readonly counters: Counters;
  /** Puts it into the next commit. */
  commit(conversation: Committable): void;
  /** One message of the entry needs nothing more: an earlier commit decided it. */
  finish(entry: InboxEntry): void;
  /** Fetches what is stored and hands it to `loaded`. */
  load(conversation: ConversationActor): void;
  /** What it takes in memory changed by so many bytes. */
  resized(bytes: number): void;
  /** Its own code failed, not the bot's; it is stopped. */
  crashed(conversation: ConversationActor, error: unknown): void;
  /** Whether the lane can take more; else it calls back once it can. */
  laneHasRoom(key: ConversationKey, uncommittedReplies: number, uncommittedBytes: number, onRoom: () => void): boolean;
}

export type Wake = "wake";

/** A look at the clock costs as much as a small turn. */
const CLOCK_EVERY_TURNS = 4;
const HANDLER_TIMEOUT_MS_DEFAULT = 30_000;
/** Estimate of what a resident takes besides its state and ids. */
const RESIDENT_OVERHEAD_BYTES = 2_048;

export class ConversationActor implements Committable {
  readonly key: ConversationKey;
  readonly id: ConversationId;
  readonly #bot: BotDefinition;
  readonly #channel: Channel;
  readonly #ports: ConversationPorts;
  readonly #mailbox = new Fifo<InboxMessage>();
  ref: ActorRef<Wake> | null = null;
  #awake = false;
  #stopped = false;
  #record: ConversationRecord | null = null;
  #ids: RecentIds | null = null;
  #idsTtlSetAtMs = Number.NEGATIVE_INFINITY;
  /** What was stored, until the first turn decodes it. */
  #stored: DecodedRecord | null = null;
  #state: Plain | undefined;
  #residentBytes = RESIDENT_OVERHEAD_BYTES;
  #pending: Pending | null = null;
  #inFlight: Pending | null = null;
  #waitsForCommit = false;
  /** The turn under way. */
  #turn: Turn | null = null;
  #sliceTurns = 0;
  #sliceEndMs = 0;
  /** Ends the `receive` that a turn under way keeps open. */
  #drained: (() => void) | null = null;
  #born: { readonly position: Position | null; readonly text: string } = { position: null, text: "" };
  #draining = false;
  #failures = 0;
  #retry: Timer | null = null;
  /** Nothing of it runs until somebody looks. */
  #quarantined = false;
  #onLanded: (() => void) | null = null;

  constructor(
    id: ConversationId,
    key: ConversationKey,
    bot: BotDefinition,
    channel: Channel,
    ports: ConversationPorts,
  ) {
    this.id = id;
    this.key = key;
    this.#bot = bot;
    this.#channel = channel;
    this.#ports = ports;
  }

  /** C4 */
  get settled(): boolean {
    return this.#mailbox.length === 0 && this.#pending === null && this.#inFlight === null && !this.#awake;
  }

  /** A turn is under way. */
  get isInTurn(): boolean {
    return this.#turn !== null;
  }

  get activity(): ConversationActivity {
    if (this.#stopped) return "crashed"; // one that was stopped otherwise is no resident any more
    if (this.#quarantined) return "quarantined";
    if (this.#turn !== null) return "running";
    if (this.#retry !== null) return "failing";
    return this.settled ? "idle" : "waiting";
  }

  /** Messages that are not decided. */
  get mailboxDepth(): number {
    return this.#mailbox.length;
  }

  /** Failed turns of the message at the head, in this process. */
  get failures(): number {
    return this.#failures;
  }

  /** What it takes in memory, as last told to `resized`. */
  get residentBytes(): number {
    return this.#residentBytes;
  }

  deliver(message: InboxMessage): void {
    this.#mailbox.push(message);
    this.wake();
  }

  wake = (): void => {
    if (this.#awake || this.#stopped || this.ref === null) return;
    this.#awake = true;
    this.ref.tell("wake");
  };

  loaded(stored: StoredConversation): void {
    if (this.#stopped) return;
    try {
      this.#stored = stored.record === null ? null : decodeRecord(stored.record);
    } catch (error) {
      this.#quarantine(error);
      return;
    }
    this.#ids = new RecentIds({ dedupeMs: this.#dedupeMs, dedupeMax: this.#ports.bounds.dedupeMax }, stored.ids);
    this.#record = this.#stored?.record ?? null;
    this.#measure(this.#stored?.stateBytes.length ?? 0);
    this.wake();
  }

  /** Begins no further turn; one under way ends by itself. */
  drain(): void {
    this.#draining = true;
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#turn?.abandon(); // C5
    this.ref?.stop();
  }

  crashed(error: unknown): void {
    if (this.#stopped) return;
    this.stop();
    this.#ports.crashed(this, error);
  }

  /** C6: what it had decided and nobody took, and what waits behind. */
  salvage(): readonly InboxMessage[] {
    const decided = this.#pending?.consumed ?? [];
    this.#pending = null;
    return [...decided, ...this.#mailbox.drain()];
  }

  /** Calls back, once, when nothing of it flies. */
  onLanded(run: () => void): void {
    if (this.#inFlight === null) run();
    else this.#onLanded = run;
  }

  receive(_wake: Wake): void | Promise<void> {
    const { environment, bounds } = this.#ports;
    this.#awake = false;
    this.#sliceTurns = 0;
    this.#sliceEndMs = environment.monotonicMs() + bounds.drainSliceMs;
    if (this.#drain() !== "in-turn") return undefined;
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  takeWrite(): PendingWrite {
    const pending = this.#pending!;
    this.#inFlight = pending;
    this.#pending = null;
    const ids = this.#ids!.takeChange();
    const record = this.#encodeRecord();
    this.#measure(record.length);
    return {
      write: {
        key: this.key,
        record,
        ids,
        idsTtlMs: ids === null ? null : this.#idsTtl(),
        transcript: pending.transcript,
      },
      replies: pending.replies,
      consumed: pending.consumed,
    };
  }

  #measure(stateBytes: number): void {
    const before = this.#residentBytes;
    this.#residentBytes = RESIDENT_OVERHEAD_BYTES + stateBytes + this.#ids!.bytes;
    if (this.#residentBytes !== before) this.#ports.resized(this.#residentBytes - before);
  }

  committed(): void {
    this.#inFlight = null;
    this.#onLanded?.();
    if (!this.#waitsForCommit) return;
    this.#waitsForCommit = false;
    this.wake();
  }

  /** True if the next message can be looked at; where not, what it waits for wakes it. */
  #mayDecide(): boolean {
    if (this.#draining || this.#quarantined || this.#retry !== null) return false;
    if (this.#ids === null) {
      this.#ports.load(this);
      return false;
    }
    const { bounds, running } = this.#ports;
    const turns = (this.#pending?.turns ?? 0) + (this.#inFlight?.turns ?? 0);
    const bytes = (this.#pending?.bytes ?? 0) + (this.#inFlight?.bytes ?? 0);
    if (turns >= bounds.uncommittedTurnsMax || bytes >= bounds.uncommittedBytesMax) {
      this.#waitsForCommit = true; // C2
      return false;
    }
    const replies = (this.#pending?.replies.length ?? 0) + (this.#inFlight?.replies.length ?? 0);
    if (!this.#ports.laneHasRoom(this.key, replies, bytes, this.wake)) return false; // C2
    if (running.hasRoom) return true;
    running.onRoom(this.wake);
    return false;
  }

  /** Decides head after head, until the mailbox is empty, something has to come first, or a turn takes its time. */
  #drain(): "over" | "in-turn" {
    for (let message = this.#mailbox.peek(); message !== undefined; message = this.#mailbox.peek()) {
      if (this.#stopped || !this.#mayDecide()) return "over";
      if (this.#isSliceOver()) {
        this.wake(); // others first
        return "over";
      }
      const next = this.#decide(message);
      if (next !== "go-on") return next;
    }
    return "over";
  }

  #isSliceOver(): boolean {
    const { environment, bounds } = this.#ports;
    this.#sliceTurns += 1;
    if (this.#sliceTurns > bounds.drainTurnsMax) return true;
    return this.#sliceTurns % CLOCK_EVERY_TURNS === 0 && environment.monotonicMs() > this.#sliceEndMs;
  }

  #decide(message: InboxMessage): "go-on" | "over" | "in-turn" {
    const record = this.#record ?? newRecord(message.position);
    const decision = sequence(record, this.#ids!, message);
    switch (decision.kind) {
      case "consumed":
        this.#mailbox.shift();
        this.#ports.finish(message.source);
        return "go-on";
      case "duplicate":
        this.#ports.counters.duplicates += 1;
        if (decision.conflict) this.#ports.counters.conflicts += 1;
        this.#drop(record, message);
        return "go-on";
      case "release":
        return this.#release(record, message, decision.seq);
    }
  }

  #drop(record: ConversationRecord, message: InboxMessage): void {
    this.#openPending().consumed.push(message);
    this.#mailbox.shift();
    this.#record = afterDrop(record, message.position);
    this.#ports.commit(this);
  }

  #release(record: ConversationRecord, message: InboxMessage, seq: number): "go-on" | "over" | "in-turn" {
    let turn: Turn;
    try {
      turn = this.#newTurn(record, message, seq);
    } catch (error) {
      this.#failed(error, message); // the bot's: its initial state, or a step of its migration
      return "over";
    }
    const result = turn.run(this.#turnSettled);
    if (result !== null) {
      if (this.#sliceTurns === 1) this.#timeTurn(this.#sliceEndMs - this.#ports.bounds.drainSliceMs);
      return this.#applied(record, message, result) ? "go-on" : "over";
    }
    this.#turn = turn;
    this.#ports.running.add(turn);
    return "in-turn";
  }

  #newTurn(record: ConversationRecord, message: InboxMessage, seq: number): Turn {
    return new Turn({
      bot: this.#bot,
      conversation: this.id,
      born: record.born,
      seq,
      state: this.#currentState(),
      message,
      bounds: this.#ports.bounds,
      timeoutMs: this.#bot.handlerTimeoutMs ?? HANDLER_TIMEOUT_MS_DEFAULT,
      log: this.#ports.log,
    });
  }

  /** A turn that took its time has ended: its message is still the head. Goes on with what waits behind it. */
  #turnSettled = (result: TurnResult): void => {
    try {
      const turn = this.#turn!;
      this.#turn = null;
      this.#ports.running.remove(turn);
      this.#timeTurn(turn.deadlineMs - turn.timeoutMs);
      const message = this.#mailbox.peek()!;
      const goesOn = !this.#stopped && this.#applied(this.#record ?? newRecord(message.position), message, result); // C5
      if (goesOn && this.#drain() === "in-turn") return;
    } catch (error) {
      this.crashed(error); // at once: a commit that lands meanwhile would take what is half decided (C6)
    }
    this.#drained?.();
  };

  /** One of a wake-up is enough: a look at the clock for each would cost as much as small turns do. */
  #timeTurn(startMs: number): void {
    const { counters, environment } = this.#ports;
    counters.timings.turn.observe(environment.monotonicMs() - startMs);
  }

  /** The stored state, decoded and brought to the bot's version. Part of the turn: if it fails, the message failed (R5). */
  #currentState(): Plain {
    if (this.#state !== undefined) return this.#state;
    if (this.#stored === null) return freezePlain(this.#bot.initialState(), "initialState()");
    const { botVersion, bytes } = checkedState(this.#stored);
    let state: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (botVersion > this.#bot.version) {
      throw new CodecError(
        `the state was written by version ${botVersion} of bot ${this.#bot.name}, this is version ${this.#bot.version}; it is untouched`,
      );
    }
    for (let version = botVersion; version < this.#bot.version; version += 1) {
      const migrate = this.#bot.migrate?.[version];
      if (migrate !== undefined) state = migrate(state);
    }
    return freezePlain(state, "state");
  }

  #applied(record: ConversationRecord, message: InboxMessage, result: TurnResult): boolean {
    if (result.kind === "failed") return this.#failed(result.error, message);
    let rendered: RenderedTurn;
    try {
      rendered = renderTurn(this.#channel, this, record, this.#bornText(record), message, result.replies);
    } catch (error) {
      return this.#failed(error, message);
    }
    // C1: from here on nothing of the bot can fail.
    const pending = this.#openPending();
    pending.consumed.push(message);
    this.#mailbox.shift();
    this.#failures = 0;
    this.#state = result.state;
    this.#stored = null;
    this.#record = afterTurn(record, message.position, message.idHash, result.replies.length);
    this.#remember(message);
    pending.turns += 1;
    pending.bytes += message.bytes + rendered.bytes;
    for (const reply of rendered.outbox) pending.replies.push(reply);
    for (const line of rendered.transcript) pending.transcript.push(line);
    this.#ports.commit(this);
    return true;
  }

  #remember(message: InboxMessage): void {
    const { counters } = this.#ports;
    const ids = this.#ids!;
    ids.add(message.idHash, message.position.entry.ms, message.bodyHash);
    counters.turns += 1;
    counters.idsLeftYoung += ids.leftYoung;
    ids.leftYoung = 0;
  }

  #bornText(record: ConversationRecord): string {
    if (this.#born.position !== record.born) this.#born = { position: record.born, text: formatBorn(record.born) };
    return this.#born.text;
  }

  /** The same message again, after a while and without end: nothing may pass it. */
  #failed(error: unknown, message: InboxMessage): false {
    const { environment, log, counters } = this.#ports;
    counters.failedTurns += 1;
    this.#failures += 1;
    const delayMs = retryDelayMs(HANDLER_BACKOFF, this.#failures, environment.random());
    log.warn(
      {
        ...this.id,
        inboxPosition: formatBorn(message.position),
        attempt: this.#failures,
        retryInMs: delayMs,
        error: describeBotError(error),
      },
      "turn failed; nothing of it was committed, the message runs again",
    );
    this.#retry = environment.after(delayMs, () => {
      this.#retry = null;
      this.wake();
    });
    return false;
  }

  #quarantine(error: unknown): void {
    this.#quarantined = true;
    this.#ports.log.error(
      { ...this.id, error: describeError(error) },
      "conversation quarantined: its record cannot be read and is left untouched; its messages wait in the inbox",
    );
  }

  /** State that no turn of this life in memory has decoded is copied as it is stored (E3). */
  #encodeRecord(): Uint8Array {
    if (this.#state === undefined && this.#stored !== null) {
      return encodeRecord(this.#record!, this.#stored.botVersion, this.#stored.stateBytes);
    }
    return encodeRecord(
      this.#record!,
      this.#bot.version,
      JSON.stringify(this.#state === undefined ? this.#bot.initialState() : this.#state),
    );
  }

  get #dedupeMs(): number {
    return this.#bot.dedupeMs ?? this.#ports.bounds.dedupeMs;
  }

  #openPending(): Pending {
    this.#pending ??= { turns: 0, bytes: 0, replies: [], consumed: [], transcript: [] };
    return this.#pending;
  }

  /** The ids key lives for twice `dedupeMs`; renewing it once per `dedupeMs` keeps every young id. */
  #idsTtl(): number | null {
    const dedupeMs = this.#dedupeMs;
    const nowMs = this.#ports.environment.monotonicMs();
    if (nowMs - this.#idsTtlSetAtMs < dedupeMs) return null;
    this.#idsTtlSetAtMs = nowMs;
    return dedupeMs * 2;
  }
}

interface Pending {
  turns: number;
  bytes: number;
  readonly replies: OutboxReply[];
  readonly consumed: InboxMessage[];
  readonly transcript: Uint8Array[];
}
