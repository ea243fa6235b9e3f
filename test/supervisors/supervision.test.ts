// What traces and model do not show of the shell: bounds in time, late ends, monitors, kills, log lines, views (V5 to V7, C1 to C3).

import { beforeEach, describe, expect, test } from "vitest";
import { ChildSpecError, ChildStartTimeoutError, SupervisorEndedError } from "../../src/errors.ts";
import type { ChildLink, ChildSpec, RunningChild } from "../../supervisors/child-spec.ts";
import { failedWith, KILLED, NORMAL, SHUTDOWN } from "../../supervisors/exit-reason.ts";
import { familyChild } from "../../supervisors/family.ts";
import type { Down } from "../../supervisors/monitors.ts";
import { Supervisor, type SupervisorSpec, supervisorChild } from "../../supervisors/supervisor.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

let environment: VirtualEnvironment;
let log: RecordingLog;
let events: string[];
let links: Map<string, ChildLink[]>;

beforeEach(() => {
  environment = new VirtualEnvironment(7);
  log = new RecordingLog();
  events = [];
  links = new Map();
});

/** A child that notes what is done to it. */
function child(id: string, spec: Partial<ChildSpec> = {}, running: Partial<RunningChild> = {}): ChildSpec {
  return {
    id,
    start: (link) => {
      events.push(`+${id}`);
      links.set(id, [...(links.get(id) ?? []), link]);
      return {
        stop: () => void events.push(`-${id}`),
        kill: () => void events.push(`x${id}`),
        ...running,
      };
    },
    ...spec,
  };
}

const supervisor = (spec: Partial<SupervisorSpec> & Pick<SupervisorSpec, "children">): Supervisor =>
  new Supervisor({ id: "top", strategy: "one_for_one", ...spec }, environment, log.log);

const link = (id: string, nth = -1): ChildLink => links.get(id)!.at(nth)!;
const crash = (id: string): void => link(id).exited(failedWith(new Error(`${id} broke`)));
const lines = (level: string): Record<string, unknown>[] => log.at(level).map((line) => JSON.parse(line));

async function nothingLeft(): Promise<void> {
  const before = environment.nowMs();
  await environment.until(() => false, 3_600_000, "idle").catch(() => undefined);
  expect(environment.nowMs()).toBe(before);
}

describe("a start that never settles (C1)", () => {
  const stuck = (held: Gate<RunningChild>, spec: Partial<ChildSpec> = {}): ChildSpec => ({
    id: "stuck",
    startTimeoutMs: 2_000,
    start: () => held.promise,
    ...spec,
  });

  test("fails the supervisor's start after `startTimeoutMs`, and what it brings up later is stopped", async () => {
    const held = gate<RunningChild>();
    const top = supervisor({ children: [child("a"), stuck(held)] });
    const started = top.start().catch((error: unknown) => error);
    await environment.pass(1_999);
    expect(events).toEqual(["+a"]);
    await environment.pass(1);
    const error = (await started) as Error;
    expect(error.cause).toBeInstanceOf(ChildStartTimeoutError);
    expect(String(error.cause)).toContain("2000 ms");
    expect(events).toEqual(["+a", "-a"]);
    held.open({ stop: () => void events.push("-late") });
    await quiet();
    expect(events.at(-1)).toBe("-late");
    expect(log.at("warn", "after its time was over")).toHaveLength(1);
    await nothingLeft();
  });

  test("counts as a failed restart, and the next try is another incarnation", async () => {
    const held = gate<RunningChild>();
    let starts = 0;
    const flaky = child("flaky");
    const top = supervisor({
      intensity: 3,
      children: [
        {
          ...flaky,
          startTimeoutMs: 500,
          start: (to) => {
            starts += 1;
            return starts === 2 ? held.promise : flaky.start(to);
          },
        },
      ],
    });
    await top.start();
    crash("flaky");
    await environment.pass(501);
    await quiet();
    expect(starts).toBe(3);
    expect((await top.whichChildren())?.[0]?.child).toBe(3);
    expect(top.tree().restartsLeft).toBe(1);
    held.open({ stop: () => void events.push("-late") });
    await quiet();
    expect(events).toEqual(["+flaky", "+flaky", "-late"]);
  });

  test("holds no stop up for longer than its time-out", async () => {
    const top = supervisor({ children: [child("a"), stuck(gate<RunningChild>())] });
    const started = top.start().catch((error: unknown) => error);
    await quiet();
    const stopped = top.stop();
    await environment.pass(2_000);
    await stopped;
    expect(await started).toBeInstanceOf(Error);
    expect(events).toEqual(["+a", "-a"]);
    await nothingLeft();
  });

  test("a stop while the last child starts is no start of the supervisor", async () => {
    const held = gate<RunningChild>();
    const top = supervisor({ children: [child("a"), stuck(held)] });
    const started = top.start().then(
      () => "started",
      (error: unknown) => error,
    );
    await quiet();
    const stopped = top.stop();
    held.open({ stop: () => void events.push("-stuck") });
    expect(await started).toBeInstanceOf(SupervisorEndedError);
    await stopped;
    expect(events).toEqual(["+a", "-stuck", "-a"]);
  });

  test("one that gives no child is a failed start, and says what it must give", async () => {
    for (const started of [undefined, null, 7, {}, "running"]) {
      const top = supervisor({ children: [{ id: "odd", start: () => started as never }] });
      const error = (await top.start().catch((thrown: unknown) => thrown)) as Error;
      expect(error.cause).toBeInstanceOf(ChildSpecError);
      expect(String(error.cause)).toContain("stop function");
    }
  });
});

