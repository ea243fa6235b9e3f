// Target: which conversations and filters were typed. Pure.

import { isProblem, parseExpressions } from "../../admin/operation-request.ts";
import { readDeadLetterPlace } from "../../admin/places.ts";
import type { WhereSubject } from "../../admin/where.ts";
import { problem, shown } from "../../config-problems.ts";
import { type ConversationId, ID_BYTES_MAX, NAME_PATTERN } from "../../domain/ids.ts";

/** `<bot>/<channel>/<conversation>`; what stands behind the second slash is the id as it is, slashes and all. */
export function conversationName({ bot, channel, conversation }: ConversationId): string {
  return `${bot}/${channel}/${conversation}`;
}

/** @throws ConfigError if it is none */
export function readConversation(text: string): ConversationId {
  const [, bot = "", channel = "", conversation = ""] = /^([^/]*)\/([^/]*)\/(.*)$/s.exec(text) ?? [];
  const isOne = NAME_PATTERN.test(bot) && NAME_PATTERN.test(channel) && isId(conversation);
  if (!isOne) throw problem(shown(text), "is no conversation; nothing was done", "as <bot>/<channel>/<conversation>");
  return { bot, channel, conversation };
}

const isId = (text: string): boolean => text !== "" && text.isWellFormed() && Buffer.byteLength(text) <= ID_BYTES_MAX;

/** @throws ConfigError if it is none */
export function readDeadLetter(text: string): string {
  if (readDeadLetterPlace(text) === null)
    throw problem(shown(text), "is no dead letter; nothing was done", "as 00:1715938200000-0, of ls --dead-letters");
  return text;
}

/** @throws ConfigError for the first filter that cannot be understood; the text comes back as it is, for the node to read */
export function checkWhere(where: readonly string[], subject: WhereSubject): readonly string[] {
  for (const each of where) {
    const parsed = parseExpressions(each, subject);
    if (isProblem(parsed))
      throw problem(
        "--where",
        `${shown(each)} ${parsed.detail.replace(/^where: /, "")}`,
        subject === "lanes" ? "docs/lanes.md has the words" : "docs/halts.md has the words",
      );
  }
  return where;
}

/** @throws ConfigError unless it is a whole number from 1 to `max` */
export function readCount(flag: string, text: string, max: number): number {
  const count = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > max)
    throw problem(flag, `is ${shown(text)}, not a whole number from 1 to ${max}`, "see --help");
  return count;
}
