// Sabotaged runtime: the production app in a process of its own, whose code can be made to fail in the middle of its work. It
// says what its tree looks like, and what is left of it after a stop.

import { Server } from "node:net";
import type { createAppIn } from "../../../src/app.ts";
import type { httpChannel } from "../../../src/channels/http-channel.ts";
import type { systemEnvironment } from "../../../src/environment.ts";
import type { newCounters } from "../../../src/metrics.ts";
import type { TreeNode } from "../../../supervisors/tree.ts";
import { Saboteur } from "../../support/saboteur.ts";
import foldBot from "./fold-bot.ts";
import { answerParent, configOfHelper } from "./helper-process.ts";

export interface SabotagedConfig {
  readonly port: number;
  readonly data: string;
  readonly deliverTo: string;
  readonly redis?: string;
}

export type SabotagedVerbs = {
  readonly start: readonly [undefined, undefined];
  /** The runtime's own code throws after so many more looks at its clock, its dice or its counters. */
  readonly arm: readonly [looks: number, undefined];
  /** Where it threw, of all times that it was armed. */
  readonly struck: readonly [undefined, readonly string[]];
  /** Lets the part at this place of the tree fail; false if none runs there. */
  readonly fail: readonly [path: readonly string[], boolean];
  readonly closePort: readonly [undefined, undefined];
  readonly tree: readonly [undefined, TreeNode];
  /** Stops the app; answers what still keeps the process alive, beside what it had before it started. */
  readonly stop: readonly [undefined, readonly string[]];
  /** Why the app cannot go on; null while it can. */
  readonly crashed: readonly [undefined, string | null];
};

const GONE_WITHIN_MS = 5_000;

/** Of the built runtime, which sabotaged-runtime.mjs loads natively. */
export interface BuiltRuntime {
  readonly createAppIn: typeof createAppIn;
  readonly httpChannel: typeof httpChannel;
  readonly systemEnvironment: typeof systemEnvironment;
  readonly newCounters: typeof newCounters;
}

export function runSabotaged(runtime: BuiltRuntime): void {
  const { port, data, deliverTo, redis } = configOfHelper<SabotagedConfig>();
  const saboteur = new Saboteur(runtime.systemEnvironment, runtime.newCounters());
  const app = runtime.createAppIn(saboteur, {
    bots: [foldBot],
    channels: [runtime.httpChannel({ deliverTo })],
    port,
    dataDir: data,
    ...(redis !== undefined && { redis }),
  });
  let crash: string | null = null;
  void app.crashed.then((error) => {
    crash = String(error.stack);
  });

  let before: readonly string[] = [];
  const leftNow = (): string[] => {
    const left = [...process.getActiveResourcesInfo()];
    for (const name of [...before, "Immediate"]) if (left.includes(name)) left.splice(left.indexOf(name), 1);
    return [...left, ...Array<string>(saboteur.timers).fill("timer of the runtime")];
  };

  answerParent<SabotagedVerbs>({
    start: async () => {
      before = process.getActiveResourcesInfo();
      await app.start();
      return undefined;
    },
    arm: (looks) => void saboteur.arm(looks),
    struck: () => saboteur.struck,
    fail: (path) => app.fail(path, new Error("failed on purpose")),
    closePort: () => {
      for (const handle of activeHandles()) if (handle instanceof Server && isOnPort(handle, port)) handle.close();
      return undefined;
    },
    tree: () => app.tree(),
    stop: async () => {
      saboteur.disarm();
      await app.stop();
      const untilMs = performance.now() + GONE_WITHIN_MS;
      let left = leftNow();
      while (left.length > 0 && performance.now() < untilMs) {
        await new Promise((resolve) => setImmediate(resolve)); // sockets that were destroyed are gone a moment later
        left = leftNow();
      }
      return left;
    },
    crashed: () => crash,
  });
}

function activeHandles(): readonly unknown[] {
  return (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
}

function isOnPort(server: Server, port: number): boolean {
  const address = server.address();
  return typeof address === "object" && address?.port === port;
}
