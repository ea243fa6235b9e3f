/** @returns the whole of docs/metrics.md */
export function metricsReference(metrics: typeof import("../src/metrics.ts")): string;
/** The name of a metric for OpenTelemetry. */
export function otelName(spec: import("../src/metrics.ts").MetricSpec): string;
