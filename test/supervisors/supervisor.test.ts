// V1 to V4 of supervisors/supervisor.ts, and the two trees as they are written down.

import { describe, expect, test } from "vitest";
import { ChildStartError, causeOfStart } from "../../src/errors.ts";
import type { ChildSpec } from "../../supervisors/child-spec.ts";
import type { Shutdown } from "../../supervisors/restart-rules.ts";
import { rootSupervisor } from "../../supervisors/root-supervisor.ts";
import { Supervisor, type SupervisorSpec, supervisorChild } from "../../supervisors/supervisor.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

interface Steps {
  readonly id: string;
  start(): unknown;
  /** Never called before `start`, and once per start. */
  stop(): unknown;
  readonly shutdownMs: Shutdown;
}

/** A child that is two steps: it never ends by itself, cannot be killed, and takes the time it needs to start. */
function stepsChild({ id, start, stop, shutdownMs }: Steps): ChildSpec {
  return {
    id,
    shutdownMs,
    startTimeoutMs: "infinity",
    start: async () => {
      await start();
      return { stop };
    },
  };
}

class Rig {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(1);
  readonly log: RecordingLog = new RecordingLog();
  readonly events: string[] = [];
  readonly gates: Map<string, Gate<void>> = new Map();

  /** A child whose start and stop end when their gate, if there is one, is opened. */
  steps(id: string, shutdownMs = 1_000): Steps {
    const step = (what: string) => async (): Promise<void> => {
      this.events.push(`${what} ${id}`);
      await this.gates.get(`${what} ${id}`)?.promise;
      this.events.push(`${what === "start" ? "started" : "stopped"} ${id}`);
    };
    return { id, shutdownMs, start: step("start"), stop: step("stop") };
  }

  child(id: string, shutdownMs = 1_000): ChildSpec {
    return stepsChild(this.steps(id, shutdownMs));
  }

  hold(step: string): Gate<void> {
    const held = gate();
    this.gates.set(step, held);
    return held;
  }

  supervisor(...children: ChildSpec[]): Supervisor {
    return new Supervisor({ id: "top", strategy: "rest_for_one", children }, this.environment, this.log.log);
  }
}

describe("ordered start, reverse stop (V1)", () => {
  test("a child starts only after all before it have started", async () => {
    const rig = new Rig();
    const held = rig.hold("start b");
    const started = rig.supervisor(rig.child("a"), rig.child("b"), rig.child("c")).start();
    await rig.environment.pass(600_000);
    expect(rig.events).toEqual(["start a", "started a", "start b"]);
    held.open();
    await started;
    expect(rig.events.slice(2)).toEqual(["start b", "started b", "start c", "started c"]);
  });

  test("a child stops only after all behind it have stopped, and each once", async () => {
    const rig = new Rig();
    const supervisor = rig.supervisor(rig.child("a"), rig.child("b"), rig.child("c"));
    await supervisor.start();
    rig.events.length = 0;
    const held = rig.hold("stop b");
    const stopped = supervisor.stop();
    await quiet();
    expect(rig.events).toEqual(["stop c", "stopped c", "stop b"]);
    held.open();
    await stopped;
    expect(rig.events.slice(2)).toEqual(["stop b", "stopped b", "stop a", "stopped a"]);
    await supervisor.stop();
    expect(rig.events).toHaveLength(6);
  });

  test("steps that are plain functions are steps like others", async () => {
    const rig = new Rig();
    const plain = stepsChild({
      id: "plain",
      shutdownMs: 0,
      start: () => void rig.events.push("start plain"),
      stop: () => void rig.events.push("stop plain"),
    });
    const supervisor = rig.supervisor(plain, rig.child("a"));
    await supervisor.start();
    await supervisor.stop();
    expect(rig.events).toEqual(["start plain", "start a", "started a", "stop a", "stopped a", "stop plain"]);
    expect(rig.log.lines).toEqual([]);
  });

  test("a supervisor is a child of another", async () => {
    const rig = new Rig();
    const inner: SupervisorSpec = {
      id: "inner",
      strategy: "rest_for_one",
      children: [rig.child("x"), rig.child("y")],
    };
    const outer = rig.supervisor(rig.child("a"), supervisorChild(inner, rig.environment, rig.log.log), rig.child("b"));
    await outer.start();
    await outer.stop();
    expect(rig.events.filter((event) => /^(start|stop) /.test(event))).toEqual([
      "start a",
      "start x",
      "start y",
      "start b",
      "stop b",
      "stop y",
      "stop x",
      "stop a",
    ]);
  });
});

test("stop says whether every child stopped within its time (V3)", async () => {
  const rig = new Rig();
  const quick = rig.supervisor(rig.child("a"), rig.child("b"));
  await quick.start();
  expect(await quick.stop()).toBe(true);
  rig.hold("stop c");
  const slow = rig.supervisor(rig.child("c", 2_000), rig.child("d"));
  await slow.start();
  const stopped = slow.stop();
  await quiet();
  await rig.environment.pass(2_000);
  expect(await stopped).toBe(false);
});

