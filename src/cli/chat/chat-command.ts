// Chat command: lines in, replies out. At a terminal it is a conversation; from a pipe it asks one line after the other.

import { randomUUID } from "node:crypto";
import { createInterface, type Interface } from "node:readline";
import { resolveConfig } from "../../config.ts";
import { problem, shown } from "../../config-problems.ts";
import { ID_BYTES_MAX, NAME_PATTERN } from "../../domain/ids.ts";
import { type Environment, pause, systemEnvironment } from "../../environment.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { type AddressFlags, serverAddress } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import { AnswerError, HttpChatServer } from "./chat-server.ts";
import { type ChatEvent, ChatSession, whyOf } from "./chat-session.ts";
import { jsonLine, printed } from "./chat-text.ts";

export interface ChatFlags extends AddressFlags {
  readonly timeout: string;
  readonly bot?: string;
  readonly conversation?: string;
  readonly json?: boolean;
}

/** Flags that have been understood. */
export interface ChatPlan {
  readonly url: string;
  readonly bot: string | undefined;
  readonly conversation: string | undefined;
  readonly timeoutMs: number;
}

const TIMEOUT_S_MAX = 86_400;
const RETRY_MS = 500;
/** Of an older conversation, at a terminal. */
const HISTORY_LINES_SHOWN = 20;

/** @throws ConfigError what was given cannot be used, or there is nothing to chat with */
export async function chat(flags: ChatFlags, terminal: Terminal): Promise<ExitCode> {
  const plan = planChat(flags);
  const secret = resolveConfig({}, terminal.environment).httpSecret;
  const isInteractive = terminal.stdin.isTTY === true && !flags.json;
  const screen = new Screen(terminal, isInteractive, flags.json === true);
  const alive = setInterval(() => {}, 2 ** 30); // waiting for a server is a reason to live
  try {
    const waitMs = isInteractive ? Number.POSITIVE_INFINITY : plan.timeoutMs;
    const found = await findConversation(plan, secret, waitMs, screen);
    if (!found) {
      screen.note(`nothing answered at ${plan.url} within ${plan.timeoutMs / 1_000} s; nothing was sent`);
      return EXIT.failed;
    }
    const { server, bot, conversation, history } = found;
    screen.bot = bot;
    if (isInteractive) screen.greet(plan.url, conversation);
    if (isInteractive)
      for (const line of history.slice(-HISTORY_LINES_SHOWN)) screen.tell({ event: "line", line, isMine: false });
    const session = new ChatSession({
      server,
      environment: systemEnvironment,
      bot,
      conversation,
      after: history.at(-1)?.id ?? "0-0",
      newId: randomUUID,
      tell: (event) => screen.tell(event),
    });
    session.start();
    try {
      return isInteractive ? await converse(session, screen) : await recite(session, terminal, plan.timeoutMs);
    } finally {
      await session.close();
      await server.close();
    }
  } finally {
    clearInterval(alive);
    screen.close();
  }
}

/** @throws ConfigError with the flag's name as key. Pure. */
export function planChat({ timeout, bot, conversation, ...flags }: ChatFlags): ChatPlan {
  const { origin, pathname, username, password } = serverAddress(flags);
  if (username !== "" || password !== "") {
    throw problem("--url", "holds a user or a password, which every process sees", "leave them out");
  }
  const seconds = /^\d{1,6}$/.test(timeout) ? Number(timeout) : 0;
  if (seconds < 1 || seconds > TIMEOUT_S_MAX) {
    throw problem("--timeout", `is ${shown(timeout)}, not whole seconds from 1 to ${TIMEOUT_S_MAX}`, "default 30");
  }
  if (bot !== undefined && !NAME_PATTERN.test(bot)) {
    throw problem("--bot", `is ${shown(bot)}, which no bot can be named`, 'lower case letters, digits and "-"');
  }
  const idBytes = Buffer.byteLength(conversation ?? "-");
  if (idBytes < 1 || idBytes > ID_BYTES_MAX) {
    throw problem(
      "--conversation",
      `has ${idBytes} bytes, not 1 to ${ID_BYTES_MAX}`,
      "leave it out to begin a new one",
    );
  }
  return { url: origin + pathname.replace(/\/+$/, ""), bot, conversation, timeoutMs: seconds * 1_000 };
}

interface Found {
  readonly server: HttpChatServer;
  readonly bot: string;
  readonly conversation: string;
  readonly history: Awaited<ReturnType<HttpChatServer["lines"]>>;
}

