// The life of the process: it drains when told to stop, waits for a Redis that is away without ending, says in one line why
// it cannot start, and never writes a user's text to a log.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Arena, embeddedRedisPid, freePort, until } from "./support/arena.ts";
import { seedOfThisRun } from "./support/random.ts";
import { redisOnPort, urlOfRedis } from "./support/redis-on-port.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { isNothing, StoreView } from "./support/store-view.ts";
import { allAnswered, expectPromiseKept, senderReaches, Traffic } from "./support/traffic.ts";

const SOON_MS = 30_000;
const REFUSED_OFTEN_MS = 300_000;
const DRAIN_MS = 10_000;
/** Stopping the embedded Redis and the process itself comes after the drain. */
const AFTER_DRAIN_MS = 5_000;

const seed = seedOfThisRun();
let arena: Arena;
beforeEach(() => {
  arena = new Arena("lifecycle");
});
afterEach(() => arena.cleanUp());

const message = (id: string) => ({ conversation: "c1", id, text: `text of ${id}` });

describe("SIGTERM", () => {
  test("under load drains, exits 0 within drainMs, stops its Redis last, and loses nothing", async () => {
    const traffic = await Traffic.start(arena, seed);
    const data = arena.dataFolder("data");
    const port = await freePort();
    const options = { port, data, deliverTo: traffic.deliverTo };
    let runtime = new RuntimeProcess(arena, options);
    await runtime.ready();
    const size = { conversations: 50, messages: 2_000, thinkMsMax: 60 };
    const sender = await traffic.send("m", { urls: [runtime.url], ...size });
    for (const share of [0.2, 0.4, 0.6]) {
      const reached = ({ answered }: { readonly answered: number }): boolean => answered >= size.messages * share;
      await senderReaches(sender, "SIGTERM", reached, () => runtime.lastWords());
      const { code, signal, tookMs } = await runtime.terminate();
      process.stdout.write(`lifecycle seed ${seed}: SIGTERM under load took ${tookMs.toFixed(0)} ms\n`);
      expect({ code, signal }, runtime.lastWords()).toEqual({ code: 0, signal: null });
      expect(tookMs).toBeLessThan(DRAIN_MS + AFTER_DRAIN_MS);
      expect(embeddedRedisPid(data)).toBeUndefined();
      runtime = new RuntimeProcess(arena, options);
      await runtime.ready();
    }
    await senderReaches(sender, "the last answer", allAnswered, () => runtime.lastWords());
    expectPromiseKept(traffic.history());
    expect(runtime.stdout()).toContain('"wasClean":true'); // each start found that the one before had drained
    expect(runtime.stdout()).not.toContain('"wasClean":false');
  });

  test("in a quiet moment exits 0 in little time, and what could not be delivered stays in the outbox", async () => {
    const traffic = await Traffic.start(arena, seed, { failShare: 0, cutShare: 0 });
    await traffic.sink.ask("refuse", 503);
    const data = arena.dataFolder("data");
    const options = { port: await freePort(), data, deliverTo: traffic.deliverTo };
    const first = new RuntimeProcess(arena, options);
    await first.ready();
    expect((await first.post(message("m1"))).status).toBe(202);
    const attempts = async (): Promise<number> => (await traffic.sink.ask("status", undefined)).attempts;
    await until(async () => (await attempts()) > 0, { what: "a first attempt", withinMs: SOON_MS });
    const { code, tookMs } = await first.terminate();
    expect(code, first.lastWords()).toBe(0);
    expect(tookMs).toBeLessThan(DRAIN_MS + AFTER_DRAIN_MS);

    await traffic.sink.ask("refuse", 0);
    const second = new RuntimeProcess(arena, options);
    await second.ready();
    const delivered = async (): Promise<number> => (await traffic.sink.ask("status", undefined)).delivered;
    await until(async () => (await delivered()) === 1, { what: "the delivery", withinMs: SOON_MS });
    const store = StoreView.ofDataFolder(arena, data);
    await until(async () => isNothing(await store.unfinished()), { what: "an empty outbox", withinMs: SOON_MS });
  });
});

