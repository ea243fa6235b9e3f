// Crash policies: what becomes of a conversation or a lane whose own code crashed. They are children by the thousands that start
// and leave at once, so that they are counted here and kept where they work.
//
// Invariants
//   W1. Each has an intensity of its own (5 in 30 s): one that crashes on each message changes nothing for the others.
//   W2. Restarts of all of them together stay within the storm breaker of their shard (supervisors/storm-breaker.ts).
//   W3. What is remembered of crashes ends with their period.

import type { CrashPolicy } from "../actors/conversations.ts";
import type { CrashPolicies } from "../actors/shard.ts";
import type { ConversationId } from "../src/domain/ids.ts";
import type { Environment } from "../src/environment.ts";
import { describeError, type Log } from "../src/log.ts";
import { addRestart, type Intensity, type RestartTimes } from "./restart-intensity.ts";
import { admitRestart, CALM, type StormLimits, type StormState } from "./storm-breaker.ts";

const PER_CHILD: Intensity = { intensity: 5, periodMs: 30_000 };
const STORM: StormLimits = { restartsMax: 100, windowMs: 10_000 };

export function crashPolicies(shard: string, environment: Environment, log: Log): CrashPolicies {
  return {
    conversations: new FamilyCrashes(`${shard}/conversations`, environment, log),
    lanes: new FamilyCrashes(`${shard}/lanes`, environment, log),
  };
}

export class FamilyCrashes implements CrashPolicy {
  readonly #supervisor: string;
  readonly #environment: Environment;
  readonly #log: Log;
  /** By child, the one that crashed last at the end. */
  readonly #crashes = new Map<string, RestartTimes>();
  #storm: StormState = CALM;

  constructor(supervisor: string, environment: Environment, log: Log) {
    this.#supervisor = supervisor;
    this.#environment = environment;
    this.#log = log;
  }

  /** How many children are remembered. */
  get size(): number {
    return this.#crashes.size;
  }

  restartAfterMs({ bot, channel, conversation }: ConversationId, error: unknown): number | null {
    const nowMs = this.#environment.monotonicMs();
    this.#forget(nowMs);
    const child = `${bot}/${channel}/${conversation}`;
    const { times, isTooMany } = addRestart(this.#crashes.get(child) ?? [], nowMs, PER_CHILD);
    this.#crashes.delete(child);
    this.#crashes.set(child, times);
    const line = {
      supervisor: this.#supervisor,
      child,
      reason: "error",
      error: describeError(error),
      strategy: "simple_one_for_one",
      restartsLeft: Math.max(0, PER_CHILD.intensity - times.length),
    };
    if (isTooMany) {
      this.#log.error(line, "child crashed too often and is halted; what it was sent waits, the others go on"); // W1
      return null;
    }
    this.#log.warn(line, "child is restarted");
    return this.#stormDelayMs(nowMs);
  }

  /** W2 */
  #stormDelayMs(nowMs: number): number {
    const { state, delayMs, opened } = admitRestart(this.#storm, nowMs, STORM);
    this.#storm = state;
    if (opened)
      this.#log.error(
        { supervisor: this.#supervisor, ...STORM },
        "so many children crash that restarts are delayed; none is lost. Look for what they have in common",
      );
    return delayMs;
  }

  /** W3 */
  #forget(nowMs: number): void {
    for (const [child, times] of this.#crashes) {
      if (times[0]! >= nowMs - PER_CHILD.periodMs) return;
      this.#crashes.delete(child);
    }
  }
}
