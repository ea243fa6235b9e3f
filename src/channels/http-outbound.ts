// HTTP outbound: one attempt at delivering one reply by POST, and the one place where an answer's status or an error's code
// becomes a decision about trying again.
//
// Invariants
//   O1. An attempt never rejects, and ends within `timeoutMs`. Its account lets no more of them begin than there are connections, and
//       one that is answered keeps its connection no longer than `RESPONSE_DRAIN_MS`. So none spends its time on waiting for one: a
//       recipient that is slow but well makes lanes slow, and never makes them fail.
//   O2. What failed before the first byte was sent is `retryable`; after that nobody knows, so it is `ambiguous`.
//   O3. The status decides. The body behind it is drained up to `RESPONSE_BYTES_MAX`, for `RESPONSE_DRAIN_MS`, to use the connection
//       again, or cut.
//   O4. Redirects are not followed, and a reason holds a status or an error's code, nothing of what was sent or answered.

import type { Dispatcher } from "undici";
import { Pool } from "undici";
import type { Delivery } from "../domain/message.ts";
import type { Environment, Timer } from "../environment.ts";
import type { SendOutcome } from "./channel.ts";

/** Bytes of an answer that are read to keep its connection. */
export const RESPONSE_BYTES_MAX = 64 * 1_024;
/** How long an answer may take to end once its status is there, ms; less where an attempt has less time than that. */
export const RESPONSE_DRAIN_MS = 1_000;
/** The longest wait that a recipient can ask for, ms; one that asks for more is asked again after this. */
export const RETRY_AFTER_MAX_MS = 3_600_000;

const KEEP_ALIVE_MS = 10_000;
const RESPONSE_HEADER_BYTES_MAX = 16 * 1_024;

export interface HttpOutboundOptions {
  readonly deliverTo: URL;
  /** For one attempt, from connecting to the last byte of the answer, ms. */
  readonly timeoutMs: number;
  /** Connections at the same time: as many as its account has places. */
  readonly connections: number;
  readonly environment: Environment;
}

export interface HttpOutbound {
  send(delivery: Delivery, signal: AbortSignal): Promise<SendOutcome>;
  /** Cuts what is in flight. */
  close(): Promise<void>;
}

export function httpOutbound({ deliverTo, timeoutMs, connections, environment }: HttpOutboundOptions): HttpOutbound {
  const pool = new Pool(deliverTo.origin, {
    connections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    connectTimeout: timeoutMs,
    headersTimeout: 0, // O1: one deadline for the whole attempt, its own, instead of one for each phase
    bodyTimeout: 0,
  });
  const path = deliverTo.pathname + deliverTo.search;
  const underSignal = attemptsBySignal();
  return {
    send: (delivery, signal) =>
      new Promise<SendOutcome>((resolve) => {
        if (signal.aborted) return resolve({ kind: "ambiguous", reason: "aborted" });
        const attempt = new Attempt(environment, timeoutMs, underSignal(signal), resolve);
        try {
          pool.dispatch({ method: "POST", path, headers: headersOf(delivery), body: delivery.body }, attempt);
        } catch (error) {
          attempt.fail(error);
        }
      }),
    close: () => pool.destroy(),
  };
}

function headersOf({ idempotencyKey, redriven }: Delivery): Record<string, string> {
  const headers = { "idempotency-key": idempotencyKey, "content-type": "application/json" };
  return redriven === true ? { ...headers, redriven: "true" } : headers;
}

/** One listener for each signal, however many attempts it ends: lanes share one, and an event target searches its list. */
function attemptsBySignal(): (signal: AbortSignal) => Set<Attempt> {
  const known = new WeakMap<AbortSignal, Set<Attempt>>();
  return (signal) => {
    const before = known.get(signal);
    if (before) return before;
    const attempts = new Set<Attempt>();
    known.set(signal, attempts);
    const abortAll = (): void => {
      for (const attempt of attempts) attempt.giveUp("aborted");
    };
    signal.addEventListener("abort", abortAll, { once: true });
    return attempts;
  };
}

