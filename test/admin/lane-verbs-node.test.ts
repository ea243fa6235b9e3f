// Verbs for lanes on a real node over the memory store: what stood goes on, in order and once, by what an operator asks for.

import { afterEach, beforeEach, expect, test } from "vitest";
import type { LaneView } from "../../src/admin/inspector.ts";
import type { Operator } from "../../src/admin/operator.ts";
import type { Channel, SendOutcome } from "../../src/channels/channel.ts";
import { defineBot } from "../../src/index.ts";
import { MemoryData } from "../../src/store/memory-store.ts";
import { TestNode } from "../support/test-node.ts";
import { idOf } from "../support/unfinished.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const bot = defineBot<Record<string, never>>({
  name: "demo",
  version: 1,
  initialState: () => ({}),
  onMessage(state, message, ctx) {
    ctx.reply(message.text);
    return state;
  },
});

/** What the outside says to a text; everything else arrives. */
const answers = new Map<string, SendOutcome>();
const arrived = new Map<string, string[]>();

const channel: Channel = {
  name: "test",
  delivery: "lane",
  account: { breakerFailures: 3, breakerOpenMs: 60_000, breakerOpenMsMax: 60_000 },
  render: ({ reply }) => new TextEncoder().encode(reply.text),
  async send({ to, body, redriven }) {
    const text = new TextDecoder().decode(body);
    const answer = answers.get(text);
    if (answer !== undefined) return answer;
    const texts = arrived.get(to.conversation) ?? [];
    arrived.set(to.conversation, texts.concat(redriven ? `${text} again` : text));
    return { kind: "delivered" };
  },
};

const TERMINAL: SendOutcome = { kind: "terminal", reason: "HTTP 400" };
const ALL = { selection: { kind: "where", where: [] }, limit: 1_000, dryRun: false, by: "127.0.0.1" } as const;
const COUNT = 20;

let environment: VirtualEnvironment;
let data: MemoryData;
let node: TestNode;

beforeEach(async () => {
  answers.clear();
  arrived.clear();
  environment = new VirtualEnvironment(5);
  data = new MemoryData();
  node = start("n1");
  await node.ready();
});
afterEach(() => node.dispose());

function start(name: string): TestNode {
  return new TestNode({ environment, data, node: name, bot, channel, config: { shards: 2 } });
}

/** Resolves on the virtual clock. */
async function done<Result>(promise: Promise<Result>): Promise<Result> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  void promise.then(settle, settle);
  await environment.until(() => settled, 10_000, "a call");
  return await promise;
}

let messages = 0;
async function send(conversation: string, ...texts: readonly string[]): Promise<void> {
  const batch = texts.map((text) => {
    messages += 1;
    return { to: idOf(conversation), id: `m${messages}`, text };
  });
  expect((await done(node.ownership.admit(batch))).kind).toBe("admitted");
}

const operator = (): Operator => node.ownership.operations;
const lanes = async (): Promise<readonly LaneView[]> => (await done(node.ownership.inspection.lanes([], 1_000))).items;

async function haltAll(): Promise<void> {
  answers.set("bad", TERMINAL);
  for (let i = 0; i < COUNT; i += 1) await send(`c${i}`, "one", "bad", "two", "three");
  await environment.pass(10_000);
  const found = await lanes();
  expect(found).toHaveLength(COUNT);
  for (const lane of found)
    expect(lane).toMatchObject({ state: "halted", reason: "terminal", lastError: "HTTP 400", waiting: 3 });
  expect(arrivedAt("one")).toBe(true);
}

const arrivedAt = (...texts: readonly string[]): boolean =>
  Array.from({ length: COUNT }, (_, i) => arrived.get(`c${i}`)).every((of) => of?.join() === texts.join());

async function expectAllArrived(...texts: readonly string[]): Promise<void> {
  await environment.pass(10_000);
  expect(arrivedAt(...texts)).toBe(true);
  expect(await lanes()).toEqual([]);
}

test("one retry resolves all lanes that halted: each goes on in order, nothing twice, however often it is asked", async () => {
  await haltAll();
  answers.clear();
  const first = await done(operator().resolveLanes({ ...ALL, verb: "retry" }));
  expect([first.done.length, first.refused, first.next]).toEqual([COUNT, [], null]);
  await done(operator().resolveLanes({ ...ALL, verb: "retry" })); // the first is not worked off yet, or it is
  await expectAllArrived("one", "bad", "two", "three");
  expect((await done(operator().resolveLanes({ ...ALL, verb: "retry" }))).done).toEqual([]);
});

