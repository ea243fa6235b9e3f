import { afterEach, describe, expect, test } from "vitest";
import { webChannel } from "../../src/channels/web-channel.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { compareEntryIds, type EntryId } from "../../src/domain/position.ts";
import { transcriptBotLine } from "../../src/domain/transcript.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { createServer, type Server, type ServerLimits } from "../../src/ingress/server.ts";
import { TranscriptHub } from "../../src/ingress/transcript-hub.ts";
import type { RecordView, TranscriptLine } from "../../src/ingress/transcript-route.ts";
import { silentLog } from "../../src/log.ts";
import { exchange } from "../support/http-exchange.ts";
import { silentMetrics } from "../support/silent-metrics.ts";

const NEVER_MS = 3_600_000;
const CONVERSATION = { bot: "demo", channel: "web", conversation: "c/1" };
const RECORD: RecordView = {
  seq: 2,
  cursor: { entry: "5-0", index: 1 },
  outSeq: 3,
  born: "b",
  botVersion: 1,
  state: { a: 1 },
};

/** A server over a transcript in memory. */
class Rig {
  readonly hub = new TranscriptHub();
  readonly lines: TranscriptLine[] = [];
  readonly server: Server;
  isAway = false;
  reads = 0;
  /** Runs inside a read, after it saw the lines. */
  duringRead: (() => void) | null = null;

  constructor(limits: Partial<ServerLimits> = {}) {
    this.server = createServer({
      environment: systemEnvironment,
      log: silentLog,
      host: "127.0.0.1",
      port: 0,
      readiness: () => ({ ready: true }),
      metrics: silentMetrics,
      limits: { eventStream: { pollMs: NEVER_MS, heartbeatMs: NEVER_MS, stallMs: NEVER_MS }, ...limits },
      routes: {
        webhook: (channel) => (channel === "web" ? webChannel() : undefined),
        transcript: (channel, bot) => (channel === "web" && bot === "demo" ? this.#port() : undefined),
        page: { bots: ["demo", "other"], pid: 42, refuse: webChannel().refuse! },
      },
    });
  }

  #port() {
    return {
      read: async (_conversation: unknown, { after, count }: { after: EntryId; count: number }) => {
        this.reads += 1;
        if (this.isAway) throw new StoreUnavailableError("away");
        const found = this.lines.filter(({ id }) => compareEntryIds(id, after) > 0).slice(0, count);
        this.duringRead?.();
        return found;
      },
      follow: (conversation: typeof CONVERSATION, onLines: () => void) =>
        this.hub.follow(conversationKey(conversation), onLines),
      record: async ({ conversation }: typeof CONVERSATION) => (conversation === "c/1" ? RECORD : null),
      refuse: webChannel().refuse!,
    };
  }

  add(count: number): void {
    for (let i = 0; i < count; i += 1) {
      const n = this.lines.length + 1;
      const bytes = transcriptBotLine({ outSeq: n, inReplyTo: null, born: "b", text: `line\n${n}` });
      this.lines.push({ id: { ms: 10, seq: n }, bytes });
    }
  }

  tell(): void {
    this.hub.tell(conversationKey(CONVERSATION));
  }

  get url(): string {
    return `${this.server.url}/channels/web/demo/${encodeURIComponent("c/1")}`;
  }
}

/** Reads a stream as a browser does. */
class Client {
  readonly ids: string[] = [];
  readonly texts: string[] = [];
  comments = 0;
  isOver = false;
  status = 0;
  headers = new Headers();
  readonly #abort = new AbortController();
  #wake: () => void = () => undefined;

  async open(url: string, headers: Record<string, string> = {}): Promise<this> {
    const response = await fetch(url, { headers: { ...headers, connection: "close" }, signal: this.#abort.signal });
    this.status = response.status;
    this.headers = response.headers;
    void this.#read(response.body!).finally(() => {
      this.isOver = true;
      this.#wake();
    });
    return this;
  }

  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      if (this.isOver) throw new Error("the stream has ended");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async over(): Promise<void> {
    while (!this.isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    this.#abort.abort();
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    let text = "";
    const decoder = new TextDecoder();
    try {
      for await (const chunk of body) {
        text += decoder.decode(chunk, { stream: true });
        const events = text.split("\n\n");
        text = events.pop()!;
        for (const event of events) this.#event(event);
        this.#wake();
      }
    } catch {
      // closed by the test
    }
  }

  #event(event: string): void {
    if (event.startsWith(":")) this.comments += 1;
    const [id, data, ...rest] = event.split("\n");
    if (!id?.startsWith("id: ")) return;
    expect(rest).toEqual([]);
    const line = JSON.parse(data!.slice("data: ".length)) as { id: string; text: string };
    expect(line.id).toBe(id.slice("id: ".length));
    this.ids.push(line.id);
    this.texts.push(line.text);
  }
}

