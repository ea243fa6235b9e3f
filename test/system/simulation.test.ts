// All simulated worlds: enough of them to meet every fault at every named step (test/simulation/seeds.ts).

import { SEEDS_FULL, testSeeds } from "../simulation/seeds.ts";

testSeeds(SEEDS_FULL);
