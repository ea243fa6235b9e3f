// The app's two ends, with the embedded Redis: what a start that does not get to its end leaves behind.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createApp } from "../src/app.ts";
import type { App } from "../src/app-types.ts";
import { defineBot } from "../src/index.ts";
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