const rigs: Rig[] = [];
const clients: Client[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const rig of rigs.splice(0)) await rig.server.stop();
});

async function started(limits: Partial<ServerLimits> = {}): Promise<Rig> {
  const rig = new Rig(limits);
  rigs.push(rig);
  await rig.server.start();
  return rig;
}

function open(rig: Rig, query = "", headers: Record<string, string> = {}): Promise<Client> {
  const client = new Client();
  clients.push(client);
  return client.open(`${rig.url}/events${query}`, headers);
}

const idsTo = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => `10-${from + i}`);
const often = { eventStream: { pollMs: 5, heartbeatMs: NEVER_MS, stallMs: NEVER_MS } };

describe("a stream", () => {
  test("gives what is there, more than one read of it, then each new line as it is told", async () => {
    const rig = await started();
    rig.add(450);
    const client = await open(rig);
    expect(client.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(client.headers.get("access-control-allow-origin")).toBeNull();
    await client.until(() => client.ids.length === 450);
    rig.add(2);
    rig.tell();
    await client.until(() => client.ids.length === 452);
    expect(client.ids).toEqual(idsTo(1, 452));
    expect(client.texts[0]).toBe("line\n1");
  });

  test("begins after `after`, or after Last-Event-ID, which wins", async () => {
    const rig = await started();
    rig.add(5);
    const byQuery = await open(rig, "?after=10-3");
    await byQuery.until(() => byQuery.ids.length === 2);
    const byHeader = await open(rig, "?after=10-1", { "last-event-id": "10-4" });
    await byHeader.until(() => byHeader.ids.length === 1);
    expect([byQuery.ids, byHeader.ids]).toEqual([idsTo(4, 5), idsTo(5, 5)]);
    expect(await exchange(`${rig.url}/events?after=x`)).toMatchObject({ status: 400, json: { field: "after" } });
    expect(await exchange(`${rig.url}/events`, { headers: { "last-event-id": "x" } })).toMatchObject({ status: 400 });
  });

  test("V2: a line that is committed and told while a read is under way is not missed", async () => {
    const rig = await started();
    let isFirst = true;
    rig.duringRead = () => {
      if (!isFirst) return;
      isFirst = false;
      rig.add(1);
      rig.tell();
    };
    const client = await open(rig);
    await client.until(() => client.ids.length === 1);
    expect(client.ids).toEqual(idsTo(1, 1));
  });

  test("finds lines that another node committed by looking now and then", async () => {
    const rig = await started(often);
    const client = await open(rig);
    rig.add(3);
    await client.until(() => client.ids.length === 3);
    expect(client.ids).toEqual(idsTo(1, 3));
  });

  test("V3: stays open while the store is away, and goes on when it is back, nothing twice", async () => {
    const rig = await started(often);
    rig.add(2);
    const client = await open(rig);
    await client.until(() => client.ids.length === 2);
    rig.isAway = true;
    const before = rig.reads;
    rig.add(2);
    rig.tell();
    while (rig.reads < before + 3) await new Promise((resolve) => setTimeout(resolve, 5));
    expect([client.isOver, client.ids.length]).toEqual([false, 2]);
    rig.isAway = false;
    await client.until(() => client.ids.length === 4);
    expect(client.ids).toEqual(idsTo(1, 4));
  });

  test("says now and then that it lives", async () => {
    const rig = await started({ eventStream: { pollMs: NEVER_MS, heartbeatMs: 5, stallMs: NEVER_MS } });
    const client = await open(rig);
    await client.until(() => client.comments >= 3);
    expect(client.ids).toEqual([]);
  });

  test("ends at a drain, and none is begun after it; a start opens them again", async () => {
    const rig = await started();
    const client = await open(rig);
    await rig.server.webhooks.close();
    await client.over();
    const refused = await exchange(`${rig.url}/events`);
    expect(refused).toMatchObject({ status: 503 });
    expect(refused.headers.get("retry-after")).toBe("1");
    await rig.server.stop();
    await rig.server.start();
    expect((await open(rig)).status).toBe(200);
  });

  test("R1: is one of at most so many, and makes room when its client leaves, followers too", async () => {
    const rig = await started({ eventStreamsMax: 2 });
    const [first] = [await open(rig), await open(rig)];
    expect(rig.hub.size).toBe(1);
    expect(await exchange(`${rig.url}/events`)).toMatchObject({ status: 503 });
    first.close();
    let third = await open(rig);
    while (third.status !== 200) third = await open(rig);
    for (const client of clients) client.close();
    while (rig.hub.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  test("V3, V4: a client that does not read is cut after a while, and holds one read's lines until then", async () => {
    const rig = await started({ eventStream: { pollMs: 5, heartbeatMs: NEVER_MS, stallMs: 100 } });
    const big = {
      id: { ms: 1, seq: 0 },
      bytes: transcriptBotLine({ outSeq: 1, inReplyTo: null, born: "b", text: "x".repeat(60_000) }),
    };
    for (let n = 1; n <= 2_000; n += 1) rig.lines.push({ ...big, id: { ms: 1, seq: n } });
    const response = await fetch(`${rig.url}/events`);
    while (rig.hub.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(rig.reads).toBeLessThan(10);
    await response.body?.cancel().catch(() => undefined);
  });

  test("is GET only, for known bots, and for pages of this server", async () => {
    const rig = await started();
    expect(await exchange(`${rig.url}/events`, { method: "POST" })).toMatchObject({ status: 405 });
    expect((await fetch(`${rig.url}/events`, { method: "HEAD" })).status).toBe(405);
    expect(await exchange(rig.url.replace("demo", "nobody").concat("/events"))).toMatchObject({ status: 404 });
    for (const path of ["events", "replies", "record"])
      expect(await exchange(`${rig.url}/${path}`, { headers: { origin: "https://evil.example" } })).toMatchObject({
        status: 403,
      });
  });
});

describe("around it", () => {
  test("the record is shown, and one that is not there is 404", async () => {
    const rig = await started();
    expect(await exchange(`${rig.url}/record`)).toMatchObject({ status: 200, json: { ...RECORD } });
    expect(await exchange(`${rig.server.url}/channels/web/demo/other/record`)).toMatchObject({ status: 404 });
  });

  test("a message of another site is 403 before its body is looked at, with no CORS", async () => {
    const rig = await started();
    const answer = await exchange(`${rig.server.url}/channels/web/demo`, {
      method: "POST",
      headers: { origin: "https://evil.example", "content-type": "text/plain" },
      body: "{",
    });
    expect(answer).toMatchObject({ status: 403, json: { status: 403, title: "Forbidden" } });
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("A2: the page and its files are served with a policy that runs nothing inline, and not again if unchanged", async () => {
    const rig = await started();
    for (const path of ["/", "/chat.js", "/quick-replies.js", "/chat.css"]) {
      const got = await fetch(rig.server.url + path);
      expect(got.status).toBe(200);
      const policy = got.headers.get("content-security-policy") ?? "";
      expect(policy).toContain("default-src 'none'; script-src 'self'");
      expect(policy).not.toContain("unsafe");
      const headers = { "if-none-match": got.headers.get("etag") ?? "" };
      expect((await fetch(rig.server.url + path, { headers })).status).toBe(304);
      expect(await exchange(rig.server.url + path, { method: "POST" })).toMatchObject({ status: 405 });
    }
    expect(await exchange(`${rig.server.url}/index.html`)).toMatchObject({ status: 404 });
  });

  test("the page learns the bots and, from this machine, the pid", async () => {
    const rig = await started();
    const info = `${rig.server.url}/channels/web/info`;
    expect(await exchange(info)).toMatchObject({ status: 200, json: { bots: ["demo", "other"], pid: 42 } });
    expect(await exchange(info, { headers: { "sec-fetch-site": "cross-site" } })).toMatchObject({ status: 403 });
  });
});
