// L1 to L4 of actors/lane-actor.ts, with the lanes of a shard on a memory store and the production committer.

import { afterEach, describe, expect, test } from "vitest";
import type { SendOutcome } from "../../src/channels/channel.ts";
import { encodeOutboxEntry } from "../../src/codec/outbox-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { CodecError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { quiet } from "../support/quiet.ts";
import { keyOf, type Life, World } from "./support/lane-rig.ts";

let world: World;
const fresh = async ({ deadLettersMax = 100_000 } = {}): Promise<Life> => {
  world = new World();
  world.settings.deadLettersMax = deadLettersMax;
  return world.life();
};
afterEach(() => {
  world.kill();
  expect(world.wrong).toEqual([]);
});

const RETRY: SendOutcome = { kind: "retryable", reason: "HTTP 503" };

describe("one attempt of a lane is in flight (L1)", () => {
  test("the next reply goes out only after the 2xx of the one before, in the order of the commits", async () => {
    const life = await fresh();
    world.recipient.held = [];
    life.reply(keyOf("c"), "r1", "r2");
    await quiet();
    life.reply(keyOf("c"), "r3");
    for (let sent = 1; sent <= 3; sent += 1) {
      await quiet();
      expect(world.recipient.bodies).toEqual(["r1", "r2", "r3"].slice(0, sent));
      world.recipient.held.shift()!.open({ kind: "delivered" });
    }
    await world.through(1_000);
    expect(world.recipient.inFlightMax).toBe(1);
  });

  test("lanes of other conversations wait for nothing", async () => {
    const life = await fresh();
    world.recipient.held = [];
    for (let c = 0; c < 50; c += 1) life.reply(keyOf(`c${c}`), "r1");
    await quiet();
    expect(world.recipient.inFlight).toBe(50);
    for (const each of world.recipient.held) each.open({ kind: "delivered" });
    await world.through(1_000);
  });

  test("nothing is sent before the commit that contains it was answered (P4)", async () => {
    const life = await fresh();
    life.answersAreLost = true;
    life.reply(keyOf("c"), "r1");
    await world.environment.pass(3_000);
    expect(world.shard.outbox.entries).toHaveLength(1); // it is durable, and nobody here knows
    expect(world.recipient.attempts).toEqual([]);
    life.answersAreLost = false;
    await world.environment.until(() => world.recipient.attempts.length === 1, 2_000, "sent");
  });
});

