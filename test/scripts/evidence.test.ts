// npm run evidence: what it takes, which seeds it runs, when it ends, and what it writes down.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type EvidenceWorld,
  gather,
  LEDGER_COLUMNS,
  ledgerLine,
  nextSeed,
  parseEvidence,
  replayCommand,
} from "../../scripts/evidence.mjs";

const LEDGER = readFileSync(new URL("../../docs/evidence.md", import.meta.url), "utf8");
const ABOUT = {
  date: "2030-01-02",
  commit: "0123456789",
  machine: "2 x processor, 8 GiB, Node 20.0.0, load 0.1 to 1.0",
};

/** Each world takes a second and has 1,000 events; these seeds break the promise, throw, or go another way each time. */
function worldOf(bad: { broken?: number[]; thrown?: number[]; wavering?: number[] } = {}) {
  const printed: string[] = [];
  const ran: number[] = [];
  let nowMs = 0;
  const world: EvidenceWorld = {
    run: async (seed) => {
      nowMs += 1_000;
      ran.push(seed);
      if (bad.thrown?.includes(seed)) throw new Error("the world is round");
      const traceHash = bad.wavering?.includes(seed) ? `${ran.length}` : "same";
      return { traceHash, events: 1_000, violations: bad.broken?.includes(seed) ? ["  lost in c1: m1"] : [] };
    },
    nowMs: () => nowMs,
    print: (line) => void printed.push(line),
    isStopped: () => false,
  };
  return { world, printed, ran };
}

describe("seeds", () => {
  test("are run one after the other until the time is up, each fiftieth twice", async () => {
    const { world, ran, printed } = worldOf();
    const sum = await gather(world, { seed: 4_001, minutes: 2 });
    expect(sum).toMatchObject({
      from: 4_001,
      to: 4_118,
      seeds: 118,
      events: 118_000,
      twice: 2,
      violations: 0,
      minutes: 2,
    });
    expect(ran).toHaveLength(120);
    expect(printed).toHaveLength(11); // each ten seconds, and a seed that runs twice takes two
    expect(printed[0]).toBe("0.2 min: 10 seeds (at 4010), 10000 events, 0 violations");
  });

  test("that break the promise are told of with the command that replays them, and the run goes on", async () => {
    const { world, printed } = worldOf({ broken: [7], thrown: [9] });
    const sum = await gather(world, { seed: 5, minutes: 0.1 });
    expect(sum).toMatchObject({ seeds: 6, violations: 2, broken: [7, 9] });
    expect(printed[0]).toBe(`seed 7 breaks the promise:\n  lost in c1: m1\nreplay it: ${replayCommand(7)}`);
    expect(printed[1]).toMatch(/^seed 9 breaks the promise:\n {2}the world ended with Error: the world is round/);
    expect(printed[1]).toContain(`replay it: ${replayCommand(9)}`);
  });

  test("that go two ways count as a violation", async () => {
    const sum = await gather(worldOf({ wavering: [50, 51] }).world, { seed: 49, minutes: 0.1 });
    expect(sum).toMatchObject({ violations: 1, broken: [50] });
  });

  test("end when ten broke the promise, or when it is stopped", async () => {
    const { world } = worldOf({ broken: Array.from({ length: 100 }, (_, i) => i + 1) });
    expect(await gather(world, { seed: 1, minutes: 5 })).toMatchObject({ seeds: 10, violations: 10 });
    expect(await gather({ ...worldOf().world, isStopped: () => true }, { seed: 1, minutes: 5 })).toMatchObject({
      seeds: 1,
    });
  });
});

describe("the ledger", () => {
  const sum = { from: 3_001, to: 9_000, seeds: 6_000, events: 1, twice: 120, violations: 0, broken: [], minutes: 30 };

  test("has the columns that a line fills", () => {
    expect(LEDGER).toContain(`| ${LEDGER_COLUMNS.join(" | ")} |`);
    for (const line of [ledgerLine(sum, ABOUT), ...LEDGER.split("\n").filter((row) => /^\| \d/.test(row))])
      expect(line.trim().split(" | ")).toHaveLength(LEDGER_COLUMNS.length);
    expect(LEDGER.endsWith("|\n")).toBe(true);
  });

  test("says which seeds broke the promise", () => {
    expect(ledgerLine(sum, ABOUT)).toBe(
      "| 2030-01-02 | 0123456789 | 3001 to 9000 | 30 | 1 | 120 | 0 | 2 x processor, 8 GiB, Node 20.0.0, load 0.1 to 1.0 |\n",
    );
    expect(ledgerLine({ ...sum, violations: 3, broken: [7, 9] }, ABOUT)).toContain("| 3, seeds 7 9 |");
  });

  test("gives the next run seeds that are in none of its lines, nor in the system tier", () => {
    expect(nextSeed("")).toBe(3_001);
    const page = `head\n${ledgerLine(sum, ABOUT)}${ledgerLine({ ...sum, from: 50, to: 60 }, { ...ABOUT, commit: "abc+" })}`;
    expect(nextSeed(page)).toBe(9_001);
  });
});

describe("the command line", () => {
  test("takes minutes, and what else is asked for", () => {
    expect(parseEvidence(["--minutes", "30"], "")).toEqual({ minutes: 30, seed: 3_001, json: false, ledger: true });
    expect(parseEvidence(["--minutes", "0.5", "--seed", "7", "--json", "--no-ledger"], "")).toEqual({
      minutes: 0.5,
      seed: 7,
      json: true,
      ledger: false,
    });
  });

  test.each([
    [[], "--minutes is missing"],
    [["--minutes", ""], '--minutes is "", not a number from 0.01 to 10080'],
    [["--minutes", "soon"], '--minutes is "soon", not a number from 0.01 to 10080'],
    [["--minutes", "0"], '--minutes is "0"'],
    [["--minutes", "1", "--seed", "1.5"], '--seed is "1.5", not a number from 1 to 2147483647'],
    [["--minutes", "1", "--fast"], "Unknown option '--fast'"],
    [["--minutes", "1", "more"], "Unexpected argument 'more'"],
  ])("refuses %j with what to say instead", (args, what) => {
    expect(() => parseEvidence(args, "")).toThrow(what);
    expect(() => parseEvidence(args, "")).toThrow("Nothing was run or written. Say for example: npm run evidence");
  });
});
