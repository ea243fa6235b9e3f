// The process in which worlds run: started by seed-processes.ts.

import { answerSeeds } from "./seed-processes.ts";
import { runSeed } from "./seed-run.ts";

answerSeeds(runSeed);
