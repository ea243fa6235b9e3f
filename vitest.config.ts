import { defineConfig } from "vitest/config";
import LongestFirst from "./test/support/longest-first.ts";

/** The longer name first: an alias also stands for what begins with it and a slash. */
const own = {
  "colloquy/testing": new URL("./src/testing/index.ts", import.meta.url).pathname,
  colloquy: new URL("./src/index.ts", import.meta.url).pathname,
};

/** Three tiers: `unit` and `short` make `npm test`, `system` and `page` have a command each. A system test owns the machine. */
export default defineConfig({
  resolve: { alias: own },
  test: {
    reporters: ["default", "./test/support/closing-line-reporter.ts"],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/system/**", "test/short/**", "test/page/**"],
          testTimeout: 60_000,
          isolate: false, // a process for each file costs as much again as the tests; no-traces.ts sees to it that none meets another
          setupFiles: ["test/support/no-traces.ts"],
          maxWorkers: "100%",
        },
      },
      {
        extends: true,
        test: {
          name: "short",
          include: ["test/short/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "system",
          include: ["test/system/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 600_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: { name: "page", include: ["test/page/**/*.test.ts"], fileParallelism: false, testTimeout: 120_000 },
      },
    ],
  },
});
