// Loads the built runtime natively and hands it to sabotaged-runtime.ts: what BullMQ ships cannot be loaded by a transformer.

import { createJiti } from "jiti";

const [{ createAppIn }, { httpChannel }, { systemEnvironment }, { newCounters }] = await Promise.all([
  import("../../../dist/src/app.js"),
  import("../../../dist/src/channels/http-channel.js"),
  import("../../../dist/src/environment.js"),
  import("../../../dist/src/metrics.js"),
]);
const { runSabotaged } = await createJiti(import.meta.url).import("./sabotaged-runtime.ts");
runSabotaged({ createAppIn, httpChannel, systemEnvironment, newCounters });
