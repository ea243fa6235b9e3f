// Messages that cannot be handled, with real processes: whatever one of them does to its handler or to the whole process, in both
// orderings, it stops nobody but its own conversation.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Arena } from "./support/arena.ts";
import {
  ORDERINGS,
  type Ordering,
  type PoisonArena,
  type PoisonOptions,
  poisonEnv,
  reached,
  startPoison,
} from "./support/poison-arena.ts";
import type { Post } from "./support/poison-supervisor.ts";
import type { DeadMessage } from "./support/poison-view.ts";

const SOON_MS = 60_000;
/** A message that ends the process does so some ten times until it is known. */
const NARROWED_DOWN_MS = 140_000;
const MAX_ATTEMPTS = 2;
const DEATHS_MAX = 3;
const HEALTHY = ["h1", "h2", "h3"] as const;
const HEALTHY_MESSAGES = 4;

const say = (line: string): void => void process.stdout.write(`poison: ${line}\n`);
let arena: Arena;
beforeAll(() => {
  arena = new Arena("poison");
});
afterAll(() => arena.cleanUp());

const ids = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => `m${from + i}`);
const posts = (conversation: string, texts: readonly string[], from = 1): Post[] =>
  texts.map((text, i) => ({ conversation, id: `m${from + i}`, text }));
const answers = (wanted: readonly string[]): string[] => wanted.map((id, i) => `${i + 1}: ${id}`);
const healthy = (conversation: string): Post[] =>
  posts(
    conversation,
    Array.from({ length: HEALTHY_MESSAGES }, () => "hello"),
  );

/** All of every healthy conversation was handled once, in order. */
function healthyAnswered({ sink }: PoisonArena, ordering: Ordering): boolean {
  return HEALTHY.every((name) => sink.texts(ordering, name).length === HEALTHY_MESSAGES);
}

function expectHealthy({ sink }: PoisonArena, ordering: Ordering): void {
  for (const name of HEALTHY) expect(sink.texts(ordering, name), name).toEqual(answers(ids(1, HEALTHY_MESSAGES)));
  expect(sink.wrongs).toEqual([]);
}

async function poisonOf({ view }: PoisonArena, ordering: Ordering, conversation: string): Promise<DeadMessage[]> {
  return (await view.deadMessages()).filter((one) => one.bot === ordering && one.conversation === conversation);
}

/** What is known of the one that failed for good: it was message 2, and 1, 3 and 4 are as they should be. */
async function expectIsolated(
  world: PoisonArena,
  ordering: Ordering,
  conversation: string,
  attempts: number,
): Promise<void> {
  const { sink, view, runtime } = world;
  const isDone = async (): Promise<boolean> =>
    healthyAnswered(world, ordering) &&
    (ordering === "strict"
      ? (await view.openEntry(ordering, conversation))?.state === "halted"
      : sink.texts(ordering, conversation).length === 4);
  const state = async () => ({
    open: await view.open(),
    dead: await view.deadMessages(),
    replies: sink.texts(ordering, conversation),
  });
  await reached(world, `${conversation} of ${ordering} to be set aside`, NARROWED_DOWN_MS, isDone, state);
  expectHealthy(world, ordering);
  if (ordering === "available") {
    const [first, ...rest] = sink.texts(ordering, conversation);
    expect([first, ...rest]).toEqual(["1: m1", "poisoned: m2", "2: m3", "3: m4"]);
    expect(await poisonOf(world, ordering, conversation)).toMatchObject([
      { direction: "in", id: "m2", reason: "poison", attempts, botVersion: 1, error: expect.stringMatching(/./) },
    ]);
    expect(await view.openEntry(ordering, conversation)).toBeNull();
    return;
  }
  expect(sink.texts(ordering, conversation)).toEqual(["1: m1"]);
  expect(await view.openEntry(ordering, conversation)).toMatchObject({ state: "halted", reason: "poison" });
  expect(await poisonOf(world, ordering, conversation)).toEqual([]);
  const target = { bot: ordering, channel: "http", conversation };
  const body = JSON.stringify({ targets: [target] });
  const skipped = await runtime.ask(({ url }) =>
    fetch(`${url}/admin/conversations/skip`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    }).then(async (response) => ({ status: response.status, headers: response.headers, text: await response.text() })),
  );
  expect(skipped.status, skipped.text).toBe(200);
  const goesOn = (): boolean => sink.texts(ordering, conversation).length === 3;
  await reached(world, `${conversation} to go on after a skip`, SOON_MS, goesOn, state);
  expect(sink.texts(ordering, conversation)).toEqual(["1: m1", "2: m3", "3: m4"]);
  expect(await poisonOf(world, ordering, conversation)).toMatchObject([{ id: "m2", reason: "skipped", attempts }]);
}

