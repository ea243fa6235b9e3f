// What docs/poison.md shows is what happens: its bot, its commands and their output, with a real process and a real Redis.

import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CodeBlock, codeBlocks, pages } from "../docs/support/markdown.ts";
import { Arena, freePort, until } from "./support/arena.ts";
import { reached, startPoison } from "./support/poison-arena.ts";
import { MAIN, RuntimeProcess } from "./support/runtime-process.ts";

const SOON_MS = 30_000;

const page = pages().find(({ path }) => path === "docs/poison.md")!;
const blocks = codeBlocks(page);
const inLanguage = (wanted: string): readonly CodeBlock[] => blocks.filter(({ language }) => language === wanted);
const [bot] = inLanguage("ts");
const [change] = inLanguage("diff");
const shown = inLanguage("").map(({ code }) => code.trimEnd());
const posted = JSON.parse(/-d '(\[.*\])'/s.exec(inLanguage("sh")[0]!.code)![1]!) as unknown;

let arena: Arena;
beforeEach(() => {
  arena = new Arena("poison-page");
});
afterEach(() => arena.cleanUp());

/** The bot of the page, changed as its diff says. */
function availableBot(): string {
  const lines = change!.code.trimEnd().split("\n");
  const context = lines[0]!.trim();
  const added = lines.slice(1).map((line) => line.slice(1));
  expect(lines.slice(1).every((line) => line.startsWith("+"))).toBe(true);
  expect(bot!.code).toContain(context);
  return bot!.code.replace(context, [context, ...added].join("\n"));
}

const mended = (code: string): string => code.replace("USD: 92", "USD: 92, GBP: 117");

class Quotes {
  readonly #file = arena.path("quotes.ts");
  readonly #data = arena.dataFolder("data");
  #runtime!: RuntimeProcess;
  #port = 0;

  async start(code: string): Promise<void> {
    writeFileSync(this.#file, code);
    this.#port = await freePort();
    this.#runtime = new RuntimeProcess(arena, { bot: this.#file, port: this.#port, data: this.#data });
    await this.#runtime.ready();
  }

  async stop(): Promise<void> {
    expect(await this.#runtime.terminate()).toMatchObject({ code: 0 });
  }

  async post(messages: unknown): Promise<void> {
    expect((await this.#runtime.post(messages, "quotes")).status).toBe(202);
  }

  /** Waits until the bot's replies are those of a block of the page. */
  async replies(wanted: string): Promise<void> {
    let texts = "";
    await until(
      async () => {
        const { text } = await this.#runtime.get("/channels/http/quotes/c1/replies?after=0");
        const lines = JSON.parse(text) as { role: string; text: string }[];
        texts = lines
          .filter(({ role }) => role === "bot")
          .map((line) => line.text)
          .join("\n");
        return texts === wanted;
      },
      { what: wanted, withinMs: SOON_MS, explain: () => `${texts}\n${this.#runtime.lastWords()}` },
    );
  }

  /** What `colloquy` prints for it, with the names of the page. */
  async colloquy(command: string): Promise<string> {
    const args = command.split(" ").slice(1);
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args, "--port", String(this.#port)]);
    return stdout.trimEnd().replaceAll(this.#file, "/srv/quotes.ts");
  }

  /** Waits until a command prints a block of the page, but for ages and ids. */
  async prints(command: string, wanted: string): Promise<void> {
    let printed = "";
    await until(
      async () => {
        printed = await this.colloquy(command);
        return alike(printed) === alike(wanted);
      },
      { what: `${command}\n${wanted}`, withinMs: SOON_MS, everyMs: 200, explain: () => printed },
    );
  }
}

/** Ages and ids as one; a line that was cut, or that the longer path of the test cuts, up to where the path ends. */
const alike = (text: string): string =>
  text
    .replace(/\b\d+s\b/g, "0s")
    .replace(/00:\d+-0/g, "00:1-0")
    .replace(/\(\/srv\/quotes\.ts:?[^;)]*(?:\.\.\.|\).*\.\.\.)$/gm, "(/srv/quotes.ts");

const [, listStrict, retry, listDead] = inLanguage("sh").map(({ code }) => code.trim());
const [haltedList, repliesRetried, repliesAvailable, deadList, replyRedriven] = shown;

test("strict: the conversation halts, is listed, and goes on in order after a retry", async () => {
  const quotes = new Quotes();
  await quotes.start(bot!.code);
  await quotes.post(posted);
  await quotes.prints(listStrict!, haltedList!);
  await quotes.replies(repliesRetried!.split("\n")[0]!);
  await quotes.stop();
  await quotes.start(mended(bot!.code));
  expect(await quotes.colloquy(`${retry!} --yes`)).toBe("");
  await quotes.replies(repliesRetried!);
});

test("available: the message becomes a dead letter, the rest goes on, and a redrive runs it again", async () => {
  const quotes = new Quotes();
  await quotes.start(availableBot());
  await quotes.post(posted);
  await quotes.replies(repliesAvailable!);
  await quotes.prints(listDead!, deadList!);
  await quotes.stop();
  await quotes.start(mended(availableBot()));
  await quotes.colloquy("colloquy redrive --where bot=quotes --yes");
  await quotes.replies(`${repliesAvailable!}\n${replyRedriven!}`);
});

test("the watchdog's line has the fields and words of the page", async () => {
  const shownLine = JSON.parse(inLanguage("json")[0]!.code) as Record<string, unknown>;
  const world = await startPoison(arena, { name: "watchdog", watchdogMs: 500 });
  const first = world.runtime.current;
  await world.runtime.post("strict", [{ conversation: "c1", id: "m1", text: "loops-for-ever" }]);
  await reached(world, "an end", SOON_MS, () => first.isOver);
  const fatal = first
    .stderr()
    .split("\n")
    .find((line) => line.includes('"level":"fatal"'));
  const line = JSON.parse(fatal!) as Record<string, unknown>;
  expect(Object.keys(line)).toEqual(Object.keys(shownLine));
  expect(line).toMatchObject({ level: "fatal", message: shownLine.message, cpuOf: shownLine.cpuOf, watchdogMs: 500 });
});
