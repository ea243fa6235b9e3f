// Test node: one runtime without HTTP and without Redis, on a virtual clock and a store that loses answers. All of it is the
// production code of actors/, supervisors/ and src/intake, in the production tree; only the ends of the world are made here.

import { ActorSystem } from "../../actors/actor-system.ts";
import { Node } from "../../actors/node.ts";
import type { Ownership } from "../../actors/ownership.ts";
import type { RunningPart } from "../../actors/shard.ts";
import type { AnyBot } from "../../src/app-types.ts";
import type { Channel } from "../../src/channels/channel.ts";
import { checkBots } from "../../src/check-bot.ts";
import { type ConfigOptions, resolveConfig } from "../../src/config.ts";
import type { Environment } from "../../src/environment.ts";
import { type Log, silentLog } from "../../src/log.ts";
import { type Counters, newCounters } from "../../src/metrics.ts";
import { type MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import type { ChildSpec } from "../../supervisors/child-spec.ts";
import { crashPolicies } from "../../supervisors/crash-policies.ts";
import { rootSupervisor } from "../../supervisors/root-supervisor.ts";
import { startShards } from "../../supervisors/shards-supervisor.ts";
import { Supervisor } from "../../supervisors/supervisor.ts";
import { type Faults, FaultyStore, noFaults } from "./faulty-store.ts";
import type { VirtualEnvironment } from "./virtual-environment.ts";

export interface TestNodeOptions {
  readonly environment: VirtualEnvironment;
  /** What the runtime's own code sees of the world; default as it is. */
  readonly seen?: { readonly environment: Environment; readonly counters: Counters };
  readonly data: MemoryData;
  readonly node: string;
  readonly bot: AnyBot;
  readonly channel: Channel;
  readonly faults?: Faults;
  readonly config?: ConfigOptions;
  readonly log?: Log;
  /** The user's own, between the leases and the shards. */
  readonly children?: readonly ChildSpec[];
}

export class TestNode {
  readonly counters: Counters;
  /** The tree and the process with it. */
  readonly root: Supervisor;
  readonly crashes: unknown[] = [];
  isKilled = false;
  readonly #node: Node;
  readonly #environment: VirtualEnvironment;
  readonly #faulty: FaultyStore;
  readonly #actors: ActorSystem;

  constructor(options: TestNodeOptions) {
    const { data, node, channel } = options;
    const bots = checkBots([options.bot]);
    const { environment, counters } = options.seen ?? { environment: options.environment, counters: newCounters() };
    this.#environment = options.environment;
    this.counters = counters;
    this.#faulty = new FaultyStore(
      new MemoryStore(options.environment, data),
      options.environment,
      options.faults ?? noFaults(),
    );
    this.#actors = new ActorSystem({
      after: options.environment.after,
      onCrash: (_actor, error) => this.crashes.push(error),
    });
    const config = resolveConfig({ shards: 2, ...options.config });
    const { drainMs } = config;
    const log = options.log ?? silentLog;
    this.#node = new Node({
      environment,
      log,
      counters,
      config,
      store: () => this.#faulty.store,
      node: () => node,
      incarnation: environment.random().toString(36),
      newHashKey: new Uint8Array(8),
      actors: this.#actors,
      bot: (name) => bots.find((bot) => bot.name === name),
      channel: (name) => (name === channel.name ? channel : undefined),
      wakeUps: (_shard, _log, ring) => ({
        start: () => undefined,
        schedule: (key, delayMs) => void options.environment.after(delayMs, () => ring(key)),
        stop: () => Promise.resolve(),
      }),
      crashPolicies: (shard) => crashPolicies(shard, options.environment, log),
      onTranscript: () => undefined,
      onUnusable: (error) => this.crashes.push(error),
    });
    const supervised = { environment: options.environment, log, drainMs };
    this.root = new Supervisor(
      rootSupervisor({
        health: idle,
        store: idle,
        leases: (failed) => this.#node.startLeases(failed),
        children: options.children ?? [],
        shards: (link) => startShards({ ownership: () => this.ownership, ...supervised }, link),
        observer: (failed) => this.#node.startObserver(failed),
        ingress: idle,
        ...supervised,
      }),
      options.environment,
      log,
    );
    this.root.start().catch((error: unknown) => this.crashes.push(error));
  }

  /** Of the incarnation that runs. */
  get ownership(): Ownership {
    return this.#node.ownership!;
  }

  /** Like /readyz: one question that fails is asked again. */
  get notReady(): string | undefined {
    try {
      return this.#node.ownership === null ? "starting" : this.ownership.notReady;
    } catch (error) {
      return String(error);
    }
  }

  async ready(): Promise<void> {
    await this.#environment.until(() => this.notReady === undefined, 120_000, "ready");
  }

  /** kill -9: no call of it reaches the store any more. Its sends under way may still arrive. */
  kill(): void {
    this.isKilled = true;
    this.#faulty.kill();
    this.root.kill();
  }

  /** Frees what a killed process would take with it. */
  dispose(): void {
    this.kill();
    this.#actors.stop();
  }

  async stop(): Promise<void> {
    let isStopped = false;
    void this.root.stop().then(() => {
      isStopped = true;
    });
    await this.#environment.until(() => isStopped, 120_000, "stop");
    this.#actors.stop();
  }
}

const idle = (): RunningPart => ({ stop: () => undefined, kill: () => undefined });
