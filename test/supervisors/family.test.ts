// Y1 to Y5 of supervisors/family.ts, beyond what Erlang's traces and the model hold it to.

import { beforeEach, describe, expect, test } from "vitest";
import { ActorSystem } from "../../actors/actor-system.ts";
import { ChildSpecError } from "../../src/errors.ts";
import { type ActorChild, startActor } from "../../supervisors/actor-child.ts";
import type { ChildLink, RunningChild, Started } from "../../supervisors/child-spec.ts";
import { type ExitReason, failedWith, KILLED, NORMAL, SHUTDOWN } from "../../supervisors/exit-reason.ts";
import { Family, type FamilySpec, familyChild } from "../../supervisors/family.ts";
import { Supervisor } from "../../supervisors/supervisor.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

let environment: VirtualEnvironment;
let log: RecordingLog;
let events: string[];
let links: Map<string, ChildLink[]>;
/** Ids whose start waits. */
let starting: Map<string, Gate<RunningChild>>;
/** Ids whose stop waits. */
let stopping: Map<string, Gate<void>>;
let broken: Set<string>;

beforeEach(() => {
  environment = new VirtualEnvironment(3);
  log = new RecordingLog();
  events = [];
  links = new Map();
  starting = new Map();
  stopping = new Map();
  broken = new Set();
});

function running(id: string): RunningChild {
  return {
    stop: () => {
      events.push(`-${id}`);
      return stopping.get(id)?.promise;
    },
    kill: () => void events.push(`x${id}`),
  };
}

function start(link: ChildLink, id: string): Started | Promise<Started> {
  events.push(`+${id}`);
  links.set(id, [...(links.get(id) ?? []), link]);
  if (broken.has(id)) throw new Error(`${id} does not start`);
  return starting.get(id)?.promise ?? running(id);
}

const family = (
  spec: Partial<FamilySpec<number>> & { readonly childOf?: Partial<FamilySpec<number>["child"]> } = {},
) => {
  const { childOf, ...rest } = spec;
  return new Family<number>({ id: "pool", child: { start, ...childOf }, ...rest }, environment, log.log);
};

const exit = (id: string, reason: ExitReason, nth = -1): void => links.get(id)!.at(nth)!.exited(reason);
const crash = (id: string, nth = -1): void => exit(id, failedWith(new Error("broke")), nth);

async function nothingLeft(): Promise<void> {
  const before = environment.nowMs();
  await environment.until(() => false, 36_000_000, "idle").catch(() => undefined);
  expect(environment.nowMs()).toBe(before);
}

describe("children do not wait for each other (Y1)", () => {
  test("one whose start or stop takes long holds up nobody", async () => {
    const pool = family();
    starting.set("slow", gate<RunningChild>());
    const slow = pool.startChild("slow", 0);
    expect(await pool.startChild("quick", 0)).toMatchObject({ ok: true });
    stopping.set("quick", gate());
    const terminated = pool.terminateChild("quick");
    expect(await pool.startChild("other", 0)).toMatchObject({ ok: true });
    starting.get("slow")!.open(running("slow"));
    expect(await slow).toEqual({ ok: true, incarnation: 1 });
    stopping.get("quick")!.open();
    expect(await terminated).toEqual({ ok: true });
    expect(events).toEqual(["+slow", "+quick", "-quick", "+other"]);
  });
});

