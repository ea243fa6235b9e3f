import { createHmac } from "node:crypto";
import { afterEach, describe, expect, test } from "vitest";
import type { Admit, AdmitOutcome } from "../../src/channels/channel.ts";
import { httpChannel } from "../../src/channels/http-channel.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { createServer, type Server, type ServerLimits } from "../../src/ingress/server.ts";
import { silentLog } from "../../src/log.ts";
import { type Answer, postJson, RawConnection, signal } from "../support/http-exchange.ts";
import { silentMetrics } from "../support/silent-metrics.ts";

const SECRET = "correct horse battery staple";
const open = httpChannel();
const signed = httpChannel({ secret: SECRET });

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

/** A server with the bots `demo` (open) and `vault` (signed); admits everything unless told otherwise. */
async function serve(admit?: Admit | null, limits: Partial<ServerLimits> = {}) {
  const admitted: Inbound[] = [];
  const server = createServer({
    environment: systemEnvironment,
    log: silentLog,
    host: "127.0.0.1",
    port: 0,
    readiness: () => ({ ready: true }),
    metrics: silentMetrics,
    routes: {
      webhook: (channel, bot) =>
        channel !== "http" ? undefined : bot === "demo" ? open : bot === "vault" ? signed : undefined,
      transcript: () => undefined,
    },
    limits,
  });
  servers.push(server);
  await server.start();
  const admitAll: Admit = async (messages) => {
    admitted.push(...messages);
    return { kind: "admitted", count: messages.length };
  };
  if (admit !== null) server.webhooks.open(admit ?? admitAll);
  return { server, admitted, demo: `${server.url}/channels/http/demo`, vault: `${server.url}/channels/http/vault` };
}

const message = (over: object = {}) => ({ conversation: "c1", id: "m1", text: "hi", ...over });
const sign = (raw: string | Uint8Array, secret = SECRET) =>
  `sha256=${createHmac("sha256", secret).update(raw).digest("hex")}`;

function expectProblem(answer: Answer, status: number, members: object = {}): void {
  expect(answer.json).toMatchObject({ type: "about:blank", status, detail: expect.any(String), ...members });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
}

describe("what is accepted", () => {
  test("one message is admitted with its conversation, and the answer counts it", async () => {
    const { demo, admitted } = await serve();
    const answer = await postJson(demo, message({ sequence: 7, data: { a: [1] }, sentAt: "2024-05-17T09:30:00Z" }));
    expect(answer).toMatchObject({ status: 202, json: { accepted: 1 } });
    expect(admitted).toEqual([
      {
        to: { bot: "demo", channel: "http", conversation: "c1" },
        id: "m1",
        text: "hi",
        sequence: 7,
        data: { a: [1] },
        sentAtMs: Date.UTC(2024, 4, 17, 9, 30),
      },
    ]);
  });

  test("a batch is admitted in its order", async () => {
    const { demo, admitted } = await serve();
    const batch = Array.from({ length: 1_000 }, (_, i) => message({ id: `m${i}` }));
    expect(await postJson(demo, batch)).toMatchObject({ status: 202, json: { accepted: 1_000 } });
    expect(admitted.map(({ id }) => id)).toEqual(batch.map(({ id }) => id));
  });

  test("an empty array is accepted without asking the store", async () => {
    const { demo } = await serve(null);
    expect(await postJson(demo, [])).toMatchObject({ status: 202, json: { accepted: 0 } });
  });

  test("a charset and other case in the content type do no harm", async () => {
    const { demo } = await serve();
    const answer = await postJson(demo, message(), { "content-type": "Application/JSON; charset=utf-8" });
    expect(answer.status).toBe(202);
  });

  test("a body of exactly the limit is read", async () => {
    const { demo } = await serve();
    const text = JSON.stringify([message()]);
    expect((await postJson(demo, text + " ".repeat(1_048_576 - text.length))).status).toBe(202);
    expectProblem(await postJson(demo, text + " ".repeat(1_048_577 - text.length)), 413);
  });
});

