import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Channel, SendOutcome } from "../../src/channels/channel.ts";
import { httpChannel } from "../../src/channels/http-channel.ts";
import {
  parseRetryAfterMs,
  RESPONSE_DRAIN_MS,
  RETRY_AFTER_MAX_MS,
  statusOutcome,
} from "../../src/channels/http-outbound.ts";
import { type ConversationId, idempotencyKey } from "../../src/domain/ids.ts";
import type { Delivery } from "../../src/domain/message.ts";
import { type Environment, systemEnvironment } from "../../src/environment.ts";
import { signal } from "../support/http-exchange.ts";
import { answer, type Provider, startProvider } from "../support/misbehaving-provider.ts";

const NOW_MS = Date.UTC(2024, 4, 17, 9, 30, 0);
const environment: Environment = { ...systemEnvironment, nowMs: () => NOW_MS };
const CANARY = "canary-5c1d";

let never: AbortSignal;
let provider: Provider;
let channel: Channel;
const extra: Channel[] = [];
beforeEach(async () => {
  never = new AbortController().signal;
  provider = await startProvider();
  channel = httpChannel({ deliverTo: provider.url, timeoutMs: 5_000, environment });
});
afterEach(async () => {
  for (const each of [channel, ...extra.splice(0)]) await each.close?.();
  await provider.stop();
});

function toProvider(options: { deliverTo?: string; timeoutMs?: number; connections?: number }): Channel {
  const made = httpChannel({ deliverTo: provider.url, environment, ...options });
  extra.push(made);
  return made;
}

function delivery(over: Partial<ConversationId> = {}, text = CANARY): Delivery {
  const to = { bot: "demo", channel: "http", conversation: "c1", ...over };
  const born = "lw1-0-0";
  const body = channel.render({ to, born, outSeq: 1, inReplyTo: "m1", reply: { text } }) as Uint8Array;
  return { to, born, outSeq: 1, idempotencyKey: idempotencyKey(to, born, 1), body };
}

/** Sends and checks that the reason tells nothing of the reply. */
async function send(to: Channel = channel, abort: AbortSignal = never): Promise<SendOutcome> {
  const outcome = await to.send(delivery(), abort);
  expect(JSON.stringify(outcome)).not.toContain(CANARY);
  return outcome;
}

describe("what is sent", () => {
  test("the rendered bytes are posted to the whole URL under the idempotency key", async () => {
    expect(await send()).toEqual({ kind: "delivered" });
    const { head, body } = provider.requests[0]!;
    expect(head).toMatch(/^POST \/replies\?token=x HTTP\/1.1\r\n/);
    expect(head).toMatch(/\r\ncontent-type: application\/json\r\n/i);
    expect(head).toMatch(/\r\nidempotency-key: demo~http~c1~lw1-0-0.1\r\n/i);
    expect(body).toBe(
      `{"bot":"demo","channel":"http","conversation":"c1","sequence":1,"inReplyTo":"m1","text":"${CANARY}"}`,
    );
  });

  test("a conversation with emoji, newlines or separators in its id can be delivered", async () => {
    for (const conversation of ["😀", "a\r\nX-Injected: 1", "a~b:{c}/\u0000", "é".repeat(256)]) {
      const outcome = await channel.send(delivery({ conversation }), never);
      expect(outcome).toEqual({ kind: "delivered" });
      const { head, body } = provider.requests.at(-1)!;
      expect(head).not.toMatch(/^X-Injected/m);
      expect(decodeURIComponent(/idempotency-key: [^~]+~[^~]+~([^~\r]*)~/i.exec(head)![1]!)).toBe(conversation);
      expect(JSON.parse(body).conversation).toBe(conversation);
    }
  });

  test("a key that no header can carry is terminal, and the connection unharmed", async () => {
    const outcome = await channel.send({ ...delivery(), idempotencyKey: "a\nb" }, never);
    expect(outcome.kind).toBe("terminal");
    expect(await send()).toEqual({ kind: "delivered" });
  });

  test("one that was redriven says so, under the same key", async () => {
    expect(await channel.send({ ...delivery(), redriven: true }, never)).toEqual({ kind: "delivered" });
    expect(provider.requests[0]!.head).toMatch(/^redriven: true\r$/im);
    expect(provider.requests[0]!.head).toContain(delivery().idempotencyKey);
    await send();
    expect(provider.requests[1]!.head).not.toMatch(/redriven/i);
  });

  test("a connection is used again, and no more are opened than allowed", async () => {
    const narrow = toProvider({ connections: 2 });
    const outcomes = await Promise.all(Array.from({ length: 50 }, () => send(narrow)));
    expect(outcomes.every(({ kind }) => kind === "delivered")).toBe(true);
    expect(provider.connections()).toBeLessThanOrEqual(2);
  });
});

