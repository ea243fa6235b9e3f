// Erlang's own supervisor, recorded by scripts/erlang-traces, against the code and against the model.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { OtpModel } from "../model/otp-model.ts";
import { CodeSubject } from "../support/code-subject.ts";
import { type Action, parseAction, parseNode, type SupNode, type Trace, type TraceSubject } from "../support/trace.ts";

const traces = readFileSync(new URL("./traces.ndjson", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Trace);

type Replay = Pick<Trace, "start" | "steps">;

/** What a subject makes of a trace, in the words of the trace. */
async function replay(subject: TraceSubject, trace: Trace): Promise<Replay> {
  const failing = trace.failing.map((words) => parseAction(`fail_next ${words}`).action);
  const tree = parseNode(trace.tree) as SupNode;
  const started = await subject.start(tree, trace.periodMs, failing as Extract<Action, { kind: "fail_next" }>[]);
  let shape = started.shape;
  const steps = [
    { ...(shape !== "" && { after: shape }), events: started.events.join(" ") },
  ] as Trace["steps"][number][];
  for (const step of trace.steps.slice(1)) {
    if (step.do![0] === "end") {
      steps.push({ do: ["end"], events: (await subject.end()).events.join(" ") });
      continue;
    }
    const parsed = step.do!.map(parseAction);
    const outcome = await subject.step(
      step.on!,
      parsed.map(({ action }) => action),
    );
    const done = step.do!.map((text, i) =>
      text.includes(" =") ? `${text.split(" = ")[0]!.replace(/ =$/, "")} = ${outcome.answers[i]}`.trimEnd() : text,
    );
    steps.push({
      ...(outcome.shape !== shape && { after: outcome.shape }),
      do: done,
      events: outcome.events.join(" "),
      on: step.on!,
    });
    shape = outcome.shape;
  }
  return { start: started.answers[0]!, steps };
}

function recorded(trace: Trace): Replay {
  const steps = trace.steps.map((step) => ({
    ...step,
    ...(step.do && { do: step.do.map((text) => text.trimEnd()) }),
  }));
  if (steps[0]!.after === "") delete (steps[0] as { after?: string }).after;
  return { start: trace.start, steps };
}

/** The first step in which they part, with the ones before it. */
function firstDifference(erlang: Replay, got: Replay): string | null {
  if (isDeepStrictEqual(erlang, got)) return null;
  if (erlang.start !== got.start) return `start: Erlang ${erlang.start}, here ${got.start}`;
  const i = erlang.steps.findIndex((step, at) => !isDeepStrictEqual(step, got.steps[at]));
  const before = erlang.steps.slice(0, i).map((step) => JSON.stringify(step));
  return [...before, `Erlang ${JSON.stringify(erlang.steps[i])}`, `here   ${JSON.stringify(got.steps[i])}`].join("\n");
}

describe.each<[string, () => TraceSubject]>([
  ["the model", () => new OtpModel()],
  ["the code", () => new CodeSubject()],
])("%s does what Erlang did", (_name, makeSubject) => {
  test(`in each of ${traces.length} traces`, async () => {
    const wrong: string[] = [];
    for (const trace of traces) {
      const difference = firstDifference(recorded(trace), await replay(makeSubject(), trace));
      if (difference !== null) wrong.push(`seed ${trace.seed}: ${JSON.stringify(trace.tree)}\n${difference}`);
    }
    expect(`${wrong.length} differ\n${wrong.slice(0, 3).join("\n\n")}`).toBe("0 differ\n");
  });
});

test("the traces show what they are there for", () => {
  const texts = traces.map((trace) => JSON.stringify(trace));
  const having = (pattern: RegExp): number => texts.filter((text) => pattern.test(text)).length;
  expect(traces.length).toBeGreaterThanOrEqual(300);
  expect(new Set(traces.map(({ seed }) => seed)).size).toBe(traces.length);
  for (const word of ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"])
    expect(having(new RegExp(`s\\d+ ${word} `)), word).toBeGreaterThan(30);
  for (const word of [
    "permanent",
    "transient",
    "temporary",
    "significant",
    "stubborn",
    "brutal_kill",
    "any_significant",
  ])
    expect(having(new RegExp(`[ "]${word}`)), word).toBeGreaterThan(30);
  for (const verb of ["exit", "fail_next", "start_new", "start", "terminate", "restart", "delete", "which", "count"])
    expect(having(new RegExp(`"${verb}[ "]`)), verb).toBeGreaterThan(30);
  for (const reason of ["normal", "shutdown", "shutdown_term", "error", "kill"])
    expect(having(new RegExp(`exit \\S+ ${reason}"`)), reason).toBeGreaterThan(20);
  for (const answer of [
    "already_present",
    "already_started",
    "not_found",
    "running",
    "restarting",
    "start_failed",
    "noproc",
  ])
    expect(having(new RegExp(`= ${answer}"`)), answer).toBeGreaterThan(4);
  expect(having(/"over"/), "ends by intensity or autoShutdown").toBeGreaterThan(50);
  expect(having(/"start":"failed/), "failed starts of the root").toBeGreaterThan(10);
  expect(having(/"events":"[^"]*!/), "failed starts").toBeGreaterThan(50);
  expect(having(/"wait 2200/), "periods that pass").toBeGreaterThanOrEqual(20);
});
