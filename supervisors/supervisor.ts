// Supervisor: starts its children in order and stops them in reverse.
//
// Invariants
//   V1. A child starts only after all before it have started, and stops only after all behind it have stopped.
//   V2. A failed start stops what had started, in reverse, and is the failure of the supervisor's own start.
//   V3. A child that does not stop within its `shutdownMs` is left behind and named; the others stop all the same.
//   V4. A stop while it starts waits for the child under way and stops that one too; nothing behind it starts.

import { type Environment, pause } from "../src/environment.ts";
import type { Log } from "../src/log.ts";
import type { ChildSpec } from "./child-spec.ts";

export interface SupervisorSpec {
  readonly id: string;
  readonly strategy: "one_for_one" | "rest_for_one";
  readonly children: readonly ChildSpec[];
}

export class Supervisor {
  readonly #spec: SupervisorSpec;
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #started: ChildSpec[] = [];
  #starting: Promise<void> | null = null;
  #isStopping = false;

  constructor(spec: SupervisorSpec, environment: Environment, log: Log) {
    this.#spec = spec;
    this.#environment = environment;
    this.#log = log;
  }

  get id(): string {
    return this.#spec.id;
  }

  /** Once in its life. @throws Error if it was stopped before or meanwhile, or what a child's start threw */
  start(): Promise<void> {
    if (this.#starting !== null) return Promise.reject(new Error(`${this.id} was started already`));
    this.#starting = this.#startChildren();
    return this.#starting;
  }

  /** True if every child stopped within its time. */
  async stop(): Promise<boolean> {
    this.#isStopping = true;
    await this.#starting?.catch(() => undefined); // V4: whoever started it is told
    return this.#stopChildren();
  }

  /** V1 */
  async #startChildren(): Promise<void> {
    for (const child of this.#spec.children) {
      if (this.#isStopping) throw new Error(`${this.id} was stopped while it started`); // V4
      try {
        await child.start();
      } catch (error) {
        await this.#stopChildren(); // V2
        throw error;
      }
      this.#started.push(child);
    }
  }

  async #stopChildren(): Promise<boolean> {
    let inTime = true;
    for (let child = this.#started.pop(); child !== undefined; child = this.#started.pop()) {
      inTime = (await this.#stopChild(child)) && inTime;
    }
    return inTime;
  }

  async #stopChild(child: ChildSpec): Promise<boolean> {
    const lines = { supervisor: this.#spec.id, child: child.id };
    const inTime = new AbortController();
    const stopped = (async () => child.stop())().then(
      () => true,
      (error: unknown) => {
        this.#log.error({ ...lines, error }, "child failed to stop");
        return true;
      },
    );
    const overdue = pause(this.#environment, child.shutdownMs, inTime.signal).then(() => false);
    const isStopped = await Promise.race([stopped, overdue]);
    if (!isStopped) {
      this.#log.warn(
        { ...lines, shutdownMs: child.shutdownMs },
        "child did not stop in time and is left behind; what it accepted is in the store",
      ); // V3
    }
    inTime.abort();
    return isStopped;
  }
}
