// Traffic: senders and the sink of a run, as the test sees them.

import { verifyText } from "../../../src/cli/verify/verify-text.ts";
import { checkHistory, formatViolation, type Violation } from "../../../src/verify/judge.ts";
import { verifyFolder } from "../../../src/verify/verify-folder.ts";
import { type Arena, freePort } from "./arena.ts";
import { HelperProcess } from "./helper-process.ts";
import { type History, readHistory } from "./history.ts";
import type { SenderConfig, SenderStatus, SenderVerbs } from "./sender-process.ts";
import type { SinkConfig, SinkVerbs } from "./sink-process.ts";

export type Sender = HelperProcess<SenderVerbs>;
export type Sink = HelperProcess<SinkVerbs>;

/** Progress is any change of what a sender reports; without one for so long the run is stuck. */
const STUCK_MS = 60_000;
const POLL_MS = 5;
const VIOLATIONS_SHOWN = 5;
/** The defaults of the http channel. */
const DEDUPE_MS = 600_000;
const DEDUPE_MAX = 4_096;
const PROVABLE = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I14"];

export type WantedSender = Pick<SenderConfig, "urls" | "conversations" | "messages"> & Partial<SenderConfig>;

/** Starts a sender whose log is in the arena's folder, under the name of its `idPrefix`. */
export async function startSender(
  arena: Arena,
  wanted: WantedSender & Pick<SenderConfig, "seed" | "feed" | "idPrefix">,
): Promise<{ readonly sender: Sender; readonly log: string }> {
  const log = arena.path(`sender-${wanted.idPrefix}.ndjson`);
  const config: SenderConfig = {
    bot: "fold",
    log,
    window: 4,
    connections: 24,
    batchShare: 0.3,
    repeatShare: 0.05,
    thinkMsMax: 20,
    answerWithinMs: 10_000,
    ...wanted,
  };
  const sender = new HelperProcess<SenderVerbs>(arena, "sender-process.ts", `sender-${wanted.idPrefix}`, config);
  await sender.ask("start", undefined);
  return { sender, log };
}

export class Traffic {
  readonly sink: Sink;
  /** What `--deliver-to` is given. */
  readonly deliverTo: string;
  readonly #arena: Arena;
  readonly #seed: number;
  readonly #sinkPort: number;
  readonly #logs: string[];

  private constructor(arena: Arena, seed: number, sinkPort: number, behaviour: Partial<SinkConfig>) {
    const log = arena.path("sink.ndjson");
    const config: SinkConfig = {
      port: sinkPort,
      log,
      seed,
      delayMsMax: 30,
      failShare: 0.01,
      cutShare: 0.005,
      ...behaviour,
    };
    this.#arena = arena;
    this.#seed = seed;
    this.#sinkPort = sinkPort;
    this.#logs = [log];
    this.sink = new HelperProcess<SinkVerbs>(arena, "sink-process.ts", "sink", config);
    this.deliverTo = `http://127.0.0.1:${sinkPort}/deliver`;
  }

  /** Starts the sink. */
  static async start(arena: Arena, seed: number, behaviour: Partial<SinkConfig> = {}): Promise<Traffic> {
    const traffic = new Traffic(arena, seed, await freePort(), behaviour);
    await traffic.sink.ask("listening", undefined);
    return traffic;
  }

  /** Starts a sender; its messages' ids begin with `idPrefix`. */
  async send(idPrefix: string, wanted: WantedSender): Promise<Sender> {
    const feed = `http://127.0.0.1:${this.#sinkPort}/feed`;
    const { sender, log } = await startSender(this.#arena, { seed: this.#seed, feed, idPrefix, ...wanted });
    this.#logs.push(log);
    return sender;
  }

  /** What all of them have logged so far, and `more`, which the test logged itself. */
  history(more?: History): History {
    const read = readHistory(this.#logs);
    if (!more) return read;
    return {
      messages: [...read.messages, ...more.messages],
      attempts: [...read.attempts, ...more.attempts],
      deliveries: [...read.deliveries, ...more.deliveries],
    };
  }
}

/** Waits until `isReached` says so of the sender's status. @throws Error if nothing moves for a minute */
export async function senderReaches(
  sender: Sender,
  what: string,
  isReached: (status: SenderStatus) => boolean,
  explain: () => string | Promise<string> = () => "",
): Promise<SenderStatus> {
  let last = "";
  let movedMs = performance.now();
  for (;;) {
    const status = await sender.ask("status", undefined);
    if (isReached(status)) return status;
    const { sent, acknowledged, answered } = status;
    const now = `${sent} ${acknowledged} ${answered}`;
    if (now !== last) movedMs = performance.now();
    last = now;
    if (performance.now() - movedMs > STUCK_MS) {
      throw new Error(`stuck for ${STUCK_MS} ms before ${what}: ${JSON.stringify(status)}\n${await explain()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export const allAnswered = (status: SenderStatus): boolean => status.isDone;

/** @throws Error that shows the first violations, each with its smallest slice */
export function expectPromiseKept(history: History, complete = true): void {
  const violations = checkHistory(history, { complete });
  if (violations.length > 0) throw new Error(`the promise was broken ${told(violations)}`);
}

/**
 * The same of everything that a run left in its folder, the append-only file of Redis included.
 * @throws Error that shows the verdicts, if one is not what the folder can prove
 */
export function expectFolderKept(folder: string): void {
  const report = verifyFolder(folder, { fold: true, complete: true, dedupeMs: DEDUPE_MS, dedupeMax: DEDUPE_MAX });
  const held = report.verdicts.filter(({ status }) => status === "held").map(({ id }) => id);
  const isSeen = report.figures.log !== null && report.figures.deliveries > 0 && report.evidence.log === "whole";
  if (!report.ok || !isSeen || PROVABLE.some((id) => !held.includes(id))) throw new Error(verifyText(report));
}

/** What a run that is stuck leaves open, the first of it with its slice. */
export function missingOf(history: History): string {
  return `missing or wrong so far: ${told(checkHistory(history, { complete: true }))}`;
}

function told(violations: readonly Violation[]): string {
  const shown = violations.slice(0, VIOLATIONS_SHOWN).map((violation) => formatViolation(violation));
  return [`${violations.length} times`, ...shown].join("\n");
}
