// Lane view: what an operator sees of a lane that does not flow, or whose replies wait on its list. Pure.
//
// Invariants
//   W1. No payload: what is told of a reply is its place, its size, and how its last attempt ended.
//   W2. A verb names the reply at the head by what is stored, so that it means that one and no later one.

import { type LaneHalt, type LaneState, type LaneStateName, replyName } from "../domain/lane.ts";
import type { WhereItem } from "./where.ts";

/** What all lanes of a channel share at its outside, as this node has it. */
export interface LaneAccount {
  readonly name: string;
  readonly breaker: "closed" | "open" | "half-open";
  /** ms since the Unix epoch, when one attempt probes; null unless it is open. */
  readonly reopensAtMs: number | null;
}

export interface LaneHead {
  /** `<born>.<outSeq>`, of a part `<born>.<outSeq>.<part>`. */
  readonly name: string;
  readonly born: string;
  readonly outSeq: number;
  /** From 1; null for a reply that is one part. */
  readonly part: number | null;
}

/** What is known of a lane. */
export interface LaneKnown {
  /** As it is stored; null if that cannot be read. */
  readonly state: LaneState | null;
  /** Undelivered, on its list and off it, as this node has it in memory; null if it does not. */
  readonly memory: { readonly replies: number; readonly bytes: number } | null;
  readonly account: LaneAccount | null;
}

export interface LaneSituation {
  /** null if what is stored cannot be read. */
  readonly state: LaneStateName | null;
  /** null unless it is halted or closed, and says so. */
  readonly reason: LaneHalt | null;
  /** One line for people. */
  readonly why: string;
  /** When the reply at the head could not go out for the first time, ms since the Unix epoch; null of one that flows. */
  readonly sinceMs: number | null;
  /** null unless it is retrying. */
  readonly nextAtMs: number | null;
  /** Failed ones of the reply at the head. */
  readonly attempts: number;
  /** How the last attempt ended, or why there was none: a status or the code of an error; null if there is nothing to tell. */
  readonly lastError: string | null;
  /** Undelivered: on its list, and what this node has in memory besides. */
  readonly waiting: number;
  readonly waitingBytes: number;
  /** The reply that it stands at; null if none has failed. */
  readonly head: LaneHead | null;
  readonly account: LaneAccount | null;
}

export function laneSituation({ state, memory, account }: LaneKnown): LaneSituation {
  if (state === null) return { ...NOTHING, why: UNREADABLE, account };
  const head = headOf(state);
  const isStill = state.state !== "flowing";
  return {
    state: state.state,
    reason: reasonOf(state),
    why: whyOf(state, account),
    sinceMs: isStill ? state.firstFailedAtMs : null,
    nextAtMs: state.state === "retrying" ? state.nextAtMs : null,
    attempts: state.attempts,
    lastError: state.reason === "" ? null : state.reason,
    waiting: memory?.replies ?? state.list?.count ?? 0,
    waitingBytes: memory?.bytes ?? state.list?.bytes ?? 0,
    head: isStill ? head : null,
    account,
  };
}

const UNREADABLE = "its stored state cannot be read";

const NOTHING = {
  state: null,
  reason: null,
  sinceMs: null,
  nextAtMs: null,
  attempts: 0,
  lastError: null,
  waiting: 0,
  waitingBytes: 0,
  head: null,
};

/** W2. One that waits before any of its replies has failed names none. */
function headOf({ born, outSeq, part }: LaneState): LaneHead | null {
  if (born === "") return null;
  return { name: replyName({ born, outSeq, part }), born, outSeq, part: part ?? null };
}

function reasonOf({ state, halt }: LaneState): LaneHalt | null {
  if (state === "closed") return "gone";
  return state === "halted" ? (halt ?? null) : null; // one that an earlier version wrote does not say
}

function whyOf(state: LaneState, account: LaneAccount | null): string {
  switch (state.state) {
    case "flowing":
      return "it flows; what waits on its list goes first";
    case "retrying":
      return sentence(happenedText(state) || "it waits for its account", unclearText(state), accountText(account));
    case "halted":
      return sentence(happenedText(state), state.halt === undefined ? "" : HALTS[state.halt]);
    case "closed":
      return sentence(happenedText(state), "the recipient is gone, its replies become dead letters");
  }
}

const sentence = (...parts: readonly string[]): string => parts.filter((part) => part !== "").join("; ");

/** E.g. `HTTP 503, 4 attempts`. */
function happenedText({ reason, attempts }: LaneState): string {
  const counted = attempts === 0 ? "" : `${attempts.toLocaleString("en")} ${attempts === 1 ? "attempt" : "attempts"}`;
  return [reason, counted].filter((part) => part !== "").join(", ");
}

const unclearText = ({ isUnclear }: LaneState): string =>
  isUnclear === true ? "nobody knows yet how the last attempt ended" : "";

function accountText(account: LaneAccount | null): string {
  if (account === null || account.breaker === "closed") return "";
  if (account.breaker === "half-open") return `its account ${account.name} is open, one attempt probes now`;
  const { name, reopensAtMs } = account;
  return `its account ${name} is open${reopensAtMs === null ? "" : `, the next probe at ${isoText(reopensAtMs)}`}`;
}

/** What no Date can hold is told as it is. */
const isoText = (ms: number): string => (Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms));

const HALTS: Readonly<Record<LaneHalt, string>> = {
  terminal: "it was refused for good",
  exhausted: "its attempts or its time are used up",
  unclear: "nobody knows whether the last attempt arrived",
  full: "there is no room for one more dead letter",
  gone: "the recipient is gone",
};

/** What a filter sees of a lane, besides whose it is. */
export function laneItem(lane: LaneSituation, nowMs: number): WhereItem {
  return {
    state: lane.state,
    reason: lane.reason,
    error: lane.lastError,
    since: lane.sinceMs === null ? null : nowMs - lane.sinceMs,
    attempts: lane.attempts,
    waiting: lane.waiting,
    born: lane.head?.born ?? null,
  };
}
