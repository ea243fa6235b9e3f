// Halt: what an operator's verb does to a halted conversation, and what lifts a halt by arriving. Pure.
//
// Invariants
//   U1. A verb that names another halt than the one that is there changes nothing: done twice it is done once (C9).
//   U2. A retry counts attempts from 0 and waits for a gap once more; what the turn did already stands.
//   U3. Only the very message that is missing lifts the halt of a gap.

import { countedAfresh } from "./attempts.ts";
import { comparePlaces, placeOf } from "./external-order.ts";
import type { Control, InboxMessage } from "./message.ts";
import { type ConversationRecord, type ExtraParts, type Halt, haltName } from "./record.ts";
import { waitOnceMore } from "./sequencer.ts";

export type VerbEffect =
  /** U1 */
  | { readonly kind: "nothing" }
  | { readonly kind: "retry"; readonly halt: Halt; readonly parts: ExtraParts }
  /** What is missing is passed; all that waits has to be known for it. */
  | { readonly kind: "pass-gap"; readonly halt: Halt; readonly missing: NonNullable<Halt["missing"]> }
  /** The message whose turn is open is set aside; where none is open, or it is nowhere any more, only the halt goes. */
  | { readonly kind: "skip"; readonly halt: Halt };

const NOTHING: VerbEffect = Object.freeze({ kind: "nothing" });

/** @param nowMs a whole number of ms since the Unix epoch */
export function effectOfVerb(record: ConversationRecord | null, control: Control, nowMs: number): VerbEffect {
  const { halt, openTurn, order } = record?.extra ?? {};
  if (record === null || halt === undefined || haltName(record) !== control.halt) return NOTHING;
  if (control.verb === "skip") {
    return halt.missing === undefined ? { kind: "skip", halt } : { kind: "pass-gap", halt, missing: halt.missing };
  }
  const parts = {
    halt: undefined,
    openTurn: openTurn && countedAfresh(openTurn),
    order: halt.reason === "gap" ? waitOnceMore(order, nowMs) : order,
  };
  return { kind: "retry", halt, parts }; // U2
}

/** Whether it is what the gap lacks at which the conversation is halted (U3). */
export function liftsHalt(halt: Halt | undefined, message: Pick<InboxMessage, "sequence" | "extra">): boolean {
  if (halt?.missing === undefined) return false;
  const place = placeOf(message);
  return place !== null && comparePlaces(place, halt.missing) === 0;
}
