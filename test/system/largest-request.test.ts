// The largest legal request: 1,000 messages of one conversation in just under 1 MiB. Whatever happens to its answer or to
// the runtime, sending it again changes nothing (P2, attack B3).

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena, freePort, until } from "./support/arena.ts";
import { HandSender, type Sendable } from "./support/hand-sender.ts";
import { LossyProxy } from "./support/lossy-proxy.ts";
import { seededRandom, seedOfThisRun } from "./support/random.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";
import { isNothing, StoreView } from "./support/store-view.ts";
import { expectPromiseKept, Traffic } from "./support/traffic.ts";

const REQUEST_BYTES_MAX = 1_048_576;
const MESSAGES = 1_000;
const DONE_WITHIN_MS = 90_000;

let arena: Arena;
let traffic: Traffic;
let runtime: RuntimeProcess;
let proxy: LossyProxy;
let store: StoreView;
let sender: HandSender;
let restart: () => Promise<void>;

const seed = seedOfThisRun();
const random = seededRandom(seed, "largest");

beforeEach(async () => {
  arena = new Arena("largest");
  traffic = await Traffic.start(arena, seed, { delayMsMax: 0, failShare: 0, cutShare: 0 });
  const port = await freePort();
  const data = arena.dataFolder("data");
  restart = async () => {
    runtime = new RuntimeProcess(arena, { port, data, deliverTo: traffic.deliverTo });
    await runtime.ready();
  };
  await restart();
  proxy = await LossyProxy.start(arena, port);
  store = StoreView.ofDataFolder(arena, data);
  sender = new HandSender();
});
afterEach(() => arena.cleanUp());

/** 1,000 messages whose JSON is 10 bytes short of the bound. */
function largestRequest(conversation: string): Sendable[] {
  const batch = Array.from({ length: MESSAGES }, (_, i) => ({ conversation, id: `m${i + 1}`, text: "" }));
  const free = REQUEST_BYTES_MAX - 10 - Buffer.byteLength(JSON.stringify(batch));
  const share = Math.floor(free / MESSAGES);
  return batch.map((message, i) => ({ ...message, text: "x".repeat(i === 0 ? free - share * (MESSAGES - 1) : share) }));
}

async function allDelivered(replies: number): Promise<void> {
  const explain = (): string => runtime.lastWords();
  const count = async (): Promise<number> => (await traffic.sink.ask("status", undefined)).delivered;
  await until(async () => (await count()) >= replies, {
    what: `${replies} replies`,
    withinMs: DONE_WITHIN_MS,
    explain,
  });
  const isEmpty = async (): Promise<boolean> => isNothing(await store.unfinished());
  await until(isEmpty, { what: "an empty inbox and outbox", withinMs: DONE_WITHIN_MS, explain });
  expect(await count()).toBe(replies);
}

/** One message more: its number and hash tell whether the stored state is what 1,000 messages make. */
async function oneMore(conversation: string, replies: number): Promise<void> {
  const { status } = await sender.try(runtime.url, `more ${conversation}`, [
    { conversation, id: "more", text: "more" },
  ]);
  expect(status).toBe(202);
  await allDelivered(replies);
  expectPromiseKept(traffic.history(sender.history));
}

test("sent again after its 202 was lost, it changes neither state nor replies", async () => {
  const batch = largestRequest("c1");
  expect(Buffer.byteLength(JSON.stringify(batch))).toBe(REQUEST_BYTES_MAX - 10);
  const lost = proxy.loseNextAnswer();
  expect(await sender.try(proxy.url, "r1", batch)).toMatchObject({ outcome: "unknown", status: 0 });
  expect(await lost).toMatch(/^HTTP\/1\.1 202 /);

  expect(await sender.try(proxy.url, "r1", batch)).toMatchObject({ status: 202 });
  await allDelivered(MESSAGES);
  expect(await sender.try(proxy.url, "r1", batch)).toMatchObject({ status: 202 }); // long consumed
  await oneMore("c1", MESSAGES + 1);
});

test("sent again after its 202 was lost and the runtime was killed, it changes neither state nor replies", async () => {
  const batch = largestRequest("c1");
  const lost = proxy.loseNextAnswer();
  await sender.try(proxy.url, "r1", batch);
  await lost;
  await runtime.kill();
  await restart();

  expect(await sender.try(proxy.url, "r1", batch)).toMatchObject({ status: 202 });
  await allDelivered(MESSAGES);
  await runtime.kill();
  await restart();
  expect(await sender.try(proxy.url, "r1", batch)).toMatchObject({ status: 202 }); // known by a runtime that never saw it
  await oneMore("c1", MESSAGES + 1);
});

test("killed at any moment of it, it is in once when it was at last answered", async () => {
  const rounds = 4;
  for (let round = 1; round <= rounds; round += 1) {
    const conversation = `c${round}`;
    const batch = largestRequest(conversation);
    const sent = sender.try(runtime.url, conversation, batch);
    const afterMs = random.below(80);
    await sleep(afterMs);
    await runtime.kill();
    const { outcome } = await sent;
    process.stdout.write(`largest request seed ${seed}: killed ${afterMs} ms after its start, outcome ${outcome}\n`);
    await restart();
    expect(await sender.try(runtime.url, conversation, batch)).toMatchObject({ status: 202 });
  }
  await allDelivered(rounds * MESSAGES);
  await oneMore("c1", rounds * MESSAGES + 1);
});
