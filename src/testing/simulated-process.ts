// Simulated process: one life of the runtime, without HTTP and without Redis. All of actors/, supervisors/ and src/intake is the
// production code, in the production tree; only the ends of the world are made here: the store, the channel and the wake-ups are given.

import { ActorSystem } from "../../actors/actor-system.ts";
import { Node } from "../../actors/node.ts";
import type { Operations } from "../../actors/operations.ts";
import type { Ring, WakeUps } from "../../actors/retry-worker.ts";
import type { RunningPart } from "../../actors/shard.ts";
import { crashPolicies } from "../../supervisors/crash-policies.ts";
import { rootSupervisor } from "../../supervisors/root-supervisor.ts";
import { startShards } from "../../supervisors/shards-supervisor.ts";
import { Supervisor } from "../../supervisors/supervisor.ts";
import type { AdmitOutcome, Channel } from "../channels/channel.ts";
import type { Config } from "../config.ts";
import type { BotDefinition } from "../domain/bot.ts";
import type { Inbound } from "../domain/message.ts";
import type { Environment } from "../environment.ts";
import { type Log, silentLog } from "../log.ts";
import { type Counters, newCounters } from "../metrics.ts";
import type { Scheduler } from "./scheduler.ts";
import { SimulatedLife } from "./scheduler.ts";
import type { SimulatedStore } from "./simulated-store.ts";

export interface SimulatedProcessOptions {
  readonly scheduler: Scheduler;
  /** The id of its node: two lives of one node share it. */
  readonly node: string;
  /** Names this life in traces. */
  readonly name: string;
  readonly bots: (life: SimulatedLife) => readonly BotDefinition[];
  readonly config: Config;
  readonly log?: Log;
  readonly store: (life: SimulatedLife) => SimulatedStore;
  readonly channels: (life: SimulatedLife) => readonly Channel[];
  readonly wakeUps: (life: SimulatedLife, shard: number, ring: Ring) => WakeUps;
  /** What the runtime's own code sees of the world; default as it is. */
  readonly seen?: (life: SimulatedLife, counters: Counters) => { environment: Environment; counters: Counters };
  /** The tree gave up, and the process would exit. Default: it counts among `crashes`. */
  readonly onExit?: (reason: unknown) => void;
}

/** Key of the id hash of every simulated namespace. */
export const SIMULATED_HASH_KEY: Uint8Array = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);

export class SimulatedProcess {
  readonly node: string;
  readonly life: SimulatedLife;
  readonly store: SimulatedStore;
  readonly counters: Counters = newCounters();
  /** The tree and the process with it. */
  readonly root: Supervisor;
  /** What the runtime may never do: an actor that threw, a store that cannot be used, a tree that gave up. */
  readonly crashes: unknown[] = [];
  readonly #node: Node;
  readonly #actors: ActorSystem;
  #isStopping = false;

  constructor(options: SimulatedProcessOptions) {
    const { config, log = silentLog } = options;
    const life = new SimulatedLife(options.scheduler, options.name);
    const bots = options.bots(life);
    const channels = options.channels(life);
    this.node = options.node;
    this.life = life;
    this.store = options.store(life);
    this.#actors = new ActorSystem({
      after: life.after,
      onCrash: (_actor, error) => this.crashes.push(error),
      schedule: (wakeUp) => void life.schedule("actor", 0, wakeUp),
    });
    const seen = options.seen?.(life, this.counters) ?? { environment: life, counters: this.counters };
    this.#node = new Node({
      ...seen,
      log,
      config,
      store: () => this.store,
      node: () => options.node,
      incarnation: life.random().toString(36),
      newHashKey: SIMULATED_HASH_KEY,
      actors: this.#actors,
      bot: (name) => bots.find((bot) => bot.name === name),
      channel: (name) => channels.find((channel) => channel.name === name),
      wakeUps: (shard, _log, ring) => options.wakeUps(life, shard, ring),
      crashPolicies: (shard) => crashPolicies(shard, life, log),
      onTranscript: () => undefined,
      onUnusable: (error) => this.crashes.push(error),
    });
    const supervised = { environment: life, log, drainMs: config.drainMs };
    this.root = new Supervisor(
      rootSupervisor({
        health: idle,
        store: idle,
        leases: (failed) => this.#node.startLeases(failed),
        children: [],
        shards: (link) => startShards({ ownership: () => this.#node.ownership!, ...supervised }, link),
        observer: (failed) => this.#node.startObserver(failed),
        ingress: idle,
        ...supervised,
      }),
      life,
      log,
    );
    this.root.monitor(null, ({ reason }) => {
      if (this.#isStopping || life.isDead) return;
      if (options.onExit === undefined) this.crashes.push(reason);
      else options.onExit(reason);
    });
    this.root.start().catch((error: unknown) => this.crashes.push(error));
  }

  /** Why nothing is admitted; undefined if it is. */
  get notReady(): string | undefined {
    if (this.life.isDead) return "dead";
    return this.#node.ownership === null ? "starting" : this.#node.ownership.notReady;
  }

  /** As a webhook would. */
  admit(messages: readonly Inbound[]): Promise<AdmitOutcome> {
    const { ownership } = this.#node;
    if (ownership !== null) return ownership.admit(messages);
    return Promise.resolve({ kind: "unavailable", reason: "starting", retryAfterMs: 1_000 });
  }

  /** What operators may ask for; null before the namespace is known. */
  get operations(): Operations | null {
    const { ownership } = this.#node;
    return ownership?.isOpen ? ownership.operations : null;
  }

  /** Like SIGKILL: nothing of it happens any more. What it has sent is on its way. */
  kill(): void {
    if (this.life.isDead) return;
    this.life.kill();
    this.#actors.stop();
  }

  /** In good order, as on SIGTERM; resolves when its leases are given back. Time has to pass for that. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.root.stop();
    await new Promise<void>((resolve) => this.life.schedule("exit", 0, resolve));
    this.kill();
  }
}

/** The HTTP server and the connections have no part in a simulation. */
const idle = (): RunningPart => ({ stop: () => undefined, kill: () => undefined });