test("a retry that fails again halts again, since then, and the lane may be asked once more", async () => {
  await haltAll();
  const before = new Map((await lanes()).map((lane) => [lane.id.conversation, lane]));
  await done(operator().resolveLanes({ ...ALL, verb: "retry" }));
  await environment.pass(5_000);
  for (const lane of await lanes()) {
    expect(lane).toMatchObject({ state: "halted", attempts: 1, head: before.get(lane.id.conversation)!.head });
    expect(lane.sinceMs).toBeGreaterThan(before.get(lane.id.conversation)!.sinceMs!);
  }
  answers.clear();
  await done(operator().resolveLanes({ ...ALL, verb: "retry" }));
  await expectAllArrived("one", "bad", "two", "three");
});

test("skip sets the reply aside and names no later one; redrive brings it back, once, behind what came since", async () => {
  await haltAll();
  expect((await done(operator().resolveLanes({ ...ALL, verb: "skip" }))).done).toHaveLength(COUNT);
  await done(operator().resolveLanes({ ...ALL, verb: "skip" }));
  await expectAllArrived("one", "two", "three");
  const letters = (await done(node.ownership.inspection.deadLetters([], 1_000))).items;
  expect(letters).toHaveLength(COUNT);
  expect(letters[0]).toMatchObject({ direction: "out", bot: "demo", reason: "skipped", error: "HTTP 400", outSeq: 2 });

  answers.clear();
  const redriven = await done(operator().redrive(ALL));
  expect([redriven.done.length, redriven.refused]).toEqual([COUNT, []]);
  await done(operator().redrive(ALL));
  await expectAllArrived("one", "two", "three", "bad again");
  expect((await done(node.ownership.inspection.deadLetters([], 1_000))).items).toEqual([]);
});

test("a lane whose recipient is gone takes no skip; retry opens it for what comes next", async () => {
  answers.set("bye", { kind: "gone", reason: "HTTP 410" });
  await send("c0", "bye", "late");
  await environment.pass(5_000);
  expect(await lanes()).toMatchObject([{ state: "closed", reason: "gone", waiting: 0 }]);
  const skipped = await done(
    operator().resolveLanes({ ...ALL, verb: "skip", selection: { kind: "targets", targets: [idOf("c0")] } }),
  );
  expect(skipped).toMatchObject({ done: [], refused: [{ why: expect.stringContaining("retry opens it") }] });
  expect((await done(operator().resolveLanes({ ...ALL, verb: "retry" }))).done).toHaveLength(1);
  await environment.pass(5_000);
  expect(await lanes()).toEqual([]);
  await send("c0", "back");
  await environment.pass(5_000);
  expect(arrived.get("c0")).toEqual(["back"]);
});

test("verbs survive the process: what was asked is done by the next owner", async () => {
  await haltAll();
  answers.clear();
  await done(operator().resolveLanes({ ...ALL, verb: "retry" }));
  node.dispose();
  node = start("n2");
  await node.ready();
  await environment.pass(10_000);
  for (let i = 0; i < COUNT; i += 1) expect([...new Set(arrived.get(`c${i}`))]).toEqual(["one", "bad", "two", "three"]); // the first owner may have sent some
  expect(await lanes()).toEqual([]);
});

test("why names the account whose breaker is open, and when it is tried next", async () => {
  for (let i = 0; i < 5; i += 1) answers.set(`no ${i}`, { kind: "retryable", reason: "HTTP 503" });
  for (let i = 0; i < 5; i += 1) await send(`c${i}`, `no ${i}`);
  await environment.pass(5_000);
  const found = await lanes();
  expect(found).toHaveLength(5);
  for (const { state, account, why } of found) {
    expect([state, account?.name, account?.breaker]).toEqual(["retrying", "test", "open"]);
    expect(why).toMatch(/; its account test is open, the next probe at \d{4}-\d\d-\d\dT[\d:.]+Z$/);
    expect(account!.reopensAtMs! - environment.nowMs()).toBeGreaterThan(30_000);
  }
});
