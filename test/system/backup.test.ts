// Backup and restore as docs/deploy.md tells it, with the script that stands there, on a node that goes on working meanwhile.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { embeddedSocketPath } from "../../src/store/embedded-redis.ts";
import { Arena, freePort, PROJECT_ROOT, until } from "./support/arena.ts";
import { RuntimeProcess } from "./support/runtime-process.ts";

const SCRIPT = join(PROJECT_ROOT, "docs/deploy/backup.sh");
const CONVERSATIONS = 5;
const SOON_MS = 30_000;
const LINES_OF_A_PAGE = 200;
/** Nothing of what the test compares leaves a transcript. */
const LONG_TRANSCRIPTS = ["--transcript-lines-max", "100000", "--transcript-bytes-max", "1073741824"];

let arena: Arena;
beforeEach(() => {
  arena = new Arena("backup");
});
afterEach(() => arena.cleanUp());

interface Line {
  readonly id: string;
  readonly role: string;
  readonly messageId?: string;
  readonly born: string;
  readonly sequence: number;
  readonly text: string;
}

async function send(runtime: RuntimeProcess, conversation: string, id: string): Promise<void> {
  const { status, text } = await runtime.post({ conversation, id, text: `text of ${id}` });
  expect(status, text).toBe(202);
}

async function linesOf(runtime: RuntimeProcess, conversation: string): Promise<readonly Line[]> {
  const lines: Line[] = [];
  for (let after = "0"; ; after = lines.at(-1)!.id) {
    const { text } = await runtime.get(`/channels/http/fold/${conversation}/replies?after=${after}`);
    const page = JSON.parse(text) as Line[];
    lines.push(...page);
    if (page.length < LINES_OF_A_PAGE) return lines;
  }
}

const idsOf = (lines: readonly Line[]): string[] => lines.flatMap(({ messageId }) => messageId ?? []);

async function seqReaches(runtime: RuntimeProcess, conversation: string, seq: number): Promise<void> {
  const path = `/admin/conversations/fold/http/${conversation}`;
  await until(
    async () => (JSON.parse((await runtime.get(path)).text) as { record?: { seq: number } }).record?.seq === seq,
    { what: `${conversation} to have ${seq} turns`, withinMs: SOON_MS, explain: () => runtime.lastWords() },
  );
}

test("a backup of a node under load is a prefix of what it did, holds all from before it, and works on", async () => {
  const data = arena.dataFolder("data");
  const archive = arena.path("backup.tar");
  const node = new RuntimeProcess(arena, { port: await freePort(), data, args: LONG_TRANSCRIPTS });
  await node.ready();
  const names = Array.from({ length: CONVERSATIONS }, (_, i) => `c${i}`);
  for (const name of names) for (let i = 1; i <= 3; i += 1) await send(node, name, `before-${i}`);
  for (const name of names) await seqReaches(node, name, 3);

  let sent = 0;
  let isOver = false;
  const load = (async () => {
    while (!isOver) {
      sent += 1;
      for (const name of names) await send(node, name, `during-${sent}`);
    }
  })();
  await until(() => sent > 3, { what: "load", withinMs: SOON_MS });
  execFileSync("sh", [SCRIPT, embeddedSocketPath(data), archive], { encoding: "utf8" });
  const sentAtBackup = sent;
  await until(() => sent > sentAtBackup + 3, { what: "load after the backup", withinMs: SOON_MS });
  isOver = true;
  await load;
  await send(node, "c0", "after");
  await send(node, "born-later", "after");
  for (const name of names) await seqReaches(node, name, 3 + sent + (name === "c0" ? 1 : 0));
  const all = new Map<string, readonly Line[]>();
  for (const name of names) all.set(name, await linesOf(node, name));
  await node.terminate();

  const restored = arena.dataFolder("restored");
  mkdirSync(restored, { mode: 0o700 });
  execFileSync("tar", ["-C", restored, "-xf", archive]);
  const again = new RuntimeProcess(arena, {
    name: "restored",
    port: await freePort(),
    data: restored,
    args: LONG_TRANSCRIPTS,
  });
  await again.ready();

  for (const name of names) {
    const lines = await linesOf(again, name);
    const before = all.get(name)!;
    expect(idsOf(lines)).toEqual(idsOf(before).slice(0, idsOf(lines).length));
    expect(idsOf(lines).length).toBeGreaterThanOrEqual(3 + 3); // all that was answered before it began
    expect(idsOf(lines)).not.toContain("after");
    const replies = lines.filter(({ role }) => role === "bot").map(({ text }) => text);
    const repliesBefore = before.filter(({ role }) => role === "bot").map(({ text }) => text);
    expect(replies).toEqual(repliesBefore.slice(0, replies.length));
  }
  expect((await again.get("/admin/conversations/fold/http/born-later")).status).toBe(404);

  // What came after the backup is not known: a repeat of it is a new message, one from before it a duplicate.
  const restoredIds = idsOf(await linesOf(again, "c0"));
  await send(again, "c0", "before-1");
  await send(again, "c0", "after");
  await seqReaches(again, "c0", restoredIds.length + 1);
  const lines = await linesOf(again, "c0");
  expect(idsOf(lines)).toEqual([...restoredIds, "after"]);
  // It has the place, and so the idempotency key, of a reply that had another content before: born and sequence are equal.
  const bots = lines.filter(({ role }) => role === "bot");
  const newest = bots.at(-1)!;
  const namesake = all.get("c0")!.find(({ role, sequence }) => role === "bot" && sequence === newest.sequence)!;
  expect(namesake.born).toBe(newest.born);
  expect(namesake.text).not.toBe(newest.text);
  await again.terminate();
}, 120_000);

test("the setting that the backup changes is put back, also when it fails", async () => {
  const data = arena.dataFolder("data");
  const node = new RuntimeProcess(arena, { port: await freePort(), data });
  await node.ready();
  const socket = embeddedSocketPath(data);
  const percentage = (): string =>
    execFileSync("redis-cli", ["-s", socket, "config", "get", "auto-aof-rewrite-percentage"], { encoding: "utf8" });
  const before = percentage();
  execFileSync("sh", [SCRIPT, socket, arena.path("one.tar")]);
  expect(percentage()).toBe(before);
  expect(() => execFileSync("sh", [SCRIPT, socket, arena.path("no/such/folder.tar")], { stdio: "pipe" })).toThrow();
  expect(percentage()).toBe(before);
  expect(readdirSync(arena.folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  rmSync(arena.path("one.tar"));
  await node.terminate();
}, 60_000);
