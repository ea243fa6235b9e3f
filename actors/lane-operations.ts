// Lane operations: what operators ask of lanes, made into messages in the inboxes of shards (R3). Nothing is decided here: the lane
// decides, in its shard, and one that comes twice changes nothing. The invariants O1 to O5 of operations.ts hold here as well.
//
// Invariants
//   Q1. A verb names the reply at the head as it was stored when it was read, so it means that one and no later one (O1).
//   Q2. A reply that comes back keeps its key and its bytes: what is sent is the letter that is named, and nothing is copied here.
//   Q3. No verb gives up what one shard sends to another: those are messages, and they wait until they arrive (P1).

import type { DeadLetterPlace, DeadLetterView, Inspector, LaneView, OpenPlace } from "../src/admin/inspector.ts";
import type { LaneHead } from "../src/admin/lane-view.ts";
import type { LaneResolveRequest, LaneVerb, OperationReport } from "../src/admin/operator.ts";
import type { Condition, Where } from "../src/admin/where.ts";
import { type ConversationId, conversationKey } from "../src/domain/ids.ts";
import type { LaneStateName } from "../src/domain/lane.ts";
import type { LaneControl } from "../src/domain/message.ts";
import { formatEntryId } from "../src/domain/position.ts";
import type { ShardStore } from "../src/store/shard-store.ts";
import { appendControls, type ShardControl } from "./control-entries.ts";
import { TRANSFER_CHANNEL } from "./transfers.ts";

export interface LaneOperationsOptions {
  readonly store: (shard: number) => Pick<ShardStore, "append">;
  readonly inspector: Pick<Inspector, "lane" | "lanes">;
}

type Refusals<Target> = { readonly target: Target; readonly why: string }[];

/** One that a verb can name. */
interface Resolvable {
  readonly view: LaneView;
  readonly head: LaneHead;
}

interface Selected {
  readonly lanes: readonly Resolvable[];
  readonly refused: Refusals<ConversationId>;
  readonly next: OpenPlace | null;
}

export class LaneOperations {
  readonly #options: LaneOperationsOptions;

  constructor(options: LaneOperationsOptions) {
    this.#options = options;
  }

  async resolve(request: LaneResolveRequest): Promise<OperationReport<LaneView, ConversationId, OpenPlace>> {
    const { lanes, refused, next } = await this.#selected(request);
    if (!request.dryRun) {
      const { verb, by } = request;
      const controls = lanes.map(({ view, head }) =>
        controlOf(view.shard, view.id, { verb: `lane-${verb}`, at: head.name, by }),
      );
      await appendControls(this.#options.store, controls); // Q1
    }
    return { done: lanes.map(({ view }) => view), refused, next };
  }

  /**
   * Asks the lanes of these dead letters to send them again.
   * @param refused those that cannot come back join it
   * @returns those that were asked, or with `dryRun` would be
   */
  async redrive(
    letters: readonly DeadLetterView[],
    { by, dryRun }: { readonly by: string; readonly dryRun: boolean },
    refused: Refusals<DeadLetterPlace>,
  ): Promise<readonly DeadLetterView[]> {
    const done: DeadLetterView[] = [];
    const controls: ShardControl[] = [];
    for (const letter of letters) {
      const id = ownerOf(letter);
      if (id === null) {
        refused.push({ target: letter.place, why: NO_REPLY });
        continue;
      }
      const { shard, entry } = letter.place;
      controls.push(controlOf(shard, id, { verb: "lane-redrive", letter: formatEntryId(entry), by })); // Q2
      done.push(letter);
    }
    if (!dryRun) await appendControls(this.#options.store, controls);
    return done;
  }

  async #selected(request: LaneResolveRequest): Promise<Selected> {
    const { selection, verb, limit } = request;
    const refused: Refusals<ConversationId> = [];
    const lanes: Resolvable[] = [];
    const take = (view: LaneView): void => {
      const refusal = refusalOf(view, verb);
      if (refusal !== null) refused.push({ target: view.id, why: refusal });
      else lanes.push({ view, head: view.head! });
    };
    if (selection.kind === "targets") {
      const targets = [...new Map(selection.targets.map((id) => [conversationKey(id), id])).values()];
      const found = await Promise.all(targets.map((id) => this.#options.inspector.lane(id)));
      for (const [i, view] of found.entries()) {
        if (view === null) refused.push({ target: targets[i]!, why: FLOWS });
        else take(view);
      }
      return { lanes, refused, next: null };
    }
    const where: Where = [...selection.where, ...ONLY_RESOLVABLE[verb]];
    const { items, next } = await this.#options.inspector.lanes(where, limit, selection.after);
    for (const view of items) if (view.state !== null && view.head !== null) take(view);
    return { lanes, refused, next };
  }
}

const controlOf = (shard: number, id: ConversationId, control: LaneControl): ShardControl => ({
  shard,
  addTo: (batch) => batch.addLaneControl(conversationKey(id), control),
});

const FLOWS = "its lane flows; nothing of it stands still";
const UNREADABLE = "what is stored of its lane cannot be read; it is left untouched";
const CLOSED = "its lane is closed, not halted: what comes becomes a dead letter, and nothing waits; retry opens it";
const UNTRIED = "its lane waits for its account and no reply of it has failed; it goes on by itself";
const BETWEEN_SHARDS =
  "it carries messages to another shard, and those are not given up; retry it once that shard is open";
const NO_REPLY = "its bytes are no reply that could be sent; it stays where it is";

/** Null if the verb can be asked of it. */
function refusalOf({ id, state, head, nextAtMs }: LaneView, verb: LaneVerb): string | null {
  if (state === null) return UNREADABLE;
  if (state === "flowing") return FLOWS;
  if (verb === "skip" && state === "closed") return CLOSED;
  if (verb === "skip" && state === "retrying") {
    const when = nextAtMs === null ? "" : `, next at ${new Date(nextAtMs).toISOString()}`;
    return `its lane is retrying, not halted; it goes on by itself${when}`;
  }
  if (head === null) return UNTRIED;
  return verb === "skip" && id.channel === TRANSFER_CHANNEL ? BETWEEN_SHARDS : null; // Q3
}

const stateIs = (operator: "=" | "!=", value: LaneStateName): Condition => ({
  kind: "text",
  field: "state",
  operator,
  value,
});
/** What each verb is for. */
const ONLY_RESOLVABLE: Readonly<Record<LaneVerb, Where>> = {
  retry: [stateIs("!=", "flowing")],
  skip: [stateIs("=", "halted")],
};

/** Null for one that is no reply of a conversation. */
function ownerOf({ bot, channel, conversation, born, outSeq }: DeadLetterView): ConversationId | null {
  if (bot === null || channel === null || conversation === null || born === null || outSeq === null) return null;
  return channel === TRANSFER_CHANNEL ? null : { bot, channel, conversation };
}
