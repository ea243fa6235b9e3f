// The provider of the system tests does what it logs: each of its treatments, seen by a client.

import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena, until } from "../system/support/arena.ts";
import { LanesWorld } from "../system/support/lanes-world.ts";
import { type Behaviour, type Treatment, WELL_BEHAVED } from "../system/support/provider-behaviour.ts";

let arena: Arena;
beforeEach(() => {
  arena = new Arena("provider");
});
afterEach(() => arena.cleanUp());

const always = (treatment: Exclude<Treatment, "ok">): Behaviour => ({
  ...WELL_BEHAVED,
  shares: { [treatment]: 1 },
  faultsMax: 1,
  slowMsMin: 50,
  slowMsMax: 60,
});

async function post(url: string, sequence: number, conversation = "c1", withinMs = 5_000, more = {}): Promise<string> {
  const headers = {
    "idempotency-key": `fold~http~${conversation}~b-0-0.${sequence}`,
    "content-type": "application/json",
  };
  const body = JSON.stringify({ conversation, sequence, inReplyTo: `m${sequence}`, text: "hi" });
  try {
    const signal = AbortSignal.timeout(withinMs);
    const response = await fetch(url, { method: "POST", headers: { ...headers, ...more }, body, signal });
    return `${response.status} ${response.headers.get("retry-after") ?? "-"}`;
  } catch (error) {
    const { code = "" } = ((error as Error).cause ?? {}) as { code?: string };
    return code || (error as Error).name;
  }
}

test("each treatment is what the client sees and what the log says; the attempt after it is answered 2xx", async () => {
  const treatments = ["slow", "429", "500", "reset-unread", "reset-taken", "hang"] as const;
  const behaviours = Object.fromEntries(treatments.map((treatment) => [treatment, always(treatment)]));
  const world = await LanesWorld.start(arena, 1, behaviours);
  const seen: Record<string, string> = {};
  for (const treatment of treatments) {
    const { deliverTo } = world.channel(treatment);
    seen[treatment] = await post(deliverTo, 1, treatment, treatment === "hang" ? 300 : 5_000);
    expect(await post(deliverTo, 1, treatment)).toBe("200 -");
  }
  expect(seen).toEqual({
    slow: "200 -",
    "429": "429 1",
    "500": "500 -",
    "reset-unread": expect.stringMatching(/ECONNRESET|UND_ERR_SOCKET|EPIPE/),
    "reset-taken": expect.stringMatching(/ECONNRESET|UND_ERR_SOCKET/),
    hang: "TimeoutError",
  });
  await until(() => world.attempts().length === 12, { what: "a line for each request", withinMs: 5_000 });
  const attempts = world.attempts();
  const told = (account: string) =>
    attempts
      .filter((each) => each.account === account)
      .map(({ attempt, gave, isAccepted, status, bodyHash }) => [attempt, gave, isAccepted, status, bodyHash !== null]);
  expect(told("slow")).toEqual([
    [1, "slow", true, 200, true],
    [2, "ok", true, 200, true],
  ]);
  expect(told("429")[0]).toEqual([1, "429", false, 429, true]);
  expect(told("500")[0]).toEqual([1, "500", false, 500, true]);
  expect(told("reset-unread")[0]).toEqual([1, "reset-unread", false, 0, false]);
  expect(told("reset-taken")[0]).toEqual([1, "reset-taken", true, 0, true]);
  expect(told("hang")[0]).toEqual([1, "hang", true, 0, true]);
  const slow = attempts.find(({ gave }) => gave === "slow")!;
  expect(slow.answeredUs - slow.receivedUs).toBeGreaterThanOrEqual(50_000);
  expect(await world.provider.ask("status", "hang")).toEqual({
    attempts: 2,
    inFlight: 0,
    inFlightPeak: 1,
    delivered: 1,
  });
});

test("an account that is dead takes no connection or refuses all, beside one that is well, and comes back", async () => {
  const world = await LanesWorld.start(arena, 1, { a: WELL_BEHAVED, b: WELL_BEHAVED });
  const [a, b] = [world.channel("a").deliverTo, world.channel("b").deliverTo];
  await world.provider.ask("become", { account: "a", mode: "dead" });
  expect(await post(a, 1)).toBe("ECONNREFUSED");
  expect(await post(b, 1, "c2")).toBe("200 -");
  await world.provider.ask("become", { account: "a", mode: 503 });
  expect(await post(a, 1)).toBe("503 -");
  await world.provider.ask("become", { account: "a", mode: "alive" });
  expect(await post(a, 1)).toBe("200 -");
  await world.provider.ask("reject", { account: "a", status: 400, replies: ["c1 2"] });
  expect(await post(a, 2)).toBe("400 -");
  expect(await post(a, 2, "c3")).toBe("200 -");
  await world.provider.ask("reject", { account: "a", status: 400, replies: [] });
  expect(await post(a, 2, "c1", 5_000, { redriven: "true" })).toBe("200 -");
  await until(() => world.attempts().length === 6, { what: "a line for each request", withinMs: 5_000 });
  expect(
    world.attempts().map(({ account, gave, isRedriven }) => `${account} ${gave}${isRedriven ? " again" : ""}`),
  ).toEqual(["b ok", "a refused", "a ok", "a refused", "a ok", "a ok again"]);
});

test("as many as come at once are in flight, at the most", async () => {
  const world = await LanesWorld.start(arena, 1, { a: always("slow") });
  const { deliverTo } = world.channel("a");
  await Promise.all(Array.from({ length: 5 }, (_, i) => post(deliverTo, 1, `c${i}`)));
  expect(await world.provider.ask("status", "a")).toMatchObject({ inFlight: 0, inFlightPeak: 5, delivered: 5 });
  await world.provider.ask("resetPeak", "a");
  await post(deliverTo, 2);
  expect(await world.provider.ask("status", "a")).toMatchObject({ inFlightPeak: 1, delivered: 6 });
});
