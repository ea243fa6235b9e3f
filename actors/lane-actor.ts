// Lane actor: sends the replies of one conversation, one at a time, in order. The outbox is the truth; what is here is what
// of it is undelivered.
//
// Invariants
//   L1. One attempt in flight; the next reply goes out only after this one's 2xx, or after the commit that says what became
//       of it (attack B11).
//   L2. Every attempt of a reply sends the bytes and the key that its commit stored (P4, attack B14).
//   L3. A lane that does not flow is durable: its state is in `lanes` before anything waits for a wake-up. No retry timer
//       lives here; a wake-up or the sweep rings it.
//   L4. Its backlog is bounded by what its conversation may leave uncommitted plus the bound after which no turn starts.

import type { Channel, SendOutcome } from "../src/channels/channel.ts";
import { encodeLaneState, type LaneState } from "../src/codec/lane-codec.ts";
import { Fifo } from "../src/domain/fifo.ts";
import { type ConversationId, type ConversationKey, idempotencyPrefix } from "../src/domain/ids.ts";
import { DELIVERY_BACKOFF, retryDelayMs } from "../src/domain/retry-policy.ts";
import type { Environment } from "../src/environment.ts";
import type { Log } from "../src/log.ts";
import type { Counters } from "../src/metrics.ts";
import type { ActorRef } from "./actor-system.ts";
import type { OutboxEntry } from "./committer.ts";
import type { Wake } from "./conversation-actor.ts";

export interface LaneItem {
  readonly entry: OutboxEntry;
  readonly index: number;
  readonly born: string;
  readonly outSeq: number;
  readonly body: Uint8Array;
}

export interface LanePorts {
  readonly environment: Environment;
  readonly log: Log;
  readonly counters: Counters;
  ack(entry: OutboxEntry, index: number): void;
  setLane(key: ConversationKey, state: Uint8Array | null): void;
  /** False if there may be no more of them. */
  addDeadLetter(letter: Uint8Array): boolean;
  /** Resolves when what was handed over before is durable. */
  committed(): Promise<void>;
  /** Leaves a wake-up that rings this lane after `delayMs`. */
  wakeUpAfter(key: ConversationKey, delayMs: number): void;
  /** A reply left the backlog. */
  onLeft(bytes: number): void;
  /** Its own code failed; it is stopped. */
  crashed(lane: LaneActor, error: unknown): void;
}

export class LaneActor {
  readonly key: ConversationKey;
  readonly id: ConversationId;
  readonly #ordering: "strict" | "available";
  readonly #channel: Channel;
  readonly #ports: LanePorts;
  readonly #backlog = new Fifo<LaneItem>();
  readonly #abort = new AbortController();
  ref: ActorRef<Wake> | null = null;
  #awake = false;
  #stopped = false;
  #sending = false;
  #bytes = 0;
  /** null while it flows. */
  #state: LaneState | null;
  #onRoom: (() => void) | null = null;
  /** Of the life of the conversation whose reply was sent last. */
  #keyPrefix = { born: "", text: "" };

  constructor(
    id: ConversationId,
    key: ConversationKey,
    ordering: "strict" | "available",
    channel: Channel,
    ports: LanePorts,
    state: LaneState | null,
  ) {
    this.id = id;
    this.key = key;
    this.#ordering = ordering;
    this.#channel = channel;
    this.#ports = ports;
    this.#state = state;
  }

