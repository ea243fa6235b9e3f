// Chat text: how an event of a chat stands in a terminal or a script. Pure.
//
// Invariants
//   T1. What comes from outside cannot move the cursor, change colours or forge a line: control characters become "?", and
//       further lines of a text are indented.

import type { ChatEvent } from "./chat-session.ts";

export interface Printed {
  /** Replies are output; the rest is about them. */
  readonly to: "stdout" | "stderr";
  /** Without the closing line break. */
  readonly text: string;
}

/**
 * @param isInteractive whoever reads it typed the messages here
 * @returns null for what people need not be told
 */
export function printed(event: ChatEvent, bot: string, isInteractive: boolean): Printed | null {
  switch (event.event) {
    case "line":
      return lineText(event, bot);
    case "waiting":
      return about(`not on disk yet, sending it again: ${event.why}`);
    case "refused":
      return about(`refused, and not sent again: ${event.detail}${event.status === 401 ? SIGNED : ""}`);
    case "unanswered":
      return about(
        event.isDurable
          ? "not answered in time; it is on disk, and will be (colloquy chat --conversation goes on with it)"
          : "not answered in time, and nothing says that it is on disk; send it again",
      );
    case "disconnected":
      return about(`not connected: ${event.why}; trying again, nothing is lost`);
    case "connected":
      return isInteractive ? about("connected") : null;
    case "sent":
    case "durable":
      return null;
  }
}

const SIGNED = " (COLLOQUY_HTTP_SECRET must hold the server's secret)";

const about = (text: string): Printed => ({ to: "stderr", text: `  ${safe(text)}` });

function lineText({ line, isMine }: Extract<ChatEvent, { event: "line" }>, bot: string): Printed | null {
  if (isMine) return null; // it was typed here
  const from = line.role === "bot" ? bot : "user";
  return { to: "stdout", text: `#${line.sequence} ${from}: ${safe(line.text)}` };
}

/** T1 */
function safe(text: string): string {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(/[^\P{Cc}\n\t]/gu, "?")
    .replaceAll("\n", "\n    ");
}

/** One line of JSON; a transcript's line keeps the server's members. */
export function jsonLine(event: ChatEvent): string {
  return JSON.stringify(event);
}
