// Worlds for the test of the seed processes: seed 3 never ends, seed 5 ends its process, all others are well.

import { answerSeeds } from "../seed-processes.ts";

answerSeeds(async (seed) => {
  if (seed === 3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // for ever, and without a turn of the event loop
  if (seed === 5) {
    process.stderr.write("over");
    process.exit(7);
  }
  return {
    seed,
    events: 1_000,
    steps: process.pid,
    isTwice: false,
    cellHits: new Map([["cell", seed]]),
    faultHits: new Map(),
    wrong: null,
  };
});
