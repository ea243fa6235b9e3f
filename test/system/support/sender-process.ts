// Sender: users who write to the bot, in a process of its own. It keeps up to `window` messages of a conversation
// un-answered (no reply delivered yet, which the sink's feed tells), sends some of them in batches over several
// conversations, repeats what got no 2xx until it gets one, and now and then what did.

import { Agent, get, request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { answerParent, configOfHelper } from "./helper-process.ts";
import { HistoryWriter, type MessageName, nowUs, type RequestAttempt } from "./history.ts";
import { seededRandom } from "./random.ts";
import { SendPlan } from "./send-plan.ts";
import type { FeedLine } from "./sink-process.ts";

export interface SenderConfig {
  /** Runtimes; after a failed try the next one is asked. */
  readonly urls: readonly string[];
  readonly bot: string;
  readonly feed: string;
  readonly log: string;
  readonly seed: number;
  readonly conversations: number;
  readonly messages: number;
  /** Stands before the number in each message's id, so that two senders can write to the same conversations. */
  readonly idPrefix: string;
  /** Un-answered messages of a conversation, at most. */
  readonly window: number;
  /** Requests in flight, at most. */
  readonly connections: number;
  readonly batchShare: number;
  readonly repeatShare: number;
  /** Longest pause of a connection between two requests. */
  readonly thinkMsMax: number;
  readonly answerWithinMs: number;
}

export interface SenderStatus {
  /** Distinct messages: sent at least once, answered 2xx, with a delivered reply. */
  readonly sent: number;
  readonly acknowledged: number;
  readonly answered: number;
  readonly unanswered: number;
  readonly requestsInFlight: number;
  /** All is sent, acknowledged and answered, and the repeats are through. */
  readonly isDone: boolean;
}

/** What was open at a moment in the past. */
export interface SenderMoment {
  readonly requestsInFlight: number;
  readonly unanswered: number;
}

export type SenderVerbs = {
  /** Starts sending once the feed is open. */
  readonly start: readonly [undefined, null];
  readonly status: readonly [undefined, SenderStatus];
  readonly at: readonly [atUs: number, SenderMoment];
};

const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 200;
const NO_ROOM_MS = 3;
const REPEAT_AFTER_MS_MAX = 1_500;
/** Where there are several runtimes: share of tries that go to another than the one that answered last. */
const ASTRAY_SHARE = 0.02;

const config = configOfHelper<SenderConfig>();
const log = new HistoryWriter(config.log);
const random = seededRandom(config.seed, `sender ${config.idPrefix}`);
const plan = new SendPlan(config, seededRandom(config.seed, `plan ${config.idPrefix}`));
const agent = new Agent({ keepAlive: true, maxSockets: config.connections + 8, scheduling: "lifo" });

interface MessageTimes {
  readonly sentUs: number;
  acknowledgedUs: number;
  answeredUs: number;
}

const NEVER = Number.POSITIVE_INFINITY;
const messages = new Map<string, MessageTimes>();
const attempts: { readonly sentUs: number; endedUs: number }[] = [];
let inFlight = 0;
let requests = 0;
let acknowledged = 0;
let answered = 0;
let working = 0;
let target = 0;

const nameOf = ({ conversation, id }: MessageName): string => `${id} ${conversation}`;

function start(): Promise<null> {
  return new Promise((resolve, reject) => {
    const request = get(config.feed, (response) => {
      createInterface({ input: response }).on("line", (text) => noteAnswer(JSON.parse(text) as FeedLine));
      for (let i = 0; i < config.connections; i += 1) void counted(connection());
      resolve(null);
    });
    request.once("error", reject);
  });
}

function noteAnswer({ conversation, inReplyTo }: FeedLine): void {
  const times = messages.get(nameOf({ conversation, id: String(inReplyTo) }));
  if (!times || times.answeredUs !== NEVER) return; // another sender's
  times.answeredUs = nowUs();
  answered += 1;
  plan.answered(conversation);
}

async function counted(work: Promise<void>): Promise<void> {
  working += 1;
  await work;
  working -= 1;
}

async function connection(): Promise<void> {
  while (!plan.isSpent) {
    const batch = plan.take();
    if (batch.length === 0) {
      await sleep(NO_ROOM_MS);
      continue;
    }
    for (const message of batch) {
      log.write({ ...message, bot: config.bot });
      messages.set(nameOf(message), { sentUs: nowUs(), acknowledgedUs: NEVER, answeredUs: NEVER });
    }
    requests += 1;
    await sendUntilAcknowledged(`${config.idPrefix}${requests}`, batch);
    await sleep(random.next() * config.thinkMsMax);
  }
}

type Sendable = MessageName & { readonly text: string };

async function sendUntilAcknowledged(request: string, batch: readonly Sendable[]): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const asked = target;
    const outcome = await tryOnce({ request, attempt, purpose: "first" }, batch);
    if (outcome === "ack") break;
    if (target === asked) target += 1; // where there are several runtimes, all connections turn to the next one
    await sleep(RETRY_MS_MIN + random.next() * (RETRY_MS_MAX - RETRY_MS_MIN));
  }
  for (const message of batch) messages.get(nameOf(message))!.acknowledgedUs = nowUs();
  acknowledged += batch.length;
  if (random.chance(config.repeatShare)) void counted(repeat(request, batch));
}