describe("late ends of an incarnation (V6)", () => {
  test("that was replaced or stopped change nothing", async () => {
    const top = supervisor({ intensity: 5, children: [child("a"), child("b")] });
    await top.start();
    crash("a");
    await quiet();
    link("a", 0).exited(NORMAL); // the first incarnation once more
    link("a", 0).exited(failedWith("again"));
    await top.terminateChild("b");
    crash("b");
    await quiet();
    expect(events).toEqual(["+a", "+b", "+a", "-b"]);
    expect(await top.countChildren()).toEqual({ specs: 2, active: 1, supervisors: 0, workers: 2 });
  });

  test("that is being stopped ends the wait for its stop, and is no crash", async () => {
    const never = gate();
    const top = supervisor({ children: [child("a", { shutdownMs: "infinity" }, { stop: () => never.promise })] });
    await top.start();
    const stopped = top.stop();
    await quiet();
    crash("a");
    expect(await stopped).toBe(true);
    expect(events).toEqual(["+a"]);
    await nothingLeft();
  });

  test("one that exits while it starts is restarted after its start is over", async () => {
    const top = supervisor({
      children: [
        {
          id: "eager",
          start: async (to) => {
            events.push("+eager");
            if (events.length === 1) to.exited(failedWith("at once"));
            await quiet();
            return { stop: () => undefined };
          },
        },
        child("b"),
      ],
    });
    await top.start();
    await quiet();
    expect(events).toEqual(["+eager", "+b", "+eager"]);
  });

  test("said twice, the first counts; a child that ended is not killed with its supervisor", async () => {
    const top = supervisor({ children: [child("a", { restart: "transient" }), child("b")] });
    await top.start();
    link("a").exited(NORMAL);
    link("a").exited(failedWith("second thoughts"));
    await quiet();
    expect(top.tree().children[0]).toMatchObject({ state: "stopped", lastExit: { reason: "normal" } });
    top.kill();
    expect(events).toEqual(["+a", "+b", "xb"]);
  });

  test("nothing is left of a temporary child that ended: another of its id is new", async () => {
    const top = supervisor({ children: [] });
    await top.start();
    await top.startChild(child("a", { restart: "temporary" }));
    crash("a");
    await quiet();
    expect(top.tree().children).toEqual([]);
    await top.startChild(child("a"));
    expect(top.tree().children[0]!.lastExit).toBeNull();
  });

  test("a reason that is none is what it failed with", async () => {
    const top = supervisor({ children: [child("a", { restart: "transient" })] });
    await top.start();
    link("a").exited("normal" as never);
    await quiet();
    expect(events).toEqual(["+a", "+a"]);
    expect(top.tree().children[0]!.lastExit).toMatchObject({ reason: "error", error: "normal" });
  });
});

