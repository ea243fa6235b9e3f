// A store that breaks its contract breaks the promise, and the simulator says so.

import { storeMutants } from "./store-mutants.ts";
import { testMutants } from "./test-mutants.ts";

testMutants(storeMutants);
