// Evidence: runs simulated worlds with seeds that no run before it had, for as long as it is given, and writes down what came of it.
//
// Usage: npm run evidence -- --minutes 30 [--seed 100000] [--json] [--no-ledger]
//
// Invariants
//   V1. A run ends with code 0 only if every world was judged and no violation was found.
//   V2. Every run that judged a world leaves one line in docs/evidence.md, with violations or without, unless it was told not to.
//   V3. Each violation is printed with the one command that replays it.

import { execFileSync } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createJiti } from "jiti";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LEDGER = "docs/evidence.md";
const MINUTES_MAX = 7 * 24 * 60;
const SEED_MAX = 2 ** 31 - 1;
/** Those below are in every run of `npm test` or of the system tier. */
const FIRST_SEED = 3_001;
/** One seed in so many is run twice. */
const TWICE_EVERY = 50;
/** Seeds that break the promise; more of them say nothing new. */
const BROKEN_MAX = 10;
const PROGRESS_MS = 10_000;
const MINUTE_MS = 60_000;

const text = { type: "string" };
const flag = { type: "boolean" };
/** By name, without the dashes. */
export const EVIDENCE_FLAGS = { minutes: text, seed: text, json: flag, "no-ledger": flag };

export const LEDGER_COLUMNS = ["date", "commit", "seeds", "minutes", "events", "run twice", "violations", "machine"];

/** What is wrong with how it was called. */
export class UsageError extends Error {
  name = "UsageError";

  constructor(what) {
    super(`${what}. Nothing was run or written. Say for example: npm run evidence -- --minutes 30`);
  }
}

/**
 * @param {readonly string[]} args
 * @param {string} ledger the page so far: without `--seed` a run goes on behind the highest seed in it
 * @returns {{ minutes: number, seed: number, json: boolean, ledger: boolean }}
 * @throws UsageError
 */
export function parseEvidence(args, ledger) {
  const { minutes, seed, json, "no-ledger": noLedger } = flagsOf(args);
  if (minutes === undefined) throw new UsageError("--minutes is missing");
  return {
    minutes: numberOf("--minutes", minutes, 0.01, MINUTES_MAX),
    seed: seed === undefined ? nextSeed(ledger) : numberOf("--seed", seed, 1, SEED_MAX, Number.isInteger),
    json: json === true,
    ledger: noLedger !== true,
  };
}

function flagsOf(args) {
  try {
    return parseArgs({ args: [...args], options: EVIDENCE_FLAGS }).values;
  } catch (error) {
    throw new UsageError(error.message.split(". ")[0]);
  }
}

function numberOf(name, said, min, max, isRight = Number.isFinite) {
  const value = Number(said);
  if (said.trim() === "" || !isRight(value) || value < min || value > max)
    throw new UsageError(`${name} is ${JSON.stringify(said)}, not a number from ${min} to ${max}`);
  return value;
}

/** @param {string} ledger @returns {number} behind every seed that a line of it names */
export function nextSeed(ledger) {
  const seeds = [...ledger.matchAll(/^\| \d{4}-\d\d-\d\d \| [^|]+ \| (\d+) to (\d+) \|/gm)].map(([, , to]) =>
    Number(to),
  );
  return Math.max(FIRST_SEED - 1, ...seeds) + 1;
}

/** What a violation is replayed with. */
export const replayCommand = (seed) =>
  `COLLOQUY_TEST_SEED=${seed} npx vitest run --project unit test/simulation/simulation.test.ts`;

/**
 * Runs one seed after the other until the time is up, ten of them broke the promise, or `isStopped`.
 * @param {object} world
 * @param {(seed: number) => Promise<{ traceHash: string, events: number, violations: readonly string[] }>} world.run
 * @param {() => number} world.nowMs
 * @param {(line: string) => void} world.print
 * @param {() => boolean} world.isStopped
 * @param {{ seed: number, minutes: number }} options
 */
