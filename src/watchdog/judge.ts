// Judge: from samples of a thread, whether it is blocked. Pure.
//
// Invariants
//   J1. Blocked is a matter of CPU time: a thread that is stopped, asleep, or waits for the CPU uses none and is never blocked.
//   J2. Where only the CPU time of the whole process is known, which is at least that of the thread, the silence must also have
//       lasted as long by the clock, and time between two samples counts only as far as they are apart as planned: a process that
//       was stopped did not see it pass.

/** What is seen of the thread at one moment. */
export interface Sample {
  /** How often its event loop came round; only a change counts. */
  readonly beats: number;
  /** CPU time of the thread, or of the process, ms. */
  readonly cpuMs: number;
  /** Monotonic, of the observer. */
  readonly atMs: number;
  /** It neither runs nor wants to: it waits inside a call. False where that cannot be known. */
  readonly isAsleep: boolean;
}

export interface Watch {
  readonly beats: number;
  /** When the last beat was noticed: a little late, so what is counted since is never too much. */
  readonly cpuAtBeatMs: number;
  readonly atMs: number;
  /** Silence that was looked at, ms. */
  readonly silentMs: number;
  /** The part of it in which the thread was asleep. */
  readonly asleepMs: number;
}

export interface JudgeRules {
  /** CPU ms without a beat. */
  readonly limitMs: number;
  readonly sampleEveryMs: number;
  /** Whether `cpuMs` is of the whole process (J2). */
  readonly isCpuOfProcess: boolean;
}

/** `asleep`: silent for as long as that in a call that uses no CPU. Nothing to end a process for, but to tell. */
export type Verdict = "fine" | "asleep" | "blocked";

/** A watch that begins with this sample, as after a beat. */
export function watchFrom({ beats, cpuMs, atMs }: Sample): Watch {
  return { beats, cpuAtBeatMs: cpuMs, atMs, silentMs: 0, asleepMs: 0 };
}

export function judge(
  watch: Watch,
  sample: Sample,
  rules: JudgeRules,
): { readonly watch: Watch; readonly verdict: Verdict } {
  if (sample.beats !== watch.beats) return { watch: watchFrom(sample), verdict: "fine" };
  const seenMs = Math.min(Math.max(0, sample.atMs - watch.atMs), 2 * rules.sampleEveryMs);
  const next: Watch = {
    ...watch,
    atMs: sample.atMs,
    silentMs: watch.silentMs + seenMs,
    asleepMs: watch.asleepMs + (sample.isAsleep ? seenMs : 0),
  };
  return { watch: next, verdict: verdictOf(next, sample, rules) };
}

function verdictOf(watch: Watch, sample: Sample, { limitMs, isCpuOfProcess }: JudgeRules): Verdict {
  const isLongEnough = !isCpuOfProcess || watch.silentMs >= limitMs; // J2
  if (sample.cpuMs - watch.cpuAtBeatMs >= limitMs && isLongEnough) return "blocked";
  return watch.asleepMs >= limitMs ? "asleep" : "fine";
}
