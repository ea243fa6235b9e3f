// The first simulated worlds, in each `npm test`, beside other tests; and the place to replay one (seeds.ts).

import { FIRST_SEEDS, testSeeds } from "./seeds.ts";

testSeeds(FIRST_SEEDS, 1);