describe("stopping (C2)", () => {
  test("one that does not stop in time is killed and named", async () => {
    const top = supervisor({
      children: [child("a"), child("stuck", { shutdownMs: 300 }, { stop: () => new Promise(() => undefined) })],
    });
    await top.start();
    const stopped = top.stop();
    await environment.pass(300);
    expect(await stopped).toBe(false);
    expect(events).toEqual(["+a", "+stuck", "xstuck", "-a"]);
    expect(lines("warn")).toMatchObject([{ supervisor: "top", child: "stuck", shutdownMs: 300 }]);
    await nothingLeft();
  });

  test("brutal_kill does not ask; infinity waits", async () => {
    const slow = gate();
    const top = supervisor({
      children: [
        child("patient", { shutdownMs: "infinity" }, { stop: () => slow.promise }),
        child("brutal", { shutdownMs: "brutal_kill" }),
      ],
    });
    await top.start();
    const stopped = top.stop();
    await environment.pass(3_600_000);
    expect(events).toEqual(["+patient", "+brutal", "xbrutal"]);
    slow.open();
    expect(await stopped).toBe(true);
  });

  test("calls and exits that wait when it is stopped are answered `noproc`, and start nothing", async () => {
    const held = gate();
    const top = supervisor({
      intensity: 9,
      children: [child("a"), child("b", { shutdownMs: "infinity" }, { stop: () => held.promise })],
    });
    await top.start();
    const terminated = top.terminateChild("b");
    await quiet();
    crash("a");
    const waiting = [top.restartChild("b"), top.startChild(child("c")), top.deleteChild("a")];
    const asked = [top.whichChildren(), top.countChildren()];
    const stopped = top.stop();
    held.open();
    expect(await terminated).toEqual({ ok: true });
    await stopped;
    for (const answer of await Promise.all(waiting)) expect(answer).toEqual({ ok: false, error: "noproc" });
    expect(await Promise.all(asked)).toEqual([null, null]);
    expect(await top.terminateChild("a")).toEqual({ ok: false, error: "noproc" });
    expect(await top.whichChildren()).toBeNull();
    expect(events).toEqual(["+a", "+b"]);
  });

  test("kill ends all below at once; what is being started is killed when it comes up", async () => {
    const held = gate<RunningChild>();
    const inner: SupervisorSpec = { id: "inner", strategy: "one_for_all", children: [child("x"), child("y")] };
    const top = supervisor({
      children: [child("a"), supervisorChild(inner, environment, log.log), { id: "late", start: () => held.promise }],
    });
    const started = top.start().catch((error: unknown) => error);
    await quiet();
    top.kill();
    expect(await started).toBeInstanceOf(SupervisorEndedError);
    expect(events.slice(3).sort()).toEqual(["xa", "xx", "xy"]);
    expect(await top.ended).toEqual(KILLED);
    held.open({ stop: () => void events.push("-late"), kill: () => void events.push("xlate") });
    await quiet();
    expect(events.at(-1)).toBe("xlate");
    top.kill();
    await top.stop();
    await nothingLeft();
  });

  test("kill while a child is being stopped: it is killed once, and nobody waits for it any more", async () => {
    const top = supervisor({ children: [child("a"), child("slow", {}, { stop: () => new Promise(() => undefined) })] });
    await top.start();
    const stopped = top.stop();
    await quiet();
    top.kill();
    await stopped;
    await nothingLeft();
    expect(events).toEqual(["+a", "+slow", "xslow", "xa"]);
    expect(log.at("warn")).toEqual([]);
  });

  test("a kill that throws is logged and keeps nobody alive", async () => {
    const bad = {
      kill: () => {
        throw new Error("no");
      },
    };
    const top = supervisor({ children: [child("a"), child("b", {}, bad)] });
    await top.start();
    top.kill();
    expect(events).toEqual(["+a", "+b", "xa"]);
    expect(log.at("error", '"child":"b"')).toHaveLength(1);
  });
});

describe("escalation", () => {
  test("one restart too many ends the supervisor with shutdown, and its parent restarts the whole of it", async () => {
    const inner: SupervisorSpec = { id: "inner", strategy: "one_for_one", children: [child("x"), child("y")] };
    const top = supervisor({ children: [child("a"), supervisorChild(inner, environment, log.log)] });
    await top.start();
    crash("x");
    await quiet();
    crash("x");
    await quiet();
    expect(events).toEqual(["+a", "+x", "+y", "+x", "-y", "+x", "+y"]);
    expect(lines("error")).toMatchObject([
      { supervisor: "inner", child: "x", reason: "error", strategy: "one_for_one", restartsLeft: 0 },
    ]);
    expect(lines("warn")).toMatchObject([
      { supervisor: "inner", child: "x", reason: "error", error: { message: "x broke" }, restartsLeft: 0 },
      { supervisor: "top", child: "inner", reason: "shutdown", strategy: "one_for_one", restartsLeft: 0 },
    ]);
  });

  test("at the root the reason is there for whoever started it, once", async () => {
    const top = supervisor({ intensity: 0, children: [child("a"), child("b")] });
    await top.start();
    const downs: Down[] = [];
    top.monitor(null, (down) => downs.push(down));
    crash("b");
    expect(await top.ended).toEqual(SHUTDOWN);
    expect(events).toEqual(["+a", "+b", "-a"]);
    expect(downs).toEqual([{ supervisor: "top", child: null, incarnation: null, reason: SHUTDOWN }]);
  });
});

