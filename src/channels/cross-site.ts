// Cross-site: whether a browser sends a request on behalf of another site. Told by headers alone, which a page cannot forge:
// Sec-Fetch-Site where there is one, else Origin against Host. A request with neither is no browser's.

import type { WebhookHeaders } from "./channel.ts";

const NONE: ReadonlySet<string> = new Set();

/** @param known origins of other names that count as this one, e.g. that of a proxy which changes the Host header */
export function isFromAnotherSite(headers: WebhookHeaders, known: ReadonlySet<string> = NONE): boolean {
  const { origin, host } = headers;
  if (typeof origin === "string" && known.has(origin)) return false;
  const site = headers["sec-fetch-site"];
  if (site !== undefined && site !== "same-origin" && site !== "none") return true; // `none`: typed into the address bar
  if (origin === undefined) return false;
  return !(typeof origin === "string" && typeof host === "string" && hostOf(origin) === host.toLowerCase());
}

/** Every browser says one of them with a POST, and a modern one with any request to this machine. */
export function isFromBrowser(headers: WebhookHeaders): boolean {
  return headers.origin !== undefined || headers["sec-fetch-site"] !== undefined;
}

/** Host and port as a browser writes them into Host; the scheme may be a proxy's. */
function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined; // "null" is no URL
}
