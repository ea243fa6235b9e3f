// Lifecycle process: an app without content, to be ended in every way. Arguments: what to do, how long a stop takes, drainMs.

import { writeSync } from "node:fs";
import { liveUntilSignal } from "../../../src/cli/lifecycle.ts";

const [mode = "", stopMs = "0", drainMs = "1000"] = process.argv.slice(2);
const print = (line: string) => writeSync(1, `${line}\n`);

liveUntilSignal({
  drainMs: Number(drainMs),
  stop: async () => {
    print("stopping");
    if (mode === "stop-fails") throw new Error("no");
    await new Promise((resolve) => setTimeout(resolve, Number(stopMs)));
    print("stopped");
  },
  say: (line) => print(`say ${line}`),
  tell: (error) => print(`tell ${error instanceof Error ? error.message : String(error)}`),
});
setInterval(() => {}, 1_000);
print("ready");
if (mode === "throws")
  setImmediate(() => {
    throw new Error("boom");
  });
if (mode === "rejects") void Promise.reject(undefined);
