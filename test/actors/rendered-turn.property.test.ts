// D1 to D3 of actors/rendered-turn.ts.

import { fc, test } from "@fast-check/vitest";
import { describe, test as example, expect } from "vitest";
import { type RenderBounds, type RenderedTurn, renderTurn } from "../../actors/rendered-turn.ts";
import { sizeOf } from "../../actors/turn-input.ts";
import { type Channel, PARTS_MAX } from "../../src/channels/channel.ts";
import { httpChannel } from "../../src/channels/http-channel.ts";
import { webChannel } from "../../src/channels/web-channel.ts";
import { conversationKey, ID_BYTES_MAX } from "../../src/domain/ids.ts";
import type { InboxMessage, Reply } from "../../src/domain/message.ts";
import { newRecord } from "../../src/domain/record.ts";
import { TurnOutputError } from "../../src/errors.ts";
import { testChannel } from "./support/conversation-rig.ts";

const id = { bot: "b", channel: "test", conversation: "c" };
const position = { entry: { ms: 1_000, seq: 0 }, index: 0 };
const BOUNDS: RenderBounds = { replyBytesMax: 65_536, turnReplyBytesMax: 1_048_576 };
const OUT_SEQ = 7;

const message = (parts: Partial<InboxMessage> = {}): InboxMessage => ({
  kind: "message",
  position,
  source: { id: position.entry, bytes: 0, undecided: 1 },
  key: conversationKey(id),
  id: "m1",
  idHash: { lo: 1, hi: 2 },
  bodyHash: 0,
  sequence: undefined,
  sentAtMs: undefined,
  text: "hi",
  dataJson: "",
  bytes: 10,
  extra: null,
  waitingId: null,
  ...parts,
});

function rendered(
  channel: Channel,
  replies: readonly Reply[],
  given: { readonly message?: InboxMessage | null; readonly bounds?: Partial<RenderBounds> } = {},
): RenderedTurn {
  const of = { id, key: conversationKey(id) };
  const turn = { message: given.message === undefined ? message() : given.message, replies, withUserLine: true };
  const record = { ...newRecord(position), outSeq: OUT_SEQ };
  return renderTurn(channel, of, record, "k-0-0", turn, { ...BOUNDS, ...given.bounds });
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(TurnOutputError);
    return (error as Error).message;
  }
  throw new Error("it was accepted");
}

const OWN_CHANNELS = [httpChannel({ deliverTo: "http://127.0.0.1:1/" }), httpChannel(), webChannel()];

/** Gives each reply the bodies that its text names, separated by "|". */
const splitting = testChannel({ render: ({ reply }) => reply.text.split("|").map((part) => Buffer.from(part)) });
const texts = (bodies: readonly Uint8Array[]): string[] => bodies.map((body) => Buffer.from(body).toString());

describe("the bodies of a reply (D1)", () => {
  const split = fc.array(fc.array(fc.stringMatching(/^[a-z]{0,5}$/), { minLength: 1, maxLength: PARTS_MAX }), {
    maxLength: 8,
  });

  test.prop([split])("share its outSeq, are numbered from 1, and follow each other", (replies) => {
    const { outbox, transcript, bytes } = rendered(
      splitting,
      replies.map((parts) => ({ text: parts.join("|") })),
    );
    const expected = replies.flatMap((parts, i) =>
      parts.map((text, at) => ({
        text,
        outSeq: OUT_SEQ + 1 + i,
        ...(parts.length > 1 && { extra: { part: at + 1, parts: parts.length } }),
      })),
    );
    expect(
      outbox.map(({ body, outSeq, extra }) => ({ text: texts([body])[0], outSeq, ...(extra && { extra }) })),
    ).toEqual(expected);
    expect(outbox.every(({ key, born }) => key === conversationKey(id) && born === "k-0-0")).toBe(true);
    expect(transcript).toEqual([]);
    expect(bytes).toBe(expected.reduce((sum, { text }) => sum + text.length, 0));
  });

  example("of which there is one, in a list or not, are those of a reply without parts", () => {
    const one = testChannel({ render: ({ reply }) => Buffer.from(reply.text) });
    expect(rendered(splitting, [{ text: "a" }])).toEqual(rendered(one, [{ text: "a" }]));
    expect(rendered(one, [{ text: "a" }]).outbox[0]).not.toHaveProperty("extra");
  });

  example("expire together", () => {
    const { outbox } = rendered(splitting, [
      { text: "a|b", expiresAtMs: 5 },
      { text: "c" },
      { text: "d", expiresAtMs: 6 },
    ]);
    expect(outbox.map(({ extra }) => extra)).toEqual([
      { expiresAtMs: 5, part: 1, parts: 2 },
      { expiresAtMs: 5, part: 2, parts: 2 },
      undefined,
      { expiresAtMs: 6 },
    ]);
  });

  example.each<[string, unknown]>([
    ["none", []],
    ["one too many", Array.from({ length: PARTS_MAX + 1 }, () => new Uint8Array(1))],
    ["a text", "bytes"],
    ["nothing", undefined],
    ["a promise", Promise.resolve(new Uint8Array(1))],
    ["a list with a hole", Object.assign([new Uint8Array(1)], { 2: new Uint8Array(1) })],
    ["a list with nothing in it", [new Uint8Array(1), undefined]],
    ["a list of texts", ["a", "b"]],
    ["another view of bytes", new DataView(new ArrayBuffer(4))],
  ])("that are %s fail the turn by name, before its commit", (_what, result) => {
    const channel = testChannel({ render: () => result as Uint8Array });
    expect(refusal(() => rendered(channel, [{ text: "a" }]))).toMatch(
      /^channel test rendered reply 8 into .+; nothing of the turn was committed, its message runs again: mend the channel's render$/,
    );
  });

  example("may be several for a lane only", () => {
    const channel = { ...splitting, delivery: "transcript" } as const;
    expect(refusal(() => rendered(channel, [{ text: "a" }]))).toContain("a line of a transcript is one body");
  });
});

