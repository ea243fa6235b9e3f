// The first simulated worlds of the thousands that test/system/simulation.test.ts runs; and the place to replay one (seeds.ts).

import { testSeeds } from "./seeds.ts";

testSeeds(300);
