// App: the composition root. Builds every stage, hands each its downstream, and gives them to the tree.

import { randomBytes, randomUUID } from "node:crypto";
import type { ConnectionOptions } from "bullmq";
import { ActorSystem } from "../actors/actor-system.ts";
import { Node } from "../actors/node.ts";
import type { Ownership } from "../actors/ownership.ts";
import { RetryWorker } from "../actors/retry-worker.ts";
import type { PartFailed, RunningPart } from "../actors/shard.ts";
import { crashPolicies } from "../supervisors/crash-policies.ts";
import type { DownReason } from "../supervisors/exit-reason.ts";
import { rootSupervisor } from "../supervisors/root-supervisor.ts";
import { type ShardsOptions, startShards } from "../supervisors/shards-supervisor.ts";
import { Supervisor } from "../supervisors/supervisor.ts";
import { lastFailure, type TreeNode } from "../supervisors/tree.ts";
import { type AdminSources, adminRoutes } from "./admin/admin-api.ts";
import type { App, AppChannel, AppInfo, AppOptions } from "./app-types.ts";
import type { Admit } from "./channels/channel.ts";
import { httpChannel } from "./channels/http-channel.ts";
import { WEB_CHANNEL, webChannel } from "./channels/web-channel.ts";
import { checkApp } from "./check-app.ts";
import { checkBots } from "./check-bot.ts";
import { packageVersion } from "./cli/package-version.ts";
import { checkedState, decodeRecord } from "./codec/record-codec.ts";
import { type Config, resolveConfig } from "./config.ts";
import { type ConversationId, conversationKey } from "./domain/ids.ts";
import { formatBorn, formatEntryId } from "./domain/position.ts";
import { type Environment, PartEnvironment, pause, systemEnvironment } from "./environment.ts";
import { ConfigError, causeOfStart, StoreNotReadyError } from "./errors.ts";
import type { PagePort } from "./ingress/page-route.ts";
import { createServer, type Readiness, type Server, type ServerLimits } from "./ingress/server.ts";
import { TranscriptHub } from "./ingress/transcript-hub.ts";
import type { RecordView, TranscriptPort } from "./ingress/transcript-route.ts";
import { createLog, type Log } from "./log.ts";
import { type Counters, createMetrics, type Metrics, newCounters } from "./metrics.ts";
import { nodeGauges } from "./node-gauges.ts";
import { type DataFolder, openDataFolder } from "./store/data-folder.ts";
import { type EmbeddedRedis, embeddedSocketPath, startEmbeddedRedis } from "./store/embedded-redis.ts";
import { shardKeys } from "./store/keys.ts";
import { connectionOptions, type RedisAddress } from "./store/redis-connection.ts";
import { RedisStore } from "./store/redis-store.ts";
import { attributeRejections } from "./turn-attribution.ts";
import { startWatchdog } from "./watchdog/watchdog.ts";

/**
 * Builds an app; nothing runs, listens or connects before `start`.
 * @throws ConfigError an option or a bot cannot be used
 */
export function createApp(options: AppOptions): App {
  return createAppIn({ environment: systemEnvironment, counters: newCounters(), startWatchdog }, options);
}

/** What the runtime's own code sees of the world. */
export interface AppWorld {
  readonly environment: Environment;
  readonly counters: Counters;
  /** Absent where nobody wants the process to be ended. */
  readonly startWatchdog?: typeof startWatchdog;
}

/** An app whose tree can be looked at, and shaken. */
export interface AppWithTree extends App {
  tree(): TreeNode;
  /** Lets the part at this place fail, as by an error of its own: `["shards", "shard-00", "reader"]`. False if none runs there. */
  fail(path: readonly string[], error: Error): boolean;
}

/** Not part of the public API: tests let the runtime's own code fail in a world of theirs. */
export function createAppIn(world: AppWorld, options: AppOptions): AppWithTree {
  return new ColloquyApp(options, world);
}

const PORT_CHECK_MS = 500;
const LOCK_CHECK_MS = 500;
const READY_WAIT_MS = 2_000;
const READY_CHECK_MS = 10;

