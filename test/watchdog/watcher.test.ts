// What follows from what the watcher sees, without threads.

import { expect, test } from "vitest";
import type { Sample } from "../../src/watchdog/judge.ts";
import { Watcher } from "../../src/watchdog/watcher.ts";

const LIMIT_MS = 1_000;

class World {
  sample: Sample = { beats: 0, cpuMs: 0, atMs: 0, isAsleep: false };
  isDebugged = false;
  frames: readonly string[] | null = ["spin (/srv/bot.ts:12:3)"];
  whileSearching: () => void = () => undefined;
  readonly log: string[] = [];
  readonly #watcher = new Watcher(
    { limitMs: LIMIT_MS, sampleEveryMs: 50, isCpuOfProcess: false },
    {
      sample: () => this.sample,
      isDebugged: () => this.isDebugged,
      find: async () => {
        this.log.push("find");
        this.whileSearching();
        return { frames: this.frames, release: () => this.log.push("release") };
      },
      tell: async (level, fields, message) => {
        this.log.push(`${level} ${JSON.stringify(fields)}`);
        this.words = message;
      },
      end: () => void this.log.push("end"),
    },
  );
  words = "";

  /** So much time passes, and one look is taken. */
  look(passedMs: number, { cpuShare = 1, beats = false, isAsleep = false } = {}): Promise<void> {
    const { beats: before, cpuMs, atMs } = this.sample;
    this.sample = {
      beats: before + (beats ? 1 : 0),
      cpuMs: cpuMs + passedMs * cpuShare,
      atMs: atMs + passedMs,
      isAsleep,
    };
    return this.#watcher.look();
  }

  async looks(times: number, what: { cpuShare?: number; beats?: boolean; isAsleep?: boolean } = {}): Promise<void> {
    for (let i = 0; i < times; i += 1) await this.look(50, what);
  }
}

test("a blocked thread is looked for, told of and ended, in this order", async () => {
  const world = new World();
  await world.looks(19);
  expect(world.log).toEqual([]);
  await world.looks(1);
  const seen = '"cpuMs":1000,"silentMs":1000';
  expect(world.log).toEqual(["find", `fatal {${seen},"frames":["spin (/srv/bot.ts:12:3)"]}`, "end"]);
  expect(world.words).toMatch(/nothing admitted is lost.*mend the code in frames/);
});

test("one that shows no frame is ended, too, and the line says why there is none", async () => {
  const world = new World();
  world.frames = null;
  await world.looks(20);
  expect(world.log.at(-1)).toBe("end");
  expect(world.log.at(-2)).toContain('"frames":[]');
  expect(world.words).toContain("native code");
});

test("one that came round while it was looked for goes on, and the next count begins anew (T1)", async () => {
  const world = new World();
  world.whileSearching = () => {
    world.sample = { ...world.sample, beats: 77 };
  };
  await world.looks(20);
  expect(world.log).toEqual(["find", "release", 'warn {"cpuMs":1000,"silentMs":1000}']);
  world.whileSearching = () => undefined;
  await world.looks(19);
  expect(world.log).toHaveLength(3);
  await world.looks(1);
  expect(world.log.at(-1)).toBe("end");
});

test("one look at a time: a search that takes long is not begun again (T2)", async () => {
  const world = new World();
  await world.looks(19);
  await Promise.all([world.look(50), world.look(50), world.look(50)]);
  expect(world.log.filter((entry) => entry === "find")).toHaveLength(1);
});

test("while a debugger is attached nothing is counted; what it held counts from its end (T3)", async () => {
  const world = new World();
  world.isDebugged = true;
  await world.looks(100);
  expect(world.log).toEqual([]);
  world.isDebugged = false;
  await world.looks(21);
  expect(world.log.at(-1)).toBe("end");
});

test("one that is asleep is told of once, never ended, and told of again after it came round", async () => {
  const world = new World();
  const asleep = { cpuShare: 0, isAsleep: true };
  await world.looks(200, asleep);
  expect(world.log).toEqual(['warn {"cpuMs":0,"silentMs":1000}']);
  expect(world.words).toMatch(/synchronous call.*nothing is lost/);
  await world.looks(1, { beats: true });
  await world.looks(200, asleep);
  expect(world.log).toHaveLength(2);
});
