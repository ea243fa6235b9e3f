// The app's two ends, with the embedded Redis: what a start that does not get to its end leaves behind.

import { mkdtempSync, rmSync } from "node:fs";
import { Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createApp, createAppIn } from "../src/app.ts";
import type { App } from "../src/app-types.ts";
import { systemEnvironment } from "../src/environment.ts";
import { defineBot } from "../src/index.ts";
import { newCounters } from "../src/metrics.ts";
import { openDataFolder } from "../src/store/data-folder.ts";
import { redisProcessesOf } from "../src/store/redis-process.ts";

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "colloquy-app-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const bot = defineBot<null>({ name: "b", version: 1, initialState: () => null, onMessage: (state) => state });
const newApp = (redis?: string): App =>
  createApp({ bots: [bot], dataDir, port: 0, logLevel: "silent", ...(redis && { redis }) });

test("stopped while its Redis starts, it resolves when that one has ended", async () => {
  const app = newApp();
  const started = app.start().catch(() => "not started");
  while ((await redisProcessesOf(dataDir)).length === 0) await new Promise((resolve) => setImmediate(resolve));
  await app.stop();
  expect(await redisProcessesOf(dataDir)).toEqual([]);
  expect(await started).toBe("not started");
});

test("stopped while it starts on a Redis of the user's, nothing of it runs afterwards", async () => {
  const app = newApp("redis://127.0.0.1:1");
  const started = app.start().catch((error: Error) => error.message);
  await app.stop();
  expect(await started).toMatch(/stopped while it started/);
});

test("a start that fails gives the data folder back", async () => {
  const app = newApp("redis://127.0.0.1:1/not-a-number");
  await expect(app.start()).rejects.toThrow(/^redis: /);
  const folder = await openDataFolder(dataDir);
  expect(folder.holdsLock).toBe(true);
  await folder.close();
});

test("a life that ends by stop leaves crashed pending, also one that never started", async () => {
  const app = newApp("redis://127.0.0.1:1");
  await app.stop();
  const crashed = await Promise.race([app.crashed, new Promise((resolve) => setImmediate(resolve, "pending"))]);
  expect(crashed).toBe("pending");
});

test("its port closed from outside, all of it is made anew, also a standby's wait for the data folder", async () => {
  const owner = newApp();
  await owner.start();
  const listens = vi.spyOn(Server.prototype, "listen");
  const standby = createAppIn(
    { environment: systemEnvironment, counters: newCounters() },
    { bots: [bot], dataDir, port: 0, logLevel: "silent" },
  );
  await standby.start();
  const closed = performance.now();
  (listens.mock.contexts[0] as Server).close();
  listens.mockClear();
  await expect.poll(() => listens.mock.calls.length, { timeout: 20_000 }).toBe(1);
  expect(performance.now() - closed).toBeLessThan(5_000);
  await expect.poll(() => standby.tree().children.map(({ state }) => state)).not.toContain("stopped");
  await standby.stop();
  await owner.stop();
  listens.mockRestore();
}, 60_000);
