// Crash policies: what becomes of a conversation or a lane whose own code crashed. Each has an intensity of its own, so that one
// that crashes on each message changes nothing for the others.

import type { CrashPolicies } from "../actors/shard.ts";
import type { Environment } from "../src/environment.ts";
import { describeError, type Log } from "../src/log.ts";
import { addRestart, type Intensity, type RestartTimes } from "./restart-intensity.ts";

const PER_CHILD: Intensity = { intensity: 5, periodMs: 30_000 };

export function crashPolicies(shard: string, environment: Environment, log: Log): CrashPolicies {
  const policy = (family: string) => {
    const crashes = new Map<string, RestartTimes>();
    return {
      restartAfterMs: (
        child: { bot: string; channel: string; conversation: string },
        error: unknown,
      ): number | null => {
        const id = `${child.bot}/${child.channel}/${child.conversation}`;
        const { times, isTooMany } = addRestart(crashes.get(id) ?? [], environment.monotonicMs(), PER_CHILD);
        crashes.set(id, times);
        log.error(
          {
            supervisor: `${shard}/${family}`,
            child: id,
            reason: "error",
            error: describeError(error),
            strategy: "simple_one_for_one",
            restartsLeft: Math.max(0, PER_CHILD.intensity - times.length),
          },
          isTooMany ? "child crashed too often and is halted; what it was sent waits" : "child is restarted",
        );
        return isTooMany ? null : 0;
      },
    };
  };
  return { conversations: policy("conversations"), lanes: policy("lanes") };
}