/** @returns undefined if the server did not answer within `waitMs` */
async function findConversation(
  { url, bot: wanted, conversation = randomUUID() }: ChatPlan,
  secret: string | undefined,
  waitMs: number,
  screen: Screen,
): Promise<Found | undefined> {
  const endMs = systemEnvironment.monotonicMs() + waitMs;
  const patiently = <T>(ask: () => Promise<T>) =>
    untilAnswered(ask, endMs, systemEnvironment, (why) => screen.seek(url, why));
  const serverOf = (bot: string) => new HttpChatServer({ url, bot, conversation, secret });

  let bot = wanted;
  if (bot === undefined) {
    const any = serverOf("-");
    const bots = await patiently(() => any.bots());
    await any.close();
    if (bots === undefined) return undefined;
    bot = theOnlyOf(bots);
  }
  const server = serverOf(bot);
  const history = await patiently(() => readHistory(server));
  if (history === undefined) {
    await server.close();
    return undefined;
  }
  if (history !== "none") return { server, bot, conversation, history };
  const isThere = await patiently(() => server.hasBot());
  await server.close();
  if (isThere === undefined) return undefined;
  if (!isThere) throw problem("--bot", `the server has no bot ${shown(bot)}`, "its banner names them");
  throw problem(
    "--url",
    "the server posts its replies elsewhere (--deliver-to), so there are none to read here",
    CHAT_PAGE,
  );
}

const CHAT_PAGE = "use its chat page, or start it without --deliver-to";

/** @throws ConfigError. Pure. */
export function theOnlyOf(bots: readonly string[] | null): string {
  if (bots === null) throw problem("--bot", "is needed: this server does not tell its bots", "its banner names them");
  const [first, ...others] = bots;
  if (first === undefined) throw problem("--bot", "the server has no bots", "start it with one");
  if (others.length > 0) throw problem("--bot", `is needed: the server has ${bots.join(", ")}`, `--bot ${first}`);
  return first;
}

async function readHistory(server: HttpChatServer): Promise<Found["history"] | "none"> {
  const all: Found["history"][number][] = [];
  try {
    for (;;) {
      const lines = await server.lines(all.at(-1)?.id ?? "0");
      if (lines.length === 0) return all;
      all.push(...lines);
    }
  } catch (error) {
    if (error instanceof AnswerError && error.status === 404) return "none";
    throw error;
  }
}

/** Asks again while the server is away; what it says for good is thrown. @returns undefined when the time is over */
async function untilAnswered<T>(
  ask: () => Promise<T>,
  endMs: number,
  environment: Environment,
  tell: (why: string) => void,
): Promise<T | undefined> {
  for (let told = ""; ; ) {
    try {
      return await ask();
    } catch (error) {
      const why = whyOf(error);
      if (error instanceof AnswerError && error.status < 500) {
        throw problem(
          "--url",
          `what is there is no colloquy, or does not want to talk: ${why}`,
          "as http://127.0.0.1:4000",
        );
      }
      if (why !== told) tell(why);
      told = why;
    }
    if (environment.monotonicMs() >= endMs) return undefined;
    await pause(environment, RETRY_MS);
  }
}

/** At a terminal: until ctrl-d or ctrl-c. */
async function converse(session: ChatSession, screen: Screen): Promise<ExitCode> {
  for await (const line of screen.typed()) if (line.trim() !== "") session.say(line);
  if (session.notDurable === 0) return EXIT.ok;
  screen.note(`${session.notDurable} not on disk: whoever typed them has to send them again`);
  return EXIT.failed;
}

/** From a pipe: each line is asked when the one before was answered. */
async function recite(session: ChatSession, { stdin }: Terminal, timeoutMs: number): Promise<ExitCode> {
  const lines = createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    if (line.trim() === "") continue;
    if (!(await session.ask(line, timeoutMs))) return EXIT.failed;
  }
  return EXIT.ok;
}

/** Output, around the line that is being typed if there is one. */
class Screen {
  readonly #terminal: Terminal;
  readonly #isInteractive: boolean;
  readonly #isJson: boolean;
  #reader: Interface | undefined;
  bot = "";

  constructor(terminal: Terminal, isInteractive: boolean, isJson: boolean) {
    this.#terminal = terminal;
    this.#isInteractive = isInteractive;
    this.#isJson = isJson;
  }

  greet(url: string, conversation: string): void {
    this.note(
      `${this.bot} at ${url}, conversation ${conversation}; ctrl-d ends it, and --conversation goes on with it`,
    );
  }

  note(text: string): void {
    this.#write("stderr", `  ${text}`);
  }

  /** Before the first answer: nothing was sent that could be lost, and the address may be wrong. */
  seek(url: string, why: string): void {
    if (this.#isJson) this.tell({ event: "disconnected", why });
    else this.note(`${url} does not answer (${why}); trying again. Is a bot running there? Else --port or --url`);
  }

  tell(event: ChatEvent): void {
    if (this.#isJson) {
      this.#terminal.stdout.write(`${jsonLine(event)}\n`);
      return;
    }
    const line = printed(event, this.bot, this.#isInteractive);
    if (line) this.#write(line.to, line.text);
  }

  typed(): AsyncIterable<string> {
    const output = this.#terminal.stdout as unknown as NodeJS.WritableStream;
    this.#reader = createInterface({ input: this.#terminal.stdin, output, prompt: "> ", terminal: true });
    const reader = this.#reader;
    reader.on("SIGINT", () => reader.close());
    reader.on("line", () => reader.prompt());
    reader.prompt();
    return reader;
  }

  close(): void {
    this.#reader?.close();
  }

  #write(to: "stdout" | "stderr", text: string): void {
    if (this.#reader) this.#terminal.stdout.write("\r\u001b[K");
    this.#terminal[to].write(`${text}\n`);
    this.#reader?.prompt(true);
  }
}
