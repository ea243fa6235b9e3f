// What docs/order.md shows is what the code says: its walks by the sequencer, its refusals by those who refuse.

import { describe, expect, test } from "vitest";
import { type HttpChannelOptions, httpChannel } from "../../src/channels/http-channel.ts";
import { externalOrder, type OrderMode } from "../../src/channels/order-options.ts";
import { checkApp } from "../../src/check-app.ts";
import { failureText } from "../../src/cli/exit.ts";
import { type ExternalOrder, orderPast, placeOf } from "../../src/domain/external-order.ts";
import { HeldMessages } from "../../src/domain/held-messages.ts";
import { newRecord, withExtra } from "../../src/domain/record.ts";
import { type HeldDecision, nextHeld, sequence } from "../../src/domain/sequencer.ts";
import { problemJson } from "../../src/ingress/problem.ts";
import { METRICS } from "../../src/metrics.ts";
import { codeBlocks, pages } from "./support/markdown.ts";

const page = pages().find(({ path }) => path === "docs/order.md")!;
const blocks = codeBlocks(page);
const START_MS = 1_700_000_000_000;
const BOUNDS = { messagesMax: 10, messageBytesMax: 10_000 };

interface Walk {
  readonly title: string;
  readonly rules: ExternalOrder;
  readonly ordering: "strict" | "available";
  readonly lines: readonly { readonly atMs: number; readonly what: string; readonly outcome: string }[];
}

const walks: readonly Walk[] = blocks
  .filter(({ language, code }) => language === "text" && code.startsWith("order "))
  .map(({ code, line }) => {
    const [head = "", ...rest] = code.trimEnd().split("\n");
    const words = new Map(head.split(", ").map((part) => part.split(" ") as [string, string]));
    const { order, ordering = "strict", ...numbers } = Object.fromEntries(words);
    const options = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, Number(value)]));
    return {
      title: `line ${line}: ${head}`,
      rules: externalOrder({ order: order as OrderMode, ...options }, "page"),
      ordering: ordering as Walk["ordering"],
      lines: rest.map((text) => {
        const [, atMs, what, outcome] = /^at +(\d+) ms {2}(\S.*?) {2,}(\S.*)$/.exec(text)!;
        return { atMs: Number(atMs), what: what!, outcome: outcome! };
      }),
    };
  });

/** One conversation whose turns succeed at once: nothing but the rules of order. */
class Conversation {
  readonly #walk: Walk;
  readonly #held = new HeldMessages<ReturnType<typeof messageOf>>();
  readonly #decided = new Set<number>();
  #record = newRecord({ entry: { ms: START_MS, seq: 0 }, index: 0 });
  #isHalted = false;
  #said: string[] = [];

  constructor(walk: Walk) {
    this.#walk = walk;
  }

  /** What comes of a line's event, in the words of the page. */
  after(what: string, atMs: number): string {
    this.#said = [];
    const [, number, epoch] = /^(\d+)(?: of epoch (\d+))? arrives$/.exec(what) ?? [];
    if (number !== undefined) this.#arrives(messageOf(Number(number), Number(epoch ?? 0), START_MS + atMs));
    else expect(what).toBe("time passes");
    this.#release(START_MS + atMs);
    return this.#said.join(", ");
  }

  #arrives(message: ReturnType<typeof messageOf>): void {
    const ids = {
      seen: ({ lo }: { lo: number }) => (this.#decided.has(lo) ? "duplicate" : "new") as "duplicate" | "new",
    };
    const decision = sequence(this.#record, ids, this.#walk.rules, message, "inbox", this.#held);
    this.#record = { ...this.#record, cursor: message.position };
    switch (decision.kind) {
      case "hold":
        this.#held.add(message);
        this.#said.push(`${nameOf(message)} is held`);
        break;
      case "release":
        if (this.#isHalted) this.#said.push("the halt is lifted");
        this.#isHalted = false;
        this.#runs(message);
        break;
      case "late":
        this.#late(message);
        break;
      default:
        throw new Error(`nothing on the page is ${decision.kind}`);
    }
  }

  #release(nowMs: number): void {
    for (;;) {
      const decision: HeldDecision = this.#isHalted
        ? { kind: "nothing" }
        : nextHeld(this.#record, this.#walk.rules, this.#held, nowMs);
      switch (decision.kind) {
        case "nothing":
        case "wait":
          return;
        case "release":
          this.#runs(this.#held.shift()!);
          break;
        case "late":
          this.#late(this.#held.shift()!);
          break;
        case "gap":
          this.#gap(decision);
      }
    }
  }

  #gap({ from, to, order }: Extract<HeldDecision, { kind: "gap" }>): void {
    if (this.#walk.ordering === "strict") {
      this.#isHalted = true;
      this.#said.push(`the conversation halts: ${from} to ${to} missing`);
      return;
    }
    this.#record = withExtra(this.#record, { order });
    this.#said.push(`the bot is told: ${from} to ${to} missing`);
  }

  #runs(message: ReturnType<typeof messageOf>): void {
    this.#decided.add(message.idHash.lo);
    this.#record = withExtra(this.#record, { order: orderPast(placeOf(message)!) });
    this.#said.push(`${nameOf(message)} runs`);
  }

