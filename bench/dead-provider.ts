// Dead provider: the outside of another channel beside the one that is measured. While it is dead it refuses every attempt, so
// that the lanes of its conversations wait; when it is back it checks that they drain in order, and how many come at once.

import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Channel } from "../src/index.ts";
import { echoBot } from "./fold-bot.ts";

export const DEAD_CHANNEL = "dead";
/** Attempts that its account allows at once. */
export const CONCURRENCY = 32;

const ADMIT_AT_ONCE = 500;
const ANSWER_MS = 2;
const DRAINED_WITHIN_MS = 120_000;

export interface Drain {
  /** Until the first reply: what is left of the time for which the breaker stays open. */
  readonly probedMs: number;
  /** From the first reply to the last. */
  readonly drainMs: number;
}

type Admit = Parameters<NonNullable<Channel["open"]>>[0];

export class DeadProvider implements Channel {
  readonly name = DEAD_CHANNEL;
  readonly delivery = "lane";
  readonly account = { concurrency: CONCURRENCY };
  isDead = true;
  /** Attempts that it refused. */
  refused = 0;
  inFlightMax = 0;
  #inFlight = 0;
  #sentEach = 0;
  #delivered = 0;
  #firstAtMs: number | null = null;
  readonly #last = new Map<string, number>();
  #wrong: Error | null = null;
  #admit: Admit = async () => ({ kind: "unavailable", reason: "closed", retryAfterMs: 0 });

  open(admit: Admit): void {
    this.#admit = admit;
  }

  render({ outSeq }: Parameters<Channel["render"]>[0]): Uint8Array {
    return Buffer.from(String(outSeq));
  }

  async send(delivery: Parameters<Channel["send"]>[0]): ReturnType<Channel["send"]> {
    this.#inFlight += 1;
    this.inFlightMax = Math.max(this.inFlightMax, this.#inFlight);
    await sleep(ANSWER_MS);
    this.#inFlight -= 1;
    if (this.isDead) {
      this.refused += 1;
      return { kind: "retryable", reason: "HTTP 503" };
    }
    const { conversation } = delivery.to;
    const expected = (this.#last.get(conversation) ?? 0) + 1;
    if (Number(Buffer.from(delivery.body).toString()) !== expected)
      this.#wrong ??= new Error(`${conversation}: reply ${delivery.outSeq} came where ${expected} was due`);
    this.#last.set(conversation, expected);
    this.#delivered += 1;
    this.#firstAtMs ??= performance.now();
    return { kind: "delivered" };
  }

  /** `each` more messages to each of so many conversations. */
  async block(conversations: number, each: number): Promise<void> {
    const upTo = this.#sentEach + each;
    for (let n = this.#sentEach + 1; n <= upTo; n += 1) {
      for (let from = 0; from < conversations; from += ADMIT_AT_ONCE) {
        const count = Math.min(ADMIT_AT_ONCE, conversations - from);
        const to = (i: number) => ({ bot: echoBot.name, channel: DEAD_CHANNEL, conversation: `d${from + i}` });
        const outcome = await this.#admit(
          Array.from({ length: count }, (_, i) => ({ to: to(i), id: `m${n}`, text: "" })),
        );
        if (outcome.kind !== "admitted") throw new Error(`not admitted: ${outcome.kind}`);
      }
    }
    this.#sentEach = upTo;
  }

  /** It is back, and takes this many replies in all, those of earlier times included. */
  async drain(replies: number): Promise<Drain> {
    const startMs = performance.now();
    this.isDead = false;
    this.#firstAtMs = null;
    while (this.#delivered < replies && this.#wrong === null) {
      if (performance.now() - startMs > DRAINED_WITHIN_MS)
        throw new Error(`${this.#delivered} of ${replies} replies were delivered in ${DRAINED_WITHIN_MS} ms`);
      await sleep(10);
    }
    if (this.#wrong) throw this.#wrong;
    const firstAtMs = this.#firstAtMs ?? startMs;
    return { probedMs: firstAtMs - startMs, drainMs: performance.now() - firstAtMs };
  }
}