class Attempt implements Dispatcher.DispatchHandler {
  readonly #environment: Environment;
  readonly #siblings: Set<Attempt>;
  readonly #resolve: (outcome: SendOutcome) => void;
  readonly #timeoutMs: number;
  #deadline: Timer;
  #controller: Dispatcher.DispatchController | null = null;
  #outcome: SendOutcome | null = null;
  #bodyBytes = 0;

  constructor(
    environment: Environment,
    timeoutMs: number,
    siblings: Set<Attempt>,
    resolve: (outcome: SendOutcome) => void,
  ) {
    this.#environment = environment;
    this.#siblings = siblings;
    this.#resolve = resolve;
    this.#timeoutMs = timeoutMs;
    this.#deadline = environment.after(timeoutMs, () => this.#timeOut());
    siblings.add(this);
  }

  #timeOut(): void {
    if (this.#controller) this.giveUp(`no answer within ${this.#timeoutMs} ms`);
    else this.#end({ kind: "retryable", reason: `no connection within ${this.#timeoutMs} ms` }); // O2
  }

  giveUp(reason: string): void {
    this.#end({ kind: "ambiguous", reason });
    this.#controller?.abort(new Error(reason)); // a request that waits for a connection is cut when it gets one
  }

  fail(error: unknown): void {
    this.#end(failureOutcome(errorCode(error), this.#controller !== null));
  }

  /** Called when a connection takes the request, just before its first byte. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#outcome) controller.abort(new Error(this.#outcome.kind));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (status < 200) return; // an interim answer; the final one follows
    this.#decide(statusOutcome(status, headers["retry-after"], this.#environment.nowMs())); // O3
    this.#deadline.cancel();
    const drainMs = Math.min(RESPONSE_DRAIN_MS, this.#timeoutMs);
    this.#deadline = this.#environment.after(drainMs, () => this.giveUp("the answer does not end"));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    this.#bodyBytes += chunk.length;
    if (this.#bodyBytes > RESPONSE_BYTES_MAX) controller.abort(new Error("answer too long")); // O3
  }

  onResponseEnd(): void {
    this.#release();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  #end(outcome: SendOutcome): void {
    this.#release();
    this.#decide(outcome);
  }

  /** The first outcome counts. */
  #decide(outcome: SendOutcome): void {
    if (this.#outcome) return;
    this.#outcome = outcome;
    this.#resolve(outcome);
  }

  #release(): void {
    this.#deadline.cancel();
    this.#siblings.delete(this);
  }
}

/** What an answer means for its delivery. */
export function statusOutcome(
  status: number,
  retryAfter: string | readonly string[] | undefined,
  nowMs: number,
): SendOutcome {
  const reason = `HTTP ${status}`;
  if (status >= 200 && status < 300) return { kind: "delivered" };
  if (status === 410) return { kind: "gone", reason };
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    const retryAfterMs = parseRetryAfterMs(typeof retryAfter === "string" ? retryAfter : retryAfter?.[0], nowMs);
    return retryAfterMs === undefined ? { kind: "retryable", reason } : { kind: "retryable", reason, retryAfterMs };
  }
  return { kind: "terminal", reason };
}

/** What an error means for the delivery, by its code and by whether the request had begun to leave (O2). */
function failureOutcome(code: string, begun: boolean): SendOutcome {
  if (begun) return { kind: "ambiguous", reason: code };
  // The request is not one that HTTP can carry; it will not be one the next time.
  if (code === "UND_ERR_INVALID_ARG") return { kind: "terminal", reason: code };
  return { kind: "retryable", reason: code };
}

function errorCode(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  if (typeof code === "string") return code;
  return typeof name === "string" ? name : "unknown error";
}

const HTTP_DATE_LENGTH_MAX = 40;

/** Both forms of Retry-After: seconds, or an HTTP date (any of the three). undefined if it is neither. */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,12}$/.test(value)) return Math.min(Number(value) * 1_000, RETRY_AFTER_MAX_MS);
  if (value.length > HTTP_DATE_LENGTH_MAX || !/^[A-Z][a-z]{2,8},? /.test(value)) return undefined;
  const dateMs = Date.parse(value.endsWith("GMT") ? value : `${value} GMT`); // the oldest form names no zone
  return Number.isNaN(dateMs) ? undefined : Math.min(Math.max(0, dateMs - nowMs), RETRY_AFTER_MAX_MS);
}
