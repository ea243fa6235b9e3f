// colloquy tree: what it draws, and what it says when there is nothing to draw.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { treeText } from "../../../src/cli/tree/tree-text.ts";
import type { TreeNode } from "../../../supervisors/tree.ts";
import { run } from "../support/fake-terminal.ts";

const NOW_MS = 1_800_000_000_000;

const node = (id: string, rest: Partial<TreeNode> = {}): TreeNode => ({
  id,
  kind: "worker",
  strategy: null,
  state: "running",
  restartsLeft: null,
  lastExit: null,
  mailboxDepth: null,
  children: [],
  ...rest,
});

const TREE = node("root", {
  kind: "supervisor",
  strategy: "rest_for_one",
  restartsLeft: 1,
  children: [
    node("store"),
    node("shards", {
      kind: "supervisor",
      strategy: "one_for_one",
      restartsLeft: 0,
      children: [
        node("committer", {
          mailboxDepth: 1_200,
          lastExit: { reason: "error", error: { name: "RangeError", message: "n" }, atMs: NOW_MS - 61_000 },
        }),
        node("conversations", {
          kind: "supervisor",
          strategy: "simple_one_for_one",
          counts: { running: 12_345, starting: 0, restarting: 0, crashing: 1, restarts: 6 },
        }),
      ],
    }),
  ],
});

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function answering(status: number, body: unknown): Promise<{ url: string; authorizations: unknown[] }> {
  const authorizations: unknown[] = [];
  const server = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    response.writeHead(request.url === "/admin/tree" ? status : 404).end(JSON.stringify(body));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, authorizations };
}

test("each part is a line below its supervisor, with what it does and how it last ended", () => {
  expect(treeText(TREE, NOW_MS)).toBe(
    [
      "root                 running · rest_for_one · 1 restart left",
      "├─ store             running",
      "└─ shards            running · one_for_one · 0 restarts left",
      "   ├─ committer      running · 1,200 waiting · last exit 1 min ago: error RangeError n",
      "   └─ conversations  running · simple_one_for_one · 12,345 running · 1 crashing · 6 restarts",
      "",
    ].join("\n"),
  );
});

test("the command draws what the node answers, as text or as JSON, and shows the token", async () => {
  const { url, authorizations } = await answering(200, TREE);
  const environment = { COLLOQUY_ADMIN_TOKEN: "t".repeat(32) };
  const drawn = run(["tree", "--url", url], { environment });
  expect(await drawn.code).toBe(0);
  expect(drawn.stdout()).toMatch(/^root .*\n├─ store/);
  const json = run(["tree", "--url", url, "--json"]);
  expect(await json.code).toBe(0);
  expect(JSON.parse(json.stdout())).toEqual(TREE);
  expect(authorizations).toEqual([`Bearer ${"t".repeat(32)}`, undefined]);
});

test.each([
  [404, "COLLOQUY_ADMIN_TOKEN"],
  [401, "COLLOQUY_ADMIN_TOKEN"],
  [500, "answered 500"],
])("an answer of %i is told in one line, and the code is 1", async (status, hint) => {
  const { url } = await answering(status, {});
  const told = run(["tree", "--url", url]);
  expect(await told.code).toBe(1);
  expect(told.stderr()).toContain(hint);
  expect(told.stderr().trim().split("\n")).toHaveLength(1);
});

test("nobody there, and an address that is none", async () => {
  const nobody = run(["tree", "--url", "http://127.0.0.1:1"]);
  expect(await nobody.code).toBe(1);
  expect(nobody.stderr()).toContain("nothing answered at http://127.0.0.1:1");
  expect(await run(["tree", "--url", "ftp://x"]).code).toBe(2);
});
