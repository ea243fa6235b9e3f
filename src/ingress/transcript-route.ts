// Transcript routes: what a conversation said, for channels whose replies are fetched: as JSON, as a stream of events, and,
// where a channel shows it, the conversation's record.
//
// Invariants
//   R1. At most `eventStreamsMax` streams are open; more are answered 503.
//   R2. After `close` no stream is open and none is begun, so that a drain waits for nobody's browser.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { WebhookHeaders } from "../channels/channel.ts";
import type { ConversationId } from "../domain/ids.ts";
import { ID_BYTES_MAX } from "../domain/ids.ts";
import type { EntryId } from "../domain/position.ts";
import { parseEntryId } from "../domain/position.ts";
import { transcriptLineJson } from "../domain/transcript.ts";
import type { Environment } from "../environment.ts";
import { EventStream, type EventStreamLimits } from "./event-stream.ts";
import { RETRY_AFTER_DEFAULT_MS, sendProblem } from "./problem.ts";

export interface TranscriptLine {
  readonly id: EntryId;
  readonly bytes: Uint8Array;
}

/** The stored record of a conversation, to be looked at. */
export interface RecordView {
  /** Committed turns. */
  readonly seq: number;
  /** The last message that was consumed: entry of the inbox, and index in it. */
  readonly cursor: { readonly entry: string; readonly index: number };
  /** Committed replies. */
  readonly outSeq: number;
  readonly born: string;
  readonly botVersion: number;
  /** The bot's state. */
  readonly state: unknown;
}

export interface TranscriptPort {
  /** Lines after `after`, oldest first, at most `count`. Rejects with a ColloquyError while the store is away. */
  read(conversation: ConversationId, range: { after: EntryId; count: number }): Promise<readonly TranscriptLine[]>;
  /** Calls back when this node committed lines; those of other nodes are found by reading. Returns the way to stop that. */
  follow(conversation: ConversationId, onLines: () => void): () => void;
  /** null if nothing was committed yet. Only channels that show it have it. */
  record?(conversation: ConversationId): Promise<RecordView | null>;
  /** Why the channel refuses a request with these headers; undefined if it does not. */
  refuse?(headers: WebhookHeaders): string | undefined;
}

/** undefined if there is no such channel or bot, or if the channel's replies are sent and not read back. */
export type FindTranscript = (channel: string, bot: string) => TranscriptPort | undefined;

/** Lines in one answer. */
export const TRANSCRIPT_COUNT_MAX = 200;

export const TRANSCRIPT_PATH = "/channels/:channel/:bot/:conversation/replies";
export const EVENTS_PATH = "/channels/:channel/:bot/:conversation/events";
export const RECORD_PATH = "/channels/:channel/:bot/:conversation/record";

interface Route {
  Params: ConversationId;
  Querystring: Record<string, unknown>;
}

export interface TranscriptRoutesOptions {
  readonly environment: Environment;
  readonly find: FindTranscript;
  readonly streams: EventStreams;
  readonly eventStream: EventStreamLimits;
}

/** The open streams of a node (R1, R2). */
export class EventStreams {
  readonly #max: number;
  readonly #open = new Set<EventStream>();
  #closed = false;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#open.size;
  }

  get isFull(): boolean {
    return this.#closed || this.#open.size >= this.#max;
  }

  async run(stream: EventStream): Promise<void> {
    this.#open.add(stream);
    try {
      await stream.run();
    } finally {
      this.#open.delete(stream);
    }
  }

  /** Before the server starts, again. */
  open(): void {
    this.#closed = false;
  }

  close(): void {
    this.#closed = true;
    for (const stream of this.#open) stream.end();
  }
}

