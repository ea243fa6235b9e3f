// Sample history: what senders and sink would see of a runtime that keeps its promise, with everything that is allowed to
// happen: concurrent requests, lost answers, repeats, failed deliveries, deliveries made again after a crash.

import { createHash } from "node:crypto";
import { FOLD_START, type Fold, fold } from "../system/support/fold.ts";
import type { DeliveryAttempt, History, MessageName, RequestAttempt, SentMessage } from "../system/support/history.ts";
import { type Random, seededRandom } from "../system/support/random.ts";

export function sampleHistory(seed: number, size = { conversations: 4, requests: 40 }): History {
  return new Sample(seededRandom(seed, "sample")).run(size.conversations, size.requests);
}

export function bodyHashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** A body, and with it the hash, of another text. */
export function withText(delivery: DeliveryAttempt, text: string): DeliveryAttempt {
  return { ...delivery, text, bodyHash: bodyHashOf(text), bytes: text.length };
}

class Sample {
  readonly #random: Random;
  readonly #messages: SentMessage[] = [];
  readonly #attempts: RequestAttempt[] = [];
  readonly #deliveries: DeliveryAttempt[] = [];
  readonly #states = new Map<string, { fold: Fold; count: number }>();
  #clockUs = 1_000;

  constructor(random: Random) {
    this.#random = random;
  }

  run(conversations: number, requests: number): History {
    for (let i = 0; i < requests; i += 2) {
      const pair = [this.#newRequest(`${i}`, conversations), this.#newRequest(`${i + 1}`, conversations)];
      this.#send(this.#random.shuffled(pair)); // both in flight: either may be admitted first
    }
    return { messages: this.#messages, attempts: this.#attempts, deliveries: this.#deliveries };
  }

  #newRequest(request: string, conversations: number): { request: string; items: MessageName[] } {
    const items = Array.from({ length: 1 + this.#random.below(4) }, () => {
      const conversation = `c ${this.#random.below(conversations)}~é`;
      const state = this.#state(conversation);
      state.count += 1;
      const message = { kind: "message", conversation, id: `m${state.count}`, n: state.count } as const;
      this.#messages.push({ ...message, text: `text ${this.#random.below(1_000)}` });
      return { conversation, id: message.id };
    });
    return { request, items };
  }

  #send(requests: readonly { request: string; items: readonly MessageName[] }[]): void {
    const sentUs = this.#tick();
    for (const { request, items } of requests) {
      const isLost = this.#random.chance(0.2);
      const base = { kind: "attempt", request, items } as const;
      const lost = {
        attempt: 1,
        purpose: "first",
        sentUs,
        endedUs: this.#tick(),
        outcome: "unknown",
        status: 0,
      } as const;
      if (isLost) this.#attempts.push({ ...base, ...lost });
      const attempt = isLost ? 2 : 1;
      const ack = { outcome: "ack", status: 202 } as const;
      const startedUs = isLost ? this.#tick() : sentUs;
      this.#attempts.push({ ...base, attempt, purpose: "first", sentUs: startedUs, endedUs: this.#tick(), ...ack });
      if (this.#random.chance(0.1)) {
        const again = { attempt: attempt + 1, purpose: "repeat", sentUs: this.#tick(), endedUs: this.#tick() } as const;
        this.#attempts.push({ ...base, items: [...items].reverse(), ...again, ...ack });
      }
    }
    for (const { items } of requests) for (const item of items) this.#consume(item);
  }

  #consume({ conversation, id }: MessageName): void {
    const state = this.#state(conversation);
    const text = this.#messages.find((message) => message.conversation === conversation && message.id === id)!.text;
    state.fold = fold(state.fold, { id, text });
    const { n, h } = state.fold;
    const reply = JSON.stringify({ n, mid: id, h });
    const key = `fold~http~${encodeURIComponent(conversation).replaceAll("~", "%7E")}~lx1.${n}`;
    const common = { kind: "delivery", key, conversation, sequence: n, inReplyTo: id } as const;
    const body = { text: reply, bodyHash: bodyHashOf(reply), bytes: reply.length };
    const attempt = (status: number): void => {
      const receivedUs = this.#tick();
      this.#deliveries.push({ ...common, ...body, receivedUs, answeredUs: this.#tick(), status });
    };
    if (this.#random.chance(0.1)) attempt(this.#random.pick([500, 429, 0]));
    attempt(200);
    if (this.#random.chance(0.1)) attempt(200); // the acknowledgement died with the process
  }

  #state(conversation: string) {
    const known = this.#states.get(conversation);
    if (known) return known;
    const fresh = { fold: FOLD_START, count: 0 };
    this.#states.set(conversation, fresh);
    return fresh;
  }

  #tick(): number {
    this.#clockUs += 1 + this.#random.below(50);
    return this.#clockUs;
  }
}
