// Chat session: one conversation as its user sees it. It outlives the server: what is typed is repeated until it is on disk,
// and the transcript is followed from where it stopped.
//
// Invariants
//   N1. A message keeps its id however often it is sent, so it counts once; messages are sent one after the other, so they are
//       accepted in the order in which they were typed.
//   N2. A line is told once, in the transcript's order: only one that is after the last one told.
//   N3. A message is answered when its own line is in the transcript and everything committed with it has been told: its turn
//       wrote them together, so one more read after its line has them all.

import { compareEntryIds, parseEntryId } from "../../domain/position.ts";
import { type Backoff, retryDelayMs } from "../../domain/retry-policy.ts";
import { type Environment, pause } from "../../environment.ts";
import { AnswerError, type ChatLine, type ChatServer } from "./chat-server.ts";

/** What happens, in the words of `--json`. */
export type ChatEvent =
  | { readonly event: "connected"; readonly bot: string; readonly conversation: string }
  | { readonly event: "disconnected"; readonly why: string }
  | { readonly event: "sent"; readonly id: string; readonly text: string }
  /** It is not on disk, and is sent again. */
  | { readonly event: "waiting"; readonly id: string; readonly why: string }
  | { readonly event: "durable"; readonly id: string }
  | { readonly event: "refused"; readonly id: string; readonly status: number; readonly detail: string }
  | { readonly event: "unanswered"; readonly id: string; readonly isDurable: boolean }
  | { readonly event: "line"; readonly line: ChatLine; readonly isMine: boolean };

export interface ChatSessionOptions {
  readonly server: ChatServer;
  readonly environment: Environment;
  readonly bot: string;
  readonly conversation: string;
  /** The last line that need not be told, `0-0` for none. */
  readonly after: string;
  readonly newId: () => string;
  readonly tell: (event: ChatEvent) => void;
}

export type SendEnd = "durable" | "refused" | "closed";

const SEND_BACKOFF: Backoff = { baseMs: 250, capMs: 4_000 };
const FOLLOW_BACKOFF: Backoff = { baseMs: 200, capMs: 2_000 };

export class ChatSession {
  readonly #options: ChatSessionOptions;
  readonly #ending = new AbortController();
  /** Ids of messages whose line has not come yet, and who waits for it. */
  readonly #open = new Map<string, { isDurable: boolean; onLine: (() => void) | undefined }>();
  readonly #mine = new Set<string>();
  #after: string;
  #sending: Promise<unknown> = Promise.resolve();
  #following: Promise<void> | undefined;

  constructor(options: ChatSessionOptions) {
    this.#options = options;
    this.#after = options.after;
  }

