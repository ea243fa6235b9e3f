import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { httpChannel } from "../../src/channels/http-channel.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { ConfigError } from "../../src/errors.ts";
import { createServer, type Readiness, type Server, type ServerOptions } from "../../src/ingress/server.ts";
import { createLog, silentLog } from "../../src/log.ts";
import { exchange, postJson, RawConnection, signal } from "../support/http-exchange.ts";
import { silentMetrics } from "../support/silent-metrics.ts";

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

function make(over: Partial<ServerOptions> = {}): Server {
  const channel = httpChannel();
  const server = createServer({
    environment: systemEnvironment,
    log: silentLog,
    host: "127.0.0.1",
    port: 0,
    readiness: () => ({ ready: true }),
    metrics: silentMetrics,
    routes: { webhook: (_name, bot) => (bot === "demo" ? channel : undefined), transcript: () => undefined },
    ...over,
  });
  servers.push(server);
  return server;
}

async function started(over: Partial<ServerOptions> = {}): Promise<Server> {
  const server = make(over);
  await server.start();
  return server;
}

describe("health", () => {
  test("alive is always 200; ready is 200 or 503 with the reason", async () => {
    let readiness: Readiness = { ready: false, reason: "the store does not answer" };
    const { url } = await started({ readiness: () => readiness });
    expect(await exchange(`${url}/livez`)).toMatchObject({ status: 200 });
    expect(await exchange(`${url}/readyz`)).toMatchObject({ status: 503, json: { ...readiness } });
    readiness = { ready: true };
    expect(await exchange(`${url}/readyz`)).toMatchObject({ status: 200, json: { ready: true } });
  });
});

describe("paths and methods", () => {
  test("an unknown path is 404 as problem JSON, whatever is sent to it", async () => {
    const { url } = await started();
    for (const path of ["/", "/nothing", `/${"x".repeat(5_000)}`, "/channels/http", "/channels/http/demo/c1"]) {
      const get = await exchange(url + path);
      expect(get).toMatchObject({ status: 404, json: { type: "about:blank", title: "Not Found", status: 404 } });
      expect(get.headers.get("content-type")).toBe("application/problem+json");
      const post = await postJson(url + path, "{", { "content-type": "text/plain" });
      expect(post).toMatchObject({ status: 404, json: { status: 404 } });
    }
  });

  test("a path that is not percent-encoded UTF-8 is 400", async () => {
    const { url } = await started();
    for (const path of ["/%ff", "/%", "/channels/http/demo/%E0%A4%A/replies"])
      expect(await exchange(url + path)).toMatchObject({ status: 400, json: { status: 400 } });
  });

  test("another method is 405 and says which are taken", async () => {
    const { url } = await started();
    const cases = [
      ["GET", "/channels/http/demo", "POST"],
      ["PUT", "/channels/http/demo", "POST"],
      ["DELETE", "/channels/http/nobody", "POST"],
      ["POST", "/livez", "GET, HEAD"],
      ["PATCH", "/readyz", "GET, HEAD"],
      ["POST", "/channels/http/demo/c1/replies", "GET, HEAD"],
    ] as const;
    for (const [method, path, allow] of cases) {
      const answer = await exchange(url + path, method === "GET" ? {} : { method, body: "{" });
      expect(answer, `${method} ${path}`).toMatchObject({ status: 405, json: { status: 405 } });
      expect(answer.headers.get("allow")).toBe(allow);
    }
    expect((await fetch(`${url}/livez`, { method: "HEAD" })).status).toBe(200);
  });
});

describe("listening", () => {
  test("a port in use is a configuration error that names the port and the way out", async () => {
    const { url } = await started();
    const port = Number(new URL(url).port);
    const error = await make({ port })
      .start()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({
      key: "port",
      message: expect.stringMatching(new RegExp(`${port} .*in use.*--port`)),
    });
  });

  test("what is no port, and an address of another machine, are configuration errors", async () => {
    await expect(make({ port: 70_000 }).start()).rejects.toMatchObject({ code: "ERR_CONFIG", key: "port" });
    await expect(make({ host: "203.0.113.7" }).start()).rejects.toMatchObject({ code: "ERR_CONFIG", key: "host" });
  });

  test("a server that could not listen can be started when the port is free", async () => {
    const first = await started();
    const second = make({ port: Number(new URL(first.url).port) });
    await expect(second.start()).rejects.toThrow(ConfigError);
    await first.stop();
    await second.start();
    expect((await exchange(`${second.url}/livez`)).status).toBe(200);
  });

  test("the url of a wildcard address is one that can be opened", async () => {
    const { url } = await started({ host: "0.0.0.0" });
    expect(url).toMatch(/^http:\/\/localhost:\d+$/);
  });
});

describe("stopping", () => {
  const request = (path: string) => `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;
  const body = JSON.stringify({ conversation: "c", id: "m", text: "t" });

  test("what is in flight is answered, its connection closed, and nothing new is taken", async () => {
    const entered = signal();
    const release = signal();
    const server = await started();
    server.webhooks.open(async () => {
      entered.resolve();
      await release.promise;
      return { kind: "admitted", count: 1 };
    });
    const { url } = server;
    const idle = new RawConnection(url).write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    await idle.responses();
    const busy = new RawConnection(url).write(
      `${request("/channels/http/demo")}Content-Length: ${body.length}\r\n\r\n${body}`,
    );
    await entered.promise;
    const stopping = server.stop();
    await idle.closed();
    await expect(fetch(`${url}/livez`)).rejects.toThrow();
    release.resolve();
    expect(await busy.closed()).toMatch(/^HTTP\/1.1 202 .*connection: close/is);
    await stopping;
  });

  test("a request that never ends does not keep it from stopping in time", async () => {
    const server = await started({ limits: { stopTimeoutMs: 50 } });
    const slow = new RawConnection(server.url).write(`${request("/channels/http/demo")}Content-Length: 9\r\n\r\n{`);
    await new Promise((resolve) => slow.socket.once("ready", resolve));
    await exchange(`${server.url}/livez`); // the server has seen the slow one by now
    const startedAt = performance.now();
    await server.stop();
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    await slow.closed();
  });

  test("it can be started again, and webhooks are closed then", async () => {
    const server = await started();
    server.webhooks.open(async () => ({ kind: "admitted", count: 1 }));
    await server.stop();
    expect(() => server.url).toThrow();
    await server.start();
    expect((await postJson(`${server.url}/channels/http/demo`, body)).status).toBe(503);
  });

  test("it frees its port", async () => {
    const server = await started();
    const { url } = server;
    await server.stop();
    await new Promise<void>((resolve) =>
      connect(Number(new URL(url).port), "127.0.0.1").once("error", () => resolve()),
    );
  });
});

test("no line of the log holds text, headers or paths of requests", async () => {
  const lines: string[] = [];
  const canary = "canary-91d0";
  const log = createLog({ level: "debug", destination: { write: (line) => lines.push(line) } });
  const server = await started({ log });
  server.webhooks.open(async (messages) => {
    throw new Error(`bug with ${messages.length} messages`);
  });
  await postJson(`${server.url}/channels/http/demo`, { conversation: canary, id: canary, text: canary });
  await postJson(`${server.url}/channels/http/demo`, `{"${canary}`, { "x-canary": canary });
  await exchange(`${server.url}/${canary}`);
  expect(lines).toHaveLength(1);
  expect(lines.join()).toContain("bug with 1 messages");
  expect(lines.join()).not.toContain(canary);
});
