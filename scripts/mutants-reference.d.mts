import type { WorldMutant } from "../test/mutants/mutant.ts";
import type { ScriptMutant } from "../test/mutants/script-mutants.ts";
import type { Rule } from "../test/simulation/judge.ts";

export interface AllMutants {
  readonly world: readonly WorldMutant[];
  readonly scripts: readonly ScriptMutant[];
  /** Names of what the runtime bears. */
  readonly borne: readonly string[];
  readonly toldRule: (rule: Rule) => string;
}
/** @returns the whole of docs/mutants.md; `seedOf` fills the last column */
export function mutantsReference(
  all: AllMutants,
  seedOf: (mutant: WorldMutant | ScriptMutant) => number | string,
): string;
