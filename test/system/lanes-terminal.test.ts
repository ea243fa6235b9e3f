// Replies that their recipient refuses for good, with real processes and the commands of an operator. strict: the lane halts and
// nothing is sent past it, whatever happens to the process, until an operator says what becomes of it. available: the reply becomes a
// dead letter, the bot is told, the lane goes on. A dead reply that is sent again has the same key and bytes, and is marked.

import { readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Arena, freePort, tailOf, until } from "./support/arena.ts";
import { lanesRuntime } from "./support/lanes-runtime.ts";
import { LanesWorld } from "./support/lanes-world.ts";
import { WELL_BEHAVED } from "./support/provider-behaviour.ts";
import { MAIN, RuntimeProcess } from "./support/runtime-process.ts";

const ACCOUNT = "http";
const WITHIN_MS = 30_000;

let arena: Arena;
let world: LanesWorld;
let runtime: RuntimeProcess;
let start: () => Promise<void>;
let commands = 0;

beforeEach(async () => {
  arena = new Arena("terminal");
  world = await LanesWorld.start(arena, 1, { [ACCOUNT]: WELL_BEHAVED });
  const place = { port: await freePort(), dataDir: arena.dataFolder("data") };
  start = async () => {
    runtime = new RuntimeProcess(arena, lanesRuntime({ ...place, channels: [world.channel(ACCOUNT)] }));
    await runtime.ready();
  };
  await start();
});
afterEach(() => arena.cleanUp());

/** Runs `colloquy` as an operator would; it must succeed. */
async function colloquy(...args: readonly string[]): Promise<void> {
  commands += 1;
  const name = `command-${commands}`;
  const child = arena.spawn(process.execPath, [MAIN, ...args, "--json", "--url", runtime.url], { name });
  const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  const said = `${readFileSync(arena.path(`${name}.out`), "utf8")}${tailOf(arena.path(`${name}.err`))}`;
  expect(code, `colloquy ${args.join(" ")}\n${said}`).toBe(0);
}

async function send(bot: string, conversation: string, ...ids: readonly string[]): Promise<void> {
  const messages = ids.map((id) => ({ conversation, id, text: "hi" }));
  const answer = await runtime.post(messages, bot);
  expect(answer.status, answer.text).toBe(202);
}

const reject = (...replies: readonly string[]): Promise<null> =>
  world.provider.ask("reject", { account: ACCOUNT, status: 400, replies });

/** What the provider gave the attempts at a conversation's replies: `<sequence> <status>`, in order. */
const attemptsAt = (conversation: string): string[] =>
  world
    .attempts()
    .filter((attempt) => attempt.conversation === conversation)
    .map(({ sequence, status, isRedriven }) => `${sequence} ${status}${isRedriven ? " again" : ""}`);

async function sees(conversation: string, ...attempts: readonly string[]): Promise<void> {
  await until(() => attemptsAt(conversation).length >= attempts.length, {
    what: `${attempts.length} attempts at the replies of ${conversation}`,
    withinMs: WITHIN_MS,
    explain: () => `${attemptsAt(conversation).join(", ")}\n${runtime.lastWords()}`,
  });
  expect(attemptsAt(conversation)).toEqual(attempts);
}

/** Whatever would have gone out by now has: what another conversation was asked after it has been answered. */
async function othersAreServed(conversation: string): Promise<void> {
  await send("fold", conversation, "m1");
  await sees(conversation, "1 200");
}

/** One key and one body for each reply, however often it came. */
function expectSameBytes(): void {
  const known = new Map<string, string>();
  for (const { conversation, sequence, key, bodyHash } of world.attempts()) {
    const seen = `${key} ${bodyHash}`;
    const name = `${conversation} ${sequence}`;
    expect(known.get(name) ?? seen, name).toBe(seen);
    known.set(name, seen);
  }
}

test("strict: the lane halts with nothing sent past it; retry sends it again, skip passes it, redrive brings it back", async () => {
  await reject("s1 2", "s2 2");
  for (const conversation of ["s1", "s2"]) {
    await send("fold", conversation, "m1", "m2", "m3");
    await sees(conversation, "1 200", "2 400");
  }
  await othersAreServed("other1");
  await runtime.kill();
  await start();
  await othersAreServed("other2");
  for (const conversation of ["s1", "s2"]) expect(attemptsAt(conversation)).toEqual(["1 200", "2 400"]);

  // Asked again too soon it is refused again, and nothing passes it.
  await colloquy("lanes", "retry", "fold/http/s1", "--yes", "--no-wait");
  await sees("s1", "1 200", "2 400", "2 400");
  await othersAreServed("other3");
  expect(attemptsAt("s1")).toEqual(["1 200", "2 400", "2 400"]);

  await reject();
  await colloquy("lanes", "retry", "fold/http/s1", "--yes");
  await sees("s1", "1 200", "2 400", "2 400", "2 200", "3 200");

  await colloquy("lanes", "skip", "--where", "conversation=s2", "--yes");
  await sees("s2", "1 200", "2 400", "3 200");
  await colloquy("redrive", "--where", "conversation=s2,direction=out", "--yes");
  await sees("s2", "1 200", "2 400", "3 200", "2 200 again");
  expectSameBytes();
});

test("available: the reply becomes a dead letter, the bot is told, the lane goes on, and redrive sends it again", async () => {
  await reject("a1 2");
  await send("lanes", "a1", "m1", "m2", "m3");
  await sees("a1", "1 200", "2 400", "3 200");
  // What the bot is told stands in the inbox since the commit that let the lane go on, so before what comes now.
  await send("lanes", "a1", "m4");
  await sees("a1", "1 200", "2 400", "3 200", "4 200");
  expect(world.attempts().at(-1)!.text).toBe("m4, 2 terminal");

  await reject();
  await colloquy("redrive", "--where", "conversation=a1,direction=out", "--yes");
  await sees("a1", "1 200", "2 400", "3 200", "4 200", "2 200 again");
  expectSameBytes();
});
