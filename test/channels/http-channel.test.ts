import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Channel } from "../../src/channels/channel.ts";
import { type HttpChannelOptions, httpChannel } from "../../src/channels/http-channel.ts";
import type { RenderInput } from "../../src/domain/message.ts";
import { ConfigError } from "../../src/errors.ts";

const input: RenderInput = {
  to: { bot: "demo", channel: "http", conversation: "c\n1" },
  born: "lw1-0-0",
  outSeq: 3,
  inReplyTo: null,
  reply: { text: "h\u00e9", data: { b: 1, a: [null] } },
};
const rendered = (channel: Pick<Channel, "render">, of: RenderInput) =>
  new TextDecoder().decode(channel.render(of) as Uint8Array);

describe("how replies are posted", () => {
  const deliverTo = "https://example.org/replies";

  test("its account has as many places as there are connections, and the rate and breaker that it is given", async () => {
    const account = { ratePerSecond: 30, breakerFailures: Number.POSITIVE_INFINITY };
    const retry = { attemptsMax: 3 };
    const made = [httpChannel({ deliverTo }), httpChannel({ deliverTo, connections: 7, account, retry })];
    expect(made.map((channel) => channel.account)).toEqual([{ concurrency: 128 }, { concurrency: 7, ...account }]);
    expect(made.map((channel) => channel.retry)).toEqual([undefined, retry]);
    expect(made.map((channel) => channel.onAmbiguous)).toEqual([undefined, undefined]); // its outside knows keys: retry
    for (const channel of made) await channel.close?.();
    expect(httpChannel()).not.toHaveProperty("account");
  });

  test.each<[HttpChannelOptions, RegExp]>([
    [{ deliverTo, connections: 0 }, /^channels\.http\.connections: is 0, not a whole number from 1 to 100000 /],
    [{ deliverTo, connections: -1 }, /^channels\.http\.connections: is -1/],
    [{ deliverTo, connections: 1.5 }, /^channels\.http\.connections: is 1\.5/],
    [
      { deliverTo, timeoutMs: Number.NaN },
      /^channels\.http\.timeoutMs: is NaN, not a whole number of ms from 1 to 3600000 /,
    ],
    [{ deliverTo, timeoutMs: 2 ** 31 }, /^channels\.http\.timeoutMs: is 2147483648/], // a timer would fire at once
    [{ deliverTo, account: { ratePerSecond: 0 } }, /^channels\.http\.account\.ratePerSecond: is 0/],
    [{ deliverTo, account: { burst: 5 } }, /^channels\.http\.account\.burst: means nothing without ratePerSecond/],
    [
      { deliverTo, account: { concurrency: 5 } as object },
      /^channels\.http\.account\.concurrency: .* called connections/,
    ],
    [{ deliverTo, account: null as never }, /^channels\.http\.account: is null, not an object/],
    [{ deliverTo, retry: { budgetMs: 0 } }, /^channels\.http\.retry\.budgetMs: is 0/],
    [{ connections: 5 }, /^channels\.http\.connections: means nothing without deliverTo/],
    [{ retry: {}, timeoutMs: 5 }, /^channels\.http\.timeoutMs: .* deliverTo.*\nchannels\.http\.retry: .* deliverTo/],
  ])("%o is refused", (options, reason) => {
    expect(() => httpChannel(options)).toThrow(ConfigError);
    expect(() => httpChannel(options)).toThrow(reason);
  });
});

describe("where replies go", () => {
  test("with deliverTo they are posted: the body has its members in a fixed order", async () => {
    const channel = httpChannel({ deliverTo: "https://example.org/replies" });
    expect(channel.delivery).toBe("lane");
    expect(rendered(channel, input)).toBe(
      '{"bot":"demo","channel":"http","conversation":"c\\n1","sequence":3,"inReplyTo":null,"text":"h\u00e9","data":{"b":1,"a":[null]}}',
    );
    expect(rendered(channel, { ...input, inReplyTo: "m1", reply: { text: "" } })).toBe(
      '{"bot":"demo","channel":"http","conversation":"c\\n1","sequence":3,"inReplyTo":"m1","text":""}',
    );
    await channel.close?.();
  });

  test("without it they are lines of the transcript, and sending one is a terminal mistake", async () => {
    const channel = httpChannel();
    expect(channel.delivery).toBe("transcript");
    expect(rendered(channel, input)).toBe(
      '{"role":"bot","sequence":3,"inReplyTo":null,"born":"lw1-0-0","text":"h\u00e9","data":{"b":1,"a":[null]}}',
    );
    const delivery = { to: input.to, born: "b", outSeq: 1, idempotencyKey: "k", body: new Uint8Array() };
    expect(await channel.send(delivery, new AbortController().signal)).toMatchObject({ kind: "terminal" });
  });

  test("data that is null is not data that is absent", () => {
    expect(rendered(httpChannel(), { ...input, reply: { text: "", data: null } })).toContain('"data":null');
  });
});

