// Ten thousand halted conversations with waiting messages, in a process that is killed: they take no room in the
// inbox, a start does not wait for them, and one command resolves them all, each in its order.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Arena, freePort, PROJECT_ROOT, tailOf, until } from "./support/arena.ts";
import { HaltedView } from "./support/halted-view.ts";
import { MAIN, RuntimeProcess } from "./support/runtime-process.ts";

const BOT = "till";
const BOT_FILE = join(PROJECT_ROOT, "test/system/support/halted-bot.ts");
const HALTED = 10_000;
const REQUEST_MESSAGES = 1_000;
const INBOX_ENTRIES_MAX = 100;
const FIRST_COMMIT_MS_MAX = 3_000;
const SOON_MS = 60_000;

interface Message {
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
}

const names = Array.from({ length: HALTED }, (_, i) => `c${i}`);
const say = (line: string): void => void process.stdout.write(`halted: ${line}\n`);
let arena: Arena;
beforeAll(() => {
  arena = new Arena("halted");
});
afterAll(() => arena.cleanUp());

async function post(runtime: RuntimeProcess, messages: readonly Message[]): Promise<void> {
  for (let from = 0; from < messages.length; from += REQUEST_MESSAGES) {
    const page = messages.slice(from, from + REQUEST_MESSAGES);
    await until(async () => (await runtime.post(page, BOT)).status === 202, {
      what: "a request to be accepted",
      withinMs: SOON_MS,
      explain: () => runtime.lastWords(),
    });
  }
}

interface Said {
  readonly code: number | null;
  readonly lines: readonly Record<string, unknown>[];
}

/** Runs `colloquy` as an operator would. Lines of JSON are read. */
async function colloquy(runtime: RuntimeProcess, name: string, args: readonly string[]): Promise<Said> {
  const child = arena.spawn(process.execPath, [MAIN, ...args, "--json", "--url", runtime.url], { name });
  const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  const lines = readFileSync(arena.path(`${name}.out`), "utf8")
    .trimEnd()
    .split("\n");
  if (code !== 0) say(`${args.join(" ")} ended with ${code}: ${tailOf(arena.path(`${name}.err`))}`);
  return { code, lines: lines.filter((line) => line !== "").map((line) => JSON.parse(line)) };
}

/** When the log says that the shard was acquired, ms by the clock of this machine. */
function acquiredAtMs(runtime: RuntimeProcess): number {
  const lines = runtime.stdout().split("\n");
  const line = lines.find((each) => each.includes('"message":"shard acquired"'));
  if (line === undefined) throw new Error(`no shard was acquired\n${runtime.lastWords()}`);
  return new Date((JSON.parse(line) as { time: string | number }).time).getTime();
}

const idsOf = (stored: { readonly state: unknown } | null | undefined): unknown =>
  (stored?.state as { ids?: unknown } | undefined)?.ids;

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;