  /** Undelivered. */
  get replies(): number {
    return this.#backlog.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get state(): LaneState | null {
    return this.#state;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Nothing of it is lost when it leaves memory. */
  get isIdle(): boolean {
    return this.#backlog.length === 0 && !this.#sending && !this.#awake && this.#state === null;
  }

  enqueue(item: LaneItem): void {
    this.#backlog.push(item);
    this.#bytes += item.body.length;
    if (this.#state === null || this.#state.state === "closed") this.#wake();
  }

  /** A wake-up: tries the head again if its time has come. Ringing at any other time changes nothing. */
  ring(): void {
    if (this.#state?.state === "retrying" && this.#state.nextAtMs <= this.#ports.environment.nowMs()) this.#wake();
  }

  /** Calls back once, when a reply has left. */
  onRoom(wake: () => void): void {
    this.#onRoom = wake;
  }

  stop(): void {
    this.#stopped = true;
    this.#abort.abort();
    this.ref?.stop();
  }

  crashed(error: unknown): void {
    this.stop();
    this.#ports.crashed(this, error);
  }

  /** A lane that goes on where this one crashed. What was in flight is sent again: same key, same bytes (L2). */
  successor(): LaneActor {
    const next = new LaneActor(this.id, this.key, this.#ordering, this.#channel, this.#ports, this.#state);
    for (const item of this.#backlog.drain()) next.enqueue(item);
    next.#onRoom = this.#onRoom;
    return next;
  }

  /** Begins to send, once it has its actor and its time has come. */
  resume(): void {
    if (this.#state?.state === "retrying") this.ring();
    else if (this.#backlog.length > 0) this.#wake();
  }

  async receive(_wake: Wake): Promise<void> {
    this.#awake = false;
    this.#sending = true;
    let startMs: number | null = this.#ports.environment.monotonicMs();
    for (let item = this.#backlog.peek(); item !== undefined && !this.#stopped; item = this.#backlog.peek()) {
      if (this.#state?.state === "halted") break;
      if (this.#state?.state === "closed") {
        if (!this.#bury(item, this.#state.reason)) break;
        continue;
      }
      const outcome = await this.#attempt(item); // L1
      if (startMs !== null)
        this.#ports.counters.timings.delivery.observe(this.#ports.environment.monotonicMs() - startMs);
      startMs = null; // one of a wake-up is enough
      if (this.#stopped) break;
      if (outcome.kind === "delivered") this.#delivered(item);
      else if (!(await this.#notDelivered(item, outcome))) break;
    }
    this.#sending = false;
    if (this.#backlog.length === 0 && this.#state?.state === "retrying") this.#setState(null);
  }

  #wake(): void {
    if (this.#awake || this.#stopped || this.ref === null) return;
    this.#awake = true;
    this.ref.tell("wake");
  }

  #delivered(item: LaneItem): void {
    this.#ports.counters.delivered += 1;
    this.#leave(item);
    if (this.#state !== null) this.#setState(null);
  }

  /** Says what becomes of the head. True if the lane goes on. */
  #notDelivered(item: LaneItem, outcome: Exclude<SendOutcome, { kind: "delivered" }>): Promise<boolean> {
    this.#ports.counters.failedDeliveries += 1;
    switch (outcome.kind) {
      case "retryable":
      case "ambiguous":
        return this.#retryLater(item, outcome);
      case "gone":
        this.#setState({ ...this.#failed(item, outcome.reason), state: "closed" });
        return this.#buryAndWait(item, outcome.reason);
      case "terminal":
        if (this.#ordering === "strict") return Promise.resolve(this.#halt(item, outcome.reason));
        if (this.#state !== null) this.#setState(null);
        return this.#buryAndWait(item, outcome.reason);
    }
  }

  /** A channel that breaks its word and throws has made an attempt of unknown outcome (attack H5). */
  async #attempt(item: LaneItem): Promise<SendOutcome> {
    try {
      return await this.#channel.send(this.#delivery(item), this.#abort.signal);
    } catch (error) {
      return { kind: "ambiguous", reason: `the channel threw ${error instanceof Error ? error.name : typeof error}` };
    }
  }

  /** L2 */
  #delivery(item: LaneItem) {
    return {
      to: this.id,
      born: item.born,
      outSeq: item.outSeq,
      idempotencyKey: this.#keyPrefixOf(item.born) + item.outSeq,
      body: item.body,
      place: item.entry.id,
    };
  }

  #keyPrefixOf(born: string): string {
    if (this.#keyPrefix.born !== born) this.#keyPrefix = { born, text: idempotencyPrefix(this.id, born) };
    return this.#keyPrefix.text;
  }

  #leave(item: LaneItem): void {
    this.#backlog.shift();
    this.#bytes -= item.body.length;
    this.#ports.ack(item.entry, item.index);
    this.#ports.onLeft(item.body.length);
    const wake = this.#onRoom;
    this.#onRoom = null;
    wake?.();
  }

  #failed(item: LaneItem, reason: string): Omit<LaneState, "state"> {
    const nowMs = this.#ports.environment.nowMs();
    const before = this.#state?.outSeq === item.outSeq ? this.#state : null;
    const attempts = (before?.attempts ?? 0) + 1;
    return {
      born: item.born,
      outSeq: item.outSeq,
      attempts,
      firstFailedAtMs: before?.firstFailedAtMs ?? nowMs,
      nextAtMs: nowMs,
      reason,
    };
  }

  /** L3: first durable, then a wake-up. */
  async #retryLater(
    item: LaneItem,
    outcome: Extract<SendOutcome, { kind: "retryable" | "ambiguous" }>,
  ): Promise<false> {
    const failed = this.#failed(item, outcome.reason);
    const asked = outcome.kind === "retryable" ? (outcome.retryAfterMs ?? 0) : 0;
    const delayMs = Math.max(asked, retryDelayMs(DELIVERY_BACKOFF, failed.attempts, this.#ports.environment.random()));
    this.#setState({ ...failed, state: "retrying", nextAtMs: failed.nextAtMs + delayMs });
    this.#ports.log.warn(
      { ...this.id, outSeq: item.outSeq, attempt: failed.attempts, retryInMs: delayMs, reason: outcome.reason },
      "delivery failed; its lane waits in order and tries again",
    );
    await this.#ports.committed();
    if (!this.#stopped) this.#ports.wakeUpAfter(this.key, delayMs);
    return false;
  }

  #halt(item: LaneItem, reason: string): false {
    this.#setState({ ...this.#failed(item, reason), state: "halted" });
    this.#ports.log.error(
      { ...this.id, outSeq: item.outSeq, reason },
      "delivery refused for good; its lane is halted, nothing is sent past it and nothing is lost",
    );
    return false;
  }

  /** The head becomes a dead letter; the lane goes on only after the commit that says so (L1). */
  async #buryAndWait(item: LaneItem, reason: string): Promise<boolean> {
    const isBuried = this.#bury(item, reason);
    await this.#ports.committed();
    return isBuried && !this.#stopped;
  }

  /** False if there is no room for one more dead letter: then the lane is halted. */
  #bury(item: LaneItem, reason: string): boolean {
    if (!this.#ports.addDeadLetter(deadReply(this.id, item, reason, this.#ports.environment.nowMs()))) {
      this.#halt(item, `${reason}; no room for another dead letter`);
      return false;
    }
    this.#ports.counters.deadLetters += 1;
    this.#leave(item);
    this.#ports.log.warn({ ...this.id, outSeq: item.outSeq, reason }, "reply became a dead letter");
    return true;
  }

  #setState(state: LaneState | null): void {
    this.#state = state;
    this.#ports.setLane(this.key, state === null ? null : encodeLaneState(state));
  }
}

function deadReply(id: ConversationId, item: LaneItem, reason: string, atMs: number): Uint8Array {
  const body = Buffer.from(item.body).toString("base64");
  return Buffer.from(
    JSON.stringify({ direction: "out", ...id, born: item.born, outSeq: item.outSeq, reason, atMs, body }),
  );
}