describe("configuration", () => {
  test.each([
    ["", /not a URL/],
    ["example.org/replies", /not a URL/],
    ["ftp://example.org/", /ftp:/],
    ["file:///etc/passwd", /file:/],
    ["javascript:alert(1)", /javascript:/],
    ["https://user:hunter2@example.org/", /credentials/],
    ["https://hunter2@example.org/", /credentials/],
  ])("deliverTo %s is refused without repeating it", (deliverTo, reason) => {
    const make = () => httpChannel({ deliverTo });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(reason);
    expect(make).not.toThrow(/hunter2/);
    expect(make).toThrow(/^channels\.http\.deliverTo: /);
  });

  test("an empty secret is refused: it would let everybody in", () => {
    expect(() => httpChannel({ secret: "" })).toThrow(ConfigError);
  });
});

describe("verify", () => {
  const raw = new TextEncoder().encode('{"id":"\\u00e9"}');
  const mac = createHmac("sha256", "s").update(raw).digest("hex");
  const channel = httpChannel({ secret: "s" });

  test("without a secret everything is let in", () => {
    expect(httpChannel().verify({}, raw)).toBe(true);
  });

  test("a published vector is accepted", () => {
    // RFC 4231, test case 2.
    const vector = httpChannel({ secret: "Jefe" });
    const body = new TextEncoder().encode("what do ya want for nothing?");
    const signature = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    expect(vector.verify({ "x-colloquy-signature": signature }, body)).toBe(true);
    expect(vector.verify({ "x-colloquy-signature": signature }, body.subarray(1))).toBe(false);
  });

  test("a header that came as an array is refused, even of one right value", () => {
    expect(channel.verify({ "x-colloquy-signature": `sha256=${mac}` }, raw)).toBe(true);
    expect(channel.verify({ "x-colloquy-signature": [`sha256=${mac}`] }, raw)).toBe(false);
    expect(channel.verify({ "x-colloquy-signature": `sha256=${mac}, sha256=${mac}` }, raw)).toBe(false);
    expect(channel.verify({ "x-colloquy-signature": `sha256=${mac}\n` }, raw)).toBe(false);
  });
});

describe("order", () => {
  const raw = (body: object) => new TextEncoder().encode(JSON.stringify(body));
  const bounds = { messagesMax: 10, messageBytesMax: 10_000 };
  const good = { conversation: "c1", id: "m1", text: "hi" };

  test.each(["contiguous", "monotonic"] as const)(
    "with the order %s a message without sequence is 422, named",
    (order) => {
      const channel = httpChannel({ order });
      expect(channel.parse(raw(good), "demo", bounds)).toMatchObject({ status: 422, field: "sequence" });
      expect(channel.parse(raw([{ ...good, sequence: 0 }, good]), "demo", bounds)).toMatchObject({
        status: 422,
        field: "[1].sequence",
      });
      expect(channel.parse(raw({ ...good, sequence: 0 }), "demo", bounds)).toMatchObject({ kind: "ok" });
    },
  );

  test("with the order of arrival it is taken, and what it declares is arrival", () => {
    for (const channel of [httpChannel(), httpChannel({ order: "arrival" })]) {
      expect(channel.order).toEqual({ mode: "arrival" });
      expect(channel.parse(raw(good), "demo", bounds)).toMatchObject({ kind: "ok" });
    }
  });

  test("it declares how long senders repeat only if it is told", () => {
    expect(httpChannel()).not.toHaveProperty("retryHorizonMs");
    expect(httpChannel({ retryHorizonMs: 5_000 }).retryHorizonMs).toBe(5_000);
  });
});
