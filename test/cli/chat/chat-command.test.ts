// The chat command against real HTTP, with a server that is told what to answer.

import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { planChat, theOnlyOf } from "../../../src/cli/chat/chat-command.ts";
import { detailOf, meaningOf } from "../../../src/cli/chat/chat-server.ts";
import { run, type Scene } from "../support/fake-terminal.ts";

describe("flags", () => {
  const flags = { url: "http://127.0.0.1:4000", timeout: "30" };

  test("are understood", () => {
    expect(planChat(flags)).toEqual({
      url: "http://127.0.0.1:4000",
      bot: undefined,
      conversation: undefined,
      timeoutMs: 30_000,
    });
    expect(planChat({ ...flags, url: "https://h/base/?x#y", timeout: "1" })).toMatchObject({
      url: "https://h/base",
      timeoutMs: 1_000,
    });
  });

  test.each<[string, object]>([
    ["--url: is", { url: "ftp://h" }],
    ["--url: is", { url: "" }],
    ["--url: holds a user", { url: "http://me:secret@h" }],
    ["--timeout: is", { timeout: "0" }],
    ["--timeout: is", { timeout: "1e3" }],
    ["--bot: is", { bot: "A" }],
    ["--conversation: has 0 bytes", { conversation: "" }],
    ["--conversation: has 513 bytes", { conversation: "c".repeat(513) }],
  ])("%s refused, and no secret told", (words, more) => {
    const refuse = () => planChat({ ...flags, ...more });
    expect(refuse).toThrow(words);
    expect(refuse).not.toThrow(/secret@/);
  });

  test("the only bot is taken; none, several, or untold ones are asked for", () => {
    expect(theOnlyOf(["a"])).toBe("a");
    expect(() => theOnlyOf(["a", "b"])).toThrow("--bot: is needed: the server has a, b (--bot a)");
    expect(() => theOnlyOf([])).toThrow("no bots");
    expect(() => theOnlyOf(null)).toThrow("does not tell");
  });
});

describe("an answer", () => {
  test.each<[number, string | undefined, object]>([
    [202, undefined, { kind: "durable" }],
    [200, undefined, { kind: "durable" }],
    [503, "2", { kind: "again", waitMs: 2_000 }],
    [429, undefined, { kind: "again", waitMs: 0 }],
    [500, "soon", { kind: "again", waitMs: 0 }],
    [503, "99999", { kind: "again", waitMs: 30_000 }],
    [408, undefined, { kind: "again" }],
    [401, undefined, { kind: "refused", status: 401 }],
    [404, undefined, { kind: "refused", status: 404 }],
    [413, "2", { kind: "refused", status: 413 }],
    [302, undefined, { kind: "refused", status: 302 }],
  ])("%i with Retry-After %s", (status, retryAfter, meaning) => {
    expect(meaningOf(status, retryAfter, "")).toMatchObject(meaning);
  });

  test("is told in a problem's words, or by its status", () => {
    expect(detailOf(422, '{"detail":"is too large","field":"text"}')).toBe("422: is too large (text)");
    expect(detailOf(502, "<html>")).toBe("502");
    expect(detailOf(500, "null")).toBe("500");
  });
});

type Answer = readonly [status: number, body: unknown];

interface Site {
  readonly bots?: Answer;
  readonly replies?: Answer;
  readonly post?: (request: IncomingMessage, body: string) => Answer;
}

/** A colloquy as far as a chat sees it, with an echo bot; `site` overrides its answers. */
async function colloquy(site: Site): Promise<string> {
  const lines: object[] = [];
  const streams = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    const path = request.url!.split("?")[0]!;
    const send = ([status, body]: Answer): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    if (path === "/channels/web/info") return send(site.bots ?? [200, { bots: ["echo"] }]);
    if (path.endsWith("/replies")) return send(site.replies ?? [200, /after=0/.test(request.url!) ? lines : []]);
    if (path.endsWith("/events")) {
      response.writeHead(200, { "content-type": "text/event-stream" }).write(": hello\n\n");
      streams.add(response);
      return undefined;
    }
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const answer = site.post?.(request, body) ?? [202, { accepted: 1 }];
      send(answer);
      const { id, text } = JSON.parse(body) as { id?: string; text?: string };
      if (answer[0] !== 202 || id === undefined) return;
      const at = 100 + lines.length;
      const turn = [
        { id: `${at}-0`, role: "user", sequence: 1, messageId: id, inReplyTo: null, text },
        { id: `${at}-1`, role: "bot", sequence: 1, inReplyTo: id, text: `heard ${text}` },
      ];
      lines.push(...turn);
      for (const line of turn)
        for (const stream of streams) stream.write(`id: ${line.id}\ndata: ${JSON.stringify(line)}\n\n`);
    });
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function chat(url: string, args: readonly string[] = [], scene: Scene = { stdin: ["hi\n", "\n", "there"] }) {
  const { code, stdout, stderr } = run(["chat", "--url", url, "--timeout", "5", ...args], scene);
  return { code: await code, stdout: stdout(), stderr: stderr() };
}