test("10,000 halted conversations: a short inbox, a start that does not wait, one retry for all", async () => {
  const closedFile = arena.path("closed");
  const holdUpFile = arena.path("hold-up");
  const data = arena.dataFolder("data");
  const port = await freePort();
  const env = { COLLOQUY_TEST_CLOSED_FILE: closedFile, COLLOQUY_TEST_HOLD_UP_FILE: holdUpFile };
  const start = (name: string) => new RuntimeProcess(arena, { name, bot: BOT_FILE, data, port, env });
  const view = new HaltedView(arena, data, BOT);
  const first = start("first");
  await first.ready();

  // All halt at their second message, with one more behind it; another comes when they stand still.
  writeFileSync(closedFile, "");
  const postedAtMs = performance.now();
  await post(
    first,
    names.flatMap((conversation) => [
      { conversation, id: "m1", text: "hello" },
      { conversation, id: "m2", text: "pay" },
      { conversation, id: "m3", text: "hello" },
    ]),
  );
  const areHalted = async (waiting: number): Promise<boolean> => {
    const open = [...(await view.open()).values()];
    return open.length === HALTED && open.every((each) => each.state === "halted" && each.waiting === waiting);
  };
  const all = { withinMs: SOON_MS, everyMs: 100, explain: () => first.lastWords() };
  await until(() => areHalted(2), { what: "all to be halted with what they were sent", ...all });
  await post(
    first,
    names.map((conversation) => ({ conversation, id: "m4", text: "hello" })),
  );
  await until(() => areHalted(3), { what: "three messages to wait in each", ...all });
  await until(async () => (await view.inboxEntries()) < INBOX_ENTRIES_MAX, {
    what: `fewer than ${INBOX_ENTRIES_MAX} entries in the inbox`,
    ...all,
  });
  say(`${HALTED} conversations halted after ${seconds(performance.now() - postedAtMs)}`);
  expect(await view.lists()).toBe(HALTED);

  const listed = await colloquy(first, "ls", ["ls", "--state", "halted", "--limit", String(2 * HALTED)]);
  expect(listed.code).toBe(0);
  expect(new Set(listed.lines.map(({ conversation }) => conversation))).toEqual(new Set(names));
  for (const line of listed.lines) expect(line).toMatchObject({ bot: BOT, state: "halted", waiting: 3 });

  // Two healthy conversations whose turn the kill cuts off: one that stands on its list by then, one just admitted.
  writeFileSync(holdUpFile, "");
  await post(first, [{ conversation: "long", id: "m1", text: "wait" }]);
  await until(async () => (await view.open()).get("long")?.state === "active", {
    what: "a long turn to leave the inbox",
    ...all,
  });
  await post(first, [{ conversation: "new", id: "m1", text: "wait" }]);
  await first.kill();
  rmSync(holdUpFile);
  const second = start("second");
  const committedAtMs = (conversation: string): Promise<number> =>
    until(() => view.lastCommitAtMs(conversation), {
      what: `the first commit of ${conversation}`,
      withinMs: SOON_MS,
      explain: () => second.lastWords(),
    });
  const commits = [await committedAtMs("long"), await committedAtMs("new")];
  const [afterLong, afterNew] = commits.map((atMs) => atMs - acquiredAtMs(second)) as [number, number];
  say(`first commits ${afterLong} ms and ${afterNew} ms after the shard was acquired`);
  expect(Math.min(afterLong, afterNew)).toBeGreaterThanOrEqual(0);
  expect(Math.max(afterLong, afterNew)).toBeLessThanOrEqual(FIRST_COMMIT_MS_MAX);
  await second.ready();
  expect(await view.inboxEntries()).toBeLessThan(INBOX_ENTRIES_MAX);
  expect(await areHalted(3), "they stand as they stood").toBe(true);

  // What failed is mended: one command.
  rmSync(closedFile);
  const askedAtMs = performance.now();
  const retried = await colloquy(second, "retry", ["retry", "--where", "reason=poison", "--yes"]);
  say(`one retry resolved them in ${seconds(performance.now() - askedAtMs)}`);
  expect(retried.code).toBe(0);
  expect(retried.lines.at(-1)).toMatchObject({ event: "summary", count: HALTED, refused: 0, left: 0, again: 0 });
  const isDone = async (): Promise<boolean> =>
    (await view.open()).size === 0 && (await view.lists()) === 0 && (await view.inboxEntries()) === 0;
  await until(isDone, {
    what: "nothing to be unfinished",
    withinMs: SOON_MS,
    everyMs: 100,
    explain: () => second.lastWords(),
  });
  const stored = await view.stored(names);
  for (const [i, each] of stored.entries()) {
    expect(idsOf(each), names[i]).toEqual(["m1", "m2", "m3", "m4"]);
    expect(each!.record, names[i]).toMatchObject({ seq: 4, outSeq: 4 });
  }
  for (const each of await view.stored(["long", "new"])) expect(idsOf(each)).toEqual(["m1"]);
});
