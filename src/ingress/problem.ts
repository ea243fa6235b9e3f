// Problem: every answer that is not what was asked for, as RFC 9457 problem JSON. It never quotes what was sent.

import { STATUS_CODES } from "node:http";
import type { FastifyReply } from "fastify";
import { ColloquyError } from "../errors.ts";

export interface Problem {
  readonly status: number;
  /** What is wrong with this request, and what to do about it. */
  readonly detail: string;
  /** Path of the member that is wrong; "" for the whole body. */
  readonly field?: string | undefined;
  /** A stable code of docs/errors.md. */
  readonly code?: string | undefined;
  /** The conversation that is full. */
  readonly conversation?: string | undefined;
  /** When to come again; sent as whole seconds, at least 1. */
  readonly retryAfterMs?: number | undefined;
}

/** What a request waits for when nobody knows better, ms. */
export const RETRY_AFTER_DEFAULT_MS = 1_000;

export const PROBLEM_TYPE = "application/problem+json";

export function problemJson({ status, detail, field, code, conversation }: Problem): Buffer {
  const title = STATUS_CODES[status] ?? "Error"; // of "about:blank", which says no more than its status
  return Buffer.from(JSON.stringify({ type: "about:blank", title, status, detail, field, code, conversation }));
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.retryAfterMs !== undefined) {
    reply.header("retry-after", String(Math.max(1, Math.ceil(problem.retryAfterMs / 1_000))));
  }
  return reply.code(problem.status).header("content-type", PROBLEM_TYPE).send(problemJson(problem));
}

/** What an error that reached the edge says to the outside. Our own mistakes are a bare 500: their text is for the log. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ColloquyError && error.retryable) {
    const detail = "the store does not answer now; nothing that was accepted is lost, send the same request again";
    return { status: 503, detail, code: error.code, retryAfterMs: RETRY_AFTER_DEFAULT_MS };
  }
  const { code, statusCode } = (error ?? {}) as { code?: unknown; statusCode?: unknown };
  const known = typeof code === "string" ? FRAMEWORK_PROBLEMS.get(code) : undefined;
  if (known) return known;
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500)
    return { status: statusCode, detail: "the request cannot be read" };
  return { status: 500, detail: "an error of this server, which its log describes; the request may be sent again" };
}

const FRAMEWORK_PROBLEMS: ReadonlyMap<string, Problem> = new Map([
  ["FST_ERR_CTP_BODY_TOO_LARGE", { status: 413, detail: "the body is larger than this address takes" }],
  ["FST_ERR_CTP_INVALID_MEDIA_TYPE", { status: 415, detail: "the body must be application/json" }],
  ["FST_ERR_BAD_URL", { status: 400, detail: "the path is not percent-encoded UTF-8" }],
  ["FST_ERR_MAX_PARAM_LENGTH", { status: 404, detail: "nothing has a name as long as in this path" }],
]);
