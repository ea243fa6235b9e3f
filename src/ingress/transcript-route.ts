// Transcript route: reads back what a conversation said, for channels whose replies are fetched.

import type { FastifyInstance } from "fastify";
import type { ConversationId } from "../domain/ids.ts";
import { ID_BYTES_MAX } from "../domain/ids.ts";
import type { EntryId } from "../domain/position.ts";
import { parseEntryId } from "../domain/position.ts";
import { transcriptLineJson } from "../domain/transcript.ts";
import { sendProblem } from "./problem.ts";

export interface TranscriptLine {
  readonly id: EntryId;
  readonly bytes: Uint8Array;
}

export interface TranscriptPort {
  /** Lines after `after`, oldest first, at most `count`. Rejects with a ColloquyError while the store is away. */
  read(conversation: ConversationId, range: { after: EntryId; count: number }): Promise<readonly TranscriptLine[]>;
}

/** undefined if there is no such channel or bot, or if the channel's replies are sent and not read back. */
export type FindTranscript = (channel: string, bot: string) => TranscriptPort | undefined;

/** Lines in one answer. */
export const TRANSCRIPT_COUNT_MAX = 200;

export const TRANSCRIPT_PATH = "/channels/:channel/:bot/:conversation/replies";

interface Params {
  readonly channel: string;
  readonly bot: string;
  readonly conversation: string;
}

export function transcriptRoute(server: FastifyInstance, find: FindTranscript): void {
  server.get<{ Params: Params; Querystring: Record<string, unknown> }>(TRANSCRIPT_PATH, async (request, reply) => {
    const { channel, bot, conversation } = request.params;
    const port = find(channel, bot);
    if (!port)
      return sendProblem(reply, { status: 404, detail: "no bot and channel of these names keep a transcript" });
    const idBytes = Buffer.byteLength(conversation);
    if (idBytes < 1 || idBytes > ID_BYTES_MAX)
      return sendProblem(reply, { status: 404, detail: `a conversation's id has 1 to ${ID_BYTES_MAX} bytes of UTF-8` });

    const after = readAfter(request.query.after);
    if (!after) return sendProblem(reply, BAD_AFTER);
    const count = readLimit(request.query.limit);
    if (count === null) return sendProblem(reply, BAD_LIMIT);

    const lines = await port.read({ bot, channel, conversation }, { after, count });
    return reply
      .header("content-type", "application/json; charset=utf-8")
      .header("cache-control", "no-store")
      .send(`[${lines.map(({ id, bytes }) => transcriptLineJson(id, bytes)).join(",")}]`);
  });
}

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
