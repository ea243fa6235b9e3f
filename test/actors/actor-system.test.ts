// A1 to A3 of actors/actor-system.ts, on nact itself.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type ActorRef, ActorSystem, AskError } from "../../actors/actor-system.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

let environment: VirtualEnvironment;
let crashes: { actor: string; error: unknown }[];
let system: ActorSystem;

beforeEach(() => {
  environment = new VirtualEnvironment(1);
  crashes = [];
  system = new ActorSystem({
    after: environment.after,
    onCrash: (actor, error) => crashes.push({ actor, error }),
  });
});

afterEach(() => system.stop());

/** An actor that takes as long for each message as the test lets it. */
class Slow {
  readonly begun: number[] = [];
  readonly ended: number[] = [];
  readonly gates: Gate<void>[] = [];
  running = 0;
  runningMax = 0;

  async receive(message: number): Promise<void> {
    this.begun.push(message);
    this.running += 1;
    this.runningMax = Math.max(this.runningMax, this.running);
    const held = gate();
    this.gates.push(held);
    await held.promise;
    this.running -= 1;
    this.ended.push(message);
  }

  openNext(): void {
    this.gates.shift()!.open();
  }
}

describe("one actor receives one message at a time (A1)", () => {
  test("messages told in mid-work are received afterwards, one by one and in the order told", async () => {
    const slow = new Slow();
    const actor = system.family("slow").spawn(slow, 100);
    for (const message of [1, 2, 3]) actor.tell(message);
    await quiet();
    expect(slow.begun).toEqual([1]);
    actor.tell(4);
    for (let expected = 2; expected <= 5; expected += 1) {
      slow.openNext();
      await quiet();
      expect(slow.begun).toEqual([1, 2, 3, 4].slice(0, expected));
    }
    expect(slow.ended).toEqual([1, 2, 3, 4]);
    expect(slow.runningMax).toBe(1);
  });

  test("an actor stopped in mid-work receives nothing more: what waited is dropped, a tell answers false", async () => {
    const slow = new Slow();
    const actor = system.family("slow").spawn(slow, 100);
    actor.tell(1);
    actor.tell(2);
    await quiet();
    actor.stop();
    expect(actor.tell(3)).toBe(false);
    slow.openNext();
    await quiet();
    expect(slow.begun).toEqual([1]);
    expect(slow.ended).toEqual([1]); // the running one ends by itself
    expect(crashes).toEqual([]);
  });

  test("an actor stopped before its first message was scheduled never receives it", async () => {
    const received: number[] = [];
    const actor = system.family("quick").spawn({ receive: (message: number) => void received.push(message) }, 10);
    actor.tell(1);
    actor.stop();
    await quiet();
    expect(received).toEqual([]);
  });

  test("an actor may stop itself in mid-work; stopping again changes nothing", async () => {
    const received: number[] = [];
    const actor: ActorRef<number> = system.family("self").spawn(
      {
        receive(message: number) {
          received.push(message);
          actor.stop();
          actor.stop();
        },
      },
      10,
    );
    actor.tell(1);
    actor.tell(2);
    await quiet();
    expect(received).toEqual([1]);
    expect(actor.tell(3)).toBe(false);
  });

  test("stopped and replaced in mid-work, the old one's work and the new one's are two actors' work", async () => {
    const old = new Slow();
    const fresh = new Slow();
    const family = system.family("slow");
    const first = family.spawn(old, 10);
    first.tell(1);
    await quiet();
    first.stop();
    const second = family.spawn(fresh, 10);
    second.tell(2);
    await quiet();
    expect([old.begun, fresh.begun]).toEqual([[1], [2]]);
    old.openNext();
    fresh.openNext();
    await quiet();
    expect([old.ended, fresh.ended]).toEqual([[1], [2]]);
  });

  test("each actor of a system has an incarnation and a name of its own, a replacement too", () => {
    const families = [system.family("a"), system.family("b"), system.family("a")];
    const actors = families.flatMap((family) =>
      Array.from({ length: 200 }, () => family.spawn({ receive: () => undefined }, 1)),
    );
    actors[0]!.stop();
    actors.push(families[0]!.spawn({ receive: () => undefined }, 1));
    expect(new Set(actors.map(({ incarnation }) => incarnation)).size).toBe(601);
    expect(new Set(actors.map(({ name }) => name)).size).toBe(601);
  });
});

describe("a mailbox is bounded (A2)", () => {
  test("a tell over `mailboxMax` answers false, and true again once there is room", async () => {
    const slow = new Slow();
    const actor = system.family("slow").spawn(slow, 2);
    expect([actor.tell(1), actor.tell(2), actor.tell(3)]).toEqual([true, true, false]);
    await quiet(); // 1 is being received, 2 waits
    expect([actor.tell(4), actor.tell(5)]).toEqual([true, false]);
    slow.openNext();
    await quiet();
    expect(actor.tell(6)).toBe(true);
    for (let i = 0; i < 3; i += 1) {
      slow.openNext();
      await quiet();
    }
    expect(slow.ended).toEqual([1, 2, 4, 6]); // what was refused went nowhere
  });

  test("a tell answers false once the whole system is stopped", () => {
    const actor = system.family("any").spawn({ receive: () => undefined }, 10);
    system.stop();
    expect(actor.tell("anything")).toBe(false);
  });
});