describe("an id names at most one child (Y2)", () => {
  test("also while it starts, waits for a restart or is being stopped", async () => {
    const pool = family({ intensity: 9, backoff: { baseMs: 1_000, capMs: 1_000 } });
    starting.set("a", gate<RunningChild>());
    void pool.startChild("a", 0);
    expect(await pool.startChild("a", 1)).toEqual({ ok: false, error: "already_started", incarnation: 1 });
    starting.get("a")!.open(running("a"));
    starting.clear();
    await quiet();
    crash("a");
    expect(await pool.startChild("a", 2)).toEqual({ ok: false, error: "already_started", incarnation: 2 });
    await environment.pass(1_001);
    stopping.set("a", gate());
    void pool.terminateChild("a");
    expect(await pool.startChild("a", 3)).toMatchObject({ ok: false, error: "already_started" });
    expect(await pool.terminateChild("a")).toEqual({ ok: false, error: "not_found" });
    stopping.get("a")!.open();
    await quiet();
    expect(await pool.startChild("a", 4)).toMatchObject({ ok: true });
    expect(events).toEqual(["+a", "+a", "-a", "+a"]);
  });

  test("a restart gets the arguments of the first start, and the id", async () => {
    const seen: unknown[] = [];
    const pool = family({
      childOf: {
        start: (link, id, args) => {
          seen.push([id, args]);
          return start(link, id);
        },
      },
    });
    await pool.startChild("a", 42);
    crash("a");
    await quiet();
    expect(seen).toEqual([
      ["a", 42],
      ["a", 42],
    ]);
  });

  test("a late exit, or one said twice, is ignored", async () => {
    const pool = family({ intensity: 9 });
    await pool.startChild("a", 0);
    crash("a");
    crash("a");
    await quiet();
    crash("a", 0);
    await quiet();
    expect(events).toEqual(["+a", "+a"]);
    expect(pool.tree().counts!.restarts).toBe(1);
  });

  test("a start that comes up after its child was terminated, or after its time, is stopped", async () => {
    const pool = family({ childOf: { startTimeoutMs: 1_000 } });
    starting.set("a", gate<RunningChild>()).set("b", gate<RunningChild>());
    const first = pool.startChild("a", 0);
    const second = pool.startChild("b", 0);
    await quiet();
    expect(await pool.terminateChild("a")).toEqual({ ok: true });
    starting.get("a")!.open(running("a"));
    expect(await first).toMatchObject({ ok: false, error: "start_failed" });
    await environment.pass(1_001);
    expect(await second).toMatchObject({ ok: false, reason: { code: "ERR_CHILD_START_TIMEOUT" } });
    starting.get("b")!.open(running("b"));
    await quiet();
    expect(events).toEqual(["+a", "+b", "-a", "-b"]);
    expect(pool.size).toBe(0);
    await nothingLeft();
  });

  test("one terminated while it waits for another try is not tried again", async () => {
    const pool = family({ intensity: 9 });
    await pool.startChild("a", 0);
    broken.add("a");
    crash("a");
    const terminated = pool.terminateChild("a"); // behind the exit, before the next try
    expect(await terminated).toEqual({ ok: true });
    await quiet();
    expect(events).toEqual(["+a", "+a"]);
    expect(pool.size).toBe(0);
  });

  test("a start that throws, gives nothing, or says ignore leaves no child", async () => {
    const pool = family();
    broken.add("a");
    expect(await pool.startChild("a", 0)).toMatchObject({
      ok: false,
      error: "start_failed",
      reason: { message: "a does not start" },
    });
    starting.set("b", gate<RunningChild>());
    const b = pool.startChild("b", 0);
    starting.get("b")!.open("ignore" as never);
    expect(await b).toEqual({ ok: true, incarnation: null });
    const odd = family({ childOf: { start: () => undefined as never } });
    expect(await odd.startChild("c", 0)).toMatchObject({ ok: false, reason: { code: "ERR_CHILD_SPEC" } });
    expect([pool.size, odd.size]).toEqual([0, 0]);
  });
});

