// Webhook route: from one request to admitted messages and a 202; keeps no state but the gate.
//
// Invariants
//   W1. Checks run in one order: 404, 421, 403, 415, 413, 401, 400, 422, then what depends on the state of the node, 429 and 503.
//       A wrong request is told so even while nothing can be admitted.
//   W2. 400 to 422: nothing of the request was admitted. 202: all of it is durable.
//   W3. Every request is answered: admission that takes longer than its bound is a 503, and its outcome unknown.

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Admit, AdmitOutcome, RequestBounds, WebhookChannel } from "../channels/channel.ts";
import type { Inbound } from "../domain/message.ts";
import type { Environment } from "../environment.ts";
import { askerOf, type Guard } from "./guard.ts";
import { RETRY_AFTER_DEFAULT_MS, sendProblem } from "./problem.ts";

/** The channel that takes messages for a bot; undefined if there is no such channel or bot. */
export type FindWebhook = (channel: string, bot: string) => WebhookChannel | undefined;

export interface WebhookRouteOptions {
  readonly environment: Environment;
  readonly find: FindWebhook;
  readonly gate: WebhookGate;
  readonly guard: Guard;
  readonly bodyBytesMax: number;
  readonly requestBounds: RequestBounds;
  /** W3, ms. */
  readonly admitTimeoutMs: number;
}

interface Params {
  readonly channel: string;
  readonly bot: string;
}

const CLOSED: AdmitOutcome = {
  kind: "unavailable",
  reason: "this node admits no messages now: it is starting, standing by, draining, or its store is away",
  retryAfterMs: RETRY_AFTER_DEFAULT_MS,
};

/** Whether webhooks are admitted. Closed at first. */
export class WebhookGate {
  #admit: Admit | null = null;
  #running = 0;
  #idle: (() => void)[] = [];

  open(admit: Admit): void {
    this.#admit = admit;
  }

  /** From now on every request is 503. Resolves when those that were let in before have their outcome. */
  close(): Promise<void> {
    this.#admit = null;
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  async admit(messages: readonly Inbound[]): Promise<AdmitOutcome> {
    if (!this.#admit) return CLOSED;
    this.#running += 1;
    try {
      return await this.#admit(messages);
    } finally {
      this.#running -= 1;
      if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }
}

export const WEBHOOK_PATH = "/channels/:channel/:bot";

/** A plugin: its own content type parser gives the raw body, which is what a signature is over. */
export function webhookRoute(options: WebhookRouteOptions): (scope: FastifyInstance) => Promise<void> {
  const { find, gate, guard, environment, bodyBytesMax, requestBounds, admitTimeoutMs } = options;
  return async (scope) => {
    scope.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: bodyBytesMax }, (_request, body, done) =>
      done(null, body),
    );
    scope.post<{ Params: Params }>(
      WEBHOOK_PATH,
      { bodyLimit: bodyBytesMax, onRequest: checkAddressAndType },
      async (request, reply) => {
        const { channel, bot } = request.params;
        const port = find(channel, bot);
        if (!port) return sendProblem(reply, UNKNOWN);
        const raw = rawBody(request);
        if (!port.verify(request.headers, raw)) return sendProblem(reply, UNSIGNED);
        const parsed = port.parse(raw, bot, requestBounds);
        if (parsed.kind === "problem") return sendProblem(reply, parsed);
        if (parsed.messages.length === 0) return accepted(reply, 0);
        return answer(reply, await within(environment, admitTimeoutMs, gate.admit(parsed.messages)));
      },
    );
  };

  /** Before the body is read (W1). */
  async function checkAddressAndType(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    const { channel, bot } = request.params as Params;
    const port = find(channel, bot);
    if (!port) return sendProblem(reply, UNKNOWN);
    const misdirected = guard.webhook(askerOf(request));
    if (misdirected) return sendProblem(reply, misdirected);
    const refusal = port.refuse?.(request.headers);
    if (refusal !== undefined) return sendProblem(reply, { status: 403, detail: refusal });
    if (!isJson(request.headers["content-type"])) return sendProblem(reply, NOT_JSON);
    if (request.headers["content-encoding"] !== undefined) return sendProblem(reply, ENCODED);
    return undefined;
  }
}

const UNKNOWN = { status: 404, detail: "there is no such bot, or no such channel that takes messages for it" };
const NOT_JSON = { status: 415, detail: "the body must be application/json, and Content-Type must say so" };
const ENCODED = { status: 415, detail: "the body must be sent as it is, without Content-Encoding" };
const UNSIGNED = { status: 401, detail: "X-Colloquy-Signature must be sha256=<hex HMAC-SHA256 of the raw body>, once" };

function isJson(contentType: string | undefined): boolean {
  return contentType?.split(";", 1)[0]?.trim().toLowerCase() === "application/json";
}

/** A request without a body never reached the parser. */
function rawBody(request: FastifyRequest): Uint8Array {
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0);
}

function answer(reply: FastifyReply, outcome: AdmitOutcome): FastifyReply {
  switch (outcome.kind) {
    case "admitted":
      return accepted(reply, outcome.count);
    case "full":
      return sendProblem(reply, {
        status: 429,
        detail:
          "too much waits for the conversation named here. What was admitted before is safe, and a part of this request may be in: send it again later, what is in counts as a duplicate; or send now what other conversations have in it",
        conversation: outcome.conversation,
        retryAfterMs: outcome.retryAfterMs,
      });
    case "unavailable":
      return sendProblem(reply, { status: 503, detail: outcome.reason, retryAfterMs: outcome.retryAfterMs });
  }
}

const accepted = (reply: FastifyReply, count: number): FastifyReply => reply.code(202).send({ accepted: count });

/** W3: the outcome, or that it took too long. Admission goes on; what it admits late counts as a duplicate when repeated. */
function within(environment: Environment, timeoutMs: number, admitted: Promise<AdmitOutcome>): Promise<AdmitOutcome> {
  return new Promise((resolve, reject) => {
    const timer = environment.after(timeoutMs, () =>
      resolve({
        kind: "unavailable",
        reason: "the store took too long; the outcome is unknown, so send the same request again",
        retryAfterMs: RETRY_AFTER_DEFAULT_MS,
      }),
    );
    admitted.then(resolve, reject).finally(() => timer.cancel());
  });
}
