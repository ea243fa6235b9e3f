// What lanes do besides plain delivery: their list, budget, verbs, parts, markers, unknown outcomes, accounts, and crashes anywhere.

import { afterEach, describe, expect, test } from "vitest";
import type { AccountWaiter, AttemptEnd } from "../../actors/channel-accounts.ts";
import { ChannelAccount, ChannelAccounts } from "../../actors/channel-accounts.ts";
import type { SendOutcome } from "../../src/channels/channel.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";
import type { LaneControl } from "../../src/domain/message.ts";
import { quiet } from "../support/quiet.ts";
import { Saboteur } from "../support/saboteur.ts";
import { keyOf, type Life, type Settings, World } from "./support/lane-rig.ts";

let world: World;
const begin = async (settings: Partial<Settings> = {}): Promise<Life> => {
  world = worldWith(settings);
  return await world.life();
};
const worldWith = (settings: Partial<Settings>): World => {
  const made = new World();
  Object.assign(made.settings, { laneBacklogMax: 1_000 }, settings);
  return made;
};
afterEach(() => {
  world.kill();
  expect(world.wrong).toEqual([]);
});

const C = keyOf("c");
const A = keyOf("a", "available");
const OK: SendOutcome = { kind: "delivered" };
const RETRY: SendOutcome = { kind: "retryable", reason: "HTTP 503" };
const LATER: SendOutcome = { ...RETRY, retryAfterMs: 60_000 };
const TERMINAL: SendOutcome = { kind: "terminal", reason: "HTTP 400" };
const GONE: SendOutcome = { kind: "gone", reason: "HTTP 410" };
const AMBIGUOUS: SendOutcome = { kind: "ambiguous", reason: "reset" };

const retry = (at: string): LaneControl => ({ verb: "lane-retry", at, by: "test" });
const skip = (at: string): LaneControl => ({ verb: "lane-skip", at, by: "test" });
const redrive = (letter: string): LaneControl => ({ verb: "lane-redrive", letter, by: "test" });

const until = (isSo: () => boolean, what: string, limitMs = 10_000): Promise<void> =>
  world.environment.until(isSo, limitMs, what);
const outboxIsEmpty = (): boolean => world.shard.outbox.entries.length === 0;
const listOf = (key: ConversationKey): string[] => world.places(key).list.map(({ name }) => name);
const verbsAreDone = (): Promise<void> => until(() => world.shard.inbox.entries.length === 0, "verbs are done");
const inOrder = (bodies: readonly string[]): string[] => [...new Set(bodies)];

describe("a lane that does not move (R1)", () => {
  test("moves to its list after spillMs, what follows goes straight there, nothing of it stays in memory, and all leaves in order", async () => {
    const life = await begin();
    world.recipient.answers = [LATER];
    life.reply(C, "r1", "r2");
    await quiet();
    await world.environment.pass(1_500);
    expect(world.places(C)).toMatchObject({ outbox: [{}, {}], list: [] });
    await until(outboxIsEmpty, "moved");
    expect(listOf(C)).toEqual(["b0.1", "b0.2"]);
    life.reply(C, "r3", "r4");
    await quiet();
    expect(life.commits.at(-1)).toMatchObject({ outbox: null, laneLists: [{ joining: [{ id: 3 }, { id: 4 }] }] });
    expect(listOf(C)).toEqual(["b0.1", "b0.2", "b0.3", "b0.4"]);
    expect(life.lanes.bytes).toBe(0);
    await world.through(70_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2", "r3", "r4"]);
    await world.environment.pass(100);
    expect(world.shard.lanes.size + world.shard.laneLists.size + life.lanes.bytes).toBe(0);
  });

  test("keeps the order across list, outbox and a kill after any of its commits", async () => {
    let deaths = 0;
    for (let k = 1; ; k += 1) {
      world = worldWith({});
      const { recipient, environment } = world;
      recipient.answers = [RETRY, { ...RETRY, retryAfterMs: 4_000 }, OK, { ...RETRY, retryAfterMs: 3_000 }];
      let life = await world.life(k);
      for (let n = 1; n <= 8; n += 1) {
        const tell = (): void => life.reply(C, `r${n}`);
        tell();
        await environment.pass(900);
        if (life.isDead) {
          deaths += 1;
          life = await world.life();
          if (!world.storedNames(C).includes(`b0.${n}`)) tell();
        }
      }
      await world.through(60_000);
      expect(inOrder(recipient.bodies)).toEqual(["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"]);
      world.kill();
      if (world.commits < k) break;
    }
    expect(deaths).toBeGreaterThan(10);
  });

  test("reads its list page by page when it goes on", async () => {
    const life = await begin();
    const bodies = Array.from({ length: 100 }, (_, i) => `r${i + 1}`);
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 4_000 }];
    life.reply(C, ...bodies);
    await until(() => listOf(C).length === 100, "moved");
    expect(life.lanes.bytes).toBe(0);
    await world.through(10_000);
    expect(inOrder(world.recipient.bodies)).toEqual(bodies);
  });

  test("keeps nothing of a page that it read when it fails again (B3)", async () => {
    const life = await begin();
    const again: SendOutcome = { ...RETRY, retryAfterMs: 4_000 };
    world.recipient.answers = [again, OK, again];
    life.reply(C, ...Array.from({ length: 10 }, (_, i) => `r${i + 1}`));
    await until(() => world.recipient.attempts.length === 3, "failed again");
    await until(() => world.laneState(C)?.outSeq === 2, "waits");
    expect(life.lanes.bytes).toBe(0);
    await world.through(10_000);
  });

  test("what moved while it was being sent leaves the list when it is delivered", async () => {
    const life = await begin();
    world.recipient.held = [];
    life.reply(C, "r1", "r2");
    await until(() => listOf(C).length === 2, "moved");
    world.recipient.held.shift()!.open(OK);
    world.recipient.held = null;
    await world.through(5_000);
    expect(world.recipient.bodies).toEqual(["r1", "r2"]);
  });

  test("what moved while it was being sent and is refused is buried, and not sent again", async () => {
    const life = await begin();
    world.recipient.held = [];
    life.reply(A, "r1", "r2");
    await until(() => listOf(A).length === 2, "moved");
    world.recipient.held.shift()!.open(TERMINAL);
    world.recipient.held = null;
    await world.through(5_000);
    expect(world.recipient.bodies).toEqual(["r1", "r2"]);
    expect(world.deadLetters()).toMatchObject([{ body: "r1", reason: "terminal" }]);
  });
});

