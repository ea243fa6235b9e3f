// The bot under test runs in the real runtime, but for Redis, the network and the clock: those are simulated, so a crash or a
// week takes milliseconds, and the same seed gives the same run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "colloquy/testing";
import bot from "./bot.ts";

test("it counts the messages of a conversation and remembers a name", async () => {
  const t = await simulate(bot, { seed: 1 });
  await t.user("c1").says("hi");
  await t.user("c1").says("my name is Ada");
  await t.user("c1").says("good morning");
  assert.deepEqual(t.texts("c1"), ["1: hi (say: my name is ...)", "Hello Ada!", "3: Ada says good morning"]);
  assert.deepEqual(t.state("c1"), { count: 3, name: "Ada" });
  await t.close();
});

test("conversations do not see each other", async () => {
  const t = await simulate(bot, { seed: 1 });
  await t.user("c1").says("my name is Ada");
  await t.user("c2").says("hi");
  assert.deepEqual(t.texts("c2"), ["1: hi (say: my name is ...)"]);
  await t.close();
});

test("a crash and a repeated message change nothing", async () => {
  const t = await simulate(bot, { seed: 1 });
  await t.user("c1").says("my name is Ada", { id: "m1" });
  await t.crash(); // as by kill -9: a new process starts from what is stored
  await t.user("c1").says("my name is Ada", { id: "m1" }); // a webhook that was sent twice
  await t.user("c1").says("still there?", { id: "m2" });
  assert.deepEqual(t.texts("c1"), ["Hello Ada!", "2: Ada says still there?"]);
  await t.close();
});
