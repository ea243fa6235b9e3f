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

describe("a simulator that picks whose turn it is", () => {
  test("picks between actors; the messages of one keep their order", async () => {
    const picks: (() => void)[] = [];
    const picked = new ActorSystem({
      after: environment.after,
      onCrash: (actor, error) => crashes.push({ actor, error }),
      schedule: (wakeUp) => picks.push(wakeUp),
    });
    const received: string[] = [];
    const family = picked.family("picked");
    const spawn = (name: string) =>
      family.spawn({ receive: (message: number) => void received.push(`${name}${message}`) }, 2);
    const [a, b] = [spawn("a"), spawn("b")];
    expect([a.tell(1), a.tell(2), a.tell(3), b.tell(1)]).toEqual([true, true, false, true]);
    await quiet();
    expect(received).toEqual([]);
    for (const pick of [picks[2]!, picks[1]!, picks[0]!]) {
      pick();
      await quiet();
    }
    expect(received).toEqual(["b1", "a1", "a2"]);
    picked.stop();
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

describe("what nact does wrong and an actor here does not", () => {
  interface Told {
    readonly actor: string;
    readonly message: unknown;
  }
  let exits: unknown[];
  let dead: Told[];

  beforeEach(() => {
    exits = [];
    dead = [];
    system.stop();
    system = new ActorSystem({
      after: environment.after,
      onCrash: (actor, error) => crashes.push({ actor, error }),
      onDeadLetter: (actor, message) => dead.push({ actor, message }),
    });
  });

  const limits = (receiveTimeoutMs: number, abortGraceMs?: number) => ({
    mailboxMax: 10,
    receiveTimeoutMs,
    ...(abortGraceMs !== undefined && { abortGraceMs }),
    onExit: (error: unknown) => void exits.push(error),
  });

  /** Fails on anything that reaches the console, standard error or the process while `run` runs. */
  async function unheard(run: () => Promise<void>): Promise<void> {
    const spies = [
      vi.spyOn(process.stderr, "write").mockReturnValue(true),
      ...(["log", "info", "warn", "error", "debug"] as const).map((name) =>
        vi.spyOn(console, name).mockReturnValue(undefined),
      ),
    ];
    const rejections: unknown[] = [];
    const onRejection = (reason: unknown): void => void rejections.push(reason);
    process.on("unhandledRejection", onRejection);
    process.on("uncaughtException", onRejection);
    try {
      await run();
      await quiet();
      for (const spy of spies) expect(spy).not.toHaveBeenCalled();
      expect(rejections).toEqual([]);
    } finally {
      process.off("unhandledRejection", onRejection);
      process.off("uncaughtException", onRejection);
      vi.restoreAllMocks();
    }
  }

  describe("nact has no hang time-out (A5)", () => {
    test("a receive that never settles ends its actor, with a typed error and its signal aborted", async () => {
      let signal: AbortSignal | undefined;
      const actor = system.family("hung").spawn<string>(
        {
          receive(_message, aborted) {
            signal = aborted;
            return new Promise(() => undefined);
          },
        },
        limits(5_000, 2_000),
      );
      actor.tell("first");
      actor.tell("second");
      await environment.pass(4_999);
      expect([signal!.aborted, exits, actor.tell("third")]).toEqual([false, [], true]);
      await environment.pass(1);
      expect([signal!.aborted, exits, actor.tell("fourth")]).toEqual([true, [], false]);
      expect(dead.map(({ message }) => message)).toEqual(["second", "third", "fourth"]);
      await environment.pass(2_001);
      expect(exits).toHaveLength(1);
      expect(exits[0]).toMatchObject({ code: "ERR_RECEIVE_TIMEOUT" });
      expect(crashes).toEqual([]);
    });

    test("one that heeds its signal is replaced as soon as it ended, so two of them never run at once", async () => {
      let running = 0;
      let runningMax = 0;
      const family = system.family("heeding");
      const spawnOne = (): ActorRef<string> =>
        family.spawn<string>(
          {
            async receive(_message, signal) {
              running += 1;
              runningMax = Math.max(runningMax, running);
              await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
              await new Promise((resolve) => setImmediate(resolve)); // cleans up
              running -= 1;
            },
          },
          {
            ...limits(1_000, 60_000),
            onExit: (error) => {
              exits.push(error);
              if (exits.length < 4) spawnOne().tell("again");
            },
          },
        );
      spawnOne().tell("go");
      await environment.until(() => exits.length === 4, 60_000, "four replacements");
      expect(runningMax).toBe(1);
      expect(environment.nowMs() - new VirtualEnvironment(1).nowMs()).toBeLessThan(5_000);
    });

    for (const how of ["resolves", "rejects"]) {
      test(`a late result that ${how} after the grace is ignored`, async () => {
        const held = gate();
        const actor = system.family("late").spawn({ receive: () => held.promise }, limits(100, 100));
        actor.tell("go");
        await environment.pass(201);
        expect(exits).toHaveLength(1);
        await unheard(async () => {
          if (how === "resolves") held.open();
          else held.fail(new Error("too late"));
          await quiet();
        });
        expect(exits).toHaveLength(1);
      });
    }

    test("one that ends in time leaves no timer, and so does one that is stopped, in its grace or before, or with the system", async () => {
      const quick = system.family("quick").spawn({ receive: async () => undefined }, limits(60_000));
      quick.tell("go");
      const hung = [1, 2, 3].map(() =>
        system.family("hung").spawn({ receive: () => new Promise(() => undefined) }, limits(100, 60_000)),
      );
      const noTimerLeft = async (): Promise<void> => {
        const before = environment.nowMs();
        await environment.until(() => false, 3_600_000, "idle").catch(() => undefined);
        expect(environment.nowMs()).toBe(before);
      };
      hung[0]!.tell("go");
      await environment.pass(101); // the first is in its grace
      hung[1]!.tell("go");
      await quiet();
      hung[0]!.stop();
      hung[1]!.stop();
      await noTimerLeft();
      hung[2]!.tell("go");
      await quiet();
      system.stop();
      await noTimerLeft();
      expect(exits).toEqual([]);
    });
  });

  describe("nact drops what is told to the stopped, and the mailbox at a stop, without a word (A4)", () => {
    test("both are dead letters: counted, and shown in order", async () => {
      const slow = new Slow();
      const actor = system.family("slow").spawn(slow, 10);
      for (const message of [1, 2, 3]) actor.tell(message);
      await quiet();
      expect(actor.mailboxDepth).toBe(2);
      actor.stop();
      expect(actor.tell(4)).toBe(false);
      expect(dead).toEqual([2, 3, 4].map((message) => ({ actor: actor.name, message })));
      expect([system.deadLetters, actor.mailboxDepth]).toEqual([3, 0]);
    });

    test("what a crash leaves in the mailbox is too; what a full mailbox refused is not", async () => {
      const actor = system.family("fragile").spawn<number>(
        {
          receive() {
            throw new Error("own mistake");
          },
        },
        2,
      );
      expect([1, 2, 3].map((message) => actor.tell(message))).toEqual([true, true, false]);
      await quiet();
      expect(dead.map(({ message }) => message)).toEqual([2]);
    });
  });

  describe("nact prints what a handler threw, and lets it become an unhandled rejection (A3)", () => {
    const thrower = (thrown: unknown) => () => {
      throw thrown;
    };
    const THEN = "then"; // a thenable made on purpose
    const ways: [string, () => unknown][] = [
      ["throws undefined", thrower(undefined)],
      ["throws null", thrower(null)],
      ["throws what cannot be turned into text", thrower(Object.create(null))],
      ["throws what looks like a promise", thrower({ [THEN]: "no function" })],
      ["rejects with null", () => Promise.reject(null)],
      ["rejects with undefined", () => Promise.reject(undefined)],
      ["gives a thenable whose then throws", () => ({ [THEN]: thrower(new Error("then")) })],
      [
        "gives a thenable whose then is a getter that throws",
        () => Object.defineProperty({}, THEN, { get: thrower(new Error("getter")) }),
      ],
      [
        "gives a thenable that calls back twice, then throws",
        () => ({
          [THEN](_resolve: () => void, reject: (reason: unknown) => void) {
            reject(new Error("first"));
            reject(new Error("second"));
            throw new Error("third");
          },
        }),
      ],
      [
        "gives a promise that gives such a thenable",
        () => Promise.resolve().then(() => ({ [THEN]: thrower(new Error("nested")) })),
      ],
      [
        "gives a proxy that throws whatever is done to it",
        () => new Proxy({}, { get: thrower(new Error("proxy")), getPrototypeOf: thrower(new Error("proxy")) }),
      ],
    ];
    for (const receiveTimeoutMs of [undefined, 1_000]) {
      for (const [what, receive] of ways) {
        test(`a receive that ${what} ends its actor once${receiveTimeoutMs ? ", with a time limit too" : ""}`, async () => {
          await unheard(async () => {
            const actor = system.family("fragile").spawn(
              { receive },
              {
                mailboxMax: 10,
                ...(receiveTimeoutMs !== undefined && { receiveTimeoutMs }),
                onExit: (error) => void exits.push(error),
              },
            );
            actor.tell("go");
            actor.tell("more");
            await quiet();
            expect(actor.tell("still there?")).toBe(false);
          });
          expect(exits).toHaveLength(1);
          expect(dead.map(({ message }) => message)).toEqual(["more", "still there?"]);
        });
      }
    }

    test("values that are no promise are nobody's business", async () => {
      await unheard(async () => {
        const values = [0, "text", true, null, undefined, Symbol("s"), {}, [], () => undefined];
        for (const value of values) {
          const received: unknown[] = [];
          const actor = system.family("odd").spawn(
            {
              receive(message: unknown) {
                received.push(message);
                return value;
              },
            },
            10,
          );
          actor.tell(1);
          actor.tell(2);
          await quiet();
          expect(received).toEqual([1, 2]);
        }
      });
      expect([exits, crashes]).toEqual([[], []]);
    });
  });

  test("nact's onCrash that throws ends the process; here it is counted, and the others go on (A3)", async () => {
    await unheard(async () => {
      const fail = (): never => {
        throw new Error("told badly");
      };
      const own = new ActorSystem({ after: environment.after, onCrash: fail, onDeadLetter: fail });
      const family = own.family("fragile");
      const crashing = { receive: () => Promise.reject(new Error("own mistake")) };
      const actor = family.spawn(crashing, 10);
      family.spawn(crashing, { mailboxMax: 10, onExit: fail }).tell("go");
      actor.tell("go");
      actor.tell("waits");
      const received: string[] = [];
      const healthy = family.spawn({ receive: (message: string) => void received.push(message) }, 10);
      await quiet();
      healthy.tell("hello");
      await quiet();
      expect(received).toEqual(["hello"]);
      expect(own.callbackErrors).toBe(3);
      own.stop();
    });
  });

  test("nact's reset runs two handlers of one actor at once; here no restart does, whatever crashes when (A1)", async () => {
    const family = system.family("busy");
    let running = 0;
    let overlaps = 0;
    let restarts = 0;
    let received = 0;
    let current: ActorRef<number>;
    const spawnOne = (): void => {
      current = family.spawn<number>(
        {
          async receive(message) {
            running += 1;
            if (running > 1) overlaps += 1;
            received += 1;
            for (let turn = 0; turn < message % 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
            running -= 1;
            if (message % 5 === 0) throw new Error(`message ${message}`);
          },
        },
        {
          mailboxMax: 1_000,
          onExit: () => {
            restarts += 1;
            spawnOne();
          },
        },
      );
    };
    spawnOne();
    for (let message = 1; message <= 300; message += 1) {
      current!.tell(message);
      if (message % 7 === 0) await quiet();
    }
    await quiet();
    await quiet();
    expect(overlaps).toBe(0);
    expect(restarts).toBeGreaterThan(20);
    expect(received + dead.length).toBe(300);
  });

  test("nact counts no restarts and has none to count: an actor that ended stays ended", async () => {
    const received: number[] = [];
    const actor = system.family("once").spawn<number>(
      {
        receive(message) {
          received.push(message);
          throw new Error("own mistake");
        },
      },
      10,
    );
    for (let message = 0; message < 20; message += 1) {
      actor.tell(message);
      await quiet();
    }
    expect(received).toEqual([0]);
    expect(crashes).toHaveLength(1);
  });
});

describe("drain", () => {
  test("takes nothing more in, and is over when all that was taken in was received", async () => {
    const slow = new Slow();
    const actor = system.family("slow").spawn(slow, 10);
    actor.tell(1);
    actor.tell(2);
    await quiet();
    let isDrained = false;
    void actor.drain()?.then(() => {
      isDrained = true;
    });
    expect(actor.drain()).toBe(actor.drain());
    expect(actor.tell(3)).toBe(false);
    slow.openNext();
    await quiet();
    expect([isDrained, slow.begun]).toEqual([false, [1, 2]]);
    slow.openNext();
    await quiet();
    expect([isDrained, slow.ended]).toEqual([true, [1, 2]]);
  });

  test("of an idle or stopped actor is over at once; one that crashes or is stopped meanwhile is over then", async () => {
    const family = system.family("any");
    const idle = family.spawn({ receive: () => undefined }, 10);
    expect([idle.drain(), idle.tell(1), idle.drain()]).toEqual([undefined, false, undefined]);
    const held = gate();
    const crashing = family.spawn({ receive: () => held.promise }, 10);
    crashing.tell(1);
    crashing.tell(2);
    await quiet();
    const drained = crashing.drain();
    held.fail(new Error("own mistake"));
    await drained;
    expect(crashes).toHaveLength(1);
    const hung = family.spawn({ receive: () => new Promise(() => undefined) }, 10);
    hung.tell(1);
    const stopped = hung.drain();
    hung.stop();
    await stopped;
  });
});
