import { describe, expect, test } from "vitest";
import { checkHistory, formatViolation, type Rule } from "../../src/verify/judge.ts";
import { FOLD_START, fold } from "../system/support/fold.ts";
import type { DeliveryAttempt, History, RequestAttempt } from "../system/support/history.ts";
import { sampleHistory, withText } from "./sample-history.ts";

const rulesOf = (history: History, complete = true): Rule[] => [
  ...new Set(checkHistory(history, { complete }).map(({ rule }) => rule as Rule)),
];

// --- a small history, written out so that each corruption is easy to see --------------------------------------------

const conversation = "c1";
const texts: Record<string, string> = { a: "one", b: "two", c: "three", d: "four" };
const ids = Object.keys(texts);

function claimsOf(order: readonly string[]): string[] {
  let state = FOLD_START;
  return order.map((id) => {
    state = fold(state, { id, text: texts[id] ?? "" });
    return JSON.stringify({ n: state.n, mid: id, h: state.h });
  });
}

function delivery(sequence: number, mid: string, text: string, more: Partial<DeliveryAttempt> = {}): DeliveryAttempt {
  const base = {
    kind: "delivery",
    key: `fold~http~c1~b0.${sequence}`,
    conversation,
    sequence,
    inReplyTo: mid,
    text: "",
    bodyHash: "",
    bytes: 0,
    receivedUs: 1_000 * sequence,
    answeredUs: 1_000 * sequence + 500,
    status: 200,
  } as const;
  return { ...withText(base, text), ...more };
}

function deliveriesOf(order: readonly string[]): DeliveryAttempt[] {
  return claimsOf(order).map((claim, i) => delivery(i + 1, order[i]!, claim));
}

function request(name: string, items: readonly string[], sentUs: number, more: Partial<RequestAttempt> = {}) {
  return {
    kind: "attempt",
    request: name,
    attempt: 1,
    purpose: "first",
    items: items.map((id) => ({ conversation, id })),
    sentUs,
    endedUs: sentUs + 100,
    outcome: "ack",
    status: 202,
    ...more,
  } as const satisfies RequestAttempt;
}

/** a and b in one request; c sent when it was answered; d together with c. */
function small(): { -readonly [Part in keyof History]: History[Part][number][] } {
  return {
    messages: ids.map((id, i) => ({ kind: "message", conversation, id, n: i + 1, text: texts[id]! })),
    attempts: [request("r1", ["a", "b"], 100), request("r2", ["c"], 300), request("r3", ["d"], 300)],
    deliveries: deliveriesOf(ids),
  };
}

describe("a history that keeps the promise passes", () => {
  test("the small one", () => {
    expect(checkHistory(small())).toEqual([]);
  });

  test("messages of concurrent requests in either order", () => {
    expect(checkHistory({ ...small(), deliveries: deliveriesOf(["a", "b", "d", "c"]) })).toEqual([]);
  });

  test("500 seeds with lost answers, repeats, failed deliveries and deliveries made again", () => {
    for (let seed = 0; seed < 500; seed += 1) {
      const violations = checkHistory(sampleHistory(seed));
      expect(
        violations.map((violation) => formatViolation(violation)),
        `seed ${seed}`,
      ).toEqual([]);
    }
  });

  test("one that was cut short, when told so", () => {
    const { messages, attempts, deliveries } = small();
    const cut = { messages, attempts: attempts.slice(0, 2), deliveries: deliveries.slice(0, 2) };
    expect(rulesOf(cut, false)).toEqual([]);
    expect(rulesOf(cut)).toEqual(["lost", "never-acknowledged"]);
  });
});

// --- corruptions: each names the rules that must catch it, and no others ----------------------------------------------

type Corrupt = (history: ReturnType<typeof small>) => History;