describe.concurrent("a message that its handler cannot handle is set aside, and all others are handled", () => {
  const FAILING = [
    { text: "throws", attempts: MAX_ATTEMPTS },
    { text: "rejects", attempts: MAX_ATTEMPTS },
    { text: "terminal", attempts: 1 },
    { text: "hangs", attempts: MAX_ATTEMPTS },
    { text: "returns-a-date", attempts: MAX_ATTEMPTS },
  ];

  test("it throws, rejects, is terminal, never settles or returns what is no plain data, in both orderings", async () => {
    const world = await startPoison(arena, { name: "failing", settings: { handlerTimeoutMs: 500 } });
    const { runtime } = world;
    for (const ordering of ORDERINGS) {
      const poisons = FAILING.flatMap(({ text }) => posts(text, ["hello", text, "hello", "hello"]));
      await runtime.post(ordering, [...HEALTHY.flatMap(healthy), ...poisons]);
    }
    for (const ordering of ORDERINGS)
      for (const { text, attempts } of FAILING) await expectIsolated(world, ordering, text, attempts);
    expect(await world.view.open()).toEqual([]);
    expect(runtime.ends).toEqual([]);
  });

  test("its state cannot be migrated, in both orderings", async () => {
    const world = await startPoison(arena, { name: "migrate" });
    const { runtime, sink, view } = world;
    for (const ordering of ORDERINGS) {
      await runtime.post(ordering, [
        ...HEALTHY.flatMap((name) => healthy(name).slice(0, 2)),
        ...posts("broken", ["cannot-be-migrated"]),
      ]);
    }
    const handled = 2 * (2 * HEALTHY.length + 1);
    await reached(world, "the replies of version 1", SOON_MS, () => sink.count === handled);
    expect(await runtime.stop()).toMatchObject({ code: 0 });

    runtime.startAgain({
      env: { ...poisonEnv({ version: 2 }), COLLOQUY_WATCHDOG_MS: "1000" },
    });
    for (const ordering of ORDERINGS) {
      await runtime.post(ordering, [...posts("broken", ["hello", "hello"], 2), ...HEALTHY.flatMap(healthy)]);
      await reached(world, "the healthy ones", SOON_MS, () => healthyAnswered(world, ordering));
      expectHealthy(world, ordering);
      expect(sink.texts(ordering, "broken")).toEqual(["1: m1"]);
    }
    const halted = async () => (await view.openEntry("strict", "broken"))?.reason === "poison";
    await reached(world, "the halt", SOON_MS, halted, () => view.open());
    const dead = async () => (await poisonOf(world, "available", "broken")).filter(({ reason }) => reason === "poison");
    // Of what was set aside a notice would tell, which needs the state, too; what cannot be told of goes the same way.
    const both = async (): Promise<boolean> => {
      const found = (await dead()).map(({ id }) => id);
      return ids(2, 3).every((id) => found.includes(id));
    };
    await reached(world, "both dead letters", SOON_MS, both, () => view.deadMessages());
    expect(await dead()).toEqual(
      expect.arrayContaining(
        ids(2, 3).map((id) => expect.objectContaining({ id, reason: "poison", attempts: MAX_ATTEMPTS, botVersion: 2 })),
      ),
    );
    expect((await view.record("strict", "broken"))?.seq).toBe(1);
    expect(runtime.ends).toEqual([{ code: 0, signal: null }]);
  });
});

describe.concurrent("a message that ends the whole process is found, set aside, and all others are handled", () => {
  interface Killer extends Omit<PoisonOptions, "name"> {
    readonly text: string;
    /** Of the log of the lives that it ended. */
    readonly sign?: RegExp;
    readonly end: object;
  }

  const KILLERS: readonly Killer[] = [
    { text: "exits", end: { code: 1, signal: null } },
    {
      text: "loops-for-ever",
      end: { code: null, signal: "SIGKILL" },
      sign: /"level":"fatal".*"frames":\["[^"]*poison-bots\.ts/,
    },
    {
      text: "fills-memory",
      end: { code: null, signal: "SIGABRT" },
      sign: /heap out of memory/,
      heapMb: 128,
      watchdogMs: 60_000,
    },
  ];
  const CASES = KILLERS.flatMap((killer) => ORDERINGS.map((ordering) => ({ ...killer, ordering })));

  test.each(CASES)("it $text, $ordering", async ({ text, ordering, sign, end, ...options }) => {
    const world = await startPoison(arena, { name: `${text}-${ordering}`, ...options });
    const { runtime } = world;
    await runtime.post(ordering, [...posts("killer", ["hello", text, "hello", "hello"]), ...HEALTHY.flatMap(healthy)]);
    await expectIsolated(world, ordering, "killer", DEATHS_MAX);
    expect(runtime.ends.length).toBeGreaterThanOrEqual(DEATHS_MAX);
    for (const one of runtime.ends) expect(one).toEqual(end);
    if (sign) expect(runtime.current.stderr()).toMatch(sign);
    for (const { record } of await world.view.records()) expect(record.extra?.openTurn).toBeUndefined();
    expect(await world.view.open()).toEqual([]);
    say(`${text}, ${ordering}: ${runtime.ends.length} lives ended until it was known`);
  });
});
