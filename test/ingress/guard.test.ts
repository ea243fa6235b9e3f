import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Asker, createGuard, type GuardRules, isOnThisMachine } from "../../src/ingress/guard.ts";

const TOKEN = "t".repeat(40);
const NO_TOKEN: GuardRules = { host: "127.0.0.1", allowedHosts: ["chat.example.org"], adminToken: undefined };
const WITH_TOKEN: GuardRules = { ...NO_TOKEN, adminToken: TOKEN };
const ON_ALL: GuardRules = { ...NO_TOKEN, host: "0.0.0.0" };

function asker(headers: Asker["headers"], remoteAddress: string | undefined = "127.0.0.1"): Asker {
  return { remoteAddress, localAddress: "127.0.0.1", headers: { host: "127.0.0.1:4000", ...headers } };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

describe("/admin and /metrics", () => {
  test.each<[string, GuardRules, Asker, number | undefined]>([
    ["from this machine", NO_TOKEN, asker({}), undefined],
    ["from this machine by IPv6", NO_TOKEN, asker({ host: "[::1]:4000" }, "::1"), undefined],
    ["from this machine, mapped", NO_TOKEN, asker({ host: "localhost:4000" }, "::ffff:127.0.0.1"), undefined],
    ["from this machine, with a token set", WITH_TOKEN, asker({}), undefined],
    ["from this machine with a needless token", NO_TOKEN, asker(bearer("any")), undefined],
    ["from this machine with a wrong token", WITH_TOKEN, asker(bearer("wrong")), 401],
    ["from elsewhere, no token set", ON_ALL, asker({}, "10.0.0.7"), 404],
    ["from elsewhere with some token, none set", ON_ALL, asker(bearer(TOKEN), "10.0.0.7"), 404],
    ["from elsewhere without the token", WITH_TOKEN, asker({}, "10.0.0.7"), 401],
    ["from elsewhere with a wrong token", WITH_TOKEN, asker(bearer(`${TOKEN}x`), "10.0.0.7"), 401],
    ["from elsewhere with the token by another scheme", WITH_TOKEN, asker({ authorization: TOKEN }, "10.0.0.7"), 401],
    ["from elsewhere with the token", WITH_TOKEN, asker(bearer(TOKEN), "10.0.0.7"), undefined],
    ["the scheme in small letters", WITH_TOKEN, asker({ authorization: `bearer ${TOKEN}` }, "10.0.0.7"), undefined],
    ["the token under any name", WITH_TOKEN, asker({ ...bearer(TOKEN), host: "metrics.svc" }, "10.0.0.7"), undefined],
    ["by a proxy here, no token set", NO_TOKEN, asker({ "x-forwarded-for": "203.0.113.9" }), 404],
    ["by a proxy here, forging its own address", NO_TOKEN, asker({ "x-real-ip": "127.0.0.1" }), 404],
    ["by a proxy here, Forwarded", NO_TOKEN, asker({ forwarded: "for=127.0.0.1" }), 404],
    ["by a proxy here without the token", WITH_TOKEN, asker({ "x-forwarded-for": "203.0.113.9" }), 401],
    ["by a proxy here with it", WITH_TOKEN, asker({ "x-forwarded-for": "1.2.3.4", ...bearer(TOKEN) }), undefined],
    ["by a proxy that only keeps the public name", NO_TOKEN, asker({ host: "chat.example.org" }), 404],
    ["the same with a token set", WITH_TOKEN, asker({ host: "chat.example.org" }), 401],
    ["a name pointed at this machine", NO_TOKEN, asker({ host: "evil.example" }), 421],
    ["no name", NO_TOKEN, asker({ host: undefined }), 421],
    ["another site by Sec-Fetch-Site", NO_TOKEN, asker({ "sec-fetch-site": "cross-site" }), 403],
    ["another port of this machine", NO_TOKEN, asker({ "sec-fetch-site": "same-site" }), 403],
    ["another site by Origin", NO_TOKEN, asker({ origin: "https://evil.example" }), 403],
    ["an opaque origin", NO_TOKEN, asker({ origin: "null" }), 403],
    ["another site with the token", WITH_TOKEN, asker({ origin: "https://evil.example", ...bearer(TOKEN) }), 403],
    ["its own page", NO_TOKEN, asker({ origin: "http://127.0.0.1:4000", "sec-fetch-site": "same-origin" }), undefined],
    ["typed into the address bar", NO_TOKEN, asker({ "sec-fetch-site": "none" }), undefined],
    ["a socket without address", NO_TOKEN, { ...asker({}), remoteAddress: undefined }, 404],
  ])("%s", (_, rules, from, status) => {
    expect(createGuard(rules).admin(from)?.status).toBe(status);
  });

  const header = fc.constantFrom(
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "forwarded",
    "via",
    "cf-connecting-ip",
    "true-client-ip",
  );
  const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom("127.0.0.1", "::1", "::ffff:127.0.0.1"));
  const isLoopback = (text: string): boolean => /^(::ffff:)?127\./.test(text) || /^(0*:)+0*1$/.test(text);
  const anyHeaders = fc.dictionary(
    fc.oneof(
      header,
      fc.constantFrom("host", "origin", "sec-fetch-site", "authorization", "referer", "x-anything"),
      fc.string(),
    ),
    fc.oneof(
      fc.string(),
      fc.constantFrom("127.0.0.1", "localhost", "same-origin", "none", "null", "Bearer", "http://127.0.0.1"),
    ),
  );

  test("U3: without the token nobody elsewhere is served, whatever the headers claim", () => {
    fc.assert(
      fc.property(address, anyHeaders, fc.boolean(), (remoteAddress, headers, hasToken) => {
        fc.pre(!isLoopback(remoteAddress));
        const rules = hasToken ? WITH_TOKEN : ON_ALL;
        const refusal = createGuard(rules).admin({ remoteAddress, localAddress: "127.0.0.1", headers });
        expect(refusal?.status).toBe(hasToken ? 401 : 404);
      }),
    );
  });

  test("U2: what a proxy passed on is never from this machine, whatever else it carries", () => {
    fc.assert(
      fc.property(header, fc.string(), anyHeaders, (name, value, headers) => {
        const from = asker({ ...headers, authorization: undefined, [name]: value });
        expect(isOnThisMachine(from)).toBe(false);
        expect(createGuard(WITH_TOKEN).admin(from)?.status).toBe(401);
      }),
    );
  });

  test("U5: exactly the token opens, and nothing near it", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (text) => {
        fc.pre(text.trim() !== TOKEN);
        expect(createGuard(WITH_TOKEN).admin(asker(bearer(text), "10.0.0.7"))?.status).toBe(401);
      }),
    );
    for (const near of [TOKEN.slice(1), `${TOKEN}t`, TOKEN.toUpperCase(), ""])
      expect(createGuard(WITH_TOKEN).admin(asker(bearer(near), "10.0.0.7"))?.status).toBe(401);
  });

  test("U4: whatever a page of another site sends, it gets nothing", () => {
    fc.assert(
      fc.property(fc.webUrl(), anyHeaders, fc.boolean(), (url, headers, hasToken) => {
        const { origin } = new URL(url);
        const all = { ...headers, ...(hasToken && bearer(TOKEN)), origin, host: "127.0.0.1:4000" };
        expect(createGuard(WITH_TOKEN).admin(asker(all))).toBeDefined();
      }),
    );
  });
});

