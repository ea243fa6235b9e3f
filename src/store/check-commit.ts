// Checks of a commit and of what else writes: mistakes of our own are assertions, made before anything is sent, the
// same for every store. What they catch would otherwise fail inside the script, and an error from there halts the
// shard.

import type { EntryId } from "../domain/position.ts";
import type { AppendOptions, AsideWrite, Commit, LaneListWrite, TimerName } from "./shard-store.ts";

/** A timer's name: no character of it is the one that parts a member of the timers. */
const TIMER_NAME = /^!?[A-Za-z0-9_.-]{1,64}$/;

/** @throws RangeError naming the field */
export function checkCommit(commit: Commit): void {
  atLeast("epoch", commit.epoch, 1);
  atLeast("n", commit.n, 1);
  atLeast("leaseMs", commit.leaseMs, 1);
  atLeast("inboxDoneBytes", commit.inboxDoneBytes, 0);
  atLeast("transcript.linesMax", commit.transcript.linesMax, 1);
  atLeast("transcript.bytesMax", commit.transcript.bytesMax, 1);
  atLeast("transcript.ttlMs", commit.transcript.ttlMs, 1);
  if (commit.outbox?.length === 0) throw new RangeError("outbox: an entry without bytes; null means none");
  if (commit.inboxAdd?.length === 0) throw new RangeError("inboxAdd: an entry without bytes; leave it out for none");
  for (const { idsTtlMs, aside } of commit.conversations) {
    if (idsTtlMs !== null) atLeast("idsTtlMs", idsTtlMs, 1);
    if (aside !== undefined) checkAside(aside);
  }
  checkLaneLists(commit.laneLists ?? []);
  for (const id of commit.deadDone ?? []) checkEntryId("deadDone", id);
  for (const id of commit.inboxDone) checkEntryId("inboxDone", id);
  for (const id of commit.outboxDone) checkEntryId("outboxDone", id);
  for (const { entry } of commit.acks) checkEntryId("acks", entry);
}

/** @throws RangeError naming the field */
export function checkAppendOptions({ from }: AppendOptions): void {
  if (from === undefined) return;
  atLeast("from.shard", from.shard, 0);
  checkEntryId("from.place", from.place);
}

/** @throws RangeError naming the field */
export function checkMove(request: { epoch: number; timers: readonly TimerName[]; entry: Uint8Array }): void {
  atLeast("epoch", request.epoch, 1);
  if (request.entry.length === 0) throw new RangeError("entry: the timers that move leave a message each");
  for (const timer of request.timers) checkTimer(timer);
}

function checkAside({ waiting, waitingDone, timers }: AsideWrite): void {
  checkListIds("waiting.id", waiting);
  for (const id of waitingDone) atLeast("waitingDone", id, 1);
  for (const timer of timers) {
    checkTimer(timer);
    if (timer.atMs !== null) atLeast("timers.atMs", timer.atMs, 0);
  }
}

/** Two writes of one list pass the script's look at what it gave out, and the second then fails amid its writes. */
function checkLaneLists(lists: readonly LaneListWrite[]): void {
  const named = new Set<string>();
  for (const { key, joining, leaving } of lists) {
    if (named.has(key)) throw new RangeError("laneLists.key: one lane comes twice");
    named.add(key);
    checkListIds("laneLists.joining.id", joining);
    for (const id of leaving) atLeast("laneLists.leaving", id, 1);
  }
}

function checkListIds(field: string, joining: readonly { readonly id: number }[]): void {
  let last = 0;
  for (const { id } of joining) {
    atLeast(field, id, last + 1);
    last = id;
  }
}

function checkTimer({ name, generation }: { readonly name: string; readonly generation: number }): void {
  if (!TIMER_NAME.test(name)) throw new RangeError("timers.name: 1 to 64 of A-Z a-z 0-9 _ - . after an optional !");
  atLeast("timers.generation", generation, 0);
}

function checkEntryId(field: string, id: EntryId): void {
  atLeast(`${field}.ms`, id.ms, 0);
  atLeast(`${field}.seq`, id.seq, 0);
}

function atLeast(field: string, value: number, min: number): void {
  if (!Number.isSafeInteger(value) || value < min)
    throw new RangeError(`${field}: ${value} is not an integer >= ${min}`);
}