  #late(message: ReturnType<typeof messageOf>): void {
    this.#decided.add(message.idHash.lo);
    const then = this.#walk.ordering === "strict" ? " is late: a dead letter" : " runs, flagged late";
    this.#said.push(nameOf(message) + then);
  }
}

function messageOf(number: number, epoch: number, atMs: number) {
  return {
    position: { entry: { ms: atMs, seq: 0 }, index: 0 },
    idHash: { lo: epoch * 1_000_000 + number, hi: 0 },
    bodyHash: 0,
    sequence: number,
    extra: { epoch },
  };
}

const nameOf = ({ sequence: number, extra }: ReturnType<typeof messageOf>): string =>
  extra.epoch === 0 ? `${number}` : `${number} of epoch ${extra.epoch}`;

describe("each walk of the page is what the sequencer decides", () => {
  test("there are walks of both orders that hold, and of both orderings", () => {
    expect(new Set(walks.map(({ rules }) => rules.mode))).toEqual(new Set(["contiguous", "monotonic"]));
    expect(new Set(walks.map(({ ordering }) => ordering))).toEqual(new Set(["strict", "available"]));
  });

  test.each(walks)("$title", (walk) => {
    const conversation = new Conversation(walk);
    expect(walk.lines.length).toBeGreaterThan(2);
    for (const { atMs, what, outcome } of walk.lines)
      expect(conversation.after(what, atMs), `${atMs} ms: ${what}`).toBe(outcome);
  });
});

test("the table of waits and bounds has the defaults that there are", () => {
  const rows = [...page.text.matchAll(/^\| `(\w+)` \| (contiguous|monotonic|both) \| ([\d,]+|none) \|/gm)];
  expect(rows.map(([, name]) => name)).toEqual(["gapTimeoutMs", "settleMs", "settleMs", "maxHeld", "firstSequence"]);
  for (const [, name, mode, fallback] of rows) {
    const value = fallback === "none" ? null : Number(fallback!.replaceAll(",", ""));
    const modes: readonly OrderMode[] = mode === "both" ? ["contiguous", "monotonic"] : [mode as OrderMode];
    for (const order of modes) expect(httpChannel({ order }).order).toMatchObject({ [name!]: value });
  }
});

const jsonBlocks = blocks.filter(({ language }) => language === "json").map(({ code }) => JSON.parse(code) as object);
const parsed = (body: object, options: HttpChannelOptions) =>
  httpChannel(options).parse(Buffer.from(JSON.stringify(body)), "demo", BOUNDS);

test("the answer to a message without its number is the one that is given", () => {
  const problem = parsed({ conversation: "c1", id: "m1", text: "hi" }, { order: "contiguous" });
  if (problem.kind !== "problem") throw new Error("it was taken");
  expect(jsonBlocks).toContainEqual(JSON.parse(problemJson(problem).toString()));
});

test("the edit of the page is one that is taken", () => {
  const edit = jsonBlocks.find((body) => "kind" in body)!;
  expect(parsed(edit, { order: "contiguous" })).toMatchObject({
    kind: "ok",
    messages: [{ id: "e7", sequence: 4, kind: "edit", about: "m3", text: "two, not three" }],
  });
});

test("the refusal of a dedupe time is the one that a start gives", () => {
  const channels = [{ name: "sms", retryHorizonMs: 3_600_000 }];
  let said = "";
  try {
    checkApp({ bots: [{ name: "a" }], channels, config: { dedupeMs: 600_000, waitingMax: 1_000 } });
  } catch (error) {
    said = failureText(error, { isDebug: false, isRunning: false });
  }
  expect(blocks.filter(({ language }) => language === "text").map(({ code }) => code)).toContain(said);
});

test("the metrics that it names are there", () => {
  const named = page.text.match(/colloquy_\w+/g) ?? [];
  expect(named).not.toEqual([]);
  expect(METRICS.map(({ name }) => name)).toEqual(expect.arrayContaining(named));
});
