// Helper process: the test's end of a sender or sink that runs in a process of its own, outside of what is killed. Questions
// go over IPC and are answered by `answerParent` there.

import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { type Arena, isOver, PROJECT_ROOT, tailOf } from "./arena.ts";

interface Question {
  readonly number: number;
  readonly verb: string;
  readonly argument: unknown;
}

type Reply = { readonly number: number } & ({ readonly value: unknown } | { readonly error: string });

/** What a helper can be asked: verb -> [argument, answer]. */
export type Verbs = Readonly<Record<string, readonly [argument: unknown, answer: unknown]>>;

export class HelperProcess<Known extends Verbs> {
  readonly #child: ChildProcess;
  readonly #errorFile: string;
  readonly #name: string;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #asked = 0;

  /** @param script file name in this folder; gets `config` as JSON in its first argument */
  constructor(arena: Arena, script: string, name: string, config: unknown) {
    const loader = script.endsWith(".ts") ? ["--import", "jiti/register"] : [];
    const args = [...loader, join(PROJECT_ROOT, "test/system/support", script), JSON.stringify(config)];
    this.#name = name;
    this.#errorFile = arena.path(`${name}.err`);
    this.#child = arena.spawn(process.execPath, args, { name, ipc: true });
    this.#child.on("message", (reply: Reply) => {
      const asker = this.#waiting.get(reply.number);
      this.#waiting.delete(reply.number);
      if ("error" in reply) asker?.reject(new Error(`${this.#name}: ${reply.error}`));
      else asker?.resolve(reply.value);
    });
    this.#child.once("exit", () => {
      for (const { reject } of this.#waiting.values()) reject(this.#over());
    });
  }

  ask<Verb extends keyof Known & string>(verb: Verb, argument: Known[Verb][0]): Promise<Known[Verb][1]> {
    this.#asked += 1;
    const question: Question = { number: this.#asked, verb, argument };
    return new Promise((resolve, reject) => {
      if (isOver(this.#child)) return reject(this.#over());
      this.#waiting.set(question.number, { resolve: (value) => resolve(value as Known[Verb][1]), reject });
      this.#child.send(question);
    });
  }

  #over(): Error {
    const { exitCode, signalCode } = this.#child;
    return new Error(`${this.#name} ended (${signalCode ?? exitCode})\n${tailOf(this.#errorFile)}`);
  }
}

export type Answers<Known extends Verbs> = {
  readonly [Verb in keyof Known]: (argument: Known[Verb][0]) => Known[Verb][1] | Promise<Known[Verb][1]>;
};

/** The helper's end: answers questions until the parent is gone, and ends with it. */
export function answerParent<Known extends Verbs>(answers: Answers<Known>): void {
  process.on("disconnect", () => process.exit(0));
  process.on("message", async ({ number, verb, argument }: Question) => {
    try {
      process.send!({ number, value: await answers[verb]!(argument) });
    } catch (error) {
      process.send!({ number, error: error instanceof Error ? error.message : String(error) });
    }
  });
}

/** What the parent gave in the first argument. */
export function configOfHelper<Config>(): Config {
  return JSON.parse(process.argv[2]!) as Config;
}
