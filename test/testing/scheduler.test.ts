// E1 to E4 of src/testing/scheduler.ts.

import { fc, test as propertyTest } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import { pause } from "../../src/environment.ts";
import { EventHeap, type ScheduledEvent } from "../../src/testing/event-heap.ts";
import { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";

const lifeOf = (scheduler: Scheduler, name = "a"): SimulatedLife => new SimulatedLife(scheduler, name);

describe("time", () => {
  propertyTest.prop([fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 }), fc.integer()])(
    "passes from due time to due time, and nothing happens before it is due (E3)",
    async (delays, seed) => {
      const scheduler = new Scheduler({ seed });
      const startMs = scheduler.nowMs;
      const happened: number[] = [];
      for (const delayMs of delays) {
        scheduler.schedule("event", delayMs, () => {
          expect(scheduler.nowMs).toBe(startMs + delayMs);
          happened.push(delayMs);
        });
      }
      await scheduler.pass(50);
      expect(happened).toEqual([...delays].sort((a, b) => a - b));
      expect(scheduler.nowMs).toBe(startMs + 50);
    },
  );

  propertyTest.prop([fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 }), fc.integer()])(
    "in haste passes before all that could happen has, and still nothing is early or lost",
    async (delays, seed) => {
      const scheduler = new Scheduler({ seed, hasteShare: 0.3 });
      const startMs = scheduler.nowMs;
      let happened = 0;
      for (const delayMs of delays) {
        scheduler.schedule("event", delayMs, () => {
          expect(scheduler.nowMs).toBeGreaterThanOrEqual(startMs + delayMs);
          happened += 1;
        });
      }
      while (await scheduler.step());
      expect(happened).toBe(delays.length);
    },
  );

  test("stands still while something can happen, and at the end of what was asked for", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const startMs = scheduler.nowMs;
    let hasHappened = false;
    scheduler.schedule("later", 10.2, () => {
      hasHappened = true;
    });
    await scheduler.settle();
    expect(scheduler.nowMs).toBe(startMs);
    expect(await scheduler.until(() => hasHappened, 5)).toBe(false);
    expect(await scheduler.until(() => hasHappened, 20)).toBe(true);
    expect(scheduler.nowMs).toBe(startMs + 11); // whole ms, never early
  });
});

describe("an event", () => {
  test("is followed by all that follows from it at once, before the next one (E1)", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const seen: string[] = [];
    for (const name of ["a", "b", "c"]) {
      scheduler.schedule(name, 0, () => {
        scheduler.afterwards(() => seen.push(`${name} over`));
        void Promise.resolve()
          .then(() => undefined)
          .then(() => seen.push(`${name} promise`));
        setImmediate(() => seen.push(`${name} immediate`));
      });
    }
    await scheduler.settle();
    expect(seen).toHaveLength(9);
    for (let i = 0; i < 9; i += 3) {
      const name = seen[i]!.slice(0, 1);
      expect(seen.slice(i, i + 3)).toEqual([`${name} promise`, `${name} immediate`, `${name} over`]);
    }
  });

  test("that was taken back does not happen; taking back one that happened is harmless", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const seen: string[] = [];
    const [now, later, kept] = [0, 5, 5].map((delayMs, i) => scheduler.schedule("x", delayMs, () => seen.push(`${i}`)));
    now!.cancel();
    later!.cancel();
    await scheduler.pass(10);
    kept!.cancel();
    expect(seen).toEqual(["2"]);
    expect(scheduler.canMove).toBe(false);
    expect(await scheduler.step()).toBe(false);
  });

  test("of several that can happen is picked by the seed, the same one for the same seed (E2)", async () => {
    const orderOf = async (seed: number): Promise<string> => {
      const trace: string[] = [];
      const scheduler = new Scheduler({ seed, onEvent: ({ label, process }) => trace.push(`${process} ${label}`) });
      const life = lifeOf(scheduler);
      for (let i = 0; i < 8; i += 1) life.schedule(`${i}`, 0, () => undefined);
      await scheduler.settle();
      expect([...trace].sort()).toEqual(Array.from({ length: 8 }, (_, i) => `a ${i}`));
      return trace.join();
    };
    expect(await orderOf(3)).toBe(await orderOf(3));
    expect(await orderOf(3)).not.toBe(await orderOf(4));
  });
});

describe("a process (E4)", () => {
  test("that is dead does nothing more", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const life = lifeOf(scheduler);
    const seen: string[] = [];
    life.soon(() => seen.push("soon"));
    life.after(5, () => seen.push("timer"));
    void pause(life, 5).then(() => seen.push("pause"));
    life.kill();
    life.soon(() => seen.push("after its death"));
    expect(await scheduler.step()).toBe(false);
    expect(seen).toEqual([]);
  });

  test("that is paused does nothing until it goes on, and then all that came meanwhile; others are not held up", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const [paused, other] = [lifeOf(scheduler, "paused"), lifeOf(scheduler, "other")];
    const seen: string[] = [];
    paused.soon(() => seen.push("paused soon"));
    paused.after(5, () => seen.push("paused timer"));
    other.after(10, () => seen.push("other timer"));
    paused.pause();
    await scheduler.pass(20);
    expect(seen).toEqual(["other timer"]);
    paused.resume();
    await scheduler.settle();
    expect(seen.slice(1).sort()).toEqual(["paused soon", "paused timer"]);
  });

  test("that dies while it is paused stays silent", async () => {
    const scheduler = new Scheduler({ seed: 1 });
    const life = lifeOf(scheduler);
    let hasHappened = false;
    life.soon(() => {
      hasHappened = true;
    });
    life.pause();
    await scheduler.pass(1);
    life.kill();
    life.resume();
    await scheduler.pass(1);
    expect(hasHappened).toBe(false);
  });
});

propertyTest.prop([fc.array(fc.oneof(fc.nat(20), fc.constant(null)), { maxLength: 200 })])(
  "a heap gives back what is due, the earliest first, and in the order in which it came in",
  (steps) => {
    const heap = new EventHeap();
    const model: ScheduledEvent[] = [];
    steps.forEach((atMs, order) => {
      if (atMs !== null) {
        const event = { life: null, label: "", run: () => undefined, atMs, order };
        heap.push(event);
        model.push(event);
        return;
      }
      const dueMs = order % 20;
      model.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      expect(heap.firstAtMs).toBe(model[0]?.atMs ?? null);
      const expected = (model[0]?.atMs ?? Number.POSITIVE_INFINITY) <= dueMs ? model.shift() : undefined;
      expect(heap.takeDue(dueMs)).toBe(expected ?? null);
    });
  },
);

test("events that follow each other without end while time stands still are an error, not a run without end", async () => {
  const scheduler = new Scheduler({ seed: 1 });
  const again = (): void => void scheduler.schedule("again", 0, again);
  again();
  await expect(scheduler.settle()).rejects.toThrow('The next one: "again" of the world.');
});