describe("what is rendered has a bound (D2, R6)", () => {
  const of = (sizes: readonly number[]) => testChannel({ render: () => sizes.map((size) => new Uint8Array(size)) });

  example("for the bodies of a reply together", () => {
    const bounds = { replyBytesMax: 1_000 };
    const most = 6_000 + 2 * 8_192;
    expect(rendered(of([most - 1, 1]), [{ text: "" }], { bounds }).bytes).toBe(most);
    expect(refusal(() => rendered(of([most, 1]), [{ text: "" }], { bounds }))).toContain(
      `reply 8 into ${most + 1} bytes, the bound is ${most} (6 x replyBytesMax, and 8192 for each body)`,
    );
  });

  example("for those of a turn together", () => {
    const bounds = { replyBytesMax: 1_000, turnReplyBytesMax: 1_500 };
    const replies = [{ text: "" }, { text: "" }];
    const most = 9_000 + 2 * 8_192;
    expect(rendered(of([most / 2]), replies, { bounds }).bytes).toBe(most);
    expect(refusal(() => rendered(of([most / 2 + 1]), replies, { bounds }))).toContain(
      `the replies of the turn into ${most + 2} bytes, the bound is ${most} (6 x turnReplyBytesMax, and 8192 for each body)`,
    );
  });

  const worstId = "\u0001".repeat(ID_BYTES_MAX);
  const anyText = fc.string({ unit: "binary", maxLength: 200 }).map((text) => text.toWellFormed());
  test.prop([
    fc.array(fc.record({ text: anyText, data: fc.jsonValue({ maxDepth: 2 }) }), { minLength: 1, maxLength: 5 }),
  ])("that nothing which a bot may reply goes over in the channels that there are", (given) => {
    const replies = [...given, { text: "\u0001".repeat(500), data: null }] as Reply[];
    const bounds = {
      replyBytesMax: Math.max(...replies.map(sizeOf)),
      turnReplyBytesMax: replies.reduce((sum, reply) => sum + sizeOf(reply), 0),
    };
    for (const channel of OWN_CHANNELS) {
      const to = { bot: "b".repeat(64), channel: "c".repeat(64), conversation: worstId };
      const turn = { message: message({ id: worstId }), replies, withUserLine: false };
      const of = { id: to, key: conversationKey(to) };
      expect(() => renderTurn(channel, of, newRecord(position), "k-0-0", turn, bounds)).not.toThrow();
    }
  });
});

describe("replies to the notice of a reply that failed (D3)", () => {
  const notice = message({
    id: "delivery-failed:k-0-0.3",
    text: "",
    extra: { deliveryFailed: { outSeq: 3, reason: "terminal" } },
  });

  example("say so, and answer no message: its id is nobody's", () => {
    const { outbox } = rendered(testChannel(), [{ text: "a" }, { text: "b", expiresAtMs: 9 }], { message: notice });
    expect(outbox.map(({ extra }) => extra)).toEqual([{ isOfNotice: true }, { expiresAtMs: 9, isOfNotice: true }]);
    expect(outbox.map(({ body }) => (JSON.parse(texts([body])[0]!) as Record<string, unknown>).inReplyTo)).toEqual([
      null,
      null,
    ]);
  });

  example("are marked in each of their parts", () => {
    const { outbox } = rendered(splitting, [{ text: "a|b" }], { message: notice });
    expect(outbox.map(({ extra }) => extra?.isOfNotice)).toEqual([true, true]);
  });

  example("are not those to messages, to sends, and to other notices", () => {
    const sent = message({ extra: { from: id, hops: 1 } });
    for (const of of [message(), sent, null]) {
      expect(rendered(testChannel(), [{ text: "a" }], { message: of }).outbox[0]).not.toHaveProperty("extra");
    }
  });

  example("bring no line of a user into a transcript", () => {
    const channel = testChannel({ delivery: "transcript" });
    expect(rendered(channel, [{ text: "a" }], { message: notice }).transcript).toHaveLength(1);
    expect(rendered(channel, [{ text: "a" }]).transcript).toHaveLength(2);
  });
});

example("in a transcript a reply is one line, whenever it expires", () => {
  const lines = (reply: Reply) => rendered(webChannel(), [reply], { message: null });
  expect(lines({ text: "a", expiresAtMs: 1 })).toEqual(lines({ text: "a" }));
});
