// HTTP channel: plain JSON over HTTP at both ends. In by webhook; out by POST to `deliverTo`, or, without it, into the
// transcript that is read back.
//
// Invariants
//   C1. `render` is pure with a fixed order of members: every attempt, in every life, sends the same bytes (attack B14).
//   C2. With a secret, no byte of a body is looked at before its signature is right; comparing takes constant time.

import { createHmac, timingSafeEqual } from "node:crypto";
import type { RenderInput } from "../domain/message.ts";
import { transcriptBotLine } from "../domain/transcript.ts";
import type { Environment } from "../environment.ts";
import { systemEnvironment } from "../environment.ts";
import { ConfigError } from "../errors.ts";
import type { AccountOptions, Channel, RetryBudget, WebhookChannel, WebhookHeaders } from "./channel.ts";
import { parseHttpBody } from "./http-inbound.ts";
import { httpOutbound } from "./http-outbound.ts";
import { externalOrder, type OrderOptions } from "./order-options.ts";

/** With an `order` other than `arrival` every message must have a `sequence`. */
export interface HttpChannelOptions extends OrderOptions {
  /** Where replies are posted, http or https without credentials; without it they go to the transcript. */
  readonly deliverTo?: string | undefined;
  /** For how long senders repeat a message that they have no answer for, ms; a start is refused where `dedupeMs` is less. */
  readonly retryHorizonMs?: number | undefined;
  /** Requests must then carry `X-Colloquy-Signature: sha256=<hex HMAC-SHA256 of the raw body>`. */
  readonly secret?: string | undefined;
  /** For one attempt at delivering, ms; default 10,000. */
  readonly timeoutMs?: number | undefined;
  /** Connections to `deliverTo`, and so attempts under way, at the same time; default 128. */
  readonly connections?: number | undefined;
  /** Rate and breaker of what is posted to `deliverTo`. */
  readonly account?: Omit<AccountOptions, "concurrency"> | undefined;
  /** For how long and how often a reply is tried; default: `deliveryBudgetMs` of the app. */
  readonly retry?: RetryBudget | undefined;
  readonly environment?: Environment | undefined;
}

const NAME = "http";
const SIGNATURE_HEADER = "x-colloquy-signature";

/** @throws ConfigError if `deliverTo` is not a URL that replies can be posted to, the order is none, or the secret is empty; what it names */
export function httpChannel(options: HttpChannelOptions = {}): Channel & WebhookChannel {
  if (options.secret === "") throw new ConfigError("channels.http.secret", "is empty; set one, or leave it out");
  const order = externalOrder(options, "channels.http");
  const { retryHorizonMs } = options;
  const isSequenceRequired = order.mode !== "arrival";
  const inbound: WebhookChannel & Pick<Channel, "order" | "retryHorizonMs"> = {
    name: NAME,
    order,
    ...(retryHorizonMs !== undefined && { retryHorizonMs }),
    verify: (headers, raw) => options.secret === undefined || isSigned(headers, raw, options.secret),
    parse: (raw, bot, bounds) => parseHttpBody(raw, bot, NAME, bounds, isSequenceRequired),
  };
  if (options.deliverTo === undefined) {
    return {
      ...inbound,
      delivery: "transcript",
      render: ({ reply, ...place }) => transcriptBotLine({ ...place, ...reply }),
      send: async () => ({ kind: "terminal", reason: "replies of this channel go to the transcript" }),
    };
  }
  const connections = options.connections ?? 128;
  const outbound = httpOutbound({
    deliverTo: parseDeliverTo(options.deliverTo),
    timeoutMs: options.timeoutMs ?? 10_000,
    connections,
    environment: options.environment ?? systemEnvironment,
  });
  return {
    ...inbound,
    delivery: "lane",
    account: { ...options.account, concurrency: connections },
    ...(options.retry !== undefined && { retry: options.retry }),
    render: renderPost,
    ...outbound,
  };
}

const encoder = new TextEncoder();

function renderPost({ to, outSeq, inReplyTo, reply }: RenderInput): Uint8Array {
  const { bot, channel, conversation } = to;
  const { text, data } = reply;
  return encoder.encode(JSON.stringify({ bot, channel, conversation, sequence: outSeq, inReplyTo, text, data })); // C1
}

function isSigned(headers: WebhookHeaders, raw: Uint8Array, secret: string): boolean {
  const header = headers[SIGNATURE_HEADER];
  const hex = typeof header === "string" ? /^sha256=([0-9a-f]{64})$/i.exec(header)?.[1] : undefined;
  if (hex === undefined) return false;
  const given = Buffer.from(hex, "hex");
  const expected = createHmac("sha256", secret).update(raw).digest();
  return given.length === expected.length && timingSafeEqual(given, expected); // C2
}

function parseDeliverTo(text: string): URL {
  const key = "channels.http.deliverTo";
  if (!URL.canParse(text)) throw new ConfigError(key, "is not a URL; give one as https://example.org/replies");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new ConfigError(key, `has the scheme ${url.protocol} where only http: and https: can be posted to`);
  if (url.username !== "" || url.password !== "")
    throw new ConfigError(
      key,
      "holds credentials, which would end in logs and banners; put them in front of the recipient",
    );
  return url;
}
