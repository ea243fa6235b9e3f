// Operations: what operators ask for, made into messages in the inboxes of shards (R3). Nothing is decided here: whoever owns the shard
// decides, in order, and one that comes twice changes nothing. What concerns lanes is made in lane-operations.ts.
//
// Invariants
//   O1. A verb names the halt that stood in the index when it was read, so it means that one and no later one.
//   O2. What is answered as done was confirmed by Redis. After an error some of it may have been appended; the same may be asked again.
//   O3. A dead letter comes back under a name of its own, that of its entry: asked for twice, it runs once. Its place in the outside's
//       order it keeps for the bot to see; the sequencer does not count it.
//   O4. Every request that does something is one line of the log, also one that failed half-way.
//   O5. Verbs pass the bound of the inbox, since they are what empties it, also the one that brings a reply back: it names a dead
//       letter. Messages that come back do not (P7).

import type {
  ConversationView,
  DeadLetterPlace,
  DeadLetterView,
  Inspector,
  LaneView,
  OpenPlace,
} from "../src/admin/inspector.ts";
import type {
  HaltedTarget,
  HaltVerb,
  LaneResolveRequest,
  OperationReport,
  Operator,
  RedriveRequest,
  ResolveRequest,
} from "../src/admin/operator.ts";
import type { Where } from "../src/admin/where.ts";
import { decodeDeadLetter } from "../src/codec/dead-letter-codec.ts";
import { decodeWaiting, InboxBatch } from "../src/codec/inbox-codec.ts";
import type { OpenEntry } from "../src/codec/open-codec.ts";
import { type ConversationId, type ConversationKey, conversationKey, shardOf } from "../src/domain/ids.ts";
import type { InboxMessage } from "../src/domain/message.ts";
import { compareEntryIds, formatEntryId, idBefore } from "../src/domain/position.ts";
import { CodecError } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { ShardStore } from "../src/store/shard-store.ts";
import { appendControls, byShard, type ShardControl } from "./control-entries.ts";
import { LaneOperations } from "./lane-operations.ts";
import { findOpen } from "./open-index.ts";
import { audited } from "./operation-audit.ts";

export interface OperationsOptions {
  readonly shards: number;
  readonly store: (shard: number) => Pick<ShardStore, "append" | "readOpen" | "readDeadLetters">;
  readonly inspector: Pick<Inspector, "open" | "deadLetters" | "resident" | "lane" | "lanes">;
  readonly log: Log;
  readonly entryBytesMax: number;
  readonly inboxBytesMax: number;
}

/** Besides what the message had: the name of its dead letter. */
const REDRIVE_EXTRA_BYTES = 256;

type Refusals<Target> = { readonly target: Target; readonly why: string }[];

export class Operations implements Operator {
  readonly #options: OperationsOptions;
  readonly #lanes: LaneOperations;

  constructor(options: OperationsOptions) {
    this.#options = options;
    this.#lanes = new LaneOperations(options);
  }