describe("the order of the checks", () => {
  const good = JSON.stringify(message());
  const huge = " ".repeat(1_048_577);

  test("404 comes before a wrong type, a large body, a missing signature, and closed webhooks", async () => {
    const { server } = await serve(null);
    for (const path of ["http/nobody", "fax/demo", "http/nobody%0A", "__proto__/constructor"]) {
      const answer = await postJson(`${server.url}/channels/${path}`, huge, { "content-type": "text/plain" });
      expectProblem(answer, 404);
    }
  });

  test("415 comes before a large body and a missing signature", async () => {
    const { vault } = await serve(null);
    expectProblem(await postJson(vault, huge, { "content-type": "text/plain" }), 415);
    expectProblem(await postJson(vault, huge, { "content-type": "application/jsonp" }), 415);
    expectProblem(await postJson(vault, good, { "content-type": "application/vnd.api+json" }), 415);
    expectProblem(await postJson(vault, good, { "content-encoding": "gzip" }), 415);
  });

  test("a request without content type or body is 415", async () => {
    const { vault } = await serve();
    const raw = new RawConnection(vault).write("POST /channels/http/vault HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await raw.responses()).toMatch(/^HTTP\/1.1 415 /);
    raw.socket.destroy();
  });

  test("413 comes before a missing signature", async () => {
    const { vault } = await serve(null);
    expectProblem(await postJson(vault, huge), 413);
  });

  test("401 comes before bodies that are no JSON, wrong fields, and closed webhooks", async () => {
    const { vault } = await serve(null);
    for (const body of ["{", JSON.stringify({ no: 1 }), good, "[]"]) expectProblem(await postJson(vault, body), 401);
  });

  test("400 and 422 come before closed webhooks", async () => {
    const { demo, vault } = await serve(null);
    expectProblem(await postJson(demo, "{"), 400);
    expectProblem(await postJson(demo, ""), 400);
    expectProblem(await postJson(vault, "{", { "x-colloquy-signature": sign("{") }), 400);
    expectProblem(await postJson(demo, message({ id: 5 })), 422, { field: "id" });
    expectProblem(await postJson(demo, [message(), message({ id: "" })]), 422, { field: "[1].id" });
  });

  test("429 and 503 come last, with Retry-After", async () => {
    const { demo } = await serve(null);
    const answer = await postJson(demo, message());
    expectProblem(answer, 503);
    expect(answer.headers.get("retry-after")).toBe("1");
  });
});

describe("refusals", () => {
  test("nothing of a request with one bad message is admitted", async () => {
    const { demo, admitted } = await serve();
    await postJson(demo, [message(), message({ id: "m2", text: null })]);
    expect(admitted).toEqual([]);
  });

  test("a full conversation is named, and Retry-After is in whole seconds, rounded up", async () => {
    const { demo } = await serve(async () => ({ kind: "full", conversation: "c1", retryAfterMs: 1_001 }));
    const answer = await postJson(demo, message());
    const detail = expect.stringMatching(/admitted before is safe.*again later/);
    expectProblem(answer, 429, { conversation: "c1", detail });
    expect(answer.headers.get("retry-after")).toBe("2");
  });

  test("an unavailable shard gives its reason, and Retry-After of at least 1", async () => {
    const { demo } = await serve(async () => ({ kind: "unavailable", reason: "no memory", retryAfterMs: 0 }));
    const answer = await postJson(demo, message());
    expectProblem(answer, 503, { detail: "no memory" });
    expect(answer.headers.get("retry-after")).toBe("1");
  });

  test("a store that fails is 503 with its code; an error of our own is a bare 500", async () => {
    const errors = [new StoreUnavailableError("secret-host:6379"), new Error("secret text")];
    const { demo } = await serve(async () => {
      throw errors.shift();
    });
    const unavailable = await postJson(demo, message());
    expectProblem(unavailable, 503, { code: "ERR_STORE_UNAVAILABLE" });
    expect(unavailable.headers.get("retry-after")).toBe("1");
    const own = await postJson(demo, message());
    expectProblem(own, 500);
    expect(JSON.stringify([unavailable.json, own.json])).not.toContain("secret");
  });

  test("admission that does not answer in time is 503", async () => {
    const { demo } = await serve(() => new Promise<AdmitOutcome>(() => {}), { admitTimeoutMs: 20, stopTimeoutMs: 100 });
    const answer = await postJson(demo, message());
    expectProblem(answer, 503);
    expect(answer.headers.get("retry-after")).toBe("1");
  });

  test("a problem never quotes a value of the body", async () => {
    const { demo } = await serve();
    const canary = "canary-7f3a";
    const bodies = [
      `{"conversation":"${canary}`,
      `{"__proto__":"${canary}"}`,
      message({ id: [canary] }),
      message({ text: [canary] }),
      message({ sentAt: canary }),
      message({ id: canary.repeat(100) }),
      message({ sequence: canary }),
    ];
    for (const body of bodies) {
      const { status, json } = await postJson(demo, body);
      expect(status).toBeOneOf([400, 422]);
      expect(JSON.stringify(json)).not.toContain(canary);
    }
  });
});

describe("signatures", () => {
  const raw = '{"conversation":"c1","id":"m1","text":"caf\\u00e9 \\ud83d\\ude00"}';

  test("the HMAC of the raw bytes is accepted, in either case of hex", async () => {
    const { vault } = await serve();
    expect((await postJson(vault, raw, { "x-colloquy-signature": sign(raw) })).status).toBe(202);
    const upper = sign(raw).slice(7).toUpperCase();
    expect((await postJson(vault, raw, { "x-colloquy-signature": `sha256=${upper}` })).status).toBe(202);
  });

  test("the same JSON in other bytes is refused", async () => {
    const { vault, admitted } = await serve();
    const header = { "x-colloquy-signature": sign(raw) };
    const { conversation, id, text } = JSON.parse(raw);
    for (const other of [
      JSON.stringify({ conversation, id, text }), // unescaped
      JSON.stringify({ id, conversation, text }), // other order
      `${raw} `,
      raw.replace("\\u00e9", "\\u00E9"),
    ])
      expectProblem(await postJson(vault, other, header), 401);
    expect(admitted).toEqual([]);
  });

  test("a signature that is missing, short, long, not hex, of another secret or scheme is 401", async () => {
    const { vault } = await serve();
    const hex = sign(raw).slice(7);
    const bad = [
      undefined,
      "",
      "sha256=",
      hex,
      `sha256=${hex.slice(0, 62)}`,
      `sha256=${hex.slice(0, 63)}`,
      `sha256=${hex}00`,
      `sha256=${hex.slice(0, 62)}zz`,
      `sha256=${hex} `.padEnd(100, "x"),
      `sha1=${hex}`,
      sign(raw, "another secret"),
      `sha256=${"0".repeat(64)}`,
      `sha256=${"0".repeat(10_000)}`,
    ];
    for (const value of bad) {
      const headers: Record<string, string> = value === undefined ? {} : { "x-colloquy-signature": value };
      expectProblem(await postJson(vault, raw, headers), 401);
    }
  });

  test("a right signature that comes twice is 401", async () => {
    const { vault } = await serve();
    const line = `X-Colloquy-Signature: ${sign(raw)}\r\n`;
    const connection = new RawConnection(vault).write(
      `POST /channels/http/vault HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${raw.length}\r\n${line}${line}\r\n${raw}`,
    );
    expect(await connection.responses()).toMatch(/^HTTP\/1.1 401 /);
    connection.socket.destroy();
  });
});

describe("bodies that no decent client sends", () => {
  const head = "POST /channels/http/demo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

  test("a chunked body is refused when it passes the limit, and the answer can be read", async () => {
    const { demo, admitted } = await serve();
    const connection = new RawConnection(demo).write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${" ".repeat(0x10000)}\r\n`;
    for (let i = 0; i < 64; i += 1) connection.write(chunk);
    connection.write("0\r\n\r\n");
    expect(await connection.responses()).toMatch(/^HTTP\/1.1 413 /);
    connection.socket.destroy();
    expect(admitted).toEqual([]);
  });

  test("a body that never ends is cut by the request's time, and others are served meanwhile", async () => {
    const { demo } = await serve(undefined, { requestTimeoutMs: 300 });
    const slow = new RawConnection(demo).write(`${head}Content-Length: 100\r\n\r\n{`);
    const silent = new RawConnection(demo);
    expect((await postJson(demo, message())).status).toBe(202);
    expect(await slow.closed()).toMatch(/^HTTP\/1.1 408 .*application\/problem\+json.*"status":408/s);
    expect(await silent.closed()).toMatch(/^HTTP\/1.1 408 /);
  });

  test("headers without end are 431, and what is not HTTP is 400, as problem JSON", async () => {
    const { demo } = await serve();
    const bomb = new RawConnection(demo).write(`${head}X-Bomb: ${"x".repeat(100_000)}\r\n`);
    expect(await bomb.closed()).toMatch(/^HTTP\/1.1 431 .*"status":431/s);
    const noise = new RawConnection(demo).write("\u0000\u0001\r\n\r\n");
    expect(await noise.closed()).toMatch(/^HTTP\/1.1 400 .*"status":400/s);
  });

  test("Content-Length with Transfer-Encoding is refused", async () => {
    const { demo, admitted } = await serve();
    const both = new RawConnection(demo).write(
      `${head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n`,
    );
    expect(await both.closed()).toMatch(/^HTTP\/1.1 400 /);
    expect(admitted).toEqual([]);
  });

  test("1 MiB of open brackets is a 400, not a crash", async () => {
    const { demo } = await serve();
    expectProblem(await postJson(demo, "[".repeat(1_048_576)), 400);
    expectProblem(await postJson(demo, "[".repeat(524_288) + "]".repeat(524_288)), 422);
    expect((await postJson(demo, message())).status).toBe(202);
  });

  test("two requests in one packet get two answers in order", async () => {
    const { demo } = await serve();
    const body = JSON.stringify(message());
    const first = `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
    const second = `${head}Content-Length: 1\r\n\r\n{`;
    const connection = new RawConnection(demo).write(first + second);
    const text = await connection.responses(2);
    expect(text.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 202", "HTTP/1.1 400"]);
    connection.socket.destroy();
  });

  test("a client that leaves in the middle of its body is forgotten", async () => {
    const { demo, admitted } = await serve();
    const leaver = new RawConnection(demo).write(`${head}Content-Length: 100\r\n\r\n{`);
    leaver.socket.destroy();
    await leaver.closed();
    expect((await postJson(demo, message())).status).toBe(202);
    expect(admitted).toHaveLength(1);
  });
});

describe("closing", () => {
  test("a request that was let in before webhooks closed gets its outcome, later ones 503", async () => {
    const entered = signal();
    const outcome = signal<AdmitOutcome>();
    const { server, demo } = await serve(() => {
      entered.resolve();
      return outcome.promise;
    });
    const first = postJson(demo, message());
    await entered.promise;
    let closed = false;
    const closing = server.webhooks.close().then(() => {
      closed = true;
    });
    expectProblem(await postJson(demo, message()), 503);
    expect(closed).toBe(false);
    outcome.resolve({ kind: "admitted", count: 1 });
    expect((await first).status).toBe(202);
    await closing;
  });

  test("webhooks can be opened again", async () => {
    const { server, demo } = await serve();
    await server.webhooks.close();
    expect((await postJson(demo, message())).status).toBe(503);
    server.webhooks.open(async () => ({ kind: "admitted", count: 1 }));
    expect((await postJson(demo, message())).status).toBe(202);
  });
});
