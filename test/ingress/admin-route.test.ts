// The guard and the guarded group over real HTTP: what test/ingress/guard.test.ts decides is what the port does.

import { afterEach, describe, expect, test } from "vitest";
import { httpChannel } from "../../src/channels/http-channel.ts";
import { webChannel } from "../../src/channels/web-channel.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { StoreNotReadyError } from "../../src/errors.ts";
import type { AdminRequest, AdminRoute } from "../../src/ingress/admin-route.ts";
import { createServer, type Server, type ServerOptions } from "../../src/ingress/server.ts";
import { silentLog } from "../../src/log.ts";
import { RawConnection } from "../support/http-exchange.ts";

const TOKEN = "k".repeat(32);
const METRICS = { contentType: "text/plain; version=0.0.4", text: async () => "colloquy_ready 1\n" };
const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

const echo: AdminRoute = {
  method: "GET",
  path: "/admin/echo/:name",
  answer: ({ params, query }) => ok({ params, query }),
};
const ok = (json: unknown) => ({ json });

async function started(over: Partial<ServerOptions> = {}, routes: readonly AdminRoute[] = [echo]): Promise<Server> {
  const channels = new Map([httpChannel(), webChannel()].map((channel) => [channel.name, channel]));
  const server = createServer({
    environment: systemEnvironment,
    log: silentLog,
    host: "127.0.0.1",
    port: 0,
    readiness: () => ({ ready: true }),
    metrics: METRICS,
    routes: {
      webhook: (name, bot) => (bot === "demo" ? channels.get(name) : undefined),
      transcript: () => ({ read: async () => [], follow: () => () => undefined }),
      page: { bots: ["demo"], pid: 4711 },
      admin: routes,
    },
    ...over,
  });
  servers.push(server);
  await server.start();
  server.webhooks.open(async (messages) => ({ kind: "admitted", count: messages.length }));
  return server;
}

interface RawAnswer {
  readonly status: number;
  readonly headers: string;
  readonly body: string;
}

/** With the Host header, which fetch does not let a caller choose. */
async function ask(server: Server, path: string, headers: Record<string, string> = {}, method = "GET", body = "") {
  const all = { host: new URL(server.url).host, connection: "close", ...headers };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const length = body === "" ? "" : `content-length: ${Buffer.byteLength(body)}\r\n`;
  const answer = await new RawConnection(server.url)
    .write(`${method} ${path} HTTP/1.1\r\n${head.join("")}${length}\r\n${body}`)
    .closed();
  const end = answer.indexOf("\r\n\r\n");
  const parsed: RawAnswer = {
    status: Number(answer.slice(9, 12)),
    headers: answer.slice(0, end).toLowerCase(),
    body: answer.slice(end + 4),
  };
  return parsed;
}

const GUARDED = ["/admin/echo/x", "/metrics"];
const bearer = { authorization: `Bearer ${TOKEN}` };

