// Node: the parts of one node between its store and its port, made when the tree starts them (supervisors/root-supervisor.ts).

import { type Environment, PartEnvironment } from "../src/environment.ts";
import type { Store } from "../src/store/shard-store.ts";
import type { ActorSystem } from "./actor-system.ts";
import { Observer } from "./observer.ts";
import { Ownership, type OwnershipOptions } from "./ownership.ts";
import type { PartFailed, RunningPart, ShardFamilies } from "./shard.ts";

export interface NodeOptions
  extends Omit<OwnershipOptions, "environment" | "nodeEnvironment" | "store" | "node" | "families"> {
  readonly environment: Environment;
  readonly actors: ActorSystem;
  /** Asked when a part starts: the store lives before it. */
  readonly store: () => Store;
  readonly node: () => string;
}

export class Node {
  readonly #options: NodeOptions;
  readonly #families: ShardFamilies;
  #ownership: Ownership | null = null;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#families = { lanes: options.actors.family("lane"), conversations: options.actors.family("conversation") };
  }

  /** Null before the first start. */
  get ownership(): Ownership | null {
    return this.#ownership;
  }

  startLeases(failed: PartFailed): RunningPart {
    const environment = new PartEnvironment(this.#options.environment, failed);
    const ownership = new Ownership({
      ...this.#options,
      environment,
      nodeEnvironment: this.#options.environment,
      families: this.#families,
      store: this.#options.store(),
      node: this.#options.node(),
    });
    environment.onClose(() => ownership.kill());
    this.#ownership = ownership;
    ownership.start();
    return {
      stop: async () => {
        await ownership.stop();
        environment.close();
      },
      kill: () => environment.close(),
      fail: (error) => environment.fail(error),
    };
  }

  startObserver(failed: PartFailed): RunningPart {
    const environment = new PartEnvironment(this.#options.environment, failed);
    const observer = new Observer({
      environment,
      store: this.#options.store(),
      onFacts: (facts) => this.#ownership?.observed(facts),
    });
    environment.onClose(() => observer.stop());
    observer.start();
    return {
      stop: () => environment.close(),
      kill: () => environment.close(),
      fail: (error) => environment.fail(error),
    };
  }
}
