// All mutants of the simulated world.

import type { WorldMutant } from "./mutant.ts";
import { outsideMutants } from "./outside-mutants.ts";
import { storeMutants } from "./store-mutants.ts";

export const worldMutants: readonly WorldMutant[] = [...storeMutants, ...outsideMutants];
