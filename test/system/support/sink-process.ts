// Sink: the outside world's receiving end, in a process of its own. It logs every delivery attempt, answers 2xx after a
// small delay, so that there are always replies that were received and not acknowledged, and now and then fails.
//
//   POST /deliver   what the runtime sends
//   GET  /feed      a line of JSON for each reply when its first 2xx is given; what senders take for the answer

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { answerParent, configOfHelper } from "./helper-process.ts";
import { type DeliveryAttempt, HistoryWriter, nowUs } from "./history.ts";
import { seededRandom } from "./random.ts";

export interface SinkConfig {
  readonly port: number;
  readonly log: string;
  readonly seed: number;
  readonly delayMsMax: number;
  /** Share of attempts answered 429, 500 or 503, some with Retry-After. */
  readonly failShare: number;
  /** Share of attempts that are taken in, and whose connection is cut instead of answered. */
  readonly cutShare: number;
}

export interface SinkStatus {
  /** Attempts received so far. */
  readonly attempts: number;
  /** Attempts received and not answered yet. */
  readonly held: number;
  /** Replies that were given a 2xx. */
  readonly delivered: number;
}

export interface FeedLine {
  readonly conversation: string;
  readonly inReplyTo: string | null;
}

export type SinkVerbs = {
  readonly status: readonly [undefined, SinkStatus];
  /** How many attempts had been received and not answered at a moment. */
  readonly heldAt: readonly [atUs: number, number];
  /** From now on every attempt is refused with this status; 0 ends that. */
  readonly refuse: readonly [status: number, null];
  readonly listening: readonly [undefined, null];
};

const RECENT_MAX = 20_000;

const config = configOfHelper<SinkConfig>();
const log = new HistoryWriter(config.log);
const random = seededRandom(config.seed, "sink");
const delivered = new Set<string>();
const feeds = new Set<ServerResponse>();
/** The latest attempts, for `heldAt`; those that are still held have no end. */
const recent: { readonly receivedUs: number; answeredUs: number }[] = [];
let attempts = 0;
let held = 0;
let refuseWith = 0;

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  if (request.method === "POST" && request.url === "/deliver") void deliver(request, response);
  else if (request.url === "/feed") openFeed(response);
  else response.writeHead(404).end();
});
const listening = new Promise<null>((resolve) => server.listen(config.port, "127.0.0.1", () => resolve(null)));

function openFeed(response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" }).flushHeaders();
  feeds.add(response);
  response.once("close", () => feeds.delete(response));
}

async function deliver(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const times = { receivedUs: nowUs(), answeredUs: Number.POSITIVE_INFINITY };
  attempts += 1;
  held += 1;
  recent.push(times);
  if (recent.length > 2 * RECENT_MAX) recent.splice(0, RECENT_MAX);
  const body = await buffer(request).catch(() => undefined); // the sender died in the middle of its request
  if (body) await sleep(random.next() * config.delayMsMax);
  const status = response.destroyed || !body ? 0 : decide();
  times.answeredUs = nowUs();
  held -= 1;
  if (!body) return;
  const seen = lineOf(request, body, times, status);
  log.write(seen);
  if (status === 0) request.socket.destroy();
  else response.writeHead(status, headersOf(status)).end();
  if (status >= 200 && status < 300) announce(seen);
}

function decide(): number {
  const roll = random.next();
  if (refuseWith !== 0) return refuseWith;
  if (roll < config.cutShare) return 0;
  if (roll < config.cutShare + config.failShare) return random.pick([429, 500, 503]);
  return 200;
}

function headersOf(status: number): Record<string, string> {
  return status === 429 || (status === 503 && random.chance(0.5)) ? { "retry-after": "1" } : {};
}

function lineOf(
  request: IncomingMessage,
  body: Buffer,
  times: { receivedUs: number; answeredUs: number },
  status: number,
): DeliveryAttempt {
  const { bot, channel, conversation, sequence, inReplyTo, text } = JSON.parse(
    body.toString(),
  ) as Required<DeliveryAttempt>;
  const bodyHash = createHash("sha256").update(body).digest("hex");
  const key = String(request.headers["idempotency-key"]);
  return {
    kind: "delivery",
    bot,
    channel,
    key,
    conversation,
    sequence,
    inReplyTo,
    text,
    bodyHash,
    bytes: body.length,
    ...times,
    status,
  };
}

function announce({ conversation, sequence, inReplyTo }: DeliveryAttempt): void {
  const name = `${sequence} ${conversation}`;
  if (delivered.has(name)) return;
  delivered.add(name);
  const line: FeedLine = { conversation, inReplyTo };
  for (const feed of feeds) feed.write(`${JSON.stringify(line)}\n`);
}

answerParent<SinkVerbs>({
  status: () => ({ attempts, held, delivered: delivered.size }),
  heldAt: (atUs) => recent.filter(({ receivedUs, answeredUs }) => receivedUs <= atUs && atUs < answeredUs).length,
  refuse: (status) => {
    refuseWith = status;
    return null;
  },
  listening: () => listening,
});
