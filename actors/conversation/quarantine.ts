// Quarantine: a conversation whose record cannot be read, and the first look at one whose record could not be.
//
// Invariants
//   N1. A record that cannot be read is written back as it was, to the byte (R5); its messages go unread to the list (attack B13).
//   N2. Nothing joins the list before it is counted: the record that knew where it ends is lost, or knows nothing of what came since.

import { decodeWaiting } from "../../src/codec/inbox-codec.ts";
import type { Hash64 } from "../../src/domain/hash.ts";
import type { Position } from "../../src/domain/position.ts";
import { describeError } from "../../src/log.ts";
import type { WaitingEntry } from "../../src/store/shard-store.ts";
import type { ConversationCore } from "./core.ts";
import type { ListWindow } from "./list-window.ts";

/** What stands on the list, as far as it was read. */
interface ListCount {
  lastId: number;
  count: number;
  bytes: number;
  first: WaitingEntry | null;
}

export class Quarantine {
  readonly #core: ConversationCore;
  readonly #list: ListWindow;
  readonly #onEnded: () => void;
  /** As it is stored; null where it can be read again. */
  readonly #record: Uint8Array | null;
  readonly #counted: ListCount = { lastId: 0, count: 0, bytes: 0, first: null };
  #isCounting = true;

  /** @param onEnded all of the list is counted, and the record can be read */
  constructor(core: ConversationCore, list: ListWindow, record: Uint8Array | null, onEnded: () => void) {
    this.#core = core;
    this.#list = list;
    this.#record = record;
    this.#onEnded = onEnded;
  }

  /** N2 */
  get isCounting(): boolean {
    return this.#isCounting;
  }

  /** Whether its record cannot be read. */
  get holds(): boolean {
    return this.#record !== null;
  }

  /** @param error why its record cannot be read, if so */
  start(error?: unknown): void {
    const { id, key, ports, wake } = this.#core;
    if (!this.holds) {
      this.#list.ask(0);
      return;
    }
    ports.log.error(
      { ...id, error: describeError(error) },
      "conversation quarantined: its record cannot be read and is left untouched; its messages wait on its list, nothing is lost",
    );
    ports.headIsThrough(key);
    this.#list.close();
    this.#list.ask(0);
    wake(); // clocks and verbs may wait
  }

  /** What stands on the list behind what was counted; nothing if that was all. */
  count(entries: readonly WaitingEntry[]): void {
    const counted = this.#counted;
    for (const entry of entries) {
      counted.first ??= entry;
      counted.lastId = entry.id;
      counted.count += 1;
      counted.bytes += entry.bytes.length;
    }
    if (entries.length > 0) {
      this.#list.ask(counted.lastId);
      return;
    }
    this.#isCounting = false;
    if (this.#record !== null)
      this.#core.ledger.quarantine(this.#record, counted); // N1
    else this.#end(counted);
  }

  /** Nothing of it is halted or due. */
  dropUrgent(): void {
    const { mailbox, ports } = this.#core;
    for (let urgent = mailbox.peekUrgent(); urgent !== undefined; urgent = mailbox.peekUrgent()) {
      mailbox.shiftUrgent();
      ports.finish(urgent.source);
    }
  }

  #end({ first, ...count }: ListCount): void {
    const { id, ledger, ports } = this.#core;
    const born = first === null ? null : positionOnList(first, ports.hashKey);
    if (ledger.record !== null || born !== null) {
      ports.log.info({ ...id, waiting: count.count }, "its record can be read again: the conversation goes on");
      ledger.recount(born ?? ledger.record!.born, count);
    }
    this.#onEnded();
  }
}

function positionOnList({ id, bytes }: WaitingEntry, hashKey: Hash64): Position | null {
  try {
    return decodeWaiting(bytes, id, hashKey).position;
  } catch {
    return null; // it becomes a dead letter when its turn comes
  }
}
