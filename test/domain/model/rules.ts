// The pure functions that decide about a conversation, as one value: a mutant is this value with one of them replaced.

import { afterDeathAlone, afterFailure, countedAfresh } from "../../../src/domain/attempts.ts";
import type { ExternalPlace } from "../../../src/domain/external-order.ts";
import type { Hash64 } from "../../../src/domain/hash.ts";
import { HeldMessages } from "../../../src/domain/held-messages.ts";
import type { MessageExtra } from "../../../src/domain/message.ts";
import type { Position } from "../../../src/domain/position.ts";
import {
  afterDrop,
  afterLeaving,
  afterMove,
  afterSetAside,
  afterTurn,
  storedExtra,
  withExtra,
} from "../../../src/domain/record.ts";
import { nextHeld, orderAfter, orderPastGap, sequence, waitOnceMore } from "../../../src/domain/sequencer.ts";

export interface ModelMessage {
  readonly position: Position;
  /** Also its hash. */
  readonly id: number;
  readonly idHash: Hash64;
  readonly bodyHash: number;
  readonly sequence: number | undefined;
  readonly extra: MessageExtra | null;
}

export interface HeldInModel {
  readonly count: number;
  readonly lowest: ExternalPlace | null;
  readonly oldestMs: number | null;
  has(idHash: Hash64): boolean;
  bodyHashOf(idHash: Hash64): number | undefined;
  add(message: ModelMessage): void;
  shift(): ModelMessage | undefined;
}

export interface Rules {
  readonly sequence: typeof sequence;
  readonly nextHeld: typeof nextHeld;
  readonly orderAfter: typeof orderAfter;
  readonly orderPastGap: typeof orderPastGap;
  readonly waitOnceMore: typeof waitOnceMore;
  readonly newHeld: () => HeldInModel;
  readonly afterFailure: typeof afterFailure;
  readonly afterDeathAlone: typeof afterDeathAlone;
  readonly countedAfresh: typeof countedAfresh;
  readonly afterTurn: typeof afterTurn;
  readonly afterSetAside: typeof afterSetAside;
  readonly afterDrop: typeof afterDrop;
  readonly afterMove: typeof afterMove;
  readonly afterLeaving: typeof afterLeaving;
  readonly storedExtra: typeof storedExtra;
  readonly withExtra: typeof withExtra;
}

export const RULES: Rules = {
  sequence,
  nextHeld,
  orderAfter,
  orderPastGap,
  waitOnceMore,
  newHeld: () => new HeldMessages<ModelMessage>(),
  afterFailure,
  afterDeathAlone,
  countedAfresh,
  afterTurn,
  afterSetAside,
  afterDrop,
  afterMove,
  afterLeaving,
  storedExtra,
  withExtra,
};
