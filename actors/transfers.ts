// Transfers: the far end of the lanes that carry sends from one shard to another. A lane per (source shard, target shard) hands over, in
// outbox order, what each commit sent there: a batch of messages that becomes one entry of the target's inbox.
//
// Invariants
//   X1. Once: the target remembers the place in the source's outbox that it took last and takes only what stands above it, in the same
//       script as the append. A repeat after a lost answer, and an append of a former owner that lands late, write nothing (attack B9).
//   X2. In order: the lane sends one batch at a time and the next only after this one was taken, so the target's inbox has them in
//       the order of the source's commits.
//   X3. A target that is away keeps its lane waiting and nobody else's. Its bound they pass, as sends within a shard do: two shards
//       that are full would wait for each other.

import type { Channel, SendOutcome } from "../src/channels/channel.ts";
import { type ConversationKey, conversationKey } from "../src/domain/ids.ts";
import type { Delivery } from "../src/domain/message.ts";
import { ColloquyError, StoreNotReadyError, severityOf } from "../src/errors.ts";
import type { ShardStore } from "../src/store/shard-store.ts";

/** No name of a bot or channel begins with "!". */
export const TRANSFER_CHANNEL = "!transfer";

/** The lane to a shard. It stands among those of conversations: same states, same retries, same outbox. */
export function transferKey(targetShard: number): ConversationKey {
  return conversationKey({ bot: TRANSFER_CHANNEL, channel: TRANSFER_CHANNEL, conversation: String(targetShard) });
}

const KEY_START = transferKey(0).slice(0, -1);

export const isTransferKey = (key: ConversationKey): boolean => key.startsWith(KEY_START);

/**
 * @param stores      of all shards, also of those that another node owns: an append needs no ownership
 * @param sourceShard whose outbox the lanes read
 */
export function transferChannel(stores: (shard: number) => Pick<ShardStore, "append">, sourceShard: number): Channel {
  return {
    name: TRANSFER_CHANNEL,
    delivery: "lane",
    render: () => {
      throw new TypeError("a transfer carries a batch that its commit encoded; there is no reply to render");
    },
    send: async (delivery, signal) => (signal.aborted ? ABORTED : unlessAborted(signal, transfer(delivery))),
  };

  async function transfer({ to, body, place }: Delivery): Promise<SendOutcome> {
    if (place === undefined) return { kind: "terminal", reason: "a transfer without its place in the outbox" };
    try {
      const from = { shard: sourceShard, place }; // X1
      const reply = await stores(Number(to.conversation)).append(body, Number.MAX_SAFE_INTEGER, { from }); // X3
      switch (reply.kind) {
        case "appended":
        case "taken":
          return { kind: "delivered" };
        case "over":
          return { kind: "retryable", reason: "the inbox of the target shard is full" };
        case "full":
          return { kind: "retryable", reason: "a conversation of the target shard is full" };
      }
    } catch (error) {
      return outcomeOf(error);
    }
  }
}

const ABORTED: SendOutcome = { kind: "ambiguous", reason: "aborted" };

/** Nobody waits for an append whose lane has stopped. Should it land later, it is taken once all the same (X1). */
function unlessAborted(signal: AbortSignal, sending: Promise<SendOutcome>): Promise<SendOutcome> {
  return new Promise((resolve) => {
    const abort = (): void => resolve(ABORTED);
    signal.addEventListener("abort", abort);
    void sending.then(resolve).finally(() => signal.removeEventListener("abort", abort));
  });
}

function outcomeOf(error: unknown): SendOutcome {
  const reason = error instanceof ColloquyError ? error.code : error instanceof Error ? error.name : typeof error;
  if (severityOf(error) === "halt") return { kind: "terminal", reason }; // its lane halts until an operator has looked
  return { kind: error instanceof StoreNotReadyError ? "retryable" : "ambiguous", reason };
}
