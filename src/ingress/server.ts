// Server: the one HTTP port of a node. It answers before the store does and after the store left, so that "alive" and
// "ready" can always be asked; webhooks are a gate on it that ingress opens last and closes first.
//
// Invariants
//   G1. Every answer that is not what was asked for is problem JSON, those that HTTP itself forces included.
//   G2. Slow, oversized and malformed requests end by a limit, and cost others nothing.
//   G3. `stop` takes no new work, finishes what is in flight, and ends within `stopTimeoutMs`.
//   G4. Neither a URL, nor a header, nor a body is logged.
//   G5. Only health is for everybody: pages and transcripts are served under a name of this node, /admin and /metrics to whom
//       the guard lets through (guard.ts).

import { STATUS_CODES } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import type { Admit, RequestBounds } from "../channels/channel.ts";
import { REQUEST_BOUNDS } from "../channels/http-inbound.ts";
import type { Environment, Timer } from "../environment.ts";
import { ConfigError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { type AdminRoute, adminGroup } from "./admin-route.ts";
import { EVENT_STREAM_LIMITS, type EventStreamLimits } from "./event-stream.ts";
import { askerOf, createGuard, type Guard, NOT_FOUND } from "./guard.ts";
import { type PagePort, pagePaths, pageRoutes } from "./page-route.ts";
import { PROBLEM_TYPE, type Problem, problemJson, problemOf, sendProblem } from "./problem.ts";
import {
  EVENTS_PATH,
  EventStreams,
  type FindTranscript,
  RECORD_PATH,
  TRANSCRIPT_PATH,
  transcriptRoutes,
} from "./transcript-route.ts";
import { type FindWebhook, WEBHOOK_PATH, WebhookGate, webhookRoute } from "./webhook-route.ts";

export interface ServerLimits {
  /** Body of a webhook, bytes. */
  readonly bodyBytesMax: number;
  /** What that body may hold. */
  readonly requestBounds: RequestBounds;
  /** Request line and headers together, bytes; more is 431. */
  readonly headerBytesMax: number;
  /** Connections open at once, event streams included; further ones are cut before they say anything. */
  readonly connectionsMax: number;
  /** From the first to the last byte of a request, ms. */
  readonly requestTimeoutMs: number;
  /** How long a connection may stand still in the middle of a request or its answer, ms; it is cut then. */
  readonly connectionTimeoutMs: number;
  /** How long an idle connection is kept, ms; longer than a load balancer in front keeps it. */
  readonly keepAliveTimeoutMs: number;
  /** For admission to answer, ms. */
  readonly admitTimeoutMs: number;
  /** For requests in flight when the server stops, ms; then their connections are cut. */
  readonly stopTimeoutMs: number;
  /** Event streams open at once; more are answered 503. */
  readonly eventStreamsMax: number;
  readonly eventStream: EventStreamLimits;
}

export const SERVER_LIMITS: ServerLimits = {
  bodyBytesMax: 1_048_576,
  headerBytesMax: 16_384,
  connectionsMax: 10_000,
  requestBounds: REQUEST_BOUNDS,
  requestTimeoutMs: 15_000,
  connectionTimeoutMs: 60_000,
  keepAliveTimeoutMs: 72_000,
  admitTimeoutMs: 10_000,
  stopTimeoutMs: 5_000,
  eventStreamsMax: 1_000,
  eventStream: EVENT_STREAM_LIMITS,
};

export interface Readiness {
  readonly ready: boolean;
  /** Why not. */
  readonly reason?: string | undefined;
}

export interface ServerOptions {
  readonly environment: Environment;
  readonly log: Log;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly readiness: () => Readiness;
  readonly metrics: Metrics;
  readonly routes: {
    readonly webhook: FindWebhook;
    readonly transcript: FindTranscript;
    /** The chat page; without it there is nothing at `/`. */
    readonly page?: PagePort | undefined;
    /** Behind the guard, beside /metrics. */
    readonly admin?: readonly AdminRoute[] | undefined;
  };
  /** Names under which it is asked besides its address; lower case, without port. */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Opens /admin and /metrics to others than this machine. */
  readonly adminToken?: string | undefined;
  readonly limits?: Partial<ServerLimits>;
}

export interface Server {
  /** Listens; started again, at the same port. @throws ConfigError with key `port` or `host` if it cannot listen there */
  start(): Promise<void>;
  /** False if it was stopped, or something else closed the port. */
  readonly isListening: boolean;
  /** G3. Can be started again. */
  stop(): Promise<void>;
  /** Where it listens, e.g. `http://127.0.0.1:4000`. @throws Error before it was started */
  readonly url: string;
  readonly webhooks: {
    open(admit: Admit): void;
    /** Ends the event streams. Resolves when every request that was let in has its outcome. */
    close(): Promise<void>;
  };
}

/** Percent-encoding makes three characters of a byte, and a conversation's id has up to 512. */
const PARAM_LENGTH_MAX = 2_048;
/** How often connections are checked for `requestTimeoutMs`; Node's default would let 15 s become 45. */
const CONNECTION_CHECK_MS = 1_000;
const IDLE_SWEEP_MS = 20;
/** Lines of headers that are looked at; Node ignores those after them. */
const HEADERS_MAX = 100;

export function createServer(options: ServerOptions): Server {
  const limits = { ...SERVER_LIMITS, ...options.limits };
  const gate = new WebhookGate();
  const streams = new EventStreams(limits.eventStreamsMax);
  const closeGate = (): Promise<void> => {
    streams.close();
    return gate.close();
  };
  let running: { readonly http: FastifyInstance; readonly url: string } | null = null;
  let { port } = options;

  return {
    webhooks: { open: (admit) => gate.open(admit), close: closeGate },
    get url() {
      if (!running) throw new Error("the server was not started");
      return running.url;
    },
    get isListening() {
      return running?.http.server.listening ?? false;
    },
    async start() {
      if (running) throw new Error("the server was started already");
      const http = build(options, limits, gate, streams);
      streams.open();
      try {
        await http.listen({ host: options.host, port });
      } catch (error) {
        await http.close();
        throw listenError(error, options);
      }
      const address = http.server.address() as AddressInfo;
      port = address.port;
      running = { http, url: urlOf(address) };
    },
    async stop() {
      const stopping = running;
      running = null;
      if (!stopping) return;
      void closeGate();
      await closeWithin(options.environment, limits.stopTimeoutMs, stopping.http);
    },
  };
}

function build(
  options: ServerOptions,
  limits: ServerLimits,
  gate: WebhookGate,
  streams: EventStreams,
): FastifyInstance {
  const { environment, log, readiness, routes } = options;
  const guard = createGuard({
    host: options.host,
    allowedHosts: options.allowedHosts ?? [],
    adminToken: options.adminToken,
  });
  const http = fastify({
    logger: false, // G4: what is worth a line is logged here, with fields that are known
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: limits.connectionTimeoutMs, // else a client that never reads keeps its answer in memory (G2)
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    bodyLimit: limits.bodyBytesMax,
    forceCloseConnections: "idle",
    return503OnClosing: false, // its 503 is not problem JSON; what still comes finds the gate closed (G1)
    trustProxy: false,
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    http: {
      requestTimeout: limits.requestTimeoutMs,
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.requestTimeoutMs, // else a connection that says nothing has 60 s (G2)
      connectionsCheckingInterval: Math.min(CONNECTION_CHECK_MS, limits.requestTimeoutMs),
    },
    clientErrorHandler: (error, socket) => refuseConnection(error.code, socket),
    frameworkErrors: (error, _request, reply) => sendProblem(reply as unknown as FastifyReply, problemOf(error)),
  });
  http.server.maxHeadersCount = HEADERS_MAX;
  http.server.maxConnections = limits.connectionsMax;
  http.removeAllContentTypeParsers(); // a body sent to where none is read is 404 or 405, not a complaint about its type
  closeConnectionsWhileStopping(http);

  http.setErrorHandler((error: FastifyError, _request: FastifyRequest, reply: FastifyReply) => {
    const problem = problemOf(error);
    if (problem.status === 500) log.error({ error }, "request failed");
    // The rest of a body that is too large is read and dropped within the request's time: a connection closed at once
    // would reset, and take this answer with it before its sender read it.
    if (problem.status === 413) reply.removeHeader("connection");
    return sendProblem(reply, problem);
  });
  http.setNotFoundHandler((_request, reply) => sendProblem(reply, NOT_FOUND));

  healthRoutes(http, readiness);
  http.register(adminGroup({ guard, metrics: options.metrics, routes: routes.admin ?? [] }));
  http.register(async (scope) => {
    refuseOtherNames(scope, guard); // G5
    transcriptRoutes(scope, { environment, find: routes.transcript, streams, eventStream: limits.eventStream });
    if (routes.page) pageRoutes(scope, routes.page);
  });
  http.register(webhookRoute({ environment, find: routes.webhook, gate, guard, ...limits }));
  const read = ["/livez", "/readyz", TRANSCRIPT_PATH, RECORD_PATH, ...(routes.page ? pagePaths() : [])];
  for (const path of read) refuseOtherMethods(http, path, ["GET", "HEAD"]);
  refuseOtherMethods(http, EVENTS_PATH, ["GET"]);
  refuseOtherMethods(http, WEBHOOK_PATH, ["POST"]);
  return http;
}

function refuseOtherNames(scope: FastifyInstance, guard: Guard): void {
  scope.addHook("onRequest", async (request, reply) => {
    const refusal = guard.page(askerOf(request));
    return refusal && sendProblem(reply, refusal);
  });
}

function healthRoutes(http: FastifyInstance, readiness: () => Readiness): void {
  http.get("/livez", async (_request, reply) => reply.header("cache-control", "no-store").send({ live: true }));
  http.get("/readyz", async (_request, reply) => {
    const { ready, reason } = readiness();
    return reply
      .code(ready ? 200 : 503)
      .header("cache-control", "no-store")
      .send(ready ? { ready } : { ready, reason });
  });
}

function refuseOtherMethods(http: FastifyInstance, url: string, allowed: readonly string[]): void {
  const allow = allowed.join(", ");
  const refuse = async (_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
    sendProblem(reply.header("allow", allow), { status: 405, detail: `this path takes ${allow} only` });
  const method = http.supportedMethods.filter((name) => !allowed.includes(name));
  http.route({ method, url, onRequest: refuse, handler: refuse });
}

/** What is answered while it stops says that it is the last answer on its connection (G3). */
function closeConnectionsWhileStopping(http: FastifyInstance): void {
  let stopping = false;
  http.addHook("preClose", (done) => {
    stopping = true;
    done();
  });
  http.addHook("onSend", (_request, reply, _payload, done) => {
    if (stopping) reply.header("connection", "close");
    done();
  });
}

/** G3. Closing asks only once for idle connections; one that was answered before it had sent its body idles later. */
async function closeWithin(environment: Environment, timeoutMs: number, http: FastifyInstance): Promise<void> {
  const sweep = (): Timer =>
    environment.after(IDLE_SWEEP_MS, () => {
      http.server.closeIdleConnections();
      nextSweep = sweep();
    });
  let nextSweep = sweep();
  const deadline = environment.after(timeoutMs, () => http.server.closeAllConnections());
  try {
    await http.close();
  } finally {
    nextSweep.cancel();
    deadline.cancel();
  }
}

/** What HTTP itself refuses, before there is a request to answer (G1, G2). */
function refuseConnection(code: string, socket: Socket): void {
  if (code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = CONNECTION_PROBLEMS.get(code) ?? { status: 400, detail: "this is not HTTP/1.1 as it should be" };
  const body = problemJson(problem);
  socket.end(
    Buffer.concat([
      Buffer.from(
        `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\nContent-Type: ${PROBLEM_TYPE}\r\n` +
          `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      ),
      body,
    ]),
    () => socket.destroy(),
  );
}

const CONNECTION_PROBLEMS: ReadonlyMap<string, Problem> = new Map([
  ["ERR_HTTP_REQUEST_TIMEOUT", { status: 408, detail: "the request took too long to arrive" }],
  ["HPE_HEADER_OVERFLOW", { status: 431, detail: "path and headers are too long" }],
]);

function listenError(error: unknown, { host, port }: ServerOptions): unknown {
  const hint = "choose another with --port, or --port 0 for any free one";
  switch ((error as { code?: unknown } | null)?.code) {
    case "EADDRINUSE":
      return new ConfigError("port", `${port} on ${host} is in use; ${hint}`, { cause: error });
    case "EACCES":
      return new ConfigError("port", `${port} may not be used by this user; ${hint}`, { cause: error });
    case "ERR_SOCKET_BAD_PORT":
      return new ConfigError("port", `${port} is not a port, 0 to 65535; ${hint}`, { cause: error });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new ConfigError("host", `${host} is not an address of this machine; choose one, as --host 127.0.0.1`, {
        cause: error,
      });
    default:
      return error;
  }
}

/** A wildcard is where it listens, not where it can be reached. */
function urlOf({ address, family, port }: AddressInfo): string {
  if (address === "0.0.0.0" || address === "::") return `http://localhost:${port}`;
  return family === "IPv6" ? `http://[${address}]:${port}` : `http://${address}:${port}`;
}
