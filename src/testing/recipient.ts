// Recipient: the far end of a simulated channel. It keeps what arrived, and knows a repeat by its idempotency key, as a
// provider that honours the key does.

import type { Channel, SendOutcome } from "../channels/channel.ts";
import type { Reply } from "../domain/message.ts";
import type { Plain } from "../domain/plain-data.ts";
import type { Scheduler, SimulatedLife } from "./scheduler.ts";

/** One reply as it arrived, once for each attempt. */
export interface Arrival {
  readonly conversation: string;
  readonly text: string;
  readonly data?: Plain;
  /** From when on it is not sent any more, ISO 8601 in UTC. */
  readonly expiresAt?: string;
  /** Number of the reply in its conversation, from 1. */
  readonly sequence: number;
  /** Id of the message that it answers. */
  readonly inReplyTo: string | null;
  readonly idempotencyKey: string;
  /** How often this key has come, from 1. */
  readonly attempt: number;
  /** Of a reply that the channel cut: which part, from 1, of how many. */
  readonly part?: number;
  readonly parts?: number;
}

/** Cuts a text into 1 to 16 parts, as a channel does whose outside takes short texts only. Pure. */
export type Split = (text: string) => readonly string[];

/** Says how an attempt ends; undefined for "delivered". */
export type Answer = (arrival: Arrival) => SendOutcome | undefined;

export class Recipient {
  readonly arrivals: Arrival[] = [];
  /** In order of first delivery, by conversation. */
  readonly #delivered = new Map<string, Arrival[]>();
  readonly #attempts = new Map<string, number>();
  readonly #deliveredKeys = new Set<string>();
  readonly #answer: Answer;
  readonly #split: Split;

  constructor(answer: Answer, split: Split = (text) => [text]) {
    this.#answer = answer;
    this.#split = split;
  }

  delivered(conversation: string): readonly Arrival[] {
    return this.#delivered.get(conversation) ?? [];
  }

  /** The channel of one process. A request that has left a process arrives whatever becomes of that process. */
  channel(name: string, scheduler: Scheduler, life: SimulatedLife): Channel {
    return {
      name,
      delivery: "lane",
      render: ({ outSeq, inReplyTo, reply }) =>
        this.#cut(reply).map((part) => encoder.encode(JSON.stringify({ sequence: outSeq, inReplyTo, ...part }))),
      send: ({ to, idempotencyKey, body }, signal) =>
        new Promise((resolve) => {
          if (life.isDead) return;
          const finish = (outcome: SendOutcome): void => {
            signal.removeEventListener("abort", onAbort);
            resolve(outcome);
          };
          const onAbort = (): void => finish({ kind: "ambiguous", reason: "aborted" });
          signal.addEventListener("abort", onAbort);
          scheduler.schedule("delivery", 0, () => {
            const outcome = this.#receive(to.conversation, idempotencyKey, body);
            life.schedule("delivery answered", 0, () => finish(outcome));
          });
        }),
    };
  }

  /** The last part has the data. */
  #cut({ text, data, expiresAtMs }: Reply): Pick<Arrival, "text" | "data" | "expiresAt" | "part" | "parts">[] {
    const texts = this.#split(text);
    const parts = texts.length;
    return texts.map((text, i) => ({
      text,
      ...(data !== undefined && i + 1 === parts && { data }),
      ...(expiresAtMs !== undefined && { expiresAt: new Date(expiresAtMs).toISOString() }),
      ...(parts > 1 && { part: i + 1, parts }),
    }));
  }

  #receive(conversation: string, idempotencyKey: string, body: Uint8Array): SendOutcome {
    const attempt = (this.#attempts.get(idempotencyKey) ?? 0) + 1;
    this.#attempts.set(idempotencyKey, attempt);
    const reply = JSON.parse(decoder.decode(body)) as Omit<Arrival, "conversation" | "idempotencyKey" | "attempt">;
    const arrival: Arrival = { conversation, ...reply, idempotencyKey, attempt };
    this.arrivals.push(arrival);
    const outcome = this.#answer(arrival) ?? { kind: "delivered" };
    if (outcome.kind === "delivered" && !this.#deliveredKeys.has(idempotencyKey)) {
      this.#deliveredKeys.add(idempotencyKey);
      const before = this.#delivered.get(conversation);
      if (before === undefined) this.#delivered.set(conversation, [arrival]);
      else before.push(arrival);
    }
    return outcome;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