  resolve(request: ResolveRequest): Promise<OperationReport<HaltedTarget, ConversationId, OpenPlace>> {
    return audited(this.#options.log, request.verb, request, async () => {
      const { halted, refused, next } = await this.#halted(request);
      if (!request.dryRun) await this.#control(request.verb, request.by, halted);
      return { done: halted, refused, next };
    });
  }

  redrive(request: RedriveRequest): Promise<OperationReport<DeadLetterView, DeadLetterPlace, DeadLetterPlace>> {
    return audited(this.#options.log, "redrive", request, async () => {
      const { letters, refused, next } = await this.#letters(request);
      const replies = letters.filter(({ direction }) => direction === "out");
      const messages = letters.filter(({ direction }) => direction !== "out");
      const done = await this.#redriven(messages, refused, request.dryRun);
      done.push(...(await this.#lanes.redrive(replies, request, refused)));
      return { done, refused, next };
    });
  }

  resolveLanes(request: LaneResolveRequest): Promise<OperationReport<LaneView, ConversationId, OpenPlace>> {
    return audited(this.#options.log, `lane-${request.verb}`, request, () => this.#lanes.resolve(request));
  }

  async #halted({ selection, limit }: ResolveRequest): Promise<{
    readonly halted: readonly HaltedTarget[];
    readonly refused: Refusals<ConversationId>;
    readonly next: OpenPlace | null;
  }> {
    if (selection.kind === "targets") return { ...(await this.#namedHalts(selection.targets)), next: null };
    const where: Where = [...selection.where, ONLY_HALTED];
    const page = await this.#options.inspector.open(where, limit, selection.after);
    return { halted: page.items.flatMap(haltedTarget), refused: [], next: page.next };
  }

  async #namedHalts(targets: readonly ConversationId[]): Promise<{
    readonly halted: readonly HaltedTarget[];
    readonly refused: Refusals<ConversationId>;
  }> {
    const halted: HaltedTarget[] = [];
    const refused: Refusals<ConversationId> = [];
    for (const [shard, ids] of this.#byShard(targets)) {
      const found = await findOpen(this.#options.store(shard), new Set(ids.keys()));
      for (const [key, id] of ids) {
        const entry = found.get(key);
        if (entry?.halt === undefined) refused.push({ target: id, why: this.#notHalted(id, entry) });
        else halted.push({ id, ...haltOf(entry, entry.halt) });
      }
    }
    return { halted, refused };
  }

  /** One that stands only in memory, by an error of the runtime's own, has no halt that a message could lift. */
  #notHalted(id: ConversationId, entry: OpenEntry | null | undefined): string {
    if (entry === null) return "its entry in the index of the unfinished cannot be read";
    if (entry !== undefined) return `it is ${entry.state}, not halted`;
    const here = this.#options.inspector.resident(id);
    if (here === null || here.state === "idle") return "it is not halted: nothing of it is unfinished";
    if (here.state !== "halted") return `it is ${here.state}, not halted`;
    return `${here.why}; no verb lifts that, it is tried again when its shard is opened again, as after a restart`;
  }

  #byShard(targets: readonly ConversationId[]): ReadonlyMap<number, Map<ConversationKey, ConversationId>> {
    const shards = new Map<number, Map<ConversationKey, ConversationId>>();
    for (const id of targets) {
      const key = conversationKey(id);
      const shard = shardOf(key, this.#options.shards);
      const ids = shards.get(shard) ?? new Map<ConversationKey, ConversationId>();
      shards.set(shard, ids.set(key, id));
    }
    return shards;
  }

  /** O1, O5 */
  #control(verb: HaltVerb, by: string, halted: readonly HaltedTarget[]): Promise<void> {
    const controls = halted.map(({ id, halt }): ShardControl => {
      const key = conversationKey(id);
      const shard = shardOf(key, this.#options.shards);
      return { shard, addTo: (batch) => batch.addControl(key, { verb, halt, by }) };
    });
    return appendControls(this.#options.store, controls);
  }

  async #letters({ selection, limit }: RedriveRequest): Promise<{
    readonly letters: readonly DeadLetterView[];
    readonly refused: Refusals<DeadLetterPlace>;
    readonly next: DeadLetterPlace | null;
  }> {
    if (selection.kind === "targets") return { ...(await this.#namedLetters(selection.targets)), next: null };
    const { items, next } = await this.#options.inspector.deadLetters(selection.where, limit, selection.after);
    return { letters: items.filter(({ direction }) => direction !== null), refused: [], next };
  }

  async #namedLetters(places: readonly DeadLetterPlace[]): Promise<{
    readonly letters: readonly DeadLetterView[];
    readonly refused: Refusals<DeadLetterPlace>;
  }> {
    const letters: DeadLetterView[] = [];
    const refused: Refusals<DeadLetterPlace> = [];
    for (const place of distinct(places)) {
      const { shard, entry } = place;
      const [found] =
        shard < this.#options.shards
          ? await this.#options.store(shard).readDeadLetters({ after: idBefore(entry), count: 1 })
          : [];
      if (found === undefined || compareEntryIds(found.id, entry) !== 0) {
        refused.push({ target: place, why: "there is no such dead letter; it may have been redriven before" });
        continue;
      }
      letters.push({ ...decodeDeadLetter(found.bytes), place });
    }
    return { letters, refused };
  }

  /** In the order given; those that cannot come back join `refused`. */
  async #redriven(
    letters: readonly DeadLetterView[],
    refused: Refusals<DeadLetterPlace>,
    dryRun: boolean,
  ): Promise<DeadLetterView[]> {
    const done: DeadLetterView[] = [];
    const redrives: Redrive[] = [];
    for (const letter of letters) {
      const message = messageOf(letter);
      const { shard } = letter.place;
      if (message !== null && shardOf(message.key, this.#options.shards) === shard)
        redrives.push({ shard, letter, message });
      else refused.push({ target: letter.place, why: UNREADABLE });
    }
    for (const [shard, all] of byShard(redrives))
      for (const page of pagesOf(all, this.#options.entryBytesMax))
        done.push(...(dryRun ? page.map(({ letter }) => letter) : await this.#append(shard, page, refused)));
    return done;
  }

  /** O3, O5. Of a page in which some conversations are full the others go again, without them. */
  async #append(
    shard: number,
    page: readonly Redrive[],
    refused: Refusals<DeadLetterPlace>,
  ): Promise<readonly DeadLetterView[]> {
    if (page.length === 0) return [];
    const batch = new InboxBatch();
    for (const { letter, message } of page) {
      const redrives = formatEntryId(letter.place.entry);
      batch.addAgain({ ...message, extra: { ...message.extra, redrives } });
    }
    const conversations = [...new Set(page.map(({ message }) => message.key))];
    const reply = await this.#options
      .store(shard)
      .append(batch.finish(), this.#options.inboxBytesMax, { conversations });
    switch (reply.kind) {
      case "appended":
        return page.map(({ letter }) => letter);
      case "full": {
        const full = new Set(reply.conversations);
        const isFull = ({ message }: Redrive): boolean => full.has(message.key);
        for (const { letter } of page.filter(isFull)) refused.push({ target: letter.place, why: CONVERSATION_FULL });
        return await this.#append(
          shard,
          page.filter((each) => !isFull(each)),
          refused,
        );
      }
      case "over":
      case "taken":
        for (const { letter } of page) refused.push({ target: letter.place, why: INBOX_FULL });
        return [];
    }
  }
}

interface Redrive {
  readonly shard: number;
  readonly letter: DeadLetterView;
  readonly message: InboxMessage;
}

const UNREADABLE = "its bytes are no message that could run; it stays where it is";
const CONVERSATION_FULL = "its conversation is at the bound of its waiting list; it stays where it is, try again later";
const INBOX_FULL = "the inbox of its shard is full; it stays where it is, try again later";

/** A halt that a verb can name. */
const ONLY_HALTED = { kind: "text", field: "state", operator: "=", value: "halted" } as const;

function haltedTarget({ id, halt, sinceMs, why, waiting }: ConversationView): HaltedTarget[] {
  return halt === null
    ? []
    : [{ id, halt: halt.name, reason: halt.reason, sinceMs: sinceMs ?? 0, why: why ?? "", waiting }];
}

function haltOf({ reason, sinceMs, why, waiting }: OpenEntry, halt: string): Omit<HaltedTarget, "id"> {
  return { halt, reason: reason ?? null, sinceMs, why, waiting };
}

/** The message that a dead letter holds; null if its bytes are none. Its hashes do not matter: it is written out again. */
function messageOf({ payload }: DeadLetterView): InboxMessage | null {
  try {
    return decodeWaiting(payload, null, { lo: 0, hi: 0 });
  } catch (error) {
    if (error instanceof CodecError || error instanceof RangeError) return null;
    throw error;
  }
}

/** Each at most an entry long; one message alone may be longer. */
function* pagesOf(all: readonly Redrive[], bytesMax: number): Generator<readonly Redrive[]> {
  let page: Redrive[] = [];
  let bytes = 0;
  for (const each of all) {
    const size = each.message.bytes + REDRIVE_EXTRA_BYTES;
    if (page.length > 0 && bytes + size > bytesMax) {
      yield page;
      page = [];
      bytes = 0;
    }
    page.push(each);
    bytes += size;
  }
  yield page;
}

function distinct(places: readonly DeadLetterPlace[]): readonly DeadLetterPlace[] {
  return [...new Map(places.map((place) => [`${place.shard}:${formatEntryId(place.entry)}`, place])).values()];
}