describe("what an answer means", () => {
  const cases: readonly [number, SendOutcome["kind"]][] = [
    [200, "delivered"],
    [202, "delivered"],
    [301, "terminal"],
    [307, "terminal"],
    [400, "terminal"],
    [401, "terminal"],
    [404, "terminal"],
    [408, "retryable"],
    [409, "terminal"],
    [410, "gone"],
    [425, "retryable"],
    [429, "retryable"],
    [500, "retryable"],
    [503, "retryable"],
    [599, "retryable"],
  ];
  test.each(cases)("%i is %s, with the status as reason", async (status, kind) => {
    provider.behave(answer(status, { location: provider.url }, CANARY));
    const outcome = await send();
    expect(outcome).toEqual(kind === "delivered" ? { kind } : { kind, reason: `HTTP ${status}` });
    expect(provider.requests).toHaveLength(1); // no redirect is followed, nothing is sent twice
  });

  test("204 without a body is delivered", async () => {
    provider.behave(({ socket }) => void socket.write("HTTP/1.1 204 No Content\r\n\r\n"));
    expect(await send()).toEqual({ kind: "delivered" });
    expect(await send()).toEqual({ kind: "delivered" });
  });

  test("interim answers are waited through", async () => {
    provider.behave(({ socket }) => {
      socket.write("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n");
    });
    expect(await send()).toEqual({ kind: "gone", reason: "HTTP 410" });
  });

  test("Retry-After is honoured in seconds and as a date", async () => {
    provider.behave(answer(429, { "retry-after": "7" }));
    expect(await send()).toEqual({ kind: "retryable", reason: "HTTP 429", retryAfterMs: 7_000 });
    provider.behave(answer(503, { "retry-after": "Fri, 17 May 2024 09:31:30 GMT" }));
    expect(await send()).toEqual({ kind: "retryable", reason: "HTTP 503", retryAfterMs: 90_000 });
    provider.behave(answer(503, { "retry-after": "soon" }));
    expect(await send()).toEqual({ kind: "retryable", reason: "HTTP 503" });
  });
});

describe("Retry-After", () => {
  test.each([
    ["0", 0],
    ["120", 120_000],
    ["99999999", RETRY_AFTER_MAX_MS],
    ["Fri, 17 May 2024 09:30:05 GMT", 5_000],
    ["Friday, 17-May-24 09:30:05 GMT", 5_000],
    ["Fri May 17 09:30:05 2024", 5_000],
    ["Fri, 17 May 2024 09:29:00 GMT", 0],
    ["Fri, 17 May 2099 09:30:00 GMT", RETRY_AFTER_MAX_MS],
    ["-1", undefined],
    ["1.5", undefined],
    ["", undefined],
    ["2024-05-17T09:30:05Z", undefined],
    ["Fri, 99 May 2024 09:30:05 GMT", undefined],
    [`Fri, ${" ".repeat(1_000_000)}`, undefined],
  ])("%.30s is read as %s", (value, expected) => {
    expect(parseRetryAfterMs(value, NOW_MS)).toBe(expected);
  });

  test("of several headers the first counts", () => {
    expect(statusOutcome(503, ["3", "9"], NOW_MS)).toMatchObject({ retryAfterMs: 3_000 });
  });
});

describe("what a failure means", () => {
  test("a refused connection and an unknown host are retryable, since nothing was sent", async () => {
    await provider.stop();
    expect(await send()).toEqual({ kind: "retryable", reason: "ECONNREFUSED" });
    const nowhere = toProvider({ deliverTo: "http://nowhere.invalid/" });
    expect(await send(nowhere)).toMatchObject({ kind: "retryable", reason: expect.stringMatching(/^E[A-Z_]+$/) });
  });

  test("TLS spoken to a server without it is retryable", async () => {
    provider.behave(({ socket }) => socket.destroy());
    const tls = toProvider({ deliverTo: provider.url.replace("http:", "https:"), timeoutMs: 500 });
    expect((await send(tls)).kind).toBe("retryable");
  });

  test("a connection that resets or closes after the request was sent is ambiguous", async () => {
    provider.behave(({ socket }) => void socket.resetAndDestroy());
    expect(await send()).toMatchObject({ kind: "ambiguous", reason: expect.stringMatching(/^[A-Z_]+$/) });
    provider.behave(({ socket }) => void socket.end());
    expect((await send()).kind).toBe("ambiguous");
    expect(provider.requests).toHaveLength(2); // the client itself never repeats
  });

  test("a recipient that hangs is ambiguous after the time-out", async () => {
    provider.behave(() => {});
    const impatient = toProvider({ timeoutMs: 100 });
    expect(await send(impatient)).toEqual({ kind: "ambiguous", reason: "no answer within 100 ms" });
  });

  test("an attempt that is aborted while it waits for its place sends nothing", async () => {
    const narrow = toProvider({ connections: 1, timeoutMs: 60_000 });
    const arrived = signal();
    provider.behave(() => arrived.resolve());
    const abort = new AbortController();
    const sending = [send(narrow, abort.signal), send(narrow, abort.signal)];
    await arrived.promise;
    abort.abort();
    expect(await Promise.all(sending)).toEqual([
      { kind: "ambiguous", reason: "aborted" },
      { kind: "ambiguous", reason: "aborted" },
    ]);
    expect(provider.requests).toHaveLength(1);
  });

  test("what is not HTTP is ambiguous", async () => {
    provider.behave(({ socket }) => void socket.end("SMTP ready\r\n"));
    expect(await send()).toMatchObject({ kind: "ambiguous", reason: "HTTPParserError" });
  });

  test("headers without end are ambiguous", async () => {
    provider.behave(({ socket }) => void socket.write(`HTTP/1.1 200 OK\r\nx: ${"x".repeat(100_000)}`));
    expect((await send()).kind).toBe("ambiguous");
  });
});

