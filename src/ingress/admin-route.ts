// Admin route: the guarded group. What is in it is served only to whom the guard lets through; a route more is one line in the
// table that is handed over.
//
// Invariants
//   X1. The guard is asked before anything else of a request, its method included: who is refused learns nothing.
//   X2. Answers are JSON, never cached, and never taken for anything else.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { parse as parseJson } from "secure-json-parse";
import type { Metrics } from "../metrics.ts";
import { askerOf, type Guard } from "./guard.ts";
import { type Problem, sendProblem } from "./problem.ts";

export interface AdminRequest {
  readonly params: Readonly<Record<string, string>>;
  /** A parameter that came twice is a list. */
  readonly query: Readonly<Record<string, unknown>>;
  /** Parsed JSON of a POST; undefined without a body. */
  readonly body: unknown;
  /** The address that asks, for the log. */
  readonly by: string;
}

export type AdminAnswer = { readonly json: unknown } | { readonly problem: Problem };

export interface AdminRoute {
  readonly method: "GET" | "POST";
  /** E.g. `/admin/conversations/:bot`. */
  readonly path: string;
  /** May reject: a ColloquyError that is retryable becomes 503, anything else 500. */
  answer(request: AdminRequest): AdminAnswer | Promise<AdminAnswer>;
}

export interface AdminGroupOptions {
  readonly guard: Guard;
  readonly metrics: Metrics;
  readonly routes: readonly AdminRoute[];
}

const METRICS_PATH = "/metrics";
/** Of a POST: names and positions, never payload. */
const BODY_BYTES_MAX = 65_536;
const CHALLENGE = 'Bearer realm="colloquy"';

export function adminGroup(options: AdminGroupOptions): (scope: FastifyInstance) => Promise<void> {
  const { guard, metrics, routes } = options;
  return async (scope) => {
    scope.addHook("onRequest", async (request, reply) => {
      const refusal = guard.admin(askerOf(request)); // X1
      if (refusal === undefined) {
        reply.headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" }); // X2
        return undefined;
      }
      if (refusal.status === 401) reply.header("www-authenticate", CHALLENGE);
      return sendProblem(reply, refusal);
    });
    scope.addContentTypeParser("application/json", { parseAs: "string", bodyLimit: BODY_BYTES_MAX }, readJson);

    scope.get(METRICS_PATH, async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()));
    for (const route of routes) addRoute(scope, route);
    for (const [path, allowed] of methodsByPath(routes)) refuseOthers(scope, path, allowed);
  };
}

function addRoute(scope: FastifyInstance, { method, path, answer }: AdminRoute): void {
  scope.route<{ Params: Record<string, string>; Querystring: Record<string, unknown> }>({
    method,
    url: path,
    handler: async (request, reply) => {
      const { params, query, body, socket } = request;
      const answered = await answer({ params, query, body, by: socket.remoteAddress ?? "unknown" });
      if ("problem" in answered) return sendProblem(reply, answered.problem);
      return reply.type("application/json; charset=utf-8").send(JSON.stringify(answered.json));
    },
  });
}

function readJson(_request: unknown, text: string, done: (error: Error | null, body?: unknown) => void): void {
  try {
    done(null, text === "" ? undefined : parseJson(text, null, { protoAction: "error", constructorAction: "error" }));
  } catch {
    done(Object.assign(new Error("not JSON"), { statusCode: 400 }));
  }
}

function methodsByPath(routes: readonly AdminRoute[]): Map<string, string[]> {
  const methods = new Map<string, string[]>([[METRICS_PATH, ["GET", "HEAD"]]]);
  for (const { method, path } of routes) {
    const known = methods.get(path) ?? [];
    methods.set(path, known.concat(method === "GET" ? ["GET", "HEAD"] : [method]));
  }
  return methods;
}

function refuseOthers(scope: FastifyInstance, url: string, allowed: readonly string[]): void {
  const allow = allowed.join(", ");
  const handler = async (_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
    sendProblem(reply.header("allow", allow), { status: 405, detail: `this path takes ${allow} only` });
  const method = scope.supportedMethods.filter((name) => !allowed.includes(name));
  scope.route({ method, url, onRequest: handler, handler }); // before a body of any type is looked at
}