describe("a failed attempt", () => {
  for (const failure of [RETRY, { kind: "ambiguous", reason: "time-out" } as const]) {
    test(`that was ${failure.kind} is repeated with the same key and bytes, and the order is kept (L2, attack B14)`, async () => {
      const life = await fresh();
      world.recipient.answers = [failure, failure, failure];
      life.reply(keyOf("c"), "r1", "r2");
      life.reply(keyOf("other"), "r1");
      await quiet();
      life.reply(keyOf("c"), "r3");
      await world.through(60_000);
      const mine = world.recipient.attempts.filter(({ to }) => to === "c");
      const other = world.recipient.attempts.filter(({ to }) => to === "other");
      expect(mine.length + other.length).toBe(7);
      expect([...new Set(mine.map(({ body }) => body))]).toEqual(["r1", "r2", "r3"]);
      expect(mine.map(({ body }) => body)).toEqual([...mine.map(({ body }) => body)].sort());
      expect(new Set(mine.map(({ key, body }) => `${key} ${body}`)).size).toBe(3);
      expect(world.laneState(keyOf("c"))).toBeNull(); // it flows again, durably
      await world.environment.pass(100);
      expect(world.shard.lanes.size).toBe(0);
    });
  }

  test("that the channel throws is an attempt like others, and ends nobody's process (attack H5)", async () => {
    const life = await fresh();
    const { recipient } = world;
    const send = recipient.send;
    recipient.send = (delivery) => {
      if (recipient.attempts.length > 0) return send(delivery);
      recipient.attempts.push({ key: delivery.idempotencyKey, body: "", to: "c", atMs: 0, redriven: false });
      throw new TypeError("fetch failed: r1");
    };
    life.reply(keyOf("c"), "r1", "r2");
    await world.through(10_000);
    expect(recipient.bodies).toEqual(["", "r1", "r2"]);
    expect(life.log.at("warn", "delivery failed").join()).toMatch(/TypeError/);
    expect(life.log.lines.join()).not.toContain("fetch failed");
  });

  test("leaves its state durable before anything waits for a wake-up (L3, attack A1)", async () => {
    const life = await fresh();
    world.recipient.answers = [RETRY];
    life.reply(keyOf("c"), "r1");
    await quiet();
    expect(life.wakeUps).toMatchObject([{ key: keyOf("c"), durable: true }]);
    expect(world.laneState(keyOf("c"))).toMatchObject({
      state: "retrying",
      outSeq: 1,
      attempts: 1,
      reason: "HTTP 503",
      firstFailedAtMs: world.environment.nowMs(),
      nextAtMs: world.environment.nowMs() + life.wakeUps[0]!.delayMs,
    });
  });

  test("schedules nothing while Redis does not say that the state is durable; the wake-up follows when it does", async () => {
    const life = await fresh();
    world.recipient.held = [];
    life.reply(keyOf("c"), "r1");
    await quiet();
    life.redisIsAway = true;
    world.recipient.held.shift()!.open(RETRY);
    world.recipient.held = null;
    await world.environment.pass(100);
    expect(life.wakeUps).toEqual([]);
    life.redisIsAway = false;
    await world.environment.until(() => life.wakeUps.length === 1, 5_000, "scheduled");
    await world.through(5_000);
  });

  test("waits longer each time, 200 ms doubling to 5 minutes, and counts on from the first failure", async () => {
    const life = await fresh();
    world.recipient.answers = Array.from({ length: 16 }, () => RETRY);
    life.reply(keyOf("c"), "r1");
    await world.environment.until(() => life.wakeUps.length === 16, 24 * 3_600_000, "failed 16 times");
    for (const [i, { delayMs }] of life.wakeUps.entries()) {
      const whole = Math.min(300_000, 200 * 2 ** i);
      expect(delayMs).toBeGreaterThanOrEqual(0);
      expect(delayMs).toBeLessThanOrEqual(whole);
    }
    const [first] = world.recipient.attempts;
    expect(world.laneState(keyOf("c"))).toMatchObject({ attempts: 16, firstFailedAtMs: first!.atMs });
  });

  test("honours Retry-After, and a shorter one does not shorten the backoff", async () => {
    const life = await fresh();
    world.recipient.answers = [
      { ...RETRY, retryAfterMs: 90_000 },
      { ...RETRY, retryAfterMs: 1 },
    ];
    life.reply(keyOf("c"), "r1");
    await world.through(200_000);
    const [first, second, third] = world.recipient.attempts.map(({ atMs }) => atMs);
    expect(second! - first!).toBeGreaterThanOrEqual(90_000);
    expect(second! - first!).toBeLessThanOrEqual(91_001); // at the latest by the sweep
    expect(third! - second!).toBeGreaterThanOrEqual(200);
  });

  test("is not repeated by replies that arrive or rings that come early", async () => {
    const life = await fresh();
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 60_000 }];
    life.reply(keyOf("c"), "r1");
    await quiet();
    for (let i = 2; i <= 5; i += 1) {
      life.reply(keyOf("c"), `r${i}`);
      life.lanes.ring(keyOf("c"));
      await world.environment.pass(1_000);
    }
    life.lanes.ring(keyOf("nobody's"));
    expect(world.recipient.attempts).toHaveLength(1);
    await world.through(61_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2", "r3", "r4", "r5"]);
  });
});

