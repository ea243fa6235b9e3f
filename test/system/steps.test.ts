// Turns and processes that end: the steps of a long turn are done once, whichever process goes on with it; a thousand turns are not
// held up by one among them that ends the process; and ends that come from outside convict nobody.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Arena, PROJECT_ROOT } from "./support/arena.ts";
import { type PoisonArena, reached, startPoison } from "./support/poison-arena.ts";
import { Effects } from "./support/poison-effects.ts";
import { type Random, seededRandom, seedOfThisRun } from "./support/random.ts";

const STEPS_BOT = join(PROJECT_ROOT, "test/system/support/poison-steps-bot.ts");
const SOON_MS = 60_000;

const seed = seedOfThisRun();
const say = (line: string): void => void process.stdout.write(`steps seed ${seed}: ${line}\n`);
let arena: Arena;
beforeAll(() => {
  arena = new Arena("steps");
});
afterAll(() => arena.cleanUp());

interface Order extends PoisonArena {
  readonly effects: Effects;
}

/** A runtime with an order under way. */
async function startOrder(name: string, stepMs: number, effect: "first" | "last"): Promise<Order> {
  const effects = await Effects.start(arena);
  const env = {
    COLLOQUY_TEST_EFFECTS_URL: effects.url,
    COLLOQUY_TEST_STEP_MS: String(stepMs),
    COLLOQUY_TEST_EFFECT: effect,
  };
  const world = await startPoison(arena, { name, bot: STEPS_BOT, env });
  await world.runtime.post("steps", [{ conversation: "c1", id: "m1", text: "order" }]);
  return { ...world, effects };
}

/** Steps of the order that are in the store, whether its turn is still open or is through. */
async function journaled({ view }: Order): Promise<number> {
  const record = await view.record("steps", "c1");
  return (record?.seq ?? 0) > 0 ? 3 : (record?.extra?.openTurn?.steps.length ?? 0);
}

const expectedReply = ["reserve 200, charge 200, ship 200"];

/** Others are answered while the order is under way. */
async function expectOthersServed(order: Order, life: number): Promise<void> {
  const conversation = `other-${life}`;
  await order.runtime.post("steps", [{ conversation, id: "m1", text: "quick" }]);
  await reached(
    order,
    `the answer to ${conversation}`,
    SOON_MS,
    () => order.sink.texts("steps", conversation).length > 0,
  );
  expect(order.sink.texts("steps", "c1")).toEqual([]);
}

describe.concurrent("ends of the process that come from outside", () => {
  const KILLS = 50;
  const CONVERSATIONS = 12;
  const WINDOW = 2;
  const TURN_MS_MAX = 200;

  test(`${KILLS} kills while work is pending leave no attempts, no halts and no dead letters`, async () => {
    const random = seededRandom(seed, "outside-kills");
    const world = await startPoison(arena, { name: "outside" });
    const { runtime, sink, view } = world;
    const load = new Load(world, random);
    load.begin();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await runtime.ready();
      const before = sink.count;
      await reached(world, "a reply of this life", SOON_MS, () => sink.count > before && load.pending > 0);
      const atMs = performance.now() + random.below(500);
      await reached(world, "the moment of the kill", SOON_MS, () => performance.now() >= atMs && load.pending > 0);
      const life = runtime.current;
      life.killNow();
      await life.ended;
      await expectNobodyGuilty();
    }
    load.end();
    await reached(
      world,
      "the last reply",
      SOON_MS,
      () => load.pending === 0,
      () => load.pending,
    );
    await expectNobodyGuilty();
    for (const conversation of load.conversations)
      expect(sink.texts("strict", conversation)).toEqual(load.answers(conversation));
    expect(sink.wrongs).toEqual([]);
    say(`${KILLS} kills from outside, ${sink.count} messages in order`);

    async function expectNobodyGuilty(): Promise<void> {
      for (const { conversation, record } of await view.records()) {
        const { attempts = 0, deaths = 0 } = record.extra?.openTurn ?? {};
        expect({ attempts, deaths, halt: record.extra?.halt }, conversation).toEqual({ attempts: 0, deaths: 0 });
      }
      expect((await view.open()).filter(({ entry }) => entry.state === "halted")).toEqual([]);
      expect(await view.deadMessages()).toEqual([]);
    }
  });

  /** A few messages of each conversation under way at any time, the next one sent when a reply comes. */
  class Load {
    readonly conversations: readonly string[] = Array.from({ length: CONVERSATIONS }, (_, i) => `c${i}`);
    readonly #world: PoisonArena;
    readonly #random: Random;
    readonly #sent = new Map<string, number>();
    #isOver = false;

    constructor(world: PoisonArena, random: Random) {
      this.#world = world;
      this.#random = random;
    }

    begin(): void {
      this.#world.sink.onReply((_bot, conversation) => this.#sendNext(conversation));
      for (const conversation of this.conversations) for (let i = 0; i < WINDOW; i += 1) this.#sendNext(conversation);
    }

    end(): void {
      this.#isOver = true;
    }

    sent(conversation: string): number {
      return this.#sent.get(conversation) ?? 0;
    }

    /** What it has to say to all that was sent. */
    answers(conversation: string): string[] {
      return Array.from({ length: this.sent(conversation) }, (_, i) => `${i + 1}: m${i + 1}`);
    }

    get pending(): number {
      return this.conversations.reduce((sum, one) => sum + this.sent(one), 0) - this.#world.sink.count;
    }

    /** One message of a conversation at a time is on its way to the runtime, so that arrival keeps their order. */
    readonly #queues = new Map<string, Promise<void>>();

    #sendNext(conversation: string): void {
      if (this.#isOver) return;
      const n = this.sent(conversation) + 1;
      this.#sent.set(conversation, n);
      const post = { conversation, id: `m${n}`, text: `sleeps ${20 + this.#random.below(TURN_MS_MAX)}` };
      const before = this.#queues.get(conversation) ?? Promise.resolve();
      this.#queues.set(
        conversation,
        before.then(() => this.#world.runtime.post("strict", [post])),
      );
    }
  }
});

