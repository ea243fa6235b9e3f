// Fake terminal: the command line without a process: what it wrote, and an app and a lifecycle that do as they are told.

import { Readable } from "node:stream";
import type { App, AppInfo, AppOptions } from "../../../src/app-types.ts";
import type { LifecycleOptions, Live } from "../../../src/cli/lifecycle.ts";
import { runProgram } from "../../../src/cli/program.ts";

export const INFO: AppInfo = {
  url: "http://127.0.0.1:4000",
  pid: 4_242,
  node: "n1",
  shards: 4,
  durability: "always",
  ready: true,
  redis: { embedded: true, address: "/data/redis.sock", pid: 4_243 },
};

export interface Scene {
  readonly environment?: Record<string, string>;
  readonly info?: Partial<AppInfo>;
  readonly startError?: Error;
  readonly createError?: Error;
  readonly isTTY?: boolean;
  /** Whether what comes in is typed; else it comes from a pipe. */
  readonly isTyped?: boolean;
  readonly stdin?: readonly string[];
}

export interface Run {
  readonly code: Promise<number>;
  readonly options: () => AppOptions;
  readonly lifecycle: () => LifecycleOptions;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly calls: readonly string[];
  /** Resolves once the banner is out. */
  readonly up: Promise<void>;
  crash(error: Error): void;
}

export function run(argv: readonly string[], scene: Scene = {}): Run {
  const out: string[] = [];
  const err: string[] = [];
  const calls: string[] = [];
  let options: AppOptions | undefined;
  let lifecycle: LifecycleOptions | undefined;
  let crash: (error: Error) => void = () => {};
  let isUp: () => void = () => {};
  const crashed = new Promise<Error>((resolve) => {
    crash = resolve;
  });
  const up = new Promise<void>((resolve) => {
    isUp = resolve;
  });
  const app: App = {
    crashed,
    start: async () => {
      calls.push("start");
      if (scene.startError) throw scene.startError;
      setImmediate(isUp);
      return { ...INFO, ...scene.info };
    },
    stop: async () => void calls.push("stop"),
  };
  const live: Live = (given) => {
    calls.push("live");
    lifecycle = given;
    return { isEnding: false, release: () => void calls.push("release") };
  };
  const code = runProgram(
    {
      argv,
      environment: scene.environment ?? {},
      stdin: Object.assign(Readable.from(scene.stdin ?? []), { isTTY: scene.isTyped ?? false }),
      stdout: { write: (text) => out.push(text) },
      stderr: { write: (text) => err.push(text), isTTY: scene.isTTY ?? false },
    },
    async () => ({
      createApp: (given: AppOptions) => {
        if (scene.createError) throw scene.createError;
        options = given;
        return app;
      },
      live,
    }),
  );
  return {
    code,
    calls,
    up,
    options: () => options!,
    lifecycle: () => lifecycle!,
    stdout: () => out.join(""),
    stderr: () => err.join(""),
    crash,
  };
}
