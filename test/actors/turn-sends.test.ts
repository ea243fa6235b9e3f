// ctx.send, notices, what else a message says of itself, and floating promises: actors/turn.ts.

import { describe, expect, test } from "vitest";
import { describeBotError, fullBotError } from "../../actors/bot-error.ts";
import type { Send } from "../../actors/turn.ts";
import type { DeliveryFailedNotice, Message, TurnContext } from "../../src/domain/bot.ts";
import { PlainDataError } from "../../src/domain/plain-data.ts";
import type { Notice } from "../../src/domain/record.ts";
import { FloatingRejectionError, NotAvailableError, TurnOutputError } from "../../src/errors.ts";
import { gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { at, errorOf, type Given, JournalRig, openTurn, run } from "./support/turn-rig.ts";

type To = Parameters<TurnContext["send"]>[0];
type Sent = Parameters<TurnContext["send"]>[1];

const sending =
  (...sends: [unknown, unknown][]) =>
  (state: unknown, _message: unknown, ctx: TurnContext): unknown => {
    for (const [to, message] of sends) ctx.send(to as To, message as Sent);
    return state;
  };

const sendsOf = (given: Given, ...sends: [unknown, unknown][]): readonly Send[] => {
  const { now } = run(sending(...sends), given);
  if (now?.kind !== "done") throw now?.error;
  return now.sends;
};

describe("ctx.send", () => {
  const own = { bot: "b", channel: "test", conversation: "c1" };

  test("is part of the turn's result in the order of the calls, to the own bot and channel where none is named", () => {
    expect(
      sendsOf(
        {},
        [{ conversation: "c2" }, { text: "one" }],
        [
          { bot: "other", conversation: "c3" },
          { text: "", data: { x: [1] } },
        ],
        [{ bot: "other", channel: "web", conversation: "c1" }, { text: "three" }],
      ),
    ).toMatchObject([
      { to: { bot: "b", channel: "test", conversation: "c2" }, text: "one", hops: 1, from: own },
      { to: { bot: "other", channel: "test", conversation: "c3" }, text: "", data: { x: [1] }, hops: 1, from: own },
      { to: { bot: "other", channel: "web", conversation: "c1" }, text: "three", hops: 1, from: own },
    ]);
  });

  test("counts its hops on from those of the message that led to it (attack B17)", () => {
    const message = { extra: { from: { bot: "b", channel: "test", conversation: "c0" }, hops: 31 } };
    expect(sendsOf({ message }, [{ conversation: "c2" }, { text: "t" }])[0]!.hops).toBe(32);
  });

  test("has an id that is the same in every re-run and never that of another send (T3)", () => {
    const two: [unknown, unknown][] = [
      [{ conversation: "c2" }, { text: "t" }],
      [{ conversation: "c2" }, { text: "t" }],
    ];
    const ids = (given: Given) => sendsOf(given, ...two).map(({ id }) => id);
    expect(ids({})).toEqual(ids({}));
    const gap: Notice = { kind: "gap", position: at(1_000, 2, 3), from: 4, to: 5 };
    const poisoned: Notice = { kind: "poisoned", position: at(1_000, 2, 3), id: "m1", error: "e" };
    const ofNotice = (notice: Notice) => {
      const handler = (state: unknown, _notice: unknown, ctx: TurnContext) => sending(...two)(state, null, ctx) as null;
      return ids({ notice, onNotice: { gap: handler, poisoned: handler } });
    };
    const all = [
      ...ids({}),
      ...ids({ position: at(1_000, 2, 4) }),
      ...ids({ born: at(501, 1, 0) }),
      ...ids({ conversation: "c".repeat(512) }),
      ...ofNotice(gap),
      ...ofNotice({ ...gap, to: 6 }),
      ...ofNotice(poisoned),
    ];
    expect(new Set(all).size).toBe(14);
    for (const id of all) expect(id).toMatch(/^[\x21-\x7e]{8,512}$/);
  });

  test("of a turn that fails goes nowhere (T1)", () => {
    const { now } = run((_state, _message, ctx) => {
      ctx.send({ conversation: "c2" }, { text: "t" });
      throw new Error("no");
    });
    expect(now).not.toHaveProperty("sends");
  });

  const refused: [string, [unknown, unknown][], string][] = [
    [
      "more than `sendsMax`",
      Array.from({ length: 4 }, () => [{ conversation: "c" }, { text: "" }]),
      "3 sends (sendsMax)",
    ],
    ["one over `replyBytesMax`, in UTF-8", [[{ conversation: "c" }, { text: "€".repeat(34) }]], "102 bytes"],
    ["one whose data is over it", [[{ conversation: "c" }, { text: "", data: "x".repeat(99) }]], "(replyBytesMax)"],
    [
      "messages over `turnReplyBytesMax` together",
      Array.from({ length: 3 }, () => [{ conversation: "c" }, { text: "a".repeat(67) }]),
      "200 bytes together",
    ],
    ["a bot that the app does not run", [[{ bot: "elsewhere", conversation: "c" }, { text: "t" }]], "does not run"],
    ["no conversation", [[{}, { text: "t" }]], "conversation"],
    ["an empty conversation", [[{ conversation: "" }, { text: "t" }]], "0 bytes"],
    ["one of 513 bytes", [[{ conversation: `${"é".repeat(256)}x` }, { text: "t" }]], "513 bytes"],
    ["half of a surrogate pair as conversation", [[{ conversation: "\ud83d" }, { text: "t" }]], "UTF-8"],
    ["a bot that can be none", [[{ bot: "Orders", conversation: "c" }, { text: "t" }]], "the bot"],
    ["a channel that can be none", [[{ channel: "", conversation: "c" }, { text: "t" }]], "the channel"],
    ["no text", [[{ conversation: "c" }, {}]], "no text"],
    ["half of a surrogate pair as text", [[{ conversation: "c" }, { text: "\ud83d" }]], "UTF-8"],
    ["a text as target", [["c2", { text: "t" }]], "ctx.send takes"],
    ["nothing to send", [[{ conversation: "c" }, undefined]], "ctx.send takes"],
  ];
  for (const [what, sends, says] of refused) {
    test(`${what} is a TurnOutputError`, () => {
      const error = errorOf(run(sending(...sends)).now);
      expect(error).toBeInstanceOf(TurnOutputError);
      expect(String(error)).toContain(says);
    });
  }

  test("data that is not plain names its path; as many and as large as the bounds allow are taken", () => {
    const error = errorOf(run(sending([{ conversation: "c" }, { text: "", data: { when: new Date() } }])).now);
    expect(error).toBeInstanceOf(PlainDataError);
    expect(String(error)).toContain("the data of ctx.send.when is a Date");
    const full: [unknown, unknown] = [{ conversation: "é".repeat(256) }, { text: "a".repeat(66) }];
    expect(sendsOf({}, full, full, full)).toHaveLength(3);
  });
});

describe("notices", () => {
  const gap = { kind: "gap", position: at(1_000, 2, 3), from: 4, to: 6 } as const;
  const poisoned = { kind: "poisoned", position: at(1_000, 2, 3), id: "m4", error: "StepTimeoutError" } as const;
  const deliveryFailed = { kind: "delivery-failed", position: at(1_000, 2, 3), outSeq: 9, reason: "gone" } as const;
  const neverAMessage = () => {
    throw new Error("onMessage was called");
  };

  test("run their own handler with what was set aside, and its time", () => {
    const seen: unknown[] = [];
    const onNotice = {
      gap: (_state: unknown, notice: unknown, ctx: TurnContext) => {
        seen.push(notice, Object.isFrozen(notice), ctx.now().getTime());
        ctx.reply("some are missing");
        return { gap: true };
      },
      poisoned: async (state: unknown, notice: unknown) => {
        seen.push(notice, Object.isFrozen(notice));
        return state as null;
      },
      deliveryFailed: (_state: unknown, notice: DeliveryFailedNotice) => {
        seen.push(Object.isFrozen(notice));
        return [notice.outSeq, notice.reason];
      },
    };
    expect(run(neverAMessage, { notice: gap, onNotice }).now).toEqual({
      kind: "done",
      state: { gap: true },
      replies: [{ text: "some are missing" }],
      sends: [],
    });
    expect(run(neverAMessage, { notice: poisoned, onNotice }).now).toBeNull();
    expect(run(neverAMessage, { notice: deliveryFailed, onNotice }).now).toMatchObject({ state: [9, "gone"] });
    expect(seen).toEqual([{ from: 4, to: 6 }, true, 1_000, { id: "m4", error: "StepTimeoutError" }, true, true]);
  });

  test("leave the state of a bot that does not care as it is", () => {
    for (const notice of [gap, poisoned, deliveryFailed]) {
      for (const onNotice of [undefined, {}]) {
        const { now } = run(neverAMessage, { notice, state: { n: 5 }, ...(onNotice && { onNotice }) });
        expect(now).toEqual({ kind: "done", state: { n: 5 }, replies: [], sends: [] });
      }
    }
  });

  test("draw other values than the message at their position", () => {
    const drawn: string[] = [];
    const draw = (ctx: TurnContext) => drawn.push(ctx.uuid(), String(ctx.random()));
    const onNotice = {
      gap: (state: unknown, _notice: unknown, ctx: TurnContext) => {
        draw(ctx);
        return state as null;
      },
    };
    run(neverAMessage, { notice: gap, onNotice });
    run(neverAMessage, { notice: { ...gap, from: 5 }, onNotice });
    run((state, _message, ctx) => {
      draw(ctx);
      return state;
    });
    expect(new Set(drawn).size).toBe(6);
  });
});

test("the message says what it is about, who sent it, that it is late or came back, and only then", () => {
  let seen: Message | undefined;
  const see = (given: Given): Message => {
    run((state, message) => {
      seen = message;
      return state;
    }, given);
    return seen!;
  };
  const from = { bot: "b", channel: "test", conversation: "c0" };
  const extra = { epoch: 2, kind: "edit", about: "m0", from, hops: 1, redrives: "1-0" } as const;
  const full = see({ message: { extra }, isLate: true });
  expect(full).toMatchObject({ kind: "edit", about: "m0", from, redriven: true, late: true });
  expect(full).not.toHaveProperty("hops");
  expect(() => ((full.from as { bot: string }).bot = "x")).toThrow(TypeError);
  expect(Object.keys(see({ message: { extra: {} } })).sort()).toEqual(["channel", "conversation", "id", "seq", "text"]);
});

describe("a promise that the handler left behind", () => {
  const held = () => gate<null>();

  test("fails its turn while that runs; the text of what it was rejected with stays out of the error's message", async () => {
    const reason = new Error("card 4242");
    let aborted: unknown;
    const end = held();
    const turn = run((_state, _message, ctx) => {
      ctx.signal.addEventListener("abort", () => {
        aborted = ctx.signal.reason;
      });
      return end.promise;
    });
    turn.turn.rejected(reason);
    const error = errorOf(await turn.later);
    expect(error).toBeInstanceOf(FloatingRejectionError);
    expect(error).toMatchObject({ reason });
    expect(String(error)).not.toContain("4242");
    expect(aborted).toBe(error);
    expect(describeBotError(error)).toMatchObject({ code: "ERR_FLOATING_REJECTION", reason: { name: "Error" } });
    expect(JSON.stringify(describeBotError(error))).not.toContain("4242");
    expect(fullBotError(error)).toContain("card 4242"); // for the dead letter, which holds the message as well
    end.open(null);
    await quiet();
    expect(turn.results).toBe(1);
  });

  test("is one line with the conversation's ids after the turn, without the text of what it was rejected with, and is counted", () => {
    const log = new RecordingLog();
    let strays = 0;
    const { turn } = run((state) => state, {
      log,
      onStrayRejection: () => {
        strays += 1;
      },
    });
    turn.rejected(new RangeError("card 4242"));
    turn.rejected("card 4242");
    const lines = log.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { level: "error", bot: "b", channel: "test", conversation: "c1", seq: 7, error: { name: "RangeError" } },
      { level: "error", error: { name: "string" } },
    ]);
    expect(log.lines.join()).not.toContain("4242");
    expect(strays).toBe(2);
  });
});

test("what a later version has says so by name, and not after the end of a turn", () => {
  const uses: ((ctx: TurnContext) => void)[] = [
    (ctx) => ctx.timer("t", 1),
    (ctx) => ctx.cancel("t"),
    (ctx) => ctx.end(),
  ];
  for (const use of uses) {
    const { now } = run(
      (state, _message, ctx) => {
        use(ctx);
        return state;
      },
      { journal: new JournalRig({ open: openTurn({ repliesOut: 1 }) }).journal },
    );
    expect(errorOf(now)).toBeInstanceOf(NotAvailableError);
  }
});