const corruptions: readonly (readonly [what: string, caughtBy: readonly Rule[], corrupt: Corrupt])[] = [
  ["the last acknowledged message vanished", ["lost"], (h) => ({ ...h, deliveries: h.deliveries.slice(0, 3) })],
  [
    "an acknowledged message in the middle vanished, the fold went on without it",
    ["lost"],
    (h) => ({ ...h, deliveries: deliveriesOf(["a", "b", "d"]) }),
  ],
  ["a whole conversation vanished", ["lost"], (h) => ({ ...h, deliveries: [] })],
  [
    "a message was consumed twice in a row",
    ["doubled"],
    (h) => ({ ...h, deliveries: deliveriesOf(["a", "b", "b", "c", "d"]) }),
  ],
  [
    "a message was consumed again after others",
    ["doubled"],
    (h) => ({ ...h, deliveries: deliveriesOf(["a", "b", "c", "d", "d"]) }),
  ],
  [
    "the first message was consumed again at the end",
    ["doubled", "real-time-order"],
    (h) => ({ ...h, deliveries: deliveriesOf(["a", "b", "c", "d", "a"]) }),
  ],
  [
    "a message was consumed that nobody sent",
    ["phantom"],
    (h) => ({ ...h, deliveries: [...h.deliveries, ...deliveriesOf([...ids, "ghost"]).slice(4)] }),
  ],
  [
    "a reply came in a conversation that nobody wrote to",
    ["phantom"],
    (h) => ({
      ...h,
      deliveries: [
        ...h.deliveries,
        delivery(1, "a", claimsOf(["a"])[0]!, { conversation: "c2", key: "fold~http~c2~b0.1" }),
      ],
    }),
  ],
  [
    "a message was consumed though every request with it was refused",
    ["refused", "never-acknowledged"],
    (h) => ({
      ...h,
      attempts: h.attempts.map((a) => (a.request === "r3" ? { ...a, outcome: "nack", status: 422 } : a)),
    }),
  ],
  [
    "two messages of one request were consumed in another order",
    ["request-order"],
    (h) => ({ ...h, deliveries: deliveriesOf(["b", "a", "c", "d"]) }),
  ],
  [
    "two messages of one request, others between them, were consumed in another order",
    ["request-order"],
    (h) => ({
      ...h,
      attempts: [
        request("r1", ["a", "b"], 100, { endedUs: 900 }),
        request("r2", ["c"], 300),
        request("r3", ["d"], 300),
      ],
      deliveries: deliveriesOf(["b", "c", "d", "a"]),
    }),
  ],
  [
    "a message was consumed before one that had been acknowledged when it was first sent",
    ["real-time-order"],
    (h) => ({ ...h, deliveries: deliveriesOf(["c", "a", "b", "d"]) }),
  ],
  [
    "only its first try was acknowledged early: the repeat's answer must not hide that",
    ["real-time-order"],
    (h) => ({
      ...h,
      attempts: [...h.attempts, request("r1", ["a", "b"], 5_000, { attempt: 2, purpose: "repeat" })],
      deliveries: deliveriesOf(["c", "d", "a", "b"]),
    }),
  ],
  ["the first reply never came", ["gap", "lost"], (h) => ({ ...h, deliveries: h.deliveries.slice(1) })],
  [
    "a reply in the middle never came",
    ["gap", "lost"],
    (h) => ({ ...h, deliveries: h.deliveries.filter(({ sequence }) => sequence !== 3) }),
  ],
  [
    "the sequence jumped, though no message is missing",
    ["gap", "fold"],
    (h) => ({
      ...h,
      deliveries: h.deliveries.map((d) => (d.sequence < 4 ? d : { ...d, sequence: 5, key: "fold~http~c1~b0.5" })),
    }),
  ],
  [
    "a reply was delivered before the one before it",
    ["delivery-order"],
    (h) => ({
      ...h,
      deliveries: h.deliveries.map((d) => (d.sequence === 2 ? { ...d, receivedUs: 3_600, answeredUs: 3_700 } : d)),
    }),
  ],
  [
    "a reply was attempted while the one before it was still being answered",
    ["delivery-order"],
    (h) => ({ ...h, deliveries: h.deliveries.map((d) => (d.sequence === 2 ? { ...d, answeredUs: 3_001 } : d)) }),
  ],
  [
    "a reply was attempted after the one before it had only failed",
    ["delivery-order", "undelivered"],
    (h) => ({ ...h, deliveries: h.deliveries.map((d) => (d.sequence === 2 ? { ...d, status: 500 } : d)) }),
  ],
  [
    "the last reply was never delivered",
    ["undelivered"],
    (h) => ({ ...h, deliveries: h.deliveries.map((d) => (d.sequence === 4 ? { ...d, status: 503 } : d)) }),
  ],
  [
    "one key came with other bytes the second time",
    ["bytes"],
    (h) => ({
      ...h,
      deliveries: [...h.deliveries, { ...h.deliveries[3]!, bodyHash: "other", receivedUs: 9_000, answeredUs: 9_100 }],
    }),
  ],
  [
    "a reply came again under another key",
    ["key"],
    (h) => ({
      ...h,
      deliveries: [
        ...h.deliveries,
        { ...h.deliveries[3]!, key: "fold~http~c1~b1.4", receivedUs: 9_000, answeredUs: 9_100 },
      ],
    }),
  ],
  [
    "two replies of one conversation share a key",
    ["key"],
    (h) => ({
      ...h,
      deliveries: h.deliveries.map((d) => ({ ...d, key: d.sequence === 4 ? "fold~http~c1~b0.3" : d.key })),
    }),
  ],
  [
    "replies of two conversations share a key",
    ["key"],
    (h) => ({
      messages: [...h.messages, { kind: "message", conversation: "c2", id: "a", n: 1, text: "one" }],
      attempts: [...h.attempts, { ...request("r9", [], 100), items: [{ conversation: "c2", id: "a" }] }],
      deliveries: [...h.deliveries, delivery(1, "a", claimsOf(["a"])[0]!, { conversation: "c2" })],
    }),
  ],
  [
    "a conversation began a second life in the middle",
    ["key"],
    (h) => ({
      ...h,
      deliveries: h.deliveries.map((d) => (d.sequence < 3 ? d : { ...d, key: `fold~http~c1~b9.${d.sequence}` })),
    }),
  ],
  [
    "the state went back and forgot a message",
    ["fold"],
    (h) => {
      const forgetful = deliveriesOf(["a", "c", "d"]).slice(1); // as if b had never been folded, yet numbered on
      const renumbered = forgetful.map((d, i) => delivery(i + 3, d.inReplyTo!, d.text));
      return { ...h, deliveries: [...h.deliveries.slice(0, 2), ...renumbered] };
    },
  ],
  [
    "the state was damaged between two messages",
    ["fold"],
    (h) => ({
      ...h,
      deliveries: h.deliveries.map((d) =>
        d.sequence === 3 ? withText(d, JSON.stringify({ n: 3, mid: "c", h: "0".repeat(64) })) : d,
      ),
    }),
  ],
  [
    "the text of a message was changed on its way",
    ["fold"],
    (h) => ({ ...h, messages: h.messages.map((m) => (m.id === "d" ? { ...m, text: "fuor" } : m)) }),
  ],
  [
    "a reply is not the bot's",
    ["fold", "lost"],
    (h) => ({ ...h, deliveries: h.deliveries.map((d) => (d.sequence === 4 ? withText(d, "hello") : d)) }),
  ],
  [
    "a reply names another message than the one it answers",
    ["in-reply-to"],
    (h) => ({ ...h, deliveries: h.deliveries.map((d) => (d.sequence === 4 ? { ...d, inReplyTo: "a" } : d)) }),
  ],
  [
    "a message was sent and never acknowledged, though consumed",
    ["never-acknowledged"],
    (h) => ({
      ...h,
      attempts: h.attempts.map((a) => (a.request === "r3" ? { ...a, outcome: "unknown", status: 503 } : a)),
    }),
  ],
];

