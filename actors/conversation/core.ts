// Core of a conversation: what its parts share. Who it is, what waits, what was decided, and the shard as seen from here.
//
// The invariants C1 to C9 are of the conversation as a whole; each part opens with those that it keeps. Here:
//   C5. A stopped actor decides nothing more, whatever its handler does later: every part asks `isStopped` where it is called from
//       outside.

import type { Channel } from "../../src/channels/channel.ts";
import type { BotDefinition } from "../../src/domain/bot.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import type { Hash64 } from "../../src/domain/hash.ts";
import { HeldMessages } from "../../src/domain/held-messages.ts";
import type { ConversationId, ConversationKey } from "../../src/domain/ids.ts";
import type { InboxEntry, InboxMessage } from "../../src/domain/message.ts";
import type { Position } from "../../src/domain/position.ts";
import { type Decision, type HeldView, sequence } from "../../src/domain/sequencer.ts";
import type { Environment } from "../../src/environment.ts";
import type { Log } from "../../src/log.ts";
import type { Counters } from "../../src/metrics.ts";
import type { Committable } from "../committer.ts";
import type { ConversationActor } from "../conversation-actor.ts";
import { Ledger, type LedgerBounds } from "../ledger.ts";
import { Mailbox, type MailboxBounds } from "../mailbox.ts";
import type { RunningTurns } from "../running-turns.ts";
import type { TurnBounds } from "../turn.ts";

export interface ConversationBounds extends TurnBounds, LedgerBounds, MailboxBounds {
  readonly drainTurnsMax: number;
  readonly drainSliceMs: number;
  readonly uncommittedTurnsMax: number;
  readonly uncommittedBytesMax: number;
  readonly stepsMax: number;
  readonly journalBytesMax: number;
  readonly hopsMax: number;
}

/** What a conversation needs of its shard. */
export interface ConversationPorts {
  readonly environment: Environment;
  readonly log: Log;
  readonly bounds: ConversationBounds;
  readonly hashKey: Hash64;
  readonly running: RunningTurns;
  readonly counters: Counters;
  /** Puts it into the next commit. */
  commit(conversation: Committable): void;
  /** One message of the entry needs nothing more: an earlier commit decided it. */
  finish(entry: InboxEntry): void;
  /** Fetches what is stored and hands it to `loaded`. */
  load(conversation: ConversationActor): void;
  /** Fetches what stands on its waiting list behind `after` and hands it to `listRead`. */
  readList(conversation: ConversationActor, after: number): void;
  /** What it takes in memory changed by so many bytes. */
  resized(bytes: number): void;
  /** Its own code failed, not the bot's; it is stopped. */
  crashed(conversation: ConversationActor, error: unknown): void;
  /** Whether the lane can take more; else it calls back once it can. */
  laneHasRoom(key: ConversationKey, uncommittedReplies: number, uncommittedBytes: number, onRoom: () => void): boolean;
  /** Whether this node runs bot and channel of a conversation. */
  readonly canReach: (to: ConversationId) => boolean;
  /** Messages of the inbox wait in it, and something stands in their way; or no longer. */
  blocked(conversation: ConversationActor, isBlocked: boolean): void;
  /** False if there may be no more dead letters; else there is room for this one. */
  reserveDeadLetter(bytes: number): boolean;
  /** Whether the head at this position may run now, after unclean ends; else it is woken when it may. */
  mayRunHead(conversation: ConversationActor, position: Position): boolean;
  /** What was pending in it when the shard was acquired is decided, or failed durably. */
  headIsThrough(key: ConversationKey): void;
  /** Whether all was read that stood in the inbox when the shard was acquired. */
  hasCaughtUp(): boolean;
  /** Whether its mark as the one that ran alone was found when a process had ended: true once. */
  diedAlone(key: ConversationKey): boolean;
}

/** What comes of one look at the mailbox: another may follow, or not now; or a turn takes its time. */
export type Next = "go-on" | "over" | "in-turn";

const ARRIVAL: ExternalOrder = Object.freeze({ mode: "arrival" });

export class ConversationCore {
  readonly id: ConversationId;
  readonly key: ConversationKey;
  readonly bot: BotDefinition;
  readonly channel: Channel;
  readonly rules: ExternalOrder;
  readonly ports: ConversationPorts;
  readonly mailbox: Mailbox;
  readonly ledger: Ledger;
  /** Null where order is that of arrival. */
  readonly held: HeldMessages<InboxMessage> | null;
  readonly wake: () => void;
  readonly #self: ConversationActor;
  isStopped = false;
  #waitsForCommit = false;
  /** What waits until everything decided is durable. */
  #gate: (() => void)[] = [];

  constructor(self: ConversationActor, bot: BotDefinition, channel: Channel, ports: ConversationPorts) {
    const { environment, bounds, counters } = ports;
    const { id, key, wake } = self;
    this.#self = self;
    this.id = id;
    this.key = key;
    this.wake = wake;
    this.bot = bot;
    this.channel = channel;
    this.rules = channel.order ?? ARRIVAL;
    this.ports = ports;
    this.mailbox = new Mailbox(bounds);
    this.held = this.rules.mode === "arrival" ? null : new HeldMessages();
    this.ledger = new Ledger(key, bot, bounds, {
      counters,
      nowMs: () => environment.nowMs(),
      monotonicMs: () => environment.monotonicMs(),
      changed: () => ports.commit(self),
      resized: ports.resized,
    });
  }

  /** ms since the Unix epoch, whole, as it is stored. */
  nowMs(): number {
    return Math.floor(this.ports.environment.nowMs());
  }

  /** What the sequencer says of a message that is not held. */
  sequenced(message: InboxMessage, held: HeldView): Decision {
    const record = this.ledger.recordFor(message.position);
    const from = message.waitingId === null ? "inbox" : "waiting";
    return sequence(record, this.ledger.ids, this.rules, message, from, held);
  }

  /** It was decided before and read again. What decided it may be uncommitted itself: then its entry goes with that. */
  finishAgain(message: InboxMessage): void {
    if (this.ledger.isSettled) this.ports.finish(message.source);
    else this.ledger.consumedAgain(message);
  }

  dropDuplicate(message: InboxMessage, isConflict: boolean): void {
    const { counters } = this.ports;
    counters.duplicates += 1;
    if (isConflict) counters.conflicts += 1;
    this.ledger.drop(message);
  }

  /** It is woken when the commit under way, or the next, has landed. */
  waitForCommit(): void {
    this.#waitsForCommit = true;
  }

  /** R4's gate. Pending for ever in a conversation that left: nothing of its turn goes on. */
  settled(): Promise<void> {
    if (this.ledger.isSettled) return Promise.resolve();
    return new Promise((resolve) => this.#gate.push(resolve));
  }

  /** A commit of it has landed. */
  landed(): void {
    if (this.#gate.length > 0 && this.ledger.isSettled) for (const open of this.#gate.splice(0)) open();
    if (!this.#waitsForCommit) return;
    this.#waitsForCommit = false;
    this.wake();
  }

  // The shard, told who asks --------------------------------------------------------------------------------------------

  readList(after: number): void {
    this.ports.readList(this.#self, after);
  }

  tellBlocked(isBlocked: boolean): void {
    this.ports.blocked(this.#self, isBlocked);
  }

  mayRunHead(position: Position): boolean {
    return this.ports.mayRunHead(this.#self, position);
  }
}
