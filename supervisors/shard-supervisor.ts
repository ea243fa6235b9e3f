// The tree of one owned shard, downstream first: what is started can hand its work on, and what stops has nothing more coming.

import type { Shard } from "../actors/shard.ts";
import { stepsChild } from "./child-spec.ts";
import type { SupervisorSpec } from "./supervisor.ts";

/** A read under way ends within a quarter of a second. */
const READER_SHUTDOWN_MS = 1_500;
const WAKE_UPS_SHUTDOWN_MS = 1_000;

export function shardSupervisor(id: string, shard: Shard, drainMs: number): SupervisorSpec {
  return {
    id,
    strategy: "rest_for_one",
    children: [
      stepsChild({ id: "committer", start: nothing, stop: () => shard.stopCommitter(), shutdownMs: drainMs }),
      stepsChild({
        id: "lanes",
        start: () => shard.recoverLanes(),
        stop: () => shard.stopLanes(),
        shutdownMs: drainMs / 2,
      }),
      stepsChild({
        id: "conversations",
        start: nothing,
        stop: () => shard.stopConversations(),
        shutdownMs: drainMs / 2,
      }),
      stepsChild({
        id: "reader",
        start: () => shard.reader.start(),
        stop: () => shard.reader.stop(),
        shutdownMs: READER_SHUTDOWN_MS,
      }),
      stepsChild({
        id: "retry-worker",
        start: () => shard.startWakeUps(),
        stop: () => shard.wakeUps.stop(),
        shutdownMs: WAKE_UPS_SHUTDOWN_MS,
      }),
    ],
  };
}

/** It works as soon as it is made. */
const nothing = (): void => undefined;