describe("intensity per child (Y3)", () => {
  test("one that crashes too often is given up and named; no other child is touched", async () => {
    const givenUp: unknown[] = [];
    const pool = family({
      intensity: 5,
      periodMs: 30_000,
      intensityOf: "child",
      onGivenUp: (id, reason) => void givenUp.push([id, reason.kind]),
    });
    for (const id of ["a", "poison", "z"]) await pool.startChild(id, 0);
    const incarnations = async (): Promise<unknown> =>
      (await pool.whichChildren())!.filter(({ id }) => id !== "poison").map(({ child }) => child);
    const before = await incarnations();
    for (let i = 0; i < 6; i += 1) {
      crash("poison");
      await quiet();
    }
    expect(events.filter((event) => event === "+poison")).toHaveLength(6);
    expect(givenUp).toEqual([["poison", "error"]]);
    expect(await incarnations()).toEqual(before);
    expect(pool.tree().counts).toEqual({ running: 2, starting: 0, restarting: 0, crashing: 1, restarts: 5 });
    expect(log.at("error", '"child":"poison"')).toHaveLength(1);
    expect(log.at("warn", '"restartsLeft":0')).toHaveLength(1);
    expect(await pool.startChild("poison", 0)).toMatchObject({ ok: true }); // a new life
    crash("poison");
    await quiet();
    expect(pool.size).toBe(3);
  });

  test("crashes that are far enough apart go on for ever", async () => {
    const pool = family({ intensity: 1, periodMs: 5_000, intensityOf: "child" });
    await pool.startChild("a", 0);
    for (let i = 0; i < 20; i += 1) {
      crash("a");
      await environment.pass(5_001);
    }
    expect(pool.tree().counts).toMatchObject({ running: 1, crashing: 0, restarts: 20 });
  });

  test("who is told of it may throw", async () => {
    const pool = family({
      intensity: 0,
      intensityOf: "child",
      onGivenUp: () => {
        throw new Error("told badly");
      },
    });
    await pool.startChild("a", 0);
    crash("a");
    await quiet();
    expect(pool.size).toBe(0);
    expect(log.at("error", "told badly")).toHaveLength(1);
  });

  test("counted for the family, as in OTP, one too many ends it with shutdown", async () => {
    const pool = family({ intensity: 1 });
    for (const id of ["a", "b", "c"]) await pool.startChild(id, 0);
    crash("a");
    crash("b");
    expect(await pool.ended).toEqual(SHUTDOWN);
    expect(events).toEqual(["+a", "+b", "+c", "+a", "-a", "-c"]);
  });
});

describe("storms (Y4)", () => {
  test("when all crash at once restarts are spread, one line says so, none is lost", async () => {
    const pool = family({
      intensity: 5,
      periodMs: 30_000,
      intensityOf: "child",
      storm: { restartsMax: 20, windowMs: 1_000 },
    });
    const startedAtMs: number[] = [];
    for (let i = 0; i < 100; i += 1) await pool.startChild(`c${i}`, 0);
    events.length = 0;
    for (let i = 0; i < 100; i += 1) crash(`c${i}`);
    await quiet();
    expect(events).toHaveLength(10);
    expect(pool.tree().counts).toMatchObject({ running: 10, restarting: 90 });
    let seen = events.length;
    await environment.until(
      () => {
        for (; seen < events.length; seen += 1) startedAtMs.push(environment.nowMs());
        return seen === 100;
      },
      600_000,
      "all are back",
    );
    for (const atMs of startedAtMs)
      expect(startedAtMs.filter((at) => at > atMs - 1_000 && at <= atMs).length).toBeLessThanOrEqual(20);
    expect(pool.tree().counts).toMatchObject({ running: 100, restarting: 0, crashing: 0 });
    expect(log.at("error", "restarts are delayed")).toHaveLength(1);
    await nothingLeft();
  });

  test("a stop or a kill in the storm leaves no timer and starts nobody", async () => {
    for (const how of ["stop", "kill"] as const) {
      const pool = family({ intensity: 9, intensityOf: "child", storm: { restartsMax: 2, windowMs: 60_000 } });
      for (let i = 0; i < 20; i += 1) await pool.startChild(`c${i}`, 0);
      for (let i = 0; i < 20; i += 1) crash(`c${i}`);
      await quiet();
      events.length = 0;
      await pool[how]();
      await nothingLeft();
      expect(events).toEqual([how === "stop" ? "-c0" : "xc0"]);
    }
  });
});

