// Redis connection: one socket with ioredis behind it, made honest. By default ioredis runs a command again after a
// reconnect, queues without bound while Redis is away, and can leave a promise pending for ever.
//
// Invariants
//   L1. The client sends a command once. A rejected promise means: it may have run, unless the error says that it did not.
//   L2. Every promise settles within its deadline and a little (`SWEEP_MS`), whatever ioredis and the network do.
//   L3. A command that missed its deadline takes its connection down, so that `isReady` says what is true: nobody answers.

import { isIP } from "node:net";
import { Command, Redis, type RedisOptions } from "ioredis";
import type { Environment } from "../environment.ts";
import { NotSentError, toStoreError } from "./store-error.ts";

/** A unix socket, or a server's URL: `redis://` or, with TLS, `rediss://`. */
export type RedisAddress = { readonly path: string } | { readonly url: string };

export interface ConnectionSettings {
  readonly environment: Environment;
  /** From `connectionOptions`. */
  readonly target: RedisOptions;
  /** Stands in CLIENT LIST and in errors, e.g. `shard-03:commit`. */
  readonly name: string;
  /** Longest wait for an answer, ms. */
  readonly commandTimeoutMs: number;
  /** A blocked read is silent as long as it blocks, so ioredis' own time-outs would cut it. */
  readonly blocking?: boolean;
  readonly onReadyChange?: (connection: RedisConnection) => void;
}

type Argument = string | number | Buffer;

interface Pending {
  readonly deadlineMs: number;
  readonly expire: () => void;
}

class EncodedCommand extends Command {
  readonly #request: Buffer;

  constructor(name: string, request: Buffer) {
    super(name, [], { replyEncoding: null });
    this.#request = request;
  }

  override toWritable(): Buffer {
    return this.#request;
  }
}

export const SWEEP_MS = 250;
const RETRY_MIN_MS = 20;
const RETRY_MAX_MS = 1_000;

export class RedisConnection {
  readonly name: string;
  readonly isBlocking: boolean;
  readonly #environment: Environment;
  readonly #commandTimeoutMs: number;
  readonly #redis: Redis;
  readonly #pending = new Set<Pending>();
  readonly #firstTry: Promise<void>;
  #isFirstTry = true;
  #isClosed = false;
  #handshakeSinceMs: number | null = null;
  #lastError = "it was never reached";

