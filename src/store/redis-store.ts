// Store on Redis: owns the connections, says whether Redis answers, reads the server's settings.

import type { Environment } from "../environment.ts";
import { ConfigError } from "../errors.ts";
import { anyRecord, checkNamespace, metaKey, placeOfRecord, shardTag } from "./keys.ts";
import {
  type ConnectionSettings,
  connectionOptions,
  type RedisAddress,
  RedisConnection,
  SWEEP_MS,
} from "./redis-connection.ts";
import { RedisShardStore, type ShardConnections } from "./redis-shard-store.ts";
import { Scripts } from "./scripts.ts";
import { type NamespaceMeta, SCHEMA_VERSION, type ScanPage, type Store, type StoreFacts } from "./shard-store.ts";
import { closedError, toStoreError, unexpectedReply } from "./store-error.ts";

export interface RedisStoreOptions {
  readonly environment: Environment;
  readonly address: RedisAddress;
  /** Prefix of every key. */
  readonly namespace: string;
  /** Longest wait for an answer, ms. After it the outcome is unknown and the connection is made anew. Default 2,000. */
  readonly commandTimeoutMs?: number;
  /** Connections that all shards' appends share. Default 4. */
  readonly appendConnections?: number;
}

const COMMAND_TIMEOUT_MS = 2_000;
const APPEND_CONNECTIONS = 4;
const HEARTBEAT_MS = 1_000;

export class RedisStore implements Store {
  /** Where Redis is, without user and password. */
  readonly label: string;
  readonly #namespace: string;
  readonly #environment: Environment;
  readonly #base: Omit<ConnectionSettings, "name">;
  readonly #scripts = new Scripts();
  readonly #connections = new Set<RedisConnection>();
  readonly #waitedFor = new Set<RedisConnection>();
  readonly #appends: (RedisConnection | undefined)[];
  readonly #query: RedisConnection;
  readonly #lease: RedisConnection;
  readonly #shards = new Map<number, RedisShardStore>();
  readonly #listeners = new Set<(ready: boolean) => void>();
  #wasReady = false;
  #isClosed = false;
  #sinceHeartbeatMs = 0;