describe("the guarded group", () => {
  test("is open from this machine, as JSON that nobody caches", async () => {
    const server = await started();
    const answer = await ask(server, "/admin/echo/a%2Fb?after=1&after=2");
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body)).toEqual({ params: { name: "a/b" }, query: { after: ["1", "2"] } });
    expect(answer.headers).toContain("content-type: application/json");
    expect(answer.headers).toContain("cache-control: no-store");
    expect(answer.headers).toContain("x-content-type-options: nosniff");
    expect(await ask(server, "/metrics")).toMatchObject({ status: 200, body: "colloquy_ready 1\n" });
  });

  test("does not exist for others without a token set, in any method", async () => {
    const server = await started();
    const proxied = { "x-forwarded-for": "203.0.113.9", ...bearer };
    const nothing = await ask(server, "/nothing", proxied);
    for (const path of [...GUARDED, "/admin/unknown"]) {
      const answer = await ask(server, path, proxied);
      expect(answer.status, path).toBe(404);
      expect(answer.body).toBe(nothing.body);
    }
    for (const method of ["POST", "DELETE", "OPTIONS"])
      expect(await ask(server, "/admin/echo/x", proxied, method)).toMatchObject({ status: 404, body: nothing.body });
  });

  test("with a token set, others need it, and a wrong one is 401 with a challenge", async () => {
    const server = await started({ adminToken: TOKEN });
    for (const path of GUARDED) {
      const proxied = { "x-forwarded-for": "203.0.113.9" };
      for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: `Basic ${TOKEN}` }]) {
        const answer = await ask(server, path, { ...proxied, ...headers });
        expect(answer.status, path).toBe(401);
        expect(answer.headers).toContain('www-authenticate: bearer realm="colloquy"');
        expect(answer.headers).toContain("application/problem+json");
        expect(answer.body).not.toContain(TOKEN);
      }
      expect((await ask(server, path, { ...proxied, ...bearer })).status).toBe(200);
      expect((await ask(server, path)).status).toBe(200);
    }
  });

  test("a page of another site gets nothing", async () => {
    const server = await started({ adminToken: TOKEN });
    for (const path of GUARDED) {
      expect((await ask(server, path, { origin: "https://evil.example" })).status).toBe(403);
      expect((await ask(server, path, { "sec-fetch-site": "cross-site" })).status).toBe(403);
      expect((await ask(server, path, { "sec-fetch-site": "cross-site", ...bearer })).status).toBe(403);
      expect((await ask(server, path, { host: "evil.example" })).status).toBe(421);
    }
  });

  test("another method is 405 and says which are taken; HEAD is one of them", async () => {
    const server = await started();
    for (const path of GUARDED) {
      const answer = await ask(server, path, { "content-type": "text/plain" }, "POST", "{");
      expect(answer.status).toBe(405);
      expect(answer.headers).toContain("allow: get, head");
      expect(await ask(server, path, {}, "HEAD")).toMatchObject({ status: 200, body: "" });
    }
  });

  test("a route that takes a body gets it parsed; what is no JSON, or would set a prototype, is refused", async () => {
    const seen: AdminRequest[] = [];
    const verb: AdminRoute = {
      method: "POST",
      path: "/admin/verb",
      answer: (request) => {
        seen.push(request);
        return { problem: { status: 422, detail: "nothing is done" } };
      },
    };
    const server = await started({}, [echo, verb]);
    const json = { "content-type": "application/json" };
    expect((await ask(server, "/admin/verb", json, "POST", '{"a":1}')).status).toBe(422);
    expect((await ask(server, "/admin/verb", json, "POST", "{")).status).toBe(400);
    expect((await ask(server, "/admin/verb", json, "POST", '{"__proto__":{}}')).status).toBe(400);
    expect((await ask(server, "/admin/verb", { "content-type": "text/plain" }, "POST", "{}")).status).toBe(415);
    expect((await ask(server, "/admin/verb", json, "POST", `"${"x".repeat(70_000)}"`)).status).toBe(413);
    expect((await ask(server, "/admin/verb")).headers).toContain("allow: post");
    expect(seen.map(({ body }) => body)).toEqual([{ a: 1 }]);
  });

  test("an error of the store is 503 with Retry-After, any other a bare 500", async () => {
    const failing = (error: Error): AdminRoute => ({
      method: "GET",
      path: `/admin/${error.name}`,
      answer: () => Promise.reject(error),
    });
    const away = new StoreNotReadyError("away");
    const bug = new TypeError("a bug that names canary-5521");
    const server = await started({}, [failing(away), failing(bug)]);
    const first = await ask(server, `/admin/${away.name}`);
    expect(first.status).toBe(503);
    expect(first.headers).toContain("retry-after: 1");
    const second = await ask(server, `/admin/${bug.name}`);
    expect(second.status).toBe(500);
    expect(second.body).not.toContain("canary");
  });
});

