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
import type { Channel, WebhookChannel, WebhookHeaders } from "./channel.ts";
import { parseHttpBody } from "./http-inbound.ts";
import { httpOutbound } from "./http-outbound.ts";
import { externalOrder, type OrderOptions } from "./order-options.ts";
import { type PostOptions, posting, refusePosting } from "./post-options.ts";

/** With an `order` other than `arrival` every message must have a `sequence`. */
export interface HttpChannelOptions extends OrderOptions, PostOptions {
  /** Where replies are posted, http or https without credentials; without it they go to the transcript. */
  readonly deliverTo?: string | undefined;
  /** For how long senders repeat a message that they have no answer for, ms; a start is refused where `dedupeMs` is less. */
  readonly retryHorizonMs?: number | undefined;
  /** Requests must then carry `X-Colloquy-Signature: sha256=<hex HMAC-SHA256 of the raw body>`. */
  readonly secret?: string | undefined;
  readonly environment?: Environment | undefined;
}

const NAME = "http";
/** Where its options stand, in refusals. */
const KEY = "channels.http";
const SIGNATURE_HEADER = "x-colloquy-signature";

/**
 * @throws ConfigError, or ConfigProblemsError for several, if `deliverTo` is not a URL that replies can be posted to, an option of
 * posting or of the order is out of its bounds or means nothing beside the others, or the secret is empty
 */
export function httpChannel(options: HttpChannelOptions = {}): Channel & WebhookChannel {
  if (options.secret === "") throw new ConfigError(`${KEY}.secret`, "is empty; set one, or leave it out");
  const order = externalOrder(options, KEY);
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
    refusePosting(options, KEY);
    return {
      ...inbound,
      delivery: "transcript",
      render: ({ reply, ...place }) => transcriptBotLine({ ...place, ...reply }),
      send: async () => ({ kind: "terminal", reason: "replies of this channel go to the transcript" }),
    };
  }
  const deliverTo = parseDeliverTo(options.deliverTo);
  const { timeoutMs, connections, ...traits } = posting(options, KEY);
  const environment = options.environment ?? systemEnvironment;
  return {
    ...inbound,
    delivery: "lane",
    ...traits,
    render: renderPost,
    ...httpOutbound({ deliverTo, timeoutMs, connections, environment }),
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
  const key = `${KEY}.deliverTo`;
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
