// Begun work: finds again what a turn was begun with, after a failed run, a crash or a restart.
//
// Invariants
//   C8. A turn that was begun goes first, whatever else has come: it alone may have steps and replies in the world already. Until what
//       it was begun with is found, nothing else of the conversation is decided.

import type { InboxMessage } from "../../src/domain/message.ts";
import { comparePositions } from "../../src/domain/position.ts";
import type { OpenTurn } from "../../src/domain/record.ts";
import { NOTHING_HELD, orderAfter } from "../../src/domain/sequencer.ts";
import { messageWork, noticeWork, type Work } from "../../src/domain/work.ts";
import type { ConversationCore } from "./core.ts";
import type { ListWindow } from "./list-window.ts";

/**
 * The message stands on the list, or first in the inbox; a notice in the record.
 * @returns `unread` while the list has to be read for it, `later` while a commit has to come first, undefined while it has not been read
 *          from the inbox yet
 */
export function findBegun(
  core: ConversationCore,
  list: ListWindow,
  { position }: OpenTurn,
): Work | "unread" | "later" | undefined {
  finishConsumed(core);
  const notice = core.ledger.extra?.notices?.[0];
  if (notice !== undefined && comparePositions(notice.position, position) === 0) return noticeWork(notice);
  const found = list.bringToHead(position);
  return typeof found === "object" ? workAgain(core, found) : found;
}

/** What is read again of an entry whose other messages are unfinished. */
function finishConsumed(core: ConversationCore): void {
  const { ledger, mailbox } = core;
  const { cursor } = ledger.record!;
  for (let head = mailbox.firstInInbox(); head !== undefined; head = mailbox.firstInInbox()) {
    if (comparePositions(head.position, cursor) > 0) return;
    mailbox.shiftInbox();
    core.finishAgain(head);
  }
}

/** It was released or late before: since then nothing of the conversation was decided. */
function workAgain(core: ConversationCore, message: InboxMessage): Work {
  const { held, ledger, rules } = core;
  if (held === null) return messageWork(message, false, undefined);
  const isLate = core.sequenced(message, NOTHING_HELD).kind === "late";
  return messageWork(message, isLate, orderAfter(ledger.recordFor(message.position), rules, message));
}
