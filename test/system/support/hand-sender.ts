// Hand sender: a client that sends exactly what a test tells it to, and keeps the same log as the sender process.

import { type History, type MessageName, nowUs, type RequestAttempt, type SentMessage } from "./history.ts";

export type Sendable = MessageName & { readonly text: string; readonly data?: unknown };

export class HandSender {
  readonly #messages = new Map<string, SentMessage>();
  readonly #attempts: RequestAttempt[] = [];

  get history(): History {
    return { messages: [...this.#messages.values()], attempts: this.#attempts, deliveries: [] };
  }

  /** One try. @param request tries of the same request share it */
  async try(url: string, request: string, batch: readonly Sendable[]): Promise<RequestAttempt> {
    for (const [i, { conversation, id, text }] of batch.entries()) {
      this.#messages.set(`${id} ${conversation}`, { kind: "message", bot: "fold", conversation, id, n: i + 1, text });
    }
    const sentUs = nowUs();
    const body = JSON.stringify(batch);
    const { outcome, status } = await post(`${url}/channels/http/fold`, body, batch.length);
    const items = batch.map(({ conversation, id }) => ({ conversation, id }));
    const times = { sentUs, endedUs: nowUs() };
    const attempt: RequestAttempt = {
      kind: "attempt",
      bot: "fold",
      request,
      attempt: this.#attempts.length + 1,
      purpose: "first",
      items,
      ...times,
      outcome,
      status,
    };
    this.#attempts.push(attempt);
    return attempt;
  }
}

async function post(url: string, body: string, count: number): Promise<Pick<RequestAttempt, "outcome" | "status">> {
  const headers = { "content-type": "application/json" };
  try {
    const response = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(20_000) });
    const answer = (await response.json()) as { accepted?: number };
    if (response.status === 202 && answer.accepted !== count)
      throw new Error(`accepted ${answer.accepted} of ${count}`);
    return { outcome: response.status === 202 ? "ack" : "unknown", status: response.status };
  } catch (error) {
    if (error instanceof TypeError || (error as Error).name === "TimeoutError")
      return { outcome: "unknown", status: 0 };
    throw error; // fetch fails with a TypeError; anything else is no matter of the network
  }
}