describe("the budget of a reply", () => {
  const channel = { retry: { budgetMs: 60_000 } };

  test("ends in a halt where order counts; an operator's retry begins it anew", async () => {
    const life = await begin({ channel });
    world.recipient.answers = Array.from({ length: 1_000 }, () => RETRY);
    life.reply(C, "r1", "r2");
    await until(() => world.laneState(C)?.state === "halted", "halted", 200_000);
    const [first] = world.recipient.attempts;
    expect(world.environment.nowMs() - first!.atMs).toBeLessThanOrEqual(62_000);
    expect(world.laneState(C)).toMatchObject({ halt: "exhausted", reason: "HTTP 503", outSeq: 1 });
    world.recipient.answers = [RETRY];
    await world.control(C, retry("b0.1"));
    await world.through(10_000);
    expect(world.recipient.bodies.slice(-3)).toEqual(["r1", "r1", "r2"]);
  });

  test("ends in a dead letter where the rest goes on, also after so many attempts", async () => {
    const life = await begin({ channel: { retry: { attemptsMax: 3 } } });
    world.recipient.answers = [RETRY, RETRY, RETRY];
    life.reply(A, "r1", "r2");
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r1", "r2"]);
    expect(world.deadLetters()).toMatchObject([{ reason: "exhausted", error: "HTTP 503", attempts: 3, body: "r1" }]);
  });

  test("counts on in the next life", async () => {
    const first = await begin({ channel });
    world.recipient.answers = Array.from({ length: 1_000 }, () => RETRY);
    first.reply(A, "r1");
    await world.environment.pass(50_000);
    first.kill();
    await world.life();
    await until(() => world.deadLetters().length === 1, "buried", 12_000);
  });

  test("bounds a Retry-After: a last attempt is made when it ends", async () => {
    const life = await begin({ channel });
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 1e9 }, RETRY];
    life.reply(A, "r1", "r2");
    await world.through(70_000);
    const [first, last] = world.recipient.attempts;
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2"]);
    expect(last!.atMs - first!.atMs).toBeGreaterThanOrEqual(60_000);
  });

  test("a Retry-After of no number leaves a state that the next life can read", async () => {
    const first = await begin();
    world.recipient.answers = [{ ...RETRY, retryAfterMs: Number.NaN }];
    world.wakeUpsArrive = false;
    first.reply(C, "r1");
    await quiet();
    first.kill();
    await world.life();
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1"]);
  });
});

describe("what a channel answers", () => {
  test("that is no outcome is an attempt whose end nobody knows", async () => {
    const life = await begin();
    world.recipient.answers = [{ kind: "ok" }, undefined, { kind: "delivered" }] as unknown as SendOutcome[];
    const { send } = world.recipient;
    let asked = 0;
    world.recipient.send = async (delivery) => {
      asked += 1;
      const outcome = await send(delivery);
      return asked === 2 ? (undefined as unknown as SendOutcome) : outcome;
    };
    life.reply(C, "r1", "r2");
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r1", "r2"]);
    expect(life.lanes.crashes.restarts).toBe(0);
  });
});