describe("U1: names under which it is asked", () => {
  test.each<[string, string, boolean]>([
    ["127.0.0.1", "127.0.0.1:4000", true],
    ["127.0.0.1", "127.9.8.7", true],
    ["127.0.0.1", "localhost", true],
    ["127.0.0.1", "LocalHost:80", true],
    ["127.0.0.1", "localhost.:4000", true],
    ["127.0.0.1", "demo.localhost:4000", true],
    ["127.0.0.1", "[::1]:4000", true],
    ["127.0.0.1", "[::ffff:127.0.0.1]", true],
    ["127.0.0.1", "chat.example.org", true],
    ["127.0.0.1", "chat.example.org:443", true],
    ["127.0.0.1", "CHAT.example.org", true],
    ["127.0.0.1", "evil.example", false],
    ["127.0.0.1", "localhost.evil.example", false],
    ["127.0.0.1", "evil-localhost", false],
    ["127.0.0.1", "127.0.0.1.evil.example", false],
    ["127.0.0.1", "chat.example.org.evil.example", false],
    ["127.0.0.1", "x.chat.example.org", false],
    ["127.0.0.1", "192.168.1.5", false],
    ["127.0.0.1", "0.0.0.0:4000", false],
    ["127.0.0.1", "2130706433", false],
    ["127.0.0.1", "127.0.0.1@evil.example", false],
    ["127.0.0.1", "127.0.0.1, evil.example", false],
    ["127.0.0.1", "", false],
    ["192.168.1.5", "192.168.1.5:4000", true],
    ["192.168.1.5", "192.168.1.6:4000", false],
    ["0.0.0.0", "192.168.1.6:4000", true],
    ["::", "[2001:db8::1]:4000", true],
    ["0.0.0.0", "evil.example", false],
    ["2001:db8::1", "[2001:DB8:0::1]:4000", true],
    ["node7.internal", "node7.internal:4000", true],
    ["node7.internal", "node8.internal:4000", false],
  ])("listening on %s, Host %j: %s", (host, name, isServed) => {
    const refusal = createGuard({ ...NO_TOKEN, host }).page(asker({ host: name }));
    expect(refusal?.status).toBe(isServed ? undefined : 421);
  });

  test("the address of this end of the socket is a name of this node", () => {
    const from = { ...asker({ host: "10.1.2.3:4000" }), localAddress: "::ffff:10.1.2.3" };
    expect(createGuard({ ...NO_TOKEN, host: "node7" }).page(from)).toBeUndefined();
  });

  test("a link-local address with its interface is an address like others", () => {
    const from = { remoteAddress: "fe80::2%eth0", localAddress: "fe80::1%eth0", headers: { host: "[fe80::1]:4000" } };
    expect(createGuard({ ...NO_TOKEN, host: "node7" }).page(from)).toBeUndefined();
    expect(createGuard(NO_TOKEN).admin(from)?.status).toBe(404);
  });

  test("a webhook is held to the names only if a browser sent it", () => {
    const guard = createGuard(NO_TOKEN);
    expect(guard.webhook(asker({ host: "colloquy.svc:4000" }))).toBeUndefined();
    expect(guard.webhook(asker({ host: "evil.example", origin: "http://evil.example" }))?.status).toBe(421);
    expect(guard.webhook(asker({ host: "evil.example", "sec-fetch-site": "same-origin" }))?.status).toBe(421);
    expect(guard.webhook(asker({ host: "chat.example.org", origin: "https://chat.example.org" }))).toBeUndefined();
  });

  test("no domain that is not listed is ever served to a browser", () => {
    fc.assert(
      fc.property(fc.domain(), fc.option(fc.nat(65_535)), (domain, port) => {
        fc.pre(domain !== "chat.example.org" && !domain.endsWith(".localhost"));
        const host = port === null ? domain : `${domain}:${port}`;
        for (const rules of [NO_TOKEN, ON_ALL, WITH_TOKEN]) {
          expect(createGuard(rules).page(asker({ host }))?.status).toBe(421);
          expect(createGuard(rules).admin(asker({ host }))?.status).toBe(421);
        }
      }),
    );
  });
});
