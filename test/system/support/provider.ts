// Provider: the outside service of a test, in a process of its own, outside of what is killed. Each of its accounts listens on a
// port of its own, treats attempts as its behaviour and the seed say (provider-behaviour.ts), and can be told to be dead.
//
//   POST <anything> on the port of an account   what the runtime sends
//   GET  /feed      on the feed's port          a line of JSON for each reply when its first 2xx is given
//
// Invariants
//   W1. Each request is one line of the log, written when its answer was given or its connection had ended.
//   W2. A request counts as in flight from when its head came until just before its answer leaves: never longer than its
//       sender has it in flight, so a sender that keeps a bound is never seen above it. (A `hang` is over when its end is seen.)

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { answerParent, configOfHelper } from "./helper-process.ts";
import { HistoryWriter, nowUs } from "./history.ts";
import { type Behaviour, isAccepting, type Treated, treat } from "./provider-behaviour.ts";
import { type KeyParts, type ProviderAttempt, parseReplyKey, stableName } from "./provider-log.ts";
import type { FeedLine } from "./sink-process.ts";

export interface ProviderConfig {
  readonly seed: number;
  readonly log: string;
  readonly feedPort: number;
  readonly accounts: readonly { readonly name: string; readonly port: number; readonly behaviour: Behaviour }[];
}

/** `dead`: no connection is taken, and those that are open are cut. A number: each request is answered with this status. */
export type AccountMode = "alive" | "dead" | number;

export interface AccountStatus {
  readonly attempts: number;
  readonly inFlight: number;
  /** The most since the last `resetPeak`. */
  readonly inFlightPeak: number;
  /** Replies that were given a 2xx. */
  readonly delivered: number;
}

export type ProviderVerbs = {
  readonly listening: readonly [undefined, null];
  readonly status: readonly [account: string, AccountStatus];
  readonly resetPeak: readonly [account: string, null];
  readonly become: readonly [{ readonly account: string; readonly mode: AccountMode }, null];
  readonly behave: readonly [{ readonly account: string; readonly behaviour: Behaviour }, null];
  /** These replies, `<conversation> <sequence>`, are answered `status` from now on; it replaces what was said before. */
  readonly reject: readonly [
    { readonly account: string; readonly status: number; readonly replies: readonly string[] },
    null,
  ];
  /** How many attempts had been received and not answered at a moment, over all accounts. */
  readonly heldAt: readonly [atUs: number, number];
};

const RECENT_MAX = 20_000;
const REDRIVEN_HEADER = "redriven";

const config = configOfHelper<ProviderConfig>();
const log = new HistoryWriter(config.log);
const feeds = new Set<ServerResponse>();
/** The latest attempts, for `heldAt`; those that are still held have no end. */
const recent: { readonly receivedUs: number; answeredUs: number }[] = [];

class Account {
  readonly #name: string;
  readonly #port: number;
  behaviour: Behaviour;
  rejected: { readonly status: number; readonly replies: ReadonlySet<string> } = { status: 400, replies: new Set() };
  #mode: AccountMode = "alive";
  #server: Server | null = null;
  readonly #attemptsAt = new Map<string, number>();
  readonly #delivered = new Set<string>();
  #attempts = 0;
  #inFlight = 0;
  #inFlightPeak = 0;

  constructor({ name, port, behaviour }: ProviderConfig["accounts"][number]) {
    this.#name = name;
    this.#port = port;
    this.behaviour = behaviour;
  }

