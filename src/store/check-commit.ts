// Check of a commit: mistakes of our own are assertions, made before anything is sent, the same for every store. What they
// catch would otherwise fail inside the script, and an error from there halts the shard.

import type { EntryId } from "../domain/position.ts";
import type { Commit } from "./shard-store.ts";

/** @throws RangeError naming the field */
export function checkCommit(commit: Commit): void {
  atLeast("epoch", commit.epoch, 1);
  atLeast("n", commit.n, 1);
  atLeast("leaseMs", commit.leaseMs, 1);
  atLeast("inboxDoneBytes", commit.inboxDoneBytes, 0);
  atLeast("transcript.linesMax", commit.transcript.linesMax, 1);
  atLeast("transcript.bytesMax", commit.transcript.bytesMax, 1);
  atLeast("transcript.ttlMs", commit.transcript.ttlMs, 1);
  if (commit.outbox?.length === 0) throw new RangeError("commit.outbox: an entry without bytes; null means none");
  for (const { idsTtlMs } of commit.conversations) if (idsTtlMs !== null) atLeast("idsTtlMs", idsTtlMs, 1);
  for (const id of commit.inboxDone) checkEntryId("inboxDone", id);
  for (const id of commit.outboxDone) checkEntryId("outboxDone", id);
  for (const { entry } of commit.acks) checkEntryId("acks", entry);
}

function checkEntryId(field: string, id: EntryId): void {
  atLeast(`${field}.ms`, id.ms, 0);
  atLeast(`${field}.seq`, id.seq, 0);
}

function atLeast(field: string, value: number, min: number): void {
  if (!Number.isSafeInteger(value) || value < min)
    throw new RangeError(`commit.${field}: ${value} is not an integer >= ${min}`);
}
