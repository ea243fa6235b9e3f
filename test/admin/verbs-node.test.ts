// Verbs on a real node over the memory store: what was halted goes on, in order and once, by what an operator asks through the API.

import { afterEach, beforeEach, expect, test } from "vitest";
import type { Operator } from "../../src/admin/operator.ts";
import type { Channel } from "../../src/channels/channel.ts";
import type { ConversationId } from "../../src/domain/ids.ts";
import { TerminalError } from "../../src/errors.ts";
import { defineBot } from "../../src/index.ts";
import { MemoryData } from "../../src/store/memory-store.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { TestNode } from "../support/test-node.ts";
import { idOf } from "../support/unfinished.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

/** Texts that can never succeed, as long as they are in it. */
const poison = new Set<string>();
const sent = new Map<string, string[]>();

const bot = defineBot<{ seen: string[] }>({
  name: "demo",
  version: 1,
  initialState: () => ({ seen: [] }),
  onMessage(state, message, ctx) {
    if (poison.has(message.text)) throw new TerminalError("not today");
    ctx.reply(message.text);
    return { seen: [...state.seen, message.text] };
  },
});

const channel: Channel = {
  name: "test",
  delivery: "lane",
  render: ({ reply }) => new TextEncoder().encode(reply.text),
  async send({ to, body }) {
    const texts = sent.get(to.conversation) ?? [];
    texts.push(new TextDecoder().decode(body));
    sent.set(to.conversation, texts);
    return { kind: "delivered" };
  },
};

const BY = "127.0.0.1";
const ALL = { selection: { kind: "where", where: [] }, limit: 1_000, dryRun: false, by: BY } as const;
const COUNT = 60;

let environment: VirtualEnvironment;
let data: MemoryData;
let recording: RecordingLog;
let node: TestNode;

beforeEach(async () => {
  poison.clear();
  sent.clear();
  environment = new VirtualEnvironment(5);
  data = new MemoryData();
  recording = new RecordingLog();
  node = start("n1");
  await node.ready();
});
afterEach(() => node.dispose());

function start(name: string): TestNode {
  return new TestNode({ environment, data, node: name, bot, channel, config: { shards: 2 }, log: recording.log });
}

let messages = 0;
async function send(to: ConversationId, ...texts: readonly string[]): Promise<void> {
  let outcome = "";
  const batch = texts.map((text) => {
    messages += 1;
    return { to, id: `m${messages}`, text };
  });
  void node.ownership.admit(batch).then(({ kind }) => {
    outcome = kind;
  });
  await environment.until(() => outcome !== "", 10_000, "admission");
  expect(outcome).toBe("admitted");
}

/** Resolves on the virtual clock. */
async function done<Result>(promise: Promise<Result>): Promise<Result> {
  let settled = false;
  void promise.then(
    () => {
      settled = true;
    },
    () => {
      settled = true;
    },
  );
  await environment.until(() => settled, 10_000, "a call");
  return await promise;
}

const operator = (): Operator => node.ownership.operations;

async function states(): Promise<Record<string, number>> {
  const shards = await done(node.ownership.inspection.shards());
  const sum: Record<string, number> = {};
  for (const { memory } of shards)
    for (const [state, count] of Object.entries(memory!.open!)) sum[state] = (sum[state] ?? 0) + count;
  return sum;
}

async function haltAll(): Promise<void> {
  poison.add("bad");
  for (let i = 0; i < COUNT; i += 1) await send(idOf(`c${i}`), "one", "bad", "two", "three");
  await environment.pass(5_000);
  expect(await states()).toEqual({ active: 0, held: 0, halted: COUNT, quarantined: 0 });
  for (let i = 0; i < COUNT; i += 1) expect(sent.get(`c${i}`)).toEqual(["one"]);
}

async function expectAllSent(texts: readonly string[]): Promise<void> {
  await environment.pass(5_000);
  for (let i = 0; i < COUNT; i += 1) expect(sent.get(`c${i}`)).toEqual(texts);
  expect(await states()).toEqual({ active: 0, held: 0, halted: 0, quarantined: 0 });
}

