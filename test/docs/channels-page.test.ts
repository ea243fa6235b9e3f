// What docs/channels.md says to authors of channels is what the code does; its example runs as it stands there.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Channel, Delivery } from "colloquy";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { ChannelAccount } from "../../actors/channel-accounts.ts";
import { renderedBytesMax } from "../../actors/rendered-turn.ts";
import { type AccountOptions, PARTS_MAX, type SendOutcome } from "../../src/channels/channel.ts";
import { httpChannel } from "../../src/channels/http-channel.ts";
import { checkApp } from "../../src/check-app.ts";
import { CONFIG_KEYS, flagOf, helpOf, optionOf, resolveConfig } from "../../src/config.ts";
import { DELIVERY_BACKOFF } from "../../src/domain/retry-policy.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";
import { codeBlocks, pages, ROOT } from "./support/markdown.ts";

const page = pages().find(({ path }) => path === "docs/channels.md")!;
const words = page.text.replace(/\s+/g, " ");

/** Rows of the table whose first title is that, by the code in their first cells. */
function rows(title: string): Map<string, readonly string[]> {
  const table = page.text.split(`\n| ${title} |`)[1]!.split("\n\n")[0]!;
  const cells = [...table.matchAll(/^\| (.+) \|$/gm)].map(([, row]) => row!.split(" | "));
  return new Map(
    cells.flatMap(([first = "", ...rest]) => (first.startsWith("`") ? [[first.split("`")[1]!, rest]] : [])),
  );
}

async function example(): Promise<Channel> {
  const { code } = codeBlocks(page).find(({ language }) => language === "ts")!;
  const folder = join(ROOT, "node_modules/.cache/colloquy-docs");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `channels-${process.pid}.ts`);
  onTestFinished(() => rmSync(file, { force: true }));
  writeFileSync(file, code);
  return ((await import(file)) as { sms: Channel }).sms;
}

const delivery: Delivery = {
  to: { bot: "b", channel: "sms", conversation: "+431" },
  born: "k-0-0",
  outSeq: 1,
  idempotencyKey: "b~sms~%2B431~k-0-0.1",
  body: Buffer.from('{"to":"+431","text":"hi"}'),
};
const signal = new AbortController().signal;

describe("the example", () => {
  test("can be used", async () => {
    const config = resolveConfig({});
    const sms = await example();
    expect(() => checkApp({ bots: [{ name: "a" }], channels: [sms], config })).not.toThrow();
  });

  test("cuts a reply into the parts that its outside takes", async () => {
    const { render } = await example();
    const of = (text: string) =>
      [render({ to: delivery.to, born: "k-0-0", outSeq: 1, inReplyTo: null, reply: { text } })].flat() as Uint8Array[];
    const texts = (text: string) =>
      of(text).map((body) => (JSON.parse(Buffer.from(body).toString()) as typeof body & { text: string }).text);
    expect(texts("")).toEqual([""]);
    expect(texts("a".repeat(160))).toEqual(["a".repeat(160)]);
    expect(texts(`${"a".repeat(160)}b\n`)).toEqual(["a".repeat(160), "b\n"]);
    expect(texts("a".repeat(160 * PARTS_MAX))).toHaveLength(PARTS_MAX);
  });

  test.each<[number, SendOutcome["kind"]]>([
    [202, "delivered"],
    [400, "terminal"],
    [410, "gone"],
    [429, "retryable"],
    [503, "ambiguous"],
  ])("takes HTTP %i for %s", async (status, kind) => {
    const { send } = await example();
    const asked = vi
      .spyOn(globalThis, "fetch")
      .mockImplementation(async () => new Response(null, { status, headers: { "retry-after": "7" } }));
    onTestFinished(() => asked.mockRestore());
    const outcome = await send(delivery, signal);
    expect(outcome).toMatchObject({ kind, ...(kind === "retryable" && { retryAfterMs: 7_000 }) });
    expect(asked.mock.calls[0]![1]!.headers).toMatchObject({ "idempotency-key": delivery.idempotencyKey });
  });

  test.each([
    [200, "delivered"],
    [404, "absent"],
    [500, "unknown"],
  ])("asks, and takes HTTP %i for %s", async (status, kind) => {
    const { probe } = await example();
    const asked = vi.spyOn(globalThis, "fetch").mockImplementation(async () => new Response(null, { status }));
    onTestFinished(() => asked.mockRestore());
    expect(await probe!(delivery, signal)).toMatchObject({ kind });
  });

  test("knows nothing after silence, and rejects never", async () => {
    const { send, probe } = await example();
    const asked = vi.spyOn(globalThis, "fetch").mockRejectedValue(new TypeError("fetch failed"));
    onTestFinished(() => asked.mockRestore());
    expect(await send(delivery, signal)).toEqual({ kind: "ambiguous", reason: "TypeError" });
    expect(await probe!(delivery, signal)).toEqual({ kind: "unknown", reason: "TypeError" });
  });
});

