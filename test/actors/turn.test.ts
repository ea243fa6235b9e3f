// T1 to T4 of actors/turn.ts: one run of a handler, alone.

import { describe, expect, test } from "vitest";
import type { Duration, Message, ReplyInput, TurnContext } from "../../src/domain/bot.ts";
import type { Plain } from "../../src/domain/plain-data.ts";
import { HandlerTimeoutError, NotAvailableError, TurnEndedError, TurnOutputError } from "../../src/errors.ts";
import { gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { at, errorOf, type Given, type Handler, run } from "./support/turn-rig.ts";

describe("the result of a turn", () => {
  test("of a handler that answers at once is there at once, of one that waits it comes later, and once", async () => {
    const done = { kind: "done", state: { n: 1 }, replies: [{ text: "r" }], sends: [] };
    const answer: Handler = (_state, _message, ctx) => {
      ctx.reply("r");
      return { n: 1 };
    };
    expect(run(answer).now).toEqual(done);
    const waiting = run(async (...args) => answer(...args));
    expect(waiting.now).toBeNull();
    expect(await waiting.later).toEqual(done);
    await quiet();
    expect(waiting.results).toBe(1);
  });

  test("of one that throws or rejects is a failure with what was thrown, never an exception (T1)", async () => {
    for (const thrown of [new Error("no"), "text", undefined, null]) {
      expect(
        run(() => {
          throw thrown;
        }).now,
      ).toEqual({ kind: "failed", error: thrown });
      expect(await run(() => Promise.reject(thrown)).later).toEqual({ kind: "failed", error: thrown });
    }
  });

  test("holds the replies in the order of the calls, as they were then", () => {
    const result = run((state, _message, ctx) => {
      ctx.reply("one");
      ctx.reply({ text: "two", data: { list: [1, null, "x"] } });
      ctx.reply({ text: "" });
      return state;
    }).now;
    expect(result).toMatchObject({
      replies: [{ text: "one" }, { text: "two", data: { list: [1, null, "x"] } }, { text: "" }],
    });
  });
});

describe("a reply that expires", () => {
  const repliesOf = (input: ReplyInput, position = at(1_700_000_000_000)) => {
    const result = run(
      (state, _message, ctx) => {
        ctx.reply(input);
        return state;
      },
      { position },
    ).now;
    return result?.kind === "done" ? result.replies : errorOf(result);
  };

  test.each<[string, string | Date, number]>([
    ["a Date", new Date(1_700_000_060_500), 1_700_000_060_500],
    ["ISO 8601 in UTC", "2023-11-14T22:14:20Z", 1_700_000_060_000],
    ["ISO 8601 with an offset and a fraction", "2023-11-14T23:14:20.25+01:00", 1_700_000_060_250],
    ["a moment that is past", "1969-12-31T23:59:59Z", -1_000],
  ])("takes %s", (_what, expiresAt, expiresAtMs) => {
    expect(repliesOf({ text: "t", expiresAt })).toEqual([{ text: "t", expiresAtMs }]);
  });

  test.each<[Duration, number]>([
    [0, 0],
    [1_500, 1_500],
    ["90s", 90_000],
    ["1h", 3_600_000],
  ])("counts %s from ctx.now()", (expiresIn, ms) => {
    const reply = { text: "t", data: [1], expiresIn };
    expect(repliesOf(reply)).toEqual([{ text: "t", data: [1], expiresAtMs: 1_700_000_000_000 + ms }]);
    const now = run((_state, _message, ctx) => ctx.now().getTime(), { position: at(1_700_000_000_000) }).now;
    expect(now).toMatchObject({ state: 1_700_000_000_000 });
  });

  test("expires at the same moment in each run of its turn (T3)", () => {
    const runs = [1, 2].map(() => repliesOf({ text: "t", expiresIn: "5m" }, at(77_000, 3, 1)));
    expect(runs[0]).toEqual([{ text: "t", expiresAtMs: 377_000 }]);
    expect(runs[1]).toEqual(runs[0]);
  });

  test.each<[string, object]>([
    ["a text that is no date", { expiresAt: "tomorrow" }],
    ["a date without time and offset", { expiresAt: "2030-01-01" }],
    ["a time without an offset, which means another moment on each machine", { expiresAt: "2030-01-01T00:00:00" }],
    ["a day that its month does not have", { expiresAt: "2030-02-30T00:00:00Z" }],
    ["a number, which may be ms, or seconds, or a length", { expiresAt: 1_893_456_000_000 }],
    ["a Date that is none", { expiresAt: new Date(Number.NaN) }],
    ["null", { expiresAt: null }],
    ["a length that is none", { expiresIn: "5 minutes" }],
    ["a negative length", { expiresIn: -1 }],
    ["a length beyond all dates", { expiresIn: Number.MAX_SAFE_INTEGER }],
    ["null for a length", { expiresIn: null }],
    ["both", { expiresAt: "2030-01-01T00:00:00Z", expiresIn: "5m" }],
  ])("is refused for %s, and the error says what is taken", (_what, fields) => {
    const error = repliesOf({ text: "t", ...fields } as ReplyInput);
    expect(error).toBeInstanceOf(TurnOutputError);
    expect((error as Error).message).toMatch(/ISO 8601 with an offset|"30s", "5m"|takes one of them/);
    expect((error as Error).message).toContain("nothing of the turn was committed");
  });
});

describe("state and message are frozen (T2, attack B4)", () => {
  test("on the way in, all the way down", () => {
    const given = { message: { sequence: 4, sentAtMs: 1_700_000_000_000, dataJson: '{"deep":{"list":[{"x":1}]}}' } };
    const changes: ((state: never, message: never) => void)[] = [
      (state: { n: number }) => (state.n = 1),
      (state: { n?: number }) => delete state.n,
      (_state, message: { text: string }) => (message.text = "other"),
      (_state, message: { data: { deep: { list: { x: number }[] } } }) => message.data.deep.list.push({ x: 2 }),
      (_state, message: { data: { deep: { list: { x: number }[] } } }) => (message.data.deep.list[0]!.x = 2),
    ];
    for (const change of changes)
      expect(
        errorOf(
          run((state, message) => {
            change(state as never, message as never);
            return state;
          }, given).now,
        ),
      ).toBeInstanceOf(TypeError);
  });

  test("on the way out: what the bot keeps of its result can no longer change", () => {
    const kept = { list: [{ x: 1 }] };
    expect(run(() => kept).now?.kind).toBe("done");
    expect(() => kept.list.push({ x: 2 })).toThrow(TypeError);
    expect(() => (kept.list[0]!.x = 2)).toThrow(TypeError);
  });

  test("the message names its place and what the outside said, and leaves out what it did not say", () => {
    let full: Message | undefined;
    let bare: Message | undefined;
    run(
      (state, message) => {
        full = message;
        return state;
      },
      { message: { sequence: 4, sentAtMs: 1_700_000_000_000, dataJson: "[1]" } },
    );
    run((state, message) => {
      bare = message;
      return state;
    });
    expect(full).toEqual({
      id: "m1",
      conversation: "c1",
      channel: "test",
      seq: 7,
      text: "hello",
      sequence: 4,
      data: [1],
      sentAt: "2023-11-14T22:13:20.000Z",
    });
    expect(Object.keys(bare!).sort()).toEqual(["channel", "conversation", "id", "seq", "text"]);
  });
});

describe("replies are bounded and checked; over it the turn fails with a typed error (P7)", () => {
  const replying =
    (...replies: unknown[]): Handler =>
    (state, _message, ctx) => {
      for (const reply of replies) ctx.reply(reply as string);
      return state;
    };
  const refused: [string, Handler, string][] = [
    ["more than `repliesMax`", replying("1", "2", "3", "4"), "3 replies"],
    ["one over `replyBytesMax`, in UTF-8", replying("€".repeat(34)), "102 bytes"],
    ["one whose data is over it", replying({ text: "", data: "x".repeat(99) }), "101 bytes"],
    ["together over `turnReplyBytesMax`", replying("a".repeat(90), "b".repeat(90), "c".repeat(90)), "200 bytes"],
    ["half of a surrogate pair", replying("\ud83d"), "surrogate"],
    ["a number", replying(7), "takes a string"],
    ["null", replying(null), "takes a string"],
    ["an object without text", replying({ data: 1 }), "takes a string"],
  ];
  for (const [what, handler, says] of refused) {
    test(`${what}`, () => {
      const error = errorOf(run(handler).now);
      expect(error).toBeInstanceOf(TurnOutputError);
      expect(String(error)).toContain(says);
    });
  }

  test("data that is not plain names its path", () => {
    const error = errorOf(run(replying({ text: "t", data: { when: [new Date()] } })).now);
    expect(String(error)).toContain("reply.data.when[0] is a Date");
  });

  test("as many and as large as the bounds allow are taken", () => {
    expect(run(replying("a".repeat(100), "b".repeat(99), "c")).now).toMatchObject({ kind: "done" });
  });
});

describe("the state is bounded and checked", () => {
  test("by its size as JSON in UTF-8", () => {
    const bounds = { stateBytesMax: 1_000 };
    expect(run(() => "x".repeat(998), { bounds }).now?.kind).toBe("done");
    expect(errorOf(run(() => "x".repeat(999), { bounds }).now)).toBeInstanceOf(TurnOutputError);
    expect(errorOf(run(() => "€".repeat(333), { bounds }).now)).toBeInstanceOf(TurnOutputError);
    expect(errorOf(run(() => "\u0001".repeat(167), { bounds }).now)).toBeInstanceOf(TurnOutputError); // six bytes each
    expect(run(() => "\u0001".repeat(166), { bounds }).now?.kind).toBe("done");
  });

  test("one that the bot froze itself is looked at all the same", () => {
    const half = Object.freeze({ inner: { when: new Date() } });
    expect(String(errorOf(run(() => half).now))).toContain("state.inner.when is a Date");
  });

  test("none at all is named with what to do", () => {
    expect(String(errorOf(run(() => undefined).now))).toContain("return the new state");
  });
});

describe("what a re-run sees again, and nobody else (T3)", () => {
  const drawn = (given: Given = {}) => {
    let values: unknown;
    run((state, _message, ctx) => {
      const random = [ctx.random(), ctx.random(), ctx.random()];
      const uuids = [ctx.uuid(), ctx.uuid()];
      const keys = [ctx.idempotencyKey(), ctx.idempotencyKey("charge")];
      values = { random, uuids, keys, now: ctx.now().toISOString() };
      return state;
    }, given);
    return values as { random: number[]; uuids: string[]; keys: string[]; now: string };
  };

  test("now, random, uuid and idempotencyKey are equal in a re-run of the turn", () => {
    expect(drawn()).toEqual(drawn());
    expect(drawn().now).toBe(new Date(1_000).toISOString());
  });

  test("random, uuid and idempotencyKey differ within a turn, elsewhere in a conversation and in another life of it", () => {
    const all = [
      drawn(),
      drawn({ position: at(1_000, 2, 4), seq: 8 }),
      drawn({ position: at(1_000, 3, 3), seq: 9 }),
      drawn({ born: at(501) }),
    ];
    for (const field of ["random", "uuids", "keys"] as const) {
      const values = all.flatMap((each) => each[field] as readonly unknown[]);
      expect(new Set(values).size, field).toBe(values.length);
    }
  });

  test("two conversations of different shards may stand at equal positions and draw different values", () => {
    const [a, b] = [drawn({ conversation: "a" }), drawn({ conversation: "b" })];
    for (const field of ["random", "uuids", "keys"] as const)
      expect((a[field] as unknown[]).filter((value) => (b[field] as unknown[]).includes(value))).toEqual([]);
  });

  test("250,000 turns draw 250,000 UUIDs of version 4", () => {
    const uuids = new Set<string>();
    const handler: Handler = (state, _message, ctx) => {
      uuids.add(ctx.uuid());
      return state;
    };
    for (let i = 0; i < 250_000; i += 1) {
      const position = at(1_700_000_000_000 + i * 7_919, i % 13, i & 7);
      run(handler, { position, born: at(position.entry.ms - (i % 1_000) * 86_400) });
    }
    expect(uuids.size).toBe(250_000);
    const form = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    for (const uuid of [...uuids].slice(0, 1_000)) expect(uuid).toMatch(form);
  }, 20_000);

  test("random is in [0, 1) and spread over it", () => {
    const tenths = new Array<number>(10).fill(0);
    run((state, _message, ctx) => {
      for (let i = 0; i < 10_000; i += 1) {
        const value = ctx.random();
        expect(value >= 0 && value < 1).toBe(true);
        tenths[Math.floor(value * 10)]! += 1;
      }
      return state;
    });
    for (const count of tenths) expect(count).toBeGreaterThan(800);
  });

  test("idempotencyKey differs where a turn has the number of one that was set aside before it", () => {
    const keys = [at(1_700_000_000_001), at(1_700_000_000_002)].map((position) => {
      let key = "";
      run(
        (state, _message, ctx) => {
          key = ctx.idempotencyKey("charge");
          return state;
        },
        { position, seq: 7 },
      );
      return key;
    });
    expect(keys[0]).not.toBe(keys[1]);
  });

  test("idempotencyKey names turn and purpose, in characters that a header may hold", () => {
    let keys: string[] = [];
    run(
      (state, _message, ctx) => {
        keys = [ctx.idempotencyKey(), ctx.idempotencyKey("turn"), ctx.idempotencyKey("é ~\n")];
        return state;
      },
      { conversation: "a~b\n🙂" },
    );
    expect(keys[0]).toBe(keys[1]);
    expect(keys[0]).not.toBe(keys[2]);
    for (const key of keys) expect(key).toMatch(/^[\x21-\x7e]+$/);
  });
});

describe("after its end a turn is closed (T1)", () => {
  test("ctx.reply throws TurnEndedError and has no effect", async () => {
    for (const answer of [
      (state: Plain): unknown => state,
      async (state: Plain): Promise<Plain> => state,
      (): unknown => {
        throw new Error("failed");
      },
    ]) {
      let kept: TurnContext | undefined;
      const turn = run((state, _message, ctx) => {
        kept = ctx;
        ctx.reply("before");
        return answer(state);
      });
      const result = turn.now ?? (await turn.later);
      expect(() => kept!.reply("after")).toThrow(TurnEndedError);
      if (result.kind === "done") expect(result.replies).toEqual([{ text: "before" }]);
    }
  });

  test("a turn that expired is a HandlerTimeoutError; whatever its handler answers later is ignored", async () => {
    for (const end of ["open", "fail"] as const) {
      const held = gate<Plain>();
      let signal: AbortSignal | undefined;
      const turn = run((_state, _message, ctx) => {
        signal = ctx.signal;
        return held.promise;
      });
      turn.turn.expire();
      const result = await turn.later;
      expect(errorOf(result)).toBeInstanceOf(HandlerTimeoutError);
      expect(signal!.aborted).toBe(true);
      expect(signal!.reason).toBe(errorOf(result));
      if (end === "open") held.open({ late: true });
      else held.fail(new Error("late"));
      await quiet();
      turn.turn.expire();
      expect(turn.results).toBe(1);
    }
  });

  test("a signal first asked for after the end is an aborted one", () => {
    let kept: TurnContext | undefined;
    run((state, _message, ctx) => {
      kept = ctx;
      return state;
    });
    expect(kept!.signal.aborted).toBe(true);
  });

  test("the signal of a turn that goes on is not aborted", async () => {
    const held = gate<Plain>();
    let signal: AbortSignal | undefined;
    const turn = run((_state, _message, ctx) => {
      signal = ctx.signal;
      return held.promise;
    });
    expect(signal!.aborted).toBe(false);
    held.open({ fine: true });
    expect(await turn.later).toMatchObject({ kind: "done" });
  });
});

describe("what this version does not have says so by name", () => {
  const features: [string, (ctx: TurnContext) => unknown][] = [
    ["ctx.timer", (ctx) => ctx.timer("t", "5m")],
    ["ctx.cancel", (ctx) => ctx.cancel("t")],
    ["ctx.end", (ctx) => ctx.end()],
  ];
  for (const [name, use] of features) {
    test(`${name} fails the turn with NotAvailableError`, async () => {
      const turn = run(async (state, _message, ctx) => {
        ctx.reply("goes nowhere");
        await use(ctx);
        return state;
      });
      const error = errorOf(await turn.later);
      expect(error).toBeInstanceOf(NotAvailableError);
      expect((error as NotAvailableError).feature).toBe(name);
    });
  }
});

test("ctx.log writes the conversation's ids on each of its lines", () => {
  const log = new RecordingLog();
  run(
    (state, _message, ctx) => {
      ctx.log.info("looked up", { order: 7 });
      ctx.log.warn("slow");
      ctx.log.error("odd");
      return state;
    },
    { log },
  );
  expect(log.lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { level: "info", message: "looked up", order: 7, bot: "b", channel: "test", conversation: "c1", seq: 7 },
    { level: "warn", message: "slow", conversation: "c1" },
    { level: "error", message: "odd", conversation: "c1" },
  ]);
});
