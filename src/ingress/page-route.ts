// Page route: the chat page at `/` and what it asks about this process. The files stand in src/page/ and are served as they are.
//
// Invariants
//   A1. Files are named here one by one; no path of a request ever becomes a path of a file.
//   A2. The page may load its own files and talk to its own origin; nothing inline runs, whatever a message holds.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { WebhookHeaders } from "../channels/channel.ts";
import { askerOf, isOnThisMachine } from "./guard.ts";
import { sendProblem } from "./problem.ts";

export interface PagePort {
  readonly bots: readonly string[];
  /** Shown to those on this machine only, who may want to kill it. */
  readonly pid: number;
  /** Why the web channel refuses a request with these headers; undefined if it does not. */
  refuse?(headers: WebhookHeaders): string | undefined;
}

const FILES: Readonly<Record<string, { readonly file: string; readonly type: string }>> = {
  "/": { file: "index.html", type: "text/html; charset=utf-8" },
  "/chat.js": { file: "chat.js", type: "text/javascript; charset=utf-8" },
  "/quick-replies.js": { file: "quick-replies.js", type: "text/javascript; charset=utf-8" },
  "/chat.css": { file: "chat.css", type: "text/css; charset=utf-8" },
};
const INFO_PATH = "/channels/web/info";

/** A2 */
const HEADERS = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; "),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
};

/** Paths that take GET and HEAD only. */
export const pagePaths = (): readonly string[] => Object.keys(FILES);

/** @throws Error if a file of the page is missing: the package is broken */
export function pageRoutes(server: FastifyInstance, page: PagePort): void {
  for (const [path, { file, type }] of Object.entries(FILES)) {
    const body = readFileSync(new URL(`../page/${file}`, import.meta.url)); // A1
    const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
    server.get(path, async (request, reply) => {
      reply.headers({ ...HEADERS, etag });
      if (request.headers["if-none-match"] === etag) return reply.code(304).send();
      return reply.type(type).send(body);
    });
  }
  server.get(INFO_PATH, async (request, reply) => info(page, request, reply));
}

function info(page: PagePort, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const refusal = page.refuse?.(request.headers);
  if (refusal !== undefined) return sendProblem(reply, { status: 403, detail: refusal });
  const pid = isOnThisMachine(askerOf(request)) ? page.pid : undefined;
  return reply.header("cache-control", "no-store").send({ bots: page.bots, pid });
}
