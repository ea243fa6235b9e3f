// Metrics reference: docs/metrics.md, made from the table in src/metrics.ts. A test keeps the committed file up to date.
//
// Usage: node scripts/metrics-reference.mjs        writes docs/metrics.md

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";

const HEAD = `# Metrics

<!-- Made by scripts/metrics-reference.mjs from src/metrics.ts. Do not edit: change the table and run the script. -->

\`GET /metrics\` gives them in Prometheus' text format: to this machine, to others with the admin token
([who may ask](adr/0012-who-may-ask-the-port.md)). Counts are those of this process since it started. Gauges sum the shards that this node
owns, so that nodes can be added up; what is not known now is left out. No metric has the id of a conversation as a label: ids are in
the log and in [\`/admin\`](admin.md).

\`\`\`yaml
scrape_configs:
  - job_name: colloquy
    authorization: { credentials_file: /etc/prometheus/colloquy-token } # not needed on the same machine
    static_configs: [{ targets: ["127.0.0.1:4000"] }]
\`\`\`

[docs/alerts.yml](alerts.yml) has the alerts worth having, as Prometheus rules; each says what to do.

`;

const DURATIONS = `
The bounds of all histograms are, in seconds: BUCKETS. A clock is not read for each message: where the help says "the first of
each wake-up", the others of that wake-up are not measured. Every message counts in the counters.
`;

const OTEL = `
## OpenTelemetry

The runtime records nothing through OpenTelemetry's API; its collector reads \`/metrics\` and renames. The names on the right are those
of the [messaging conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/), which are still in
development, so they stand in this configuration and not in the runtime. What has no name there keeps its own, behind the dot of its namespace.

| Prometheus | OpenTelemetry | attributes |
| --- | --- | --- |
`;

/**
 * @param {typeof import("../src/metrics.ts")} metrics
 * @returns {string} the whole page
 */
export function metricsReference(metrics) {
  const { COUNTERS, HISTOGRAMS, GAUGES, METRICS, DURATION_BUCKETS } = metrics;
  const sections = [
    section("Counts", COUNTERS),
    section("Durations", HISTOGRAMS) + DURATIONS.replace("BUCKETS", DURATION_BUCKETS.join(", ")),
    section("How things stand", GAUGES),
  ];
  const mapped = METRICS.map((spec) => [
    `\`${spec.name}\``,
    `\`${otelName(spec)}\``,
    Object.entries(spec.otel?.attributes ?? {})
      .map(([name, value]) => `\`${name}=${value}\``)
      .join(", "),
  ]);
  return `${HEAD}${sections.join("\n")}${OTEL}${mapped.map(row).join("")}
\`\`\`yaml
${collector(METRICS)}\`\`\`
`;
}

function section(title, table) {
  const titles = ["metric", "type", "unit", "labels", "what it is"];
  const rows = Object.values(table).map(({ name, type, unit, labels = [], help }) => [
    `\`${name}\``,
    type,
    unit,
    labels.map((label) => `\`${label}\``).join(", "),
    help,
  ]);
  return `## ${title}\n\n${[titles, titles.map(() => "---"), ...rows].map(row).join("")}`;
}

const row = (cells) => `| ${cells.join(" | ")} |\n`;

export const otelName = ({ name, otel }) => otel?.name ?? name.replace("_", ".");

/** Of the collector: what it scrapes and how it renames. */
function collector(specs) {
  const renamed = specs.filter(({ otel }) => otel !== undefined);
  const transforms = renamed.map(({ name, otel }) => {
    const operations = Object.entries(otel.attributes ?? {}).map(
      ([label, value]) => `          - { action: add_label, new_label: ${label}, new_value: ${value} }\n`,
    );
    return `      - include: ${name}
        action: update
        new_name: ${otel.name}
${operations.length > 0 ? "        operations:\n" : ""}${operations.join("")}`;
  });
  return `receivers:
  prometheus:
    config:
      scrape_configs:
        - job_name: colloquy
          static_configs: [{ targets: ["127.0.0.1:4000"] }]
processors:
  metricstransform:
    transforms:
${transforms.join("")}      - include: ^(colloquy|process)_(.*)$$
        match_type: regexp
        action: update
        new_name: $\${1}.$\${2}
`;
}

async function main() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const jiti = createJiti(import.meta.url, { fsCache: false });
  writeFileSync(`${root}docs/metrics.md`, metricsReference(await jiti.import(`${root}src/metrics.ts`)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