  /** Messages that no answer says are on disk. */
  get notDurable(): number {
    return [...this.#open.values()].filter(({ isDurable }) => !isDurable).length;
  }

  start(): void {
    this.#following ??= this.#follow();
  }

  /** Gives it to the sender; `end` tells how that ended, however long it takes. */
  say(text: string): { readonly id: string; readonly end: Promise<SendEnd> } {
    const id = this.#options.newId();
    this.#open.set(id, { isDurable: false, onLine: undefined });
    this.#mine.add(id);
    this.#options.tell({ event: "sent", id, text });
    const end = this.#sending.then(() => this.#send(id, text)); // N1
    this.#sending = end;
    return { id, end };
  }

  /**
   * Says it, and waits for the answer.
   * @param withinMs from now, for all of it
   * @returns whether it was answered; if not, that was told
   */
  async ask(text: string, withinMs: number): Promise<boolean> {
    const late = new AbortController();
    const { id, end } = this.say(text);
    const tooLate = pause(this.#options.environment, withinMs, late.signal).then(() => "late" as const);
    const hasLine = new Promise<"line">((resolve) => {
      const open = this.#open.get(id);
      if (open) open.onLine = () => resolve("line");
    });
    try {
      const first = await Promise.race([hasLine, tooLate, end.then((how) => (how === "durable" ? hasLine : how))]);
      if (first === "refused" || first === "closed") return false;
      if (first === "line" && (await Promise.race([this.#readRest(late.signal), tooLate])) !== "late") return true;
      this.#options.tell({ event: "unanswered", id, isDurable: this.#open.get(id)?.isDurable ?? true });
      return false;
    } finally {
      late.abort();
    }
  }

  /** Ends all of it, what is being sent included. */
  async close(): Promise<void> {
    this.#ending.abort();
    await Promise.all([this.#sending, this.#following]);
  }

  async #send(id: string, text: string): Promise<SendEnd> {
    const { server, environment, conversation, tell } = this.#options;
    const signal = this.#ending.signal;
    let told = "";
    for (let failures = 1; !signal.aborted; failures += 1) {
      const meaning = await server
        .send({ conversation, id, text })
        .catch((error: unknown) => ({ kind: "again", why: whyOf(error), waitMs: 0 }) as const);
      if (meaning.kind === "durable") {
        const open = this.#open.get(id);
        if (open) open.isDurable = true;
        tell({ event: "durable", id });
        return "durable";
      }
      if (meaning.kind === "refused") {
        this.#open.delete(id);
        tell({ event: "refused", id, status: meaning.status, detail: meaning.detail });
        return "refused";
      }
      if (meaning.why !== told && !signal.aborted) tell({ event: "waiting", id, why: meaning.why });
      told = meaning.why;
      const delayMs = retryDelayMs(SEND_BACKOFF, failures, environment.random());
      await pause(environment, Math.max(meaning.waitMs, delayMs), signal);
    }
    return "closed";
  }

  async #follow(): Promise<void> {
    const { server, environment, bot, conversation, tell } = this.#options;
    const signal = this.#ending.signal;
    let isConnected = false;
    let told = "";
    for (let failures = 1; !signal.aborted; failures += 1) {
      let why = "the stream ended";
      try {
        const open = (): void => {
          failures = 0;
          isConnected = true;
          told = "";
          tell({ event: "connected", bot, conversation });
        };
        await server.follow(this.#after, { open, line: (line) => this.#take(line) }, signal);
      } catch (error) {
        why = whyOf(error);
      }
      if (signal.aborted) return;
      if (isConnected || why !== told) tell({ event: "disconnected", why });
      isConnected = false;
      told = why;
      await pause(environment, retryDelayMs(FOLLOW_BACKOFF, Math.max(1, failures), environment.random()), signal);
    }
  }

  /** N2 */
  #take(line: ChatLine): void {
    if (compareEntryIds(parseEntryId(line.id), parseEntryId(this.#after)) <= 0) return;
    this.#after = line.id;
    const isMine = line.role === "user" && line.messageId !== undefined && this.#mine.has(line.messageId);
    this.#options.tell({ event: "line", line, isMine });
    if (!isMine) return;
    const open = this.#open.get(line.messageId!);
    this.#open.delete(line.messageId!);
    open?.onLine?.();
  }

  /** N3. Repeats until the server answers. */
  async #readRest(signal: AbortSignal): Promise<void> {
    const { server, environment } = this.#options;
    for (let failures = 1; !signal.aborted && !this.#ending.signal.aborted; failures += 1) {
      try {
        for (const line of await server.lines(this.#after)) this.#take(line);
        return;
      } catch {
        await pause(environment, retryDelayMs(FOLLOW_BACKOFF, failures, environment.random()), signal);
      }
    }
  }
}

/** For people: what the server said, or the network's code. */
export function whyOf(error: unknown): string {
  if (error instanceof AnswerError) return error.message;
  const { code, cause, message } = error as NodeJS.ErrnoException & { cause?: { code?: string } };
  const known = NETWORK[code ?? cause?.code ?? ""];
  return known ?? code ?? cause?.code ?? message;
}

const NETWORK: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "the connection broke",
  EPIPE: "the connection broke",
  UND_ERR_SOCKET: "the connection broke",
  UND_ERR_CONNECT_TIMEOUT: "no connection in time",
  UND_ERR_HEADERS_TIMEOUT: "no answer in time",
  UND_ERR_BODY_TIMEOUT: "no sign of life in time",
  ENOTFOUND: "there is no such host",
};