  constructor(settings: ConnectionSettings) {
    this.name = settings.name;
    this.isBlocking = settings.blocking ?? false;
    this.#environment = settings.environment;
    this.#commandTimeoutMs = settings.commandTimeoutMs;
    this.#redis = new Redis(ioredisOptions(settings));
    this.#redis.on("error", (error: Error) => {
      this.#lastError = firstLine(error.message); // without a listener ioredis prints it
    });
    const notify = (): void => settings.onReadyChange?.(this);
    this.#redis.on("ready", notify).on("close", notify).on("end", notify);
    this.#firstTry = new Promise((resolve) => {
      const tried = (): void => {
        this.#isFirstTry = false;
        resolve();
      };
      this.#redis.once("ready", tried);
      this.#redis.once("close", tried);
      this.#redis.once("end", tried);
    });
  }

  get isReady(): boolean {
    return this.#redis.status === "ready" && this.#redis.stream.writable;
  }

  get isIdle(): boolean {
    return this.#pending.size === 0;
  }

  /**
   * Sends one command. Replies are integers, Buffers, null, and arrays of these.
   * @param during what is attempted, for errors
   * @param timeoutMs longest wait for the answer
   * @throws StoreUnavailableError | StoreNotReadyError | StoreCorruptError, as `store-error.ts` says
   */
  async send(
    name: string,
    args: Argument[],
    during: string,
    timeoutMs: number = this.#commandTimeoutMs,
  ): Promise<unknown> {
    try {
      return await this.sendRaw(name, args, timeoutMs);
    } catch (error) {
      throw toStoreError(error, during);
    }
  }

  /** As `send`, with ioredis' own errors, for callers that look at the reply's code. They hold the arguments: never log them. */
  async sendRaw(name: string, args: Argument[], timeoutMs: number = this.#commandTimeoutMs): Promise<unknown> {
    return await this.#send(new Command(name, args, { replyEncoding: null }), timeoutMs);
  }

  /** As `sendRaw`, for a command that is encoded already. */
  async sendRequest(name: string, request: Buffer): Promise<unknown> {
    return await this.#send(new EncodedCommand(name, request), this.#commandTimeoutMs);
  }

  /** L2: the owner calls this about every `SWEEP_MS`. A handshake that hangs is cut too; ioredis then begins a new one. */
  sweep(): void {
    const nowMs = this.#environment.monotonicMs();
    if (this.#redis.status !== "connect") this.#handshakeSinceMs = null;
    else this.#handshakeSinceMs ??= nowMs;
    if (nowMs - (this.#handshakeSinceMs ?? nowMs) > this.#commandTimeoutMs * 2) {
      this.#handshakeSinceMs = null;
      this.#redis.stream.destroy();
    }
    for (const pending of this.#pending) if (pending.deadlineMs <= nowMs) pending.expire();
  }

  /** Ends everything under way, at once; a blocked read as well. */
  close(): void {
    this.#isClosed = true;
    this.#redis.disconnect();
    this.#redis.stream?.destroy();
    for (const pending of this.#pending) pending.expire();
  }

  async #send(command: Command, timeoutMs: number): Promise<unknown> {
    if (this.#isFirstTry) await this.#within(this.#firstTry, timeoutMs).catch(() => undefined);
    if (!this.isReady) throw new NotSentError(`no connection, ${this.#lastError}`);
    return await this.#within(this.#redis.sendCommand(command) as Promise<unknown>, timeoutMs);
  }

  #within<Result>(promise: Promise<Result>, timeoutMs: number): Promise<Result> {
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        deadlineMs: this.#environment.monotonicMs() + timeoutMs,
        expire: () => {
          this.#pending.delete(pending);
          reject(new Error(this.#isClosed ? "the connection was closed" : `no answer within ${timeoutMs} ms`));
          if (!this.#isClosed) this.#drop();
        },
      };
      this.#pending.add(pending);
      promise.then(
        (result) => {
          this.#pending.delete(pending);
          resolve(result);
        },
        (error: unknown) => {
          this.#pending.delete(pending);
          reject(error);
          if (error instanceof Error && error.message === "Command timed out") this.#drop();
        },
      );
    });
  }

  /** L3. ioredis connects again by itself. */
  #drop(): void {
    if (this.isReady) this.#redis.stream.destroy();
  }
}

function ioredisOptions(settings: ConnectionSettings): RedisOptions & { replyMapping: "legacy" } {
  const { commandTimeoutMs, environment } = settings;
  return {
    ...settings.target,
    connectionName: `colloquy:${settings.name}`,
    protocol: 2,
    replyMapping: "legacy",
    disableClientInfo: true,
    autoResendUnfulfilledCommands: false, // L1
    maxRetriesPerRequest: 0, // L1: what was under way rejects as soon as the connection closes
    enableOfflineQueue: false,
    enableReadyCheck: true,
    maxLoadingRetryTime: 200,
    connectTimeout: commandTimeoutMs,
    // Handshakes hang without it; for commands our own deadline comes first, this one is a second net.
    ...(settings.blocking
      ? {}
      : { commandTimeout: commandTimeoutMs + 2 * SWEEP_MS, socketTimeout: commandTimeoutMs * 2 }),
    retryStrategy: (attempt) => {
      const longest = Math.min(RETRY_MIN_MS * 2 ** Math.min(attempt, 10), RETRY_MAX_MS);
      return Math.round(longest * (0.5 + environment.random() / 2));
    },
  };
}

const firstLine = (text: string): string => text.split("\n", 1)[0]!.slice(0, 200);

/** Options for ioredis, and the address without user and password, for people; null if the URL cannot be used. */
export function connectionOptions(address: RedisAddress): { target: RedisOptions; label: string } | null {
  if ("path" in address) return { target: { path: address.path }, label: address.path };
  if (!URL.canParse(address.url)) return null;
  const url = new URL(address.url);
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") return null;
  const db = url.pathname.replace(/^\//, "");
  if (!/^\d{0,5}$/.test(db)) return null;
  const host = decode(url.hostname.replace(/^\[(.*)\]$/, "$1")) || "127.0.0.1";
  const port = url.port === "" ? 6379 : Number(url.port);
  return {
    target: {
      host,
      port,
      ...(url.username === "" ? {} : { username: decode(url.username) }),
      ...(url.password === "" ? {} : { password: decode(url.password) }),
      ...(db === "" ? {} : { db: Number(db) }),
      ...(url.protocol === "rediss:" ? { tls: isIP(host) === 0 ? { servername: host } : {} } : {}), // TLS names no addresses
    },
    label: `${url.protocol}//${url.hostname || host}:${port}${db === "" ? "" : `/${db}`}`,
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