describe("the end (Y5)", () => {
  test("a stop tells all at once, and waits for all, with one time limit", async () => {
    const pool = family({ childOf: { shutdownMs: 2_000 } });
    for (const id of ["a", "b", "c"]) await pool.startChild(id, 0);
    stopping.set("a", gate()).set("c", gate());
    const stopped = pool.stop();
    expect(events.slice(3)).toEqual(["-a", "-b", "-c"]);
    stopping.get("c")!.fail(new Error("badly"));
    await environment.pass(2_001);
    expect(await stopped).toBe(false);
    expect(events.slice(6)).toEqual(["xc", "xa"]); // one failed to stop, one did not in time
    expect(log.at("error", "failed to stop")).toHaveLength(1);
    expect(log.at("warn", "did not stop in time")).toHaveLength(1);
    expect(await pool.startChild("d", 0)).toEqual({ ok: false, error: "noproc" });
    expect(await pool.whichChildren()).toBeNull();
    await nothingLeft();
  });

  test("a stop in time leaves no timer", async () => {
    const pool = family({ childOf: { shutdownMs: 60_000 } });
    for (const id of ["a", "b"]) await pool.startChild(id, 0);
    stopping.set("a", gate());
    const stopped = pool.stop();
    await quiet();
    stopping.get("a")!.open();
    expect(await stopped).toBe(true);
    await nothingLeft();
  });

  test("one that is being terminated, starts or has just exited is not stopped twice", async () => {
    const pool = family({ childOf: { shutdownMs: "infinity" } });
    for (const id of ["a", "b"]) await pool.startChild(id, 0);
    stopping.set("a", gate());
    starting.set("c", gate<RunningChild>());
    const terminated = pool.terminateChild("a");
    const started = pool.startChild("c", 0);
    await quiet();
    crash("b");
    const stopped = pool.stop();
    stopping.get("a")!.open();
    expect(await terminated).toEqual({ ok: true });
    expect(await stopped).toBe(true);
    starting.get("c")!.open(running("c"));
    expect(await started).toMatchObject({ ok: false });
    await quiet();
    expect(events).toEqual(["+a", "+b", "-a", "+c", "-c"]);
    await nothingLeft();
  });

  test("brutal_kill asks nobody", async () => {
    const pool = family({ childOf: { shutdownMs: "brutal_kill" } });
    for (const id of ["a", "b"]) await pool.startChild(id, 0);
    expect(await pool.terminateChild("a")).toEqual({ ok: true });
    expect(await pool.stop()).toBe(true);
    expect(events.slice(2)).toEqual(["xa", "xb"]);
  });

  test("monitors hear of a child's and of the family's end, each once", async () => {
    const pool = family({ intensity: 9 });
    for (const id of ["a", "b", "c"]) await pool.startChild(id, 0);
    const downs: string[] = [];
    const hear = ({ child, reason }: { child: string | null; reason: { kind: string } }) =>
      void downs.push(`${child} ${reason.kind}`);
    for (const id of ["a", "b", "c", "nobody", null]) pool.monitor(id, hear);
    crash("a");
    await pool.terminateChild("b");
    pool.kill();
    expect(downs).toEqual(["nobody noproc", "a error", "b shutdown", "c killed", "null killed"]);
    expect(await pool.ended).toEqual(KILLED);
    pool.kill();
    pool.monitor(null, hear);
    expect(downs.at(-1)).toBe("null noproc");
  });

  test("autoShutdown: the end of a significant child, or of the last, ends it", async () => {
    for (const [autoShutdown, exits] of [
      ["any_significant", 1],
      ["all_significant", 3],
    ] as const) {
      const pool = family({ autoShutdown, childOf: { restart: "transient", significant: true } });
      for (const id of ["a", "b", "c"]) await pool.startChild(id, 0);
      let isOver = false;
      void pool.ended.then(() => {
        isOver = true;
      });
      for (const [i, id] of ["a", "b", "c"].slice(0, exits).entries()) {
        expect([i, isOver]).toEqual([i, false]);
        exit(id, NORMAL);
        await quiet();
      }
      expect(isOver).toBe(true);
    }
  });
});