describe("a reply whose time is over (N4)", () => {
  const expiring = (body: string, inMs: number) => ({
    body,
    extra: { expiresAtMs: world.environment.nowMs() + inMs },
  });

  test.each([C, A])("becomes a dead letter unsent, %s, also one that was tried before", async (key) => {
    const life = await begin();
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 5_000 }];
    life.replies(key, [expiring("r1", 4_000), expiring("r2", 4_500), { body: "r3" }]);
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r3"]);
    expect(world.deadLetters()).toMatchObject([
      { body: "r1", reason: "expired", attempts: 1 },
      { body: "r2", reason: "expired", attempts: 0 },
    ]);
  });

  test("dies as well if its time is over only when its attempt is written down", async () => {
    const life = await begin({ channel: { onAmbiguous: "halt" } });
    world.recipient.held = [];
    life.replies(C, [{ body: "r1" }, expiring("r2", 500), { body: "r3" }]);
    await until(() => world.recipient.attempts.length === 1, "sent");
    life.redisIsAway = true;
    world.recipient.held.shift()!.open(OK);
    world.recipient.held = null;
    await world.environment.pass(1_000);
    life.redisIsAway = false;
    await world.through(5_000);
    expect(world.recipient.bodies).toEqual(["r1", "r3"]);
    expect(world.deadLetters()).toMatchObject([{ body: "r2", reason: "expired", attempts: 0 }]);
  });

  test("goes out all the same once it is redriven", async () => {
    const life = await begin();
    life.replies(C, [expiring("r1", 0)]);
    await world.through(1_000);
    await world.control(C, redrive(world.deadLetters()[0]!.letter));
    await until(() => world.recipient.attempts.length === 1, "sent");
    expect(world.recipient.attempts[0]!.redriven).toBe(true);
  });
});

describe("an outcome that nobody knows (N3, L5)", () => {
  const probing = { channel: { onAmbiguous: "probe" } } as const;
  const halting = { channel: { onAmbiguous: "halt" } } as const;

  test("is asked about: what arrived is delivered, what did not goes out again, what is unknown is asked again later", async () => {
    const life = await begin(probing);
    const { recipient } = world;
    recipient.answers = [AMBIGUOUS, AMBIGUOUS];
    recipient.probed = [{ kind: "unknown", reason: "HTTP 503" }, { kind: "delivered" }, { kind: "absent" }];
    life.reply(C, "r1", "r2");
    await world.through(20_000);
    expect(recipient.bodies).toEqual(["r1", "r2", "r2"]);
    expect(recipient.probes).toEqual(["r1", "r1", "r2"]);
  });

  test("halts the lane of a channel that cannot be asked, whatever the ordering; an operator decides", async () => {
    const life = await begin(halting);
    world.recipient.answers = [AMBIGUOUS];
    life.reply(A, "r1", "r2");
    await world.environment.pass(60_000);
    expect(world.recipient.bodies).toEqual(["r1"]);
    expect(world.laneState(A)).toMatchObject({ state: "halted", halt: "unclear", attempts: 1 });
    await world.control(A, retry("b0.1"));
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2"]);
  });

  test("nothing is sent before the commit that says so, and an attempt cut by a kill is not made again", async () => {
    const first = await begin(halting);
    first.redisIsAway = true;
    world.recipient.held = [];
    first.reply(C, "r1");
    await world.environment.pass(1_000);
    first.redisIsAway = false;
    await until(() => world.recipient.attempts.length === 1, "sent");
    expect(world.laneState(C)).toMatchObject({ state: "flowing", isUnclear: true });
    first.kill();
    world.recipient.held = null;
    await world.life();
    await world.environment.pass(60_000);
    expect(world.recipient.attempts).toHaveLength(1);
    expect(world.laneState(C)).toMatchObject({ state: "halted", halt: "unclear" });
  });

  test("what an operator says while the attempt is under way takes nothing back of what was written down", async () => {
    const first = await begin(halting);
    world.recipient.answers = [RETRY];
    world.recipient.held = null;
    first.reply(C, "r1");
    await until(() => world.laneState(C)?.state === "retrying", "retries");
    world.recipient.held = [];
    await until(() => world.recipient.attempts.length === 2, "sent again");
    await world.control(C, retry("b0.1"));
    await verbsAreDone();
    expect(world.laneState(C)).toMatchObject({ isUnclear: true, attempts: 0 });
    first.kill();
    world.recipient.held = null;
    await world.life();
    await world.environment.pass(60_000);
    expect(world.recipient.attempts).toHaveLength(2);
    expect(world.laneState(C)).toMatchObject({ state: "halted", halt: "unclear" });
  });

  test("a letter that is redriven meanwhile waits behind it, and makes nobody forget it", async () => {
    const first = await begin(halting);
    world.recipient.answers = [TERMINAL];
    first.reply(A, "r1");
    await until(() => world.deadLetters().length === 1, "buried");
    world.recipient.held = [];
    first.reply(A, "r2");
    await until(() => world.recipient.attempts.length === 2, "being sent");
    await world.control(A, redrive(world.deadLetters()[0]!.letter));
    await verbsAreDone();
    expect(listOf(A)).toEqual(["b0.2", "b0.1"]);
    first.kill();
    world.recipient.held = null;
    await world.life();
    await world.environment.pass(60_000);
    expect(world.recipient.bodies).toEqual(["r1", "r2"]);
    expect(world.laneState(A)).toMatchObject({ state: "halted", halt: "unclear", outSeq: 2 });
    await world.control(A, skip("b0.2"));
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1", "r2", "r1"]);
  });

  test("ackFirst: the next goes out only after the commit that says this one is delivered (attack H7)", async () => {
    const life = await begin({ channel: { ackFirst: true } });
    world.recipient.held = [];
    life.reply(C, "r1", "r2");
    await until(() => world.recipient.attempts.length === 1, "sent");
    life.redisIsAway = true;
    world.recipient.held.shift()!.open(OK);
    await world.environment.pass(3_000);
    expect(world.recipient.bodies).toEqual(["r1"]);
    life.redisIsAway = false;
    await until(() => world.recipient.attempts.length === 2, "sent, too");
    const { list, outbox } = world.places(C);
    expect([...list, ...outbox].map(({ name }) => name)).toEqual(["b0.2"]);
    world.recipient.held.shift()!.open(OK);
    await world.through(1_000);
  });
});

