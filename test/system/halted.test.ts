// 10,000 halted conversations on a real Redis: they take no room in the inbox, a start does not wait for them, and one command
// resolves them, each in its order.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { request } from "undici";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createApp, defineBot, TerminalError } from "../../src/index.ts";
import { run } from "../cli/support/fake-terminal.ts";
import { RedisServer } from "../support/redis-server.ts";
import { until } from "./support/arena.ts";

const HALTED = 10_000;
const SHARDS = 4;
const IN_A_REQUEST = 200;
const TEXTS = ["one", "bad", "two", "three"] as const;
const INBOX_ENTRIES_MAX = 100;
const RESTART_MS_MAX = 3_000;

/** Whether the service behind the bot is away. */
let isAway = true;

const bot = defineBot<{ seen: string[] }>({
  name: "orders",
  version: 1,
  initialState: () => ({ seen: [] }),
  onMessage(state, message, ctx) {
    if (isAway && message.text === "bad") throw new TerminalError("the service is away");
    ctx.reply(message.text);
    return { seen: [...state.seen, message.text] };
  },
});

const dataDir = mkdtempSync(join(tmpdir(), "colloquy-halted-"));
let server: RedisServer;
let redis: Redis;
let app: ReturnType<typeof createApp> | null = null;
let url: string;

beforeAll(async () => {
  server = await RedisServer.start({ args: ["--maxmemory-policy", "noeviction"] });
  redis = new Redis({ path: server.path, lazyConnect: true });
});
afterEach(async () => {
  await app?.stop();
});
afterAll(async () => {
  redis.disconnect();
  await server.remove();
  rmSync(dataDir, { recursive: true, force: true });
});

async function start(): Promise<void> {
  app = createApp({ bots: [bot], port: 0, redis: server.path, dataDir, shards: SHARDS, logLevel: "silent" });
  ({ url } = await app.start());
}

async function post(messages: readonly object[]): Promise<void> {
  await until(
    async () => {
      const { statusCode, body } = await request(`${url}/channels/http/orders`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(messages),
      });
      await body.dump();
      return statusCode === 202;
    },
    { what: "messages to be accepted", withinMs: 30_000 },
  );
}

// biome-ignore lint/suspicious/noExplicitAny: JSON that the tests pick apart
async function get(path: string): Promise<any> {
  const { body } = await request(`${url}${path}`);
  return await body.json();
}

const seen = async (conversation: string): Promise<readonly string[] | undefined> =>
  (await get(`/admin/conversations/orders/http/${conversation}?state=1`)).record?.state?.seen;

test("10,000 halted conversations: inbox < 100 entries, restart <= 3 s, one retry --where resolves them in order", async () => {
  await start();
  for (let from = 0; from < HALTED; from += IN_A_REQUEST) {
    const names = Array.from({ length: IN_A_REQUEST }, (_, i) => `c${from + i}`);
    await post(names.flatMap((conversation) => TEXTS.map((text) => ({ conversation, id: text, text }))));
  }
  await until(async () => (await get("/admin/stats")).open.halted === HALTED, {
    what: "all to be halted",
    withinMs: 120_000,
  });
  const inboxEntries = async (): Promise<number> => {
    const lengths = await Promise.all(
      Array.from({ length: SHARDS }, (_, shard) => redis.xlen(`colloquy:{${String(shard).padStart(2, "0")}}:inbox`)),
    );
    return lengths.reduce((sum, length) => sum + length, 0);
  };
  await until(async () => (await inboxEntries()) < INBOX_ENTRIES_MAX, {
    what: "what waits to leave the inbox",
    withinMs: 30_000,
  });

  await app!.stop();
  const startedAtMs = performance.now();
  await start();
  await post([{ conversation: "healthy", id: "1", text: "hello" }]);
  await until(async () => (await seen("healthy"))?.length === 1, { what: "the first commit", withinMs: 30_000 });
  expect(performance.now() - startedAtMs).toBeLessThanOrEqual(RESTART_MS_MAX);

  isAway = false;
  const retry = run(["retry", "--where", "bot=orders,reason=poison,error~terminal", "--yes", "--json", "--url", url]);
  expect(await retry.code, retry.stderr()).toBe(0);
  const summary = JSON.parse(retry.stdout().trimEnd().split("\n").at(-1)!);
  expect(summary).toMatchObject({ event: "summary", count: HALTED, refused: 0, left: 0, again: 0 });
  await until(async () => Object.values((await get("/admin/stats")).open).every((count) => count === 0), {
    what: "nothing to be unfinished",
    withinMs: 120_000,
  });
  for (let i = 0; i < HALTED; i += 97) expect(await seen(`c${i}`)).toEqual(TEXTS);
  expect(await inboxEntries()).toBeLessThan(INBOX_ENTRIES_MAX);
});