/** All of it is in, so any part of it may come again in any order. */
async function repeat(request: string, batch: readonly Sendable[]): Promise<void> {
  await sleep(random.next() * REPEAT_AFTER_MS_MAX);
  const part = random.shuffled(batch).slice(0, 1 + random.below(batch.length));
  await tryOnce({ request, attempt: 0, purpose: "repeat" }, part);
}

async function tryOnce(
  about: Pick<RequestAttempt, "request" | "attempt" | "purpose">,
  batch: readonly Sendable[],
): Promise<RequestAttempt["outcome"]> {
  const astray = random.chance(ASTRAY_SHARE) ? 1 : 0; // a balancer's view is late
  const url = `${config.urls[(target + astray) % config.urls.length]}/channels/http/${config.bot}`;
  const body = batch.map(({ conversation, id, text }) => ({ conversation, id, text }));
  const times = { sentUs: nowUs(), endedUs: NEVER };
  attempts.push(times);
  inFlight += 1;
  const { outcome, status } = await post(url, JSON.stringify(body.length === 1 ? body[0] : body), batch.length);
  times.endedUs = nowUs();
  inFlight -= 1;
  const items = batch.map(({ conversation, id }) => ({ conversation, id }));
  log.write({ kind: "attempt", bot: config.bot, ...about, items, ...times, outcome, status });
  return outcome;
}

type PostOutcome = Pick<RequestAttempt, "outcome" | "status">;

function post(url: string, body: string, count: number): Promise<PostOutcome> {
  return new Promise((resolve) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const request = httpRequest(url, { method: "POST", agent, headers, timeout: config.answerWithinMs });
    request.on("timeout", () => request.destroy());
    request.on("error", (error: NodeJS.ErrnoException) => {
      resolve({ outcome: error.code === "ECONNREFUSED" ? "nack" : "unknown", status: 0 });
    });
    request.on("response", (response) => {
      const status = response.statusCode ?? 0;
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", () => resolve({ outcome: outcomeOf(status), status })); // its head had come
      response.on("end", () => {
        if (status === 202) checkCount(Buffer.concat(chunks).toString(), count);
        resolve({ outcome: outcomeOf(status), status });
      });
    });
    request.end(body);
  });
}

/** 429 and 5xx: a part may be in. */
function outcomeOf(status: number): PostOutcome["outcome"] {
  if (status >= 200 && status < 300) return "ack";
  return status >= 400 && status < 500 && status !== 408 && status !== 429 ? "nack" : "unknown";
}

function checkCount(text: string, count: number): void {
  const { accepted } = JSON.parse(text) as { accepted?: number };
  if (accepted !== count) throw new Error(`202 for a request of ${count} says accepted ${accepted}`);
}

answerParent<SenderVerbs>({
  start,
  status: () => ({
    sent: messages.size,
    acknowledged,
    answered,
    unanswered: messages.size - answered,
    requestsInFlight: inFlight,
    isDone: plan.isSpent && working === 0 && answered === messages.size,
  }),
  at: (atUs) => ({
    requestsInFlight: attempts.filter(({ sentUs, endedUs }) => sentUs <= atUs && atUs < endedUs).length,
    unanswered: [...messages.values()].filter(({ sentUs, answeredUs }) => sentUs <= atUs && atUs < answeredUs).length,
  }),
});