describe("monitor", () => {
  test("hears once of a crash, a stop or a kill of the incarnation that ran then", async () => {
    const top = supervisor({ intensity: 9, children: ["a", "b", "c"].map((id) => child(id)) });
    await top.start();
    const downs: [string | null, string, number | null][] = [];
    const hear = ({ child: id, reason, incarnation }: Down): void => void downs.push([id, reason.kind, incarnation]);
    for (const id of ["a", "b", "c"]) top.monitor(id, hear);
    crash("a");
    await top.terminateChild("b");
    crash("a"); // the second incarnation: nobody asked
    await quiet();
    top.kill();
    expect(downs).toEqual([
      ["a", "error", 1],
      ["b", "shutdown", 2],
      ["c", "killed", 3],
    ]);
  });

  test("says `noproc` at once for what is not there, can be taken back, and may throw", async () => {
    const top = supervisor({ intensity: 9, children: [child("a"), child("b")] });
    await top.start();
    await top.terminateChild("b");
    const downs: string[] = [];
    top.monitor("b", ({ reason }) => downs.push(`b ${reason.kind}`));
    top.monitor("nobody", ({ reason }) => downs.push(`nobody ${reason.kind}`));
    const takeBack = top.monitor("a", () => downs.push("taken back"));
    takeBack();
    takeBack();
    top.monitor("a", () => {
      throw new Error("listener");
    });
    top.monitor("a", ({ reason }) => downs.push(`a ${reason.kind}`));
    crash("a");
    top.monitor("a", ({ reason }) => downs.push(`a ${reason.kind}`)); // its exit is known, its restart not made
    await quiet();
    expect(downs).toEqual(["b noproc", "nobody noproc", "a error", "a noproc"]);
    expect(log.at("error", "monitor")).toHaveLength(1);
    await top.stop();
    top.monitor(null, ({ reason }) => downs.push(`top ${reason.kind}`));
    expect(downs.at(-1)).toBe("top noproc");
  });
});

describe("backoff, beyond OTP", () => {
  test("the child is `restarting` meanwhile, the others of its group are stopped at once, and the restart counts once", async () => {
    const top = supervisor({
      strategy: "one_for_all",
      intensity: 2,
      backoff: { baseMs: 1_000, capMs: 1_000 },
      children: [child("a"), child("b")],
    });
    await top.start();
    crash("b");
    await quiet();
    expect(events).toEqual(["+a", "+b", "-a"]);
    expect(await top.restartChild("b")).toEqual({ ok: false, error: "restarting" });
    expect(top.tree().children.map(({ state }) => state)).toEqual(["stopped", "restarting"]);
    await environment.pass(499);
    expect(events).toHaveLength(3);
    await environment.pass(501);
    await quiet();
    expect(events.slice(3)).toEqual(["+a", "+b"]);
    expect(top.tree().restartsLeft).toBe(1);
    await nothingLeft();
  });

  test("one that waits and is terminated, or started by hand, is not started again; a stop leaves no timer", async () => {
    const top = supervisor({
      intensity: 9,
      backoff: { baseMs: 1_000, capMs: 1_000 },
      children: [child("a"), child("b")],
    });
    await top.start();
    crash("a");
    await quiet();
    await top.terminateChild("a");
    expect(await top.restartChild("a")).toMatchObject({ ok: true });
    crash("b");
    await environment.pass(2_000);
    await quiet();
    expect(events).toEqual(["+a", "+b", "+a", "+b"]);
    crash("b");
    await quiet();
    await top.stop();
    await nothingLeft();
  });

  test("the time of a restart that was called off is not that of the next one", async () => {
    const top = supervisor({ intensity: 9, backoff: { baseMs: 10_000, capMs: 10_000 }, children: [child("a")] });
    await top.start();
    crash("a");
    await environment.pass(4_000);
    await top.terminateChild("a");
    await top.restartChild("a");
    crash("a");
    await environment.pass(4_900); // less than half of 10 s: nothing can be due but what was called off
    expect(events).toEqual(["+a", "+a"]);
    await environment.pass(5_200);
    await quiet();
    expect(events).toEqual(["+a", "+a", "+a"]);
  });

  test("a start that keeps failing is counted until the supervisor gives up", async () => {
    let isBroken = false;
    const flaky = child("a");
    const top = supervisor({
      intensity: 3,
      periodMs: 60_000,
      backoff: { baseMs: 100, capMs: 400 },
      children: [
        {
          ...flaky,
          start: (to) => {
            if (isBroken) throw new Error("still down");
            return flaky.start(to);
          },
        },
      ],
    });
    await top.start();
    isBroken = true;
    crash("a");
    await environment.pass(5_000);
    expect(await top.ended).toEqual(SHUTDOWN);
    expect(log.at("warn", "is restarted")).toHaveLength(3);
    await nothingLeft();
  });
});

