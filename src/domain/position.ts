// Positions: where a message stands in its shard's inbox. They only rise, whatever the clocks do (attack H10).

/** Id of an entry of a Redis stream, `<ms>-<seq>`. */
export interface EntryId {
  readonly ms: number;
  readonly seq: number;
}

/** An inbox entry holds a batch; `index` counts the messages in it from 0. */
export interface Position {
  readonly entry: EntryId;
  readonly index: number;
}

export const ENTRY_ZERO: EntryId = Object.freeze({ ms: 0, seq: 0 });

export function compareEntryIds(a: EntryId, b: EntryId): number {
  return a.ms - b.ms || a.seq - b.seq;
}

/** The highest id below one. */
export function idBefore({ ms, seq }: EntryId): EntryId {
  if (seq > 0) return { ms, seq: seq - 1 };
  return ms > 0 ? { ms: ms - 1, seq: Number.MAX_SAFE_INTEGER } : ENTRY_ZERO;
}

export function comparePositions(a: Position, b: Position): number {
  return compareEntryIds(a.entry, b.entry) || a.index - b.index;
}

export function formatEntryId(id: EntryId): string {
  return `${id.ms}-${id.seq}`;
}

/** @throws RangeError if the text is not `<ms>-<seq>` */
export function parseEntryId(text: string): EntryId {
  const dash = text.indexOf("-");
  const ms = Number(text.slice(0, dash));
  const seq = Number(text.slice(dash + 1));
  if (dash < 1 || !Number.isSafeInteger(ms) || !Number.isSafeInteger(seq) || ms < 0 || seq < 0) {
    throw new RangeError(`not a stream entry id: ${text.slice(0, 40)}`);
  }
  return { ms, seq };
}

/** The name of one life of a conversation in every derived id: base 36 of the position that began it (attack B7). */
export function formatBorn(born: Position): string {
  return `${born.entry.ms.toString(36)}-${born.entry.seq.toString(36)}-${born.index.toString(36)}`;
}
