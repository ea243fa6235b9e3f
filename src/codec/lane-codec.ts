// Lane state codec: JSON, since it is small, rare, and read by people with redis-cli.

import { CodecError } from "../errors.ts";

/** A lane that does not flow. `retrying` goes on by itself at `nextAtMs`; the others wait for an operator. */
export interface LaneState {
  readonly state: "retrying" | "halted" | "closed";
  readonly outSeq: number;
  /** Failed attempts of the reply at the head. */
  readonly attempts: number;
  readonly firstFailedAtMs: number;
  readonly nextAtMs: number;
  /** Status or error code of the last attempt; never payload. */
  readonly reason: string;
}

export const encodeLaneState = (state: LaneState): Buffer => Buffer.from(JSON.stringify(state));

/** @throws CodecError if it is not a lane state */
export function decodeLaneState(bytes: Uint8Array): LaneState {
  try {
    const state = JSON.parse(Buffer.from(bytes).toString()) as LaneState;
    if (["retrying", "halted", "closed"].includes(state.state) && Number.isSafeInteger(state.attempts)) return state;
  } catch {
    // falls through to the one error that both ways of being wrong share
  }
  throw new CodecError("a stored lane state is not readable");
}