describe("below a supervisor", () => {
  test("it escalates like any other, and comes back empty", async () => {
    const spec: FamilySpec<number> = { id: "pool", intensity: 0, child: { start } };
    const top = new Supervisor(
      { id: "top", strategy: "one_for_one", children: [familyChild(spec, environment, log.log)] },
      environment,
      log.log,
    );
    await top.start();
    const first = (top.child("pool") as unknown as { family: Family<number> }).family;
    await first.startChild("a", 0);
    crash("a");
    await quiet();
    const second = (top.child("pool") as unknown as { family: Family<number> }).family;
    expect(second).not.toBe(first);
    expect(second.size).toBe(0);
    expect(await first.startChild("b", 0)).toEqual({ ok: false, error: "noproc" });
    await second.startChild("c", 0);
    await top.stop();
    expect(events).toEqual(["+a", "+c", "-c"]);
  });

  test("restart and delete have no meaning, as in OTP; a bad specification names the field", async () => {
    const pool = family();
    expect(await pool.restartChild("a")).toEqual({ ok: false, error: "simple_one_for_one" });
    expect(await pool.deleteChild("a")).toEqual({ ok: false, error: "simple_one_for_one" });
    for (const bad of [{ intensity: -1 }, { periodMs: 0 }, { storm: { restartsMax: 1, windowMs: 1 } }])
      expect(() => family(bad)).toThrow(ChildSpecError);
    expect(() => family({ childOf: { significant: true } })).toThrow(/significant/);
  });
});

test("children that are actors: a crash restarts with a new incarnation, a stop lets them finish, idle siblings are not touched", async () => {
  const crashes: unknown[] = [];
  const system = new ActorSystem({ after: environment.after, onCrash: (_actor, error) => crashes.push(error) });
  const actors = system.family("child");
  const received: string[] = [];
  const pool = new Family<string>(
    {
      id: "pool",
      intensity: 5,
      intensityOf: "child",
      child: {
        start: (link, id) =>
          startActor<string>(
            actors,
            link,
            {
              async receive(message) {
                await Promise.resolve();
                received.push(`${id} ${message}`);
                if (message === "die") throw new Error("own mistake");
              },
            },
            { mailboxMax: 10 },
          ),
      },
    },
    environment,
    log.log,
  );
  for (let i = 0; i < 2_000; i += 1) await pool.startChild(`c${i}`, "");
  const ref = (id: string) => (pool.child(id) as ActorChild<string>).ref;
  const [before, sibling] = [ref("c7"), ref("c8")];
  before.tell("die");
  await quiet();
  expect(ref("c7")).not.toBe(before);
  expect(ref("c8")).toBe(sibling);
  expect(before.tell("late")).toBe(false);
  ref("c7").tell("one");
  ref("c7").tell("two");
  expect(pool.child("c7")!.mailboxDepth!()).toBe(2);
  expect(await pool.stop()).toBe(true);
  expect(received).toEqual(["c7 die", "c7 one", "c7 two"]);
  expect(crashes).toEqual([]);
  system.stop();
});

test("a child that waits out a long backoff keeps no other from its restart", async () => {
  const pool = family({
    intensity: 9,
    intensityOf: "child",
    backoff: { baseMs: 10, capMs: 60_000 },
    storm: { restartsMax: 4, windowMs: 1_000 },
  });
  await pool.startChild("often", 0);
  await pool.startChild("once", 0);
  for (let i = 0; i < 9; i += 1) {
    crash("often");
    if (i < 8) await environment.pass(5_000);
  }
  await quiet();
  crash("once");
  await environment.pass(11);
  expect(events.at(-1)).toBe("+once");
  await environment.pass(5_000);
  expect(events.at(-1)).toBe("+often");
});
