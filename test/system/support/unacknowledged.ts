// Unacknowledged: which replies an append-only file holds as not delivered, by their idempotency keys. What stands there when
// the runtime is dead is what the next one will send, whatever the former had been answered.
//
// A reply is unacknowledged while its bit in its outbox entry is not set and the entry is there, or while it is on the list of its
// lane.

import { decodeOutboxEntry, hasBit, type OutboxReply } from "../../../src/codec/outbox-codec.ts";
import { idempotencyKey, parseConversationKey } from "../../../src/domain/ids.ts";
import { findAof, readAof } from "../../../src/verify/aof-folder.ts";
import type { Transaction } from "../../../src/verify/store-log.ts";

/** @throws Error if the folder has no append-only file that tells everything */
export function unacknowledgedIn(dataFolder: string): ReadonlySet<string> {
  const aof = findAof(dataFolder);
  if (!aof?.isWhole) throw new Error(`${dataFolder} has no append-only file that begins with an empty store`);
  const fold = new Unacknowledged();
  for (const transaction of readAof(aof)) fold.add(transaction);
  return fold.keys();
}

export class Unacknowledged {
  /** By stream and id: entries of outboxes, and of the lists of lanes. */
  readonly #entries = new Map<string, readonly (string | null)[]>();
  readonly #done = new Map<string, Buffer>();

  add({ commands }: Transaction): void {
    for (const { name, args } of commands) {
      const key = args[0]?.toString() ?? "";
      const [, prefix, what] = /^([^{]+\{\d+\}):(outbox$|acks$|out:)/.exec(key) ?? [];
      if (prefix === undefined) continue;
      if (name === "XADD" && what !== "acks") this.#entries.set(`${key} ${args.at(-3)}`, keysOf(args.at(-1)!));
      else if (name === "XDEL") for (const id of args.slice(1)) this.#remove(`${key} ${id}`);
      else if (name === "DEL" || name === "UNLINK") this.#removeAll(`${key} `);
      else if (name === "HSET" && what === "acks") {
        for (let i = 1; i + 1 < args.length; i += 2)
          this.#done.set(`${prefix}:outbox ${args[i]}`, Buffer.from(args[i + 1]!));
      }
    }
  }

  keys(): ReadonlySet<string> {
    const open = new Set<string>();
    for (const [entry, keys] of this.#entries) {
      const done = this.#done.get(entry);
      for (const [i, key] of keys.entries()) if (key !== null && !(done && hasBit(done, i))) open.add(key);
    }
    return open;
  }

  #remove(entry: string): void {
    this.#entries.delete(entry);
    this.#done.delete(entry);
  }

  #removeAll(stream: string): void {
    for (const entry of this.#entries.keys()) if (entry.startsWith(stream)) this.#remove(entry);
  }
}

/** null for what is no reply: rotten bytes, and sends to another shard. */
function keysOf(entry: Buffer): (string | null)[] {
  return decodeOutboxEntry(Buffer.from(entry)).replies.map((reply) => (reply === null ? null : keyOf(reply)));
}

function keyOf({ key, born, outSeq, extra }: OutboxReply): string | null {
  const id = parseConversationKey(key);
  if (id.channel.startsWith("!")) return null;
  const whole = idempotencyKey(id, born, outSeq);
  return extra?.part === undefined ? whole : `${whole}.${extra.part}`;
}
