// Pending heads: what was unfinished when the shard was acquired, and which of it may run, after processes that ended uncleanly while
// it ran (DESIGN 5, Poison; attack H2). One for each life of the conversations of a shard.
//
// Invariants
//   W1. After one unclean end nothing is held back; after more, a head that was pending then runs only in a group that one commit has
//       marked, beside everything that came later.
//   W2. The last of a group that halves runs alone in the process. Only that is charged for an end of the process.
//   W3. What was pending is through when its inbox entries are done, its open conversations were decided, and none that asked to run
//       waits or runs: then unclean ends count from 0 again. Entries alone do not say it: what runs for long leaves the inbox for
//       its conversation's list.

import type { ConversationKey } from "../src/domain/ids.ts";
import type { InboxEntry } from "../src/domain/message.ts";
import { compareEntryIds, type EntryId, type Position } from "../src/domain/position.ts";
import { SuspectGroups } from "../src/domain/suspects.ts";
import type { Environment } from "../src/environment.ts";
import type { Log } from "../src/log.ts";

/** A conversation as this needs it. */
export interface Head {
  readonly key: ConversationKey;
  /** Resolves when the mark is durable; stays pending in one that left. */
  markSuspect(size: number, position: Position): Promise<void>;
  wake(): void;
}

export interface PendingHeadsOptions {
  readonly log: Log;
  readonly uncleanEnds: number;
  /** A process ended just before: not this one, acquiring again. */
  readonly followsAnEnd: boolean;
  /** The highest id in the inbox when the shard was acquired. */
  readonly horizon: EntryId;
  readonly groupMax: number;
  readonly environment: Environment;
  /** Lets nothing else begin a turn in this process, and tells when no turn runs any more; null: everything may again. */
  readonly leaveAlone: (key: ConversationKey | null, onAlone?: () => void) => void;
  readonly onThrough: () => void;
}

const GATHER_MS = 50;

export class PendingHeads {
  readonly #options: PendingHeadsOptions;
  #groups: SuspectGroups<ConversationKey>;
  readonly #waiting = new Map<ConversationKey, { readonly head: Head; readonly position: Position }>();
  /** Open conversations that go on by themselves and were not decided yet. */
  readonly #open = new Set<ConversationKey>();
  /** Those that may run and were not decided yet. */
  readonly #running = new Set<ConversationKey>();
  /** Of the group under way, those whose mark is not durable yet, and who was told to bear it. */
  readonly #marking = new Map<ConversationKey, Head>();
  /** Those whose mark is durable, as long as others of the group are not. */
  readonly #marked = new Set<ConversationKey>();
  #groupSize = 0;
  /** Those that ran alone when the process ended. */
  readonly #diedAlone = new Set<ConversationKey>();
  #entries = 0;
  #isRead = false;
  #isThrough: boolean;
  #isGathering = false;
  #alone: ConversationKey | null = null;

  constructor(options: PendingHeadsOptions) {
    this.#options = options;
    this.#isThrough = options.uncleanEnds === 0;
    this.#groups = new SuspectGroups({ uncleanEnds: options.uncleanEnds, marked: [], groupMax: options.groupMax });
  }

  /** Those that the index of the unfinished names and that go on by themselves, with the marks that they bear. */
  recovered(open: readonly { readonly key: ConversationKey; readonly suspect: number | undefined }[]): void {
    const { uncleanEnds, followsAnEnd, groupMax, log } = this.#options;
    const marked = open.flatMap(({ key, suspect }) => (suspect === undefined ? [] : [{ key, size: suspect }]));
    for (const { key } of open) this.#open.add(key);
    if (followsAnEnd) for (const { key, size } of marked) if (size === 1) this.#diedAlone.add(key);
    this.#groups = new SuspectGroups({ uncleanEnds, marked, groupMax });
    if (uncleanEnds > 1)
      log.warn(
        { uncleanEnds, marked: marked.length },
        "the process ended more than once before what is pending was through: that runs in groups, to find what ends it",
      );
  }

