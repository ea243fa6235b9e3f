// Admin client: asks a running node through its admin API, and says in one line what came of it when nothing did.

import { request } from "undici";
import { resolveConfig } from "../config.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { type AddressFlags, serverAddress } from "./server-address.ts";
import type { Terminal } from "./terminal.ts";

export type AdminReply<Json> =
  | { readonly kind: "json"; readonly json: Json }
  | {
      readonly kind: "failed";
      /** One line for people. */
      readonly problem: string;
      readonly exitCode: ExitCode;
      /** null if nobody answered. */
      readonly status: number | null;
    };

export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

const ANSWER_TIMEOUT_MS = 5_000;
/** A page of a verb is a scan and some appends, each with a time of its own. */
const VERB_TIMEOUT_MS = 30_000;

export class AdminClient {
  readonly #origin: URL;
  readonly #token: string | undefined;

  /** @throws ConfigError if the address cannot be used */
  constructor(flags: AddressFlags, { environment }: Pick<Terminal, "environment">) {
    this.#origin = serverAddress(flags);
    this.#token = resolveConfig({}, environment).adminToken;
  }

  get<Json>(path: string, query: Query = {}): Promise<AdminReply<Json>> {
    const url = new URL(path, this.#origin);
    for (const [name, value] of Object.entries(query))
      for (const each of typeof value === "string" ? [value] : (value ?? [])) url.searchParams.append(name, each);
    return this.#ask<Json>(url, undefined);
  }

  /** After an answer that never came it may have been done or not; every verb may be asked again. */
  post<Json>(path: string, body: unknown): Promise<AdminReply<Json>> {
    return this.#ask<Json>(new URL(path, this.#origin), JSON.stringify(body));
  }

  async #ask<Json>(url: URL, body: string | undefined): Promise<AdminReply<Json>> {
    const timeoutMs = body === undefined ? ANSWER_TIMEOUT_MS : VERB_TIMEOUT_MS;
    try {
      const answer = await request(url, {
        method: body === undefined ? "GET" : "POST",
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        headers: {
          ...(this.#token !== undefined && { authorization: `Bearer ${this.#token}` }),
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        ...(body !== undefined && { body }),
      });
      const text = await answer.body.text();
      if (answer.statusCode === 200) return { kind: "json", json: JSON.parse(text) as Json };
      return failure(url, answer.statusCode, detailOf(text));
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const why = code ?? message;
      return {
        kind: "failed",
        problem: `nothing answered at ${url.origin} (${why}); is it running? if so, where: --port, or --url`,
        exitCode: EXIT.failed,
        status: null,
      };
    }
  }
}

function failure<Json>(url: URL, status: number, detail: string | null): AdminReply<Json> {
  const said = detail ?? (status === 401 || status === 404 ? TOKEN_HINT : "is this a colloquy?");
  const hint = detail !== null && status === 401 ? ` (${TOKEN_HINT})` : "";
  const exitCode = status === 503 ? EXIT.store : EXIT.failed;
  return {
    kind: "failed",
    problem: `${url.origin} answered ${status} to ${url.pathname}: ${said}${hint}`,
    exitCode,
    status,
  };
}

const TOKEN_HINT = "from another machine it takes COLLOQUY_ADMIN_TOKEN, the same here and there";
const NOTHING_THERE = "there is nothing at this path";

/** Of problem JSON; the bare 404 of a path that is not served says less than the hint does. */
function detailOf(text: string): string | null {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    return typeof detail === "string" && detail !== NOTHING_THERE ? detail : null;
  } catch {
    return null;
  }
}