describe("the parts of one reply", () => {
  const parts = (outSeq: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      body: `r${outSeq}${"abcdefghijklmnop"[i]}`,
      extra: { part: i + 1, parts: count },
    }));

  test("go out one after the other, each under a key of its own", async () => {
    const life = await begin();
    life.replies(C, [...parts(1, 3), { body: "r2" }]);
    await world.through(1_000);
    expect(world.recipient.attempts.map(({ key, body }) => `${key.split("~").at(-1)} ${body}`)).toEqual([
      "b0.1.1 r1a",
      "b0.1.2 r1b",
      "b0.1.3 r1c",
      "b0.2 r2",
    ]);
  });

  test.each([0, 2_500])(
    "die together, the first ones delivered, in one commit (%i ms until the refusal)",
    async (ms) => {
      const life = await begin();
      world.recipient.held = [];
      life.replies(A, [...parts(1, 4), { body: "r2" }]);
      await quiet();
      world.recipient.held.shift()!.open(OK);
      await quiet();
      await world.environment.pass(ms);
      world.recipient.held.shift()!.open(TERMINAL);
      world.recipient.held = null;
      await world.through(5_000);
      expect(world.recipient.bodies).toEqual(["r1a", "r1b", "r2"]);
      expect(life.commits.filter(({ dead }) => dead.length > 0).map(({ dead }) => dead.length)).toEqual([3]);
      expect(world.deadLetters()).toMatchObject([
        { body: "r1b", part: 2, parts: 4, attempts: 1, reason: "terminal" },
        { body: "r1c", part: 3, attempts: 0, reason: "terminal" },
        { body: "r1d", part: 4, attempts: 0, reason: "terminal" },
      ]);
    },
  );

  test("are read to the last one before they die, over pages of the list", async () => {
    const life = await begin();
    const before = Array.from({ length: 30 }, (_, i) => ({ body: `r${i + 1}` }));
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 4_000 }, ...before.map(() => OK), TERMINAL];
    life.replies(A, [...before, ...parts(31, 5), { body: "r32" }]);
    await until(() => listOf(A).length === 36, "moved");
    await world.through(10_000);
    expect(world.deadLetters().map(({ body }) => body)).toEqual(["r31a", "r31b", "r31c", "r31d", "r31e"]);
    expect(world.recipient.bodies.slice(-2)).toEqual(["r31a", "r32"]);
  });

  test("where there is not room for all of them among the dead letters, none dies: the lane halts at the first", async () => {
    const life = await begin({ deadLettersMax: 2 });
    world.recipient.answers = [TERMINAL];
    life.replies(A, [...parts(1, 3), { body: "r2" }]);
    await until(() => world.laneState(A)?.state === "halted", "halted");
    expect(world.laneState(A)).toMatchObject({ halt: "full", outSeq: 1, part: 1, attempts: 1, reason: "HTTP 400" });
    expect(world.deadLetters()).toEqual([]);
    await world.control(A, retry("b0.1.1"));
    await world.through(10_000);
    expect(world.recipient.bodies).toEqual(["r1a", "r1a", "r1b", "r1c", "r2"]);
  });
});