  /** @throws ConfigError if the address or the namespace cannot be used */
  constructor(options: RedisStoreOptions) {
    const connection = connectionOptions(options.address);
    if (connection === null) throw new ConfigError("redis", "not a URL like redis://host:6379 or rediss://host:6379/0");
    this.label = connection.label;
    this.#namespace = checkNamespace(options.namespace);
    this.#environment = options.environment;
    this.#base = {
      environment: options.environment,
      target: connection.target,
      commandTimeoutMs: options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS,
      onReadyChange: (changed) => {
        // One opened while Redis answers is no outage: it counts from its first success on.
        if (changed.isReady && !changed.isBlocking) this.#waitedFor.add(changed);
        this.#readyMayHaveChanged();
      },
    };
    this.#appends = new Array(options.appendConnections ?? APPEND_CONNECTIONS);
    this.#query = this.#open("query");
    this.#lease = this.#open("lease");
    this.#waitedFor.add(this.#query).add(this.#lease);
    this.#scheduleSweep();
  }

  async openNamespace(wanted: { shards: number; hashKey: Uint8Array }): Promise<NamespaceMeta> {
    const request = { ...wanted, schemaVersion: SCHEMA_VERSION };
    return await this.#scripts.openNamespace(this.#query, metaKey(this.#namespace), request);
  }

  async facts(): Promise<StoreFacts> {
    const info = parseInfo(asText(await this.#query.send("info", [], "info")));
    const config = await this.#readConfig();
    return {
      version: info.get("redis_version") ?? "unknown",
      role: info.get("role") === "master" ? "master" : "replica",
      config: config && {
        appendonly: config.get("appendonly") === "yes",
        appendfsync: fsyncOf(config.get("appendfsync")),
        noAppendfsyncOnRewrite: config.get("no-appendfsync-on-rewrite") === "yes",
        maxmemoryPolicy: config.get("maxmemory-policy") ?? "unknown",
      },
      usedMemoryBytes: Number(info.get("used_memory") ?? 0),
      maxMemoryBytes: Number(info.get("maxmemory") ?? 0),
    };
  }

  shard(shard: number): RedisShardStore {
    let store = this.#shards.get(shard);
    if (store === undefined) {
      store = new RedisShardStore({
        ns: this.#namespace,
        shard,
        scripts: this.#scripts,
        connections: this.#connectionsOf(shard),
        commandTimeoutMs: this.#base.commandTimeoutMs,
        onClose: () => this.#shards.delete(shard),
      });
      this.#shards.set(shard, store);
    }
    return store;
  }

  async scanConversations(request: { cursor: string; count: number }): Promise<ScanPage> {
    const wanted = [request.cursor, "MATCH", anyRecord(this.#namespace), "COUNT", request.count];
    const reply = await this.#query.send("scan", wanted, "scanConversations");
    if (!Array.isArray(reply) || !Array.isArray(reply[1])) throw unexpectedReply("scanConversations");
    const found = reply[1].map((name) => placeOfRecord(this.#namespace, asText(name)));
    return { cursor: asText(reply[0]), found: found.filter((place) => place !== null) };
  }

  isReady(): boolean {
    if (this.#isClosed) return false;
    for (const connection of this.#waitedFor) if (!connection.isReady) return false;
    return true;
  }

  onReadyChange(listener: (ready: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const shard of this.#shards.values()) await shard.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    this.#readyMayHaveChanged();
  }

  #connectionsOf(shard: number): ShardConnections {
    const slot = shard % this.#appends.length;
    return {
      append: () => (this.#appends[slot] ??= this.#open(`append-${slot}`)),
      query: () => this.#query,
      lease: () => this.#lease,
      open: (purpose) => this.#open(`shard-${shardTag(shard)}:${purpose}`, purpose === "reader"),
      shut: (connection) => {
        connection.close();
        this.#connections.delete(connection);
        this.#waitedFor.delete(connection);
      },
    };
  }

  #open(name: string, blocking = false): RedisConnection {
    if (this.#isClosed) throw closedError(name);
    const connection = new RedisConnection({ ...this.#base, name, blocking });
    this.#connections.add(connection);
    return connection;
  }

  #readyMayHaveChanged(): void {
    const isReady = this.isReady();
    if (isReady === this.#wasReady) return;
    this.#wasReady = isReady;
    for (const listener of this.#listeners) listener(isReady);
  }

  #scheduleSweep(): void {
    this.#environment.after(SWEEP_MS, () => {
      if (this.#isClosed) return;
      for (const connection of this.#connections) connection.sweep();
      this.#sinceHeartbeatMs += SWEEP_MS;
      if (this.#sinceHeartbeatMs >= HEARTBEAT_MS) this.#heartbeat();
      this.#scheduleSweep();
    });
  }

  /** A Redis that hangs is noticed also while nothing is asked of it: the overdue answer takes the connection down. */
  #heartbeat(): void {
    this.#sinceHeartbeatMs = 0;
    if (this.#query.isReady && this.#query.isIdle) this.#query.sendRaw("ping", []).catch(() => undefined);
  }

  async #readConfig(): Promise<Map<string, string> | null> {
    const config = new Map<string, string>();
    for (const name of ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy"]) {
      try {
        const reply = await this.#query.sendRaw("CONFIG", ["GET", name]);
        if (!Array.isArray(reply)) throw unexpectedReply("config");
        if (reply.length >= 2) config.set(name, asText(reply[1]));
      } catch (error) {
        if (isForbidden(error)) return null;
        throw toStoreError(error, "config");
      }
    }
    return config;
  }
}

/** By an ACL, or because a provider renamed the command away. */
const isForbidden = (error: unknown): boolean =>
  error instanceof Error && /^(NOPERM|ERR unknown command)/.test(error.message);

function fsyncOf(value: string | undefined): "always" | "everysec" | "no" {
  return value === "always" || value === "everysec" ? value : "no";
}

function asText(reply: unknown): string {
  if (!Buffer.isBuffer(reply)) throw unexpectedReply("facts");
  return reply.toString("utf8");
}

function parseInfo(text: string): Map<string, string> {
  const info = new Map<string, string>();
  for (const line of text.split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) info.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return info;
}
