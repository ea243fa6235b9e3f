import { expect, test } from "vitest";
import { createMetrics, newCounters } from "../src/metrics.ts";

const sources = { isReady: () => true, residents: () => 3, undeliveredBytes: () => 0, undecidedBytes: () => 12 };

test("metrics give every count as it stands when they are read, in Prometheus' text format", async () => {
  const counters = newCounters();
  const metrics = createMetrics(counters, sources);
  counters.turns = 5;
  expect(await metrics.text()).toContain("\ncolloquy_turns_total 5\n");
  counters.turns += 2;
  counters.duplicates += 1;
  const text = await metrics.text();
  expect(text).toContain("\ncolloquy_turns_total 7\n");
  expect(text).toContain("\ncolloquy_messages_duplicate_total 1\n");
  expect(text).toContain("\ncolloquy_ready 1\n");
  expect(text).toContain("\ncolloquy_inbox_read_ahead_bytes 12\n");
  expect(metrics.contentType).toContain("text/plain");
});

test("every counter has a name and a help text", async () => {
  const text = await createMetrics(newCounters(), sources).text();
  for (const _ of Object.keys(newCounters()))
    expect(text.match(/^# TYPE colloquy_\w+_total counter$/gm)).toHaveLength(Object.keys(newCounters()).length);
});