describe("markers of what died", () => {
  test("only where the rest goes on, once for each, in the commit that buries; none for what a notice caused", async () => {
    const life = await begin();
    world.recipient.answers = [TERMINAL, TERMINAL, OK];
    life.replies(A, [{ body: "r1" }, { body: "r2", extra: { isOfNotice: true } }, { body: "r3" }]);
    await world.through(5_000);
    await verbsAreDone();
    expect(world.markers()).toEqual([{ to: A, id: "delivery-failed:b0.1", outSeq: 1, reason: "terminal" }]);
    const [first, second] = life.commits.filter(({ dead }) => dead.length > 0);
    expect(first!.inboxAdd).toBeDefined();
    expect(second!.inboxAdd).toBeUndefined();
    expect(first!.outboxDone.length + first!.acks.length).toBe(1);
    expect(first!.lanes).toEqual([{ key: A, state: null }]);
  });

  test("none where order counts, whatever is skipped or expires", async () => {
    const life = await begin();
    world.recipient.answers = [TERMINAL];
    life.replies(C, [{ body: "r1" }, { body: "r2", extra: { expiresAtMs: 0 } }]);
    await until(() => world.laneState(C)?.state === "halted", "halted");
    await world.control(C, skip("b0.1"));
    await world.through(5_000);
    await verbsAreDone();
    expect(world.deadLetters()).toHaveLength(2);
    expect(world.markers()).toEqual([]);
  });
});

describe("verbs of an operator (F1)", () => {
  test("skip buries the head of a halted lane, twice told once; a name of another reply, and a lane that flows, change nothing", async () => {
    const life = await begin();
    world.recipient.answers = [TERMINAL];
    life.reply(C, "r1", "r2");
    await until(() => world.laneState(C)?.state === "halted", "halted");
    await world.control(C, skip("b0.2"), skip("b0.7"));
    await verbsAreDone();
    expect(world.laneState(C)).toMatchObject({ state: "halted" });
    await world.control(C, skip("b0.1"), skip("b0.1"));
    await world.control(C, skip("b0.1"));
    await world.through(5_000);
    await verbsAreDone();
    expect(world.deadLetters()).toMatchObject([{ body: "r1", reason: "skipped", error: "HTTP 400" }]);
    expect(world.recipient.bodies).toEqual(["r1", "r2"]);
    await world.control(C, skip("b0.2"), retry("b0.2"));
    await world.control(keyOf("nobody"), skip("b0.1"), retry("b0.1"), redrive("99-0"));
    await verbsAreDone();
    expect(world.deadLetters()).toHaveLength(1);
  });

  test("retry brings a lane forward that waits for its time, and opens one that is closed", async () => {
    const life = await begin();
    world.recipient.answers = [LATER];
    life.reply(C, "r1");
    await quiet();
    await world.control(C, retry("b0.1"));
    await world.through(2_000);
    world.recipient.answers = [GONE];
    life.reply(A, "r1");
    await until(() => world.laneState(A)?.state === "closed" && world.isEmpty, "closed");
    await world.control(A, retry("b0.1"));
    await until(() => world.laneState(A) === null, "open");
    life.reply(A, "r2");
    await world.through(2_000);
    expect(world.recipient.attempts.map(({ to, body }) => to + body)).toEqual(["cr1", "cr1", "ar1", "ar2"]);
  });

  test("redrive sends a letter once, with its key and bytes, however often it is told, and only of its own lane", async () => {
    const life = await begin();
    world.recipient.answers = [TERMINAL];
    life.reply(A, "r1");
    await world.through(2_000);
    const { letter } = world.deadLetters()[0]!;
    await world.control(C, redrive(letter));
    await world.control(A, redrive("1-1"), redrive(letter), redrive(letter));
    await world.control(A, redrive(letter));
    await verbsAreDone();
    await world.through(2_000);
    expect(world.recipient.attempts.map(({ key, body, redriven }) => [key, body, redriven])).toEqual([
      ["available~test~a~b0.1", "r1", false],
      ["available~test~a~b0.1", "r1", true],
    ]);
    expect([world.shard.deadCount, world.deadLetters()]).toEqual([0, []]);
  });

  test("redrive of a lane that waits joins its end; of several letters they keep their order; a closed lane goes on", async () => {
    const life = await begin();
    world.recipient.answers = [TERMINAL, TERMINAL, { ...RETRY, retryAfterMs: 5_000 }];
    life.reply(A, "r1", "r2", "r3", "r4");
    await until(() => world.laneState(A)?.state === "retrying", "retries");
    await world.control(A, ...world.deadLetters().map(({ letter }) => redrive(letter)));
    await verbsAreDone();
    expect(listOf(A)).toEqual(["b0.3", "b0.4", "b0.1", "b0.2"]);
    life.reply(A, "r5");
    world.recipient.answers = [OK, OK, OK, GONE];
    await until(() => world.laneState(A)?.state === "closed" && world.isEmpty, "closed");
    expect(world.recipient.bodies).toEqual(["r1", "r2", "r3", "r3", "r4", "r1", "r2"]);
    await world.control(A, ...world.deadLetters().map(({ letter }) => redrive(letter)));
    await world.through(5_000);
    expect(world.recipient.bodies.slice(7)).toEqual(["r2", "r5"]);
  });

  test("a skip outlives a crash of the lane's own code at any look in the middle of it", async () => {
    const places = new Set<string>();
    for (let looks = 0; looks < 8; looks += 1) {
      let saboteur!: Saboteur;
      const life = await begin({ sabotage: (...given) => (saboteur = new Saboteur(...given)) });
      world.recipient.answers = [TERMINAL];
      life.reply(C, "r1");
      await until(() => world.laneState(C)?.state === "halted", "halted");
      await world.control(C, skip("b0.1"));
      saboteur.arm(looks);
      await verbsAreDone();
      for (const at of saboteur.struck) places.add(at);
      saboteur.disarm();
      expect(world.deadLetters()).toHaveLength(1);
      expect(world.wrong).toEqual([]);
      world.kill();
    }
    expect([...places]).toEqual(expect.arrayContaining(["nowMs", "deadLetters"]));
  });
});