class ColloquyApp implements AppWithTree {
  readonly crashed: Promise<Error>;
  readonly #config: Config;
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #counters: Counters;
  readonly #bots: ReturnType<typeof checkBots>;
  readonly #channels: ReadonlyMap<string, AppChannel>;
  readonly #actors: ActorSystem;
  readonly #transcripts = new TranscriptHub();
  readonly #server: Server;
  readonly #root: Supervisor;
  readonly #stopping = new AbortController();
  /** Of the store that is open: it is opened anew when a part before it fails. */
  #closing = new AbortController();
  #crash: (error: Error) => void = () => undefined;
  #folder: DataFolder | null = null;
  #embedded: EmbeddedRedis | null = null;
  #store: RedisStore | null = null;
  readonly #node: Node;
  readonly #watch: AppWorld["startWatchdog"];
  /** What guards the process from its bots. */
  #unguard: (() => Promise<void>) | null = null;
  #lockWait: Promise<void> | null = null;
  #stopped: Promise<void> | null = null;

  constructor(options: AppOptions, { environment, counters, startWatchdog: watch }: AppWorld) {
    this.#watch = watch;
    const { bots, channels, children = [], ...settings } = options;
    this.#config = resolveConfig(settings);
    this.#environment = environment;
    this.#counters = counters;
    this.#bots = checkBots(bots);
    const given = channels ?? [httpChannel(), webChannel()];
    this.#channels = byName(given);
    checkApp({ bots: this.#bots, channels: given, config: this.#config });
    this.#log = createLog({ level: this.#config.logLevel });
    this.crashed = new Promise((resolve) => {
      this.#crash = resolve;
    });
    this.#actors = new ActorSystem({
      after: environment.after,
      onCrash: (actor, error) => this.#actorCrashed(actor, error),
    });
    this.#server = this.#createServer();
    this.#node = this.#createNode();
    const { drainMs } = this.#config;
    const shards: ShardsOptions = { ownership: () => this.#ownership!, environment, log: this.#log, drainMs };
    this.#root = new Supervisor(
      rootSupervisor({
        health: (failed) => this.#startHealth(failed),
        store: (failed) => this.#startStore(failed),
        leases: (failed) => this.#node.startLeases(failed),
        children,
        shards: (link) => startShards(shards, link),
        observer: (failed) => this.#node.startObserver(failed),
        ingress: (failed) => this.#startIngress(failed),
        drainMs,
        environment,
        log: this.#log,
      }),
      environment,
      this.#log,
    );
    this.#root.monitor(null, ({ reason }) => this.#rootEnded(reason));
  }

