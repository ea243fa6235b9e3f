// W1 to W3 of src/testing/simulated-store.ts: what each fate of a call means to who made it and to the store.

import { beforeEach, describe, expect, test } from "vitest";
import { StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import { type CallFate, type CallStage, SimulatedStore, smoothWays } from "../../src/testing/simulated-store.ts";

let scheduler: Scheduler;
let life: SimulatedLife;
let data: MemoryData;
let store: SimulatedStore;
let fate: CallFate;
let stages: CallStage[];
let onStage: (stage: CallStage) => void;

beforeEach(() => {
  scheduler = new Scheduler({ seed: 1 });
  life = new SimulatedLife(scheduler, "a");
  data = new MemoryData();
  fate = "pass";
  stages = [];
  onStage = () => undefined;
  store = new SimulatedStore(scheduler, life, new MemoryStore(new SimulatedLife(scheduler, "redis"), data), {
    ...smoothWays,
    fate: () => fate,
    reached: (_call, stage) => {
      stages.push(stage);
      onStage(stage);
    },
  });
});

/** How an append ends for who made it: a reply's kind, an error, or "silence". */
async function append(): Promise<unknown> {
  let end: unknown = "silence";
  store
    .shard(0)
    .append(new Uint8Array([1]), 1_000)
    .then(
      ({ kind }) => {
        end = kind;
      },
      (error: unknown) => {
        end = error;
      },
    );
  await scheduler.pass(10_000);
  return end;
}

const kept = (): number => data.shard(0).inbox.entries.length;

describe("a call that", () => {
  test("passes is done and answered", async () => {
    expect(await append()).toBe("appended");
    expect([kept(), stages]).toEqual([1, ["before", "done", "after"]]);
  });

  test("is refused is not done, and says so", async () => {
    fate = "refused";
    expect(await append()).toBeInstanceOf(StoreNotReadyError);
    expect(kept()).toBe(0);
  });

  test("is lost, unanswered or a ghost has an unknown outcome, and is done but for the lost one", async () => {
    for (const [each, isDone] of [
      ["lost", 0],
      ["unanswered", 1],
      ["ghost", 2],
    ] as const) {
      fate = each;
      expect(await append()).toBeInstanceOf(StoreUnavailableError);
      expect(kept()).toBe(isDone);
    }
  });
});

describe("a process that dies", () => {
  test.each([
    ["before", 0],
    ["done", 1],
    ["after", 1],
  ] as const)(
    "%s a call hears nothing of it unless it is over, and what has left is done (W1)",
    async (when, isDone) => {
      onStage = (stage) => {
        if (stage === when) life.kill();
      };
      expect(await append()).toBe(when === "after" ? "appended" : "silence");
      expect(kept()).toBe(isDone);
      expect(await append()).toBe("silence");
      expect(kept()).toBe(isDone);
    },
  );

  test("while its request is on its way has it done", async () => {
    const silent = append();
    life.kill();
    expect(await silent).toBe("silence");
    expect(kept()).toBe(1);
  });
});

test("a process that is paused before a call makes it when it goes on", async () => {
  onStage = (stage) => {
    if (stage === "before") life.pause();
  };
  expect(await append()).toBe("silence");
  expect(kept()).toBe(0);
  life.resume();
  await scheduler.settle();
  expect(kept()).toBe(1);
});

describe("a connection that breaks", () => {
  test("leaves what is under way with an unknown outcome, and refuses what comes until it is back", async () => {
    const readiness: boolean[] = [];
    store.onReadyChange((isReady) => readiness.push(isReady));
    let isBroken = false;
    onStage = (stage) => {
      if (stage !== "done" || isBroken) return;
      isBroken = true;
      store.disconnect();
    };
    expect(await append()).toBeInstanceOf(StoreUnavailableError);
    expect([kept(), store.isReady()]).toEqual([1, false]);
    expect(await append()).toBeInstanceOf(StoreUnavailableError);
    expect(kept()).toBe(1);
    store.reconnect();
    expect(await append()).toBe("appended");
    expect(readiness).toEqual([false, true]);
  });
});
