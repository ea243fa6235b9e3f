import { expect, test } from "vitest";
import { RunningTurns } from "../../actors/running-turns.ts";
import type { Turn } from "../../actors/turn.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const [a, b, c] = ["a", "b", "c"] as ConversationKey[];
const turn = (): Turn => ({ timeoutMs: 1_000, deadlineMs: 0, expire: () => undefined }) as unknown as Turn;

test("two shards that each want one alone have it one after the other, and neither waits for ever", () => {
  const running = new RunningTurns(new VirtualEnvironment(1), 10);
  const told: string[] = [];
  const under = turn();
  running.add(under);
  running.leaveAlone(a!, () => told.push("a"), "shard 0");
  running.leaveAlone(b!, () => told.push("b"), "shard 1");
  expect(told).toEqual([]);
  running.remove(under);
  expect(told).toEqual(["a"]);
  expect([a, b, c].map((key) => running.hasRoomFor(key!))).toEqual([true, false, false]);
  running.leaveAlone(null, undefined, "shard 0");
  expect(told).toEqual(["a", "b"]);
  expect([a, b, c].map((key) => running.hasRoomFor(key!))).toEqual([false, true, false]);
  running.leaveAlone(null, undefined, "shard 1");
  expect([a, b, c].map((key) => running.hasRoomFor(key!))).toEqual([true, true, true]);
});

test("a shard that leaves before its turn does not end that of another", () => {
  const running = new RunningTurns(new VirtualEnvironment(1), 10);
  running.leaveAlone(a!, undefined, "shard 0");
  running.leaveAlone(b!, undefined, "shard 1");
  running.leaveAlone(null, undefined, "shard 1");
  expect([a, b].map((key) => running.hasRoomFor(key!))).toEqual([true, false]);
});

test("while one is to run alone, the others are not woken to find no room, again and again", async () => {
  const environment = new VirtualEnvironment(1);
  const running = new RunningTurns(environment, 10);
  let woken = 0;
  const wakeB = (): void => {
    woken += 1;
    if (!running.hasRoomFor(b!)) running.onRoom(b!, wakeB);
  };
  running.leaveAlone(a!);
  running.onRoom(b!, wakeB);
  running.onRoom(c!, () => undefined);
  running.leaveAlone(a!);
  await environment.pass(1_000);
  expect(woken).toBe(0);
  running.onRoom(a!, () => (woken += 10));
  running.leaveAlone(a!);
  expect(woken).toBe(10);
  running.leaveAlone(null);
  await environment.pass(1_000);
  expect(woken).toBe(11);
});