export async function gather({ run, nowMs, print, isStopped }, { seed: first, minutes }) {
  const startMs = nowMs();
  const sum = { from: first, to: first - 1, seeds: 0, events: 0, twice: 0, violations: 0, broken: [], minutes: 0 };
  let toldMs = startMs;
  const isOver = () => nowMs() - startMs >= minutes * MINUTE_MS || sum.broken.length >= BROKEN_MAX || isStopped();
  for (let seed = first; seed <= SEED_MAX && (seed === first || !isOver()); seed += 1) {
    const found = await judged(run, seed, sum);
    sum.to = seed;
    sum.seeds += 1;
    if (found.length > 0) {
      sum.violations += found.length;
      sum.broken.push(seed);
      print(`seed ${seed} breaks the promise:\n${found.join("\n")}\nreplay it: ${replayCommand(seed)}`);
    }
    if (nowMs() - toldMs < PROGRESS_MS) continue;
    toldMs = nowMs();
    print(progress(sum, nowMs() - startMs));
  }
  sum.minutes = Math.round(((nowMs() - startMs) / MINUTE_MS) * 10) / 10;
  return sum;
}

/** What was wrong with it, as lines; a world that could not be run to its end is wrong as well (V1). */
async function judged(run, seed, sum) {
  try {
    const report = await run(seed);
    sum.events += report.events;
    if (seed % TWICE_EVERY !== 0) return report.violations;
    sum.twice += 1;
    const again = await run(seed);
    return again.traceHash === report.traceHash
      ? report.violations
      : [...report.violations, "  run twice, it went two ways"];
  } catch (error) {
    return [`  the world ended with ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`];
  }
}

const progress = ({ seeds, to, events, violations }, ms) =>
  `${(ms / MINUTE_MS).toFixed(1)} min: ${seeds} seeds (at ${to}), ${events} events, ${violations} violations`;

/** @returns {string} the line of a run in the ledger */
export function ledgerLine(sum, { date, commit, machine }) {
  const { from, to, minutes, events, twice, violations, broken } = sum;
  const told = violations === 0 ? "0" : `${violations}, seeds ${broken.join(" ")}`;
  return `| ${[date, commit, `${from} to ${to}`, minutes, events, twice, told, machine].join(" | ")} |\n`;
}

/** Of the sources that ran; with a plus when they were not quite those of the commit. */
function commitNow() {
  try {
    const git = (...args) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
    return `${git("rev-parse", "--short=10", "HEAD")}${git("status", "--porcelain", "--", ":!docs") === "" ? "" : "+"}`;
  } catch {
    return "unknown";
  }
}

function machineNow(loadBefore) {
  const all = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  const loads = [loadBefore, loadavg()[0]].map((load) => load.toFixed(1)).join(" to ");
  const model = (all[0]?.model ?? "unknown processor").replaceAll("|", "/").trim();
  return `${all.length} x ${model}, ${gib} GiB, Node ${process.versions.node}, load ${loads}`;
}

async function main() {
  let options;
  try {
    options = parseEvidence(process.argv.slice(2), readFileSync(`${ROOT}${LEDGER}`, "utf8"));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`evidence: ${error.message}`);
    return 2;
  }
  const jiti = createJiti(import.meta.url, { fsCache: false });
  const { runWorld } = await jiti.import(`${ROOT}test/simulation/world.ts`);
  const { judge, formatViolations } = await jiti.import(`${ROOT}test/simulation/judge.ts`);
  let isStopped = false;
  process.once("SIGINT", () => {
    console.log("stopping after this seed; a second Ctrl-C ends it at once and writes nothing");
    isStopped = true;
  });
  const commit = commitNow();
  const loadBefore = loadavg()[0];
  console.log(`seeds from ${options.seed} on, for ${options.minutes} min, at commit ${commit}`);
  const world = {
    run: async (seed) => {
      const { traceHash, events, history } = await runWorld(seed);
      const violations = judge(history);
      return { traceHash, events, violations: violations.length === 0 ? [] : formatViolations(violations).split("\n") };
    },
    nowMs: () => performance.now(),
    print: (line) => console.log(line),
    isStopped: () => isStopped,
  };
  const sum = await gather(world, options);
  const about = { date: new Date().toISOString().slice(0, 10), commit, machine: machineNow(loadBefore) };
  console.log(`${progress(sum, sum.minutes * MINUTE_MS)}, ${sum.twice} run twice`);
  if (options.ledger) {
    appendFileSync(`${ROOT}${LEDGER}`, ledgerLine(sum, about)); // V2
    console.log(`written to ${LEDGER}`);
  }
  if (options.json) console.log(JSON.stringify({ ...sum, ...about }));
  return sum.violations === 0 ? 0 : 1; // V1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
