// Send plan: which messages go into the next request. Conversations are of very different length, as in life; their names
// hold what a name may hold; the same message ids are used in each.

import type { SentMessage } from "./history.ts";
import type { Random } from "./random.ts";

export interface SendPlanOptions {
  readonly conversations: number;
  /** In all; each conversation gets at least one. */
  readonly messages: number;
  readonly idPrefix: string;
  /** Un-answered messages of a conversation, at most. */
  readonly window: number;
  /** Share of requests that hold more than one message. */
  readonly batchShare: number;
}

const BATCH_CONVERSATIONS_MAX = 8;
const ODD_NAMES = [" spaced ", "~tilde~", "{brace}", "100%25", "slash/../up", "ünï-çødé-💬", 'quo"te\\', "a:b"];

interface Conversation {
  readonly name: string;
  readonly quota: number;
  sent: number;
  unanswered: number;
}

export class SendPlan {
  readonly #random: Random;
  readonly #options: SendPlanOptions;
  readonly #byName: ReadonlyMap<string, Conversation>;
  /** Those that have messages left. */
  #open: Conversation[];

  constructor(options: SendPlanOptions, random: Random) {
    this.#random = random;
    this.#options = options;
    this.#open = quotas(options, random).map((quota, i) => ({ name: nameOf(i), quota, sent: 0, unanswered: 0 }));
    this.#byName = new Map(this.#open.map((conversation) => [conversation.name, conversation]));
  }

  /** Every message has been taken. */
  get isSpent(): boolean {
    return this.#open.length === 0;
  }

  /** The messages of one request; none if no conversation that was looked at has room now. */
  take(): SentMessage[] {
    if (!this.#random.chance(this.#options.batchShare)) return this.#from(this.#pick(), 1);
    const parts = 1 + this.#random.below(BATCH_CONVERSATIONS_MAX);
    const batch = Array.from({ length: parts }, () => this.#from(this.#pick(), 1 + this.#random.below(4))).flat();
    return this.#random.chance(0.5) ? batch : interleaved(batch);
  }

  answered(conversation: string): void {
    const known = this.#byName.get(conversation);
    if (known) known.unanswered -= 1;
  }

  #pick(): Conversation | undefined {
    for (let tries = 0; tries < 4; tries += 1) {
      const picked = this.#open[this.#random.below(this.#open.length)];
      if (picked && picked.unanswered < this.#options.window) return picked;
    }
    return this.#open.find(({ unanswered }) => unanswered < this.#options.window);
  }

  #from(conversation: Conversation | undefined, wanted: number): SentMessage[] {
    if (!conversation) return [];
    const { quota, sent, unanswered, name } = conversation;
    const count = Math.min(wanted, this.#options.window - unanswered, quota - sent);
    conversation.sent += count;
    conversation.unanswered += count;
    if (conversation.sent === quota) this.#open = this.#open.filter((other) => other !== conversation);
    return Array.from({ length: count }, (_, i) => ({
      kind: "message",
      conversation: name,
      id: `${this.#options.idPrefix}${sent + i + 1}`,
      n: sent + i + 1,
      text: this.#text(),
    }));
  }

  #text(): string {
    const word = `${this.#random.below(1_000_000)} "say" \\ é💬\n`;
    if (this.#random.chance(0.01)) return word.repeat(200 + this.#random.below(600)); // a few to a dozen KiB
    return word.repeat(1 + this.#random.below(4));
  }
}

function nameOf(index: number): string {
  const odd = index % 10 === 0 ? ODD_NAMES[(index / 10) % ODD_NAMES.length] : "";
  return `c${index}${odd}`;
}

/** Shares that differ up to thirtyfold and sum up to `messages`. */
function quotas({ conversations, messages }: SendPlanOptions, random: Random): number[] {
  const weights = Array.from({ length: conversations }, () => 32 ** random.next());
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const counts = weights.map((weight) => 1 + Math.floor(((messages - conversations) * weight) / total));
  const missing = messages - counts.reduce((sum, count) => sum + count, 0);
  for (let i = 0; i < missing; i += 1) counts[i % conversations]! += 1;
  return counts;
}

/** Messages of one conversation keep their order; those of several come mixed. */
function interleaved(batch: readonly SentMessage[]): SentMessage[] {
  const rows = new Map<string, SentMessage[]>();
  for (const message of batch) {
    const row = rows.get(message.conversation);
    if (row) row.push(message);
    else rows.set(message.conversation, [message]);
  }
  const mixed: SentMessage[] = [];
  for (let i = 0; mixed.length < batch.length; i += 1) {
    for (const row of rows.values()) if (i < row.length) mixed.push(row[i]!);
  }
  return mixed;
}
