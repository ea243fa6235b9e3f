// Poison arena: a supervised runtime with the poison bots, its sink, and a view of its store.

import { join } from "node:path";
import { type Arena, freePort, PROJECT_ROOT, until } from "./arena.ts";
import type { PoisonSettings } from "./poison-bots.ts";
import { ReplySink } from "./poison-sink.ts";
import { SupervisedRuntime } from "./poison-supervisor.ts";
import { PoisonView } from "./poison-view.ts";

export const POISON_BOTS: string = join(PROJECT_ROOT, "test/system/support/poison-bots.ts");
export const ORDERINGS = ["strict", "available"] as const;
export type Ordering = (typeof ORDERINGS)[number];

export interface PoisonOptions {
  readonly name: string;
  readonly settings?: Partial<PoisonSettings>;
  readonly watchdogMs?: number;
  readonly heapMb?: number;
  readonly bot?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface PoisonArena {
  readonly runtime: SupervisedRuntime;
  readonly sink: ReplySink;
  readonly view: PoisonView;
}

export async function startPoison(arena: Arena, options: PoisonOptions): Promise<PoisonArena> {
  const { name, bot = POISON_BOTS, heapMb, watchdogMs = 1_000, env } = options;
  const sink = await ReplySink.start(arena);
  const data = arena.dataFolder(`data-${name}`);
  const runtime = new SupervisedRuntime(arena, {
    name,
    bot,
    data,
    port: await freePort(),
    deliverTo: sink.url,
    env: {
      ...poisonEnv(options.settings),
      COLLOQUY_WATCHDOG_MS: String(watchdogMs),
      ...(heapMb !== undefined && { NODE_OPTIONS: `--max-old-space-size=${heapMb}` }),
      ...env,
    },
  });
  await runtime.ready();
  return { runtime, sink, view: new PoisonView(arena, data) };
}

export function poisonEnv(settings: Partial<PoisonSettings> = {}): Record<string, string> {
  const whole: PoisonSettings = { version: 1, handlerTimeoutMs: 30_000, maxAttempts: 2, ...settings };
  return { COLLOQUY_TEST_POISON: JSON.stringify(whole) };
}

/** Waits until something is true, for as long as the runtime can still come to it. */
export function reached(
  { runtime }: PoisonArena,
  what: string,
  withinMs: number,
  isReached: () => boolean | Promise<boolean>,
  more: () => unknown = () => "",
): Promise<unknown> {
  return until(
    async () => {
      runtime.check();
      return await isReached();
    },
    { what, withinMs, everyMs: 50, explain: () => `${JSON.stringify(more())}\n${runtime.explain()}` },
  );
}