describe("wake-ups alone, without the sweep (L3)", () => {
  test("one that comes before its time leaves another", async () => {
    const life = await begin({ sweepMs: 0, wakeUps: (delayMs) => [delayMs / 2] });
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 10_000 }];
    life.reply(C, "r1");
    await world.through(20_000);
    expect(world.recipient.attempts[1]!.atMs - world.recipient.attempts[0]!.atMs).toBeGreaterThanOrEqual(10_000);
  });

  test("one of an account that comes before its breaker lets a probe through leaves another", async () => {
    const channel = { account: { breakerFailures: 1, breakerOpenMs: 4_000 } };
    const life = await begin({ sweepMs: 0, wakeUps: (delayMs) => [delayMs / 2], channel });
    world.recipient.answers = [RETRY];
    life.reply(C, "r1");
    await world.through(10_000);
    const [first, probe] = world.recipient.attempts;
    expect(probe!.atMs - first!.atMs).toBeGreaterThanOrEqual(4_000);
    expect(new Set(life.accountWakeUps)).toEqual(new Set(["test"]));
  });

  test("a lane that crashed while it waited is rung all the same", async () => {
    const life = await begin({ sweepMs: 0 });
    world.wakeUpsArrive = false;
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 10_000 }];
    life.reply(C, "r1");
    await quiet();
    world.wakeUpsArrive = true;
    life.lanes.find(C)!.crashed(new Error("a mistake"));
    await world.through(11_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1"]);
  });

  test("an owner that was killed before it left one leaves it to the next", async () => {
    const first = await begin({ sweepMs: 0 });
    world.wakeUpsArrive = false;
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 10_000 }];
    first.reply(C, "r1");
    await quiet();
    first.kill();
    world.wakeUpsArrive = true;
    (await world.life()).lanes.leaveWakeUps();
    await world.through(11_000);
  });
});

