// Seeds whose worlds never end, or end their process, are named, and all others get their report.

import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { isAlive, until } from "../system/support/arena.ts";
import { type SeedAnswer, SeedProcesses } from "./seed-processes.ts";
import type { SeedReport } from "./seed-run.ts";

const SCRIPT = fileURLToPath(new URL("support/odd-worlds.ts", import.meta.url));
const SEED_MS_MAX = 60_000;
const SOON_MS = 50_000;

const environment = new VirtualEnvironment(1);
let processes: SeedProcesses;
afterEach(() => processes.close());

function start(count: number, script = SCRIPT): void {
  processes = new SeedProcesses({ environment, processes: count, seedMsMax: SEED_MS_MAX, script });
}

/** The pid of the process, which these worlds give as their steps. */
const pidOf = (answer: SeedAnswer): number => (answer.kind === "report" ? answer.report.steps : 0);
const seedOf = (answer: SeedAnswer): number => (answer.kind === "report" ? answer.report.seed : answer.seed);

async function answersOf(...seeds: number[]): Promise<SeedAnswer[]> {
  const answers: SeedAnswer[] = [];
  await processes.run(seeds, (answer) => answers.push(answer) > 0);
  return answers;
}

test("S1: each seed gets its report, all that is in it, from as many processes as were asked for", async () => {
  start(2);
  const answers = await answersOf(...Array.from({ length: 40 }, (_, i) => 10 + i));
  expect(answers.map(seedOf).sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => 10 + i));
  expect(new Set(answers.map(pidOf)).size).toBe(2);
  const first = answers.find((answer) => seedOf(answer) === 10);
  expect(first).toEqual({
    kind: "report",
    report: {
      seed: 10,
      events: 1_000,
      steps: pidOf(first!),
      isTwice: false,
      cellHits: new Map([["cell", 10]]),
      faultHits: new Map(),
      wrong: null,
    } satisfies SeedReport,
  });
  await processes.close();
  for (const pid of new Set(answers.map(pidOf))) expect(isAlive(pid)).toBe(false); // S3
});

test("S2: a world that never ends is ended after its time and named, and the seeds behind it run", async () => {
  start(1);
  const all = answersOf(10, 3, 11);
  await until(() => processes.running.includes(3), { what: "the world that never ends", withinMs: SOON_MS });
  await environment.pass(SEED_MS_MAX - 1);
  expect(processes.running).toEqual([3]);
  await environment.pass(1);
  const answers = await all;
  expect(answers[1]).toEqual({ kind: "none", seed: 3, why: "it did not end within 60 s" });
  expect(answers.map(seedOf)).toEqual([10, 3, 11]);
  expect(pidOf(answers[0]!)).not.toBe(pidOf(answers[2]!));
});

test("S2: a world that ends its process is named, with the last words, and the seeds behind it run", async () => {
  start(1);
  const [before, ended, behind] = await answersOf(10, 5, 11);
  expect(ended).toEqual({ kind: "none", seed: 5, why: expect.stringMatching(/^its process ended with code 7\nover$/) });
  expect([before, behind].map((answer) => seedOf(answer!))).toEqual([10, 11]);
});

test("no seed begins after one whose answer says so", async () => {
  start(1);
  const seen: number[] = [];
  await processes.run([10, 11, 12], (answer) => seen.push(seedOf(answer)) < 2);
  expect(seen).toEqual([10, 11]);
});

test("a process that cannot begin is an error that says why", async () => {
  start(1, fileURLToPath(new URL("support/none.ts", import.meta.url)));
  await expect(answersOf(10)).rejects.toThrow(
    /^no process for seed 10: its process ended with code 1\n[\s\S]*none\.ts/,
  );
});