describe("a history that breaks it does not", () => {
  test.each(corruptions)("%s", (_what, caughtBy, corrupt) => {
    expect(rulesOf(corrupt(small())).sort()).toEqual([...caughtBy].sort());
  });

  test("every rule is attacked", () => {
    const attacked = new Set(corruptions.flatMap(([, rules]) => rules));
    expect([...attacked].sort()).toEqual(
      [
        "bytes",
        "delivery-order",
        "doubled",
        "fold",
        "gap",
        "in-reply-to",
        "key",
        "lost",
        "never-acknowledged",
        "phantom",
        "real-time-order",
        "refused",
        "request-order",
        "undelivered",
      ].sort(),
    );
  });
});

describe("one line changed in a large history is caught", () => {
  const seeds = Array.from({ length: 200 }, (_, seed) => seed);
  const changed = (seed: number, change: (history: History, at: DeliveryAttempt) => History): Rule[] => {
    const history = sampleHistory(seed);
    const distinct = history.deliveries.filter(({ status }) => status === 200);
    return rulesOf(change(history, distinct[(seed * 7919) % distinct.length]!));
  };

  test("every delivery of one reply removed", () => {
    for (const seed of seeds) {
      const rules = changed(seed, (h, at) => ({ ...h, deliveries: h.deliveries.filter(({ key }) => key !== at.key) }));
      expect(rules, `seed ${seed}`).toContain("lost");
    }
  });

  test("one reply's hash changed in every delivery of it", () => {
    for (const seed of seeds) {
      const rules = changed(seed, (h, at) => {
        const { n, mid } = JSON.parse(at.text) as { n: number; mid: string };
        const text = JSON.stringify({ n, mid, h: "f".repeat(64) });
        return { ...h, deliveries: h.deliveries.map((d) => (d.key === at.key ? withText(d, text) : d)) };
      });
      expect(rules, `seed ${seed}`).toContain("fold");
    }
  });

  test("the first delivery of one reply moved before the one before it", () => {
    for (const seed of seeds) {
      const rules = changed(seed, (h, at) => {
        const next = h.deliveries.find((d) => d.conversation === at.conversation && d.sequence === at.sequence + 1);
        if (!next) return { ...h, deliveries: h.deliveries.filter(({ key }) => key !== at.key) };
        return { ...h, deliveries: [...h.deliveries, { ...next, receivedUs: 1, answeredUs: 2 }] };
      });
      expect(rules.length, `seed ${seed}`).toBeGreaterThan(0);
    }
  });
});

test("a violation shows the few lines that prove it", () => {
  const [violation] = checkHistory({ ...small(), deliveries: deliveriesOf(["b", "a", "c", "d"]) });
  expect(violation!.slice).toHaveLength(3);
  expect(formatViolation(violation!)).toMatch(/^request-order in "c1": a stands before b in the request/);
});

test("20,000 messages are checked in a few seconds", () => {
  const history = sampleHistory(1, { conversations: 50, requests: 2_000 });
  const startMs = performance.now();
  expect(checkHistory(history)).toEqual([]);
  expect(performance.now() - startMs).toBeLessThan(5_000);
});