describe("a lane whose own code crashes at any look at the clock, at chance or at a counter", () => {
  const course = async (looks: number): Promise<{ struck: string[] }> => {
    const struck: string[] = [];
    world = worldWith({
      channel: { onAmbiguous: "probe", ackFirst: true, retry: { attemptsMax: 3 } },
      sabotage: (environment, counters) => {
        const saboteur = new Saboteur(environment, counters);
        if (struck.length === 0) saboteur.arm(looks);
        saboteur.struck.push = (at: string) => struck.push(at);
        return saboteur;
      },
    });
    const { recipient } = world;
    const once = new Map<string, SendOutcome>([
      ["r1", { ...RETRY, retryAfterMs: 3_000 }],
      ["r5", AMBIGUOUS],
    ]);
    const always = new Map<string, SendOutcome>([
      ["r2", TERMINAL],
      ["r4b", TERMINAL],
      ["r6", RETRY],
    ]);
    const answered = (text: string): SendOutcome => {
      const first = once.get(text);
      once.delete(text);
      return first ?? always.get(text) ?? OK;
    };
    recipient.send = async ({ body, idempotencyKey: key, to, redriven }) => {
      const text = Buffer.from(body).toString();
      const { conversation } = to;
      recipient.attempts.push({ key, body: text, to: conversation, atMs: 0, redriven: redriven === true });
      return redriven === true ? OK : answered(text);
    };
    world.onCommitterFailed = (life) => {
      life.kill();
      void world.life();
    };
    await world.life();
    world.lives
      .at(-1)!
      .replies(A, [
        { body: "r1" },
        { body: "r2" },
        { body: "r3", extra: { expiresAtMs: world.environment.nowMs() } },
        { body: "r4a", extra: { part: 1, parts: 3 } },
        { body: "r4b", extra: { part: 2, parts: 3 } },
        { body: "r4c", extra: { part: 3, parts: 3 } },
        { body: "r5" },
        { body: "r6" },
      ]);
    await until(() => world.commits > 0 && world.isEmpty, "through", 60_000);
    for (const { letter } of world.deadLetters()) await world.control(A, redrive(letter));
    await verbsAreDone();
    await until(() => world.isEmpty, "redriven", 60_000);
    await world.environment.pass(2_000);
    return { struck };
  };

  test("sends nothing past a reply that it buried before the commit that says so (L1)", async () => {
    const places = new Set<string>();
    for (let looks = 0; looks < 12; looks += 1) {
      let saboteur!: Saboteur;
      const life = await begin({ sabotage: (...given) => (saboteur = new Saboteur(...given)) });
      world.recipient.held = [];
      life.reply(A, "r1", "r2");
      await until(() => world.recipient.attempts.length === 1, "sent");
      life.redisIsAway = true;
      saboteur.arm(looks);
      world.recipient.held.shift()!.open(TERMINAL);
      world.recipient.held = null;
      world.recipient.answers = [TERMINAL];
      await world.environment.pass(1_500);
      expect(inOrder(world.recipient.bodies), `after ${looks} looks`).toEqual(["r1"]);
      for (const at of saboteur.struck) places.add(at);
      life.redisIsAway = false;
      saboteur.disarm();
      await world.through(10_000);
      world.kill();
    }
    expect([...places]).toEqual(expect.arrayContaining(["failedDeliveries", "deadLetters"]));
  });

  test("counts what it has in memory once, also of replies that come while it is not replaced yet", async () => {
    const life = await begin({ restartAfterMs: () => 500 });
    world.recipient.held = [];
    life.reply(C, "r1");
    await until(() => world.recipient.attempts.length === 1, "sent");
    life.lanes.find(C)!.crashed(new Error("a mistake"));
    life.reply(C, "r2");
    world.recipient.held = null;
    await world.through(5_000);
    expect(inOrder(world.recipient.bodies)).toEqual(["r1", "r2"]);
    expect(life.lanes.bytes).toBe(0);
  });

  test("loses, doubles and reorders nothing", async () => {
    const places = new Set<string>();
    for (let looks = 0; ; looks += 1) {
      const { struck } = await course(looks);
      for (const at of struck) places.add(at);
      expect(world.wrong, `after ${looks} looks`).toEqual([]);
      const firsts = inOrder(world.recipient.attempts.filter(({ redriven }) => !redriven).map(({ body }) => body));
      expect(firsts, `after ${looks} looks`).toEqual(["r1", "r2", "r4a", "r4b", "r5", "r6"]);
      expect(world.deadLetters(), `after ${looks} looks`).toEqual([]);
      const delivered = new Set(world.recipient.attempts.map(({ body }) => body));
      expect([...delivered].sort()).toEqual(["r1", "r2", "r3", "r4a", "r4b", "r4c", "r5", "r6"]);
      expect(world.lives.at(-1)!.lanes.bytes, `after ${looks} looks`).toBe(0);
      world.kill();
      if (struck.length === 0) break;
    }
    expect([...places].sort()).toEqual(expect.arrayContaining(["deadLetters", "delivered", "monotonicMs", "nowMs"]));
  });
});

/** An account that admits when the test says so, and counts its places. */
class SlowAccount extends ChannelAccount {
  mode: "never" | "late" | "within wait" = "late";
  isOpen = false;
  readonly waiters = new Set<AccountWaiter>();
  taken = 0;
  readonly ended: AttemptEnd[] = [];

  override get isBlocked(): boolean {
    return this.isOpen;
  }

  override tryEnter(): boolean {
    return false;
  }

  override wait(waiter: AccountWaiter): void {
    this.waiters.add(waiter);
    if (this.mode === "within wait") this.admit();
  }