describe("its tables", () => {
  test("have each outcome, and each way to go on from an unknown one", () => {
    const outcomes: Record<SendOutcome["kind"], true> = {
      delivered: true,
      retryable: true,
      ambiguous: true,
      terminal: true,
      gone: true,
    };
    const ways: Record<NonNullable<Channel["onAmbiguous"]>, true> = { retry: true, probe: true, halt: true };
    expect([...rows("outcome").keys()]).toEqual(Object.keys(outcomes));
    expect([...rows("`onAmbiguous`").keys()]).toEqual(Object.keys(ways));
  });

  test("have each bound of an account, with its default and its range", () => {
    const known: Record<keyof AccountOptions, true> = {
      concurrency: true,
      ratePerSecond: true,
      burst: true,
      breakerFailures: true,
      breakerOpenMs: true,
      breakerOpenMsMax: true,
    };
    const told = rows("`account`");
    expect([...told.keys()]).toEqual(Object.keys(known));
    const { concurrency } = new ChannelAccount("own", {}, new VirtualEnvironment(1)).view;
    expect(told.get("concurrency")![0]).toBe(String(concurrency));
    expect(opensAfter(Number(told.get("breakerFailures")![0]))).toEqual([null, figure(told.get("breakerOpenMs")![0]!)]);
    const config = resolveConfig({});
    const refuses = (account: AccountOptions) => () =>
      checkApp({ bots: [{ name: "a" }], channels: [{ name: "own", account }], config });
    for (const name of ["concurrency", "ratePerSecond"] as const) {
      const [, min, max] = /, ([\d.,]+) to ([\d,]+)$/.exec(told.get(name)!.at(-1)!)!.map(figure);
      expect(refuses({ [name]: min })).not.toThrow();
      expect(refuses({ [name]: max })).not.toThrow();
      expect(refuses({ [name]: max! + 1 })).toThrow(name);
      expect(refuses({ [name]: min! / 2 })).toThrow(name);
    }
  });
});

/** What the last but one and the last of so many failures say of the breaker. */
function opensAfter(failures: number): readonly (number | null)[] {
  const account = new ChannelAccount("own", {}, new VirtualEnvironment(1));
  const said = Array.from({ length: failures }, () => (account.tryEnter() ? account.leave("retryable") : Number.NaN));
  return said.slice(-2);
}

const figure = (text: string): number => Number(text.replaceAll(",", ""));

test("the bounds of what is rendered, the waits and the time are as the code has them", () => {
  expect(words).toContain(`a list of 1 to ${PARTS_MAX} bodies`);
  expect(renderedBytesMax(1_000, 0) / 1_000).toBe(6);
  expect(words).toContain("six times `replyBytesMax`");
  expect(words).toContain(`and ${renderedBytesMax(0, 1) / 1_024} KiB each`);
  const { baseMs, capMs } = DELIVERY_BACKOFF;
  expect(words).toContain(`after up to ${baseMs} ms, doubling to ${capMs / 60_000} minutes`);
  expect(resolveConfig({}).deliveryBudgetMs).toBe(3 * 24 * 3_600_000);
  expect(words).toContain("A reply is tried for three days from its first failure");
});

test("what colloquy start takes for posting replies, the http channel takes in code, with the defaults of the page", async () => {
  const settings = rows("`colloquy start`");
  const posting = CONFIG_KEYS.filter((key) => key.startsWith("delivery"));
  expect([...settings.keys()].sort()).toEqual(posting.map(flagOf).sort());
  for (const key of posting) {
    const [option, fallback] = settings.get(flagOf(key)!)!;
    if (key === "deliveryBudgetMs") expect(fallback).toBe(resolveConfig({})[key].toLocaleString("en"));
    else expect(`\`httpChannel({ ${option!.replaceAll("`", "")} })\``).toBe(`\`${optionOf(key)}\``);
    const inHelp = /; (\d+) if not set/.exec(helpOf(key))?.[1];
    if (inHelp !== undefined) expect(fallback).toBe(Number(inHelp).toLocaleString("en"));
  }
  const channel = httpChannel({ deliverTo: "http://127.0.0.1:1/" });
  expect(settings.get("--delivery-concurrency")![1]).toBe(String(channel.account!.concurrency));
  await channel.close?.();
});
