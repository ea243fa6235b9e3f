import type { Metrics } from "../../src/metrics.ts";

/** For servers whose metrics nobody asks for. */
export const silentMetrics: Metrics = { contentType: "text/plain", text: () => Promise.resolve("") };