export function transcriptRoutes(server: FastifyInstance, options: TranscriptRoutesOptions): void {
  const { environment, find, streams, eventStream } = options;

  server.get<Route>(TRANSCRIPT_PATH, async (request, reply) => {
    const port = portOf(find, request, reply);
    if (!port) return reply;
    const after = readAfter(request.query.after);
    if (!after) return sendProblem(reply, BAD_AFTER);
    const count = readLimit(request.query.limit);
    if (count === null) return sendProblem(reply, BAD_LIMIT);

    const lines = await port.read(conversationOf(request), { after, count });
    return reply
      .header("content-type", "application/json; charset=utf-8")
      .header("cache-control", "no-store")
      .send(`[${lines.map(({ id, bytes }) => transcriptLineJson(id, bytes)).join(",")}]`);
  });

  server.get<Route>(EVENTS_PATH, { exposeHeadRoute: false }, async (request, reply) => {
    const port = portOf(find, request, reply);
    if (!port) return reply;
    // A browser that comes again asks the same URL and says in the header how far it got.
    const after = readAfter(request.headers["last-event-id"] || request.query.after);
    if (!after) return sendProblem(reply, BAD_AFTER);
    if (streams.isFull) return sendProblem(reply, NO_STREAM);

    const conversation = conversationOf(request);
    reply.hijack();
    void streams.run(
      new EventStream({
        environment,
        limits: eventStream,
        response: reply.raw,
        after,
        count: TRANSCRIPT_COUNT_MAX,
        read: (range) => port.read(conversation, range),
        follow: (onLines) => port.follow(conversation, onLines),
      }),
    );
    return reply;
  });

  server.get<Route>(RECORD_PATH, async (request, reply) => {
    const port = portOf(find, request, reply);
    if (!port) return reply;
    if (!port.record) return sendProblem(reply, { status: 404, detail: "this channel does not show records" });
    const record = await port.record(conversationOf(request));
    if (!record) return sendProblem(reply, { status: 404, detail: "nothing of this conversation was committed yet" });
    return reply.header("cache-control", "no-store").send(record);
  });
}

/** The port that the path names; if there is none that may be used, the request is answered. */
function portOf(find: FindTranscript, request: FastifyRequest<Route>, reply: FastifyReply): TranscriptPort | undefined {
  const { channel, bot, conversation } = request.params;
  const port = find(channel, bot);
  const idBytes = Buffer.byteLength(conversation);
  if (!port) {
    sendProblem(reply, { status: 404, detail: "no bot and channel of these names keep a transcript" });
  } else if (idBytes < 1 || idBytes > ID_BYTES_MAX) {
    sendProblem(reply, { status: 404, detail: `a conversation's id has 1 to ${ID_BYTES_MAX} bytes of UTF-8` });
  } else {
    const refusal = port.refuse?.(request.headers);
    if (refusal === undefined) return port;
    sendProblem(reply, { status: 403, detail: refusal });
  }
  return undefined;
}

/** Its three members in a fixed order, and none of the router's. */
function conversationOf({ params: { bot, channel, conversation } }: FastifyRequest<Route>): ConversationId {
  return { bot, channel, conversation };
}

const NO_STREAM = {
  status: 503,
  detail: "this node opens no further event stream now: it has as many as it takes, or it is stopping",
  retryAfterMs: RETRY_AFTER_DEFAULT_MS,
};
const BAD_AFTER = { status: 400, field: "after", detail: "after must be the id of a line, as 1715938200000-0, or 0" };
const BAD_LIMIT = { status: 400, field: "limit", detail: `limit must be an integer from 1 to ${TRANSCRIPT_COUNT_MAX}` };

function readAfter(value: unknown): EntryId | null {
  if (value === undefined) return parseEntryId("0-0");
  if (typeof value !== "string" || !/^\d{1,15}(-\d{1,15})?$/.test(value)) return null;
  return parseEntryId(value.includes("-") ? value : `${value}-0`);
}

function readLimit(value: unknown): number | null {
  if (value === undefined) return TRANSCRIPT_COUNT_MAX;
  if (typeof value !== "string" || !/^\d{1,3}$/.test(value)) return null;
  const limit = Number(value);
  return limit >= 1 && limit <= TRANSCRIPT_COUNT_MAX ? limit : null;
}
