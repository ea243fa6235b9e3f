// Shards: the supervisor of the shards that this node owns. Ownership asks it to open and close them; a shard that gives up is
// started again under another epoch, which is a reload and no outage of the others.

import type { Ownership, ShardHome } from "../actors/ownership.ts";
import type { Shard } from "../actors/shard.ts";
import type { Environment } from "../src/environment.ts";
import { causeOfStart } from "../src/errors.ts";
import type { Log } from "../src/log.ts";
import type { ChildLink, RunningChild } from "./child-spec.ts";
import { shardSupervisor } from "./shard-supervisor.ts";
import { Supervisor, supervisorChild } from "./supervisor.ts";

export interface ShardsOptions {
  readonly ownership: () => Ownership;
  readonly environment: Environment;
  readonly log: Log;
  readonly drainMs: number;
}

export async function startShards(
  options: ShardsOptions,
  link: ChildLink,
): Promise<RunningChild & { readonly supervisor: Supervisor }> {
  const { environment, log } = options;
  const ownership = options.ownership();
  const supervisor = new Supervisor({ id: "shards", strategy: "one_for_one", children: [] }, environment, log);
  await supervisor.start();
  await ownership.serve(new Home(supervisor, options));
  // Once, in whatever way it ends: a second one would close what the next incarnation has opened by then.
  let withdrawal: Promise<void> | null = null;
  const withdraw = (): Promise<void> => {
    withdrawal ??= ownership.withdraw();
    return withdrawal;
  };
  supervisor.monitor(null, ({ reason }) => {
    if (reason.kind !== "noproc") void withdraw().then(() => link.exited(reason));
  });
  return {
    supervisor,
    stop: async () => {
      await withdraw();
      await supervisor.stop();
    },
    kill: () => {
      supervisor.kill();
      void withdraw();
    },
    tree: () => supervisor.tree(),
  };
}

class Home implements ShardHome {
  readonly #supervisor: Supervisor;
  readonly #options: ShardsOptions;

  constructor(supervisor: Supervisor, options: ShardsOptions) {
    this.#supervisor = supervisor;
    this.#options = options;
  }

  async open(name: string, shard: Shard): Promise<void> {
    const { drainMs, environment, log } = this.#options;
    const spec = shardSupervisor(name, shard, drainMs);
    const answer = await this.#supervisor.startChild(supervisorChild(spec, environment, log));
    if (!answer.ok && answer.error === "noproc") return new Promise(() => undefined); // it ended, and is withdrawn for that
    if (!answer.ok) throw causeOfStart(answer.reason ?? new Error(`${name} was not opened: ${answer.error}`));
  }

  async close(name: string): Promise<void> {
    await this.#supervisor.terminateChild(name);
    await this.#supervisor.deleteChild(name);
  }
}
