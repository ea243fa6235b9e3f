// Transcript: the lines in which a conversation is read back, for channels whose replies are fetched instead of sent.
//
// Invariants
//   T1. A line is one JSON object in UTF-8 with a fixed order of members: the same input gives the same bytes.
//   T2. A line is stored without its id, since the store gives that; `id` is the first member of every line that is read.

import type { Plain } from "./plain-data.ts";
import type { EntryId } from "./position.ts";
import { formatEntryId } from "./position.ts";

export interface UserLine {
  /** Local number of the turn that consumed the message. */
  readonly seq: number;
  readonly born: string;
  /** The message's id as the outside named it. */
  readonly messageId: string;
  readonly text: string;
  readonly data?: Plain | undefined;
}

export interface BotLine {
  readonly outSeq: number;
  /** External id of the message that the reply answers; null if no message caused it. */
  readonly inReplyTo: string | null;
  readonly born: string;
  readonly text: string;
  readonly data?: Plain | undefined;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a turn consumed. */
export function transcriptUserLine(line: UserLine): Uint8Array {
  const { seq, messageId, born, text, data } = line;
  return encoder.encode(
    JSON.stringify({ role: "user", sequence: seq, messageId, inReplyTo: null, born, text, data }), // T1
  );
}

/** What a turn replied. */
export function transcriptBotLine(line: BotLine): Uint8Array {
  const { outSeq, inReplyTo, born, text, data } = line;
  return encoder.encode(JSON.stringify({ role: "bot", sequence: outSeq, inReplyTo, born, text, data })); // T1
}

/** The JSON of a line as readers get it, `id` first (T2). */
export function transcriptLineJson(id: EntryId, line: Uint8Array): string {
  return `{"id":"${formatEntryId(id)}",${decoder.decode(line).slice(1)}`;
}
