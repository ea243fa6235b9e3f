// Lane actor: sends the replies of one conversation, one at a time, in order. The outbox and the lane's list are the truth; what is
// here is what of them is undelivered. What becomes of a reply is decided in src/domain/lane.ts.
//
// Invariants
//   L1. One attempt in flight; the next reply goes out only after this one's 2xx, or after the commit that says what became
//       of it (attack B11).
//   L2. Every attempt of a reply sends the bytes and the key that its commit stored (P4, attack B14).
//   L3. A lane that does not flow is durable: its state is in `lanes` before anything waits for a wake-up. No retry timer
//       lives here; a wake-up or the sweep rings it.
//   L4. Its backlog is bounded by what its conversation may leave uncommitted plus the bound after which no turn starts.
//   L5. To a channel that cannot recognise a repeat nothing is sent before the commit that says so (attack H7, N3).
//   L6. A place of its account is given back whatever becomes of the attempt. Waiting for one is no attempt.

import type { Channel, ProbeOutcome, SendOutcome } from "../src/channels/channel.ts";
import { checkedProbeOutcome, checkedSendOutcome } from "../src/channels/checked-outcome.ts";
import { encodeDeadReply } from "../src/codec/dead-reply.ts";
import { type ConversationId, type ConversationKey, idempotencyPrefix, replyKey } from "../src/domain/ids.ts";
import {
  afterAttempt,
  afterProbe,
  beforeAttempt,
  type DeadReplyReason,
  isExhausted,
  type LanePolicy,
  type LaneState,
  type LaneTrouble,
  type LaneVerdict,
  outOfTime,
  replyName,
  triedAfresh,
  troubleOf,
} from "../src/domain/lane.ts";
import type { Delivery } from "../src/domain/message.ts";
import { RECONNECT_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import { type Environment, pause } from "../src/environment.ts";
import { severityOf } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { WaitingEntry } from "../src/store/shard-store.ts";
import type { ActorRef } from "./actor-system.ts";
import type { AccountWaiter, AttemptEnd, ChannelAccount } from "./channel-accounts.ts";
import type { CommittableLane, OutboxEntry } from "./committer.ts";
import type { Wake } from "./conversation-actor.ts";
import type { LaneBacklog, LaneItem, LaneWrite, Marker } from "./lane-backlog.ts";

export interface LanePorts {
  readonly environment: Environment;
  readonly log: Log;
  readonly counters: Counters;
  ack(entry: OutboxEntry, index: number): void;
  /** There is something to commit; `soon` false: with the acknowledgements. */
  changed(lane: CommittableLane, soon: boolean): void;
  /** Room for so many dead letters more, which then come with the lane's write. */
  reserveDeadLetter(bytes: number, count: number): boolean;
  /** Resolves when what was handed over before is durable. */
  committed(): Promise<void>;
  readList(key: ConversationKey, after: number, count: number): Promise<readonly WaitingEntry[]>;
  /** Leaves a wake-up that rings this lane after `delayMs`. */
  wakeUpAfter(key: ConversationKey, delayMs: number): void;
  /** Leaves one wake-up for all that wait for this account. */
  wakeUpAccountAfter(account: ChannelAccount, delayMs: number): void;
  /** What it takes in memory changed by so many bytes. */
  resized(bytes: number): void;
  /** Its own code failed; it is stopped. */
  crashed(lane: LaneActor, error: unknown): void;
}

export interface LaneParties {
  readonly id: ConversationId;
  readonly channel: Channel;
  /** Null for a channel without bounds. */
  readonly account: ChannelAccount | null;
  readonly policy: LanePolicy;
}

/** Replies of a list that are read at once. */
const PAGE = 32;
/** Buried or moved by one commit, bytes; one reply more may be. */
const MOVED_BYTES_MAX = 1_048_576;
const NO_PLACE = "its account has no place for it";

export class LaneActor implements CommittableLane, AccountWaiter {
  readonly key: ConversationKey;
  readonly parties: LaneParties;
  readonly #ports: LanePorts;
  readonly #backlog: LaneBacklog;
  #abort: AbortController | null = null;
  ref: ActorRef<Wake> | null = null;
  #awake = false;
  #stopped = false;
  #sending = false;
  /** An attempt at the head is being written down, or under way. */
  #isTrying = false;
  /** The lane before it crashed: what that left to be written, or in a commit, comes first (L1). */
  #succeeds = false;
  #isTimed = false;
  #hasPlace = false;
  #waitsForPlace = false;
  /** Since when nothing of it moved, on the monotonic clock; null while it has nothing. */
  #stillSinceMs: number | null = null;
  /** The reply that an operator said is to be skipped. */
  #skips: string | null = null;
  #onSkipped: (() => void)[] = [];
  #onRoom: (() => void) | null = null;
  #bytesTold = 0;
  /** Of the life of the conversation whose reply was sent last. */
  #keyPrefix = { born: "", text: "" };

  constructor(parties: LaneParties, ports: LanePorts, backlog: LaneBacklog) {
    this.parties = parties;
    this.key = backlog.key;
    this.#ports = ports;
    this.#backlog = backlog;
  }

  get id(): ConversationId {
    return this.parties.id;
  }

  /** Undelivered. */
  get replies(): number {
    return this.#backlog.replies;
  }

  get bytes(): number {
    return this.#backlog.bytes;
  }

  /** On its list, unless it stands in the outbox. */
  get listed(): number {
    return this.#backlog.listed;
  }

  get state(): LaneState | null {
    return this.#backlog.state;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Nothing of it is lost when it leaves memory. */
  get isIdle(): boolean {
    return this.#backlog.replies === 0 && !this.#sending && !this.#awake && !this.#backlog.isStored;
  }

  /** Nothing of it is being sent, or could be now. */
  get isQuiet(): boolean {
    if (this.isIdle || this.#stopped) return true;
    if (this.#waitsForPlace) return this.parties.account?.isBlocked === true;
    return !this.#sending && this.#backlog.phase !== "flowing";
  }

  enqueue(reply: Parameters<LaneBacklog["add"]>[0], entry: OutboxEntry, index: number): void {
    this.#backlog.add(reply, entry, index);
    this.#tellSize();
    this.#standsStill();
    if (this.#backlog.phase === "flowing" || this.#backlog.phase === "closed") this.#wake();
  }

  /** Whether the reply goes to its list, with the commit that is being built. */
  takesToList(reply: Parameters<LaneBacklog["join"]>[0]): boolean {
    if (!this.#backlog.takesToList) return false;
    this.#backlog.join(reply);
    return true;
  }

  /** A wake-up: tries the head again if its time has come. Ringing at any other time changes nothing. */
  ring(): void {
    const { phase, trouble } = this.#backlog;
    if (phase !== "retrying" || this.#sending) return;
    const nowMs = this.#ports.environment.nowMs();
    if (this.#waitsForPlace && (trouble === null || !isExhausted(trouble, this.parties.policy, nowMs))) return;
    if ((trouble?.nextAtMs ?? 0) <= nowMs) this.#wake();
  }

  /** R1: what has not moved for so long goes to the list. */
  spillIfStill(spillMs: number): void {
    const nowMs = this.#ports.environment.monotonicMs();
    if (this.#stillSinceMs === null || nowMs - this.#stillSinceMs < spillMs) return;
    if (this.#backlog.inOutbox === 0 || this.#backlog.phase === "closed") return;
    if (this.#waitsForPlace && this.#backlog.phase === "flowing" && this.#backlog.trouble === null) this.#saysItWaits();
    this.#moveToList();
  }

  #moveToList(): void {
    const moved = this.#backlog.moveToList(MOVED_BYTES_MAX);
    this.#ports.changed(this, true);
    this.#tellSize();
    this.#ports.counters.movedReplies += moved;
  }

  /** Calls back once, when a reply has left. */
  onRoom(wake: () => void): void {
    this.#onRoom = wake;
  }

  /** An operator's: tries the named head afresh; a lane that is closed goes on. Resolves when that is durable. */
  async retry(at: string): Promise<void> {
    const { phase, trouble } = this.#backlog;
    if (phase === "flowing" || trouble === null || replyName(trouble) !== at) return;
    const nowMs = this.#ports.environment.nowMs();
    const afresh = triedAfresh(trouble, nowMs);
    const isUnclear = this.#isTrying && trouble.isUnclear === true; // what was written down of an attempt stays until it ended
    this.#become("retrying", isUnclear ? { ...afresh, isUnclear } : afresh);
    await this.#ports.committed();
    this.#wake();
  }

  /** An operator's: the named head becomes a dead letter. Resolves when that is durable. */
  async skip(at: string): Promise<void> {
    const { phase, trouble } = this.#backlog;
    if (phase !== "halted" || trouble === null || replyName(trouble) !== at) return;
    this.#skips = at;
    this.#wake();
    await new Promise<void>((resolve) => {
      this.#onSkipped.push(resolve);
    });
  }

  /** An operator's: a reply that is a dead letter goes to the end of the list, behind all that stands in the outbox. */
  async redrive(...args: Parameters<LaneBacklog["redrive"]>): Promise<void> {
    if (this.#backlog.phase === "closed") this.#backlog.become("flowing", null);
    while (this.#backlog.inOutbox > 0) {
      this.#moveToList();
      await this.#ports.committed(); // B1: what a commit under way brings comes first
    }
    this.#backlog.redrive(...args);
    this.#standsStill();
    this.#ports.changed(this, true);
  }

  stop(): void {
    this.#stopped = true;
    this.#abort?.abort();
    this.#waitNoMore();
    this.#giveBack("unused");
    this.ref?.stop();
    this.#ports.resized(-this.#bytesTold);
    this.#bytesTold = 0;
  }

  crashed(error: unknown): void {
    this.stop();
    this.#ports.crashed(this, error);
  }

  /** A lane that goes on where this one crashed. What was in flight is sent again: same key, same bytes (L2). */
  successor(): LaneActor {
    const next = new LaneActor(this.parties, this.#ports, this.#backlog);
    next.#onRoom = this.#onRoom;
    next.#onSkipped = this.#onSkipped;
    next.#skips = this.#skips;
    next.#succeeds = true;
    next.#standsStill();
    next.#tellSize();
    return next;
  }

  /** Begins to send, once it has its actor and its time has come. */
  resume(): void {
    if (this.#backlog.phase === "retrying") this.ring();
    else if (this.#backlog.replies > 0 || this.#succeeds) this.#wake();
  }

  /** Leaves a wake-up for the time of its next attempt, if only that is what it waits for. */
  leaveWakeUp(): void {
    const { phase, trouble } = this.#backlog;
    if (phase !== "retrying" || trouble === null || this.#sending || this.#awake || this.#waitsForPlace) return;
    const delayMs = trouble.nextAtMs - this.#ports.environment.nowMs();
    if (delayMs > 0) this.#ports.wakeUpAfter(this.key, delayMs);
  }

  takeWrite(): LaneWrite {
    return this.#backlog.takeWrite();
  }

  /** L6 */
  admitted(): void {
    this.#waitsForPlace = false;
    this.#hasPlace = true;
    if (!this.#wake()) this.#giveBack("unused");
  }

  async receive(_wake: Wake): Promise<void> {
    this.#awake = false;
    if (this.#waitsForPlace && this.#skips === null && !this.#mayGiveUp()) return; // what wakes it is its place
    this.#sending = true;
    this.#isTimed = false;
    try {
      if (this.#succeeds) await this.#settled();
      while (!this.#stopped) {
        const item = this.#plainHead();
        if (!(await (item === undefined ? this.#advance() : this.#attempt(item)))) break;
      }
    } finally {
      if (!this.#awake) this.#giveBack("unused"); // else it came just now, for the next time
      this.#sending = false;
      this.#isTrying = false;
    }
    if (this.#stopped) return;
    if (this.#backlog.phase !== "flowing" || this.#waitsForPlace) this.#backlog.forgetWindow(); // B3
    this.#tellSize();
    if (this.#backlog.replies > 0) this.#standsStill();
  }

  async #settled(): Promise<void> {
    this.#succeeds = false;
    if (this.#backlog.hasChanges) this.#ports.changed(this, true);
    await this.#ports.committed();
  }

  /** On the hot path: the head, with a place at its account, if it is simply to be sent. */
  #plainHead(): LaneItem | undefined {
    const { account, policy } = this.parties;
    if (policy.onAmbiguous !== "retry" || this.#skips !== null) return undefined;
    const item = this.#backlog.plainHead;
    if (item === undefined || account === null || this.#hasPlace) return item;
    return this.#enter(account) ? item : undefined;
  }

  /** One step of the reply at the head. False if the lane stands still. */
  async #advance(): Promise<boolean> {
    const { account } = this.parties;
    const { phase } = this.#backlog;
    if (this.#backlog.replies === 0) return await this.#rest();
    if (phase === "halted" && this.#skips === null) return false;
    if (phase === "retrying" && this.#skips === null) {
      if (this.#mayGiveUp()) return await this.#givenUp();
      const { trouble } = this.#backlog;
      if (trouble !== null && trouble.nextAtMs > this.#ports.environment.nowMs()) return this.#comesTooEarly(trouble);
    }
    const sends = phase !== "closed" && this.#skips === null;
    if (sends && account !== null && !this.#hasPlace && !this.#enter(account)) return false;
    const item = await this.#readHead();
    if (item === undefined || this.#stopped) return !this.#stopped;
    if (this.#skips !== null) return await this.#skipped(item);
    if (phase === "closed") return await this.#bury("gone", this.#troubleOf(item));
    const before = beforeAttempt(
      this.#troubleOf(item),
      item.extra?.expiresAtMs,
      this.parties.policy,
      this.#ports.environment.nowMs(),
    );
    switch (before.kind) {
      case "send":
        return await this.#attempt(item);
      case "probe":
        return await this.#probe(item);
      default:
        this.#giveBack("unused");
        return await this.#judged(item, before);
    }
  }

  async #attempt(item: LaneItem): Promise<boolean> {
    const { environment, counters } = this.#ports;
    const { policy } = this.parties;
    this.#isTrying = true;
    if (policy.onAmbiguous !== "retry") {
      const before = this.#troubleOf(item);
      this.#become(this.#backlog.phase, { ...before, isUnclear: true }); // L5
      await this.#ports.committed();
      if (this.#stopped) return false;
      const still = beforeAttempt(before, item.extra?.expiresAtMs, policy, environment.nowMs());
      if (still.kind !== "send" && still.kind !== "probe") return await this.#notSent(item, still); // N4
    }
    const startMs = environment.monotonicMs();
    this.#stillSinceMs = startMs;
    const outcome = await this.#send(item);
    if (this.#stopped) return false;
    this.#isTrying = false;
    this.#giveBack(outcome.kind);
    if (!this.#isTimed) counters.timings.delivery.observe(environment.monotonicMs() - startMs);
    this.#isTimed = true; // one of a wake-up is enough
    if (outcome.kind === "delivered") return this.#delivered(item);
    counters.failedDeliveries += 1;
    const verdict = afterAttempt(this.#troubleOf(item), outcome, policy, environment.nowMs(), environment.random());
    return await this.#judged(item, verdict);
  }

  /** Its time was over when it could have gone out. */
  async #notSent(item: LaneItem, verdict: LaneVerdict): Promise<boolean> {
    this.#isTrying = false;
    this.#giveBack("unused");
    return await this.#judged(item, verdict);
  }

  async #probe(item: LaneItem): Promise<boolean> {
    const { environment } = this.#ports;
    const outcome = await this.#askedAbout(item);
    if (this.#stopped) return false;
    this.#giveBack(outcome.kind === "unknown" ? "ambiguous" : "answered");
    const trouble = this.#troubleOf(item);
    const verdict = afterProbe(trouble, outcome, this.parties.policy, environment.nowMs(), environment.random());
    return await this.#judged(item, verdict);
  }

  async #judged(item: LaneItem | undefined, verdict: LaneVerdict): Promise<boolean> {
    if (item === undefined || this.#stopped) return false;
    switch (verdict.kind) {
      case "delivered":
        return await this.#delivered(item);
      case "retry":
        return await this.#retryLater(verdict.trouble);
      case "halt":
        return this.#halt(verdict.trouble);
      case "bury":
        if (verdict.closes) this.#become("closed", verdict.trouble);
        return await this.#bury(verdict.reason, verdict.trouble);
    }
  }

  /** On the hot path: a lane that flows and has no list costs an acknowledgement and nothing else. */
  #delivered(item: LaneItem): boolean | Promise<boolean> {
    this.#ports.counters.delivered += 1;
    this.#left(item, this.#backlog.leave(item));
    if (this.#backlog.phase !== "flowing" || this.#backlog.trouble !== null) this.#become("flowing", null);
    return this.parties.channel.ackFirst === true ? this.#afterCommit() : true; // L5
  }

  #left(item: LaneItem, place: ReturnType<LaneBacklog["leave"]>): void {
    if (place !== null) this.#ports.ack(place.entry, place.index);
    else this.#ports.changed(this, false);
    this.#ports.resized(-item.body.length);
    this.#bytesTold -= item.body.length;
    this.#roomCame();
  }

  /** L3: first durable, then a wake-up; none of its own while its account is blocked, which has one for all. */
  async #retryLater(trouble: LaneTrouble): Promise<boolean> {
    const { account } = this.parties;
    const delayMs = trouble.nextAtMs - this.#ports.environment.nowMs();
    this.#become("retrying", trouble);
    if (delayMs <= 0) return await this.#afterCommit();
    this.#ports.log.warn(
      { ...this.id, outSeq: trouble.outSeq, attempt: trouble.attempts, retryInMs: delayMs, reason: trouble.reason },
      "delivery failed; its lane waits in order and tries again",
    );
    await this.#ports.committed();
    if (this.#stopped) return false;
    if (account === null || !account.isBlocked) this.#ports.wakeUpAfter(this.key, delayMs);
    else this.#waitFor(account);
    return false;
  }

  /** Its account has a place, and it would be an attempt before its time. */
  #comesTooEarly(trouble: LaneTrouble): false {
    if (this.#hasPlace) {
      this.#giveBack("unused");
      this.#ports.wakeUpAfter(this.key, trouble.nextAtMs - this.#ports.environment.nowMs());
    }
    return false;
  }

  #halt(trouble: LaneTrouble): false {
    this.#waitNoMore();
    this.#become("halted", trouble);
    this.#ports.log.error(
      { ...this.id, outSeq: trouble.outSeq, halt: trouble.halt, reason: trouble.reason },
      "a reply cannot be delivered; its lane is halted, nothing is sent past it and nothing is lost",
    );
    return false;
  }

  /** The reply at the head, all of its parts that are left, becomes dead letters; the lane goes on only after the commit that says so (L1). */
  async #bury(reason: DeadReplyReason, trouble: LaneTrouble): Promise<boolean> {
    await this.#readWholeReply();
    for (let bytes = 0; !this.#stopped && bytes < MOVED_BYTES_MAX && this.#backlog.hasWholeReply; ) {
      const reply = this.#backlog.headReply;
      if (reply.length === 0) break;
      if (!this.#buryReply(reply, reason, trouble)) {
        const known = troubleOf(reply[0]!, trouble, this.#ports.environment.nowMs());
        return this.#halt({ ...known, reason: trouble.reason, halt: "full" });
      }
      bytes += reply.reduce((sum, { body }) => sum + body.length, 0);
      if (this.#backlog.phase !== "closed") break;
    }
    if (this.#stopped) return false;
    return await this.#afterCommit();
  }

  /** Whole, or not at all if there is no room for so many dead letters. Where it may crash, nothing is half done. */
  #buryReply(reply: readonly LaneItem[], reason: DeadReplyReason, trouble: LaneTrouble): boolean {
    const { counters, environment, log } = this.#ports;
    const atMs = environment.nowMs();
    const letters = reply.map((item) => {
      const isMeant = replyName(item) === replyName(trouble);
      const attempts = isMeant ? trouble.attempts : 0;
      return encodeDeadReply({ id: this.id, item, reason, error: trouble.reason, attempts, atMs });
    });
    const lettersBytes = letters.reduce((sum, { length }) => sum + length, 0);
    if (!this.#ports.reserveDeadLetter(lettersBytes, letters.length)) return false;
    const marker = this.#markerOf(reply[0]!, reason);
    for (const [i, item] of reply.entries()) this.#backlog.bury(item, letters[i]!, i === 0 ? marker : null);
    if (this.#backlog.phase !== "closed") this.#backlog.become("flowing", null);
    this.#ports.changed(this, true);
    this.#tellSize();
    this.#roomCame();
    counters.deadLetters += letters.length;
    log.warn({ ...this.id, outSeq: reply[0]!.outSeq, reason, error: trouble.reason }, "a reply became a dead letter");
    return true;
  }

  /** One for a reply, however many parts it has. */
  #markerOf({ born, outSeq, extra }: LaneItem, reason: DeadReplyReason): Marker | null {
    if (this.parties.policy.ordering === "strict" || extra?.isOfNotice === true) return null;
    return { id: `delivery-failed:${replyName({ born, outSeq })}`, deliveryFailed: { outSeq, reason } };
  }

  async #skipped(item: LaneItem): Promise<boolean> {
    const isMeant = this.#skips === replyName(item);
    const goesOn = isMeant ? await this.#bury("skipped", this.#troubleOf(item)) : true;
    if (!this.#stopped) this.#skipIsDone();
    return goesOn;
  }

  #skipIsDone(): void {
    this.#skips = null;
    for (const tell of this.#onSkipped.splice(0)) tell();
  }

  /** Nothing is left: what is stored of it says so before it may be forgotten. */
  async #rest(): Promise<boolean> {
    this.#giveBack("unused");
    this.#skipIsDone();
    if (this.#backlog.phase === "retrying" || (this.#backlog.phase === "flowing" && this.#backlog.isStored)) {
      this.#backlog.become("flowing", null);
      this.#ports.changed(this, false);
      await this.#ports.committed();
    }
    this.#stillSinceMs = null;
    return !this.#stopped && this.#backlog.replies > 0 && this.#backlog.phase !== "halted";
  }

  #mayGiveUp(): boolean {
    const { trouble } = this.#backlog;
    const { account, policy } = this.parties;
    if (trouble === null || account === null || !account.isBlocked) return false;
    return isExhausted(trouble, policy, this.#ports.environment.nowMs());
  }

  /** Its account is blocked, and there is no time for another attempt. */
  async #givenUp(): Promise<boolean> {
    const item = await this.#readHead();
    return await this.#judged(item, outOfTime(this.#backlog.trouble!, this.parties.policy));
  }

  #enter(account: ChannelAccount): boolean {
    if (this.#waitsForPlace) return false;
    if (account.tryEnter()) this.#hasPlace = true;
    else this.#waitFor(account);
    return this.#hasPlace;
  }

  #waitFor(account: ChannelAccount): void {
    if (this.#waitsForPlace || this.#hasPlace) return;
    this.#waitsForPlace = true;
    account.wait(this);
  }

  #waitNoMore(): void {
    if (this.#waitsForPlace) this.parties.account?.cancel(this);
    this.#waitsForPlace = false;
  }

  #giveBack(ended: AttemptEnd): void {
    if (!this.#hasPlace) return;
    this.#hasPlace = false;
    const { account } = this.parties;
    const openMs = account?.leave(ended) ?? null;
    if (openMs === null) return;
    this.#ports.log.warn(
      { channel: account!.name, openMs },
      "too many deliveries failed in a row: its lanes wait, and one of them will probe; nothing is lost",
    );
    this.#ports.wakeUpAccountAfter(account!, openMs);
  }

  /** It flows, but for its account: from now on that is durable. */
  #saysItWaits(): void {
    const head = this.#backlog.head;
    if (head === undefined) return;
    this.#backlog.become("retrying", { ...this.#troubleOf(head), reason: NO_PLACE });
  }

  #become(...args: Parameters<LaneBacklog["become"]>): void {
    this.#backlog.become(...args);
    this.#ports.changed(this, true);
  }

  /** Undefined if there is none, or the lane was stopped. */
  async #readHead(): Promise<LaneItem | undefined> {
    if (this.#backlog.mustRead) await this.#readPage();
    return this.#backlog.head;
  }

  async #readWholeReply(): Promise<void> {
    while (!this.#backlog.hasWholeReply && !this.#stopped) await this.#readPage();
  }

  /** What joined the list is there once it is committed. A store that is away is waited for. */
  async #readPage(): Promise<void> {
    const { environment } = this.#ports;
    await this.#ports.committed();
    for (let attempt = 1; !this.#stopped; attempt += 1) {
      try {
        const page = await this.#ports.readList(this.key, this.#backlog.readAfter, PAGE);
        if (this.#stopped) return;
        if (page.length === 0) throw new TypeError("the list of a lane holds less than its state says");
        this.#backlog.read(page);
        this.#tellSize();
        return;
      } catch (error) {
        if (severityOf(error) !== "retry") throw error;
        await pause(environment, retryDelayMs(RECONNECT_BACKOFF, attempt, environment.random()));
      }
    }
  }

  async #afterCommit(): Promise<boolean> {
    await this.#ports.committed();
    return !this.#stopped;
  }

  /** A channel that breaks its word and throws has made an attempt of unknown outcome (attack H5). */
  async #send(item: LaneItem): Promise<SendOutcome> {
    try {
      return checkedSendOutcome(await this.parties.channel.send(this.#delivery(item), this.#signal));
    } catch (error) {
      return { kind: "ambiguous", reason: thrownBy("the channel", error) };
    }
  }

  async #askedAbout(item: LaneItem): Promise<ProbeOutcome> {
    const { channel } = this.parties;
    try {
      return checkedProbeOutcome(await channel.probe?.(this.#delivery(item), this.#signal));
    } catch (error) {
      return { kind: "unknown", reason: thrownBy("the channel's probe", error) };
    }
  }

  /** L2 */
  #delivery(item: LaneItem): Delivery {
    const { born, outSeq, part, body, extra, place } = item;
    return {
      to: this.id,
      born,
      outSeq,
      idempotencyKey: replyKey(this.#keyPrefixOf(born), outSeq, part),
      body,
      ...(place.kind === "outbox" && { place: place.entry.id }),
      ...(extra?.isRedriven === true && { redriven: true }),
    };
  }

  get #signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  #keyPrefixOf(born: string): string {
    if (this.#keyPrefix.born !== born) this.#keyPrefix = { born, text: idempotencyPrefix(this.id, born) };
    return this.#keyPrefix.text;
  }

  #troubleOf(item: LaneItem): LaneTrouble {
    return troubleOf(item, this.#backlog.trouble, this.#ports.environment.nowMs());
  }

  /** Whether it was woken, or is awake. */
  #wake(): boolean {
    if (this.#stopped || this.ref === null) return false;
    if (this.#awake) return true;
    this.#awake = true;
    this.ref.tell("wake");
    return true;
  }

  #standsStill(): void {
    this.#stillSinceMs ??= this.#ports.environment.monotonicMs();
  }

  /** Of a stopped lane another one tells. */
  #tellSize(): void {
    if (this.#stopped) return;
    const bytes = this.#backlog.memoryBytes;
    if (bytes !== this.#bytesTold) this.#ports.resized(bytes - this.#bytesTold);
    this.#bytesTold = bytes;
  }

  #roomCame(): void {
    const wake = this.#onRoom;
    this.#onRoom = null;
    wake?.();
  }
}

const thrownBy = (who: string, error: unknown): string =>
  `${who} threw ${error instanceof Error ? error.name : typeof error}`;
