// Guard: who may ask for what on the one port. Pure: it decides from the socket's two addresses and the headers alone.
// docs/adr/0012 has the reasons.
//
// Invariants
//   U1. What a browser may read is served only under a name of this node: one that somebody points at it (DNS rebinding)
//       opens nothing.
//   U2. "On this machine" is said by the socket, never by a header. It does not count for a request that a proxy passed on, or
//       that was sent to a public name: whoever began that one is elsewhere.
//   U3. For whoever is not on this machine /admin and /metrics need the token; without one set they do not exist.
//   U4. No page of another site reaches them, from wherever and with whatever token.
//   U5. Comparing a token takes the same time whatever was sent.

import { createHash, timingSafeEqual } from "node:crypto";
import { BlockList, isIP } from "node:net";
import type { WebhookHeaders } from "../channels/channel.ts";
import { isFromAnotherSite, isFromBrowser } from "../channels/cross-site.ts";
import type { Problem } from "./problem.ts";

/** What is known of whoever sends a request. */
export interface Asker {
  /** Of the socket's other end. */
  readonly remoteAddress?: string | undefined;
  /** Of this end. */
  readonly localAddress?: string | undefined;
  readonly headers: WebhookHeaders;
}

/** Of a request as fastify gives it. */
export function askerOf(request: { readonly socket: Omit<Asker, "headers">; readonly headers: WebhookHeaders }): Asker {
  const { socket, headers } = request;
  return { remoteAddress: socket.remoteAddress, localAddress: socket.localAddress, headers };
}

export interface GuardRules {
  /** Where it listens: an address or a name. */
  readonly host: string;
  /** Further names, and addresses, under which this node is asked. Lower case, without port. */
  readonly allowedHosts: readonly string[];
  readonly adminToken: string | undefined;
}

export interface Guard {
  /** Of what a browser may read: why it is not served; undefined if it is (U1). */
  page(asker: Asker): Problem | undefined;
  /** Of a webhook: only a browser can be led here by a wrong name, so only a browser's is held to the names. */
  webhook(asker: Asker): Problem | undefined;
  /** Of /admin and /metrics (U2 to U5). */
  admin(asker: Asker): Problem | undefined;
}

export const NOT_FOUND: Problem = { status: 404, detail: "there is nothing at this path" };
export const MISDIRECTED: Problem = {
  status: 421,
  detail:
    "this node is not known by the name in Host; nothing was done. Ask it by its address, or add the name to allowedHosts (COLLOQUY_ALLOWED_HOSTS)",
};
const FOREIGN: Problem = { status: 403, detail: "a page of another site may not ask this; nothing was done" };
const NO_TOKEN: Problem = { status: 401, detail: "send the admin token: Authorization: Bearer <COLLOQUY_ADMIN_TOKEN>" };
const WRONG_TOKEN: Problem = { status: 401, detail: "this is not the admin token (COLLOQUY_ADMIN_TOKEN)" };

export function createGuard(rules: GuardRules): Guard {
  return {
    page: (asker) => (isOurName(asker, rules) ? undefined : MISDIRECTED),
    webhook: (asker) => (isFromBrowser(asker.headers) && !isOurName(asker, rules) ? MISDIRECTED : undefined),
    admin: (asker) => adminRefusal(asker, rules),
  };
}

/** U2, by the socket and by what proxies add. A proxy that adds nothing cannot be told from a client on this machine. */
export function isOnThisMachine({ remoteAddress, headers }: Asker): boolean {
  return isLoopback(remoteAddress) && !Object.keys(headers).some(isAddedByProxy);
}

function adminRefusal(asker: Asker, rules: GuardRules): Problem | undefined {
  const { adminToken } = rules;
  const isForeign = isFromAnotherSite(asker.headers);
  const unknown = adminToken === undefined ? NOT_FOUND : NO_TOKEN; // U3
  const { authorization } = asker.headers;
  if (adminToken !== undefined && authorization !== undefined) {
    if (!isToken(authorization, adminToken)) return WRONG_TOKEN;
    return isForeign ? FOREIGN : undefined; // U4. Whoever has the token was not led here by a name
  }
  if (!isOnThisMachine(asker)) return unknown;
  if (!isOurName(asker, rules)) return MISDIRECTED;
  if (isForeign) return FOREIGN;
  return isLoopbackName(nameOf(asker.headers)!) ? undefined : unknown; // U2: a public name was asked
}

/** U5 */
function isToken(authorization: string | readonly string[], adminToken: string): boolean {
  const given = typeof authorization === "string" ? (/^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? "") : "";
  return timingSafeEqual(digest(given), digest(adminToken));
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/**
 * U1. An address cannot be made to lead elsewhere, so that of this end counts, and any where it listens on all of them: behind
 * an address translation nobody here knows which one it is.
 */
function isOurName({ headers, localAddress }: Asker, { host, allowedHosts }: GuardRules): boolean {
  const name = nameOf(headers);
  if (name === undefined) return false;
  if (isLoopbackName(name) || allowedHosts.includes(name)) return true;
  if (isIP(name) === 0) return name === host.toLowerCase();
  return (
    isWildcard(host) || isSameAddress(name, host) || (localAddress !== undefined && isSameAddress(name, localAddress))
  );
}

/** The host of the Host header: lower case, without port, brackets and the root's dot; undefined if there is none. */
function nameOf({ host }: WebhookHeaders): string | undefined {
  const found = typeof host === "string" ? /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+?)\.?)(?::\d{1,5})?$/i.exec(host) : null;
  return (found?.[1] ?? found?.[2])?.toLowerCase();
}

/** Names under `localhost` lead to this machine whatever DNS says (RFC 6761). */
function isLoopbackName(name: string): boolean {
  return name === "localhost" || name.endsWith(".localhost") || isLoopback(name);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Also of an IPv4 address that is written as an IPv6 one. */
function isLoopback(address: string | undefined): boolean {
  return address !== undefined && contains(LOOPBACK, address);
}

function isSameAddress(one: string, other: string): boolean {
  const plain = mappedToIpv4(withoutZone(other));
  const kind = isIP(plain);
  if (kind === 0) return false;
  const list = new BlockList();
  list.addAddress(plain, kind === 6 ? "ipv6" : "ipv4");
  return contains(list, one);
}

function contains(list: BlockList, address: string): boolean {
  const plain = withoutZone(address);
  const kind = isIP(plain);
  return kind !== 0 && list.check(plain, kind === 6 ? "ipv6" : "ipv4");
}

/** A link-local address of a socket ends in `%` and its interface, which no list takes. */
const withoutZone = (address: string): string => address.replace(/%.*$/s, "");

const mappedToIpv4 = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, "");

const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::";

const ADDED_BY_PROXIES: ReadonlySet<string> = new Set([
  "forwarded",
  "via",
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  "cf-connecting-ip",
  "fly-client-ip",
]);

const isAddedByProxy = (header: string): boolean => header.startsWith("x-forwarded-") || ADDED_BY_PROXIES.has(header);