  get status(): AccountStatus {
    const delivered = this.#delivered.size;
    return { attempts: this.#attempts, inFlight: this.#inFlight, inFlightPeak: this.#inFlightPeak, delivered };
  }

  resetPeak(): void {
    this.#inFlightPeak = this.#inFlight;
  }

  async become(mode: AccountMode): Promise<void> {
    this.#mode = mode;
    if (mode !== "dead") return this.listen();
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  }

  async listen(): Promise<void> {
    if (this.#server !== null) return;
    this.#server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      void this.#take(request, response);
    });
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const times = { receivedUs: nowUs(), answeredUs: Number.POSITIVE_INFINITY };
    recent.push(times);
    if (recent.length > 2 * RECENT_MAX) recent.splice(0, RECENT_MAX);
    this.#attempts += 1;
    this.#inFlight += 1;
    this.#inFlightPeak = Math.max(this.#inFlightPeak, this.#inFlight);
    const key = String(request.headers["idempotency-key"]);
    const parts = parseReplyKey(key);
    if (parts === undefined) throw new Error(`a request came whose key is ${key}`); // ends the process: the test sees it
    const attempt = (this.#attemptsAt.get(key) ?? 0) + 1;
    this.#attemptsAt.set(key, attempt);
    const done = await this.#treat(request, response, parts, attempt);
    times.answeredUs = done.answeredUs;
    const { bot, channel, conversation, sequence } = parts;
    const reply = { bot, channel, conversation, sequence };
    const isRedriven = request.headers[REDRIVEN_HEADER] === "true";
    const line = {
      kind: "request",
      account: this.#name,
      key,
      attempt,
      ...reply,
      isRedriven,
      ...done,
      ...times,
    } as const;
    log.write(line); // W1
    if (line.status < 200 || line.status > 299 || this.#delivered.has(key)) return;
    this.#delivered.add(key);
    const told: FeedLine = { conversation, inReplyTo: line.inReplyTo };
    for (const feed of feeds) feed.write(`${JSON.stringify(told)}\n`);
  }

  async #treat(
    request: IncomingMessage,
    response: ServerResponse,
    parts: KeyParts,
    attempt: number,
  ): Promise<Pick<ProviderAttempt, Seen>> {
    const ordered = this.#orderedStatus(parts);
    const treated: Treated = treat(config.seed, this.behaviour, stableName(parts), attempt);
    if (ordered === null && treated.treatment === "reset-unread") {
      const answeredUs = this.#answered();
      request.socket.resetAndDestroy();
      return { ...UNREAD, gave: treated.treatment, answeredUs };
    }
    const body = await buffer(request).catch(() => null); // its sender died in the middle of it
    if (body === null) return { ...UNREAD, gave: "cut off", answeredUs: this.#answered() };
    if (ordered !== null) {
      const answeredUs = this.#answered();
      const status = response.destroyed ? 0 : ordered;
      const isAccepted = ordered >= 200 && ordered < 300;
      response.writeHead(ordered).end();
      return { ...read(body), gave: "refused", isAccepted, status, retryAfterS: null, answeredUs };
    }
    const { treatment, afterMs, retryAfterS } = treated;
    const seen = { ...read(body), gave: treatment, isAccepted: isAccepting(treatment), retryAfterS };
    if (treatment === "hang") {
      if (!response.destroyed) await once(response, "close");
      return { ...seen, status: 0, answeredUs: this.#answered() };
    }
    if (afterMs > 0) await sleep(afterMs);
    const answeredUs = this.#answered();
    if (response.destroyed) return { ...seen, status: 0, answeredUs };
    if (treatment === "reset-taken") {
      request.socket.resetAndDestroy();
      return { ...seen, status: 0, answeredUs };
    }
    const status = treatment === "ok" || treatment === "slow" ? 200 : Number(treatment);
    response.writeHead(status, retryAfterS === null ? {} : { "retry-after": String(retryAfterS) }).end();
    return { ...seen, status, answeredUs };
  }

  /** What it was told to answer; null: what its behaviour says. */
  #orderedStatus({ conversation, sequence }: KeyParts): number | null {
    if (typeof this.#mode === "number") return this.#mode;
    return this.rejected.replies.has(`${conversation} ${sequence}`) ? this.rejected.status : null;
  }

  /** W2 */
  #answered(): number {
    this.#inFlight -= 1;
    return nowUs();
  }
}

type Seen =
  | "bodyHash"
  | "bytes"
  | "inReplyTo"
  | "text"
  | "gave"
  | "isAccepted"
  | "status"
  | "retryAfterS"
  | "answeredUs";

const UNREAD = {
  bodyHash: null,
  bytes: 0,
  inReplyTo: null,
  text: "",
  isAccepted: false,
  status: 0,
  retryAfterS: null,
} as const;

function read(body: Buffer): Pick<ProviderAttempt, "bodyHash" | "bytes" | "inReplyTo" | "text"> {
  const { inReplyTo, text } = JSON.parse(body.toString()) as { inReplyTo: string | null; text: string };
  return { bodyHash: createHash("sha256").update(body).digest("hex"), bytes: body.length, inReplyTo, text };
}

const accounts = new Map(config.accounts.map((account) => [account.name, new Account(account)]));

function accountOf(name: string): Account {
  const account = accounts.get(name);
  if (!account) throw new Error(`there is no account ${name}`);
  return account;
}

async function listen(): Promise<null> {
  const feed = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "application/x-ndjson" }).flushHeaders();
    feeds.add(response);
    response.once("close", () => feeds.delete(response));
  });
  feed.listen(config.feedPort, "127.0.0.1");
  await Promise.all([once(feed, "listening"), ...[...accounts.values()].map((account) => account.listen())]);
  return null;
}

const listening = listen();

answerParent<ProviderVerbs>({
  listening: () => listening,
  status: (account) => accountOf(account).status,
  resetPeak(account) {
    accountOf(account).resetPeak();
    return null;
  },
  async become({ account, mode }) {
    await accountOf(account).become(mode);
    return null;
  },
  behave({ account, behaviour }) {
    accountOf(account).behaviour = behaviour;
    return null;
  },
  reject({ account, status, replies }) {
    accountOf(account).rejected = { status, replies: new Set(replies) };
    return null;
  },
  heldAt: (atUs) => recent.filter(({ receivedUs, answeredUs }) => receivedUs <= atUs && atUs < answeredUs).length,
});