  async start(): Promise<AppInfo> {
    this.#unguard ??= this.#guard();
    await this.#root.start().catch(async (error: unknown) => {
      await this.#unguard?.();
      throw causeOfStart(error);
    });
    await this.#ready();
    const { durability, shards } = this.#config;
    return {
      url: this.#server.url,
      pid: process.pid,
      node: this.#folder!.nodeId,
      shards,
      durability,
      ready: this.#ownership!.notReady === undefined,
      redis: { embedded: this.#config.redis === undefined, address: this.#store!.label, pid: this.#embedded?.pid },
    };
  }

  /** A promise that a bot forgot ends nothing; a loop of a bot's without end, which nothing else could end, ends the process. */
  #guard(): () => Promise<void> {
    const { watchdogMs } = this.#config;
    const unattribute = attributeRejections();
    const watchdog = watchdogMs > 0 ? this.#watch?.({ limitMs: watchdogMs }) : undefined;
    return async () => {
      unattribute();
      await watchdog?.stop();
    };
  }

  /** A short wait, so that most starts can say "ready"; rejects if this one can never be. */
  async #ready(): Promise<void> {
    const untilMs = this.#environment.monotonicMs() + READY_WAIT_MS;
    let crash: Error | undefined;
    void this.crashed.then((error) => {
      crash = error;
    });
    while (this.#ownership!.notReady !== undefined && this.#environment.monotonicMs() < untilMs) {
      if (crash !== undefined) {
        await this.stop();
        throw crash;
      }
      await pause(this.#environment, READY_CHECK_MS);
    }
  }

  tree(): TreeNode {
    return this.#root.tree();
  }

  fail(path: readonly string[], error: Error): boolean {
    const part = this.#root.descendant(path) as Partial<RunningPart> | undefined;
    part?.fail?.(error);
    return part?.fail !== undefined;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#root.stop();
    await Promise.all(Array.from(this.#channels.values(), (channel) => channel.close?.()));
    this.#actors.stop();
    await this.#unguard?.();
  }

  #createServer(): Server {
    const { host, port, allowedHosts, adminToken } = this.#config;
    const known = (channel: string, bot: string): AppChannel | undefined =>
      this.#bot(bot) ? this.#channels.get(channel) : undefined;
    return createServer({
      environment: this.#environment,
      log: this.#log,
      metrics: this.#metrics(),
      host,
      port,
      allowedHosts,
      adminToken,
      limits: serverLimits(this.#config),
      readiness: () => this.#readiness(),
      routes: {
        webhook: (channel, bot) => webhookOf(known(channel, bot)),
        transcript: (channel, bot) => this.#transcriptOf(known(channel, bot)),
        page: this.#page(),
        admin: adminRoutes(this.#adminSources()),
      },
    });
  }

  #readiness(): Readiness {
    const reason = this.#ownership === null ? "starting" : this.#ownership.notReady;
    return reason === undefined ? { ready: true } : { ready: false, reason };
  }

  #adminSources(): AdminSources {
    const startedAtMs = this.#environment.monotonicMs();
    return {
      version: packageVersion(),
      pid: process.pid,
      node: () => this.#folder?.nodeId ?? null,
      uptimeMs: () => this.#environment.monotonicMs() - startedAtMs,
      readiness: () => this.#readiness(),
      tree: () => this.tree(),
      durability: this.#config.durability,
      counters: this.#counters,
      redis: () => ({
        embedded: this.#config.redis === undefined,
        address: this.#store?.label ?? null,
        isReady: this.#store?.isReady() ?? false,
        facts: this.#ownership?.facts ?? null,
      }),
      inspector: () => this.#openOwnership.inspection,
      operator: () => this.#openOwnership.operations,
    };
  }

  #transcriptOf(channel: AppChannel | undefined): TranscriptPort | undefined {
    if (channel?.delivery !== "transcript") return undefined;
    return {
      read: async (conversation, range) => this.#openOwnership.readTranscript(conversation, range),
      follow: (conversation, onLines) => this.#transcripts.follow(conversationKey(conversation), onLines),
      ...(channel.refuse && { refuse: channel.refuse }),
      ...(channel.name === WEB_CHANNEL && { record: (conversation) => this.#recordOf(conversation) }),
    };
  }

  async #recordOf(conversation: ConversationId): Promise<RecordView | null> {
    const stored = await this.#openOwnership.readRecord(conversation);
    if (stored === null) return null;
    const decoded = decodeRecord(stored);
    const { seq, cursor, outSeq, born } = decoded.record;
    const state = checkedState(decoded);
    return {
      seq,
      cursor: { entry: formatEntryId(cursor.entry), index: cursor.index },
      outSeq,
      born: formatBorn(born),
      botVersion: state.botVersion,
      state: JSON.parse(Buffer.from(state.bytes).toString("utf8")),
    };
  }

  #page(): PagePort | undefined {
    const channel = this.#channels.get(WEB_CHANNEL);
    if (channel === undefined) return undefined;
    return {
      bots: this.#bots.map(({ name }) => name),
      pid: process.pid,
      ...(channel.refuse && { refuse: channel.refuse }),
    };
  }

  get #openOwnership(): Ownership {
    if (this.#ownership === null)
      throw new StoreNotReadyError("the store is not open yet; nothing was read, ask again");
    return this.#ownership;
  }

  #metrics(): Metrics {
    const gauges = nodeGauges({
      version: packageVersion(),
      config: this.#config,
      isReady: () => this.#readiness().ready,
      redis: () => ({ isUp: this.#store?.isReady() ?? false, facts: this.#ownership?.facts ?? null }),
      accounts: () => this.#ownership?.accounts.views ?? [],
      shards: async () => (this.#ownership?.isOpen ? await this.#ownership.inspection.shards() : null),
    });
    return createMetrics(this.#counters, gauges);
  }

  /** One that fails gives back what it had taken, such as the folder's lock: a next app in this process may want it. */
  async #openStoreOrNothing(): Promise<void> {
    try {
      await this.#openStore();
    } catch (error) {
      await this.#closeStore();
      throw error;
    }
  }

  async #openStore(): Promise<void> {
    const { redis, dataDir, namespace } = this.#config;
    this.#closing = new AbortController();
    this.#folder = await openDataFolder(dataDir);
    let address: RedisAddress;
    if (redis === undefined) {
      address = { path: embeddedSocketPath(this.#folder.dir) };
      if (this.#folder.holdsLock) await this.#startEmbedded();
      else this.#lockWait = this.#startEmbeddedOnceLocked();
    } else {
      address = redis.startsWith("/") ? { path: redis } : { url: redis };
    }
    this.#store = new RedisStore({ environment: this.#environment, address, namespace });
  }

  get #storeEnds(): AbortSignal {
    return AbortSignal.any([this.#stopping.signal, this.#closing.signal]);
  }

  async #startEmbedded(): Promise<void> {
    const durability = this.#config.durability === "assumed" ? "always" : this.#config.durability;
    this.#embedded = await startEmbeddedRedis({
      folder: this.#folder!,
      durability,
      environment: this.#environment,
      signal: this.#storeEnds,
      onEvent: (event) =>
        this.#log[event.kind === "exited" || event.kind === "start-failed" ? "warn" : "info"](
          "pid" in event ? { ...event, pid: undefined, redisPid: event.pid } : { ...event }, // a line's pid is our own
          `embedded Redis: ${event.kind}`,
        ),
    });
  }

  /** Another process runs the folder's server. Its end frees the lock; then this one looks after the server. */
  async #startEmbeddedOnceLocked(): Promise<void> {
    this.#log.info(
      { dataDir: this.#folder!.dir },
      "another process holds the data folder and runs its Redis; this one stands by as another node",
    );
    const signal = this.#storeEnds;
    while (!signal.aborted) {
      await pause(this.#environment, LOCK_CHECK_MS, signal);
      try {
        if (signal.aborted || !(await this.#folder!.tryLock())) continue;
        await this.#startEmbedded();
      } catch (error) {
        if (!signal.aborted) this.#crash(asError(error));
      }
      return;
    }
  }

  async #closeStore(): Promise<void> {
    this.#closing.abort();
    await this.#lockWait;
    await this.#store?.close();
    await this.#embedded?.stop();
    await this.#folder?.close();
  }

  get #ownership(): Ownership | null {
    return this.#node.ownership;
  }

  #createNode(): Node {
    const { config, environment, log } = { config: this.#config, environment: this.#environment, log: this.#log };
    return new Node({
      environment,
      log,
      counters: this.#counters,
      config,
      actors: this.#actors,
      store: () => this.#store!,
      node: () => this.#folder!.nodeId,
      incarnation: randomUUID(),
      newHashKey: randomBytes(8),
      bot: (name) => this.#bot(name),
      channel: (name) => this.#channels.get(name),
      wakeUps: (shard, shardLog, ring, failed) =>
        new RetryWorker({
          connection: { ...this.#retryConnection(), maxRetriesPerRequest: null } as ConnectionOptions,
          prefix: shardKeys(config.namespace, shard).prefix,
          log: shardLog,
          ring,
          failed,
        }),
      crashPolicies: (shard) => crashPolicies(shard, environment, log),
      onTranscript: (key) => this.#transcripts.tell(key),
      onUnusable: (error) => this.#crash(error),
    });
  }

  #retryConnection() {
    const { redis } = this.#config;
    const address =
      redis === undefined || redis.startsWith("/")
        ? { path: redis ?? embeddedSocketPath(this.#folder!.dir) }
        : { url: redis };
    return connectionOptions(address)!.target;
  }

  async #startHealth(failed: PartFailed): Promise<RunningPart> {
    const server = this.#server;
    await server.start();
    const environment = new PartEnvironment(this.#environment, failed);
    environment.onClose(() => void server.stop());
    void environment.run(async () => {
      while (server.isListening) await pause(environment, PORT_CHECK_MS);
      throw new Error("the port was closed by something else than the runtime");
    });
    return {
      stop: () => {
        const stopped = server.stop();
        environment.close(); // nobody asks any more whether the port is open
        return stopped;
      },
      kill: () => environment.close(),
      fail: (error) => environment.fail(error),
    };
  }

  async #startStore(failed: PartFailed): Promise<RunningPart> {
    await this.#openStoreOrNothing();
    return this.#endedBy(() => this.#closeStore(), failed);
  }

  #startIngress(failed: PartFailed): RunningPart {
    const admit: Admit = (messages) => this.#ownership!.admit(messages);
    this.#server.webhooks.open(admit);
    for (const channel of this.#channels.values()) channel.open?.(admit);
    return this.#endedBy(() => this.#server.webhooks.close(), failed);
  }

  /** A part that is ended in one way, whether it is stopped, killed, or fails; its next start waits for that. */
  #endedBy(end: () => Promise<void>, failed: PartFailed): RunningPart {
    let ended: Promise<void> | null = null;
    const once = (): Promise<void> => {
      ended ??= end();
      return ended;
    };
    return {
      stop: once,
      kill: () => void once(),
      fail: (error) => void once().then(() => failed(error)),
    };
  }

  /** The tree gave up, which is the process's business: whoever started it starts it again. */
  #rootEnded(reason: DownReason): void {
    if (this.#stopping.signal.aborted) return;
    const error = reason.kind === "error" ? reason.error : lastFailure(this.#root.tree());
    this.#crash(asError(error ?? new Error("the tree of the runtime ended")));
  }

  #bot(name: string) {
    return this.#bots.find((bot) => bot.name === name);
  }

  #actorCrashed(actor: string, error: unknown): void {
    this.#log.fatal({ actor, error }, "an actor crashed; the process ends, what is stored is safe");
    this.#crash(asError(error));
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

function serverLimits(config: Config): Partial<ServerLimits> {
  return {
    bodyBytesMax: config.requestBytesMax,
    requestBounds: { messagesMax: config.requestMessagesMax, messageBytesMax: config.messageBytesMax },
    headerBytesMax: config.headerBytesMax,
    connectionsMax: config.connectionsMax,
    requestTimeoutMs: config.requestTimeoutMs,
    connectionTimeoutMs: config.connectionTimeoutMs,
    keepAliveTimeoutMs: config.keepAliveTimeoutMs,
    admitTimeoutMs: config.admitTimeoutMs,
    eventStreamsMax: config.eventStreamsMax,
    eventStream: {
      pollMs: config.eventStreamPollMs,
      heartbeatMs: config.eventStreamHeartbeatMs,
      stallMs: config.eventStreamStallMs,
    },
  };
}

function webhookOf(channel: AppChannel | undefined) {
  const { verify, parse, refuse } = channel ?? {};
  return channel && verify && parse ? { name: channel.name, verify, parse, ...(refuse && { refuse }) } : undefined;
}

function byName(channels: readonly AppChannel[]): ReadonlyMap<string, AppChannel> {
  const map = new Map<string, AppChannel>();
  channels.forEach((channel, i) => {
    if (map.has(channel.name))
      throw new ConfigError(`channels[${i}].name`, `${channel.name} is taken by another channel; give it another name`);
    map.set(channel.name, channel);
  });
  return map;
}
