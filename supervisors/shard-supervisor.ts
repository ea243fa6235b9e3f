// The tree of one owned shard, downstream first: what is started can hand its work on, and what stops has nothing more coming.
//
//   shard-07 (rest_for_one)
//     committer       the one writer; started again, it takes a new epoch, and everything behind it is made anew
//     lanes           read back from the outbox
//     timers          moves what is due into the inbox
//     conversations   loaded on demand; a single one that crashes is replaced by itself
//     reader          goes on where it was
//     retry-worker    BullMQ's worker

import type { CrashCounts } from "../actors/conversations.ts";
import type { PartFailed, RunningPart, Shard } from "../actors/shard.ts";
import type { ChildSpec } from "./child-spec.ts";
import { failedWith } from "./exit-reason.ts";
import type { SupervisorSpec } from "./supervisor.ts";
import type { TreeNode } from "./tree.ts";

export type StartPart = (failed: PartFailed) => RunningPart | Promise<RunningPart>;

/** A read under way ends within a quarter of a second. */
const READER_SHUTDOWN_MS = 1_500;
const WAKE_UPS_SHUTDOWN_MS = 1_000;
/** A command of Redis has 2 s. */
const TIMERS_SHUTDOWN_MS = 2_500;

export function shardSupervisor(id: string, shard: Shard, drainMs: number): SupervisorSpec {
  return {
    id,
    strategy: "rest_for_one",
    children: [
      part("committer", drainMs, (failed) => shard.startCommitter(failed)),
      family(
        "lanes",
        drainMs / 2,
        (failed) => shard.startLanes(failed),
        () => shard.parts.lanes,
      ),
      part("timers", TIMERS_SHUTDOWN_MS, (failed) => shard.startTimers(failed)),
      family(
        "conversations",
        drainMs / 2,
        (failed) => shard.startConversations(failed),
        () => shard.parts.conversations,
      ),
      part("reader", READER_SHUTDOWN_MS, (failed) => shard.startReader(failed)),
      part("retry-worker", WAKE_UPS_SHUTDOWN_MS, (failed) => shard.startWakeUps(failed)),
    ],
  };
}

interface Members {
  readonly count: number;
  readonly crashes: CrashCounts;
}

/** A part whose children are too many to be shown: they are rolled up. */
function family(id: string, shutdownMs: number, start: StartPart, members: () => Members | null): ChildSpec {
  const tree = (): TreeNode => {
    const { count = 0, crashes = { restarting: 0, crashing: 0, restarts: 0 } } = members() ?? {};
    const running = count - crashes.restarting - crashes.crashing;
    return {
      id,
      kind: "supervisor",
      strategy: "simple_one_for_one",
      state: "running",
      restartsLeft: null,
      lastExit: null,
      mailboxDepth: null,
      children: [],
      counts: { running: Math.max(0, running), starting: 0, ...crashes },
    };
  };
  return {
    ...part(id, shutdownMs, async (failed) => Object.assign(await start(failed), { tree })),
    type: "supervisor",
  };
}

/** A start has no time-out of its own: it waits for a Redis that is away, which is no failure. */
export function part(id: string, shutdownMs: number, start: StartPart): ChildSpec {
  return {
    id,
    shutdownMs,
    startTimeoutMs: "infinity",
    start: ({ exited }) => start((error) => exited(failedWith(error))),
  };
}
