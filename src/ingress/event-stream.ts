// Event stream: one client that follows one transcript as server-sent events.
//
// Invariants
//   V1. Each line after the client's position is sent once, in the store's order: the position moves only over what was written.
//   V2. A line committed while a read is under way is not missed: `fresh` is lowered before the read, and seen after it.
//   V3. While the store is away the stream stays open and asks again; only the client, a drain or a client that does not
//       read for `stallMs` ends it.
//   V4. At most one read's lines are in memory for a client that is slow (P7).

import type { ServerResponse } from "node:http";
import { type EntryId, formatEntryId } from "../domain/position.ts";
import { transcriptLineJson } from "../domain/transcript.ts";
import type { Environment, Timer } from "../environment.ts";
import type { TranscriptLine } from "./transcript-route.ts";

export interface EventStreamLimits {
  /** Between two looks for lines that other nodes committed, ms. */
  readonly pollMs: number;
  /** Between two comments that keep proxies from closing a quiet stream, ms. */
  readonly heartbeatMs: number;
  /** How long a client may leave unread what was sent, ms. */
  readonly stallMs: number;
}

export const EVENT_STREAM_LIMITS: EventStreamLimits = { pollMs: 1_500, heartbeatMs: 15_000, stallMs: 30_000 };

export interface EventStreamOptions {
  readonly environment: Environment;
  readonly limits: EventStreamLimits;
  readonly response: ServerResponse;
  readonly after: EntryId;
  /** Lines in one read. */
  readonly count: number;
  /** May reject: then it is asked again (V3). */
  readonly read: (range: { after: EntryId; count: number }) => Promise<readonly TranscriptLine[]>;
  readonly follow: (onLines: () => void) => () => void;
}

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  "x-accel-buffering": "no",
  "x-content-type-options": "nosniff",
};
/** What a browser waits before it comes again by itself, ms. */
const RECONNECT_MS = 1_000;

export class EventStream {
  readonly #options: EventStreamOptions;
  #after: EntryId;
  #fresh = false;
  #ended = false;
  #wake: () => void = () => undefined;
  #heartbeat: Timer | null = null;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.#after = options.after;
  }

  /** Resolves when the stream has ended; never rejects. */
  async run(): Promise<void> {
    const { response, follow } = this.#options;
    const unfollow = follow(() => this.#tell());
    response.once("close", () => this.end());
    response.on("error", () => this.end());
    response.writeHead(200, HEADERS);
    response.write(`retry: ${RECONNECT_MS}\n\n`);
    this.#beat();
    try {
      await this.#pump();
    } finally {
      this.#heartbeat?.cancel();
      unfollow();
      response.end();
    }
  }

  /** Ends it after what was written; the client comes again from where it is. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  #tell(): void {
    this.#fresh = true;
    this.#wake();
  }

  async #pump(): Promise<void> {
    const { count, limits } = this.#options;
    while (!this.#ended) {
      this.#fresh = false; // V2
      const lines = await this.#read();
      if (this.#ended) return;
      if (lines.length > 0) await this.#send(lines);
      if (lines.length < count && !this.#fresh) await this.#wait(limits.pollMs);
    }
  }

  async #read(): Promise<readonly TranscriptLine[]> {
    try {
      return await this.#options.read({ after: this.#after, count: this.#options.count });
    } catch {
      this.#fresh = false; // V3: not at once, whoever calls; the next look comes after `pollMs`
      return [];
    }
  }

  /** V1, V4 */
  async #send(lines: readonly TranscriptLine[]): Promise<void> {
    const { response, limits } = this.#options;
    const text = lines.map(({ id, bytes }) => `id: ${formatEntryId(id)}\ndata: ${transcriptLineJson(id, bytes)}\n\n`);
    const isTaken = response.write(text.join(""));
    this.#after = lines.at(-1)!.id;
    if (isTaken) return;
    let isDrained = false;
    const onDrain = (): void => {
      isDrained = true;
      this.#wake();
    };
    response.once("drain", onDrain);
    const untilMs = this.#options.environment.monotonicMs() + limits.stallMs;
    while (!isDrained && !this.#ended) {
      const leftMs = untilMs - this.#options.environment.monotonicMs();
      if (leftMs <= 0) {
        response.destroy(); // V3
        this.end();
      } else await this.#wait(leftMs); // a new line may wake it early
    }
    response.off("drain", onDrain);
  }

  /** Until woken, at most `forMs`. */
  #wait(forMs: number): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        this.#wake = () => undefined;
        resolve();
      };
      const timer = this.#options.environment.after(forMs, done);
      this.#wake = done;
    });
  }

  #beat(): void {
    const { environment, limits, response } = this.#options;
    this.#heartbeat = environment.after(limits.heartbeatMs, () => {
      if (this.#ended) return;
      if (!response.writableNeedDrain) response.write(": still here\n\n");
      this.#beat();
    });
  }
}