describe("a crash reaches onCrash once, and no other actor (A3)", () => {
  const errors: [string, () => unknown][] = [
    ["an Error", () => new Error("own mistake")],
    ["a string", () => "own mistake"],
    ["undefined", () => undefined],
    ["null", () => null],
    ["an object that cannot be printed", () => Object.create(null)],
  ];
  const ways: [string, (error: unknown) => void | Promise<void>][] = [
    [
      "throws",
      (error) => {
        throw error;
      },
    ],
    ["rejects with", (error) => Promise.reject(error)],
    [
      "rejects later with",
      async (error) => {
        await new Promise<void>((resolve) => setImmediate(resolve));
        throw error;
      },
    ],
  ];
  for (const [how, crash] of ways) {
    for (const [what, makeError] of errors) {
      test(`a receive that ${how} ${what} is reported once, its actor is stopped, its siblings and parents go on`, async () => {
        const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
        const printed = (["log", "info", "warn", "error", "debug"] as const).map((name) =>
          vi.spyOn(console, name).mockReturnValue(undefined),
        );
        try {
          const error = makeError();
          const family = system.family("fragile");
          const siblings: number[] = [];
          // 65 siblings: at least one below the very same bucket.
          const others = Array.from({ length: 65 }, () =>
            family.spawn({ receive: (message: number) => void siblings.push(message) }, 10),
          );
          const received: number[] = [];
          const actor = family.spawn(
            {
              receive(message: number) {
                received.push(message);
                return crash(error);
              },
            },
            10,
          );
          actor.tell(1);
          actor.tell(2);
          await quiet();
          expect(crashes).toEqual([{ actor: actor.name, error }]);
          expect(received).toEqual([1]);
          expect(actor.tell(3)).toBe(false);
          for (const other of others) other.tell(7);
          await quiet();
          expect(siblings).toEqual(Array.from({ length: 65 }, () => 7));
          for (const spy of [written, ...printed]) expect(spy).not.toHaveBeenCalled();
        } finally {
          vi.restoreAllMocks();
        }
      });
    }
  }

  test("what an actor that was stopped throws afterwards is nobody's crash", async () => {
    const held = gate();
    const actor = system.family("late").spawn({ receive: () => held.promise }, 10);
    actor.tell("go");
    await quiet();
    actor.stop();
    held.fail(new Error("too late"));
    await quiet();
    expect(crashes).toEqual([]);
  });
});

describe("ask", () => {
  interface Question {
    readonly n: number;
    readonly answer: (value: number) => void;
  }
  const ask = (actor: ActorRef<Question>, n: number, timeoutMs = 1_000): Promise<number> =>
    actor.ask<number>((answer) => ({ n, answer }), timeoutMs);

  test("waits for the answer", async () => {
    const actor = system.family("double").spawn<Question>({ receive: ({ n, answer }) => answer(n * 2) }, 10);
    expect(await Promise.all([ask(actor, 1), ask(actor, 2)])).toEqual([2, 4]);
    await environment.pass(5_000); // the timers of answered questions are gone
    expect(await ask(actor, 3)).toBe(6);
  });

  test("fails after `timeoutMs` without an answer; one that comes later is ignored", async () => {
    let late: ((value: number) => void) | undefined;
    const actor = system.family("mute").spawn<Question>(
      {
        receive({ answer }) {
          late = answer;
        },
      },
      10,
    );
    const asked = ask(actor, 1, 250).catch((error: unknown) => error);
    await environment.pass(249);
    expect(await Promise.race([asked, Promise.resolve("waits")])).toBe("waits");
    await environment.pass(1);
    const error = await asked;
    expect(error).toBeInstanceOf(AskError);
    expect(String(error)).toContain("250 ms");
    late!(1);
    await quiet();
  });

  test("fails at once if the actor is stopped or its mailbox is full, and leaves no timer", async () => {
    const stopped = system.family("stopped").spawn<Question>({ receive: () => undefined }, 10);
    stopped.stop();
    await expect(ask(stopped, 1)).rejects.toThrow(AskError);
    const full = system.family("full").spawn<Question>({ receive: () => undefined }, 0);
    await expect(ask(full, 1)).rejects.toThrow(AskError);
    await expect(environment.until(() => false, 10_000, "nothing is left")).rejects.toThrow("nothing is left");
    expect(environment.nowMs()).toBe(new VirtualEnvironment(1).nowMs()); // no timer was there to run
  });

  test("fails by its timeout if the actor is stopped while it waits", async () => {
    const actor = system.family("gone").spawn<Question>({ receive: () => new Promise(() => undefined) }, 10);
    const asked = ask(actor, 1).catch((error: unknown) => error);
    await quiet();
    actor.stop();
    await environment.pass(1_000);
    expect(await asked).toBeInstanceOf(AskError);
  });
});

test("beside 10,000 idle actors a message to one is quick, and no other is touched", async () => {
  const family = system.family("idle");
  const touched = new Set<number>();
  const actors = Array.from({ length: 10_000 }, (_, i) =>
    family.spawn({ receive: (_message: string) => void touched.add(i) }, 10),
  );
  await quiet();
  const started = performance.now();
  for (let i = 0; i < 500; i += 1) {
    actors[5_000]!.tell("wake");
    await quiet();
  }
  // nact would copy 10,000 children for each of them: 5 ms a message, 2.5 s in all.
  expect(performance.now() - started).toBeLessThan(1_500);
  expect([...touched]).toEqual([5_000]);
});
