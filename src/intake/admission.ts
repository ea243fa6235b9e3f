// Admission: makes messages durable. Gathers what arrives while an append flies and appends it as one entry.
//
// Invariants
//   M1. `admitted` is said only after Redis answered, that is after fsync; a lost reply is an unknown outcome and is said as
//       `unavailable`: the sender repeats, dedupe makes that harmless.
//   M2. At most one append of a shard flies, so messages of one conversation are appended in the order of arrival, and those
//       of one request in their order.
//   M3. An append is never sent twice from here: a second one could land after the repeat of its sender (attack A11).
//   M4. What waits in memory is bounded by `admissionBytesMax` per shard; over it the answer is `unavailable` at once.
//   M5. While conversations of a shard are at the bound of their waiting list, or nobody knows, each append names those that it
//       brings messages for. One of them is full: nothing was written, the requests that bring for it are told so by name, and
//       the others go again at once, in their order. A full conversation costs its neighbours one question more.

import type { AdmitOutcome } from "../channels/channel.ts";
import { InboxBatch, inboxBytesMax } from "../codec/inbox-codec.ts";
import { Fifo } from "../domain/fifo.ts";
import { type ConversationKey, conversationKey, shardOf } from "../domain/ids.ts";
import type { Inbound } from "../domain/message.ts";
import type { Environment } from "../environment.ts";
import { ColloquyError } from "../errors.ts";
import { describeError, type Log } from "../log.ts";
import type { Counters } from "../metrics.ts";
import type { ShardStore } from "../store/shard-store.ts";

export interface AdmissionOptions {
  readonly environment: Environment;
  readonly log: Log;
  readonly counters: Counters;
  readonly shards: number;
  readonly store: (shard: number) => Pick<ShardStore, "append">;
  readonly entryBytesMax: number;
  readonly inboxBytesMax: number;
  readonly admissionBytesMax: number;
  /** Whether Redis is too full to take more (P7). */
  readonly memoryIsFull: () => boolean;
  /** An error of this code, not of the store's; the senders were told to repeat. */
  readonly failed: (error: unknown) => void;
  /** Why one shard takes nothing, while others may. */
  readonly shardClosedBecause: (shard: number) => string | undefined;
}

type Refusal = Extract<AdmitOutcome, { kind: "unavailable" | "full" }>;
type Verdict = { readonly kind: "durable" } | Refusal;
/** What an append said: a verdict on all of it, or which conversations keep it from being one. */
type Appended = Verdict | { readonly kind: "kept-out"; readonly full: ReadonlySet<ConversationKey> };

/** The messages of one request that go to one shard, in their order. */
interface Part {
  readonly keys: ConversationKey[];
  readonly messages: Inbound[];
  bytes: number;
  settle: (verdict: Verdict) => void;
}

