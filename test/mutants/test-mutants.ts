// Defines a test for each mutant of the simulated world, and prints what found it.

import { afterAll, expect, test } from "vitest";
import { hunt, isCaught, SEEDS_MAX, toldRule, type WorldMutant } from "./mutant.ts";

export function testMutants(mutants: readonly WorldMutant[]): void {
  const lines: string[] = [];

  test.each(mutants.map((mutant) => [mutant.name, mutant] as const))(
    "%s: it is found out",
    { timeout: 120_000 },
    async (_name, mutant) => {
      const finding = await hunt(mutant);
      const { seed, found, twinFailed } = finding;
      expect(twinFailed, "seeds at which the promise is broken without the mutant").toEqual([]);
      expect(seed, `the seed, of ${SEEDS_MAX}, at which it is found`).not.toBeNull();
      const wanted = mutant.rules.map(toldRule).join(" or ");
      expect(isCaught(mutant, finding), `found as ${found.map(toldRule).join(", ")}, not as ${wanted}`).toBe(true);
      lines.push(`${mutant.name.padEnd(64)}${found.map(toldRule).join(", ").padEnd(60)} seed ${seed}`);
    },
  );

  afterAll(() => void process.stdout.write(`${lines.join("\n")}\n${lines.length} mutants caught\n`));
}