test("one retry resolves all that halted: each goes on in order, nothing twice, however often it is asked", async () => {
  await haltAll();
  poison.clear();
  const first = await done(operator().resolve({ ...ALL, verb: "retry" }));
  expect([first.done.length, first.refused, first.next]).toEqual([COUNT, [], null]);
  await done(operator().resolve({ ...ALL, verb: "retry" })); // the first is not worked off yet, or it is
  await expectAllSent(["one", "bad", "two", "three"]);
  expect((await done(operator().resolve({ ...ALL, verb: "retry" }))).done).toEqual([]);
  expect(recording.at("info", "lifts the halt")).toHaveLength(COUNT);
  expect(recording.at("info", '"by":"127.0.0.1"').length).toBeGreaterThanOrEqual(COUNT + 2);
});

test("a retry that fails again halts again, and a late repeat of the verb finds the halt as it was", async () => {
  await haltAll();
  await done(operator().resolve({ ...ALL, verb: "retry" }));
  await environment.pass(5_000);
  expect(await states()).toMatchObject({ halted: COUNT });
  for (let i = 0; i < COUNT; i += 1) expect(sent.get(`c${i}`)).toEqual(["one"]);
  poison.clear();
  await done(operator().resolve({ ...ALL, verb: "retry" }));
  await expectAllSent(["one", "bad", "two", "three"]);
});

test("skip sets the message aside, and redrive brings it back, once, behind what came since", async () => {
  await haltAll();
  const skipped = await done(operator().resolve({ ...ALL, verb: "skip" }));
  expect(skipped.done).toHaveLength(COUNT);
  await done(operator().resolve({ ...ALL, verb: "skip" }));
  await expectAllSent(["one", "two", "three"]);
  const letters = await done(node.ownership.inspection.deadLetters([], 1_000));
  expect(letters.items).toHaveLength(COUNT);
  expect(letters.items[0]).toMatchObject({ direction: "in", bot: "demo", reason: "skipped", botVersion: 1 });

  poison.clear();
  const redriven = await done(operator().redrive(ALL));
  expect([redriven.done.length, redriven.refused]).toEqual([COUNT, []]);
  await done(operator().redrive(ALL));
  await expectAllSent(["one", "two", "three", "bad"]);
  expect((await done(node.ownership.inspection.deadLetters([], 1_000))).items).toEqual([]);
});

test("verbs survive the process: what was asked is done by the next owner", async () => {
  await haltAll();
  poison.clear();
  await done(operator().resolve({ ...ALL, verb: "retry" }));
  node.dispose();
  node = start("n2");
  await node.ready();
  await expectAllSent(["one", "bad", "two", "three"]);
});

test("a node that owns nothing lists and resolves what another one halted", async () => {
  await haltAll();
  poison.clear();
  const other = start("n2");
  await environment.until(() => other.notReady?.startsWith("standing by") ?? false, 5_000, "standby");
  const listed = await done(other.ownership.inspection.open([], 1_000));
  expect(listed.items.filter(({ state }) => state === "halted")).toHaveLength(COUNT);
  const report = await done(other.ownership.operations.resolve({ ...ALL, verb: "retry" }));
  expect(report.done).toHaveLength(COUNT);
  await expectAllSent(["one", "bad", "two", "three"]);
  other.dispose();
});

test.each(["strict", "available"] as const)(
  "%s: the first message of a conversation may be the poisoned one",
  async (ordering) => {
    node.dispose();
    data = new MemoryData();
    node = new TestNode({ environment, data, node: "n1", bot: { ...bot, ordering }, channel, log: recording.log });
    await node.ready();
    poison.add("bad");
    await send(idOf("c0"), "bad", "one");
    await environment.pass(5_000);
    expect(recording.at("warn", "child is restarted")).toEqual([]);
    if (ordering === "available") {
      expect(sent.get("c0")).toEqual(["one"]);
      return;
    }
    expect(await states()).toMatchObject({ halted: 1 });
    poison.clear();
    await done(operator().resolve({ ...ALL, verb: "retry" }));
    await environment.pass(5_000);
    expect(sent.get("c0")).toEqual(["bad", "one"]);
  },
);
