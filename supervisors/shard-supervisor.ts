// The tree of one owned shard. Downstream first: what is started can hand its work on.

import type { Shard } from "../actors/shard.ts";
import type { ChildSpec } from "./child-spec.ts";
import type { SupervisorSpec } from "./supervisor.ts";

export function shardSupervisor(id: string, shard: Shard, drainMs: number): SupervisorSpec {
  const child = (id: string, shutdownMs: number, start: ChildSpec["start"], stop: ChildSpec["stop"]): ChildSpec => ({
    id,
    shutdownMs,
    start,
    stop,
  });
  let retrying = 0;
  return {
    id,
    strategy: "rest_for_one",
    children: [
      child(
        "committer",
        drainMs,
        () => undefined,
        async () => {
          await shard.committer.drained();
          shard.committer.stop();
        },
      ),
      child(
        "lanes",
        drainMs / 2,
        async () => {
          ({ retrying } = await shard.lanes.recover());
        },
        () => shard.stopLanes(),
      ),
      child(
        "conversations",
        drainMs / 2,
        () => undefined,
        () => shard.stopConversations(),
      ),
      child(
        "reader",
        1_500,
        () => shard.reader.start(),
        () => shard.reader.stop(),
      ),
      child(
        "retry-worker",
        1_000,
        () => {
          if (retrying > 0) shard.wakeUps.start();
        },
        () => shard.wakeUps.stop(),
      ),
    ],
  };
}
