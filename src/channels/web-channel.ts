// Web channel: the chat page's end. One message in a request, replies into the transcript; for pages of this server only.
//
// Invariants
//   B1. What a browser sends on behalf of another site is refused by its headers alone: Sec-Fetch-Site where there is one, else
//       Origin against Host. There is no CORS, so another site can read nothing either.
//   B2. A request with neither header is no browser's: it needs no protection from itself, and is let in.

import { transcriptBotLine } from "../domain/transcript.ts";
import { ConfigError } from "../errors.ts";
import type { Channel, ParseResult, WebhookChannel } from "./channel.ts";
import { isFromAnotherSite } from "./cross-site.ts";
import { parseHttpBody } from "./http-inbound.ts";

export interface WebChannelOptions {
  /** Further origins, as `https://chat.example.org`, for a proxy in front that changes the Host header. */
  readonly origins?: readonly string[] | undefined;
}

export const WEB_CHANNEL = "web";

/** @throws ConfigError if one of `origins` is none */
export function webChannel({ origins = [] }: WebChannelOptions = {}): Channel & WebhookChannel {
  const known = new Set(origins.map(checkedOrigin));
  return {
    name: WEB_CHANNEL,
    delivery: "transcript",
    refuse: (headers) => (isFromAnotherSite(headers, known) ? FOREIGN : undefined), // B1, B2
    verify: () => true,
    parse: (raw, bot, bounds) => {
      const parsed = parseHttpBody(raw, bot, WEB_CHANNEL, bounds);
      return parsed.kind === "ok" && isArray(raw) ? ONE_ONLY : parsed;
    },
    render: ({ reply, ...place }) => transcriptBotLine({ ...place, ...reply }),
    send: async () => ({ kind: "terminal", reason: "replies of this channel go to the transcript" }),
  };
}

const ONE_ONLY: ParseResult = {
  kind: "problem",
  status: 422,
  field: "",
  detail: "a request of this channel holds one message, not an array",
};

/** Of a body that is JSON. */
function isArray(raw: Uint8Array): boolean {
  const BYTE_ORDER_MARK_AND_SPACES = [0xef, 0xbb, 0xbf, 0x20, 0x09, 0x0a, 0x0d];
  return raw.find((byte) => !BYTE_ORDER_MARK_AND_SPACES.includes(byte)) === 0x5b;
}

const FOREIGN = "this channel takes requests of its own pages only, and this one comes from another site";

function checkedOrigin(text: string): string {
  if (URL.canParse(text) && new URL(text).origin === text) return text;
  throw new ConfigError(
    "channels.web.origins",
    "has an entry that is no origin; give each as https://chat.example.org",
  );
}