  override cancel(waiter: AccountWaiter): void {
    this.waiters.delete(waiter);
  }

  override leave(ended: AttemptEnd): number | null {
    this.taken -= 1;
    this.ended.push(ended);
    return null;
  }

  admit(): void {
    for (const waiter of [...this.waiters]) {
      this.waiters.delete(waiter);
      this.taken += 1;
      waiter.admitted();
    }
  }
}

describe("places of an account (L6)", () => {
  let account: SlowAccount;
  const beginWith = async (settings: Partial<Settings> = {}): Promise<Life> =>
    begin({
      accounts: (environment) => {
        account = new SlowAccount("test", {}, environment);
        return Object.assign(new ChannelAccounts(environment), { of: () => account });
      },
      ...settings,
    });

  test("one that is given late is used, and given back after each attempt", async () => {
    const life = await beginWith();
    world.recipient.answers = [RETRY];
    life.reply(C, "r1", "r2");
    await quiet();
    expect(world.recipient.attempts).toEqual([]);
    await until(() => {
      account.admit();
      return world.isEmpty && world.commits > 1;
    }, "through");
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2"]);
    expect([account.taken, account.waiters.size]).toEqual([0, 0]);
    expect(account.ended.filter((ended) => ended !== "unused")).toEqual(["retryable", "delivered", "delivered"]);
  });

  test("one that is given from within the waiting is used", async () => {
    const life = await beginWith();
    account.mode = "within wait";
    world.recipient.answers = [RETRY, TERMINAL];
    life.reply(A, "r1", "r2", "r3");
    await world.through(10_000);
    await quiet();
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2", "r3"]);
    expect([account.taken, account.waiters.size]).toEqual([0, 0]);
  });

  test("one that never comes is waited for durably, on the list, with no attempt counted; the next owner goes on", async () => {
    const life = await beginWith();
    life.reply(C, "r1", "r2");
    await until(() => listOf(C).length === 2, "moved");
    expect(world.laneState(C)).toMatchObject({ state: "retrying", attempts: 0, outSeq: 1 });
    expect(life.lanes.bytes).toBe(0);
    life.kill();
    expect([account.taken, account.waiters.size]).toEqual([0, 0]);
    await world.life();
    await until(() => {
      account.admit();
      return world.isEmpty;
    }, "through");
    expect(world.recipient.bodies).toEqual(["r1", "r2"]);
    expect(account.taken).toBe(0);
  });

  test("one that comes after the lane stopped, or while it crashes, is given back", async () => {
    const life = await beginWith();
    life.reply(C, "r1");
    await quiet();
    const [waiter] = [...account.waiters];
    const stopped = life.lanes.find(C)!;
    stopped.crashed(new Error("a mistake"));
    expect(account.waiters.size).toBe(0);
    account.taken += 1;
    waiter!.admitted(); // it had left the account's queue already
    expect([account.taken, account.ended]).toEqual([0, ["unused"]]);
    await until(() => {
      account.admit();
      return world.isEmpty;
    }, "its successor delivers");
    expect([account.taken, account.waiters.size]).toEqual([0, 0]);
  });

  test("one that is given before the time of a retry is given back, and a wake-up is left", async () => {
    const life = await beginWith({ sweepMs: 0 });
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 10_000 }];
    life.reply(C, "r1");
    await quiet();
    account.isOpen = true;
    account.admit();
    await quiet();
    expect(account.waiters.size).toBe(1); // behind all others, while the breaker is open
    account.isOpen = false;
    account.admit();
    await quiet();
    expect([account.taken, account.waiters.size, world.recipient.attempts.length]).toEqual([0, 0, 1]);
    await until(
      () => {
        account.admit();
        return world.isEmpty;
      },
      "through",
      12_000,
    );
    expect(world.recipient.attempts[1]!.atMs - world.recipient.attempts[0]!.atMs).toBeGreaterThanOrEqual(10_000);
  });

  test("a lane that has no time left gives up while its account is blocked, and can be skipped without a place", async () => {
    const life = await beginWith({ channel: { retry: { budgetMs: 3_000 } } });
    world.recipient.answers = [RETRY];
    life.reply(C, "r1");
    await quiet();
    account.isOpen = true;
    account.admit();
    await until(() => world.laneState(C)?.state === "halted", "halted");
    expect(world.laneState(C)).toMatchObject({ halt: "exhausted" });
    expect([account.taken, account.waiters.size]).toEqual([0, 0]);
    account.isOpen = false;
    await world.control(C, skip("b0.1"));
    await world.through(2_000);
    expect(world.deadLetters()).toMatchObject([{ reason: "skipped" }]);
  });
});