const DURABLE: Verdict = { kind: "durable" };
const RETRY_SOON_MS = 1_000;

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #queues: ShardQueue[];
  #closedBecause: string | null = "starting";

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#queues = Array.from({ length: options.shards }, (_, shard) => new ShardQueue(options, shard));
  }

  open(): void {
    this.#closedBecause = null;
  }

  close(reason: string): void {
    this.#closedBecause = reason;
  }

  admit = async (messages: readonly Inbound[]): Promise<AdmitOutcome> => {
    const { counters, environment } = this.#options;
    const startMs = environment.monotonicMs();
    const outcome = await this.#admit(messages);
    if (outcome.kind === "admitted") {
      counters.admitted += outcome.count;
      counters.timings.admission.observe(environment.monotonicMs() - startMs);
    } else counters.refused += messages.length;
    return outcome;
  };

  /** Resolves when nothing waits and nothing flies. */
  async drained(): Promise<void> {
    await Promise.all(this.#queues.map((queue) => queue.drained()));
  }

  async #admit(messages: readonly Inbound[]): Promise<AdmitOutcome> {
    if (this.#closedBecause !== null) return unavailable(this.#closedBecause);
    if (this.#options.memoryIsFull()) return unavailable("Redis memory is nearly full");
    const parts = this.#split(messages);
    const verdicts = parts.length === 1 ? [await parts[0]!] : await Promise.all(parts);
    return worst(verdicts) ?? { kind: "admitted", count: messages.length };
  }

  #split(messages: readonly Inbound[]): Promise<Verdict>[] {
    const parts = new Map<number, Part>();
    for (const message of messages) {
      const key = conversationKey(message.to);
      const shard = shardOf(key, this.#options.shards);
      const part = parts.get(shard) ?? { keys: [], messages: [], bytes: 0, settle: () => undefined };
      parts.set(shard, part);
      part.keys.push(key);
      part.messages.push(message);
      part.bytes += inboxBytesMax(key, message);
    }
    return Array.from(parts, ([shard, part]) => this.#queues[shard]!.add(part));
  }
}

class ShardQueue {
  readonly #options: AdmissionOptions;
  readonly #store: Pick<ShardStore, "append">;
  readonly #shard: number;
  readonly #parts = new Fifo<Part>();
  #bytes = 0;
  #flying = false;
  /** Conversations at their bound, as the last append said; null before it. */
  #full: number | null = null;
  #idle: (() => void)[] = [];

  constructor(options: AdmissionOptions, shard: number) {
    this.#options = options;
    this.#shard = shard;
    this.#store = options.store(shard);
  }

  add(part: Part): Promise<Verdict> {
    const closed = this.#options.shardClosedBecause(this.#shard);
    if (closed !== undefined) return Promise.resolve(unavailable(closed));
    if (this.#bytes + part.bytes > this.#options.admissionBytesMax)
      return Promise.resolve(unavailable("too many messages are waiting to be stored")); // M4
    return new Promise((resolve) => {
      part.settle = resolve;
      this.#bytes += part.bytes;
      this.#parts.push(part);
      if (this.#flying) return;
      this.#flying = true;
      this.#options.environment.soon(() => void this.#fly());
    });
  }

  drained(): Promise<void> {
    return this.#flying ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  /** M2: the loop is the one place that appends. */
  async #fly(): Promise<void> {
    while (this.#parts.length > 0) {
      let parts = this.#takeEntry();
      while (parts.length > 0) parts = await this.#appendOrRefuse(parts);
    }
    this.#flying = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Whole parts up to the size of an entry. One part alone may be larger: a request is bounded by itself. */
  #takeEntry(): Part[] {
    const parts: Part[] = [];
    let bytes = 0;
    for (let part = this.#parts.peek(); part !== undefined; part = this.#parts.peek()) {
      if (parts.length > 0 && bytes + part.bytes > this.#options.entryBytesMax) break;
      this.#parts.shift();
      bytes += part.bytes;
      parts.push(part);
    }
    this.#bytes -= bytes;
    return parts;
  }

  /** Settles the parts with what became of them; those that were neither written nor refused are given back (M5). */
  async #appendOrRefuse(parts: readonly Part[]): Promise<Part[]> {
    let verdict: Appended;
    try {
      verdict = await this.#append(parts);
    } catch (error) {
      if (!(error instanceof ColloquyError)) this.#options.failed(error);
      this.#options.log.warn(
        { shard: this.#shard, error: describeError(error) },
        "append unanswered or refused; the senders are told to repeat",
      ); // M1, M3
      verdict = unavailable("the store did not confirm the message");
    }
    if (verdict.kind === "kept-out") return this.#refuseFull(parts, verdict.full);
    for (const part of parts) part.settle(verdict);
    return [];
  }

  async #append(parts: readonly Part[]): Promise<Appended> {
    for (const entry of this.#encode(parts)) {
      const conversations = this.#full === 0 ? undefined : [...new Set(parts.flatMap(({ keys }) => keys))];
      const reply = await this.#store.append(entry, this.#options.inboxBytesMax, conversations && { conversations });
      switch (reply.kind) {
        case "appended":
          this.#full = reply.full;
          break;
        case "full":
          return { kind: "kept-out", full: new Set(reply.conversations) };
        case "over":
          return unavailable("the shard's inbox is full");
        case "taken":
          throw new Error("an append without a place was answered as taken");
      }
    }
    return DURABLE;
  }

  #refuseFull(parts: readonly Part[], full: ReadonlySet<ConversationKey>): Part[] {
    const rest: Part[] = [];
    for (const part of parts) {
      const first = part.keys.findIndex((key) => full.has(key));
      if (first === -1) rest.push(part);
      else part.settle(fullOf(part.messages[first]!));
    }
    if (rest.length < parts.length) return rest;
    this.#options.failed(new Error("an append was refused for conversations that it did not name"));
    for (const part of parts) part.settle(unavailable("the store did not confirm the message"));
    return [];
  }

  /** One entry, or several for a part that is larger than an entry may be. */
  #encode(parts: readonly Part[]): Buffer[] {
    const entries: Buffer[] = [];
    let batch = new InboxBatch();
    for (const part of parts) {
      for (let i = 0; i < part.messages.length; i += 1) {
        const message = part.messages[i]!;
        const key = part.keys[i]!;
        if (batch.count > 0 && batch.bytes + inboxBytesMax(key, message) > this.#options.entryBytesMax) {
          entries.push(batch.finish());
          batch = new InboxBatch();
        }
        batch.add(key, message);
      }
    }
    if (batch.count > 0) entries.push(batch.finish());
    return entries;
  }
}

/** What its sender can do something about comes first: a full conversation can be left out. */
function worst(verdicts: readonly Verdict[]): Refusal | undefined {
  const refusals = verdicts.filter((verdict): verdict is Refusal => verdict.kind !== "durable");
  return refusals.find(({ kind }) => kind === "full") ?? refusals[0];
}

function fullOf({ to }: Inbound): Refusal {
  return { kind: "full", conversation: to.conversation, retryAfterMs: RETRY_SOON_MS };
}

function unavailable(reason: string): Extract<AdmitOutcome, { kind: "unavailable" }> {
  return { kind: "unavailable", reason, retryAfterMs: RETRY_SOON_MS };
}