  mayRun(head: Head, position: Position): boolean {
    if (this.#isThrough || !this.#isPending(head.key, position)) return true;
    if (this.#groups.ask(head.key) === "free") {
      this.#running.add(head.key);
      return true;
    }
    this.#waiting.set(head.key, { head, position });
    const told = this.#marking.get(head.key);
    if (told === undefined) this.#gather();
    else if (told !== head) this.#mark(head, position);
    return false;
  }

  /** Its turn was decided, it failed durably, or it halted. */
  through(key: ConversationKey): void {
    if (this.#isThrough) return;
    this.#waiting.delete(key);
    this.#running.delete(key);
    this.#groups.through(key);
    this.#marked.delete(key);
    if (this.#marking.delete(key)) this.#runIfMarked(); // the others need not wait for it
    this.#open.delete(key);
    if (this.#alone === key) {
      this.#alone = null;
      this.#options.leaveAlone(null);
    }
    this.#nextGroup();
    this.#look();
  }

  /** Nothing of it is unfinished any more, though none of its turns may have run: all that waited were duplicates. */
  closed(key: ConversationKey): void {
    if (this.#isThrough) return;
    this.#open.delete(key);
    this.#look();
  }

  /** Nobody is held back by it any more. */
  stop(): void {
    this.#isThrough = true;
    if (this.#alone !== null) this.#options.leaveAlone(null);
    this.#alone = null;
  }

  /** All was read that stood in the inbox when the shard was acquired. */
  get hasCaughtUp(): boolean {
    return this.#isRead;
  }

  /** True once. */
  diedAlone(key: ConversationKey): boolean {
    return this.#diedAlone.delete(key);
  }

  /** An entry was handed to its conversations. */
  read(entry: EntryId | null): void {
    if (this.#isRead) return;
    if (entry !== null && compareEntryIds(entry, this.#options.horizon) <= 0) this.#entries += 1;
    if (entry === null || compareEntryIds(entry, this.#options.horizon) >= 0) this.#isRead = true;
    this.#look();
  }

  /** Entries left the inbox. */
  done(entries: readonly InboxEntry[]): void {
    if (this.#isThrough) return;
    for (const { id } of entries) if (compareEntryIds(id, this.#options.horizon) <= 0) this.#entries -= 1;
    this.#look();
  }

  #isPending(key: ConversationKey, position: Position): boolean {
    return this.#open.has(key) || compareEntryIds(position.entry, this.#options.horizon) <= 0;
  }

  /** Those that ask at about the same time are one group, and marked ones come before others. */
  #gather(): void {
    if (this.#isGathering) return;
    this.#isGathering = true;
    this.#options.environment.after(GATHER_MS, () => {
      this.#isGathering = false;
      this.#nextGroup();
    });
  }

  /** W1: one commit marks them, and then they run. Before one alone is marked, whoever still runs has ended: that is not its guilt. */
  #nextGroup(): void {
    const group = this.#groups.nextGroup();
    if (group === null) return;
    const members = group.keys.flatMap((key) => this.#waiting.get(key) ?? []);
    this.#options.log.info({ size: group.size, conversations: members.length }, "a group of suspects runs");
    this.#groupSize = group.size;
    for (const { head } of members) this.#marking.set(head.key, head);
    const mark = (): void => {
      for (const { head, position } of members) this.#mark(head, position);
    };
    if (group.size > 1) mark();
    else {
      this.#alone = group.keys[0]!;
      this.#options.leaveAlone(this.#alone, mark);
    }
  }

  #mark(head: Head, position: Position): void {
    if (!this.#marking.has(head.key)) return; // it is through
    this.#marking.set(head.key, head);
    void head.markSuspect(this.#groupSize, position).then(() => {
      if (this.#marking.get(head.key) !== head) return; // it was replaced, and its successor is marked
      this.#marking.delete(head.key);
      this.#marked.add(head.key);
      this.#runIfMarked();
    });
  }

  /** W2 */
  #runIfMarked(): void {
    if (this.#marking.size > 0) return;
    const keys = [...this.#marked];
    this.#marked.clear();
    this.#groups.marked(keys);
    for (const key of keys) {
      const waiting = this.#waiting.get(key);
      if (waiting === undefined) continue;
      this.#waiting.delete(key);
      this.#running.add(key);
      waiting.head.wake();
    }
  }

  /** W3 */
  #look(): void {
    if (this.#isThrough || !this.#isRead || this.#entries > 0 || this.#open.size > 0) return;
    if (this.#waiting.size > 0 || this.#running.size > 0) return;
    this.#isThrough = true;
    this.#options.onThrough();
  }
}
