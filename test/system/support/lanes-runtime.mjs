// Loads the built runtime natively and hands it to lanes-runtime.ts: what BullMQ ships cannot be loaded by a transformer.

import { createJiti } from "jiti";

const { createApp, httpChannel } = await import("../../../dist/src/index.js");
const { runLanes } = await createJiti(import.meta.url).import("./lanes-runtime.ts");
await runLanes({ createApp, httpChannel });
