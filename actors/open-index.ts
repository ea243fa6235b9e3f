// Open index: reads the index of the unfinished for whoever only looks. What stands there is as of the last commit of its shard.

import { decodeOpenEntry, type OpenEntry } from "../src/codec/open-codec.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import { CodecError } from "../src/errors.ts";
import { SCAN_START, type ShardStore } from "../src/store/shard-store.ts";

export interface FoundOpen {
  readonly key: ConversationKey;
  /** null if it cannot be read. */
  readonly entry: OpenEntry | null;
}

export interface OpenPage {
  readonly found: readonly FoundOpen[];
  readonly cursor: string;
}

/** How many are looked at in one step of a search for a few. */
const SEARCH_COUNT = 1_000;

export async function readOpenPage(
  store: Pick<ShardStore, "readOpen">,
  cursor: string,
  count: number,
): Promise<OpenPage> {
  const page = await store.readOpen({ cursor, count });
  return { cursor: page.cursor, found: page.found.map(({ key, value }) => ({ key, entry: decoded(value) })) };
}

/** Of these conversations; one without an entry is not in the answer. The port reads the index by steps only, so this goes through it. */
export async function findOpen(
  store: Pick<ShardStore, "readOpen">,
  keys: ReadonlySet<ConversationKey>,
): Promise<ReadonlyMap<ConversationKey, OpenEntry | null>> {
  const found = new Map<ConversationKey, OpenEntry | null>();
  let cursor = SCAN_START;
  do {
    const page = await readOpenPage(store, cursor, SEARCH_COUNT);
    for (const { key, entry } of page.found) if (keys.has(key)) found.set(key, entry);
    cursor = page.cursor;
  } while (cursor !== SCAN_START && found.size < keys.size);
  return found;
}

function decoded(value: Uint8Array): OpenEntry | null {
  try {
    return decodeOpenEntry(value);
  } catch (error) {
    if (error instanceof CodecError) return null;
    throw error;
  }
}
