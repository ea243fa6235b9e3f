#!/usr/bin/env -S node --max-semi-space-size=64
// Main: the process. The only reader of process.env, and the only one who exits.

import { createApp } from "./app.ts";
import { liveUntilSignal } from "./cli/lifecycle.ts";
import { runProgram } from "./cli/program.ts";

// A reader that went away (`colloquy start bot.ts | head`) ends its stream, not the runtime.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});

const { argv, env: environment, stdout, stderr } = process;
const terminal = {
  argv: argv.slice(2),
  environment,
  stdout,
  stderr,
  /** Not opened before it is asked for: a service has none. */
  get stdin() {
    return process.stdin;
  },
};
process.exit(await runProgram(terminal, { createApp, live: liveUntilSignal }));