describe("from a pipe", () => {
  test("each line is asked in turn, empty ones left out, and the replies are the output", async () => {
    const ended = await chat(await colloquy({}));
    expect(ended).toEqual({ code: 0, stdout: "#1 echo: heard hi\n#1 echo: heard there\n", stderr: "" });
  });

  test("without lines it ends well", async () => {
    expect(await chat(await colloquy({}), [], {})).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("--json gives each event as a line of JSON", async () => {
    const { code, stdout } = await chat(await colloquy({}), ["--json"]);
    expect(code).toBe(0);
    const events = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string; line?: { text: string } });
    expect(new Set(events.map(({ event }) => event))).toEqual(new Set(["connected", "sent", "durable", "line"]));
    expect(events.flatMap(({ line }) => (line ? [line.text] : []))).toEqual(["hi", "heard hi", "there", "heard there"]);
  });

  test("what is refused is told, and exits 1", async () => {
    const url = await colloquy({ post: () => [422, { detail: "is too large", field: "text" }] });
    const { code, stderr } = await chat(url);
    expect(code).toBe(1);
    expect(stderr).toBe("  refused, and not sent again: 422: is too large (text)\n");
  });

  test("what is not answered is told, and exits 1", async () => {
    const url = await colloquy({ post: () => [200, {}] }); // taken, and no turn follows
    const { code, stderr } = await chat(url, ["--timeout", "1"]);
    expect(code).toBe(1);
    expect(stderr).toContain("it is on disk");
  });

  test("the body is signed with the secret of the environment", async () => {
    const secret = "a secret of 16 bytes or more";
    const post: Site["post"] = (request, body) => {
      const right = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
      return request.headers["x-colloquy-signature"] === right ? [202, { accepted: 1 }] : [401, { detail: "no" }];
    };
    const scene = { stdin: ["hi\n"], environment: { COLLOQUY_HTTP_SECRET: secret } };
    expect((await chat(await colloquy({ post }), [], scene)).code).toBe(0);
    const unsigned = await chat(await colloquy({ post }), [], { stdin: ["hi\n"] });
    expect(unsigned.code).toBe(1);
    expect(unsigned.stderr).toContain("COLLOQUY_HTTP_SECRET must hold the server's secret");
  });
});

describe("there is nothing to chat with", () => {
  test.each<[string, Site, string]>([
    [
      "where replies are posted elsewhere",
      { replies: [404, { detail: "no" }] },
      "colloquy: --url: the server posts its replies elsewhere (--deliver-to)",
    ],
    [
      "where the bot is not",
      { replies: [404, {}], post: () => [404, {}] },
      'colloquy: --bot: the server has no bot "echo"',
    ],
    [
      "where there are several",
      { bots: [200, { bots: ["a", "b"] }] },
      "colloquy: --bot: is needed: the server has a, b (--bot a)",
    ],
    ["where bots are not told", { bots: [404, {}] }, "colloquy: --bot: is needed: this server does not tell its bots"],
    [
      "where there is another program",
      { bots: [418, {}] },
      "colloquy: --url: what is there is no colloquy, or does not want to talk: 418",
    ],
  ])("%s: one line, exit 2", async (_, site, line) => {
    const { code, stdout, stderr } = await chat(await colloquy(site));
    expect(stderr).toContain(line);
    expect(stderr.split("\n")).toHaveLength(2);
    expect([code, stdout]).toEqual([2, ""]);
  });

  test("where nobody listens: exit 1 after the time", async () => {
    const { code, stderr } = await chat("http://127.0.0.1:1", ["--timeout", "1"]);
    expect(code).toBe(1);
    expect(stderr).toBe(
      "  http://127.0.0.1:1 does not answer (nobody listens there); trying again. Is a bot running there? Else --port or --url\n  nothing answered at http://127.0.0.1:1 within 1 s; nothing was sent\n",
    );
  });
});
