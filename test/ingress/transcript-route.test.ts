import { request } from "node:http";
import { test as lawTest } from "@fast-check/vitest";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { ConversationId } from "../../src/domain/ids.ts";
import type { EntryId } from "../../src/domain/position.ts";
import { transcriptBotLine, transcriptUserLine } from "../../src/domain/transcript.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { createServer } from "../../src/ingress/server.ts";
import type { TranscriptLine } from "../../src/ingress/transcript-route.ts";
import { silentLog } from "../../src/log.ts";
import { exchange } from "../support/http-exchange.ts";
import { silentMetrics } from "../support/silent-metrics.ts";

const reads: { conversation: ConversationId; after: EntryId; count: number }[] = [];
let lines: TranscriptLine[] = [];
let failure: Error | null = null;

const server = createServer({
  environment: systemEnvironment,
  log: silentLog,
  host: "127.0.0.1",
  port: 0,
  readiness: () => ({ ready: true }),
  metrics: silentMetrics,
  routes: {
    webhook: () => undefined,
    transcript: (channel, bot) =>
      channel === "http" && bot === "demo"
        ? {
            async read(conversation, range) {
              if (failure) throw failure;
              reads.push({ conversation, ...range });
              return lines;
            },
            follow: () => () => undefined,
          }
        : undefined,
  },
});

beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => {
  reads.length = 0;
  lines = [];
  failure = null;
});

const replies = (conversation: string, query = "") =>
  exchange(`${server.url}/channels/http/demo/${encodeURIComponent(conversation)}/replies${query}`);

test("lines are read in order, each with its id", async () => {
  lines = [
    {
      id: { ms: 5, seq: 0 },
      bytes: transcriptUserLine({ seq: 1, born: "b", messageId: "m1", text: "h\n\u00e9", data: [1] }),
    },
    { id: { ms: 5, seq: 1 }, bytes: transcriptBotLine({ outSeq: 1, inReplyTo: "m1", born: "b", text: "😀" }) },
  ];
  const answer = await replies("c1");
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
  expect(answer.json).toEqual([
    { id: "5-0", role: "user", sequence: 1, messageId: "m1", inReplyTo: null, born: "b", text: "h\n\u00e9", data: [1] },
    { id: "5-1", role: "bot", sequence: 1, inReplyTo: "m1", born: "b", text: "😀" },
  ]);
});

test("a conversation without lines is an empty array", async () => {
  expect(await replies("c1")).toMatchObject({ status: 200, json: [] });
});

test("after and limit are passed on, with 0 and 200 as defaults", async () => {
  await replies("c1");
  await replies("c1", "?after=0&limit=7");
  await replies("c1", "?after=1715938200000-3");
  await replies("c1", "?after=12");
  expect(reads.map(({ after, count }) => [after.ms, after.seq, count])).toEqual([
    [0, 0, 200],
    [0, 0, 7],
    [1_715_938_200_000, 3, 200],
    [12, 0, 200],
  ]);
});

test("an after or limit that is none is 400 and named", async () => {
  const bad = [
    "after=x",
    "after=-1",
    "after=1-",
    "after=1-2-3",
    "after=1&after=2",
    "after=",
    `after=${"9".repeat(30)}`,
  ];
  for (const query of bad)
    expect(await replies("c", `?${query}`)).toMatchObject({ status: 400, json: { field: "after" } });
  for (const query of ["limit=0", "limit=201", "limit=-1", "limit=1e2", "limit=", "limit=1&limit=2"])
    expect(await replies("c", `?${query}`)).toMatchObject({ status: 400, json: { field: "limit" } });
  expect(reads).toEqual([]);
});

test("an unknown bot or channel, and an id that is too long, are 404", async () => {
  for (const path of [
    "http/nobody/c",
    "fax/demo/c",
    `http/demo/${"x".repeat(513)}`,
    `http/demo/${"x".repeat(4_000)}`,
  ]) {
    const answer = await exchange(`${server.url}/channels/${path}/replies`);
    expect(answer).toMatchObject({ status: 404, json: { status: 404 } });
  }
});

test("a store that is away is 503 with Retry-After", async () => {
  failure = new StoreUnavailableError("gone");
  const answer = await replies("c1");
  expect(answer).toMatchObject({ status: 503, json: { code: "ERR_STORE_UNAVAILABLE" } });
  expect(answer.headers.get("retry-after")).toBe("1");
});

test("ids that a URL finds hard arrive exactly", async () => {
  const hard = [
    "😀".repeat(128),
    "a\nb",
    "a/b",
    "%2F",
    "%",
    "{x}",
    ":id",
    "~",
    "a b+c",
    "?#&=;",
    "\u0000",
    "*",
    "..a",
    "é",
  ];
  for (const conversation of hard) await replies(conversation);
  expect(reads.map(({ conversation }) => conversation.conversation)).toEqual(hard);
});

const legalId = fc.string({ unit: "binary", minLength: 1, maxLength: 128 });

lawTest.prop([legalId])("any legal id arrives exactly, percent-encoded", async (conversation) => {
  reads.length = 0;
  const path = `/channels/http/demo/${encodeURIComponent(conversation)}/replies`;
  const { hostname, port } = new URL(server.url);
  // Not fetch: it takes the ids "." and ".." for steps between folders.
  const status = await new Promise((resolve, reject) =>
    request({ hostname, port, path }, (response) => response.resume().on("end", () => resolve(response.statusCode)))
      .on("error", reject)
      .end(),
  );
  expect(status).toBe(200);
  expect(reads).toEqual([
    { conversation: { bot: "demo", channel: "http", conversation }, after: { ms: 0, seq: 0 }, count: 200 },
  ]);
});
