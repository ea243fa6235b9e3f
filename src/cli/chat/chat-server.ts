// Chat server: what a chat needs of a running colloquy, over HTTP: give it a message, read a transcript, follow it.
//
// Invariants
//   S1. What an answer means is decided here, once (`meaningOf`): durable, refused for good, or to be sent again.
//   S2. A transcript is followed with a deadline on silence, longer than the server's heartbeat: a connection that died
//       without a word is found.

import { createHmac } from "node:crypto";
import { createParser } from "eventsource-parser";
import { Agent, request } from "undici";

/** A line of a transcript, as the server gives it. */
export interface ChatLine {
  /** Of the line, `<ms>-<seq>`; they rise. */
  readonly id: string;
  readonly role: "user" | "bot";
  /** Of the turn for a user's line, of the reply for a bot's. */
  readonly sequence: number;
  readonly messageId?: string;
  readonly inReplyTo: string | null;
  readonly text: string;
  readonly data?: unknown;
}

export interface ChatMessage {
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
}

export type Meaning =
  | { readonly kind: "durable" }
  /** It will never be accepted as it is. */
  | { readonly kind: "refused"; readonly status: number; readonly detail: string }
  /** Send the same again, not before `waitMs`. */
  | { readonly kind: "again"; readonly why: string; readonly waitMs: number };

/** Any number of calls at once; each rejects with what network or server said. */
export interface ChatServer {
  send(message: ChatMessage): Promise<Meaning>;
  /** Lines after the one of that id, oldest first. */
  lines(after: string): Promise<readonly ChatLine[]>;
  /** Calls back for each line after that id, until the server, the network or the signal ends it. */
  follow(after: string, on: { open(): void; line(line: ChatLine): void }, signal: AbortSignal): Promise<void>;
}

export interface ChatServerOptions {
  /** Without a closing slash. */
  readonly url: string;
  readonly bot: string;
  readonly conversation: string;
  /** Signs what is sent. */
  readonly secret: string | undefined;
}

/** An answer that is none of 2xx. */
export class AnswerError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

const CONNECT_TIMEOUT_MS = 5_000;
/** The server itself gives up admitting before that. */
const ANSWER_TIMEOUT_MS = 20_000;
/** S2: the server says something every 15 s. */
const SILENCE_MS_MAX = 40_000;
const AGAIN_MS_MAX = 30_000;
const LINE_CHARACTERS_MAX = 4 * 1024 * 1024;

export class HttpChatServer implements ChatServer {
  readonly #options: ChatServerOptions;
  readonly #conversation: string;
  readonly #agent = new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: SILENCE_MS_MAX,
  });

  constructor(options: ChatServerOptions) {
    this.#options = options;
    this.#conversation = `${options.url}/channels/http/${options.bot}/${encodeURIComponent(options.conversation)}`;
  }

  /** Names of the bots, or null if the server does not tell them. */
  async bots(): Promise<readonly string[] | null> {
    const answer = await this.#get(`${this.#options.url}/channels/web/info`);
    if (answer.status === 404 || answer.status === 403) return null;
    const { bots } = JSON.parse(bodyOf(answer)) as { bots?: unknown };
    return Array.isArray(bots) ? bots.filter((name) => typeof name === "string") : null;
  }

  /** Whether the http channel takes messages for the bot; asked with none, which changes nothing. */
  async hasBot(): Promise<boolean> {
    return (await this.#post("[]")).status !== 404;
  }

  async send(message: ChatMessage): Promise<Meaning> {
    const { status, retryAfter, text } = await this.#post(JSON.stringify(message));
    return meaningOf(status, retryAfter, text);
  }

  async lines(after: string): Promise<readonly ChatLine[]> {
    return JSON.parse(bodyOf(await this.#get(`${this.#conversation}/replies?after=${after}`))) as ChatLine[];
  }

  async follow(after: string, on: { open(): void; line(line: ChatLine): void }, signal: AbortSignal): Promise<void> {
    const { statusCode, body } = await request(`${this.#conversation}/events`, {
      headers: { accept: "text/event-stream", "last-event-id": after },
      dispatcher: this.#agent,
      signal,
    });
    if (statusCode !== 200) throw new AnswerError(statusCode, detailOf(statusCode, await body.text()));
    on.open();
    const parser = createParser({
      onEvent: ({ data }) => on.line(JSON.parse(data) as ChatLine),
      maxBufferSize: LINE_CHARACTERS_MAX,
    });
    const decoder = new TextDecoder();
    for await (const chunk of body) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #get(url: string): Promise<Answer> {
    return await answerOf(await request(url, { headers: { accept: "application/json" }, dispatcher: this.#agent }));
  }

  async #post(body: string): Promise<Answer> {
    const { url, bot, secret } = this.#options;
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (secret !== undefined) {
      headers["x-colloquy-signature"] = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
    }
    const options = { method: "POST", headers, body, dispatcher: this.#agent } as const;
    return await answerOf(await request(`${url}/channels/http/${bot}`, options));
  }
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly text: string;
}

async function answerOf({ statusCode, headers, body }: Awaited<ReturnType<typeof request>>): Promise<Answer> {
  const retryAfter = headers["retry-after"];
  return {
    status: statusCode,
    retryAfter: typeof retryAfter === "string" ? retryAfter : undefined,
    text: await body.text(),
  };
}

/** @throws AnswerError */
function bodyOf({ status, text }: Answer): string {
  if (status === 200) return text;
  throw new AnswerError(status, detailOf(status, text));
}

/** S1. Pure. */
export function meaningOf(status: number, retryAfter: string | undefined, text: string): Meaning {
  if (status >= 200 && status < 300) return { kind: "durable" };
  const detail = detailOf(status, text);
  const isForLater = [408, 425, 429].includes(status) || status >= 500;
  if (!isForLater) return { kind: "refused", status, detail };
  const seconds = /^\d{1,6}$/.test(retryAfter ?? "") ? Number(retryAfter) : 0;
  return { kind: "again", why: detail, waitMs: Math.min(seconds * 1_000, AGAIN_MS_MAX) };
}

/** What a problem's JSON says, else its status. */
export function detailOf(status: number, text: string): string {
  try {
    const { detail, field } = JSON.parse(text) as { detail?: unknown; field?: unknown };
    if (typeof detail === "string") return `${status}: ${detail}${field ? ` (${String(field)})` : ""}`;
  } catch {
    // not problem JSON, so perhaps not a colloquy
  }
  return `${status}`;
}