describe("attack: BullMQ as wake-up", () => {
  test("the sweep rings lanes whose wake-ups are lost, a second late at the most", async () => {
    const life = await fresh();
    world.wakeUpsArrive = false;
    world.recipient.answers = [RETRY, RETRY];
    life.reply(keyOf("c"), "r1", "r2");
    await world.through(10_000);
    const [first, second, third] = world.recipient.attempts.map(({ atMs }) => atMs);
    expect(second! - first!).toBeLessThanOrEqual(200 + 1_000);
    expect(third! - second!).toBeLessThanOrEqual(400 + 1_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r1", "r2"]);
  });

  test("wake-ups that come twice, late or for a lane that flows cost nothing", async () => {
    const life = await fresh();
    world.recipient.answers = [RETRY];
    life.reply(keyOf("c"), "r1");
    await world.through(10_000);
    for (let i = 0; i < 10; i += 1) life.lanes.ring(keyOf("c"));
    await world.environment.pass(10_000);
    expect(world.recipient.attempts).toHaveLength(2);
  });
});

describe("a new owner goes on from the outbox, its acknowledgements and the lane states", () => {
  test("a kill between send and acknowledgement repeats the same key and bytes, and nothing else", async () => {
    const first = await fresh();
    first.reply(keyOf("c"), "r1", "r2", "r3");
    await quiet(); // all three arrived; their acknowledgements wait for the next commit
    expect(world.recipient.bodies).toEqual(["r1", "r2", "r3"]);
    first.kill();
    const sent = [...world.recipient.attempts];
    await world.life();
    await world.through(1_000);
    expect(world.recipient.attempts.slice(3).map(({ key, body }) => ({ key, body }))).toEqual(
      sent.map(({ key, body }) => ({ key, body })),
    );
  });

  test("what was acknowledged in part goes on behind it", async () => {
    const first = await fresh();
    world.recipient.held = [];
    first.reply(keyOf("c"), "r1", "r2", "r3");
    await quiet();
    world.recipient.held.shift()!.open({ kind: "delivered" });
    await world.environment.pass(100); // its acknowledgement is durable; r2 is in flight
    expect(world.shard.acks.size).toBe(1);
    first.kill();
    world.recipient.held = null;
    await world.life();
    await world.through(1_000);
    expect(world.recipient.bodies).toEqual(["r1", "r2", "r2", "r3"]);
    expect(world.shard.acks.size).toBe(0);
  });

  test("a retrying lane keeps its place, attempts and time; a reply that comes meanwhile waits behind", async () => {
    const first = await fresh();
    world.recipient.answers = [RETRY, { ...RETRY, retryAfterMs: 30_000 }];
    first.reply(keyOf("c"), "r1", "r2");
    await world.environment.until(() => first.wakeUps.length === 2, 10_000, "failed twice");
    const before = world.laneState(keyOf("c"));
    first.kill();
    const second = await world.life();
    second.reply(keyOf("c"), "r3");
    world.recipient.answers = [RETRY];
    await world.environment.pass(20_000);
    expect(world.recipient.attempts).toHaveLength(2);
    expect(world.laneState(keyOf("c"))).toMatchObject(before!);
    await world.environment.until(() => second.wakeUps.length === 1, 20_000, "failed a third time");
    expect(world.laneState(keyOf("c"))).toMatchObject({ attempts: 3, firstFailedAtMs: before!.firstFailedAtMs });
    await world.through(20_000);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r1", "r1", "r2", "r3"]);
  });

  test("recover says how many replies and retrying lanes it found, over many pages of the outbox", async () => {
    const first = await fresh();
    world.recipient.answers = Array.from({ length: 3 }, () => ({ ...RETRY, retryAfterMs: 60_000 }));
    for (let i = 1; i <= 50; i += 1) {
      first.reply(keyOf(`c${i % 3}`), `r${i}`);
      await quiet();
    }
    first.kill();
    const store = new MemoryStore(world.environment, world.data).shard(0);
    expect(await store.readOutbox({ after: { ms: 0, seq: 0 }, count: 100 })).toHaveLength(50);
    expect((await world.life()).recovered).toEqual({ replies: 50, retrying: 3 });
  });

  test("an outbox entry that is damaged opens nothing: it stays, and the error says so", async () => {
    world = new World();
    const bytes = Buffer.from(encodeOutboxEntry([{ key: keyOf("c"), born: "b0", outSeq: 1, body: Buffer.from("r1") }]));
    bytes[bytes.length - 1]! ^= 1;
    world.shard.outbox.add(bytes, 1);
    await expect(world.life()).rejects.toThrow(CodecError);
    expect(world.recipient.attempts).toEqual([]);
    expect(world.shard.outbox.entries).toHaveLength(1);
  });

  test("replies of a channel that this node does not run stay in the outbox and stop nobody", async () => {
    world = new World();
    const elsewhere = conversationKey({ bot: "strict", channel: "elsewhere", conversation: "c" });
    world.shard.outbox.add(encodeOutboxEntry([{ key: elsewhere, born: "b0", outSeq: 1, body: Buffer.from("r1") }]), 1);
    const life = await world.life();
    life.reply(keyOf("c"), "r1");
    await world.environment.until(() => world.recipient.attempts.length === 1, 1_000, "sent");
    await world.environment.pass(1_000);
    expect(world.shard.outbox.entries).toHaveLength(1);
    expect(life.log.at("error", "unknown channel")).not.toEqual([]);
  });
});

describe("a terminal answer, ordering strict", () => {
  const TERMINAL: SendOutcome = { kind: "terminal", reason: "HTTP 400" };

  test("halts the lane durably; nothing is sent past it, whatever rings, and nothing of it is lost", async () => {
    const life = await fresh();
    world.recipient.answers = [{ kind: "delivered" }, TERMINAL];
    life.reply(keyOf("c"), "r1", "r2", "r3");
    await quiet();
    life.reply(keyOf("c"), "r4");
    life.reply(keyOf("other"), "r1");
    life.lanes.ring(keyOf("c"));
    await world.environment.pass(600_000);
    expect(world.recipient.attempts.map(({ to, body }) => `${to} ${body}`)).toEqual(["c r1", "c r2", "other r1"]);
    expect([...world.shard.lanes.keys()]).toEqual([keyOf("c")]);
    expect(world.laneState(keyOf("c"))).toMatchObject({ state: "halted", outSeq: 2, attempts: 1, reason: "HTTP 400" });
    expect(world.deadLetters()).toEqual([]);
    expect(world.isEmpty).toBe(false);
  });

  test("stays halted for the next owner", async () => {
    const first = await fresh();
    world.recipient.answers = [TERMINAL];
    first.reply(keyOf("c"), "r1", "r2");
    await world.environment.pass(100);
    first.kill();
    const second = await world.life();
    second.reply(keyOf("c"), "r3");
    second.lanes.ring(keyOf("c"));
    await world.environment.pass(600_000);
    expect(world.recipient.bodies).toEqual(["r1"]);
    expect(world.laneState(keyOf("c"))).toMatchObject({ state: "halted", outSeq: 1 });
  });

  test("attack A12: a halted lane halts nobody else, and its conversation only at the lane's bound", async () => {
    const life = await fresh();
    world.recipient.answers = [TERMINAL];
    life.reply(keyOf("c"), "r1");
    await quiet();
    let woken = 0;
    const hasRoom = (): boolean => life.lanes.hasRoom(keyOf("c"), 0, 0, () => (woken += 1));
    expect(hasRoom()).toBe(true);
    life.reply(keyOf("c"), "r2", "r3", "r4", "r5");
    await quiet();
    expect(hasRoom()).toBe(false);
    expect(life.lanes.hasRoom(keyOf("other"), 0, 0, () => undefined)).toBe(true);
    expect(woken).toBe(0);
  });
});

describe("a terminal answer, ordering available", () => {
  test("attack B11: the reply becomes a dead letter, and the next is sent only after the commit that says so", async () => {
    const life = await fresh();
    const key = keyOf("c", "available");
    world.recipient.held = [];
    life.reply(key, "r1", "r2");
    await quiet();
    life.redisIsAway = true;
    world.recipient.held.shift()!.open({ kind: "terminal", reason: "HTTP 400" });
    await world.environment.pass(5_000);
    expect(world.recipient.bodies).toEqual(["r1"]); // passed nothing that is not durable
    expect(world.deadLetters()).toEqual([]);
    life.redisIsAway = false;
    await world.environment.until(() => world.recipient.attempts.length === 2, 5_000, "went on");
    expect(world.deadLetters()).toMatchObject([{ reason: "terminal", error: "HTTP 400", outSeq: 1, body: "r1" }]);
    world.recipient.held.shift()!.open({ kind: "delivered" });
    await world.through(1_000);
    expect(world.shard.lanes.size).toBe(0);
  });

  test("attack B11: a fenced owner passes nothing: its successor sends the refused reply first", async () => {
    const old = await fresh();
    const key = keyOf("c", "available");
    world.recipient.held = [];
    old.reply(key, "r1", "r2");
    await quiet();
    const zombieAnswer = world.recipient.held.shift()!;
    const next = await world.life(); // took over while the old one was stopped
    zombieAnswer.open({ kind: "terminal", reason: "HTTP 401: token revoked" });
    for (const each of world.recipient.held.splice(0)) each.open({ kind: "delivered" });
    world.recipient.held = null;
    await world.through(10_000);
    expect(old.lost).toEqual(["fenced"]);
    expect(next.lost).toEqual([]);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2"]);
    expect(world.deadLetters()).toEqual([]);
  });

  test("after failed attempts the lane flows again behind the dead letter", async () => {
    const life = await fresh();
    world.recipient.answers = [RETRY, { kind: "terminal", reason: "HTTP 400" }];
    life.reply(keyOf("c", "available"), "r1", "r2");
    await world.through(10_000);
    await world.environment.pass(100);
    expect(world.recipient.bodies).toEqual(["r1", "r1", "r2"]);
    expect(world.shard.lanes.size).toBe(0);
    expect(world.deadLetters()).toHaveLength(1);
  });
});

describe.each(["strict", "available"])("a recipient that is gone, ordering %s (attack H3)", (ordering) => {
  test("closes the lane: what waits and what comes later are dead letters, nothing is sent, the next owner knows", async () => {
    const first = await fresh();
    const key = keyOf("c", ordering);
    world.recipient.answers = [{ kind: "gone", reason: "HTTP 410" }];
    first.reply(key, "r1", "r2");
    await world.through(10_000);
    first.reply(key, "r3");
    await world.environment.until(() => world.deadLetters().length === 3, 10_000, "buried, too");
    first.kill();
    const second = await world.life();
    second.reply(key, "r4");
    await world.environment.until(() => world.deadLetters().length === 4, 10_000, "buried by the next owner");
    await world.environment.pass(1_000);
    expect(world.deadLetters().map(({ body, reason }) => `${body} ${reason}`)).toEqual([
      "r1 gone",
      "r2 gone",
      "r3 gone",
      "r4 gone",
    ]);
    expect(world.recipient.bodies).toEqual(["r1"]);
    expect(world.laneState(key)).toMatchObject({ state: "closed" });
    expect(world.isEmpty).toBe(true);
  });
});

describe("dead letters are bounded (R6)", () => {
  test("at `deadLettersMax` nothing more becomes one: the lane halts with what it has, also for the next owner", async () => {
    const first = await fresh({ deadLettersMax: 2 });
    const key = keyOf("c", "available");
    world.recipient.answers = [{ kind: "gone", reason: "HTTP 410" }];
    first.reply(key, "r1", "r2", "r3");
    await world.environment.until(() => world.laneState(key)?.state === "halted", 10_000, "halted");
    expect(world.deadLetters().map(({ body }) => body)).toEqual(["r1", "r2"]);
    first.kill();
    const second = await world.life();
    second.reply(key, "r4");
    await world.environment.pass(10_000);
    expect(world.deadLetters()).toHaveLength(2);
    expect(world.laneState(key)).toMatchObject({ state: "halted" });
    expect(world.recipient.bodies).toEqual(["r1"]);
    expect(world.isEmpty).toBe(false); // r3 and r4 wait
  });
});

describe("a backlog is bounded (L4, P7)", () => {
  test("over `laneBacklogMax` its conversation gets no room, uncommitted replies included, and is called once one left", async () => {
    const life = await fresh();
    world.recipient.held = [];
    const key = keyOf("c");
    expect(life.lanes.hasRoom(key, 99, 0, () => undefined)).toBe(true); // what is uncommitted has its own bound
    life.reply(key, "r1", "r2", "r3");
    await quiet();
    let woken = 0;
    const onRoom = (): void => {
      woken += 1;
    };
    expect(life.lanes.hasRoom(key, 1, 0, onRoom)).toBe(true);
    expect(life.lanes.hasRoom(key, 2, 0, onRoom)).toBe(false);
    expect(life.lanes.hasRoom(key, 0, 1_000, onRoom)).toBe(false); // bytes count as well
    await quiet();
    expect(woken).toBe(0);
    world.recipient.held.shift()!.open({ kind: "delivered" });
    await quiet();
    expect(woken).toBe(1);
    world.recipient.held.shift()!.open({ kind: "delivered" });
    await quiet();
    expect(woken).toBe(1); // once per refusal
  });

  test("undelivered bytes are counted while they are in memory, and are none at the end", async () => {
    const life = await fresh();
    world.recipient.answers = [RETRY];
    life.reply(keyOf("c"), "r1", "r22");
    await quiet();
    expect(life.lanes.bytes).toBe(5);
    await world.through(10_000);
    expect(life.lanes.bytes).toBe(0);
  });

  test("a lane leaves memory with its conversation only when nothing of it waits", async () => {
    const life = await fresh();
    world.recipient.answers = [{ ...RETRY, retryAfterMs: 5_000 }];
    life.reply(keyOf("c"), "r1");
    await quiet();
    life.lanes.release(keyOf("c"));
    await world.through(10_000);
    life.lanes.release(keyOf("c"));
    life.reply(keyOf("c"), "r2");
    await world.environment.until(() => world.recipient.attempts.length === 3, 1_000, "a new lane sends");
  });
});

describe("the end of an owner", () => {
  test("a stopped lane sends nothing more and acknowledges nothing, whatever the attempt under way answers", async () => {
    for (const answer of [{ kind: "delivered" } as const, RETRY, { kind: "terminal", reason: "x" } as const]) {
      const life = await fresh();
      world.recipient.held = [];
      life.reply(keyOf("c"), "r1", "r2");
      await quiet();
      const commits = life.commits.length;
      life.lanes.stop();
      world.recipient.held.shift()!.open(answer);
      await world.environment.pass(60_000);
      expect(world.recipient.bodies).toEqual(["r1"]);
      expect(life.commits).toHaveLength(commits);
    }
  });

  test("lanes are quiet when nothing is being sent; one that waits for its retry does not hold up a drain (attack A16)", async () => {
    const life = await fresh();
    world.recipient.held = [];
    life.reply(keyOf("c"), "r1");
    await quiet();
    expect(life.lanes.isQuiet).toBe(false);
    world.recipient.held.shift()!.open({ ...RETRY, retryAfterMs: 60_000 });
    await quiet();
    expect(life.lanes.isQuiet).toBe(true);
    expect(world.isEmpty).toBe(false);
  });
});

test("a lane whose code crashes while it waits for a retry waits on: Retry-After is heeded", async () => {
  const life = await fresh();
  world.wakeUpsArrive = false;
  world.recipient.answers = [{ ...RETRY, retryAfterMs: 60_000 }];
  life.reply(keyOf("c1"), "1");
  await world.environment.pass(1_000);
  life.lanes.find(keyOf("c1"))!.crashed(new Error("a mistake"));
  await world.environment.pass(50_000);
  expect(world.recipient.bodies).toEqual(["1"]);
  await world.through(60_000); // the sweep rings it
  expect(world.recipient.bodies).toEqual(["1", "1"]);
});
