// Turn attribution: whose promise it was that was rejected while nobody awaited it. Node ends a process for one; here thousands of
// conversations live in it.
//
// Invariants
//   A1. A rejection of a promise that a turn's code made, directly or behind any number of awaits, is told to that turn and ends nothing.
//   A2. One of any other promise ends the process as Node would, with the same error and origin; where the program has a listener of
//       its own, it is that listener's business.
//   A3. What the runtime does when a turn calls it belongs to no turn (`outsideTurns`): its own mistakes are never taken for a bot's.
//   A4. After the last `stop` no listener and no hook is left.
//
// Followed are promises alone, by V8's promise hooks: AsyncLocalStorage would follow timers and events as well, at two to three times the
// cost to every promise of the process. What a handler does in a callback of a timer is outside of this.

import { promiseHooks } from "node:v8";

/** What can have left a promise behind. */
export interface RejectionOwner {
  /** Called outside of all turns. */
  rejected(reason: unknown): void;
}

const OWNER = Symbol("turn");
type Followed = Promise<unknown> & { [OWNER]?: RejectionOwner };

/** Whose code runs now. */
let current: RejectionOwner | null = null;
/** Of apps that have started; several can live in one process. */
let users = 0;
let unhook: (() => void) | null = null;

/**
 * From now on rejections that nobody handles are attributed in this process.
 * @returns takes it back; calling it again is harmless
 */
export function attributeRejections(): () => void {
  users += 1;
  if (users === 1) install();
  let isStopped = false;
  return () => {
    if (isStopped) return;
    isStopped = true;
    users -= 1;
    if (users === 0) uninstall();
  };
}

/** Runs what belongs to a turn. */
export function insideTurn<Owner extends RejectionOwner, Value>(owner: Owner, run: (owner: Owner) => Value): Value {
  const before = current;
  current = owner;
  try {
    return run(owner);
  } finally {
    current = before;
  }
}

/** Runs what a turn asks of the runtime (A3). */
export function outsideTurns<Value>(run: () => Value): Value {
  const before = current;
  current = null;
  try {
    return run();
  } finally {
    current = before;
  }
}

function install(): void {
  unhook = promiseHooks.createHook({ init: begun, before: continues, after: paused }) as () => void;
  process.on("unhandledRejection", onUnhandled);
}

/** A4 */
function uninstall(): void {
  process.off("unhandledRejection", onUnhandled);
  unhook?.();
  unhook = null;
}

function begun(promise: Followed): void {
  if (current !== null) promise[OWNER] = current;
}

function continues(promise: Followed): void {
  current = promise[OWNER] ?? null;
}

function paused(): void {
  current = null;
}

function onUnhandled(reason: unknown, promise: Followed): void {
  const owner = promise[OWNER];
  if (owner !== undefined)
    outsideTurns(() => owner.rejected(reason)); // A1
  else if (process.listenerCount("unhandledRejection") === 1) endAsNodeDoes(reason);
}

/** A2: without a listener Node takes it up itself. */
function endAsNodeDoes(reason: unknown): void {
  process.off("unhandledRejection", onUnhandled);
  void Promise.reject(reason);
  setImmediate(() => {
    // A listener for uncaught exceptions kept the process.
    if (users > 0 && !process.listeners("unhandledRejection").includes(onUnhandled)) {
      process.on("unhandledRejection", onUnhandled);
    }
  }).unref();
}
