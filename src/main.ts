#!/usr/bin/env -S node --max-semi-space-size=64
// Main: the process. The only reader of process.env, and the only one who exits.

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
const loadParts = async () => ({ createApp: (await import("./app.ts")).createApp, live: liveUntilSignal });
process.exit(await runProgram(terminal, loadParts));