describe("Redis away", () => {
  async function expectAway(runtime: RuntimeProcess): Promise<void> {
    await runtime.reaches("/readyz", 503, SOON_MS);
    expect((await runtime.get("/livez")).status).toBe(200);
    const refused = await runtime.post(message("while-away"));
    expect(refused.status).toBe(503);
    expect(refused.headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  }

  async function expectWorks(runtime: RuntimeProcess, traffic: Traffic, id: string): Promise<void> {
    await runtime.ready();
    const before = (await traffic.sink.ask("status", undefined)).delivered;
    expect((await runtime.post(message(id))).status).toBe(202);
    const delivered = async (): Promise<number> => (await traffic.sink.ask("status", undefined)).delivered;
    const explain = (): string => runtime.lastWords();
    await until(async () => (await delivered()) > before, { what: `the reply to ${id}`, withinMs: SOON_MS, explain });
  }

  test("at the start, and later again: alive, not ready, 503 with Retry-After, and works when it comes", async () => {
    const traffic = await Traffic.start(arena, seed, { failShare: 0, cutShare: 0 });
    const redisPort = await freePort();
    const runtime = new RuntimeProcess(arena, {
      port: await freePort(),
      data: arena.dataFolder("data"),
      redis: urlOfRedis(redisPort),
      deliverTo: traffic.deliverTo,
    });
    await runtime.reaches("/livez", 200, SOON_MS);
    await expectAway(runtime);

    const redis = await redisOnPort(arena, redisPort);
    await expectWorks(runtime, traffic, "m1");

    await redis.kill();
    await expectAway(runtime);
    await redis.start();
    await expectWorks(runtime, traffic, "m2");

    redis.pause(); // connections stay open and nobody answers
    await expectAway(runtime);
    redis.resume();
    await expectWorks(runtime, traffic, "m3");
    expect(runtime.isOver).toBe(false);
    expect(await runtime.terminate()).toMatchObject({ code: 0 });
  });

  test("under load, killed and stopped in turn: nothing is lost, doubled or out of order", async () => {
    const traffic = await Traffic.start(arena, seed);
    const redisPort = await freePort();
    const redis = await redisOnPort(arena, redisPort);
    const runtime = new RuntimeProcess(arena, {
      port: await freePort(),
      data: arena.dataFolder("data"),
      redis: urlOfRedis(redisPort),
      deliverTo: traffic.deliverTo,
    });
    await runtime.ready();
    const size = { conversations: 50, messages: 2_000, thinkMsMax: 60 };
    const sender = await traffic.send("m", { urls: [runtime.url], ...size });
    for (const [i, how] of (["killed", "stopped", "killed", "stopped"] as const).entries()) {
      const reached = ({ answered }: { readonly answered: number }): boolean =>
        answered >= size.messages * 0.2 * (i + 1);
      await senderReaches(sender, `Redis to be ${how}`, reached, () => runtime.lastWords());
      if (how === "killed") await redis.kill();
      else redis.pause();
      await runtime.reaches("/readyz", 503, SOON_MS);
      if (how === "killed") await redis.start();
      else redis.resume();
      await runtime.ready();
    }
    await senderReaches(sender, "the last answer", allAnswered, () => runtime.lastWords());
    const store = new StoreView(arena, urlOfRedis(redisPort));
    await until(async () => isNothing(await store.unfinished()), { what: "an empty store", withinMs: SOON_MS });
    expectPromiseKept(traffic.history());
  });

  test("SIGTERM while it is away ends the process all the same, within its time", async () => {
    const runtime = new RuntimeProcess(arena, {
      port: await freePort(),
      data: arena.dataFolder("data"),
      redis: urlOfRedis(await freePort()),
    });
    await runtime.reaches("/livez", 200, SOON_MS);
    const { code, signal, tookMs } = await runtime.terminate();
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    expect(tookMs).toBeLessThan(DRAIN_MS + AFTER_DRAIN_MS);
  });
});

describe("what cannot start says why in one line", () => {
  /** The lines on stderr, and the exit code. */
  async function failure(options: Partial<ConstructorParameters<typeof RuntimeProcess>[1]>) {
    const name = "failing";
    const port = await freePort();
    const runtime = new RuntimeProcess(arena, { name, port, data: arena.dataFolder("data"), ...options });
    const { code } = await runtime.end(SOON_MS);
    return { code, lines: runtime.stderr().trimEnd().split("\n"), stdout: runtime.stdout() };
  }

  test("a port that is in use: exit 2", async () => {
    const port = await freePort();
    const holder = createServer().listen(port, "127.0.0.1");
    arena.onCleanUp(() => holder.close());
    const { code, lines } = await failure({ port });
    expect({ code, lines: lines.length }, lines.join("\n")).toEqual({ code: 2, lines: 1 });
    expect(lines[0]).toMatch(/port/);
    expect(lines[0]).toContain(String(port));
    await until(() => embeddedRedisPid(arena.path("data")) === undefined, { what: "no Redis left", withinMs: SOON_MS });
  });

  test("a bot file that is not there, does not compile, throws, or has no bot: exit 2", async () => {
    const files = {
      "missing.ts": undefined,
      "broken.ts": "export default {{{",
      "throws.ts": "throw new Error('from the bot file')",
      "empty.ts": "export const nothing = 1;",
      "wrong.ts": "export default { name: 'Not A Name', version: 0 }",
    };
    for (const [name, text] of Object.entries(files)) {
      const bot = arena.path(name);
      if (text !== undefined) writeFileSync(bot, text);
      const port = await freePort();
      const runtime = new RuntimeProcess(arena, { name, port, data: arena.dataFolder("data"), bot });
      const { code } = await runtime.end(SOON_MS);
      const lines = runtime.stderr().trimEnd().split("\n");
      expect(code, `${name}: ${lines.join("\n")}`).toBe(2);
      expect(
        lines.every((line) => line.startsWith("colloquy: ")),
        lines.join("\n"),
      ).toBe(true);
      expect(lines.join("\n")).not.toMatch(/^\s+at /m);
    }
  });

  test("a setting that is wrong: exit 2 and a line that names it", async () => {
    const { code, lines } = await failure({ args: ["--durability", "sometimes"] });
    expect({ code, lines: lines.length }, lines.join("\n")).toEqual({ code: 2, lines: 1 });
    expect(lines[0]).toMatch(/durability/);
  });

  test.each([
    ["no append-only file", ["--appendonly", "no"], /appendonly/],
    ["an fsync each second", ["--appendfsync", "everysec"], /appendfsync/],
    ["eviction", ["--maxmemory-policy", "allkeys-lru"], /maxmemory-policy/],
  ])("a Redis with %s: exit 3 and a line that names the setting", async (_what, args, named) => {
    const redisPort = await freePort();
    await redisOnPort(arena, redisPort, args);
    const { code, lines } = await failure({ redis: urlOfRedis(redisPort) });
    expect(code, lines.join("\n")).toBe(3);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(named);
  });

  test("a weaker Redis that was asked for by name starts, and says so", async () => {
    const redisPort = await freePort();
    await redisOnPort(arena, redisPort, ["--appendfsync", "everysec"]);
    const runtime = new RuntimeProcess(arena, {
      port: await freePort(),
      data: arena.dataFolder("data"),
      redis: urlOfRedis(redisPort),
      args: ["--durability", "everysec"],
    });
    await runtime.ready();
    const isSaid = (): boolean => /WARNING.*everysec/.test(runtime.stderr());
    await until(isSaid, { what: "a warning", withinMs: SOON_MS, explain: () => runtime.lastWords() });
  });
});

describe("a user's text is in no log", () => {
  const CANARY = "canary-7f3a91c2";

  /** Fails as bots fail: with the user's words in its error. */
  const BOT = `
    import { defineBot } from "colloquy";
    export default defineBot({
      name: "canary",
      version: 1,
      initialState: () => ({ failed: false, n: 0 }),
      async onMessage(state, message, ctx) {
        if (message.text.startsWith("throw") && !globalThis.hasThrown) {
          globalThis.hasThrown = true;
          throw new Error("cannot handle " + message.text);
        }
        if (message.text.startsWith("step") && !globalThis.hasStepped) {
          globalThis.hasStepped = true;
          await ctx.step(message.text, () => null);
        }
        if (message.text.startsWith("long") && !globalThis.wasLong) {
          globalThis.wasLong = true;
          ctx.reply(message.text.repeat(10_000));
        }
        if (message.text.startsWith("date") && !globalThis.hadDate) {
          globalThis.hadDate = true;
          return { [message.text]: new Date() };
        }
        ctx.reply({ text: "you said " + message.text, data: { words: message.text } });
        return { failed: false, n: state.n + 1, last: message.text };
      },
    });
  `;

  test("whatever happens: errors of the bot, refused requests, failing deliveries, a dying Redis, kill and drain", async () => {
    const traffic = await Traffic.start(arena, seed, { failShare: 0.3, cutShare: 0.1 });
    const bot = arena.path("canary-bot.ts");
    writeFileSync(bot, BOT);
    const data = arena.dataFolder("data");
    const options = { port: await freePort(), data, bot, deliverTo: traffic.deliverTo };
    let runtime = new RuntimeProcess(arena, options);
    await runtime.ready();

    let sent = 0;
    const send = async (text: string, more: object = {}): Promise<void> => {
      sent += 1;
      const body = {
        conversation: `c${sent}`,
        id: `m${sent}`,
        text: `${text} ${CANARY}`,
        data: { secret: CANARY },
        ...more,
      };
      const posted = async (): Promise<boolean> => (await runtime.post(body, "canary")).status === 202;
      await until(posted, { what: "a 202", withinMs: SOON_MS, everyMs: 100, explain: () => runtime.lastWords() });
    };
    const answered = async (): Promise<void> => {
      const delivered = async (): Promise<boolean> => (await traffic.sink.ask("status", undefined)).delivered === sent;
      // Four attempts in ten fail here, and each failure of a reply doubles its wait: eight in a row are nearly a minute.
      const withinMs = REFUSED_OFTEN_MS;
      await until(delivered, { what: `${sent} replies`, withinMs, explain: () => runtime.lastWords() });
    };

    for (const text of ["hello", "throw", "step", "long", "date"]) await send(text);
    await answered();

    const refused = [
      `{"conversation":"c","id":"m","text":"${CANARY}"`,
      JSON.stringify({ conversation: "c", id: "m", txt: CANARY, text: 5 }),
      JSON.stringify({ conversation: "c", id: "m", text: CANARY, [CANARY]: 1, sequence: -1 }),
      JSON.stringify({ conversation: "c", id: "m", text: CANARY, sentAt: CANARY }),
      JSON.stringify([{ conversation: "c", id: "", text: CANARY }]),
      `{"__proto__":{"${CANARY}":1},"conversation":"c","id":"m","text":"${CANARY}"}`,
    ];
    for (const body of refused) expect((await runtime.post(body, "canary")).status).toBeGreaterThanOrEqual(400);
    expect((await runtime.post({ text: CANARY }, CANARY)).status).toBe(404);

    const redisPid = runtime.redisPid()!;
    const burst = Array.from({ length: 20 }, () => send("hello"));
    process.kill(redisPid, "SIGKILL");
    await Promise.all(burst);
    await answered();

    const atKill = Array.from({ length: 20 }, () => send("hello"));
    await runtime.kill();
    runtime = new RuntimeProcess(arena, options);
    await Promise.all(atKill);
    await runtime.ready();
    await answered();
    expect(await runtime.terminate()).toMatchObject({ code: 0 });

    const logs = ["runtime.out", "runtime.err"].map((name) => arena.path(name)).concat(redisLogs(data));
    expect(logs.length).toBeGreaterThan(2);
    const lines = logs.flatMap((file) => readFileSync(file, "utf8").trimEnd().split("\n"));
    expect(lines.length).toBeGreaterThan(20);
    expect(lines.filter((line) => line.includes(CANARY))).toEqual([]);
  });

  function redisLogs(data: string): string[] {
    mkdirSync(data, { recursive: true });
    return readdirSync(data)
      .filter((name) => name.includes(".log"))
      .map((name) => join(data, name));
  }
});
