// A committer on a store whose every answer the test gives by hand.

import {
  type Committable,
  type CommittableLane,
  Committer,
  type CommitterOptions,
  type PendingWrite,
} from "../../../actors/committer.ts";
import type { LaneWrite } from "../../../actors/lane-backlog.ts";
import type { OutboxReply } from "../../../src/codec/outbox-codec.ts";
import { type ConversationKey, conversationKey } from "../../../src/domain/ids.ts";
import type { LaneState } from "../../../src/domain/lane.ts";
import type { InboxEntry } from "../../../src/domain/message.ts";
import type { EntryId } from "../../../src/domain/position.ts";
import { PartEnvironment } from "../../../src/environment.ts";
import { newCounters } from "../../../src/metrics.ts";
import type { Commit, CommitReply } from "../../../src/store/shard-store.ts";
import { type Gate, gate, quiet } from "../../support/quiet.ts";
import { RecordingLog } from "../../support/recording-log.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";

export class ScriptedStore {
  /** Every commit that was sent, repeats too. */
  readonly sent: Commit[] = [];
  /** What was sent, as bytes and values at that moment: a commit that changes in flight shows here. */
  readonly images: string[] = [];
  #open: Gate<CommitReply>[] = [];

  get inFlight(): number {
    return this.#open.length;
  }

  get last(): Commit {
    return this.sent.at(-1)!;
  }

  commit = (commit: Commit): Promise<CommitReply> => {
    this.sent.push(commit);
    this.images.push(imageOf(commit));
    const answer = gate<CommitReply>();
    this.#open.push(answer);
    return answer.promise;
  };

  /** Applied, with an outbox id if it replied. */
  async apply(outboxId: EntryId = { ms: this.last.n, seq: 0 }): Promise<void> {
    await this.answer({ kind: "applied", n: this.last.n, outboxId: this.last.outbox === null ? null : outboxId });
  }

  async answer(reply: CommitReply): Promise<void> {
    this.#open.shift()!.open(reply);
    await quiet();
  }

  async fail(error: unknown): Promise<void> {
    this.#open.shift()!.fail(error);
    await quiet();
  }
}

const imageOf = (commit: Commit): string =>
  JSON.stringify(commit, (_name, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );

export interface Decided {
  readonly record?: string;
  readonly replies?: readonly string[];
  readonly consumed?: readonly InboxEntry[];
  readonly transcript?: readonly string[];
}

/** A conversation that decides what the test says. */
export class FakeConversation implements Committable {
  readonly key: ConversationKey;
  commits = 0;
  takes = 0;
  outSeq = 0;
  readonly #committer: Committer;
  #decided: Decided[] = [];

  constructor(committer: Committer, name: string) {
    this.#committer = committer;
    this.key = conversationKey({ bot: "b", channel: "test", conversation: name });
  }

  decide(decided: Decided = {}): void {
    this.#decided.push(decided);
    this.#committer.add(this);
  }

  takeWrite(): PendingWrite {
    this.takes += 1;
    const decided = this.#decided;
    this.#decided = [];
    const replies: OutboxReply[] = decided.flatMap((each) =>
      (each.replies ?? []).map((text) => ({
        key: this.key,
        born: "b0",
        outSeq: ++this.outSeq,
        body: Buffer.from(text),
      })),
    );
    const record = Buffer.from(decided.at(-1)?.record ?? `${this.key} after ${this.takes}`);
    const transcript = decided.flatMap((each) => (each.transcript ?? []).map((line) => Buffer.from(line)));
    return {
      write: { key: this.key, record, ids: null, idsTtlMs: null, transcript },
      replies,
      consumed: decided.flatMap((each) => (each.consumed ?? []).map((source) => ({ source }))),
      dead: [],
      deadDone: [],
      sends: [],
    };
  }

  committed(): void {
    this.commits += 1;
  }
}

export class CommitterRig {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(7);
  readonly log: RecordingLog = new RecordingLog();
  readonly store: ScriptedStore = new ScriptedStore();
  readonly committer: Committer;
  readonly delivered: { entry: Parameters<CommitterOptions["onReplies"]>[0]; replies: readonly OutboxReply[] }[] = [];
  readonly inboxDone: number[] = [];
  readonly transcripts: string[] = [];
  readonly lost: string[] = [];
  readonly #lanes = new Map<ConversationKey, ScriptedLane>();
  /** What ended the committer as a part. */
  readonly failures: unknown[] = [];

  constructor(bounds: { commitKeysMax?: number; commitBytesMax?: number; ackDelayMs?: number } = {}) {
    const environment = new PartEnvironment(this.environment, (error) => this.failures.push(error));
    environment.onClose(() => this.committer.stop()); // as its shard does
    this.committer = new Committer({
      environment,
      log: this.log.log,
      counters: newCounters(),
      store: this.store,
      epoch: 3,
      leaseMs: 5_000,
      ackDelayMs: 20,
      commitKeysMax: 4_000,
      commitBytesMax: 4 * 1024 * 1024,
      deadLetters: { count: 0, bytes: 0 },
      deadLettersMax: 100_000,
      deadLetterBytesMax: 268_435_456,
      transcript: { linesMax: 200, bytesMax: 262_144, ttlMs: 60_000 },
      onReplies: (entry, replies) => this.delivered.push({ entry, replies }),
      onTranscript: (key) => this.transcripts.push(key),
      onTimer: () => undefined,
      onOpen: () => undefined,
      toList: () => null,
      sortSends: () => ({ here: null, away: [] }),
      onInboxDone: (_entries, bytes) => this.inboxDone.push(bytes),
      onLost: (reason) => this.lost.push(reason),
      ...bounds,
    });
  }

  /** A lane that says this of itself in the next commit, and nothing else; null: it flows. */
  setLane(key: ConversationKey, reason: string | null): void {
    const lane = this.#lanes.get(key) ?? new ScriptedLane(key);
    this.#lanes.set(key, lane);
    lane.reason = reason;
    this.committer.laneChanged(lane);
  }

  conversation(name: string): FakeConversation {
    return new FakeConversation(this.committer, name);
  }

  entry(ms: number, undecided: number, bytes = 100): InboxEntry {
    return { id: { ms, seq: 0 }, bytes, undecided };
  }
}

/** Whether a promise has settled once all that is ready has run. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = (): void => {
    settled = true;
  };
  promise.then(note, note);
  await quiet();
  return settled;
}

class ScriptedLane implements CommittableLane {
  readonly key: ConversationKey;
  reason: string | null = null;

  constructor(key: ConversationKey) {
    this.key = key;
  }

  takeWrite(): LaneWrite {
    const { key, reason } = this;
    const trouble = { born: "b.0", outSeq: 1, attempts: 1, firstFailedAtMs: 1, nextAtMs: 2 };
    const state: LaneState | null = reason === null ? null : { state: "retrying", ...trouble, reason };
    return { key, state, joining: [], leaving: [], done: [], dead: [], deadDone: [], markers: [] };
  }
}