describe("names", () => {
  const readable = [
    "/",
    "/chat.js",
    "/channels/web/info",
    "/channels/http/demo/c/replies",
    "/channels/web/demo/c/replies",
  ];

  test("what a browser may read is 421 under a name that is not this node's", async () => {
    const server = await started({ allowedHosts: ["chat.example.org"] });
    for (const path of readable) {
      expect((await ask(server, path, { host: "evil.example:4000" })).status, path).toBe(421);
      expect((await ask(server, path, { host: "chat.example.org" })).status, path).toBe(200);
      expect((await ask(server, path, { host: "localhost:1" })).status, path).toBe(200);
    }
    expect((await ask(server, "/channels/http/demo/c/events", { host: "evil.example" })).status).toBe(421);
  });

  test("health is for everybody", async () => {
    const server = await started();
    for (const path of ["/livez", "/readyz"])
      expect((await ask(server, path, { host: "evil.example", "x-forwarded-for": "1.2.3.4" })).status).toBe(200);
  });

  test("a webhook of a server is taken under any name, one of a browser under the node's own", async () => {
    const server = await started();
    const post = (channel: string, headers: Record<string, string>) =>
      ask(
        server,
        `/channels/${channel}/demo`,
        { "content-type": "application/json", ...headers },
        "POST",
        JSON.stringify({ conversation: "c", id: "1", text: "t" }),
      );
    for (const channel of ["http", "web"]) {
      expect((await post(channel, { host: "colloquy.svc" })).status).toBe(202);
      expect((await post(channel, { host: "evil.example", origin: "http://evil.example" })).status).toBe(421);
      const own = new URL(server.url).origin;
      expect((await post(channel, { origin: own })).status).toBe(202);
    }
  });

  test("the process id is shown to this machine only", async () => {
    const server = await started();
    expect(JSON.parse((await ask(server, "/channels/web/info")).body)).toMatchObject({ pid: 4711 });
    const proxied = await ask(server, "/channels/web/info", { "x-forwarded-for": "203.0.113.9" });
    expect(JSON.parse(proxied.body)).toEqual({ bots: ["demo"] });
  });
});

describe("limits", () => {
  test("headers over the bound are 431, and an over-full server cuts further connections", async () => {
    const server = await started({ limits: { headerBytesMax: 2_048, connectionsMax: 2 } });
    expect((await ask(server, "/livez", { "x-long": "x".repeat(3_000) })).status).toBe(431);
    const held = [new RawConnection(server.url), new RawConnection(server.url)];
    for (const connection of held) await connection.write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").responses();
    expect(await new RawConnection(server.url).write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").closed()).toBe("");
    for (const connection of held) connection.socket.destroy();
    while ((await ask(server, "/livez")).status !== 200) await new Promise((resolve) => setImmediate(resolve));
  });

  test("a client that never reads its answer is cut, and others get its place", async () => {
    const large = { id: { ms: 1, seq: 0 }, bytes: Buffer.from(JSON.stringify({ text: "x".repeat(32 * 1024 * 1024) })) };
    const server = await started({
      limits: { connectionTimeoutMs: 300, connectionsMax: 1 },
      routes: {
        webhook: () => undefined,
        transcript: () => ({ read: async () => [large], follow: () => () => undefined }),
      },
    });
    const lazy = new RawConnection(server.url);
    lazy.socket.pause();
    lazy.write(`GET /channels/http/demo/c/replies HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
    await new Promise((resolve) => lazy.socket.once("ready", resolve));
    let refused = 0;
    while ((await ask(server, "/livez")).status !== 200) refused += 1;
    expect(refused).toBeGreaterThan(0);
    lazy.socket.destroy();
  });

  test("an event stream that only beats is not standing still", async () => {
    const server = await started({
      limits: { connectionTimeoutMs: 300, eventStream: { pollMs: 10_000, heartbeatMs: 50, stallMs: 10_000 } },
    });
    const stream = new RawConnection(server.url);
    let text = "";
    const beats = new Promise<void>((resolve, reject) => {
      stream.socket.on("data", (chunk) => {
        text += chunk.toString("latin1");
        if (text.split(": still here").length > 20) resolve();
      });
      stream.socket.once("close", () => reject(new Error(`closed after ${text}`)));
    });
    stream.write(`GET /channels/http/demo/c/events HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await beats;
    stream.socket.destroy();
  });

  test("headers that come a byte at a time are cut when the request's time is over", async () => {
    const server = await started({ limits: { requestTimeoutMs: 300 } });
    const slow = new RawConnection(server.url).write("GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ");
    const drip = setInterval(() => slow.write("a"), 20);
    expect(await slow.closed()).toMatch(/^HTTP\/1.1 408 /);
    clearInterval(drip);
  });
});
