// Walk: a dialogue as a guide page shows it, gone through on the simulated runtime. Lines that begin with ">" are what
// is done, all others what came of it. A page shows what is so if going through its walk gives its text back.
//
//   > alice: 2 mugs                 a message of this user, with an id of its own
//   > alice, 3: home                with this number of the outside
//   > alice again: 2 mugs           the same text under the id of that user's last message
//   > 5m pass                       time
//   > kill -9                       the process dies, and another one starts
//   > anything else                 a command that the test knows
//   to alice: text                  a reply that arrived, once for each attempt to deliver it that got through
//   the turn failed: Name: text     a handler threw, or its context did

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { BotDefinition, Duration } from "colloquy";
import { type Answer, type SimulateOptions, type Simulation, simulate } from "colloquy/testing";
import { expect } from "vitest";
import { codeBlocks, pages, ROOT } from "../../docs/support/markdown.ts";

export interface WalkOptions<State> extends Omit<SimulateOptions, "recipient"> {
  readonly bot: BotDefinition<State>;
  /** Whether an attempt gets through. Default: each does. */
  readonly answer?: Answer;
  /** What else can be done, by its line. */
  readonly commands?: Readonly<Record<string, (t: Simulation<State>) => unknown>>;
}

export class Walk<State> {
  readonly #options: WalkOptions<State>;
  readonly #lines: string[] = [];
  readonly #lastIds = new Map<string, string>();
  #ids = 0;

  constructor(options: WalkOptions<State>) {
    this.#options = options;
  }

  /** What is told beside replies and failures. */
  say(line: string): void {
    this.#lines.push(line);
  }

  /** The same bot; its failures are told. */
  told(bot: BotDefinition<State>): BotDefinition<State> {
    return {
      ...bot,
      onMessage: async (state, message, ctx) => {
        try {
          return await bot.onMessage(state, message, ctx);
        } catch (error) {
          const { name, message: text } = error as Error;
          this.say(`the turn failed: ${name}: ${text}`);
          throw error;
        }
      },
    };
  }

  /**
   * @param code the walk as the page has it
   * @param inspect looks at what it came to
   * @returns the walk with what came of it this time
   */
  async through(code: string, inspect: (t: Simulation<State>) => unknown = () => undefined): Promise<string> {
    const { bot, answer, commands = {}, ...options } = this.#options;
    const arrived = new Set<string>();
    await using t = await simulate(this.told(bot), {
      ...options,
      recipient: (arrival) => {
        const { conversation, text, idempotencyKey } = arrival;
        const outcome = answer?.(arrival);
        if (outcome === undefined) {
          this.say(`to ${conversation}: ${text}${arrived.has(idempotencyKey) ? " (again)" : ""}`);
          arrived.add(idempotencyKey);
        }
        return outcome;
      },
    });
    for (const line of code
      .trimEnd()
      .split("\n")
      .filter((each) => each.startsWith("> "))) {
      this.say(line);
      await this.#do(line.slice(2), t, commands);
    }
    await inspect(t);
    return `${this.#lines.join("\n")}\n`;
  }

  async #do(what: string, t: Simulation<State>, commands: NonNullable<WalkOptions<State>["commands"]>): Promise<void> {
    const command = commands[what];
    if (command !== undefined) {
      await command(t);
      return;
    }
    if (what === "kill -9") {
      await t.crash();
      return;
    }
    const [, duration] = /^(\d+(?:ms|s|m|h)) pass(?:es)?$/.exec(what) ?? [];
    if (duration !== undefined) {
      await t.advance(duration as Duration);
      return;
    }
    const [, user, number, again, text] = /^(\w+)(?:, (\d+))?( again)?: (.*)$/.exec(what) ?? [];
    if (user === undefined) throw new Error(`the walk says "${what}", and nobody knows how to do that`);
    await t.user(user).says(text!, {
      id: again === undefined ? this.#newId(user) : this.#lastIds.get(user)!,
      ...(number !== undefined && { sequence: Number(number) }),
    });
  }

  #newId(user: string): string {
    this.#ids += 1;
    const id = `m${this.#ids}`;
    this.#lastIds.set(user, id);
    return id;
  }
}

/** The walks of a page, by their headings: each is a block of text that begins with something done. */
export function walksOf(path: string): ReadonlyMap<string, string> {
  const page = pages().find((each) => each.path === path);
  expect(page, `${path} is there`).toBeDefined();
  const headings = [...page!.text.matchAll(/^#{1,6} (.*)$/gm)].map(({ 1: heading, index }) => {
    return { heading: heading!, line: page!.text.slice(0, index).split("\n").length };
  });
  const walks = codeBlocks(page!).filter(({ language, code }) => language === "text" && code.startsWith("> "));
  return new Map(walks.map(({ line, code }) => [headings.findLast((each) => each.line < line)!.heading, code]));
}

/** A file's code, or that of the one block of a page without a language that begins so; without indentation. */
export function codeOf(path: string, beginning?: string): string {
  const plain = (code: string): string => code.replace(/^ +/gm, "");
  if (beginning === undefined) return plain(readFileSync(join(ROOT, path), "utf8"));
  const page = pages().find((each) => each.path === path)!;
  const [block, ...others] = codeBlocks(page).filter(
    ({ language, code }) => language === "" && code.startsWith(beginning),
  );
  expect(others).toEqual([]);
  return plain(block!.code);
}
