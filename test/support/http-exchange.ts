// HTTP exchange: requests as real clients send them, and as no decent client would.

import { connect, type Socket } from "node:net";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly json: unknown;
}

export async function exchange(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, json: text === "" ? null : JSON.parse(text) };
}

export function postJson(url: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const raw = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  return exchange(url, {
    method: "POST",
    body: raw as string,
    headers: { "content-type": "application/json", ...headers },
  });
}

/** A connection on which a test writes what it likes. */
export class RawConnection {
  readonly socket: Socket;
  #text = "";
  #ended = false;
  #waiting: (() => void)[] = [];

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.socket = connect({ host: hostname, port: Number(port) });
    this.socket.on("data", (chunk) => {
      this.#text += chunk.toString("latin1");
      this.#wake();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.#ended = true;
      this.#wake();
    });
  }

  write(text: string | Uint8Array): this {
    this.socket.write(text);
    return this;
  }

  /** What has arrived, once that holds `count` whole responses with a Content-Length, or the connection closed. */
  async responses(count = 1): Promise<string> {
    while (!this.#ended && countResponses(this.#text) < count) await this.#change();
    return this.#text;
  }

  async closed(): Promise<string> {
    while (!this.#ended) await this.#change();
    return this.#text;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function countResponses(text: string): number {
  let count = 0;
  for (let at = 0; ; count += 1) {
    const bodyAt = text.indexOf("\r\n\r\n", at) + 4;
    if (bodyAt < 4) return count;
    const length = /content-length: (\d+)/i.exec(text.slice(at, bodyAt));
    at = bodyAt + Number(length?.[1] ?? 0);
    if (at > text.length) return count;
  }
}

/** A promise, and the way to fulfil it from outside. */
export function signal<Value = void>(): { readonly promise: Promise<Value>; resolve(value: Value): void } {
  let resolve!: (value: Value) => void;
  const promise = new Promise<Value>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}
