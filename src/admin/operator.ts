// Operator: the port through which an operator changes what conversations and their lanes do. Everything goes through the inbox of a shard (R3), so
// it needs no ownership, is handled in order, and done twice it changes nothing. actors/operations.ts keeps it.

import type { ConversationId } from "../domain/ids.ts";
import type { HaltReason } from "../domain/record.ts";
import type { DeadLetterPlace, DeadLetterView, LaneView, OpenPlace } from "./inspector.ts";
import type { Where } from "./where.ts";

/** Which: named one by one, or all that a filter lets through, page by page. An empty filter is everything. */
export type Selection<Target, Place> =
  | { readonly kind: "targets"; readonly targets: readonly Target[] }
  | { readonly kind: "where"; readonly where: Where; readonly after?: Place | undefined };

export interface OperationRequest<Target, Place> {
  readonly selection: Selection<Target, Place>;
  /** About how many one call may select; a step of a scan may bring more. */
  readonly limit: number;
  /** Says what would be done and does nothing. */
  readonly dryRun: boolean;
  /** Who asks, as the log shall say it. */
  readonly by: string;
}

export type HaltVerb = "retry" | "skip";

export interface ResolveRequest extends OperationRequest<ConversationId, OpenPlace> {
  /** `retry`: the message at the head runs once more. `skip`: it becomes a dead letter, or the gap is passed. */
  readonly verb: HaltVerb;
}

export type LaneVerb = "retry" | "skip";

export interface LaneResolveRequest extends OperationRequest<ConversationId, OpenPlace> {
  /** `retry`: the reply at the head is sent once more, a closed lane opens. `skip`: where it halted, it becomes a dead letter. */
  readonly verb: LaneVerb;
}

export type RedriveRequest = OperationRequest<DeadLetterPlace, DeadLetterPlace>;

export interface OperationReport<Done, Target, Place> {
  /** Asked, durably; with `dryRun` what would be. */
  readonly done: readonly Done[];
  /** Of named ones, or such as there is no room for: why nothing was done about them. */
  readonly refused: readonly { readonly target: Target; readonly why: string }[];
  /** Where a filter goes on; null after all was looked at. */
  readonly next: Place | null;
}

/** A conversation whose halt is meant, and no later halt of it. */
export interface HaltedTarget {
  readonly id: ConversationId;
  readonly halt: string;
  readonly reason: HaltReason | null;
  /** ms since the Unix epoch. */
  readonly sinceMs: number;
  readonly why: string;
  readonly waiting: number;
}

/** All reject with a ColloquyError while the store is away: what was asked before may have been done, and may be asked again. */
export interface Operator {
  resolve(request: ResolveRequest): Promise<OperationReport<HaltedTarget, ConversationId, OpenPlace>>;
  /** What is done names the reply at the head that is meant; a later one of the lane is not. */
  resolveLanes(request: LaneResolveRequest): Promise<OperationReport<LaneView, ConversationId, OpenPlace>>;
  /**
   * Messages among the dead letters enter the inbox again; each leaves the dead letters with the commit that decides it. Replies join
   * the end of their lane; each leaves with the commit that puts it there.
   */
  redrive(request: RedriveRequest): Promise<OperationReport<DeadLetterView, DeadLetterPlace, DeadLetterPlace>>;
}