describe("views", () => {
  test("the tree shows kinds, states, restarts left and last exits, with families rolled up", async () => {
    const pool = familyChild<number>(
      { id: "pool", child: { start: () => ({ stop: () => undefined }) } },
      environment,
      log.log,
    );
    const inner: SupervisorSpec = {
      id: "inner",
      strategy: "rest_for_one",
      intensity: 4,
      children: [child("x", {}, { mailboxDepth: () => 12 }), pool],
    };
    const top = supervisor({ children: [supervisorChild(inner, environment, log.log), child("a")] });
    await top.start();
    crash("x");
    await quiet();
    await top.terminateChild("a");
    expect(top.tree()).toMatchObject({
      id: "top",
      kind: "supervisor",
      strategy: "one_for_one",
      state: "running",
      restartsLeft: 1,
      lastExit: null,
      children: [
        {
          id: "inner",
          kind: "supervisor",
          strategy: "rest_for_one",
          state: "running",
          restartsLeft: 3,
          children: [
            {
              id: "x",
              kind: "worker",
              state: "running",
              mailboxDepth: 12,
              lastExit: { reason: "error" },
              children: [],
            },
            { id: "pool", kind: "supervisor", strategy: "simple_one_for_one", counts: { running: 0 }, children: [] },
          ],
        },
        { id: "a", kind: "worker", state: "stopped", restartsLeft: null, lastExit: { reason: "shutdown" } },
      ],
    });
    expect(JSON.parse(JSON.stringify(top.tree()))).toEqual(top.tree());
    await environment.pass(5_001);
    expect(top.tree().children[0]!.restartsLeft).toBe(4); // the period is over
    await top.stop();
    expect(top.tree().state).toBe("stopped");
  });

  test("child gives what runs under an id", async () => {
    const top = supervisor({ children: [child("a")] });
    expect(top.child("a")).toBeUndefined();
    await top.start();
    const first = top.child("a");
    expect(first).toBeDefined();
    crash("a");
    await quiet();
    expect(top.child("a")).not.toBe(first);
    await top.stop();
    expect(top.child("a")).toBeUndefined();
  });
});

describe("a specification that cannot be used names the field, and nothing is started", () => {
  const bad: [string, Partial<SupervisorSpec>, RegExp][] = [
    ["two children of one id", { children: [child("a"), child("a")] }, /two children named a/],
    ["no id", { children: [child("")] }, /id must be/],
    ["an unknown strategy", { strategy: "all_for_one" as never }, /strategy must be/],
    ["intensity below 0", { intensity: -1 }, /intensity must be/],
    ["intensity that is no whole number", { intensity: 0.5 }, /intensity must be/],
    ["period 0", { periodMs: 0 }, /periodMs must be/],
    ["an unknown autoShutdown", { autoShutdown: "some" as never }, /autoShutdown must be/],
    ["an unknown restart type", { children: [child("a", { restart: "always" as never })] }, /restart must be/],
    ["an unknown type", { children: [child("a", { type: "actor" as never })] }, /type must be/],
    ["a negative shutdown", { children: [child("a", { shutdownMs: -1 })] }, /shutdownMs must be/],
    ["a shutdown that no timer holds", { children: [child("a", { shutdownMs: 2 ** 31 })] }, /shutdownMs must be/],
    ["NaN as time-out", { children: [child("a", { startTimeoutMs: Number.NaN })] }, /startTimeoutMs must be/],
    ["no start", { children: [{ id: "a", start: 7 as never }] }, /start must be/],
    [
      "significant and permanent",
      { autoShutdown: "any_significant", children: [child("a", { significant: true })] },
      /significant must be false for a permanent/,
    ],
    [
      "significant without autoShutdown",
      { children: [child("a", { restart: "transient", significant: true })] },
      /significant must be false unless/,
    ],
  ];
  for (const [what, spec, message] of bad) {
    test(what, () => {
      expect(() => supervisor({ children: [], ...spec })).toThrow(ChildSpecError);
      expect(() => supervisor({ children: [], ...spec })).toThrow(message);
      expect(events).toEqual([]);
    });
  }

  test("startChild rejects with the same error", async () => {
    const top = supervisor({ children: [] });
    await top.start();
    await expect(top.startChild(child("a", { restart: "always" as never }))).rejects.toThrow(/restart must be/);
    expect(await top.countChildren()).toMatchObject({ specs: 0 });
  });
});
