// All other simulated worlds: enough of them to meet every fault at every named step (test/simulation/seeds.ts).

import { OTHER_SEEDS, testSeeds } from "../simulation/seeds.ts";

testSeeds(OTHER_SEEDS);
