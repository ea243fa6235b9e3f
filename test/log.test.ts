import { expect, test } from "vitest";
import { StoreUnavailableError } from "../src/errors.ts";
import { createLog, describeError, type LogLevel, silentLog } from "../src/log.ts";

function capture(level: LogLevel = "info") {
  const lines: string[] = [];
  const log = createLog({ level, destination: { write: (line) => lines.push(line) } });
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? "null") };
}

test("a line has its level, time, process, fields and message", () => {
  const { log, last } = capture();
  log.child({ shard: 3 }).warn({ epoch: 7, durationMs: 1.5, ready: false, node: null }, "lease lost");
  expect(last()).toEqual({
    level: "warn",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    pid: process.pid,
    shard: 3,
    epoch: 7,
    durationMs: 1.5,
    ready: false,
    node: null,
    message: "lease lost",
  });
});

test("lines below the level are not written", () => {
  const { log, lines } = capture("warn");
  log.info({}, "no");
  log.debug({}, "no");
  log.error({}, "yes");
  log.fatal({}, "yes");
  expect(lines).toHaveLength(2);
});

test("of an error only its name, code, message and cause are written", () => {
  const { log, last } = capture();
  const reply = Object.assign(new Error("READONLY"), {
    code: "READONLY",
    command: { name: "evalsha", args: ["canary"] },
    previousErrors: [new Error("canary")],
  });
  const error = Object.assign(new StoreUnavailableError("no answer", { cause: reply }), { canary: "canary" });
  log.error({ error, shard: 1 }, "commit failed");
  expect(last().error).toEqual({
    name: "StoreUnavailableError",
    code: "ERR_STORE_UNAVAILABLE",
    message: "no answer",
    cause: { name: "Error", code: "READONLY", message: "READONLY" },
  });
  expect(describeError(error)).toEqual(last().error);
});

test("the stack is written at level debug only", () => {
  const { log, last } = capture("debug");
  log.warn({ error: new Error("x") }, "failed");
  expect(last().error.stack).toContain("log.test.ts");
});

test("what is not plain is named by its kind, what is long or deep is cut, and a cycle ends", () => {
  const { log, last } = capture();
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  class Redis {
    password = "canary";
  }
  log.info(
    { bytes: new Uint8Array(10), redis: new Redis(), run: () => "canary", text: "x".repeat(10_000), cycle, big: 10n },
    "odd",
  );
  expect(last()).toMatchObject({ bytes: "<10 bytes>", redis: "<Redis>", run: "<function>", big: "10" });
  expect(last().text.length).toBeLessThan(600);
  expect(JSON.stringify(last())).not.toContain("canary");
});

test("a field cannot take the place of the line's own", () => {
  const { log, last } = capture();
  log.info({ level: "fatal", message: "other", time: 0, pid: 1 }, "mine");
  expect(last()).toMatchObject({
    level: "info",
    message: "mine",
    pid: process.pid,
    level_: "fatal",
    message_: "other",
  });
});

test("whatever was thrown can be described", () => {
  for (const thrown of [undefined, null, "text", 5, {}, [], Symbol("s")])
    expect(() => JSON.stringify(describeError(thrown))).not.toThrow();
});

test("the silent log says nothing, nor do its children", () => {
  expect(() => silentLog.child({ a: 1 }).error({ error: new Error("x") }, "nothing")).not.toThrow();
});
