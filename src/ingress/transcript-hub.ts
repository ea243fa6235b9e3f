// Transcript hub: tells those who follow a conversation that lines of it were committed. It carries no lines: a follower reads
// the store, so a call too many costs one read, and one too few is made good by the follower's own slow look.
//
// Invariants
//   U1. Telling never throws, waits or reads: the committer calls it between two commits.
//   U2. A conversation that nobody follows costs one look into a map, and leaves nothing behind.

import type { ConversationKey } from "../domain/ids.ts";

export class TranscriptHub {
  readonly #followers = new Map<ConversationKey, Set<() => void>>();

  /** Conversations that are followed. */
  get size(): number {
    return this.#followers.size;
  }

  /** @param onLines must return at once and not throw (U1). @returns the way to stop; calling it again is harmless */
  follow(key: ConversationKey, onLines: () => void): () => void {
    const follower = (): void => onLines(); // its own identity: the same function may follow twice
    const followers = this.#followers.get(key) ?? new Set();
    this.#followers.set(key, followers.add(follower));
    return () => {
      followers.delete(follower);
      if (followers.size === 0 && this.#followers.get(key) === followers) this.#followers.delete(key); // U2
    };
  }

  /** Lines of this conversation are durable now. */
  tell(key: ConversationKey): void {
    for (const follower of this.#followers.get(key) ?? []) follower();
  }
}
