// Poison supervisor: starts a runtime again whenever it has ended, as systemd would, until the test ends it.

import { setTimeout as sleep } from "node:timers/promises";
import { EXIT } from "../../../src/cli/exit.ts";
import type { Arena } from "./arena.ts";
import { type Answer, type End, type RuntimeOptions, RuntimeProcess } from "./runtime-process.ts";

export interface Post {
  readonly conversation: string;
  readonly id: string;
  readonly text: string;
}

const RESTART_AFTER_MS = 100;
const POST_AGAIN_AFTER_MS = 50;

export class SupervisedRuntime {
  /** How each life so far ended, those that the test ended itself included. */
  readonly ends: End[] = [];
  readonly #arena: Arena;
  #options: RuntimeOptions;
  #current: RuntimeProcess;
  #isEnding = false;
  #failure: Error | null = null;
  #over: Promise<void>;

  /** Starts it. It is ended with the arena, if not before. */
  constructor(arena: Arena, options: RuntimeOptions) {
    this.#arena = arena;
    this.#options = options;
    this.#current = new RuntimeProcess(arena, options);
    this.#over = this.#superviseFrom(this.#current);
    arena.onCleanUp(() => {
      this.#isEnding = true;
    });
  }

  get current(): RuntimeProcess {
    return this.#current;
  }

  async #superviseFrom(first: RuntimeProcess): Promise<void> {
    for (let life = first; ; life = this.#current) {
      const end = await life.ended;
      this.ends.push(end);
      if (this.#isEnding) return;
      if (end.code === EXIT.usage) {
        this.#failure = new Error(`the runtime refuses to start\n${life.lastWords()}`);
        return;
      }
      await sleep(RESTART_AFTER_MS);
      if (this.#isEnding) return;
      this.#current = new RuntimeProcess(this.#arena, this.#options);
    }
  }

  /** For the text of an error. */
  readonly explain = (): string => {
    const ends = this.ends.map(({ code, signal }) => signal ?? code).join(", ");
    return `${this.ends.length} lives ended: ${ends}\n${this.#current.lastWords()}`;
  };

  /** @throws Error if no life will ever come again */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Waits until a life answers /readyz 200; one that ends before is followed by the next. */
  async ready(): Promise<void> {
    for (;;) {
      this.check();
      const life = this.#current;
      try {
        return await life.ready();
      } catch (error) {
        if (!life.isOver) throw error;
        await sleep(POST_AGAIN_AFTER_MS);
      }
    }
  }

  /** Sends until somebody answered 202: a repeat of what is in is a duplicate. */
  async post(bot: string, messages: readonly Post[]): Promise<void> {
    for (;;) {
      this.check();
      const answer = await this.#current.post(messages, bot).catch(() => null); // nobody there, or gone in the middle
      if (answer?.status === 202) return;
      if (answer !== null && answer.status !== 503) throw new Error(`${answer.status} ${answer.text}`);
      await sleep(POST_AGAIN_AFTER_MS);
    }
  }

  /** Asks the life of now until one answers. */
  async ask(ask: (life: RuntimeProcess) => Promise<Answer>): Promise<Answer> {
    for (;;) {
      this.check();
      const answer = await ask(this.#current).catch(() => null);
      if (answer !== null && answer.status !== 503) return answer;
      await sleep(POST_AGAIN_AFTER_MS);
    }
  }

  /** SIGKILL from outside; the next life follows by itself. */
  killNow(): void {
    this.#current.killNow();
  }

  /** SIGTERM, and no further life. */
  async stop(): Promise<End> {
    this.#isEnding = true;
    const end = await this.#current.terminate();
    await this.#over;
    return end;
  }

  /** Lives on with these settings, after a `stop`. */
  startAgain(changed: Partial<RuntimeOptions>): void {
    this.#options = { ...this.#options, ...changed };
    this.#isEnding = false;
    this.#current = new RuntimeProcess(this.#arena, this.#options);
    this.#over = this.#superviseFrom(this.#current);
  }
}
