// Lane index: reads the stored states of lanes for whoever only looks. What stands there is as of the last commit of its shard.

import { decodeLaneState } from "../src/codec/lane-codec.ts";
import type { ConversationKey } from "../src/domain/ids.ts";
import type { LaneState } from "../src/domain/lane.ts";
import { CodecError } from "../src/errors.ts";
import type { ShardStore } from "../src/store/shard-store.ts";

export interface LanePage {
  /** `state` is null if it cannot be read. */
  readonly found: readonly { readonly key: ConversationKey; readonly state: LaneState | null }[];
  readonly cursor: string;
}

export async function readLanePage(
  store: Pick<ShardStore, "scanLanes">,
  cursor: string,
  count: number,
): Promise<LanePage> {
  const page = await store.scanLanes({ cursor, count });
  return { cursor: page.cursor, found: page.found.map(({ key, state }) => ({ key, state: readLaneState(state) })) };
}

/** Null if it cannot be read. */
export function readLaneState(stored: Uint8Array): LaneState | null {
  try {
    return decodeLaneState(stored);
  } catch (error) {
    if (error instanceof CodecError) return null;
    throw error;
  }
}