describe.concurrent("a turn of three steps", () => {
  test("of 20 s each, killed after each: every side effect once, the reply once", async () => {
    const stepMs = 20_000;
    const order = await startOrder("long-steps", stepMs, "last");
    const { runtime, effects, sink } = order;
    const startedMs = performance.now();
    for (const step of [1, 2, 3]) {
      await expectOthersServed(order, step);
      await reached(order, `step ${step} in the store`, stepMs + SOON_MS, async () => (await journaled(order)) >= step);
      const life = runtime.current;
      life.killNow();
      await life.ended;
      await runtime.ready();
    }
    await reached(order, "the reply", SOON_MS, () => sink.texts("steps", "c1").length > 0);
    expect(sink.texts("steps", "c1")).toEqual(expectedReply);
    expect(effects.requests).toHaveLength(3); // no step ran a second time
    expect(effects.done).toHaveLength(3);
    expect(sink.wrongs).toEqual([]);
    say(`three steps of ${stepMs} ms through three kills in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`);
  });

  test("killed in the middle of each, after its effect: done again under the same key, the reply once", async () => {
    const order = await startOrder("cut-steps", 3_000, "first");
    const { runtime, effects, sink } = order;
    for (const step of [1, 2, 3]) {
      await reached(order, `the effect of step ${step}`, SOON_MS, () => effects.done.length === step);
      const life = runtime.current;
      life.killNow();
      await life.ended;
      await runtime.ready();
    }
    await reached(order, "the reply", SOON_MS, () => sink.texts("steps", "c1").length > 0);
    expect(sink.texts("steps", "c1")).toEqual(expectedReply);
    expect(effects.done).toHaveLength(3);
    expect(effects.requests).toHaveLength(6); // each once before its kill and once after it
    expect((await order.view.record("steps", "c1"))?.extra?.openTurn).toBeUndefined();
    expect(sink.wrongs).toEqual([]);
  });
});

describe.concurrent("a thousand turns of 2 s", () => {
  const CONVERSATIONS = 1_000;
  const WITHIN_MS = 120_000;
  const REQUEST_MESSAGES = 500;
  const KILLER = "killer";

  test("are all through within 120 s, though one message among them ends the process each time", async () => {
    const world = await startPoison(arena, { name: "thousand" });
    const { runtime, sink, view } = world;
    const messages = Array.from({ length: CONVERSATIONS }, (_, i) => ({
      conversation: `c${i}`,
      id: "m1",
      text: "sleeps 2000",
    }));
    messages.splice(CONVERSATIONS / 3, 0, { conversation: KILLER, id: "m1", text: "exits-late" });
    const startMs = performance.now();
    for (let i = 0; i < messages.length; i += REQUEST_MESSAGES)
      await runtime.post("strict", messages.slice(i, i + REQUEST_MESSAGES));
    await reached(
      world,
      "all but the killer",
      WITHIN_MS,
      () => sink.count === CONVERSATIONS,
      () => sink.count,
    );
    const tookMs = performance.now() - startMs;
    expect(tookMs).toBeLessThan(WITHIN_MS);
    say(`1,000 turns of 2 s beside a killer took ${(tookMs / 1_000).toFixed(1)} s and ${runtime.ends.length} lives`);
    for (let i = 0; i < CONVERSATIONS; i += 1) expect(sink.texts("strict", `c${i}`)).toEqual(["1: m1"]);
    expect(sink.texts("strict", KILLER)).toEqual([]);
    expect(sink.wrongs).toEqual([]);

    const isHalted = async (): Promise<boolean> => (await view.openEntry("strict", KILLER))?.state === "halted";
    await reached(world, "the halt of the killer", SOON_MS, isHalted, () => view.open());
    for (const { conversation, record } of await view.records())
      if (conversation !== KILLER) expect(record.extra?.openTurn, conversation).toBeUndefined();
    expect((await view.open()).map(({ conversation }) => conversation)).toEqual([KILLER]);
    expect((await view.record("strict", KILLER))?.extra?.openTurn?.deaths).toBe(3);
    expect(await view.deadMessages()).toEqual([]);
  });
});