describe("a failed start (V2)", () => {
  for (const how of ["rejects", "throws"]) {
    test(`that ${how} stops in reverse what had started, starts nothing more, and is the supervisor's own failure`, async () => {
      const rig = new Rig();
      const failure = new Error("port in use");
      const failing = stepsChild({
        id: "failing",
        shutdownMs: 1_000,
        start: () => {
          if (how === "throws") throw failure;
          return Promise.reject(failure);
        },
        stop: () => void rig.events.push("stop failing"),
      });
      const supervisor = rig.supervisor(rig.child("a"), rig.child("b"), failing, rig.child("c"));
      const error = await supervisor.start().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ChildStartError);
      expect(error).toMatchObject({ child: "failing", cause: failure });
      expect(causeOfStart(error)).toBe(failure);
      expect(rig.events.slice(4)).toEqual(["stop b", "stopped b", "stop a", "stopped a"]);
      await supervisor.stop(); // nothing is left to stop
      expect(rig.events).toHaveLength(8);
    });
  }

  test("whose clean-up fails or hangs is still the failure of the start", async () => {
    const rig = new Rig();
    const failure = new Error("the first");
    rig.hold("stop b");
    const supervisor = rig.supervisor(
      stepsChild({ ...rig.steps("a"), stop: () => Promise.reject(new Error("the second")) }),
      rig.child("b", 2_000),
      stepsChild({ ...rig.steps("c"), start: () => Promise.reject(failure) }),
    );
    const started = supervisor.start().catch((error: unknown) => error);
    await quiet();
    await rig.environment.pass(2_000);
    expect(causeOfStart(await started)).toBe(failure);
  });
});

describe("a stop while it starts (V4)", () => {
  test("waits for the child under way, stops it and those before it, and nothing behind it ever starts", async () => {
    const rig = new Rig();
    const held = rig.hold("start b");
    const supervisor = rig.supervisor(rig.child("a"), rig.child("b"), rig.child("c"));
    const started = supervisor.start().catch((error: Error) => error.message);
    await quiet();
    const stopped = supervisor.stop();
    await quiet();
    expect(rig.events).toEqual(["start a", "started a", "start b"]);
    held.open();
    await stopped;
    expect(await started).toMatch(/^top was stopped while it started/);
    expect(rig.events.slice(3)).toEqual(["started b", "stop b", "stopped b", "stop a", "stopped a"]);
  });

  test("resolves after the clean-up of a start that failed meanwhile", async () => {
    const rig = new Rig();
    const held = rig.hold("start b");
    const supervisor = rig.supervisor(rig.child("a"), rig.child("b"));
    const started = supervisor.start().catch((error: unknown) => error);
    await quiet();
    const stopped = supervisor.stop();
    const failure = new Error("called off");
    held.fail(failure);
    await stopped;
    expect(causeOfStart(await started)).toBe(failure);
    expect(rig.events).toEqual(["start a", "started a", "start b", "stop a", "stopped a"]);
  });

  test("one that was stopped before it started, or started already, starts nothing", async () => {
    const rig = new Rig();
    const never = rig.supervisor(rig.child("a"));
    await never.stop();
    await expect(never.start()).rejects.toThrow("stopped");
    expect(rig.events).toEqual([]);
    const twice = rig.supervisor(rig.child("b"));
    await twice.start();
    await expect(twice.start()).rejects.toThrow("already");
    expect(rig.events).toEqual(["start b", "started b"]);
  });
});

describe("a child that does not stop in time (V3)", () => {
  test("is left behind after its own `shutdownMs` and named once; the others stop all the same", async () => {
    const rig = new Rig();
    const supervisor = rig.supervisor(rig.child("a"), rig.child("stuck", 3_000), rig.child("c"));
    await supervisor.start();
    rig.events.length = 0;
    const held = rig.hold("stop stuck");
    const stopped = supervisor.stop();
    await rig.environment.pass(2_999);
    expect(rig.events).toEqual(["stop c", "stopped c", "stop stuck"]);
    await rig.environment.pass(1);
    await stopped;
    expect(rig.events.slice(3)).toEqual(["stop a", "stopped a"]);
    expect(rig.log.at("warn").map((line) => JSON.parse(line) as object)).toMatchObject([
      { supervisor: "top", child: "stuck", shutdownMs: 3_000 },
    ]);
    held.fail(new Error("late")); // its end, whatever it is, crashes nobody
    await quiet();
    expect(rig.log.at("error", "failed to stop")).toHaveLength(1);
  });

  test("one that stops in time leaves no timer", async () => {
    const rig = new Rig();
    const supervisor = rig.supervisor(rig.child("a", 60_000));
    await supervisor.start();
    await supervisor.stop();
    await expect(rig.environment.until(() => false, 600_000, "idle")).rejects.toThrow("idle");
    expect(rig.environment.nowMs()).toBe(new VirtualEnvironment(1).nowMs());
  });

  for (const how of ["rejects", "throws"]) {
    test(`one whose stop ${how} is named, and the others stop all the same`, async () => {
      const rig = new Rig();
      const supervisor = rig.supervisor(
        rig.child("a"),
        stepsChild({
          ...rig.steps("b"),
          stop: () => {
            if (how === "throws") throw new Error("no");
            return Promise.reject(new Error("no"));
          },
        }),
      );
      await supervisor.start();
      await supervisor.stop();
      expect(rig.events.slice(-2)).toEqual(["stop a", "stopped a"]);
      expect(rig.log.at("error", '"child":"b"')).toHaveLength(1);
    });
  }
});

test("the root starts from health to ingress: what lives longest comes first, and stops within the time to drain", () => {
  const rig = new Rig();
  const start = () => ({ stop: () => undefined, kill: () => undefined });
  const spec = rootSupervisor({
    health: start,
    store: start,
    leases: start,
    children: [],
    shards: start,
    observer: start,
    ingress: start,
    drainMs: 10_000,
    environment: rig.environment,
    log: rig.log.log,
  });
  expect(spec.strategy).toBe("rest_for_one");
  const ids = ["health", "store", "leases", "children", "shards", "observer", "ingress"];
  expect(spec.children.map(({ id }) => id)).toEqual(ids);
  const drained = spec.children.filter(({ id }) => ["children", "shards", "ingress"].includes(id));
  expect(drained.reduce((sum, { shutdownMs }) => sum + Number(shutdownMs), 0)).toBeLessThanOrEqual(10_000);
});
