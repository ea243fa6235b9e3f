// A user's own actor in a tree (supervisors/define-actor.ts).

import { expect, test, vi } from "vitest";
import { ActorSystem, AskError } from "../../actors/actor-system.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { silentLog } from "../../src/log.ts";
import { defineActor } from "../../supervisors/define-actor.ts";
import { Supervisor } from "../../supervisors/supervisor.ts";
import { gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

type Message = { readonly add: number } | { readonly total: (value: number) => void } | "crash";

function counting(rest: { mailboxMax?: number } = {}) {
  let starts = 0;
  const actor = defineActor<Message>({
    id: "counter",
    ...rest,
    start: () => {
      starts += 1;
      let total = 0;
      return {
        receive(message) {
          if (message === "crash") throw new Error("a mistake");
          if ("add" in message) total += message.add;
          else message.total(total);
        },
      };
    },
  });
  const log = new RecordingLog();
  const supervisor = new Supervisor(
    { id: "children", strategy: "one_for_one", children: [actor] },
    systemEnvironment,
    log.log,
  );
  const total = () => actor.ask<number>((answer) => ({ total: answer }), 1_000);
  return { actor, supervisor, log, total, starts: () => starts };
}

test("it takes what it is told in order and answers what it is asked, as long as it runs", async () => {
  const { actor, supervisor, total } = counting();
  expect(actor.tell({ add: 1 })).toBe(false);
  await expect(total()).rejects.toThrow(AskError);
  await supervisor.start();
  for (const add of [1, 2, 3]) expect(actor.tell({ add })).toBe(true);
  expect(await total()).toBe(6);
  actor.tell({ add: 4 });
  const last = total();
  await supervisor.stop();
  expect(await last).toBe(10); // a stop finishes what was accepted
  expect(actor.tell({ add: 5 })).toBe(false);
});

test("one that throws is started again, with nothing of what it knew, under the same address", async () => {
  const { actor, supervisor, log, total, starts } = counting();
  await supervisor.start();
  actor.tell({ add: 7 });
  actor.tell("crash");
  await expect.poll(() => starts()).toBe(2);
  await expect.poll(() => total().catch(() => -1)).toBe(0);
  expect(log.at("warn", "child is restarted")).toHaveLength(1);
  await supervisor.stop();
});

test("a full mailbox takes no more and says so", async () => {
  const { actor, supervisor } = counting({ mailboxMax: 2 });
  await supervisor.start();
  expect([1, 2, 3].map((add) => actor.tell({ add }))).toEqual([true, true, false]);
  await supervisor.stop();
});

test("an incarnation that ended by itself leaves nothing behind", async () => {
  const stops = vi.spyOn(ActorSystem.prototype, "stop");
  const { actor, supervisor, starts } = counting();
  await supervisor.start();
  actor.tell("crash");
  await expect.poll(() => starts()).toBe(2);
  expect(stops).toHaveBeenCalledTimes(1);
  await supervisor.stop();
  expect(stops).toHaveBeenCalledTimes(2);
  stops.mockRestore();
});

test("a start that comes too late does not take the address from the incarnation that runs", async () => {
  const environment = new VirtualEnvironment(1);
  const first = gate();
  let starts = 0;
  const actor = defineActor<(incarnation: number) => void>({
    id: "slow",
    startTimeoutMs: 100,
    start: async () => {
      starts += 1;
      const incarnation = starts;
      if (incarnation === 2) await first.promise;
      return {
        receive(answer) {
          if (incarnation === 1) throw new Error("a mistake");
          answer(incarnation);
        },
      };
    },
  });
  const supervisor = new Supervisor(
    { id: "children", strategy: "one_for_one", intensity: 3, children: [actor] },
    environment,
    silentLog,
  );
  void supervisor.start();
  await quiet();
  actor.tell(() => undefined); // ends the first
  await environment.pass(200); // the second does not come up in time, and a third does
  expect(starts).toBe(3);
  first.open();
  await quiet();
  const told: number[] = [];
  expect(actor.tell((incarnation) => told.push(incarnation))).toBe(true);
  await quiet();
  expect(told).toEqual([3]);
  await supervisor.stop();
});
