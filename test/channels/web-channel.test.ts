import { describe, expect, test } from "vitest";
import { REQUEST_BOUNDS } from "../../src/channels/http-inbound.ts";
import { webChannel } from "../../src/channels/web-channel.ts";
import { ConfigError } from "../../src/errors.ts";

const channel = webChannel();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const host = "127.0.0.1:4000";

describe("B1, B2: who may ask", () => {
  test.each([
    ["its own page", { host, origin: `http://${host}`, "sec-fetch-site": "same-origin" }],
    ["its own page, in a browser without Sec-Fetch-Site", { host, origin: `http://${host}` }],
    ["behind a proxy that ends TLS and keeps Host", { host: "chat.example.org", origin: "https://chat.example.org" }],
    ["an address that was typed", { host, "sec-fetch-site": "none" }],
    ["no browser", { host }],
    ["a Host in capitals", { host: "LOCALHOST:4000", origin: "http://localhost:4000" }],
  ])("%s may", (_who, headers) => expect(channel.refuse?.(headers)).toBeUndefined());

  test.each([
    ["another site", { host, origin: "https://evil.example", "sec-fetch-site": "cross-site" }],
    ["another site, in a browser without Sec-Fetch-Site", { host, origin: "https://evil.example" }],
    ["another port of this host", { host, origin: "http://127.0.0.1:4001", "sec-fetch-site": "same-site" }],
    ["a link or a form of another site, without Origin", { host, "sec-fetch-site": "cross-site" }],
    ["a sandboxed frame", { host, origin: "null" }],
    ["what names this host within another", { host, origin: `http://${host}.evil.example` }],
    ["two origins", { host, origin: [`http://${host}`, "https://evil.example"] }],
    ["no Host", { origin: `http://${host}` }],
  ])("%s may not", (_who, headers) => expect(channel.refuse?.(headers)).toMatch(/another site/));

  test("an origin that is configured may, exactly as given", () => {
    const known = webChannel({ origins: ["https://chat.example.org"] });
    expect(known.refuse?.({ host: "inner:4000", origin: "https://chat.example.org" })).toBeUndefined();
    expect(known.refuse?.({ host: "inner:4000", origin: "http://chat.example.org" })).toBeDefined();
    for (const origin of ["chat.example.org", "https://chat.example.org/", "*", "null", ""])
      expect(() => webChannel({ origins: [origin] })).toThrow(ConfigError);
  });
});

test("one message is taken, as the http channel takes it; an array is refused", () => {
  const message = '{"conversation":"c","id":"m","text":"t"}';
  expect(channel.parse(bytes(message), "b", REQUEST_BOUNDS)).toEqual({
    kind: "ok",
    messages: [{ to: { bot: "b", channel: "web", conversation: "c" }, id: "m", text: "t" }],
  });
  for (const body of [`[${message}]`, "[]", ` \n[${message}]`])
    expect(channel.parse(bytes(body), "b", REQUEST_BOUNDS)).toMatchObject({ kind: "problem", status: 422 });
  for (const body of ["[", "", "{}"])
    expect(channel.parse(bytes(body), "b", REQUEST_BOUNDS)).toMatchObject({ kind: "problem" });
});

test("replies go into the transcript, and sending one is a terminal mistake", async () => {
  const to = { bot: "b", channel: "web", conversation: "c" };
  const reply = { text: "hi" };
  const line = channel.render({ to, outSeq: 3, inReplyTo: "m", born: "x", reply }) as Uint8Array;
  expect(JSON.parse(new TextDecoder().decode(line))).toEqual({
    role: "bot",
    sequence: 3,
    inReplyTo: "m",
    born: "x",
    text: "hi",
  });
  expect(channel.delivery).toBe("transcript");
});
