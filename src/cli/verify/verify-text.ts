// Verify text: a report as a person reads it. Pure.

import type { AnyViolation, Verdict } from "../../verify/verdict.ts";
import type { VerifyReport } from "../../verify/verify-folder.ts";

const VIOLATIONS_SHOWN = 3;
const LINES_SHOWN = 6;
const LINE_CHARS_MAX = 400;

export function verifyText({ ok, figures, verdicts }: VerifyReport): string {
  const { messages, requestAttempts, deliveries, faults, log } = figures;
  const count = (status: Verdict["status"]): number => verdicts.filter((verdict) => verdict.status === status).length;
  const lines = [
    `read      ${messages} messages, ${requestAttempts} request attempts, ${deliveries} deliveries, ${faults} faults`,
    log
      ? `log       ${log.commits} commits, ${log.messages} admitted messages, ${log.records} records, ${log.replies} replies`
      : "log       none",
    "",
    ...verdicts.flatMap(verdictLines),
    "",
    `${ok ? "nothing is violated" : "the promise was broken"}: ${count("held")} held, ${count("violated")} violated, ${count("not checked")} not checked`,
  ];
  return `${lines.join("\n")}\n`;
}

function verdictLines({ id, name, status, reason, count, violations }: Verdict): string[] {
  const why = reason === null ? "" : `  (${status === "not checked" ? "" : "but not all of it: "}${reason})`;
  const times = count > 0 ? `, ${count} times` : "";
  return [
    `${id.padEnd(4)} ${name.padEnd(20)} ${status}${times}${why}`,
    ...violations.slice(0, VIOLATIONS_SHOWN).flatMap(violationLines),
  ];
}

function violationLines({ rule, conversation, detail, slice }: AnyViolation): string[] {
  const rest = slice.length - LINES_SHOWN;
  return [
    `       ${rule} in ${JSON.stringify(conversation)}: ${printable(detail)}`,
    ...slice.slice(0, LINES_SHOWN).map((line) => `         ${JSON.stringify(line).slice(0, LINE_CHARS_MAX)}`),
    ...(rest > 0 ? [`         and ${rest} lines more`] : []),
  ];
}

/** Ids come from outside: nothing in them may move the cursor of a terminal. */
const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, "?");
