// Test node: one runtime without HTTP and without Redis, on a virtual clock and a store that loses answers. All of it is the
// production code of actors/, supervisors/ and src/intake; only the ends of the world are made here.

import { ActorSystem } from "../../actors/actor-system.ts";
import { Ownership } from "../../actors/ownership.ts";
import type { AnyBot } from "../../src/app-types.ts";
import type { Channel } from "../../src/channels/channel.ts";
import { checkBots } from "../../src/check-bot.ts";
import { type ConfigOptions, resolveConfig } from "../../src/config.ts";
import { type Log, silentLog } from "../../src/log.ts";
import { newCounters } from "../../src/metrics.ts";
import { type MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import { shardSupervisor } from "../../supervisors/shard-supervisor.ts";
import { Supervisor } from "../../supervisors/supervisor.ts";
import { type Faults, FaultyStore, noFaults } from "./faulty-store.ts";
import type { VirtualEnvironment } from "./virtual-environment.ts";

export interface TestNodeOptions {
  readonly environment: VirtualEnvironment;
  readonly data: MemoryData;
  readonly node: string;
  readonly bot: AnyBot;
  readonly channel: Channel;
  readonly faults?: Faults;
  readonly config?: ConfigOptions;
  readonly log?: Log;
}

export class TestNode {
  readonly counters = newCounters();
  readonly ownership: Ownership;
  readonly crashes: unknown[] = [];
  isKilled = false;
  readonly #environment: VirtualEnvironment;
  readonly #faulty: FaultyStore;
  readonly #actors: ActorSystem;

  constructor(options: TestNodeOptions) {
    const { environment, data, node, channel } = options;
    const bots = checkBots([options.bot]);
    this.#environment = environment;
    this.#faulty = new FaultyStore(new MemoryStore(environment, data), environment, options.faults ?? noFaults());
    this.#actors = new ActorSystem({ after: environment.after, onCrash: (_actor, error) => this.crashes.push(error) });
    const config = resolveConfig({ shards: 2, ...options.config });
    const log = options.log ?? silentLog;
    this.ownership = new Ownership({
      environment,
      log,
      counters: this.counters,
      config,
      store: this.#faulty.store,
      node,
      newHashKey: new Uint8Array(8),
      actors: this.#actors,
      bot: (name) => bots.find((bot) => bot.name === name),
      channel: (name) => (name === channel.name ? channel : undefined),
      wakeUps: (_shard, _log, ring) => ({
        start: () => undefined,
        schedule: (key, delayMs) => void environment.after(delayMs, () => ring(key)),
        stop: () => Promise.resolve(),
      }),
      superviseShard: (name, shard) => new Supervisor(shardSupervisor(name, shard, config.drainMs), environment, log),
      onTranscript: () => undefined,
      onUnusable: (error) => this.crashes.push(error),
    });
    this.ownership.start();
  }

  async ready(): Promise<void> {
    await this.#environment.until(() => this.ownership.notReady === undefined, 120_000, "ready");
  }

  /** kill -9: no call of it reaches the store any more. Its sends under way may still arrive. */
  kill(): void {
    this.isKilled = true;
    this.#faulty.kill();
  }

  /** Frees what a killed process would take with it. */
  dispose(): void {
    this.kill();
    this.#actors.stop();
  }

  async stop(): Promise<void> {
    let isStopped = false;
    void this.ownership.closeShards().then(async () => {
      await this.ownership.releaseLeases();
      isStopped = true;
    });
    await this.#environment.until(() => isStopped, 120_000, "stop");
    this.#actors.stop();
  }
}
