// Lifecycle: how the process of a running app ends: a signal drains, a crash does not.
//
// Invariants
//   L1. SIGTERM, SIGINT and SIGHUP stop the app and exit 0, also when a part did not drain in its time and was left behind: the
//       log names it, and what it accepted is stored. A stop that hangs beyond that, or one more signal, exits 1 at once, which
//       costs what any crash costs: time.
//   L2. An uncaught exception or rejection exits 1 without a drain: nobody knows what still holds. The next start recovers. Rejections
//       are not listened to but left to Node, which makes exceptions of them: one that a turn left behind is that turn's alone.
//   L3. Other signals keep node's own handling: a JavaScript listener for a real fault (SIGSEGV) would spin for ever.
//   L4. A signal that comes twice within a second came once: npm passes on the ctrl-c that the terminal sent us too.

import closeWithGrace from "close-with-grace";
import { systemEnvironment } from "../environment.ts";
import { EXIT } from "./exit.ts";

export interface LifecycleOptions {
  readonly stop: () => Promise<void>;
  /** How long `stop` may take by itself, ms. */
  readonly drainMs: number;
  /** A line for people. */
  readonly say: (line: string) => void;
  /** Tells what ended the process. */
  readonly tell: (error: unknown) => void;
}

export interface Lifecycle {
  /** True once the process is on its way out; errors from then on are its consequences. */
  readonly isEnding: boolean;
  /** Takes the listeners off: the process ends in another way. */
  release(): void;
}

export type Live = (options: LifecycleOptions) => Lifecycle;

/** Beyond `drainMs`: what is stopped after the drain, such as the embedded Redis, writes its last. */
const HARD_EXIT_AFTER_MS = 5_000;
const SAME_SIGNAL_MS = 1_000;
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
/** All that close-with-grace would listen to but exceptions. */
const SKIPPED = [
  ...SIGNALS,
  "unhandledRejection" as const,
  ...(["SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGUSR2", "beforeExit"] as const),
];

export const liveUntilSignal: Live = ({ stop, drainMs, say, tell }) => {
  let endingSinceMs: number | undefined;
  const grace = closeWithGrace(
    {
      delay: drainMs + HARD_EXIT_AFTER_MS,
      logger: false,
      skip: SKIPPED,
      onTimeout: (delay) => say(`not stopped after ${delay} ms, exiting; nothing admitted is lost`),
      onSecondError: tell,
    },
    async ({ manual, err }) => {
      endingSinceMs ??= systemEnvironment.monotonicMs();
      if (!manual) fail(err); // L2
      await stop().catch(fail);
    },
  );
  const fail = (error: unknown): never => {
    tell(error);
    process.exit(EXIT.failed);
  };
  const onSignal = (signal: NodeJS.Signals) => {
    const nowMs = systemEnvironment.monotonicMs();
    if (endingSinceMs === undefined) {
      endingSinceMs = nowMs;
      say(`${signal}: draining, at most ${drainMs} ms; once more to exit at once`);
      grace.close(); // exits 0 when stopped, 1 after `delay`
    } else if (nowMs - endingSinceMs > SAME_SIGNAL_MS) {
      say(`${signal} again, exiting at once; nothing admitted is lost`); // L4
      process.exit(EXIT.failed);
    }
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return {
    get isEnding() {
      return endingSinceMs !== undefined;
    },
    release() {
      grace.uninstall();
      for (const signal of SIGNALS) process.off(signal, onSignal);
    },
  };
};