describe("answers that do not end", () => {
  test("the status decides before a slow body ends, and the time-out cuts its connection", async () => {
    const cut = signal();
    provider.behave(({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx");
      socket.once("close", () => cut.resolve());
    });
    const impatient = toProvider({ timeoutMs: 150 });
    const startedAt = performance.now();
    expect(await send(impatient)).toEqual({ kind: "delivered" });
    expect(performance.now() - startedAt).toBeLessThan(140);
    await cut.promise;
  });

  test("a body that drips is cut soon, so that it does not take the time of the next attempt (O1)", async () => {
    const timers: { readonly ms: number; readonly run: () => void; isOff: boolean }[] = [];
    const byHand: Environment = {
      ...environment,
      after: (ms, run) => {
        const timer = { ms, run, isOff: false };
        timers.push(timer);
        return {
          cancel: () => {
            timer.isOff = true;
          },
        };
      },
    };
    const narrow = httpChannel({ deliverTo: provider.url, timeoutMs: 60_000, connections: 1, environment: byHand });
    extra.push(narrow);
    const cut = signal();
    provider.behave(({ socket }) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx");
      socket.once("close", () => cut.resolve());
    });
    expect(await send(narrow)).toEqual({ kind: "delivered" });
    provider.behave(answer(200));
    const next = send(narrow); // waits for the only connection
    const running = timers.filter(({ isOff }) => !isOff);
    expect(running.map(({ ms }) => ms)).toEqual([RESPONSE_DRAIN_MS, 60_000]);
    running[0]!.run();
    await cut.promise;
    expect(await next).toEqual({ kind: "delivered" });
    expect(provider.requests).toHaveLength(2);
  });

  test("a body longer than the bound is cut, and the outcome stands", async () => {
    const cut = signal();
    provider.behave(({ socket }) => {
      socket.write(`HTTP/1.1 410 Gone\r\ncontent-length: 10000000\r\n\r\n${"x".repeat(1_000_000)}`);
      socket.once("close", () => cut.resolve());
    });
    expect(await send()).toEqual({ kind: "gone", reason: "HTTP 410" });
    await cut.promise;
  });

  test("a body that breaks off behind a 2xx is still delivered", async () => {
    provider.behave(({ socket }) => void socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"));
    expect(await send()).toEqual({ kind: "delivered" });
  });
});

describe("ending", () => {
  test("aborting ends an attempt as ambiguous and cuts its connection", async () => {
    const arrived = signal();
    const cut = signal();
    provider.behave(({ socket }) => {
      socket.once("close", () => cut.resolve());
      arrived.resolve();
    });
    const abort = new AbortController();
    const sending = send(channel, abort.signal);
    await arrived.promise;
    abort.abort();
    expect(await sending).toEqual({ kind: "ambiguous", reason: "aborted" });
    await cut.promise;
  });

  test("an attempt that is aborted before it begins sends nothing", async () => {
    expect((await send(channel, AbortSignal.abort())).kind).toBe("ambiguous");
    expect(await send()).toEqual({ kind: "delivered" });
    expect(provider.requests).toHaveLength(1);
  });

  test("closing ends what is in flight, and what comes later is retryable", async () => {
    const arrived = signal();
    provider.behave(() => arrived.resolve());
    const sending = send();
    await arrived.promise;
    await channel.close?.();
    expect((await sending).kind).toBe("ambiguous");
    expect((await send()).kind).toBe("retryable");
  });

  test("hundreds of attempts under one signal share one listener, and aborting ends those that run", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    const abort = new AbortController();
    await Promise.all(Array.from({ length: 200 }, () => send(channel, abort.signal)));
    provider.behave(() => {});
    const running = Array.from({ length: 200 }, () => send(channel, abort.signal));
    abort.abort();
    expect(new Set((await Promise.all(running)).map(({ kind }) => kind))).toEqual(new Set(["ambiguous"]));
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", onWarning);
    expect(warnings).toEqual([]);
  });
});
