// Turns alone: a journal whose committer commits when the test says so, and a turn over it.

import { Turn, type TurnInput, type TurnResult } from "../../../actors/turn.ts";
import { type JournalPorts, TurnJournal } from "../../../actors/turn-journal.ts";
import type { Message, TurnContext } from "../../../src/domain/bot.ts";
import { conversationKey } from "../../../src/domain/ids.ts";
import type { InboxMessage, Reply } from "../../../src/domain/message.ts";
import { freezePlain, type Plain } from "../../../src/domain/plain-data.ts";
import type { Position } from "../../../src/domain/position.ts";
import { type JournaledStep, NO_OPEN_TURN, type OpenTurn } from "../../../src/domain/record.ts";
import { silentLog } from "../../../src/log.ts";
import { gate } from "../../support/quiet.ts";
import type { RecordingLog } from "../../support/recording-log.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";

export type Handler = (state: Plain, message: Message, ctx: TurnContext) => unknown;

export const at = (ms: number, seq = 0, index = 0): Position => ({ entry: { ms, seq }, index });

export const openTurn = (parts: Partial<OpenTurn>): OpenTurn => ({
  ...NO_OPEN_TURN,
  position: at(1_000, 2, 3),
  ...parts,
});

/** What a crash of the process leaves. */
export interface Durable {
  readonly steps: readonly JournaledStep[];
  readonly repliesOut: number;
  readonly replies: readonly Reply[];
}

/** The committer's side of a journal. */
export class JournalRig implements JournalPorts {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(5);
  readonly bounds: JournalPorts["bounds"];
  readonly #commits: "itself" | "by hand";
  journal: TurnJournal;
  durable: Durable;
  #flushed: Reply[] = [];
  #isDirty = false;
  #waiting: (() => void)[] = [];
  /** What `flush` throws. */
  renderError: Error | null = null;

  constructor(
    given: {
      readonly open?: OpenTurn;
      readonly replies?: readonly Reply[];
      readonly bounds?: Partial<JournalPorts["bounds"]>;
      readonly commits?: "itself" | "by hand";
    } = {},
  ) {
    this.bounds = { stepsMax: 100, journalBytesMax: 10_000, ...given.bounds };
    this.#commits = given.commits ?? "itself";
    this.durable = {
      steps: given.open?.steps ?? [],
      repliesOut: given.open?.repliesOut ?? 0,
      replies: given.replies ?? [],
    };
    this.journal = new TurnJournal(given.open, this);
  }

  /** Something is handed over that is not durable. */
  get isDirty(): boolean {
    return this.#isDirty;
  }

  settled(): Promise<void> {
    if (!this.#isDirty) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  changed(): void {
    const isNew = !this.#isDirty;
    this.#isDirty = true;
    if (isNew && this.#commits === "itself") setImmediate(() => this.commit());
  }

  flush(replies: readonly Reply[]): void {
    if (this.renderError !== null) throw this.renderError;
    this.#flushed.push(...replies);
  }

  commit(): void {
    const { steps, repliesOut } = this.journal;
    this.durable = { steps, repliesOut, replies: [...this.durable.replies, ...this.#flushed] };
    this.#flushed = [];
    this.#isDirty = false;
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

export interface Given {
  readonly conversation?: string;
  readonly position?: Position;
  readonly born?: Position;
  readonly seq?: number;
  readonly state?: Plain;
  readonly message?: Partial<InboxMessage>;
  readonly isLate?: boolean;
  /** Instead of a message. */
  readonly notice?: Extract<TurnInput["work"], { kind: "notice" }>["notice"];
  readonly onNotice?: TurnInput["bot"]["onNotice"];
  readonly bounds?: Partial<TurnInput["bounds"]>;
  readonly log?: RecordingLog;
  readonly journal?: TurnJournal;
  readonly onStrayRejection?: () => void;
}

export interface Run {
  readonly turn: Turn;
  /** The result of a handler that answered at once. */
  readonly now: TurnResult | null;
  /** That of one that answered with a promise. */
  readonly later: Promise<TurnResult>;
  readonly results: number;
}

export function run(handler: Handler, given: Given = {}): Run {
  const conversation = { bot: "b", channel: "test", conversation: given.conversation ?? "c1" };
  const position = given.position ?? at(1_000, 2, 3);
  const key = conversationKey(conversation);
  const message: InboxMessage = {
    kind: "message",
    position,
    source: { id: position.entry, bytes: 10, undecided: 1 },
    key,
    id: "m1",
    idHash: { lo: 1, hi: 2 },
    bodyHash: 3,
    sequence: undefined,
    sentAtMs: undefined,
    text: "hello",
    dataJson: "",
    bytes: 10,
    extra: null,
    waitingId: null,
    ...given.message,
  };
  const bot = { name: "b", version: 1, initialState: () => null, onMessage: handler } as TurnInput["bot"];
  const turn = new Turn({
    bot: given.onNotice === undefined ? bot : { ...bot, onNotice: given.onNotice },
    conversation,
    key,
    born: given.born ?? at(500, 1, 0),
    seq: given.seq ?? 7,
    state: freezePlain(given.state ?? { n: 0 }, "state"),
    work:
      given.notice === undefined
        ? { kind: "message", message, isLate: given.isLate ?? false }
        : { kind: "notice", notice: given.notice },
    position,
    journal: given.journal ?? new JournalRig().journal,
    canReach: ({ bot }) => bot !== "elsewhere",
    bounds: {
      repliesMax: 3,
      replyBytesMax: 100,
      turnReplyBytesMax: 200,
      stateBytesMax: 1_000,
      sendsMax: 3,
      ...given.bounds,
    },
    timeoutMs: 30_000,
    log: given.log?.log ?? silentLog,
    ...(given.onStrayRejection && { onStrayRejection: given.onStrayRejection }),
  });
  const settled = gate<TurnResult>();
  let results = 0;
  const now = turn.run((result) => {
    results += 1;
    settled.open(result);
  });
  return {
    turn,
    now,
    later: settled.promise,
    get results() {
      return results;
    },
  };
}

/** The result, whenever it comes. */
export const resultOf = (handler: Handler, given: Given = {}): Promise<TurnResult> => {
  const { now, later } = run(handler, given);
  return now === null ? later : Promise.resolve(now);
};

export const errorOf = (result: TurnResult | null): unknown => (result?.kind === "failed" ? result.error : undefined);
