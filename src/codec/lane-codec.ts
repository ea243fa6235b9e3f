// Lane state codec: JSON, since it is small, rare, and read by people with redis-cli.

import { LANE_STATES, type LaneState } from "../domain/lane.ts";
import { CodecError } from "../errors.ts";

export type { LaneState } from "../domain/lane.ts";

export const encodeLaneState = (state: LaneState): Buffer => Buffer.from(JSON.stringify(state));

/** @throws CodecError if it is not a lane state */
export function decodeLaneState(bytes: Uint8Array): LaneState {
  try {
    const state = JSON.parse(Buffer.from(bytes).toString()) as LaneState;
    const counts = [state.outSeq, state.attempts, state.nextAtMs];
    if (LANE_STATES.includes(state.state) && typeof state.born === "string" && counts.every(Number.isSafeInteger))
      return state;
  } catch {
    // falls through to the one error that both ways of being wrong share
  }
  throw new CodecError("a stored lane state is not readable");
}
